"""Approvals in a file, for the processes of one machine.

Rules kept here, besides those of `store`:

* a method is one transaction; reading changes nothing;
* a record is JSON text, and comes back as it went in: floats and Decimals too. What is searched for stands beside it;
* every change first sets aside some of what has expired; what has expired and still stands there counts for nothing;
* that a record expired, or was used up, is remembered for the last 10,000: forgetting it loses a better message, never
  a decision.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from typing import Final, Self

from ..sqlite_files import TIMEOUT, Execute, StateFile
from .store import Approval, ApprovalError, ApprovalRequest, Vote, check_ttl, decided, pending, unknown
from .texts import read, written

_TABLES: Final = (
    """
    CREATE TABLE IF NOT EXISTS approvals (
        number INTEGER PRIMARY KEY,  -- in the order of asking
        id TEXT NOT NULL UNIQUE,
        digest TEXT NOT NULL UNIQUE,
        waits_for TEXT,              -- the owner of a pending record
        expires_at REAL NOT NULL,
        record TEXT NOT NULL         -- all of it, as JSON
    )""",
    "CREATE INDEX IF NOT EXISTS approvals_pending ON approvals (waits_for) WHERE waits_for IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS approvals_expiry ON approvals (expires_at)",
    """
    CREATE TABLE IF NOT EXISTS approvals_past (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        became TEXT NOT NULL,
        expired TEXT                 -- the digest, while that it expired is news
    )""",
    "CREATE INDEX IF NOT EXISTS approvals_news ON approvals_past (expired) WHERE expired IS NOT NULL",
)

_REMEMBERED: Final = 10_000
_SET_ASIDE: Final = 100  # expired records at most, in one change

_EXPIRED: Final = "has expired"
_USED: Final = "was approved and used"


class SQLiteApprovalStore:
    """Approvals in a file, for any number of threads and processes of one machine; a restart keeps them.

    `clock` answers seconds since the same moment in all processes, also after a restart, and must not call the store.
    `max_pending` is the number of pending records per owner, `capacity` that of all valid records together, `timeout`
    how many seconds a call may wait for others. Raises `StateFileError` for a file that cannot be used, as do all
    methods.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        clock: Callable[[], float] = time.time,
        max_pending: int = 100,
        capacity: int = 100_000,
        timeout: float = TIMEOUT,
    ) -> None:
        self._max_pending = max_pending
        self._capacity = capacity
        self._file = StateFile(path, "approvals", _TABLES, clock, timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; nothing is answered afterwards."""
        self._file.close()

    def find(self, digest: str) -> tuple[Approval | None, bool]:
        """The valid record for this digest, and whether its last one expired. Changes nothing."""
        return self._file.read(partial(_find, digest))

    def ask(self, request: ApprovalRequest) -> tuple[Approval | None, bool]:
        """The valid record, else a new pending one, and whether the one before it expired.

        No record: the owner has too many pending, or the store is full. Raises `ValueError` for a `ttl` that is not a
        finite number above 0.
        """
        check_ttl(request)
        return self._file.write(partial(self._ask, request))

    def consume(self, digest: str) -> Approval | None:
        """Use up the approved, valid record; exactly one of many callers gets it, the others get `None`."""
        return self._file.write(partial(_consume, digest))

    def decide(self, approval_id: str, approved: bool, by: str, note: str = "") -> Approval:
        """Approve or reject a pending, valid record in the name of `by`. Raises `ApprovalError`.

        A record that needs more approvals than it has by now stays pending.
        """
        answer = self._file.write(partial(_decide, approval_id, approved, by, note))
        if isinstance(answer, ApprovalError):
            raise answer
        return answer

    def get(self, approval_id: str) -> Approval | None:
        """The valid record with this id."""
        return self._file.read(partial(_with_id, approval_id))

    def pending(self) -> list[Approval]:
        """The valid records that wait for an answer, oldest first."""
        return self._file.read(_pending)

    def _ask(self, request: ApprovalRequest, execute: Execute, now: float) -> tuple[Approval | None, bool]:
        _set_aside(execute, now)
        record, expired = _find(request.digest, execute, now)
        if record is not None:
            return record, False
        if not self._has_room(request.owner, execute, now):
            return None, expired
        from secrets import token_hex  # milliseconds, which a process that never asks need not spend

        record = pending(request, token_hex(16), now)
        _forget(execute, request.digest, _EXPIRED)
        execute("UPDATE approvals_past SET expired = NULL WHERE expired = ?", (request.digest,))
        execute(
            "INSERT INTO approvals (id, digest, waits_for, expires_at, record) VALUES (?, ?, ?, ?, ?)",
            (record.id, record.digest, request.owner, record.expires_at, written(record)),
        )
        return record, expired

    def _has_room(self, owner: str, execute: Execute, now: float) -> bool:
        (waiting,) = execute(
            "SELECT count(*) FROM approvals WHERE waits_for = ? AND expires_at > ?", (owner, now)
        ).fetchone()
        (all_together,) = execute("SELECT count(*) FROM approvals WHERE expires_at > ?", (now,)).fetchone()
        return bool(waiting < self._max_pending and all_together < self._capacity)


def _find(digest: str, execute: Execute, now: float) -> tuple[Approval | None, bool]:
    row = execute("SELECT record FROM approvals WHERE digest = ?", (digest,)).fetchone()
    if row is not None:
        record = read(row[0])
        return (record, False) if now < record.expires_at else (None, True)
    return None, execute("SELECT 1 FROM approvals_past WHERE expired = ?", (digest,)).fetchone() is not None


def _consume(digest: str, execute: Execute, now: float) -> Approval | None:
    _set_aside(execute, now)
    record, _ = _find(digest, execute, now)
    if record is None or record.status != "approved":
        return None
    _forget(execute, digest, _USED)
    return record


def _decide(
    approval_id: str, approved: bool, by: str, note: str, execute: Execute, now: float
) -> Approval | ApprovalError:
    _set_aside(execute, now)
    record = _with_id(approval_id, execute, now)
    if record is None:
        return unknown(approval_id, _became(approval_id, execute))
    try:
        record = decided(record, approved, Vote(by, now, note))
    except ApprovalError as error:
        return error
    execute("UPDATE approvals SET record = ? WHERE id = ?", (written(record), record.id))
    if record.status != "pending":
        execute("UPDATE approvals SET waits_for = NULL WHERE id = ?", (record.id,))
    return record


def _with_id(approval_id: str, execute: Execute, now: float) -> Approval | None:
    row = execute("SELECT record FROM approvals WHERE id = ?", (_sendable(approval_id),)).fetchone()
    record = None if row is None else read(row[0])
    return record if record is not None and now < record.expires_at else None


def _pending(execute: Execute, now: float) -> list[Approval]:
    rows = execute(
        "SELECT record FROM approvals WHERE waits_for IS NOT NULL AND expires_at > ? ORDER BY number", (now,)
    )
    return [read(row) for (row,) in rows]


# -- the past


def _set_aside(execute: Execute, now: float) -> None:
    """Move some of what has expired by now to the past."""
    oldest = "SELECT digest FROM approvals WHERE expires_at <= ? ORDER BY expires_at LIMIT ?"
    for (digest,) in execute(oldest, (now, _SET_ASIDE)).fetchall():
        _forget(execute, digest, _EXPIRED)


def _forget(execute: Execute, digest: str, became: str) -> None:
    """Move the record to the past, if there is one."""
    news = digest if became == _EXPIRED else None
    move = "INSERT INTO approvals_past (id, became, expired) SELECT id, ?, ? FROM approvals WHERE digest = ?"
    execute(move, (became, news, digest))
    execute("DELETE FROM approvals WHERE digest = ?", (digest,))
    bounded = "DELETE FROM approvals_past WHERE number <= (SELECT max(number) - ? FROM approvals_past)"
    execute(bounded, (_REMEMBERED,))


def _became(approval_id: str, execute: Execute) -> str | None:
    """What became of a record that is no longer valid, where that is remembered."""
    if execute("SELECT 1 FROM approvals WHERE id = ?", (_sendable(approval_id),)).fetchone() is not None:
        return _EXPIRED
    row = execute("SELECT became FROM approvals_past WHERE id = ?", (_sendable(approval_id),)).fetchone()
    return None if row is None else str(row[0])


def _sendable(approval_id: str) -> str | None:
    """An id as SQLite can be asked for it. Ours are ASCII, so any other is unknown."""
    return approval_id if approval_id.isascii() else None
