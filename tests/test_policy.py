"""Policies load whole or not at all, with every problem of their shape, and never change."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from contextlib import suppress
from decimal import Decimal
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_policy.document import MAX_BYTES
from mcp_policy.errors import PolicyError
from mcp_policy.operators import OPERATORS
from mcp_policy.policy import Policy
from mcp_policy.shapes import Op
from mcp_policy.suggestions import OPERATOR_NAMES_ELSEWHERE

SMALL = {"version": "1", "default": "deny", "tools": {"get_task_metrics": {}}}
RICH = {
    "$schema": "https://example.com/schema.json",
    "version": "1",
    "name": "rich",
    "description": "",
    "default": "allow",
    "mode": "enforce",
    "hide": ["internal_*", "x?"],
    "all_tools": {"limits": [{"max": 100, "window": "minute", "counter": "all", "per": ["principal", "tool"]}]},
    "categories": {"read": {}, "financial": {"action": "approve", "approval": {"ttl": 60.5}}},
    "tools": {
        "*": {"except": ["a", "b*"], "mode": "shadow", "rate_limit": "10/30s"},
        "pay": [
            {
                "reason": "no",
                "when": [{"path": "tool.category", "op": "eq", "value": "financial", "reason": "r"}],
                "require": [
                    {"path": "args.ids[*]", "op": "regex", "value": "^[a-z]{1,8}$", "on_deny": "r"},
                    {"conditions": [], "reason": "never"},
                    {"path": 'args["odd key"]', "op": "in", "value": [1, 2.5, True, "x", {"a": [None]}]},
                ],
                "deny_if": [{"conditions": [{"path": "args.to", "op": "neq", "value_from": "principal.claims.org"}]}],
                "approve_if": [{"path": "args", "op": "keys_in", "value": ["a"]}],
                "limits": [
                    {"max": 0.5, "window": 60, "scope": "grant", "cost": "args.amount", "refund_on_error": True},
                    {"max": 5, "window": "2h", "cost": {"length": "args.ids"}, "on_unavailable": "allow"},
                    {"max": 5, "window": 0.5, "cost": 0, "per": "global", "reason": "slow down"},
                ],
            },
            {"action": "deny"},
        ],
        "fetch": {"require": [{"path": "args.url", "op": "host_in", "value": ["*.example.com"]}], "rate_limit": {"max": 1, "window": 1}},
    },
    "servers": {"prod": {"default": "deny", "hide": ["z"], "all_tools": {}, "categories": {"write": {}}, "tools": {"y": {}}}},
}  # fmt: skip


def found(document):
    """The problems of a document that must not load, as a list of (pointer, code)."""
    parse = Policy.parse if isinstance(document, str | bytes) else Policy.model_validate
    with pytest.raises(PolicyError) as caught:
        parse(document)
    return [(problem.pointer, problem.code.value) for problem in caught.value.problems]


def messages(document):
    with pytest.raises(PolicyError) as caught:
        Policy.model_validate(document)
    return [problem.message for problem in caught.value.problems]


def with_tool(rule, **top):
    return {"version": "1", "tools": {"a": rule}, **top}


def with_limit(**limit):
    return with_tool({"limits": [{"max": 1, "window": 60, **limit}]})


def with_condition(**condition):
    return with_tool({"require": [{"path": "args.x", "op": "eq", "value": 1, **condition}]})


# -- what loads


@pytest.mark.parametrize("tree", [SMALL, RICH, {"version": "1"}, {"version": "1", "tools": {}, "servers": {"s": {}}}])
def test_good_documents_load_and_stay_as_they_were_written(tree):
    for policy in (
        Policy.parse(json.dumps(tree)),
        Policy.parse(json.dumps(tree).encode()),
        Policy.model_validate(tree),
    ):
        assert json.dumps(policy.document) == json.dumps(tree)


@pytest.mark.parametrize(
    "document",
    [
        with_tool({"when": [], "require": [], "deny_if": [], "approve_if": [], "limits": [], "except": []}),
        {"version": "1", "hide": [], "categories": {}, "servers": {}},
        with_tool({"approval": {}}),
        with_tool([{}, {}]),
        with_limit(max=0),
        with_limit(max=9_000_000_000),
        with_limit(window=1e10),
        with_limit(window=1e-6),
        with_limit(cost=1e300),
        with_limit(per=["session", "session", "grant", "principal"]),
        with_condition(value={"deep": [[{}]]}),
        with_condition(value=10**3999),
        {"version": "1", "description": "", "$schema": ""},
    ],
)
def test_odd_documents_that_load(document):
    assert Policy.parse(json.dumps(document)) == Policy.model_validate(document)


def test_mappings_and_tuples_are_taken_as_objects_and_lists():
    from types import MappingProxyType

    policy = Policy.model_validate(
        MappingProxyType({"version": "1", "hide": ("a", "b"), "tools": MappingProxyType({})})
    )
    assert policy.document == {"version": "1", "hide": ["a", "b"], "tools": {}}


# -- shapes


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        # the document
        ([], ("", "wrong_type")),
        ("null", ("", "wrong_type")),
        ('"1"', ("", "wrong_type")),
        ({}, ("", "missing_key")),
        ({"tools": {}}, ("", "missing_key")),
        ({"version": 1}, ("/version", "wrong_type")),
        ({"version": None}, ("/version", "wrong_type")),
        ({"version": ["1"]}, ("/version", "wrong_type")),
        ({"version": "2"}, ("/version", "invalid_value")),
        ({"version": ""}, ("/version", "invalid_value")),
        ({"version": "1", "name": ""}, ("/name", "invalid_value")),
        ({"version": "1", "name": 5}, ("/name", "wrong_type")),
        ({"version": "1", "description": None}, ("/description", "wrong_type")),
        ({"version": "1", "$schema": {}}, ("/$schema", "wrong_type")),
        ({"version": "1", "default": "Deny"}, ("/default", "invalid_value")),
        ({"version": "1", "default": False}, ("/default", "wrong_type")),
        ({"version": "1", "mode": "off"}, ("/mode", "invalid_value")),
        ({"version": "1", "hide": "x"}, ("/hide", "wrong_type")),
        ({"version": "1", "hide": ["a", 5]}, ("/hide/1", "wrong_type")),
        ({"version": "1", "all_tools": [{}]}, ("/all_tools", "wrong_type")),
        ({"version": "1", "tools": []}, ("/tools", "wrong_type")),
        ({"version": "1", "tools": None}, ("/tools", "wrong_type")),
        ({"version": "1", "categories": []}, ("/categories", "wrong_type")),
        ({"version": "1", "categories": {"bogus": {}}}, ("/categories/bogus", "invalid_value")),
        ({"version": "1", "categories": {"Read": {}}}, ("/categories/Read", "invalid_value")),
        ({"version": "1", "categories": {"": {}}}, ("/categories/", "invalid_value")),
        ({"version": "1", "categories": {"[key]": {}}}, ("/categories/[key]", "invalid_value")),
        ({"version": "1", "categories": {"read": [{}]}}, ("/categories/read", "wrong_type")),
        ({"version": "1", "servers": []}, ("/servers", "wrong_type")),
        ({"version": "1", "servers": {"s": []}}, ("/servers/s", "wrong_type")),
        ({"version": "1", "servers": {"": {}}}, ("/servers/", "invalid_value")),
        ({"version": "1", "servers": {"s": {"version": "1"}}}, ("/servers/s/version", "unknown_key")),
        ({"version": "1", "servers": {"s": {"mode": "shadow"}}}, ("/servers/s/mode", "unknown_key")),
        ({"version": "1", "servers": {"s": {"default": "no"}}}, ("/servers/s/default", "invalid_value")),
        ({"version": "1", "servers": {"a/b": {"tools": {"t~": 5}}}}, ("/servers/a~1b/tools/t~0", "wrong_type")),
        ({"version": "1", "defualt": "deny"}, ("/defualt", "unknown_key")),
        ({"version": "1", "rules": []}, ("/rules", "unknown_key")),
        # rules
        (with_tool(None), ("/tools/a", "wrong_type")),
        (with_tool("deny"), ("/tools/a", "wrong_type")),
        (with_tool(True), ("/tools/a", "wrong_type")),
        (with_tool([]), ("/tools/a", "invalid_value")),
        (with_tool([{}, 5]), ("/tools/a/1", "wrong_type")),
        (with_tool([{}, []]), ("/tools/a/1", "wrong_type")),
        (with_tool([{}, {"object": 1}]), ("/tools/a/1/object", "unknown_key")),
        (with_tool({"object": {}}), ("/tools/a/object", "unknown_key")),
        (with_tool({"list": {}}), ("/tools/a/list", "unknown_key")),
        (with_tool({"[key]": {}}), ("/tools/a/[key]", "unknown_key")),
        (with_tool({"a/b": 1}), ("/tools/a/a~1b", "unknown_key")),
        (with_tool({"action": "denyy"}), ("/tools/a/action", "invalid_value")),
        (with_tool({"action": None}), ("/tools/a/action", "wrong_type")),
        (with_tool({"action": ["deny"]}), ("/tools/a/action", "wrong_type")),
        (with_tool({"reason": ""}), ("/tools/a/reason", "invalid_value")),
        (with_tool({"on_deny": ""}), ("/tools/a/on_deny", "invalid_value")),
        (with_tool({"reason": 5}), ("/tools/a/reason", "wrong_type")),
        (with_tool({"except": "b"}), ("/tools/a/except", "wrong_type")),
        (with_tool({"except": [None]}), ("/tools/a/except/0", "wrong_type")),
        (with_tool({"mode": "enforce"}), ("/tools/a/mode", "invalid_value")),
        (with_tool({"approval": 60}), ("/tools/a/approval", "wrong_type")),
        (with_tool({"approval": {"ttl": 0}}), ("/tools/a/approval/ttl", "invalid_value")),
        (with_tool({"approval": {"ttl": -1}}), ("/tools/a/approval/ttl", "invalid_value")),
        (with_tool({"approval": {"ttl": "60"}}), ("/tools/a/approval/ttl", "wrong_type")),
        (with_tool({"approval": {"ttl": True}}), ("/tools/a/approval/ttl", "wrong_type")),
        (with_tool({"approval": {"tll": 60}}), ("/tools/a/approval/tll", "unknown_key")),
        # conditions
        (with_tool({"when": {}}), ("/tools/a/when", "wrong_type")),
        (with_tool({"when": ["args.x"]}), ("/tools/a/when/0", "wrong_type")),
        (with_tool({"when": [{"path": "args", "op": "exists", "value": True, "conditions": []}]}), ("/tools/a/when/0/conditions", "unknown_key")),
        (with_tool({"require": [5]}), ("/tools/a/require/0", "wrong_type")),
        (with_tool({"deny_if": [[]]}), ("/tools/a/deny_if/0", "wrong_type")),
        (with_tool({"approve_if": None}), ("/tools/a/approve_if", "wrong_type")),
        (with_tool({"require": [{"op": "eq", "value": 1}]}), ("/tools/a/require/0", "missing_key")),
        (with_tool({"require": [{"path": "args", "value": 1}]}), ("/tools/a/require/0", "missing_key")),
        (with_condition(path=5), ("/tools/a/require/0/path", "wrong_type")),
        (with_condition(op="=="), ("/tools/a/require/0/op", "unknown_operator")),
        (with_condition(op=""), ("/tools/a/require/0/op", "unknown_operator")),
        (with_condition(op=None), ("/tools/a/require/0/op", "wrong_type")),
        (with_condition(op=["eq"]), ("/tools/a/require/0/op", "wrong_type")),
        (with_condition(reason=""), ("/tools/a/require/0/reason", "invalid_value")),
        (with_condition(valeu=1), ("/tools/a/require/0/valeu", "unknown_key")),
        (with_condition(condition=1), ("/tools/a/require/0/condition", "unknown_key")),
        (with_tool({"deny_if": [{"conditions": {}}]}), ("/tools/a/deny_if/0/conditions", "wrong_type")),
        (with_tool({"deny_if": [{"conditions": None}]}), ("/tools/a/deny_if/0/conditions", "wrong_type")),
        (with_tool({"deny_if": [{"conditions": [5]}]}), ("/tools/a/deny_if/0/conditions/0", "wrong_type")),
        (with_tool({"deny_if": [{"conditions": [], "op": "eq"}]}), ("/tools/a/deny_if/0/op", "unknown_key")),
        (with_tool({"deny_if": [{"conditions": [{"path": "args", "op": "exists", "value": True, "conditions": []}]}]}), ("/tools/a/deny_if/0/conditions/0/conditions", "unknown_key")),
        # limits
        (with_tool({"rate_limit": 5}), ("/tools/a/rate_limit", "wrong_type")),
        (with_tool({"rate_limit": ["10/minute"]}), ("/tools/a/rate_limit", "wrong_type")),
        (with_tool({"rate_limit": {}}), ("/tools/a/rate_limit", "missing_key")),
        (with_tool({"rate_limit": {"max": "10", "window": 60}}), ("/tools/a/rate_limit/max", "wrong_type")),
        (with_tool({"rate_limit": {"max": 1, "window": 60, "string": 1}}), ("/tools/a/rate_limit/string", "unknown_key")),
        (with_tool({"limits": {"max": 1, "window": 60}}), ("/tools/a/limits", "wrong_type")),
        (with_tool({"limits": ["10/minute"]}), ("/tools/a/limits/0", "wrong_type")),
        (with_tool({"limits": [{"max": 1}]}), ("/tools/a/limits/0", "missing_key")),
        (with_limit(max=True), ("/tools/a/limits/0/max", "wrong_type")),
        (with_limit(max=None), ("/tools/a/limits/0/max", "wrong_type")),
        (with_limit(max=-1), ("/tools/a/limits/0/max", "invalid_value")),
        (with_limit(max=9_000_000_001), ("/tools/a/limits/0/max", "invalid_value")),
        (with_limit(max=10**400), ("/tools/a/limits/0/max", "invalid_value")),
        (with_limit(window=0), ("/tools/a/limits/0/window", "invalid_value")),
        (with_limit(window=-1.5), ("/tools/a/limits/0/window", "invalid_value")),
        (with_limit(window=1.1e10), ("/tools/a/limits/0/window", "invalid_value")),
        (with_limit(window=10**400), ("/tools/a/limits/0/window", "invalid_value")),
        (with_limit(window=True), ("/tools/a/limits/0/window", "wrong_type")),
        (with_limit(window=[60]), ("/tools/a/limits/0/window", "wrong_type")),
        (with_limit(per="user"), ("/tools/a/limits/0/per", "invalid_value")),
        (with_limit(per=""), ("/tools/a/limits/0/per", "invalid_value")),
        (with_limit(per=[]), ("/tools/a/limits/0/per", "invalid_value")),
        (with_limit(per=["session", "user"]), ("/tools/a/limits/0/per/1", "invalid_value")),
        (with_limit(per=[5]), ("/tools/a/limits/0/per/0", "wrong_type")),
        (with_limit(per={}), ("/tools/a/limits/0/per", "wrong_type")),
        (with_limit(scope=None), ("/tools/a/limits/0/scope", "wrong_type")),
        (with_limit(counter=""), ("/tools/a/limits/0/counter", "invalid_value")),
        (with_limit(counter=5), ("/tools/a/limits/0/counter", "wrong_type")),
        (with_limit(cost=-1), ("/tools/a/limits/0/cost", "invalid_value")),
        (with_limit(cost=False), ("/tools/a/limits/0/cost", "wrong_type")),
        (with_limit(cost=[1]), ("/tools/a/limits/0/cost", "wrong_type")),
        (with_limit(cost={}), ("/tools/a/limits/0/cost", "missing_key")),
        (with_limit(cost={"length": 5}), ("/tools/a/limits/0/cost/length", "wrong_type")),
        (with_limit(cost={"length": "args.x", "size": 1}), ("/tools/a/limits/0/cost/size", "unknown_key")),
        (with_limit(reason=""), ("/tools/a/limits/0/reason", "invalid_value")),
        (with_limit(refund_on_error=1), ("/tools/a/limits/0/refund_on_error", "wrong_type")),
        (with_limit(refund_on_error="true"), ("/tools/a/limits/0/refund_on_error", "wrong_type")),
        (with_limit(on_unavailable="ask"), ("/tools/a/limits/0/on_unavailable", "invalid_value")),
        (with_limit(burst=5), ("/tools/a/limits/0/burst", "unknown_key")),
    ],
)  # fmt: skip
def test_problems_of_shape(document, problem):
    assert set(found(document)) == {problem}
    if not isinstance(document, str):
        assert set(found(json.dumps(document))) == {problem}


def test_a_key_that_is_missing_twice_is_said_twice():
    assert messages({"version": "1", "tools": {"a": {"limits": [{}]}}}) == [
        "the key `max` is missing here",
        "the key `window` is missing here",
    ]


EVERYTHING = """{
  "version": 1,
  "defalt": "deny",
  "hide": ["", "ok", "a\\u0000", 5],
  "all_tools": {"action": "no", "action": "deny", "on_deny": "x", "reason": "y"},
  "categories": {"bogus": {"acton": "deny"}},
  "tools": {
    "": {},
    "a": {"require": [{"path": "arg.x", "op": "=<", "value": 1}, {"op": "in", "value": "usd", "path": "args.y"}]},
    "b": [],
    "c": {"limits": [{"max": "10", "window": "5 minutes", "counter": "n"}, {"max": 1, "window": 60, "counter": "n"},
                     {"max": 1, "window": 90, "counter": "n"}]},
    "d": {"deny_if": [{"path": "args.x", "op": "regex", "value": "(a"}, {"path": "args.x", "op": "eq", "value": null}]}
  },
  "servers": {"": {"tools": {"b": {"rate_limit": "10/60"}}}}
}"""


def test_every_problem_is_found_at_once_and_in_the_order_of_the_text():
    assert found(EVERYTHING) == [
        ("/version", "wrong_type"),
        ("/defalt", "unknown_key"),
        ("/hide/0", "invalid_value"),
        ("/hide/2", "invalid_pattern"),
        ("/hide/3", "wrong_type"),
        ("/all_tools", "conflict"),
        ("/all_tools/action", "duplicate_key"),
        ("/categories/bogus", "invalid_value"),
        ("/categories/bogus/acton", "unknown_key"),
        ("/tools/", "invalid_value"),
        ("/tools/a/require/0/path", "invalid_path"),
        ("/tools/a/require/0/op", "unknown_operator"),
        ("/tools/a/require/1/value", "wrong_type"),
        ("/tools/b", "invalid_value"),
        ("/tools/c/limits/0/max", "wrong_type"),
        ("/tools/c/limits/0/window", "invalid_value"),
        ("/tools/c/limits/2", "conflict"),
        ("/tools/d/deny_if/0/value", "invalid_regex"),
        ("/tools/d/deny_if/1/value", "invalid_value"),
        ("/servers/", "invalid_value"),
        ("/servers//tools/b/rate_limit", "invalid_value"),
    ]


def test_every_problem_of_a_text_has_its_place():
    with pytest.raises(PolicyError) as caught:
        Policy.parse(EVERYTHING)
    lines = EVERYTHING.splitlines()
    at = {
        (problem.pointer, problem.code): lines[problem.line - 1][problem.column - 1 :]
        for problem in caught.value.problems
    }
    assert at["/version", "wrong_type"].startswith("1,")
    assert at["/defalt", "unknown_key"].startswith('"defalt"')
    assert at["/hide/2", "invalid_pattern"].startswith('"a\\u0000"')
    assert at["/all_tools/action", "duplicate_key"].startswith('"action": "deny"')
    assert at["/all_tools", "conflict"].startswith('{"action"')
    assert at["/tools/c/limits/2", "conflict"].startswith('{"max": 1, "window": 90')
    assert at["/tools/d/deny_if/1/value", "invalid_value"].startswith("null")
    assert str(caught.value).startswith("2:14: /version: wrong_type: ")


def test_a_bad_pattern_is_placed_at_its_key():
    with pytest.raises(PolicyError) as caught:
        Policy.parse('{"version": "1",\n "tools": {\n"a\\n": {}}}')
    assert [(problem.line, problem.column) for problem in caught.value.problems] == [(3, 1)]


def test_a_tree_has_no_lines():
    with pytest.raises(PolicyError) as caught:
        Policy.model_validate({"version": "1", "x": 1})
    assert [(problem.line, problem.column) for problem in caught.value.problems] == [(None, None)]


# -- messages


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"version": "1", "defualt": "deny"}, "the key `defualt` is unknown here; did you mean `default`?"),
        ({"version": "1", "Tools": {}}, "did you mean `tools`?"),
        ({"version": "1", "rules": []}, "known here: `$schema`, `version`, `name`"),
        ({"version": 1}, 'found the number `1`, expected `"1"`'),
        ({"version": "2"}, "`2` is not known here; expected `1`"),
        ([], "found a list, expected an object"),
        (with_tool({"action": "allowed"}), "`allowed` is not known here; did you mean `allow`?"),
        (with_tool({"action": "zzz"}), "known here: `allow`, `deny`, `approve`, `hide`"),
        (with_tool({"denyif": []}), "did you mean `deny_if`?"),
        (with_tool({"excepts": []}), "did you mean `except`?"),
        (with_tool("deny"), "found the string `deny`, expected an object or a list"),
        (with_tool([]), "a list here must not be empty"),
        (with_tool({"reason": ""}), "a string here must not be empty"),
        (with_tool({"require": [5]}), "found the number `5`, expected an object"),
        (with_tool({"deny_if": [{"condition": []}]}), "did you mean `conditions`?"),
        (with_condition(op="=<"), "`=<` is not an operator; did you mean `lte`?"),
        (with_condition(op="lessthan"), "did you mean `lt`?"),
        (with_condition(op="zzz"), "known here: `eq`, `neq`, `in`"),
        (with_condition(op="x" * 1000), "x…` is not an operator; known here"),
        (with_condition(op=5), "found the number `5`, expected a string"),
        (with_limit(max="10"), "found the string `10`, expected a number; a number is written without quotes"),
        (with_limit(max="ten"), "found the string `ten`, expected a number"),
        (with_limit(max=True), "found the boolean `true`, expected a number"),
        (with_limit(max=-1), "found the number `-1`, expected at least 0"),
        (with_limit(max=9e10), "expected at most 9,000,000,000"),
        (with_limit(window=0), "expected more than 0"),
        (with_limit(window=None), "found null, expected a number or a string"),
        (with_limit(max=10**400), "found a large number, which is out of bounds"),
        (with_limit(per="zzz"), "known here: `session`, `principal`, `grant`, `agent`, `tool`, `server`, `global`"),
        (with_limit(per="sesion"), "did you mean `session`?"),
        (with_limit(refund_on_error="yes"), "expected `true` or `false`"),
        (with_limit(windows=60), "did you mean `window`?"),
        ({"version": "1", "categories": {"reads": {}}}, "did you mean `read`?"),
        ({"version": "1", "x": float("nan")}, "`nan` is not a JSON number"),
        ({"version": "1", "x": Decimal(1)}, "found a Python `Decimal`, which JSON cannot hold"),
        ({"version": "1", 5: 1}, "a key is a string, found the number `5`"),
    ],
)
def test_a_message_says_what_was_found_and_what_would_be_right(document, message):
    assert any(message in said for said in messages(document))


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("==", "eq"), ("=", "eq"), ("equals", "eq"), ("Equals", "eq"), ("EQ", "eq"), ("!=", "neq"), ("notEquals", "neq"),
        ("<", "lt"), ("<=", "lte"), ("=<", "lte"), (">", "gt"), (">=", "gte"), ("greaterThan", "gt"), ("less-than", "lt"),
        ("matches", "regex"), ("=~", "regex"), ("startsWith", "starts_with"), ("startswith", "starts_with"),
        ("ends-with", "ends_with"), ("oneOf", "in"), ("notIn", "not_in"), ("nin", "not_in"), ("like", "glob"),
        ("is_set", "exists"), ("exist", "exists"), ("maxLength", "length_lte"), ("contain", "contains"), ("hosts_in", "host_in"),
    ],
)  # fmt: skip
def test_operators_of_other_languages_lead_to_ours(written, meant):
    assert f"`{written}` is not an operator; did you mean `{meant}`?" in messages(with_condition(op=written))


def test_every_operator_is_in_the_shape_and_every_other_name_leads_to_one():
    assert get_args(Op) == tuple(OPERATORS)
    assert OPERATOR_NAMES_ELSEWHERE.keys() == OPERATORS.keys()
    elsewhere = [name for names in OPERATOR_NAMES_ELSEWHERE.values() for name in names]
    assert len(elsewhere) == len(set(elsewhere) - OPERATORS.keys())


# -- trees that are not plain


def test_what_json_cannot_hold_is_said_once_and_the_rest_is_checked():
    tree = {"version": "1", "defalt": 1, "hide": [float("nan"), b"x"], "tools": {"a": {"reason": {1}, "require": [{"path": "args.x", "op": "eq", "value": float("inf")}]}}}  # fmt: skip
    assert sorted(found(tree)) == [
        ("/defalt", "unknown_key"),
        ("/hide/0", "invalid_value"),
        ("/hide/1", "wrong_type"),
        ("/tools/a/reason", "wrong_type"),
        ("/tools/a/require/0/value", "invalid_value"),
    ]


@pytest.mark.parametrize("levels", [65, 5000])
def test_deep_values_are_refused_from_text_and_from_trees(levels):
    deep = 1
    for _ in range(64):
        deep = [deep]
    assert found(with_condition(value=deep)) == [("", "too_deep")]
    text = json.dumps(with_condition(value="DEEP")).replace('"DEEP"', "[" * levels + "]" * levels)
    assert found(text) == [("", "too_deep")]


def test_a_policy_keeps_nothing_of_the_tree_it_was_made_from():
    tree = copy.deepcopy(RICH)
    policy = Policy.model_validate(tree)
    tree["tools"]["pay"][0]["when"].clear()
    policy.document["tools"].clear()
    assert policy.document == RICH


# -- files


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("policy.json", json.dumps(SMALL)),
        ("policy", json.dumps(SMALL)),
        ("policy.yaml", 'version: "1"\ndefault: deny\ntools:\n  get_task_metrics: {}\n'),
        ("policy.YML", 'version: "1"\ndefault: deny\ntools: {get_task_metrics: {}}'),
        ("policy.toml", 'version = "1"\ndefault = "deny"\n[tools.get_task_metrics]\n'),
    ],
)
def test_load_goes_by_the_suffix(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    for way in (path, str(path)):
        assert Policy.load(way).document == SMALL


def test_places_in_yaml():
    with pytest.raises(PolicyError) as caught:
        Policy.parse('version: "1"\ntools:\n  a:\n    acton: deny\n    reason: 5\n', "yaml")
    assert [(problem.pointer, problem.line, problem.column) for problem in caught.value.problems] == [
        ("/tools/a/acton", 4, 5),
        ("/tools/a/reason", 5, 13),
    ]


def test_a_file_that_cannot_be_read_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        Policy.load(tmp_path / "none.json")
    with pytest.raises(OSError, match=r"."):
        Policy.load(tmp_path)


def test_a_large_file_is_refused_without_reading_it_whole(tmp_path):
    path = tmp_path / "policy.json"
    with path.open("wb") as file:
        file.truncate(2**40)  # a file with a hole: nobody could read it whole
    with pytest.raises(PolicyError, match="too_large"):
        Policy.load(path)
    path.write_bytes(json.dumps(SMALL).encode().ljust(MAX_BYTES))
    assert Policy.load(path).document == SMALL


# -- what a policy is


def test_a_policy_cannot_change():
    policy = Policy.model_validate(SMALL)
    for name in ("_tree", "_digest", "document", "digest", "other"):
        with pytest.raises(AttributeError):
            setattr(policy, name, {})
        with pytest.raises(AttributeError):
            delattr(policy, name)
    with pytest.raises(TypeError, match=r"Policy\.load"):
        Policy()


def test_the_digest_is_that_of_the_canonical_text():
    import hashlib

    text = '{"default":"deny","tools":{"é":{"limits":[{"max":1,"window":60}]}},"version":"1"}'
    policy = Policy.parse(
        '{"version": "1", "name": "n", "tools": {"é": {"limits": [{"window": 60.0, "max": 1}]}}, "default": "deny"}'
    )
    assert policy.digest == hashlib.sha256(text.encode()).hexdigest()
    assert policy.digest == policy.digest


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"name": "other", "description": "x", "$schema": "y"}, True),
        ({"default": "deny"}, False),
        ({"mode": "enforce"}, False),
        ({"tools": {"a": {}, "b": {}}}, True),
        ({"tools": {"b": {}, "a": {}}}, True),
        ({"tools": {"a": {"reason": "x"}, "b": {}}}, False),
    ],
)
def test_equality_is_that_of_what_decides(change, same):
    base = {"version": "1", "tools": {"b": {}, "a": {}}}
    one, other = Policy.model_validate(base), Policy.model_validate({**base, **change})
    assert (one == other) is same
    assert (one.digest == other.digest) is same
    assert (len({one, other}) == 1) is same
    assert one != base


def test_repr_is_short_and_names_the_policy():
    assert repr(Policy.model_validate({**RICH, "name": "billing"})).startswith("<Policy 'billing', ")
    assert len(repr(Policy.model_validate(SMALL))) < 40


def test_a_policy_can_be_copied_and_pickled():
    policy = Policy.model_validate(RICH)
    for twin in (copy.copy(policy), copy.deepcopy(policy), pickle.loads(pickle.dumps(policy))):
        assert twin == policy
        assert json.dumps(twin.document) == json.dumps(RICH)


def test_importing_builds_no_validator():
    code = "import sys, mcp_policy.policy; print('mcp_policy.shapes' in sys.modules, 'tomllib' in sys.modules, 'yaml' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "False"]


# -- JSON Schema


def test_the_schema_describes_every_key():
    schema = Policy.model_json_schema()
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert schema["required"] == ["version"]
    for shape in (schema, *schema["$defs"].values()):
        assert shape["additionalProperties"] is False
        assert shape["description"]
        for key, value in shape["properties"].items():
            assert value.get("description"), key


def test_the_schema_is_plain_json_and_new_each_time():
    schema = Policy.model_json_schema()
    assert json.loads(json.dumps(schema)) == schema
    schema.clear()
    assert Policy.model_json_schema()


# -- any input at all


@given(st.binary() | st.text() | st.text('{}[]":,versiontools1 \\'))
def test_any_text_is_a_policy_or_a_policy_error(text):
    with suppress(PolicyError):
        Policy.parse(text)


WORDS = [
    *RICH,
    *RICH["tools"]["pay"][0],
    *RICH["tools"]["pay"][0]["limits"][0],
    "conditions",
    "path",
    "op",
    "value",
    "value_from",
    "length",
]
LEAVES = (st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5)
          | st.sampled_from([*OPERATORS, *WORDS, "1", "args.x", "args[*]", "principal.id", "10/minute", "hour", "deny", "allow", "hide", "(a", "*"]))  # fmt: skip
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


def places(tree, path=()):
    """The way to every value of a tree."""
    yield path
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield from places(value, (*path, key))


def holder_of(tree, path):
    for step in path[:-1]:
        tree = tree[step]
    return tree


@st.composite
def mutants(draw):
    """A good document with up to four things changed."""
    tree = copy.deepcopy(RICH)
    for _ in range(draw(st.integers(1, 4))):
        path = draw(st.sampled_from(list(places(tree))[1:] or [()]))
        if not path:
            break
        holder, last = holder_of(tree, path), path[-1]
        change = draw(st.sampled_from(["remove", "replace", "rename", "add"]))
        if change == "remove":
            del holder[last]
        elif change == "replace":
            holder[last] = draw(TREES)
        elif isinstance(holder, dict):
            holder[draw(st.sampled_from(WORDS) | st.text(max_size=4))] = (
                holder.pop(last) if change == "rename" else draw(TREES)
            )
        else:
            holder.insert(last, draw(TREES))
    return tree


def outcome(parse, source):
    try:
        policy = parse(source)
    except PolicyError as error:
        return None, error.problems
    return policy, ()


def leads_somewhere(tree, pointer):
    for token in pointer.split("/")[1:]:
        key = token.replace("~1", "/").replace("~0", "~")
        if isinstance(tree, list):
            tree = tree[int(key)]
        elif isinstance(tree, dict) and key in tree:
            tree = tree[key]
        else:
            return False
    return True


@given(mutants() | TREES.map(lambda tree: {"version": "1", "tools": {"a": tree}}) | TREES)
def test_a_changed_document_loads_as_it_is_or_says_what_is_wrong_with_it(tree):
    policy, problems = outcome(Policy.model_validate, tree)
    from_text, text_problems = outcome(Policy.parse, json.dumps(tree, indent=1))
    assert (policy is None) == bool(problems)
    assert policy == from_text
    if policy is not None:
        assert json.dumps(policy.document) == json.dumps(tree)
    said = [(problem.pointer, problem.code, problem.message) for problem in problems]
    assert sorted(said) == sorted((problem.pointer, problem.code, problem.message) for problem in text_problems)
    assert all(leads_somewhere(tree, problem.pointer) for problem in problems)
    assert all(problem.line and problem.column for problem in text_problems)
    assert all("\n" not in problem.message and len(problem.message) < 500 for problem in problems)


def test_many_problems_are_placed_in_time():
    tree = {"version": "1", "tools": {f"t{number}": {"x" * 50 + str(number): 1} for number in range(5_000)}}
    assert len(found(json.dumps(tree))) == 5_000


def test_the_examples_are_whole():
    """What the documents above hold stands for the whole format: no key of it is missing from them."""
    keys = {key for path in places(RICH) for key in path if isinstance(key, str)}
    schema = Policy.model_json_schema()
    for shape in (schema, *schema["$defs"].values()):
        assert shape["properties"].keys() <= keys
