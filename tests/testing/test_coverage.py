"""Coverage is what decided: the same functions, the same decisions, and no outcome that cannot be."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from mcp_policy import Decision, Policy, PolicyEngine, ToolCall
from mcp_policy.operators import OPERATORS
from mcp_policy.testing.cases import parse_cases
from mcp_policy.testing.coverage import WORDS, Coverage, Row, counted
from mcp_policy.testing.running import run_case

from ..properties.differential import START, Catalogue, tool_call, verdict
from ..properties.generate import Maker

SAMPLES: list[Any] = [
    None, True, 0, 1, 5, 7.5, -1, "", "a", "ab", "b", "5", "/srv/a", "/etc", "https://a.example/x", "https://b.example/",
    [], ["a"], ["ab", "b"], [1, 2], {}, {"k": 1}, {"k": "a"}, {"j": "a"}, {"k": ["a"]},
]  # fmt: skip
VALUES: dict[str, Any] = {
    "eq": "a", "neq": "a", "in": ["a"], "not_in": ["a"], "intersects": ["a"], "lt": 5, "lte": 5, "gt": 5, "gte": 5,
    "contains": "a", "not_contains": "a", "starts_with": "a", "ends_with": "b", "regex": "a", "not_regex": "a", "glob": "a*",
    "exists": True, "length_lte": 1, "length_gte": 1, "keys_in": ["k"], "within": "/srv", "host_in": ["a.example"],
}  # fmt: skip
TEXT = {"eq", "neq", "in", "not_in", "contains", "not_contains", "starts_with", "ends_with", "glob", "exists"}


def watched(policy: Policy, coverage: Coverage, category_of: Any = lambda call: None) -> PolicyEngine:
    engine = PolicyEngine(clock=lambda: START)
    engine._plans = coverage.plans("p", policy, category_of)
    return engine


def rows(tree: dict[str, Any], *calls: ToolCall, category: str | None = None) -> dict[str, Row]:
    """Return the rows of a policy, by pointer, after these calls."""
    policy, coverage = Policy.model_validate({"version": "1", **tree}), Coverage()
    engine = watched(policy, coverage, lambda call: category)
    for call in calls:
        coverage.note(policy, engine.authorize(call))
    return {row.pointer: row for row in coverage.rows()}


def pay(amount: object = 1, **more: Any) -> ToolCall:
    return ToolCall("pay", {"amount": amount, **more})


# -- coverage and evaluation cannot disagree


@pytest.mark.parametrize("seed", range(9_000, 9_150))
def test_what_is_seen_is_what_decided(seed: int) -> None:
    """One call at a time: the decision is that of the engine without coverage, and what was seen is what it explains."""
    maker = Maker(seed)
    policy = Policy.parse(json.dumps(maker.policy()))
    plain = PolicyEngine(policy, clock=lambda: START, catalogue=Catalogue())
    category_of = plain._category_of
    for _ in range(8):
        call, coverage = tool_call(maker.call()), Coverage()
        engine = watched(policy, coverage, category_of)
        decision = engine.evaluate(call)
        assert verdict(decision) == verdict(plain.evaluate(call))
        coverage.note(policy, decision)
        seen = {pointer: words for pointer, words in coverage._policies[policy].seen.items() if words}
        agree(seen, explained(plain, call), decision)


def explained(engine: PolicyEngine, call: ToolCall) -> dict[str, set[str]]:
    """Return the outcome of every rule and condition that `explain` tells, by pointer."""
    told: dict[str, set[str]] = {}
    for rule in engine.explain(call).rules:
        told.setdefault(rule.rule, set()).update(["applies"] * rule.applies, ["lists"] * rule.lists)
        for item in rule.items:
            for place, condition in enumerate(item.conditions):
                outcome = "absent" if condition.outcome.startswith("absent") else condition.outcome
                inner = "when" if item.kind == "when" else "conditions"
                for pointer in {f"{item.rule}/{inner}/{place}", *([item.rule] if item.kind != "when" else [])}:
                    told.setdefault(pointer, set()).add(outcome)
    return told


def agree(seen: dict[str, set[str]], told: dict[str, set[str]], decision: Decision) -> None:
    reasons = {reason.rule for reason in (*decision.reasons, *decision.shadow)}
    for pointer, words in seen.items():
        assert words <= told.get(pointer, set()) or pointer in reasons, pointer
    for pointer, words in told.items():
        if words <= {"applies", "lists"}:
            assert seen.get(pointer, set()) == words, pointer


def test_who_changes_what_decides_changes_what_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = {"tools": {"pay": {"require": [{"path": "args.amount", "op": "lte", "value": 100}]}}}
    assert rows(policy, pay(1))["/tools/pay/require/0"].seen == ("holds",)
    lte = OPERATORS["lte"]
    wrong = lte._replace(make=lambda value: lambda found: 1 - lte.make(value)(found))
    monkeypatch.setitem(OPERATORS, "lte", wrong)
    assert rows(policy, pay(1))["/tools/pay/require/0"].seen == ("does not hold",)
    document = Policy.model_validate({"version": "1", **policy})
    assert not watched(document, Coverage()).evaluate(pay(1)).allowed


def test_a_condition_that_is_not_reached_is_not_seen() -> None:
    clause = {"conditions": [{"path": "args.a", "op": "eq", "value": 1}, {"path": "args.b", "op": "eq", "value": 1}]}
    policy = {"tools": {"t": {"deny_if": [clause], "when": [{"path": "args.on", "op": "exists", "value": True}]}}}
    found = rows(policy, ToolCall("t", {"a": 2, "b": 1}))
    assert found["/tools/t/deny_if/0/conditions/0"].seen == ("does not hold",)
    assert found["/tools/t/deny_if/0/conditions/1"].seen == ()
    assert found["/tools/t/when/0"].seen == ("does not hold",)
    assert found["/tools/t"].seen == ()
    found = rows(policy, ToolCall("t", {"a": 1, "b": 1, "on": 1}))
    assert found["/tools/t/deny_if/0/conditions/1"].seen == ("holds",)
    assert found["/tools/t"].seen == ("applies", "lists")


# -- what there is to be seen


@pytest.mark.parametrize("kind", ["require", "deny_if", "approve_if"])
@pytest.mark.parametrize(
    "path", ["args.x", "args.x.k", "args.x[0]", "args.x[*]", "args", "context.x", "principal.claims.x"]
)
@pytest.mark.parametrize("op", OPERATORS)
def test_what_occurs_is_what_can_occur(op: str, path: str, kind: str) -> None:
    check(kind, {"path": path, "op": op, "value": VALUES[op]}, every_call())


@pytest.mark.parametrize("kind", ["require", "deny_if"])
@pytest.mark.parametrize(
    "path", ["principal.id", "principal.roles", "session.id", "server.name", "tool.name", "tool.category"]
)
@pytest.mark.parametrize("op", OPERATORS)
def test_what_a_caller_brings_has_its_types(op: str, path: str, kind: str) -> None:
    check(kind, {"path": path, "op": op, "value": VALUES[op]}, every_call())


@pytest.mark.parametrize(
    "reference", ["args.y", "args.y.k", "principal.id", "principal.roles", "tool.category", "args"]
)
@pytest.mark.parametrize("path", ["args.x", "principal.id"])
@pytest.mark.parametrize("op", [op for op, operator in OPERATORS.items() if operator.value_from])
def test_references_too(op: str, path: str, reference: str) -> None:
    check("deny_if", {"path": path, "op": op, "value_from": reference}, every_call())


def every_call() -> Iterator[ToolCall]:
    from mcp_policy import Principal

    yield ToolCall("a")
    yield ToolCall("a", {"x": "a"}, principal=Principal("a", roles=["a"]), session="a", server="a", category="read")
    yield ToolCall("a", {"x": "b"}, principal=Principal("b", roles=["b", "a", "c"]), session="b", server="b")
    for x in SAMPLES:
        context: dict[str, Any] = {"x": x}
        yield ToolCall("a", {"x": x}, context=context, principal=Principal("ab", claims={"x": x}), category="write")
        for y in ("a", 5, ["a"], {"k": "a"}, None):
            yield ToolCall("a", {"x": x, "y": y}, principal=Principal("a"))


def check(kind: str, condition: dict[str, Any], calls: Iterator[ToolCall]) -> None:
    tree = {"version": "1", "default": "allow", "all_tools": {kind: [condition]}}
    policy, coverage = Policy.model_validate(tree), Coverage()
    engine = watched(policy, coverage, lambda call: call.category)
    for call in calls:
        engine.evaluate(call)
    part = coverage._policies[policy]
    pointer = f"/all_tools/{kind}/0"
    assert part.seen[pointer] <= set(part.parts[pointer].goals)
    wrong = WORDS[3]
    if condition.get("op") != "keys_in":  # what no sample reaches may be possible still; a wrong type is what is subtle
        assert (wrong in part.seen[pointer]) == (wrong in part.parts[pointer].goals)


def test_every_part_of_a_policy_has_a_row() -> None:
    limit = {"max": 1, "window": 60}
    tree = {
        "hide": ["debug_*", "x"],
        "all_tools": {"limits": [limit, {**limit, "cost": "args.n"}]},
        "categories": {"read": {}, "write": {"action": "deny"}},
        "tools": {"a/b~c": [{"rate_limit": "1/minute"}, {"when": [{"path": "args.a", "op": "neq", "value": 1}]}]},
        "servers": {"s": {"hide": ["y"], "tools": {"t": {"action": "approve", "mode": "shadow"}}}},
    }
    assert {pointer: (row.says, row.unseen) for pointer, row in rows(tree).items()} == {
        "/hide/0": ("hides `debug_*`", ("matches",)),
        "/hide/1": ("hides `x`", ("matches",)),
        "/all_tools": ("rule: allow", ("applies",)),
        "/all_tools/limits/0": ("limit: 1 in 60 seconds", ("used up",)),
        "/all_tools/limits/1": ("limit: 1 in 60 seconds", ("used up", "wrong type")),
        "/categories/read": ("rule: allow", ("applies", "lists")),
        "/categories/write": ("rule: deny", ("applies",)),
        "/tools/a~1b~0c/0": ("rule: allow", ("applies",)),
        "/tools/a~1b~0c/0/rate_limit": ("limit: 1 in 60 seconds", ("used up",)),
        "/tools/a~1b~0c/1": ("rule: allow", ("applies", "lists")),
        "/tools/a~1b~0c/1/when/0": ("when: `args.a` differs from 1", ("holds", "does not hold", "absent")),
        "/servers/s/hide/0": ("hides `y`", ("matches",)),
        "/servers/s/tools/t": ("rule: approve", ("applies",)),
    }


def test_categories_apply_to_unknown_tools_and_list_only_known_ones() -> None:
    tree = {"categories": {"read": {}}}
    assert rows(tree, pay())["/categories/read"].seen == ("applies",)
    assert rows(tree, pay(), category="read")["/categories/read"].seen == ("applies", "lists")
    assert rows(tree, pay(), category="write")["/categories/read"].seen == ()


def test_limits_and_hidden_tools() -> None:
    tree = {"hide": ["debug"], "tools": {"pay": {"limits": [{"max": 1, "window": 60, "cost": "args.amount"}]}}}
    assert rows(tree, pay(1))["/tools/pay/limits/0"].seen == ()
    assert rows(tree, pay(1), pay(1))["/tools/pay/limits/0"].seen == ("used up",)
    assert rows(tree, pay("1"))["/tools/pay/limits/0"].seen == ("wrong type",)
    assert rows(tree, pay(1))["/hide/0"].seen == ()
    assert rows(tree, ToolCall("debug"))["/hide/0"].seen == ("matches",)
    shadow = {"mode": "shadow", **tree}
    assert rows(shadow, pay(1), pay(1))["/tools/pay/limits/0"].seen == ("used up",)


# -- the whole


def test_coverage_is_over_all_policies_and_the_same_policy_counts_once() -> None:
    policy = {"version": "1", "tools": {"a": {}, "b": {}}}
    case = {"name": "n", "policy": policy, "call": {"tool": "a"}, "expect": {"effect": "allow"}}
    other = {**case, "call": {"tool": "b"}}
    third = {**case, "policy": {"version": "1", "tools": {"a": {}, "c": {}}}}
    coverage = Coverage()
    assert coverage.percent == 100
    assert str(coverage) == ""
    shares = []
    for one in parse_cases("x.policytest.json", json.dumps({"cases": [case, other, third]})).cases:
        assert run_case(one, coverage) is None
        shares.append(coverage.percent)
    assert shares == [50, 100, 75]
    assert counted(coverage.rows()) == (3, 4)
    assert str(coverage).splitlines() == [
        "coverage of x.policytest.json#/cases/0/policy: 2 of 2 outcomes, 100.0 %",
        "coverage of x.policytest.json#/cases/2/policy: 1 of 2 outcomes, 50.0 %",
        "  /tools/c: rule: allow: never applies",
    ]


def test_a_percentage_is_rounded_down() -> None:
    tree = {"tools": {f"t{number}": {} for number in range(3_000)}}
    calls = [ToolCall(f"t{number}") for number in range(2_999)]
    policy, coverage = Policy.model_validate({"version": "1", **tree}), Coverage()
    engine = watched(policy, coverage)
    for call in random.Random(1).sample(calls, len(calls)):
        engine.evaluate(call)
    assert "2999 of 3000 outcomes, 99.9 %" in str(coverage)
