"""Counters on a Redis or Valkey server, for processes on many machines.

Rules kept here, besides those of `store`:

* a call is one script, `take.lua`, and one round trip; the time is the server's, whatever the clients' clocks say;
* a log holds at most 151 slots, and is exact up to 50: room may come back late by 1 % of the window, and never early;
* the arithmetic of replies is that of `window`: of what is refused the server returns the logs;
* every key expires by itself, and every request has an id: one that comes twice takes once;
* a request that failed may have come through all the same. If its call did not run, it is undone at the next contact
  with its hash slot, and takes nothing if it arrives only then;
* whatever fails raises, and the engine denies.

All keys share one hash slot, so that all limits of a call are taken in one step on a Cluster too. With `shards` they
are spread over so many slots by who is counted. The limits of a call that lie in several are then taken one slot after
the other, and given back where a later one refuses or fails. A slot that fails never hides that another one refuses,
and never stands in the way of calls that do not need it.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Generator, Sequence
from functools import lru_cache
from hashlib import blake2b
from math import isfinite
from pathlib import Path
from secrets import token_bytes
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, TypeAlias

from ..redis_scripts import TIMEOUT, Run, async_client, check_client, client, drive, drive_async, script
from .store import Key, Receipt, Reply, Request, render
from .window import Log, standing

if TYPE_CHECKING:
    import redis
    import redis.asyncio

_LUA: Final = Path(__file__).parent / "lua"
_TAKE: Final = script((_LUA / "take.lua").read_text(encoding="utf-8"))
_REFUND: Final = script((_LUA / "refund.lua").read_text(encoding="utf-8"))
_DOUBTFUL: Final = 100  # requests remembered at most of which nobody knows whether they came through
_LONGEST_NAME: Final = 200  # characters of a key, beyond which a digest stands for it

_CALL: Final = struct.Struct("<BBdd")
_LIMIT: Final = struct.Struct("<dddB")
_HEAD: Final = struct.Struct("<bd")
_TAKEN: Final = struct.Struct("<bdd")
_LIVE: Final = struct.Struct("<bI")
_NEVER: Final = Reply(0, None, 0.0, True)
_NO_ROOM: Final = Reply(0, None, 0.0, False)

Steps: TypeAlias = "Generator[Run, Any, Any]"


class _Group(NamedTuple):
    """The limits of a call whose keys share a hash slot."""

    tag: str
    places: tuple[int, ...]
    keys: tuple[str, ...]
    """Log and index of each."""

    @property
    def time(self) -> str:
        """The key of the latest time, which every request to this slot names first."""
        return f"{self.tag}:time"


class _Spread(Receipt):
    """A receipt of limits that lie in several hash slots, each with its own time."""

    times: dict[str, float]


class _Limits:
    """What is asked of the server, and what its replies mean; both stores ask alike."""

    def __init__(self, prefix: str, capacity: int, shards: int, clock: Callable[[], float] | None) -> None:
        if capacity < 1:
            raise ValueError("`capacity` must be at least 1")
        if shards < 1:
            raise ValueError("`shards` must be at least 1")
        self._prefix = prefix
        self._shards = shards
        self._capacity = -(-capacity // shards)
        self._clock = clock
        self._doubtful: deque[Run] = deque(maxlen=_DOUBTFUL)
        self._place = lru_cache(4_096)(self._find_place)

    # -- what is asked

    def acquire(self, requests: Sequence[Request]) -> Steps:
        asked = tuple(requests)
        _check(asked)
        groups = self._groups(asked)
        receipts: list[tuple[_Group, Receipt]] = []
        sent: list[Run] = []
        failure: Exception | None = None
        for group in groups:
            try:
                receipt = yield from self._take(_part(asked, group), group, sent)
            except Exception as error:
                if not all(spec.optional for spec, _, _ in asked):
                    self._doubtful += map(_void, sent)
                    for taken, _ in receipts:
                        yield from self._undo(taken)
                    raise
                failure = error  # the call runs all the same, unless a limit in another slot stops it
            except BaseException:  # whoever asked is gone, and the call does not run
                self._doubtful += map(_void, sent)
                raise
            else:
                if not receipt.taken:
                    return (yield from self._refuse(asked, groups, group, receipt, sent[:-1]))
                receipts.append((group, receipt))
        if failure is not None:
            raise failure
        return receipts[0][1] if len(receipts) == 1 else _joined(asked, receipts)

    def peek(self, requests: Sequence[Request]) -> Steps:
        asked = tuple(requests)
        receipts: list[tuple[_Group, Receipt]] = []
        for group in self._groups(asked):
            found = yield from self._look(_part(asked, group), group)
            receipts.append((group, found))
        return receipts[0][1] if len(receipts) == 1 else _joined(asked, receipts, taken=False)

    def refund(self, receipt: Receipt, which: Sequence[int]) -> Steps:
        if not receipt.taken:
            return
        wanted = [place for place in which if receipt.replies[place].available]
        for group in self._groups(receipt.requests):
            places = [place for place in group.places if place in wanted]
            if not places:
                continue
            at = receipt.times[group.tag] if isinstance(receipt, _Spread) else receipt.at
            asked = tuple(receipt.requests[place] for place in places)
            for part in self._groups(asked):
                yield self._run("refund", part, asked, at)

    def _take(self, asked: tuple[Request, ...], group: _Group, sent: list[Run]) -> Steps:
        if self._doubtful:
            yield from self._undo(group)
        run = self._run("take", group, asked, self._capacity)
        sent.append(run)
        return _read((yield run), asked)

    def _look(self, asked: tuple[Request, ...], group: _Group) -> Steps:
        return _read((yield self._run("peek", group, asked, self._capacity)), asked)

    def _undo(self, group: _Group) -> Steps:
        """Undo the requests to a hash slot that may have come through although their calls did not run."""
        for run in self._doubtful.copy():
            if run.keys[0] != group.time:
                continue  # its server may be another one, which does not answer
            try:
                self._doubtful.remove(run)
            except ValueError:
                continue  # another thread is at it
            try:
                yield run
            except BaseException:
                self._doubtful.append(run)
                raise

    def _refuse(
        self, asked: tuple[Request, ...], groups: list[_Group], refused: _Group, receipt: Receipt, sent: list[Run]
    ) -> Steps:
        """What a call meets that one slot refuses: gives back what others took, and looks at them."""
        if len(groups) == 1:
            return receipt
        self._doubtful += map(_void, sent)
        receipts = [(refused, receipt)]
        for group in groups:
            if group is refused:
                continue
            part = _part(asked, group)
            try:
                yield from self._undo(group)
                found = yield from self._look(part, group)
            except Exception:  # noqa: BLE001  # the call is refused all the same
                found = Receipt(False, (_NO_ROOM,) * len(part), receipt.at, part)
            receipts.append((group, found))
        return _joined(asked, receipts, taken=False)

    # -- keys and arguments

    def _run(self, what: str, group: _Group, asked: tuple[Request, ...], more: float) -> Run:
        is_given, now = self._time()
        numbers = [_CALL.pack(what == "take", is_given, now, more)]
        numbers += [_LIMIT.pack(spec.window, spec.maximum, cost, spec.optional) for spec, _, cost in asked]
        request_id = token_bytes(16).hex()  # anew each time: a counter would be shared by the children of a fork
        keys = (group.time, f"{group.tag}:once:{request_id}", *group.keys)
        packed = b"".join(numbers)
        return Run(_REFUND, keys, (what, packed)) if what == "refund" else Run(_TAKE, keys, (packed,))

    def _time(self) -> tuple[bool, float]:
        if self._clock is None:
            return False, 0.0
        now = self._clock()
        if not isfinite(now):
            raise ValueError("the clock of a limit store must answer a finite number of seconds")
        return True, now

    def _groups(self, asked: tuple[Request, ...]) -> list[_Group]:
        if self._shards == 1:
            found = [self._place(spec.counter, key) for spec, key, _ in asked]
            names = tuple([name for _, log, index in found for name in (log, index)])
            return [_Group(found[0][0], tuple(range(len(asked))), names)] if found else []
        places: dict[str, list[int]] = {}
        keys: dict[str, list[str]] = {}
        for place, (spec, key, _) in enumerate(asked):
            tag, log, index = self._place(spec.counter, key)
            places.setdefault(tag, []).append(place)
            keys.setdefault(tag, []).extend((log, index))
        return [_Group(tag, tuple(found), tuple(keys[tag])) for tag, found in places.items()]

    def _find_place(self, counter: str, key: Key) -> tuple[str, str, str]:
        """The hash tag of a key, and the names of its log and of its counter's index."""
        shard = ""
        if self._shards > 1:
            digest = blake2b(render("", key).encode(), digest_size=8).digest()
            shard = f":{int.from_bytes(digest, 'big') % self._shards}"
        tag = f"{{{self._prefix}:limits{shard}}}"
        return tag, f"{tag}:log:{_name(counter, key)}", f"{tag}:keys:{_name(counter, None)}"


