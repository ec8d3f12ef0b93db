"""The adapter for the MCP SDK 2.x, between real servers and a real client, in both protocol eras."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import mcp_types as types
import pytest
from fastmcp import FastMCP
from mcp import Client, MCPError
from mcp.server.auth.middleware.auth_context import auth_context_var
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.caching import CacheHint
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError

from integration.stacks import ERAS, MODERN, Recorder, facts, refused, same_as, text, wire
from mcp_policy.adapters.mcp import guard_server, identify
from mcp_policy.call import Principal
from mcp_policy.guard import Guard

TOOLS = ("ls", "rm", "fail")
PUBLIC = {"tools/list": CacheHint(ttl_ms=60_000, scope="public")}


@pytest.fixture(autouse=True)
def quiet():
    logging.getLogger("mcp.server").setLevel(logging.CRITICAL)


@pytest.fixture(params=ERAS)
def era(request) -> str:
    return request.param


def high(without: str = "") -> MCPServer:
    """Return an `MCPServer` of a few tools."""
    server = MCPServer("files", cache_hints=PUBLIC)
    server.ran = []

    def ls(path: str = "/") -> str:
        server.ran.append(("ls", path))
        return path

    async def rm(path: str, times: int = 1) -> str:
        server.ran.append(("rm", path))
        return f"gone {path} {times}"

    def fail(how: str) -> str:
        if how == "raise":
            raise ToolError("failed")
        return "fine"

    for tool in (ls, rm, fail):
        if tool.__name__ != without:
            server.add_tool(tool)
    return server


def low(without: str = "") -> Server:
    """Return a lowlevel `Server` of the same tools, listed in pages of one."""
    names = [name for name in TOOLS if name != without]

    async def list_tools(ctx: Any, params: Any) -> types.ListToolsResult:
        page = int(params.cursor or 0)
        tool = types.Tool(name=names[page], input_schema={"type": "object"})
        following = str(page + 1) if page + 1 < len(names) else None
        return types.ListToolsResult(tools=[tool], next_cursor=following)

    async def call_tool(ctx: Any, params: types.CallToolRequestParams) -> Any:
        given = params.arguments or {}
        if given.get("how") == "raise":
            raise RuntimeError("failed")
        if params.name not in names:
            return said(f"no tool of that name: {params.name}", is_error=True)
        server.ran.append((params.name, given.get("path", "/")))
        return said(f"{params.name} {given}", is_error=given.get("how") == "result")

    server = Server("files", on_list_tools=list_tools, on_call_tool=call_tool, cache_hints=PUBLIC)
    server.ran = []
    return server


def said(what: str, *, is_error: bool = False) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(type="text", text=what)], is_error=is_error)


@pytest.fixture(params=[high, low], ids=["MCPServer", "Server"])
def make(request) -> Any:
    return request.param


def ask(server: Any, tool: str, arguments: dict[str, Any] | None = None, era: str = MODERN) -> Any:
    return asyncio.run(asks(server, [(tool, arguments or {})], era))[0]


def ask_bluntly(server: Any, tool: str, arguments: dict[str, Any] | None = None, era: str = MODERN) -> Any:
    """As `ask`, with a client that does not look the tool up in the server's list afterwards."""

    async def once() -> Any:
        async with Client(server, mode=era, cache=None) as client:
            params = types.CallToolRequestParams(name=tool, arguments=arguments or {})
            return await client.session.send_request(types.CallToolRequest(params=params), types.CallToolResult)

    return asyncio.run(once())


async def asks(server: Any, calls: list[tuple[str, dict[str, Any]]], era: str = MODERN) -> list[Any]:
    async with Client(server, mode=era, cache=None) as client:
        return [await client.call_tool(tool, arguments) for tool, arguments in calls]


def lists(server: Any, era: str = MODERN) -> list[Any]:
    async def once() -> list[Any]:
        async with Client(server, mode=era, cache=None) as client:
            pages = [await client.list_tools()]
            while pages[-1].next_cursor:
                pages.append(await client.list_tools(cursor=pages[-1].next_cursor))
            return pages

    return asyncio.run(once())


def listed(server: Any, era: str = MODERN) -> list[str]:
    return [tool.name for page in lists(server, era) for tool in page.tools]


# -- lists


