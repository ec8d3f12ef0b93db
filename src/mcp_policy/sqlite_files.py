"""A file of state that several processes of one machine share, for the stores on SQLite.

Rules kept here:

* work is one transaction, everything or nothing: whatever is raised within rolls it back;
* one connection per store, used by one thread at a time and by no process but its own: connections are closed before a
  fork, and both sides open their own with the next call;
* waiting for other threads and processes ends after `timeout` seconds;
* a file is made by a constructor only. One that has gone, has become smaller or is another one than before is opened
  anew, with all checks, and none is made: what the old one counted would be forgotten without a word;
* after a failure of SQLite, other than waiting in vain, the connection is given up: the next call opens the file anew,
  so that a store recovers when the cause is gone;
* time is a high-water mark that the file keeps: a clock that goes back frees and extends nothing.

Nothing but SQLite opens the file: closing any other handle on it would drop the locks of this process.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from math import inf, isfinite
from pathlib import Path
from threading import RLock
from time import monotonic, sleep
from typing import Final, TypeAlias, TypeVar
from weakref import WeakSet

TIMEOUT: Final = 0.25
"""Seconds that a call may wait for others who use the file."""

_APPLICATION: Final = 0x6D63_7070  # "mcpp"
_VERSION: Final = 1  # of the tables of all stores together
_PAUSE: Final = 0.0005  # seconds between two tries
_CLOCKS: Final = "CREATE TABLE IF NOT EXISTS clocks (store TEXT PRIMARY KEY, now REAL NOT NULL) WITHOUT ROWID"

# A decision writes four pages, and small ones are written faster. The log of writes becomes part of the file, which
# takes a flush to the disk, when it has this many pages: 4 MB, as is usual.
_PRAGMAS: Final = (
    "PRAGMA page_size = 1024",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = NORMAL",
    "PRAGMA wal_autocheckpoint = 4000",
)

Answer = TypeVar("Answer")
Execute: TypeAlias = "Callable[..., sqlite3.Cursor]"
Work: TypeAlias = "Callable[[Execute, float], Answer]"
"""What is done in a transaction, given how to execute a statement and the store's time in seconds."""


class StateFileError(OSError):
    """A file of state cannot be used."""


