"""Why a decision came out as it did: every rule that matches a call, and every condition in it with its outcome.

Rules kept here:

- The outcomes come from the very functions that decide; nothing is evaluated a second way.
- The text names paths and the document's own values, never a value that the call brought. What was found is noted for
  who asks for it (`values`), and never becomes part of `str()`.
- Whatever a call brings, what is noted of it is short.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from json import JSONEncoder
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from .bystanders import OtherTrace, bystanders
from .call import UNKNOWN, ToolCall
from .compiler import Document
from .conditions import REQUIRE, WHEN, WRONG, Condition, Item, Missing, _root, _walk_all
from .decision import Decision, Effect, LimitStatus, ReasonCode
from .evaluator import Limit, Plan, Rule, Ruling, judge, parts
from .limits.spec import from_micro
from .operators import AGAINST, ERRS, FAILS, HOLDS, MASK, SHIFT
from .paths import Path, has_star
from .patterns import check_name
from .sentences import describe
from .values import NotJson, plain

OUTCOMES: Final = {
    HOLDS: "holds",
    FAILS: "does not hold",
    AGAINST: "absent, which counts against the call",
    ERRS: "wrong type",
}
NOT_READ: Final = "not looked at"
"""What stands for the outcome of a condition behind one that has settled its clause, and of a limit not yet asked."""

DENIES: Final = "denies"
ASKS: Final = "asks for approval"
HIDES: Final = "hides the tool"


class Found(NamedTuple):
    """A path that a condition reads, and a short text of what is there."""

    path: str
    text: str


class ConditionTrace(NamedTuple):
    """One condition: what it says, in words, and its outcome (a value of `OUTCOMES`, or `NOT_READ`).

    `found` has what each path leads to that it reads; empty unless it was asked for.
    """

    path: str
    op: str
    says: str
    outcome: str
    found: tuple[Found, ...] = ()


class ItemTrace(NamedTuple):
    """One item of a rule: its kind (`when`, `require`, `deny_if`, `approve_if`), its place in the document, its
    outcome, and what that does to the call: `DENIES`, `ASKS` or nothing.
    """

    kind: str
    rule: str
    outcome: str
    conditions: tuple[ConditionTrace, ...]
    effect: str = ""


class LimitTrace(NamedTuple):
    """One limit of a rule: what it says, how it stands now, and what the call costs, where that was asked for."""

    rule: str
    says: str
    outcome: str
    cost: str | None = None


class RuleTrace(NamedTuple):
    """One rule that matches the tool: whether it applies to this call, whether it lists the tool, and what it alone
    does to the call (`DENIES`, `HIDES`, `ASKS` or nothing).
    """

    rule: str
    action: str
    shadow: bool
    applies: bool
    lists: bool
    items: tuple[ItemTrace, ...]
    limits: tuple[LimitTrace, ...]
    effect: str = ""


class Explanation(NamedTuple):
    """A decision and all that had a part in it; `str()` of it is a tree for people."""

    decision: Decision
    rules: tuple[RuleTrace, ...]
    hidden: tuple[str, ...]
    """Entries of `hide` that match."""
    default: str
    category: str | None = None
    """What the tool counts as, where the policy has categories."""
    others: tuple[OtherTrace, ...] = ()
    """Entries without a part in it, where they were asked for."""

    def __str__(self) -> str:
        reasons = [Node(f"{reason.code} {reason.rule}".rstrip()) for reason in self.decision.reasons]
        return "\n".join([str(self.decision), *_drawn([*reasons, *nodes(self)], "")])


def explain(
    document: Document | None, call: ToolCall, decision: Decision, *, values: bool = False, others: bool = False
) -> Explanation:
    """Return what had a part in a decision: with `values` also what was found, with `others` also what had no part."""
    if document is None or check_name(call.tool) is not None:
        return Explanation(decision, (), (), "")
    server, category = document.variant(call)
    plan = document.plan(call.tool, server, category)
    look = _Look(call, decision, _statuses(decision), document, values)
    return Explanation(
        decision,
        tuple(_rule(rule, may_list, look) for rule, may_list in plan.entries),
        tuple(reason.rule for reason in plan.hidden),
        f"{plan.default_rule or 'absent'}: {plan.default}",
        (category or UNKNOWN) if document.has_categories else None,
        tuple(bystanders(document, call.tool, server, category, plan)) if others else (),
    )


class _Look(NamedTuple):
    """What all traces of one explanation are made from."""

    call: ToolCall
    decision: Decision
    limits: Mapping[str, LimitStatus]
    """How each limit stands that was asked, by its place."""
    document: Document
    values: bool


def _statuses(decision: Decision) -> dict[str, LimitStatus]:
    shadow = None if decision.evidence is None else decision.evidence[3]
    return {status.rule: status for one in (decision, decision._replace(evidence=shadow)) for status in one.limits}


# -- what had a part in it


def _rule(rule: Rule, may_list: bool, look: _Look) -> RuleTrace:
    alone = Plan(((rule, may_list),), (), Effect.ALLOW, "", shadow=False)
    read = [(part, outcome(look.call)) for part, outcome, _ in parts(alone)]
    effects = _effects(judge(alone, tuple(code for _, code in read), with_shadow=True))
    when = HOLDS if rule.when is None else read[0][1] & MASK
    applies = when in (HOLDS, AGAINST)
    wrong = {part.pointer for part, code in read if isinstance(part, Limit) and code == ERRS}
    return RuleTrace(
        rule.pointer,
        rule.action,
        rule.shadow,
        applies,
        when == HOLDS and may_list and rule.can_list,
        tuple(_item(part, code, effects, look) for part, code in read if isinstance(part, Item)),
        tuple(_limit(limit, applies, limit.pointer in wrong, look) for limit in rule.limits),
        effects.get(rule.pointer, ""),
    )


def _effects(ruling: Ruling) -> dict[str, str]:
    """Return what a rule alone does to the call, by the places that do it."""
    if ruling.effect is Effect.DENY:
        return {reason.rule: HIDES if reason.code is ReasonCode.HIDDEN else DENIES for reason in ruling.reasons}
    return {reason.rule: ASKS for reason in ruling.asks}


def _item(item: Item, code: int, effects: dict[str, str], look: _Look) -> ItemTrace:
    last = _last_read(item, code)
    conditions = tuple(_condition(one, place <= last, look) for place, one in enumerate(item.conditions))
    # a `when` has the place of its rule, whose effects are not its own
    effect = "" if item.kind == WHEN else effects.get(item.pointer, "")
    return ItemTrace(item.kind, item.pointer, OUTCOMES[code & MASK], conditions, effect)


def _last_read(item: Item, code: int) -> int:
    """Return the place of the condition at which the reading of an item ended."""
    outcome = code & MASK
    to_its_end = outcome == HOLDS or (outcome == AGAINST and item.kind != REQUIRE)
    return len(item.conditions) if to_its_end else code >> SHIFT


def _condition(condition: Condition, read: bool, look: _Look) -> ConditionTrace:
    outcome = OUTCOMES[condition.outcome(look.call) & MASK] if read else NOT_READ
    found = tuple(Found(text, _found(path, look)) for text, path in condition.reads) if look.values and read else ()
    return ConditionTrace(condition.text, condition.operator.name, describe(condition), outcome, found)


def _limit(limit: Limit, applies: bool, wrong: bool, look: _Look) -> LimitTrace:
    status = look.limits.get(limit.pointer)
    named = "" if limit.name is None else f", counted as `{limit.name}`"
    outcome = NOT_READ
    if applies and wrong:
        outcome = OUTCOMES[ERRS]
    elif applies and status is not None:
        outcome = _left(status, look.decision)
    says = f"at most {limit.shown} in {limit.window:g} seconds{named}"
    return LimitTrace(limit.pointer, says, outcome, _cost(limit, look) if look.values and applies else None)


def _left(status: LimitStatus, decision: Decision) -> str:
    if not status.available:
        return "cannot be counted now"
    left = f"{status.remaining} of {status.limit} left"
    stopped = any(reason.rule == status.rule for reason in (*decision.reasons, *decision.shadow))
    return f"{left}, not enough" if stopped else left


# -- what was found: short, whatever the call brings

_ABSENT: Final = "absent"
_OUT_OF_REACH: Final = "out of reach"
_NO_ELEMENT: Final = "no element"
_NO_VALUE: Final = frozenset({"", _ABSENT, _OUT_OF_REACH, _NO_ELEMENT, UNKNOWN})
"""Texts that stand for no value. A string that a call brings is in quotation marks, so it is none of them."""

_SHOWN: Final = 80
_FEW: Final = 5
_ENCODER: Final = JSONEncoder(ensure_ascii=False, default=str)  # a `Decimal` is the one plain value that JSON lacks


def _cost(limit: Limit, look: _Look) -> str:
    cost = limit.cost if isinstance(limit.cost, int) else limit.cost(look.call)
    return "not a cost" if cost is None else str(from_micro(cost))


def _found(path: Path, look: _Look) -> str:
    """Return a text of what a path leads to."""
    leads_to = _walk_all(_root(path.root, look.document.category_of)(look.call), path.steps)
    few = [_text(one, path) for one in islice(leads_to, _FEW)]
    if has_star(path):
        more = sum(1 for _ in leads_to)
        return ", ".join(few) + (f" and {more:,} more" if more else "") if few else _NO_ELEMENT
    return few[0]


def _text(found: Any, path: Path) -> str:
    if isinstance(found, Missing):
        unreachable = UNKNOWN if path.root == "tool.category" else _OUT_OF_REACH
        return unreachable if found is WRONG else _ABSENT
    try:
        return _clipped(plain(found))
    except NotJson as error:
        return str(error)


def _clipped(value: Any) -> str:
    if type(value) is str:
        value = value[: _SHOWN + 1]
    text = ""
    for piece in _ENCODER.iterencode(value):
        text += piece[: _SHOWN + 1]
        if len(text) > _SHOWN:
            return f"{text[:_SHOWN]}…"
    return text


# -- as a tree

Tone: TypeAlias = Literal["good", "bad", "plain", "muted"]


class Node(NamedTuple):
    """One line of a tree: what it is about, what is said of it, in what tone, and what stands below it."""

    text: str
    says: str = ""
    tone: Tone = "plain"
    children: Sequence[Node] = ()
    note: str = ""
    """What a call brought: for the caller's own eyes."""
    pointer: str = ""
    """The place in the document."""