def _name(counter: str, key: Key) -> str:
    name = render(counter, key)
    return name if len(name) <= _LONGEST_NAME else blake2b(name.encode(), digest_size=32).hexdigest()


def _check(asked: tuple[Request, ...]) -> None:
    if any(cost < 0 for _, _, cost in asked):
        raise ValueError("a cost must not be below zero")


def _void(run: Run) -> Run:
    return Run(_REFUND, run.keys, ("void", *run.arguments))


def _part(asked: tuple[Request, ...], group: _Group) -> tuple[Request, ...]:
    return asked if len(group.places) == len(asked) else tuple(asked[place] for place in group.places)


# -- replies


def _read(reply: object, asked: tuple[Request, ...]) -> Receipt:
    """The receipt that a reply stands for. Raises `ValueError` for what is no reply of the script."""
    if not isinstance(reply, bytes):
        raise ValueError(f"the server answered with {type(reply).__name__}, not with a reply of the script")
    try:
        taken, now = _HEAD.unpack_from(reply)
        replies = _taken(reply, asked) if taken == 1 else _met(reply, asked, now)
    except struct.error as error:
        raise ValueError("the server answered with a reply that is cut short") from error
    return Receipt(taken == 1, replies, now, asked)


def _taken(reply: bytes, asked: tuple[Request, ...]) -> tuple[Reply, ...]:
    if len(reply) != _HEAD.size + _TAKEN.size * len(asked):
        raise ValueError("the server answered about other limits")
    met: list[Reply] = []
    for (spec, _, cost), (available, total, newest) in zip(asked, _TAKEN.iter_unpack(reply[_HEAD.size :]), strict=True):
        if not available:
            met.append(_NO_ROOM)
        elif cost:
            met.append(Reply(int(total), 0.0, spec.window, True))
        else:
            now = _HEAD.unpack_from(reply)[1]
            log = [int(total), newest, newest, int(total)] if total else [0]
            met.append(standing(log, spec.window, now, 0, spec.maximum))
    return tuple(met)


