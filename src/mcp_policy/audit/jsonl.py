"""Decisions on record, in a file: one JSON object a line, each linked to the one before it.

Rules kept here:

* records are numbered, linked and written under one lock; lines are whole or not there: what could be written only in
  part is cut off again;
* what `record` has not raised for is with the operating system, but for up to `flush_every - 1` records: these are lost
  where the process is killed, and where it ends without `close`;
* a record has one writer. Another process, and the child of a fork, is refused;
* of the two places of the head the older one is overwritten: where the writer dies over it, the other still stands;
* nothing is overwritten or deleted but an unfinished line of ours, and what is not sound is not opened to be written
  on: a record that ends before its head says so is refused;
* what others do to the file while it is written stays as they left it, for `verify` to find, and the record goes on.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Final, Self

from . import chain, records
from .event import Decided, Event

_WINDOW: Final = 1 << 16  # bytes at the end of a file that are verified when it is opened; more for long lines
_WIDEST: Final = 1 << 26
_LONG_SESSION: Final = 256  # characters: longer ones are not remembered
_CLOSED: Final = -1


class AuditError(Exception):
    """A record cannot be written on: the text says what was found, and what to do."""


class JsonLinesSink:
    """Writes events to the end of a file.

    `key`, 16 bytes or more, seals it; keep it apart from the file. `safe` names the arguments whose values are kept.
    `flush_every` is the number of records that are written together, `rotate` the size in bytes from which on a file is
    set aside as `PATH.000001` and so on. `clock` answers seconds since 1970. Raises `AuditError` for a file that has
    another writer or is not sound, `OSError` for one that cannot be opened, `ValueError` for a key that is too short.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        key: bytes,
        safe: Collection[str] = (),
        flush_every: int = 1,
        rotate: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if isinstance(safe, str):
            raise TypeError("`safe` is a collection of names, not one name")
        if flush_every < 1 or (rotate is not None and rotate < 1):
            raise ValueError("`flush_every` and `rotate` must be at least 1")
        self._keys = chain.keys(key)
        self._path = Path(path).absolute()
        self._safe = tuple(dict.fromkeys(safe))
        self._flush_every, self._rotate = flush_every, rotate
        self._clock = clock
        self._lock = Lock()
        self._pid = os.getpid()
        self._waiting: list[tuple[int, str]] = []  # microseconds since 1970, and a record
        self._size = self._seq = 0
        self._torn = False  # a write has begun and not come to its end
        self._second, self._date = -1, ""
        self._linked = chain.linker(self._keys.chain)
        self._link = chain.first(self._keys.chain)
        self._arguments = chain.digest(self._keys.arguments)
        self._session = _remembering(chain.digest(self._keys.session, "surrogatepass"))
        self._file = _CLOSED
        self._place = 0  # of the head, for the next one
        self._head = _open_head(self._path)
        try:
            self._file = _open(self._path)
            self._continue()
        except BaseException:
            self._close_files()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def record(self, event: Event) -> None:
        """Write an event. Raises `OSError` where it could not be written, `AuditError` after `close` or a fork."""
        if isinstance(event, Decided):
            members = records.decided(event, self._arguments, self._session, self._safe)
        else:
            members = records.answered(event)
        self._append(members)

    def flush(self) -> None:
        """Hand everything to the operating system. Raises as `record` does."""
        self._append(None)

    def close(self) -> None:
        """Write what waits, and close the file. Raises `OSError` where that could not be written."""
        if os.getpid() != self._pid:  # nothing of it is the child's
            return
        with self._lock:
            if self._head == _CLOSED:
                return
            try:
                self._write()
            finally:
                self._close_files()

    def _append(self, members: str | None) -> None:
        """Take a record up; write what waits, where there is enough of it, or where there is no record to take up."""
        if os.getpid() != self._pid:  # before the lock, which may be held for ever in a child
            raise AuditError(
                f"the record `{self._path}` belongs to the process that opened it; open one in each process"
            )
        with self._lock:
            if self._head == _CLOSED:
                raise AuditError(f"the record `{self._path}` is closed")
            waiting = self._waiting
            count = len(waiting)
            try:
                if members is not None:
                    waiting.append((int(self._clock() * 1e6), members))
                if members is None or count + 1 >= self._flush_every:
                    self._write()
            except BaseException:
                if self._waiting is waiting:  # else it is written, and what failed is only its head
                    del waiting[count:]
                raise

    # -- writing

    def _write(self) -> None:
        """Write what waits, then the head. Raises `OSError`; of what waits all is written then, or nothing."""
        if not self._waiting:
            return
        self._prepare()
        lines, link = self._sealed()
        seq, data = self._seq + len(lines), b"".join(lines)
        size = self._size + len(data)
        self._torn = True
        try:
            _write_all(self._file, data)
            self._seq, self._link, self._size, self._waiting, self._torn = seq, link, size, [], False
        except BaseException:
            with suppress(OSError):  # `_prepare` does it, then
                os.ftruncate(self._file, self._size)
            raise
        self._write_head()

    def _sealed(self) -> tuple[list[bytes], bytes]:
        """Return the lines of what waits, and the link of the last."""
        lines, link = [], self._link
        for seq, (when, members) in enumerate(self._waiting, self._seq + 1):
            record = f'{{"seq":{seq},"time":"{self._time(when)}",{members}'
            line, link = self._linked(link, record.encode())
            lines.append(line)
        return lines, link

    def _time(self, microseconds: int) -> str:
        second, rest = divmod(microseconds, 1_000_000)
        if second != self._second:
            self._second, self._date = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._date}.{rest:06d}Z"

    def _write_head(self) -> None:
        os.lseek(self._head, self._place * chain.PLACE, os.SEEK_SET)
        _write_all(self._head, self._sealed_head(self._place))
        self._place = 1 - self._place

    def _write_new_head(self) -> None:
        os.lseek(self._head, 0, os.SEEK_SET)
        _write_all(self._head, self._sealed_head(0) + self._sealed_head(1))

    def _sealed_head(self, place: int) -> bytes:
        return chain.sealed(self._keys.head, chain.Head(self._seq, self._link), place)

    def _prepare(self) -> None:
        """Leave a file that takes whole lines at its end."""
        if not os.fstat(self._head).st_nlink:  # somebody has deleted it
            head = _open_head(self._path)
            os.close(self._head)
            self._head = head
            self._write_new_head()
        if self._file == _CLOSED or not os.fstat(self._file).st_nlink:  # somebody has deleted it
            self._reopen()
        found = os.fstat(self._file).st_size
        if self._torn and found > self._size:
            os.ftruncate(self._file, self._size)
        elif found != self._size:  # somebody else has changed it
            self._size = found
            if found:
                _write_all(self._file, b"\n")
                self._size += 1
        if self._rotate is not None and self._size >= self._rotate:
            self._set_aside()

    def _set_aside(self) -> None:
        older = set_aside(self._path)
        number = 1 + int(older[-1].suffix[1:]) if older else 1
        os.close(self._file)  # Windows renames no open file
        self._file = _CLOSED
        try:
            self._path.rename(f"{self._path}.{number:06d}")
        finally:
            self._reopen()

    def _reopen(self) -> None:
        self._close_file()
        self._file = _open(self._path)
        self._size = os.fstat(self._file).st_size

    def _close_file(self) -> None:
        if self._file != _CLOSED:
            os.close(self._file)
            self._file = _CLOSED

    def _close_files(self) -> None:
        self._close_file()
        os.close(self._head)
        self._head = _CLOSED

    # -- opening

    def _continue(self) -> None:
        """Go on where the record ends. Raises `AuditError` where that cannot be told, and leaves all as it is then."""
        content = _read(self._head, 0)
        size = os.fstat(self._file).st_size
        older = set_aside(self._path)
        if not (content or size or older):
            self._write_new_head()
            return
        ending, dropped = self._ending(size, older)
        head = self._take_up(chain.read_head(self._keys.head, content), ending)
        self._place = int(content.startswith(chain.sealed(self._keys.head, head, 0)))
        self._size = size - dropped
        if dropped or head.torn:
            os.ftruncate(self._file, self._size)
            self._append(f'"kind":"recovered","dropped":{dropped}' + (',"head":"torn"' if head.torn else ""))
            self.flush()
        elif head.seq < self._seq:
            self._write_head()

    def _ending(self, size: int, older: list[Path]) -> tuple[list[bytes], int]:
        """Return the last whole lines, at least two where there are so many, and the size of what stands behind."""
        tail = _tail(self._file, size)
        whole = tail.rfind(b"\n") + 1
        lines = tail[:whole].split(b"\n")[:-1]
        if len(lines) < 2 and older:
            file = os.open(older[-1], os.O_RDONLY | _BINARY)
            try:
                lines = _tail(file, os.fstat(file).st_size).split(b"\n")[:-1] + lines
            finally:
                os.close(file)
        return lines, len(tail) - whole

    def _take_up(self, head: chain.Head | None, lines: list[bytes]) -> chain.Head:
        """Go on after the last of `lines`, and return the head. Raises `AuditError` where they are not sound."""
        since = 1 if not lines else chain.number(lines[0])
        ending = [chain.Line(str(self._path), number, line) for number, line in enumerate(lines)]
        since = 1 if since is None else since
        checked = head
        if head is not None and head.torn and head.seq < since + len(lines) - 1:
            checked = head._replace(torn=False)  # a writer that dies over a head has written the lines before it
        report = chain.verify(ending, self._keys, checked, since=since)
        found = report.finding
        if found is not None:
            where = f"record {found.seq} " if found.line is not None else ""
            raise AuditError(
                f"`{self._path}` is not written on: {where}{found.what}; verify it, and move it and `{self._path.name}."
                "head` away to begin a new record"
            )
        assert head is not None  # noqa: S101  # else that was found
        if report.last is not None and report.link is not None:
            self._seq, self._link = report.last, report.link
        return head


