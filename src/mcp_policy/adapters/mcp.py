"""The MCP SDK, 2.x: `guard_server(server, engine)` for the lowlevel `Server` and for `MCPServer`.

- The handlers of `tools/call` and `tools/list` are wrapped, also those that are registered later. A call is judged
  once, where it comes in, whatever handlers its own hands it on to.
- A refusal is a result with `isError`, text and `_meta`, never `structuredContent` and never a JSON-RPC error.
- A hidden tool and a tool that the server does not list get one and the same answer, which is that of `MCPServer` to an
  unknown tool. So a tool that is not listed cannot be called. A server without a handler of `tools/list` is taken to
  have every tool.
- Lists show what the caller may ever call, and are private to the caller's cache.
- Where the policy asks for categories, a tool's comes from its definition: in a list from the one in this very list, in
  a call from the one that the server lists to this very caller now. No definition is kept from one request to the next:
  it may have changed since, or be what another caller or page got. A server that cannot say, or says different things
  on different pages, has tools of unknown category.
- Schemas for the `Mcp-Param-*` headers are looked up in the caller's own list: they do not give a hidden tool away.

Functions called in this process (`server.call_tool(...)`) are the host's own calls and are not guarded.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar, cast

try:
    import mcp_types as types
    from mcp.server.auth.middleware.auth_context import get_access_token
    from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
    from mcp.server.context import ServerRequestContext
    from mcp.server.lowlevel import Server
    from mcp.server.mcpserver import MCPServer
except ImportError as error:
    raise ImportError(
        'this adapter needs the MCP SDK 2.x: pip install "mcp-policy[mcp]"; for 1.x use `mcp_policy.adapters.mcp_v1`'
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
    is_admitted,
    issued_session,
    release,
)
from ._mediation import ANY, Access, check, run
from .approvers import Approver, Client, NotYet

log: Final = logging.getLogger("mcp_policy")

ServerT = TypeVar("ServerT", bound="Server[Any] | MCPServer[Any]")
Context = ServerRequestContext[Any, Any]
Handler = Callable[[Context, Any], Awaitable[Any]]

CALL: Final = "tools/call"
LIST: Final = "tools/list"
_PAGES: Final = 100
_MARK: Final = "_mcp_policy_guard"


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
    (`mcp_policy.adapters.approvers`). Raises `TypeError` for anything but a `Server` or `MCPServer` of the SDK,
    `ValueError` for a server that is guarded already.
    """
    lowlevel = _lowlevel(server)
    if hasattr(lowlevel, _MARK):
        raise ValueError(f"server `{lowlevel.name}` is guarded already")
    judge = Judge(check_engine(engine), identity or identify, approver)
    guard = _ServerGuard(lowlevel, judge, server_name or lowlevel.name)
    setattr(lowlevel, _MARK, guard)
    guard.install()
    return server


def guarded_tools(server: Server[Any] | MCPServer[Any]) -> tuple[Access, ...]:
    """Return each tool of `server` and whether all calls of it meet a policy; `*` for tools that it does not name.

    Raises `TypeError` for anything but a `Server` or `MCPServer` of the SDK.
    """
    lowlevel = _lowlevel(server)
    why = _way_past(lowlevel)
    return tuple(Access(name, not why, why) for name in run(lambda: _names(server, lowlevel)))


def assert_all_guarded(server: Server[Any] | MCPServer[Any]) -> None:
    """Raise `UnguardedTools`, an `AssertionError`, where a tool of `server` can be called past the policy."""
    check(guarded_tools(server))


def identify(context: Context) -> Caller:
    """Return who calls, as the transport knows it."""
    request = context.request
    if request is None:
        token = get_access_token()
    else:
        user = request.scope.get("user")
        token = user.access_token if isinstance(user, AuthenticatedUser) else None
    return caller(token, request, issued_session(context.session))


def _lowlevel(server: object) -> Server[Any]:
    inner = getattr(server, "_lowlevel_server", None) if isinstance(server, MCPServer) else server
    if not isinstance(inner, Server):
        hint = "; use `PolicyMiddleware` of `mcp_policy.adapters.fastmcp`" if hasattr(server, "add_middleware") else ""
        raise TypeError(
            f"`guard_server` takes a `Server` or `MCPServer` of the MCP SDK 2.x, not `{type(server).__name__}`{hint}"
        )
    return inner


