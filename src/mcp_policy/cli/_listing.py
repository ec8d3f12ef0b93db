"""What tools servers have, asked of many at once with the official MCP client. Needs the extra `mcp`.

Rules kept here:

- One server's failure is its own: each listing holds the tools, or the reason why there are none, never both.
- A list that is not whole is no list: a server that pages on and on, sends too much or is too slow has failed.
- Definitions are taken as they came over the wire. The client's own typed view drops what it does not know.
- A reason never holds what the settings keep secret, nor a part of it: no value of `env`, `headers` or a `${VAR}`, no
  query of an address. It is masked before anything is cut or escaped: half a secret would not be found any more.
- Nothing is called, and no request of a server's is answered with anything but a refusal.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any, Final, NamedTuple

from ..catalogue.definition import read_definition
from ._child import MAX_BYTES, Child, started
from ._render import visible
from ._servers import Server

MAX_TOOLS: Final = 10_000
MAX_PAGES: Final = 500

_METHOD_NOT_FOUND: Final = -32601
_NOT_FOR_US: Final = (401, 403)  # the older transport would not be let in either
_LONGEST_REASON: Final = 300  # characters
_LONGEST_COLOUR: Final = 32  # characters


class Listing(NamedTuple):
    """One server's tools as it lists them, or why there are none. `introduced` is what it calls itself."""

    server: str
    tools: tuple[dict[str, Any], ...] = ()
    introduced: str = ""
    failure: str | None = None
    note: str | None = None
    seconds: float = 0.0


Report = Callable[[str, Listing | None], None]
"""Told of each server twice: with None when it is asked, with its listing when that is there."""


async def list_all(servers: Sequence[Server], *, seconds: float, at_once: int, report: Report) -> tuple[Listing, ...]:
    """Return one listing for each server, in their order; each has so many seconds from its start to its list."""
    places = asyncio.Semaphore(at_once)

    async def one(server: Server) -> Listing:
        async with places:
            report(server.name, None)
            began = monotonic()
            listing = (await _listing(server, seconds))._replace(seconds=monotonic() - began)
            report(server.name, listing)
            return listing

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(server)) for server in servers]
    return tuple(task.result() for task in tasks)


async def _listing(server: Server, seconds: float) -> Listing:
    if server.problem is not None or server.note is not None:
        return Listing(server.name, failure=server.problem, note=server.note)
    try:
        introduced, tools = await _asked(server, seconds)
    except _SlowError as error:
        return _failed(server, f"it did not answer within {seconds:g} s{error}")
    except Exception as error:  # noqa: BLE001  # whatever one server does, the others are listed
        return _failed(server, _told(error, server))
    return Listing(server.name, tuple(tools), introduced)


def _failed(server: Server, reason: str) -> Listing:
    return Listing(server.name, failure=_without_secrets(reason, server))


def check(tools: Any) -> None:
    """Refuse a list with an entry that cannot be judged: one tool unseen is a list that is not whole."""
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise ListingError("has no list of `tools`, as an answer to `tools/list` has")
    for number, tool in enumerate(tools, 1):
        try:
            read_definition(tool)
        except ValueError as error:
            raise ListingError(f"entry {number} of the list: {error}") from None


async def _asked(server: Server, seconds: float) -> tuple[str, list[dict[str, Any]]]:
    """Return what a server calls itself, and its tools. Servers of the first protocols may need a second try."""
    until = asyncio.get_running_loop().time() + seconds
    if server.kind == "stdio":
        try:
            return await _from_child(server, until, "auto")
        except _EndedError:
            return await _from_child(server, until, "legacy")
    if server.kind == "sse":
        return await _from_address(server, until, sse=True)
    try:
        return await _from_address(server, until, sse=False)
    except _RefusedError as error:
        if server.kind == "http" or error.status in _NOT_FOR_US:
            raise
        try:
            return await _from_address(server, until, sse=True)
        except Exception:  # noqa: BLE001  # the first answer tells more
            raise error from None


class ListingError(Exception):
    """A server failed to list its tools; the message is for people."""


class _EndedError(ListingError):
    """The child ended before it had answered."""


