"""What the reasons say: the nearest literal reason of the document, else a built-in sentence.

A sentence names paths and the document's own values, never a value that a call brought.
"""

from __future__ import annotations

import json
from typing import Final

from .conditions import APPROVE_IF, REQUIRE, Condition, Item
from .decision import Reason, ReasonCode

UNKNOWN_TOOL: Final = "there is no such tool"
NEEDS_APPROVAL: Final = "a person has to approve this call"
_SHOWN: Final = 80


def errs(item: Item, place: int) -> Reason:
    """Return the reason of an item whose condition at `place` met a value of the wrong type.

    The document's own words speak of what is not allowed; what type would be right is told beside them.
    """
    condition = item.conditions[place]
    said = condition.reason or item.reason or item.rule_reason
    wrong = f"`{condition.text}` has to be {condition.operator.takes}"
    return Reason(ReasonCode.TYPE_MISMATCH, f"{said} ({wrong})" if said else wrong, item.pointer, condition.text)


def must(item: Item, place: int, code: ReasonCode) -> Reason:
    """Return the reason of an item that stops a call: a `require` at the condition that fails, else all of it."""
    if item.kind == REQUIRE:
        condition = item.conditions[place]
        said = condition.reason or item.reason or item.rule_reason
        return Reason(code, said or f"this call is allowed only if {describe(condition)}", item.pointer, condition.text)
    said = item.reason or next((c.reason for c in item.conditions if c.reason), None) or item.rule_reason
    path = item.conditions[0].text if len(item.conditions) == 1 else None
    return Reason(code, said or _whole(item), item.pointer, path)


def _whole(item: Item) -> str:
    start = NEEDS_APPROVAL if item.kind == APPROVE_IF else "this call is denied"
    said = " and ".join(map(describe, item.conditions))
    return f"{start} if {said}" if said else start


def describe(condition: Condition) -> str:
    """Say in words what a condition asks for."""
    verb = condition.operator.verb
    if condition.operator.name == "exists" and condition.value is False:
        verb = "is absent"
    return f"`{condition.text}` {verb.format(_show(condition))}"


def _show(condition: Condition) -> str:
    if condition.value_from is not None:
        return f"`{condition.value_from}`"
    text = json.dumps(condition.value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
