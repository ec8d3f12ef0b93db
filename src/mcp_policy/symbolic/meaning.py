"""What a plan says of all its calls, as formulas: `evaluator.judge` written down instead of carried out.

`tests/symbolic/test_meaning.py` holds the two against each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from ..conditions import APPROVE_IF, DENY_IF, REQUIRE, Condition, Item
from ..decision import Effect
from ..evaluator import Limit, Plan, Rule
from ..operators import AGAINST, ERRS, FAILS, HOLDS
from ..paths import parse_path
from .atoms import Setting, of_condition, of_cost
from .formulas import Formula, every, negated, some
from .solving import Atoms


class Ask(NamedTuple):
    """When a rule asks for an approval, and how long that lasts, in seconds."""

    when: Formula
    ttl: float


class Applying(NamedTuple):
    """When a limit applies to a call."""

    limit: Limit
    raw: dict[str, Any]
    """As written, `rate_limit` spelt out."""
    when: Formula


class Meaning(NamedTuple):
    """What a plan says: which calls never run, which ask, which are limited. `denied` also holds what no limit lets
    pass, however little has been called.
    """

    denied: Formula
    asks: tuple[Ask, ...]
    limits: tuple[Applying, ...]
    hidden: Formula

    @property
    def asked(self) -> Formula:
        """When anything asks."""
        return some(ask.when for ask in self.asks)


def meaning(plan: Plan, raw_limits: dict[str, dict[str, Any]], setting: Setting, atoms: Atoms) -> Meaning:
    """Return what a plan says. `raw_limits` holds each limit of the document by its pointer."""
    if plan.shadow:
        return Meaning(False, (), (), False)
    reader = _Reader(raw_limits, setting, atoms)
    listed: list[Formula] = []
    for rule, may_list in plan.entries:
        listed.append(reader.rule(rule, may_list=may_list))
    unlisted = plan.default is Effect.DENY and negated(some(listed))
    denied = some([bool(plan.hidden), unlisted, *reader.denied, *reader.hidden])
    return Meaning(denied, tuple(reader.asks), tuple(reader.limits), some([bool(plan.hidden), *reader.hidden]))


class _Reader:
    """Reads the rules of one plan."""

    def __init__(self, raw_limits: dict[str, dict[str, Any]], setting: Setting, atoms: Atoms) -> None:
        self.raw_limits = raw_limits
        self.setting = setting
        self.atoms = atoms
        self.denied: list[Formula] = []
        self.hidden: list[Formula] = []
        self.asks: list[Ask] = []
        self.limits: list[Applying] = []

    def rule(self, rule: Rule, *, may_list: bool) -> Formula:
        """Read one rule and return when it lists the tool."""
        conditions = rule.when.conditions if rule.when else ()
        kind = rule.when.kind if rule.when else ""
        applies = self.passes(conditions, kind, HOLDS, AGAINST)
        lists = may_list and rule.can_list and self.passes(conditions, kind, HOLDS)
        if rule.shadow:
            return lists
        self.denied.append(self.errs(conditions, kind))
        self.action(rule, applies)
        for item in rule.items:
            self.item(rule, item, applies)
        for limit in rule.limits:
            self.limit(limit, applies)
        return lists

    def action(self, rule: Rule, applies: Formula) -> None:
        if rule.action == "deny":
            self.denied.append(applies)
        elif rule.action == "hide":
            self.hidden.append(applies)
        elif rule.action == "approve":
            self.asks.append(Ask(applies, rule.ttl))

    def item(self, rule: Rule, item: Item, applies: Formula) -> None:
        if item.kind == REQUIRE:
            stops = negated(self.passes(item.conditions, REQUIRE, HOLDS))
        else:
            stops = self.errs(item.conditions, item.kind)
            held = self.passes(item.conditions, item.kind, HOLDS, AGAINST)
            if item.kind == DENY_IF:
                stops = some([stops, held])
            elif item.kind == APPROVE_IF:
                self.asks.append(Ask(every([applies, held]), rule.ttl))
        self.denied.append(every([applies, stops]))

    def limit(self, limit: Limit, applies: Formula) -> None:
        raw = self.raw_limits[limit.pointer]
        if isinstance(limit.cost, int):
            never: Formula = limit.maximum == 0 or limit.cost > limit.maximum
        else:
            cost = raw["cost"]
            path = parse_path(cost["length"] if isinstance(cost, dict) else cost)
            never = self.atoms.literal(of_cost(limit, path, length=isinstance(cost, dict)), FAILS, AGAINST, ERRS)
        self.denied.append(every([applies, never]))
        self.limits.append(Applying(limit, raw, applies))

    def passes(self, conditions: tuple[Condition, ...], kind: str, *outcomes: int) -> Formula:
        """Return when every condition has one of these outcomes."""
        return every(self.literal(condition, kind, *outcomes) for condition in conditions)

    def errs(self, conditions: tuple[Condition, ...], kind: str) -> Formula:
        """Return when a condition errs that is reached: all before it hold."""
        return some(self._errs(conditions, kind))

    def _errs(self, conditions: tuple[Condition, ...], kind: str) -> Iterator[Formula]:
        passing = (HOLDS,) if kind == REQUIRE else (HOLDS, AGAINST)
        for place, condition in enumerate(conditions):
            yield every([self.passes(conditions[:place], kind, *passing), self.literal(condition, kind, ERRS)])

    def literal(self, condition: Condition, kind: str, *outcomes: int) -> Formula:
        atom = of_condition(condition, kind, self.setting)
        return atom in outcomes if isinstance(atom, int) else self.atoms.literal(atom, *outcomes)