class _RefusedError(ListingError):
    """The server answered a request with an error status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class _SlowError(ListingError):
    """The time was up; the message is what is known beyond that."""


async def _from_child(server: Server, until: float, mode: str) -> tuple[str, list[dict[str, Any]]]:
    async with started(server.command, env=server.env, cwd=server.cwd) as (child, transport):
        try:
            async with asyncio.timeout_at(until):
                return await _conversation(transport, mode)
        except TimeoutError:
            raise _SlowError(_quoted(child, server)) from None
        except Exception as error:  # noqa: BLE001  # told with what the child has said of it
            if child.problem:
                raise ListingError(child.problem) from None
            if await _has_ended(child):
                message = f"it ended before it had answered, with status {child.status}{_quoted(child, server)}"
                raise _EndedError(message) from None
            raise ListingError(f"{_told(error, server)}{_quoted(child, server)}") from None


async def _has_ended(child: Child) -> bool:
    """Tell whether the child is ending: its output closes a moment before its status is known."""
    try:
        await asyncio.wait_for(child.ended.wait(), 0.5)
    except TimeoutError:
        return False
    return True


async def _from_address(server: Server, until: float, *, sse: bool) -> tuple[str, list[dict[str, Any]]]:
    statuses: list[int] = []
    try:
        async with asyncio.timeout_at(until), _address(server, statuses, sse=sse) as transport:
            return await _conversation(transport, "auto")
    except TimeoutError:
        raise _SlowError from None
    except Exception as error:
        if not statuses or isinstance(_first(error), ListingError):
            raise
        raise _RefusedError(f"{_told(error, server)} (HTTP status {statuses[-1]})", statuses[-1]) from None


@asynccontextmanager
async def _address(server: Server, statuses: list[int], *, sse: bool) -> AsyncIterator[Any]:
    import httpx2
    from mcp.client.sse import sse_client
    from mcp.client.streamable_http import streamable_http_client

    async def seen(response: Any) -> None:
        if response.status_code >= 300:
            statuses.append(response.status_code)

    def client(headers: Any = None, timeout: Any = None, auth: Any = None) -> httpx2.AsyncClient:
        hooks = {"response": [seen, _bounded]}
        sent = {**server.headers, **(headers or {}), "Accept-Encoding": "identity"}
        return httpx2.AsyncClient(headers=sent, timeout=timeout or 300, auth=auth, event_hooks=hooks)

    if sse:
        yield sse_client(server.url, httpx_client_factory=client)
    else:
        async with client() as http:
            yield streamable_http_client(server.url, http_client=http, max_sse_event_size=MAX_BYTES)


async def _bounded(response: Any) -> None:
    """Give a response up that is longer than `MAX_BYTES`, or whose length a coding hides."""
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise ListingError("it sends compressed answers to a client that takes none")
    response.stream = _bounded_stream(response.stream)


def _bounded_stream(stream: Any) -> Any:
    import httpx2

    class Bounded(httpx2.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            left = MAX_BYTES
            async for chunk in stream:
                left -= len(chunk)
                if left < 0:
                    raise ListingError(f"it sent more than {MAX_BYTES // 2**20} MiB")
                yield chunk

        async def aclose(self) -> None:
            await stream.aclose()

    return Bounded()


# -- the conversation


async def _conversation(transport: Any, mode: str) -> tuple[str, list[dict[str, Any]]]:
    from mcp import Client

    async with Client(transport, mode=mode, cache=None) as client:
        tools = await _pages(client.session)
        introduced = client.server_info.name if client.server_info else ""
    return introduced, tools


async def _pages(session: Any) -> list[dict[str, Any]]:
    from mcp import MCPError
    from mcp_types import ListToolsRequest, PaginatedRequestParams
    from pydantic import TypeAdapter

    tools: list[dict[str, Any]] = []
    cursor: str | None = None
    seen: set[str] = set()
    page = TypeAdapter(dict[str, Any])
    for _ in range(MAX_PAGES):
        request = ListToolsRequest(params=PaginatedRequestParams(cursor=cursor) if cursor is not None else None)
        try:
            answer = await session.send_request(request, page)
        except MCPError as error:
            if error.code == _METHOD_NOT_FOUND and not seen:
                return []  # a server of resources or prompts alone
            raise
        check(answer.get("tools"))
        tools += answer["tools"]
        cursor = answer.get("nextCursor")
        if len(tools) > MAX_TOOLS:
            raise ListingError(f"it lists more than {MAX_TOOLS:,} tools")
        if cursor is None:
            return tools
        if cursor in seen:
            raise ListingError("its list goes round in circles: it gave the same cursor again")
        seen.add(cursor)
    raise ListingError(f"its list has more than {MAX_PAGES} pages")


# -- reasons


def _first(error: BaseException) -> BaseException:
    """Return the error itself, or of a group of errors the first one."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _told(error: BaseException, server: Server) -> str:
    """Return what went wrong, in few words."""
    match error := _first(error):
        case ListingError():
            return str(error)
        case FileNotFoundError() | NotADirectoryError():
            return f"`{visible(_without_secrets(str(error.filename), server))}` is not there"
        case PermissionError():
            return f"`{visible(_without_secrets(str(error.filename), server))}` may not be run"
        case _:
            said = visible(_without_secrets(str(error), server).strip().partition("\n")[0])[:_LONGEST_REASON]
            return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _quoted(child: Child, server: Server) -> str:
    words = _without_secrets(_COLOUR.sub("", child.last_words), server)
    if child.is_cut:  # maybe in a secret, whose rest the start is
        words = words[max(map(len, server.secrets), default=0) + _LONGEST_COLOUR :]
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    said = visible(" | ".join(lines[-3:]))
    return f"; it said: {said[-_LONGEST_REASON:]}" if said else ""


_COLOUR: Final = re.compile(r"\x1b\[[0-9;]{0,20}m")
_QUERY: Final = re.compile(r"(https?://)(?:[^\s/@'\"]{1,200}@)?([^\s?'\"]{1,500})\?[^\s'\"]+")
_USER: Final = re.compile(r"(https?://)[^\s/@'\"]{1,200}@")


def _without_secrets(reason: str, server: Server) -> str:
    return _USER.sub(r"\1", _QUERY.sub(r"\1\2", _masked(reason, server.secrets)))


def _masked(text: str, secrets: Iterable[str]) -> str:
    """Return the text with `***` for the secrets in it, also for those that overlap."""
    kept: list[str] = []
    end = 0
    for start, stop in sorted(span for secret in secrets for span in _spans(text, secret)):
        if start >= end:
            kept += text[end:start], "***"
        end = max(end, stop)
    return "".join(kept) + text[end:]


def _spans(text: str, secret: str) -> Iterator[tuple[int, int]]:
    start = text.find(secret)
    while start >= 0:
        yield start, start + len(secret)
        start = text.find(secret, start + 1)
