"""`mcp-policy test`: what it finds, prints, rewrites and answers with, and the example that comes with it."""

from __future__ import annotations

import json
import os
import shutil
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from mcp_policy.cli import main
from mcp_policy.cli._watch import changes
from mcp_policy.cli.test import _watched

EXAMPLE = Path(__file__).parent.parent / "examples" / "policy-tests"
POLICY = {"version": "1", "tools": {"pay": {"require": [{"path": "args.amount", "op": "lte", "value": 100}]}}}
TABLE = {
    "name": "amounts",
    "call": {"tool": "pay"},
    "columns": ["args.amount", "effect"],
    "rows": [[100, "allow"], [101, "deny"]],
}
OTHER = {"name": "others", "call": {"tool": "drop"}, "expect": {"codes": ["default_deny"]}}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(name: str, tree: Any) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(tree if isinstance(tree, str) else json.dumps(tree), encoding="utf-8")
    return path


def suite(*cases: dict[str, Any]) -> dict[str, Any]:
    return {"policy": "policy.json", "cases": list(cases or [TABLE, OTHER])}


def good() -> Path:
    put("policy.json", POLICY)
    return put("pay.policytest.json", suite())


def bad() -> Path:
    put("policy.json", POLICY)
    return put("pay.policytest.json", suite({**TABLE, "rows": [[100, "allow"], [101, "allow"], [102, "deny"]]}))


def ran(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> tuple[str, str]:
    assert main(["test", *words]) == status
    said = capsys.readouterr()
    return said.out, said.err


Said = pytest.CaptureFixture[str]


# -- passing and failing


def test_cases_that_pass(capsys: Said) -> None:
    good()
    assert ran(capsys) == ("pay.policytest.json: 3 passed\n", "")


def test_a_case_that_fails_is_shown_as_a_difference(capsys: Said) -> None:
    bad()
    out, err = ran(capsys, status=4)
    assert out == (
        "pay.policytest.json:1: amounts[1]\n"
        '  pay {"amount": 101}\n'
        "  - effect: allow\n"
        "  + effect: deny\n"
        "  decided by /tools/pay/require/0: require: this call is allowed only if `args.amount` is at most 100\n"
        "\n"
        "pay.policytest.json: 2 passed, 1 failed\n"
    )
    assert err == ""


def test_cases_are_chosen_by_a_word(capsys: Said) -> None:
    good()
    assert ran(capsys, "-k", "AMOUNTS")[0] == "pay.policytest.json: 2 passed\n"
    assert ran(capsys, "-k", "amounts[1]")[0] == "pay.policytest.json: 1 passed\n"
    assert ran(capsys, "-k", "nothing", status=2) == (
        "",
        "mcp-policy test: no case has `nothing` in its name: nothing was tested\n",
    )


# -- files


def test_folders_are_searched_and_files_are_taken_as_they_are(capsys: Said) -> None:
    put("b/policy.json", POLICY)
    put(
        "b/deep/x.policytest.yaml",
        "policy: ../policy.json\ncases: [{name: n, call: {tool: no}, expect: {effect: deny}}]",
    )
    for hidden in (".git", "node_modules", "__pycache__"):
        put(f"b/{hidden}/x.policytest.json", "{")
    put("b/notes.json", "{")
    case = {**OTHER, "policy": POLICY}
    put("a.policytest.json", {"cases": [case]})
    named = put("c/named.json", {"cases": [case, case]})
    out, _ = ran(capsys, ".", str(named), "a.policytest.json")
    assert (
        out
        == "a.policytest.json: 1 passed\nb/deep/x.policytest.yaml: 1 passed\nc/named.json: 2 passed\nin all: 4 passed\n"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "`.` holds no case file (`*.policytest.json`): nothing was tested"),
        (["empty"], "`empty` holds no case file (`*.policytest.json`): nothing was tested"),
        (["missing"], "`missing` cannot be read: no such file or directory"),
        (["a\0b"], "`a\\u0000b` cannot be read: embedded null byte"),
        (["pipe"], "`pipe` cannot be read: it is a pipe that nothing was written to"),
        (["binary"], "binary:1:1: document: invalid_json: not UTF-8: byte 0xFF, invalid start byte"),
        (["huge"], "`huge` is larger than 4 MiB"),
        (
            ["none.policytest.json"],
            "none.policytest.json:1:11: /cases: invalid_value: a list of cases here must not be empty",
        ),
    ],
)
def test_what_cannot_be_tested_is_one_clear_line(words: list[str], said: str, capsys: Said) -> None:
    if words:
        Path("empty").mkdir()
        os.mkfifo("pipe")
        Path("binary").write_bytes(b"\xff\xfe\x00")
        Path("huge").write_bytes(b" " * (4 * 2**20 + 1))
        put("none.policytest.json", '{"cases": []}')
    assert ran(capsys, *words, status=2) == ("", f"mcp-policy test: {said}\n")


