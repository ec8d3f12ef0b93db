"""What is not found: a check beside the tools of one server says nothing of others, nor of what is meant as it is."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_policy import Policy
from mcp_policy.checks import check

A = [{"name": "get_a", "inputSchema": {"type": "object"}}]


def codes(tree: dict[str, Any], tools: list[dict[str, Any]] | None = None, server: str | None = None) -> list[str]:
    return [one.code for one in check(Policy.model_validate({"version": "1", **tree}), tools, server=server)]


def counted(name: str, window: str = "minute") -> dict[str, Any]:
    return {"limits": [{"counter": name, "max": 5, "window": window, "per": "principal"}]}


def timed(op: str, value: Any, field: str = "hour") -> dict[str, Any]:
    return {"tools": {"get_a": {"require": [{"path": f"context.time.{field}", "op": op, "value": value}]}}}


def test_other_servers_may_have_other_tools():
    two = {"servers": {"a": {"tools": {"get_a": {}}}, "b": {"tools": {"get_b": {}}}}}
    assert codes(two, A) == codes(two, A, "a") == []
    assert codes(two, A, "b") == ["unknown_tool"]


def test_the_top_level_is_for_other_servers_too_where_there_are_others():
    top = {"tools": {"get_b": {}}}
    assert codes({**top, "servers": {"b": {"hide": ["get_c"]}}}, A, "a") == []
    assert codes(top, A, "a") == ["unknown_tool"]


def test_a_document_for_one_server_is_for_the_tools_that_are_given():
    assert codes({"servers": {"a": {"tools": {"get_b": {}}}}}, A) == ["unknown_tool"]


def test_what_one_server_hides_others_may_list():
    assert codes({"tools": {"get_a": {}}, "servers": {"s": {"hide": ["get_a"]}}}) == []
    assert codes({"hide": ["get_a"], "servers": {"s": {"tools": {"get_a": {}}}}}) == ["hidden_and_listed"]


def test_an_action_hides_as_well():
    assert codes({"tools": {"get_*": {"action": "hide"}, "get_a": {}}}) == ["shadowed_entry"]


@pytest.mark.parametrize("names", [("reads", "writes"), ("reads", "reads")])
def test_counters_with_names_of_their_own_are_meant(names):
    first, second = names
    assert codes({"tools": {"get_a": counted(first), "get_b": counted(second)}}) == []


def test_counters_that_could_not_be_one_are_not_misspelt():
    assert codes({"tools": {"get_a": counted("reads"), "get_b": counted("reads2", "hour")}}) == []


@pytest.mark.parametrize(
    ("tree", "found"),
    [
        (timed("gt", 23), ["cannot_hold"]),
        (timed("gt", 22), []),
        (timed("eq", 0, "weekday"), ["cannot_hold"]),
        (timed("eq", 7, "weekday"), []),
        (timed("lt", 60, "minute"), ["always_holds"]),
        (timed("eq", "9"), ["cannot_hold"]),
    ],
)
def test_the_time_has_its_bounds(tree, found):
    assert codes(tree) == found


def test_what_is_said_once_is_not_said_again():
    assert codes({"tools": {"get_a": {"action": "deny", "approval": {"ttl": 60}}}}) == ["dead_keys"]
    assert codes({"tools": {"get_a": {"rate_limit": {"max": 0, "window": 60, "per": "tool"}}}}) == ["limit_blocks"]


def test_a_loose_pattern_in_a_rule_that_denies_denies_more():
    secret = {"path": "args.path", "op": "regex", "value": "secret"}
    assert codes({"tools": {"get_a": [{}, {"action": "deny", "when": [secret]}]}}) == []
    assert codes({"tools": {"get_a": {"when": [secret]}}}) == ["unanchored_regex"]
