"""The stacks that cannot live in one environment with the project's own: each has a session that runs its tests.

nox                  the tests of all of them
nox -s mcp1          those of one
nox --tags cost      what a guard adds to a call there
"""

from __future__ import annotations

import nox

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.tags = ["test"]
nox.needs_version = ">=2025.2"

PYTEST = ("pytest", "-p", "no:cacheprovider", "-q")


@nox.session(tags=["test"])
def mcp1(session: nox.Session) -> None:
    """The MCP SDK 1.x."""
    session.install("-e", ".[mcp-v1,asgi]", "httpx", "uvicorn", "hypothesis", "pytest>=9")
    session.install("mypy>=1.18", "types-cachetools")
    session.run("mypy", "src/mcp_policy/adapters/mcp_v1.py")
    session.run(*PYTEST, "tests/stacks/test_mcp1.py", "tests/test_docs.py")


@nox.session(tags=["test"])
@nox.parametrize("requirement", ["fastmcp[tasks]>=2.14,<3", "fastmcp[tasks]>=3.4,<4"], ids=["2", "3"])
def fastmcp(session: nox.Session, requirement: str) -> None:
    """An older fastmcp, on the MCP SDK 1.x."""
    session.install("-e", ".[fastmcp]", requirement, "hypothesis", "pytest>=9", "uvicorn")
    session.run(*PYTEST, "-W", "ignore::DeprecationWarning", "tests/stacks/test_fastmcp_older.py")


@nox.session(tags=["cost"])
@nox.parametrize("requirement", ["mcp<2", "fastmcp<3", "fastmcp<4"], ids=["mcp1", "fastmcp2", "fastmcp3"])
def cost(session: nox.Session, requirement: str) -> None:
    """What a guard adds to a call, on a stack that the main environment does not have."""
    session.install("-e", ".[asgi]", requirement)
    session.run("python", "benchmarks/adapters.py")
