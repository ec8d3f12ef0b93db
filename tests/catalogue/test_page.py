"""The pages as data: what a tool's page says, that its documents do what they say, and what stands beside it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from mcp_policy import Policy, PolicyEngine, ToolCall
from mcp_policy.catalogue.lookup import LEVEL_OF, Override, ServerEntry, ToolCatalogue, ToolEntry
from mcp_policy.catalogue.page import LIMIT, RELATED, ToolPage, search, server_page, server_row, tool_page
from mcp_policy.catalogue.profile import CATEGORIES, Category, Evidence, RiskProfile


def entry(
    name: str,
    category: Category = "read",
    parameters: dict[str, dict[str, Any]] | None = None,
    *,
    confidence: float = 0.9,
    **more: Any,
) -> ToolEntry:
    verb = re.split(r"[_.]", name)[0]
    profile = RiskProfile(name, category, LEVEL_OF[category], confidence, (Evidence("name", verb, category),))
    facts = {"parameters": parameters or {}, "hints": {}, "summary": f"It is {name}.", "fingerprint": None}
    return ToolEntry(
        **{"server": "acme", "name": name, "profile": profile, "classified": profile, "override": None, **facts, **more}
    )


def server(*tools: ToolEntry) -> ServerEntry:
    return ServerEntry(
        "acme", ("acme-mcp",), "Acme", "pypi:acme-mcp", "1.2", "It does things.", {one.name: one for one in tools}
    )


def page(one: ToolEntry, *others: ToolEntry) -> ToolPage:
    return tool_page(server(one, *others), one)


# -- the page of a tool


def test_a_page_says_everything() -> None:
    found = page(
        entry(
            "get_file",
            parameters={"path": {"type": "string", "required": True}, "mode": {"enum": ["a", "b"]}},
            hints={"readOnlyHint": True},
            override=Override("read", "medium", "it reads what is private"),
        ),
        entry("list_files"),
    )
    assert (found.tool, found.server, found.server_title, found.category) == ("get_file", "acme", "Acme", "read")
    assert found.summary == "It is get_file."
    assert found.evidence == (Evidence("name", "get", "read"),)
    assert [tuple(one) for one in found.parameters] == [
        ("path", "string", True, ()),
        ("mode", "any", False, ("a", "b")),
    ]
    assert found.hints == {"readOnlyHint": True}
    assert found.override is not None
    assert [one.tool for one in found.related] == ["list_files"]
    assert [one.title for one in found.how_to] == ["limit", "deny", "approve"]
    assert "path-traversal" in [one.id for one in found.attacks]


@pytest.mark.parametrize("category", CATEGORIES)
def test_a_page_says_why(category: Category) -> None:
    said = page(entry("do_things", category)).why
    assert "Acme (things)" in said
    assert said.endswith(".")
    assert len({page(entry("do_things", one)).why for one in CATEGORIES}) == len(CATEGORIES)


def test_why_names_what_can_be_aimed_the_worst_first() -> None:
    parameters = {name: {} for name in ("force", "to", "path", "command")}
    said = page(entry("run_things", "execute", parameters)).why
    assert said.index("`command`") < said.index("`path`")
    assert "`to`" not in said
    assert "`force`" not in said


def test_why_speaks_of_the_key_where_nothing_else_can_be_aimed() -> None:
    required = {"type": "string", "required": True}
    assert "another `task_id`" in page(entry("get_task", parameters={"task_id": required})).why
    assert "another" not in page(entry("get_task", parameters={"task_id": {"type": "string"}})).why


def test_why_says_where_the_category_is_a_guess() -> None:
    assert "not certain" in page(entry("foo", "write", confidence=0.3)).why
    assert "not certain" not in page(entry("foo", "write", confidence=0.5)).why


def test_braces_in_a_name_are_no_placeholders() -> None:
    assert "`{0.__class__}_id`" in page(entry("get_{place}", parameters={"{0.__class__}_id": {"required": True}})).why
    assert "`{place}_url`" in page(entry("get_{x}", parameters={"{place}_url": {}})).why


# -- the documents


NAMES = ["get_task", "odd name", "über.größe", "what?", "all*", "*", "a/b~c", '"quoted"', "{x}"]


def decide(document: dict[str, Any], *tools: str) -> list[str]:
    engine = PolicyEngine(Policy.model_validate(document), clock=lambda: 0.0)
    return [str(engine.authorize(ToolCall(tool, session="s")).effect) for tool in tools]


@pytest.mark.parametrize("name", NAMES)
def test_the_documents_do_what_they_say(name: str) -> None:
    limit, deny, approve = (one.document for one in page(entry(name)).how_to)
    most = LIMIT["max"]
    assert decide(limit, *[name] * (most + 1)) == ["allow"] * most + ["limit"]
    assert decide(deny, name) == ["deny"]
    assert decide(approve, name) == ["approve"]


@pytest.mark.parametrize("name", NAMES)
def test_the_documents_are_about_no_other_tool(name: str) -> None:
    found = page(entry(name))
    for document in (found.recommended, *(one.document for one in found.how_to)):
        assert decide(document, "whatever", "allow", name + "x", "x" + name) == ["deny"] * 4


@pytest.mark.parametrize("category", CATEGORIES)
def test_the_recommended_document_loads(category: Category) -> None:
    recommended = page(entry("x_thing", category)).recommended
    assert Policy.model_validate(recommended).digest
    assert ("x_thing" in recommended["tools"]) is True
    if category in {"destructive", "financial"}:
        assert decide(recommended, "x_thing") == ["approve"]


# -- what stands beside it


def test_related_tools_are_about_the_same_then_of_the_same_category() -> None:
    one = entry("get_task_metrics")
    others = [
        entry("delete_task", "destructive"),
        entry("list_models"),
        entry("get_task"),
        entry("create_model", "write"),
        entry("compare_task_metrics"),
        entry("delete_metric", "destructive"),
    ]
    assert [row.tool for row in page(one, *others).related] == [
        *("compare_task_metrics", "get_task", "delete_metric", "delete_task", "list_models")
    ]


def test_related_tools_are_few_and_not_the_tool_itself() -> None:
    tools = [entry(f"get_{letter}") for letter in "abcdefghij"]
    found = page(*tools).related
    assert len(found) == RELATED
    assert "get_a" not in [row.tool for row in found]
    assert page(tools[0]).related == ()


def test_the_servers_own_name_relates_nothing() -> None:
    found = page(entry("acme_get_task"), entry("acme_delete_model", "destructive"))
    assert found.related == ()


# -- servers


def test_a_servers_page_counts_and_begins_with_the_worst() -> None:
    tools = [entry("get_b"), entry("get_a"), entry("pay", "financial"), entry("delete_a", "destructive")]
    found = server_page(server(*tools))
    assert [row.tool for row in found.tools] == ["pay", "delete_a", "get_a", "get_b"]
    assert found.server.levels == {"low": 2, "medium": 0, "high": 0, "critical": 2}
    assert found.server.categories == {"read": 2, "write": 0, "execute": 0, "destructive": 1, "financial": 1}
    assert found.server == server_row(server(*tools))


def test_a_server_without_a_title_is_called_by_its_id() -> None:
    bare = ServerEntry("acme", (), "", "", "", "", {"get_x": entry("get_x")})
    assert server_row(bare).title == "acme"
    assert tool_page(bare, entry("get_x")).server_title == "acme"


class Catalogue(ToolCatalogue):
    """A catalogue of one server."""

    def __init__(self, only: ServerEntry) -> None:
        super().__init__()
        self.only = only

    def servers(self) -> tuple[ServerEntry, ...]:
        return (self.only,)


def test_a_search_wants_every_word() -> None:
    catalogue = Catalogue(server(entry("get_task"), entry("get_model"), entry("x", summary="Says how a Task went.")))
    assert [row.tool for row in search(catalogue, ["TASK"])] == ["get_task", "x"]
    assert [row.tool for row in search(catalogue, ["acme", "model"])] == ["get_model"]
    assert search(catalogue, ["task", "model"]) == ()
