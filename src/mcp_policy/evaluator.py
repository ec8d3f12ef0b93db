"""The meaning of a policy: from the outcomes of its conditions to a ruling.

This is the whole combining order, in one place and pure. A plan is what the document says about one tool; its
conditions are evaluated elsewhere, each to one outcome code; what those codes add up to is decided here, by the steps
of the document: hidden, unlisted, denied, and what is left asks for limits and approvals, which need state and are
settled later.

The order of entries and their number never change the effect: every entry is looked at, nothing short-circuits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple, TypeAlias

from .call import ToolCall
from .conditions import DENY_IF, REQUIRE, Item, Outcome
from .decision import Effect, Reason, ReasonCode
from .operators import AGAINST, ERRS, FAILS, HOLDS, MASK, OPEN, SHIFT
from .paths import Path
from .sentences import NEEDS_APPROVAL, UNKNOWN_TOOL, errs, must

Action: TypeAlias = Literal["allow", "deny", "approve", "hide"]


class Limit(NamedTuple):
    """One limit; amounts in millionths."""

    pointer: str
    name: str | None
    counter: str
    """Which count it belongs to: its name, or what an unnamed one is known by."""
    window: float
    maximum: int
    shown: int | float
    key: Callable[[ToolCall], object]
    cost: int | Callable[[ToolCall], int | None]
    """What a call takes; a function where a call says so, None where what it says is no cost."""
    measure: str
    """What the cost has to be, for messages."""
    reason: str | None
    refund: bool
    optional: bool


class Rule(NamedTuple):
    """One rule, compiled."""

    pointer: str
    action: Action
    reason: str | None
    shadow: bool
    when: Item | None
    items: tuple[Item, ...]
    limits: tuple[Limit, ...]
    ttl: float
    reads: dict[str, Path]
    """The `context` paths that the rule reads, by their text."""

    @property
    def can_list(self) -> bool:
        """Whether the rule opens a tool where it applies: a shadow rule does so only by allowing."""
        return self.action == "allow" or not self.shadow


class Plan(NamedTuple):
    """All that a policy says about one tool on one server."""

    entries: tuple[tuple[Rule, bool], ...]
    """The rules that match, in document order, each with whether it may list the tool."""
    hidden: tuple[Reason, ...]
    default: Effect
    default_rule: str
    shadow: bool
    """Whether the whole document is in shadow mode."""


class Ruling(NamedTuple):
    """What the rules alone say. `allow` still has to pass `limits` and to be asked for where `asks` is not empty."""

    effect: Effect
    reasons: tuple[Reason, ...]
    limits: tuple[Limit, ...] = ()
    asks: tuple[Reason, ...] = ()
    ttl: float = 0.0
    reads: dict[str, Path] = {}  # noqa: RUF012  # never written to
    shadowed: bool = False
    """Whether a shadow rule had a part in it."""


class _Findings:
    """What has been found so far, by the step that it belongs to."""

    __slots__ = ("asks", "denials", "hidden", "limits", "listed", "reads", "shadowed", "ttl")

    def __init__(self, hidden: tuple[Reason, ...]) -> None:
        self.hidden = list(hidden)
        self.listed: list[str] = []
        self.denials: list[Reason] = []
        self.limits: list[Limit] = []
        self.asks: list[Reason] = []
        self.ttl = float("inf")
        self.reads: dict[str, Path] = {}
        self.shadowed = False


def judge(plan: Plan, outcomes: tuple[int, ...], *, with_shadow: bool) -> Ruling:
    """Combine the outcomes of all of a plan's conditions. Shadow rules restrict only `with_shadow`."""
    found = _Findings(plan.hidden)
    codes = iter(outcomes)
    for rule, may_list in plan.entries:
        _apply(rule, may_list, codes, found, with_shadow)
    if found.hidden:
        return Ruling(Effect.DENY, tuple(found.hidden), shadowed=found.shadowed)
    if not found.listed and plan.default is Effect.DENY:
        return Ruling(Effect.DENY, (_unlisted(plan),), shadowed=found.shadowed)
    if found.denials:
        return Ruling(Effect.DENY, tuple(found.denials), shadowed=found.shadowed)
    return Ruling(
        Effect.ALLOW,
        _allowed(plan, found.listed),
        tuple(found.limits),
        tuple(found.asks),
        found.ttl,
        found.reads,
        found.shadowed,
    )


