"""Why a decision came out as it did: every rule that matches a call, and every condition in it with its outcome.

The outcomes come from the very functions that decide; nothing is evaluated a second way. The text names paths and the
document's own values, never a value that the call brought.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from .call import ToolCall
from .compiler import Document
from .conditions import Item
from .decision import Decision
from .evaluator import Plan, Rule
from .operators import AGAINST, ERRS, FAILS, HOLDS, MASK
from .patterns import check_name
from .sentences import describe

OUTCOMES: Final = {
    HOLDS: "holds",
    FAILS: "does not hold",
    AGAINST: "absent, which counts against the call",
    ERRS: "wrong type",
}


class ConditionTrace(NamedTuple):
    """One condition: what it says, in words, and its outcome (a value of `OUTCOMES`)."""

    path: str
    op: str
    says: str
    outcome: str


class ItemTrace(NamedTuple):
    """One item of a rule: its kind (`when`, `require`, `deny_if`, `approve_if`), its place in the document, its
    outcome.
    """

    kind: str
    rule: str
    outcome: str
    conditions: tuple[ConditionTrace, ...]


class RuleTrace(NamedTuple):
    """One rule that matches the tool: whether it applies to this call, and whether it lists the tool."""

    rule: str
    action: str
    shadow: bool
    applies: bool
    lists: bool
    items: tuple[ItemTrace, ...]
    limits: tuple[str, ...]


class Explanation(NamedTuple):
    """A decision and all that had a part in it; `str()` of it is a tree for people."""

    decision: Decision
    rules: tuple[RuleTrace, ...]
    hidden: tuple[str, ...]
    """Entries of `hide` that match."""
    default: str

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def explain(document: Document | None, call: ToolCall, decision: Decision) -> Explanation:
    """Return what had a part in a decision."""
    if document is None or check_name(call.tool) is not None:
        return Explanation(decision, (), (), "")
    plan = document.plan(call.tool, *document.variant(call))
    rules = tuple(_rule(rule, may_list, call) for rule, may_list in plan.entries)
    return Explanation(decision, rules, tuple(reason.rule for reason in plan.hidden), _default(plan))


def _default(plan: Plan) -> str:
    return f"{plan.default_rule or 'absent'}: {plan.default}"


def _rule(rule: Rule, may_list: bool, call: ToolCall) -> RuleTrace:
    items = [_item(item, call) for item in ([rule.when] if rule.when else []) + list(rule.items)]
    when = HOLDS if rule.when is None else rule.when.outcome(call) & MASK
    return RuleTrace(
        rule.pointer,
        rule.action,
        rule.shadow,
        when in (HOLDS, AGAINST),
        when == HOLDS and may_list and rule.can_list,
        tuple(items),
        tuple(limit.pointer for limit in rule.limits),
    )


def _item(item: Item, call: ToolCall) -> ItemTrace:
    conditions = tuple(
        ConditionTrace(
            condition.text, condition.operator.name, describe(condition), OUTCOMES[condition.outcome(call) & MASK]
        )
        for condition in item.conditions
    )
    return ItemTrace(item.kind, item.pointer, OUTCOMES[item.outcome(call) & MASK], conditions)


def _lines(explanation: Explanation) -> Iterator[str]:
    yield str(explanation.decision)
    for reason in explanation.decision.reasons:
        yield f"├─ {reason.code} {reason.rule}".rstrip()
    for pointer in explanation.hidden:
        yield f"├─ {pointer}: hides the tool"
    for rule in explanation.rules:
        state = "applies" if rule.applies else "does not apply"
        notes = [rule.action, state, *(["lists the tool"] if rule.lists else []), *(["shadow"] if rule.shadow else [])]
        yield f"├─ {rule.rule}: {', '.join(notes)}"
        yield from _rule_lines(rule)
    yield f"└─ default {explanation.default}"


def _rule_lines(rule: RuleTrace) -> Iterator[str]:
    for item in rule.items:
        yield f"│  ├─ {item.kind} {item.rule}: {item.outcome}"
        for condition in item.conditions:
            yield f"│  │  ├─ {condition.says}: {condition.outcome}"
    for limit in rule.limits:
        yield f"│  ├─ limit {limit}"
