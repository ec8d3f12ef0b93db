"""`mcp-policy replay`: what it prints, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mcp_policy import Policy, PolicyEngine, Principal, ToolCall
from mcp_policy.audit.jsonl import JsonLinesSink
from mcp_policy.cli import main

STRICT = {"version": "1", "tools": {"ls": {}, "pay": {"rate_limit": {"max": 1, "window": 60, "per": "principal"}}}}
LOOSE = {"version": "1", "tools": {"ls": {}, "rm": {}, "pay": {}}}
UNSURE = {"version": "1", "tools": {"*": {"deny_if": [{"path": "args.path", "op": "eq", "value": "/"}]}}}


@pytest.fixture
def record(tmp_path) -> str:
    """A record of one `ls`, two `rm` that were denied, and three payments of which two were limited."""
    path = tmp_path / "audit.jsonl"
    with JsonLinesSink(path, key=bytes(32), clock=lambda: 1_700_000_000.0) as sink:
        engine = PolicyEngine(Policy.model_validate(STRICT), audit=sink, clock=lambda: 0.0)
        ann = Principal("ann")
        for tool in ("ls", "rm", "rm", "pay", "pay", "pay"):
            engine.authorize(ToolCall(tool, {"path": "/secret"}, principal=ann, server="files"))
    return str(path)


def policy(tmp_path, tree) -> str:
    path = tmp_path / "new.json"
    path.write_text(json.dumps(tree))
    return str(path)


def test_nothing_changes(tmp_path, record, capsys):
    assert main(["replay", record, "--policy", policy(tmp_path, STRICT)]) == 0
    assert capsys.readouterr().out == "6 calls: 0 decided differently (0 looser), 0 cannot be told\n"


def test_what_changes_is_counted_by_kind_with_the_rule_and_the_first_record(tmp_path, record, capsys):
    assert main(["replay", record, "--policy", policy(tmp_path, LOOSE)]) == 5
    assert capsys.readouterr().out.splitlines() == [
        "2  deny → allow  files: rm  /tools/rm  (first: record 2)",
        "2  limit → allow  files: pay  /tools/pay  (first: record 5)",
        "",
        "6 calls: 4 decided differently (4 looser), 0 cannot be told",
    ]


def test_what_cannot_be_told_says_what_it_depends_on(tmp_path, record, capsys):
    assert main(["replay", record, "--policy", policy(tmp_path, UNSURE)]) == 0
    said = capsys.readouterr().out
    assert "deny → cannot be told  files: rm  it depends on `args.path`, which is not on record" in said
    assert said.splitlines()[-1] == "6 calls: 0 decided differently (0 looser), 6 cannot be told"


def test_json(tmp_path, record, capsys):
    assert main(["replay", record, "--policy", policy(tmp_path, LOOSE), "--json"]) == 5
    told = json.loads(capsys.readouterr().out)
    assert [told[name] for name in ("calls", "different", "looser", "unknown")] == [6, 4, 4, 0]
    assert told["kinds"][0] == {
        "server": "files",
        "tool": "rm",
        "before": "deny",
        "after": "allow",
        "rule": "/tools/rm",
        "why": "",
        "calls": 2,
        "first": 2,
    }


@pytest.mark.parametrize(
    ("tree", "looser", "unknown", "differs"),
    [(STRICT, 0, 0, 0), (LOOSE, 5, 5, 5), (UNSURE, 0, 5, 0), ({"version": "1"}, 0, 0, 5)],
    ids=["same", "looser", "unsure", "stricter"],
)
def test_what_fails(tmp_path, record, tree, looser, unknown, differs, capsys):
    for what, status in (("looser", looser), ("unknown", unknown), ("any", differs)):
        assert main(["replay", record, "--policy", policy(tmp_path, tree), "--fail-on", what]) == status
    capsys.readouterr()


def test_other_records_are_passed_over(tmp_path, record, capsys):
    lines = Path(record).read_text().splitlines()
    Path(record).write_text("\n".join([lines[0], '{"seq":2,"kind":"recovered","dropped":3}', *lines[1:]]) + "\n")
    assert main(["replay", record, "--policy", policy(tmp_path, STRICT)]) == 0
    assert capsys.readouterr().out.startswith("6 calls")


@pytest.mark.parametrize(
    "line",
    ["", "x", "[]", "{}", '{"kind":5}', '{"kind":"decision"}', "[" * 100_000, "\udcff"],
    ids=["empty", "no JSON", "a list", "an object", "no kind", "no decision", "deep", "no text"],
)
def test_a_line_that_is_no_record_is_one_line_and_status_2(tmp_path, record, line, capsys):
    with Path(record).open("a", encoding="utf-8", errors="surrogateescape") as file:
        file.write(f"{line}\n")
    assert main(["replay", record, "--policy", policy(tmp_path, STRICT)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert "audit.jsonl`, line 7: this is no record of a decision" in told.err


def test_a_record_that_cannot_be_read(tmp_path, capsys):
    assert main(["replay", str(tmp_path / "none"), "--policy", policy(tmp_path, STRICT)]) == 2
    assert "cannot be read: no such file or directory" in capsys.readouterr().err


def test_names_cannot_forge_a_line(tmp_path, capsys):
    path = tmp_path / "audit.jsonl"
    with JsonLinesSink(path, key=bytes(32)) as sink:
        PolicyEngine(Policy.model_validate({"version": "1"}), audit=sink).authorize(
            ToolCall("a", server="x\n9  y\x1b[2J")
        )
    main(["replay", str(path), "--policy", policy(tmp_path, {"version": "1", "default": "allow"})])
    said = capsys.readouterr().out
    assert len(said.splitlines()) == 3
    assert "\x1b" not in said
