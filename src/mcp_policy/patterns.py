"""Tool-name patterns: `*` is any run of characters (also none), `?` is one character, every other is itself.

Matching is on whole names, by exact code points, and takes time that is linear in the name: a pattern is cut at its
stars into pieces of fixed length, and each piece is looked for once, from where the one before it ended. The
leftmost place is always good enough, so nothing is tried twice.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

from .errors import ProblemCode, readable

Matcher: TypeAlias = Callable[[str], bool]

MAX_NAME = 256
_REFUSED = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def is_exact(text: str) -> bool:
    """Return whether a pattern matches just the one name that it spells."""
    return "*" not in text and "?" not in text


def check_name(name: str) -> str | None:
    """Return why a tool name is not valid; None when it is."""
    if not name:
        return "a tool name must not be empty"
    if len(name) > MAX_NAME:
        return f"a tool name has at most {MAX_NAME} characters, this one has {len(name)}"
    return None if name.isprintable() else _refused_character(name)


def check_pattern(text: str) -> tuple[ProblemCode, str] | None:
    """Return what is wrong with a pattern, as a problem code and message; None when nothing is."""
    if not text:
        return ProblemCode.INVALID_VALUE, "a pattern must not be empty; `*` matches every tool"
    if len(text) > MAX_NAME:
        return ProblemCode.INVALID_PATTERN, f"a pattern has at most {MAX_NAME} characters, this one has {len(text)}"
    refused = None if text.isprintable() else _refused_character(text)
    if refused is None:
        return None
    return ProblemCode.INVALID_PATTERN, f"`{readable(text)}` can match no tool: {refused}"


def _refused_character(name: str) -> str | None:
    from unicodedata import category  # only names with odd characters need the tables

    for char in name:
        if category(char) in _REFUSED:
            return f"the character U+{ord(char):04X} is a control, format or separator character"
    return None


def compile_pattern(text: str) -> Matcher:
    """Return a function that tells whether a name matches the pattern."""
    if is_exact(text):
        return lambda name: name == text
    if "?" not in text:
        head, _, tail = text.partition("*")
        tail = tail.lstrip("*")
        if not head and not tail:
            return lambda name: True
        if not tail:
            return lambda name: name.startswith(head)
        if not head and "*" not in tail:
            return lambda name: name.endswith(tail)
    return _general(text)


compile_glob = compile_pattern
"""The same matcher for the operator `glob`, whose values need not be tool names."""


def _general(text: str) -> Matcher:
    first, *rest = text.split("*")
    starts = _finder(first)
    if not rest:
        return lambda name: len(name) == len(first) and starts(name, 0, len(first)) == 0
    *middle, last = rest
    ends = _finder(last)
    pieces = [(_finder(piece), len(piece)) for piece in middle if piece]

    def matches(name: str) -> bool:
        at, stop = len(first), len(name) - len(last)
        if at > stop or starts(name, 0, at) != 0 or ends(name, stop, len(name)) != stop:
            return False
        for find, length in pieces:
            found = find(name, at, stop)
            if found < 0:
                return False
            at = found + length
        return True

    return matches


def _finder(piece: str) -> Callable[[str, int, int], int]:
    """Return `find(name, start, stop)`: the first place of a piece without stars, or -1."""
    if "?" not in piece:
        return lambda name, start, stop: name.find(piece, start, stop)
    # A regular expression without any repetition has nothing to backtrack into.
    search = re.compile("".join("." if char == "?" else re.escape(char) for char in piece), re.DOTALL).search

    def find(name: str, start: int, stop: int) -> int:
        match = search(name, start, stop)
        return match.start() if match else -1

    return find