def _way_past(lowlevel: Server[Any]) -> str:
    guard = getattr(lowlevel, _MARK, None)
    if guard is None:
        return "the server has no guard; `guard_server(server, engine)` puts one there"
    for method in (CALL, LIST):
        entry = lowlevel.get_request_handler(method)
        if entry is not None and entry.handler not in guard.made:
            return f"the handler of `{method}` was put past the guard"
    return ""


async def _names(server: Server[Any] | MCPServer[Any], lowlevel: Server[Any]) -> Sequence[str]:
    if isinstance(server, MCPServer):
        return [tool.name for tool in await server.list_tools()] or [ANY]
    guard = getattr(lowlevel, _MARK, None)
    entry = lowlevel.get_request_handler(LIST)
    list_tools: Handler | None = None if entry is None else entry.handler
    if isinstance(guard, _ServerGuard):
        list_tools = guard.listing
    if list_tools is None:
        return [ANY]
    nobody: Any = None  # a list that depends on who asks cannot be had this way
    context: Context = ServerRequestContext(
        session=nobody, lifespan_context={}, protocol_version=types.LATEST_PROTOCOL_VERSION, method=LIST
    )
    try:
        return [_name(tool) async for tools, _ in _pages(list_tools, context) for tool in tools] or [ANY]
    except Exception:
        log.exception("the tools of `%s` cannot be listed without a client", lowlevel.name)
        return [ANY]


class _ServerGuard:
    """What stands around one server's handlers."""

    def __init__(self, server: Server[Any], judge: Judge, name: str) -> None:
        self._server = server
        self._judge = judge
        self._name = name
        self._known: Known[bool] = Known()
        self.listing: Handler | None = None
        self.made: list[Handler] = []
        self._schema_of = server.get_tool_input_schema
        self._register = server.add_request_handler

    def install(self) -> None:
        """Wrap what is registered, and whatever will be."""
        self._server.get_tool_input_schema = None  # the SDK then asks our own list, on behalf of the caller
        for method in (LIST, CALL):
            entry = self._server.get_request_handler(method)
            if entry is not None:
                self.add(method, entry.params_type, entry.handler)
        self._server.add_request_handler = self.add  # type: ignore[method-assign]  # a handler registered later is guarded too

    def add(self, method: str, params_type: Any, handler: Handler) -> None:
        """Register a handler, as `Server.add_request_handler`, with the guard around it where it serves tools."""
        if method == LIST:
            self.listing = handler
        self._register(method, params_type, self._wrapped(method, handler))

    def _wrapped(self, method: str, handler: Handler) -> Handler:
        if method == CALL:

            async def guarded(context: Context, params: types.CallToolRequestParams) -> Any:
                return await self._call(handler, context, params)

            self.made.append(guarded)
            return guarded
        if method == LIST:

            async def filtered(context: Context, params: Any) -> Any:
                return self._shown(context, await handler(context, params))

            self.made.append(filtered)
            return filtered
        return handler

    # -- calls

    async def _call(self, handler: Handler, context: Context, params: types.CallToolRequestParams) -> Any:
        name = params.name
        if is_admitted(self, name, params.arguments):
            return await handler(context, params)
        if self._known.get(name) is None and not await self._has(context, name):
            return _unknown(name)
        listed = await self._definition(context, name) if self._judge.engine.asks_definitions else None
        client = self._client(context, params) if self._judge.approver is not None else None
        try:
            decision, arguments = await self._judge.decide(context, self._name, name, params.arguments, listed, client)
        except NotYet as question:
            return _asked(question)
        if not decision.allowed:
            if is_hidden(decision) or not await self._has(context, name):
                return _unknown(name)
            return _refused(decision)
        params.arguments = arguments  # the judged copy; both objects were made for this call alone
        context.params = {**(context.params or {}), "arguments": arguments}
        return await self._run(handler, context, params, decision)

    def _client(self, context: Context, params: types.CallToolRequestParams) -> Client:
        return client_of(context.session, context.request_id, context.protocol_version, params.input_responses)

    async def _run(
        self, handler: Handler, context: Context, params: types.CallToolRequestParams, decision: Decision
    ) -> Any:
        token = admit(self, params.name, params.arguments)
        try:
            result = await handler(context, params)
        except Exception as error:
            if has_failed(error):
                await self._judge.engine.refund_async(decision)
            raise
        finally:
            release(token)
        if _is_error(result):
            await self._judge.engine.refund_async(decision)
        return result

    # -- what the server has

    async def _has(self, context: Context, name: str) -> bool:
        """Return whether the server has the tool, by asking it; a server that cannot say is taken to have it."""
        self._known.forget(name)
        try:
            if self._schema_of is not None and self._schema_of(name) is not None:
                self._known.add(name, True)
            elif self.listing is None:
                return True
            else:
                async for tools, _ in _pages(self.listing, context):
                    for tool in tools:
                        self._known.add(_name(tool), True)
        except Exception:
            log.exception("the tools of `%s` cannot be listed: %r is taken to exist", self._name, name)
            return True
        return self._known.get(name) is not None

    async def _definition(self, context: Context, name: str) -> str | None:
        """Return the tool's definition as the server lists it to this caller now; None where the server lists nothing.

        It is asked anew for each call: what another caller, or this one earlier, was told is not what is called now.
        """
        if self.listing is None:
            return None
        found: set[str] = set()
        whole = False
        try:
            async for tools, more in _pages(self.listing, context):
                found.update(definition_text(tool) for tool in tools if _name(tool) == name)
                whole = more is None
        except Exception:
            log.exception("the tools of `%s` cannot be listed: the category of %r is unknown", self._name, name)
            return UNREADABLE
        return found.pop() if whole and len(found) == 1 else UNREADABLE

    def _shown(self, context: Context, result: Any) -> Any:
        """Return the list without the tools that the caller may never call."""
        if not isinstance(result, types.ListToolsResult | Mapping):
            raise TypeError(f"the handler of `{LIST}` returned `{type(result).__name__}`, which cannot be filtered")
        shows, tools = self._judge.viewer(context, self._name), _tools(result)
        texts: Sequence[str | None] = [None] * len(tools)
        if self._judge.engine.asks_definitions:
            texts = definition_texts((_name(tool), tool) for tool in tools)
        shown = [tool for tool, text in zip(tools, texts, strict=True) if shows(_name(tool), text)]
        if isinstance(result, types.ListToolsResult):
            return result.model_copy(update={"tools": shown, "cache_scope": "private"})
        return {**result, "tools": shown, "cacheScope": "private"}