def nodes(explanation: Explanation) -> list[Node]:
    """Return an explanation as a tree, without the decision and its reasons."""
    lines = [Node(pointer, HIDES, "bad", pointer=pointer) for pointer in explanation.hidden]
    lines += map(_rule_node, explanation.rules)
    lines += [Node(other.rule, other.why, "muted", pointer=other.rule) for other in explanation.others]
    return [*lines, Node(f"default {explanation.default}")] if explanation.default else lines


def _rule_node(rule: RuleTrace) -> Node:
    said = [rule.action, _state(rule)]
    if rule.applies:
        said.append("lists the tool" if rule.lists else "does not list the tool")
    if rule.shadow:
        said.append("shadow")
    # what a rule says that does not apply has no effect, so only its `when` is of interest
    items = [item for item in rule.items if rule.applies or item.kind == WHEN]
    below = [_item_node(item, rule) for item in items]
    below += [_limit_node(limit) for limit in rule.limits if rule.applies]
    tone = _tone(rule.effect) if rule.effect else "plain" if rule.applies else "muted"
    return Node(rule.rule, ", ".join(said), tone, below, pointer=rule.rule)


def _state(rule: RuleTrace) -> str:
    if rule.applies:
        return "applies"  # and does what its action says
    return f"cannot be told to apply, {rule.effect}" if rule.effect else "does not apply"


