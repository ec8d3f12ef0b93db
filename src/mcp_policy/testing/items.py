"""Case files as tests of pytest: an item for each case, told as a diff where it fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .places import problems_of, seen, unread
from .reached import coverage_of

if TYPE_CHECKING:
    from .cases import Case
    from .report import Failure


class PolicyFile(pytest.File):
    """A case file."""

    def collect(self) -> Iterator[PolicyCase]:
        """Yield a test for each case, and for each row of a table. Raises `CollectError`."""
        from .cases import CaseFileError, read_cases
        from .report import shown

        try:
            cases = read_cases(self.path).cases
        except CaseFileError as error:
            raise self.CollectError("\n".join(problems_of(self.config, self.path, error))) from None
        except (OSError, ImportError) as error:
            raise self.CollectError(unread(self.config, self.path, error)) from None
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

        failure = run_case(self.case, coverage_of(self.config))
        if failure is not None:
            raise CaseFailed(failure)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return the failure as people read it: a diff, or why the policy cannot be used."""
        from ..errors import PolicyError
        from .report import heading, lines_of

        error, case = excinfo.value, self.case
        top = heading(case._replace(path=Path(seen(self.config, case.path))))
        if isinstance(error, CaseFailed):
            return "\n".join([top, *lines_of(error.failure)])
        if case.policy is not None and isinstance(error, PolicyError):
            return "\n".join([top, *problems_of(self.config, str(case.policy), error)])
        if case.policy is not None and isinstance(error, (OSError, ImportError)):
            return f"{top}\n{unread(self.config, str(case.policy), error)}"
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Return where the case stands; lines count from 0 here."""
        return self.path, None if self.case.line is None else self.case.line - 1, self.name


class CaseFailed(AssertionError):
    """A case that was not met."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure
