"""Asking the solver of the extra `z3` about one text, where that decides the question.

It does where everything that is asked of an argument is asked of it as a whole, in patterns that have a tree: every
value that is no text is known by then, so the answer about texts is the answer.
"""

from __future__ import annotations

from typing import Final

from ..operators import ERRS, FAILS, HOLDS
from .atoms import Atom
from .calls import embedded
from .expressions import Tree, Undecided
from .strings import tree_of

_PATTERNS: Final = {
    "regex": True,
    "not_regex": False,
    "glob": True,
    "starts_with": True,
    "ends_with": True,
    "contains": True,
    "not_contains": False,
    "length_lte": False,
    "length_gte": True,
}
"""The operators that are patterns on texts, and whether they hold where the tree matches."""

_LONGEST: Final = 200


class Unasked(Exception):
    """Nobody can be asked; the message says why."""


def text_for(asked: list[tuple[Atom, int]]) -> str | None:
    """Return a text on which atoms come out like this; None where there is no value at all. Raises `Unasked`."""
    trees: list[tuple[Tree, bool]] = []
    avoid: set[str] = set()
    if len({atom.path for atom, _ in asked}) != 1 or len(asked[0][0].path.steps) != 1:
        raise Unasked("several values")
    for atom, outcome in asked:
        if atom.other is not None or atom.op in ("within", "host_in"):
            raise Unasked(f"{atom.text} is no pattern")
        if atom.op.startswith("length") and atom.value > _LONGEST:
            raise Unasked(f"lengths above {_LONGEST}")
        if atom.op in _PATTERNS:
            found = _pattern(atom, outcome)
            if found is None:
                return None
            trees.append(found)
        elif atom.outcome(embedded(atom.subjects[0], "\x00 no constant")) != outcome:
            return None  # so no text that is not spelt out, and those that are have been tried
        avoid |= {text for text in _constants(atom) if type(text) is str}
    return _solved(trees, frozenset(avoid))


def _pattern(atom: Atom, outcome: int) -> tuple[Tree, bool] | None:
    try:
        tree = tree_of(atom)
    except Undecided as undecided:
        raise Unasked(str(undecided)) from None
    if tree is None or (outcome == ERRS and atom.op in ("regex", "not_regex")):
        raise Unasked("texts that no pattern is tried on")
    if outcome not in (HOLDS, FAILS):
        return None
    return tree, (outcome == HOLDS) is _PATTERNS[atom.op]


def _constants(atom: Atom) -> list[object]:
    if atom.op in ("in", "not_in"):
        return list(atom.value)
    return [atom.value] if atom.op in ("eq", "neq") else []


def _solved(trees: list[tuple[Tree, bool]], avoid: frozenset[str]) -> str | None:
    try:
        from .z3 import Unanswered, text_with
    except ImportError:
        raise Unasked("the extra `z3` may decide it: `pip install 'mcp-policy[z3]'`") from None
    try:
        return text_with(trees, avoid)
    except Unanswered:
        raise Unasked("z3 does not know either") from None
