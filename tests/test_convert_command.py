"""`mcp-policy convert`: where the policy goes, where what is said about it goes, and how it ends."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from mcp_policy import Policy
from mcp_policy.cli import main
from mcp_policy.layout import layout

GOOD = """\
version: "1"
default: deny
tools:
  pay:
    rules:
      - name: few
        rate_limit: 5/hour
"""
POLICY = {
    "version": "1",
    "default": "deny",
    "tools": {"pay": {"reason": "few", "limits": [{"max": 5, "window": "hour", "per": "global"}]}},
}
BAD = 'version: "1"\ntools:\n  pay:\n    rules:\n      - rate_limit: 5/week\n      - action: log\n'
NOTES = [("rule_name", "differs", 6), ("counts", "differs", 7), ("window", "stricter", 7)]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("good.yaml").write_text(GOOD, encoding="utf-8")
    Path("bad.yaml").write_text(BAD, encoding="utf-8")


def convert(capsys: pytest.CaptureFixture[str], *argv: str, status: int = 0) -> tuple[str, str]:
    assert main(["convert", *argv]) == status
    return tuple(capsys.readouterr())


def test_the_policy_is_printed_and_what_differs_is_said(capsys):
    out, err = convert(capsys, "good.yaml")
    assert out == layout(json.dumps(POLICY))
    assert Policy.parse(out).document == POLICY
    lines = err.splitlines()
    assert lines[0] == (
        "good.yaml:6:9: differs: rules have no names here: a name is kept as the reason where there is no `on_deny` "
        "(rule_name)"
    )
    assert [line.split(":")[:2] for line in lines[1:3]] == [["good.yaml", "7"]] * 2
    assert lines[3] == "mcp-policy convert: converted, 3 notes"


def test_the_policy_goes_into_a_new_file(capsys):
    out, err = convert(capsys, "good.yaml", "-o", "policy.json")
    assert out == ""
    assert "3 notes" in err
    assert Policy.load("policy.json").document == POLICY
    _, err = convert(capsys, "good.yaml", "-o", "policy.json", status=2)
    assert err == "mcp-policy convert: `policy.json` cannot be written: file exists\n"
    _, err = convert(capsys, "good.yaml", "-o", "none/policy.json", status=2)
    assert err == "mcp-policy convert: `none/policy.json` cannot be written: no such file or directory\n"


def test_policy_and_notes_are_data(capsys):
    out, err = convert(capsys, "good.yaml", "--format", "json")
    told = json.loads(out)
    assert err == ""
    assert told["policy"] == POLICY
    assert [(note["code"], note["kind"], note["line"]) for note in told["notes"]] == NOTES
    assert told["notes"][0]["pointer"] == "/tools/pay/rules/0/name"


def test_data_and_a_file(capsys):
    out, _ = convert(capsys, "good.yaml", "--format", "json", "-o", "policy.json")
    assert json.loads(out)["policy"] == json.loads(Path("policy.json").read_text(encoding="utf-8"))


def test_what_is_refused_is_said_in_full_and_there_is_no_policy(capsys):
    out, err = convert(capsys, "bad.yaml", "-o", "policy.json", status=4)
    assert out == ""
    assert not Path("policy.json").exists()
    lines = err.splitlines()
    assert lines[0].startswith("bad.yaml:5:9: refused: found the string `5/week`, expected")
    assert lines[1].startswith("bad.yaml:6:9: refused: the action is the string `log`")
    assert lines[-1] == "mcp-policy convert: not converted, 3 notes"
    out, _ = convert(capsys, "bad.yaml", "--format", "json", status=4)
    assert json.loads(out)["policy"] is None


def test_json_and_standard_input(capsys, monkeypatch):
    Path("good.json").write_text('{"version": "1", "default": "allow"}', encoding="utf-8")
    assert convert(capsys, "good.json") == (
        '{\n  "version": "1",\n  "default": "allow"\n}\n',
        "mcp-policy convert: converted, 0 notes\n",
    )
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(GOOD.encode()), encoding="utf-8"))
    out, err = convert(capsys, "-")
    assert json.loads(out) == POLICY
    assert err.startswith("-:6:9: differs: ")


@pytest.mark.parametrize(
    ("data", "status", "said"),
    [
        (b"a: [", 3, ": document: invalid_json: not YAML"),
        (b"\xff\xfe\x00", 3, "p.yaml:1:1: document: invalid_json: not UTF-8"),
        (b"", 3, "p.yaml:1:1: document: invalid_json: not YAML: the text is empty"),
        (b'version: "1"\nversion: "1"\n', 3, "p.yaml:2:1: /version: duplicate_key"),
        (b"x" * (4 * 2**20 + 1), 3, "p.yaml: document: too_large"),
        (b"just words", 4, "p.yaml:1:1: refused: found the string `just words`, expected an object"),
        (b"- \x07", 3, "p.yaml"),
    ],
)
def test_what_is_no_policy_ends_in_a_line(capsys, data, status, said):
    Path("p.yaml").write_bytes(data)
    out, err = convert(capsys, "p.yaml", status=status)
    assert out == ""
    assert said in err
    assert "Traceback" not in err


def test_what_cannot_be_read(capsys):
    _, err = convert(capsys, "none.yaml", status=2)
    assert err == "mcp-policy convert: `none.yaml` cannot be read: no such file or directory\n"
    _, err = convert(capsys, ".", status=2)
    assert "is a directory" in err


def test_without_the_extra_it_says_which(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    _, err = convert(capsys, "good.yaml", status=2)
    assert err == (
        'mcp-policy convert: `good.yaml` cannot be read: reading YAML needs PyYAML: pip install "mcp-policy[yaml]"\n'
    )
    Path("good.json").write_text('{"version": "1"}', encoding="utf-8")
    convert(capsys, "good.json")


def test_texts_of_the_file_show_and_forge_no_line(capsys):
    Path("p.json").write_text('{"version": "1", "x\\ny\\u202e\\u001b": 1}', encoding="utf-8")
    _, err = convert(capsys, "p.json", status=4)
    assert "the key `x\\u000ay\\u202e\\u001b` is unknown here" in err
    assert "\x1b" not in err
    assert len(err.splitlines()) == 3