def set_aside(path: Path) -> list[Path]:
    """Return the files that were set aside when they were full, oldest first."""
    name = re.compile(re.escape(path.name) + r"\.[0-9]{6,}")
    found = [one for one in path.parent.iterdir() if name.fullmatch(one.name)]
    return sorted(found, key=lambda one: int(one.suffix[1:]))


def _remembering(digest: Callable[[str], str]) -> Callable[[str], str]:
    remembered = lru_cache(1_024)(digest)
    return lambda session: remembered(session) if len(session) <= _LONG_SESSION else digest(session)


# -- files

_BINARY: Final = getattr(os, "O_BINARY", 0)  # Windows would write other ends of lines


def _open(path: Path) -> int:
    """Open a file that only its owner may read."""
    return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | _BINARY, 0o600)


def _open_head(path: Path) -> int:
    """Open the head of a record, for this writer alone. Raises `AuditError` where it has another one."""
    try:
        file = os.open(f"{path}.head", os.O_RDWR | os.O_CREAT | _BINARY, 0o600)
    except OSError as error:  # about the record, which is what its owner has named
        raise OSError(error.errno, error.strerror, str(path)) from None
    try:
        _lock(file)
    except (BlockingIOError, PermissionError):
        os.close(file)
        raise AuditError(f"`{path}` has a writer already; give each process a record of its own") from None
    except BaseException:
        os.close(file)
        raise
    return file


def _lock(file: int) -> None:
    try:
        import fcntl
    except ImportError:  # Windows, where nobody could read what is locked: a byte far behind the end
        import msvcrt

        os.lseek(file, 1 << 30, os.SEEK_SET)
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _tail(file: int, size: int) -> bytes:
    """Return the end of a file, from the beginning of a line: all of it, or at least two lines. Raises `AuditError`."""
    window = _WINDOW
    while window < size:
        tail = _read(file, size - window)
        tail = tail[tail.find(b"\n") + 1 :]
        if tail.count(b"\n") > 1:
            return tail
        if window >= _WIDEST:
            raise AuditError(f"the last {window >> 20} MiB have no ends of lines: this is no record")
        window *= 4
    return _read(file, 0)


def _read(file: int, at: int) -> bytes:
    os.lseek(file, at, os.SEEK_SET)
    data = bytearray()
    while part := os.read(file, 1 << 20):
        data += part
    return bytes(data)


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
