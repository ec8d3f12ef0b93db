"""Fixtures of pytest: an engine, its clock, and snapshots of what it decides.

What cannot be used (a policy that is not named, or not valid; a snapshot that is not there) ends the test in a few
lines, without a traceback.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pytest

from .places import problems_of, seen, unread
from .reached import WRITTEN, coverage_of

if TYPE_CHECKING:
    from ..call import ToolCall
    from ..engine import PolicyEngine
    from ..policy import Policy
    from .snapshot import Row

PolicySnapshot: TypeAlias = "Callable[[PolicyEngine, Iterable[ToolCall]], None]"


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
    policy, coverage = _policy(request.config, path), coverage_of(request.config)
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
        raise _failed("\n".join(problems_of(config, path, error))) from None
    except (OSError, ImportError) as error:
        raise _failed(unread(config, path, error)) from None


def _check_snapshot(config: pytest.Config, file: Path, table: Sequence[Row]) -> None:
    from .snapshot import difference, write

    name, update = seen(config, file), config.getoption("--policy-update")
    try:
        try:
            differs = difference(file, table)
        except ValueError:
            if not update:
                raise
            differs = None  # whatever stands there is written anew, the marks of a merge for one
        if update and differs != []:
            write(file, table)
            config.stash.setdefault(WRITTEN, []).append(name)
    except (OSError, ValueError) as error:
        raise _failed(f"the snapshot {unread(config, file, error)}") from None
    if update:
        return
    if differs is None:
        raise _failed(f"there is no snapshot `{name}` yet: write it with `--policy-update`, and read it")
    if differs:
        top = f"decisions differ from the snapshot `{name}`; if they are right, write it with `--policy-update`"
        raise _failed("\n".join([top, *differs]))


def _failed(message: str) -> BaseException:
    """Return what ends a test with a message and nothing else; to be raised `from None`."""
    return pytest.fail.Exception(message, pytrace=False)
