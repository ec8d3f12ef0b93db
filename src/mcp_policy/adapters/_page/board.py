"""What waits for a decision, as all open pages see it, and what became of it while they looked.

- The store is asked at most once a second, however many pages are open; what did not change is not sent again.
- Few pages are served at once: a new one takes the place of the one that has been open longest, which is told. So a
  browser, which keeps few connections to one address, always has one left to decide with.
- A store that fails or is silent is a text on the page; it never ends a stream.
- What is decided here is decided by the engine, in the name of one person.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from itertools import islice
from math import inf
from time import monotonic, time
from typing import Any, Final, NamedTuple

from mcp_policy.approvals.store import Approval, ApprovalError
from mcp_policy.engine import PolicyEngine

from .shown import Shown, settled, waiting

log: Final = logging.getLogger("mcp_policy")

MAX_STREAMS: Final = 4  # browsers keep six connections to one address
_EVERY: Final = 1.0  # seconds
_PATIENCE: Final = 5.0  # seconds, for a store that has no time-out of its own
_SHOWN: Final = 200  # approvals
_KEPT: Final = 100  # decisions
_EPOCH: Final = 1e9  # seconds: a store that counts further counts from 1970, which this machine has not been up for

UNREACHABLE: Final = "the store of approvals cannot be reached: what is shown may be out of date"


class State(NamedTuple):
    """What there is to show."""

    now: float
    """Seconds of the store's clock, as near as can be told."""
    waiting: Mapping[str, Shown]
    """By id, oldest first."""
    more: int
    """How many wait besides."""
    problem: str = ""


class Board:
    """The approvals of one engine, and the decisions of `by`."""

    def __init__(self, engine: PolicyEngine, by: str) -> None:
        self.by = by
        self._engine = engine
        self._lock = asyncio.Lock()
        self._state = State(0.0, {}, 0)
        self._read_at = -inf
        self._known: dict[str, Approval] = {}  # those that were waiting when last seen
        self._newest = -inf
        self._decided: deque[tuple[int, Shown]] = deque(maxlen=_KEPT)
        self._count = 0
        self._streams: list[asyncio.Event] = []
        self._closed = False

    # -- what is shown

    async def events(self, greeting: Shown) -> AsyncIterator[str]:
        """Yield server-sent events: everything at first, then each second what changed."""
        stop = asyncio.Event()
        self._streams.append(stop)
        if len(self._streams) > MAX_STREAMS:
            self._streams.pop(0).set()
        sent: dict[str, Shown] = {}
        told, first = 0, greeting
        try:
            yield "retry: 1000\n\n"
            while not (self._closed or stop.is_set()):
                state = await self._read()
                decided = [one for number, one in self._decided if number > told]
                told = self._count
                yield f"data: {json.dumps(first | _difference(sent, state) | {'decided': decided})}\n\n"
                sent, first = dict(state.waiting), {}
                await _pause(stop)
            if not self._closed:
                yield "event: elsewhere\ndata:\n\n"
        finally:
            if stop in self._streams:
                self._streams.remove(stop)

    def close(self) -> None:
        """End all streams, for good: browsers look for another server under this address."""
        self._closed = True
        for stop in self._streams:
            stop.set()

    async def find(self, approval_id: str) -> Approval | None:
        """Return a record as it stands. Raises what the store raises."""
        async with asyncio.timeout(_PATIENCE):
            return await self._engine.approval_async(approval_id)

    async def _read(self) -> State:
        async with self._lock:
            if _loop_time() - self._read_at >= _EVERY / 2:
                try:
                    async with asyncio.timeout(_PATIENCE):
                        self._state = await self._look()
                except Exception as error:  # noqa: BLE001  # whatever a store raises, it cannot answer
                    if not self._state.problem:
                        log.error("the approvals page cannot read its store: %r", error)  # noqa: TRY400  # one line
                    self._state = self._state._replace(problem=UNREACHABLE)
                self._read_at = _loop_time()
            return self._state

    async def _look(self) -> State:
        found = await self._engine.pending_async()
        now = self._time(found)
        still = {record.id for record in found}
        for gone in [record for record in self._known.values() if record.id not in still]:
            self._became(gone, await self._engine.approval_async(gone.id), now)
            del self._known[gone.id]
        before = self._state.waiting
        known = {record.id: record for record in islice(found, _SHOWN)}
        shown = {id: self._shown(record, before.get(id)) for id, record in known.items()}
        self._known = known
        return State(now, shown, len(found) - len(known))

    def _shown(self, record: Approval, before: Shown | None) -> Shown:
        """Return the record as it was shown before, where nothing of it changed: arguments can be large."""
        same = before is not None and len(before["votes"]) == len(record.votes)
        if before is not None and same and before["void"] == self._is_void(record):
            return before
        return waiting(record, void=self._is_void(record))

    def _is_void(self, record: Approval) -> bool:
        """Tell whether another policy has asked for it; an engine without one has none to compare with."""
        policy = self._engine.policy
        return policy is not None and record.policy != policy.digest

    def _time(self, found: Sequence[Approval]) -> float:
        """Return the time of the store's clock, which cannot be asked: between what has happened and what has not."""
        for record in found:
            self._newest = max(self._newest, record.created_at, *(vote.at for vote in record.votes))
        here = time() if self._newest > _EPOCH else monotonic()
        return min(max(here, self._newest), min((record.expires_at for record in found), default=inf))

    # -- what is decided

    async def decide(self, approval_id: str, approve: bool, note: str) -> Shown:
        """Decide, and return what became of it. Raises `ApprovalError`, and what the store raises."""
        async with self._lock, asyncio.timeout(_PATIENCE):
            record = await self._engine.approval_async(approval_id)
            if record is not None and self._is_void(record):
                raise ApprovalError("this approval is void: the policy has changed since it was asked for")
            act = self._engine.approve_async if approve else self._engine.reject_async
            decided = await act(approval_id, by=self.by, note=note)
            self._read_at = -inf
            self._newest = max(self._newest, decided.votes[-1].at)
            if decided.status != "pending":
                self._known.pop(decided.id, None)
                self._keep(settled(decided, decided.status))
            return settled(decided, decided.status) | {"missing": decided.needed - len(decided.votes)}

    def _became(self, before: Approval, after: Approval | None, now: float) -> None:
        """Keep what others decided, or time did."""
        if after is not None and after.status != "pending":
            self._newest = max(self._newest, after.decided_at or 0.0)
            self._keep(settled(after, after.status))
        elif after is None:  # whoever waited for it may have used it up by now
            self._keep(settled(before, "expired" if now >= before.expires_at else "gone"))

    def _keep(self, entry: Shown) -> None:
        self._count += 1
        self._decided.append((self._count, entry))


def _difference(sent: Mapping[str, Any], state: State) -> Shown:
    changed = [one for id, one in state.waiting.items() if sent.get(id) != one]
    gone = [id for id in sent if id not in state.waiting]
    return {"now": state.now, "changed": changed, "gone": gone, "more": state.more, "problem": state.problem}


def _loop_time() -> float:
    return asyncio.get_running_loop().time()


async def _pause(stop: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(_EVERY):
            await stop.wait()
    except TimeoutError:
        pass
