"""The pytest plugin: case files as tests, an engine and a clock as fixtures, coverage, snapshots, and clean diffs.

Rules kept here:

- A run that uses no policy pays for none: this module imports pytest, which is there, and the standard library.
- What is not there (a policy, a snapshot, anything to be covered) fails; nothing passes because nothing was looked at.
- A failure is told as a diff, without a traceback: the fault is in a policy or a case, not in the code that ran it.
- With pytest-xdist, workers send what they reached to the process that reports.

`docs/how-to/test-with-pytest.md` is what people read of this.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import pytest

if TYPE_CHECKING:
    from ..call import ToolCall
    from ..engine import PolicyEngine
    from ..policy import Policy
    from .cases import Case
    from .coverage import Coverage, Row
    from .report import Failure

SUFFIXES: Final = (".policytest.json", ".policytest.yaml", ".policytest.yml")
"""As in `cases`, which is not imported before there is a case file."""

_COVERAGE: Final = pytest.StashKey["Coverage"]()
_WORKERS: Final = pytest.StashKey[list[dict[str, Any]]]()
_WRITTEN: Final = pytest.StashKey[list[str]]()
_SENT: Final = "mcp_policy"
"""What a worker's report is called among those of other plugins."""

PolicySnapshot: TypeAlias = "Callable[[PolicyEngine, Iterable[ToolCall]], None]"


# -- options


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options; what they mean is imported when they are used."""
    group = parser.getgroup("mcp-policy", "policies for MCP tool calls")
    group.addoption("--policy-coverage", action="store_true", help="tell which rules and outcomes no test reached")
    group.addoption(
        "--policy-coverage-fail-under",
        metavar="PERCENT",
        type=_percentage,
        help="fail where less than this is covered; asks for --policy-coverage",
    )
    group.addoption("--policy-update", action="store_true", help="write the snapshots of decision tables anew")
    parser.addini("policy", "the policy of the fixture `policy_engine`, seen from the folder of this file", default="")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line("markers", "policy(path): the policy of `policy_engine`, seen from the test's folder")


def _percentage(text: str) -> float:
    percent = float(text)
    if not 0 <= percent <= 100:
        raise ValueError
    return percent


_percentage.__name__ = "percentage"  # what argparse calls a value that is none


# -- case files


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect case files, by their names."""
    return PolicyFile.from_parent(parent, path=file_path) if file_path.name.endswith(SUFFIXES) else None


class PolicyFile(pytest.File):
    """A case file."""

    def collect(self) -> Iterator[PolicyCase]:
        """Yield a test for each case, and for each row of a table. Raises `CollectError`."""
        from .cases import CaseFileError, read_cases
        from .report import shown

        try:
            cases = read_cases(self.path).cases
        except CaseFileError as error:
            said = "\n".join(f"{_seen(self.config, self.path)}:{problem}" for problem in error.problems)
            raise self.CollectError(said) from None
        except (OSError, ImportError) as error:
            raise self.CollectError(_unread(self.config, self.path, error)) from None
        for case in cases:
            yield PolicyCase.from_parent(self, name=shown(case.name), case=case)


class PolicyCase(pytest.Item):
    """One case, or one row of a table."""

    def __init__(self, *, case: Case, **more: Any) -> None:
        super().__init__(**more)
        self.case = case

    def runtest(self) -> None:
        """Run the case on the engine of run time."""
        from .running import run_case

        failure = run_case(self.case, _coverage(self.config))
        if failure is not None:
            raise CaseFailed(failure)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return the failure as people read it: a diff, or why the policy cannot be used."""
        from ..errors import PolicyError
        from .report import heading, lines_of

        error, case = excinfo.value, self.case
        top = heading(case._replace(path=Path(_seen(self.config, case.path))))
        if isinstance(error, CaseFailed):
            return "\n".join([top, *lines_of(error.failure)])
        if case.policy is not None and isinstance(error, PolicyError):
            return "\n".join([top, *_invalid(self.config, str(case.policy), error)])
        if case.policy is not None and isinstance(error, (OSError, ImportError)):
            return f"{top}\n{_unread(self.config, str(case.policy), error)}"
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Return where the case stands; lines count from 0 here."""
        return self.path, None if self.case.line is None else self.case.line - 1, self.name


