from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from itertools import combinations, permutations

import pytest

from mcp_policy import Decision, Policy, PolicyEngine, ToolCall
from mcp_policy.catalogue.merging import merge
from properties.differential import tool_call
from properties.generate import Maker, Tree, category_of

SEEDS = range(220)


class Known:
    """A catalogue that knows every tool, or only those of some servers."""

    def __init__(self, everywhere: bool) -> None:
        self.everywhere = everywhere

    def category(self, server: str | None, tool: str) -> str | None:
        return category_of("near" if self.everywhere else server, tool)


def policy(**tree: object) -> Policy:
    return Policy.model_validate({"version": "1", **tree})


def tree_of(*policies: Policy, **how: str) -> Tree:
    tree = merge(policies, **how).document
    del tree["version"]
    return tree


def decide(merged: Policy, tool: str, arguments: Tree | None = None, **about: object) -> str:
    return str(PolicyEngine(merged).evaluate(ToolCall(tool, arguments or {}, **about)).effect)


# -- laws, over policies at random


class Drawn:
    """Some policies, calls for them, and an engine each under one clock."""

    def __init__(self, seed: int, *, shadow: bool = True) -> None:
        makers = [Maker(seed * 8 + place) for place in range(2 + seed % 2)]
        self.trees = [maker.policy() for maker in makers]
        for tree in self.trees:
            if not shadow or seed % 4:
                tree.pop("mode", None)
        self.policies = [Policy.model_validate(tree) for tree in self.trees]
        self.steps = [step for maker in makers for step in maker.steps(10)]
        self.calls = [tool_call(step["call"]) for step in self.steps]
        self.known = Known(everywhere=seed % 2 == 0)
        self.now = 0.0

    def engine(self, policy: Policy) -> PolicyEngine:
        return PolicyEngine(policy, clock=lambda: self.now, catalogue=self.known)

    def merged(self, **how: str) -> PolicyEngine | None:
        try:
            return self.engine(merge(self.policies, **how))
        except ValueError as error:
            if "cannot be said in one document: `/" not in str(error):
                raise
            return None

    def opened(self) -> list[PolicyEngine]:
        """What each policy says of a call besides that it is not listed."""
        return [self.engine(Policy.model_validate(without_default(tree))) for tree in self.trees]

    @property
    def shares(self) -> bool:
        """Whether two of them name the same counter, which then counts for both."""
        named = [set(counters(tree)) for tree in self.trees]
        return any(one & other for one, other in combinations(named, 2))


def without_default(tree: Tree) -> Tree:
    servers = (
        {name: own | ({"default": "allow"} if "default" in own else {}) for name, own in tree["servers"].items()}
        if "servers" in tree
        else {}
    )
    return tree | {"default": "allow"} | ({"servers": servers} if servers else {})


