"""Trying a call: always the run-time's own answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mcp_policy import Policy, PolicyEngine, PolicyError, ToolCall
from mcp_policy.catalogue import ToolCatalogue
from mcp_policy.explorer.stack import Listed, of_catalogue, of_listings
from mcp_policy.explorer.trying import TryError, tried
from properties.generate import Maker

STRIPE = of_catalogue(ToolCatalogue.bundled(), "stripe")
REFUND = STRIPE.tools["stripe/create_refund"]


def policy(**tools: Any) -> str:
    return json.dumps({"version": "1", "tools": tools}, indent=2)


def test_a_call_is_decided_with_every_rule_that_had_a_part():
    text = policy(create_refund={"require": [{"path": "args.amount", "op": "lte", "value": 100}]})
    found = tried(text, {"arguments": '{"amount": 150}'}, REFUND)
    assert found.decision.effect == "deny"
    assert found.nodes[0].text == "/tools/create_refund"
    assert "found 150" in str(found.nodes)
    assert tried(text, {"arguments": '{"amount": 100}'}, REFUND).decision.allowed


def test_several_calls_take_from_the_limit_as_time_passes():
    text = policy(create_refund={"rate_limit": "3/minute"})
    found = tried(text, {"times": "10", "session": "s"}, REFUND)
    assert (found.decision.effect, found.counted) == ("limit", {"allow": 3, "limit": 7})
    assert found.decision.retry_after == 60
    assert "0 of 3 left" in str(found.nodes)
    assert tried(text, {"times": "10", "seconds": "20"}, REFUND).counted == {"allow": 10}


def test_a_call_that_waits_says_what_comes_of_it():
    found = tried(policy(create_refund={"action": "approve"}), {}, REFUND)
    assert found.decision.effect == "approve"
    assert found.approved is not None
    assert found.approved.allowed
    text = policy(create_refund={"action": "approve", "rate_limit": {"max": 0, "window": 60}})
    assert tried(text, {}, REFUND).approved is None


def test_who_agrees_to_a_call_is_somebody_else_than_who_makes_it_whatever_their_name():
    found = tried(policy(create_refund={"action": "approve"}), {"principal": "a person"}, REFUND)
    assert found.approved is not None
    assert found.approved.allowed


@pytest.mark.parametrize("ttl", [0.0000001, 5e-324], ids=str)
def test_an_approval_that_is_over_before_the_clock_can_tell_is_no_approval(ttl):
    text = policy(create_refund={"action": "approve", "approval": {"ttl": ttl}})
    found = tried(text, {"times": "3", "seconds": "1000000000"}, REFUND)
    assert (found.decision.effect, found.approved) == ("approve", None)


def test_a_call_repeated_while_it_waits_is_one_that_waits():
    found = tried(policy(create_refund={"action": "approve"}), {"times": "1000", "seconds": "1000"}, REFUND)
    assert found.counted == {"approve": 1_000}
    assert found.approved is not None


def test_who_calls_is_taken_from_the_form():
    text = policy(create_refund={"require": [{"path": "principal.roles", "op": "contains", "value": "admin"}]})
    assert not tried(text, {}, REFUND).decision.allowed
    assert tried(text, {"principal": "ann", "roles": "reader, admin"}, REFUND).decision.allowed
    text = policy(create_refund={"require": [{"path": "context.time.hour", "op": "lt", "value": 18}]})
    assert tried(text, {"context": '{"time": {"hour": 9}}'}, REFUND).decision.allowed


def test_the_category_is_what_a_guard_would_find():
    text = json.dumps({"version": "1", "categories": {"financial": {"action": "deny"}, "destructive": {}}})
    assert not tried(text, {}, REFUND).decision.allowed
    listed = {"name": "delete_page", "description": "Delete a page.", "inputSchema": {"type": "object"}}
    stack = of_listings("x", [Listed("wiki", "", (listed,), "")])
    assert tried(text, {}, stack.tools["wiki/delete_page"]).decision.allowed


@pytest.mark.parametrize(
    ("form", "field", "says"),
    [
        ({"arguments": "["}, "arguments", "column 2"),
        ({"arguments": "[]"}, "arguments", "a JSON object, found a list"),
        ({"arguments": '{"a": 1, "a": 2}'}, "arguments", "stands in its object already"),
        ({"arguments": '{"a": NaN}'}, "arguments", ""),
        ({"arguments": '{"a": ' + "[" * 5_000 + "]" * 5_000 + "}"}, "arguments", "64 levels"),
        ({"context": "5"}, "context", "JSON object"),
        ({"times": "0"}, "times", "from 1 to 1,000"),
        ({"times": "1001"}, "times", "from 1 to 1,000"),
        ({"times": "many"}, "times", "a number"),
        ({"times": "2.5"}, "times", "whole number"),
        ({"seconds": "-1"}, "seconds", "a number"),
        ({"seconds": "1e400"}, "seconds", "a number"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)) + str(value)[:30],
)
def test_what_is_no_call_is_told_and_never_made(form, field, says):
    with pytest.raises(TryError) as refused:
        tried(policy(create_refund={}), form, REFUND)
    assert refused.value.field == field
    assert says in str(refused.value)


def test_a_text_that_is_no_policy_decides_nothing():
    with pytest.raises(PolicyError):
        tried("{", {}, REFUND)


@pytest.mark.parametrize("seed", range(120))
def test_what_is_shown_is_what_the_engine_decides(seed):
    maker = Maker(seed)
    text = json.dumps(maker.policy())
    arguments = {"amount": seed, "payment_intent": "a", "a": seed % 3}
    found = tried(text, {"arguments": json.dumps(arguments), "session": "s", "times": "3", "seconds": "1"}, REFUND)
    now = 0.0
    engine = PolicyEngine(Policy.parse(text), clock=lambda: now)
    for now in (0.0, 1.0, 2.0):  # noqa: B007  # the engine's clock reads it
        decision = engine.authorize(ToolCall("create_refund", arguments, server="stripe", session="s"))
    bare = {"approval": None, "evidence": None}
    assert found.decision._replace(**bare) == decision._replace(**bare)
    assert found.counted[decision.effect] >= 1
