"""Findings and outcomes of tests in each format: what a reader gets, and what no text can make of it."""

from __future__ import annotations

import errno
import io
import json
import os
import string
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_policy.checks.finding import Finding
from mcp_policy.cli._exits import Stop
from mcp_policy.cli._github import command
from mcp_policy.cli._report import CaseResult, FileFindings, Suppressed, add_format, write_findings, write_suite
from mcp_policy.cli._sarif import uri
from mcp_policy.cli._style import write_lines, write_text

FORMATS = ["pretty", "json", "sarif", "github", "junit"]
RULES = {"default-allow": "what is not listed is allowed", "open-regex": "a regex is not anchored"}
OPEN = Finding("open-regex", "warning", "/tools/read/require/0", "the regex matches anywhere", "write `^a$`", 12, 5)
ALLOW = Finding("default-allow", "error", "/default", "what is not listed is allowed", "write `deny`", 3, 14)
NOTE = Finding("old-name", "note", "", "there is a newer name")
FOUND = [
    FileFindings("policies/a.json", [OPEN, ALLOW], [Suppressed(OPEN._replace(line=7), "only read by us")]),
    FileFindings("b.json", [NOTE]),
    FileFindings("c.json", []),
]
HOSTILE = "x\r\n::error::forged\x1b[2J\u202e\u200b\ud800\x00 <a>&]]> % ,:\n##[error]y"
PATH = HOSTILE.replace("\ud800", "\udcff")  # what a name of a file can be
EVIL = Finding(HOSTILE, "error", f"/tools/{HOSTILE}", HOSTILE, HOSTILE, 1, 2)


def printed(capsys: pytest.CaptureFixture[str], found: list[FileFindings], format: str) -> str:
    write_findings(found, format, rules=RULES)
    return capsys.readouterr().out


# -- for people


def test_findings_stand_below_their_file(capsys):
    assert printed(capsys, FOUND, "pretty") == (
        "policies/a.json\n"
        "  12:5  warning  the regex matches anywhere  (open-regex)\n"
        "        at /tools/read/require/0\n"
        "        fix: write `^a$`\n"
        "  3:14  error  what is not listed is allowed  (default-allow)\n"
        "        at /default\n"
        "        fix: write `deny`\n"
        "   7:5  suppressed  the regex matches anywhere  (open-regex)\n"
        "        at /tools/read/require/0\n"
        "        reason: only read by us\n"
        "\n"
        "b.json\n"
        "  -  note  there is a newer name  (old-name)\n"
        "\n"
        "1 error, 1 warning, 1 note, 1 suppressed in 3 files\n"
    )


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([], "no findings in 0 files\n"),
        ([FileFindings("a", [])], "no findings in 1 file\n"),
        ([FileFindings("a", []), FileFindings("b", [])], "no findings in 2 files\n"),
        ([FileFindings("a", [NOTE, NOTE])], "2 notes in 1 file\n"),
        ([FileFindings("a", [], [Suppressed(NOTE, "")] * 2)], "2 suppressed in 1 file\n"),
    ],
)
def test_the_last_line_sums_up(capsys, found, said):
    assert printed(capsys, found, "pretty").endswith(said)


class Terminal(io.TextIOWrapper):
    """A standard output that somebody looks at."""

    def isatty(self) -> bool:
        return True


def terminal(monkeypatch) -> Terminal:
    """Put a terminal in the place of standard output; in the test itself, for pytest captures each phase anew."""
    stream = Terminal(io.BytesIO(), encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return stream


def seen(stream: Terminal) -> str:
    stream.flush()
    return stream.buffer.getvalue().decode(stream.encoding)


def test_a_terminal_with_rich_has_colours(monkeypatch):
    stream = terminal(monkeypatch)
    write_findings([*FOUND, FileFindings("[bold]d[/bold]", [EVIL])], "pretty", rules=RULES)
    assert "\x1b[" in seen(stream)
    assert "[bold]d[/bold]" in seen(stream)
    assert "\x1b[2J" not in seen(stream)


@pytest.mark.parametrize("against", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {"rich": ""}])
def test_colours_can_be_declined(monkeypatch, against):
    stream = terminal(monkeypatch)
    for name, value in against.items():
        if name == "rich":
            monkeypatch.setitem(sys.modules, "rich.console", None)
        else:
            monkeypatch.setenv(name, value)
    write_findings(FOUND, "pretty", rules=RULES)
    assert "\x1b" not in seen(stream)
    assert seen(stream).startswith("policies/a.json\n  12:5  warning  the regex")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