async def _pages(list_tools: Handler, context: Context) -> AsyncIterator[tuple[list[Any], str | None]]:
    """Yield the pages of the caller's list: the tools and where the next page begins. Lists without an end are cut."""
    cursor = None
    for _ in range(_PAGES):
        request = replace(context, method=LIST, params={} if cursor is None else {"cursor": cursor})
        result = await list_tools(request, types.PaginatedRequestParams(cursor=cursor))
        cursor = result.next_cursor if isinstance(result, types.ListToolsResult) else result.get("nextCursor")
        yield _tools(result), cursor
        if cursor is None:
            return


def _tools(result: Any) -> list[Any]:
    return list(result.tools if isinstance(result, types.ListToolsResult) else result["tools"])


def _name(tool: Any) -> str:
    return cast("str", tool["name"] if isinstance(tool, Mapping) else tool.name)


def _unknown(name: str) -> types.CallToolResult:
    """Return what `MCPServer` answers to a tool that it does not have."""
    return types.CallToolResult(content=[types.TextContent(type="text", text=f"Unknown tool: {name}")], is_error=True)


def _refused(decision: Decision) -> types.CallToolResult:
    text, meta = answer(decision)
    return types.CallToolResult(content=[types.TextContent(type="text", text=text)], is_error=True, _meta=meta)


def _asked(question: NotYet) -> types.InputRequiredResult:
    """Return what ends a call with a question, which the client answers when it calls again."""
    asked: types.ElicitRequestFormParams | types.ElicitRequestURLParams
    if question.schema is not None:
        asked = types.ElicitRequestFormParams(message=question.message, requested_schema=dict(question.schema))
    else:
        asked = types.ElicitRequestURLParams(message=question.message, url=str(question.url))
    return types.InputRequiredResult(input_requests={question.key: types.ElicitRequest(params=asked)})


def _is_error(result: Any) -> bool:
    if isinstance(result, Mapping):
        return result.get("isError") is True
    return getattr(result, "is_error", False) is True
