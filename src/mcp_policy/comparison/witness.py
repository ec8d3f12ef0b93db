"""Witnesses: calls that one policy lets run and the other does not, as both engines confirm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from ..call import ToolCall
from ..decision import Decision, Effect
from .sides import Bench

Make = Callable[[int], ToolCall]

_MOST_TIMES: Final = 400
_MOST_ROTATED: Final = 400
_MOST_STEPS: Final = 1_200
_RUNS: Final = {Effect.ALLOW: 2, Effect.APPROVE: 1}


class Step(NamedTuple):
    """Calls that are made: at so many seconds, so many times."""

    at: float
    call: ToolCall
    times: int = 1


class Witness(NamedTuple):
    """Calls after which one policy lets the last one run and the other does not."""

    steps: tuple[Step, ...]
    old: Decision
    """What the old policy says to the last call."""
    new: Decision
    while_: str = ""
    """What has to be so besides, such as a store that does not answer."""


class Benches(NamedTuple):
    """The engines of both policies."""

    old: Bench
    new: Bench

    def reset(self) -> None:
        """Begin a trial."""
        self.old.reset()
        self.new.reset()

    def at(self, seconds: float) -> None:
        """Set both clocks."""
        self.old.now = self.new.now = seconds

    @property
    def spent(self) -> int:
        """How many calls have been made in all trials."""
        return self.old.made + self.new.made

    def ordered(self, *, looser: bool) -> tuple[Bench, Bench]:
        """Return the engine that is to let more run, and the other."""
        return (self.new, self.old) if looser else (self.old, self.new)


def rank(decision: Decision) -> int:
    """Return how far a call gets: 2 it runs, 1 it runs when a person agrees, 0 it does not."""
    return _RUNS.get(decision.effect, 0)


def one_call(benches: Benches, call: ToolCall, *, looser: bool) -> Witness | None:
    """Return the witness that a call alone is, or None where the engines do not confirm it."""
    benches.reset()
    old, new = benches.old.engine.evaluate(call), benches.new.engine.evaluate(call)
    more, less = (new, old) if looser else (old, new)
    return Witness((Step(0, call),), old, new) if rank(more) > rank(less) else None


def later(benches: Benches, call: ToolCall, at: float, *, looser: bool) -> Witness | None:
    """Return the witness of a call that is asked for and approved at once, and made so many seconds later."""
    benches.reset()
    for bench in benches:
        asked = bench.authorize(call)
        if asked.effect is Effect.APPROVE and asked.approval is not None:
            bench.engine.approve(asked.approval.id, by="a person")
    benches.at(at)
    old, new = benches.old.engine.evaluate(call), benches.new.engine.evaluate(call)
    more, less = (new, old) if looser else (old, new)
    if not more.allowed or less.allowed:
        return None
    return Witness((Step(0, call), Step(at, call)), old, new, "the call is approved when it is first asked for")


def without_store(benches: Benches, call: ToolCall, *, looser: bool) -> Witness | None:
    """Return the witness of a call that is made while no limit can be counted."""
    benches.reset()
    benches.old.failing = benches.new.failing = True
    try:
        old, new = benches.old.authorize(call), benches.new.authorize(call)
    finally:
        benches.old.failing = benches.new.failing = False
    more, less = (new, old) if looser else (old, new)
    if not more.allowed or less.allowed:
        return None
    return Witness((Step(0, call),), old, new, "the store of limits cannot answer")


def repeated(
    benches: Benches, make: Make, windows: list[float], *, looser: bool, failed: bool = False
) -> Witness | None:
    """Return the witness of a call that is made as often as the one policy lets it, at every turn of its windows."""
    more, less = benches.ordered(looser=looser)
    turn, longest = min(windows), max(windows)
    count = min(int(longest / turn) + 2, _MOST_TIMES)
    steps: list[Step] = []
    benches.reset()
    for at in (number * turn for number in range(count)):
        benches.at(at)
        size = 1
        while size:
            call = make(len(steps))
            if not more.admits(call, size, failed=failed):
                size //= 2
                continue
            steps.append(Step(at, call, size))
            if not less.admits(call, size, failed=failed):
                return _confirmed(benches, steps, looser=looser, failed=failed)
            size *= 2
            if len(steps) > _MOST_STEPS:
                return None
    return None


def rotated(benches: Benches, make: Make, most: int, *, looser: bool) -> Witness | None:
    """Return the witness of at most so many calls that differ from one another, made at the same time."""
    more, less = benches.ordered(looser=looser)
    benches.reset()
    steps: list[Step] = []
    for number in range(min(most, _MOST_ROTATED)):
        call = make(number)
        if not more.admits(call):
            return None
        steps.append(Step(0, call))
        if not less.admits(call):
            return _confirmed(benches, steps, looser=looser, failed=False)
    return None


def _confirmed(benches: Benches, steps: list[Step], *, looser: bool, failed: bool) -> Witness | None:
    """Return the shortest beginning of some steps that is a witness: the last call is told from those before it."""
    last = steps[-1]
    low, high = 1, last.times  # the smallest number of times that the one refuses
    while low < high:
        middle = (low + high) // 2
        if _refuses(benches, [*steps[:-1], last._replace(times=middle)], looser=looser, failed=failed):
            high = middle
        else:
            low = middle + 1
    before = [*steps[:-1], *([last._replace(times=low - 1)] if low > 1 else [])]
    decisions = {}
    benches.reset()
    for step in before:
        benches.at(step.at)
        for bench in benches:
            if not bench.admits(step.call, step.times, failed=failed):
                return None
    benches.at(last.at)
    for bench in benches:
        decisions[bench] = bench.decide(last.call)
    old, new = decisions[benches.old], decisions[benches.new]
    if (old.allowed, new.allowed) != (not looser, looser):
        return None
    told = "every call fails" if failed else ""
    return Witness((*_merged(before), last._replace(times=1)), old, new, told)


def _refuses(benches: Benches, steps: list[Step], *, looser: bool, failed: bool) -> bool:
    _, less = benches.ordered(looser=looser)
    less.reset()
    admitted = []
    for step in steps:
        less.now = step.at
        admitted.append(less.admits(step.call, step.times, failed=failed))
    return not all(admitted)


def _merged(steps: list[Step]) -> list[Step]:
    """Return steps with the same call at the same time as one."""
    merged: list[Step] = []
    for step in steps:
        if merged and merged[-1].at == step.at and merged[-1].call is step.call:
            merged[-1] = merged[-1]._replace(times=merged[-1].times + step.times)
        else:
            merged.append(step)
    return merged