def test_lists_show_what_may_ever_be_called(make, era):
    engine = Recorder({"ls": {}, "rm": {"action": "deny"}, "fail": {"rate_limit": {"max": 0, "window": 60}}})
    assert listed(guard_server(make(), engine), era) == ["ls", "fail"]
    assert listed(guard_server(make(), Recorder(hide=["l*"])), era) == ["rm", "fail"]
    assert listed(guard_server(make(), Recorder({})), era) == []
    assert not engine.calls


def test_filtered_lists_are_private(make):
    assert {page.cache_scope for page in lists(make())} == {"public"}
    guarded = lists(guard_server(make(), Recorder()))
    assert {page.cache_scope for page in guarded} == {"private"}
    assert guarded[0].ttl_ms == 60_000


def test_a_handler_cannot_make_a_filtered_list_public():
    server = low()

    async def list_tools(ctx: Any, params: Any) -> types.ListToolsResult:
        tool = types.Tool(name="ls", input_schema={"type": "object"})
        return types.ListToolsResult(tools=[tool], cache_scope="public", ttl_ms=5)

    server.add_request_handler("tools/list", types.PaginatedRequestParams, list_tools)
    (page,) = lists(guard_server(server, Recorder()))
    assert (page.cache_scope, page.ttl_ms) == ("private", 5)


def test_lists_may_be_plain_mappings(era):
    server = low()

    async def list_tools(ctx: Any, params: Any) -> dict[str, Any]:
        tools = [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS]
        return {"tools": tools, "resultType": "complete"}

    server.add_request_handler("tools/list", types.PaginatedRequestParams, list_tools)
    guard_server(server, Recorder({"rm": {}}))
    (page,) = lists(server, era)
    assert [tool.name for tool in page.tools] == ["rm"]
    assert page.cache_scope == "private"
    assert text(ask(server, "ls", {}, era)).startswith("[POLICY DENIED]")


def test_a_caller_that_cannot_be_found_out_sees_nothing(make, caplog):
    def fails(_: Any) -> Any:
        raise RuntimeError("directory down")

    assert listed(guard_server(make(), Recorder(), identity=fails)) == []
    assert "directory down" in caplog.text


# -- answers


def test_an_allowed_call_is_untouched(make, era):
    plain = ask(make(), "ls", {"path": "/tmp"}, era)
    guarded = ask(guard_server(make(), Recorder({"ls": {}})), "ls", {"path": "/tmp"}, era)
    assert same_as(plain, guarded)


def test_a_refusal_is_a_result_that_says_why(make, era):
    server = guard_server(make(), Recorder({"ls": {}, "rm": {"action": "deny", "reason": "files stay"}}))
    result = ask(server, "rm", {"path": "/s3cret"}, era)
    assert refused(result, "deny", "denied_by_rule") == "[POLICY DENIED] files stay."
    assert "s3cret" not in str(wire(result))
    refused(ask(server, "fail", {"how": "raise"}, era), "deny", "default_deny")
    assert not server.ran


@pytest.mark.parametrize("default", ["allow", "deny"])
def test_a_hidden_tool_is_answered_as_an_unknown_one(make, era, default):
    def guarded(**settings: Any) -> Any:
        return guard_server(make(settings.pop("without", "")), Recorder({"*": {}}, default=default, **settings))

    for arguments in ({"path": "/"}, {}, {"nonsense": [1]}):
        hidden = ask(guarded(hide=["rm"]), "rm", arguments, era)
        assert same_as(hidden, ask(guarded(without="rm"), "rm", arguments, era))
        assert same_as(hidden, ask(high(without="rm"), "rm", arguments, era)), "which is the SDK's own answer"
        assert text(hidden) == "Unknown tool: rm"
        assert facts(hidden) is None


@pytest.mark.parametrize(
    "rule", [{"action": "deny"}, {"action": "approve"}, {"rate_limit": {"max": 0, "window": 1}}, None]
)
@pytest.mark.parametrize("name", ["nope", "", "x" * 300, "r\u0000m", "RM"])
def test_what_the_server_does_not_have_is_unknown_whatever_the_policy_says(make, rule, name):
    engine = Recorder({"*": rule} if rule else {})
    assert same_as(ask(guard_server(make(), engine), name), ask(high(), name))
    assert not engine.calls


def test_a_lowlevel_server_never_sees_a_tool_that_it_does_not_list(era):
    server = guard_server(low(), Recorder())
    assert text(ask(server, "unlisted", {}, era)) == "Unknown tool: unlisted"
    assert not server.ran