def counters(tree: object) -> Iterator[str]:
    if isinstance(tree, dict):
        if isinstance(tree.get("counter"), str):
            yield tree["counter"]
        for value in tree.values():
            yield from counters(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from counters(value)


def passes(decision: Decision) -> bool:
    return decision.allowed and decision.would_be in (None, "allow")


def is_listed(decision: Decision) -> bool:
    return any(str(reason.code) == "allowed" for reason in decision.reasons)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    log = logging.getLogger("mcp_policy")
    level = log.level
    log.setLevel(logging.CRITICAL)  # an internal error shows as a decision
    yield
    log.setLevel(level)


def test_the_merged_policy_allows_what_all_allow_and_nothing_else() -> None:
    met: Counter[str] = Counter()
    for seed in SEEDS:
        drawn = Drawn(seed, shadow=False)
        merged = drawn.merged()
        met["merged" if merged else "refused"] += 1
        if merged is None:
            continue
        engines = [drawn.engine(policy) for policy in drawn.policies]
        for call in drawn.calls:
            allowed, wanted = merged.evaluate(call).allowed, all(engine.evaluate(call).allowed for engine in engines)
            met["allowed"] += allowed
            assert wanted or not allowed, (seed, call)
            assert allowed or not wanted or drawn.shares, (seed, call)
    assert met["merged"] > 2 * met["refused"]
    assert met["allowed"] > 300


def test_with_any_listing_all_restrictions_of_all_hold_and_no_others() -> None:
    met: Counter[str] = Counter()
    for seed in SEEDS:
        drawn = Drawn(seed, shadow=False)
        merged = drawn.merged(listing="any")
        met["merged" if merged else "refused"] += 1
        if merged is None:
            continue
        engines, opened = [drawn.engine(policy) for policy in drawn.policies], drawn.opened()
        for call in drawn.calls:
            allowed = merged.evaluate(call).allowed
            said = [engine.evaluate(call) for engine in opened]
            wanted = all(decision.allowed for decision in said) and (
                any(map(is_listed, said)) or all(engine.evaluate(call).allowed for engine in engines)
            )
            met["allowed"] += allowed
            assert wanted or not allowed, (seed, call)
            assert allowed or not wanted or drawn.shares, (seed, call)
    assert met["merged"] > 3 * met["refused"]
    assert met["allowed"] > 300


@pytest.mark.parametrize("listing", ["all", "any"])
def test_over_time_the_merged_policy_lets_no_more_through_than_each(listing: str) -> None:
    met: Counter[str] = Counter()
    for seed in SEEDS:
        drawn = Drawn(seed, shadow=False)
        merged = drawn.merged(listing=listing)
        if merged is None:
            continue
        engines = [drawn.engine(policy) for policy in drawn.policies] if listing == "all" else drawn.opened()
        for step, call in zip(drawn.steps, drawn.calls, strict=True):
            drawn.now = max(drawn.now, step["at"])
            effect = run(merged, call)
            met[effect] += 1
            if effect == "allow":  # each is told only of the calls that ran
                assert [run(engine, call) for engine in engines] == ["allow"] * len(engines), (seed, call)
    assert met["limit"] > 100
    assert met["allow"] > 300


def run(engine: PolicyEngine, call: ToolCall) -> str:
    """What is decided on a call once a person has approved it, where one is asked."""
    decision = engine.authorize(call)
    if decision.approval is not None and decision.approval.status == "pending":
        engine.approve(decision.approval.id, by="reviewer")
        decision = engine.authorize(call)
    return str(decision.effect)


def test_in_shadow_the_merged_policy_would_allow_what_all_would_allow() -> None:
    allowed = 0
    for seed in SEEDS:
        drawn = Drawn(seed)
        drawn.policies = [Policy.model_validate(tree | {"mode": "shadow"}) for tree in drawn.trees]
        merged = drawn.merged()
        if merged is None or drawn.shares:
            continue
        engines = [drawn.engine(policy) for policy in drawn.policies]
        for call in drawn.calls:
            wanted = all(passes(engine.evaluate(call)) for engine in engines)
            assert passes(merged.evaluate(call)) == wanted, (seed, call)
            allowed += wanted
    assert allowed > 100


@pytest.mark.parametrize("listing", ["all", "any"])
def test_the_order_of_the_policies_does_not_change_what_is_decided(listing: str) -> None:
    for seed in SEEDS[:60]:
        drawn = Drawn(seed)
        engines = []
        for order in permutations(drawn.policies):
            drawn.policies = list(order)
            engines.append(drawn.merged(listing=listing))
        known = [engine for engine in engines if engine is not None]
        assert len(known) in (0, len(engines)), seed
        for call in drawn.calls:
            assert len({str(engine.evaluate(call).effect) for engine in known}) <= 1, (seed, call)


@pytest.mark.parametrize("listing", ["all", "any"])
def test_a_policy_merged_with_itself_is_itself(listing: str) -> None:
    for seed in SEEDS[:60]:
        one = Drawn(seed).policies[0]
        assert merge([one], listing=listing) is one
        assert merge([one, Policy.model_validate(one.document), one], listing=listing) is one


# -- listing


def test_only_what_all_list_is_listed() -> None:
    one, other = (
        policy(tools={"a": {}, "b": {"reason": "once", "rate_limit": "1/minute"}}),
        policy(tools={"b": {}, "c": {}}),
    )
    assert tree_of(one, other) == {"tools": {"b": {"reason": "once", "rate_limit": "1/minute"}}}


def test_when_asked_what_one_lists_is_listed() -> None:
    one, other = policy(default="deny", tools={"a": {}}), policy(tools={"b": {"action": "approve"}})
    assert tree_of(one, other, listing="any") == {"default": "deny", "tools": {"a": {}, "b": {"action": "approve"}}}


def test_what_none_lists_is_allowed_only_where_all_allow_it() -> None:
    generous, strict = policy(default="allow", tools={"a": {}}), policy(tools={"b": {}})
    assert tree_of(generous, strict, listing="any")["default"] == "deny"
    assert tree_of(generous, strict) == {"default": "deny", "tools": {"b": {}}}
    assert tree_of(generous, policy(default="allow", hide=["x"])) == {
        "default": "allow",
        "hide": ["x"],
        "tools": {"a": {}},
    }


def test_a_pattern_lists_only_the_names_that_the_other_lists() -> None:
    merged = tree_of(policy(tools={"get_*": {"rate_limit": "1/minute"}}), policy(tools={"get_a": {}, "put": {}}))
    assert merged["tools"] == {
        "get_*": {"when": [{"path": "tool.name", "op": "in", "value": ["get_a"]}], "rate_limit": "1/minute"},
        "get_a": {},
    }


def test_a_name_that_its_own_rule_excepts_is_not_listed() -> None:
    merged = merge([policy(tools={"x": {"except": ["x"]}, "y": {}}), policy(tools={"x": {}, "y": {}})])
    assert [decide(merged, tool) for tool in "xy"] == ["deny", "allow"]


def test_a_condition_under_which_one_lists_becomes_the_others() -> None:
    admins = {"path": "principal.roles", "op": "contains", "value": "admin"}
    merged = tree_of(
        policy(tools={"x": {"when": [admins]}}),
        policy(tools={"x": {"require": [{"path": "args.a", "op": "exists", "value": True}]}}),
    )
    assert [rule["when"] for rule in merged["tools"]["x"]] == [[admins], [admins]]


def test_a_document_of_categories_meets_one_of_servers() -> None:
    by_category = policy(categories={"read": {}, "write": {"action": "approve"}})
    by_name = policy(
        servers={"x": {"tools": {"get_a": {}, "pay": {}}}, "y": {"tools": {"put_a": {}, "nobody_knows": {}}}}
    )
    engine = PolicyEngine(merge([by_category, by_name]), catalogue=Known(everywhere=True))
    effects = {
        (server, tool): str(engine.evaluate(ToolCall(tool, {}, server=server)).effect)
        for server in ("x", "y", "z", None)
        for tool in ("get_a", "put_a", "pay", "nobody_knows")
    }
    assert {call: effect for call, effect in effects.items() if effect != "deny"} == {
        ("x", "get_a"): "allow",
        ("y", "put_a"): "approve",
    }


def test_a_server_that_stands_alone_does_so_afterwards() -> None:
    alone = policy(default="allow", servers={"s": {"default": "deny", "tools": {"a": {}, "b": {}}}})
    merged = merge([alone, policy(tools={"a": {"rate_limit": "1/minute"}, "c": {}})])
    assert [decide(merged, tool, server="s") for tool in "abc"] == ["allow", "deny", "deny"]
    assert [decide(merged, tool) for tool in "abc"] == ["allow", "deny", "allow"]


# -- restrictions


def test_several_rules_of_a_tool_all_hold() -> None:
    small = {"path": "args.n", "op": "lt", "value": 5}
    merged = merge([policy(tools={"x": {"require": [small]}}), policy(tools={"x": {"action": "approve"}})])
    assert merged.document["tools"]["x"] == [{"require": [small]}, {"action": "approve"}]
    assert [decide(merged, "x", {"n": n}) for n in (4, 6)] == ["approve", "deny"]


def test_rules_for_all_tools_become_one_that_says_all_with_its_words() -> None:
    one = policy(
        default="allow",
        all_tools={
            "reason": "slow down",
            "rate_limit": "5/minute",
            "deny_if": [{"path": "args.a", "op": "eq", "value": 1, "on_deny": "not 1"}],
        },
    )
    other = policy(
        default="allow",
        all_tools={
            "action": "approve",
            "reason": "ask",
            "approval": {"ttl": 60},
            "require": [{"path": "args.b", "op": "exists", "value": True}],
        },
    )
    assert tree_of(one, other)["all_tools"] == {
        "require": [{"path": "args.b", "op": "exists", "value": True, "reason": "ask"}],
        "deny_if": [{"path": "args.a", "op": "eq", "value": 1, "on_deny": "not 1"}],
        "approve_if": [{"conditions": [], "reason": "ask"}],
        "limits": [{"max": 5, "window": 60, "reason": "slow down"}],
        "approval": {"ttl": 60},
    }


def test_what_is_denied_under_a_condition_goes_into_one_rule_with_what_always_holds() -> None:
    late = {"path": "context.time.hour", "op": "gte", "value": 22}
    one = policy(
        default="allow", all_tools={"when": [late], "action": "deny", "reason": "closed", "except": ["ping", "get_*"]}
    )
    other = policy(default="allow", all_tools={"rate_limit": "5/minute"})
    merged = merge([one, other])
    at = {"time": {"hour": 23}}
    assert [decide(merged, tool, context=at) for tool in ("x", "ping", "get_a")] == ["deny", "allow", "allow"]
    assert [
        decide(merged, "x", context=context) for context in ({"time": {"hour": 9}}, {}, {"time": {"hour": "x"}})
    ] == ["allow", "allow", "deny"]


def test_names_and_descriptions_are_kept() -> None:
    one, other = policy(name="one", description="First."), policy(name="other", description="Second.", tools={"a": {}})
    assert tree_of(one, other) == {"name": "one + other", "description": "First.\nSecond."}


# -- limits


def test_a_limit_that_tools_share_stays_shared() -> None:
    shared = policy(tools={"get_*": {"rate_limit": "2/minute"}})
    engine = PolicyEngine(merge([shared, policy(tools={"get_a": {}, "get_b": {}, "get_c": {}})]))
    assert [str(engine.authorize(ToolCall(f"get_{name}", {})).effect) for name in "abc"] == ["allow", "allow", "limit"]


def test_limits_on_the_same_calls_share_their_count_and_each_checks_its_own() -> None:
    one, other = policy(tools={"x": {"rate_limit": "2/minute"}}), policy(tools={"x": {"rate_limit": "3/minute"}})
    assert tree_of(one, other)["tools"] == {"x": [{"rate_limit": "2/minute"}, {"rate_limit": "3/minute"}]}


def test_limits_on_different_calls_do_not_share_their_count() -> None:
    ones = {"path": "args.n", "op": "eq", "value": 1}
    twos = {"path": "args.n", "op": "eq", "value": 2}
    rules = [{"when": [condition], "rate_limit": "2/minute"} for condition in (ones, twos)]
    engine = PolicyEngine(merge([policy(default="allow", tools={"x": rule}) for rule in rules]))
    effects = [str(engine.authorize(ToolCall("x", {"n": n})).effect) for n in (1, 2, 1, 2, 1, 2)]
    assert effects == ["allow"] * 4 + ["limit"] * 2


def test_counters_of_one_name_that_mean_different_things_are_told_apart() -> None:
    limits = [{"max": 1, "window": window, "counter": "c"} for window in (60, "minute", 5)]
    policies = [
        policy(default="allow", tools={"x": {"limits": [limit], "reason": str(place)}})
        for place, limit in enumerate(limits)
    ]
    merged = merge(
        [*policies, policy(default="allow", tools={"y": {"limits": [{"max": 1, "window": 9, "counter": "c (2)"}]}})]
    )
    assert list(counters(merged.document)) == ["c", "c", "c (3)", "c (2)"]


# -- what is refused


WHEN = [{"path": "args.n", "op": "eq", "value": 1}]


@pytest.mark.parametrize(
    ("one", "other", "how", "said"),
    [
        ({"mode": "shadow"}, {}, "any", "`/mode` of policy 1 is `shadow`"),
        ({"name": "team", "mode": "shadow"}, {}, "all", "`/mode` of policy 1 (`team`) is"),
        ({"all_tools": {"when": WHEN, "rate_limit": "1/day"}}, {"all_tools": {"rate_limit": "2/day"}}, "any", "`/all_tools` of policy 1 and policy 2 has `limits` under a `when`"),
        ({"all_tools": {"except": ["a"], "require": WHEN}}, {"all_tools": {"rate_limit": "2/day"}}, "all", "has `require` under a `when`"),
        ({"all_tools": {"mode": "shadow", "action": "deny"}}, {"all_tools": {"rate_limit": "2/day"}}, "any", "has a rule in shadow"),
        ({"categories": {"read": {"when": WHEN, "deny_if": WHEN}}}, {"categories": {"read": {"except": ["a"], "deny_if": WHEN}}}, "any", "`/categories/read` of policy 1 and policy 2 lists under conditions"),
        ({"categories": {"read": {}}, "tools": {"a": {"when": WHEN}}}, {"tools": {"*": {}}}, "all", "`/categories/read` of policy 1 lists tools by category and others by name"),
        ({"tools": {"a": [{"when": WHEN}, {"when": WHEN, "mode": "shadow"}]}}, {"tools": {"*": {}}}, "all", "`/tools/a` of policy 1 lists tools by the `when` of a shadow rule"),
        ({"categories": {"read": {}}}, {"tools": {"a": {"when": WHEN}, "b": {}}}, "all", "`/categories/read` of policy 1 would have to stand 2 times"),
    ],
)  # fmt: skip
def test_what_one_document_cannot_say_is_refused_with_its_place(one: Tree, other: Tree, how: str, said: str) -> None:
    with pytest.raises(ValueError, match="cannot be said in one document") as refused:
        merge([policy(**one), policy(**other)], listing=how)
    assert said in str(refused.value)


def test_a_rule_is_not_copied_without_bound() -> None:
    many = policy(tools={"x": [{"when": [{"path": "args.n", "op": "eq", "value": n}]} for n in range(65)]})
    with pytest.raises(ValueError, match=r"`/tools/x` of policy 2 would have to stand 65 times"):
        merge([many, policy(tools={"x": {}})])


def test_what_is_no_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to merge"):
        merge([])
    with pytest.raises(TypeError, match="`merge` takes policies, not dict"):
        merge([{"version": "1"}])
    with pytest.raises(ValueError, match="`listing` is `all` or `any`, not `some`"):
        merge([policy()], listing="some")
