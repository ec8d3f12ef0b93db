"""fastmcp 4, 3 and 2 (from 2.14): `mcp.add_middleware(PolicyMiddleware(engine))`.

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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

try:
    from fastmcp import FastMCP
    from fastmcp.exceptions import NotFoundError
    from fastmcp.server.context import Context  # noqa: TC002  # hosts may ask for the types of these functions
    from fastmcp.server.dependencies import get_access_token
    from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext
except ImportError as error:
    raise ImportError('this adapter needs fastmcp 2.14 or newer: pip install "mcp-policy[fastmcp]"') from error

from mcp_policy.answer import answer, is_hidden
from mcp_policy.decision import Decision
from mcp_policy.engine import PolicyEngine
from mcp_policy.guard import has_failed
from mcp_policy.placement import check_engine

from . import _fastmcp_stack as stack
from ._asking import client_of
from ._common import UNREADABLE, Caller, IdentityHook, Judge, Known, caller, definition_text
from ._mediation import ANY, Access, check, run
from .approvers import Approver, Client, NotYet

log: Final = logging.getLogger("mcp_policy")

CallContext = MiddlewareContext[Any]
CallTool = CallNext[Any, Any]
ListContext = MiddlewareContext[Any]
ListTools = CallNext[Any, Any]


class _Found(NamedTuple):
    """What a name reaches: the name under which the server lists it, and the way to it through mounted servers."""

    listed: str
    hops: tuple[stack.Hop, ...]


class _Decided(NamedTuple):
    """An engine that has decided on the request at hand, and for which further hops; None: for the lists below it."""

    engine: PolicyEngine
    request: object
    hops: list[stack.Hop] | None


_decided: ContextVar[tuple[_Decided, ...]] = ContextVar("mcp_policy_decided", default=())


class PolicyMiddleware(Middleware):
    """Puts `engine` in front of every tool of a fastmcp server (2.14 or newer, 3, 4).

    `server` is the name under which the policy knows the server, its own unless given. `identity` is called with
    fastmcp's `Context` and returns the principal and the session, each or None; without it they are what the transport
    has authenticated. `approver` is asked, in the middle of the call, where a call needs an approval
    (`mcp_policy.adapters.approvers`).
    """

    def __init__(
        self,
        engine: PolicyEngine,
        *,
        server: str | None = None,
        identity: IdentityHook | None = None,
        approver: Approver | None = None,
    ) -> None:
        self._judge = Judge(check_engine(engine), identity or identify, approver)
        self._server = server
        self._known: WeakKeyDictionary[FastMCP[Any], Known[_Found]] = WeakKeyDictionary()

    async def on_call_tool(self, context: CallContext, call_next: CallTool) -> Any:
        """Let a call through, or answer it in the policy's name."""
        at, on = context.fastmcp_context, self._on(context)
        if at is not None and _expected(self._judge.engine, at, on, context.message.name):
            return await call_next(context)
        name = context.message.name
        found = self._known_to(on).get(name) or await self._find(on, name)
        if found is None:
            raise _unknown(name)
        definition = await self._definition(on, context.message)
        client = None if self._judge.approver is None or at is None else _client(at, context.message)
        try:
            decision, arguments = await self._judge.decide(
                at, self._name(on), found.listed, context.message.arguments, definition, client
            )
        except NotYet as question:
            return stack.question(question)
        if decision.allowed:
            context.message.arguments = arguments  # the judged copy; the message was made for this call alone
            with _deciding(self._judge.engine, at, list(found.hops)):
                return await self._run(context, call_next, decision)
        if is_hidden(decision) or await self._find(on, name) is None:
            raise _unknown(name)
        return stack.refusal(answer(decision))

    async def on_list_tools(self, context: ListContext, call_next: ListTools) -> Sequence[Any]:
        """List what the caller may ever call."""
        at = context.fastmcp_context
        delegated = _in_list(self._judge.engine, at)
        with _deciding(self._judge.engine, at, None):
            tools: Sequence[Any] = await call_next(context)
        if delegated:
            return tools
        on = self._on(context)
        _keep_private(on)
        shows = self._judge.viewer(at, self._name(on))
        asked = self._judge.engine.asks_definitions
        return [tool for tool in tools if shows(stack.listed_name(tool), _text(tool) if asked else None)]

    async def _run(self, context: CallContext, call_next: CallTool, decision: Decision) -> Any:
        try:
            result = await call_next(context)
        except Exception as error:
            if has_failed(error):
                await self._judge.engine.refund_async(decision)
            raise
        if getattr(result, "is_error", False) is True:  # an extension may answer with something of its own
            await self._judge.engine.refund_async(decision)
        return result

    def _on(self, context: MiddlewareContext[Any]) -> FastMCP[Any] | None:
        at = context.fastmcp_context
        return None if at is None else stack.server_of(at, self)

    def _name(self, on: FastMCP[Any] | None) -> str | None:
        return self._server or (None if on is None else on.name)

    def _known_to(self, on: FastMCP[Any] | None) -> Known[_Found]:
        if on is None:
            return Known()
        known = self._known.get(on)
        if known is None:
            known = self._known[on] = Known()
        return known

    async def _definition(self, on: FastMCP[Any] | None, message: Any) -> str | None:
        """Return the definition of what is about to be called, or None where it is not asked for or nobody can say."""
        if on is None or not self._judge.engine.asks_definitions:
            return None
        try:
            tool = await stack.find(on, message.name, stack.asked_version(message))
        except Exception:
            log.exception("the definition of %r could not be found out: its category is unknown", message.name)
            return UNREADABLE
        return UNREADABLE if tool is None else _text(tool)

    async def _find(self, on: FastMCP[Any] | None, name: str) -> _Found | None:
        """Return what a name reaches on the server; one that cannot say has it."""
        if on is None:
            return _Found(name, ())
        known = self._known_to(on)
        known.forget(name)
        try:
            tool = await stack.find(on, name)
            found = None if tool is None else _Found(stack.listed_name(tool), await stack.hops(on, tool))
        except Exception:
            log.exception("whether the server has %r could not be found out: it is taken to exist", name)
            return _Found(name, ())
        if found is not None and found.listed == name:
            known.add(name, found)
        return found


