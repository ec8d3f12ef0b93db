"""The fastmcp adapter, between a real server and a real client, in both protocol eras."""

from __future__ import annotations

import asyncio
import itertools
import logging
import pickle
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastmcp import Client, Context, FastMCP, FastMCPApp
from fastmcp.exceptions import NotFoundError, ToolError
from fastmcp.server import create_proxy
from fastmcp.server.middleware import Middleware
from fastmcp.server.middleware.error_handling import ErrorHandlingMiddleware
from fastmcp.server.providers.addressing import hashed_backend_name
from fastmcp.server.transforms.search import RegexSearchTransform
from fastmcp.tools.base import ToolResult
from mcp.server.auth.middleware.auth_context import auth_context_var
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp_types import Implementation, TextContent

from integration.stacks import ERAS, HANDSHAKE, MODERN, Recorder, facts, refused, same_as, text, wire
from mcp_policy.adapters._fastmcp_stack import checked
from mcp_policy.adapters.fastmcp import PolicyMiddleware
from mcp_policy.call import Principal
from mcp_policy.guard import Guard, PolicyDenied

pytestmark = pytest.mark.filterwarnings("default::DeprecationWarning")


@pytest.fixture(autouse=True)
def quiet():
    logging.getLogger("fastmcp").setLevel(logging.CRITICAL)


@pytest.fixture(params=ERAS)
def era(request) -> str:
    return request.param


def files(engine: Any = None, name: str = "files", without: str = "", **settings: Any) -> FastMCP:
    """Return a server of a few tools, guarded if there is an engine."""
    server = FastMCP(name, **settings)
    server.ran = []

    def ls(path: str = "/") -> list[str]:
        server.ran.append(("ls", path))
        return [path]

    async def rm(path: str, times: int = 1) -> str:
        server.ran.append(("rm", path))
        return f"gone {path} {times}"

    def fail(how: str) -> ToolResult:
        if how == "raise":
            raise ToolError("failed")
        return ToolResult(content="failed", is_error=how == "result")

    for tool in (ls, rm, fail):
        if tool.__name__ != without:
            server.tool(tool)
    if engine is not None:
        server.add_middleware(PolicyMiddleware(engine))
    return server


@asynccontextmanager
async def talking(server: Any, era: str = MODERN):
    async with Client(server, mode=era) as client:
        yield client


def ask(server: Any, tool: str, arguments: dict[str, Any] | None = None, era: str = MODERN) -> Any:
    async def once() -> Any:
        async with talking(server, era) as client:
            return await client.call_tool_mcp(tool, arguments or {})

    return asyncio.run(once())


def listed(server: Any, era: str = MODERN) -> list[str]:
    async def once() -> list[str]:
        async with talking(server, era) as client:
            return [tool.name for tool in await client.list_tools()]

    return asyncio.run(once())


# -- lists


def test_lists_show_what_may_ever_be_called(era):
    engine = Recorder({"ls": {}, "rm": {"action": "deny"}, "fail": {"rate_limit": {"max": 0, "window": 60}}})
    assert listed(files(engine), era) == ["ls", "fail"], "limited tools stay"
    assert listed(files(Recorder({"r?": {}})), era) == ["rm"]
    assert listed(files(Recorder(hide=["l*"])), era) == ["rm", "fail"]
    assert listed(files(Recorder({})), era) == []
    assert not engine.calls, "a list is not a call"


def test_lists_may_depend_on_the_caller(era):
    engine = Recorder({"rm": {"when": [{"path": "principal.id", "op": "eq", "value": "ann"}]}})
    for who, expected in (("ann", ["rm"]), ("bob", [])):
        server = files()
        server.add_middleware(PolicyMiddleware(engine, identity=lambda _, who=who: (Principal(who), None)))
        assert listed(server, era) == expected


def test_filtered_lists_are_private():
    async def scope(engine: Any) -> str:
        async with talking(files(engine, cache_ttl=60, cache_scope="public")) as client:
            return (await client.list_tools_mcp()).cache_scope

    assert asyncio.run(scope(None)) == "public"
    assert asyncio.run(scope(Recorder())) == "private"


