"""The gateway in front of a server that knows nothing of it, as a process or at an address; the peer is fastmcp's proxy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastmcp.client.transports import StdioTransport, StreamableHttpTransport
from fastmcp.server import create_proxy

from mcp_policy.adapters.approvers import ask_client
from mcp_policy.adapters.gateway import Upstream, gateway
from stacks.fastmcp_any import Fast
from stacks.mcp2 import MCP_SERVER
from stacks.places import child, over_http
from stacks.world import NAME, Steered, World


class Gateway(Fast):
    """In front of an `MCPServer` over stdio."""

    module, name = "gateway", "TO_PROCESS"

    @asynccontextmanager
    async def serving(self, world: World, *, guarded: bool, one_client: bool) -> AsyncIterator[Any]:
        async with self.upstream(world) as transport:
            if not guarded:
                yield create_proxy(transport(), name=NAME)
                return
            upstream = Upstream(NAME, transport, is_process=self is TO_PROCESS)
            async with gateway([upstream], Steered(world), one_client=one_client, approver=ask_client()) as server:
                yield server

    @asynccontextmanager
    async def upstream(self, world: World) -> AsyncIterator[Any]:
        command, env = child(MCP_SERVER, world, guarded=False)
        errors = world.folder / "errors"
        yield lambda: StdioTransport(command[0], command[1:], env=env, log_file=errors)


class ToAddress(Gateway):
    """In front of an `MCPServer` over streamable HTTP."""

    name = "TO_ADDRESS"

    @asynccontextmanager
    async def upstream(self, world: World) -> AsyncIterator[Any]:
        async with over_http(MCP_SERVER.app(MCP_SERVER.make(world))) as url:
            yield lambda: StreamableHttpTransport(url)


TO_PROCESS, TO_ADDRESS = Gateway(), ToAddress()
