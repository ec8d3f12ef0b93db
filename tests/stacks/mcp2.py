"""The MCP SDK 2.x: `Server` and `MCPServer`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import mcp_types as types
from mcp.server.lowlevel import Server
from mcp.server.mcpserver import MCPServer
from mcp.server.stdio import stdio_server

from mcp_policy.adapters.approvers import ask_client
from mcp_policy.adapters.mcp import guard_server
from stacks.tools import NOTES, SAYS, TEXT, greet, notes, run, schemas, tools
from stacks.world import NAME, Steered, World


class High:
    """`MCPServer`."""

    module, name = "mcp2", "MCP_SERVER"

    @asynccontextmanager
    async def serving(self, world: World, *, guarded: bool, one_client: bool) -> AsyncIterator[Any]:
        server = self.make(world)
        yield guard_server(server, Steered(world), approver=ask_client()) if guarded else server

    def make(self, world: World) -> Any:
        server = MCPServer(NAME, log_level="CRITICAL")
        for name, tool in tools(world, lambda name, tool: server.add_tool(tool, name=name)).items():
            server.add_tool(tool, name=name)
        server.resource(NOTES)(notes)
        server.prompt()(greet)
        return server

    def app(self, server: Any) -> Any:
        return server.streamable_http_app()

    def memory(self, server: Any) -> Any:
        return server

    async def stdio(self, server: Any) -> None:
        await server.run_stdio_async()


class Low(High):
    """The lowlevel `Server`; it says to an unknown tool what `MCPServer` says."""

    module, name = "mcp2", "SERVER"

    def make(self, world: World) -> Any:
        known: dict[str, Any] = {}
        known.update(tools(world, known.__setitem__))

        async def list_tools(ctx: Any, params: Any) -> types.ListToolsResult:
            found = [types.Tool(name=name, input_schema=schemas(name), output_schema=SAYS) for name in known]
            return types.ListToolsResult(tools=found)

        async def call_tool(ctx: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
            if params.name not in known:
                return said(f"Unknown tool: {params.name}", is_error=True)
            text = await run(known[params.name], params.arguments or {})
            return said(text, structured_content={"result": text})

        async def list_resources(ctx: Any, params: Any) -> types.ListResourcesResult:
            return types.ListResourcesResult(resources=[types.Resource(name="notes", uri=NOTES)])

        async def read_resource(ctx: Any, params: Any) -> types.ReadResourceResult:
            return types.ReadResourceResult(contents=[types.TextResourceContents(uri=NOTES, text=TEXT)])

        async def list_prompts(ctx: Any, params: Any) -> types.ListPromptsResult:
            return types.ListPromptsResult(prompts=[types.Prompt(name="greet")])

        async def get_prompt(ctx: Any, params: Any) -> types.GetPromptResult:
            message = types.TextContent(type="text", text=greet(**params.arguments))
            return types.GetPromptResult(messages=[types.PromptMessage(role="user", content=message)])

        return Server(
            NAME,
            on_list_tools=list_tools,
            on_call_tool=call_tool,
            on_list_resources=list_resources,
            on_read_resource=read_resource,
            on_list_prompts=list_prompts,
            on_get_prompt=get_prompt,
        )

    async def stdio(self, server: Any) -> None:
        async with stdio_server() as (read, write):
            await server.run(read, write, server.create_initialization_options())


def said(text: str, **more: Any) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(type="text", text=text)], **more)


MCP_SERVER, SERVER = High(), Low()
