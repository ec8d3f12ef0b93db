"""fastmcp 4: `mcp.add_middleware(PolicyMiddleware(engine))`.

- A refusal is a `ToolResult` with `is_error`, text and `meta`; it is never raised and never has structured content.
- A hidden tool gets what fastmcp says to a tool that it does not have, and so does a tool that it does not have,
  whatever the policy says to its name.
- A tool is judged by the name under which the server lists it, also when it is addressed by its hashed name.
- A mounted server's own guard of the same engine leaves the call to the guard around it. A call that a tool makes on
  its own server is a call of its own: a tool that calls tools by name (search transforms add one) is no way around.
- Lists show what the caller may ever call, and are private to the caller's cache.

Add it before middleware that caches results, and after middleware that rewrites calls: what middleware further in makes
of a call is not judged again.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextvars import ContextVar, Token
from dataclasses import replace
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

try:
    import fastmcp
    import mcp_types as types
    from fastmcp import FastMCP
    from fastmcp.exceptions import NotFoundError
    from fastmcp.server.context import Context  # noqa: TC002  # hosts may ask for the types of these functions
    from fastmcp.server.dependencies import get_access_token
    from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext
    from fastmcp.server.providers.addressing import parse_hashed_backend_name
    from fastmcp.tools.base import Tool, ToolResult
except ImportError as error:
    raise ImportError('this adapter needs fastmcp 4: pip install "mcp-policy[fastmcp]"') from error

from mcp_policy.answer import answer, is_hidden
from mcp_policy.decision import Decision
from mcp_policy.engine import PolicyEngine
from mcp_policy.guard import has_failed
from mcp_policy.placement import check_engine

from ._common import Caller, IdentityHook, Judge, Known, caller, issued_session

log: Final = logging.getLogger("mcp_policy")

CallContext = MiddlewareContext[types.CallToolRequestParams]
CallTool = CallNext[types.CallToolRequestParams, ToolResult]
ListContext = MiddlewareContext[types.ListToolsRequest]
ListTools = CallNext[types.ListToolsRequest, Sequence[Tool]]

SUPPORTED: Final = 4


class _Decided(NamedTuple):
    """An engine that has decided on the request at hand, and the servers that it decided for."""

    engine: PolicyEngine
    request: object
    servers: tuple[object, ...]


_decided: ContextVar[tuple[_Decided, ...]] = ContextVar("mcp_policy_decided", default=())


class PolicyMiddleware(Middleware):
    """Puts `engine` in front of every tool of a fastmcp 4 server.

    `server` is the name under which the policy knows the server, its own unless given. `identity` is called with
    fastmcp's `Context` and returns the principal and the session, each or None; without it they are what the transport
    has authenticated. Raises `RuntimeError` where another major version of fastmcp is installed.
    """

    def __init__(
        self, engine: PolicyEngine, *, server: str | None = None, identity: IdentityHook | None = None
    ) -> None:
        if fastmcp.__version__.partition(".")[0] != str(SUPPORTED):
            raise RuntimeError(f"this adapter is made for fastmcp {SUPPORTED}, and {fastmcp.__version__} is installed")
        self._judge = Judge(check_engine(engine), identity or identify)
        self._server = server
        self._known: WeakKeyDictionary[FastMCP[Any], Known] = WeakKeyDictionary()

    async def on_call_tool(self, context: CallContext, call_next: CallTool) -> ToolResult:
        """Let a call through, or answer it in the policy's name."""
        at = context.fastmcp_context
        token, delegated = _enter(self._judge.engine, at)
        try:
            return await (call_next(context) if delegated else self._call(at, context, call_next))
        finally:
            _decided.reset(token)

    async def on_list_tools(self, context: ListContext, call_next: ListTools) -> Sequence[Tool]:
        """List what the caller may ever call."""
        at = context.fastmcp_context
        token, delegated = _enter(self._judge.engine, at)
        try:
            tools = await call_next(context)
        finally:
            _decided.reset(token)
        if delegated:
            return tools
        _keep_private(at)
        shows = self._judge.viewer(at, self._name(at))
        return [tool for tool in tools if shows(tool.name)]

    async def _call(self, at: Context | None, context: CallContext, call_next: CallTool) -> ToolResult:
        name = context.message.name
        listed = self._known_to(at).get(name) or await self._find(at, name)
        if listed is None:
            raise _unknown(name)
        decision, arguments = await self._judge.decide(at, self._name(at), listed, context.message.arguments)
        if decision.allowed:
            context.message.arguments = arguments  # the judged copy; the message was made for this call alone
            return await self._run(context, call_next, decision)
        if is_hidden(decision) or await self._find(at, name) is None:
            raise _unknown(name)
        return _refused(decision)

    async def _run(self, context: CallContext, call_next: CallTool, decision: Decision) -> ToolResult:
        try:
            result = await call_next(context)
        except Exception as error:
            if has_failed(error):
                await self._judge.engine.refund_async(decision)
            raise
        if getattr(result, "is_error", False) is True:  # an extension may answer with something of its own
            await self._judge.engine.refund_async(decision)
        return result

    def _name(self, at: Context | None) -> str | None:
        return self._server or (None if at is None else at.fastmcp.name)

    def _known_to(self, at: Context | None) -> Known:
        if at is None:
            return Known()
        known = self._known.get(at.fastmcp)
        if known is None:
            known = self._known[at.fastmcp] = Known()
        return known

    async def _find(self, at: Context | None, name: str) -> str | None:
        """Return the name under which the server lists what `name` reaches; one that cannot say has it."""
        if at is None:
            return name
        known = self._known_to(at)
        known.forget(name)
        try:
            tool = await _tool(at.fastmcp, name)
        except Exception:
            log.exception("whether the server has %r could not be found out: it is taken to exist", name)
            return name
        if tool is not None and tool.name == name:
            known.add(name)
        return None if tool is None else tool.name