def test_a_caller_that_cannot_be_found_out_sees_nothing(caplog):
    def fails(_: Any) -> Any:
        raise RuntimeError("directory down")

    server = files()
    server.add_middleware(PolicyMiddleware(Recorder(), identity=fails))
    assert listed(server) == []
    assert "directory down" in caplog.text


# -- answers


def test_an_allowed_call_is_untouched(era):
    plain = ask(files(), "ls", {"path": "/tmp"}, era)
    guarded = ask(files(Recorder({"ls": {}})), "ls", {"path": "/tmp"}, era)
    assert same_as(plain, guarded)
    assert guarded.structured_content == {"result": ["/tmp"]}


def test_a_refusal_is_a_result_that_says_why(era):
    server = files(Recorder({"ls": {}, "rm": {"action": "deny", "reason": "files stay"}}))
    result = ask(server, "rm", {"path": "/s3cret"}, era)
    assert refused(result, "deny", "denied_by_rule") == "[POLICY DENIED] files stay."
    assert "s3cret" not in str(wire(result))
    assert not server.ran
    assert refused(ask(server, "fail", {"how": "raise"}, era), "deny", "default_deny").startswith("[POLICY DENIED] ")


def test_a_tool_with_an_output_schema_is_refused_the_same_way(era):
    server = files(Recorder({"ls": {"action": "deny", "reason": "no"}}))

    async def call() -> None:
        async with talking(server, era) as client:
            with pytest.raises(ToolError, match=r"\[POLICY DENIED\] no"):
                await client.call_tool("ls", {})

    asyncio.run(call())


@pytest.mark.parametrize("default", ["allow", "deny"])
def test_a_hidden_tool_is_answered_as_an_unknown_one(era, default):
    hiding = Recorder(default=default, hide=["rm"], tools={"*": {}})
    for arguments in ({"path": "/"}, {}, {"nonsense": [1]}):
        hidden = ask(files(hiding), "rm", arguments, era)
        unknown = ask(files(without="rm"), "rm", arguments, era)
        assert same_as(hidden, unknown)
        assert text(hidden) == "Unknown tool: 'rm'"
        assert facts(hidden) is None


@pytest.mark.parametrize(
    "rule", [{"action": "deny"}, {"action": "approve"}, {"rate_limit": {"max": 0, "window": 1}}, None]
)
@pytest.mark.parametrize("name", ["nope", "", "x" * 300, "r\u0000m", "rm ", "RM"])
def test_what_the_server_does_not_have_is_unknown_whatever_the_policy_says(rule, name):
    engine = Recorder({"*": rule} if rule else {})
    assert same_as(ask(files(engine), name), ask(files(), name))
    assert not engine.calls, "nothing is counted, and nobody is asked, for a tool that does not exist"


def test_a_tool_that_is_gone_is_unknown_and_a_new_one_is_known():
    server = files(Recorder({"ls": {}, "rm": {"action": "deny"}, "new": {"action": "deny"}}))

    async def over_time() -> list[Any]:
        async with talking(server) as client:
            answers = [await client.call_tool_mcp(tool, {}) for tool in ("rm", "new", "ls")]
            server.local_provider.remove_tool("rm")
            server.local_provider.remove_tool("ls")

            @server.tool
            def new() -> None: ...

            return answers + [await client.call_tool_mcp(tool, {}) for tool in ("rm", "new", "ls")]

    rm, new, ls, rm_gone, new_there, ls_gone = map(text, asyncio.run(over_time()))
    assert rm.startswith("[POLICY DENIED]")
    assert new == "Unknown tool: 'new'"
    assert ls == '["/"]'
    assert rm_gone == "Unknown tool: 'rm'"
    assert new_there.startswith("[POLICY DENIED]")
    assert ls_gone == "Unknown tool: 'ls'"


