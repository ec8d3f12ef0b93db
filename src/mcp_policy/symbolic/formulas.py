"""Formulas over the outcomes of atoms: what a plan says, written down so that it can be reasoned about.

A formula is TRUE, FALSE, a literal (this atom has one of these outcomes), all of several, or any of several. Making
one simplifies it as far as looking at its parts can.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, TypeAlias

from ..operators import AGAINST, ERRS, FAILS, HOLDS


class Literal(NamedTuple):
    """An atom, by its number, and the outcomes that it may have, as a set of bits."""

    atom: int
    mask: int


class All(NamedTuple):
    """Holds where all of its parts do."""

    parts: frozenset[Formula]
    all: bool = True


class Any(NamedTuple):
    """Holds where any of its parts does."""

    parts: frozenset[Formula]
    all: bool = False


Formula: TypeAlias = "bool | Literal | All | Any"

EVERY: Final = 1 << HOLDS | 1 << FAILS | 1 << AGAINST | 1 << ERRS


def mask(*outcomes: int) -> int:
    """Return a set of outcomes as bits."""
    return sum(1 << outcome for outcome in set(outcomes))


def literal(atom: int, bits: int) -> Formula:
    """Return that an atom has one of these outcomes."""
    return bits == EVERY if bits in (0, EVERY) else Literal(atom, bits)


def every(parts: Iterable[Formula]) -> Formula:
    """Return the formula that holds where all parts do."""
    found: set[Formula] = set()
    masks: dict[int, int] = {}
    for part in parts:
        if part is False:
            return False
        for one in part.parts if type(part) is All else (part,):
            if type(one) is Literal:
                masks[one.atom] = masks.get(one.atom, EVERY) & one.mask
            elif one is not True:
                found.add(one)
    for atom, bits in masks.items():
        if not bits:
            return False
        found.add(Literal(atom, bits))
    return _one_or(All, found, empty=True)


def some(parts: Iterable[Formula]) -> Formula:
    """Return the formula that holds where any part does."""
    found: set[Formula] = set()
    masks: dict[int, int] = {}
    for part in parts:
        if part is True:
            return True
        for one in part.parts if type(part) is Any else (part,):
            if type(one) is Literal:
                masks[one.atom] = masks.get(one.atom, 0) | one.mask
            elif one is not False:
                found.add(one)
    for atom, bits in masks.items():
        if bits == EVERY:
            return True
        found.add(Literal(atom, bits))
    return _one_or(Any, found, empty=False)


def _one_or(make: Callable[[frozenset[Formula]], Formula], parts: set[Formula], *, empty: bool) -> Formula:
    if not parts:
        return empty
    return next(iter(parts)) if len(parts) == 1 else make(frozenset(parts))


def negated(formula: Formula) -> Formula:
    """Return the formula that holds where this one does not."""
    if isinstance(formula, bool):
        return not formula
    if type(formula) is Literal:
        return literal(formula.atom, EVERY & ~formula.mask)
    return (some if formula.all else every)(negated(part) for part in formula.parts)  # type: ignore[union-attr]


def assigned(formula: Formula, outcomes: dict[int, int]) -> Formula:
    """Return what is left of a formula when these atoms have these outcomes."""
    if isinstance(formula, bool):
        return formula
    if type(formula) is Literal:
        outcome = outcomes.get(formula.atom)
        return formula if outcome is None else bool(formula.mask >> outcome & 1)
    return (every if formula.all else some)(assigned(part, outcomes) for part in formula.parts)  # type: ignore[union-attr]


def atoms(formula: Formula) -> set[int]:
    """Return the numbers of the atoms in a formula."""
    if isinstance(formula, bool):
        return set()
    if type(formula) is Literal:
        return {formula.atom}
    return set().union(*map(atoms, formula.parts))  # type: ignore[union-attr]
