"""How the gateway is reached: over its own standard input and output, or over HTTP; and how it is told to stop.

- What comes over standard output is protocol, and nothing else.
- Over HTTP, only requests that name this address are served, and only pages of its own origin: a page that a browser
  shows from elsewhere cannot reach a gateway by having its name lead here.
"""

from __future__ import annotations

import io
import ipaddress
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Final

import uvicorn

from mcp_policy.errors import readable

from ._exits import FAILED, USAGE, Stop

PATH: Final = "/mcp"
_GRACE: Final = 2  # seconds, for requests to end


class Input(io.RawIOBase):
    """Standard input, which can be made to end: a thread that waits for it could not be stopped otherwise."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._woken, self._wake = os.pipe()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        waiting = [self._number, self._woken] if os.name == "posix" else []  # elsewhere `select` knows only sockets
        if waiting and self._woken in select.select(waiting, [], [])[0]:
            return 0
        data = os.read(self._number, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def end(self) -> None:
        """Let it end here."""
        os.write(self._wake, b".")


async def over_stdio(server: Any, source: Input) -> None:
    """Serve the one client at the other end of standard input and output, until it or `source` ends."""
    with _instead_of_stdin(source):
        await server.run_stdio_async(show_banner=False)


@contextmanager
def _instead_of_stdin(source: Input) -> Iterator[None]:
    before = sys.stdin
    sys.stdin = io.TextIOWrapper(io.BufferedReader(source), encoding="utf-8")
    try:
        yield
    finally:
        sys.stdin = before


@contextmanager
def standard_input() -> Iterator[Input]:
    """Keep standard input for the protocol; whatever else reads it, and every child, finds it empty."""
    if sys.stdin is None:
        raise Stop(FAILED, "standard input is closed: there is no client")
    kept = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    try:
        os.dup2(nothing, 0)
        yield Input(kept)
    finally:
        os.dup2(kept, 0)
        os.close(nothing)


class HttpServer(uvicorn.Server):
    """A server whose signals are the gateway's."""

    def capture_signals(self) -> Any:
        return nullcontext()


def over_http(server: Any, host: str) -> HttpServer:
    """Return what serves the gateway over HTTP, once it is awaited to `serve` on sockets."""
    return http_server(server.http_app(path=PATH, host_origin_protection=True, allowed_hosts=[host]))


def http_server(app: Any) -> HttpServer:
    """Return what serves an ASGI application, once it is awaited to `serve` on sockets."""
    return HttpServer(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="on",
            ws="none",
            timeout_graceful_shutdown=_GRACE,
        )
    )


def address(text: str, option: str = "--http") -> tuple[str, int]:
    """Return the host and port of `HOST:PORT`, the value of an option. Raises `Stop`."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not (port.isascii() and port.isdecimal() and int(port) < 2**16):
        raise Stop(USAGE, f"{option} takes HOST:PORT, such as `127.0.0.1:8000`, not `{readable(text)}`")
    return host, int(port)


def bound(host: str, port: int) -> socket.socket:
    """Return a socket that listens there. Raises `Stop`."""
    try:
        family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        made = socket.create_server(where[:2], family=family)
    except OSError as error:
        why = os.strerror(error.errno).lower() if error.errno and error.errno > 0 else str(error)
        raise Stop(FAILED, f"cannot be served on {readable(host)}:{port}: {why}") from None
    # asyncio has small answers go out at once only where a socket says that it speaks TCP, which this one does not
    return socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=made.detach())


def told(listening: socket.socket) -> tuple[str, bool]:
    """Return the address to connect to, and whether only this machine can."""
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}{PATH}", ipaddress.ip_address(host).is_loopback


@contextmanager
def signals(stop: Callable[[int], object]) -> Iterator[None]:
    """Have `stop` called with the number of each signal that asks for the end."""
    numbers = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    before = {number: signal.signal(number, lambda number, _: stop(number)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
