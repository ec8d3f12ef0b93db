"""The GitHub action and the pre-commit hooks: they name what there is, and the scripts of the action do what they say."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

import mcp_policy
from mcp_policy.cli import COMMANDS, load

ROOT = Path(__file__).resolve().parent.parent
ACTION = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
HOOKS = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
PAGE = (ROOT / "docs" / "how-to" / "policies-in-ci.md").read_text(encoding="utf-8")
STEPS: dict[str, dict[str, Any]] = {step["name"]: step for step in ACTION["runs"]["steps"]}
FIND, CHECK, TEST, COMPARE = "Find the policies", "Check the policies", "Run the test cases", "Compare with the base"


# -- they name what there is


def used(text: str) -> list[list[str]]:
    """The words of each `mcp-policy COMMAND ...` in a script, up to what ends the command."""
    found = re.findall(r"(?<![\w/\"'.-])mcp-policy ((?:" + "|".join(COMMANDS) + r")\b[^\n|;>&]*)", text)
    return [shlex.split(command, posix=True) for command in found]


def options(name: str) -> set[str]:
    parser = argparse.ArgumentParser()
    load(name).add_arguments(parser)
    return {option for action in parser._actions for option in action.option_strings}


def test_the_action_has_the_inputs_that_it_uses():
    text = (ROOT / "action.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"inputs\.([a-z-]+)", text)) == ACTION["inputs"].keys()
    assert [name for name, one in ACTION["inputs"].items() if one.get("required") and "default" in one] == []
    assert all(one["description"] for one in ACTION["inputs"].values())


@pytest.mark.parametrize("name", STEPS)
def test_nothing_is_written_into_a_script(name):
    assert STEPS[name]["shell"] == "bash"
    assert "${{" not in STEPS[name]["run"]
    assert STEPS[name]["run"].startswith("set -euo pipefail\n")


def test_the_action_uses_commands_and_options_that_there_are():
    words = [words for step in STEPS.values() for words in used(step["run"])]
    assert [command for command, *_ in words] == ["check", "test", "diff", "diff"]
    for command, *rest in words:
        assert {word for word in rest if word.startswith("--")} <= options(command)


def test_what_a_comparison_fails_on_is_among_its_choices():
    parser = argparse.ArgumentParser()
    load("diff").add_arguments(parser)
    action = next(one for one in parser._actions if "--fail-on" in one.option_strings)
    assert ACTION["inputs"]["fail-on"]["default"] in (action.choices or ())
    assert [choice for choice in action.choices or () if choice not in ACTION["inputs"]["fail-on"]["description"]] == []


def test_the_hooks_use_commands_that_there_are():
    assert [hook["id"] for hook in HOOKS] == ["mcp-policy-check", "mcp-policy-fmt", "mcp-policy-test"]
    for hook in HOOKS:
        program, command = hook["entry"].split()
        assert program == "mcp-policy"
        assert command in COMMANDS
        assert hook["language"] == "python"
        assert hook["description"]


@pytest.mark.parametrize(
    ("path", "ids"),
    [
        ("policy.json", {"check", "fmt", "test"}),
        ("servers/github.policy.yaml", {"check", "test"}),
        ("my-policy.json", {"check", "fmt", "test"}),
        ("policies/github.json", {"check", "fmt", "test"}),
        ("policies/github.policytest.json", {"test"}),
        ("deep/policy.policytest.yaml", {"test"}),
        ("package.json", set()),
        ("policy.md", set()),
        ("src/mypolicy.json", set()),
    ],
)
def test_the_hooks_run_on_the_files_of_policies(path, ids):
    suffixes = {".json": "json", ".yaml": "yaml", ".toml": "toml"}
    kind = suffixes.get(Path(path).suffix)
    taken = {
        hook["id"].removeprefix("mcp-policy-")
        for hook in HOOKS
        if kind in hook.get("types_or", hook.get("types"))
        and re.search(hook["files"], path)
        and not re.search(hook.get("exclude", "^$"), path)
    }
    assert taken == ids


def test_the_page_uses_what_there_is():
    assert used(PAGE)
    for command, *rest in used(PAGE):
        assert {word for word in rest if word.startswith("--")} <= options(command)
    shown = re.findall(r"^ *- id: (.*)$", PAGE, re.MULTILINE)
    assert set(shown) == {hook["id"] for hook in HOOKS}
    given = re.search(r"uses: \S+/mcp-policy@.*\n +with:\n((?: {10,}.*\n)+)", PAGE)
    assert given
    assert set(re.findall(r"^ {10}([a-z-]+):", given[1], re.MULTILINE)) <= ACTION["inputs"].keys()


# -- the scripts run


class Ended(NamedTuple):
    status: int
    printed: str


class Runner:
    """A machine that runs the steps of the action in a repository, with what the workflow gives them."""

    def __init__(self, folder: Path, program: str) -> None:
        self.temporary = folder / "runner temp"
        self.summary = self.temporary / "summary.md"
        self.work = folder / "work tree"
        self.programs = self.temporary / "mcp-policy" / "bin"
        self.programs.mkdir(parents=True)
        (self.programs / "mcp-policy").write_text(program, encoding="utf-8")
        (self.programs / "mcp-policy").chmod(0o755)
        self.work.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")

    def environment(self) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "GITHUB_"))}
        author = {f"GIT_{who}_{what}": "a@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        nothing = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, "HOME": str(self.temporary)}
        runner = {"RUNNER_TEMP": str(self.temporary), "GITHUB_STEP_SUMMARY": str(self.summary)}
        return {**own, **author, **nothing, **runner, "PYTHONPATH": str(Path(mcp_policy.__file__).parent.parent)}

    def git(self, *words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=self.work, env=self.environment(), check=True, capture_output=True, text=True
        ).stdout

    def write(self, name: str, document: object) -> None:
        path = self.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, indent=2), encoding="utf-8")

    def commit(self) -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message=x")
        return self.git("rev-parse", "HEAD").strip()

    def step(self, name: str, **given: str) -> Ended:
        """Run a step, with a value for each variable that it takes."""
        assert given.keys() == STEPS[name].get("env", {}).keys()
        (self.temporary / "step.sh").write_text(STEPS[name]["run"], encoding="utf-8")
        # As runners start it; see "jobs.<job_id>.steps[*].shell" in their reference.
        shell = [shutil.which("bash") or "bash", "--noprofile", "--norc", "-e", "-o", "pipefail"]
        done = subprocess.run(
            [*shell, str(self.temporary / "step.sh")],
            cwd=self.work,
            env={**self.environment(), **given},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return Ended(done.returncode, done.stdout)

    def found(self) -> list[str]:
        return (self.temporary / "mcp-policy-files").read_text(encoding="utf-8").split("\0")[:-1]


REAL = f'#!/bin/sh\nexec "{sys.executable}" -m mcp_policy "$@"\n'
# Prints its arguments, each on a line; `diff` ends with what stands in its new file.
ECHO = """#!/usr/bin/env bash
printf '<%s>\\n' "$@"
if [[ $1 = diff ]]; then cat "$2"; exit "$(cat "$3")"; fi
"""
ODD = ["a b.json", "$(touch forged).json", "`touch forged`.json", "-rf.json", "'\";&.json", "é.json", "::error::x.json"]
BOUND = {"rate_limit": {"max": 10, "window": "minute", "per": "principal"}}
STRICT = {"version": "1", "tools": {"pay": {"require": [{"path": "args.amount", "op": "lte", "value": 5}], **BOUND}}}
LOOSE = {"version": "1", "tools": {"pay": {"require": [{"path": "args.amount", "op": "lte", "value": 500}], **BOUND}}}
CASES = {"policy": STRICT, "cases": [{"name": "small", "call": {"tool": "pay", "arguments": {"amount": 1}}}]}


@pytest.fixture
def runner(tmp_path):
    """A runner whose `mcp-policy` says what it was asked."""
    return Runner(tmp_path, ECHO)


@pytest.fixture
def real(tmp_path):
    return Runner(tmp_path, REAL)


def test_patterns_find_policies(runner):
    for name in ("policies/b.json", "policies/a.json", "deep/er/policy.json", "policies/c.yaml", "x[1].json"):
        runner.write(name, {})
    lines = "policies/*.json\r\n\n  **/policy.json  \nx[1].json\npolicies/c.yaml"
    assert runner.step(FIND, POLICIES=lines) == Ended(0, "")
    assert runner.found() == [
        *("policies/a.json", "policies/b.json"),
        *("deep/er/policy.json", "x[1].json", "policies/c.yaml"),
    ]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("nothing-*.json", "no file nothing-\\*.json"),
        ("policy.json\ngone.json", "no file gone.json"),
        (" \n", "names no file"),
    ],
)
def test_a_policy_that_is_not_there_fails_the_step(runner, lines, said):
    runner.write("policy.json", {})
    status, printed = runner.step(FIND, POLICIES=lines)
    assert status == 2
    assert said in printed


def test_no_name_becomes_a_part_of_a_script(runner):
    for name in ODD:
        runner.write(name, 0)
    runner.commit()
    lines = "\n".join(ODD)
    assert runner.step(FIND, POLICIES=lines) == Ended(0, "")
    names = [f"./{name}" if name.startswith("-") else name for name in ODD]
    assert runner.found() == names
    assert runner.step(FIND, POLICIES="*.json").status == 0
    assert sorted(runner.found()) == sorted(names)
    given = "".join(f"<{name}>\n" for name in runner.found())
    assert runner.step(CHECK) == Ended(0, f"<check>\n<--format>\n<github>\n{given}")
    tests = "".join(f"<{name}>\n" for name in names)
    assert runner.step(TEST, TESTS=lines) == Ended(0, f"<test>\n<--format>\n<github>\n<--coverage>\n{tests}")
    compared = runner.step(COMPARE, BASE="main", FAIL_ON="$(touch forged)")
    assert compared.status == 0
    assert compared.printed.count("<$(touch forged)>") == len(ODD)
    assert not (runner.work / "forged").exists()


def test_each_policy_is_compared_with_what_it_was(runner):
    runner.write("policies/a.json", "old")
    base = runner.commit()
    runner.git("switch", "--quiet", "--create", "change")
    runner.write("policies/a.json", 0)
    runner.write("policies/b c.json", 0)
    runner.commit()
    runner.step(FIND, POLICIES="policies/*.json")
    for name in ("main", base):
        status, printed = runner.step(COMPARE, BASE=name, FAIL_ON="any")
        assert status == 0
        assert re.sub("<.*mcp-policy-base.*/", "<OLD/", printed) == (
            '<diff>\n<OLD/a.json>\n<policies/a.json>\n<--format>\n<github>\n<--fail-on>\n<any>\n"old"'
            "- `policies/b\\ c.json`: new, there is nothing to compare it with\n"
        )
    summary = runner.summary.read_text(encoding="utf-8")
    assert summary.count("- <diff>") == summary.count("<markdown>") == summary.count(": new, there is nothing") == 2


def test_one_comparison_that_fails_fails_the_step(runner):
    for name in "ab":
        runner.write(f"{name}.json", "old")
    runner.commit()
    runner.write("a.json", 5)
    runner.write("b.json", 0)
    runner.step(FIND, POLICIES="*.json")
    assert runner.step(COMPARE, BASE="main", FAIL_ON="looser").status == 5


def test_policies_in_a_folder_and_by_their_whole_path(runner):
    runner.write("sub/a.json", "old")
    runner.commit()
    runner.write("sub/a.json", 0)
    runner.step(FIND, POLICIES=f"{runner.work}/sub/a.json")
    status, printed = runner.step(COMPARE, BASE="main", FAIL_ON="looser")
    assert status == 0
    assert '"old"' in printed


def test_a_base_that_was_not_fetched_is_fetched(runner, tmp_path):
    runner.write("a.json", "old")
    runner.commit()
    runner.git("switch", "--quiet", "--create", "change")
    runner.write("a.json", 0)
    runner.commit()
    origin = runner.work.rename(tmp_path / "origin")
    runner.work.mkdir()
    runner.git("clone", "--quiet", "--depth=1", "--branch=change", origin.as_uri(), ".")
    runner.step(FIND, POLICIES="a.json")
    status, printed = runner.step(COMPARE, BASE="main", FAIL_ON="looser")
    assert status == 0
    assert '"old"' in printed


def test_a_whole_clone_stays_whole(runner, tmp_path):
    for _ in range(3):
        runner.write("a.json", 0)
        runner.commit()
    origin = runner.work.rename(tmp_path / "origin")
    runner.work.mkdir()
    runner.git("clone", "--quiet", origin.as_uri(), ".")
    runner.step(FIND, POLICIES="a.json")
    assert runner.step(COMPARE, BASE="main", FAIL_ON="looser").status == 0
    assert runner.git("rev-list", "--count", "HEAD").strip() == "3"
    assert runner.git("rev-parse", "--is-shallow-repository").strip() == "false"


@pytest.mark.parametrize("base", ["nowhere", "--output=forged", "a b", "$(touch forged)"])
def test_a_base_that_is_not_there_fails_the_step(runner, base):
    runner.write("a.json", 0)
    runner.commit()
    runner.step(FIND, POLICIES="a.json")
    assert runner.step(COMPARE, BASE=base, FAIL_ON="looser").status != 0
    assert not (runner.work / "forged").exists()


# -- with the real program


def test_a_good_change_passes(real):
    real.write("policy.json", LOOSE)
    real.commit()
    real.write("policy.json", STRICT)
    assert real.step(FIND, POLICIES="policy.json") == Ended(0, "")
    checked = real.step(CHECK)
    assert checked.status == 0, checked.printed
    compared = real.step(COMPARE, BASE="main", FAIL_ON="looser")
    assert compared.status == 0, compared.printed
    assert "stricter" in real.summary.read_text(encoding="utf-8")


def test_a_loosened_policy_fails_and_is_told_of(real):
    real.write("policy.json", STRICT)
    real.commit()
    real.write("policy.json", LOOSE)
    real.step(FIND, POLICIES="policy.json")
    compared = real.step(COMPARE, BASE="main", FAIL_ON="looser")
    assert compared.status == 5, compared.printed
    assert "::" in compared.printed
    assert "looser" in real.summary.read_text(encoding="utf-8")


def test_a_policy_with_a_fault_fails_with_an_annotation(real):
    real.write("policy.json", {**STRICT, "default": "allow"})
    real.step(FIND, POLICIES="policy.json")
    checked = real.step(CHECK)
    assert checked.status == 4, checked.printed
    assert re.search(r"^::(error|warning) file=policy\.json,line=\d+,", checked.printed, re.MULTILINE)


def test_a_policy_that_does_not_load_fails(real):
    real.write("policy.json", {"version": "1", "tolls": {}})
    real.step(FIND, POLICIES="policy.json")
    assert real.step(CHECK).status == 3
