"""Regular expressions, run by the linear-time engine that pydantic carries (the syntax of Rust's `regex`).

Python's own `re` is never used for them: it can take exponential time. What the engine refuses (look-around,
back-references, programs over its size limit) is refused here, and so are nested repetitions whose product
exceeds `MAX_PRODUCT`: those compile to programs that are linear and slow all the same.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from .errors import readable

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_SUBJECT = 16_384
"""Longest text, in characters, that a regular expression is tried on; a longer one does not match."""

MAX_PRODUCT = 1_000


@lru_cache(maxsize=4096)
def compile_regex(pattern: str) -> Callable[[str], bool]:
    """Return a function that tells whether the pattern is found anywhere in a text.

    Raises `ValueError`, with the reason as its message. The function is false for texts over `MAX_SUBJECT`
    characters and for what is not a text; callers that must tell these apart look first.
    """
    from pydantic_core import SchemaError, SchemaValidator  # takes longer to import than most policies to load
    from pydantic_core.core_schema import str_schema

    product = nested_product(pattern)
    if product > MAX_PRODUCT:
        raise ValueError(
            f"the nested repetitions of `{readable(pattern)}` multiply to more than {MAX_PRODUCT:,}; "
            "repeat less, or do not nest"
        )
    try:
        pattern.encode()
        return SchemaValidator(str_schema(pattern=pattern, strict=True, max_length=MAX_SUBJECT)).isinstance_python
    except UnicodeEncodeError:
        raise ValueError("a regular expression must not hold a lone surrogate") from None
    except SchemaError as error:
        raise ValueError(f"`{readable(pattern)}` is not a usable regular expression: {_why(str(error))}") from None


def _why(message: str) -> str:
    """Return the last line of the engine's message, which says what is wrong; the others draw the place."""
    reason = message.strip().splitlines()[-1].strip().removeprefix("SchemaError:").removeprefix("error:").strip()
    return reason[:1].lower() + reason[1:].rstrip(".")


class _Atom(NamedTuple):
    """What repetitions lie in a part of a pattern: the greatest product along one nesting, and whether any is there."""

    product: int = 1
    repeats: bool = False


_LITERAL = _Atom()
_NUMBER = "[0-9]+"
_FLAGS = r"\?([A-Za-z]*)(?:-([A-Za-z]*))?([:)])"
_WORD_EDGE = r"\{[\sA-Za-z-]+\}"


def nested_product(pattern: str) -> int:
    """Return the greatest product of repetition counts that are nested in one another; 1 when none are.

    `{n}` and `{n,}` count n, `{n,m}` counts m, `*`, `+` and `?` count 1. Errors in the pattern are left to the engine.
    """
    return _Scanner(pattern).run()


class _Scanner:
    """Reads a pattern once, from left to right, as the engine's own parser would cut it.

    Where the two could differ (white space that only one of them skips), the scanner sees one nesting more, never less.
    """

    def __init__(self, pattern: str) -> None:
        self.text = pattern
        self.at = 0
        self.verbose = False
        self.worst = 1
        self.last = _LITERAL  # what a repetition at this place repeats
        self.group = _LITERAL  # what has been read of the innermost open group
        self.open: list[tuple[_Atom, bool]] = []

    def run(self) -> int:
        while self.at < len(self.text):
            self.step()
        return self.worst

    def step(self) -> None:
        char = self.text[self.at]
        self.at += 1
        if self.verbose and (char.isspace() or char == "#"):
            self.at -= 1
            self.skip_space()
        elif char == "(":
            self.open_group()
        elif char == ")":
            self.close_group()
        elif char in "*+?":
            self.repeat(1)
        elif char == "{":
            self.repeat(self.counted())
        else:
            self.last = _LITERAL
            if char == "\\":
                self.skip_escape()
            elif char == "[":
                self.skip_class()

    def skip_space(self) -> None:
        """Step over white space and comments, which mean nothing in verbose mode."""
        while self.verbose and self.at < len(self.text):
            if self.text[self.at] == "#":
                self.skip_to("\n")
            elif self.text[self.at].isspace():
                self.at += 1
            else:
                return

    def skip_to(self, char: str) -> None:
        found = self.text.find(char, self.at)
        self.at = len(self.text) if found < 0 else found + 1

    def open_group(self) -> None:
        self.skip_space()
        flags = re.compile(_FLAGS).match(self.text, self.at)
        verbose = self.verbose
        if flags is not None:
            self.at = flags.end()
            self.verbose = (verbose or "x" in flags[1]) and "x" not in (flags[2] or "")
            if flags[3] == ")":  # flags for the rest of the group that is open already
                self.last = _LITERAL
                return
        elif self.text.startswith(("?P<", "?<"), self.at):
            self.skip_to(">")
        self.open.append((self.group, verbose))
        self.group = self.last = _LITERAL

    def close_group(self) -> None:
        self.last = self.group
        if self.open:
            outer, self.verbose = self.open.pop()
            self.group = _join(outer, self.last)

    def repeat(self, count: int) -> None:
        product = max(count, 1) * self.last.product
        if self.last.repeats:
            self.worst = max(self.worst, product)
        self.last = _Atom(product, True)
        self.group = _join(self.group, self.last)
        if self.text.startswith("?", self.at):  # lazy: the same repetition, in another order
            self.at += 1

    def counted(self) -> int:
        """Read `n}`, `n,}` or `n,m}` and return the greatest number there."""
        inside = ""
        self.skip_space()
        while self.at < len(self.text) and self.text[self.at] != "}":
            inside += self.text[self.at]
            self.at += 1
            self.skip_space()
        self.at += 1
        numbers = [digits.lstrip("0") for digits in re.findall(_NUMBER, inside)]
        return max((int(digits[:9] or "0") for digits in numbers), default=1)

    def skip_escape(self) -> None:
        kind = self.text[self.at : self.at + 1]
        self.at += 1
        if kind in ("x", "u", "U", "p", "P"):
            after = self.at
            self.skip_space()
            if self.text.startswith("{", self.at):
                self.skip_to("}")
            else:
                self.at = after
        elif kind == "b" and re.compile(_WORD_EDGE).match(self.text, self.at):
            self.skip_to("}")

    def skip_class(self) -> None:
        """Step over a bracketed class and those nested in it; a `]` right after the opening is a literal."""
        depth = 1
        self.open_class()
        while depth and self.at < len(self.text):
            self.skip_space()
            char = self.text[self.at : self.at + 1]
            self.at += 2 if char == "\\" else 1
            if char == "[":
                depth += 1
                self.open_class()
            elif char == "]":
                depth -= 1

    def open_class(self) -> None:
        self.skip_space()
        if self.text.startswith("^", self.at):
            self.at += 1
            self.skip_space()
        if self.text.startswith("]", self.at):
            self.at += 1


def _join(one: _Atom, other: _Atom) -> _Atom:
    return _Atom(max(one.product, other.product), one.repeats or other.repeats)
