#!/usr/bin/env python3
"""Time what the gateway adds to one tool call, beside fastmcp's bare proxy in front of the same server.

    gateway.py [CALLS]

Both stand in front of a child process of their own, over stdio, and answer in turn, in one run; what counts is the
median of the pairs. The line between is `PolicyMiddleware` on fastmcp's own proxy. The gateway may come out ahead of
the bare proxy: that one connects a client anew for each call, the gateway keeps one for each session.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from statistics import median
from time import perf_counter
from typing import Any

from fastmcp import Client, FastMCP
from fastmcp.client.transports import StdioTransport
from fastmcp.server import create_proxy

from mcp_policy import Policy, PolicyEngine
from mcp_policy.adapters.fastmcp import PolicyMiddleware
from mcp_policy.adapters.gateway import Upstream, gateway

CALLS = 2_000
BOUND = 0.02  # of a call through fastmcp's bare proxy
SERVER = """
from mcp.server.mcpserver import MCPServer
server = MCPServer("files", log_level="CRITICAL")
@server.tool()
def ls(path: str = "/") -> str:
    return path
server.run()
"""
POLICY = {
    "version": "1",
    "tools": {
        "ls": {"deny_if": [{"path": "args.path", "op": "starts_with", "value": "/etc"}]},
        "rm": {"action": "deny"},
    },
}

Call = Callable[[], Awaitable[Any]]


def transport() -> StdioTransport:
    return StdioTransport(sys.executable, ["-c", SERVER])


def bare() -> FastMCP[Any]:
    return create_proxy(transport())


def guarded() -> FastMCP[Any]:
    proxy = create_proxy(transport())
    proxy.add_middleware(PolicyMiddleware(engine()))
    return proxy


def engine() -> PolicyEngine:
    return PolicyEngine(Policy.model_validate(POLICY))


@asynccontextmanager
async def called(server: FastMCP[Any], era: str) -> AsyncIterator[Call]:
    async with Client(server, mode=era) as client:
        yield lambda: client.call_tool_mcp("ls", {"path": "/srv"})


@asynccontextmanager
async def through_gateway(era: str) -> AsyncIterator[Call]:
    async with (
        gateway([Upstream("files", transport, is_process=True)], engine(), one_client=True) as server,
        called(server, era) as call,
    ):
        yield call


async def measure(era: str, calls: int) -> dict[str, list[float]]:
    """Return the spans of calls through each, made in turn, in seconds."""
    async with AsyncExitStack() as stack:
        ways = {
            "fastmcp's bare proxy": await stack.enter_async_context(called(bare(), era)),
            "with the policy in front": await stack.enter_async_context(called(guarded(), era)),
            "the gateway": await stack.enter_async_context(through_gateway(era)),
        }
        spans: dict[str, list[float]] = {name: [] for name in ways}
        order = list(ways.items())
        gc.collect()
        gc.freeze()
        for number in range(calls):
            turn = number % len(order)
            for name, call in (*order[turn:], *order[:turn]):
                start = perf_counter()
                await call()
                spans[name].append(perf_counter() - start)
    return {name: each[calls // 10 :] for name, each in spans.items()}


def main() -> int:
    logging.disable(logging.CRITICAL)
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else CALLS
    for mode, era in (("legacy", "handshake"), ("2026-07-28", "2026-07-28")):
        spans = asyncio.run(measure(mode, calls))
        first, *_ = spans.values()
        for name, each in spans.items():
            added = median(one - base for one, base in zip(each, first, strict=True))
            share = added / median(first)
            over = ", over it" if share > BOUND else ""
            print(
                f"{era:<10}  {name:<24}  {median(each) * 1e6:8.1f} µs  {added * 1e6:+7.1f} µs"
                f"  {share:+6.1%} of {BOUND:.0%}{over}"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
