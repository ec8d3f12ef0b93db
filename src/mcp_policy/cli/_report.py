"""Findings about files, and outcomes of test cases, in the formats that people and their CI systems read.

Rules kept here:

- Every text is somebody else's: of a policy, a tool, a file name. No format lets it forge a line or move a cursor.
- The same findings give the same bytes, wherever they are printed; only a terminal has colours.
- What is suppressed is listed, with its reason, in each format that can say so.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from mcp_policy.checks.finding import Finding

from ._render import Cell, Style, Text
from ._style import write_lines, write_text

Format: TypeAlias = Literal["pretty", "json", "sarif", "github", "junit"]


class Suppressed(NamedTuple):
    """A finding that somebody has decided to live with, and why."""

    finding: Finding
    reason: str


class FileFindings(NamedTuple):
    """What was found in a file; `-` stands for standard input."""

    path: str
    findings: Sequence[Finding]
    suppressed: Sequence[Suppressed] = ()


class CaseResult(NamedTuple):
    """How a test case ended: `failure` is the text that explains it, of one or more lines, None where it passed."""

    file: str
    name: str
    line: int | None
    failure: str | None
    seconds: float


def add_format(parser: argparse.ArgumentParser, *formats: str) -> None:
    """Declare `--format`, with `pretty` as the default in front of these."""
    choices = tuple(dict.fromkeys(("pretty", *formats)))
    parser.add_argument("--format", choices=choices, default="pretty", help="how to print it (default: %(default)s)")


def write_findings(found: Sequence[FileFindings], format: str, *, rules: Mapping[str, str]) -> None:
    """Print findings to standard output. `rules` says in a line what each code means. Raises `Stop`."""
    if format == "pretty":
        write_lines(_pretty(found))
    elif format == "json":
        write_text(json.dumps(as_data(found), indent=2) + "\n")
    elif format == "sarif":
        from ._sarif import sarif

        write_text(json.dumps(sarif(found, rules), indent=2) + "\n")
    elif format == "github":
        from ._github import findings_commands

        write_text("".join(findings_commands(found)))
    elif format == "junit":
        from ._junit import findings_xml

        write_text(findings_xml(found))
    else:
        raise ValueError(format)


def write_suite(results: Sequence[CaseResult], format: str) -> None:
    """Print how test cases ended to standard output, as `junit` or `github`. Raises `Stop`."""
    if format == "junit":
        from ._junit import suite_xml

        write_text(suite_xml(results))
    elif format == "github":
        from ._github import suite_commands

        write_text("".join(suite_commands(results)))
    else:
        raise ValueError(format)


def as_data(found: Sequence[FileFindings]) -> dict[str, Any]:
    """Return findings as JSON can hold them."""
    return {
        "files": [
            {
                "path": file.path,
                "findings": [finding._asdict() for finding in file.findings],
                "suppressed": [{**finding._asdict(), "reason": reason} for finding, reason in file.suppressed],
            }
            for file in found
        ],
        "summary": counted(found),
    }


def counted(found: Iterable[FileFindings]) -> dict[str, int]:
    """Return how many findings there are of each severity, and how many are suppressed."""
    severities = Counter(finding.severity for file in found for finding in file.findings)
    listed: dict[str, int] = {severity: severities[severity] for severity in _STYLES}
    return {**listed, "suppressed": sum(len(file.suppressed) for file in found)}


_STYLES: Final[dict[Literal["error", "warning", "note"], Style]] = {"error": "bad", "warning": "medium", "note": "name"}
_Line: TypeAlias = Sequence[Cell]


def _pretty(found: Sequence[FileFindings]) -> Iterator[_Line]:
    for file in found:
        if file.findings or file.suppressed:
            yield (Text(file.path, "name"),)
            wide = max(len(_place(one)) for one in (*file.findings, *(one for one, _ in file.suppressed)))
            for finding in file.findings:
                yield from _finding(finding, Text(finding.severity, _STYLES[finding.severity]), wide)
            for finding, reason in file.suppressed:
                yield from _finding(finding, Text("suppressed", "muted"), wide, reason)
            yield ()
    yield _summary(found)


def _finding(finding: Finding, label: Text, wide: int, reason: str | None = None) -> Iterator[_Line]:
    before = " " * (wide + 4)
    yield (
        Text(f"  {_place(finding).rjust(wide)}  ", "muted"),
        label,
        "  ",
        finding.message,
        Text(f"  ({finding.code})", "muted"),
    )
    if finding.pointer:
        yield before, Text("at ", "muted"), Text(finding.pointer, "muted")
    if reason is not None:
        yield before, Text("reason: ", "muted"), reason
    elif finding.fix:
        yield before, Text("fix: ", "good"), finding.fix


def _place(finding: Finding) -> str:
    if finding.line is None:
        return "-"
    return f"{finding.line}" if finding.column is None else f"{finding.line}:{finding.column}"


def _summary(found: Sequence[FileFindings]) -> _Line:
    parts: list[Cell] = []
    for kind, count in counted(found).items():
        if count:
            words = f"{count} {kind}{'s' if count != 1 and kind != 'suppressed' else ''}"
            parts += [", ", words] if parts else [words]
    files = f"{len(found)} file{'s' if len(found) != 1 else ''}"
    return (*parts, f" in {files}") if parts else (Text("no findings", "good"), f" in {files}")
