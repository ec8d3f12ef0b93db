"""The pytest plugin: runs of pytest within pytest, those that fail included, and what they print."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mcp_policy.testing import cases, coverage, matchers, running  # noqa: F401  # loaded once for all runs in this process
from mcp_policy.testing.fixtures import PolicyClock
from mcp_policy.testing.plugin import SUFFIXES, pytest_assertrepr_compare

pytest_plugins = ["pytester"]

POLICY: dict[str, Any] = {
    "version": "1",
    "hide": ["debug_*"],
    "tools": {
        "pay": {
            "require": [{"path": "args.amount", "op": "lte", "value": 100, "reason": "at most 100"}],
            "rate_limit": {"max": 2, "window": 60},
        }
    },
}
CASES: dict[str, Any] = {
    "policy": "policy.json",
    "cases": [
        {
            "name": "amounts",
            "call": {"tool": "pay"},
            "columns": ["args.amount", "effect"],
            "rows": [[100, "allow"], [101, "deny"]],
        },
        {"name": "no such tool", "call": {"tool": "debug_x"}, "expect": {"codes": ["hidden"]}},
    ],
}
START = """
import pytest
from mcp_policy import ToolCall
from mcp_policy.testing import allowed, denied, limited, needs_approval

pytestmark = pytest.mark.policy("policy.json")
PAY = ToolCall("pay", {"amount": 1})
DEAR = ToolCall("pay", {"amount": 101})
"""


class Folder:
    """A folder with a policy, and runs of pytest in it."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.path = pytester.path
        self.write("policy.json", POLICY)

    def write(self, name: str, content: Any) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content, indent=1), encoding="utf-8")
        return path

    def test(self, text: str, name: str = "test_it.py") -> None:
        self.write(name, START + text)

    def run(self, *arguments: str) -> pytest.RunResult:
        return self.pytester.runpytest_inprocess(
            "-p", "mcp_policy.testing.plugin", "-p", "no:cacheprovider", *arguments
        )


