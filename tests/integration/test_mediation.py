"""Whether every tool of a server meets the policy can be proved."""

from __future__ import annotations

import asyncio
from typing import Any

import mcp_types as types
import pytest
from fastmcp import FastMCP
from fastmcp.server.middleware.caching import ResponseCachingMiddleware
from fastmcp.server.transforms.search import RegexSearchTransform
from mcp.server.lowlevel import Server
from mcp.server.mcpserver import MCPServer

from integration.stacks import Recorder
from mcp_policy.adapters import Access, UnguardedTools
from mcp_policy.adapters import fastmcp as fastmcp_guard
from mcp_policy.adapters.fastmcp import PolicyMiddleware
from mcp_policy.adapters.mcp import assert_all_guarded, guard_server, guarded_tools


def ls() -> str:
    return "/"


def high() -> MCPServer:
    server = MCPServer("files")
    server.add_tool(ls)
    return server


async def pages(ctx: Any, params: Any) -> types.ListToolsResult:
    page = int(params.cursor or 0)
    tool = types.Tool(name=f"tool {page}", input_schema={"type": "object"})
    return types.ListToolsResult(tools=[tool], next_cursor=str(page + 1) if page < 2 else None)


async def run_it(ctx: Any, params: Any) -> types.CallToolResult:
    return types.CallToolResult(content=[])


def low(**handlers: Any) -> Server:
    return Server("files", **{"on_list_tools": pages, "on_call_tool": run_it, **handlers})


def test_a_guarded_server_is_proved():
    server = guard_server(high(), Recorder())
    assert guarded_tools(server) == (Access("ls", True),)
    assert_all_guarded(server)


def test_tools_that_the_policy_hides_are_proved_too():
    assert guarded_tools(guard_server(high(), Recorder(hide=["ls"]))) == (Access("ls", True),)


def test_all_pages_are_looked_at():
    server = guard_server(low(), Recorder())
    assert [access.tool for access in guarded_tools(server)] == ["tool 0", "tool 1", "tool 2"]
    assert_all_guarded(server)


@pytest.mark.parametrize("make", [high, low])
def test_a_server_without_a_guard_is_found(make):
    with pytest.raises(UnguardedTools, match="the server has no guard") as raised:
        assert_all_guarded(make())
    assert raised.value.tools[0].tool in str(raised.value)
    assert isinstance(raised.value, AssertionError)


def test_tools_that_come_later_are_guarded():
    server = guard_server(high(), Recorder())
    server.add_tool(ls, name="later")
    assert [access.tool for access in guarded_tools(server)] == ["ls", "later"]
    assert_all_guarded(server)


@pytest.mark.parametrize("method", ["tools/call", "tools/list"])
def test_a_handler_put_past_the_guard_is_found(method):
    server = guard_server(low(), Recorder())
    entry = server.get_request_handler(method)
    handler = {"tools/call": run_it, "tools/list": pages}[method]
    Server.add_request_handler(server, method, entry.params_type, handler)
    with pytest.raises(UnguardedTools, match=f"the handler of `{method}` was put past the guard"):
        assert_all_guarded(server)


def test_a_handler_registered_later_is_guarded():
    server = guard_server(Server("files"), Recorder())
    server.add_request_handler("tools/call", types.CallToolRequestParams, run_it)
    server.add_request_handler("tools/list", types.PaginatedRequestParams, pages)
    assert_all_guarded(server)
    assert len(guarded_tools(server)) == 3


def test_a_server_that_cannot_say_what_it_has():
    async def broken(ctx: Any, params: Any) -> Any:
        return ctx.session.nothing

    for handlers in ({"on_list_tools": broken}, {"on_list_tools": None}):
        assert guarded_tools(guard_server(low(**handlers), Recorder())) == (Access("*", True),)
        with pytest.raises(UnguardedTools):
            assert_all_guarded(low(**handlers))


def test_it_can_be_asked_where_an_event_loop_runs():
    async def at_start() -> None:
        assert_all_guarded(guard_server(high(), Recorder()))

    asyncio.run(at_start())


def test_what_is_no_server_cannot_be_proved():
    with pytest.raises(TypeError, match="takes a `Server` or `MCPServer`"):
        assert_all_guarded(object())


# -- fastmcp


def files(*middleware: Any, name: str = "files") -> FastMCP:
    server = FastMCP(name, middleware=list(middleware))
    server.tool(ls)
    return server


def found_on(server: FastMCP) -> dict[str, bool]:
    return {access.tool: access.guarded for access in fastmcp_guard.guarded_tools(server)}


def test_a_fastmcp_server_is_proved():
    server = files(PolicyMiddleware(Recorder(hide=["ls"])))
    server.tool(ls, name="later")
    assert found_on(server) == {"ls": True, "later": True}
    fastmcp_guard.assert_all_guarded(server)


def test_a_fastmcp_server_without_a_guard_is_found():
    with pytest.raises(UnguardedTools, match="server `files` has no guard"):
        fastmcp_guard.assert_all_guarded(files())
    with pytest.raises(UnguardedTools, match=r"`\*`: server `empty` has no guard"):
        fastmcp_guard.assert_all_guarded(FastMCP("empty"))


def test_mounted_servers_are_behind_the_outermost_guard():
    parent = files(PolicyMiddleware(Recorder()), name="parent")
    parent.mount(files(name="child"), "c")
    assert found_on(parent) == {"ls": True, "c_ls": True}


def test_a_guarded_server_is_guarded_where_it_is_mounted():
    parent = files(name="parent")
    parent.mount(files(PolicyMiddleware(Recorder()), name="child"), "c")
    assert found_on(parent) == {"ls": False, "c_ls": True}


def test_a_mounted_server_whose_tools_are_called_by_name_needs_a_guard():
    def parent(*guards: Any) -> FastMCP:
        child = files(*guards, name="child")
        child.add_transform(RegexSearchTransform())
        server = FastMCP("parent", middleware=[PolicyMiddleware(engine)])
        server.mount(child, "c")
        return server

    engine = Recorder()
    with pytest.raises(UnguardedTools, match="a tool of the mounted server `child` calls it by name"):
        fastmcp_guard.assert_all_guarded(parent())
    fastmcp_guard.assert_all_guarded(parent(PolicyMiddleware(engine)))


def test_a_cache_outside_the_guard_is_found():
    guard, cache = PolicyMiddleware(Recorder()), ResponseCachingMiddleware()
    fastmcp_guard.assert_all_guarded(files(guard, cache))
    with pytest.raises(UnguardedTools, match="`ResponseCachingMiddleware` stands outside the guard"):
        fastmcp_guard.assert_all_guarded(files(cache, guard))


def test_what_is_no_fastmcp_server_cannot_be_proved():
    with pytest.raises(TypeError, match="looks at a `FastMCP` server"):
        fastmcp_guard.assert_all_guarded(high())
