"""The adapter for the MCP SDK 1.x, between real servers and a real client. Run by the `mcp1` session of `noxfile.py`."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import uvicorn
from mcp import ClientSession, types
from mcp.client import streamable_http
from mcp.server.auth.middleware.auth_context import auth_context_var
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.fastmcp import FastMCP
from mcp.server.fastmcp.exceptions import ToolError
from mcp.server.lowlevel import Server
from mcp.server.lowlevel.server import request_ctx
from mcp.shared.memory import create_connected_server_and_client_session as connected
from pydantic import BaseModel
from starlette.requests import Request

from mcp_policy import Policy, PolicyEngine, Principal
from mcp_policy.adapters import UnguardedTools, mcp_v1
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
        async with connected(getattr(server, "_mcp_server", server), **more) as client:
            return await work(client)

    return asyncio.run(run())


def ask(server: Any, tool: str, arguments: Any = None, **more: Any) -> types.CallToolResult:
    return talk(server, lambda client: client.call_tool(tool, arguments or {}), **more)


def bluntly(server: Any, tool: str, arguments: Any = None) -> types.CallToolResult:
    """As `ask`, with a client that does not look the tool up in the server's list afterwards."""
    params = types.CallToolRequestParams(name=tool, arguments=arguments or {})
    request = types.ClientRequest(types.CallToolRequest(method="tools/call", params=params))
    return talk(server, lambda client: client.send_request(request, types.CallToolResult))


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
    assert hidden.model_dump_json() == ask(high(without="rm"), "rm").model_dump_json(), "which is the SDK's own answer"
    assert text(hidden) == "Unknown tool: rm"


@pytest.mark.parametrize("name", ["nope", "", "x" * 300, "r\u0000m", "RM"])
def test_what_the_server_does_not_have_is_unknown_whatever_the_policy_says(make, name):
    engine = Recorder({"*": {"action": "approve"}})
    assert ask(guard_server(make(), engine), name).model_dump_json() == ask(high(), name).model_dump_json()
    assert not engine.calls


def test_a_server_without_a_list_is_taken_to_have_every_tool():
    server = low()
    del server.request_handlers[types.ListToolsRequest]
    guard_server(server, Recorder({"ls": {}, "rm": {"action": "deny"}}, hide=["fail"]))
    assert not bluntly(server, "ls").isError
    refused(bluntly(server, "rm"), "deny", "denied_by_rule")
    assert text(bluntly(server, "fail")) == "Unknown tool: fail"


def test_a_server_that_cannot_list_still_refuses(caplog):
    async def broken(request: Any) -> Any:
        raise RuntimeError("no catalogue")

    server = guard_server(low(), Recorder({"ls": {}}, hide=["fail"]))
    server.request_handlers[types.ListToolsRequest] = broken
    refused(bluntly(server, "rm"), "deny", "default_deny")
    assert text(bluntly(server, "fail")) == "Unknown tool: fail"
    assert server.ran == []
    assert "no catalogue" in caplog.text


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


def test_what_is_judged_is_what_runs():
    engine = Recorder({"ls": {}})
    server = guard_server(high(), engine)
    ask(server, "ls", {"path": "/srv"})
    assert engine.calls[0].arguments == {"path": "/srv"}
    assert engine.calls[0].server == "files"


def test_a_change_while_it_is_decided_changes_nothing():
    asked, seen = [], []

    def identity(context: Any) -> tuple[None, None]:
        asked[-1].params.arguments["ids"][0] = "root"
        return None, None

    async def handler(request: types.CallToolRequest) -> types.ServerResult:
        seen.append(request.params.arguments["ids"][0])
        return types.ServerResult(types.CallToolResult(content=[]))

    engine = Recorder({"tool": {"require": [{"path": "args.ids[0]", "op": "eq", "value": "guest"}]}})
    server = Server("s")
    server.request_handlers[types.CallToolRequest] = handler
    guard_server(server, engine, identity=identity)
    guarded = server.request_handlers[types.CallToolRequest]

    async def first(request: types.CallToolRequest) -> types.ServerResult:
        asked.append(request)
        return await guarded(request)

    server._mcp_policy_guard.handlers.data[types.CallToolRequest] = first
    assert not bluntly(server, "tool", {"ids": ["guest"]}).isError
    assert seen == ["guest"]