@pytest.fixture
def folder(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Folder:
    # the entry point, where it is installed, and `-p` would both name the plugin
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    return Folder(pytester)


def told(result: pytest.RunResult) -> str:
    return "\n".join(line.rstrip() for line in result.outlines)


# -- what it costs


def run_python(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return done.stdout


def test_a_run_without_a_policy_imports_none(folder: Folder) -> None:
    folder.write("test_plain.py", "def test_plain():\n    assert [1] == [1]\n\ndef test_fails():\n    assert 1 == 2\n")
    folder.write(
        "conftest.py",
        "import sys\n"
        "def pytest_unconfigure():\n"
        "    print('HELD', sorted(name for name in sys.modules if name.partition('.')[0] in ('mcp_policy', 'pydantic')))\n",
    )
    printed = run_python(folder.path, "-m", "pytest", "-p", "mcp_policy.testing.plugin", "-s")
    assert "1 failed, 1 passed" in printed
    parts = [f"mcp_policy.testing.{name}" for name in ("fixtures", "places", "plugin", "reached")]
    assert f"HELD {['mcp_policy', 'mcp_policy.testing', *parts]}" in printed


def test_the_plugin_itself_needs_the_standard_library_only() -> None:
    program = (
        "import sys\nbefore = set(sys.modules)\nimport mcp_policy.testing.plugin\nprint(set(sys.modules) - before)"
    )
    found = {name.partition(".")[0] for name in eval(run_python(Path.cwd(), "-c", program))}
    assert found - sys.stdlib_module_names == {"mcp_policy"}


def test_its_parts_bring_nothing_but_themselves_to_pytest() -> None:
    program = (
        "import sys, pytest\nbefore = set(sys.modules)\n"
        "from mcp_policy.testing import fixtures, items, plugin, reached\nprint(set(sys.modules) - before)"
    )
    found = {name.partition(".")[0] for name in eval(run_python(Path.cwd(), "-c", program))}
    assert found == {"mcp_policy"}


def test_the_suffixes_are_those_of_case_files() -> None:
    assert SUFFIXES == cases.SUFFIXES


# -- case files


def test_case_files_are_collected(folder: Folder) -> None:
    folder.write("policies/pay.policytest.json", {**CASES, "policy": "../policy.json"})
    folder.write(
        "pay.policytest.yaml",
        "policy: policy.json\ncases:\n- {name: small, call: {tool: pay, arguments: {amount: 1}}, expect: {effect: allow}}\n",
    )
    folder.write("pay.json", "{}")
    result = folder.run("-v")
    result.assert_outcomes(passed=4)
    result.stdout.fnmatch_lines(
        [
            "pay.policytest.yaml::small PASSED*",
            "policies/pay.policytest.json::amounts[[]0[]] PASSED*",
            "policies/pay.policytest.json::amounts[[]1[]] PASSED*",
            "policies/pay.policytest.json::no such tool PASSED*",
        ]
    )


@pytest.mark.parametrize(
    ("chosen", "passed"),
    [
        (["pay.policytest.json::amounts"], 2),
        (["pay.policytest.json::amounts[1]"], 1),
        (["pay.policytest.json::no such tool"], 1),
        (["-k", "amounts"], 2),
    ],
)
def test_cases_can_be_chosen(folder: Folder, chosen: list[str], passed: int) -> None:
    folder.write("pay.policytest.json", CASES)
    outcome = folder.run(*chosen).parseoutcomes()
    assert outcome["passed"] == passed
    assert not {"failed", "errors"} & set(outcome)


def test_a_failed_case_is_told_as_a_diff_at_its_line(folder: Folder) -> None:
    folder.write("policy.json", json.dumps(POLICY).replace('"value": 100', '"value": 1000'))
    folder.write("in/pay.policytest.json", {**CASES, "policy": "../policy.json"})
    result = folder.run("-q")
    result.assert_outcomes(passed=2, failed=1)
    text = told(result)
    line = next(number for number, said in enumerate((folder.path / "in/pay.policytest.json").read_text().splitlines(), 1) if "101" in said)  # fmt: skip
    assert (
        "___ amounts[1] __________________________________\n"
        f"in/pay.policytest.json:{line - 1}: amounts[1]\n"
        '  pay {"amount": 101}\n'
        "  - effect: deny\n"
        "  + effect: allow\n"
        "  decided by /tools/pay: allowed: the policy allows this call\n"
        "=====" in text
    )
    assert "Traceback" not in text
    assert "run_case" not in text


def test_a_failure_goes_into_junit_xml(folder: Folder) -> None:
    folder.write("pay.policytest.json", str(json.dumps(CASES)).replace('"deny"', '"limit"'))
    folder.run("--junit-xml=report.xml").assert_outcomes(passed=2, failed=1)
    report = (folder.path / "report.xml").read_text(encoding="utf-8")
    assert 'name="amounts[1]"' in report
    assert "- effect: limit" in report


def test_names_stay_on_their_line(folder: Folder) -> None:
    case = {"name": "two\nlines\u202e", "call": {"tool": "debug_x"}, "expect": {"effect": "deny"}}
    folder.write("a.policytest.json", {"policy": "policy.json", "cases": [case]})
    assert r"a.policytest.json::two\u000alines\u202e PASSED" in told(folder.run("-v"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[", "a.policytest.json:1:2: document: invalid_json:"),
        ('{"policy": "policy.json", "cases": []}', "a.policytest.json:1:36: /cases: invalid_value:"),
        (
            '{"policy": "policy.json", "cases": [{"nam": "x"}]}',
            "unknown_key: the key `nam` is unknown here; did you mean `name`?",
        ),
        ("\0\xff", "a.policytest.json:1:1: document: invalid_json:"),
    ],
)
def test_a_case_file_that_cannot_be_used_is_an_error(folder: Folder, text: str, said: str) -> None:
    folder.write("a.policytest.json", text)
    result = folder.run()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.assert_outcomes(errors=1)
    printed = told(result)
    assert said in printed
    assert "Traceback" not in printed
    assert "cases.py" not in printed


def test_a_case_file_in_yaml_without_the_extra_is_an_error(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    folder.write("a.policytest.yml", "cases: []\n")
    result = folder.run()
    result.assert_outcomes(errors=1)
    assert "`a.policytest.yml` cannot be read: " in told(result)
    assert 'pip install "mcp-policy[yaml]"' in told(result)


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        (None, "`policy.json` cannot be read: no such file or directory"),
        ('{"version": "1", "tool": {}}', "policy.json:1:18: /tool: unknown_key: the key `tool` is unknown here; did you mean"),
    ],
)  # fmt: skip
def test_a_policy_that_cannot_be_used_fails_its_cases(folder: Folder, policy: str | None, said: str) -> None:
    folder.write("a.policytest.json", CASES)
    (folder.path / "policy.json").unlink() if policy is None else folder.write("policy.json", policy)
    result = folder.run("-q")
    result.assert_outcomes(failed=3)
    text = told(result)
    assert "a.policytest.json:" in text
    assert said in text
    assert "Traceback" not in text
    assert "running.py" not in text


def test_what_is_unexpected_has_its_traceback(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr(running, "run_case", broken)
    folder.write("a.policytest.json", CASES)
    result = folder.run()
    result.assert_outcomes(failed=3)
    assert "E       ZeroDivisionError: a fault of ours" in told(result)


# -- the clock and the engine


def test_the_clock_moves_when_it_is_told_to() -> None:
    clock = PolicyClock()
    start = clock()
    clock.tick(60)
    clock.tick(0.5)
    assert clock() - start == 60.5
    for odd in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="a clock moves on by seconds, 0 or more, not by"):
            clock.tick(odd)
    assert clock() - start == 60.5


def test_the_engine_goes_by_the_clock_and_starts_anew_in_each_test(folder: Folder) -> None:
    folder.test("""
@pytest.mark.parametrize("time", [1, 2])
def test_limit(policy_engine, policy_clock, time):
    assert [policy_engine.authorize(PAY) for _ in range(3)] == [allowed(), allowed(), limited(retry_after=60)]
    policy_clock.tick(59)
    assert policy_engine.authorize(PAY) == limited(retry_after=1)
    policy_clock.tick(1)
    assert policy_engine.authorize(PAY) == allowed()
""")
    folder.run().assert_outcomes(passed=2)


def test_the_marker_is_seen_from_the_folder_of_the_test(folder: Folder) -> None:
    folder.write("sub/strict.json", {"version": "1"})
    folder.test(
        """
pytestmark = pytest.mark.policy("strict.json")

def test_marked_by_the_module(policy_engine):
    assert policy_engine.evaluate(PAY) == denied(code="default_deny")

@pytest.mark.policy("../policy.json")
def test_marked_itself(policy_engine):
    assert policy_engine.evaluate(PAY) == allowed()
""",
        "sub/test_sub.py",
    )
    folder.run("--strict-markers").assert_outcomes(passed=2)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pytest.ini", "[pytest]\npolicy = policies/it.json\n"),
        ("pyproject.toml", '[tool.pytest.ini_options]\npolicy = "policies/it.json"\n'),
        ("pyproject.toml", '[tool.pytest]\nstrict = true\npolicy = "policies/it.json"\n'),
    ],
)
def test_the_option_is_seen_from_its_file(folder: Folder, name: str, text: str) -> None:
    folder.write(name, text)
    folder.write("policies/it.json", {"version": "1", "default": "allow"})
    folder.test(
        """
pytestmark = []

def test_it(policy_engine):
    assert policy_engine.evaluate(DEAR) == allowed(code="default_allow")
""",
        "sub/test_sub.py",
    )
    folder.run().assert_outcomes(passed=1)
    folder.pytester.chdir()
    folder.run("--rootdir", str(folder.path), "sub/test_sub.py").assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("marker", "said"),
    [
        ("[]", '`policy_engine` has no policy: mark the test with `@pytest.mark.policy("policy.json")`, or set `policy` in'),
        ("pytest.mark.policy", "the marker takes the path of a policy and nothing else"),
        ("pytest.mark.policy(1)", "the marker takes the path of a policy and nothing else"),
        ("pytest.mark.policy('a', 'b')", "the marker takes the path of a policy and nothing else"),
        ("pytest.mark.policy(path='a')", "the marker takes the path of a policy and nothing else"),
        ("pytest.mark.policy('none.json')", "`none.json` cannot be read: no such file or directory"),
        ("pytest.mark.policy('odd.json')", "odd.json:1:1: document: missing_key: the key `version` is missing here"),
    ],
)  # fmt: skip
def test_an_engine_without_a_policy_is_an_error(folder: Folder, marker: str, said: str) -> None:
    folder.write("odd.json", "{}")
    folder.test(f"pytestmark = {marker}\ndef test_it(policy_engine): pass\n")
    result = folder.run()
    result.assert_outcomes(errors=1)
    assert said in told(result)
    assert "Traceback" not in told(result)
    assert "plugin.py" not in told(result)


