"""Real servers of other people, in an environment of their own: they are written for the 1.x SDK, which this project's is not.

The environment is made once, beside the tests' own, and again only when the list changes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from filelock import FileLock

import mcp_policy

PINNED = (
    "mcp==1.30.0",
    "mcp-server-fetch==2026.10.10",
    "mcp-server-git==2026.10.10",
    "mcp-server-sqlite==2025.4.25",
    "mcp-server-time==2026.10.10",
)
HOME = Path(sys.prefix) / "servers"
SOURCE = str(Path(mcp_policy.__file__).parent.parent)
TOOLS = {"fetch": 1, "git": 12, "sqlite": 6, "time": 2}
"""How many tools each lists."""


def script(name: str) -> str:
    """Return where a console script of the servers' environment is, which is made where it is not there."""
    with FileLock(HOME.with_suffix(".lock")):  # several processes test at once
        stamp = HOME / "pinned.json"
        if not stamp.exists() or json.loads(stamp.read_text()) != list(PINNED):
            subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", str(HOME)], check=True)
            pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "-qq"]
            subprocess.run([*pip, "--python", str(HOME), "install", "--no-compile", *PINNED], check=True)
            stamp.write_text(json.dumps(PINNED))
    folder = HOME / ("Scripts" if os.name == "nt" else "bin")
    return str(folder / (f"{name}.exe" if os.name == "nt" else name))


def configuration(folder: Path) -> dict[str, Any]:
    """Return the entries of an `mcp.json` for four of them."""
    arguments = {"sqlite": ["--db-path", str(folder / "test.db")]}
    return {name: {"command": script(f"mcp-server-{name}"), "args": arguments.get(name, [])} for name in sorted(TOOLS)}


if __name__ == "__main__":
    print(script("mcp-server-time"))
