"""What case files write for values that JSON cannot hold, and for times."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from ..errors import short

LONGEST: Final = 1e10
"""Most seconds that a step may lie after the beginning of its case."""

MOST: Final = 16 * 2**20
"""Most characters of a `$repeat`, and most levels of a `$nest`."""

_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_FLOATS: Final = ("nan", "inf", "-inf")


def expanded(value: Any) -> Any:
    """Return a value with its markers replaced: `{"$float": "nan"}`, `{"$nest": 70}`, `{"$repeat": ["a", 9]}`."""
    if type(value) is list:
        return [expanded(item) for item in value]
    if type(value) is not dict:
        return value
    if len(value) == 1 and (marker := next(iter(value))) in _MARKERS:
        return _MARKERS[marker](value[marker])
    return {key: expanded(item) for key, item in value.items()}


def marker_flaw(value: Any) -> str | None:
    """Return what is wrong with an object that is meant as a marker, None for any other object."""
    if len(value) != 1 or (marker := next(iter(value))) not in _MARKERS:
        return None
    found = value[marker]
    if marker == "$float":
        right = type(found) is str and found in _FLOATS
        return None if right else f'found {short(found)}, expected `"nan"`, `"inf"` or `"-inf"`'
    if marker == "$nest":
        right = type(found) is int and 0 <= found <= MOST
        return None if right else f"found {short(found)}, expected a number of levels"
    right = type(found) is list and [type(part) for part in found] == [str, int]
    if right and found[1] >= 0 and len(found[0]) * found[1] <= MOST:
        return None
    return f"expected a text and how often it stands there, at most {MOST:,} characters in all"


def _nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


_MARKERS: Final[dict[str, Callable[[Any], Any]]] = {
    "$float": float,
    "$nest": _nested,
    "$repeat": lambda pair: pair[0] * pair[1],
}


def seconds(value: object) -> float:
    """Return a time in seconds: a number, or digits with `s`, `m`, `h` or `d`. Raises `ValueError`."""
    found: object = value
    if isinstance(value, str) and (match := re.fullmatch(r"([0-9]{1,11})([smhd])", value)):
        found = int(match[1]) * _UNITS[match[2]]
    if isinstance(found, bool) or not isinstance(found, (int, float)) or not 0 <= found <= LONGEST:
        raise ValueError(f"found {short(value)}, expected seconds, or digits with `s`, `m`, `h` or `d` such as `90s`")
    return float(found)
