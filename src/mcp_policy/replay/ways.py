"""What the rules of a policy can say of a call that is known in part: every way in which it may come out.

Conditions on what is known are asked; those on what is not may come out in any way that `symbolic` has not shown to be
impossible. What the outcomes of one rule add up to is left to `evaluator.judge`.

Rules kept here: no way is left out, though some of those that are told may not be possible; conditions count as
independent of one another. Of conditions of one rule that do the same, such as several that deny, one that may come out
either way speaks for all. What has too many ways is not told at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import product
from typing import Final, NamedTuple, TypeAlias

from ..call import ToolCall
from ..comparison.sides import Side
from ..compiler import cost_path
from ..conditions import REQUIRE, WHEN, Condition, Item
from ..decision import Effect
from ..demands import Counter, merge
from ..evaluator import Limit, Plan, Ruling, judge, parts
from ..operators import AGAINST, ERRS, FAILS, HOLDS, MASK, SHIFT
from ..paths import Path, parse_path
from ..patterns import check_name
from ..symbolic import possible
from .reading import Known

_ANY: Final = frozenset({HOLDS, FAILS, AGAINST, ERRS})
_UNREAD: Final = ("context", "principal.claims")  # what is there need not be JSON
_MOST_WAYS: Final = 64
_MOST_PLANS: Final = 2_048
_MOST_KEPT: Final = 256

Code: TypeAlias = "int | frozenset[int]"


class Denied(NamedTuple):
    """The call is denied, by this rule."""

    rule: str


class Passing(NamedTuple):
    """The call is not denied: it has to pass these counters, and to be approved where `asks` names rules."""

    rule: str = ""
    limits: tuple[Limit, ...] = ()
    asks: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    """The `context` paths that an approval is bound to."""
    shadow: bool = False
    """Whether the whole document is in shadow mode."""

    @property
    def counters(self) -> tuple[Counter, ...]:
        """The counters, each with all limits that check it."""
        return merge(self.limits)


Way: TypeAlias = Denied | Passing


class Ways(NamedTuple):
    """All ways in which a call may come out, and the paths that it depends on and that are not on record."""

    all: tuple[tuple[Way, tuple[Counter, ...]], ...]
    """Each with its counters."""
    missing: tuple[str, ...] = ()


class TooMany(Exception):
    """A call can come out in more ways than can be told."""


class Rules:
    """The rules of a policy."""

    def __init__(self, side: Side) -> None:
        self._document = side.document
        self._costs = {pointer: text for pointer, raw in side.limits.items() if (text := cost_path(raw))}
        self._prepared: dict[int, _Prepared] = {}

    def ways(self, call: ToolCall, known: Known) -> Ways:
        """Return the ways in which a call may come out. Raises `TooMany`."""
        if check_name(call.tool) is not None:
            return Ways(((Denied(""), ()),))
        document = self._document
        plan = document.plan(call.tool if document.names(call.tool) else "", *document.variant(call))
        prepared = self._prepared.get(id(plan))
        if prepared is None:
            if len(self._prepared) >= _MOST_PLANS:
                self._prepared.clear()
            prepared = self._prepared[id(plan)] = _Prepared(plan, self._costs)
        return prepared.ways(call, known)

    def unknown_costs(self, way: Passing, known: Known) -> dict[str, str]:
        """Return the limits, by their places, whose cost is not known, and the path that it depends on."""
        texts = {limit.pointer: self._costs[limit.pointer] for limit in way.limits if not isinstance(limit.cost, int)}
        return {pointer: text for pointer, text in texts.items() if not known.knows(parse_path(text))}


class _Prepared:
    """A plan, kept together with the ways that have been found in it."""

    def __init__(self, plan: Plan, costs: dict[str, str]) -> None:
        self.plan = plan
        self.costs = costs
        self.parts = list(parts(plan))
        self.known: dict[tuple[Code, ...], tuple[tuple[Way, tuple[Counter, ...]], ...]] = {}
        self.open: dict[int, frozenset[int]] = {}

    def ways(self, call: ToolCall, known: Known) -> Ways:
        missing: dict[str, None] = {}
        codes = tuple([self.code(part, outcome, call, known, missing) for part, outcome, _ in self.parts])
        found = self.known.get(codes)
        if found is None:
            if len(self.known) >= _MOST_KEPT:
                self.known.clear()
            found = self.known[codes] = tuple((way, _counters(way)) for way in _ways(self.plan, codes))
        return Ways(found, tuple(missing))

    def code(self, part: Item | Limit, outcome: object, call: ToolCall, known: Known, missing: dict[str, None]) -> Code:
        """Return how a part comes out, or how it may."""
        if isinstance(part, Limit):
            text = self.costs[part.pointer]
            if known.knows(parse_path(text)):
                return outcome(call)  # type: ignore[operator,no-any-return]  # an outcome of `parts`
            missing[text] = None
            return frozenset({HOLDS, ERRS})
        unread = [[text for text, path in one.reads if not _knows(known, one, text, path)] for one in part.conditions]
        if not any(unread):
            return part.outcome(call)
        said = [
            self.may_be(part, one, known) if texts else {one.outcome(call) & MASK}
            for one, texts in zip(part.conditions, unread, strict=True)
        ]
        found = _sequence(said, goes_on=part.kind != REQUIRE)
        if len(found) == 1:
            return next(iter(found))
        missing.update(dict.fromkeys(text for texts in unread for text in texts))
        return found

    def may_be(self, item: Item, condition: Condition, known: Known) -> frozenset[int]:
        """Return how a condition on what is not known may come out."""
        if not known.readable or any(path.root in _UNREAD for _, path in condition.reads):
            return _ANY
        found = self.open.get(id(condition))
        if found is None:
            found = self.open[id(condition)] = frozenset(
                code for code in _ANY if possible([(condition, frozenset({code}))], item.kind)
            )
        return found


def _knows(known: Known, condition: Condition, text: str, path: Path) -> bool:
    if text != condition.value_from:
        return known.knows(path, condition.operator.name)
    # a record does not tell 1.0 from 1, and a length is compared with the one and not with the other
    return known.knows(path) and not (path.root == "args" and condition.operator.name in ("length_lte", "length_gte"))


def _sequence(said: list[frozenset[int] | set[int]], *, goes_on: bool) -> frozenset[int]:
    """Return how conditions may come out that are read in order; as `conditions.sequence`, for several at once."""
    so_far, ended = {HOLDS}, dict[int, int]()
    for place, codes in enumerate(said):
        following = set[int]()
        for code in codes:
            if code == HOLDS:
                following |= so_far
            elif code == AGAINST and goes_on:
                following.add(AGAINST)
            else:
                ended.setdefault(code, code | place << SHIFT)
        so_far = following
        if not so_far:
            break
    return frozenset(ended.values()) | so_far


# -- adding up


def _counters(way: Way) -> tuple[Counter, ...]:
    return () if isinstance(way, Denied) else way.counters


def _ways(plan: Plan, codes: tuple[Code, ...]) -> Iterable[Way]:
    if all(isinstance(code, int) for code in codes):
        return [_of_ruling(judge(plan, codes, with_shadow=False), shadow=plan.shadow)]  # type: ignore[arg-type]
    if plan.hidden and not plan.shadow:
        return [Denied(plan.hidden[0].rule)]
    ways: set[Way] = {Passing()}
    rest = iter(codes)
    for rule, may_list in plan.entries:
        alone = Plan(((rule, may_list),), (), Effect.ALLOW, "", shadow=False)
        said = set(_of_rule(alone, rest))
        ways = {_joined(one, other) for one in ways for other in said}
        if len(ways) > _MOST_WAYS:
            raise TooMany
    return list(dict.fromkeys(_by_default(plan, way) for way in ways))


def _of_rule(alone: Plan, rest: Iterator[Code]) -> Iterator[Way]:
    """Yield what a rule alone says, in each way in which its parts may come out."""
    choices: list[tuple[int, ...]] = []
    spoken_for: set[tuple[str, frozenset[int]]] = set()
    for part, _, fine in parts(alone):
        code = next(rest)
        if isinstance(code, int):
            choices.append((code,))
            continue
        kind = part.kind if isinstance(part, Item) else "cost"
        same = kind, frozenset(one & MASK for one in code)
        choices.append((fine,) if same in spoken_for and fine in code and kind != WHEN else tuple(code))
        spoken_for.add(same)
    for codes in product(*choices):
        yield _of_ruling(judge(alone, codes, with_shadow=False), shadow=False)


def _of_ruling(ruling: Ruling, *, shadow: bool) -> Way:
    if ruling.effect is Effect.DENY and not shadow:
        return Denied(ruling.reasons[0].rule)
    return Passing(
        ruling.reasons[0].rule, ruling.limits, tuple(reason.rule for reason in ruling.asks), tuple(ruling.reads), shadow
    )


def _joined(one: Way, other: Way) -> Way:
    if isinstance(one, Denied) or isinstance(other, Denied):
        return one if isinstance(one, Denied) else other
    return Passing(
        one.rule or other.rule, one.limits + other.limits, one.asks + other.asks, one.reads + other.reads, shadow=False
    )


def _by_default(plan: Plan, way: Way) -> Way:
    if plan.shadow:
        return way._replace(shadow=True) if isinstance(way, Passing) else Passing(way.rule, shadow=True)
    if isinstance(way, Denied) or way.rule:
        return way
    return Denied(plan.default_rule) if plan.default is Effect.DENY else way._replace(rule=plan.default_rule)