# -- diffs


def test_a_difference_is_told_field_by_field(folder: Folder) -> None:
    folder.test("""
def test_right(policy_engine):
    assert policy_engine.evaluate(DEAR) == limited(retry_after=3)

def test_left(policy_engine):
    assert allowed(rule="/tools/pay") == policy_engine.evaluate(DEAR)

def test_no_decision(policy_engine):
    assert policy_engine.evaluate == allowed()
""")
    text = told(folder.run())
    assert (
        "E       assert decision == limited(retry_after=3)\n"
        "E         - effect: limit\n"
        "E         + effect: deny\n"
        "E         - retry_after: 3\n"
        "E         + retry_after: none\n"
        "E         decided by /tools/pay/require/0: require: at most 100\n"
    ) in text
    assert (
        'E       assert decision == allowed(rule="/tools/pay")\n'
        "E         - effect: allow\n"
        "E         + effect: deny\n"
        "E         - rule: /tools/pay\n"
        "E         + rule: /tools/pay/require/0\n"
        "E         decided by /tools/pay/require/0: require: at most 100\n"
    ) in text
    assert "E         found a `method`, expected a `Decision`\n" in text


def test_the_functions_for_unittest_hide_their_own_frames(folder: Folder) -> None:
    folder.test("""
from mcp_policy.testing import assert_allowed

def test_it(policy_engine):
    assert_allowed(policy_engine, DEAR)
""")
    text = told(folder.run())
    assert "E       AssertionError: expected allowed()\nE       - effect: allow\nE       + effect: deny\n" in text
    assert "matchers.py" not in text