def test_a_result_that_says_so_is_a_failure():
    server, limit = low(), {"max": 1, "window": 60, "refund_on_error": True}
    guard_server(server, Recorder({"ls": {"limits": [limit]}}))

    async def work(client: ClientSession) -> list[str]:
        calls = [{"times": "x"}, {"times": "x"}, {"times": 1}, {"times": 1}]  # the SDK refuses the first two
        return [text(await client.call_tool("ls", arguments)) for arguments in calls]

    bad, again, fine, over = talk(server, work)
    assert bad == again
    assert bad.startswith("Input validation error")
    assert fine.startswith("ls ")
    assert over.startswith("[POLICY LIMIT]")
    assert len(server.ran) == 1


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


@pytest.mark.parametrize("rebuilt", [False, True])
def test_a_handler_around_a_guarded_one_is_one_call(rebuilt):
    engine = Recorder({"ls": {"rate_limit": {"max": 1, "window": 60}}, "rm": {"action": "deny"}})
    server = guard_server(low(), engine)
    call, lists = (server.request_handlers[kind] for kind in (types.CallToolRequest, types.ListToolsRequest))

    async def around(request: types.CallToolRequest) -> Any:
        again = types.CallToolRequest.model_validate(request.model_dump()) if rebuilt else request
        return await call(again)

    async def around_list(request: types.ListToolsRequest) -> Any:
        return await lists(request)

    server.request_handlers.update({types.CallToolRequest: around, types.ListToolsRequest: around_list})

    async def work(client: ClientSession) -> list[str]:
        return [text(await client.call_tool(tool, {"times": 1})) for tool in ("ls", "ls", "rm")]

    first, second, third = talk(server, work)
    assert first.startswith("ls ")
    assert second.startswith("[POLICY LIMIT]")
    assert third.startswith("[POLICY DENIED]")
    assert len(engine.calls) == 3
    assert listed(server) == ["ls"]
    assert_all_guarded(server)


@pytest.mark.parametrize("arguments", [{"times": True}, {"times": 1, "path": "/"}, {}])
def test_a_handler_that_makes_another_call_of_it_is_judged_again(arguments):
    engine = Recorder({"ls": {"require": [{"path": "args", "op": "eq", "value": {"times": 1}}]}})
    server = guard_server(low(), engine)
    call = server.request_handlers[types.CallToolRequest]

    async def around(request: types.CallToolRequest) -> Any:
        params = request.params.model_copy(update={"arguments": arguments})
        return await call(request.model_copy(update={"params": params}))

    server.request_handlers[types.CallToolRequest] = around
    assert text(ask(server, "ls", {"times": 1})).startswith("[POLICY DENIED]")
    assert len(engine.calls) == 2
    assert server.ran == []


def test_tools_that_come_later_are_guarded():
    server = guard_server(high(), Recorder({"ls": {}}))
    server.add_tool(lambda: "x", name="late")
    refused(ask(server, "late"), "deny", "default_deny")


@pytest.mark.filterwarnings("ignore:The experimental tasks API is deprecated")
@pytest.mark.parametrize("enabled", ["before", "after"])
def test_a_call_that_asks_to_run_as_a_task_is_a_call(enabled):
    server, began = low(), []
    if enabled == "before":
        server.experimental.enable_tasks()
    guard_server(server, Recorder({"ls": {"rate_limit": {"max": 1, "window": 60}}, "fail": {}}, hide=["rm"]))
    if enabled == "after":
        server.experimental.enable_tasks()

    @server.call_tool()
    async def call_tool(name: str, arguments: dict[str, Any]) -> Any:
        async def work(task: Any) -> types.CallToolResult:
            began.append(name)
            return types.CallToolResult(content=[])

        return await server.request_context.experimental.run_task(work)

    async def work(client: ClientSession) -> list[Any]:
        return [await client.send_request(as_task(name), types.Result) for name in ("ls", "ls", "rm", "none")]

    started, limited, hidden, unknown = (answer.model_dump() for answer in talk(server, work))
    assert started["task"]["status"] == "working"
    assert limited["content"][0]["text"].startswith("[POLICY LIMIT]")
    assert hidden["content"][0]["text"] == "Unknown tool: rm"
    assert unknown["content"][0]["text"] == "Unknown tool: none"
    assert set(began) <= {"ls"}
    assert types.GetTaskRequest in server.request_handlers
    assert_all_guarded(server)