class CaseFailed(AssertionError):
    """A case that was not met."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure


# -- fixtures


class PolicyClock:
    """A clock that stands still until a test moves it. Call it to read it, in seconds."""

    def __init__(self) -> None:
        self.now = 1_000_000.0  # a monotonic clock begins anywhere

    def __call__(self) -> float:
        return self.now

    def tick(self, seconds: float) -> None:
        """Move the clock on. Raises `ValueError` for what is no number of seconds: time does not go back."""
        if not (math.isfinite(seconds) and seconds >= 0):
            raise ValueError(f"a clock moves on by seconds, 0 or more, not by `{seconds!r}`")
        self.now += seconds


@pytest.fixture
def policy_clock() -> PolicyClock:
    """The clock of `policy_engine`: `policy_clock.tick(60)` moves it, and nothing else does."""
    return PolicyClock()


@pytest.fixture
def policy_engine(request: pytest.FixtureRequest, policy_clock: PolicyClock) -> PolicyEngine:
    """An engine with state of its own, by `@pytest.mark.policy(path)` or the option `policy` of the configuration."""
    from ..engine import PolicyEngine

    path = _policy_path(request)
    policy, coverage = _policy(request.config, path), _coverage(request.config)
    if coverage is None:
        return PolicyEngine(policy, clock=policy_clock)
    from .watching import WatchedEngine

    return WatchedEngine(policy, clock=policy_clock, coverage=coverage, name=str(path))


@pytest.fixture
def policy_snapshot(request: pytest.FixtureRequest) -> PolicySnapshot:
    """Compare what an engine decides on a list of calls with a file beside the test: `policy_snapshot(engine, calls)`.

    `--policy-update` writes the file. A second table of one test has a file of its own.
    """
    numbers = count(1)

    def check(engine: PolicyEngine, calls: Iterable[ToolCall]) -> None:
        from .snapshot import file_of, table_of

        table = table_of(engine, calls)
        name = request.node.nodeid.partition("::")[2]
        _check_snapshot(request.config, file_of(request.node.path, name, next(numbers)), table)

    return check


def _policy_path(request: pytest.FixtureRequest) -> Path:
    marker = request.node.get_closest_marker("policy")
    if marker is not None:
        if marker.kwargs or len(marker.args) != 1 or not isinstance(marker.args[0], (str, os.PathLike)):
            raise _failed(
                'the marker takes the path of a policy and nothing else: `@pytest.mark.policy("policy.json")`'
            )
        return Path(request.node.path.parent, marker.args[0])
    named = request.config.getini("policy")
    if not named:
        said = 'mark the test with `@pytest.mark.policy("policy.json")`, or set `policy` in the configuration of pytest'
        raise _failed(f"`policy_engine` has no policy: {said}")
    return Path(request.config.inipath.parent if request.config.inipath else request.config.rootpath, named)


def _policy(config: pytest.Config, path: Path) -> Policy:
    from ..errors import PolicyError
    from .cases import PolicySource
    from .running import policy_of

    try:
        return policy_of(PolicySource(path))  # read once a run, however many tests ask
    except PolicyError as error:
        raise _failed("\n".join(_invalid(config, path, error))) from None
    except (OSError, ImportError) as error:
        raise _failed(_unread(config, path, error)) from None


def _check_snapshot(config: pytest.Config, file: Path, table: str) -> None:
    from .snapshot import difference, write

    name, update = _seen(config, file), config.getoption("--policy-update")
    try:
        differs = difference(file, table)
        if update and differs != []:
            write(file, table)
            config.stash.setdefault(_WRITTEN, []).append(name)
    except (OSError, UnicodeDecodeError) as error:
        raise _failed(f"the snapshot {_unread(config, file, error)}") from None
    if update:
        return
    if differs is None:
        raise _failed(f"there is no snapshot `{name}` yet: write it with `--policy-update`, and read it")
    if differs:
        top = f"decisions differ from the snapshot `{name}`; if they are right, write it with `--policy-update`"
        raise _failed("\n".join([top, *differs]))


# -- what tests reached


def _covers(config: pytest.Config) -> bool:
    least = config.getoption("--policy-coverage-fail-under")
    return bool(config.getoption("--policy-coverage")) or least is not None


def _coverage(config: pytest.Config) -> Coverage | None:
    if not _covers(config):
        return None
    if _COVERAGE not in config.stash:
        from .coverage import Coverage

        config.stash[_COVERAGE] = Coverage()
    return config.stash[_COVERAGE]


def _rows(config: pytest.Config) -> list[Row]:
    """Return what was reached, here and in all workers."""
    from .coverage import Row
    from .watching import merged, relative

    own = config.stash[_COVERAGE].rows() if _COVERAGE in config.stash else []
    rows = [row._replace(policy=relative(row.policy, config.invocation_params.dir)) for row in own]
    sent = [Row(*row) for worker in config.stash.get(_WORKERS, []) for row in worker["rows"]]
    return merged([*rows, *sent])


def _missed(config: pytest.Config, rows: Iterable[Row]) -> str | None:
    """Return the line that says that too little is covered."""
    from .coverage import percent_text
    from .watching import percent

    least, found = config.getoption("--policy-coverage-fail-under"), percent(rows)
    if least is None or found >= least:
        return None
    return f"{percent_text(found)} is covered, less than {least:g} %"


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what a worker of pytest-xdist sent; one that crashed sent nothing."""
    sent = getattr(node, "workeroutput", {}).get(_SENT)
    if sent is not None:
        node.config.stash.setdefault(_WORKERS, []).append(sent)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send what was reached, in a worker; elsewhere fail where that is too little."""
    config = session.config
    output = getattr(config, "workeroutput", None)
    if output is not None:
        rows = [tuple(row) for row in _rows(config)] if _covers(config) else []
        output[_SENT] = {"rows": rows, "written": config.stash.get(_WRITTEN, [])}
    elif _covers(config) and not config.option.collectonly and _missed(config, _rows(config)) is not None:
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Tell what was written, and what was reached."""
    workers = config.stash.get(_WORKERS, [])
    written = [*config.stash.get(_WRITTEN, []), *(name for worker in workers for name in worker["written"])]
    if written:
        terminalreporter.section("policy snapshots")
        for name in sorted(written):
            terminalreporter.line(f"written: {name}")
    if not _covers(config) or config.option.collectonly:
        return
    from .watching import lines_of

    rows = _rows(config)
    terminalreporter.section("policy coverage")
    for line, is_whole in lines_of(rows):
        terminalreporter.line(line, green=is_whole, red=not is_whole)
    if not rows:
        terminalreporter.line("no test used a policy", red=True)
    missed = _missed(config, rows)
    if missed is not None:
        terminalreporter.line(missed, red=True, bold=True)


# -- how it is told


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """Explain why a decision is not what a matcher says."""
    matchers = sys.modules.get("mcp_policy.testing.matchers")
    if matchers is None or op != "==":  # nobody has imported a matcher
        return None
    for matcher, found in ((right, left), (left, right)):
        if isinstance(matcher, matchers.Matcher):
            return [f"decision == {matcher.text}", *matcher.differences(found)]
    return None


def _failed(message: str) -> BaseException:
    """Return what ends a test with a message and nothing else; to be raised `from None`."""
    return pytest.fail.Exception(message, pytrace=False)


def _seen(config: pytest.Config, path: str | os.PathLike[str]) -> str:
    from .watching import relative

    return relative(path, config.invocation_params.dir)


def _invalid(config: pytest.Config, path: str | os.PathLike[str], error: Any) -> list[str]:
    return [f"{_seen(config, path)}:{problem}" for problem in error.problems]


def _unread(config: pytest.Config, path: str | os.PathLike[str], error: Exception) -> str:
    said = error.strerror.lower() if isinstance(error, OSError) and error.strerror else str(error)
    return f"`{_seen(config, path)}` cannot be read: {said}"
