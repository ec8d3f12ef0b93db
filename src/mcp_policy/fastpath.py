"""A short cut through a plan: a chain of closures that knows only "all fine".

Each link looks at one condition. As long as everything is as it should be the chain ends in a verdict that was made
once; at the first thing that is not, it leaves for the full evaluation. So there is one meaning (`evaluator`) and a
short cut to its commonest answer, never a second meaning: a link may give up where the full evaluation would be fine,
and never the other way round.

The last link returns the verdict itself (`then` is None): every call of a function costs about as much as the test in
it.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, floor
from typing import Any, Final, TypeAlias

from .call import ToolCall
from .conditions import Condition, Item, Outcome
from .evaluator import Limit, Plan, parts
from .operators import FAILS, HOLDS, MASK
from .regexes import compile_regex

Link: TypeAlias = Callable[[ToolCall], Any]

_LONGEST: Final = 64  # links: each is a frame, and a stack has only so many


def chain(plan: Plan, fine: Any, full: Link) -> Link:
    """Return the function that gives a plan's verdict on a call: `fine` where all is fine, else what `full` says."""
    found = list(parts(plan))
    if len(found) > _LONGEST:
        return full
    link: Link | None = None
    for part, outcome, expected in reversed(found):
        link = _quick(part, expected, link, fine, full) or _plain(outcome, expected, link, fine, full)
    return link or (lambda call: fine)


def _plain(outcome: Outcome, expected: int, then: Link | None, fine: Any, full: Link) -> Link:
    def link(call: ToolCall) -> Any:
        if outcome(call) & MASK == expected:
            return then(call) if then else fine
        return full(call)

    return link


# -- quick links, for one condition on one argument


def _quick(item: Item | Limit, expected: int, then: Link | None, fine: Any, full: Link) -> Link | None:
    if not isinstance(item, Item) or len(item.conditions) != 1 or item.conditions[0].value_from is not None:
        return None
    condition = item.conditions[0]
    path = condition.path
    if path.root != "args" or not path.steps or not all(type(step) is str for step in path.steps):
        return None
    keys: tuple[Any, ...] = path.steps
    test = _test(condition, expected)
    if test is None:
        return None
    kind, operand = test
    if len(keys) > 1:
        return _nested(_TESTS[kind](operand), keys, then, fine, full)
    absent_is_fine = expected == FAILS and not condition.operator.negative
    return _MAKERS[kind](keys[0], operand, absent_is_fine, then, fine, full)


def _test(condition: Condition, fine: int) -> tuple[str, Any] | None:
    """Return which quick test shows that a condition's outcome is `fine`, and its operand."""
    name, value = condition.operator.name, condition.value
    positive = fine == HOLDS
    if name in ("lt", "lte", "gt", "gte"):
        return _bound(name, value, positive)
    if name in ("eq", "in", "neq", "not_in"):
        members = value if name.endswith("in") else [value]
        if not all(type(member) is str for member in members):
            return None
        is_one_of = (name in ("eq", "in")) == positive
        return ("one_of" if is_one_of else "none_of"), frozenset(members)
    if name in ("regex", "not_regex") and (name == "regex") == positive:
        return "matches", compile_regex(value)
    return None


def _bound(name: str, value: Any, positive: bool) -> tuple[str, int]:
    """Return the bound that an integer has to keep, as an integer: `< 10.5` is `<= 10`."""
    wanted = name if positive else _OPPOSITE[name]
    if wanted == "lt":
        return "at_most", ceil(value) - 1
    if wanted == "lte":
        return "at_most", floor(value)
    return "at_least", (floor(value) + 1 if wanted == "gt" else ceil(value))


_OPPOSITE: Final = {"lt": "gte", "lte": "gt", "gt": "lte", "gte": "lt"}


def _at_most(key: str, bound: int, absent_is_fine: bool, then: Link | None, fine: Any, full: Link) -> Link:
    def link(call: ToolCall) -> Any:
        value = call.arguments.get(key)
        if (type(value) is int and value <= bound) or (value is None and absent_is_fine):
            return then(call) if then else fine
        return full(call)

    return link


def _at_least(key: str, bound: int, absent_is_fine: bool, then: Link | None, fine: Any, full: Link) -> Link:
    def link(call: ToolCall) -> Any:
        value = call.arguments.get(key)
        if (type(value) is int and value >= bound) or (value is None and absent_is_fine):
            return then(call) if then else fine
        return full(call)

    return link


def _one_of(key: str, members: frozenset[str], absent_is_fine: bool, then: Link | None, fine: Any, full: Link) -> Link:
    def link(call: ToolCall) -> Any:
        value = call.arguments.get(key)
        if (type(value) is str and value in members) or (value is None and absent_is_fine):
            return then(call) if then else fine
        return full(call)

    return link


def _none_of(key: str, members: frozenset[str], absent_is_fine: bool, then: Link | None, fine: Any, full: Link) -> Link:
    def link(call: ToolCall) -> Any:
        value = call.arguments.get(key)
        if (type(value) is str and value not in members) or (value is None and absent_is_fine):
            return then(call) if then else fine
        return full(call)

    return link


def _matches(
    key: str, is_match: Callable[[Any], bool], absent_is_fine: bool, then: Link | None, fine: Any, full: Link
) -> Link:
    def link(call: ToolCall) -> Any:
        value = call.arguments.get(key)
        if (type(value) is str and is_match(value)) or (value is None and absent_is_fine):
            return then(call) if then else fine
        return full(call)

    return link


_MAKERS: Final[dict[str, Callable[..., Link]]] = {
    "at_most": _at_most,
    "at_least": _at_least,
    "one_of": _one_of,
    "none_of": _none_of,
    "matches": _matches,
}


# -- quick links further down


def _nested(test: Callable[[Any], bool], keys: tuple[str, ...], then: Link | None, fine: Any, full: Link) -> Link:
    first, middle, last = keys[0], keys[1:-1], keys[-1]

    def link(call: ToolCall) -> Any:
        holder = call.arguments.get(first)
        for key in middle:
            holder = holder.get(key) if type(holder) is dict else None
        if type(holder) is dict and test(holder.get(last)):
            return then(call) if then else fine
        return full(call)

    return link


_TESTS: Final[dict[str, Callable[[Any], Callable[[Any], bool]]]] = {
    "at_most": lambda bound: lambda value: type(value) is int and value <= bound,
    "at_least": lambda bound: lambda value: type(value) is int and value >= bound,
    "one_of": lambda members: lambda value: type(value) is str and value in members,
    "none_of": lambda members: lambda value: type(value) is str and value not in members,
    "matches": lambda is_match: lambda value: type(value) is str and is_match(value),
}
