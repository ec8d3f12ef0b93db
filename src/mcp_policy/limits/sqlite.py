"""Counters in a file, for the processes of one machine.

Rules kept here, besides those of `store`:

* a call is one transaction; what a refused call has taken until then is rolled back;
* the log of a key is what `window` makes of it, packed; nothing here computes with it;
* keys are kept as SHA-256, so that the file is bounded whatever is counted, and no identity stands in it;
* only what no longer counts is dropped, the longest untouched first: a few keys of a counter for every new key in it,
  and some of all counters every five minutes. So counters that no policy names any more go too.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from hashlib import sha256
from math import inf
from typing import Final, NamedTuple, Self

from ..sqlite_files import TIMEOUT, Execute, StateFile
from .store import CounterSpec, Key, Receipt, Reply, Request, render
from .window import Log, is_empty, is_over, refund, standing, start, take

_TABLES: Final = (
    """
    CREATE TABLE IF NOT EXISTS limit_counters (
        id INTEGER PRIMARY KEY,
        name BLOB NOT NULL UNIQUE,  -- digests, as those of keys
        window REAL NOT NULL,       -- seconds, as the last call had it
        keys INTEGER NOT NULL       -- how many rows `limit_logs` has for it
    )""",
    """
    CREATE TABLE IF NOT EXISTS limit_logs (
        counter INTEGER NOT NULL,
        key BLOB NOT NULL,
        last REAL NOT NULL,         -- when its newest cost was taken
        log BLOB NOT NULL,
        PRIMARY KEY (counter, key)
    ) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS limit_logs_untouched ON limit_logs (counter, last)",
)

_FIND: Final = """
    SELECT counters.id, counters.window, counters.keys, logs.log FROM limit_counters AS counters
    LEFT JOIN limit_logs AS logs ON logs.counter = counters.id AND logs.key = ? WHERE counters.name = ?"""
_OLDEST: Final = "SELECT key, last FROM limit_logs WHERE counter = ? ORDER BY last LIMIT ?"

_DROPS: Final = 4  # keys dropped at most for one new key
_SWEEP_EVERY: Final = 300.0  # seconds of the store's clock
_SWEEP_STEPS: Final = 16  # counters looked at, and keys dropped, in one call of a sweep

_NO_ROOM: Final = Reply(0, None, 0.0, False)


class _Found(NamedTuple):
    """One key of a counter, as the file has it."""

    counter: int | None
    """None: the counter is new."""
    window: float
    keys: int
    key: bytes
    log: Log
    """Without a slot where the key is new."""


