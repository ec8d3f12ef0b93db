"""Who calls over HTTP: what the server knows counts, what a client says of itself does not. Real apps, real clients, no socket."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated, Any

import httpx2
import mcp_types as types
import pytest
from fastmcp import FastMCP
from fastmcp.server.auth.providers.jwt import StaticTokenVerifier
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import MCPServer
from pydantic import AnyHttpUrl, Field

from integration.stacks import ERAS, HANDSHAKE, MODERN, Recorder, facts, listed_by, same_as, text
from mcp_policy.adapters.fastmcp import PolicyMiddleware
from mcp_policy.adapters.mcp import guard_server

BASE = "http://127.0.0.1:8000"
TWO_EACH = {"ls": {"rate_limit": {"max": 2, "window": 60}}}
TOKENS = {
    name: {"client_id": "app", "sub": name, "scopes": ["read"], "iss": "https://id.example"} for name in ("ann", "bob")
}


@pytest.fixture(autouse=True)
def quiet():
    for name in ("mcp", "fastmcp", "httpx2"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


class Verifier:
    async def verify_token(self, token: str) -> AccessToken | None:
        known = TOKENS.get(token)
        if known is None:
            return None
        claims = {"iss": known["iss"]}
        return AccessToken(token=token, client_id="app", scopes=["read"], subject=known["sub"], claims=claims)


def ls(path: str = "/") -> str:
    return path


def sdk_app(engine: Any, *, auth: bool, stateless: bool) -> Any:
    url = AnyHttpUrl(BASE)
    settings = AuthSettings(issuer_url=url, resource_server_url=url, validate_token_resource=False) if auth else None
    server = MCPServer("files", auth=settings, token_verifier=Verifier() if auth else None)
    server.add_tool(ls)
    guard_server(server, engine)
    app = server.streamable_http_app(stateless_http=stateless, json_response=True)
    return app, app.router.lifespan_context(app)


def fastmcp_app(engine: Any, *, auth: bool, stateless: bool) -> Any:
    server = FastMCP("files", auth=StaticTokenVerifier(TOKENS) if auth else None, middleware=[PolicyMiddleware(engine)])
    server.tool(ls)
    app = server.http_app(stateless_http=stateless, json_response=True)
    return app, app.router.lifespan_context(app)


@pytest.fixture(params=[sdk_app, fastmcp_app], ids=["mcp", "fastmcp"])
def stack(request) -> Any:
    return request.param


@pytest.fixture(params=ERAS)
def era(request) -> str:
    return request.param


@asynccontextmanager
async def connected(app: Any, era: str, headers: dict[str, str] | None = None) -> AsyncIterator[Client]:
    transport = httpx2.ASGITransport(app=app)
    async with (
        httpx2.AsyncClient(transport=transport, base_url=BASE, headers=headers) as http,
        Client(streamable_http_client(f"{BASE}/mcp", http_client=http), mode=era, cache=None) as client,
    ):
        yield client


def attempts(
    stack: Any, engine: Any, era: str, connections: list[dict[str, str]], *, auth=False, stateless=False
) -> list[bool]:
    """Call once over each of several connections, all open at once; tell which calls ran."""

    async def run() -> list[bool]:
        app, lifespan = stack(engine, auth=auth, stateless=stateless)
        async with lifespan, AsyncExitStack() as open_now:
            clients = [await open_now.enter_async_context(connected(app, era, headers)) for headers in connections]
            return [not (await client.call_tool("ls", {})).is_error for client in clients]

    return asyncio.run(run())


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}"}


def test_a_session_that_the_server_issued_is_an_identity(stack):
    engine = Recorder(TWO_EACH)

    async def run() -> list[bool]:
        app, lifespan = stack(engine, auth=False, stateless=False)
        async with lifespan, connected(app, HANDSHAKE) as one, connected(app, HANDSHAKE) as other:
            return [not (await client.call_tool("ls", {})).is_error for client in (one, one, one, other, other, other)]

    assert asyncio.run(run()) == [True, True, False] * 2
    sessions = [call.session for call in engine.calls]
    assert len(set(sessions)) == 2
    assert None not in sessions
    assert "process" not in sessions


@pytest.mark.parametrize("stateless", [False, True])
def test_without_a_session_all_share_one_count(stack, stateless):
    engine = Recorder(TWO_EACH)
    assert attempts(stack, engine, MODERN, [{}] * 5, stateless=stateless) == [True, True, False, False, False]
    assert {(call.session, call.principal) for call in engine.calls} == {(None, None)}


def test_stateless_handshakes_share_one_count(stack):
    engine = Recorder(TWO_EACH)
    assert attempts(stack, engine, HANDSHAKE, [{}] * 4, stateless=True) == [True, True, False, False]
    assert {call.session for call in engine.calls} == {None}


def test_an_id_of_a_session_that_nobody_issued_is_nothing(stack):
    engine = Recorder(TWO_EACH)
    headers = [
        {"mcp-session-id": f"mine-{n}", "x-user": f"user-{n}", "x-forwarded-for": f"10.0.0.{n}"} for n in range(4)
    ]
    assert attempts(stack, engine, MODERN, headers) == [True, True, False, False]
    assert {(call.session, call.principal) for call in engine.calls} == {(None, None)}


def test_users_are_told_apart_by_their_tokens(stack, era):
    engine = Recorder(TWO_EACH)
    connections = [bearer("ann"), bearer("ann"), bearer("bob")]
    assert attempts(stack, engine, era, connections, auth=True) == [True, True, True]
    principals = {call.principal.id: call.principal for call in engine.calls}
    assert principals.keys() == {"ann", "bob"}
    assert principals["ann"].client == "app"
    assert principals["ann"].issuer == "https://id.example"
    assert principals["ann"].scopes == ("read",)


def test_a_users_requests_without_sessions_share_the_users_count(stack):
    engine = Recorder(TWO_EACH)
    connections = [bearer("ann")] * 3 + [bearer("bob")] * 2
    assert attempts(stack, engine, MODERN, connections, auth=True) == [True, True, False, True, True]


def test_a_limit_per_principal_holds_over_all_sessions(stack):
    engine = Recorder({"ls": {"rate_limit": {"max": 2, "window": 60, "per": "principal"}}})
    connections = [bearer("ann")] * 3 + [bearer("bob")] * 2
    assert attempts(stack, engine, HANDSHAKE, connections, auth=True) == [True, True, False, True, True]


def secret_server(engine: Any, *, has_secret: bool) -> MCPServer:
    server = MCPServer("files")
    server.add_tool(ls)
    if has_secret:

        @server.tool()
        def secret(region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})]) -> str:
            return region

    return guard_server(server, engine)


@pytest.mark.parametrize("headers", [{}, {"mcp-param-region": "mars"}, {"mcp-param-region": "eu"}])
def test_headers_that_mirror_arguments_do_not_give_a_hidden_tool_away(headers):
    def answer(*, has_secret: bool) -> tuple[int, Any]:
        async def run() -> tuple[int, Any]:
            server = secret_server(Recorder(hide=["secret"]), has_secret=has_secret)
            app = server.streamable_http_app(json_response=True)
            meta = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}
            params = {"name": "secret", "arguments": {"region": "eu"}, "_meta": meta}
            body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
            sent = {
                "mcp-protocol-version": MODERN,
                "mcp-method": "tools/call",
                "mcp-name": "secret",
                "accept": "application/json, text/event-stream",
            }
            async with app.router.lifespan_context(app):
                transport = httpx2.ASGITransport(app=app)
                async with httpx2.AsyncClient(transport=transport, base_url=BASE) as http:
                    response = await http.post("/mcp", json=body, headers=sent | headers)
                    return response.status_code, response.json()

        return asyncio.run(run())

    hidden = answer(has_secret=True)
    assert hidden == answer(has_secret=False)
    assert hidden[1]["result"]["content"][0]["text"] == "Unknown tool: secret"


def test_headers_that_mirror_arguments_are_still_checked():
    engine = Recorder()

    async def run() -> Any:
        app = secret_server(engine, has_secret=True).streamable_http_app(json_response=True)
        async with app.router.lifespan_context(app):
            async with connected(app, MODERN) as client:
                await client.list_tools()
                fine = await client.call_tool("secret", {"region": "eu"})
            async with connected(app, MODERN, {"mcp-param-region": "mars"}) as client:
                params = types.CallToolRequestParams(name="secret", arguments={"region": "eu"})
                try:
                    await client.session.send_request(types.CallToolRequest(params=params), types.CallToolResult)
                except Exception as error:  # noqa: BLE001  # whatever the client makes of the refusal
                    return fine, error
            return fine, None

    fine, error = asyncio.run(run())
    assert text(fine) == "eu"
    assert error is not None
    assert len(engine.calls) == 1, "the SDK's own lists before a call are no calls"


def test_lists_and_refusals_over_http(stack, era):
    engine = Recorder({"ls": {"action": "deny", "reason": "no"}})

    async def run() -> tuple[list[str], Any, Any]:
        app, lifespan = stack(engine, auth=False, stateless=False)
        async with lifespan, connected(app, era) as client:
            return await listed_by(client), await client.call_tool("ls", {}), await client.call_tool("nope", {})

    names, refusal, unknown = asyncio.run(run())
    assert names == []
    assert text(refusal) == "[POLICY DENIED] no."
    assert facts(refusal) == {"effect": "deny", "codes": ["denied_by_rule"]}
    assert text(unknown).startswith("Unknown tool")
    assert not same_as(refusal, unknown)