def _item_node(item: ItemTrace, rule: RuleTrace) -> Node:
    says = f"{item.outcome}, {item.effect}" if item.effect else item.outcome
    tone = _tone(item.effect) if item.effect or rule.applies else "muted"
    text = item.kind if item.kind == WHEN else f"{item.kind} {item.rule}"
    return Node(text, says, tone, [_condition_node(one) for one in item.conditions], pointer=item.rule)


def _condition_node(condition: ConditionTrace) -> Node:
    tone: Tone = "muted" if condition.outcome == NOT_READ else "plain"
    (_, own), *others = condition.found or (Found("", ""),)
    first = own if own in _NO_VALUE else f"found {own}"
    note = "; ".join([first, *(f"`{path}` is {text}" for path, text in others)])
    return Node(condition.says, condition.outcome, tone, note=note)


def _limit_node(limit: LimitTrace) -> Node:
    tone: Tone = "muted" if limit.outcome == NOT_READ else "bad" if limit.outcome == OUTCOMES[ERRS] else "plain"
    note = "" if limit.cost is None else f"costs {limit.cost}"
    below = [Node(limit.says)]
    return Node(f"limit {limit.rule}", limit.outcome, tone, below, note, limit.rule)


def _tone(effect: str) -> Tone:
    return "good" if not effect else "plain" if effect == ASKS else "bad"


def branches(children: Sequence[Node]) -> Iterator[tuple[str, str, Node]]:
    """Yield each node with what stands before it and before what is below it."""
    for place, node in enumerate(children, 1):
        yield *(("└─ ", "   ") if place == len(children) else ("├─ ", "│  ")), node


def _drawn(children: Sequence[Node], before: str) -> Iterator[str]:
    for branch, further, node in branches(children):
        yield f"{before}{branch}{node.text}" + (f": {node.says}" if node.says else "")
        yield from _drawn(node.children, before + further)