def identify(context: Context | None) -> Caller:
    """Return who calls, as the transport knows it."""
    request = None if context is None else context.request_context
    if request is None:
        return caller(get_access_token(), None, None)
    return caller(get_access_token(), request.request, issued_session(request.session))


async def _tool(server: FastMCP[Any], name: str) -> Tool | None:
    """Resolve a name as fastmcp does when it calls: by the listed name, then by the hashed one."""
    tool = await server.get_tool(name)
    if tool is None and (hashed := parse_hashed_backend_name(name)) is not None:
        tool = await server.get_tool_by_hash(*hashed)
    return tool


def _enter(engine: PolicyEngine, at: Context | None) -> tuple[Token[Any], bool]:
    """Note that `engine` looks after the request here; tell whether it has decided already, for a server around it."""
    server, request = (None, None) if at is None else (at.fastmcp, at.request_context)
    entries = _decided.get()
    for entry in reversed(entries):
        if entry.engine is engine and entry.request is request:
            delegated = all(one is not server for one in entry.servers)
            servers = (*entry.servers, server) if delegated else (server,)
            return _decided.set((*entries, _Decided(engine, request, servers))), delegated
    return _decided.set((*entries, _Decided(engine, request, (server,)))), False


def _keep_private(at: Context | None) -> None:
    """Take back a server-wide hint that lists of tools may be shared between callers."""
    hints = getattr(getattr(at.fastmcp, "_mcp_server", None), "cache_hints", {}) if at is not None else {}
    hint = hints.get("tools/list")
    if hint is not None and hint.scope != "private":
        hints["tools/list"] = replace(hint, scope="private")


def _unknown(name: str) -> NotFoundError:
    """Return what fastmcp raises for a tool that it does not have."""
    return NotFoundError(f"Unknown tool: {name!r}")


def _refused(decision: Decision) -> ToolResult:
    text, meta = answer(decision)
    return ToolResult(content=[types.TextContent(type="text", text=text)], meta=meta, is_error=True)
