r"""Regular expressions, globs and plain texts as trees, so that it can be told which of them hold together.

Only what is read here with certainty is read: the language of a tree is that of the engine that decides, or there is
no tree (`Undecided`). What single characters a class stands for is asked of that engine itself, never worked out.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple, TypeAlias

from ..patterns import is_exact


class Undecided(ValueError):  # no error: the question is left open
    """The tree of a pattern cannot be told with certainty; the message says why."""


class Chars(NamedTuple):
    """One character: of those that `pattern`, a part of a regular expression, matches; "" stands for any at all."""

    pattern: str


class Sequence(NamedTuple):
    """Parts one after the other."""

    parts: tuple[Tree, ...]


class Choice(NamedTuple):
    """Any one of its parts."""

    parts: tuple[Tree, ...]


class Repeat(NamedTuple):
    """A part from `least` to `most` times; None for any number."""

    part: Tree
    least: int
    most: int | None


class Edge(NamedTuple):
    """A place in the text: its start or its end."""

    at_end: bool


Tree: TypeAlias = "Chars | Sequence | Choice | Repeat | Edge"

ANY: Final = Chars("")
START: Final = Edge(at_end=False)
END: Final = Edge(at_end=True)
_MOST_NESTED: Final = 40
_COUNT: Final = re.compile(r"\{([0-9]{1,4})(?:(,)([0-9]{1,4})?)?\}")
_GROUP: Final = re.compile(r"\?(?:P?<[A-Za-z_][A-Za-z0-9_]*>|(?P<on>[a-zA-Z]*)(?:-(?P<off>[a-zA-Z]+))?(?P<end>[:)]))")
_PLAIN: Final = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "a": "\a"}
_UNSURE: Final = re.compile(r"\\[pPxuU]|[^\x00-\x7f]")


def literal(text: str) -> Tree:
    """Return the tree of exactly this text, found anywhere."""
    return Sequence(tuple(Chars(_one(char)) for char in text))


def whole(tree: Tree) -> Tree:
    """Return the tree of texts that are a tree's as a whole."""
    return Sequence((START, tree, END))


def glob(text: str) -> Tree:
    """Return the tree of what a glob, or a tool-name pattern, matches."""
    if is_exact(text):
        return whole(literal(text))
    wild: dict[str, Tree] = {"*": Repeat(ANY, 0, None), "?": ANY}
    return whole(Sequence(tuple(wild.get(char) or Chars(_one(char)) for char in text)))


def expression(pattern: str) -> Tree:
    """Return the tree of a regular expression. Raises `Undecided`."""
    reader = _Reader(pattern)
    tree = reader.choice(ignore_case=False, dot_all=False, depth=0)
    if reader.at < len(pattern):
        raise Undecided("an unmatched parenthesis")
    return tree


def letters(tree: Tree) -> set[str]:
    """Return the characters that a tree spells out."""
    match tree:
        case Chars(pattern):
            return set(pattern)
        case Sequence(parts) | Choice(parts):
            return set().union(*map(letters, parts))
        case Repeat(part):
            return letters(part)
        case _:
            return set()


def _one(char: str) -> str:
    """Return the pattern of one character, whatever it is."""
    return "\\" + char if not char.isalnum() and " " < char <= "~" else char


