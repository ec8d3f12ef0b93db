"""`mcp-policy fmt`: which files it changes, what it says, and what it leaves alone."""

from __future__ import annotations

import io
import json
import os
import stat
import sys
from pathlib import Path

import pytest

from mcp_policy.cli import main
from mcp_policy.layout import layout

UGLY = '{"tools":{"t":{}},"version":"1"}'
TIDY = '{\n  "version": "1",\n  "tools": {\n    "t": {}\n  }\n}\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("ugly.json").write_text(UGLY, encoding="utf-8")
    Path("tidy.json").write_text(TIDY, encoding="utf-8")
    return tmp_path


def fmt(capsys: pytest.CaptureFixture[str], *argv: str, status: int = 0) -> tuple[str, str]:
    assert main(["fmt", *argv]) == status
    return tuple(capsys.readouterr())


def typed(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode()), encoding="utf-8"))


def test_files_are_rewritten_and_that_is_said(folder, capsys):
    assert layout(UGLY) == TIDY
    before = Path("tidy.json").stat()
    said = "mcp-policy fmt: ugly.json was laid out anew\nmcp-policy fmt: tidy.json is laid out already\n"
    assert fmt(capsys, "ugly.json", "tidy.json") == ("", said)
    assert Path("ugly.json").read_text(encoding="utf-8") == TIDY
    assert Path("tidy.json").stat().st_ino == before.st_ino
    assert {path.name for path in folder.iterdir()} == {"tidy.json", "ugly.json"}


def test_check_lists_what_would_change_and_changes_nothing(folder, capsys):
    told = fmt(capsys, "--check", "tidy.json", "ugly.json", status=4)
    assert told == ("ugly.json\n", "mcp-policy fmt: 1 of 2 would change\n")
    assert Path("ugly.json").read_text(encoding="utf-8") == UGLY
    assert fmt(capsys, "--check", "tidy.json") == ("", "mcp-policy fmt: 0 of 1 would change\n")


def test_diff_shows_what_would_change_and_changes_nothing(folder, capsys):
    out, _ = fmt(capsys, "--diff", "ugly.json", "tidy.json")
    assert out.splitlines()[:6] == [
        "--- ugly.json (as it is)",
        "+++ ugly.json (laid out)",
        "@@ -1 +1,6 @@",
        f"-{UGLY}",
        "\\ No newline at end of file",
        "+{",
    ]
    assert "tidy.json" not in out
    assert Path("ugly.json").read_text(encoding="utf-8") == UGLY
    out, _ = fmt(capsys, "--check", "--diff", "ugly.json", status=4)
    assert out.endswith("\nugly.json\n")


def test_a_terminal_shows_what_a_difference_hides(folder, capsys, monkeypatch):
    Path("ugly.json").write_text('{"version": "1", "name": "a\u202eb"}', encoding="utf-8")
    assert "\u202e" in fmt(capsys, "--diff", "ugly.json")[0]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert "\u202e" not in fmt(capsys, "--diff", "ugly.json")[0]


def test_a_dash_is_standard_input_and_output(folder, capsys, monkeypatch):
    typed(monkeypatch, UGLY)
    assert fmt(capsys, "-") == (TIDY, "")
    typed(monkeypatch, TIDY)
    assert fmt(capsys, "-") == (TIDY, "")
    typed(monkeypatch, UGLY)
    assert fmt(capsys, "--check", "-", status=4)[0] == "-\n"


def test_what_is_not_valid_is_left_alone_and_the_rest_is_done(folder, capsys):
    Path("bad.json").write_text('{"version": "2", "tool": {}}', encoding="utf-8")
    _, err = fmt(capsys, "bad.json", "ugly.json", status=3)
    assert "bad.json:1:18: /tool: unknown_key" in err
    assert "ugly.json was laid out anew" in err
    assert Path("bad.json").read_text(encoding="utf-8") == '{"version": "2", "tool": {}}'


@pytest.mark.parametrize("suffix", ["yaml", "yml", "toml", "YAML"])
def test_comments_are_not_lost(folder, capsys, suffix):
    Path(f"p.{suffix}").write_text("version: '1' # why\n", encoding="utf-8")
    _, err = fmt(capsys, f"p.{suffix}", status=2)
    assert err == (
        f"mcp-policy fmt: `p.{suffix}` is left as it is: only JSON can be laid out, comments would be lost\n"
    )


@pytest.mark.parametrize(
    ("name", "said"), [("missing.json", "no such file or directory"), (".", "is a directory"), ("a\0b", "null")]
)
def test_what_cannot_be_read_is_said(folder, capsys, name, said):
    _, err = fmt(capsys, "--check", name, "ugly.json", status=2)
    assert said in err
    assert "1 of 2 would change" in err


def test_permissions_stay(folder, capsys):
    Path("ugly.json").chmod(0o640)
    fmt(capsys, "ugly.json")
    assert stat.S_IMODE(Path("ugly.json").stat().st_mode) == 0o640


def test_a_symbolic_link_is_read_and_never_replaced(folder, capsys):
    Path("link.json").symlink_to("ugly.json")
    assert fmt(capsys, "--check", "link.json", status=4)[0] == "link.json\n"
    _, err = fmt(capsys, "link.json", status=2)
    assert err == (
        "mcp-policy fmt: `link.json` is left as it is: it is a symbolic link: name the file that it leads to\n"
    )
    assert Path("link.json").is_symlink()
    assert Path("ugly.json").read_text(encoding="utf-8") == UGLY


def test_a_write_that_fails_leaves_the_file_and_nothing_else(folder, capsys, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    _, err = fmt(capsys, "ugly.json", status=2)
    assert err == "mcp-policy fmt: `ugly.json` cannot be written: no space left on device\n"
    assert Path("ugly.json").read_text(encoding="utf-8") == UGLY
    assert {path.name for path in folder.iterdir()} == {"tidy.json", "ugly.json"}


def test_a_document_that_the_layout_would_make_too_large_is_left_alone(folder, capsys):
    source = json.dumps({"version": "1", "description": "\u202e" * 1_300_000}, ensure_ascii=False)
    Path("big.json").write_text(source, encoding="utf-8")
    _, err = fmt(capsys, "big.json", status=3)
    assert "`big.json` is left as it is: laid out, a document has at most 4,194,304 bytes" in err
    assert Path("big.json").read_text(encoding="utf-8") == source


def test_the_examples_of_the_documentation_can_be_laid_out(folder, capsys):
    for page in (Path(__file__).resolve().parent.parent / "examples").rglob("*.json"):
        if '"version"' in page.read_text(encoding="utf-8"):
            document = json.loads(page.read_text(encoding="utf-8"))
            assert json.loads(layout(json.dumps(document))) == document
