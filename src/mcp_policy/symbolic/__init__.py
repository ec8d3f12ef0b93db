"""What can be said of all calls at once: which conditions can hold together, and for which call.

Everything here leans to one side: "impossible" is said only where it has been shown.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..conditions import Condition
from .atoms import GIVEN, Atom, of_condition
from .formulas import Formula, every
from .solving import Answer, Atoms

__all__ = ["Answer", "Atom", "Atoms", "possible"]


def possible(literals: Iterable[tuple[Condition, frozenset[int]]], kind: str = "require") -> bool:
    """Tell whether some call may give every condition one of its outcomes (codes of `operators`).

    False only where it has been shown that no call does. `kind` is where the conditions stand.
    """
    atoms = Atoms()
    return not atoms.satisfy(every(_said(atoms, condition, kind, codes) for condition, codes in literals)).impossible


def _said(atoms: Atoms, condition: Condition, kind: str, codes: frozenset[int]) -> Formula:
    if any(path.root in GIVEN for _, path in condition.reads):
        return True
    atom = of_condition(condition, kind)
    return atom in codes if isinstance(atom, int) else atoms.literal(atom, *codes)
