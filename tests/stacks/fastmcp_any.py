"""fastmcp, of whatever version is installed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import fastmcp
from fastmcp import FastMCP
from mcp.shared.memory import create_client_server_memory_streams

from mcp_policy.adapters.approvers import ask_client
from mcp_policy.adapters.fastmcp import PolicyMiddleware
from stacks.tools import NOTES, greet, notes, tools
from stacks.world import NAME, Steered, World

MAJOR = int(fastmcp.__version__.partition(".")[0])


class Fast:
    """`FastMCP`."""

    module, name = "fastmcp_any", "FASTMCP"

    @asynccontextmanager
    async def serving(self, world: World, *, guarded: bool, one_client: bool) -> AsyncIterator[Any]:
        server = self.make(world)
        if guarded:
            server.add_middleware(PolicyMiddleware(Steered(world), approver=ask_client()))
        yield server

    def make(self, world: World) -> Any:
        server: FastMCP[Any] = FastMCP(NAME)
        for name, tool in tools(world, lambda name, tool: server.tool(tool, name=name)).items():
            server.tool(tool, name=name)
        server.resource(NOTES)(notes)
        server.prompt(greet)
        return server

    def app(self, server: Any) -> Any:
        return server.http_app()

    @asynccontextmanager
    async def memory(self, server: Any) -> AsyncIterator[Any]:
        lowlevel = server._mcp_server
        async with (
            create_client_server_memory_streams() as (client, (read, write)),
            server._lifespan_manager(),
            anyio.create_task_group() as group,
        ):
            group.start_soon(lowlevel.run, read, write, lowlevel.create_initialization_options())
            yield client
            group.cancel_scope.cancel()

    async def stdio(self, server: Any) -> None:
        await server.run_stdio_async(show_banner=False)


FASTMCP = Fast()