def _met(reply: bytes, asked: tuple[Request, ...], now: float) -> tuple[Reply, ...]:
    met: list[Reply] = []
    at = _HEAD.size
    for spec, _, cost in asked:
        room, size = _LIVE.unpack_from(reply, at)
        at += _LIVE.size
        log = _log(reply[at : at + size], size)
        at += size
        found = standing(log, spec.window, now, cost, spec.maximum)
        met.append(found if room or not cost or found.retry_after is None else _NO_ROOM)
    if at != len(reply):
        raise ValueError("the server answered about other limits")
    return tuple(met)


def _log(slots: bytes, size: int) -> Log:
    log: Log = [0]
    if len(slots) != size:
        raise ValueError("the server answered with a log that is cut short")
    for last, cost in struct.iter_unpack("<dd", slots):
        log[0] += int(cost)
        log += (last, last, int(cost))
    return log


def _joined(asked: tuple[Request, ...], receipts: Sequence[tuple[_Group, Receipt]], *, taken: bool = True) -> Receipt:
    replies = dict[int, Reply]()
    for group, receipt in receipts:
        replies |= zip(group.places, receipt.replies, strict=True)
    latest = max((receipt.at for _, receipt in receipts), default=0.0)
    joined = _Spread(taken, tuple(replies[place] for place in range(len(asked))), latest, asked)
    joined.times = {group.tag: receipt.at for group, receipt in receipts}
    return joined