def test_everything_wrong_with_all_files_is_told_at_once(capsys: Said) -> None:
    put("a.policytest.json", suite({**OTHER, "expct": {}}))
    put("b.policytest.json", suite({**OTHER, "call": {}}))
    _, err = ran(capsys, ".", "c", status=2)
    assert [line.split(": ")[1].split(":")[0] for line in err.splitlines()][:2] == [
        "a.policytest.json",
        "b.policytest.json",
    ]
    assert "did you mean `expect`?" in err
    assert "`c` cannot be read" in err


def test_a_policy_that_is_not_valid_or_not_there(capsys: Said) -> None:
    put("pay.policytest.json", suite())
    assert ran(capsys, status=2)[1] == "mcp-policy test: `policy.json` cannot be read: no such file or directory\n"
    put("policy.json", '{"version": "1",\n "tols": {}}')
    put("b.policytest.json", {"cases": [{**OTHER, "policy": {"version": 1}}]})
    assert ran(capsys, status=3)[1].splitlines() == [
        'mcp-policy test: b.policytest.json#/cases/0/policy: /version: wrong_type: found the number `1`, expected `"1"`',
        "mcp-policy test: policy.json:2:2: /tols: unknown_key: the key `tols` is unknown here; did you mean `tools`?",
    ]
    Path("policy.json").unlink()
    Path("policy.json").mkdir()
    assert ran(capsys, "pay.policytest.json", status=2)[1] == (
        "mcp-policy test: `policy.json` cannot be read: `policy.json` is not a file\n"
    )


# -- coverage


def test_coverage_says_what_was_never_seen(capsys: Said) -> None:
    good()
    out, err = ran(capsys, "--coverage")
    assert out == (
        "coverage of policy.json: 3 of 4 outcomes, 75.0 %\n"
        "  /tools/pay/require/0  require: `args.amount` is at most 100  seen: holds, does not hold  never: wrong type\n"
        "\n"
        "pay.policytest.json: 3 passed\n"
    )
    assert err == ""


def test_too_little_coverage_fails(capsys: Said) -> None:
    good()
    assert ran(capsys, "--fail-under", "75")[1] == ""
    out, err = ran(capsys, "--fail-under", "75.1", status=4)
    assert "coverage of policy.json" in out
    assert err == "mcp-policy test: 75.0 % is covered, less than 75.1 %\n"
    ran(capsys, "--coverage", "-k", "amounts[0]", "--fail-under", "50")
    ran(capsys, "--coverage", "-k", "others", "--fail-under", "1", status=4)


@pytest.mark.parametrize("percent", ["101", "-1", "nan", "all"])
def test_a_percentage_is_one(percent: str, capsys: Said) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["test", f"--fail-under={percent}"])
    assert stop.value.code == 2
    assert "invalid percentage value" in capsys.readouterr().err


# -- formats


def test_json(capsys: Said) -> None:
    bad()
    out, _ = ran(capsys, "--format", "json", "--coverage", status=4)
    told = json.loads(out)
    assert told["summary"] == {"passed": 2, "failed": 1}
    passed, failed, _ = told["cases"]
    place = {"file": "pay.policytest.json", "line": 1}
    assert passed == {**place, "name": "amounts[0]", "pointer": "/cases/0/rows/0", "passed": True}
    assert failed["failure"] == [
        {
            "expected": {"effect": "allow"},
            "found": {"effect": "deny"},
            "wrong": ["effect"],
            "step": 0,
            "time": 1,
            "at": 0,
            "reasons": [
                {
                    "code": "require",
                    "rule": "/tools/pay/require/0",
                    "message": "this call is allowed only if `args.amount` is at most 100",
                }
            ],
        }
    ]
    assert {key: told["coverage"][key] for key in ("percent", "reached", "outcomes")} == {
        "percent": 75,
        "reached": 3,
        "outcomes": 4,
    }
    assert told["coverage"]["rows"][1] == {
        "policy": "policy.json",
        "pointer": "/tools/pay/require/0",
        "says": "require: `args.amount` is at most 100",
        "seen": ["holds", "does not hold"],
        "unseen": ["wrong type"],
    }


def test_junit_and_github(capsys: Said) -> None:
    bad()
    out, err = ran(capsys, "--format", "junit", "--coverage", status=4)
    root = ET.fromstring(out)
    assert (root.get("tests"), root.get("failures")) == ("3", "1")
    assert err.startswith("coverage of policy.json: 3 of 4 outcomes, 75.0 %\n")
    out, err = ran(capsys, "--format", "github", status=4)
    assert out.startswith(
        "::error file=pay.policytest.json,line=1,title=failed%3A amounts[1]::pay.policytest.json:1: amounts[1]"
    )
    assert err == ""


# -- accepting


