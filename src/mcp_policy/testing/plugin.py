"""The pytest plugin: case files as tests, an engine and a clock as fixtures, coverage, snapshots, and clean diffs.

Rules kept here:

- A run that uses no policy pays for none: this module imports the standard library only, and what it registers imports
  pytest, which is there. Everything else is imported when a test asks for it.
- What is not there (a policy, a snapshot, anything to be covered) fails; nothing passes because nothing was looked at.
- A failure is told as a diff, without a traceback: the fault is in a policy or a case, not in the code that ran it.

The tests of case files are in `items`, the fixtures in `fixtures`, coverage in `reached`.
`docs/how-to/test-with-pytest.md` is what people read of this.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import pytest

SUFFIXES: Final = (".policytest.json", ".policytest.yaml", ".policytest.yml")
"""As in `cases`, which is not imported before there is a case file."""


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
    """Declare the marker, and register the parts that need pytest."""
    from . import fixtures, reached

    config.addinivalue_line("markers", "policy(path): the policy of `policy_engine`, seen from the test's folder")
    for part in (fixtures, reached):
        config.pluginmanager.register(part, part.__name__)


def _percentage(text: str) -> float:
    percent = float(text)
    if not 0 <= percent <= 100:
        raise ValueError
    return percent


_percentage.__name__ = "percentage"  # what argparse calls a value that is none


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect case files, by their names."""
    if not file_path.name.endswith(SUFFIXES):
        return None
    from .items import PolicyFile

    return PolicyFile.from_parent(parent, path=file_path)


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """Explain why a decision is not what a matcher says."""
    matchers = sys.modules.get("mcp_policy.testing.matchers")
    if matchers is None or op != "==":  # nobody has imported a matcher
        return None
    for matcher, found in ((right, left), (left, right)):
        if isinstance(matcher, matchers.Matcher):
            return [f"decision == {matcher.text}", *matcher.differences(found)]
    return None
