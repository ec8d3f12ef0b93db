"""The short cut says what the full evaluation says, whatever a call brings."""

from __future__ import annotations

import itertools
from decimal import Decimal

import pytest

from mcp_policy import Policy, PolicyEngine, ToolCall
from mcp_policy.compiler import Document
from mcp_policy.evaluator import parts
from mcp_policy.plans import decider, verdict_of

ABSENT = object()
VALUES = [
    ABSENT, None, True, False, 0, 1, 4, 5, 6, 10**30, -1, 4.5, 5.0, 5.5, float("nan"), float("inf"), float("-inf"), Decimal(5), Decimal("5.1"),
    "5", "a", "ab", "b", "", "a" * 16_384, "a" * 16_385, "\ud800", "a\ud800", [], ["a"], [5], {}, {"k": 5}, {"k": "a"}, {"k": {"l": 5}}, {"k": None}, (5,), object(),
]  # fmt: skip
CONDITIONS = [
    *({"op": op, "value": value} for op in ("lt", "lte", "gt", "gte") for value in (5, 4.5, 5.5, -1, 10**30, 0)),
    *({"op": op, "value": value} for op in ("eq", "neq") for value in ("a", 5, True, ["a"])),
    *({"op": op, "value": value} for op in ("in", "not_in") for value in (["a", "b"], [5, "a"], [])),
    *({"op": op, "value": "^a+$"} for op in ("regex", "not_regex")),
    {"op": "exists", "value": True},
    {"op": "exists", "value": False},
    {"op": "starts_with", "value": "a"},
]


@pytest.mark.parametrize("kind", ["require", "deny_if", "approve_if", "when"])
@pytest.mark.parametrize("path", ["args.x", "args.x.k", "args.x.k.l"])
def test_every_quick_link_agrees_with_the_full_evaluation(kind, path):
    for condition in CONDITIONS:
        document = document_of({kind: [{"path": path, **condition}]})
        plan = document.plan("t", None, None)
        decide, evaluate = decider(plan), [outcome for _, outcome, _ in parts(plan)]
        for value in VALUES:
            call = ToolCall("t", {} if value is ABSENT else {"x": value})
            expected = verdict_of(plan, tuple(outcome(call) for outcome in evaluate))
            assert shape(decide(call)) == shape(expected), (condition, value)


def test_chains_of_two_agree_with_the_full_evaluation():
    for first, second in itertools.product(CONDITIONS[::3], CONDITIONS[1::3]):
        document = document_of({"require": [{"path": "args.x", **first}], "deny_if": [{"path": "args.y", **second}]})
        plan = document.plan("t", None, None)
        decide, evaluate = decider(plan), [outcome for _, outcome, _ in parts(plan)]
        for x, y in itertools.product(VALUES[::2], VALUES[1::3]):
            call = ToolCall("t", {"x": x, "y": y})
            assert shape(decide(call)) == shape(verdict_of(plan, tuple(outcome(call) for outcome in evaluate)))


def test_a_policy_of_many_conditions_is_decided_however_deep_the_caller_stands():
    rule = {"require": [{"path": f"args.a{number}", "op": "exists", "value": True} for number in range(2_000)]}
    engine = PolicyEngine(Policy.model_validate({"version": "1", "tools": {"t": rule}}))
    arguments = {f"a{number}": 1 for number in range(2_000)}

    def decided(deep: int, call: ToolCall):
        return decided(deep - 1, call) if deep else engine.evaluate(call)

    assert decided(600, ToolCall("t", arguments)).effect == "allow"
    denied = decided(600, ToolCall("t", {**arguments, "a1999": None}))
    assert [(reason.code, reason.rule) for reason in denied.reasons] == [("require", "/tools/t/require/1999")]


def document_of(rule: dict) -> Document:
    policy = Policy.model_validate({"version": "1", "tools": {"t": rule}})
    return Document(policy.document, lambda call: None)


def shape(verdict) -> tuple:
    """What can be compared of a decision or a claim."""
    reasons = getattr(verdict, "reasons", None) or verdict.ruling.asks
    return type(verdict), [(reason.code, reason.rule, reason.path) for reason in reasons]
