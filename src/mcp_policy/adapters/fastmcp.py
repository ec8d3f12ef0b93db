"""fastmcp 4: `mcp.add_middleware(PolicyMiddleware(engine))`.

- A refusal is a `ToolResult` with `is_error`, text and `meta`; it is never raised and never has structured content.
- A hidden tool gets what fastmcp says to a tool that it does not have, and so does a tool that it does not have,
  whatever the policy says to its name.
- A tool is judged by the name under which the server lists it, also when it is addressed by its hashed name.
- A mounted server's own guard of the same engine leaves a call to the guard around it, for the very hop that was
  decided on, once. Whatever else a tool calls on a guarded server, by name or in the background, is a call of its own,
  judged by that server's names. So a tool that calls tools by name (search transforms add one) is no way around, as
  long as the server it calls is guarded itself: guard what you mount, or deny such tools.
- Lists show what the caller may ever call, and are private to the caller's cache.
- Where the policy asks for categories, a tool's comes from its definition as the guarded server has it: in a list from
  the one in this very list, in a call from the one (and the version) that is about to be called, read anew each time.

Add it before middleware that caches results, and after middleware that rewrites calls: what middleware further in makes
of a call is not judged again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, Final, NamedTuple, cast
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
    from fastmcp.utilities.versions import VersionSpec
except ImportError as error:
    raise ImportError('this adapter needs fastmcp 4: pip install "mcp-policy[fastmcp]"') from error

from mcp_policy.answer import answer, is_hidden
from mcp_policy.decision import Decision
from mcp_policy.engine import PolicyEngine
from mcp_policy.guard import has_failed
from mcp_policy.placement import check_engine

from ._common import UNREADABLE, Caller, IdentityHook, Judge, Known, caller, definition_text, issued_session

log: Final = logging.getLogger("mcp_policy")

CallContext = MiddlewareContext[types.CallToolRequestParams]
CallTool = CallNext[types.CallToolRequestParams, ToolResult]
ListContext = MiddlewareContext[types.ListToolsRequest]
ListTools = CallNext[types.ListToolsRequest, Sequence[Tool]]

SUPPORTED: Final = 4


Hop = tuple[object, str]  # a mounted server, and the name by which its tool is called


class _Found(NamedTuple):
    """What a name reaches: the name under which the server lists it, and the way to it through mounted servers."""

    listed: str
    hops: tuple[Hop, ...]


class _Decided(NamedTuple):
    """An engine that has decided on the request at hand, and for which further hops; None: for the lists below it."""

    engine: PolicyEngine
    request: object
    hops: list[Hop] | None


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
        self._known: WeakKeyDictionary[FastMCP[Any], Known[_Found]] = WeakKeyDictionary()

    async def on_call_tool(self, context: CallContext, call_next: CallTool) -> ToolResult:
        """Let a call through, or answer it in the policy's name."""
        at = context.fastmcp_context
        if at is not None and _expected(self._judge.engine, at, context.message.name):
            return await call_next(context)
        name = context.message.name
        found = self._known_to(at).get(name) or await self._find(at, name)
        if found is None:
            raise _unknown(name)
        definition = await self._definition(at, context.message)
        decision, arguments = await self._judge.decide(
            at, self._name(at), found.listed, context.message.arguments, definition
        )
        if decision.allowed:
            context.message.arguments = arguments  # the judged copy; the message was made for this call alone
            with _deciding(self._judge.engine, at, list(found.hops)):
                return await self._run(context, call_next, decision)
        if is_hidden(decision) or await self._find(at, name) is None:
            raise _unknown(name)
        return _refused(decision)

    async def on_list_tools(self, context: ListContext, call_next: ListTools) -> Sequence[Tool]:
        """List what the caller may ever call."""
        at = context.fastmcp_context
        delegated = _in_list(self._judge.engine, at)
        with _deciding(self._judge.engine, at, None):
            tools = await call_next(context)
        if delegated:
            return tools
        _keep_private(at)
        shows = self._judge.viewer(at, self._name(at))
        asked = self._judge.engine.asks_definitions
        return [tool for tool in tools if shows(tool.name, _text(tool) if asked else None)]

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

    def _known_to(self, at: Context | None) -> Known[_Found]:
        if at is None:
            return Known()
        known = self._known.get(at.fastmcp)
        if known is None:
            known = self._known[at.fastmcp] = Known()
        return known

    async def _definition(self, at: Context | None, message: types.CallToolRequestParams) -> str | None:
        """Return the definition of what is about to be called, or None where it is not asked for or nobody can say."""
        if at is None or not self._judge.engine.asks_definitions:
            return None
        try:
            tool = await _tool(at.fastmcp, message.name, _version(message))
        except Exception:
            log.exception("the definition of %r could not be found out: its category is unknown", message.name)
            return UNREADABLE
        return UNREADABLE if tool is None else _text(tool)

    async def _find(self, at: Context | None, name: str) -> _Found | None:
        """Return what a name reaches on the server; one that cannot say has it."""
        if at is None:
            return _Found(name, ())
        known = self._known_to(at)
        known.forget(name)
        try:
            tool = await _tool(at.fastmcp, name)
            found = None if tool is None else _Found(tool.name, await _hops(tool))
        except Exception:
            log.exception("whether the server has %r could not be found out: it is taken to exist", name)
            return _Found(name, ())
        if found is not None and found.listed == name:
            known.add(name, found)
        return found


