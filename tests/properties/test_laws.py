"""Laws that every policy keeps, whatever it says."""

from __future__ import annotations

import asyncio
import copy
import json
import random
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_policy import Policy, PolicyEngine, Principal, ToolCall
from mcp_policy.approvals.store import ApprovalError

from .differential import START, Catalogue, Pair, tool_call, verdict
from .generate import Maker, Tree

SEEDS = range(5_000, 5_080)
RANK = {"allow": 0, "approve": 1, "limit": 2, "deny": 3}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def made(seed: int, calls: int = 6) -> tuple[Tree, list[ToolCall]]:
    maker = Maker(seed)
    return maker.policy(), [tool_call(maker.call()) for _ in range(calls)]


def engine(policy: Tree, at: float = START) -> PolicyEngine:
    return PolicyEngine(Policy.parse(json.dumps(policy)), clock=lambda: at, catalogue=Catalogue())


def effects(policy: Tree, calls: list[ToolCall]) -> list[str]:
    """What a new engine answers to calls in a row."""
    decider = engine(policy)
    return [str(decider.authorize(call).effect) for call in calls]


def enforced(policy: Tree) -> Tree:
    return {key: value for key, value in policy.items() if key != "mode"}


@pytest.mark.parametrize("seed", SEEDS)
def test_another_deny_never_allows_more(seed: int) -> None:
    policy, calls = made(seed)
    policy = enforced(policy)
    deny: Tree = Maker(seed).pick(
        ({"action": "deny"}, {"deny_if": [{"conditions": []}]}, {"deny_if": [Maker(seed).condition()]})
    )
    stricter = copy.deepcopy(policy)
    for key in (*stricter.get("tools", {}), "get_a"):
        rules = stricter.setdefault("tools", {}).get(key, {"mode": "shadow", "action": "deny"})
        stricter["tools"][key] = [*(rules if isinstance(rules, list) else [rules]), deny]
    loose, tight = engine(policy), engine(stricter)
    for call in calls:
        before, after = loose.evaluate(call), tight.evaluate(call)
        # a deny rule lists its tool, so what was denied by default may now be asked or limited; it is never allowed
        assert before.allowed or not after.allowed or _listed_only(before)


def _listed_only(decision: Any) -> bool:
    """Whether nothing but the missing listing denied the call: a rule that applies lists its tool."""
    return {str(reason.code) for reason in decision.reasons} == {"default_deny"}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_plain_deny_denies_what_it_matches(seed: int) -> None:
    policy, calls = made(seed)
    policy = enforced(policy)
    policy["tools"] = {**policy.get("tools", {}), "*": {"action": "deny"}}
    decider = engine(policy)
    assert {str(decider.evaluate(call).effect) for call in calls} == {"deny"}


def shuffled(tree: Any, order: random.Random) -> Any:
    """The same entries in another order."""
    if isinstance(tree, dict):
        keys = list(tree)
        order.shuffle(keys)
        return {
            key: shuffled(tree[key], order) if key in ("servers", "near", "alone", "tools", "categories") else tree[key]
            for key in keys
        }
    return order.sample(tree, len(tree)) if isinstance(tree, list) else tree


@pytest.mark.parametrize("seed", SEEDS)
def test_the_order_of_entries_never_changes_the_effect(seed: int) -> None:
    policy, calls = made(seed)
    other = shuffled(policy, random.Random(seed))
    for rules in other.get("tools", {}).values():
        if isinstance(rules, list):
            rules.reverse()
    assert effects(policy, calls + calls) == effects(other, calls + calls)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_duplication_of_entries_never_changes_the_effect(seed: int) -> None:
    policy, calls = made(seed)
    twice = copy.deepcopy(policy)
    for section in (twice, *twice.get("servers", {}).values()):
        for key, rules in section.get("tools", {}).items():
            section["tools"][key] = rules * 2 if isinstance(rules, list) else [rules, rules]
        section["hide"] = section.get("hide", []) * 2
    assert effects(policy, calls + calls) == effects(twice, calls + calls)


