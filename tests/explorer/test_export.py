"""The explorer's pages as files: whole, linked within themselves, and never over somebody's own files."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from mcp_policy import Policy
from mcp_policy.catalogue import ToolCatalogue
from mcp_policy.explorer.export import MARKER, ExportError, export
from mcp_policy.explorer.stack import Listed, Stack, of_catalogue, of_listings


@pytest.fixture(scope="module")
def clearml() -> Stack:
    return of_catalogue(ToolCatalogue.bundled(), "clearml")


@pytest.fixture(scope="module", name="everything")
def _everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("everything") / "site"
    stack = of_catalogue(ToolCatalogue.bundled())
    assert export(stack, folder) == len(stack.tools) + 2
    return folder


class Links(HTMLParser):
    """What a page leads to, and the places that it has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.leads: set[str] = set()
        self.places: set[str] = set()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for key, value in attrs:
            if key in ("href", "src"):
                self.leads.add(value or "")
            elif key == "id":
                assert value not in self.places, f"{value} is there twice"
                self.places.add(value or "")


@cache
def links(path: Path) -> Links:
    return Links(path)


def broken(folder: Path) -> list[str]:
    """Return the links of all pages that lead nowhere, or out of the folder."""
    found = []
    for path in sorted(folder.rglob("*.html")):
        for link in links(path).leads:
            parts = urlsplit(link)
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            there = not parts.scheme and not parts.netloc and target.is_file() and target.is_relative_to(folder)
            if there and parts.fragment and "=" not in parts.fragment:
                there = parts.fragment in links(target).places
            if not there:
                found.append(f"{path.relative_to(folder)}: {link}")
    return found


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class TestTheFiles:
    def test_every_link_leads_to_a_file_or_a_place_that_is_there(self, everything: Path):
        assert broken(everything.resolve()) == []

    def test_a_link_that_leads_nowhere_is_found(self, tmp_path: Path):
        (tmp_path / "a.html").write_text(
            '<a id="x" href="#y"></a><a href="b.html"></a><a href="../c"></a><a href="#x">'
        )
        assert len(broken(tmp_path.resolve())) == 3

    def test_every_tool_has_its_page(self, everything: Path):
        slugs = {f"tools/{slug}.html" for slug in of_catalogue(ToolCatalogue.bundled()).tools}
        assert {name for name in files(everything) if name.startswith("tools/")} == slugs

    def test_nothing_of_the_builder_is_among_them(self, everything: Path):
        assert {path.name for path in (everything / "static").iterdir()} == {"explore.css", "explore.js", "icon.svg"}
        assert "builder.html" not in (everything / "index.html").read_text("utf-8")

    def test_nothing_is_asked_of_anywhere(self, everything: Path):
        for name in ("explore.css", "explore.js"):
            text = (everything / "static" / name).read_text("utf-8")
            assert not re.search(r"https?://|url\(|@import|\bfetch\(|XMLHttp|\beval\b|innerHTML", text)

    def test_the_same_stack_gives_the_same_files(self, clearml: Stack, tmp_path: Path):
        for name in "ab":
            export(clearml, tmp_path / name)
        assert files(tmp_path / "a") == files(tmp_path / "b")

    def test_a_policy_is_in_them_where_one_is_given(self, clearml: Stack, tmp_path: Path):
        policy = Policy.parse('{"version": "1", "tools": {"get_task_metrics": {"rate_limit": "10/minute"}}}')
        export(clearml, tmp_path / "with", policy)
        export(clearml, tmp_path / "without")
        name = "tools/clearml/get_task_metrics.html"
        assert ["state-limited" in (tmp_path / one / name).read_text() for one in ("with", "without")] == [True, False]

    def test_names_of_servers_and_tools_lead_nowhere_else(self, tmp_path: Path):
        names = ("../../up", "..", "a/b", "CON", "A", "a", "\u202e", "x" * 500, "%2e%2e", "a\\b")
        tools = tuple({"name": name, "inputSchema": {}} for name in names)
        stack = of_listings("mcp.json", [Listed(name, "", tools, "") for name in names])
        folder = tmp_path / "site"
        assert export(stack, folder) == len(names) ** 2 + 2
        assert [path.name for path in tmp_path.iterdir()] == ["site"]
        assert len({name.casefold() for name in files(folder)}) == len(names) ** 2 + 2 + 3 + 1
        assert broken(folder.resolve()) == []

    def test_a_stack_that_names_another_place_is_refused(self, clearml: Stack, tmp_path: Path):
        tool = replace(next(iter(clearml.tools.values())), slug="../up")
        stack = clearml._replace(servers=(clearml.servers[0]._replace(tools=(tool,)),), tools={tool.slug: tool})
        with pytest.raises(ExportError, match="no name for a file"):
            export(stack, tmp_path / "site")
        assert list(tmp_path.iterdir()) == []


