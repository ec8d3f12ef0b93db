"""The gateway's connections to one server: who shares which, and when they end. Knows fastmcp's proxy client.

- `Lanes.client` is what fastmcp's proxy asks for a client, once for each request; the connection behind it lasts.
- What a server sends unasked (questions, logs) goes to the session whose connection it came over, and nowhere else.
- No more than `MOST` sessions have connections at once: nobody can start processes without end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from copy import copy
from typing import Any, Final, Self

from anyio import BrokenResourceError, ClosedResourceError, EndOfStream
from fastmcp.client import Client  # noqa: TC002  # hosts may ask for the types of these functions
from fastmcp.client.messages import MessageHandler
from fastmcp.client.transports import ClientTransport  # noqa: TC002
from fastmcp.exceptions import ToolError
from fastmcp.server.context import Context  # noqa: TC002
from fastmcp.server.dependencies import get_context
from fastmcp.server.providers.proxy import (
    ProxyClient,
    _make_restoring_handler,
    _stash_proxy_request_context,
    default_proxy_progress_handler,
)
from mcp import MCPError
from mcp_types import CONNECTION_CLOSED, INVALID_REQUEST

ROUNDS: Final = "2026-07-28"
"""The protocol version from which on there are no sessions. Versions are dates and sort as text."""

MOST: Final = 100
"""Most sessions of clients over HTTP that are connected to a server at once."""

_SILENT: Final[dict[str, Any]] = dict.fromkeys(("roots", "sampling_handler", "elicitation_handler", "log_handler"))


class FullError(RuntimeError):
    """No further session can be connected."""


def is_lost(error: BaseException | None) -> bool:
    """Tell whether an error means that a server was not reached, or is gone; its own errors are none of these."""
    if isinstance(error, MCPError):
        return error.code == CONNECTION_CLOSED or _is_terminated(error) or is_lost(error.__cause__)
    if isinstance(error, ToolError):  # what fastmcp makes of a failure on the way
        return is_lost(error.__cause__)
    lost = (OSError, RuntimeError, TimeoutError, ClosedResourceError, BrokenResourceError, EndOfStream)
    return isinstance(error, lost) or type(error).__module__.partition(".")[0] in {"httpx2", "httpcore2"}


def _is_terminated(error: BaseException) -> bool:
    """Tell whether a server has ended the session; the connection is there, and worth nothing."""
    return isinstance(error, MCPError) and error.code == INVALID_REQUEST and error.message == "Session terminated"


class _Each(ProxyClient[Any]):
    """A client for single requests over a connection that is there already: to enter and leave it costs nothing."""

    def __init__(self, base: ProxyClient[Any]) -> None:
        super().__init__(base.transport, forward_incoming_headers=False)
        self._session_state = base._session_state

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """The connection stays."""

    def new(self) -> _Each:
        """Return a client for one request; the progress that is heard of is this request's."""
        made = copy(self)
        made._proxy_rc_ref = [None]
        made._progress_handler = _make_restoring_handler(default_proxy_progress_handler, made._proxy_rc_ref)
        return made