class _Reader:
    """Reads a regular expression that the engine has accepted, from left to right."""

    def __init__(self, pattern: str) -> None:
        self.text = pattern
        self.at = 0

    def choice(self, *, ignore_case: bool, dot_all: bool, depth: int) -> Tree:
        if depth > _MOST_NESTED:
            raise Undecided("groups are nested too deep")
        branches: list[Tree] = []
        parts: list[Tree] = []
        while self.at < len(self.text) and self.text[self.at] != ")":
            char = self.text[self.at]
            self.at += 1
            if char == "|":
                branches.append(Sequence(tuple(parts)))
                parts = []
            elif char == "(" and (flags := self.flags(ignore_case, dot_all)) is not None:
                ignore_case, dot_all, alone = flags
                if not alone:
                    raise Undecided("flags")  # pragma: no cover  # `flags` answers for a group by itself
            elif char == "(":
                parts.append(self.repeated(self.group(ignore_case, dot_all, depth)))
            else:
                parts.append(self.repeated(self.atom(char, ignore_case, dot_all)))
        branches.append(Sequence(tuple(parts)))
        return branches[0] if len(branches) == 1 else Choice(tuple(branches))

    def flags(self, ignore_case: bool, dot_all: bool) -> tuple[bool, bool, bool] | None:
        """Read flags that hold for the rest of a group, as in `(?i)`; None where a group of its own begins."""
        found = _GROUP.match(self.text, self.at)
        if found is None or found["end"] != ")":
            return None
        self.at = found.end()
        return (*_switched(found, ignore_case, dot_all), True)

    def group(self, ignore_case: bool, dot_all: bool, depth: int) -> Tree:
        found = _GROUP.match(self.text, self.at)
        if found is not None:
            self.at = found.end()
            if found["end"]:
                ignore_case, dot_all = _switched(found, ignore_case, dot_all)
        elif self.text.startswith("?", self.at):
            raise Undecided("a kind of group that is not known here")
        tree = self.choice(ignore_case=ignore_case, dot_all=dot_all, depth=depth + 1)
        self.at += 1
        return tree

    def atom(self, char: str, ignore_case: bool, dot_all: bool) -> Tree:
        if char == "^":
            return START
        if char == "$":
            return END
        if char == ".":
            return ANY if dot_all else Chars(".")
        if char == "[":
            return Chars(_cased(self.bracketed(), ignore_case))
        if char == "\\":
            return self.escaped()
        if ignore_case and not char.isascii():
            raise Undecided("upper and lower case outside ASCII")
        return Chars(_cased(_one(char), ignore_case))

    def escaped(self) -> Tree:
        char = self.text[self.at]
        self.at += 1
        if char in "dDwWsS":
            return Chars("\\" + char)
        if char in "Az":
            return END if char == "z" else START
        if char in _PLAIN:
            return Chars(_PLAIN[char])
        if char.isascii() and not char.isalnum() and char not in "<>":
            return Chars("\\" + char)
        raise Undecided(f"`\\{char}`")

    def bracketed(self) -> str:
        """Read a class to its end, and return it as it is written."""
        start, depth = self.at - 1, 1
        self.skip_leading()
        while depth:
            char = self.text[self.at]
            self.at += 2 if char == "\\" else 1
            if char == "[":
                depth += 1
                self.skip_leading()
            elif char == "]":
                depth -= 1
        written = self.text[start : self.at]
        if _UNSURE.search(written):
            raise Undecided("a class of characters outside ASCII")
        return written

    def skip_leading(self) -> None:
        if self.text.startswith("^", self.at):
            self.at += 1
        if self.text.startswith("]", self.at):
            self.at += 1

    def repeated(self, part: Tree) -> Tree:
        while self.at < len(self.text) and self.text[self.at] in "*+?{":
            char = self.text[self.at]
            if char == "{":
                part = self.counted(part)
            else:
                part = Repeat(part, 1 if char == "+" else 0, 1 if char == "?" else None)
                self.at += 1
            if self.text.startswith("?", self.at):  # lazy: the same texts, in another order
                self.at += 1
        return part

    def counted(self, part: Tree) -> Tree:
        found = _COUNT.match(self.text, self.at)
        if found is None:
            raise Undecided("a repetition that is not known here")
        self.at = found.end()
        least = int(found[1])
        most = int(found[3]) if found[3] else None if found[2] else least
        return Repeat(part, least, most)


def _switched(found: re.Match[str], ignore_case: bool, dot_all: bool) -> tuple[bool, bool]:
    on, off = found["on"] or "", found["off"] or ""
    if not set(on + off) <= set("isU"):  # `U` changes which match is found, not whether there is one
        raise Undecided(f"the flags `{on}{'-' + off if off else ''}`")
    return (ignore_case or "i" in on) and "i" not in off, (dot_all or "s" in on) and "s" not in off


def _cased(pattern: str, ignore_case: bool) -> str:
    return f"(?i:{pattern})" if ignore_case else pattern
