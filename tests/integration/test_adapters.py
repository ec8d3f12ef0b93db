"""What holds for every adapter: what it says where its framework is missing, and how it remembers tools."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import mcp_types as types
import pytest
from fastmcp.server.middleware import MiddlewareContext
from mcp.server.lowlevel import Server

import mcp_policy
from integration.stacks import Recorder, facts
from mcp_policy.adapters._common import Caller, Known, caller
from mcp_policy.adapters.fastmcp import NotFoundError, PolicyMiddleware
from mcp_policy.adapters.mcp import guard_server

SOURCE = str(Path(mcp_policy.__file__).parent.parent)


@pytest.mark.parametrize(
    ("adapter", "missing", "extra"), [("mcp", "mcp.server.mcpserver", "mcp"), ("fastmcp", "fastmcp", "fastmcp")]
)
def test_a_missing_framework_is_named_with_what_installs_it(adapter, missing, extra):
    code = f"import sys; sys.modules[{missing!r}] = None; import mcp_policy.adapters.{adapter}"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": SOURCE}, check=False
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("ImportError: this adapter needs ")
    assert f'pip install "mcp-policy[{extra}]"' in done.stderr


def test_memory_of_tools_is_bounded(monkeypatch):
    monkeypatch.setattr(Known, "_MOST", 3)
    known: Known[bool] = Known()
    for number in range(10):
        known.add(f"tool {number}", True)
        assert known.get(f"tool {number}")
        assert len(known._names) <= 3
    known.forget("tool 9")
    known.forget("tool 9")
    assert known.get("tool 9") is None


@pytest.mark.parametrize(
    ("request_", "session_id", "found"),
    [
        (None, None, Caller(None, "process")),
        (None, "s1", Caller(None, "s1")),
        (object(), "s1", Caller(None, "s1")),
        (object(), "", Caller(None, None)),
        (object(), None, Caller(None, None)),
    ],
)
def test_who_calls_without_a_token(request_, session_id, found):
    assert caller(None, request_, session_id) == found


def test_a_middleware_outside_a_server_still_decides():
    async def call_next(_: Any) -> str:
        return "ran"

    def ask(engine: Recorder, tool: str) -> Any:
        message = types.CallToolRequestParams(name=tool, arguments={})
        context = MiddlewareContext(message=message, method="tools/call")
        return asyncio.run(PolicyMiddleware(engine).on_call_tool(context, call_next))

    engine = Recorder({"ls": {}, "rm": {"action": "deny"}}, hide=["secret"])
    assert ask(engine, "ls") == "ran"
    assert facts(ask(engine, "rm"))["effect"] == "deny"
    with pytest.raises(NotFoundError, match="Unknown tool: 'secret'"):
        ask(engine, "secret")
    assert (engine.calls[0].session, engine.calls[0].server) == ("process", None)


def test_a_middleware_outside_a_server_still_filters():
    async def call_next(_: Any) -> list[types.Tool]:
        return [types.Tool(name=name, input_schema={"type": "object"}) for name in ("ls", "rm")]

    context = MiddlewareContext(message=types.ListToolsRequest(), method="tools/list")
    shown = asyncio.run(PolicyMiddleware(Recorder({"ls": {}})).on_list_tools(context, call_next))
    assert [tool.name for tool in shown] == ["ls"]


def test_what_is_no_list_cannot_be_filtered():
    async def odd(ctx: Any, params: Any) -> Any:
        return types.EmptyResult()

    server = guard_server(Server("s", on_list_tools=odd), Recorder())
    handler = server.get_request_handler("tools/list").handler
    with pytest.raises(TypeError, match="cannot be filtered"):
        asyncio.run(handler(None, None))


def test_lists_without_an_end_are_given_up():
    asked = []

    async def endless(ctx: Any, params: Any) -> types.ListToolsResult:
        asked.append(params.cursor)
        tool = types.Tool(name="ls", input_schema={"type": "object"})
        return types.ListToolsResult(tools=[tool], next_cursor="again")

    async def call_tool(ctx: Any, params: Any) -> types.CallToolResult:
        raise AssertionError

    from mcp.server.context import ServerRequestContext

    server = guard_server(Server("s", on_list_tools=endless, on_call_tool=call_tool), Recorder())
    context = ServerRequestContext(
        session=None, lifespan_context={}, protocol_version="2026-07-28", method="tools/call"
    )
    handler = server.get_request_handler("tools/call").handler
    result = asyncio.run(handler(context, types.CallToolRequestParams(name="rm", arguments={})))
    assert result.content[0].text == "Unknown tool: rm"
    assert len(asked) == 100
