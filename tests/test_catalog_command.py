"""`mcp-policy catalog`: every format, for real tools and hostile ones, and what is said where there is no such name."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import mcp_policy
from mcp_policy import Policy
from mcp_policy.catalogue.attacks import ATTACKS
from mcp_policy.cli import main
from mcp_policy.cli._render import FORMATS, Code, Facts, Items, Section, Table, Text, json_text, render, visible, write

SECTIONS = [
    *("What it does", "Why it needs a policy", "Evidence", "Parameters", "Attack patterns", "Recommended policy"),
    *("How to limit it", "How to deny it", "How to approve it", "Related tools"),
]
EVIL = "<script>alert(1)</script>\x1b[31m\u202e\u200b|`*[a](http://evil.example)\r\n# x\U000e0041\ufe0f\x9b"


def catalog(capsys: pytest.CaptureFixture[str], *argv: str, status: int = 0) -> str:
    assert main(["catalog", *argv]) == status
    said = capsys.readouterr()
    assert (said.err == "") == (status < 2)
    return said.out if status < 2 else said.err


def written(path: Path, servers: dict[str, Any]) -> str:
    path.write_text(json.dumps({"version": "1", "servers": servers}), encoding="utf-8")
    return str(path)


# -- the bundled catalogue


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    "asked",
    [["list"], ["show", "clearml"], ["show", "clearml", "get_task_metrics"], ["search", "metrics"], ["attacks"]],
)
def test_every_page_in_every_format(format: str, asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    told = catalog(capsys, *asked, "--format", format)
    assert told.endswith("\n")
    assert "\x1b" not in told
    assert told == catalog(capsys, *asked, "--format", format)
    if format == "json":
        assert json.dumps(json.loads(told), indent=2) + "\n" == told
    if format == "html":
        assert closed(told)


@pytest.mark.parametrize("format", ["text", "markdown", "html"])
def test_a_tools_page_has_every_section(format: str, capsys: pytest.CaptureFixture[str]) -> None:
    told = catalog(capsys, "show", "clearml", "get_task_metrics", "--format", format)
    places = [told.index(section) for section in SECTIONS]
    assert places == sorted(places)


def test_a_tools_page_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(catalog(capsys, "show", "clearml", "get_task_metrics", "--format", "json"))
    assert list(found) == [
        *("tool", "server", "server_title", "level", "category", "confidence", "summary", "why", "evidence"),
        *("parameters", "hints", "override", "attacks", "recommended", "how_to", "related"),
    ]
    assert (found["tool"], found["category"], found["level"]) == ("get_task_metrics", "read", "low")
    assert found["evidence"][0] == {"source": "name", "quote": "get", "suggests": "read"}
    assert [one["name"] for one in found["parameters"]] == ["task_id"]
    documents = [found["recommended"], *(one["document"] for one in found["how_to"])]
    documents += [one["policy"] for one in found["attacks"]]
    assert all(Policy.model_validate(document).digest for document in documents)
    assert found["attacks"][0]["references"][0].keys() == {"id", "title"}
    assert {one["server"] for one in found["related"]} == {"clearml"}


def test_the_list_counts(capsys: pytest.CaptureFixture[str]) -> None:
    servers = json.loads(catalog(capsys, "list", "--format", "json"))["servers"]
    assert len(servers) >= 40
    assert sum(one["tools"] for one in servers) >= 800
    for one in servers:
        assert one["tools"] == sum(one["levels"].values()) == sum(one["categories"].values())
    lines = catalog(capsys, "list").splitlines()
    assert any(line.startswith("clearml ") for line in lines)


def test_a_server_is_found_by_its_other_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert catalog(capsys, "show", "clearml-mcp") == catalog(capsys, "show", "clearml")


# -- names that are not there


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["show", "clearm"], "there is no server `clearm` in the catalogue; did you mean `clearml`?"),
        (["show", "zzzzzzzz"], "there is no server `zzzzzzzz` in the catalogue; `mcp-policy catalog list` shows all"),
        (
            ["show", "get_task_metrics"],
            "`get_task_metrics` is a tool: try `mcp-policy catalog show clearml get_task_metrics`",
        ),
        (
            ["show", "clearml", "get_task_metric"],
            "has no tool `get_task_metric` in the catalogue; did you mean `get_task_metrics`?",
        ),
        (["show", "clearml", "zzzzzzzz"], "`mcp-policy catalog show clearml` lists them"),
        (["attacks", "rugpull"], "there is no attack pattern `rugpull`; did you mean `rug-pull`?"),
        (["attacks", "zzzzzzzz"], "`mcp-policy catalog attacks` lists them"),
        (["show", "a\nb\x1b[31m"], "there is no server `a\\u000ab\\u001b[31m` in"),
    ],
)
def test_an_unknown_name_leads_to_a_known_one(asked: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    told = catalog(capsys, *asked, status=2)
    assert said in told
    assert told.startswith("mcp-policy catalog: ")
    assert told.count("\n") == 1


@pytest.mark.parametrize("format", FORMATS)
def test_a_search_that_finds_nothing_fails(format: str, capsys: pytest.CaptureFixture[str]) -> None:
    told = catalog(capsys, "search", "zzzzzzzz", "--format", format, status=1)
    if format == "json":
        assert json.loads(told) == {"search": "zzzzzzzz", "tools": []}
    else:
        assert "0 tools" in told


@pytest.mark.parametrize("argv", [[], ["nonsense"], ["show"], ["search"], ["list", "--format", "pdf"]])
def test_what_cannot_be_read_is_said(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["catalog", *argv])
    assert left.value.code == 2
    assert "usage: mcp-policy catalog" in capsys.readouterr().err


# -- files of one's own


def test_a_file_of_ones_own_stands_in_front(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tools = {"get_task_metrics": {"category": "financial"}, "ours": {"category": "write", "summary": "It is ours."}}
    file = written(
        tmp_path / "own.json", {"clearml": {"tools": tools}, "acme": {"tools": {"run": {"category": "execute"}}}}
    )
    found = json.loads(catalog(capsys, "show", "clearml", "--catalog", file, "--format", "json"))
    rows = {row["tool"]: row["category"] for row in found["tools"]}
    assert (rows["get_task_metrics"], rows["ours"], rows["get_task_info"]) == ("financial", "write", "read")
    assert "It is ours." in catalog(capsys, "search", "OURS", "--catalog", file)
    assert "execute" in catalog(capsys, "show", "acme", "run", "--catalog", file)


@pytest.mark.parametrize("content", ["{", '{"version": "2", "servers": {}}', '{"version": "1", "servers": {"a": {}}}'])
def test_a_file_that_is_wrong_is_refused(content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "own.json"
    file.write_text(content, encoding="utf-8")
    assert "own.json" in catalog(capsys, "list", "--catalog", str(file), status=2)
    assert "gone.json" in catalog(capsys, "list", "--catalog", str(tmp_path / "gone.json"), status=2)


# -- hostile texts


def hostile(tmp_path: Path) -> str:
    tool = {
        "category": "write",
        "summary": EVIL,
        "evidence": [["description", EVIL, "write"]],
        "parameters": {EVIL: {"type": EVIL, "enum": [EVIL]}, "url": {}},
    }
    about = {
        "title": EVIL,
        "about": EVIL,
        "package": EVIL,
        "names": ["other" + EVIL],
        "tools": {EVIL: tool, "ok": tool},
    }
    return written(tmp_path / "own.json", {"evil": about})


class Page(HTMLParser):
    """Reads which elements and attributes a page has, and whether they are closed."""

    VOID = frozenset({"meta"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: set[str] = set()
        self.attributes: set[str] = set()
        self.right = True

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes.update(name for name, _ in attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        self.right = self.right and bool(self.open) and self.open.pop() == tag


def closed(html: str) -> bool:
    parsed = Page()
    parsed.feed(html)
    return parsed.right and not parsed.open


@pytest.mark.parametrize(
    "asked", [["list"], ["show", "evil"], ["show", "evil", EVIL], ["show", "evil", "ok"], ["search", "script"]]
)
@pytest.mark.parametrize("format", FORMATS)
def test_hostile_texts_are_texts(
    asked: list[str], format: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = catalog(capsys, *asked, "--catalog", hostile(tmp_path), "--format", format)
    assert not re.search(r"[^\n\x20-\x7e\u00a1-\u024f\u2010-\u2027\u2030-\u203a]", told)
    if format == "html":
        parsed = Page()
        parsed.feed(told)
        assert closed(told)
        assert not parsed.elements & {"script", "a", "img", "link", "iframe", "base", "form"}
        assert not parsed.attributes & {"href", "src", "onload", "onclick"}
    if format == "markdown":
        outside = re.sub(r"^```.*?^```$", "", told, flags=re.MULTILINE | re.DOTALL)
        assert "<script>" not in outside.replace(r"\<script", "")
        assert "](" not in outside.replace(r"\](", "")
        assert "http://" not in outside
    if format == "json":
        assert EVIL in texts(json.loads(told))


def texts(value: Any) -> set[str]:
    """Every text in a JSON value."""
    if isinstance(value, dict | list):
        return {text for part in (value.values() if isinstance(value, dict) else value) for text in texts(part)}
    return {value} if isinstance(value, str) else set()


def test_a_page_says_what_a_browser_may_do() -> None:
    html = render(Section("T", []), None, "html")
    assert re.search(r"content=\"default-src 'none'; style-src 'sha256-[\w+/=]{44}'; base-uri 'none'", html)
    assert "http://" not in html
    assert "https://" not in html


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("plain", "plain"),
        (" two \r\n\tlines ", "two lines"),
        ("a\u202eb", r"a\u202eb"),
        ("\u200b\ufeff\u2060", r"\u200b\ufeff\u2060"),
        ("\x00\x1b\x7f\x9b", r"\u0000\u001b\u007f\u009b"),
        ("\U000e0041", r"\U000e0041"),
        ("a\ufe0f\U000e0100", r"a\ufe0f\U000e0100"),
        ("\u3164\u2800\uffa0", r"\u3164\u2800\uffa0"),
        ("\u2028\ue000", r"\u2028\ue000"),
        ("größe 任务 é", "größe 任务 é"),
        ("\ud800", r"\ud800"),
    ],
)
def test_every_character_shows(text: str, seen: str) -> None:
    assert visible(text) == seen


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("get_task_info", "get_task_info"),
        ("_x_ *y*", r"\_x\_ \*y\*"),
        ("1. a", r"1\. a"),
        ("- a", r"\- a"),
        ("# a", r"\# a"),
        ("<b> & &amp; a|b", r"\<b\> & \&amp; a\|b"),
        ("https://a.example www.a.example", r"https\://a.example www\.a.example"),
        ("@all $x$ ~~a~~", r"\@all \$x\$ \~\~a\~\~"),
        ("![i](u)", r"\!\[i\](u)"),
    ],
)
def test_markdown_is_text(text: str, escaped: str) -> None:
    assert render(Section("t", [text]), None, "markdown") == f"# t\n\n{escaped}\n"


def test_a_name_that_would_end_its_own_code_is_escaped() -> None:
    cells = [Text("a_b", "name"), Text("a`b", "name"), Text("a|b", "name")]
    assert render(Section("t", [Items(cells)]), None, "markdown") == "# t\n\n- `a_b`\n- a\\`b\n- a\\|b\n"


def test_code_with_fences_is_fenced_longer() -> None:
    assert "````json\n```\n````\n" in render(Section("t", [Code("```")]), None, "markdown")


def test_tables_are_aligned_and_one_row_is_one_line() -> None:
    table = Table(("name", "n"), [(Text("任务", "name"), 3), ("long " * 40, 1000), ("a\nb", "-")])
    lines = render(Section("t", [table]), None, "text").splitlines()[3:]
    assert len(lines) == 5
    assert lines[2] == "任务" + " " * 195 + "  " + "   3"
    assert lines[4].endswith("     -")
    assert render(Section("t", [Table(("a",), [])]), None, "text").endswith("a\n-\n")


def test_json_for_people_is_json() -> None:
    value = {"a": [], "b": {"c": [1, "x" * 90, None]}, "d": [{"e": True}], "f": {}}
    assert json.loads(json_text(value)) == value
    assert json_text({}) == "{}"
    assert json_text([1]) == "[\n  1\n]"
    assert json_text({"a": {"b": [1, 2]}}) == '{\n  "a": {"b": [1, 2]}\n}'


# -- where it is printed


class Terminal(io.StringIO):
    """A standard output that somebody looks at."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("has_rich", [True, False])