def _apply(rule: Rule, may_list: bool, codes: Iterator[int], found: _Findings, with_shadow: bool) -> None:
    code = HOLDS if rule.when is None else next(codes)
    when = code & MASK
    verdicts = [(item, next(codes)) for item in rule.items]
    costs = [(limit, HOLDS if isinstance(limit.cost, int) else next(codes)) for limit in rule.limits]
    if when == FAILS:
        return
    if when in (HOLDS, OPEN) and may_list and rule.can_list:
        found.listed.append(rule.pointer)
    if when == OPEN or (rule.shadow and not with_shadow):
        return
    found.shadowed |= rule.shadow
    if when == ERRS and rule.when is not None:
        found.denials.append(errs(rule.when, code >> SHIFT))
        return
    found.reads |= rule.reads
    _apply_action(rule, found)
    for item, code in verdicts:
        _apply_item(rule, item, code, found)
    for limit, code in costs:
        if code == ERRS:
            found.denials.append(_cost_errs(limit))
        else:
            found.limits.append(limit)


def _apply_action(rule: Rule, found: _Findings) -> None:
    if rule.action == "deny":
        message = rule.reason or "the policy denies this tool"
        found.denials.append(Reason(ReasonCode.DENIED_BY_RULE, message, rule.pointer))
    elif rule.action == "hide":
        found.hidden.append(Reason(ReasonCode.HIDDEN, UNKNOWN_TOOL, rule.pointer))
    elif rule.action == "approve":
        _ask(rule, Reason(ReasonCode.APPROVAL_REQUIRED, rule.reason or NEEDS_APPROVAL, rule.pointer), found)


def _apply_item(rule: Rule, item: Item, code: int, found: _Findings) -> None:
    outcome, place = code & MASK, code >> SHIFT
    if outcome == ERRS:
        found.denials.append(errs(item, place))
    elif outcome == OPEN:
        return
    elif item.kind == REQUIRE:
        if outcome != HOLDS:
            found.denials.append(must(item, place, ReasonCode.REQUIRE))
    elif outcome in (HOLDS, AGAINST):
        if item.kind == DENY_IF:
            found.denials.append(must(item, place, ReasonCode.DENY_IF))
        else:
            _ask(rule, must(item, place, ReasonCode.APPROVAL_REQUIRED), found)


def _ask(rule: Rule, reason: Reason, found: _Findings) -> None:
    found.asks.append(reason)
    found.ttl = min(found.ttl, rule.ttl)


def _unlisted(plan: Plan) -> Reason:
    return Reason(
        ReasonCode.DEFAULT_DENY,
        "the policy does not list this tool, and what it does not list is denied",
        plan.default_rule,
    )


def _allowed(plan: Plan, listed: list[str]) -> tuple[Reason, ...]:
    if listed:
        return tuple(Reason(ReasonCode.ALLOWED, "the policy allows this call", rule) for rule in listed)
    message = "the policy does not list this tool and allows what it does not list"
    return (Reason(ReasonCode.DEFAULT_ALLOW, message, plan.default_rule),)


def _cost_errs(limit: Limit) -> Reason:
    message = f"{limit.reason} ({limit.measure})" if limit.reason else limit.measure
    return Reason(ReasonCode.TYPE_MISMATCH, message, limit.pointer)


# -- evaluating a plan's conditions


def parts(plan: Plan) -> Iterator[tuple[Item | Limit, Outcome, int]]:
    """Yield all that has to be evaluated for a plan, in the order in which `judge` reads the outcomes.

    Each with the outcome under which its rule applies and it stops nothing: what the short cut is made for.
    """
    for rule, _ in plan.entries:
        if rule.when is not None:
            yield rule.when, rule.when.outcome, HOLDS
        for item in rule.items:
            yield item, item.outcome, HOLDS if item.kind == REQUIRE else FAILS
        for limit in rule.limits:
            if not isinstance(limit.cost, int):
                yield limit, _cost_outcome(limit.cost), HOLDS


def _cost_outcome(cost: Callable[[ToolCall], int | None]) -> Outcome:
    return lambda call: ERRS if cost(call) is None else HOLDS


# -- listing: what may this caller ever call?


def open_outcomes(plan: Plan, call: ToolCall) -> tuple[int, ...]:
    """Return the outcomes of a plan's conditions while the arguments are not known: OPEN where they would decide."""
    return tuple(_open(part, call) if isinstance(part, Item) else OPEN for part, _, _ in parts(plan))


def _open(item: Item, call: ToolCall) -> int:
    known = [condition for condition in item.conditions if not condition.reads_arguments]
    if len(known) == len(item.conditions):
        return item.outcome(call)
    return FAILS if any(condition.outcome(call) != HOLDS for condition in known) else OPEN
