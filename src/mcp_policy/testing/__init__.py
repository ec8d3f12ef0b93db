"""Testing policies: case files, matchers and coverage, for `mcp-policy test`, pytest and unittest alike.

`check_file(path)` runs a case file and raises `AssertionError` with what differs; `read_cases` and `run_case` do the
same case by case; `Coverage` collects what they reach. `allowed()`, `denied(...)`, `limited(...)` and
`needs_approval(...)` are what a decision is compared with, `assert_allowed(engine, call)` and so on the same for
unittest. Nothing is imported before it is asked for: the pytest plugin lives here, and a run that uses no policy must
not pay for one.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .cases import Case, CaseFile, CaseFileError, read_cases
    from .coverage import Coverage
    from .matchers import (
        allowed,
        assert_allowed,
        assert_denied,
        assert_limited,
        assert_needs_approval,
        denied,
        limited,
        needs_approval,
    )
    from .report import Failure
    from .running import check_file, run_case

__all__ = [
    "Case",
    "CaseFile",
    "CaseFileError",
    "Coverage",
    "Failure",
    "allowed",
    "assert_allowed",
    "assert_denied",
    "assert_limited",
    "assert_needs_approval",
    "check_file",
    "denied",
    "limited",
    "needs_approval",
    "read_cases",
    "run_case",
]

_HOMES: Final = {
    "Case": "cases",
    "CaseFile": "cases",
    "CaseFileError": "cases",
    "Coverage": "coverage",
    "Failure": "report",
    "allowed": "matchers",
    "assert_allowed": "matchers",
    "assert_denied": "matchers",
    "assert_limited": "matchers",
    "assert_needs_approval": "matchers",
    "check_file": "running",
    "denied": "matchers",
    "limited": "matchers",
    "needs_approval": "matchers",
    "read_cases": "cases",
    "run_case": "running",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
