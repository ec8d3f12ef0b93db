"""A server made with the MCP SDK 2.x, guarded: one line, wherever its tools are registered."""

from __future__ import annotations

from pathlib import Path

from mcp.server.mcpserver import MCPServer

from mcp_policy import Policy, PolicyEngine
from mcp_policy.adapters.mcp import guard_server

engine = PolicyEngine(Policy.load(Path(__file__).with_name("policy.json")))
server = guard_server(MCPServer("files"), engine)


@server.tool()
def read_file(path: str) -> str:
    """Pretend to read a file."""
    return f"what {path} holds"


@server.tool()
async def delete_file(path: str) -> str:
    """Pretend to delete a file."""
    return f"deleted {path}"


@server.tool()
def debug_dump() -> str:
    """Show what no agent should see."""
    return "everything"


if __name__ == "__main__":
    server.run()
