"""A server made with fastmcp 4, guarded: one line, wherever its tools are registered."""

from __future__ import annotations

from pathlib import Path

from fastmcp import FastMCP

from mcp_policy import Policy, PolicyEngine
from mcp_policy.adapters.fastmcp import PolicyMiddleware

engine = PolicyEngine(Policy.load(Path(__file__).with_name("policy.json")))
server = FastMCP("files", middleware=[PolicyMiddleware(engine)])


@server.tool
def read_file(path: str) -> str:
    """Pretend to read a file."""
    return f"what {path} holds"


@server.tool
async def delete_file(path: str) -> str:
    """Pretend to delete a file."""
    return f"deleted {path}"


@server.tool
def debug_dump() -> str:
    """Show what no agent should see."""
    return "everything"


if __name__ == "__main__":
    server.run()
