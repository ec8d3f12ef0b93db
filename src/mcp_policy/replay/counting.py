"""What stands in the counters while calls are replayed: at least so much, and at most so much.

A call of which nobody can tell whether it ran has taken its cost at most, and nothing at least; so has one whose cost
may have been given back. Where both bounds say the same of a further call, that is so.

Rules kept here: time is that of the records; counts begin at zero; what is counted is never cut at a limit's `max`,
which is compared here. A counter with more identities than can be kept tells nothing any more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple, TypeAlias

from ..call import ToolCall
from ..demands import Counter
from ..evaluator import Limit
from ..limits.memory import MemoryLimitStore
from ..limits.store import CounterSpec, Key, Request

_MUCH: Final = 1 << 100  # more than anything that is ever counted

Costs: TypeAlias = "Sequence[int | None]"
"""What a call takes from each counter, in millionths; None where that is not known."""
Taking: TypeAlias = "tuple[tuple[Counter, ...], Costs]"
_Place: TypeAlias = "tuple[CounterSpec, Key]"


class Standing(NamedTuple):
    """Whether a call may pass its limits, and whether it may be stopped, by which one then."""

    may_pass: bool
    may_stop: bool
    rule: str = ""


class Counts:
    """The counters, between two bounds."""

    def __init__(self) -> None:
        self.now = 0.0
        self._least, self._most = MemoryLimitStore(self._time), MemoryLimitStore(self._time)
        self._lost: set[str] = set()
        """Counters with too many identities."""
        self._all_lost = False

    def _time(self) -> float:
        return self.now

    def standing(self, counters: Sequence[Counter], costs: Costs, call: ToolCall) -> Standing:
        """Return what limits say of a call."""
        rule = ""
        for counter, cost in zip(counters, costs, strict=True):
            request = _request(counter, call, cost or 0)
            surely, perhaps = (store.peek([request]).replies[0] for store in (self._least, self._most))
            if not perhaps.available:
                self._lost.add(counter.spec.counter)
            stops = _stopping(counter, surely.used, cost or 0)
            if stops is not None:
                return Standing(False, True, stops.pointer)
            is_known = cost is not None and not self._all_lost and counter.spec.counter not in self._lost
            may_stop = _stopping(counter, perhaps.used, cost or 0) if is_known else counter.limits[0]
            if may_stop is not None:
                rule = rule or may_stop.pointer
        return Standing(True, bool(rule), rule)

    def take(self, taking: Sequence[Taking], call: ToolCall, *, surely: bool) -> None:
        """Count a call that ran, or may have run, in one of these ways."""
        ways = [_requests(counters, costs, call) for counters, costs in taking]
        most: dict[_Place, Request] = {}
        for request in (request for way in ways for request in way.values()):
            before = most.get(request[:2])
            if before is None or before[2] < request[2]:
                most[request[:2]] = request
        self._take(self._most, most.values())
        if surely:
            kept = [_requests(*_kept(counters, costs), call) for counters, costs in taking]
            least = [min(way[place] for way in kept) for place in kept[0] if all(place in way for way in kept)]
            self._take(self._least, least)

    def lose(self) -> None:
        """Note that a call may have taken anything: no count is known any more."""
        self._all_lost = True

    def _take(self, store: MemoryLimitStore, requests: Iterable[Request]) -> None:
        asked = tuple(requests)
        for (spec, _, _), reply in zip(asked, store.acquire(asked).replies, strict=True):
            if not reply.available:
                self._lost.add(spec.counter)


def costs_of(counters: Sequence[Counter], call: ToolCall, unknown: Collection[str]) -> list[int | None]:
    """Return what a call takes from each counter; `unknown` are the places of the limits whose cost is not known."""
    return [counter.cost if counter.cost is not None else _cost(counter, call, unknown) for counter in counters]


def _cost(counter: Counter, call: ToolCall, unknown: Collection[str]) -> int | None:
    costs = [
        limit.cost if isinstance(limit.cost, int) else None if limit.pointer in unknown else limit.cost(call)
        for limit in counter.limits
    ]
    return None if None in costs else max(cost for cost in costs if cost is not None)


def _requests(counters: Sequence[Counter], costs: Costs, call: ToolCall) -> dict[_Place, Request]:
    requests = (
        _request(counter, call, counter.spec.maximum if cost is None else cost)
        for counter, cost in zip(counters, costs, strict=True)
    )
    return {request[:2]: request for request in requests}


def _kept(counters: Sequence[Counter], costs: Costs) -> Taking:
    """Leave out what a call may have taken nothing from, or got back."""
    kept = [
        (counter, cost)
        for counter, cost in zip(counters, costs, strict=True)
        if cost is not None and not all(limit.refund for limit in counter.limits)
    ]
    return tuple(counter for counter, _ in kept), [cost for _, cost in kept]


def _request(counter: Counter, call: ToolCall, cost: int) -> Request:
    spec = CounterSpec(counter.spec.counter, counter.spec.window, _MUCH, optional=True)
    return spec, counter.key(call), cost


def _stopping(counter: Counter, used: int, cost: int) -> Limit | None:
    """Return the limit that stops a cost."""
    return next((one for one in counter.limits if not one.maximum or used + cost > one.maximum), None)