@pytest.mark.parametrize("format", FORMATS)
def test_every_encoding_of_standard_output_will_do(monkeypatch, encoding, format):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    write_findings([FileFindings("é", [OPEN._replace(message="ü → 😀")])], format, rules=RULES)
    assert stream.buffer.getvalue()


# -- for programs


def test_json_says_it_all(capsys):
    told = json.loads(printed(capsys, FOUND, "json"))
    assert told["summary"] == {"error": 1, "warning": 1, "note": 1, "suppressed": 1}
    assert [file["path"] for file in told["files"]] == ["policies/a.json", "b.json", "c.json"]
    assert told["files"][0]["findings"][1] == ALLOW._asdict()
    assert told["files"][0]["suppressed"] == [{**OPEN._asdict(), "line": 7, "reason": "only read by us"}]


def test_json_is_exact_about_what_it_cannot_show(capsys):
    written = printed(capsys, [FileFindings("a", [EVIL])], "json")
    assert written.isascii()
    assert json.loads(written)["files"][0]["findings"][0]["message"] == HOSTILE


TEXT = {"type": "object", "required": ["text"], "additionalProperties": False, "properties": {"text": {"minLength": 1}}}
# The part of the standard's schema that these reports use: what it requires, and nothing that it does not know.
SARIF: dict[str, Any] = {
    "type": "object",
    "required": ["version", "runs"],
    "additionalProperties": False,
    "properties": {
        "$schema": {"type": "string", "format": "uri"},
        "version": {"const": "2.1.0"},
        "runs": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/run"}},
    },
    "$defs": {
        "run": {
            "required": ["tool", "results"],
            "additionalProperties": False,
            "properties": {
                "tool": {
                    "required": ["driver"],
                    "additionalProperties": False,
                    "properties": {"driver": {"$ref": "#/$defs/driver"}},
                },
                "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                "results": {"type": "array", "items": {"$ref": "#/$defs/result"}},
            },
        },
        "driver": {
            "required": ["name"],
            "additionalProperties": False,
            "properties": {
                "name": {"type": "string"},
                "version": {"type": "string"},
                "rules": {
                    "type": "array",
                    "uniqueItems": True,
                    "items": {
                        "required": ["id"],
                        "additionalProperties": False,
                        "properties": {"id": {"type": "string"}, "shortDescription": TEXT},
                    },
                },
            },
        },
        "result": {
            "required": ["message"],
            "additionalProperties": False,
            "properties": {
                "ruleId": {"type": "string"},
                "ruleIndex": {"type": "integer", "minimum": -1},
                "level": {"enum": ["none", "note", "warning", "error"]},
                "message": TEXT,
                "locations": {"type": "array", "items": {"$ref": "#/$defs/location"}},
                "suppressions": {
                    "type": "array",
                    "uniqueItems": True,
                    "items": {
                        "required": ["kind"],
                        "additionalProperties": False,
                        "properties": {
                            "kind": {"enum": ["inSource", "external"]},
                            "status": {"enum": ["accepted", "underReview", "rejected"]},
                            "justification": {"type": "string"},
                        },
                    },
                },
            },
        },
        "location": {
            "additionalProperties": False,
            "properties": {
                "physicalLocation": {
                    "required": ["artifactLocation"],
                    "additionalProperties": False,
                    "properties": {
                        "artifactLocation": {
                            "required": ["uri"],
                            "additionalProperties": False,
                            "properties": {"uri": {"type": "string", "pattern": "^[!-~]+$"}},
                        },
                        "region": {
                            "required": ["startLine"],
                            "additionalProperties": False,
                            "properties": {
                                "startLine": {"type": "integer", "minimum": 1},
                                "startColumn": {"type": "integer", "minimum": 1},
                            },
                        },
                    },
                },
                "logicalLocations": {
                    "type": "array",
                    "items": {"additionalProperties": False, "properties": {"fullyQualifiedName": {"type": "string"}}},
                },
            },
        },
    },
}


@pytest.mark.parametrize("found", [FOUND, [], [FileFindings(PATH, [EVIL], [Suppressed(EVIL, HOSTILE)])]])
def test_sarif_is_as_the_standard_says(capsys, found):
    jsonschema.Draft202012Validator(SARIF).validate(json.loads(printed(capsys, found, "sarif")))