def test_direct_calls_of_the_server_are_answered_in_its_own_form():
    server = files(Recorder({"ls": {}, "rm": {"action": "deny"}}, hide=["fail"]))
    assert asyncio.run(server.call_tool("ls", {})).structured_content == {"result": ["/"]}
    assert asyncio.run(server.call_tool("rm", {"path": "/"})).is_error
    with pytest.raises(NotFoundError) as hidden:
        asyncio.run(server.call_tool("fail", {}))
    with pytest.raises(NotFoundError) as unknown:
        asyncio.run(files(without="fail").call_tool("fail", {}))
    assert str(hidden.value) == str(unknown.value)


def test_a_hashed_name_is_no_way_around():
    app = FastMCPApp("files")

    @app.tool
    def wipe(path: str) -> str:
        return f"wiped {path}"

    def server(engine: Any) -> FastMCP:
        made = FastMCP("files", middleware=[PolicyMiddleware(engine)])
        made.add_provider(app)
        return made

    name = hashed_backend_name("files", "wipe")
    assert text(ask(server(Recorder({"wipe": {}})), name, {"path": "/"})) == "wiped /"
    refused(
        ask(server(Recorder({"wipe": {"action": "deny"}}, default="allow")), name, {"path": "/"}),
        "deny",
        "denied_by_rule",
    )
    limited = Recorder({"wipe": {"rate_limit": {"max": 1, "window": 60}}}, default="allow")
    one = server(limited)
    assert [ask(one, name, {"path": "/"}).is_error for _ in range(3)] == [False, True, True]
    assert {call.tool for call in limited.calls} == {"wipe"}
    denying = server(Recorder({"wipe": {"action": "deny"}}, default="allow"))
    refused(ask(denying, name, {"path": "/"}), "deny", "denied_by_rule")
    hidden = ask(server(Recorder(hide=["wipe"])), name, {"path": "/"})
    assert text(hidden) == f"Unknown tool: {name!r}"


def test_a_refusal_is_not_masked_by_error_handling(era):
    server = FastMCP("files", middleware=[ErrorHandlingMiddleware()], mask_error_details=True)
    server.add_middleware(PolicyMiddleware(Recorder({})))

    @server.tool
    def rm() -> None: ...

    refused(ask(server, "rm", {}, era), "deny", "default_deny")


# -- what is judged is what runs


def test_wire_values_are_judged_before_anything_is_coerced(era):
    engine = Recorder({"rm": {"require": [{"path": "args.times", "op": "lte", "value": 3}]}})
    server = files(engine)
    assert text(ask(server, "rm", {"path": "/", "times": 3}, era)) == "gone / 3"
    refused(ask(server, "rm", {"path": "/", "times": "3"}, era), "deny", "type_mismatch")
    refused(ask(server, "rm", {"path": "/", "times": True}, era), "deny", "type_mismatch")
    refused(ask(server, "rm", {"path": "/"}, era), "deny", "require")


def test_a_change_by_the_caller_while_it_is_decided_changes_nothing():
    class Slow(Recorder):
        async def authorize_async(self, call):
            decision = await super().authorize_async(call)
            inner["ids"][0] = "root"
            return decision

    inner = {"ids": ["guest"]}
    server = FastMCP("s", middleware=[PolicyMiddleware(Slow({"tool": {}}))])

    @server.tool
    def tool(ids: list[str]) -> str:
        return ids[0]

    assert asyncio.run(server.call_tool("tool", inner)).structured_content == {"result": "guest"}


def test_arguments_nested_too_deep_are_denied():
    deep: Any = []
    for _ in range(300):
        deep = [deep]
    server = files(Recorder(hide=["rm"]))
    result = asyncio.run(server.call_tool("ls", {"path": deep}))
    refused(result, "deny", "invalid_call")
    with pytest.raises(NotFoundError):
        asyncio.run(server.call_tool("rm", {"path": deep}))
    assert not server.ran


# -- limits, approvals, refunds


