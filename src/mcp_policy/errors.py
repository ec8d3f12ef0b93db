"""Problems of a policy document, and the one error that carries them.

A load reports every problem that it finds, never only the first. A problem says where (a JSON Pointer, RFC 6901),
what kind (a code that programs can rely on) and, for people, what was found and what would be right.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable


class ProblemCode(StrEnum):
    """The kind of a problem. The names are part of the public interface."""

    INVALID_JSON = "invalid_json"
    DUPLICATE_KEY = "duplicate_key"
    TOO_DEEP = "too_deep"
    TOO_LARGE = "too_large"
    MISSING_KEY = "missing_key"
    UNKNOWN_KEY = "unknown_key"
    UNKNOWN_OPERATOR = "unknown_operator"
    WRONG_TYPE = "wrong_type"
    INVALID_VALUE = "invalid_value"
    INVALID_PATH = "invalid_path"
    INVALID_PATTERN = "invalid_pattern"
    INVALID_REGEX = "invalid_regex"
    CONFLICT = "conflict"


Trail: TypeAlias = "tuple[Trail, str | int] | None"
"""A place while a tree is walked: the trail of what holds it, and the key or index there. Cheaper than a pointer."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a document.

    `pointer` is a JSON Pointer into the document (`""` is the whole of it). `line` and `column` count from 1, the
    column in characters; both are None for a document that was not read from text.
    """

    pointer: str
    code: ProblemCode
    message: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        place = f"{self.line}:{self.column}: " if self.line is not None else ""
        return f"{place}{self.pointer or 'document'}: {self.code.value}: {self.message}"


class PolicyError(ValueError):
    """A policy document could not be loaded; `problems` holds everything that is wrong with it."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))


def pointer_to(tokens: Iterable[str | int]) -> str:
    """Return the JSON Pointer that leads through these keys and indices."""
    return "".join(f"/{escape(token) if isinstance(token, str) else token}" for token in tokens)


def pointer_of(trail: Trail) -> str:
    """Return the JSON Pointer of a trail."""
    tokens: list[str | int] = []
    while trail is not None:
        trail, token = trail
        tokens.append(token)
    return pointer_to(reversed(tokens))


def escape(token: str) -> str:
    """Return a key as it stands in a JSON Pointer."""
    return token.replace("~", "~0").replace("/", "~1")


def short(value: object) -> str:
    """Return a value for a message: its type, and what it is if that is a scalar."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"the boolean `{str(value).lower()}`"
    if isinstance(value, int | float):
        return f"the number `{value!r}`" if abs(value) < 10**40 else "a large number"
    if isinstance(value, str):
        return f"the string `{readable(value)}`"
    return json_type(value)


def readable(text: str, most: int = 60) -> str:
    """Return a text that may stand in a message: shortened, and with what cannot be printed escaped."""
    cut = text if len(text) <= most else text[: most - 1] + "…"
    if cut.isprintable() and "`" not in cut:
        return cut
    return "".join(char if char.isprintable() and char != "`" else f"\\u{ord(char):04x}" for char in cut)


def json_type(value: object) -> str:
    """Return the name of a value's type, with its article, in the words of JSON."""
    for kind, name in _JSON_TYPES:
        if isinstance(value, kind):
            return name
    return f"a Python `{type(value).__name__}`"


_JSON_TYPES: tuple[tuple[type, str], ...] = (
    (bool, "a boolean"),
    (int, "a number"),
    (float, "a number"),
    (str, "a string"),
    (list, "a list"),
    (dict, "an object"),
    (type(None), "null"),
)
