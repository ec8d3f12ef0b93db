"""Pairs of policies whose difference is known: the relation, and calls that show it."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_policy import Policy, PolicyEngine
from mcp_policy.comparison import Comparison, Relation, compare
from mcp_policy.comparison.witness import rank

EQUAL, STRICTER, LOOSER, BOTH, UNKNOWN = Relation


def policy(tree: dict[str, Any]) -> Policy:
    return Policy.model_validate({"version": "1", **tree})


def pay(**rule: Any) -> dict[str, Any]:
    return {"tools": {"pay": rule}}


def need(path: str, op: str, value: Any) -> dict[str, Any]:
    return pay(require=[{"path": path, "op": op, "value": value}])


def limit(most: float, window: Any, **more: Any) -> dict[str, Any]:
    return pay(limits=[{"max": most, "window": window, **more}])


LTE_100 = need("args.amount", "lte", 100)

CASES = {
    # numbers
    "a higher bound": (LTE_100, need("args.amount", "lte", 200), LOOSER),
    "a lower bound": (LTE_100, need("args.amount", "lte", 50), STRICTER),
    "lt and lte": (need("args.n", "lt", 5), need("args.n", "lte", 5), LOOSER),
    "between floats": (need("args.n", "lt", 0.1), need("args.n", "lt", 0.10000000000000002), LOOSER),
    "big integers": (need("args.n", "lte", 2**53), need("args.n", "lte", 2**53 + 1), LOOSER),
    "turned round": (LTE_100, pay(deny_if=[{"path": "args.amount", "op": "gt", "value": 100}]), LOOSER),
    "turned round, and required": (
        LTE_100,
        pay(
            require=[{"path": "args.amount", "op": "exists", "value": True}],
            deny_if=[{"path": "args.amount", "op": "gt", "value": 100}],
        ),
        EQUAL,
    ),
    "one and 1.0": (need("args.n", "eq", 1), need("args.n", "eq", 1.0), EQUAL),
    "true is not 1": (need("args.n", "eq", 1), need("args.n", "in", [1, True]), LOOSER),
    # texts
    "one more member": (need("args.s", "in", ["a"]), need("args.s", "in", ["a", "b"]), LOOSER),
    "order of members": (need("args.s", "in", ["a", "b"]), need("args.s", "in", ["b", "a"]), EQUAL),
    "a prefix as a pattern": (need("args.s", "starts_with", "ab"), need("args.s", "glob", "ab*"), EQUAL),
    "a prefix as a regex": (
        need("args.s", "starts_with", "ab"),
        need("args.s", "regex", "^ab"),
        STRICTER,
    ),  # not of odd texts
    "another regex, the same": (
        need("args.s", "regex", "^[a-c]+$"),
        need("args.s", "regex", r"^(?:a|b|c){1,}$"),
        EQUAL,
    ),
    "another regex": (need("args.s", "regex", "^[a-c]+$"), need("args.s", "regex", "^[a-c]*$"), LOOSER),
    "a regex without its end": (need("args.s", "regex", "^a$"), need("args.s", "regex", "^a"), LOOSER),
    "case": (need("args.s", "regex", "^drop$"), need("args.s", "regex", "(?i)^drop$"), LOOSER),
    "two texts and a regex": (need("args.s", "in", ["ab", "ac"]), need("args.s", "regex", "^a[bc]$"), EQUAL),
    "a longer text": (need("args.s", "length_lte", 10_000), need("args.s", "length_lte", 10_001), LOOSER),
    "directories": (need("args.p", "within", "/srv/a"), need("args.p", "within", ["/srv/a", "/srv/b"]), LOOSER),
    "a directory and its parent": (
        need("args.p", "within", ["/srv", "/srv/a"]),
        need("args.p", "within", "/srv"),
        EQUAL,
    ),
    "hosts": (need("args.u", "host_in", ["a.example"]), need("args.u", "host_in", ["*.a.example"]), BOTH),
    # lists and objects
    "every element": (need("args.ids[*]", "in", ["a"]), need("args.ids[*]", "in", ["a", "b"]), LOOSER),
    "a list's length": (need("args.ids", "length_lte", 2), need("args.ids", "length_lte", 3), LOOSER),
    "a member": (need("args.o.k", "eq", 1), need("args.o.k", "in", [1, 2]), LOOSER),
    "further keys": (need("args", "keys_in", ["a"]), need("args", "keys_in", ["a", "b"]), LOOSER),
    "keys by keys": (
        pay(require=[{"path": "args", "op": "keys_in", "value": ["a"]}]),
        pay(
            require=[
                {"path": "args", "op": "keys_in", "value": ["a"]},
                {"path": "args.b", "op": "exists", "value": False},
            ]
        ),
        EQUAL,
    ),
    # clauses
    "a clause taken apart": (
        pay(
            require=[
                {"conditions": [{"path": "args.a", "op": "eq", "value": 1}, {"path": "args.b", "op": "eq", "value": 2}]}
            ]
        ),
        pay(require=[{"path": "args.a", "op": "eq", "value": 1}, {"path": "args.b", "op": "eq", "value": 2}]),
        EQUAL,
    ),
    "order in a clause that denies": (
        pay(
            deny_if=[
                {"conditions": [{"path": "args.a", "op": "lt", "value": 1}, {"path": "args.b", "op": "lt", "value": 2}]}
            ]
        ),
        pay(
            deny_if=[
                {"conditions": [{"path": "args.b", "op": "lt", "value": 2}, {"path": "args.a", "op": "lt", "value": 1}]}
            ]
        ),
        BOTH,  # a wrong type is met, or not, by what stands before it
    ),
    "value_from": (
        pay(require=[{"path": "args.a", "op": "lte", "value_from": "args.b"}]),
        pay(require=[{"path": "args.a", "op": "lt", "value_from": "args.b"}]),
        STRICTER,
    ),
    "value_from, the same": (
        pay(require=[{"path": "args.owner", "op": "eq", "value_from": "principal.id"}]),
        pay(require=[{"conditions": [{"path": "args.owner", "op": "eq", "value_from": "principal.id"}]}]),
        EQUAL,
    ),
    # listing
    "one more tool": ({"tools": {"a": {}}}, {"tools": {"a": {}, "b": {}}}, LOOSER),
    "a default": ({"tools": {"a": {}}}, {"default": "allow", "tools": {"a": {}}}, LOOSER),
    "except": ({"tools": {"get_*": {}}}, {"tools": {"get_*": {"except": ["get_secret"]}}}, STRICTER),
    "patterns that say the same": ({"tools": {"a*": {}}}, {"tools": {"a": {}, "a?*": {}}}, EQUAL),
    "an entry that another denies": (
        {"tools": {"*": {"action": "deny"}}},
        {"tools": {"*": {"action": "deny"}, "get": {}}},
        EQUAL,
    ),
    "hidden instead of denied": (pay(action="deny"), {"hide": ["pay"]}, EQUAL),
    "a category": ({"categories": {"read": {}}}, {"categories": {"read": {}, "write": {}}}, LOOSER),
    "a category by name": (
        {"categories": {"read": {}}},
        {"tools": {"*": {"require": [{"path": "tool.category", "op": "eq", "value": "read"}]}}},
        EQUAL,
    ),
    "one server": ({"tools": {"a": {}}}, {"tools": {"a": {}}, "servers": {"x": {"tools": {"b": {}}}}}, LOOSER),
    "a server that stands alone": (
        {"tools": {"a": {}}},
        {"tools": {"a": {}}, "servers": {"x": {"default": "deny"}}},
        STRICTER,
    ),
    "shadow": (pay(action="deny"), {**pay(action="deny"), "mode": "shadow"}, LOOSER),
    "a rule in shadow": (pay(action="deny"), {"tools": {"pay": [{}, {"action": "deny", "mode": "shadow"}]}}, LOOSER),
    # limits
    "a limit raised a hundred times": (limit(10, 60), limit(1_000, 60), LOOSER),
    "a limit raised from a million": (limit(1_000_000, "day"), limit(2_000_000, "day"), LOOSER),
    "a longer window": (limit(10, 60), limit(10, 61), STRICTER),
    "a second and a minute": (limit(1, "second"), limit(60, "minute"), LOOSER),
    "a minute and an hour": (limit(10, "minute"), limit(100, "hour"), BOTH),
    "a limit and the same twice": (
        limit(10, 60),
        pay(rate_limit="10/minute", limits=[{"max": 20, "window": 60}]),
        EQUAL,
    ),
    "per principal": (limit(5, 60), limit(5, 60, per="principal"), BOTH),
    "per session and tool": (limit(5, 60), limit(5, 60, per=["session", "tool"]), UNKNOWN),
    "cost": (limit(10, 60), limit(10, 60, cost=2), STRICTER),
    "cost and max": (limit(10, 60), limit(20, 60, cost=2), EQUAL),
    "a cost that the call says": (limit(10, 60, cost="args.n"), limit(20, 60, cost="args.n"), LOOSER),
    "no limit": (limit(10, 60), pay(), LOOSER),
    "a limit of none": (pay(action="deny"), limit(0, 60), EQUAL),
    "on_unavailable": (limit(10, 60), limit(10, 60, on_unavailable="allow"), LOOSER),
    "refunds": (limit(10, 60), limit(10, 60, refund_on_error=True), LOOSER),
    "a shared count": (
        {"all_tools": {"rate_limit": "10/minute"}, "tools": {"a": {}, "b": {}}},
        {"tools": {"a": {"rate_limit": "10/minute"}, "b": {"rate_limit": "10/minute"}}},
        LOOSER,
    ),
    # approvals
    "an approval less": (pay(action="approve"), pay(), LOOSER),
    "an approval instead of a denial": (pay(action="deny"), pay(action="approve"), LOOSER),
    "an approval that lasts": (pay(action="approve"), pay(action="approve", approval={"ttl": 3_600}), LOOSER),
    "approval of some": (
        pay(action="approve"),
        pay(approve_if=[{"path": "args.n", "op": "gt", "value": 5}]),
        BOTH,
    ),
    # what stays open
    "a class that is not read": (need("args.s", "regex", r"^\pL$"), need("args.s", "regex", r"^\p{L}$"), UNKNOWN),
}


def confirmed(found: Comparison, old: Policy, new: Policy) -> int:
    """Play every witness of a single call on engines of its own."""
    count = 0
    for tool in found.tools:
        for looser, witness in ((True, tool.looser), (False, tool.stricter)):
            if witness is None:
                continue
            count += 1
            assert (rank(witness.new) > rank(witness.old)) is looser
            if len(witness.steps) == 1 and not witness.while_:
                one, other = (PolicyEngine(side).evaluate(witness.steps[0].call) for side in (old, new))
                assert (one.effect, other.effect) == (witness.old.effect, witness.new.effect)
                assert (rank(other) > rank(one)) is looser
    return count


@pytest.mark.parametrize("name", CASES)
def test_the_relation(name: str) -> None:
    old, new, relation = CASES[name]
    assert compare(policy(old), policy(new)).relation is relation


MIRRORED = {EQUAL: EQUAL, LOOSER: STRICTER, STRICTER: LOOSER, BOTH: BOTH, UNKNOWN: UNKNOWN}


@pytest.mark.parametrize("name", CASES)
def test_the_other_way_round(name: str) -> None:
    old, new, relation = CASES[name]
    assert compare(policy(new), policy(old)).relation is MIRRORED[relation]


def test_every_claim_is_confirmed_by_both_engines() -> None:
    for old, new, relation in CASES.values():
        one, other = policy(old), policy(new)
        count = confirmed(compare(one, other), one, other)
        assert (count > 0) is (relation in (LOOSER, STRICTER, BOTH))


def test_a_policy_is_equal_to_itself() -> None:
    for tree, *_ in CASES.values():
        assert compare(policy(tree), policy({**tree, "name": "another name"})).relation is EQUAL


def test_what_is_hidden_now_is_noted() -> None:
    found = compare(policy(pay(action="deny")), policy({"hide": ["pay"]}))
    assert [tool.notes for tool in found.tools] == [("hidden now; it was denied before",)]


def test_a_witness_of_a_limit_counts() -> None:
    (tool,) = compare(policy(limit(10, 60)), policy(limit(1_000, 60))).tools
    assert tool.looser is not None
    assert sum(step.times for step in tool.looser.steps) == 11


def test_a_thousand_tools() -> None:
    def many(bound: int) -> dict[str, Any]:
        return {
            "tools": {f"t{n}": need("args.n", "lte", n if n % 10 else n + bound)["tools"]["pay"] for n in range(1_000)}
        }

    found = compare(policy(many(0)), policy(many(1)))
    assert (found.relation, len(found.tools), found.compared) == (LOOSER, 100, 1_001)