class _Changes(MessageHandler):
    """Hears from a server that its lists changed."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed

    async def on_notification(self, message: Any) -> None:
        if str(getattr(message, "method", "")).endswith("/list_changed"):
            self._changed()


class Lane:
    """One connection, opened when it is first needed and again when it was lost."""

    def __init__(
        self, transport: Callable[[], ClientTransport], mode: str, changed: Callable[[], None], *, forwards: bool
    ) -> None:
        self._transport, self.mode, self._changed, self._forwards = transport, mode, changed, forwards
        self._lock = asyncio.Lock()
        self._base: ProxyClient[Any] | None = None
        self._each: _Each | None = None

    @property
    def is_modern(self) -> bool:
        """Whether the server speaks an era without sessions here."""
        version = None if self._base is None else self._base.protocol_version
        return version is not None and version >= ROUNDS

    async def client(self, context: Context | None = None) -> Client[Any]:
        """Return a client for one request, over the one connection."""
        async with self._lock:
            if self._base is None or self._each is None or _is_closed(self._base):
                await self._close()
                self._base = await self._opened()
                self._each = _Each(self._base)
            if context is not None and self._forwards:
                _stash_proxy_request_context(self._base, context)  # whom a question of the server's is for
            return self._each.new()

    async def aclose(self) -> None:
        """End the connection."""
        async with self._lock:
            await self._close()

    async def _opened(self) -> ProxyClient[Any]:
        base = unconnected(self._transport(), self.mode, self._changed, forwards=self._forwards)
        await base.__aenter__()  # type: ignore[no-untyped-call]
        return base

    async def _close(self) -> None:
        base, self._base, self._each = self._base, None, None
        if base is not None:
            with suppress(Exception):  # whatever it was, it is over
                await base.close()  # type: ignore[no-untyped-call]


def unconnected(
    transport: ClientTransport, mode: str, changed: Callable[[], None], *, forwards: bool
) -> ProxyClient[Any]:
    """Return a client that is to be connected."""
    silent = {} if forwards else _SILENT
    return ProxyClient(
        transport, mode=mode, forward_incoming_headers=False, message_handler=_Changes(changed), **silent
    )


class Lanes:
    """All connections to one server. `on_change` is called when the server says that a list changed."""

    def __init__(self, transport: Callable[[], ClientTransport], *, one_client: bool, is_process: bool) -> None:
        self._transport, self._one_client, self._is_process = transport, one_client, is_process
        self._lock = asyncio.Lock()
        self._main = self._lane("auto", forwards=one_client)
        self._of: dict[object, Lane] = {}
        self.on_change: Callable[[], None] = lambda: None

    async def start(self) -> None:
        """Connect, so that what is wrong is known before anybody calls."""
        await self._main.client()

    async def client(self) -> Client[Any]:
        """Return a client for the request at hand."""
        context = _context()
        version = None if context is None else _version(context)
        if self._one_client:
            await self._follow(version)
            return await self._main.client(context)
        if version is None or version >= ROUNDS:
            if self._is_process or self._main.is_modern or context is None:
                return await self._main.client()
            return unconnected(self._transport(), "legacy", self._changed, forwards=False)
        return await self._lane_of(_connection(context)).client(context)

    async def failed(self, error: BaseException) -> None:
        """Note that the request at hand failed: a session that the server has ended is not used again."""
        context = _context()
        if context is not None and _is_terminated(error):
            lane = self._main if self._one_client else self._of.get(_connection(context))
            if lane is not None:
                await lane.aclose()

    async def aclose(self) -> None:
        """End all connections."""
        lanes, self._of = [self._main, *self._of.values()], {}
        await asyncio.gather(*(lane.aclose() for lane in lanes))

    async def _follow(self, version: str | None) -> None:
        """Speak the one client's era, as soon as it is known."""
        if version is None or version >= ROUNDS or not self._main.is_modern:
            return
        async with self._lock:
            if self._main.is_modern:
                await self._main.aclose()
                self._main = self._lane("legacy", forwards=True)

    def _lane_of(self, connection: Any) -> Lane:
        lane = self._of.get(connection)
        if lane is None:
            if len(self._of) >= MOST:
                raise FullError(f"{MOST} sessions are connected, and no more can be")
            lane = self._of[connection] = self._lane("legacy", forwards=True)

            async def end() -> None:
                self._of.pop(connection, None)
                await asyncio.shield(lane.aclose())

            connection.exit_stack.push_async_callback(end)
        return lane

    def _lane(self, mode: str, *, forwards: bool) -> Lane:
        return Lane(self._transport, mode, self._changed, forwards=forwards)

    def _changed(self) -> None:
        self.on_change()


def _context() -> Context | None:
    """Return the context of the request at hand; None while nobody asks, and before a session has begun."""
    try:
        context = get_context()
    except RuntimeError:
        return None
    return None if context.request_context is None else context


def _version(context: Context) -> str | None:
    request = context.request_context
    return None if request is None else request.protocol_version


def _connection(context: Any) -> Any:
    return context.session._connection  # fastmcp's stateful proxy tells sessions apart by it


def _is_closed(client: Client[Any]) -> bool:
    """Tell whether a connection has ended; the SDK says so only here."""
    if not client.is_connected():
        return True
    return bool(getattr(getattr(client.session, "_dispatcher", None), "_closed", False))