def test_sarif_has_rules_places_and_suppressions(capsys):
    (run,) = json.loads(printed(capsys, FOUND, "sarif"))["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert {rule["id"]: rule["shortDescription"]["text"] for rule in rules} == {**RULES, "old-name": "old-name"}
    results = run["results"]
    assert all(rules[result["ruleIndex"]]["id"] == result["ruleId"] for result in results)
    assert [result["level"] for result in results] == ["warning", "error", "warning", "note"]
    assert results[0]["message"]["text"] == "the regex matches anywhere\nfix: write `^a$`"
    assert results[0]["locations"] == [
        {
            "physicalLocation": {
                "artifactLocation": {"uri": "policies/a.json"},
                "region": {"startLine": 12, "startColumn": 5},
            },
            "logicalLocations": [{"fullyQualifiedName": "/tools/read/require/0"}],
        }
    ]
    assert results[3]["locations"] == [{"physicalLocation": {"artifactLocation": {"uri": "b.json"}}}]
    assert [one["suppressions"] for one in results] == [
        [],
        [],
        [{"kind": "external", "status": "accepted", "justification": "only read by us"}],
        [],
    ]


def test_no_text_becomes_a_link_in_sarif(capsys):
    found = [FileFindings("a", [NOTE._replace(message="[click](https://example.com)", fix="say [x]")])]
    (run,) = json.loads(printed(capsys, found, "sarif"))["runs"]
    assert run["results"][0]["message"]["text"] == "\\[click\\](https://example.com)\nfix: say [x]"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.json", "a.json"),
        ("./x/../a b.json", "a%20b.json"),
        ("c:d/é%.json", "c%3Ad/%C3%A9%25.json"),
        ("-", "stdin"),
        ("\udcff", "%FF"),
        ("..a/b", "..a/b"),
    ],
)
def test_a_path_below_here_is_a_relative_uri(tmp_path, monkeypatch, path, expected):
    monkeypatch.chdir(tmp_path)
    assert uri(path) == expected
    if path != "-":
        assert uri(str(tmp_path / path)) == expected


