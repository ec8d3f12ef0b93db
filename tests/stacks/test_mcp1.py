"""The adapter for the MCP SDK 1.x, between real servers and a real client. Run by the `mcp1` session of `noxfile.py`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from mcp import ClientSession, types
from mcp.client.streamable_http import streamable_http_client
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.fastmcp import FastMCP
from mcp.server.fastmcp.exceptions import ToolError
from mcp.server.lowlevel import Server
from mcp.server.lowlevel.server import request_ctx
from mcp.shared.memory import create_connected_server_and_client_session as connected

from mcp_policy import Policy, PolicyEngine, Principal
from mcp_policy.adapters import UnguardedTools
from mcp_policy.adapters.approvers import ask_client, wait_for_decision
from mcp_policy.adapters.mcp_v1 import assert_all_guarded, guard_server, guarded_tools
from mcp_policy.answer import META_KEY

TOOLS = ("ls", "rm", "fail")


@pytest.fixture(autouse=True)
def quiet():
    logging.getLogger("mcp").setLevel(logging.CRITICAL)


class Recorder(PolicyEngine):
    """An engine that keeps what it was asked."""

    def __init__(self, tools: Any = None, **top: Any) -> None:
        document = {"version": "1", **({"default": "allow"} if tools is None else {"tools": tools}), **top}
        super().__init__(Policy.model_validate(document), clock=lambda: 1000.0)
        self.calls: list[Any] = []

    async def authorize_async(self, call):
        self.calls.append(call)
        return await super().authorize_async(call)


def high(without: str = "") -> FastMCP:
    server = FastMCP("files", log_level="CRITICAL")
    server.ran = []

    def ls(path: str = "/") -> str:
        server.ran.append(("ls", path))
        return path

    async def rm(path: str, times: int = 1) -> str:
        server.ran.append(("rm", path, times))
        return f"gone {path}"

    def fail(how: str) -> str:
        if how == "raise":
            raise ToolError("failed")
        return "fine"

    for tool in (ls, rm, fail):
        if tool.__name__ != without:
            server.add_tool(tool)
    return server


def low(without: str = "") -> Server:
    names = [name for name in TOOLS if name != without]
    server = Server("files")
    server.ran = []

    @server.list_tools()
    async def list_tools(request: types.ListToolsRequest) -> types.ListToolsResult:
        cursor = request.params.cursor if request is not None and request.params is not None else None
        page = int(cursor or 0)
        schema = {"type": "object", "properties": {"times": {"type": "integer"}}}
        following = str(page + 1) if page + 1 < len(names) else None
        return types.ListToolsResult(tools=[types.Tool(name=names[page], inputSchema=schema)], nextCursor=following)

    @server.call_tool()
    async def call_tool(name: str, arguments: dict[str, Any]) -> Any:
        if arguments.get("how") == "raise":
            raise RuntimeError("failed")
        if name not in names:
            raise ValueError(f"no tool of that name: {name}")
        server.ran.append((name, arguments.get("path", "/")))
        return [types.TextContent(type="text", text=f"{name} {arguments}")]

    return server


@pytest.fixture(params=[high, low], ids=["FastMCP", "Server"])
def make(request) -> Any:
    return request.param


def talk(server: Any, work: Any, **more: Any) -> Any:
    async def run() -> Any:
        async with connected(server, **more) as client:
            return await work(client)

    return asyncio.run(run())


def ask(server: Any, tool: str, arguments: Any = None, **more: Any) -> types.CallToolResult:
    return talk(server, lambda client: client.call_tool(tool, arguments or {}), **more)


def listed(server: Any) -> list[str]:
    async def all_pages(client: ClientSession) -> list[str]:
        names, cursor = [], None
        while True:
            page = await client.list_tools(cursor)
            names += [tool.name for tool in page.tools]
            cursor = page.nextCursor
            if cursor is None:
                return names

    return talk(server, all_pages)


def text(result: types.CallToolResult) -> str:
    return "".join(part.text for part in result.content)


def refused(result: types.CallToolResult, effect: str, *codes: str) -> str:
    assert result.isError is True
    assert result.structuredContent is None
    told = (result.meta or {})[META_KEY]
    assert told["effect"] == effect
    assert told["codes"] == list(codes)
    return text(result)


# -- calls and lists


def test_an_allowed_call_runs(make):
    server = guard_server(make(), Recorder({"ls": {}}))
    assert not ask(server, "ls", {"path": "/srv"}).isError
    assert server.ran[0][:2] == ("ls", "/srv")


def test_a_denied_call_does_not(make):
    server = guard_server(make(), Recorder({"ls": {}, "rm": {"action": "deny", "reason": "files stay"}}))
    assert refused(ask(server, "rm", {"path": "/x"}), "deny", "denied_by_rule") == "[POLICY DENIED] files stay."
    assert server.ran == []


def test_a_hidden_tool_is_none(make):
    hidden = ask(guard_server(make(), Recorder(hide=["rm"])), "rm", {"path": "/x"})
    missing = ask(guard_server(make(without="rm"), Recorder()), "rm", {"path": "/x"})
    assert hidden.model_dump_json() == missing.model_dump_json()
    assert text(hidden) == text(ask(high(without="rm"), "rm")) == "Unknown tool: rm"


@pytest.mark.parametrize("arguments", [{}, {"times": "many"}, {"path": 5, "times": None}])
def test_arguments_do_not_give_a_hidden_tool_away(make, arguments):
    """The SDK checks arguments against the schema of a tool that it has: not before the policy has spoken."""
    server = guard_server(make(), Recorder(hide=["rm"]))

    async def work(client: ClientSession) -> list[str]:
        await client.list_tools()
        return [text(await client.call_tool(tool, arguments)) for tool in ("rm", "no")]

    assert talk(server, work) == ["Unknown tool: rm", "Unknown tool: no"]


def test_a_tool_that_is_not_listed_cannot_be_called(make):
    server = guard_server(make(without="rm"), Recorder())
    assert text(ask(server, "rm")) == "Unknown tool: rm"


def test_a_denied_tool_that_the_server_does_not_have_is_unknown(make):
    server = guard_server(make(without="rm"), Recorder({"ls": {}, "rm": {"action": "deny"}}))
    assert text(ask(server, "rm")) == "Unknown tool: rm"


def test_lists_show_what_may_ever_be_called(make):
    rules = {"ls": {"rate_limit": {"max": 1, "window": 60}}, "fail": {"action": "deny"}}
    server = guard_server(make(), Recorder(rules))

    async def work(client: ClientSession) -> list[bool]:
        return [(await client.call_tool("ls", {})).isError for _ in range(2)]

    assert listed(server) == ["ls"]
    assert talk(server, work) == [False, True]
    assert listed(server) == ["ls"]


def test_wire_values_are_judged_before_anything_is_coerced():
    rule = {"rm": {"require": [{"path": "args.times", "op": "lte", "value": 3}]}}
    server = guard_server(high(), Recorder(rule))
    refused(ask(server, "rm", {"path": "/x", "times": "5"}), "deny", "type_mismatch")
    refused(ask(server, "rm", {"path": "/x", "times": True}), "deny", "type_mismatch")
    assert not ask(server, "rm", {"path": "/x", "times": 2}).isError
    assert server.ran == [("rm", "/x", 2)]


def test_the_judged_copy_runs():
    engine = Recorder({"ls": {}})
    server = guard_server(high(), engine)
    ask(server, "ls", {"path": "/srv"})
    assert engine.calls[0].arguments == {"path": "/srv"}
    assert engine.calls[0].server == "files"


@pytest.mark.parametrize("how", ["raise", "fine"])
def test_a_failed_call_gives_back(make, how):
    limit = {"max": 1, "window": 60, "refund_on_error": True}
    server = guard_server(make(), Recorder({"fail": {"limits": [limit]}}))

    async def work(client: ClientSession) -> list[bool]:
        return [META_KEY in ((await client.call_tool("fail", {"how": how})).meta or {}) for _ in range(3)]

    assert talk(server, work) == ([False] * 3 if how == "raise" else [False, True, True])


def test_two_hundred_calls_at_once(make):
    server = guard_server(make(), Recorder({"ls": {"rate_limit": {"max": 50, "window": 60}}}))

    async def work(client: ClientSession) -> list[Any]:
        return await asyncio.gather(*(client.call_tool("ls", {}) for _ in range(200)))

    assert sum(not result.isError for result in talk(server, work)) == 50
    assert len(server.ran) == 50


# -- registration


def test_handlers_that_come_later_are_guarded():
    server = guard_server(Server("files"), Recorder({"ls": {}}))
    ran = []

    @server.list_tools()
    async def list_tools() -> list[types.Tool]:
        return [types.Tool(name=name, inputSchema={"type": "object"}) for name in ("ls", "rm")]

    @server.call_tool()
    async def call_tool(name: str, arguments: dict[str, Any]) -> list[types.TextContent]:
        ran.append(name)
        return []

    assert listed(server) == ["ls"]
    refused(ask(server, "rm"), "deny", "default_deny")
    assert not ask(server, "ls").isError
    assert ran == ["ls"]
    assert_all_guarded(server)


@pytest.mark.parametrize("way", ["update", "setdefault", "__ior__"])
def test_handlers_that_come_by_other_ways_are_guarded(way):
    source, server = low(), guard_server(low(), Recorder({"ls": {}}))
    handler = source.request_handlers[types.CallToolRequest]
    if way == "setdefault":
        del server.request_handlers[types.CallToolRequest]
        server.request_handlers.setdefault(types.CallToolRequest, handler)
    else:
        getattr(server.request_handlers, way)({types.CallToolRequest: handler})
    refused(ask(server, "rm"), "deny", "default_deny")
    assert source.ran == []


def test_tools_that_come_later_are_guarded():
    server = guard_server(high(), Recorder({"ls": {}}))
    server.add_tool(lambda: "x", name="late")
    refused(ask(server, "late"), "deny", "default_deny")


def test_tasks_are_judged_before_they_begin():
    """A call that asks to be run in the background comes through the same handler."""
    server = guard_server(low(), Recorder({"ls": {}}))

    async def work(client: ClientSession) -> Any:
        params = types.CallToolRequestParams(name="rm", arguments={}, task=types.TaskMetadata(ttl=1000))
        request = types.ClientRequest(types.CallToolRequest(params=params))
        return await client.send_request(request, types.CallToolResult)

    refused(talk(server, work), "deny", "default_deny")
    assert server.ran == []


@pytest.mark.parametrize("bad", [object(), None, "server"])
def test_what_is_no_server_is_refused(bad):
    with pytest.raises(TypeError, match=r"takes a `Server` or `FastMCP` of the MCP SDK 1\.x"):
        guard_server(bad, Recorder())


def test_a_server_is_guarded_once(make):
    server = guard_server(make(), Recorder())
    with pytest.raises(ValueError, match="guarded already"):
        guard_server(server, Recorder())


def test_resources_and_prompts_are_left_alone():
    server = high()

    @server.resource("note://one")
    def note() -> str:
        return "text"

    @server.prompt()
    def greet() -> str:
        return "hello"

    guard_server(server, Recorder({}))

    async def work(client: ClientSession) -> tuple[int, int]:
        return len((await client.list_resources()).resources), len((await client.list_prompts()).prompts)

    assert talk(server, work) == (1, 1)


# -- failures


def test_an_identity_that_raises_denies(make):
    def broken(context: Any) -> Any:
        raise RuntimeError("no directory")

    server = guard_server(make(), Recorder(), identity=broken)
    refused(ask(server, "ls"), "deny", "internal_error")
    assert listed(server) == []
    assert server.ran == []


def test_what_is_no_list_cannot_be_filtered():
    async def odd(request: Any) -> Any:
        return types.ServerResult(types.EmptyResult())

    server = guard_server(low(), Recorder())
    server.request_handlers[types.ListToolsRequest] = odd
    with pytest.raises(TypeError, match="cannot be filtered"):
        asyncio.run(server.request_handlers[types.ListToolsRequest](types.ListToolsRequest()))


def test_the_sdks_own_list_stays_whole(make):
    server = guard_server(make(), Recorder({"ls": {}}))
    handlers = (server if make is low else server._mcp_server).request_handlers
    whole = asyncio.run(handlers[types.ListToolsRequest](None)).root.tools
    assert len(whole) == (3 if make is high else 1)  # a page of one


# -- categories


def test_categories_come_from_the_servers_definitions():
    server = guard_server(high(), Recorder(categories={"destructive": {"action": "deny"}, "read": {}}, default="deny"))

    @server.tool()
    def delete_file(path: str) -> str:
        """Delete a file for good."""
        server.ran.append("deleted")
        return path

    refused(ask(server, "delete_file", {"path": "/x"}), "deny", "denied_by_rule")
    assert "delete_file" not in listed(server)
    assert server.ran == []


# -- approvals


def answering(action: str, content: Any = None) -> Any:
    async def person(context: Any, params: Any) -> types.ElicitResult:
        return types.ElicitResult(action=action, content=content)

    return person


ASK = {"rm": {"action": "approve"}}


def test_a_person_is_asked_in_the_middle_of_the_call(make):
    server = guard_server(make(), Recorder(ASK), approver=ask_client())
    yes = answering("accept", {"approve": True})
    assert not ask(server, "rm", {"path": "/x"}, elicitation_callback=yes).isError
    assert len(server.ran) == 1
    refused(
        ask(server, "rm", {"path": "/y"}, elicitation_callback=answering("decline")), "approve", "approval_rejected"
    )
    told = refused(ask(server, "rm", {"path": "/z"}), "approve", "approval_required")
    assert "the client cannot show a form" in told
    assert len(server.ran) == 1


def test_a_call_waits_for_whoever_decides(make):
    engine = Recorder(ASK)

    async def sleep(_: float) -> None:
        (record,) = engine._approvals.pending()
        engine.approve(record.id, by="dana")

    server = guard_server(make(), engine, approver=wait_for_decision(sleep=sleep))
    assert not ask(server, "rm", {"path": "/x"}).isError


# -- proof


def test_whether_all_is_guarded_can_be_proved(make):
    with pytest.raises(UnguardedTools, match="the server has no guard"):
        assert_all_guarded(make())
    server = guard_server(make(), Recorder())
    assert [access.tool for access in guarded_tools(server)] == list(TOOLS)
    assert_all_guarded(server)
    lowlevel = server if make is low else server._mcp_server
    lowlevel.request_handlers = {}
    with pytest.raises(UnguardedTools, match="put past the guard"):
        assert_all_guarded(server)


# -- who calls, over HTTP

TWO = {"ls": {"rate_limit": {"max": 2, "window": 60}}}
BASE = "http://127.0.0.1:8000"


class Verifier:
    async def verify_token(self, token: str) -> AccessToken | None:
        return AccessToken(
            token=token, client_id="app", scopes=["read"], subject=token, claims={"iss": "https://id.example"}
        )


def http_server(engine: Any, *, auth: bool, stateless: bool) -> FastMCP:
    settings = AuthSettings(issuer_url=BASE, resource_server_url=BASE, validate_token_resource=False) if auth else None
    server = FastMCP(
        "files",
        auth=settings,
        token_verifier=Verifier() if auth else None,
        stateless_http=stateless,
        json_response=True,
        log_level="CRITICAL",
    )

    @server.tool()
    def ls() -> str:
        return "/"

    return guard_server(server, engine)


@contextlib.asynccontextmanager
async def over_http(app: Any, headers: dict[str, str] | None = None) -> AsyncIterator[ClientSession]:
    transport = httpx.ASGITransport(app=app)
    async with (
        httpx.AsyncClient(transport=transport, base_url=BASE, headers=headers) as http,
        streamable_http_client(f"{BASE}/mcp", http_client=http) as (read, write, _),
        ClientSession(read, write) as session,
    ):
        await session.initialize()
        yield session


def attempts(
    engine: Any, connections: list[dict[str, str]], calls: int = 1, *, auth=False, stateless=False
) -> list[bool]:
    async def run() -> list[bool]:
        server = http_server(engine, auth=auth, stateless=stateless)
        app = server.streamable_http_app()
        ran = []
        async with app.router.lifespan_context(app):
            for headers in connections:
                async with over_http(app, headers) as client:
                    ran += [not (await client.call_tool("ls", {})).isError for _ in range(calls)]
        return ran

    return asyncio.run(run())


def test_a_session_that_the_server_keeps_is_an_identity():
    engine = Recorder(TWO)
    assert attempts(engine, [{}, {}], calls=3) == [True, True, False] * 2
    sessions = {call.session for call in engine.calls}
    assert len(sessions) == 2
    assert all(session.startswith("session:") for session in sessions)


def test_requests_to_a_stateless_server_share_one_count():
    engine = Recorder(TWO)
    forged = [{"mcp-session-id": f"mine-{number}", "x-user": str(number)} for number in range(4)]
    assert attempts(engine, forged, stateless=True) == [True, True, False, False]
    assert {(call.session, call.principal) for call in engine.calls} == {(None, None)}


@pytest.mark.parametrize("stateless", [False, True])
def test_users_are_told_apart_by_their_tokens(stateless):
    engine = Recorder({"ls": {"rate_limit": {"max": 2, "window": 60, "per": "principal"}}})
    connections = [{"Authorization": f"Bearer {name}"} for name in ("ann", "ann", "ann", "bob")]
    assert attempts(engine, connections, auth=True, stateless=stateless) == [True, True, False, True]
    assert {call.principal.id for call in engine.calls} == {"ann", "bob"}
    assert engine.calls[0].principal.issuer == "https://id.example"


def test_a_host_can_say_who_calls(make):
    engine = Recorder()
    ann = Principal("ann")
    ask(guard_server(make(), engine, identity=lambda context: (ann, "s1")), "ls")
    assert (engine.calls[0].principal, engine.calls[0].session) == (ann, "s1")


def test_over_memory_the_process_is_the_session(make):
    engine = Recorder()
    ask(guard_server(make(), engine), "ls")
    assert (engine.calls[0].principal, engine.calls[0].session) == (None, "process")


def test_the_context_is_that_of_the_request(make):
    seen = []
    ask(guard_server(make(), Recorder(), identity=lambda context: seen.append(context) or (None, None)), "ls")
    assert seen
    with pytest.raises(LookupError):
        request_ctx.get()
