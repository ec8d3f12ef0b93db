"""Counters and rate limits of an Intercept policy, as limits.

A limit counts the call that it decides, slides, and is shared by all callers: it never admits more than a counter that
is read before the call, turns by the calendar, or is kept for each caller.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple

from mcp_policy.errors import escape, readable, short
from mcp_policy.suggestions import hint

from .notes import Notes
from .requirements import argument_path, is_number

Tree = dict[str, Any]
MOST: Final = 9_000_000_000
"""The largest `max` that a limit may have."""

_WINDOWS: Final = ("minute", "hour", "day")
_STATE: Final = ("counter", "window", "increment", "increment_from", "scope")
_STEP: Final = Decimal("0.000001")


class Counter(NamedTuple):
    """A counter that some rule counts."""

    name: str
    window: str
    cost: float | str


Counters = Mapping[tuple[str, str], Counter]
"""Every counter of a document, by its tool and name."""


def find_counters(rules: Mapping[str, Sequence[Any]], notes: Notes) -> dict[tuple[str, str], Counter]:
    """Return the counters of all rules, by tool. What is wrong with a `state` is told."""
    found: dict[tuple[str, str], Counter] = {}
    for tool, stated in rules.items():
        for index, rule in enumerate(stated):
            at = f"/tools/{escape(tool)}/rules/{index}/state"
            if not isinstance(rule, dict) or "state" not in rule or rule.get("action") == "deny":
                continue
            counter = _counter(rule["state"], at, tool, notes)
            if counter is None:
                continue
            name = rule["state"]["counter"]
            if (tool, name) in found:
                message = f"the counter `{readable(name)}` counts a call twice; here a call counts once"
                notes.refuse("counter", at, message)
            found[tool, name] = counter
    return found


def _counter(state: object, at: str, tool: str, notes: Notes) -> Counter | None:
    if not isinstance(state, dict):
        notes.refuse("invalid", at, f"found {short(state)}, expected an object")
        return None
    for key in state:
        if key not in _STATE:
            message = f"the key `{readable(key)}` is unknown here; {hint(key, _STATE)}"
            notes.refuse("unknown_key", f"{at}/{escape(key)}", message)
    name, window = state.get("counter"), state.get("window")
    if not isinstance(name, str) or not name or "." in name:
        notes.refuse("invalid", at, f"a `state` needs a `counter`, whose name has no dot; found {short(name)}")
        return None
    if window not in _WINDOWS:
        notes.refuse("window", at, f"the window is {short(window)}, expected `minute`, `hour` or `day`")
        return None
    return Counter(f"{tool}.{name}", window, _cost(state, at, notes))


def _cost(state: Tree, at: str, notes: Notes) -> float | str:
    if "increment" in state and "increment_from" in state:
        notes.refuse("counter", at, "`increment` and `increment_from` exclude each other")
    elif "increment_from" in state:
        path = argument_path(state["increment_from"], f"{at}/increment_from", notes)
        return path or 1
    cost = state.get("increment", 1)
    if not is_number(cost) or cost < 0:
        notes.refuse("counter", f"{at}/increment", f"found {short(cost)}, expected a number that is not negative")
        return 1
    return cost


# -- limits


def rate_limit(rule: Tree, at: str, notes: Notes) -> list[Tree]:
    """Return the limit that a `rate_limit` such as `5/hour` stands for."""
    stated = rule["rate_limit"]
    found = re.fullmatch(r"\s*([0-9]{1,20})\s*/\s*(minute|hour|day)\s*", stated) if isinstance(stated, str) else None
    if found is None:
        message = f"found {short(stated)}, expected a number of calls and a window, such as `5/hour`"
        notes.refuse("window", f"{at}/rate_limit", message)
        return []
    _told_of_counts(rule, at, f"{at}/rate_limit", notes)
    return [{"max": _at_most(int(found[1]), f"{at}/rate_limit", notes), "window": found[2], "per": "global"}]


def state_limits(
    rule: Tree, at: str, tool: str, conditions: list[tuple[Tree, str]], counters: Counters, notes: Notes
) -> list[Tree]:
    """Return the limits of a rule: one for the counter that it counts, and one for each further one that it reads."""
    bounds: dict[Counter, float] = {}
    own = _own_counter(rule, tool, counters)
    if own is not None:
        bounds[own] = MOST
        if isinstance(own.cost, str):
            notes.general("absent", f"{at}/state/increment_from")
        _told_of_counts(rule, at, f"{at}/state", notes)
    for condition, place in conditions:
        bound = _bound(condition, place, counters, notes)
        if bound is not None:
            counter, most = bound
            bounds[counter] = min(most, bounds.get(counter, MOST))
            notes.general("counts", place)
    return [_limit(counter, most, counted=counter == own) for counter, most in bounds.items()]


def _own_counter(rule: Tree, tool: str, counters: Counters) -> Counter | None:
    state = rule.get("state")
    name = state.get("counter") if isinstance(state, dict) else None
    return counters.get((tool, name)) if isinstance(name, str) else None


def _limit(counter: Counter, most: float, *, counted: bool) -> Tree:
    cost: float | str = counter.cost if counted else 0
    limit: Tree = {"max": most, "window": counter.window, "per": "global", "counter": counter.name}
    return limit if cost == 1 else {**limit, "cost": cost}


def _bound(condition: Tree, at: str, counters: Counters, notes: Notes) -> tuple[Counter, float] | None:
    """Return the counter that a condition reads, and the most that it may come to."""
    tool, _, name = condition["path"].removeprefix("state.").rpartition(".")
    counter = counters.get((tool, name))
    if counter is None and tool == "_global":
        counter = counters.get(("*", name))
    op, value = condition.get("op"), condition.get("value")
    if counter is None:
        notes.refuse("counter", f"{at}/path", f"no rule counts `{readable(condition['path'])}`")
    elif op not in ("lt", "lte"):
        notes.refuse("counter", at, f"a counter can be bounded from above by `lt` or `lte`, found {short(op)}")
    elif not is_number(value):
        notes.refuse("counter", at, f"a counter is compared with a number, found {short(value)}")
    else:
        return counter, _at_most(_below(value, at, notes) if op == "lt" else value, at, notes)
    return None


def _below(value: float, at: str, notes: Notes) -> float:
    """Return the most that is less than a value: by whole numbers where it is one."""
    value = min(max(value, 0), MOST + 1)
    most = max(value - 1 if isinstance(value, int) else float(Decimal(repr(value)) - _STEP), 0)
    message = f"less than {value:,.15g} is kept as at most {most:,.15g}, with the call that is being decided"
    notes.stricter("below", at, message)
    return most


def _at_most(value: float, at: str, notes: Notes) -> float:
    if value > MOST:
        notes.stricter("large_count", at, f"a limit is at most {MOST:,}, which stands here instead")
    elif value < 0:
        notes.stricter("no_count", at, "no count is ever so low: every call is denied")
    return min(max(value, 0), MOST)


def _told_of_counts(rule: Tree, at: str, place: str, notes: Notes) -> None:
    notes.general("counts", place)
    notes.general("window", place)
    state = rule.get("state")
    for holder, where in ((rule, at), (state if isinstance(state, dict) else {}, f"{at}/state")):
        if "scope" in holder and holder["scope"] != "global":
            message = f"`scope` is {short(holder['scope'])}; the count is one for all callers until you change `per`"
            notes.stricter("scope", f"{where}/scope", message)
