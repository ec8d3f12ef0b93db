"""Accepting what is decided now: the expectations in the text of a JSON case file, rewritten.

Rules kept here:

- Only values of expectations that are not met change; every other character of the file stays.
- A value changes only if its case passes then. What several rows or repetitions share, and would need to differ, stays
  as it is, and the case goes on failing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .cases import parse_cases
from .report import Failure
from .running import run_case
from .spans import Span, spans


class Change(NamedTuple):
    """One value that was rewritten: its place, and the JSON there before and after."""

    path: Path
    line: int
    pointer: str
    before: str
    after: str


def updated(path: Path, text: str, failures: list[Failure]) -> tuple[str, list[Change]]:
    """Return the text of a case file with the expectations that are not met rewritten, and what changed."""
    wanted = _settled(path, text, {pointer: value for failure in failures for pointer, value in _values(failure)})
    return _rewritten(text, wanted), _changes(path, text, wanted)


def _values(failure: Failure) -> Iterator[tuple[str, Any]]:
    """Yield what would meet a failed case, each with its JSON Pointer."""
    for mismatch in failure.mismatches:
        for key in mismatch.wrong:
            found = mismatch.found[key]
            if mismatch.step is None:
                yield f"{failure.case.pointer}/{key}", found
            elif key == "retry_after" and found is not None:
                yield mismatch.step.places[key], int(found) if found == int(found) else round(found, 3)
            elif key != "remaining" or None not in found.values():
                yield mismatch.step.places[key], found


def _settled(path: Path, text: str, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that are good for every case that they stand in."""
    kept = dict(wanted)
    while kept:
        failing = [case for case in parse_cases(path, _rewritten(text, kept)).cases if run_case(case) is not None]
        places = {place for case in failing for step in case.steps for place in step.places.values()}
        refused = places & set(kept)
        if not refused:
            break
        kept = {pointer: value for pointer, value in kept.items() if pointer not in refused}
    return kept


def _spans(text: str, wanted: Mapping[str, Any]) -> list[tuple[Span, str]]:
    return sorted((place, pointer) for pointer, place in spans(text, wanted).items())


def _rewritten(text: str, wanted: Mapping[str, Any]) -> str:
    pieces, at = [], 0
    for place, pointer in _spans(text, wanted):
        pieces += [text[at : place.start], _json(wanted[pointer])]
        at = place.end
    return "".join(pieces) + text[at:]


def _changes(path: Path, text: str, wanted: Mapping[str, Any]) -> list[Change]:
    changes = []
    for place, pointer in _spans(text, wanted):
        line = text.count("\n", 0, place.start) + 1
        changes.append(Change(path, line, pointer, text[place.start : place.end], _json(wanted[pointer])))
    return changes


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
