"""The words that show a tool's risk are marked where they stand in its definition."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_policy.explorer.highlighting import Marked, marked
from mcp_policy.explorer.stack import Listed, Tool, of_listings


def listed(name: str, description: str = "", properties: Any = None, **more: Any) -> Tool:
    schema = {"type": "object", "properties": properties or {}}
    definition = {"name": name, "description": description, "inputSchema": schema, **more}
    return next(iter(of_listings("x", [Listed("s", "", (definition,), "")]).tools.values()))


def texts(found: Marked) -> tuple[str, str, str]:
    name, title, description = ("".join(text for text, _ in pieces) for pieces in found[:3])
    return name, title, description


def test_the_words_that_show_it_are_marked():
    found = marked(listed("delete_page", "Delete a page, and what is below it."))
    assert found.name == (("delete", "destructive"), ("_page", ""))
    assert found.description == (("Delete", "destructive"), (" a page, and what is below it.", ""))


@pytest.mark.parametrize(
    ("name", "pieces"),
    [
        ("targetGetPage", (("target", ""), ("Get", "read"), ("Page", ""))),
        ("target_get_page", (("target_", ""), ("get", "read"), ("_page", ""))),
        ("merge_merge_request", (("merge", "write"), ("_merge_request", ""))),
        ("page", (("page", ""),)),
    ],
    ids=["case", "underscore", "twice", "nothing"],
)
def test_whole_words_of_a_name_are_marked(name, pieces):
    assert marked(listed(name)).name == pieces


def test_whole_words_of_a_description_are_marked():
    found = marked(listed("x", "For pruned, overrun things: run them. Run them again."))
    assert found.description == (
        ("For pruned, overrun things: ", ""), ("run", "execute"), (" them. Run them again.", ""),
    )  # fmt: skip


def test_a_parameter_is_marked_as_a_whole_or_not_at_all():
    found = marked(listed("x", "", {"command": {"type": "string"}, "commander": {}, "recommand": {}}))
    assert found.parameters == {
        "command": (("command", "execute"),),
        "commander": (("commander", ""),),
        "recommand": (("recommand", ""),),
    }


def test_a_title_is_marked_where_it_was_read():
    assert marked(listed("x", title="Delete it")).title == (("Delete", "destructive"), (" it", ""))
    assert marked(listed("x", "Delete it.", title="Delete it")).title == (("Delete it", ""),)


@given(st.text(max_size=80), st.text(min_size=1, max_size=20))
def test_the_pieces_are_the_text(description, name):
    one = listed(name, f"Delete {description}", title=description)
    assert texts(marked(one)) == (one.definition.name, one.definition.title, one.definition.description)


@pytest.mark.parametrize(
    "text",
    ["delete " * 15_000, "\u202edelete\u202c " * 10_000, "\u0130\u017f\u212a delete" * 10_000, "de" * 50_000],
    ids=["repeated", "bidi", "folding", "one word"],
)
def test_a_long_text_is_no_trouble(text):
    one = listed("delete", text, title=text)
    found = marked(one)
    assert texts(found) == ("delete", text, text)
    assert len(found.description) <= 3