def test_a_path_elsewhere_is_absolute(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert uri("../a b") == f"{tmp_path.as_uri()}/a%20b"


# -- for GitHub


def test_github_annotates_files(capsys):
    assert printed(capsys, FOUND, "github").splitlines() == [
        "::warning file=policies/a.json,line=12,col=5,title=open-regex::the regex matches anywhere%0Afix: write `^a$`",
        "::error file=policies/a.json,line=3,col=14,title=default-allow::what is not listed is allowed%0Afix: write `deny`",
        "::notice file=b.json,title=old-name::there is a newer name",
    ]


def test_standard_input_is_no_file_for_github(capsys):
    assert printed(capsys, [FileFindings("-", [NOTE])], "github") == "::notice title=old-name::there is a newer name\n"


def read_command(line: str) -> tuple[str, dict[str, str], str]:
    """Read a workflow command as the runner does."""
    _, head, text = line.removesuffix("\n").split("::", 2)
    name, _, said = head.partition(" ")
    properties = dict(part.split("=", 1) for part in said.split(",")) if said else {}
    back = {"%0D": "\r", "%0A": "\n", "%3A": ":", "%2C": ","}
    for code, character in [*back.items(), ("%25", "%")]:
        properties = {key: value.replace(code, character) for key, value in properties.items()}
        if character not in ":,":
            text = text.replace(code, character)
    return name, properties, text


@given(st.text(string.printable + "%0AD::,é"), st.text(string.printable + "%0AD::,é"))
def test_a_command_is_one_line_and_says_what_it_was_given(text, title):
    written = command("error", text, file="a", line=1, col=None, title=title)
    assert written.count("\n") == 1
    assert "\r" not in written
    name, properties, read = read_command(written)
    assert (name, read) == ("error", text)
    assert properties.keys() == {"file", "line", "title"}


# -- for CI systems that read JUnit


def test_junit_has_a_suite_for_each_file_and_a_case_for_each_finding(capsys):
    root = ET.fromstring(printed(capsys, FOUND, "junit"))
    assert [suite.get("name") for suite in root] == ["policies/a.json", "b.json", "c.json"]
    counts = [[suite.get(key) for key in ("tests", "failures", "errors", "skipped")] for suite in (root, *root)]
    assert counts == [["5", "2", "0", "1"], ["3", "2", "0", "1"], ["1", "0", "0", "0"], ["1", "0", "0", "0"]]
    case = root[0][0]
    assert case.attrib == {
        "classname": "policies/a.json",
        "name": "open-regex /tools/read/require/0",
        "file": "policies/a.json",
        "line": "12",
    }
    assert case[0].attrib == {"type": "warning", "message": "the regex matches anywhere"}
    assert case[0].text == "the regex matches anywhere\nat /tools/read/require/0\nfix: write `^a$`"
    assert root[0][2][0].get("message") == "suppressed: only read by us"
    assert root[2][0].get("name") == "no findings"


CASES = [
    CaseResult("a.policytest.json", "reads", 4, None, 0.25),
    CaseResult("a.policytest.json", "writes: all, 100%", 9, "expected deny\n- deny\n+ allow\x1b", 0.5),
    CaseResult("b.policytest.json", "third", None, None, 0.125),
]


def test_test_cases_as_junit(capsys):
    write_suite(CASES, "junit")
    root = ET.fromstring(capsys.readouterr().out)
    assert [root.get(key) for key in ("tests", "failures", "time")] == ["3", "1", "0.875000"]
    assert [(suite.get("name"), len(suite), suite.get("time")) for suite in root] == [
        ("a.policytest.json", 2, "0.750000"),
        ("b.policytest.json", 1, "0.125000"),
    ]
    failed = root[0][1]
    assert (failed.get("name"), failed.get("line"), failed.get("time")) == ("writes: all, 100%", "9", "0.500000")
    assert (failed[0].get("message"), failed[0].text) == ("expected deny", "expected deny\n- deny\n+ allow\\u001b")


def test_failed_test_cases_as_annotations(capsys):
    write_suite(CASES, "github")
    assert capsys.readouterr().out == (
        "::error file=a.policytest.json,line=9,title=failed%3A writes%3A all%2C 100%25::"
        "expected deny%0A- deny%0A+ allow\\u001b\n"
    )


def test_no_test_cases(capsys):
    write_suite([], "junit")
    assert ET.fromstring(capsys.readouterr().out).get("tests") == "0"
    write_suite([], "github")
    assert capsys.readouterr().out == ""


# -- whatever a text says


@pytest.mark.parametrize("format", FORMATS)
def test_no_text_forges_a_line(capsys, format):
    quiet = Finding("x", "error", "/tools/x", "x", "x", 1, 2)
    plain = printed(capsys, [FileFindings("x", [quiet], [Suppressed(quiet, "x")])], format)
    forged = printed(capsys, [FileFindings(PATH, [EVIL], [Suppressed(EVIL, HOSTILE)])], format)
    assert len(forged.splitlines()) == len(plain.splitlines())
    assert not any(line.startswith("::error::forged") for line in forged.splitlines())
    assert not set(forged) & set("\x1b\u202e\u200b\x00\r")


@given(st.text(st.characters(codec=None)))
def test_junit_holds_any_text(text):
    from mcp_policy.cli._junit import findings_xml, suite_xml

    one = NOTE._replace(severity="error", message=text, pointer=text, code=text, fix=text)
    assert len(ET.fromstring(findings_xml([FileFindings(text, [one], [Suppressed(one, text)])]))) == 1
    assert len(ET.fromstring(suite_xml([CaseResult(text, text, 1, text, 0.0)]))) == 1


def test_a_piece_keeps_the_space_around_it(capsys):
    write_lines([["  a\n", " b", "  "], [" \n "], []])
    assert capsys.readouterr().out == "  a b\n\n\n"


# -- the option, and an output that fails


def test_pretty_is_the_format_that_nobody_has_to_name():
    import argparse

    parser = argparse.ArgumentParser()
    add_format(parser, "json", "pretty", "github")
    assert parser.parse_args([]).format == "pretty"
    assert parser.parse_args(["--format", "github"]).format == "github"
    with pytest.raises(SystemExit):
        parser.parse_args(["--format", "junit"])


def test_an_unknown_format_is_a_mistake_of_ours():
    with pytest.raises(ValueError, match="yaml"):
        write_findings(FOUND, "yaml", rules=RULES)
    with pytest.raises(ValueError, match="sarif"):
        write_suite(CASES, "sarif")


class Full(io.StringIO):
    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error

    def flush(self) -> None:
        raise self.error


def test_a_full_disk_is_said(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Full(OSError(errno.ENOSPC, "full")))
    with pytest.raises(Stop) as stop:
        write_text("x")
    assert (stop.value.status, stop.value.lines) == (
        1,
        ("standard output cannot be written: no space left on device",),
    )


def test_a_reader_who_has_gone_is_no_failure(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Full(BrokenPipeError(errno.EPIPE, "gone")))
    write_text("x")


def test_a_report_in_a_closed_pipe_is_quiet():
    code = (
        "from mcp_policy.cli._report import *\n"
        "write_findings([FileFindings('a', [Finding('c', 'note', '', 'm' * 10**6)])], 'pretty', rules={})\n"
    )
    reader, writer = os.pipe()
    os.close(reader)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent / "src")}
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE, check=False, env=environment
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")
