"""The MCP SDK 1.x: the lowlevel `Server` and `FastMCP`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from mcp import types
from mcp.server.fastmcp import FastMCP
from mcp.server.lowlevel import Server
from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.server.stdio import stdio_server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.memory import create_client_server_memory_streams
from starlette.applications import Starlette
from starlette.routing import Route

from mcp_policy.adapters.approvers import ask_client
from mcp_policy.adapters.mcp_v1 import guard_server
from stacks.tools import NOTES, SAYS, TEXT, greet, notes, run, schemas, tools
from stacks.world import NAME, Steered, World


class High:
    """`FastMCP`."""

    module, name = "mcp1", "FASTMCP"

    @asynccontextmanager
    async def serving(self, world: World, *, guarded: bool, one_client: bool) -> AsyncIterator[Any]:
        server = self.make(world)
        yield guard_server(server, Steered(world), approver=ask_client()) if guarded else server

    def make(self, world: World) -> Any:
        server: FastMCP[Any] = FastMCP(NAME, log_level="CRITICAL")
        for name, tool in tools(world, lambda name, tool: server.add_tool(tool, name=name)).items():
            server.add_tool(tool, name=name)
        server.resource(NOTES)(notes)
        server.prompt()(greet)
        return server

    def app(self, server: Any) -> Any:
        return server.streamable_http_app()

    def lowlevel(self, server: Any) -> Any:
        return server._mcp_server

    @asynccontextmanager
    async def memory(self, server: Any) -> AsyncIterator[Any]:
        inner = self.lowlevel(server)
        async with create_client_server_memory_streams() as (client, (read, write)), anyio.create_task_group() as group:
            group.start_soon(inner.run, read, write, inner.create_initialization_options())
            yield client
            group.cancel_scope.cancel()

    async def stdio(self, server: Any) -> None:
        inner = self.lowlevel(server)
        async with stdio_server() as (read, write):
            await inner.run(read, write, inner.create_initialization_options())


class Low(High):
    """The lowlevel `Server`; it says to an unknown tool what `FastMCP` says."""

    module, name = "mcp1", "SERVER"

    def make(self, world: World) -> Any:
        known: dict[str, Any] = {}
        known.update(tools(world, known.__setitem__))
        server: Server[Any, Any] = Server(NAME)

        @server.list_tools()
        async def list_tools() -> list[types.Tool]:
            return [types.Tool(name=name, inputSchema=schemas(name), outputSchema=SAYS) for name in known]

        @server.call_tool()
        async def call_tool(name: str, arguments: dict[str, Any]) -> Any:
            if name not in known:
                raise ValueError(f"Unknown tool: {name}")
            text = await run(known[name], arguments)
            return [types.TextContent(type="text", text=text)], {"result": text}

        @server.list_resources()
        async def list_resources() -> list[types.Resource]:
            return [types.Resource(name="notes", uri=NOTES)]

        @server.read_resource()
        async def read_resource(uri: Any) -> Any:
            return [ReadResourceContents(content=TEXT, mime_type="text/plain")]

        @server.list_prompts()
        async def list_prompts() -> list[types.Prompt]:
            return [types.Prompt(name="greet")]

        @server.get_prompt()
        async def get_prompt(name: str, arguments: Any) -> types.GetPromptResult:
            message = types.TextContent(type="text", text=greet(**arguments))
            return types.GetPromptResult(messages=[types.PromptMessage(role="user", content=message)])

        return server

    def app(self, server: Any) -> Any:
        manager = StreamableHTTPSessionManager(server)

        class Endpoint:
            async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
                await manager.handle_request(scope, receive, send)

        return Starlette(routes=[Route("/mcp", Endpoint())], lifespan=lambda app: manager.run())

    def lowlevel(self, server: Any) -> Any:
        return server


FASTMCP, SERVER = High(), Low()