DEFAULTS = {default: engine({"version": "1", "default": default}) for default in ("deny", "allow")}


@given(JSON)
def test_no_rule_means_the_default(value: Any) -> None:
    call = ToolCall("anything", {"v": value}, server="s", session="t")
    for default, effect in (("deny", "deny"), ("allow", "allow")):
        decision = DEFAULTS[default].authorize(call)
        assert (str(decision.effect), str(decision.reasons[0].code)) == (effect, f"default_{default}")
    assert not PolicyEngine(None).authorize(call).allowed
    assert [str(reason.code) for reason in PolicyEngine(None).authorize(call).reasons] == ["no_policy"]


@pytest.mark.parametrize("seed", SEEDS)
def test_what_nothing_lists_is_denied_whatever_else_is_said(seed: int) -> None:
    maker = Maker(seed)
    policy: Tree = enforced(
        {"version": "1", **maker.section(), "default": "deny", "servers": {"near": maker.section()}}
    )
    for section in (policy, policy["servers"]["near"]):
        section["tools"] = {"get_a": maker.rule(), "put_*": [maker.rule(), {}]}
    decider = engine(policy)
    for tool in ("unlisted", "get_ab", "get", "put", "GET_A", "get_a "):
        for server in (None, "near", "far"):
            decision = decider.authorize(ToolCall(tool, maker.arguments(), server=server))
            assert str(decision.effect) == "deny"
            assert {str(reason.code) for reason in decision.reasons} <= {"default_deny", "hidden", "invalid_call"}


@pytest.mark.parametrize("seed", SEEDS)
def test_evaluate_never_changes_what_follows(seed: int) -> None:
    maker = Maker(seed)
    policy = maker.policy()
    steps = maker.steps(8)
    quiet, asked = Pair(policy), Pair(policy)
    for step in steps:
        asked.now = START + step["at"]
        for other in steps:
            asked.engine.evaluate(tool_call(other["call"]))
        ours, theirs = quiet.play(step)[0], asked.play(step)[0]
        assert ours == theirs


@pytest.mark.parametrize("seed", SEEDS)
def test_evaluate_says_what_authorize_would(seed: int) -> None:
    policy, calls = made(seed)
    decider = engine(policy)
    for call in calls + calls:
        foreseen = verdict(decider.evaluate(call))
        assert verdict(decider.authorize(call)) == foreseen


def window_is_kept(events: list[tuple[float, Fraction]], window: float, most: Fraction) -> bool:
    """Whether no interval (t - window, t] holds more than `most`."""
    ends = [at for at, _ in events]
    return all(sum(cost for at, cost in events if end - window < at <= end) <= most for end in ends)


@pytest.mark.parametrize("seed", range(16))
def test_no_interval_admits_more_than_max(seed: int) -> None:
    order = random.Random(seed)
    window, most = order.choice([1.0, 10.0, 60.0]), order.choice([1, 3, 7.5, 300])
    now = [START]
    rule = {"limits": [{"max": most, "window": window, "cost": "args.n", "per": "global"}]}
    decider = PolicyEngine(Policy.parse(json.dumps({"version": "1", "tools": {"t": rule}})), clock=lambda: now[0])
    admitted: list[tuple[float, Fraction]] = []
    mark = START
    for _ in range(1_500):
        now[0] += window * order.choice([0, 0, 1e-4, 0.003, 0.1, 0.5, 1.0]) * (-1 if order.random() < 0.1 else 1)
        mark = max(mark, now[0])
        cost = order.choice([0.1, 0.5, 1, Decimal("0.3"), 2.25])
        if decider.authorize(ToolCall("t", {"n": cost})).allowed:
            admitted.append((mark, Fraction(str(cost))))
    assert len(admitted) > 5
    assert window_is_kept(admitted, window, Fraction(str(most)))


