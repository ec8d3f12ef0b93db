"""A server to put the gateway in front of, as a child process: `gateway_server.py NAME TOOL...`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from mcp.server.mcpserver import Context, MCPServer


def ls(path: str = "/") -> str:
    """List."""
    return path


def rm(path: str) -> str:
    """Remove."""
    return f"gone {path}"


def secret() -> str:
    """Do what nobody knows."""
    return "secret"


def pid() -> int:
    """Tell which process this is."""
    return os.getpid()


def env() -> dict[str, str]:
    """Tell what this process was given."""
    return dict(os.environ)


def die(status: int) -> None:
    """End in the middle of a call."""
    os._exit(status)


async def count(ctx: Context) -> str:
    """Count aloud."""
    for step in (1, 2):
        await ctx.report_progress(step, 2, f"step {step}")
    return "counted"


async def ask(ctx: Context) -> Any:
    """Ask the person at the client."""
    answer = await ctx.session.elicit_form("Really?", {"type": "object", "properties": {}}, ctx.request_id)
    return answer.action


async def grow(ctx: Context) -> str:
    """Get a further tool."""
    SERVERS[0].add_tool(secret, name="late")
    await ctx.session.send_tool_list_changed()
    return "grown"


SERVERS: list[MCPServer] = []
TOOLS = {tool.__name__: tool for tool in (ls, rm, secret, pid, env, die, count, ask, grow)}


def main(name: str, *tools: str) -> None:
    server = MCPServer(name, instructions="Be nice.", log_level="CRITICAL")
    SERVERS.append(server)
    for tool in tools or TOOLS:
        server.add_tool(TOOLS[tool])
    if where := os.environ.get("GATEWAY_TEST_STARTS"):  # one line for each start
        with Path(where).open("a") as file:
            file.write(f"{os.getpid()}\n")
    server.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
