"""Where the values of a JSON text stand: the offsets of their first and last character.

The text is known to be JSON by now. Values are skipped by the standard library's own decoder, which runs in C: a file
of ten thousand cases is found its way through in a fraction of a second.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from json import JSONDecoder
from typing import Any, Final, NamedTuple, TypeAlias

from ..errors import escape

Lines: TypeAlias = Callable[[str], "int | None"]

_SKIP: Final = re.compile(r"[\s,:]*")
_DECODE: Final = JSONDecoder().raw_decode


class Span(NamedTuple):
    """The offsets of a value: of its first character, and of the one behind it."""

    start: int
    end: int


def members(text: str, start: int) -> Iterator[tuple[str, Span]]:
    """Yield each member of the list or object that starts at an offset: its step in a JSON Pointer, and its span."""
    is_object, at, number = text[start] == "{", _next(text, start + 1), 0
    if text[start] not in "{[":
        return
    while text[at] not in "}]":
        step = str(number)
        if is_object:
            key, end = _DECODE(text, at)
            step, at = escape(key), _next(text, end)
        _, end = _DECODE(text, at)
        yield step, Span(at, end)
        at, number = _next(text, end), number + 1


def spans(text: str, pointers: Iterable[str]) -> dict[str, Span]:
    """Return where the values at these JSON Pointers stand; those that lead nowhere are left out."""
    start = _next(text, 0)
    whole = Span(start, _DECODE(text, start)[1])
    return {"/".join(["", *trail]): place for trail, place in _found(text, whole, [p.split("/")[1:] for p in pointers])}


def _found(text: str, place: Span, trails: list[list[str]]) -> Iterator[tuple[list[str], Span]]:
    below: dict[str, list[list[str]]] = {}
    for trail in trails:
        if trail:
            below.setdefault(trail[0], []).append(trail[1:])
        else:
            yield trail, place
    for step, inner in members(text, place.start) if below else ():
        if step in below:
            yield from (([step, *trail], found) for trail, found in _found(text, inner, below[step]))


def lines_of(text: str, tree: Any) -> Lines:
    """Return the function that knows the line, counted from 1, of each case and row of a case file."""
    starts = [match.end() for match in re.finditer("\n", text)]
    known = {pointer: bisect_right(starts, at) + 1 for pointer, at in _cases(text, tree)}
    return known.get


def _cases(text: str, tree: Any) -> Iterator[tuple[str, int]]:
    cases = spans(text, ["/cases"]).get("/cases")
    for (step, case), raw in zip(members(text, cases.start) if cases else (), tree["cases"], strict=True):
        yield f"/cases/{step}", case.start
        rows = dict(members(text, case.start)).get("rows") if "rows" in raw else None
        for row, place in members(text, rows.start) if rows else ():
            yield f"/cases/{step}/rows/{row}", place.start


def _next(text: str, at: int) -> int:
    match = _SKIP.match(text, at)
    return at if match is None else match.end()