def test_other_comparisons_are_left_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    from mcp_policy.testing import allowed

    assert pytest_assertrepr_compare("==", 1, 2) is None
    assert pytest_assertrepr_compare("!=", 1, allowed()) is None
    monkeypatch.delitem(sys.modules, "mcp_policy.testing.matchers")
    assert pytest_assertrepr_compare("==", 1, 2) is None


# -- coverage

WHOLE = {
    "policy": "policy.json",
    "cases": [
        *CASES["cases"],
        {"name": "wrong type", "call": {"tool": "pay", "arguments": {"amount": "1"}}, "expect": {"effect": "deny"}},
        {
            "name": "limit",
            "steps": [
                {"call": {"tool": "pay", "arguments": {"amount": 1}}, "times": 2, "expect": {"effect": "allow"}},
                {"call": {"tool": "pay", "arguments": {"amount": 1}}, "expect": {"effect": "limit"}},
            ],
        },
    ],
}


def covered(result: pytest.RunResult) -> list[str]:
    """The lines of the section about coverage."""
    lines = [line.rstrip() for line in result.outlines]
    start = next(number for number, line in enumerate(lines) if "= policy coverage =" in line) + 1
    end = next(number for number in range(start, len(lines)) if lines[number].startswith("====="))
    return [line for line in lines[start:end] if line]


