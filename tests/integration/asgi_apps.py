"""ASGI apps that speak MCP, the policy in front of them, and clients: real ones, and one that sends what it likes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import httpx2
from fastmcp import FastMCP
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

from integration.stacks import MODERN

BASE = "http://127.0.0.1:8000"
ACCEPT = "application/json, text/event-stream"
TOOLS = ("ls", "rm", "fail")
VERSION = "io.modelcontextprotocol/protocolVersion"
CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"


class App(NamedTuple):
    """An app, what starts it, and the calls that ran on it."""

    app: Any
    running: Callable[[], Any]
    ran: list[tuple[str, Any]]


def tools_of(ran: list[tuple[str, Any]]) -> dict[str, Any]:
    def ls(path: str = "/") -> str:
        ran.append(("ls", path))
        return path

    def rm(path: str = "/") -> str:
        ran.append(("rm", path))
        return f"gone {path}"

    def fail(path: str = "/") -> str:
        ran.append(("fail", path))
        raise ToolError("failed")

    return {"ls": ls, "rm": rm, "fail": fail}


def sdk(names: Sequence[str] = TOOLS, *, json_response: bool = True, **settings: Any) -> App:
    """An app of the MCP SDK."""
    ran: list[tuple[str, Any]] = []
    server = MCPServer("files")
    for name in names:
        server.add_tool(tools_of(ran)[name])
    app = server.streamable_http_app(json_response=json_response, **settings)
    return App(app, lambda: app.router.lifespan_context(app), ran)


def fast(names: Sequence[str] = TOOLS, *, json_response: bool = True, auth: Any = None, **settings: Any) -> App:
    """An app of fastmcp."""
    ran: list[tuple[str, Any]] = []
    server = FastMCP("files", auth=auth)
    for name in names:
        server.tool(tools_of(ran)[name])
    app = server.http_app(json_response=json_response, **settings)
    return App(app, lambda: app.router.lifespan_context(app), ran)


class Bare:
    """A stack that nobody knows: an app written by hand. It keeps the messages that it gets, and their scopes."""

    def __init__(self, names: Sequence[str] = TOOLS, *, json_response: bool = True) -> None:
        self.tools: list[dict[str, Any]] = [{"name": name, "inputSchema": {"type": "object"}} for name in names]
        self.ran: list[tuple[str, Any]] = []
        self.got: list[Any] = []
        self.scopes: list[Any] = []
        self.headers: list[tuple[bytes, bytes]] = [(b"content-type", b"application/json")]
        self.json_response = json_response
        self.public = False

    @property
    def calls(self) -> list[Any]:
        return [message for message in self.got if message.get("method") == "tools/call"]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        body = b""
        while (event := await receive()).get("more_body") or event["type"] == "http.request":
            body += event["body"]
            if not event.get("more_body"):
                break
        if scope["method"] != "POST":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"page " + body})
            return
        message = json.loads(body)
        self.got.append(message)
        if "id" not in message or "method" not in message:
            await send({"type": "http.response.start", "status": 202, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        modern = any(name == b"mcp-protocol-version" and value >= MODERN.encode() for name, value in scope["headers"])
        said = {"jsonrpc": "2.0", "id": message["id"], **self.answer(message, modern=modern)}
        await self.say(send, json.dumps(said).encode())

    async def say(self, send: Any, text: bytes) -> None:
        if self.json_response:
            await send({"type": "http.response.start", "status": 200, "headers": self.headers})
            await send({"type": "http.response.body", "body": text})
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        stream = b": hello\r\n\r\nevent: message\r\nid: 7\r\ndata: " + text + b"\r\n\r\n"
        for at in range(0, len(stream), 5):
            await send({"type": "http.response.body", "body": stream[at : at + 5], "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    def answer(self, message: Any, *, modern: bool) -> dict[str, Any]:
        stamp = {"resultType": "complete"} if modern else {}
        params = message.get("params", {})
        match message["method"]:
            case "initialize":
                about = {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}}}
                return {"result": {**about, "serverInfo": {"name": "bare", "version": "1"}}}
            case "tools/list":  # in pages of two
                page = int(params.get("cursor") or 0)
                more = {"nextCursor": str(page + 2)} if page + 2 < len(self.tools) else {}
                hints = {"ttlMs": 60_000, "cacheScope": "public"} if modern or self.public else {}
                return {"result": {"tools": self.tools[page : page + 2], **more, **hints, **stamp}}
            case "tools/call":
                return self.called(params, stamp)
        return {"error": {"code": -32601, "message": "no such method"}}

    def called(self, params: Any, stamp: dict[str, Any]) -> dict[str, Any]:
        name, given = params["name"], params.get("arguments") or {}
        if name not in [tool["name"] for tool in self.tools]:
            return {"error": {"code": -32602, "message": f"{name}? there is no {name}"}}
        self.ran.append((name, given.get("path", "/")))
        content = [{"type": "text", "text": given.get("path", "/")}]
        return {"result": {"content": content, "isError": name == "fail", **stamp}}


def bare(names: Sequence[str] = TOOLS, *, json_response: bool = True) -> App:
    """An app written by hand."""
    app = Bare(names, json_response=json_response)

    @asynccontextmanager
    async def running() -> AsyncIterator[None]:
        yield

    return App(app, running, app.ran)


@asynccontextmanager
async def connected(app: Any, era: str, headers: dict[str, str] | None = None) -> AsyncIterator[Client]:
    """A real client of an app."""
    transport = httpx2.ASGITransport(app=app)
    async with (
        httpx2.AsyncClient(transport=transport, base_url=BASE, headers=headers) as http,
        Client(streamable_http_client(f"{BASE}/mcp", http_client=http), mode=era, cache=None) as client,
    ):
        yield client


# -- a client that sends what it likes


class Response(NamedTuple):
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def data(self) -> list[Any]:
        """The messages of a stream."""
        return [
            json.loads(line[5:]) for line in self.body.splitlines() if line.startswith(b"data:") and line[5:].strip()
        ]

    def header(self, name: bytes) -> bytes | None:
        return dict(self.headers).get(name)


POSTED = (("content-type", "application/json"), ("accept", ACCEPT))


async def send(
    app: Any,
    *chunks: bytes,
    method: str = "POST",
    headers: Sequence[tuple[str, str]] = POSTED,
    gone: bool = False,
    **scope: Any,
) -> Response:
    """Send one HTTP request, to the byte as given. With `gone`, the client goes away where its body would end."""
    events: list[Any] = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    if gone:
        events.append({"type": "http.disconnect"})
    else:
        events.append({"type": "http.request", "body": b"", "more_body": False})
    answered = asyncio.Event()
    got: list[Any] = []

    async def receive() -> Any:
        if events:
            return events.pop(0)
        await answered.wait()
        return {"type": "http.disconnect"}

    async def take(event: Any) -> None:
        got.append(event)
        if event["type"] == "http.response.body" and not event.get("more_body"):
            answered.set()

    sent = [(b"host", b"127.0.0.1:8000"), *((name.encode(), value.encode("latin-1")) for name, value in headers)]
    whole = {
        "type": "http",
        "method": method,
        "path": "/mcp",
        "raw_path": b"/mcp",
        "query_string": b"",
        "root_path": "",
    }
    server = {"scheme": "http", "http_version": "1.1", "server": ("127.0.0.1", 8000), "client": ("127.0.0.1", 9)}
    await app({**whole, **server, "headers": sent, **scope}, receive, take)
    if not got:
        return Response(0, [], b"")
    assert [event["type"] for event in got].count("http.response.start") == 1
    body = b"".join(event.get("body", b"") for event in got[1:])
    assert not got[-1].get("more_body")
    return Response(got[0]["status"], [*got[0]["headers"]], body)


def call(name: Any = "ls", id: Any = 1, **params: Any) -> bytes:
    """The body of a call."""
    message = {"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": name, "arguments": {}, **params}}
    return json.dumps(message).encode()


def modern(method: str = "tools/call", name: str | None = "ls") -> list[tuple[str, str]]:
    """The headers of a request of 2026-07-28."""
    named = [] if name is None else [("mcp-name", name)]
    return [*POSTED, ("mcp-protocol-version", MODERN), ("mcp-method", method), *named]


def listing(id: Any = 1) -> bytes:
    """The body of a request for tools."""
    return json.dumps({"jsonrpc": "2.0", "id": id, "method": "tools/list"}).encode()


META = {VERSION: MODERN, CAPABILITIES: {}}