def test_limits_say_when_to_retry(era):
    server = files(Recorder({"ls": {"rate_limit": {"max": 2, "window": 60}}}))

    async def calls() -> list[Any]:
        async with talking(server, era) as client:
            return [await client.call_tool_mcp("ls", {}) for _ in range(3)]

    first, second, third = asyncio.run(calls())
    assert not first.is_error
    assert not second.is_error
    assert refused(third, "limit", "rate_limited").endswith("Retry in 60 s.")
    assert facts(third)["retry_after"] == 60.0
    assert listed(server, era) == ["ls"], "using up a limit changes no list"


def test_approvals_are_for_exactly_one_call(era):
    engine = Recorder({"rm": {"action": "approve", "reason": "ask ann"}})
    server = files(engine)

    async def calls() -> None:
        async with talking(server, era) as client:

            async def rm(path: str) -> Any:
                return await client.call_tool_mcp("rm", {"path": path})

            waits = await rm("/a")
            told = refused(waits, "approve", "approval_required")
            approval = facts(waits)["approval_id"]
            assert told == f"[POLICY APPROVAL REQUIRED] ask ann. Approval id: {approval}"
            assert facts(await rm("/a"))["approval_id"] == approval
            engine.approve(approval, by="ann")
            assert facts(await rm("/b"))["approval_id"] != approval
            assert text(await rm("/a")) == "gone /a 1"
            assert facts(await rm("/a"))["approval_id"] != approval
            assert server.ran == [("rm", "/a")]

    asyncio.run(calls())


@pytest.mark.parametrize("how", ["raise", "result", "fine"])
@pytest.mark.parametrize("refund", [True, False])
def test_failed_calls_give_their_cost_back_where_the_limit_says_so(era, how, refund):
    limit = {"max": 1, "window": 60, "refund_on_error": refund}
    server = files(Recorder({"fail": {"rate_limit": limit}}))

    async def calls() -> list[Any]:
        async with talking(server, era) as client:
            return [await client.call_tool_mcp("fail", {"how": how}) for _ in range(2)]

    first, second = asyncio.run(calls())
    assert first.is_error == (how != "fine")
    assert (facts(second) is None) == (refund and how != "fine")


def test_cancelled_calls_keep_their_cost():
    engine = Recorder({"wait": {"rate_limit": {"max": 1, "window": 60, "refund_on_error": True}}})
    server = FastMCP("s", middleware=[PolicyMiddleware(engine)])
    running = asyncio.Event()

    @server.tool
    async def wait() -> None:
        running.set()
        await asyncio.sleep(60)

    async def cancel() -> Any:
        task = asyncio.ensure_future(server.call_tool("wait", {}))
        await running.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await server.call_tool("wait", {})

    assert asyncio.run(cancel()).is_error


@pytest.mark.parametrize("tool", ["ls", "rm"])
def test_200_calls_at_once_and_50_allowed(tool):
    server = files(Recorder({"*": {"rate_limit": {"max": 50, "window": 60}}}))

    async def calls() -> list[Any]:
        async with talking(server) as client:
            return await asyncio.gather(*(client.call_tool_mcp(tool, {"path": "/"}) for _ in range(200)))

    answers = asyncio.run(calls())
    assert sum(not answer.is_error for answer in answers) == 50
    assert len(server.ran) == 50
    assert {facts(answer)["effect"] for answer in answers if answer.is_error} == {"limit"}


# -- one decision per call


def mounted(parent: Any, child: Any) -> FastMCP:
    outer = FastMCP("outer")
    if parent is not None:
        outer.add_middleware(PolicyMiddleware(parent))
    outer.inner = files(child, "inner")
    outer.mount(outer.inner, namespace="c")
    return outer


