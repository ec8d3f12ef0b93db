"""Tests that cannot share one environment with the project's own: other versions of the stacks that it guards.

    nox --tags test              all of them
    nox --session mcp1           one
    nox --tags cost              what a guard adds to a call there

Each session has an environment of its own in `.venv/nox`, which stays for the next time.
"""

from __future__ import annotations

import nox

nox.needs_version = ">=2025.2"
nox.options.default_venv_backend = "venv"  # pip knows the same indexes as it does elsewhere
nox.options.envdir = ".venv/nox"
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = True
nox.options.tags = ["test"]

TESTS = ("httpx>=0.27", "hypothesis>=6.120", "pytest>=9", "uvicorn>=0.30")
TYPES = ("mypy>=1.18", "types-cachetools")


@nox.session(tags=["test"])
def mcp1(session: nox.Session) -> None:
    """The MCP SDK 1.x; its adapter's types are checked here, and its page in the documentation is followed."""
    session.install("-e", ".[asgi,mcp-v1]", *TESTS, *TYPES)
    session.run("mypy", "--follow-imports", "silent", "src/mcp_policy/adapters/mcp_v1.py")
    tests(session, "tests/stacks/test_mcp1.py", "tests/stacks/test_contract_mcp1.py", "tests/test_docs.py")


@nox.session(tags=["test"])
def fastmcp2(session: nox.Session) -> None:
    """The last fastmcp on the way to 3."""
    session.install("-e", ".[fastmcp]", "fastmcp<3", *TESTS)
    tests(session, "tests/stacks/test_fastmcp_older.py", "tests/stacks/test_contract_fastmcp2.py")


@nox.session(tags=["test"])
def fastmcp3(session: nox.Session) -> None:
    """The last on the MCP SDK 1.x."""
    session.install("-e", ".[fastmcp]", "fastmcp[tasks]>=3.4,<4", *TESTS)
    tests(session, "tests/stacks/test_fastmcp_older.py", "tests/stacks/test_contract_fastmcp3.py")


@nox.session(tags=["cost"])
@nox.parametrize("requirement", ["mcp<2", "fastmcp<3", "fastmcp<4"], ids=["mcp1", "fastmcp2", "fastmcp3"])
def cost(session: nox.Session, requirement: str) -> None:
    """What a guard adds to a call, on a stack that the main environment does not have."""
    session.install("-e", ".[asgi]", requirement)
    session.run("python", "benchmarks/adapters.py")


def tests(session: nox.Session, *files: str) -> None:
    """Run test files, with what is given after `--`; other people's deprecations at import are theirs."""
    quiet = ("-p", "no:cacheprovider", "-q", "-W", "ignore::DeprecationWarning")
    session.run("python", "-m", "pytest", *quiet, *files, *session.posargs)
