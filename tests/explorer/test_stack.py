"""The stack: every tool has an address and a page; what a policy does with it is the engine's own answer."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_policy import Policy, PolicyEngine
from mcp_policy.catalogue import ToolCatalogue
from mcp_policy.explorer.highlighting import marked
from mcp_policy.explorer.posture import example_arguments, posture, postures
from mcp_policy.explorer.stack import Listed, Stack, of_catalogue, of_listings
from properties.generate import Maker

ALL = of_catalogue(ToolCatalogue.bundled())
CLEARML = of_catalogue(ToolCatalogue.bundled(), "clearml")


def tool(name: str, description: str = "", schema: Any = None, **more: Any) -> dict[str, Any]:
    return {"name": name, "description": description, "inputSchema": schema or {"type": "object"}, **more}


def stack_of(*tools: dict[str, Any], server: str = "s") -> Stack:
    return of_listings("x", [Listed(server, "", tools, "")])


def test_the_catalogue_is_a_stack():
    assert len(ALL.tools) > 1_000
    assert sum(len(server.tools) for server in ALL.servers) == len(ALL.tools)
    assert ALL.tools["clearml/get_task_metrics"].page.recommended["tools"]
    assert [server.name for server in CLEARML.servers] == ["clearml"]
    with pytest.raises(KeyError):
        of_catalogue(ToolCatalogue.bundled(), "nothing")


def test_the_most_dangerous_come_first():
    levels = [one.row.level for one in ALL.tools.values()]
    order = ["critical", "high", "medium", "low"]
    assert levels == sorted(levels, key=order.index)


def test_a_listing_is_a_stack():
    listed = tool(
        "delete_page",
        "Delete a page for good. It is gone then.",
        {"type": "object", "properties": {"id": {"type": "string"}}},
    )
    stack = of_listings(
        "mcp.json", [Listed("wiki", "My Wiki", (listed,), ""), Listed("gone", "", (), "no such command")]
    )
    found = stack.tools["wiki/delete_page"]
    assert (found.page.category, found.page.summary) == ("destructive", "Delete a page for good.")
    assert [one.name for one in found.page.parameters] == ["id"]
    assert stack.servers[0].title == "My Wiki"
    assert (stack.servers[1].failure, stack.servers[1].tools) == ("no such command", ())
    assert found.page.recommended["tools"]["delete_page"]


def test_the_catalogue_is_asked_about_servers_that_it_knows():
    stack = of_listings("x", [Listed("clearml", "", (tool("get_task_metrics", "Delete all."), tool("odd")), "")])
    assert (stack.tools["clearml/get_task_metrics"].known, stack.tools["clearml/odd"].known) == ("changed", "new")


def test_a_tool_that_is_listed_twice_is_there_twice_with_a_warning():
    stack = stack_of(tool("a"), tool("a", "Other."))
    assert set(stack.tools) == {"s/a", "s/a-2"}
    assert all(any("listed 2 times" in one.message for one in found.suspicions) for found in stack.tools.values())


NAMES = st.text(min_size=1, max_size=20)


@given(st.lists(st.tuples(NAMES, st.lists(NAMES, max_size=5)), max_size=4))
def test_every_tool_has_an_address_that_is_a_file_name_everywhere(servers):
    stack = of_listings("x", [Listed(name, "", tuple(tool(one) for one in tools), "") for name, tools in servers])
    assert len(stack.tools) == sum(len(tools) for _, tools in servers)
    assert all(re.fullmatch(r"[a-z0-9_-]+/[a-z0-9_-]+", slug) for slug in stack.tools)
    assert all(len(slug) < 140 for slug in stack.tools)


# -- what a policy does with it


def state(rules: dict[str, Any], name: str = "get_task_metrics", **top: Any) -> str:
    engine = PolicyEngine(Policy.model_validate({"version": "1", "tools": rules, **top}))
    stack = stack_of(
        tool(
            "get_task_metrics",
            "Get metrics.",
            {"type": "object", "properties": {"task_id": {"type": "string"}}, "required": ["task_id"]},
        ),
        tool("delete_task", "Delete a task."),
    )
    found = posture(engine, stack.tools[f"s/{name}"])
    assert bare(found.decision) == bare(engine.evaluate(found.call))
    assert str(found.decision) in found.says
    return found.state


def bare(decision: Any) -> Any:
    """Return a decision without what the engine has noted for itself."""
    return decision._replace(evidence=None)


LTE = {"path": "args.amount", "op": "lte", "value": 5}
ROLE = {"path": "principal.roles", "op": "contains", "value": "admin"}


@pytest.mark.parametrize(
    ("rules", "top", "expected"),
    [
        ({}, {}, "denied"),
        ({"get_*": {}}, {}, "allowed"),
        ({"get_*": {"action": "deny"}}, {}, "denied"),
        ({"get_*": {"action": "hide"}}, {}, "hidden"),
        ({"get_*": {}}, {"hide": ["*"]}, "hidden"),
        ({"get_*": {"rate_limit": "5/hour"}}, {}, "limited"),
        ({"get_*": {"rate_limit": "0/hour"}}, {}, "denied"),
        ({"get_*": {"action": "approve"}}, {}, "asks"),
        ({"get_*": {"require": [LTE]}}, {}, "conditional"),
        ({"get_*": {"deny_if": [ROLE]}}, {}, "conditional"),
        ({"get_*": {"when": [ROLE]}}, {}, "conditional"),
        ({"get_*": {"when": [ROLE]}, "*": {"action": "deny"}}, {}, "denied"),
        ({"get_*": {"mode": "shadow", "action": "deny"}}, {"default": "allow"}, "unguarded"),
        ({}, {"default": "allow"}, "unguarded"),
        ({"get_*": {"action": "deny"}}, {"mode": "shadow"}, "unguarded"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_what_a_policy_does_with_a_tool(rules, top, expected):
    assert state(rules, **top) == expected


def test_what_does_more_than_change_and_runs_freely_is_unguarded():
    assert state({"*": {}}, "delete_task") == "unguarded"
    assert state({"*": {"rate_limit": "5/hour"}}, "delete_task") == "limited"


def test_without_a_policy_nothing_guards():
    found = posture(None, CLEARML.tools["clearml/get_task_metrics"])
    assert (found.state, found.decision) == ("unguarded", None)
    assert posture(PolicyEngine(), CLEARML.tools["clearml/get_task_metrics"]).state == "denied"


def test_a_tool_has_the_category_that_a_guard_would_find():
    engine = PolicyEngine(
        Policy.model_validate({"version": "1", "categories": {"read": {}, "destructive": {"action": "approve"}}})
    )
    stack = of_listings(
        "x", [Listed("clearml", "", (tool("get_task_metrics", "Delete all."), tool("delete_x", "Delete it.")), "")]
    )
    assert (
        posture(engine, stack.tools["clearml/get_task_metrics"]).state == "denied"
    )  # it has changed, so it is unknown
    assert posture(engine, stack.tools["clearml/delete_x"]).state == "asks"
    assert posture(engine, CLEARML.tools["clearml/get_task_metrics"]).state == "allowed"


@pytest.mark.parametrize("seed", range(60))
def test_every_state_comes_from_the_engine(seed):
    engine = PolicyEngine(Policy.model_validate(Maker(seed).policy()))
    for found in postures(engine, CLEARML).values():
        assert bare(found.decision) == bare(engine.evaluate(found.call))
        if found.state in ("allowed", "limited"):
            assert found.decision.allowed
        if found.state in ("denied", "hidden"):
            assert not found.decision.allowed


def test_an_example_is_made_from_the_schema():
    schema = {
        "type": "object",
        "properties": {
            "a": {"type": "string"}, "b": {"type": ["null", "integer"]}, "c": {"enum": [None, "x"]}, "d": {"const": 7},
            "e": {"anyOf": [{"type": "null"}, {"type": "boolean"}]}, "f": {}, "g": {"type": "array", "default": [1]},
            "h": {"type": "string"}, "i": {"type": 5}, "j": True,
        },
        "required": ["a", "b", "c", "d", "e", "f", "g", "i", "j", "nothing", 5],
    }  # fmt: skip
    found = example_arguments(stack_of(tool("t", "", schema)).tools["s/t"].definition)
    assert found == {
        "a": "example",
        "b": 1,
        "c": "x",
        "d": 7,
        "e": True,
        "f": "example",
        "g": [1],
        "i": "example",
        "j": "example",
    }


# -- the evidence in its definition


def test_the_words_that_show_it_are_marked():
    found = marked(stack_of(tool("delete_page", "Delete a page, and what is below it.")).tools["s/delete_page"])
    assert found.name == (("delete", "destructive"), ("_page", ""))
    assert found.description[0] == ("Delete", "destructive")


@given(st.text(max_size=80), st.text(min_size=1, max_size=20))
def test_the_pieces_are_the_text(description, name):
    one = next(iter(stack_of(tool(name, f"Delete {description}", title=description)).tools.values()))
    found = marked(one)
    assert "".join(text for text, _ in found.name) == one.definition.name
    assert "".join(text for text, _ in found.title) == one.definition.title
    assert "".join(text for text, _ in found.description) == one.definition.description


def test_a_long_text_is_no_trouble():
    long = "delete " * 20_000
    found = marked(stack_of(tool("delete", long)).tools["s/delete"])
    assert "".join(text for text, _ in found.description) == long
