"""Calls: what a well-formed one is, and that a malformed one is denied and never raises."""

from __future__ import annotations

from collections import UserDict
from types import MappingProxyType
from typing import get_args

import pytest

from mcp_policy import Policy, PolicyEngine, Principal, ToolCall, call, compiler, shapes
from mcp_policy.catalogue import profile

ALLOW_ALL = PolicyEngine(Policy.parse('{"version": "1", "default": "allow"}'))


class Text(str):
    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return hash("allowed")


@pytest.mark.parametrize(
    "call",
    [
        ToolCall(None),
        ToolCall(3),
        ToolCall(b"t"),
        ToolCall(["t"]),
        ToolCall("t", []),
        ToolCall("t", "x"),
        ToolCall("t", 5),
        ToolCall("t", {}, server=3),
        ToolCall("t", {}, session=b"s"),
        ToolCall("t", {}, session=7),
        ToolCall("t", {}, principal="ann"),
        ToolCall("t", {}, principal={"id": "ann"}),
        ToolCall("t", {}, context=[]),
        ToolCall("t", {}, context="now"),
        ToolCall("t", {}, category=""),
        ToolCall("t", {}, category="Read"),
        ToolCall("t", {}, category="harmless"),
        ToolCall("t", {}, category=b"read"),
        ToolCall("t", {}, category=["read"]),
        ToolCall("t", {}, category=0),
        ToolCall("t", {}, category=Text("harmless")),
        ToolCall(""),
        ToolCall("a\nb"),
        ToolCall("a\u200bb"),
        ToolCall("a\u2028b"),
        ToolCall("a\ud800b"),
        ToolCall("x" * 257),
    ],
)
def test_a_malformed_call_is_denied_whatever_the_policy_says(call):
    decision = ALLOW_ALL.authorize(call)
    assert [reason.code for reason in decision.reasons] == ["invalid_call"]
    assert decision.reasons[0].message


def test_a_flaw_is_told():
    assert "arguments have to be an object, not list" in str(ALLOW_ALL.authorize(ToolCall("t", [])))
    assert "principal has to be a `Principal`, not str" in str(ALLOW_ALL.authorize(ToolCall("t", principal="ann")))
    assert "or `unknown`, not another text" in str(ALLOW_ALL.authorize(ToolCall("t", category="harmless")))
    assert "or `unknown`, not list" in str(ALLOW_ALL.authorize(ToolCall("t", category=["read"])))


@pytest.mark.parametrize("category", [None, *call.CATEGORIES, call.UNKNOWN])
def test_a_call_may_say_what_its_tool_is(category):
    made = ToolCall("t", category=category)
    assert (made.flaw, made.category) == (None, category)
    assert ALLOW_ALL.authorize(made).allowed
    lying = None if category is None else Text(category)
    assert type(ToolCall("t", category=lying).category) is type(category)


def test_there_is_one_list_of_categories():
    assert call.CATEGORIES == profile.CATEGORIES == compiler.CATEGORIES == get_args(shapes.Category)


@pytest.mark.parametrize("arguments", [None, {}, UserDict(), MappingProxyType({})])
def test_no_arguments_are_an_empty_object(arguments):
    assert ToolCall("t", arguments).arguments == {}
    assert ALLOW_ALL.authorize(ToolCall("t", arguments)).allowed


def test_names_that_lie_are_taken_for_what_they_hold():
    engine = PolicyEngine(Policy.parse('{"version": "1", "tools": {"allowed": {}}}'))
    assert engine.authorize(ToolCall("allowed")).allowed
    assert not engine.authorize(ToolCall(Text("forbidden"))).allowed


def test_two_calls_share_nothing():
    first = ToolCall("t")
    first.arguments["x"] = 1
    assert ToolCall("t").arguments == {}


@pytest.mark.parametrize("names", ["admin", [1], [None]])
def test_roles_are_a_list_of_strings(names):
    for what in ("roles", "scopes"):
        with pytest.raises(TypeError, match=what):
            Principal("ann", **{what: names})


@pytest.mark.parametrize("what", ["id", "issuer", "client"])
def test_identities_are_strings(what):
    with pytest.raises(TypeError, match=what):
        Principal(**{what: 5})


def test_arguments_are_not_in_the_repr():
    assert "secret" not in repr(ToolCall("t", {"password": "secret"}))