def test_a_mounted_server_is_judged_once_under_the_outer_name(era):
    engine = Recorder({"c_rm": {"rate_limit": {"max": 1, "window": 60}}})
    outer = mounted(engine, engine)
    assert listed(outer, era) == ["c_rm"]

    async def calls() -> list[Any]:
        async with talking(outer, era) as client:
            return [await client.call_tool_mcp("c_rm", {"path": "/"}) for _ in range(2)]

    first, second = asyncio.run(calls())
    assert text(first) == "gone / 1"
    refused(second, "limit", "rate_limited")
    assert [(call.tool, call.server) for call in engine.calls] == [("c_rm", "outer")] * 2
    assert text(ask(outer, "rm", {"path": "/"}, era)) == "Unknown tool: 'rm'"


def test_a_mounted_server_alone_in_having_a_guard_is_judged_under_its_own_name(era):
    engine = Recorder({"rm": {}})
    outer = mounted(None, engine)
    assert listed(outer, era) == ["c_rm"]
    assert text(ask(outer, "c_rm", {"path": "/"}, era)) == "gone / 1"
    assert [(call.tool, call.server) for call in engine.calls] == [("rm", "inner")]


def test_a_mounted_server_under_another_policy_keeps_it():
    strict = Recorder({"rm": {"action": "deny", "reason": "inner rule"}}, default="allow")
    outer = mounted(Recorder(), strict)
    assert refused(ask(outer, "c_rm", {"path": "/"}), "deny", "denied_by_rule") == "[POLICY DENIED] inner rule."
    assert not outer.inner.ran


def test_servers_mounted_in_mounted_servers_are_judged_once():
    engine = Recorder({"a_b_*": {}})
    top, middle, bottom = FastMCP("top"), FastMCP("middle"), files(engine, "bottom")
    for server in (top, middle):
        server.add_middleware(PolicyMiddleware(engine))
    middle.mount(bottom, namespace="b")
    top.mount(middle, namespace="a")
    assert listed(top) == ["a_b_ls", "a_b_rm", "a_b_fail"]
    assert text(ask(top, "a_b_rm", {"path": "/"})) == "gone / 1"
    assert [call.tool for call in engine.calls] == ["a_b_rm"]


def test_a_tool_that_calls_tools_by_name_is_no_way_around():
    engine = Recorder({"run": {}, "ls": {}, "rm": {"action": "deny", "reason": "files stay"}})
    server = files(engine)

    @server.tool
    async def run(tool: str, ctx: Context) -> ToolResult:
        return await ctx.fastmcp.call_tool(tool, {"path": "/"})

    assert text(ask(server, "run", {"tool": "ls"})) == '["/"]'
    assert refused(ask(server, "run", {"tool": "rm"}), "deny", "denied_by_rule") == "[POLICY DENIED] files stay."
    assert server.ran == [("ls", "/")]


def test_a_mounted_tool_that_calls_tools_by_name_is_no_way_around():
    engine = Recorder({"c_run": {}, "rm": {"action": "deny"}})
    outer = mounted(engine, engine)

    @outer.inner.tool
    async def run(tool: str, ctx: Context) -> ToolResult:
        return await outer.inner.call_tool(tool, {"path": "/"})

    refused(ask(outer, "c_run", {"tool": "rm"}), "deny", "denied_by_rule")
    assert not outer.inner.ran


@pytest.mark.parametrize("how", ["call", "background", "list"])
def test_a_tool_that_reaches_another_guarded_server_is_no_way_around(how):
    """The other server has the same engine, and is not mounted: what is called there is a call of its own."""
    engine = Recorder(servers={"outer": {"tools": {"run": {}}}, "other": {"hide": ["rm"], "tools": {"ls": {}}}})
    other, outer = files(engine, "other"), FastMCP("outer")

    @outer.tool
    async def run() -> str:
        if how == "list":
            return " ".join(tool.name for tool in await other.list_tools())
        call = other.call_tool("rm", {"path": "/"})
        try:
            return str(await (asyncio.create_task(call) if how == "background" else call))
        except NotFoundError:
            return "refused"

    outer.add_middleware(PolicyMiddleware(engine))
    said = text(ask(outer, "run"))
    assert "rm" not in said.split()
    assert how == "list" or said == "refused"
    assert other.ran == []


