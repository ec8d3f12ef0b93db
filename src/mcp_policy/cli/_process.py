"""A server as a child process for as long as the gateway needs it: a transport of fastmcp's, and its exit status.

Rules kept here:

- The child leads a group of its own, so that signals reach it only through this module; what it started goes too.
- However a connection ends, the child is gone then: its standard input is closed, it is told to end, it is ended.
- Its standard error is the gateway's. A line of its standard output that has no end makes no gateway grow.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process, SubprocessStreamProtocol
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import anyio
from fastmcp.client.transports import ClientTransport
from fastmcp.client.transports.base import TransportOptions
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter

from ._servers import Server

MAX_LINE: Final = 64 * 2**20
"""Most bytes of one line, which is one message."""

_GRACE: Final = 2.0  # seconds, for a server to end by itself, and again after it was told to
_CHUNK: Final = 2**16

Ended = Callable[[Server, int], None]
"""Told of a child that ended by itself: which, and its status as shells count it."""


class _Protocol(SubprocessStreamProtocol):
    """Knows that the child has ended also while something that it started holds its pipes."""

    def __init__(self) -> None:
        super().__init__(limit=_CHUNK, loop=asyncio.get_running_loop())
        self.exited = asyncio.Event()

    def process_exited(self) -> None:
        super().process_exited()
        self.exited.set()


class Children:
    """All children of this gateway: what a signal is passed on to."""

    def __init__(self) -> None:
        self._now: set[Process] = set()

    def add(self, process: Process) -> None:
        """Note that a child runs."""
        self._now.add(process)

    def discard(self, process: Process) -> None:
        """Note that a child is gone."""
        self._now.discard(process)

    def signal(self, number: int) -> None:
        """Pass a signal on to all of them."""
        for process in self._now:
            _signal(process, number)


class ChildTransport(ClientTransport):
    """Starts a server, and talks to it over its standard input and output."""

    def __init__(self, server: Server, children: Children, ended: Ended) -> None:
        self._server, self._children, self._ended = server, children, ended

    @asynccontextmanager
    async def connect_session(
        self, *, transport_options: TransportOptions | None = None, **settings: Any
    ) -> AsyncIterator[Any]:
        options = transport_options or TransportOptions()
        async with (
            self._running() as (read, write),
            options.session_class(read, write, **settings) as session,
        ):
            yield session

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[tuple[Any, Any]]:
        protocol, process = await _start(self._server)
        self._children.add(process)
        deliver, read = anyio.create_memory_object_stream[Any](0)
        write, outgoing = anyio.create_memory_object_stream[Any](0)
        reader = asyncio.create_task(_read(process, deliver))
        writer = asyncio.create_task(_write(process, outgoing))
        watcher = asyncio.create_task(self._watch(protocol, process, reader))
        try:
            with deliver, read, write, outgoing:
                yield read, write
        finally:
            by_itself = watcher.done() or reader.done()
            await asyncio.shield(self._stop(protocol, process, (reader, writer, watcher), by_itself=by_itself))

    async def _watch(self, protocol: _Protocol, process: Process, reader: asyncio.Task[None]) -> None:
        """Wait until the child has ended, and let what it still said be heard."""
        await protocol.exited.wait()
        await asyncio.wait({reader}, timeout=_GRACE)  # something that it started may hold the pipe for ever
        reader.cancel()
        self._report(process)

    async def _stop(
        self, protocol: _Protocol, process: Process, tasks: tuple[asyncio.Task[None], ...], *, by_itself: bool
    ) -> None:
        reader, writer, watcher = tasks
        reader.cancel()
        writer.cancel()
        if not watcher.done():
            watcher.cancel()
        try:
            if process.stdin is not None:
                process.stdin.close()
            if not await _ends(protocol):
                by_itself = False
                _signal(process, signal.SIGTERM)
                await _ends(protocol)
        finally:
            _signal(process, signal.SIGKILL if sys.platform != "win32" else signal.SIGTERM)
            await _ends(protocol)
            self._children.discard(process)
            process._transport.close()  # type: ignore[attr-defined]  # its pipes may be held by others
            if by_itself:
                self._report(process)

    def _report(self, process: Process) -> None:
        status = process.returncode
        if status is not None:
            self._ended(self._server, 128 - status if status < 0 else status)


async def _start(server: Server) -> tuple[_Protocol, Process]:
    group: dict[str, Any] = {"start_new_session": True} if os.name == "posix" else {}
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.subprocess_exec(
        _Protocol, *server.command, stdin=PIPE, stdout=PIPE, stderr=None, env=dict(server.env), cwd=server.cwd, **group
    )
    return protocol, Process(transport, protocol, loop)


async def _read(process: Process, deliver: Any) -> None:
    """Hand on what the child says, until it says no more. What is no message goes where messages that fail go."""
    assert process.stdout is not None  # noqa: S101  # it is a pipe
    line = bytearray()
    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):  # nobody listens any more
        async with deliver:
            while chunk := await process.stdout.read(_CHUNK):
                first, *more = chunk.split(b"\n")
                line += first
                for part in more:
                    await _hand_on(bytes(line), deliver)
                    line = bytearray(part)
                if len(line) > MAX_LINE:
                    return


async def _hand_on(line: bytes, deliver: Any) -> None:
    if not line.strip():
        return
    try:
        message = jsonrpc_message_adapter.validate_json(line, by_name=False)
    except ValueError as error:
        await deliver.send(error)
        return
    await deliver.send(SessionMessage(message))


async def _write(process: Process, outgoing: Any) -> None:
    assert process.stdin is not None  # noqa: S101  # it is a pipe
    with suppress(OSError):  # its end is noticed where it is read
        async for message in outgoing:
            process.stdin.write(message.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n")
            await process.stdin.drain()


async def _ends(protocol: _Protocol) -> bool:
    with suppress(TimeoutError):
        await asyncio.wait_for(protocol.exited.wait(), _GRACE)
    return protocol.exited.is_set()


def _signal(process: Process, number: int) -> None:
    """Send a signal to the child's group, which outlives the child where that started others."""
    with suppress(ProcessLookupError, PermissionError):
        if os.name == "posix":
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