def identify(context: Context | None) -> Caller:
    """Return who calls, as the transport knows it."""
    request = None if context is None else context.request_context
    if request is None:
        return caller(get_access_token(), None, None)
    return caller(get_access_token(), request.request, issued_session(request.session))


def _version(message: types.CallToolRequestParams) -> VersionSpec | None:
    """Return the version of a tool that a call asks for by itself: it need not be the one that is listed."""
    about = cast("dict[str, Any]", message.meta or {}).get("fastmcp")
    asked = about.get("version") if isinstance(about, Mapping) else None
    if isinstance(asked, Mapping):  # a range, which only the host's own code can ask for
        return VersionSpec(**asked)
    return VersionSpec(eq=asked) if isinstance(asked, str) and asked else None


def _text(tool: Any) -> str:
    """Return a tool's definition as the server lists it."""
    return definition_text(tool.to_mcp_tool(name=tool.name) if isinstance(tool, Tool) else tool)


async def _tool(server: FastMCP[Any], name: str, version: VersionSpec | None = None) -> Tool | None:
    """Resolve a name as fastmcp does when it calls: by the listed name, then by the hashed one."""
    tool = await server.get_tool(name, version)
    if tool is None and (hashed := parse_hashed_backend_name(name)) is not None:
        tool = await server.get_tool_by_hash(*hashed)
    return tool


async def _hops(tool: Tool) -> tuple[Hop, ...]:
    """Return the way that a call of this tool takes through mounted servers; what cannot be told is judged again."""
    hops: list[Hop] = []
    at: Any = tool
    while at is not None:
        at = getattr(at, "parent_tool", None) or at
        server, name = getattr(at, "_server", None), getattr(at, "_original_name", None)
        if not isinstance(server, FastMCP) or not isinstance(name, str):
            break
        hops.append((server, name))
        at = await server.get_tool(name)
    return tuple(hops)


@contextmanager
def _deciding(engine: PolicyEngine, at: Context | None, hops: list[Hop] | None) -> Iterator[None]:
    """Note what `engine` has decided on, for the guards further in."""
    request = None if at is None else at.request_context
    token = _decided.set((*_decided.get(), _Decided(engine, request, hops)))
    try:
        yield
    finally:
        _decided.reset(token)


def _expected(engine: PolicyEngine, at: Context, name: str) -> bool:
    """Tell whether this very hop has been decided on by a guard around this one; each counts once."""
    for entry in reversed(_decided.get()):
        if entry.engine is engine and entry.request is at.request_context and entry.hops:
            for place, (server, tool) in enumerate(entry.hops):
                if server is at.fastmcp and tool == name:
                    del entry.hops[place]
                    return True
    return False


def _in_list(engine: PolicyEngine, at: Context | None) -> bool:
    """Tell whether a guard around this one filters the list that is being made; inside a call none does."""
    request = None if at is None else at.request_context
    own = [entry for entry in _decided.get() if entry.engine is engine and entry.request is request]
    return bool(own) and own[-1].hops is None


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
