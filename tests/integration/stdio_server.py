"""A guarded server to run as a child process: `stdio_server.py mcp|fastmcp`."""

from __future__ import annotations

import sys

from mcp_policy import Policy, PolicyEngine

POLICY = {
    "version": "1",
    "hide": ["secret"],
    "tools": {
        "ls": {"rate_limit": {"max": 2, "window": 3600}},
        "rm": {"deny_if": [{"path": "args.path", "op": "eq", "value": "/", "reason": "the root stays"}]},
        "secret": {},
    },
}


def ls(path: str = "/") -> str:
    """List."""
    return path


async def rm(path: str) -> str:
    """Remove."""
    return f"gone {path}"


def secret() -> str:
    """Do what nobody knows."""
    return "secret"


def main(stack: str) -> None:
    engine = PolicyEngine(Policy.model_validate(POLICY))
    if stack == "mcp":
        from mcp.server.mcpserver import MCPServer

        from mcp_policy.adapters.mcp import guard_server

        server = guard_server(MCPServer("files", log_level="CRITICAL"), engine)
        for tool in (ls, rm, secret):
            server.add_tool(tool)
        server.run()
    else:
        from fastmcp import FastMCP

        from mcp_policy.adapters.fastmcp import PolicyMiddleware

        served = FastMCP("files", middleware=[PolicyMiddleware(engine)])
        for tool in (ls, rm, secret):
            served.tool(tool)
        served.run(show_banner=False)


if __name__ == "__main__":
    main(sys.argv[1])
