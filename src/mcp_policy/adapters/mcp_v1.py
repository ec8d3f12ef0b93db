"""The MCP SDK, 1.x: `guard_server(server, engine)` for the lowlevel `Server` and for `FastMCP` of `mcp.server.fastmcp`.

- The handlers of `tools/call` and `tools/list` are wrapped, also those that are registered later. A call is judged
  once, where it comes in, whatever handlers its own hands it on to. A call that asks to run as a task is a call.
- A refusal is a result with `isError`, text and `_meta`, never `structuredContent` and never a JSON-RPC error.
- A hidden tool and a tool that the server does not list get one and the same answer, which is that of `FastMCP` to an
  unknown tool. So a tool that is not listed cannot be called. A server without a handler of `tools/list` is taken to
  have every tool.
- A call is judged before the SDK validates its arguments: what the schema of a hidden tool is stays hidden, too.
- The SDK lists the tools for its own use, with no request: that list stays whole, and no client sees it.
- Lists show what the caller may ever call.
- Where the policy asks for categories, a tool's comes from its definition: in a list from the one in this very list, in
  a call from the one that the server lists to this very caller now.
- A session over HTTP is one whose handshake this server has seen, and goes by an id of the server's own. A stateless
  server sees none, whatever id its clients send.
- Versions from 1.10 on are guarded. What an older one lacks (subjects and claims in tokens, questions by way of a page)
  it goes without.

Functions called in this process (`server.call_tool(...)`) are the host's own calls and are not guarded.
"""

from __future__ import annotations

import logging
from collections import UserDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any, Final, Self, TypeVar

try:
    from mcp import types
    from mcp.server.auth.middleware.auth_context import get_access_token
    from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
    from mcp.server.fastmcp import FastMCP
    from mcp.server.lowlevel import Server
    from mcp.server.lowlevel.server import request_ctx
    from mcp.shared.context import RequestContext
except ImportError as error:
    raise ImportError(
        'this adapter needs the MCP SDK 1.x: pip install "mcp-policy[mcp-v1]"; for 2.x use `mcp_policy.adapters.mcp`'
    ) from error

from mcp_policy.answer import answer, is_hidden
from mcp_policy.decision import Decision
from mcp_policy.engine import PolicyEngine
from mcp_policy.guard import has_failed
from mcp_policy.placement import check_engine

from ._asking import client_of
from ._common import (
    UNREADABLE,
    Caller,
    IdentityHook,
    Judge,
    Known,
    admit,
    caller,
    definition_text,
    definition_texts,
    handshake_session,
    is_admitted,
    release,
)
from ._mediation import ANY, Access, check, run
from .approvers import Approver, Client

log: Final = logging.getLogger("mcp_policy")

ServerT = TypeVar("ServerT", bound="Server[Any, Any] | FastMCP[Any]")
Handler = Callable[[Any], Awaitable[Any]]

_OLDEST: Final = (1, 10)
_PAGES: Final = 100
_MARK: Final = "_mcp_policy_guard"


_looking: Final[ContextVar[object]] = ContextVar("mcp_policy_looking", default=None)
"""The guard that looks a tool up in its server's list, which it needs whole."""


def guard_server(
    server: ServerT,
    engine: PolicyEngine,
    *,
    server_name: str | None = None,
    identity: IdentityHook | None = None,
    approver: Approver | None = None,
) -> ServerT:
    """Put `engine` in front of every tool of `server`, and return `server`.

    `server_name` is the name under which the policy knows the server, its own unless given. `identity` is called with
    the request context and returns the principal and the session, each or None; without it they are what the transport
    has authenticated. `approver` is asked, in the middle of the call, where a call needs an approval
    (`mcp_policy.adapters.approvers`). Raises `TypeError` for anything but a `Server` or `FastMCP` of the SDK,
    `ValueError` for a server that is guarded already, `RuntimeError` where the SDK is not one that can be guarded.
    """
    lowlevel = _lowlevel(server)
    if hasattr(lowlevel, _MARK):
        raise ValueError(f"server `{lowlevel.name}` is guarded already")
    _check_stack(lowlevel, version("mcp"))
    judge = Judge(check_engine(engine), identity or identify, approver)
    guard = _ServerGuard(lowlevel, judge, server_name or lowlevel.name)
    setattr(lowlevel, _MARK, guard)
    guard.install()
    return server


def guarded_tools(server: Server[Any, Any] | FastMCP[Any]) -> tuple[Access, ...]:
    """Return each tool of `server` and whether all calls of it meet a policy; `*` for tools that it does not name.

    Raises `TypeError` for anything but a `Server` or `FastMCP` of the SDK.
    """
    lowlevel = _lowlevel(server)
    why = _way_past(lowlevel)
    return tuple(Access(name, not why, why) for name in run(lambda: _names(server, lowlevel)))


def assert_all_guarded(server: Server[Any, Any] | FastMCP[Any]) -> None:
    """Raise `UnguardedTools`, an `AssertionError`, where a tool of `server` can be called past the policy."""
    check(guarded_tools(server))