# -- the stores


class RedisLimitStore:
    """Counts on a server, for any number of threads, processes and machines.

    `given` is a client of redis-py, `Redis` or `RedisCluster`, without `decode_responses`; give it timeouts and no
    retries, as `from_url` does. `prefix` begins all keys. `capacity` is the number of keys per counter, `shards` the
    number of hash slots that they are spread over. `clock` is for tests; without it the server's time counts.
    """

    def __init__(
        self,
        given: redis.Redis | redis.RedisCluster,
        *,
        prefix: str = "mcp-policy",
        capacity: int = 100_000,
        shards: int = 1,
        clock: Callable[[], float] | None = None,
    ) -> None:
        check_client(given)
        self.client = given
        self._limits = _Limits(prefix, capacity, shards, clock)

    @classmethod
    def from_url(cls, url: str, *, timeout: float = TIMEOUT, **settings: Any) -> Self:
        """Return a store on the server at `redis://host:port/0`. It answers or fails within `timeout` seconds."""
        return cls(client(url, timeout), **settings)

    def close(self) -> None:
        """Close the client's connections."""
        self.client.close()

    def acquire(self, requests: Sequence[Request]) -> Receipt:
        """Take every cost, or none if one of them does not fit. Raises whatever fails."""
        receipt: Receipt = drive(self.client, self._limits.acquire(requests))
        return receipt

    def peek(self, requests: Sequence[Request]) -> Receipt:
        """What `acquire` would meet; takes nothing and changes nothing. Raises whatever fails."""
        receipt: Receipt = drive(self.client, self._limits.peek(requests))
        return receipt

    def refund(self, receipt: Receipt, which: Sequence[int]) -> None:
        """Give back the costs of these requests (indices), if they still count. The caller asks once per receipt."""
        drive(self.client, self._limits.refund(receipt, which))


class AsyncRedisLimitStore:
    """As `RedisLimitStore`, for asyncio: takes a client of `redis.asyncio`."""

    def __init__(
        self,
        given: redis.asyncio.Redis | redis.asyncio.RedisCluster,
        *,
        prefix: str = "mcp-policy",
        capacity: int = 100_000,
        shards: int = 1,
        clock: Callable[[], float] | None = None,
    ) -> None:
        check_client(given)
        self.client = given
        self._limits = _Limits(prefix, capacity, shards, clock)

    @classmethod
    def from_url(cls, url: str, *, timeout: float = TIMEOUT, **settings: Any) -> Self:
        """As `RedisLimitStore.from_url`."""
        return cls(async_client(url, timeout), **settings)

    async def aclose(self) -> None:
        """Close the client's connections."""
        await self.client.aclose()

    async def acquire(self, requests: Sequence[Request]) -> Receipt:
        """As `RedisLimitStore.acquire`."""
        receipt: Receipt = await drive_async(self.client, self._limits.acquire(requests))
        return receipt

    async def peek(self, requests: Sequence[Request]) -> Receipt:
        """As `RedisLimitStore.peek`."""
        receipt: Receipt = await drive_async(self.client, self._limits.peek(requests))
        return receipt

    async def refund(self, receipt: Receipt, which: Sequence[int]) -> None:
        """As `RedisLimitStore.refund`."""
        await drive_async(self.client, self._limits.refund(receipt, which))
