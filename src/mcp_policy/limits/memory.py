"""Counters in the memory of this process.

Rules kept here, besides those of `store`:

* one lock, held for a whole call; nothing foreign runs under it but the clock;
* the clock is read under the lock. What is no finite number raises before anything is taken;
* the costs of a call are taken one after the other; at the first that does not fit, those before it are given back;
* the keys of a counter stand in the order in which they last took a cost, so what no longer counts is in front (but for
  what was given back): while the first key counts, a full counter refuses new ones at once;
* only what no longer counts is dropped: a few keys of a counter for every new key in it, and some of all counters every
  five minutes. So counters that a reloaded policy no longer names go too;
* no empty log and no empty counter outlives a call.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from math import inf, isfinite
from threading import Lock

from .store import CounterSpec, Key, Receipt, Reply, Request
from .window import Log, is_empty, is_over, refund, standing, start, take

_DROPS = 4  # keys dropped at most for one new key
_SWEEP_EVERY = 300.0  # seconds of the store's clock
_SWEEP_STEPS = 64  # keys and counters looked at in one sweep
_KEPT_REPLIES = 256  # per counter

_NOTHING = Reply(0, 0.0, 0.0, True)
_NEVER = Reply(0, None, 0.0, True)
_NO_ROOM = Reply(0, None, 0.0, False)
_new = tuple.__new__  # half the time of a named tuple's own constructor


class _Keys(OrderedDict[Key, Log]):
    """The logs of one counter, the longest untouched first."""

    __slots__ = ("replies", "window")

    def __init__(self, window: float) -> None:
        self.use(window)

    def use(self, window: float) -> None:
        """Count over this window from now on: a reload may change that of a named counter."""
        self.window = window
        self.replies: dict[int, Reply] = {}

    def reply(self, total: int) -> Reply:
        """The reply to a cost that was taken; the first few are kept, since replies are immutable and costs alike."""
        reply: Reply = _new(Reply, (total, 0.0, self.window, True))
        if len(self.replies) < _KEPT_REPLIES:
            self.replies[total] = reply
        return reply

    def drop_over(self, now: float, most: int) -> None:
        """Drop keys that no longer count, `most` at most."""
        while self and most and is_over(self[next(iter(self))], self.window, now):
            self.popitem(last=False)
            most -= 1


class MemoryLimitStore:
    """Counts within one process, for any number of threads.

    `clock` answers seconds and must not call the store. `capacity` is the number of keys per counter.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, capacity: int = 100_000) -> None:
        if capacity < 1:
            raise ValueError("`capacity` must be at least 1")
        lock = Lock()
        self._enter, self._leave = lock.acquire, lock.release  # `with` takes twice the time
        self._clock = clock
        self._capacity = capacity
        self._counters: dict[str, _Keys] = {}
        self._now = -inf
        self._sweep_at = -inf
        self._to_sweep: list[str] = []

    def acquire(self, requests: Sequence[Request]) -> Receipt:
        """Take every cost, or none if one of them does not fit.

        Raises what the clock raises, and `ValueError` for a clock that answers no finite number or a cost below zero.
        """
        counters = self._counters
        replies: tuple[Reply, ...] = ()
        self._enter()
        try:
            now = self._clock()
            if self._now <= now < self._sweep_at:
                self._now = now
            else:
                now = self._settle(now)
            for spec, key, cost in requests:
                counter, window, maximum, _ = spec
                try:
                    keys = counters[counter]
                    log = keys[key]
                except KeyError:
                    reply = self._open(spec, key, cost)
                else:
                    if keys.window != window:
                        keys.use(window)
                    total = take(log, window, now, cost, maximum) if 0 < cost <= maximum else 0
                    if total:
                        keys.move_to_end(key)
                        reply = keys.replies.get(total) or keys.reply(total)
                    else:
                        reply = None if cost > 0 else self._take_nothing(spec, log, cost)
                if reply is None:
                    taken, replies = replies, ()
                    return self._refuse(requests, taken)
                replies += (reply,)
            return _new(Receipt, (True, replies, now, requests if type(requests) is tuple else tuple(requests)))
        except BaseException:
            self._give_back(requests, replies, self._now)
            raise
        finally:
            self._leave()

    def peek(self, requests: Sequence[Request]) -> Receipt:
        """What `acquire` would meet; takes nothing and changes nothing. Raises as `acquire` does."""
        self._enter()
        try:
            now = self._clock()
            return self._look(requests, now if self._now <= now < self._sweep_at else max(self._now, _finite(now)))
        finally:
            self._leave()

    def refund(self, receipt: Receipt, which: Sequence[int]) -> None:
        """Give back the costs of these requests (indices), if they still count. The caller asks once per receipt."""
        if not receipt.taken:
            return
        self._enter()
        try:
            self._give_back(
                [receipt.requests[index] for index in which],
                [receipt.replies[index] for index in which],
                receipt.at,
            )
        finally:
            self._leave()

    def _settle(self, now: float) -> float:
        """The store's time after an answer of the clock that is not simply a little later than the one before."""
        if _finite(now) < self._now:
            return self._now
        self._now = now
        self._sweep_at = now + _SWEEP_EVERY
        self._sweep()
        return now

    def _sweep(self) -> None:
        """Drop some of what no longer counts, one counter after the other."""
        if not self._to_sweep:
            self._to_sweep = list(self._counters)
        for _ in range(_SWEEP_STEPS):
            if not self._to_sweep:
                break
            counter = self._to_sweep.pop()
            keys = self._counters.get(counter)
            if keys is None:
                continue
            before = len(keys)
            keys.drop_over(self._now, 1)
            if not keys:
                del self._counters[counter]
            elif len(keys) < before:
                self._to_sweep.append(counter)
        if self._to_sweep:
            self._sweep_at = self._now  # the next call goes on

    def _open(self, spec: CounterSpec, key: Key, cost: int) -> Reply | None:
        """Take the first cost of a key; `None` refuses."""
        if not 0 < cost <= spec.maximum:
            return _NOTHING if _is_free(spec, cost, 0) else None
        keys = self._counters.get(spec.counter)
        if keys is None:
            keys = self._counters[spec.counter] = _Keys(spec.window)
        elif keys.window != spec.window:
            keys.use(spec.window)
        keys.drop_over(self._now, _DROPS)
        if len(keys) >= self._capacity:
            return _NO_ROOM if spec.optional else None
        keys[key] = start(self._now, cost)
        return keys.replies.get(cost) or keys.reply(cost)

    def _take_nothing(self, spec: CounterSpec, log: Log, cost: int) -> Reply | None:
        """The reply to a cost of zero, which needs no slot; `None` refuses."""
        reply = standing(log, spec.window, self._now, 0, spec.maximum)
        return reply if _is_free(spec, cost, reply.used) else None

    def _refuse(self, requests: Sequence[Request], taken: Sequence[Reply]) -> Receipt:
        """Undo what was taken before the request that did not fit."""
        if taken:
            self._give_back(requests, taken, self._now)
        return self._look(requests, self._now)

    def _give_back(self, requests: Sequence[Request], replies: Sequence[Reply], at: float) -> None:
        for (spec, key, cost), reply in zip(requests, replies, strict=False):
            log = self._log(spec.counter, key)
            if log is not None and reply.available:
                refund(log, at, cost)
                self._drop_empty(spec.counter, key)

    def _log(self, counter: str, key: Key) -> Log | None:
        keys = self._counters.get(counter)
        return None if keys is None else keys.get(key)

    def _drop_empty(self, counter: str, key: Key) -> None:
        log = self._log(counter, key)
        if log is not None and is_empty(log):
            del self._counters[counter][key]
            if not self._counters[counter]:
                del self._counters[counter]

    def _look(self, requests: Sequence[Request], now: float) -> Receipt:
        """What the requests meet at this moment, without taking anything."""
        replies: tuple[Reply, ...] = ()
        for spec, key, cost in requests:
            counter, window, maximum, _ = spec
            try:
                log = self._counters[counter][key]
            except KeyError:
                replies += (self._answer_new(spec, cost, now),)
            else:
                replies += (standing(log, window, now, cost, maximum),)
        return _new(Receipt, (False, replies, now, tuple(requests)))

    def _answer_new(self, spec: CounterSpec, cost: int, now: float) -> Reply:
        if cost > spec.maximum or not spec.maximum:
            return _NEVER
        return _NOTHING if not cost or self._has_room(spec, now) else _NO_ROOM

    def _has_room(self, spec: CounterSpec, now: float) -> bool:
        keys = self._counters.get(spec.counter)
        return keys is None or len(keys) < self._capacity or is_over(keys[next(iter(keys))], spec.window, now)


def _is_free(spec: CounterSpec, cost: int, total: int) -> bool:
    """Whether this is a cost of zero that may pass."""
    if cost < 0:
        raise ValueError("a cost must not be below zero")
    return not cost and 0 < spec.maximum >= total


def _finite(seconds: float) -> float:
    if not isfinite(seconds):
        raise ValueError("the clock of a limit store must answer a finite number of seconds")
    return seconds
