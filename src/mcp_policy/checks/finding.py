"""What a check of a policy document found."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

Severity: TypeAlias = Literal["error", "warning", "note"]


class Finding(NamedTuple):
    """One thing to look at in a policy that loads.

    `code` is its kind, in words that programs can rely on; `pointer` a JSON Pointer into the document; `message` says
    what was found and what follows from it; `fix` what would be right. `line` and `column` count from 1 and are None
    for a document that was not read from text.
    """

    code: str
    severity: Severity
    pointer: str
    message: str
    fix: str = ""
    line: int | None = None
    column: int | None = None
