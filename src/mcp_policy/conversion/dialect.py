r"""Regular expressions of Go, written for the engine that runs ours (the syntax of Rust's `regex`).

Both take linear time and look alike, and mean different things in places. Rules kept here:

- `\d`, `\w`, `\s` and `\b` know ASCII only in Go; written out, they do here too.
- In a class, Go reads `[`, `&&`, `--` and `~~` as characters; they are escaped, lest they nest and subtract.
- In Go, a `{` that begins no repetition is a character, and so is `\<`.
- What the engine does not know (`\Q`, octal numbers) it refuses; nothing of it is guessed here.
"""

from __future__ import annotations

import re
from typing import Final

_CLASSES: Final = {"d": "0-9", "w": "0-9A-Za-z_", "s": r"\t\n\f\r "}
_REPETITION: Final = re.compile(r"\{[0-9]+(?:,[0-9]*)?\}")
_ESCAPE: Final = re.compile(r"\\(?:[pPx]\{[^}]*\}|x[0-9A-Fa-f]{2}|[pP].|.)", re.DOTALL)
_POSIX: Final = re.compile(r"\[:\^?[a-z]+:\]")


def from_go(pattern: str) -> str:
    """Return the pattern that finds here what this one finds in Go. What is wrong with it, the engine says."""
    pieces: list[str] = []
    at = 0
    while at < len(pattern):
        if pattern[at] == "[":
            piece, at = _class(pattern, at)
        else:
            piece, at = _atom(pattern, at)
        pieces.append(piece)
    return "".join(pieces)


def _atom(pattern: str, at: int) -> tuple[str, int]:
    escape = _ESCAPE.match(pattern, at)
    if escape is not None:
        return _escaped(escape[0]), escape.end()
    if pattern[at] != "{":
        return pattern[at], at + 1
    repetition = _REPETITION.match(pattern, at)
    return (repetition[0], repetition.end()) if repetition else (r"\{", at + 1)


def _escaped(escape: str) -> str:
    """Return what an escape outside of a class is here."""
    letter = escape[1]
    if letter in _CLASSES:
        return f"[{_CLASSES[letter]}]"
    if letter.lower() in _CLASSES:
        return f"[^{_CLASSES[letter.lower()]}]"
    if letter in "bB":
        return rf"(?-u:\{letter})"
    return letter if letter in "<>" else escape


def _class(pattern: str, start: int) -> tuple[str, int]:
    at = start + 1
    opening = "["
    if pattern.startswith("^", at):
        opening, at = "[^", at + 1
    pieces, first = [opening], at
    while at < len(pattern) and (pattern[at] != "]" or at == first):
        piece, at = _member(pattern, at)
        pieces.append(piece)
    if at < len(pattern):
        pieces.append("]")
    return "".join(pieces), at + 1


def _member(pattern: str, at: int) -> tuple[str, int]:
    """Return a character, a range or a named class from inside a class, and where it ends."""
    posix = _POSIX.match(pattern, at)
    if posix is not None:
        return posix[0], posix.end()
    escape = _ESCAPE.match(pattern, at)
    if escape is not None and escape[0][1] in "dwsDWSpP":
        letter = escape[0][1]
        return (_CLASSES[letter] if letter in _CLASSES else _escaped(escape[0])), escape.end()
    low, at = _character(pattern, at)
    if pattern.startswith("-", at) and not pattern.startswith("-]", at) and at + 1 < len(pattern):
        high, at = _character(pattern, at + 1)
        return f"{low}-{high}", at
    return low, at


def _character(pattern: str, at: int) -> tuple[str, int]:
    escape = _ESCAPE.match(pattern, at)
    if escape is not None:
        return (escape[0][1] if escape[0][1] in "<>" else escape[0]), escape.end()
    char = pattern[at]
    return (f"\\{char}" if char in r"[]&~-^\{}" else char), at + 1
