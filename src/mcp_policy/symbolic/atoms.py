"""Atoms: what a policy asks of a call, each thing once, however often and in whichever document it is asked.

Two conditions are one atom when they answer alike on every call: the same path, operator and value, in places that
treat them alike. A cost is an atom too: it is one or it is a wrong type.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias

from ..call import ToolCall
from ..conditions import REQUIRE, Condition, Outcome
from ..evaluator import Limit
from ..limits.spec import from_micro
from ..operators import ERRS, FAILS, HOLDS, MASK
from ..paths import OPEN_ROOTS, Path, Step, parse_path
from ..values import NotJson, canonical

Subject: TypeAlias = tuple[str, str | None]
"""What of a call an atom depends on: a root and, for roots that are objects, a key; None for all of the object."""


@dataclass(frozen=True, slots=True)
class Atom:
    """One thing that is asked of a call. Two are equal when their keys are."""

    key: Hashable
    outcome: Callable[[ToolCall], int] = field(compare=False)
    path: Path = field(compare=False)
    op: str = field(compare=False)
    """The operator, or `cost`."""
    value: Any = field(compare=False)
    other: Path | None = field(compare=False)
    """The path of `value_from`."""
    text: str = field(compare=False)
    """For people."""

    @property
    def subjects(self) -> tuple[Subject, ...]:
        paths = (path for path in (self.path, self.other) if path is not None and path.root not in GIVEN)
        return tuple(map(subject, paths))


def subject(path: Path) -> Subject:
    """Return what of a call a path depends on."""
    if path.root not in OPEN_ROOTS:
        return path.root, None
    first: Step | None = path.steps[0] if path.steps else None
    return path.root, first if isinstance(first, str) else None


class Setting(NamedTuple):
    """Where calls are made that are reasoned about: what of them is given."""

    tool: str
    server: str | None
    category: str | None
    """`unknown` for a tool that nobody knows; None where no category is asked for."""

    def call(self, values: ToolCall | None = None) -> ToolCall:
        """Return a call in this setting that brings what `values` brings."""
        if values is None:
            return ToolCall(self.tool, server=self.server, category=self.category)
        return ToolCall(
            self.tool,
            values.arguments,
            server=self.server,
            session=values.session,
            principal=values.principal,
            context=values.context,
            category=self.category,
        )


GIVEN: Final = ("server.name", "tool.name", "tool.category")
ANYWHERE: Final = Setting("tool", None, None)


def of_condition(condition: Condition, kind: str, setting: Setting = ANYWHERE) -> Atom | int:
    """Return the atom of a condition that stands in `kind`, or its outcome where the setting decides it."""
    other = None if condition.value_from is None else parse_path(condition.value_from)
    paths = [path for path in (condition.path, other) if path is not None]
    given = [path for path in paths if path.root in GIVEN]
    if len(given) == len(paths):
        return condition.outcome(setting.call()) & MASK
    name = condition.operator.name
    asked: Hashable = ("value_from", other) if other is not None else _text(condition.value)
    key: Hashable = (kind == REQUIRE, condition.path, name, asked)
    outcome = _masked(condition.outcome)
    if given:  # one of the two is known, and the atom is about the other
        key, outcome = (key, setting), _placed(outcome, setting)
    return Atom(key, outcome, condition.path, name, condition.value, other, f"`{condition.text}` {name}")


def of_cost(limit: Limit, path: Path, *, length: bool) -> Atom:
    """Return the atom of a cost that a call says: ERRS where it is none, FAILS where it can never fit."""
    cost, most = limit.cost, limit.maximum

    def outcome(call: ToolCall) -> int:
        found = cost(call) if callable(cost) else cost
        if found is None:
            return ERRS
        return HOLDS if most and found <= most else FAILS

    bound = from_micro(most)
    value = int(bound) if length else bound
    return Atom((length, path, most), outcome, path, "length_lte" if length else "cost", value, None, limit.measure)


def _masked(outcome: Outcome) -> Callable[[ToolCall], int]:
    return lambda call: outcome(call) & MASK


def _placed(outcome: Callable[[ToolCall], int], setting: Setting) -> Callable[[ToolCall], int]:
    return lambda call: outcome(setting.call(call))


def _text(value: Any) -> Hashable:
    try:
        return canonical(value)
    except NotJson:  # it has no such text: then by how Python writes it, which tells more apart
        return repr(value)
