"""A picture of a limit: calls on a line of time, which of them run, and the window that is looked at.

Rules kept here:

- Which calls run was asked of the engine, call by call, under a clock of the picture's own.
- A limit of many is drawn with a few calls, and says so: the window is the limit's own. So is one whose calls take what
  they bring (`cost`): it is drawn with calls that bring the same.
- Everything is in whole units of a box that is `WIDTH` wide; the sentence says what the picture shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from mcp_policy.call import ToolCall
from mcp_policy.engine import PolicyEngine
from mcp_policy.errors import readable
from mcp_policy.limits.spec import from_micro, parse_shorthand, parse_window, to_micro_down, to_micro_up
from mcp_policy.policy import Policy

WIDTH: Final = 600
HEIGHT: Final = 90
_LEFT, _RIGHT = 20, 580
_MOST: Final = 10
"""Most calls that a window of the picture lets run."""
_ALIKE: Final = 5
"""How many calls a window is drawn with where each takes what it brings."""
_SHORTEST: Final = 1e-6  # seconds: a shorter window is one that no clock sees
_REFUSED: Final = 3
_BURST: Final = 0.75
"""The part of a window in which the first calls come."""
_FIRST: Final = 1.05
"""When the first call is refused, in windows: the window before it is in the picture as a whole."""
_SPAN: Final = 2.15
"""Windows that the line is long."""


class Mark(NamedTuple):
    """One call: where it stands on the line, and whether it runs."""

    x: int
    runs: bool


class Picture(NamedTuple):
    """What is drawn: the calls, the window before the first one that is refused, and where that one could run."""

    marks: tuple[Mark, ...]
    start: int
    end: int
    again: int | None
    label: str
    says: str


class _Limit(NamedTuple):
    """A limit in millionths: how much may be taken, by each call how much (None: what it brings, as `cost` says)."""

    most: int
    window: float
    each: int | None
    cost: str


def picture(limit: Mapping[str, Any] | str) -> Picture | None:
    """Return the picture of a limit of a document that loads; None where there is none: no call runs, or every call."""
    stated = _stated(limit)
    drawn = _drawn(stated)
    if not drawn:
        return None
    window = stated.window
    times = _times(drawn, window)
    runs, again = _decided(drawn, window, times)
    first = next(at for at, does in zip(times, runs, strict=True) if not does)
    marks = tuple(Mark(_x(at, window), does) for at, does in zip(times, runs, strict=True))
    return Picture(
        marks,
        _x(first - window, window),
        _x(first, window),
        None if again is None else _x(first + again, window),
        _label(stated),
        _says(stated, drawn, again),
    )


def _stated(limit: Mapping[str, Any] | str) -> _Limit:
    if isinstance(limit, str):
        most, window = parse_shorthand(limit)
        limit = {"max": most, "window": window}
    cost = limit.get("cost", 1)
    named = f"length {cost['length']}" if isinstance(cost, Mapping) else cost
    is_named = isinstance(named, str)
    return _Limit(
        to_micro_down(limit["max"]),
        parse_window(limit["window"]),
        None if is_named else to_micro_up(cost),
        readable(named, 80) if is_named else "",
    )


def _drawn(limit: _Limit) -> int:
    """Return how many calls a window of the picture lets run; 0 where there is nothing to draw."""
    if limit.window < _SHORTEST:
        return 0
    if limit.each is None:
        return _ALIKE if limit.most else 0
    return min(_MOST, limit.most // limit.each) if limit.each else 0


def _times(drawn: int, window: float) -> list[float]:
    """Return when calls come: more than may run, close together, and as many again when room is made."""
    step = window * _BURST / (drawn + _REFUSED - 1)
    start = window * _FIRST - drawn * step
    burst = [start + place * step for place in range(drawn + _REFUSED)]
    return [*burst, *(start + window + (place + 0.5) * step for place in range(drawn))]


def _decided(drawn: int, window: float, times: list[float]) -> tuple[list[bool], float | None]:
    """Return which calls the engine lets run, and in how many seconds the first one that is refused could."""
    now = 0.0
    rule = {"rate_limit": {"max": drawn, "window": window, "per": "global"}}
    policy = Policy.model_validate({"version": "1", "tools": {"call": rule}})
    engine = PolicyEngine(policy, clock=lambda: now)
    runs: list[bool] = []
    again: float | None = None
    for now in times:  # noqa: B007  # the engine's clock reads it
        decision = engine.authorize(ToolCall("call"))
        if not decision.allowed and all(runs):
            again = decision.retry_after
        runs.append(decision.allowed)
    return runs, again


def _x(at: float, window: float) -> int:
    return max(0, min(WIDTH, round(_LEFT + (_RIGHT - _LEFT) * at / (window * _SPAN))))


def _label(limit: _Limit) -> str:
    most = f"a sum of {_number(limit.most)}" if limit.each is None else f"{limit.most // limit.each:,}"
    return f"{most} in any {_span(limit.window)}"


def _says(limit: _Limit, drawn: int, again: float | None) -> str:
    within, most = f"In any {_span(limit.window)}, ", _number(limit.most)
    if limit.each is None:
        share = _number(limit.most // drawn)
        may = f"{within}`{limit.cost}` of what runs adds up to at most {most} (drawn with {drawn} calls of {share})."
    else:
        calls = limit.most // limit.each
        takes = "" if limit.each == to_micro_up(1) else f", as each takes {_number(limit.each)} of {most}"
        few = "" if calls == drawn else f" (drawn with {drawn})"
        may = f"{within}at most {calls:,} run{'s' if calls == 1 else ''}{takes}{few}."
    later = "" if again is None else f" In the picture, the first one refused could run about {_about(again)} later."
    return f"{may} The window moves with time, so there is no edge to wait for.{later}"


def _number(millionths: int) -> str:
    return f"{from_micro(millionths):,.6f}".rstrip("0").rstrip(".")


_UNITS: Final = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))


def _span(seconds: float) -> str:
    """Return the length of a window, exactly, in the largest unit that it is a whole number of."""
    length, name = next(((length, name) for length, name in _UNITS if not seconds % length), (1, "second"))
    return name if seconds == length else f"{seconds / length:,.15g} {name}s"


def _about(seconds: float) -> str:
    """Return a time, rounded, in the largest unit that it has one of."""
    length, name = next(((length, name) for length, name in _UNITS if seconds >= length), (1, "second"))
    count = f"{seconds / length:,.3g}" if seconds < 1_000 * length else f"{seconds / length:,.0f}"
    return f"{count} {name}{'' if count == '1' else 's'}"