@pytest.mark.parametrize("seed", range(20))
def test_a_clock_that_goes_back_frees_nothing(seed: int) -> None:
    order = random.Random(seed)
    now = [START]
    policy = {"version": "1", "tools": {"*": {"limits": [{"max": 3, "window": 60}]}}}
    decider = PolicyEngine(Policy.parse(json.dumps(policy)), clock=lambda: now[0])
    assert all(decider.authorize(ToolCall("t")).allowed for _ in range(3))
    for _ in range(50):
        now[0] = START - order.choice([0, 1, 59, 60, 61, 1e6]) + order.choice([0, 59.5])
        assert not decider.authorize(ToolCall("t")).allowed
    now[0] = START + 60
    assert decider.authorize(ToolCall("t")).allowed


@pytest.mark.parametrize("seed", SEEDS)
def test_calls_that_are_not_allowed_take_nothing(seed: int) -> None:
    """An engine that never saw them answers the others alike."""
    policy, calls = made(seed, 12)
    decider = engine(enforced(policy))
    answers = [(call, decider.authorize(call)) for call in calls + calls]
    blind = engine(enforced(policy))
    for call, answer in answers:
        if answer.allowed and str(answer.reasons[0].code) != "approved":
            assert blind.authorize(call).allowed


def shadowed(policy: Tree) -> Tree:
    return {**policy, "mode": "shadow"}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_document_in_shadow_never_blocks_a_call_that_is_one(seed: int) -> None:
    policy, calls = made(seed)
    decider, strict = engine(shadowed(policy)), engine(enforced(policy))
    for call in calls:
        decision, foreseen = decider.authorize(call), strict.evaluate(call)
        if decision.allowed:
            assert decision.would_be is not None
        else:
            assert {str(reason.code) for reason in decision.reasons} == {"invalid_call"}
            assert str(decision.effect) == str(foreseen.effect) == "deny"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_rule_in_shadow_never_blocks(seed: int) -> None:
    policy, calls = made(seed)
    policy = enforced(policy)
    loud = copy.deepcopy(policy)
    rules = loud.setdefault("tools", {}).get("*", [])
    loud["tools"]["*"] = [
        *(rules if isinstance(rules, list) else [rules]),
        {**Maker(seed).rule(), "mode": "shadow", "action": "deny"},
    ]
    plain, noisy = engine(policy), engine(loud)
    for call in calls + calls:
        assert str(plain.authorize(call).effect) == str(noisy.authorize(call).effect)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_reload_keeps_counting(seed: int) -> None:
    policy, calls = made(seed)
    policy = enforced(policy)
    one, other = engine(policy), engine(policy)
    for call in calls + calls:
        answer = one.authorize(call)
        if "approval" in str(answer.reasons[0].code) or str(answer.reasons[0].code) == "approved":
            continue
        assert str(other.authorize(call).effect) == str(answer.effect)
        # what people read is no part of what a limit is known by
        other.reload(Policy.parse(json.dumps({**policy, "name": "renamed", "description": "again"})))


def test_a_reload_with_another_max_or_another_place_keeps_counting() -> None:
    def document(most: int, *before: Tree) -> Policy:
        return Policy.parse(
            json.dumps({"version": "1", "tools": {"t": [*before, {"limits": [{"max": most, "window": 60}]}]}})
        )

    decider = PolicyEngine(document(2), clock=lambda: START)
    assert [decider.authorize(ToolCall("t")).allowed for _ in range(3)] == [True, True, False]
    decider.reload(document(3, {}, {"deny_if": []}))
    assert [decider.authorize(ToolCall("t")).allowed for _ in range(2)] == [True, False]
    decider.reload(document(1))
    assert not decider.authorize(ToolCall("t")).allowed