def as_task(name: str) -> types.ClientRequest:
    params = types.CallToolRequestParams(name=name, arguments={}, task=types.TaskMetadata(ttl=1000))
    return types.ClientRequest(types.CallToolRequest(params=params))


@pytest.mark.parametrize("bad", [object(), None, "server"])
def test_what_is_no_server_is_refused(bad):
    with pytest.raises(TypeError, match=r"takes a `Server` or `FastMCP` of the MCP SDK 1\.x"):
        guard_server(bad, Recorder())


def test_a_server_is_guarded_once(make):
    server = guard_server(make(), Recorder())
    with pytest.raises(ValueError, match="guarded already"):
        guard_server(server, Recorder())


@pytest.mark.parametrize("found", ["1.9.4", "0.9", "2.0.0", "2.3.1", "unknown"])
def test_other_versions_are_refused(make, monkeypatch, found):
    monkeypatch.setattr(mcp_v1, "version", lambda _: found)
    server = make()
    with pytest.raises(RuntimeError, match=rf"mcp {found} is installed; this adapter guards 1\.10 and later, below 2"):
        guard_server(server, Recorder())


def test_handlers_of_an_unknown_kind_are_refused():
    class Handlers(dict):
        pass

    server = low()
    server.request_handlers = Handlers(server.request_handlers)
    with pytest.raises(RuntimeError, match="stand in a `Handlers`, not in a `dict`"):
        guard_server(server, Recorder())


@pytest.mark.parametrize("base", [object, Server])
def test_servers_of_fastmcp_have_their_own_adapter(base):
    theirs = type("FastMCP", (base,), {"__module__": "fastmcp.server.server", "__init__": lambda self: None})
    with pytest.raises(TypeError, match=r"use `PolicyMiddleware` of `mcp_policy\.adapters\.fastmcp`"):
        guard_server(type("Mine", (theirs,), {})(), Recorder())


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
        asyncio.run(server.request_handlers[types.ListToolsRequest](types.ListToolsRequest(method="tools/list")))


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
    with pytest.raises(UnguardedTools, match="the server's handlers were put past the guard"):
        assert_all_guarded(server)
    handlers = lowlevel._mcp_policy_guard.handlers
    lowlevel.request_handlers = handlers
    assert_all_guarded(server)
    handlers.data[types.CallToolRequest] = handlers.data[types.PingRequest]
    with pytest.raises(UnguardedTools, match="the handler of `tools/call` was put past the guard"):
        assert_all_guarded(server)


# -- who calls, over HTTP

TWO = {"ls": {"rate_limit": {"max": 2, "window": 60}}}
BASE = "http://127.0.0.1:8000"


class Verifier:
    async def verify_token(self, token: str) -> AccessToken | None:
        known = {"subject": token, "claims": {"iss": "https://id.example"}}
        return AccessToken(token=token, client_id="app", scopes=["read"], **known)


def http_server(engine: Any, *, auth: bool = False, stateless: bool = False, json: bool = True, **more: Any) -> FastMCP:
    settings = AuthSettings(issuer_url=BASE, resource_server_url=BASE, validate_token_resource=False) if auth else None
    server = FastMCP(
        "files",
        auth=settings,
        token_verifier=Verifier() if auth else None,
        stateless_http=stateless,
        json_response=json,
        log_level="CRITICAL",
    )

    @server.tool()
    def ls() -> str:
        return "/"

    return guard_server(server, engine, **more)


