"""How test cases ended, and what they cover, for people and as data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mcp_policy.testing.coverage import by_policy, counted, percent_text, summary
from mcp_policy.testing.report import heading, lines_of

from ._render import Cell, Style, Text

if TYPE_CHECKING:
    from mcp_policy.testing.cases import Case
    from mcp_policy.testing.coverage import Coverage, Row
    from mcp_policy.testing.report import Failure, Mismatch
    from mcp_policy.testing.updating import Change

_STYLES: Final[dict[str, Style]] = {"  - ": "bad", "  + ": "good"}


class Result(NamedTuple):
    """How one case ended."""

    case: Case
    failure: Failure | None
    seconds: float


def pretty(results: Sequence[Result], coverage: Coverage | None, changes: Sequence[Change]) -> Iterator[Sequence[Cell]]:
    """Yield lines for people: what was rewritten, what failed, what is not covered, and how many cases passed."""
    for change in changes:
        yield Text(f"{change.path}:{change.line}", "name"), f": {change.before} is now {change.after}"
    failures = [result.failure for result in results if result.failure is not None]
    for failure in failures:
        yield (Text(heading(failure.case), "bad"),)
        for line in lines_of(failure):
            yield (Text(line, _STYLES.get(line[:4], "plain")),)
        yield ()
    if coverage is not None:
        yield from _coverage(coverage.rows())
    yield from _counts(results)


def short_of(coverage: Coverage, wanted: float) -> str:
    """Return the line that says that too little is covered."""
    return f"{percent_text(coverage.percent)} is covered, less than {wanted:g} %"


def as_data(results: Sequence[Result], coverage: Coverage | None, changes: Sequence[Change]) -> dict[str, Any]:
    """Return the same as JSON can hold it."""
    failed = sum(result.failure is not None for result in results)
    data: dict[str, Any] = {
        "cases": [_case(result) for result in results],
        "summary": {"passed": len(results) - failed, "failed": failed},
    }
    if changes:
        data["changes"] = [{**change._asdict(), "path": str(change.path)} for change in changes]
    if coverage is not None:
        rows = coverage.rows()
        reached, every = counted(rows)
        data["coverage"] = {
            "percent": coverage.percent,
            "reached": reached,
            "outcomes": every,
            "rows": [row._asdict() for row in rows],
        }
    return data


def _counts(results: Sequence[Result]) -> Iterator[Sequence[Cell]]:
    passed, failed = Counter[str](), Counter[str]()
    for result in results:
        (passed if result.failure is None else failed)[str(result.case.path)] += 1
    for path in dict.fromkeys(str(result.case.path) for result in results):
        yield Text(path, "name"), ": ", *_count(passed[path], failed[path])
    if len({*passed, *failed}) > 1:
        yield "in all: ", *_count(passed.total(), failed.total())


def _count(passed: int, failed: int) -> tuple[Cell, ...]:
    good = Text(f"{passed} passed", "good")
    return (good,) if not failed else (good, ", ", Text(f"{failed} failed", "bad"))


def _coverage(rows: Sequence[Row]) -> Iterator[Sequence[Cell]]:
    for name, parts in by_policy(rows).items():
        open_ones = [row for row in parts if row.unseen]
        yield (Text(summary(name, parts), "bad" if open_ones else "good"),)
        wide = [max((len(cell) for cell in cells), default=0) for cells in zip(*map(_cells, open_ones), strict=True)]
        for row in open_ones:
            pointer, says, seen, unseen = (cell.ljust(width) for cell, width in zip(_cells(row), wide, strict=True))
            yield "  ", Text(pointer, "name"), "  ", says, "  ", Text(seen, "muted"), "  ", Text(unseen, "bad")
        yield ()


def _cells(row: Row) -> tuple[str, str, str, str]:
    return row.pointer, row.says, f"seen: {', '.join(row.seen) or 'none'}", f"never: {', '.join(row.unseen)}"


def _case(result: Result) -> dict[str, Any]:
    case = result.case
    told: dict[str, Any] = {"file": str(case.path), "name": case.name, "line": case.line, "pointer": case.pointer}
    told["passed"] = result.failure is None
    if result.failure is not None:
        told["failure"] = [_difference(mismatch) for mismatch in result.failure.mismatches]
    return told


def _difference(mismatch: Mismatch) -> dict[str, Any]:
    told: dict[str, Any] = {"expected": mismatch.expected, "found": mismatch.found, "wrong": mismatch.wrong}
    if mismatch.step is not None:
        told |= {"step": mismatch.place, "time": mismatch.time, "at": mismatch.step.at}
    if mismatch.note:
        told["note"] = mismatch.note
    if mismatch.decision is not None:
        reasons = mismatch.decision.reasons
        told["reasons"] = [{"code": code, "rule": rule, "message": message} for code, message, rule, _ in reasons]
    return told
