"""Approvals in the memory of this process.

Rules kept here, besides those of `store`:

* one lock, held for a whole call; nothing foreign runs under it but the clock;
* the clock is read under the lock, and time is a high-water mark: a clock that goes back revives nothing. What is no
  finite number raises before anything is changed;
* reading changes nothing; every change first sets aside what has expired, so that counts are of valid records;
* that a record expired, or was used up, is remembered as long as there is room: forgetting it loses a better message,
  never a decision.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from math import inf, isfinite
from threading import Lock

from .store import Approval, ApprovalRequest, Vote, check_ttl, decided, pending, unknown

_REMEMBERED = 10_000  # expired digests, and ids of the past


class MemoryApprovalStore:
    """Approvals within one process, for any number of threads.

    `clock` answers seconds and must not call the store. `max_pending` is the number of pending records per owner,
    `capacity` that of all valid records together.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, max_pending: int = 100, capacity: int = 100_000
    ) -> None:
        self._clock = clock
        self._max_pending = max_pending
        self._capacity = capacity
        self._lock = Lock()
        self._now = -inf
        self._records: dict[str, Approval] = {}  # by digest
        self._digests: dict[str, str] = {}  # by id
        self._owners: dict[str, str] = {}  # by id, of pending records
        self._pending: Counter[str] = Counter()  # by owner
        self._expiries: list[tuple[float, str]] = []  # a heap of (expires_at, id); ids of records used up stay in it
        from cachetools import LRUCache  # not before there is a store: start-up time is measured

        self._expired: LRUCache[str, None] = LRUCache(_REMEMBERED)  # digests
        self._past: LRUCache[str, str] = LRUCache(_REMEMBERED)  # by id, what became of it

    def find(self, digest: str) -> tuple[Approval | None, bool]:
        """The valid record for this digest, and whether its last one expired. Changes nothing."""
        with self._lock:
            now = self._read()
            record = self._records.get(digest)
            if record is None:
                return None, digest in self._expired
            return (record, False) if now < record.expires_at else (None, True)

    def ask(self, request: ApprovalRequest) -> tuple[Approval | None, bool]:
        """The valid record, else a new pending one, and whether the one before it expired.

        No record: the owner has too many pending, or the store is full. Raises `ValueError` for a `ttl` that is not a
        finite number above 0.
        """
        check_ttl(request)
        with self._lock:
            self._advance()
            record = self._records.get(request.digest)
            if record is not None:
                return record, False
            expired = request.digest in self._expired
            if self._pending[request.owner] >= self._max_pending or len(self._records) >= self._capacity:
                return None, expired
            return self._create(request), expired

    def consume(self, digest: str) -> Approval | None:
        """Use up the approved, valid record; exactly one of many callers gets it, the others get `None`."""
        with self._lock:
            self._advance()
            record = self._records.get(digest)
            if record is None or record.status != "approved":
                return None
            self._forget(record, "was approved and used")
            return record

    def decide(self, approval_id: str, approved: bool, by: str, note: str = "") -> Approval:
        """Approve or reject a pending, valid record in the name of `by`. Raises `ApprovalError`."""
        with self._lock:
            self._advance()
            record = self._with_id(approval_id)
            if record is None:
                raise unknown(approval_id, self._past.get(approval_id))
            record = decided(record, approved, Vote(by, self._now, note))
            self._records[record.digest] = record
            if record.status != "pending":
                self._no_longer_pending(approval_id)
            return record

    def get(self, approval_id: str) -> Approval | None:
        """The valid record with this id."""
        with self._lock:
            now = self._read()
            record = self._with_id(approval_id)
            return record if record is not None and now < record.expires_at else None

    def pending(self) -> list[Approval]:
        """The valid records that wait for an answer, oldest first."""
        with self._lock:
            now = self._read()
            waiting = (record for record in self._records.values() if record.status == "pending")
            return [record for record in waiting if now < record.expires_at]

    def _read(self) -> float:
        now = self._clock()
        if not isfinite(now):
            raise ValueError("the clock of an approval store must answer a finite number of seconds")
        return max(self._now, now)

    def _advance(self) -> None:
        """Let time pass, and set aside what has expired by now."""
        self._now = self._read()
        while self._expiries and self._expiries[0][0] <= self._now:
            record = self._with_id(heappop(self._expiries)[1])
            if record is not None:
                self._forget(record, "has expired")
                self._expired[record.digest] = None

    def _create(self, request: ApprovalRequest) -> Approval:
        from secrets import token_hex  # milliseconds, which a process that never asks need not spend

        record = pending(request, token_hex(16), self._now)
        self._records[request.digest] = record
        self._digests[record.id] = request.digest
        self._owners[record.id] = request.owner
        self._pending[request.owner] += 1
        self._expired.pop(request.digest, None)
        heappush(self._expiries, (record.expires_at, record.id))
        if len(self._expiries) > 2 * len(self._records) + 64:
            self._expiries = [(kept.expires_at, kept.id) for kept in self._records.values()]
            heapify(self._expiries)
        return record

    def _forget(self, record: Approval, became: str) -> None:
        del self._records[record.digest], self._digests[record.id]
        self._no_longer_pending(record.id)
        self._past[record.id] = became

    def _no_longer_pending(self, approval_id: str) -> None:
        owner = self._owners.pop(approval_id, None)
        if owner is not None:
            self._pending[owner] -= 1
            if not self._pending[owner]:
                del self._pending[owner]

    def _with_id(self, approval_id: str) -> Approval | None:
        digest = self._digests.get(approval_id)
        return None if digest is None else self._records[digest]
