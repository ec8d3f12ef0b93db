"""Explanations: every entry of a document, what it does to a call, and what was found, for the caller's eyes only."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_policy import Policy, PolicyEngine, Principal, ToolCall
from mcp_policy.evaluator import parts
from mcp_policy.explain import ASKS, DENIES, HIDES, NOT_READ, OUTCOMES, Explanation, explain, nodes
from mcp_policy.operators import MASK


def explained(tree: dict[str, Any], call: ToolCall, *, values: bool = True, others: bool = True) -> Explanation:
    engine = PolicyEngine(Policy.model_validate({"version": "1", **tree}), clock=lambda: 0.0)
    return explain(engine._plans.document, call, engine.evaluate(call), values=values, others=others)


def condition(path: str, op: str, value: Any) -> dict[str, Any]:
    return {"path": path, "op": op, "value": value}


A, B, C = (condition(f"args.{name}", "eq", 1) for name in "abc")


def outcomes(explanation: Explanation) -> list[list[str]]:
    return [[c.outcome for c in item.conditions] for rule in explanation.rules for item in rule.items]


# -- what was not looked at


@pytest.mark.parametrize("kind", ["require", "deny_if", "approve_if"])
def test_a_clause_is_read_to_the_first_condition_that_does_not_hold(kind):
    tree = {"tools": {"t": {kind: [{"conditions": [A, B, C]}]}}}
    assert outcomes(explained(tree, ToolCall("t", {"a": 1, "b": 2, "c": 1}))) == [["holds", "does not hold", NOT_READ]]
    assert outcomes(explained(tree, ToolCall("t", {"a": 1, "b": 1, "c": 1}))) == [["holds"] * 3]
    assert outcomes(explained(tree, ToolCall("t", {"a": 2}))) == [["does not hold", NOT_READ, NOT_READ]]


def test_absence_that_counts_against_the_call_ends_a_require_and_nothing_else():
    against = condition("args.x", "neq", 5)
    said = "absent, which counts against the call"
    for kind, last in (("require", NOT_READ), ("deny_if", "holds"), ("approve_if", "holds")):
        tree = {"tools": {"t": {kind: [{"conditions": [against, A]}]}}}
        assert outcomes(explained(tree, ToolCall("t", {"a": 1}))) == [[said, last]]
    tree = {"tools": {"t": {"when": [against, A]}}}
    assert outcomes(explained(tree, ToolCall("t", {"a": 1}))) == [[said, "holds"]]


def test_nothing_is_found_where_nothing_was_looked_at():
    tree = {"tools": {"t": {"require": [{"conditions": [A, B]}]}}}
    (rule,) = explained(tree, ToolCall("t", {"a": 2, "b": 3})).rules
    assert [c.found for c in rule.items[0].conditions] == [(("args.a", "2"),), ()]


# -- what each place does to the call


def test_the_effects():
    tree = {
        "tools": {
            "t": [
                {"require": [A], "deny_if": [B], "approve_if": [C]},
                {"approve_if": [A]},
                {"action": "deny"},
                {"action": "hide"},
                {"action": "approve", "mode": "shadow"},
                {"when": [condition("args.a", "lt", 1)]},
                {"when": [B], "action": "deny"},
            ]
        }
    }
    rules = explained(tree, ToolCall("t", {"a": "x", "b": 1, "c": 1})).rules
    assert [(rule.applies, rule.effect) for rule in rules] == [
        (True, ""),
        (True, ""),
        (True, DENIES),
        (True, HIDES),
        (True, ASKS),
        (False, DENIES),
        (True, DENIES),
    ]
    assert [item.effect for item in rules[0].items] == [DENIES, DENIES, ""]  # a denial leaves nothing to ask
    (asking,) = explained({"tools": {"t": {"approve_if": [A]}}}, ToolCall("t", {"a": 1})).rules
    assert [item.effect for item in asking.items] == [ASKS]


def test_a_rule_that_does_not_apply_shows_its_when_only():
    tree = {"tools": {"t": {"when": [A], "deny_if": [B], "rate_limit": "1/minute"}}}
    explanation = explained(tree, ToolCall("t", {"b": 1}))
    (node, *_) = nodes(explanation)
    assert [below.text for below in node.children] == ["when"]
    assert (node.says, node.tone) == ("allow, does not apply", "muted")
    assert explanation.rules[0].limits[0].outcome == NOT_READ


# -- limits


def test_limits_as_they_stand():
    tree = {
        "tools": {
            "t": {"limits": [{"max": 2, "window": 60, "counter": "c"}, {"max": 5, "window": 60, "cost": "args.n"}]}
        }
    }
    engine = PolicyEngine(Policy.model_validate({"version": "1", **tree}), clock=lambda: 0.0)
    call = ToolCall("t", {"n": 3})
    assert [limit.outcome for limit in engine.explain(call).rules[0].limits] == ["2 of 2 left", "5 of 5 left"]
    assert engine.authorize(call).allowed
    limits = engine.explain(call).rules[0].limits
    assert [limit.outcome for limit in limits] == ["1 of 2 left", "2 of 5 left, not enough"]
    assert [limit.cost for limit in limits] == [None, None]
    assert limits[0].says == "at most 2 in 60 seconds, counted as `c`"
    found = explain(engine._plans.document, call, engine.evaluate(call), values=True).rules[0].limits
    assert [limit.cost for limit in found] == ["1", "3"]


def test_a_cost_that_is_none_is_a_wrong_type_and_a_denied_call_asks_no_limit():
    tree = {"tools": {"t": {"limits": [{"max": 1, "window": 1}, {"max": 1, "window": 1, "cost": "args.n"}]}}}
    (rule,) = explained(tree, ToolCall("t", {"n": "x"})).rules
    assert [(limit.outcome, limit.cost) for limit in rule.limits] == [(NOT_READ, "1"), ("wrong type", "not a cost")]


def test_the_limits_of_shadow_rules_and_documents():
    for tree in ({"tools": {"t": [{}, {"mode": "shadow", "rate_limit": "3/minute"}]}}, {"mode": "shadow", "tools": {"t": {"rate_limit": "3/minute"}}}):  # fmt: skip
        rules = explained(tree, ToolCall("t")).rules
        assert [limit.outcome for rule in rules for limit in rule.limits] == ["3 of 3 left"]


def test_a_count_that_cannot_be_kept():
    class Full:
        def peek(self, requests):
            raise OSError("gone")

        acquire = refund = peek

    tree = {"version": "1", "tools": {"t": {"rate_limit": "1/minute"}}}
    explanation = PolicyEngine(Policy.model_validate(tree), limits=Full()).explain(ToolCall("t"))
    assert explanation.rules[0].limits[0].outcome == "cannot be counted now"


# -- what was found


@pytest.mark.parametrize(
    ("path", "arguments", "text"),
    [
        ("args.a", {"a": 150}, "150"),
        ("args.a", {"a": "x\n\u202e\x1b"}, '"x\\n\u202e\\u001b"'),
        ("args.a", {"a": [True, None, {"b": 1.5}]}, '[true, null, {"b": 1.5}]'),
        ("args.a", {}, "absent"),
        ("args.a", {"a": None}, "absent"),
        ("args.a", {"a": "absent"}, '"absent"'),
        ("args.a.b", {"a": 5}, "out of reach"),
        ("args.a", {"a": float("nan")}, "not a finite number"),
        ("args.a", {"a": object()}, "not a JSON value"),
        ("args.a[*]", {"a": []}, "no element"),
        ("args.a[*]", {"a": 5}, "out of reach"),
        ("args.a[*]", {"a": [1, 2]}, "1, 2"),
        ("args.a[*]", {"a": list(range(2000))}, "0, 1, 2, 3, 4 and 1,995 more"),
        ("args.a[*].b", {"a": [{"b": 1}, {}, 7]}, "1, absent, out of reach"),
        ("tool.category", {}, "unknown"),
        ("principal.id", {}, '"ann"'),
        ("principal.roles", {}, "[]"),
    ],
)
def test_what_was_found(path, arguments, text):
    tree = {"tools": {"t": {"require": [condition(path, "eq", 1)]}}}
    (rule,) = explained(tree, ToolCall("t", arguments, principal=Principal("ann"))).rules
    assert rule.items[0].conditions[0].found == ((path, text),)


def test_a_reference_is_shown_beside_the_value():
    tree = {"tools": {"t": {"require": [{"path": "args.a", "op": "eq", "value_from": "context.b"}]}}}
    (node, *_) = nodes(explained(tree, ToolCall("t", {"a": 1}, context={"b": 2})))
    assert node.children[0].children[0].note == "found 1; `context.b` is 2"


@given(st.recursive(st.text() | st.integers() | st.floats(), lambda below: st.lists(below) | st.dictionaries(st.text(), below)))  # fmt: skip
def test_what_is_noted_is_short(value):
    tree = {"tools": {"t": {"require": [condition("args.a", "eq", 1), condition("args.a[*]", "eq", 1)]}}}
    (rule,) = explained(tree, ToolCall("t", {"a": value})).rules
    assert all(len(found.text) < 500 for item in rule.items for c in item.conditions for found in c.found)


def test_large_values_are_shortened():
    for value in ("x" * 10**6, ["y" * 10**6], list(range(10**5)), {"k" * 10**5: 1}):
        tree = {"tools": {"t": {"require": [condition("args.a", "eq", 1)]}}}
        (rule,) = explained(tree, ToolCall("t", {"a": value})).rules
        ((_, text),) = rule.items[0].conditions[0].found
        assert len(text) == 81
        assert text.endswith("…")


def test_the_text_never_shows_what_a_call_brought():
    secret = "hunter2"
    tree = {
        "tools": {
            "t": {
                "require": [
                    condition("args.a", "in", ["x"]),
                    {"path": "args.b", "op": "eq", "value_from": "session.id"},
                ],
                "limits": [{"max": 99, "window": 60, "cost": {"length": "args.a"}}],
            }
        }
    }
    call = ToolCall("t", {"a": secret, "b": secret}, session=secret)
    noted = explained(tree, call)
    assert secret in repr(noted.rules)
    assert secret not in str(noted)
    engine = PolicyEngine(Policy.model_validate({"version": "1", **tree}))
    assert secret not in repr(engine.explain(call).rules) + str(engine.explain(call))


def test_the_text_is_a_tree():
    tree = {"tools": {"t": {"require": [condition("args.n", "lte", 100)], "rate_limit": "5/minute"}}}
    assert str(explained(tree, ToolCall("t", {"n": 150}), others=False)).splitlines() == [
        "deny: this call is allowed only if `args.n` is at most 100.",
        "├─ require /tools/t/require/0",
        "├─ /tools/t: allow, applies, lists the tool",
        "│  ├─ require /tools/t/require/0: does not hold, denies",
        "│  │  └─ `args.n` is at most 100: does not hold",
        "│  └─ limit /tools/t/rate_limit: not looked at",
        "│     └─ at most 5 in 60 seconds",
        "└─ default absent: deny",
    ]


# -- what had no part in it

EVERYTHING = {
    "hide": ["secret_*", "plain"],
    "all_tools": {"except": ["free_*"]},
    "categories": {"read": {}, "write": {"except": ["w"]}},
    "tools": {"a": {}, "a*": [{}, {"except": ["ab"]}], "b~/x": {}},
    "servers": {"s": {"hide": ["z"], "tools": {"a": {}}}, "r": {"tools": {"a": {}}}},
}


def test_why_entries_have_no_part_in_it():
    explanation = explained(EVERYTHING, ToolCall("ab", server="s", category="read"))
    assert {other.rule: other.why for other in explanation.others} == {
        "/hide/0": "does not match the tool",
        "/hide/1": "is for another tool",
        "/categories/write": "is for another category than `read`",
        "/tools/a": "is for another tool",
        "/tools/a*/1": "does not apply: `except` names the tool",
        "/tools/b~0~1x": "is for another tool",
        "/servers/s/hide/0": "is for another tool",
        "/servers/s/tools/a": "is for another tool",
        "/servers/r": "is for another server",
    }
    assert explanation.category == "read"
    assert explained({"tools": {}}, ToolCall("t")).category is None


@pytest.mark.parametrize("tool", ["a", "ab", "w", "free_a", "secret_1", "plain", "b~/x", "z", "none"])
@pytest.mark.parametrize("server", [None, "s", "r", "elsewhere"])
@pytest.mark.parametrize("category", ["read", "write", "unknown"])
def test_every_entry_either_has_a_part_in_it_or_has_none(tool, server, category):
    explanation = explained(EVERYTHING, ToolCall(tool, server=server, category=category))
    used = [*(rule.rule for rule in explanation.rules), *explanation.hidden]
    idle = [other.rule for other in explanation.others]
    every = {f"/hide/{place}" for place in (0, 1)} | {"/all_tools", "/categories/read", "/categories/write", "/tools/a"}
    every |= {"/tools/a*/0", "/tools/a*/1", "/tools/b~0~1x", "/servers/s/hide/0", "/servers/s/tools/a", "/servers/r/tools/a"}  # fmt: skip
    assert len(set(used + idle)) == len(used + idle)
    below = {entry for entry in every for other in idle if entry == other or entry.startswith(f"{other}/")}
    assert below | set(used) == every
    assert not below & set(used)


def test_only_who_asks_is_told_of_the_others():
    assert explained(EVERYTHING, ToolCall("a"), others=False).others == ()


def test_a_malformed_call_and_no_policy_explain_nothing_further():
    assert explained(EVERYTHING, ToolCall("a\n")) == (
        explained(EVERYTHING, ToolCall("a\n")).decision,
        (),
        (),
        "",
        None,
        (),
    )
    assert str(PolicyEngine().explain(ToolCall("t"))).splitlines()[1:] == ["└─ no_policy"]


# -- the same functions

VALUES = st.sampled_from([None, 0, 1, 2, "x", [1], {"k": 1}, 1.5, True])
CONDITIONS = st.builds(
    condition,
    st.sampled_from(["args.a", "args.b", "context.c"]),
    st.sampled_from(["eq", "neq", "in", "not_in", "lt"]),
    st.just(None),
).map(lambda raw: {**raw, "value": [1, "x"] if raw["op"] in ("in", "not_in") else 1})
ITEMS = st.lists(
    CONDITIONS | st.builds(lambda some: {"conditions": some}, st.lists(CONDITIONS, max_size=3)), max_size=2
)
RULES = st.fixed_dictionaries(
    {"action": st.sampled_from(["allow", "deny", "approve"])},
    optional={
        "when": st.lists(CONDITIONS, max_size=2),
        "require": ITEMS,
        "deny_if": ITEMS,
        "approve_if": ITEMS,
        "mode": st.just("shadow"),
    },
)


@given(st.lists(RULES, min_size=1, max_size=3), st.fixed_dictionaries({}, optional={"a": VALUES, "b": VALUES}), VALUES)
def test_outcomes_are_those_that_decide(rules, arguments, value):
    engine = PolicyEngine(Policy.model_validate({"version": "1", "tools": {"t": rules}}))
    call = ToolCall("t", arguments, context={"c": value})
    explanation, plan = engine.explain(call), engine._plans.document.plan("t", None, None)
    shown = [item.outcome for rule in explanation.rules for item in rule.items]
    assert shown == [OUTCOMES[outcome(call) & MASK] for _, outcome, _ in parts(plan)]
    decision = explanation.decision
    assert decision == engine.evaluate(call)
    doing = {rule.rule: rule.effect for rule in explanation.rules if not rule.shadow}
    doing |= {
        item.rule: item.effect for rule in explanation.rules if not rule.shadow for item in rule.items if item.effect
    }
    if decision.effect == "deny" and decision.reasons[0].code != "default_deny":
        assert {pointer for pointer, effect in doing.items() if effect == DENIES} == {r.rule for r in decision.reasons}
    elif decision.effect == "approve":
        assert {pointer for pointer, effect in doing.items() if effect == ASKS} == {r.rule for r in decision.reasons}
    assert json.dumps(explanation.rules)