def test_without_the_option_nothing_is_covered(folder: Folder) -> None:
    folder.write("a.policytest.json", WHOLE)
    assert "policy coverage" not in told(folder.run())


def test_coverage_of_case_files(folder: Folder) -> None:
    folder.write("a.policytest.json", CASES)
    result = folder.run("--policy-coverage")
    assert result.ret == 0
    assert covered(result) == [
        "coverage of policy.json: 4 of 6 outcomes, 66.6 %",
        "  /tools/pay/require/0: require: `args.amount` is at most 100: never wrong type",
        "  /tools/pay/rate_limit: limit: 2 in 60 seconds: never used up",
    ]
    folder.write("a.policytest.json", WHOLE)
    assert covered(folder.run("--policy-coverage")) == ["coverage of policy.json: 6 of 6 outcomes, 100.0 %"]


def test_coverage_of_engines_and_case_files_together(folder: Folder) -> None:
    folder.write("sub/a.policytest.json", {**CASES, "policy": "../policy.json"})
    folder.test("""
import asyncio

def test_type(policy_engine):
    assert policy_engine.evaluate(ToolCall("pay", {"amount": "1"})) == denied(code="type_mismatch")

def test_limit(policy_engine):
    for _ in range(2):
        assert asyncio.run(policy_engine.authorize_async(PAY)) == allowed()
    assert policy_engine.authorize(PAY) == limited()
""")
    assert covered(folder.run("--policy-coverage")) == ["coverage of policy.json: 6 of 6 outcomes, 100.0 %"]
    assert covered(folder.run("--policy-coverage", "-k", "test_type")) == [
        "coverage of policy.json: 2 of 6 outcomes, 33.3 %",
        "  /hide/0: hides `debug_*`: never matches",
        "  /tools/pay/require/0: require: `args.amount` is at most 100: never holds, never does not hold",
        "  /tools/pay/rate_limit: limit: 2 in 60 seconds: never used up",
    ]


def test_an_engine_that_is_watched_decides_as_any_other(folder: Folder) -> None:
    folder.write("other.json", {"version": "1"})
    folder.test("""
from mcp_policy import Policy, PolicyEngine

def test_it(policy_engine):
    assert isinstance(policy_engine, PolicyEngine)
    other = PolicyEngine(Policy.load("policy.json"))
    for call in (PAY, DEAR, ToolCall("debug_x"), ToolCall("x"), ToolCall("pay", {"amount": "1"}), PAY, PAY):
        assert policy_engine.evaluate(call)[:2] == other.evaluate(call)[:2]
        assert policy_engine.authorize(call)[:2] == other.authorize(call)[:2]
        assert policy_engine.explain(call).decision[:2] == other.explain(call).decision[:2]
        assert policy_engine.visible(call) == other.visible(call)
    policy_engine.reload(Policy.load("other.json"))
    assert policy_engine.authorize(PAY) == denied(code="default_deny")
""")
    result = folder.run("--policy-coverage")
    result.assert_outcomes(passed=1)
    assert covered(result) == ["coverage of policy.json: 6 of 6 outcomes, 100.0 %"]


@pytest.mark.parametrize(
    ("least", "status", "missed"),
    [("66", 0, []), ("66.7", 1, ["66.6 % is covered, less than 66.7 %"]), ("100", 1, ["66.6 % is covered, less than 100 %"])],
)  # fmt: skip
def test_too_little_coverage_fails_the_run(folder: Folder, least: str, status: int, missed: list[str]) -> None:
    folder.write("a.policytest.json", CASES)
    result = folder.run("--policy-coverage-fail-under", least)
    result.assert_outcomes(passed=3)
    assert result.ret == status
    assert covered(result)[3:] == missed


def test_a_run_that_used_no_policy_covers_nothing(folder: Folder) -> None:
    folder.test("def test_it(): pass\n")
    assert folder.run("--policy-coverage").ret == 0
    result = folder.run("--policy-coverage-fail-under=1")
    assert result.ret == 1
    assert covered(result) == ["no test used a policy", "0.0 % is covered, less than 1 %"]
    assert folder.run("--policy-coverage-fail-under=1", "--collect-only").ret == 0


