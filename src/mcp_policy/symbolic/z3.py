"""The extra `z3`: texts for patterns that are too many, or too long, for the walk of `languages`.

The solver is asked for a text over the same alphabet, so the same argument holds for its "no": characters outside the
alphabet are like one that is in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import z3

from .expressions import ANY, Chars, Choice, Edge, Repeat, Sequence, Tree, letters
from .languages import alphabet_of, mask_of

_MILLISECONDS: Final = 3_000


class Unanswered(Exception):
    """The solver does not know, or was not asked: the tree has a form that is not translated."""


def text_with(answers: list[tuple[Tree, bool]], avoid: frozenset[str]) -> str | None:
    """Return a text that these trees match, or do not; None where there is none. Raises `Unanswered`."""
    spelt = set().union(*(letters(tree) for tree, _ in answers), *avoid)
    alphabet = alphabet_of(spelt)
    any_ = _characters(alphabet)
    text = z3.String("text")
    solver = z3.Solver()
    solver.set("timeout", _MILLISECONDS)
    solver.add(z3.InRe(text, z3.Star(any_)))
    for tree, matches in answers:
        found = z3.InRe(text, _search(tree, alphabet, any_))
        solver.add(found if matches else z3.Not(found))
    solver.add(*(text != z3.StringVal(_quoted(one)) for one in sorted(avoid)))
    answer = solver.check()
    if answer == z3.unsat:
        return None
    if answer != z3.sat:
        raise Unanswered
    return _unquoted(solver.model().eval(text, model_completion=True).as_string())


def _search(tree: Tree, alphabet: str, any_: Any) -> Any:
    """Return the expression for texts in which a tree is found."""
    if isinstance(tree, Choice):
        return _union([_search(part, alphabet, any_) for part in tree.parts])
    parts = list(_flat(tree))
    before = [] if parts[:1] == [Edge(at_end=False)] else [z3.Star(any_)]
    after = [] if parts[-1:] == [Edge(at_end=True)] else [z3.Star(any_)]
    inside = list(parts[not before : len(parts) - (not after)])
    return _concat([*before, *(_expression(part, alphabet, any_) for part in inside), *after])


def _flat(tree: Tree) -> Iterator[Tree]:
    if isinstance(tree, Sequence):
        for part in tree.parts:
            yield from _flat(part)
    else:
        yield tree


def _expression(tree: Tree, alphabet: str, any_: Any) -> Any:
    match tree:
        case Chars():
            if tree == ANY:
                return any_
            mask = mask_of(tree, alphabet)
            return _characters(char for place, char in enumerate(alphabet) if mask >> place & 1)
        case Sequence(parts):
            return _concat([_expression(part, alphabet, any_) for part in parts])
        case Choice(parts):
            return _union([_expression(part, alphabet, any_) for part in parts])
        case Repeat(part, least, most):
            inner = _expression(part, alphabet, any_)
            if most is None:
                return _concat([*([z3.Loop(inner, least, least)] if least else []), z3.Star(inner)])
            return z3.Loop(inner, least, most) if most else z3.Re(z3.StringVal(""))
        case _:
            raise Unanswered


def _characters(chars: Iterable[str]) -> Any:
    """Return the expression for one of some characters, in as few ranges as there are."""
    ranges: list[list[int]] = []
    for code in sorted(map(ord, chars)):
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return _union([z3.Range(_quoted(chr(low)), _quoted(chr(high))) for low, high in ranges])


def _concat(parts: list[Any]) -> Any:
    if not parts:
        return z3.Re(z3.StringVal(""))
    return parts[0] if len(parts) == 1 else z3.Concat(*parts)


def _union(parts: list[Any]) -> Any:
    if not parts:
        return z3.Empty(z3.ReSort(z3.StringSort()))
    return parts[0] if len(parts) == 1 else z3.Union(*parts)


def _quoted(text: str) -> str:
    return "".join(char if " " <= char <= "~" and char != "\\" else f"\\u{{{ord(char):x}}}" for char in text)


def _unquoted(text: str) -> str:
    import re

    return re.sub(r"\\u\{([0-9a-fA-F]+)\}", lambda found: chr(int(found[1], 16)), text)
