"""Talking to servers with the client of the MCP SDK 2.x, in both protocol eras."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx
import mcp_types as types
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from pydantic import TypeAdapter

from stacks.talk import Answer, Person, answer_of, error_of

ERAS = ("legacy", "2026-07-28")
_ANY = TypeAdapter(dict[str, Any])

__all__ = ["ERAS", "connected", "http", "httpx", "stdio"]


class Talker:
    """A client that is connected."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def call(self, tool: str, arguments: dict[str, Any] | None = None, meta: Any = None) -> Answer:
        try:
            result = await self.client.call_tool(tool, arguments or {}, meta=meta)
        except MCPError as error:
            return error_of(error.code, error.message)
        return answer_of(json.loads(result.model_dump_json(by_alias=True, exclude_none=True)))

    async def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Send any request, as it is, and return the result or the error."""
        request: Any = types.Request[Any, str](method=method, params=params)
        try:
            return await self.client.session.send_request(request, _ANY)
        except MCPError as error:
            return error_of(error.code, error.message).raw


@asynccontextmanager
async def connected(transport: Any, era: str, person: Person | None) -> AsyncIterator[Talker]:
    async def asked(context: Any, params: Any) -> types.ElicitResult:
        action, content = person.asked(params.message)
        return types.ElicitResult(action=action, content=content)

    async with Client(
        transport, mode=era, cache=None, elicitation_callback=None if person is None else asked
    ) as client:
        yield Talker(client)


@asynccontextmanager
async def stdio(command: list[str], env: dict[str, str], errors: Path) -> AsyncIterator[Any]:
    server = StdioServerParameters(command=command[0], args=command[1:], env=env)
    with errors.open("a") as file:
        async with stdio_client(server, errlog=file) as streams:
            yield streams


@asynccontextmanager
async def http(url: str, headers: dict[str, str] | None = None) -> AsyncIterator[Any]:
    async with (
        httpx.AsyncClient(headers=headers, verify=False) as client,  # no TLS here: certificates load slowly
        streamable_http_client(url, http_client=client) as streams,
    ):
        yield streams