def test_a_server_without_a_list_is_taken_to_have_every_tool(era):
    server = low()
    del server._request_handlers["tools/list"]
    guard_server(server, Recorder({"ls": {}, "rm": {"action": "deny"}}, hide=["fail"]))
    assert text(ask_bluntly(server, "ls", {}, era)) == "ls {}"
    refused(ask_bluntly(server, "rm", {}, era), "deny", "denied_by_rule")
    assert text(ask_bluntly(server, "fail", {}, era)) == "Unknown tool: fail"


def test_a_server_that_cannot_list_still_refuses(caplog):
    async def broken(ctx: Any, params: Any) -> Any:
        raise RuntimeError("no catalogue")

    server = low()
    server.add_request_handler("tools/list", types.PaginatedRequestParams, broken)
    guard_server(server, Recorder({"ls": {}}, hide=["fail"]))
    refused(ask_bluntly(server, "rm"), "deny", "default_deny")
    assert text(ask_bluntly(server, "fail")) == "Unknown tool: fail"
    assert text(ask_bluntly(server, "ls")) == "ls {}"
    assert "no catalogue" in caplog.text


def test_a_tool_that_is_gone_is_unknown_and_a_new_one_is_known():
    server = guard_server(high(), Recorder({"ls": {}, "*": {"action": "deny"}}))

    def new() -> None: ...

    async def over_time() -> list[Any]:
        async with Client(server, cache=None) as client:
            before = [await client.call_tool(tool, {}) for tool in ("rm", "new")]
            server.remove_tool("rm")
            server.add_tool(new)
            return before + [await client.call_tool(tool, {}) for tool in ("rm", "new")]

    rm, unknown, gone, there = map(text, asyncio.run(over_time()))
    assert (unknown, gone) == ("Unknown tool: new", "Unknown tool: rm")
    assert rm.startswith("[POLICY DENIED]")
    assert there.startswith("[POLICY DENIED]")


# -- what is judged is what runs


def test_wire_values_are_judged_before_anything_is_coerced(era):
    engine = Recorder({"rm": {"require": [{"path": "args.times", "op": "lte", "value": 3}]}})
    server = guard_server(high(), engine)
    assert text(ask(server, "rm", {"path": "/", "times": 3}, era)) == "gone / 3"
    refused(ask(server, "rm", {"path": "/", "times": "3"}, era), "deny", "type_mismatch")
    refused(ask(server, "rm", {"path": "/", "times": True}, era), "deny", "type_mismatch")


def test_a_change_while_it_is_decided_changes_nothing(era):
    seen = []

    def identity(context: Any) -> tuple[None, None]:
        if context.method == "tools/call":
            context.params["arguments"]["ids"][0] = "root"
        return None, None

    async def call_tool(ctx: Any, params: Any) -> types.CallToolResult:
        seen.append((params.arguments["ids"][0], ctx.params["arguments"]["ids"][0]))
        return said("ok")

    engine = Recorder({"tool": {"require": [{"path": "args.ids[0]", "op": "eq", "value": "guest"}]}})
    server = guard_server(Server("s", on_call_tool=call_tool), engine, identity=identity)
    assert text(ask_bluntly(server, "tool", {"ids": ["guest"]}, era)) == "ok"
    assert seen == [("guest", "guest")]


# -- limits, approvals, refunds


def test_limits_say_when_to_retry(make, era):
    server = guard_server(make(), Recorder({"ls": {"rate_limit": {"max": 2, "window": 60}}}))
    first, second, third = asyncio.run(asks(server, [("ls", {})] * 3, era))
    assert not first.is_error
    assert not second.is_error
    assert refused(third, "limit", "rate_limited").endswith("Retry in 60 s.")
    assert facts(third)["retry_after"] == 60.0
    assert "ls" in listed(server, era)


def test_approvals_are_for_exactly_one_call(make, era):
    engine = Recorder({"rm": {"action": "approve"}})
    server = guard_server(make(), engine)

    async def calls() -> None:
        async with Client(server, mode=era, cache=None) as client:

            async def rm(path: str) -> Any:
                return await client.call_tool("rm", {"path": path})

            waits = await rm("/a")
            approval = facts(waits)["approval_id"]
            assert refused(waits, "approve", "approval_required").endswith(f"Approval id: {approval}")
            engine.approve(approval, by="ann")
            assert facts(await rm("/b"))["approval_id"] != approval
            assert not (await rm("/a")).is_error
            assert facts(await rm("/a"))["approval_id"] != approval
            assert server.ran == [("rm", "/a")]

    asyncio.run(calls())


