"""What a reader gives back, and the bounds that every reader keeps, whatever the format."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Final, NamedTuple, TypeAlias

from .errors import PolicyError, Problem, ProblemCode

MAX_BYTES: Final = 4 * 2**20
"""Most bytes that a document may have, as UTF-8."""

MAX_DEPTH: Final = 64
"""Most levels of lists and objects in one another."""

MAX_DIGITS: Final = 4_000
"""Most digits that an integer may have."""

TOO_DEEP_TO_READ: Final = f"nested too deep to be read; a document has at most {MAX_DEPTH} levels"

Position: TypeAlias = tuple[int, int]
"""Line and column, both from 1; columns count characters."""


class Place(NamedTuple):
    """Where a value stands in the text, and where its key does, None for what has no key."""

    value: Position
    key: Position | None = None


Places: TypeAlias = Callable[[Collection[str]], Mapping[str, Place]]


class Reading(NamedTuple):
    """What a text says: the tree, the problems that leave a tree to check further, and a way to find places."""

    tree: object
    problems: tuple[Problem, ...] = ()
    places: Places = lambda pointers: {}


def refused(code: ProblemCode, message: str, position: Position | None = None) -> PolicyError:
    """Return the error for a text that is no document at all."""
    return PolicyError([Problem("", code, message, *(position or (None, None)))])


def position_of(text: str, offset: int) -> Position:
    """Return the line and column, both from 1, of an offset into a text."""
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)
