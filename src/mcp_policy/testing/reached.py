"""What a run of pytest reached of its policies, and which snapshots it wrote: told at its end.

With pytest-xdist, workers send what they reached to the process that reports.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import pytest

from .places import relative

if TYPE_CHECKING:
    from .coverage import Coverage, Row

WRITTEN: Final = pytest.StashKey[list[str]]()
"""The snapshots that were written."""

_COVERAGE: Final = pytest.StashKey["Coverage"]()
_WORKERS: Final = pytest.StashKey[list[dict[str, Any]]]()
_SENT: Final = "mcp_policy"
"""What a worker's report is called among those of other plugins."""


def covers(config: pytest.Config) -> bool:
    """Tell whether coverage is asked for."""
    least = config.getoption("--policy-coverage-fail-under")
    return bool(config.getoption("--policy-coverage")) or least is not None


def coverage_of(config: pytest.Config) -> Coverage | None:
    """Return what takes down what is reached, None where nobody asks."""
    if not covers(config):
        return None
    if _COVERAGE not in config.stash:
        from .coverage import Coverage

        config.stash[_COVERAGE] = Coverage()
    return config.stash[_COVERAGE]


def _rows(config: pytest.Config) -> list[Row]:
    """Return what was reached, here and in all workers."""
    from .coverage import Row
    from .watching import merged

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
        rows = [tuple(row) for row in _rows(config)] if covers(config) else []
        output[_SENT] = {"rows": rows, "written": config.stash.get(WRITTEN, [])}
    elif covers(config) and not config.option.collectonly and _missed(config, _rows(config)) is not None:
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Tell what was written, and what was reached."""
    workers = config.stash.get(_WORKERS, [])
    written = [*config.stash.get(WRITTEN, []), *(name for worker in workers for name in worker["written"])]
    if written:
        terminalreporter.section("policy snapshots")
        for name in sorted(written):
            terminalreporter.line(f"written: {name}")
    if not covers(config) or config.option.collectonly:
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
