"""The examples do what they say."""

from __future__ import annotations

import asyncio
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import fastmcp
import mcp
import pytest
from mcp import StdioServerParameters
from mcp.client.stdio import stdio_client

import mcp_policy
from integration.stacks import facts, text
from mcp_policy.cli._clearml_api import TASKS, clearml_api

SOURCE = str(Path(mcp_policy.__file__).parent.parent)
EXAMPLES = Path(__file__).parent.parent.parent / "examples"


def test_functions():
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "functions.py")],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": SOURCE},
        check=True,
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "sent to ann@example.com",
        "deny: mail goes to example.com only.",
        "approve: a person looks at every deletion.",
        "deleted /srv/shared/old.txt",
        "a block of code that may send 'hi'",
    ]


@pytest.mark.parametrize(("file", "client"), [("mcp_server.py", mcp.Client), ("fastmcp_server.py", fastmcp.Client)])
def test_servers(file, client):
    server = runpy.run_path(str(EXAMPLES / file))["server"]

    async def talk() -> tuple[list[str], list[Any]]:
        async with client(server) as talking:
            call = talking.call_tool if client is mcp.Client else talking.call_tool_mcp
            shown = await talking.list_tools()
            names = [tool.name for tool in getattr(shown, "tools", shown)]
            calls = [
                ("read_file", "/srv/shared/a"),
                ("read_file", "/srv/shared/../../etc/passwd"),
                ("delete_file", "/srv/shared/a"),
                ("debug_dump", ""),
            ]
            return names, [await call(tool, {"path": path}) for tool, path in calls]

    names, (read, outside, delete, hidden) = asyncio.run(talk())
    assert names == ["read_file", "delete_file"]
    assert text(read) == "what /srv/shared/a holds"
    assert text(outside) == "[POLICY DENIED] only files under /srv/shared can be read."
    assert facts(delete)["effect"] == "approve"
    assert text(hidden).startswith("Unknown tool")


def test_the_real_clearml_server_behind_a_guard_of_its_own(tmp_path):
    async def talk(api: Any, nowhere: Any) -> tuple[list[str], list[Any]]:
        env = {**api.environment, "PYTHONPATH": SOURCE, "HOME": str(tmp_path), "FASTMCP_CHECK_FOR_UPDATES": "off"}
        guarded = StdioServerParameters(
            command=sys.executable, args=[str(EXAMPLES / "clearml" / "guarded.py")], env=env
        )
        async with mcp.Client(stdio_client(guarded, errlog=nowhere), cache=None) as client:
            names = [tool.name for tool in (await client.list_tools()).tools]
            calls = [
                ("get_task_metrics", {"task_id": next(iter(TASKS))}),
                ("compare_tasks", {"task_ids": ["t"] * 6}),
                ("list_projects", {}),
                ("search_tasks", {"query": "x"}),
            ]
            return names, [await client.call_tool(tool, arguments) for tool, arguments in calls]

    with clearml_api() as api, Path(os.devnull).open("w") as nowhere:
        names, (metrics, compare, projects, search) = asyncio.run(talk(api, nowhere))
        assert "projects.get_all" not in api.requests[1:], "the server asks once, when it starts"
    assert set(names) == {
        "get_task_info",
        "get_task_parameters",
        "get_task_metrics",
        "get_task_artifacts",
        "compare_tasks",
        "list_projects",
    }
    assert metrics.structured_content["loss"]["train"]["last_value"] == 0.52
    assert text(compare) == "[POLICY DENIED] compare up to five tasks at a time."
    assert facts(projects)["effect"] == "approve"
    assert facts(search)["codes"] == ["default_deny"]
