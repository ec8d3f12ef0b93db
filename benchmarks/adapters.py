#!/usr/bin/env python3
"""Time what a guard adds to one tool call in memory, on every stack that is installed beside this package.

    adapters.py [CALLS]

A bare and a guarded server of one stack answer in turn, in one run: the difference of each pair is what the guard adds.
Beside it stands the share of a bare call, which is what to look at on a busy machine. Other stacks are measured in
environments of their own: `nox -s cost`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

from mcp_policy import Guard, Policy, PolicyEngine

CALLS = 3_000
BOUND = 10.0  # microseconds that a guard may add
SHARE = 0.10  # of a bare call of `MCPServer`
POLICY = {
    "version": "1",
    "tools": {
        "ls": {"deny_if": [{"path": "args.path", "op": "starts_with", "value": "/etc"}]},
        "rm": {"action": "deny"},
    },
}

Call = Callable[[], Awaitable[Any]]
Connected = contextlib.AbstractAsyncContextManager[Call]


class Stack(NamedTuple):
    """A stack by its name, and how to call its server: bare without an engine, guarded with one."""

    name: str
    connected: Callable[[PolicyEngine | None], Connected]


class Cost(NamedTuple):
    """Medians in microseconds: of a bare call, and of what the guard adds to it."""

    name: str
    bare: float
    added: float


def ls(path: str = "/") -> str:
    """List a folder."""
    return path


def the(module: str) -> Any:
    """Import what only one major version of the SDK has."""
    return import_module(module)


def major(distribution: str) -> int:
    """Return the major version that is installed, or 0."""
    try:
        return int(version(distribution).partition(".")[0])
    except PackageNotFoundError:
        return 0


def stacks() -> Iterator[Stack]:
    yield Stack("function", function)
    if major("mcp") == 2:
        for mode, era in (("legacy", "handshake"), ("2026-07-28", "2026-07-28")):
            yield Stack(f"mcp 2 Server, {era}", lambda engine, mode=mode: sdk2(lowlevel2, engine, mode))  # type: ignore[misc]
            yield Stack(f"mcp 2 MCPServer, {era}", lambda engine, mode=mode: sdk2(mcpserver, engine, mode))  # type: ignore[misc]
    if major("mcp") == 1:
        yield Stack("mcp 1 Server", lambda engine: sdk1(lowlevel1, engine))
        yield Stack("mcp 1 FastMCP", lambda engine: sdk1(fastmcp1, engine))
    if major("fastmcp"):
        yield Stack(f"fastmcp {major('fastmcp')}", fastmcp)


@contextlib.asynccontextmanager
async def function(engine: PolicyEngine | None) -> AsyncIterator[Call]:
    async def handler(path: str = "/") -> str:
        return path

    guarded = handler if engine is None else Guard(engine)("ls")(handler)
    yield lambda: guarded("/srv")


@contextlib.asynccontextmanager
async def sdk2(make: Callable[[], Any], engine: PolicyEngine | None, mode: str) -> AsyncIterator[Call]:
    from mcp import Client

    from mcp_policy.adapters.mcp import guard_server

    server = make() if engine is None else guard_server(make(), engine)
    async with Client(server, mode=mode, cache=None) as client:
        yield lambda: client.call_tool("ls", {"path": "/srv"})


def mcpserver() -> Any:
    from mcp.server.mcpserver import MCPServer

    server = MCPServer("files", log_level="CRITICAL")
    server.add_tool(ls)
    return server


def lowlevel2() -> Any:
    import mcp_types as types
    from mcp.server.lowlevel import Server

    tools = types.ListToolsResult(tools=[types.Tool(name="ls", input_schema={"type": "object"})])

    async def on_list(ctx: Any, params: Any) -> types.ListToolsResult:
        return tools

    async def on_call(ctx: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        path = str((params.arguments or {})["path"])
        return types.CallToolResult(content=[types.TextContent(type="text", text=path)])

    return Server("files", on_list_tools=on_list, on_call_tool=on_call)


@contextlib.asynccontextmanager
async def sdk1(make: Callable[[], Any], engine: PolicyEngine | None) -> AsyncIterator[Call]:
    guard_server = the("mcp_policy.adapters.mcp_v1").guard_server
    server = make() if engine is None else guard_server(make(), engine)
    async with the("mcp.shared.memory").create_connected_server_and_client_session(server) as client:
        yield lambda: client.call_tool("ls", {"path": "/srv"})


def fastmcp1() -> Any:
    server = the("mcp.server.fastmcp").FastMCP("files", log_level="CRITICAL")
    server.add_tool(ls)
    return server


def lowlevel1() -> Any:
    types, server = the("mcp.types"), the("mcp.server.lowlevel").Server("files")

    async def on_list() -> list[Any]:
        return [types.Tool(name="ls", inputSchema={"type": "object"})]

    async def on_call(name: str, arguments: dict[str, Any]) -> list[Any]:
        return [types.TextContent(type="text", text=str(arguments["path"]))]

    server.list_tools()(on_list)
    server.call_tool()(on_call)
    return server


@contextlib.asynccontextmanager
async def fastmcp(engine: PolicyEngine | None) -> AsyncIterator[Call]:
    from fastmcp import Client, FastMCP

    from mcp_policy.adapters.fastmcp import PolicyMiddleware

    server: Any = FastMCP("files", middleware=[] if engine is None else [PolicyMiddleware(engine)])
    server.tool(ls)
    async with Client(server) as client:
        yield lambda: client.call_tool("ls", {"path": "/srv"})


async def cost(stack: Stack, calls: int) -> Cost:
    engine = PolicyEngine(Policy.model_validate(POLICY))
    async with stack.connected(None) as bare, stack.connected(engine) as guarded:
        pairs = []
        gc.collect()
        gc.freeze()
        for number in range(calls):
            first, second = (bare, guarded) if number % 2 else (guarded, bare)
            spans = (await taken(first), await taken(second))
            pairs.append(spans if number % 2 else spans[::-1])
        warm = pairs[calls // 10 :]
    return Cost(stack.name, median(one for one, _ in warm) * 1e6, median(two - one for one, two in warm) * 1e6)


async def taken(call: Call) -> float:
    start = perf_counter()
    await call()
    return perf_counter() - start


def main() -> int:
    logging.disable(logging.CRITICAL)
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else CALLS
    costs = [asyncio.run(cost(stack, calls)) for stack in stacks()]
    wide = max(len(row.name) for row in costs)
    for name, bare, added in costs:
        over = ", over it" if added > BOUND else ""
        print(f"{name:<{wide}}  {bare:8.1f} µs bare  {added:6.1f} µs added of {BOUND:g}{over}  {added / bare:6.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