class StateFile:
    """One store's connection to a file of state, which is made where there is none.

    `store` names the store's clock in the file, `tables` are the statements that make its tables where they are
    missing. `clock` answers seconds and must not call the store. Raises `StateFileError`, and `ValueError` for a
    `timeout` that is no number of seconds up to an hour.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        store: str,
        tables: tuple[str, ...],
        clock: Callable[[], float],
        timeout: float,
    ) -> None:
        if not 0 <= timeout <= 3_600:
            raise ValueError("`timeout` must be a number of seconds, an hour at most")
        self._path = Path(path).absolute()  # a process may change its directory
        self._names = (str(self._path), f"{self._path}-wal")
        self._store = store
        self._tables = (_CLOCKS, *tables)
        self._clock = clock
        self._timeout = timeout
        self._lock = RLock()  # a signal handler may fork while its thread is at work here
        self._connection: sqlite3.Connection | None = None
        self._seen: tuple[int, ...] = ()
        self._size = 0
        self._closed = False
        with _registry:
            _files.add(self)
        self._locked(lambda deadline: self._open(deadline, new=True))

    def close(self) -> None:
        """Close the file; nothing is answered afterwards."""
        with self._lock:
            self._closed = True
            self._disconnect()

    def read(self, work: Work[Answer]) -> Answer:
        """Do what changes nothing. Raises `StateFileError`, and what the clock and the work raise."""
        return self._locked(lambda deadline: self._transact(work, deadline, writes=False))

    def write(self, work: Work[Answer]) -> Answer:
        """Do what may change something, while nobody else does. Raises as `read`."""
        return self._locked(lambda deadline: self._transact(work, deadline, writes=True))

    def _locked(self, use: Callable[[float], Answer]) -> Answer:
        """Use the file alone, among the threads of this process, until the deadline."""
        deadline = monotonic() + self._timeout
        if not self._lock.acquire(timeout=self._timeout):
            raise StateFileError(f"`{self._path}` is in use by other threads for more than {self._timeout:g} s")
        try:
            return use(deadline)
        except sqlite3.Error as error:
            if not _is_busy(error):
                self._disconnect()
            raise StateFileError(f"`{self._path}` cannot be used: {error}") from error
        finally:
            self._lock.release()

    def _transact(self, work: Work[Answer], deadline: float, *, writes: bool) -> Answer:
        connection = self._connected(deadline)
        execute = connection.execute
        try:
            mark = self._begin(connection, "BEGIN IMMEDIATE" if writes else "BEGIN", deadline)
            now = self._clock()
            if not isfinite(now):
                raise ValueError("the clock of a store must answer a finite number of seconds")
            if writes and now > mark:
                execute("UPDATE clocks SET now = ? WHERE store = ?", (now, self._store))
            answer = work(execute, max(mark, now))
            execute("COMMIT")
        finally:
            if connection.in_transaction:
                execute("ROLLBACK")
        return answer

    def _begin(self, connection: sqlite3.Connection, begin: str, deadline: float) -> float:
        """Begin a transaction, and return the latest time that the store has seen."""

        def tried() -> float:
            connection.execute(begin)
            (mark,) = connection.execute("SELECT now FROM clocks WHERE store = ?", (self._store,)).fetchone()
            return float(mark)

        return _patiently(connection, tried, deadline)

    # -- opening

    def _connected(self, deadline: float) -> sqlite3.Connection:
        """The connection, if the file is still the one that it was opened on; else a new one."""
        if self._closed:
            raise StateFileError(f"the store on `{self._path}` is closed")
        if self._connection is not None and self._is_same():
            return self._connection
        self._disconnect()
        return self._open(deadline)

    def _open(self, deadline: float, *, new: bool = False) -> sqlite3.Connection:
        try:
            if new:
                _create(self._path)
            self._connection = connection = sqlite3.connect(
                f"{self._path.as_uri()}?mode=rw", uri=True, timeout=0, isolation_level=None, check_same_thread=False
            )
            _patiently(connection, lambda: self._prepare(connection.execute, new=new), deadline)
            self._seen, self._size = self._look()
        except BaseException as error:
            self._disconnect()
            if isinstance(error, OSError) and not isinstance(error, StateFileError):
                raise StateFileError(f"`{self._path}` cannot be used: {error.strerror}") from error
            raise
        return connection

    def _prepare(self, execute: Execute, *, new: bool) -> None:
        """Check that this is a file of state, or make an empty file one."""
        execute("BEGIN")  # so that what is looked at is one state of the file
        empty = self._is_empty(execute)
        execute("COMMIT")
        if empty and not new:
            raise StateFileError(f"`{self._path}` is empty: what it held is gone")
        for pragma in _PRAGMAS:
            execute(pragma)
        execute("BEGIN IMMEDIATE")
        if self._is_empty(execute):
            execute(f"PRAGMA application_id = {_APPLICATION}")
            execute(f"PRAGMA user_version = {_VERSION}")
        for table in self._tables:
            execute(table)
        execute("INSERT OR IGNORE INTO clocks VALUES (?, ?)", (self._store, -inf))
        execute("COMMIT")

    def _is_empty(self, execute: Execute) -> bool:
        """Whether there is nothing in the file yet. Raises `StateFileError` where there is something else."""
        (application,) = execute("PRAGMA application_id").fetchone()
        (version,) = execute("PRAGMA user_version").fetchone()
        (tables,) = execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not (application or version or tables):
            return True
        if application != _APPLICATION:
            of = f"application {application:#x}" if application else "an application that it does not name"
            raise StateFileError(f"`{self._path}` is a database of {of}; a file of state or no file at all is right")
        if version != _VERSION:
            raise StateFileError(f"`{self._path}` is a file of state of version {version}; version {_VERSION} is right")
        return False

    def _is_same(self) -> bool:
        """Whether the files are those seen last. The main one never shrinks while a store is open."""
        try:
            seen, size = self._look()
        except OSError:
            return False
        before, self._size = self._size, size
        return seen == self._seen and size >= before

    def _look(self) -> tuple[tuple[int, ...], int]:
        main, log = map(os.stat, self._names)
        return (main.st_dev, main.st_ino, log.st_dev, log.st_ino), main.st_size

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()


def _create(path: Path) -> None:
    """Make an empty file that only its owner may read, where there is none."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _patiently(connection: sqlite3.Connection, work: Callable[[], Answer], deadline: float) -> Answer:
    """Try until others leave the file alone. SQLite itself would pause longer and longer, and starve."""
    while True:
        try:
            return work()
        except sqlite3.OperationalError as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            if not _is_busy(error) or monotonic() >= deadline:
                raise
        sleep(_PAUSE)


def _is_busy(error: sqlite3.Error) -> bool:
    """Whether others are using the file, and nothing is wrong with it."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


# -- forks

_registry = RLock()  # held during a fork: no file is opened meanwhile
_files: WeakSet[StateFile] = WeakSet()
_forking: list[StateFile] = []


def _before_fork() -> None:
    _registry.acquire()
    _forking.extend(_files)
    for file in _forking:
        file._lock.acquire()
        file._disconnect()


def _after_fork() -> None:
    while _forking:
        _forking.pop()._lock.release()
    _registry.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