def test_an_update_rewrites_shows_and_passes(capsys: Said) -> None:
    path = bad()
    path.chmod(0o640)
    before = path.read_text(encoding="utf-8")
    out, _ = ran(capsys, "--update", "--coverage", "-k", "amounts")
    assert out.startswith('pay.policytest.json:1: "allow" is now "deny"\ncoverage of policy.json: 3 of 4')
    assert out.endswith("pay.policytest.json: 3 passed\n")
    assert path.read_text(encoding="utf-8") == before.replace('[101, "allow"]', '[101, "deny"]')
    assert path.stat().st_mode & 0o777 == 0o640
    assert json.loads(ran(capsys, "--update", "--format", "json")[0]).keys() == {"cases", "summary"}


def test_an_update_that_is_not_asked_for_changes_nothing(capsys: Said) -> None:
    before = bad().read_bytes()
    ran(capsys, status=4)
    ran(capsys, "--update", "-k", "amounts[0]")
    assert Path("pay.policytest.json").read_bytes() == before


def test_yaml_is_not_rewritten(capsys: Said) -> None:
    put("policy.json", POLICY)
    path = put(
        "x.policytest.yaml", "policy: policy.json\ncases: [{name: n, call: {tool: no}, expect: {effect: allow}}]"
    )
    before = path.read_bytes()
    assert "  + effect: deny\n" in ran(capsys, "--update", status=4)[0]
    assert path.read_bytes() == before


def test_changes_are_told_as_data(capsys: Said) -> None:
    bad()
    (change,) = json.loads(ran(capsys, "--update", "--format", "json")[0])["changes"]
    assert change == {
        "path": "pay.policytest.json",
        "line": 1,
        "pointer": "/cases/0/rows/1/1",
        "before": '"allow"',
        "after": '"deny"',
    }


# -- watching


def sleeper(*acts: Callable[[], object]) -> Callable[[float], None]:
    """Return a sleep during which things happen, one each time; then somebody presses Ctrl-C."""
    left = list(acts)

    def sleep(seconds: float) -> None:
        assert seconds > 0
        if not left:
            raise KeyboardInterrupt
        left.pop(0)()

    return sleep


def watch(sleep: Callable[[float], None]) -> None:
    names = ("word", "fail_under")
    flags = {"coverage": False, "update": False, "watch": True, "format": "pretty", "paths": []}
    with pytest.raises(KeyboardInterrupt):
        _watched(Namespace(**flags, **dict.fromkeys(names)), sleep)


def test_a_watch_runs_again_when_a_case_file_or_a_policy_changes(capsys: Said) -> None:
    looser = json.loads(json.dumps(POLICY).replace("100", "1000"))
    good()
    watch(
        sleeper(
            lambda: None,
            lambda: put("policy.json", looser),
            lambda: None,
            lambda: put("more.policytest.json", {"cases": [{**OTHER, "policy": POLICY}]}),
            lambda: put("policy.json", "{"),
            lambda: put("policy.json", {**POLICY, "name": "again"}),
            lambda: None,
        )
    )
    out, err = capsys.readouterr()
    counts = [
        line.removeprefix("pay.policytest.json: ")
        for line in out.splitlines()
        if line.startswith("pay.policytest.json: ")
    ]
    assert counts == ["3 passed", "2 passed, 1 failed", "2 passed, 1 failed", "3 passed"]
    assert [line for line in err.splitlines() if "changed" in line] == [
        "mcp-policy test: changed: policy.json",
        "mcp-policy test: changed: more.policytest.json",
        "mcp-policy test: changed: policy.json",
        "mcp-policy test: changed: policy.json",
    ]
    assert "mcp-policy test: policy.json:1:2: document: invalid_json" in err


def test_a_watch_waits_for_the_first_case_file(capsys: Said) -> None:
    watch(sleeper(good))
    out, err = capsys.readouterr()
    assert out == "pay.policytest.json: 3 passed\n"
    assert "nothing was tested" in err


def test_ctrl_c_is_one_line_and_a_status(capsys: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    good()
    monkeypatch.setattr("mcp_policy.cli.test._watched", lambda arguments: _watched(arguments, sleeper()))
    assert ran(capsys, "--watch", status=130) == (
        "pay.policytest.json: 3 passed\n",
        "mcp-policy test: interrupted\n",
    )


def test_what_changes_while_something_runs_is_a_change() -> None:
    file = put("a", "1")
    seen: Iterator[tuple[Path, ...]] = changes(lambda: [file], sleep=lambda seconds: None)
    assert next(seen) == ()
    put("a", "22")
    assert next(seen) == (file,)
    file.unlink()
    assert next(seen) == (file,)


# -- the example


def test_the_example_is_covered_in_full(capsys: Said) -> None:
    shutil.copytree(EXAMPLE, "example")
    out, err = ran(capsys, "example", "--coverage", "--fail-under", "100")
    assert out.startswith("coverage of example/policy.json: 16 of 16 outcomes, 100.0 %\n")
    assert err == ""


def test_help_teaches(capsys: Said) -> None:
    with pytest.raises(SystemExit):
        main(["test", "--help"])
    out = capsys.readouterr().out
    assert '"rows": [[100, "allow"], [101, "deny"]]' in out