@contextlib.asynccontextmanager
async def over_http(
    url: str, transport: Any = None, headers: dict[str, str] | None = None, **more: Any
) -> AsyncIterator[ClientSession]:
    async with contextlib.AsyncExitStack() as stack:
        if hasattr(streamable_http, "streamable_http_client"):
            http = await stack.enter_async_context(httpx.AsyncClient(transport=transport, headers=headers))
            connection = streamable_http.streamable_http_client(url, http_client=http)
        else:  # an older version

            def client(headers: Any = None, timeout: Any = None, auth: Any = None) -> httpx.AsyncClient:
                return httpx.AsyncClient(transport=transport, headers=headers, follow_redirects=True)

            connection = streamable_http.streamablehttp_client(url, headers, httpx_client_factory=client)
        read, write, _ = await stack.enter_async_context(connection)
        session = await stack.enter_async_context(ClientSession(read, write, **more))
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
                async with over_http(f"{BASE}/mcp", httpx.ASGITransport(app=app), headers) as client:
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
    assert engine.calls[0].principal.client == "app"


class OldToken(BaseModel):
    """What a token was before it knew users."""

    client_id: str = "app"
    scopes: list[str] = ["read"]


class OldTokenOfAUser(OldToken):
    subject: str = "ann"


@pytest.mark.parametrize(("token", "id"), [(OldToken(), "client:app"), (OldTokenOfAUser(), "ann")])
def test_a_token_of_an_older_version_stands_for_what_it_names(make, token, id):
    engine = Recorder()
    user = AuthenticatedUser.__new__(AuthenticatedUser)
    user.access_token = token
    server = guard_server(make(), engine, identity=lambda context: mcp_v1.identify(requested_by(user, context)))
    assert not ask(server, "ls").isError
    assert (engine.calls[0].principal.id, engine.calls[0].principal.client) == (id, "app")


def requested_by(user: Any, context: Any) -> Any:
    return dataclasses.replace(context, request=Request({"type": "http", "user": user}))


def test_who_calls_is_not_whoever_began_the_session():
    """Over HTTP the SDK's context variable is that of the session's first request."""
    engine = Recorder()
    auth_context_var.set(None)
    bob = AuthenticatedUser(AccessToken(token="bob", client_id="bob", scopes=[]))

    async def run() -> None:
        begun = auth_context_var.set(AuthenticatedUser(AccessToken(token="ann", client_id="ann", scopes=[])))
        server = guard_server(high(), engine, identity=lambda context: mcp_v1.identify(requested_by(bob, context)))
        async with connected(server._mcp_server) as client:
            await client.call_tool("ls", {})
        auth_context_var.reset(begun)

    asyncio.run(run())
    assert engine.calls[0].principal.client == "bob"


# -- approvals, over HTTP


@contextlib.asynccontextmanager
async def served(server: FastMCP) -> AsyncIterator[str]:
    """Serve at a port of its own: answers that come bit by bit need a real connection."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(server.streamable_http_app(), log_level="critical", lifespan="on")
    serving = uvicorn.Server(config)
    task = asyncio.create_task(serving.serve(sockets=[listening]))
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/mcp"
    finally:
        serving.should_exit = True
        await task
        listening.close()


@pytest.mark.parametrize("stateless", [False, True])
def test_a_person_is_asked_over_http_where_there_is_a_way_back(stateless):
    server = http_server(
        Recorder({"ls": {"action": "approve"}}), stateless=stateless, json=False, approver=ask_client()
    )
    yes = answering("accept", {"approve": True})

    async def run() -> types.CallToolResult:
        async with served(server) as url, over_http(url, elicitation_callback=yes) as client:
            return await client.call_tool("ls", {})

    result = asyncio.run(run())
    if stateless:
        assert "nobody has approved this call" in refused(result, "approve", "approval_required")
    else:
        assert text(result) == "/"


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