def test_a_failed_run_keeps_its_status(folder: Folder) -> None:
    assert folder.run("--policy-coverage-fail-under=1").ret == pytest.ExitCode.NO_TESTS_COLLECTED


@pytest.mark.parametrize("percent", ["-1", "101", "nan", "much"])
def test_what_is_no_percentage_is_refused(folder: Folder, percent: str) -> None:
    result = folder.run(f"--policy-coverage-fail-under={percent}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "invalid percentage value" in result.stderr.str()


# -- several processes

CONFTEST = """
import json
from pathlib import Path
from types import SimpleNamespace

class Worker:
    def pytest_configure(self, config):
        config.workeroutput = {}

    def pytest_unconfigure(self, config):
        Path(f"{config.getoption('keyword')}.sent").write_text(json.dumps(config.workeroutput))

class Controller:
    def pytest_sessionfinish(self, session):
        for name in ("test_a", "test_b"):
            node = SimpleNamespace(config=session.config, workeroutput=json.loads(Path(f"{name}.sent").read_text()))
            session.config.hook.pytest_testnodedown(node=node, error=None)
        session.config.hook.pytest_testnodedown(node=SimpleNamespace(config=session.config), error="crashed")

def pytest_addoption(parser, pluginmanager):
    parser.addoption("--role")

def pytest_addhooks(pluginmanager):
    class Hooks:
        def pytest_testnodedown(self, node, error): ...
    pluginmanager.add_hookspecs(Hooks)

def pytest_cmdline_main(config):
    role = {"worker": Worker, "controller": Controller}[config.getoption("role")]
    config.pluginmanager.register(role())
"""


def test_workers_send_what_they_reached(folder: Folder) -> None:
    folder.write("conftest.py", CONFTEST)
    folder.test("""
def test_a(policy_engine, policy_snapshot):
    policy_snapshot(policy_engine, [ToolCall("pay", {"amount": "1"}), DEAR])

def test_b(policy_engine):
    assert [policy_engine.authorize(PAY).allowed for _ in range(3)] == [True, True, False]
""")
    options = ("--policy-coverage", "--policy-coverage-fail-under=83", "--policy-update")
    for name in ("test_a", "test_b"):
        assert folder.run("--role=worker", "-k", name, *options).ret == 0
    result = folder.run("--role=controller", "-k", "nothing", *options)
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    assert covered(result) == [
        "coverage of policy.json: 5 of 6 outcomes, 83.3 %",
        "  /hide/0: hides `debug_*`: never matches",
    ]
    assert "written: __policy_snapshots__/test_it/test_a.json" in told(result)


# -- snapshots

TABLE = """
def test_table(policy_engine, policy_snapshot):
    policy_snapshot(policy_engine, [PAY, DEAR])
"""
KEPT = """\
[
  {
    "call": {"tool": "pay", "arguments": {"amount": 1}},
    "decision": {"effect": "allow", "codes": ["allowed"], "rules": ["/tools/pay"]}
  },
  {
    "call": {"tool": "pay", "arguments": {"amount": 101}},
    "decision": {"effect": "deny", "codes": ["require"], "rules": ["/tools/pay/require/0"]}
  }
]
"""


def test_a_missing_snapshot_fails(folder: Folder) -> None:
    folder.test(TABLE)
    result = folder.run()
    result.assert_outcomes(failed=1)
    assert (
        "there is no snapshot `__policy_snapshots__/test_it/test_table.json` yet: write it with `--policy-update`, and read it\n"
        in told(result)
    )
    assert not (folder.path / "__policy_snapshots__").exists()


def test_a_snapshot_is_written_once_and_then_compared(folder: Folder) -> None:
    folder.write("sub/policy.json", POLICY)
    folder.test(TABLE, "sub/test_it.py")
    result = folder.run("--policy-update")
    result.assert_outcomes(passed=1)
    assert "written: sub/__policy_snapshots__/test_it/test_table.json" in told(result)
    file = folder.path / "sub/__policy_snapshots__/test_it/test_table.json"
    assert file.read_text(encoding="utf-8") == KEPT
    folder.run().assert_outcomes(passed=1)
    result = folder.run("--policy-update")
    result.assert_outcomes(passed=1)
    assert "policy snapshots" not in told(result)


def test_a_decision_that_changed_is_told_as_a_diff(folder: Folder) -> None:
    folder.test(TABLE)
    file = folder.write("__policy_snapshots__/test_it/test_table.json", KEPT)
    folder.write("policy.json", json.dumps(POLICY).replace('"value": 100', '"value": 1000'))
    result = folder.run()
    result.assert_outcomes(failed=1)
    text = told(result)
    assert (
        "decisions differ from the snapshot `__policy_snapshots__/test_it/test_table.json`; "
        "if they are right, write it with `--policy-update`\n"
        'pay {"amount": 101}\n'
        "  - effect: deny\n"
        "  + effect: allow\n"
        "  - codes: require\n"
        "  + codes: allowed\n"
        "  - rules: /tools/pay/require/0\n"
        "  + rules: /tools/pay\n"
        "=====" in text
    )
    assert "fixtures.py" not in text
    assert file.read_text(encoding="utf-8") == KEPT
    folder.run("--policy-update").assert_outcomes(passed=1)
    assert file.read_text(encoding="utf-8") == KEPT.replace(
        '"deny", "codes": ["require"]', '"allow", "codes": ["allowed"]'
    ).replace("/require/0", "")


def test_each_test_and_each_of_its_tables_has_its_own_file(folder: Folder) -> None:
    folder.test("""
class TestIt:
    @pytest.mark.parametrize("call", [PAY, DEAR], ids=["a/b", "a-b"])
    def test_table(self, policy_engine, policy_snapshot, call):
        policy_snapshot(policy_engine, [call])
        policy_snapshot(policy_engine, [call, call])
""")
    folder.run("--policy-update").assert_outcomes(passed=2)
    files = sorted(path.name for path in (folder.path / "__policy_snapshots__/test_it").iterdir())
    assert len(files) == 4
    assert all(name.startswith("TestIt.test_table-a-b-") for name in files)
    folder.run().assert_outcomes(passed=2)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xfe", "'utf-8' codec can't decode byte"),
        (b"<<<<<<< ours\n[]\n", "Expecting value: line 1 column 1"),
        (b'{"call": {}}', "expected a list of objects with `call` and `decision`"),
    ],
)
def test_a_snapshot_that_is_none_fails_until_it_is_written_anew(folder: Folder, content: bytes, said: str) -> None:
    folder.test(TABLE)
    file = folder.write("__policy_snapshots__/test_it/test_table.json", "")
    file.write_bytes(content)
    result = folder.run()
    result.assert_outcomes(failed=1)
    assert f"the snapshot `__policy_snapshots__/test_it/test_table.json` cannot be read: {said}" in told(result)
    assert "Traceback" not in told(result)
    folder.run("--policy-update").assert_outcomes(passed=1)
    assert file.read_text(encoding="utf-8") == KEPT


def test_a_snapshot_that_cannot_be_read_fails(folder: Folder) -> None:
    folder.test(TABLE)
    (folder.path / "__policy_snapshots__/test_it/test_table.json").mkdir(parents=True)
    for options in ([], ["--policy-update"]):
        result = folder.run(*options)
        result.assert_outcomes(failed=1)
        said = "the snapshot `__policy_snapshots__/test_it/test_table.json` cannot be read: is a directory"
        assert said in told(result)
        assert "Traceback" not in told(result)


def test_help_names_the_options(folder: Folder) -> None:
    result = folder.run("--help")
    result.stdout.fnmatch_lines(["policies for MCP tool calls:", "  --policy-coverage *", "  --policy-update *"])
    assert "policy (string):" in told(result)
    assert "@pytest.mark.policy(path):" in told(folder.run("--markers"))