@pytest.mark.parametrize("how", ["raise", "result", "fine"])
@pytest.mark.parametrize("refund", [True, False])
def test_failed_calls_give_their_cost_back_where_the_limit_says_so(make, era, how, refund):
    if make is high and how == "result":
        how = "raise"
    limit = {"max": 1, "window": 60, "refund_on_error": refund}
    server = guard_server(make(), Recorder({"fail": {"rate_limit": limit}}))

    async def calls() -> Any:
        async with Client(server, mode=era, cache=None) as client:
            try:
                await client.call_tool("fail", {"how": how})
            except MCPError:
                assert (make, how) == (low, "raise")
            try:
                return facts(await client.call_tool("fail", {"how": how})) is None
            except MCPError:
                return True

    assert asyncio.run(calls()) == (refund and how != "fine")


def test_results_may_be_plain_mappings(era):
    async def call_tool(ctx: Any, params: Any) -> dict[str, Any]:
        return {"content": [{"type": "text", "text": "failed"}], "isError": True, "resultType": "complete"}

    limit = {"max": 1, "window": 60, "refund_on_error": True}
    server = guard_server(Server("s", on_call_tool=call_tool), Recorder({"t": {"rate_limit": limit}}))
    answers = [ask_bluntly(server, "t", {}, era) for _ in range(2)]
    assert [text(answer) for answer in answers] == ["failed", "failed"]


@pytest.mark.parametrize("tool", ["ls", "rm"])
def test_200_calls_at_once_and_50_allowed(make, era, tool):
    server = guard_server(make(), Recorder({"*": {"rate_limit": {"max": 50, "window": 60}}}))

    async def calls() -> list[Any]:
        async with Client(server, mode=era, cache=None) as client:
            return await asyncio.gather(*(client.call_tool(tool, {"path": "/"}) for _ in range(200)))

    answers = asyncio.run(calls())
    assert sum(not answer.is_error for answer in answers) == 50
    assert len(server.ran) == 50


# -- who calls


def test_in_memory_there_is_one_session(make, era):
    engine = Recorder({"ls": {"rate_limit": {"max": 2, "window": 60}}})
    server = guard_server(make(), engine)
    answers = [ask(server, "ls", {}, era) for _ in range(3)]
    assert [answer.is_error for answer in answers] == [False, False, True]
    assert {(call.session, call.principal, call.server) for call in engine.calls} == {("process", None, "files")}


def test_the_host_may_say_who_calls(make):
    engine, seen = Recorder(), []

    def identity(context: Any) -> tuple[Principal, str]:
        seen.append(context.method)
        return Principal("ann"), "s1"

    ask(guard_server(make(), engine, server_name="archive", identity=identity), "ls")
    assert "tools/call" in seen
    assert (engine.calls[0].principal.id, engine.calls[0].session, engine.calls[0].server) == ("ann", "s1", "archive")


@pytest.mark.parametrize("wrong", [None, ("ann", None), RuntimeError("password hunter2")], ids=repr)
def test_an_identity_that_is_none_denies(make, wrong, caplog):
    def identity(_: Any) -> Any:
        if isinstance(wrong, Exception):
            raise wrong
        return wrong

    server = guard_server(make(), Recorder(hide=["rm"]), identity=identity)
    result = ask(server, "ls")
    assert facts(result)["codes"][0] in {"internal_error", "invalid_call"}
    assert "hunter2" not in str(wire(result))
    assert text(ask(server, "rm", {"path": "/"})) == "Unknown tool: rm"
    assert not server.ran


def test_the_request_knows_better_than_the_task_who_calls():
    def user(name: str) -> AuthenticatedUser:
        return AuthenticatedUser(AccessToken(token="t", client_id="app", scopes=[], subject=name))

    token = auth_context_var.set(user("left over"))
    try:
        for scope, expected in (({"user": user("ann")}, "ann"), ({}, None), ({"user": object()}, None)):
            principal, session = identify(SimpleNamespace(request=SimpleNamespace(scope=scope), session=None))
            assert (principal and principal.id) == expected
            assert session != "process"
        assert identify(SimpleNamespace(request=None, session=None)).principal.id == "left over"
    finally:
        auth_context_var.reset(token)


# -- installation


def test_the_server_comes_back_and_is_guarded_once(make):
    server = make()
    assert guard_server(server, Recorder()) is server
    with pytest.raises(ValueError, match="guarded already"):
        guard_server(server, Recorder())