def test_a_mounted_tool_that_calls_the_outer_servers_tools_is_no_way_around():
    engine = Recorder({"c_run": {}, "c_rm": {"action": "deny"}})
    outer = mounted(engine, engine)

    @outer.inner.tool
    async def run(tool: str) -> ToolResult:
        return await outer.call_tool(tool, {"path": "/"})

    refused(ask(outer, "c_run", {"tool": "c_rm"}), "deny", "denied_by_rule")
    assert not outer.inner.ran


def test_a_tool_that_talks_to_another_guarded_server_is_no_way_around(era):
    engine = Recorder({"relay": {}, "rm": {"action": "deny"}})
    other, server = files(engine, "other"), FastMCP("s", middleware=[PolicyMiddleware(engine)])

    @server.tool
    async def relay(tool: str) -> str:
        async with Client(other, mode=era) as client:
            return text(await client.call_tool_mcp(tool, {"path": "/"}))

    assert text(ask(server, "relay", {"tool": "rm"}, era)).startswith("[POLICY DENIED]")
    assert not other.ran


def test_search_finds_and_calls_only_what_the_policy_lets_through():
    engine = Recorder(
        {
            "search_tools": {},
            "call_tool": {},
            "ls": {},
            "rm": {"deny_if": [{"path": "args.path", "op": "eq", "value": "/"}]},
        }
    )
    server = files(engine)
    server.add_transform(RegexSearchTransform())
    assert listed(server) == ["search_tools", "call_tool"]
    found = text(ask(server, "search_tools", {"pattern": "."}))
    assert '"rm"' in found
    assert '"fail"' not in found

    def call(name: str, path: str) -> Any:
        return ask(server, "call_tool", {"name": name, "arguments": {"path": path}})

    assert text(call("rm", "/tmp/x")) == "gone /tmp/x 1"
    refused(call("rm", "/"), "deny", "deny_if")
    assert call("fail", "/").is_error
    assert server.ran == [("rm", "/tmp/x")]


def test_a_proxy_is_guarded_like_a_server(era):
    upstream = files()
    proxy = create_proxy(upstream, name="files")
    proxy.add_middleware(PolicyMiddleware(Recorder({"ls": {}, "rm": {"action": "deny"}}, hide=["fail"])))
    assert listed(proxy, era) == ["ls"]
    assert text(ask(proxy, "ls", {"path": "/x"}, era)) == '["/x"]'
    refused(ask(proxy, "rm", {"path": "/x"}, era), "deny", "denied_by_rule")
    assert text(ask(proxy, "fail", {"how": "raise"}, era)) == "Unknown tool: 'fail'"
    assert upstream.ran == [("ls", "/x")]


def test_a_server_that_cannot_say_what_it_has_still_refuses(caplog):
    class Down(FastMCP):
        async def get_tool(self, name, version=None):
            raise RuntimeError("no catalogue")

    server = Down("down", middleware=[PolicyMiddleware(Recorder({}, hide=["secret"]))])
    refused(ask(server, "rm"), "deny", "default_deny")
    assert text(ask(server, "secret")) == "Unknown tool: 'secret'"
    assert "no catalogue" in caplog.text


# -- who calls


def test_in_memory_there_is_one_session(era):
    engine = Recorder({"ls": {"rate_limit": {"max": 2, "window": 60}}})
    server = files(engine)
    answers = [ask(server, "ls", {}, era) for _ in range(3)]
    assert [answer.is_error for answer in answers] == [False, False, True], "a new connection is no new count"
    assert {(call.session, call.principal, call.server) for call in engine.calls} == {("process", None, "files")}


def test_what_a_client_says_of_itself_is_nobody():
    engine = Recorder()
    server = files(engine)

    async def call() -> None:
        async with Client(server, client_info=Implementation(name="admin", version="1")) as client:
            await client.call_tool_mcp("ls", {}, meta={"session": "other", "client_id": "root", "user": "ann"})

    asyncio.run(call())
    assert engine.calls[0].session == "process"
    assert engine.calls[0].principal is None