class SQLiteLimitStore:
    """Counts in a file, for any number of threads and processes of one machine; a restart keeps them.

    `clock` answers seconds since the same moment in all processes, also after a restart, and must not call the store.
    `capacity` is the number of keys per counter, `timeout` how many seconds a call may wait for others. Raises
    `StateFileError` for a file that cannot be used, as do all methods.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        clock: Callable[[], float] = time.time,
        capacity: int = 100_000,
        timeout: float = TIMEOUT,
    ) -> None:
        if capacity < 1:
            raise ValueError("`capacity` must be at least 1")
        self._capacity = capacity
        self._sweep_at = -inf
        self._swept = 0  # the counter that the sweep has come to
        self._file = StateFile(path, "limits", _TABLES, clock, timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; no call works afterwards."""
        self._file.close()

    def acquire(self, requests: Sequence[Request]) -> Receipt:
        """Take every cost, or none if one of them does not fit.

        Raises what the clock raises, and `ValueError` for a clock that answers no finite number or a cost below zero.
        """
        return self._file.write(partial(self._acquire, requests))

    def peek(self, requests: Sequence[Request]) -> Receipt:
        """What `acquire` would meet; takes nothing and changes nothing. Raises as `acquire` does."""
        return self._file.read(partial(self._look, requests))

    def refund(self, receipt: Receipt, which: Sequence[int]) -> None:
        """Give back the costs of these requests (indices), if they still count. The caller asks once per receipt."""
        if receipt.taken:
            kept = [receipt.requests[index] for index in which if receipt.replies[index].available]
            self._file.write(partial(_refund, kept, receipt.at))

    def _acquire(self, requests: Sequence[Request], execute: Execute, now: float) -> Receipt:
        if now >= self._sweep_at:
            self._sweep(execute, now)
        several = len(requests) > 1
        if several:
            execute("SAVEPOINT taking")
        replies: list[Reply] = []
        for request in requests:
            reply = self._take(execute, request, now)
            if reply is None:
                if several:
                    execute("ROLLBACK TO taking")
                return self._look(requests, execute, now)
            replies.append(reply)
        return Receipt(True, tuple(replies), now, tuple(requests))

    def _take(self, execute: Execute, request: Request, now: float) -> Reply | None:
        """Take one cost; `None` refuses."""
        spec, key, cost = request
        if cost < 0:
            raise ValueError("a cost must not be below zero")
        found = _find(execute, spec, key)
        if not 0 < cost <= spec.maximum:
            reply = standing(found.log, spec.window, now, cost, spec.maximum)
            return reply if reply.retry_after == 0.0 else None
        if is_empty(found.log):
            return self._take_first(execute, found, request, now)
        total = take(found.log, spec.window, now, cost, spec.maximum)
        if not total:
            return None
        _keep(execute, found)
        if found.window != spec.window:
            execute("UPDATE limit_counters SET window = ? WHERE id = ?", (spec.window, found.counter))
        return Reply(total, 0.0, spec.window, True)

    def _take_first(self, execute: Execute, found: _Found, request: Request, now: float) -> Reply | None:
        """Take the first cost of a key; `None` refuses."""
        spec, _, cost = request
        counter, keys = found.counter, found.keys
        if counter is None:
            new = "INSERT INTO limit_counters (name, window, keys) VALUES (?, ?, 0)"
            counter = execute(new, (_digest(spec.counter, None), spec.window)).lastrowid
        else:
            keys -= _drop_over(execute, counter, spec.window, now, _DROPS)
        if keys >= self._capacity:
            return _NO_ROOM if spec.optional else None
        log = _pack(start(now, cost))
        execute("INSERT INTO limit_logs VALUES (?, ?, ?, ?)", (counter, found.key, now, log))
        execute("UPDATE limit_counters SET window = ?, keys = keys + 1 WHERE id = ?", (spec.window, counter))
        return Reply(cost, 0.0, spec.window, True)

    def _look(self, requests: Sequence[Request], execute: Execute, now: float) -> Receipt:
        """What the requests meet at this moment, without taking anything."""
        replies = tuple(self._meet(execute, request, now) for request in requests)
        return Receipt(False, replies, now, tuple(requests))

    def _meet(self, execute: Execute, request: Request, now: float) -> Reply:
        spec, key, cost = request
        found = _find(execute, spec, key)
        reply = standing(found.log, spec.window, now, cost, spec.maximum)
        may_open = is_empty(found.log) and cost and reply.retry_after is not None
        return _NO_ROOM if may_open and not self._has_room(execute, found, spec, now) else reply

    def _has_room(self, execute: Execute, found: _Found, spec: CounterSpec, now: float) -> bool:
        if found.keys < self._capacity:
            return True
        _, last = execute(_OLDEST, (found.counter, 1)).fetchone()
        return is_over(start(last, 0), spec.window, now)

    def _sweep(self, execute: Execute, now: float) -> None:
        """Drop some of what no longer counts, one counter after the other."""
        counters = execute(
            "SELECT id, window, keys FROM limit_counters WHERE id > ? ORDER BY id LIMIT ?", (self._swept, _SWEEP_STEPS)
        ).fetchall()
        steps = _SWEEP_STEPS
        for counter, window, keys in counters:
            dropped = _drop_over(execute, counter, window, now, steps)
            if dropped == steps:
                self._sweep_at = now  # the next call goes on here
                return
            steps -= dropped
            if dropped == keys:
                execute("DELETE FROM limit_counters WHERE id = ?", (counter,))
            self._swept = counter
        if len(counters) < _SWEEP_STEPS:
            self._swept = 0
            self._sweep_at = now + _SWEEP_EVERY


def _refund(requests: Sequence[Request], at: float, execute: Execute, now: float) -> None:
    for spec, key, cost in requests:
        found = _find(execute, spec, key)
        if found.counter is None or is_empty(found.log):
            continue
        refund(found.log, at, cost)
        if is_empty(found.log):
            _drop(execute, found.counter, [found.key])
        else:
            _keep(execute, found)


def _find(execute: Execute, spec: CounterSpec, key: Key) -> _Found:
    digest = _digest(spec.counter, key)
    row = execute(_FIND, (digest, _digest(spec.counter, None))).fetchone()
    if row is None:
        return _Found(None, spec.window, 0, digest, [0])
    counter, window, keys, log = row
    return _Found(counter, window, keys, digest, [0] if log is None else _unpack(log))


@lru_cache(4_096)
def _digest(counter: str, key: Key) -> bytes:
    return sha256(render(counter, key).encode()).digest()


def _keep(execute: Execute, found: _Found) -> None:
    log = found.log
    execute(
        "UPDATE limit_logs SET last = ?, log = ? WHERE counter = ? AND key = ?",
        (log[-2], _pack(log), found.counter, found.key),
    )


def _drop_over(execute: Execute, counter: int, window: float, now: float, most: int) -> int:
    """Drop keys that no longer count, `most` at most; return how many."""
    oldest = execute(_OLDEST, (counter, most)).fetchall()
    over = [key for key, last in oldest if is_over(start(last, 0), window, now)]
    if over:
        _drop(execute, counter, over)
    return len(over)


def _drop(execute: Execute, counter: int, keys: Sequence[bytes]) -> None:
    for key in keys:
        execute("DELETE FROM limit_logs WHERE counter = ? AND key = ?", (counter, key))
    execute("UPDATE limit_counters SET keys = keys - ? WHERE id = ?", (len(keys), counter))


def _pack(log: Log) -> bytes:
    return _shape(len(log) // 3).pack(*log)


def _unpack(packed: bytes) -> Log:
    try:
        log = list(_shape(len(packed) // 24).unpack(packed))
    except (struct.error, TypeError) as error:
        raise ValueError("the log of a key is damaged") from error
    if is_empty(log) or log[0] != sum(log[3::3]):
        raise ValueError("the log of a key is damaged")
    return log


@lru_cache(1_024)
def _shape(slots: int) -> struct.Struct:
    """How a log is packed: the total, then first, last and cost of each slot."""
    return struct.Struct("<q" + "ddq" * slots)
