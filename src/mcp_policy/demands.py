"""What limits ask of a call, and what a store's receipt says of them. Pure.

Rules kept here: a call takes from a counter once, at the highest cost that any of its limits asks, and every limit
checks its own `max`; a counter that cannot be kept stops the call, unless every limit on it says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeAlias

from .call import ToolCall
from .decision import Evidence, Reason, ReasonCode
from .evaluator import Limit
from .limits.store import CounterSpec, Receipt, Reply, Request

Ask: TypeAlias = Callable[[ToolCall], tuple[Request, ...]]


class Counter(NamedTuple):
    """One count that a call has to pass, with every limit that checks it."""

    spec: CounterSpec
    key: Callable[[ToolCall], Any]
    cost: int | None
    """Millionths; None where a call says what it costs."""
    limits: tuple[Limit, ...]


class Demand(NamedTuple):
    """The counters that a call has to pass together."""

    counters: tuple[Counter, ...]
    ask: Ask
    refunds: tuple[int, ...]
    """Places of the counters whose cost a failed call gets back."""


def demand(limits: tuple[Limit, ...]) -> Demand:
    """Return what limits ask of a call."""
    counters = merge(limits)
    refunds = tuple(place for place, counter in enumerate(counters) if all(limit.refund for limit in counter.limits))
    return Demand(counters, _asker(counters), refunds)


def merge(limits: tuple[Limit, ...]) -> tuple[Counter, ...]:
    """Bring limits on the same counter together: a call takes from a counter once, and every limit checks its own
    `max`.
    """
    groups: dict[str, list[Limit]] = {}
    for limit in limits:
        groups.setdefault(limit.counter, []).append(limit)
    return tuple(_counter(tuple(group)) for group in groups.values())


def _counter(limits: tuple[Limit, ...]) -> Counter:
    first = limits[0]
    optional = all(limit.optional for limit in limits)
    spec = CounterSpec(first.counter, first.window, min(limit.maximum for limit in limits), optional)
    costs = [limit.cost for limit in limits]
    fixed = (
        max(cost for cost in costs if isinstance(cost, int)) if all(isinstance(cost, int) for cost in costs) else None
    )
    return Counter(spec, first.key, fixed, limits)


def _asker(counters: tuple[Counter, ...]) -> Ask:
    """Return the function that says what a call asks of its counters."""
    fixed = [(spec, key, cost) for spec, key, cost, _ in counters if cost is not None]
    if len(fixed) == len(counters) == 1:
        only, key_of, cost_of = fixed[0]
        return lambda call: ((only, key_of(call), cost_of),)
    if len(fixed) == len(counters) == 2:
        (one, one_key, one_cost), (two, two_key, two_cost) = fixed
        return lambda call: ((one, one_key(call), one_cost), (two, two_key(call), two_cost))
    if len(fixed) == len(counters):
        return lambda call: tuple([(spec, key(call), cost) for spec, key, cost in fixed])
    parts = [(spec, key, _cost_of(limits)) for spec, key, _, limits in counters]
    return lambda call: tuple([(spec, key(call), cost(call)) for spec, key, cost in parts])


def _cost_of(limits: tuple[Limit, ...]) -> Callable[[ToolCall], int]:
    """Return what a call takes from a counter: the highest cost that any of its limits asks."""

    def cost(call: ToolCall) -> int:
        asked = [limit.cost if isinstance(limit.cost, int) else limit.cost(call) for limit in limits]
        known = [cost for cost in asked if cost is not None]
        if len(known) < len(asked):
            raise ValueError("the cost of the call changed while it was decided")
        return max(known)

    return cost


# -- what a receipt says


NOTHING: Final[list[int]] = []  # nothing to give back; never written to


def met(asked: Demand, receipt: Receipt) -> Evidence:
    """Return the evidence of a call that took nothing that could be given back."""
    return asked.counters, receipt, NOTHING, None


def used_up(
    limits: tuple[Limit, ...], counters: tuple[Counter, ...], receipt: Receipt
) -> tuple[tuple[Reason, ...], float | None]:
    """Return why the limits stop a call, in document order, and in how many seconds it could pass (None: never, or
    unknown).
    """
    said: dict[str, Reason] = {}
    waits: list[float | None] = []
    for counter, reply, (_, _, cost) in zip(counters, receipt.replies, receipt.requests, strict=True):
        if not reply.available and not counter.spec.optional:
            waits.append(None)
            said |= {limit.pointer: _unavailable(limit) for limit in counter.limits if not limit.optional}
        elif reply.available and reply.retry_after != 0:
            waits.append(reply.retry_after)
            said |= {
                limit.pointer: _rate_limited(limit, cost) for limit in counter.limits if _is_used_up(limit, reply, cost)
            }
    known = [wait for wait in waits if wait is not None]
    retry_after = max(known, default=None) if len(known) == len(waits) else None
    return tuple(said[limit.pointer] for limit in limits if limit.pointer in said), retry_after


def _is_used_up(limit: Limit, reply: Reply, cost: int) -> bool:
    return limit.maximum == 0 or reply.used + cost > limit.maximum


def _rate_limited(limit: Limit, cost: int) -> Reason:
    never = limit.maximum == 0 or cost > limit.maximum
    text = "this call costs more than" if never else "used up:"
    message = limit.reason or f"{text} the limit of {limit.shown} in {limit.window:g} seconds"
    return Reason(ReasonCode.RATE_LIMITED, message, limit.pointer)


def _unavailable(limit: Limit) -> Reason:
    return Reason(
        ReasonCode.STATE_UNAVAILABLE, "a limit cannot be counted now, so the call is not let through", limit.pointer
    )


def fits(receipt: Receipt) -> bool:
    """Tell whether a receipt that took nothing says that everything would fit."""
    return all(
        reply.retry_after == 0 if reply.available else spec.optional
        for (spec, _, _), reply in zip(receipt.requests, receipt.replies, strict=True)
    )


def unanswered(asked: tuple[Request, ...]) -> Receipt:
    """Return the receipt of a store that could not answer: taken only where no limit minds."""
    return Receipt(all(spec.optional for spec, _, _ in asked), (Reply(0, None, 0.0, False),) * len(asked), 0.0, asked)
