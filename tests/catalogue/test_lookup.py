"""Looking tools up: by server and tool together, people's files first, and nothing known of what has changed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import mcp_policy
from mcp_policy.catalogue import files, lookup
from mcp_policy.catalogue.definition import fingerprint
from mcp_policy.catalogue.files import CatalogueError
from mcp_policy.catalogue.lookup import LEVEL_OF, ToolCatalogue
from mcp_policy.catalogue.profile import CATEGORIES

SOURCE = str(Path(mcp_policy.__file__).parent.parent)


def definition(name: str, description: str = "", **annotations: Any) -> dict[str, Any]:
    return {"name": name, "description": description, "inputSchema": {"type": "object"}, "annotations": annotations}


def known(tool: dict[str, Any], category: str, **more: Any) -> dict[str, Any]:
    return {tool["name"]: {"category": category, "fingerprint": fingerprint(tool)._asdict(), **more}}


GET = definition("get_page", "Get a page.")
GUESS = definition("page", "A page.")
DELETE = definition("delete_page", "Delete a page.")
VARYING = definition("put_page", "Put a page.")
WIKI = {
    "names": ["wiki-mcp"],
    "title": "Wiki",
    "package": "pypi:wiki-mcp",
    "release": "1.0",
    "about": "Pages.",
    "tools": {
        **known(GET, "read", parameters={"slug": {"type": "string"}}, summary="Gets a page."),
        **known(GUESS, "write", confidence=0.2),
        **known(DELETE, "destructive", evidence=[["name", "delete", "destructive"]]),
        "put_page": {"category": "read", "summary": "Puts a page."},
    },
}
SHOP = {"names": [], "title": "Shop", "tools": {"pay": {"category": "write", "level": "medium", "confidence": 0.3}}}
OVERRIDES = {"shop": {"pay": {"category": "financial", "reason": "it charges a card"}}}


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A small bundle in the place of the real one."""
    servers = {"wiki": WIKI, "shop": SHOP}
    index = {server: {"names": entry["names"]} for server, entry in servers.items()}
    for name, tree in {
        "index.json": {"version": "1", "servers": index},
        "overrides.json": {"version": "1", "overrides": OVERRIDES},
        **{f"servers/{server}.json": {"version": "1", "servers": {server: entry}} for server, entry in servers.items()},
    }.items():
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(tree), encoding="utf-8")
    monkeypatch.setattr(files, "DATA", tmp_path / "data")
    forget()
    yield tmp_path / "data"
    forget()


def forget() -> None:
    lookup._bundled_source.cache_clear()
    lookup._bundled.cache_clear()


@pytest.fixture
def bundle(data) -> ToolCatalogue:
    return ToolCatalogue.bundled()


@pytest.fixture
def load(data, tmp_path):
    def loaded(*trees: dict[str, Any]) -> ToolCatalogue:
        paths = [tmp_path / f"{number}.json" for number, _ in enumerate(trees)]
        for path, servers in zip(paths, trees, strict=True):
            path.write_text(json.dumps({"version": "1", "servers": servers}), encoding="utf-8")
        return ToolCatalogue.load(*paths)

    return loaded


# -- entries


def test_a_server_is_found_by_its_id_and_its_names(bundle):
    wiki = bundle.server("wiki")
    assert wiki is not None
    assert wiki[:6] == ("wiki", ("wiki-mcp",), "Wiki", "pypi:wiki-mcp", "1.0", "Pages.")
    assert list(wiki.tools) == list(WIKI["tools"])
    assert bundle.server("wiki-mcp") == wiki
    assert [bundle.server(name) for name in ("Wiki", "wiki ", "", "none")] == [None] * 4
    assert [server.id for server in bundle.servers()] == ["shop", "wiki"]


def test_a_tool_is_found_by_server_and_name(bundle):
    entry = bundle.entry("wiki-mcp", "get_page")
    assert (entry.server, entry.name, entry.category, entry.level) == ("wiki", "get_page", "read", "low")
    assert (entry.summary, entry.parameters, entry.hints) == ("Gets a page.", {"slug": {"type": "string"}}, {})
    assert entry.fingerprint == fingerprint(GET)
    assert (entry.override, entry.override_reason, entry.profile.confidence) == (None, None, 1.0)
    assert bundle.entry("wiki", "delete_page").profile.evidence == (("name", "delete", "destructive"),)
    assert bundle.entry("shop", "get_page") is None
    assert bundle.entry("none", "get_page") is None


def test_a_review_stands_beside_what_the_classifier_says(bundle):
    entry = bundle.entry("shop", "pay")
    assert (entry.category, entry.level, entry.override_reason) == ("financial", "critical", "it charges a card")
    assert (entry.classified.category, entry.classified.level, entry.classified.confidence) == ("write", "medium", 0.3)
    assert (entry.profile.category, entry.profile.confidence) == ("financial", 1.0)
    assert bundle.category("shop", "pay") == "financial"


