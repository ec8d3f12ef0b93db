"""Workflow commands of GitHub Actions: each is a line that becomes an annotation of a file.

A value may hold no line end, and a property neither a colon nor a comma; these are written as percent codes. That is
what keeps a text from closing its command and beginning another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from ._render import visible, visible_lines

if TYPE_CHECKING:
    from ._report import CaseResult, FileFindings

_COMMANDS: Final = {"error": "error", "warning": "warning", "note": "notice"}


def findings_commands(found: Sequence[FileFindings]) -> Iterator[str]:
    """Return a command for each finding that is not suppressed; each ends with a line feed."""
    for file in found:
        for one in file.findings:
            text = visible(one.message) + (f"\nfix: {visible(one.fix)}" if one.fix else "")
            where = {"file": _file(file.path), "line": one.line, "col": one.column}
            yield command(_COMMANDS[one.severity], text, **where, title=one.code)


def suite_commands(results: Sequence[CaseResult]) -> Iterator[str]:
    """Return a command for each test case that failed; each ends with a line feed."""
    for result in results:
        if result.failure is not None:
            text = visible_lines(result.failure)
            yield command("error", text, file=_file(result.file), line=result.line, title=f"failed: {result.name}")


def command(name: str, text: str, **properties: str | int | None) -> str:
    """Return a workflow command with the properties that are not None, and a line feed."""
    given = {key: str(value) for key, value in properties.items() if value is not None}
    said = ",".join(f"{key}={_property(value)}" for key, value in given.items())
    return f"::{name}{' ' if said else ''}{said}::{_data(text)}\n"


def _file(path: str) -> str | None:
    """Return a path as annotations have it, without `./`; None for standard input."""
    return PurePath(path).as_posix() if path != "-" else None


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(visible(text)).replace(":", "%3A").replace(",", "%2C")
