"""The adapter for fastmcp 2 and 3, between real servers and a real client. Run by sessions of `noxfile.py`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import fastmcp
import httpx
import pytest
from fastmcp import Client, Context, FastMCP
from fastmcp.server.auth.providers.jwt import StaticTokenVerifier
from fastmcp.server.middleware import Middleware  # noqa: TC002
from fastmcp.server.middleware.error_handling import ErrorHandlingMiddleware
from mcp import ClientSession, types
from mcp.client.streamable_http import streamable_http_client

from mcp_policy import Policy, PolicyEngine, Principal
from mcp_policy.adapters import UnguardedTools
from mcp_policy.adapters._fastmcp_stack import MAJOR
from mcp_policy.adapters.approvers import ask_client
from mcp_policy.adapters.fastmcp import PolicyMiddleware, assert_all_guarded, guarded_tools
from mcp_policy.answer import META_KEY

QUOTED = MAJOR >= 3  # how the stack writes the name of an unknown tool


@pytest.fixture(autouse=True)
def quiet():
    for name in ("mcp", "fastmcp"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


class Recorder(PolicyEngine):
    """An engine that keeps what it was asked."""

    def __init__(self, tools: Any = None, **top: Any) -> None:
        document = {"version": "1", **({"default": "allow"} if tools is None else {"tools": tools}), **top}
        super().__init__(Policy.model_validate(document), clock=lambda: 1000.0)
        self.calls: list[Any] = []

    async def authorize_async(self, call):
        self.calls.append(call)
        return await super().authorize_async(call)


def files(*middleware: Middleware, name: str = "files", without: str = "") -> FastMCP:
    server = FastMCP(name, middleware=list(middleware))
    server.ran = []

    def ls(path: str = "/") -> str:
        server.ran.append(("ls", path))
        return path

    def rm(path: str, times: int = 1) -> str:
        server.ran.append(("rm", path, times))
        return f"gone {path}"

    def fail() -> str:
        raise RuntimeError("failed")

    for tool in (ls, rm, fail):
        if tool.__name__ != without:
            server.tool(tool)
    return server


def mount(parent: FastMCP, child: FastMCP, prefix: str) -> None:
    parent.mount(child, **{"prefix" if MAJOR < 3 else "namespace": prefix})


def talk(server: Any, work: Any, **more: Any) -> Any:
    async def run() -> Any:
        async with Client(server, **more) as client:
            return await work(client)

    return asyncio.run(run())


def ask(server: Any, tool: str, arguments: Any = None, **more: Any) -> types.CallToolResult:
    return talk(server, lambda client: client.call_tool_mcp(tool, arguments or {}), **more)


def listed(server: Any) -> list[str]:
    async def work(client: Client) -> list[str]:
        return [tool.name for tool in await client.list_tools()]

    return talk(server, work)


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


def test_an_allowed_call_runs_with_what_was_judged():
    engine = Recorder({"ls": {}})
    server = files(PolicyMiddleware(engine))
    assert not ask(server, "ls", {"path": "/srv"}).isError
    assert server.ran == [("ls", "/srv")]
    assert (engine.calls[0].arguments, engine.calls[0].server) == ({"path": "/srv"}, "files")
    assert (engine.calls[0].principal, engine.calls[0].session) == (None, "process")


def test_a_denied_call_does_not():
    server = files(PolicyMiddleware(Recorder({"ls": {}, "rm": {"action": "deny", "reason": "files stay"}})))
    assert refused(ask(server, "rm", {"path": "/x"}), "deny", "denied_by_rule") == "[POLICY DENIED] files stay."
    assert server.ran == []


def test_a_hidden_tool_is_what_the_stack_says_to_an_unknown_one():
    hidden = ask(files(PolicyMiddleware(Recorder(hide=["rm"]))), "rm", {"path": "/x"})
    missing = ask(files(PolicyMiddleware(Recorder()), without="rm"), "rm", {"path": "/x"})
    bare = ask(files(without="rm"), "rm", {"path": "/x"})
    assert hidden.model_dump_json() == missing.model_dump_json() == bare.model_dump_json()
    assert text(hidden) == ("Unknown tool: 'rm'" if QUOTED else "Unknown tool: rm")


def test_a_denied_tool_that_the_server_does_not_have_is_unknown():
    server = files(PolicyMiddleware(Recorder({"rm": {"action": "deny"}})), without="rm")
    assert text(ask(server, "rm")).startswith("Unknown tool")


def test_lists_show_what_may_ever_be_called():
    server = files(PolicyMiddleware(Recorder({"ls": {"rate_limit": {"max": 1, "window": 60}}})))
    assert listed(server) == ["ls"]

    async def work(client: Client) -> list[bool]:
        return [(await client.call_tool_mcp("ls", {})).isError for _ in range(2)]

    assert talk(server, work) == [False, True]
    assert listed(server) == ["ls"]


@pytest.mark.parametrize("times", ["5", True, 1.5e400])
def test_wire_values_are_judged_before_anything_is_coerced(times):
    rule = {"rm": {"require": [{"path": "args.times", "op": "lte", "value": 3}]}}
    server = files(PolicyMiddleware(Recorder(rule)))
    assert ask(server, "rm", {"path": "/x", "times": times}).isError
    assert server.ran == []


def test_a_failed_call_gives_back():
    limit = {"max": 1, "window": 60, "refund_on_error": True}
    server = files(PolicyMiddleware(Recorder({"fail": {"limits": [limit]}})))

    async def work(client: Client) -> list[bool]:
        return [META_KEY in ((await client.call_tool_mcp("fail", {})).meta or {}) for _ in range(3)]

    assert talk(server, work) == [False] * 3


def test_two_hundred_calls_at_once():
    server = files(PolicyMiddleware(Recorder({"ls": {"rate_limit": {"max": 50, "window": 60}}})))

    async def work(client: Client) -> list[Any]:
        return await asyncio.gather(*(client.call_tool_mcp("ls", {}) for _ in range(200)))

    assert sum(not result.isError for result in talk(server, work)) == 50
    assert len(server.ran) == 50


def test_error_handling_outside_does_not_mask_a_refusal():
    server = files(ErrorHandlingMiddleware(), PolicyMiddleware(Recorder({"ls": {}})))
    refused(ask(server, "rm", {"path": "/x"}), "deny", "default_deny")


def test_tools_that_come_later_are_guarded():
    server = files(PolicyMiddleware(Recorder({"ls": {}})))
    ask(server, "ls")
    server.tool(lambda: "x", name="late")
    refused(ask(server, "late"), "deny", "default_deny")
    assert listed(server) == ["ls"]


def test_categories_come_from_the_servers_definitions():
    server = files(
        PolicyMiddleware(Recorder(categories={"destructive": {"action": "deny"}, "read": {}}, default="deny"))
    )

    @server.tool
    def delete_file(path: str) -> str:
        """Delete a file for good."""
        server.ran.append("deleted")
        return path

    refused(ask(server, "delete_file", {"path": "/x"}), "deny", "denied_by_rule")
    assert "delete_file" not in listed(server)
    assert server.ran == []


def test_resources_and_prompts_are_left_alone():
    server = files(PolicyMiddleware(Recorder({})))

    @server.resource("note://one")
    def note() -> str:
        return "text"

    @server.prompt
    def greet() -> str:
        return "hello"

    async def work(client: Client) -> tuple[int, int]:
        return len(await client.list_resources()), len(await client.list_prompts())

    assert talk(server, work) == (1, 1)


# -- mounted servers


@pytest.mark.parametrize("guards", ["parent", "both", "child"])
def test_a_call_through_a_mounted_server_is_decided_once(guards):
    engine = Recorder({"ls": {}, "c_ls": {"rate_limit": {"max": 1, "window": 60}}})
    child = files(*([PolicyMiddleware(engine)] if guards != "parent" else []), name="child")
    parent = FastMCP("parent", middleware=[PolicyMiddleware(engine)] if guards != "child" else [])
    mount(parent, child, "c")
    assert not ask(parent, "c_ls").isError
    assert [call.tool for call in engine.calls] == (["ls"] if guards == "child" else ["c_ls"])
    assert ask(parent, "c_rm", {"path": "/x"}).isError
    assert child.ran == [("ls", "/")]
    assert listed(parent) == ["c_ls"]


def test_a_nested_mount_is_decided_once():
    engine = Recorder({"a_b_ls": {}})
    inner, outer = (
        files(PolicyMiddleware(engine), name="inner"),
        FastMCP("outer", middleware=[PolicyMiddleware(engine)]),
    )
    parent = FastMCP("parent", middleware=[PolicyMiddleware(engine)])
    mount(outer, inner, "b")
    mount(parent, outer, "a")
    assert not ask(parent, "a_b_ls").isError
    assert [call.tool for call in engine.calls] == ["a_b_ls"]


def test_what_a_tool_calls_by_name_is_judged_again():
    engine = Recorder({"c_any_of": {}, "any_of": {}})
    child = files(PolicyMiddleware(engine), name="child")

    @child.tool
    async def any_of(ctx: Context) -> str:
        mounted = ctx.fastmcp if ctx.fastmcp.name == "child" else child
        if MAJOR < 3:
            result = await mounted._call_tool_middleware("rm", {"path": "/x"})
        else:
            result = await mounted.call_tool("rm", {"path": "/x"})
        return "".join(part.text for part in result.content)

    parent = FastMCP("parent", middleware=[PolicyMiddleware(engine)])
    mount(parent, child, "c")
    assert "POLICY DENIED" in text(ask(parent, "c_any_of"))
    assert child.ran == []


def test_one_guard_on_several_servers():
    """fastmcp 3 tells which of them is called; on 2 that could not be told, so nothing runs."""
    engine = Recorder({"c_ls": {}, "ls": {}})
    guard = PolicyMiddleware(engine)
    child, parent = files(guard, name="child"), FastMCP("parent", middleware=[guard])
    mount(parent, child, "c")
    assert ask(parent, "c_ls").isError is (MAJOR < 3)
    assert len(child.ran) == (0 if MAJOR < 3 else 1)


def test_a_hidden_tool_of_a_mounted_server_is_unknown():
    def parent(*hidden: str, without: str = "") -> FastMCP:
        server = FastMCP("parent", middleware=[PolicyMiddleware(Recorder(hide=list(hidden)))])
        mount(server, files(name="child", without=without), "c")
        return server

    hidden, missing = ask(parent("c_rm"), "c_rm"), ask(parent(without="rm"), "c_rm")
    assert hidden.model_dump_json() == missing.model_dump_json()


# -- in the background


def test_a_call_that_asks_for_a_background_task_is_judged():
    server = FastMCP("files", middleware=[PolicyMiddleware(Recorder({"ls": {}}))])
    ran: list[str] = []

    async def rm() -> str:
        ran.append("rm")
        return "gone"

    server.tool(rm, task=True)

    async def work(client: Client) -> list[Any]:
        async def send(name: str) -> Any:
            params = types.CallToolRequestParams(name=name, arguments={}, task=types.TaskMetadata(ttl=1000))
            request = types.ClientRequest(types.CallToolRequest(params=params))
            return await client.session.send_request(request, types.CallToolResult)

        return [await send("rm"), await send("none")]

    denied, unknown = talk(server, work)
    refused(denied, "deny", "default_deny")
    assert text(unknown).startswith("Unknown tool")
    assert ran == []


# -- approvals


def answering(action: str, content: Any = None) -> Any:
    async def person(message: Any, response_type: Any, params: Any, context: Any) -> Any:
        from fastmcp.client.elicitation import ElicitResult

        return ElicitResult(action=action, content=content)

    return person


def test_a_person_is_asked_in_the_middle_of_the_call():
    server = files(PolicyMiddleware(Recorder({"rm": {"action": "approve"}}), approver=ask_client()))
    yes, no = answering("accept", {"approve": True}), answering("decline")
    assert not ask(server, "rm", {"path": "/x"}, elicitation_handler=yes).isError
    assert server.ran == [("rm", "/x", 1)]
    refused(ask(server, "rm", {"path": "/y"}, elicitation_handler=no), "approve", "approval_rejected")
    assert "cannot show a form" in refused(ask(server, "rm", {"path": "/z"}), "approve", "approval_required")
    assert server.ran == [("rm", "/x", 1)]


# -- proof


def test_whether_all_is_guarded_can_be_proved():
    with pytest.raises(UnguardedTools, match="has no guard"):
        assert_all_guarded(files())
    server = files(PolicyMiddleware(Recorder()))
    mount(server, files(name="child"), "c")
    assert {access.tool for access in guarded_tools(server)} == {"ls", "rm", "fail", "c_ls", "c_rm", "c_fail"}
    assert_all_guarded(server)


def test_a_server_with_guarded_and_unguarded_tools():
    parent = files(name="parent")
    mount(parent, files(PolicyMiddleware(Recorder()), name="child"), "c")
    found = {access.tool: access.guarded for access in guarded_tools(parent)}
    assert found == {"ls": False, "rm": False, "fail": False, "c_ls": True, "c_rm": True, "c_fail": True}


# -- who calls, over HTTP

TWO = {"ls": {"rate_limit": {"max": 2, "window": 60}}}
TOKENS = {name: {"client_id": "app", "sub": name, "scopes": [], "iss": "https://id.example"} for name in ("ann", "bob")}
BASE = "http://127.0.0.1:8000"


@contextlib.asynccontextmanager
async def over_http(app: Any, headers: dict[str, str]) -> AsyncIterator[ClientSession]:
    async with (
        httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=BASE, headers=headers) as http,
        streamable_http_client(f"{BASE}/mcp", http_client=http) as (read, write, _),
        ClientSession(read, write) as session,
    ):
        await session.initialize()
        yield session


def attempts(
    engine: Any, connections: list[dict[str, str]], calls: int = 1, *, auth=False, stateless=False
) -> list[bool]:
    async def run() -> list[bool]:
        server = FastMCP(
            "files", auth=StaticTokenVerifier(TOKENS) if auth else None, middleware=[PolicyMiddleware(engine)]
        )
        server.tool(lambda: "/", name="ls")
        app, ran = server.http_app(stateless_http=stateless, json_response=True), []
        async with app.router.lifespan_context(app):
            for headers in connections:
                async with over_http(app, headers) as client:
                    ran += [not (await client.call_tool("ls", {})).isError for _ in range(calls)]
        return ran

    return asyncio.run(run())


def test_a_session_that_the_server_keeps_is_an_identity():
    engine = Recorder(TWO)
    assert attempts(engine, [{}, {}], calls=3) == [True, True, False] * 2
    assert len({call.session for call in engine.calls}) == 2


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
    assert {call.principal.client for call in engine.calls} == {"app"}


def test_a_host_can_say_who_calls():
    engine, ann = Recorder(), Principal("ann")
    ask(files(PolicyMiddleware(engine, identity=lambda context: (ann, "s1"))), "ls")
    assert (engine.calls[0].principal, engine.calls[0].session) == (ann, "s1")


def test_an_identity_that_raises_denies():
    def broken(context: Any) -> Any:
        raise RuntimeError("no directory")

    server = files(PolicyMiddleware(Recorder(), identity=broken))
    refused(ask(server, "ls"), "deny", "internal_error")
    assert listed(server) == []
    assert server.ran == []


def test_this_is_an_older_fastmcp():
    assert fastmcp.__version__.startswith(f"{MAJOR}.")
    assert MAJOR in (2, 3)