def guarded_tools(server: FastMCP[Any]) -> tuple[Access, ...]:
    """Return each tool of `server` and whether all calls of it meet a policy; `*` where there is none to name.

    Tools of mounted servers are included. Raises `TypeError` for what is no fastmcp server.
    """
    if not isinstance(server, FastMCP):
        raise TypeError(f"this looks at a `FastMCP` server of fastmcp, not `{type(server).__name__}`")
    return run(lambda: _accesses(server))


def assert_all_guarded(server: FastMCP[Any]) -> None:
    """Raise `UnguardedTools`, an `AssertionError`, where a tool of `server` can be called past the policy."""
    check(guarded_tools(server))


async def _accesses(server: FastMCP[Any]) -> tuple[Access, ...]:
    own, found = _way_past(server), []
    inside: list[Any] = []
    for name in await stack.names(server):
        tool = await stack.find(server, name)
        way = [] if tool is None else [at for at, _ in await stack.hops(server, tool)]
        why = own and ("" if any(not _way_past(at) for at in way) else own)
        found.append(Access(name, not why, why))
        inside += [at for at in way if at not in inside]
    for at in inside:
        if _way_past(at) and stack.calls_by_name(at):
            why = f"a tool of the mounted server `{at.name}` calls it by name, and that server has no guard of its own"
            found += [Access(name, False, why) for name in await stack.names(at)]
    return tuple(found) or (Access(ANY, not own, own),)


def _way_past(server: Any) -> str:
    """Return why a call of this server may not meet a guard of its own."""
    for middleware in server.middleware:
        if isinstance(middleware, PolicyMiddleware):
            return ""
        if type(middleware).__name__ == "ResponseCachingMiddleware":
            return "`ResponseCachingMiddleware` stands outside the guard, and answers from what others were given"
    return f"server `{server.name}` has no guard; `server.add_middleware(PolicyMiddleware(engine))` puts one there"


def identify(context: Context | None) -> Caller:
    """Return who calls, as the transport knows it."""
    request = None if context is None else context.request_context
    if request is None:
        return caller(get_access_token(), None, None)
    session = None if request.request is None else stack.session_of(request.session)
    return caller(get_access_token(), request.request, session)


def _client(at: Context, message: Any) -> Client | None:
    request: Any = at.request_context
    if request is None:
        return None
    version = getattr(request, "protocol_version", None)
    return client_of(request.session, request.request_id, version, getattr(message, "input_responses", None))


def _text(tool: Any) -> str:
    """Return a tool's definition as the server lists it."""
    return definition_text(tool.to_mcp_tool(name=stack.listed_name(tool)) if hasattr(tool, "to_mcp_tool") else tool)


@contextmanager
def _deciding(engine: PolicyEngine, at: Context | None, hops: list[stack.Hop] | None) -> Iterator[None]:
    """Note what `engine` has decided on, for the guards further in."""
    request = None if at is None else at.request_context
    token = _decided.set((*_decided.get(), _Decided(engine, request, hops)))
    try:
        yield
    finally:
        _decided.reset(token)


def _expected(engine: PolicyEngine, at: Context, on: object, name: str) -> bool:
    """Tell whether this very hop has been decided on by a guard around this one; each counts once."""
    for entry in reversed(_decided.get()):
        if entry.engine is engine and entry.request is at.request_context and entry.hops:
            for place, (server, tool) in enumerate(entry.hops):
                if server is on and tool == name:
                    del entry.hops[place]
                    return True
    return False


def _in_list(engine: PolicyEngine, at: Context | None) -> bool:
    """Tell whether a guard around this one filters the list that is being made; inside a call none does."""
    request = None if at is None else at.request_context
    own = [entry for entry in _decided.get() if entry.engine is engine and entry.request is request]
    return bool(own) and own[-1].hops is None


def _keep_private(on: object) -> None:
    """Take back a server-wide hint that lists of tools may be shared between callers."""
    hints = getattr(getattr(on, "_mcp_server", None), "cache_hints", {})
    hint = hints.get("tools/list")
    if hint is not None and hint.scope != "private":
        hints["tools/list"] = replace(hint, scope="private")


def _unknown(name: str) -> NotFoundError:
    """Return what fastmcp raises for a tool that it does not have."""
    return NotFoundError(f"Unknown tool: {name!r}")


stack.shut_tasks(PolicyMiddleware)