@pytest.mark.parametrize("thing", [object(), None, "server", FastMCP("x")], ids=lambda thing: type(thing).__name__)
def test_only_servers_of_the_sdk_are_taken(thing):
    with pytest.raises(TypeError, match="MCP SDK 2"):
        guard_server(thing, Recorder())


def test_another_stack_is_pointed_to_its_own_adapter():
    with pytest.raises(TypeError, match="PolicyMiddleware"):
        guard_server(FastMCP("x"), Recorder())


def test_handlers_registered_later_are_guarded_too(era):
    server = guard_server(Server("files"), Recorder({"ls": {}, "rm": {"action": "deny"}}))
    donor = low()
    for method in ("tools/list", "tools/call"):
        entry = donor.get_request_handler(method)
        server.add_request_handler(method, entry.params_type, entry.handler)
    assert listed(server, era) == ["ls"]
    assert text(ask(server, "ls", {}, era)) == "ls {}"
    refused(ask(server, "rm", {}, era), "deny", "denied_by_rule")
    assert donor.ran == [("ls", "/")]


def test_other_methods_are_left_alone():
    async def ping(ctx: Any, params: Any) -> types.EmptyResult:
        return types.EmptyResult()

    server = guard_server(Server("s"), Recorder())
    server.add_request_handler("x/ping", types.RequestParams, ping)
    assert server.get_request_handler("x/ping").handler is ping


# -- the function guard under the SDK


def test_a_guard_above_the_tool_decorator_is_refused():
    server = MCPServer("s")

    with pytest.raises(TypeError, match=r"registered as a tool already.*put the guard below"):

        @Guard(Recorder())
        @server.tool()
        def rm() -> None: ...


def test_the_guard_keeps_the_schema():
    def tool() -> Any:
        async def pay(amount: int, ctx: Context, to: str = "ann") -> str:
            """Pay."""
            return f"{amount} to {to} {type(ctx).__name__}"

        return pay

    engine = Recorder({"pay": {"deny_if": [{"path": "args.amount", "op": "gt", "value": 100, "reason": "too much"}]}})
    plain, guarded = MCPServer("s"), MCPServer("s")
    plain.tool()(tool())
    guarded.tool()(Guard(engine)(tool()))
    assert [wire(t) for t in lists(plain)[0].tools] == [wire(t) for t in lists(guarded)[0].tools]
    assert text(ask(guarded, "pay", {"amount": 5})) == "5 to ann Context"
    assert engine.calls[0].arguments == {"amount": 5, "to": "ann"}
    assert text(ask(guarded, "pay", {"amount": 500})) == "Error executing tool pay: deny: too much."


@pytest.mark.parametrize("kind", ["high", "low"])
def test_a_context_is_passed_on_as_it_is(kind):
    state = {"pool": ["connection"]}
    request = ServerRequestContext(session=None, lifespan_context=state, protocol_version=MODERN, method="tools/call")
    context = request if kind == "low" else Context(request_context=request)
    engine = Recorder()

    @Guard(engine)
    def tool(ctx: Any, **more: Any) -> tuple[Any, Any]:
        return ctx, more

    @Guard(engine)
    def plain(ctx: Any, value: int) -> Any:
        return ctx

    assert tool(context, other=context, value=1) == (context, {"other": context, "value": 1})
    assert engine.judged == {"value": 1}
    assert tool(context)[0] is context
    assert engine.judged == {}
    assert plain(ctx=context, value=1) is context
    assert engine.judged == {"value": 1}
    assert request.lifespan_context is state


def test_a_handler_that_wraps_a_guarded_one_is_judged_once():
    engine = Recorder({"ls": {"rate_limit": {"max": 1, "window": 60}}})
    server = guard_server(low(), engine)
    inner = server.get_request_handler("tools/call")

    async def outer(ctx: Any, params: Any) -> Any:
        return await inner.handler(ctx, params)

    server.add_request_handler("tools/call", inner.params_type, outer)
    assert not ask(server, "ls").is_error
    assert [call.tool for call in engine.calls] == ["ls"]


def test_what_a_handler_does_once_more_is_judged_again():
    engine = Recorder({"ls": {"rate_limit": {"max": 1, "window": 60}}})
    server = guard_server(low(), engine)
    inner = server.get_request_handler("tools/call")

    async def twice(ctx: Any, params: Any) -> Any:
        await inner.handler(ctx, params)
        return await inner.handler(ctx, params)

    server.add_request_handler("tools/call", inner.params_type, twice)
    refused(ask(server, "ls"), "limit", "rate_limited")
    assert len(server.ran) == 1