def user(subject: str | None, client: str = "app", issuer: str | None = "https://id.example") -> AuthenticatedUser:
    claims = {"team": "red"} | ({"iss": issuer} if issuer else {})
    return AuthenticatedUser(AccessToken(token="t", client_id=client, scopes=["read"], subject=subject, claims=claims))


def authorized(server: FastMCP, who: AuthenticatedUser) -> Any:
    token = auth_context_var.set(who)
    try:
        return asyncio.run(server.call_tool("ls", {}))
    finally:
        auth_context_var.reset(token)


def test_an_authenticated_caller_is_the_tokens_subject():
    engine = Recorder()
    authorized(files(engine), user("ann"))
    principal = engine.calls[0].principal
    assert (principal.id, principal.issuer, principal.client) == ("ann", "https://id.example", "app")
    assert principal.scopes == ("read",)
    assert principal.claims["team"] == "red"


def test_users_of_one_application_are_told_apart():
    engine = Recorder({"ls": {"require": [{"path": "principal.id", "op": "eq", "value": "ann"}]}})
    assert authorized(files(engine), user(None, client="ann")).is_error, "an application called ann is not ann"
    for per in ("principal", "session"):
        server = files(Recorder({"ls": {"rate_limit": {"max": 1, "window": 60, "per": per}}}))
        people = [
            user("ann"),
            user("bob"),
            user("ann", issuer="https://other.example"),
            user(None),
            user(None, client="app2"),
        ]
        assert [authorized(server, who).is_error for who in people] == [False] * 5
        assert [authorized(server, who).is_error for who in people] == [True] * 5
        assert authorized(server, user("ann", client="another app")).is_error, "another client is no new user"


def test_the_host_may_say_who_calls():
    engine = Recorder()
    server = files()
    seen = []

    def identity(context: Any) -> tuple[Principal, str]:
        seen.append(context)
        return Principal("ann"), "s1"

    server.add_middleware(PolicyMiddleware(engine, identity=identity, server="archive"))
    ask(server, "ls")
    assert isinstance(seen[0], Context)
    assert (engine.calls[0].principal.id, engine.calls[0].session, engine.calls[0].server) == ("ann", "s1", "archive")


@pytest.mark.parametrize("wrong", [None, "ann", ("ann", None), (None, 7), RuntimeError("password hunter2")], ids=repr)
def test_an_identity_that_is_none_denies(wrong, caplog):
    def identity(_: Any) -> Any:
        if isinstance(wrong, Exception):
            raise wrong
        return wrong

    server = files()
    server.add_middleware(PolicyMiddleware(Recorder(hide=["rm"]), identity=identity))
    result = ask(server, "ls")
    assert facts(result)["codes"][0] in {"internal_error", "invalid_call"}
    assert "hunter2" not in str(wire(result))
    assert text(ask(server, "rm", {"path": "/"})) == "Unknown tool: 'rm'", "hidden all the same"
    assert not server.ran


def test_time_is_there_for_the_policy():
    engine = Recorder(
        {"ls": {"require": [{"path": "context.time.weekday", "op": "in", "value": [1, 2, 3, 4, 5, 6, 7]}]}}
    )
    assert not ask(files(engine), "ls").is_error


def test_an_engine_that_fails_denies(caplog):
    class Broken(Recorder):
        async def authorize_async(self, call):
            raise RuntimeError("bug with s3cret")

        def visible(self, call):
            return True

    server = files(Broken())
    result = ask(server, "ls")
    refused(result, "deny", "internal_error")
    assert "s3cret" not in str(wire(result))
    assert "s3cret" in caplog.text


# -- construction, and the function guard under fastmcp


@pytest.mark.parametrize("version", ["3.3.9", "2.13.1", "1.0", "5.0.0", "0", "", "4", "x.y"])
def test_other_versions_of_fastmcp_are_refused(version):
    with pytest.raises(RuntimeError, match=r"made for fastmcp 2 \(from 2.14\), .* is installed"):
        checked(version)