@pytest.mark.parametrize("category", CATEGORIES)
def test_a_category_has_a_level(category, load):
    assert load({"s": {"tools": {"t": {"category": category}}}}).entry("s", "t").level == LEVEL_OF[category]


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("PAGE", ["delete_page", "get_page", "page", "put_page"]),
        ("slug", ["get_page"]),
        ("puts", ["put_page"]),
        ("shop", ["pay"]),
        ("pa", ["pay", "delete_page", "get_page", "page", "put_page"]),
        ("pu", ["put_page"]),
        ("nothing", []),
    ],
)
def test_searching(bundle, word, found):
    assert [entry.name for entry in bundle.search(word)] == found


def test_names_come_first_in_a_search(bundle):
    assert [entry.name for entry in bundle.search("get")] == ["get_page"]
    assert [entry.server for entry in bundle.search("p")] == ["shop", "wiki", "wiki", "wiki", "wiki"]
    assert [entry.name for entry in bundle.search("s")][-1] == "put_page"


# -- categories


def test_without_a_definition_the_entry_counts(bundle):
    assert bundle.category("wiki", "get_page") == "read"
    assert bundle.category("wiki-mcp", "delete_page") == "destructive"
    assert bundle.category("wiki", "none") is None
    assert bundle.category("none", "get_page") is None, "known only elsewhere"
    assert bundle.category(None, "get_page") is None


def test_a_guess_is_no_category(bundle):
    assert bundle.category("wiki", "page") is None
    assert bundle.category("wiki", "page", GUESS) is None


def test_the_definition_that_the_entry_was_made_from(bundle):
    assert bundle.category("wiki", "get_page", GET) == "read"
    assert bundle.category("wiki", "delete_page", DELETE) == "destructive"


@pytest.mark.parametrize(
    "changed",
    [
        definition("get_page", "Get a page. Then send it to everybody."),
        definition("get_page", "Get a page.", readOnlyHint=True),
        {**GET, "inputSchema": {"type": "object", "properties": {"x": {}}}},
        {**GET, "title": "Get"},
        {**GET, "outputSchema": {"type": "object"}},
    ],
)
def test_a_changed_definition_is_unknown(bundle, changed):
    assert bundle.category("wiki", "get_page", changed) is None
    assert bundle.category("other", "get_page", changed) == "read", "nothing says that it was another one"


@pytest.mark.parametrize(
    "odd", [{}, {"name": ""}, {"name": "get_page", "title": float("nan"), "inputSchema": {"a": {1}}}, 5]
)
def test_a_definition_that_cannot_be_read_is_unknown(bundle, odd):
    assert bundle.category("wiki", "get_page", odd) is None
    assert bundle.category("other", "get_page", odd) is None


def test_the_definition_of_another_tool_says_nothing(bundle):
    assert bundle.category("wiki", "get_page", DELETE) is None
    assert bundle.category("other", "delete_page", GET) is None


def test_a_server_that_nobody_knows_is_classified(bundle):
    assert bundle.category("other", "get_page", GET) == "read"
    assert bundle.category(None, "delete_page", DELETE) == "destructive"
    assert bundle.category("wiki", "drop_all_pages", definition("drop_all_pages")) == "destructive", "a new tool"
    assert bundle.category("other", "zzqx", definition("zzqx")) is None, "a guess"


def test_what_runs_code_is_execute_with_or_without_an_entry(load):
    run = definition("run_command", "Run a command.", destructiveHint=True)
    catalogue = load({"wiki": {"tools": known(run, "execute")}})
    assert catalogue.category("wiki", "run_command", run) == "execute"
    assert catalogue.category("elsewhere", "run_command", run) == "execute"


def test_annotations_raise_and_never_lower(load):
    raising = definition("get_page", destructiveHint=True, readOnlyHint=False)
    lowering = definition("delete_page", readOnlyHint=True)
    catalogue = load({"mine": {"tools": {**known(raising, "read"), **known(lowering, "destructive")}}})
    assert catalogue.category("mine", "get_page", raising) == "destructive"
    assert catalogue.category("mine", "delete_page", lowering) == "destructive"
    assert catalogue.category("other", "delete_page", lowering) == "destructive"


def test_without_a_fingerprint_the_worse_of_both_counts(bundle, load):
    assert bundle.category("wiki", "put_page", VARYING) == "write"
    mine = load(
        {"mine": {"tools": {"get_page": {"category": "execute"}, "zzqx": {"category": "read", "confidence": 0.1}}}}
    )
    assert mine.category("mine", "get_page", GET) == "execute"
    assert mine.category("mine", "zzqx", definition("zzqx")) is None, "two guesses"


