"""Reading a record of decisions: the file, and those beside it that were set aside when they were full.

Rules kept here:

- What stands in a file is somebody else's, and may be anything: no line is held that is longer than a cap, and what is
  no record is said to be none.
- A writer may be at work: its head is read before the lines that it is about, and a file that it sets aside meanwhile
  is neither missed nor read twice.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

from mcp_policy.audit.chain import Line
from mcp_policy.audit.jsonl import set_aside

from ._exits import USAGE, Stop
from ._files import _opened, shown

LONGEST: Final = 1 << 24
"""Bytes of a line."""
_BLOCK: Final = 1 << 16
_MOST_OF_HEAD: Final = 4_096
_LOOKS: Final = 5


class Record(NamedTuple):
    """The content of the head, None where there is none, and all files, oldest first."""

    head: bytes | None
    files: tuple[tuple[str, IO[bytes]], ...]


def opened(path: str, stack: ExitStack, is_whole: Callable[[bytes], bool] = bool) -> Record:
    """Open a record for as long as `stack` is. A head that `is_whole` is not told of is read again: whoever reads while
    it is written may see something of both. Raises `Stop`.
    """
    try:
        return _opened_record(Path(path), stack, is_whole)
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from None


def lines(record: Record) -> Iterator[Line]:
    """Yield every line, oldest first; of one that is too long, its beginning. Raises `Stop`."""
    for name, file in record.files:
        try:
            for number, text in enumerate(_lines(file), 1):
                yield Line(name, number, text.removesuffix(b"\n"), text.endswith(b"\n"))
        except OSError as error:
            raise unreadable(name, error) from None


def newest(record: Record, count: int) -> list[bytes]:
    """Return the last lines, oldest first, without one that has no end yet. Raises `Stop`."""
    found: list[bytes] = []
    for name, file in reversed(record.files):
        if len(found) >= count:
            break
        try:
            found = _last(file, count - len(found)) + found
        except OSError as error:
            raise unreadable(name, error) from None
    return found


def following(path: str, file: IO[bytes], sleep: Callable[[], object]) -> Iterator[bytes]:
    """Yield the lines that are written behind where `file` stands, and to files after it, for ever. Raises `Stop`."""
    try:
        with ExitStack() as own:
            rest = b""
            while True:
                is_full = not _is_written(path, file)  # asked first: what is read then was written before
                while block := file.read(_BLOCK):
                    *whole, rest = (rest + block).split(b"\n")
                    yield from whole
                    rest = rest[:LONGEST]
                if is_full:
                    after = _open(_after(path, file))
                    own.close()
                    file, rest = own.enter_context(after), b""
                elif os.fstat(file.fileno()).st_size < file.tell():
                    file.seek(0)
                    rest = b""
                else:
                    sleep()
    except OSError as error:
        raise unreadable(path, error) from None


def parsed(line: bytes) -> dict[str, Any] | None:
    """Return the record that a line is, or None."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def unreadable(path: str, error: Exception) -> Stop:
    """Return what ends a command whose file cannot be read."""
    why = os.strerror(error.errno).lower() if isinstance(error, OSError) and error.errno else str(error)
    return Stop(USAGE, f"{shown(path)} cannot be read: {why}")


def _opened_record(path: Path, stack: ExitStack, is_whole: Callable[[bytes], bool]) -> Record:
    head = _head(path, is_whole)
    while True:
        older = set_aside(path)
        try:
            current = stack.enter_context(_open(path))
        except FileNotFoundError:
            if not older and head is None:
                raise
            current = None  # a writer that died after it had set the file aside, or a file that is missing
        if set_aside(path) == older:
            break
    files = [(str(file), stack.enter_context(_open(file))) for file in older]
    return Record(head, (*files, *(() if current is None else ((str(path), current),))))


def _head(path: Path, is_whole: Callable[[bytes], bool]) -> bytes | None:
    content: bytes | None = None
    for _ in range(_LOOKS):
        try:
            with _open(f"{path}.head") as file:
                content = file.read(_MOST_OF_HEAD)
        except FileNotFoundError:
            return None
        if is_whole(content):
            break
    return content


def _open(path: str | Path) -> IO[bytes]:
    return open(path, "rb", opener=_opened)  # whoever asks closes it


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    while text := file.readline(LONGEST):
        yield text
        if len(text) == LONGEST and not text.endswith(b"\n"):
            while (more := file.readline(LONGEST)) and not more.endswith(b"\n"):
                pass


def _last(file: IO[bytes], count: int) -> list[bytes]:
    start = file.seek(0, os.SEEK_END)
    tail = b""
    while start and tail.count(b"\n") <= count:
        before = max(0, start - max(_BLOCK, len(tail)))
        file.seek(before)
        tail = file.read(start - before) + tail
        start = before
    whole = tail.split(b"\n")[:-1]
    file.seek(0, os.SEEK_END)
    return whole[-count:] if count else []


def _is_written(path: str, file: IO[bytes]) -> bool:
    try:
        return os.path.samestat(Path(path).stat(), os.fstat(file.fileno()))
    except FileNotFoundError:  # about to be made, or deleted
        return True


def _after(path: str, file: IO[bytes]) -> Path:
    """Return the file that was begun after one that was set aside."""
    for one, after in pairwise((*set_aside(Path(path)), Path(path))):
        if os.path.samestat(one.stat(), os.fstat(file.fileno())):
            return after
    return Path(path)