@pytest.mark.parametrize(("version", "major"), [("2.14.7", 2), ("3.4.0", 3), ("4.0.0rc1", 4), ("4.12.1", 4)])
def test_known_versions_of_fastmcp_are_guarded(version, major):
    assert checked(version) == major


def test_the_guard_keeps_the_schema_and_speaks_through_the_tool():
    engine = Recorder({"pay": {"deny_if": [{"path": "args.amount", "op": "gt", "value": 100, "reason": "too much"}]}})
    plain, guarded = FastMCP("s"), FastMCP("s", mask_error_details=True)

    def tool():
        async def pay(amount: int, to: str = "ann", ctx: Context = None) -> str:
            """Pay."""
            return f"{amount} to {to} {type(ctx).__name__}"

        return pay

    plain.tool(tool())
    guarded.tool(Guard(engine)(tool()))

    async def schema(server: FastMCP) -> Any:
        async with talking(server) as client:
            return [wire(tool) for tool in await client.list_tools()]

    assert asyncio.run(schema(plain)) == asyncio.run(schema(guarded))
    assert text(ask(guarded, "pay", {"amount": 5})) == "5 to ann Context"
    assert text(ask(guarded, "pay", {"amount": 500})) == "deny: too much."


def test_a_context_is_no_argument_and_an_approval_binds_without_it():
    engine = Recorder({"pay": {"action": "approve"}})
    server = FastMCP("s")

    @server.tool
    @Guard(engine)
    def pay(amount: int, ctx: Context) -> str:
        return f"paid {amount} {type(ctx).__name__}"

    assert "has to approve" in text(ask(server, "pay", {"amount": 5}))
    (waiting,) = engine._approvals.pending()
    assert dict(waiting.arguments) == {"amount": 5}
    engine.approve(waiting.id, by="ann")
    assert text(ask(server, "pay", {"amount": 5})) == "paid 5 Context"


def test_a_guard_above_the_tool_decorator_is_refused():
    server = FastMCP("s")

    def rm() -> None: ...

    with pytest.raises(TypeError, match=r"registered as a tool already.*put the guard below"):
        Guard(Recorder())(server.tool(rm))
    with pytest.raises(TypeError, match="put the guard below"):
        Guard(Recorder())(asyncio.run(server.get_tool("rm")))


def test_middleware_further_in_gets_the_judged_arguments():
    seen = []

    class Inner(Middleware):
        async def on_call_tool(self, context, call_next):
            seen.append(context.message.arguments)
            return await call_next(context)

    engine = Recorder()
    server = files(engine)
    server.add_middleware(Inner())
    ask(server, "ls", {"path": "/"})
    assert seen[0] == engine.calls[0].arguments == {"path": "/"}
    assert seen[0] is engine.calls[0].arguments


def test_denials_of_one_call_do_not_leak_into_the_next():
    turns = itertools.cycle([True, False])
    engine = Recorder({"ls": {"require": [{"path": "args.path", "op": "eq", "value": "/ok"}]}})
    server = files(engine)

    async def many() -> list[bool]:
        async with talking(server, HANDSHAKE) as client:
            paths = ["/ok" if next(turns) else "/no" for _ in range(40)]
            answers = await asyncio.gather(*(client.call_tool_mcp("ls", {"path": path}) for path in paths))
        return [answer.is_error for answer in answers]

    assert asyncio.run(many()) == [False, True] * 20


def test_policy_denied_of_a_nested_guard_is_the_tools_own_failure():
    guard = Guard(Recorder({}))
    server = FastMCP("s", middleware=[PolicyMiddleware(Recorder())])

    @server.tool
    def outer() -> TextContent:
        with guard.call("inner"):
            raise AssertionError

    result = ask(server, "outer")
    assert result.is_error
    assert facts(result) is None
    with pytest.raises(PolicyDenied) as caught, guard.call("inner"):
        raise AssertionError
    assert isinstance(caught.value, ToolError)
    assert pickle.loads(pickle.dumps(caught.value)).decision == caught.value.decision