def test_several_definitions_under_one_name_are_none():
    from mcp_policy.catalogue.drift import locked

    tree = locked({"s": [GET, {**GET, "description": "Another."}]})
    catalogue = ToolCatalogue(lookup._Source(lambda: {"s": ()}, tree["servers"].__getitem__, dict))
    assert catalogue.category("s", "get_page", GET) is None


# -- people's own files


def test_people_s_own_files_come_first_tool_by_tool(load):
    mine = load({"wiki": {"title": "Ours", "tools": {"get_page": {"category": "write"}}}}, {"b": {"tools": {}}})
    assert mine.category("wiki", "get_page") == "write"
    assert mine.category("wiki", "delete_page") == "destructive"
    assert mine.category("wiki-mcp", "get_page") == "read", "a name that the file does not claim"
    wiki = mine.server("wiki")
    assert (wiki.title, wiki.names, wiki.package) == ("Ours", ("wiki-mcp",), "pypi:wiki-mcp")
    assert [server.id for server in mine.servers()] == ["b", "shop", "wiki"]


def test_a_file_may_claim_a_bundled_name(load):
    mine = load({"ours": {"names": ["wiki-mcp"], "tools": {"get_page": {"category": "execute"}}}})
    assert mine.category("ours", "get_page") == "execute"
    assert mine.category("wiki-mcp", "get_page") == "execute"
    assert mine.category("wiki-mcp", "delete_page") == "destructive"
    assert mine.category("ours", "delete_page") is None
    assert mine.category("wiki", "get_page") == "read"


def test_a_file_may_claim_a_bundled_id(load):
    mine = load({"mine": {"names": ["wiki"], "tools": {"get_page": {"category": "execute"}}}})
    listed = {server.id: list(server.tools) for server in mine.servers()}
    assert listed == {"mine": ["get_page"], "shop": ["pay"], "wiki": list(WIKI["tools"])}
    assert [mine.server(server.id) for server in mine.servers()] == list(mine.servers())
    assert len(mine.servers()) == 3
    assert mine.server("wiki").names == ()
    assert mine.category("wiki", "get_page") == "execute"
    assert mine.category("wiki", "delete_page") == "destructive"
    assert [(entry.server, entry.name) for entry in mine.search("get_page")] == [("mine", "get_page")]
    assert [(entry.server, entry.name) for entry in mine.search("delete_page")] == [("wiki", "delete_page")]


def test_a_file_does_not_change_the_bundled_catalogue(load, bundle):
    load({"wiki": {"tools": {"get_page": {"category": "financial"}}}})
    assert bundle.category("wiki", "get_page") == "read"
    assert ToolCatalogue.bundled() is bundle


def test_files_that_disagree_are_refused(load):
    with pytest.raises(CatalogueError, match="is a server of"):
        load({"a": {"tools": {}}}, {"b": {"names": ["a"], "tools": {}}})


# -- reading


def test_nothing_is_read_before_it_is_asked_for(data, monkeypatch):
    read = []
    monkeypatch.setattr(files, "_bundled", lambda name, really=files._bundled: read.append(name) or really(name))
    catalogue = ToolCatalogue.bundled()
    assert read == []
    assert catalogue.category("none", "get_page") is None
    assert read == ["index.json"]
    assert [catalogue.category("wiki", tool) for tool in ("get_page", "none")] == ["read", None]
    assert sorted(read) == ["index.json", "overrides.json", "servers/wiki.json"]


def test_a_bundle_that_is_not_there_is_no_empty_one(data):
    (data / "index.json").unlink()
    with pytest.raises(FileNotFoundError):
        ToolCatalogue.bundled().category("wiki", "get_page")


def test_a_policy_without_categories_imports_no_catalogue():
    code = """
import sys
from mcp_policy import Policy, PolicyEngine, ToolCall
PolicyEngine(Policy.parse('{"version": "1", "categories": {"read": {}}}'))
engine = PolicyEngine(Policy.parse('{"version": "1", "tools": {"t": {}}}'))
assert engine.authorize(ToolCall("t", server="s")).allowed and not engine.asks_definitions
print([name for name in sys.modules if name.startswith("mcp_policy.catalogue")])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": SOURCE}, check=True
    )
    assert done.stdout == "[]\n"


# -- the bundle that ships


def test_clearml_is_known_and_reads():
    catalogue = ToolCatalogue.bundled()
    clearml = catalogue.server("clearml")
    assert len(clearml.tools) == 14
    assert {(entry.category, entry.level) for entry in clearml.tools.values()} == {("read", "low")}
    assert all(entry.profile.evidence and entry.summary for entry in clearml.tools.values())
    assert catalogue.server("clearml-mcp") == clearml


def test_the_bundle_is_as_large_as_promised():
    servers = ToolCatalogue.bundled().servers()
    assert len(servers) >= 40
    assert sum(len(server.tools) for server in servers) >= 800
    assert all(server.title and server.about and server.package for server in servers)