def test_a_reload_that_fails_keeps_the_old_policy() -> None:
    decider = engine({"version": "1", "tools": {"t": {}}})
    with pytest.raises(ValueError, match="version"):
        decider.reload(Policy.parse('{"version": "2"}'))
    assert decider.authorize(ToolCall("t")).allowed


WIRE = {
    "version": "1",
    "default": "allow",
    "tools": {
        "t": {
            "deny_if": [
                {"path": "args.v", "op": "eq", "value": 1},
                {"path": "args.v.a", "op": "contains", "value": "a"},
            ],
            "require": [
                {"path": "args.v", "op": "length_lte", "value": 2},
                {"path": "args.w", "op": "eq", "value_from": "args.v"},
            ],
            "approve_if": [{"path": "args.v[*]", "op": "gt", "value": 0}],
        }
    },
}


@given(JSON, JSON)
def test_the_wire_changes_nothing(one: Any, other: Any) -> None:
    arguments = {"v": one, "w": other}
    sent = json.loads(json.dumps(arguments))
    decider = engine(WIRE)
    first, second = (decider.evaluate(ToolCall("t", each)) for each in (arguments, sent))
    assert verdict(first) == verdict(second)


@pytest.mark.parametrize("seed", SEEDS)
def test_asynchronous_answers_are_the_same(seed: int) -> None:
    policy, calls = made(seed, 4)
    one, other = engine(policy), engine(policy)

    async def answers() -> list[Any]:
        return [verdict(await other.authorize_async(call)) for call in calls + calls]

    assert [verdict(one.authorize(call)) for call in calls + calls] == asyncio.run(answers())


@pytest.mark.parametrize("seed", SEEDS)
def test_every_reason_points_into_the_document(seed: int) -> None:
    policy, calls = made(seed)
    decider = engine(policy)
    for call in calls:
        for reason in decider.authorize(call).reasons:
            found: Any = policy
            for token in reason.rule.split("/")[1:]:
                key = token.replace("~1", "/").replace("~0", "~")
                found = found[int(key)] if isinstance(found, list) else found[key]


def test_pending_approvals_are_bounded_for_each_caller() -> None:
    decider = engine({"version": "1", "tools": {"t": {"action": "approve"}}})

    def ask(n: int, who: str) -> str:
        return str(decider.authorize(ToolCall("t", {"n": n}, principal=Principal(who))).reasons[0].code)

    assert {ask(n, "p") for n in range(100)} == {"approval_required"}
    assert ask(100, "p") == "state_unavailable"
    assert ask(5, "p") == "approval_required"
    assert ask(100, "q") == "approval_required"


def test_asking_again_returns_the_same_approval_and_deciding_twice_raises() -> None:
    decider = engine({"version": "1", "tools": {"t": {"action": "approve"}}})
    first, second = (decider.authorize(ToolCall("t", {"n": n})).approval for n in (1, 1.0))
    assert first is not None
    assert second is not None
    assert (first.id, first.digest) == (second.id, second.digest)
    assert first.id != first.digest
    assert decider.authorize(ToolCall("t", {"n": 2})).approval != first
    decider.approve(first.id, by="reviewer")
    for decide in (decider.approve, decider.reject):
        with pytest.raises(ApprovalError, match="approval"):
            decide(first.id, by="reviewer")
        with pytest.raises(ApprovalError, match="approval"):
            decide("no such id", by="reviewer")


def test_nobody_approves_their_own_call() -> None:
    policy = Policy.parse(json.dumps({"version": "1", "tools": {"t": {"action": "approve"}}}))
    decider = PolicyEngine(policy, clock=lambda: START)
    call = ToolCall("t", principal=Principal("p", issuer="i"))
    asked = decider.authorize(call).approval
    assert asked is not None
    for own in ("p", Principal("p", issuer="i")):
        with pytest.raises(ApprovalError, match="own"):
            decider.approve(asked.id, by=own)
    assert not decider.authorize(call).allowed
    decider.approve(asked.id, by="somebody else")
    assert decider.authorize(call).allowed
