"""What is said of a text: all of its problems, the findings that count, and calls that show what has changed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mcp_policy.catalogue import ToolCatalogue
from mcp_policy.explorer.reviewing import compared, findings
from mcp_policy.explorer.stack import Listed, Stack, of_catalogue, of_listings

CATALOGUE = of_catalogue(ToolCatalogue.bundled())
STRIPE = of_catalogue(ToolCatalogue.bundled(), "stripe")


def policy(**tools: Any) -> str:
    return json.dumps({"version": "1", "tools": tools}, indent=2)


def listed(*names: str) -> tuple[dict[str, Any], ...]:
    return tuple({"name": name, "description": "Read it.", "inputSchema": {"type": "object"}} for name in names)


def two_servers() -> Stack:
    return of_listings("two", [Listed("a", "", listed("read_a", "read_b"), ""), Listed("b", "", listed("read_b"), "")])


def codes(text: str, stack: Stack) -> list[tuple[str, str]]:
    return [(one.code, one.pointer) for one in findings(text, stack)]


def test_a_document_that_does_not_load_has_all_its_problems_with_lines():
    text = '{\n  "version": "2",\n  "tols": {},\n  "tools": {"a": {"action": "dney"}}\n}'
    found = findings(text, STRIPE)
    assert [(one.line, one.severity) for one in found] == [(2, "error"), (3, "error"), (4, "error")]
    assert "did you mean" in found[1].message
    assert [one.line for one in findings("{\n,", STRIPE)] == [2]


def test_one_server_is_checked_beside_its_tools():
    assert ("unknown_tool", "/tools/creat_refund") in codes(policy(creat_refund={}), STRIPE)
    assert findings(policy(list_prices={"rate_limit": "5/minute"}), STRIPE) == ()


def test_beside_several_servers_a_tool_of_one_is_no_mistake():
    stack = two_servers()
    assert codes(policy(read_a={}, read_b={}), stack) == []
    assert ("unknown_tool", "/tools/read_c") in codes(policy(read_c={}), stack)
    text = json.dumps({"version": "1", "servers": {"b": {"tools": {"read_a": {}}}, "a": {"tools": {"read_a": {}}}}})
    assert codes(text, stack) == [("unknown_tool", "/servers/b/tools/read_a")]


def stack_of(**servers: Any) -> Stack:
    return of_listings("some", [Listed(name, "", tools, "") for name, tools in servers.items()])


PAY = {
    "name": "pay",
    "description": "Delete a payment.",
    "inputSchema": {"type": "object", "properties": {"amount": {"type": "integer"}}, "required": ["amount"]},
}


def test_what_no_server_has_is_said_once_and_as_helpfully_as_can_be():
    stack = stack_of(a=listed("read_file", "read_folder"), b=listed("send"))
    (unknown,) = (one for one in findings(policy(read_fil={"action": "deny"}), stack) if one.code == "unknown_tool")
    assert unknown.fix == "did you mean `read_file`?"
    assert ("matches_nothing", "/tools/write_*") in codes(policy(**{"write_*": {}}), stack)
    assert codes(policy(**{"read_*": {}}), stack) == []


@pytest.mark.parametrize("place", ["top", "section"])
def test_conditions_are_checked_beside_the_server_that_has_the_tool(place):
    stack = stack_of(a=listed("read_a"), bank=(PAY,))
    tools = {"pay": {"require": [{"path": "args.amout", "op": "lte", "value": 5}], "action": "approve"}}
    section = {"tools": tools}
    document = {"version": "1", **(section if place == "top" else {"servers": {"bank": section}})}
    at = "" if place == "top" else "/servers/bank"
    assert ("unknown_argument", f"{at}/tools/pay/require/0/path") in codes(json.dumps(document), stack)
    tools["pay"]["require"][0]["path"] = "args.amount"
    assert codes(json.dumps(document), stack) == []


def test_a_tool_that_nothing_holds_back_on_one_server_is_said():
    stack = stack_of(a=listed("read_a"), bank=(PAY,))
    assert codes(policy(pay={}, read_a={}), stack) == [("unguarded_tool", "/tools/pay")]


@pytest.mark.parametrize("count", [1, 2])
def test_the_section_of_a_server_that_is_not_shown_is_checked_without_tools(count):
    servers = dict.fromkeys(["a", "b"][:count], listed("read_a"))
    wrong = {"require": [{"path": "args.n", "op": "eq", "value": 1}, {"path": "args.n", "op": "eq", "value": 2}]}
    sections = {"a": {"tools": {"read_a": {}}}, "elsewhere": {"tools": {"foo": wrong}}}
    found = codes(json.dumps({"version": "1", "servers": sections}), stack_of(**servers))
    assert [code for code, _ in found] == ["contradiction"]


def test_many_servers_are_checked_beside_their_tools_too():
    stack = stack_of(**{f"s{number}": listed(f"read_{number}") for number in range(30)})
    assert codes(policy(read_29={}), stack) == []
    assert codes(policy(read_30={}), stack) == [("unknown_tool", "/tools/read_30")]


def test_beside_the_whole_catalogue_only_sections_are_checked_with_tools():
    assert codes(policy(my_own_tool={"rate_limit": "5/day"}), CATALOGUE) == []
    sections = {"stripe": {"tools": {"creat_refund": {"rate_limit": "5/day"}}}}
    found = codes(json.dumps({"version": "1", "servers": sections}), CATALOGUE)
    assert found == [("unknown_tool", "/servers/stripe/tools/creat_refund")]


def test_a_stack_without_tools_is_no_reason_to_say_nothing():
    stack = of_listings("none", [Listed("a", "", (), "it did not start")])
    assert codes('{"version": "1", "tools": {}}', stack) == codes('{"version": "1", "tools": {}}', of_listings("", []))
    assert codes(json.dumps({"version": "1", "default": "allow"}), stack) == [("default_allow", "/default")]


def test_a_difference_is_shown_with_a_call():
    old = policy(create_refund={"rate_limit": "3/minute"}, list_prices={})
    found = compared(old, policy(create_refund={"rate_limit": "9/minute"}, list_prices={}))
    assert found.relation == "looser"
    (difference,) = found.differences
    assert "create_refund" in difference.tool
    (shown,) = difference.shown
    assert shown.looser
    assert "after 3 calls" in shown.before
    assert shown.new.startswith("allow")
    assert compared(old, old).relation == "equal"
    assert compared(old, policy(list_prices={})).relation == "stricter"


def test_a_text_that_does_not_load_cannot_be_compared():
    assert "the document does not load" in compared(policy(a={}), "{").problem
    assert "the saved file does not load" in compared("{", policy(a={})).problem
