"""What is said of a listed tool: a review counts for what was reviewed, and what is listed twice is told."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_policy.catalogue import ToolCatalogue, classify
from mcp_policy.catalogue.definition import read_definition
from mcp_policy.catalogue.judging import by_danger, judge, rows_of
from mcp_policy.catalogue.page import definition_of


def tool(name: str, description: str = "") -> dict[str, Any]:
    return {"name": name, "description": description, "inputSchema": {"type": "object"}}


def reviewed() -> Any:
    """Return an entry that a review has made another of than the classifier would."""
    entries = (entry for server in ToolCatalogue.bundled().servers() for entry in server.tools.values())
    return next(entry for entry in entries if entry.override is not None and entry.profile != entry.classified)


def test_a_review_does_not_count_for_another_definition():
    entry = reviewed()
    definition = definition_of(entry)._replace(description="Something else.")
    assert judge(entry.server, definition) == classify(definition)


def test_each_tool_is_told_in_the_order_of_the_list():
    rows = rows_of("wiki", [tool("get_page", "Get a page."), tool("delete_page", "Delete a page.")])
    assert [(row.server, row.definition.name, row.profile.category, row.known) for row in rows] == [
        ("wiki", "get_page", "read", "new"),
        ("wiki", "delete_page", "destructive", "new"),
    ]
    assert [row.definition.name for row in sorted(rows, key=by_danger)] == ["delete_page", "get_page"]


def test_a_server_is_known_by_its_name_or_by_what_it_calls_itself():
    listed = [tool("get_task_metrics", "Other.")]
    assert [row.known for row in rows_of("clearml", listed)] == ["changed"]
    assert [row.known for row in rows_of("mine", listed, "clearml")] == ["changed"]
    assert [row.known for row in rows_of("mine", listed)] == ["new"]


def test_what_is_listed_twice_stands_twice_with_a_warning():
    rows = rows_of("s", [tool("a", "Get it."), tool("b"), tool("a", "Delete it.")])
    assert [[one.message for one in row.suspicions if one.code == "duplicate"] for row in rows] == [
        ["is listed 2 times: which one a client calls is anybody's guess"],
        [],
        ["is listed 2 times: which one a client calls is anybody's guess"],
    ]


def test_a_definition_is_copied_before_it_is_judged():
    listed = tool("a", "Get it.")
    (row,) = rows_of("s", [listed])
    listed["description"] = "Delete it."
    assert row.definition == read_definition(tool("a", "Get it."))


def test_what_is_no_definition_is_an_error():
    with pytest.raises(ValueError, match="`name`"):
        rows_of("s", [{"description": "x"}])