def identify(context: Any) -> Caller:
    """Return who calls, as the transport knows it."""
    request = context.request
    if request is None:
        return caller(_whole(get_access_token()), None, None)
    # not the context variable: over HTTP that is whoever began the session
    user = request.scope.get("user")
    token = user.access_token if isinstance(user, AuthenticatedUser) else None
    return caller(_whole(token), request, handshake_session(context.session))


def _whole(token: Any) -> Any:
    """Return a token with all that is asked of one: those of older versions know neither subject nor claims."""
    if token is None or (hasattr(token, "subject") and hasattr(token, "claims")):
        return token
    subject, claims = getattr(token, "subject", None), getattr(token, "claims", None)
    return SimpleNamespace(client_id=token.client_id, scopes=token.scopes, subject=subject, claims=claims)


def _check_stack(lowlevel: Server[Any, Any], found: str) -> None:
    """Raise `RuntimeError` for an SDK that hands calls on in a way that is not known here."""
    release = tuple(int(part) if part.isdigit() else 0 for part in found.split(".")[:2])
    if not _OLDEST <= release < (2,):
        raise RuntimeError(f"mcp {found} is installed; this adapter guards 1.10 and later, below 2")
    handlers = getattr(lowlevel, "request_handlers", None)
    if type(handlers) is not dict:
        raise RuntimeError(f"the handlers of mcp {found} stand in a `{type(handlers).__name__}`, not in a `dict`")
    if "request" not in RequestContext.__dataclass_fields__:
        raise RuntimeError(f"the context of a request in mcp {found} does not say where the request comes from")


def _lowlevel(server: object) -> Server[Any, Any]:
    inner = server._mcp_server if isinstance(server, FastMCP) else server
    of_fastmcp = any(base.__module__.partition(".")[0] == "fastmcp" for base in type(inner).__mro__)
    if of_fastmcp or not isinstance(inner, Server):
        hint = "; use `PolicyMiddleware` of `mcp_policy.adapters.fastmcp`" if of_fastmcp else ""
        raise TypeError(
            f"`guard_server` takes a `Server` or `FastMCP` of the MCP SDK 1.x, not `{type(server).__name__}`{hint}"
        )
    return inner


def _way_past(lowlevel: Server[Any, Any]) -> str:
    guard = getattr(lowlevel, _MARK, None)
    if guard is None:
        return "the server has no guard; `guard_server(server, engine)` puts one there"
    if lowlevel.request_handlers is not guard.handlers:
        return "the server's handlers were put past the guard"
    for request, method in ((types.CallToolRequest, "tools/call"), (types.ListToolsRequest, "tools/list")):
        handler = guard.handlers.get(request)
        if handler is not None and handler not in guard.made:
            return f"the handler of `{method}` was put past the guard"
    return ""


async def _names(server: Server[Any, Any] | FastMCP[Any], lowlevel: Server[Any, Any]) -> Sequence[str]:
    if isinstance(server, FastMCP):
        return [tool.name for tool in await server.list_tools()] or [ANY]
    guard = getattr(lowlevel, _MARK, None)
    handler: Handler | None = lowlevel.request_handlers.get(types.ListToolsRequest)
    if isinstance(guard, _ServerGuard):
        handler = guard.listing
    if handler is None:
        return [ANY]
    try:
        return [tool.name async for tools, _ in _pages(handler, guard) for tool in tools] or [ANY]
    except Exception:
        log.exception("the tools of `%s` cannot be listed without a client", lowlevel.name)
        return [ANY]


class _Handlers(UserDict[type, Handler]):
    """The handlers of a server, with the guard around those that serve tools, whenever they come."""

    def __init__(self, guard: _ServerGuard, handlers: Mapping[type, Handler]) -> None:
        self._guard = guard
        super().__init__(handlers)

    def __setitem__(self, request: type, handler: Handler) -> None:
        super().__setitem__(request, self._guard.wrapped(request, handler))

    def __ior__(self, other: Any) -> Self:  # type: ignore[override, misc]  # the inherited one goes past the guard
        self.update(other)
        return self


