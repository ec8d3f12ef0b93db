"""`layout`: one text for all spellings of a policy, and never another policy."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_policy import Policy, PolicyEngine, ToolCall
from mcp_policy import layout as trees
from mcp_policy.layout import WIDTH, Number, layout
from properties.differential import START, Catalogue, tool_call
from properties.generate import Maker


def text(tree: object) -> str:
    return layout(json.dumps(tree))


def document(**keys: Any) -> str:
    return text({**keys, "version": "1"})


def shuffled(value: Any, chance: random.Random) -> Any:
    """The value with the keys of all its objects in any order."""
    if isinstance(value, dict):
        keys = chance.sample(list(value), len(value))
        return {key: shuffled(value[key], chance) for key in keys}
    return [shuffled(part, chance) for part in value] if isinstance(value, list) else value


# -- what it looks like


def test_a_whole_document():
    source = (
        '{"tools": {"b": {"rate_limit": "5/minute"}, "a": [{"limits": [{"window": 60, "max": 1e1}], "reason": "r", '
        '"require": [{"op": "lte", "value": 100.0, "path": "args.amount"}, {"reason": "only in euro or dollar, which '
        'are what we keep", "conditions": [{"op": "in", "path": "args.currency", "value": ["eur", "usd"]}]}]}]}, '
        '"hide": [], "servers": {"s": {"tools": {}, "default": "deny"}}, "version": "1", "$schema": "./s.json"}'
    )
    assert layout(source) == (
        "{\n"
        '  "$schema": "./s.json",\n'
        '  "version": "1",\n'
        '  "hide": [],\n'
        '  "tools": {\n'
        '    "b": {"rate_limit": "5/minute"},\n'
        '    "a": [\n'
        "      {\n"
        '        "reason": "r",\n'
        '        "require": [\n'
        '          {"path": "args.amount", "op": "lte", "value": 100.0},\n'
        "          {\n"
        '            "conditions": [{"path": "args.currency", "op": "in", "value": ["eur", "usd"]}],\n'
        '            "reason": "only in euro or dollar, which are what we keep"\n'
        "          }\n"
        "        ],\n"
        '        "limits": [{"max": 1e1, "window": 60}]\n'
        "      }\n"
        "    ]\n"
        "  },\n"
        '  "servers": {\n'
        '    "s": {\n'
        '      "default": "deny",\n'
        '      "tools": {}\n'
        "    }\n"
        "  }\n"
        "}\n"
    )


def test_a_line_has_as_many_columns_as_fit():
    empty = len('    "t": {"reason": ""}')
    for length, lines in ((WIDTH - empty - 1, 6), (WIDTH - empty, 8)):  # one column is kept for a comma
        laid_out = document(tools={"t": {"reason": "x" * length}})
        assert laid_out.count("\n") == lines
        assert max(map(len, laid_out.splitlines())) <= WIDTH


@pytest.mark.parametrize("spelt", ["1e3", "1.0", "100", "0.10", "1E+2", "9007199254740993", "1" * 400, "-0.0", "-0"])
def test_a_number_stays_as_it_was_spelt(spelt: str):
    source = json.dumps({"version": "1", "tools": {"t": {"require": [{"path": "args.x", "op": "neq", "value": 5}]}}})
    source = source.replace("5", spelt)
    assert re.findall('"value": ([^ }\n]+)', layout(source)) == [spelt]
    assert Policy.parse(layout(source)) == Policy.parse(source)


def test_a_tree_is_edited_and_laid_out_without_going_through_floats():
    found = trees.tree('{"version": "1", "tools": {"t": {"rate_limit": {"window": 6E1, "max": 0.10}}}}')
    limit = found["tools"]["t"]["rate_limit"]
    assert limit == {"window": Number("6E1"), "max": Number("0.10")}
    limit["max"] = Number("1e1")
    assert '"t": {"rate_limit": {"max": 1e1, "window": 6E1}}' in trees.laid_out(found)


def test_any_part_of_a_tree_has_a_text_on_one_line():
    for part in ('{"b": [1.0, "\\u202e"], "a": {}}', "-0", '"x"', "null", "true", "[]"):
        assert trees.spelt(trees.tree(part)) == part


def test_what_cannot_be_seen_is_escaped_and_nothing_else():
    source = (
        '{"version": "1", "name": "\\u00e9\\u4e2d\\ud83d\\ude00 \u202e\u200b\u00a0\u2028\\u0007\\/\\"\\\\ \U000e0041"}'
    )
    written = layout(source)
    assert r'"é中😀 \u202e\u200b\u00a0\u2028\u0007/\"\\ \udb40\udc41"' in written
    assert json.loads(written) == json.loads(source)


def test_a_value_is_data_whose_keys_stay_where_they_are():
    value = {"window": 1, "max": 2, "action": {"op": 1, "path": 2}}
    condition = {"path": "args", "op": "eq", "value": value}
    assert json.dumps(value) in document(tools={"t": {"require": [condition]}})


# -- which order is kept

RULE = {"version": "1", "tools": {"t": {}}}


@pytest.mark.parametrize("order", [("require", "deny_if", "approve_if"), ("approve_if", "deny_if", "require")])
def test_kinds_of_conditions_keep_their_order(order: tuple[str, ...]):
    rule = {key: [{"path": "args.x", "op": "eq", "value": 1}] for key in order} | {"action": "deny"}
    assert list(json.loads(document(tools={"t": rule}))["tools"]["t"]) == ["action", *order]


@pytest.mark.parametrize("order", [("rate_limit", "limits"), ("limits", "rate_limit")])
def test_limits_keep_their_order(order: tuple[str, ...]):
    both = {"rate_limit": "1/minute", "limits": [{"max": 1, "window": 1}]}
    rule = {"approval": {"ttl": 1}} | {key: both[key] for key in order} | {"reason": "r"}
    assert list(json.loads(document(tools={"t": rule}))["tools"]["t"]) == ["reason", *order, "approval"]


@pytest.mark.parametrize("order", [("all_tools", "categories", "tools"), ("tools", "categories", "all_tools")])
def test_sections_keep_their_order_at_the_top_and_in_a_server(order: tuple[str, ...]):
    section = {"servers": {}} | {key: {} for key in order} | {"default": "deny"}
    assert list(json.loads(document(**section))) == ["version", "default", *order, "servers"]
    del section["servers"]
    assert list(json.loads(document(servers={"s": section}))["servers"]["s"]) == ["default", *order]


def test_names_keep_their_order():
    names = ["b", "a", "*", "c"]
    categories = ["write", "read"]
    tree = {"version": "1", "tools": {name: {} for name in names}, "categories": {name: {} for name in categories}}
    tree["servers"] = {name: {} for name in names}
    laid_out = json.loads(text(tree))
    assert list(laid_out["tools"]) == list(laid_out["servers"]) == names
    assert list(laid_out["categories"]) == categories


def test_the_order_that_is_kept_is_the_one_that_shows():
    """Were these keys sorted, the reasons of a decision would change places."""
    never = [{"path": "args.x", "op": "eq", "value": 1}]
    always: list[Any] = [{"conditions": []}]
    call = ToolCall("t", {"x": 2})

    def told(**document: Any) -> list[str]:
        return [reason.rule for reason in PolicyEngine(Policy.model_validate(document)).evaluate(call).reasons]

    assert told(version="1", tools={"t": {"deny_if": always, "require": never}}) == [
        "/tools/t/deny_if/0",
        "/tools/t/require/0",
    ]
    assert told(version="1", tools={"t": {"action": "deny"}}, all_tools={"action": "deny"}) == [
        "/tools/t",
        "/all_tools",
    ]
    none = {"max": 0, "window": 1}
    assert told(version="1", tools={"t": {"limits": [none], "rate_limit": {**none, "window": 2}}}) == [
        "/tools/t/limits/0",
        "/tools/t/rate_limit",
    ]


# -- laws


@given(st.integers(0, 10**9), st.randoms(use_true_random=False))
def test_the_policy_its_reasons_and_their_order_stay(seed: int, chance: random.Random):
    maker = Maker(seed)
    source = json.dumps(shuffled(maker.policy(), chance), ensure_ascii=chance.random() < 0.5)
    laid_out = layout(source)
    assert layout(laid_out) == laid_out
    assert layout(laid_out.encode()) == laid_out
    assert Policy.parse(laid_out).digest == Policy.parse(source).digest
    assert json.loads(laid_out) == json.loads(source)
    old, new = (
        PolicyEngine(Policy.parse(one), clock=lambda: START, catalogue=Catalogue()) for one in (source, laid_out)
    )
    for _ in range(4):
        call = tool_call(maker.call())
        assert new.evaluate(call).reasons == old.evaluate(call).reasons
        assert [status.rule for status in new.evaluate(call).limits] == [s.rule for s in old.evaluate(call).limits]


@given(st.integers(0, 10**9), st.randoms(use_true_random=False))
def test_what_may_be_reordered_ends_in_one_text(seed: int, chance: random.Random):
    """Conditions and limits are reordered here, which only have keys of whose order nothing can be seen."""
    maker = Maker(seed)
    conditions = [maker.condition(), {"conditions": [maker.condition()]}]
    rule = {"action": "approve", "require": conditions, "limits": [maker.limit()], "approval": {"ttl": 1}}
    tree = {"version": "1", "name": "n", "default": "deny", "tools": {"t": rule}}
    values = [part.get("value") for part in (conditions[0], *conditions[1]["conditions"])]
    if not any(isinstance(value, dict | list) for value in values):
        assert text(shuffled(tree, chance)) == text(tree)


@given(st.text(max_size=20))
def test_any_name_stays_letter_by_letter(name: str):
    tree = {"version": "1", "description": name}
    assert json.loads(text(tree)) == tree
    assert text(tree).replace("\n", "").isprintable()