def test_a_terminal_has_colours_with_rich(has_rich: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delitem(sys.modules, "mcp_policy.cli._terminal", raising=False)
    if not has_rich:
        monkeypatch.setitem(sys.modules, "rich.console", None)
    deep = Section("Deep", [Facts([("label", Text("critical", "critical"))]), Items(["[bold]x[/bold] :smile:"])])
    code = Code('{"a": 1}')
    table = Table(("risk", "n"), [(Text("high", "high"), 1), ("\x1b[31mevil\u202e", 2)])
    write(Section("[red]T", ["x " * 100, code, table, deep, Section("Two", [Section("Three", [code])])]), {}, "text")
    told = terminal.getvalue()
    assert ("\x1b[" in told) == has_rich
    assert "\x1b[31mevil" not in told
    assert "\u202e" not in told
    assert "[red]T" in told
    assert "[bold]x[/bold] :smile:" in re.sub(r"\x1b\[[\d;]*m", "", told)


def test_a_stream_that_cannot_write_it_gets_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", newline="\n")
    monkeypatch.setattr(sys, "stdout", stream)
    write(Section("größe", []), None, "markdown")
    assert raw.getvalue() == b"# gr\\xf6\\xdfe\n"


def command(*argv: str) -> list[str]:
    return [sys.executable, "-m", "mcp_policy", "catalog", *argv]


ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(mcp_policy.__file__).parent.parent)}


def test_a_reader_who_leaves_is_no_failure() -> None:
    with subprocess.Popen(
        command("attacks", "--format", "html"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0


def test_a_lookup_needs_no_framework() -> None:
    program = (
        "import sys; from mcp_policy.cli import main; main(['catalog', 'list'])\n"
        "heavy = {'mcp', 'fastmcp', 'rich', 'starlette', 'httpx', 'clearml', 'yaml'}\n"
        "print(sorted(heavy & sys.modules.keys()), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=ENVIRONMENT)
    assert done.stderr == "[]\n"


def test_one_attack_alone(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(catalog(capsys, "attacks", "rug-pull", "--format", "json"))["attacks"]
    assert [one["id"] for one in found] == ["rug-pull"]
    assert len(json.loads(catalog(capsys, "attacks", "--format", "json"))["attacks"]) == len(ATTACKS)
