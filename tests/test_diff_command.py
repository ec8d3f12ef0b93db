"""`mcp-policy diff`: statuses and formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mcp_policy import Policy, PolicyEngine
from mcp_policy.cli import main

OLD = {"version": "1", "tools": {"pay": {"require": [{"path": "args.amount", "op": "lte", "value": 100}]}}}
LOOSER = {"version": "1", "tools": {"pay": {"require": [{"path": "args.amount", "op": "lte", "value": 200}]}}}
OPEN = {"version": "1", "tools": {"pay": {"require": [{"path": "args.s", "op": "regex", "value": r"^\pL"}]}}}
OPEN_TOO = {"version": "1", "tools": {"pay": {"require": [{"path": "args.s", "op": "regex", "value": r"^\p{L}"}]}}}


def diff(old: Any, new: Any, *options: str) -> int:
    for name, tree in (("old.json", old), ("new.json", new)):
        Path(name).write_text(json.dumps(tree), encoding="utf-8")
    return main(["diff", "old.json", "new.json", *options])


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "on", "status"),
    [
        (OLD, OLD, "any", 0),
        (OLD, LOOSER, "looser", 5),
        (OLD, LOOSER, "unknown", 5),
        (LOOSER, OLD, "looser", 0),
        (LOOSER, OLD, "unknown", 0),
        (LOOSER, OLD, "any", 5),
        (OPEN, OPEN_TOO, "looser", 0),
        (OPEN, OPEN_TOO, "unknown", 5),
        (OPEN, OPEN_TOO, "any", 5),
    ],
)
def test_the_status(old, new, on, status):
    assert diff(old, new, "--fail-on", on) == status


def test_what_is_undecided_fails_unless_it_is_said_otherwise():
    assert diff(OPEN, OPEN_TOO) == 5


def test_equal(capsys):
    assert diff(OLD, OLD) == 0
    assert capsys.readouterr().out == "old.json → new.json: equal (tools: 2 compared)\n"


def test_json_has_a_call_that_can_be_decided(capsys):
    assert diff(OLD, LOOSER, "--format", "json") == 5
    said = json.loads(capsys.readouterr().out)
    assert (said["relation"], said["compared"], said["unknown"]) == ("looser", 2, [])
    (tool,) = said["tools"]
    assert (tool["tool"], tool["relation"], tool["stricter"]) == ("pay", "looser", None)
    (step,) = tool["looser"]["steps"]
    Path("call.json").write_text(json.dumps(step["call"]), encoding="utf-8")
    assert main(["eval", "new.json", "--calls", "call.json"]) == 0
    assert main(["eval", "old.json", "--calls", "call.json"]) == 5


def test_markdown_is_one_line(capsys):
    diff(OLD, LOOSER, "--format", "markdown")
    assert capsys.readouterr().out == '`new.json`: **looser**; runs now: `pay {"amount": 101}`\n'


def test_github_annotates_the_new_file(capsys):
    diff(OLD, LOOSER, "--format", "github")
    assert capsys.readouterr().out.startswith("::error file=new.json,title=policy looser::`pay`%0Aruns now: pay")


def test_a_call_that_is_no_json_can_be_written(capsys):
    odd = {"version": "1", "tools": {"pay": {"require": [{"path": "args.s", "op": "not_regex", "value": "x"}]}}}
    anything = {"version": "1", "tools": {"pay": {"deny_if": [{"path": "args.s", "op": "eq", "value": "x"}]}}}
    for form in ("pretty", "json", "markdown", "github"):
        assert diff(odd, anything, "--format", form) == 5
        assert capsys.readouterr().out


@pytest.mark.parametrize("text", ["tool\u001b[2J", "a|b`c", "# x"])
def test_no_text_of_a_policy_forges_a_line(capsys, text):
    new = {
        "version": "1",
        "tools": {"pay": {"require": [{"path": "args.s", "op": "eq", "value": f"{text}\n::error::x"}]}},
    }
    for form in ("pretty", "markdown", "github"):
        diff(OLD, new, "--format", form)
        out = capsys.readouterr().out
        assert "\u001b" not in out
        assert "\n::error::x" not in out
        assert form != "markdown" or out.count("\n") == 1


def test_standard_input(monkeypatch, capsys):
    import io
    import sys

    class Stdin:
        buffer = io.BytesIO(json.dumps(OLD).encode())

    Path("new.json").write_text(json.dumps(LOOSER), encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", Stdin)
    assert main(["diff", "-", "new.json"]) == 5
    assert capsys.readouterr().out.startswith("standard input → new.json: looser")


def test_witnesses_of_limits_say_what_came_before(capsys):
    bound = {"version": "1", "tools": {"pay": {"limits": [{"max": 5, "window": 60, "per": "principal"}]}}}
    session = {"version": "1", "tools": {"pay": {"limits": [{"max": 5, "window": 60}]}}}
    assert diff(bound, session) == 5
    out = capsys.readouterr().out
    assert 'runs now: pay {}, session "session6" after 5 calls with other sessions' in out
    engines = [PolicyEngine(Policy.model_validate(tree)) for tree in (bound, session)]
    assert all(engines)