class TestTheFolder:
    def test_an_empty_one_is_taken(self, clearml: Stack, tmp_path: Path):
        export(clearml, tmp_path)
        assert (tmp_path / "index.html").is_file()

    def test_one_that_is_not_there_is_made(self, clearml: Stack, tmp_path: Path):
        export(clearml, tmp_path / "a" / "b")
        assert (tmp_path / "a" / "b" / "index.html").is_file()

    def test_an_earlier_export_is_replaced_as_a_whole(self, clearml: Stack, tmp_path: Path):
        export(of_listings("x", [Listed("old", "", ({"name": "gone", "inputSchema": {}},), "")]), tmp_path)
        assert (tmp_path / "tools" / "old" / "gone.html").is_file()
        export(clearml, tmp_path)
        export(clearml, tmp_path.parent / "fresh")
        assert files(tmp_path) == files(tmp_path.parent / "fresh")

    @pytest.mark.parametrize("marker", [None, b"", b"mine"], ids=["without", "empty", "other"])
    def test_somebodys_own_is_left_alone(self, clearml: Stack, tmp_path: Path, marker: bytes | None):
        (tmp_path / "thesis.txt").write_text("years of work")
        if marker is not None:
            (tmp_path / MARKER).write_bytes(marker)
        before = files(tmp_path)
        with pytest.raises(ExportError, match="no earlier export"):
            export(clearml, tmp_path)
        assert files(tmp_path) == before

    def test_a_marker_that_leads_elsewhere_is_none(self, clearml: Stack, tmp_path: Path):
        export(clearml, tmp_path / "site")
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / MARKER).symlink_to(tmp_path / "site" / MARKER)
        with pytest.raises(ExportError, match="no earlier export"):
            export(clearml, tmp_path / "mine")

    def test_what_a_link_leads_to_is_left_alone(self, clearml: Stack, tmp_path: Path):
        export(clearml, tmp_path / "site")
        mine = tmp_path / "mine"
        mine.mkdir()
        (mine / "thesis.txt").write_text("years of work")
        (tmp_path / "site" / "tools" / "extra").symlink_to(mine)
        (tmp_path / "site" / "static" / "extra").symlink_to(mine)
        export(clearml, tmp_path / "site")
        assert (mine / "thesis.txt").read_text() == "years of work"
        assert not (tmp_path / "site" / "tools" / "extra").exists()

    @pytest.mark.parametrize("name", [".git", "CNAME", "thesis.txt"])
    def test_what_was_put_beside_an_earlier_one_is_left_alone(self, clearml: Stack, tmp_path: Path, name: str):
        export(clearml, tmp_path)
        (tmp_path / name).write_text("mine")
        before = files(tmp_path)
        with pytest.raises(ExportError, match=f"holds `{name}`, which is of no earlier export"):
            export(clearml, tmp_path)
        assert files(tmp_path) == before

    def test_a_file_is_none(self, clearml: Stack, tmp_path: Path):
        (tmp_path / "site").write_text("mine")
        with pytest.raises(ExportError, match="is a file"):
            export(clearml, tmp_path / "site")
        assert (tmp_path / "site").read_text() == "mine"

    def test_one_below_a_file_is_an_error_that_says_so(self, clearml: Stack, tmp_path: Path):
        (tmp_path / "file").write_text("mine")
        with pytest.raises(ExportError, match="Not a directory"):
            export(clearml, tmp_path / "file" / "site")

    def test_what_was_broken_off_can_be_done_again(self, clearml: Stack, tmp_path: Path):
        export(clearml, tmp_path)
        (tmp_path / "index.html").unlink()
        export(clearml, tmp_path)
        assert (tmp_path / "index.html").is_file()
