"""A small day's work for an installed wheel. `dev.py wheel` runs it where the source tree cannot be seen."""

from __future__ import annotations

import sys
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import mcp_policy
from mcp_policy import Guard, Policy, PolicyDenied, PolicyEngine, ToolCall

POLICY = """{"version": "1", "tools": {
    "get_task_metrics": {"rate_limit": {"max": 1, "window": 60}},
    "rm": {"action": "deny", "reason": "files stay"}
}}"""

if not Path(mcp_policy.__file__).is_relative_to(sys.prefix):
    sys.exit(f"`mcp_policy` came from {mcp_policy.__file__}, not from the wheel")
if not files("mcp_policy").joinpath("py.typed").is_file():
    sys.exit("the wheel has no `py.typed`")
explorer = files("mcp_policy").joinpath("explorer")
for page in ("templates/base.html", "templates/builder.html", "static/explore.js", "static/htmx.min.js"):
    if not explorer.joinpath(page).is_file():
        sys.exit(f"the wheel has no `explorer/{page}`")

engine = PolicyEngine(Policy.parse(POLICY))
effects = [
    str(engine.authorize(ToolCall(tool)).effect) for tool in ("get_task_metrics", "get_task_metrics", "rm", "ls")
]
if effects != ["allow", "limit", "deny", "deny"]:
    sys.exit(f"the wheel decides {effects}")


@Guard(engine)
def rm(path: str) -> str:
    return path


try:
    sys.exit(f"the guard let `rm` run on {rm('/')}")
except PolicyDenied as denied:
    print(f"mcp-policy {version('mcp-policy')}: {denied.decision}")
