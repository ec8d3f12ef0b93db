"""The stack: every tool that agents can reach has an address and a page."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_policy.catalogue import ToolCatalogue
from mcp_policy.explorer.stack import Listed, Stack, of_catalogue, of_listings

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


@pytest.mark.parametrize(
    ("names", "slugs"),
    [
        (["a", "A", "a-2", "a"], ["s/a", "s/a-2", "s/a-2-2", "s/a-3"]),
        (["a-2", "a", "a", "a"], ["s/a-2", "s/a", "s/a-3", "s/a-4"]),
        (["..", "/", "日本", "x"], ["s/x", "s/x-2", "s/x-3", "s/x-4"]),
        (["CON", "con", "con-2"], ["s/con-2", "s/con-3", "s/con-2-2"]),
    ],
    ids=["case", "numbered", "nothing left", "devices"],
)
def test_names_that_come_to_the_same_are_numbered(names, slugs):
    found = stack_of(*(tool(name, str(place)) for place, name in enumerate(names)))
    assert [
        slug for _, slug in sorted((one.definition.description, slug) for slug, one in found.tools.items())
    ] == slugs


def test_many_names_that_come_to_the_same_are_no_trouble():
    found = stack_of(*(tool("é" * 30 + chr(0x4E00 + number)) for number in range(2_000)))
    assert "s/x-2000" in found.tools


def test_definitions_that_differ_under_one_name_contest_each_other():
    same, other = tool("b", "Get it."), tool("a", "Other.")
    found = stack_of(tool("a"), other, same, same, tool("c")).tools
    assert {slug for slug, one in found.items() if one.contested} == {"s/a", "s/a-2"}
    assert not any(one.contested or one.listed for one in CLEARML.tools.values())


@pytest.mark.parametrize(
    ("description", "summary"),
    [
        ("Get it. Then more.", "Get it."),
        ("Create it, e.g. an issue. Then more.", "Create it, e.g. an issue."),
        ("Get v1.2 of it", "Get v1.2 of it"),
        ("  Get\n it\n\nMore.", "Get it"),
        ("", "Title"),
        ("x" * 100_000, "x" * 199 + "…"),
    ],
    ids=["sentence", "abbreviation", "version", "paragraph", "none", "long"],
)
def test_the_first_sentence_is_the_summary(description, summary):
    assert stack_of(tool("t", description, title="Title")).tools["s/t"].row.summary == summary