class _ServerGuard:
    """What stands around one server's handlers."""

    def __init__(self, server: Server[Any, Any], judge: Judge, name: str) -> None:
        self._server = server
        self._judge = judge
        self._name = name
        self._known: Known[bool] = Known()
        self.listing: Handler | None = None
        self.handlers: Any = None
        self.made: list[Handler] = []

    def install(self) -> None:
        """Wrap what is registered, and whatever will be."""
        self.handlers = _Handlers(self, self._server.request_handlers)
        self._server.request_handlers = self.handlers
        experimental = getattr(self._server, "_experimental_handlers", None)
        if experimental is not None:  # it keeps the mapping that it registers in
            experimental._request_handlers = self.handlers

    def wrapped(self, request: type, handler: Handler) -> Handler:
        """Return what is to be registered for a kind of request."""
        if request is types.CallToolRequest:

            async def guarded(asked: types.CallToolRequest) -> Any:
                return await self._call(handler, asked)

            self.made.append(guarded)
            return guarded
        if request is types.ListToolsRequest:
            self.listing = handler

            async def filtered(asked: types.ListToolsRequest | None) -> Any:
                result = await handler(asked)
                if asked is None or _looking.get() is self:  # None: the SDK's own list
                    return result
                return self._shown(result)

            self.made.append(filtered)
            return filtered
        return handler

    # -- calls

    async def _call(self, handler: Handler, asked: types.CallToolRequest) -> Any:
        context, params = request_ctx.get(), asked.params
        name = params.name
        if is_admitted(self, name, params.arguments):
            return await handler(asked)
        if self._known.get(name) is None and not await self._has(name):
            return _unknown(name)
        listed = await self._definition(name) if self._judge.engine.asks_definitions else None
        client: Client | None = None
        if self._judge.approver is not None:
            client = client_of(_asking(context.session), context.request_id, None, None)
        decision, arguments = await self._judge.decide(context, self._name, name, params.arguments, listed, client)
        if not decision.allowed:
            return _unknown(name) if is_hidden(decision) or not await self._has(name) else _refused(decision)
        params.arguments = arguments  # the judged copy; the request was made for this call alone
        return await self._run(handler, asked, decision)

    async def _run(self, handler: Handler, asked: types.CallToolRequest, decision: Decision) -> Any:
        token = admit(self, asked.params.name, asked.params.arguments)
        try:
            result = await handler(asked)
        except Exception as error:
            if has_failed(error):
                await self._judge.engine.refund_async(decision)
            raise
        finally:
            release(token)
        if getattr(_inner(result), "isError", False) is True:
            await self._judge.engine.refund_async(decision)
        return result

    # -- what the server has

    async def _has(self, name: str) -> bool:
        """Return whether the server has the tool, by asking it; a server that cannot say is taken to have it."""
        self._known.forget(name)
        if self.listing is None:
            return True
        try:
            async for tools, _ in _pages(self.listing, self):
                for tool in tools:
                    self._known.add(tool.name, True)
        except Exception:
            log.exception("the tools of `%s` cannot be listed: %r is taken to exist", self._name, name)
            return True
        return self._known.get(name) is not None

    async def _definition(self, name: str) -> str | None:
        """Return the tool's definition as the server lists it to this caller now; None where it lists nothing."""
        if self.listing is None:
            return None
        found: set[str] = set()
        whole = False
        try:
            async for tools, more in _pages(self.listing, self):
                found.update(definition_text(tool) for tool in tools if tool.name == name)
                whole = more is None
        except Exception:
            log.exception("the tools of `%s` cannot be listed: the category of %r is unknown", self._name, name)
            return UNREADABLE
        return found.pop() if whole and len(found) == 1 else UNREADABLE

    def _shown(self, result: Any) -> Any:
        """Return the list without the tools that the caller may never call."""
        listed = _inner(result)
        if not isinstance(listed, types.ListToolsResult):
            raise TypeError(f"the handler of `tools/list` returned `{type(listed).__name__}`, which cannot be filtered")
        shows = self._judge.viewer(request_ctx.get(), self._name)
        texts: Sequence[str | None] = [None] * len(listed.tools)
        if self._judge.engine.asks_definitions:
            texts = definition_texts((tool.name, tool) for tool in listed.tools)
        shown = [tool for tool, text in zip(listed.tools, texts, strict=True) if shows(tool.name, text)]
        return types.ServerResult(listed.model_copy(update={"tools": shown}))


def _asking(session: Any) -> Any:
    """Return what asks the client at the other end: older versions name forms otherwise, and have no pages."""
    if hasattr(session, "elicit_form"):
        return session
    return SimpleNamespace(client_params=session.client_params, elicit_form=session.elicit)


async def _pages(listing: Handler, guard: object) -> AsyncIterator[tuple[list[types.Tool], str | None]]:
    """Yield the pages of a list: the tools and where the next page begins. Lists without an end are cut."""
    cursor = None
    for _ in range(_PAGES):
        token = _looking.set(guard)
        try:
            result = _inner(await listing(_asks(cursor)))
        finally:
            _looking.reset(token)
        cursor = result.nextCursor
        yield result.tools, cursor
        if cursor is None:
            return


def _asks(cursor: str | None) -> types.ListToolsRequest:
    # older versions have no default for `method`
    return types.ListToolsRequest(method="tools/list", params=types.PaginatedRequestParams(cursor=cursor))


def _inner(result: Any) -> Any:
    return result.root if isinstance(result, types.ServerResult) else result


def _unknown(name: str) -> types.ServerResult:
    """Return what `FastMCP` answers to a tool that it does not have."""
    return _said(f"Unknown tool: {name}", None)


def _refused(decision: Decision) -> types.ServerResult:
    return _said(*answer(decision))


def _said(text: str, meta: dict[str, Any] | None) -> types.ServerResult:
    content: list[Any] = [types.TextContent(type="text", text=text)]
    return types.ServerResult(types.CallToolResult(content=content, isError=True, _meta=meta))
