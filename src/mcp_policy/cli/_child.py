"""A server as a child process, held to bounds: what the official client talks to over stdio.

Rules kept here:

- No server makes this process grow: a line, and all that it writes, has a bound; of its standard error the end is kept.
- The child leads a group of its own, so that Ctrl-C reaches it only through this module.
- When the block is left, however it is left, the child and its group are gone. What left the group (a daemon does)
  is out of reach, and survives.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES: Final = 32 * 2**20
"""Most bytes that a server may write to its standard output before it is given up."""

MAX_LINE: Final = 8 * 2**20
"""Most bytes of one line, which is one message: a longer one is not parsed."""

_KEPT_OF_STDERR: Final = 8192  # bytes
_GRACE: Final = 1.0  # seconds, for a server to end by itself, and again after it was told to


class Child(asyncio.SubprocessProtocol):
    """The child's pipes. `problem` says why it was given up, if it was; `status` is its exit status, once it ended."""

    def __init__(self, deliver: Any) -> None:
        self.problem: str | None = None
        self.status: int | None = None
        self.ended = asyncio.Event()
        self.is_cut = False  # `last_words` begin in the middle
        self._deliver = deliver  # the sending side of an anyio memory stream
        self._line = bytearray()
        self._written = 0
        self._errors = b""
        self._transport: asyncio.SubprocessTransport | None = None

    @property
    def last_words(self) -> str:
        """The end of what it wrote to its standard error."""
        return self._errors.decode(errors="replace")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # that of a subprocess

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 2:
            said = self._errors + data
            self.is_cut = self.is_cut or len(said) > _KEPT_OF_STDERR
            self._errors = said[-_KEPT_OF_STDERR:]
            return
        self._written += len(data)
        if self._written > MAX_BYTES:
            self._give_up(f"it wrote more than {MAX_BYTES // 2**20} MiB")
            return
        first, *more = data.split(b"\n")
        self._line += first
        if len(self._line) > MAX_LINE:
            self._give_up(f"it wrote a line of more than {MAX_LINE // 2**20} MiB")
            return
        for part in more:
            self._send(bytes(self._line))
            self._line = bytearray(part)

    def pipe_connection_lost(self, fd: int, _: Exception | None) -> None:
        if fd == 1:
            self._deliver.close()

    def process_exited(self) -> None:
        self.status = self._transport.get_returncode() if self._transport else None
        self._deliver.close()
        self.ended.set()

    def _send(self, line: bytes) -> None:
        """Hand one message on; what is no message is log output that went astray, and left out."""
        from mcp.shared.message import SessionMessage
        from mcp_types import jsonrpc_message_adapter

        if not line.strip():
            return
        try:
            message = jsonrpc_message_adapter.validate_json(line, by_name=False)
        except ValueError:
            return
        with suppress(Exception):  # the receiver is gone, and so is who would want to know
            self._deliver.send_nowait(SessionMessage(message))

    def _give_up(self, problem: str) -> None:
        if self.problem is None:
            self.problem = problem
            self._deliver.close()
            if self._transport is not None and (pipe := self._transport.get_pipe_transport(1)) is not None:
                pipe.close()


@asynccontextmanager
async def started(
    command: Sequence[str], *, env: Mapping[str, str], cwd: str | Path | None = None
) -> AsyncIterator[tuple[Child, Any]]:
    """Run a server for as long as the block runs; yield it, and the transport that `mcp.Client` takes.

    Raises `OSError` where it cannot be started, `ValueError` where the command holds what no command can.
    """
    import anyio

    deliver, read = anyio.create_memory_object_stream[Any](float("inf"))  # `MAX_BYTES` is the bound
    write, outgoing = anyio.create_memory_object_stream[Any](0)
    child = Child(deliver)
    group: dict[str, Any] = {"start_new_session": True} if os.name == "posix" else {}
    with deliver, read, write, outgoing:
        transport, _ = await asyncio.get_running_loop().subprocess_exec(
            lambda: child, *command, env=dict(env), cwd=cwd, **group
        )
        writer = asyncio.create_task(_write(outgoing, transport.get_pipe_transport(0)))
        try:
            yield child, _Streams(read, write)
        finally:
            writer.cancel()
            await _shielded(_stop(child, transport))


class _Streams:
    """What `mcp.Client` takes as a transport."""

    def __init__(self, read: Any, write: Any) -> None:
        self._streams = read, write

    async def __aenter__(self) -> tuple[Any, Any]:
        return self._streams

    async def __aexit__(self, *_: object) -> None:
        """`started` closes what it opened."""


async def _write(outgoing: Any, pipe: Any) -> None:
    async for message in outgoing:
        pipe.write(message.message.model_dump_json(by_alias=True, exclude_unset=True).encode() + b"\n")


# -- the end


async def _shielded(ending: Any) -> None:
    """Wait for it even while this task is being cancelled: a second Ctrl-C must not leave a process behind."""
    task = asyncio.ensure_future(ending)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled


async def _stop(child: Child, transport: asyncio.SubprocessTransport) -> None:
    """Close its standard input, then ask it to end, then end it and all that is left of its group."""
    try:
        if (pipe := transport.get_pipe_transport(0)) is not None:
            pipe.close()
        if not await _ends(child):
            _signal(transport, signal.SIGTERM)
            await _ends(child)
    finally:
        _signal(transport, signal.SIGKILL if sys.platform != "win32" else signal.SIGTERM)
        await _ends(child)
        transport.close()


async def _ends(child: Child) -> bool:
    with suppress(TimeoutError):
        await asyncio.wait_for(child.ended.wait(), _GRACE)
    return child.ended.is_set()


def _signal(transport: asyncio.SubprocessTransport, number: int) -> None:
    """Send a signal to the child's group, which outlives the child where that started others."""
    with suppress(ProcessLookupError, PermissionError):
        if os.name == "posix":
            os.killpg(transport.get_pid(), number)
        else:
            transport.send_signal(number)
