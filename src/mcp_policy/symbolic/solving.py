"""Is there a call for which a formula holds?

First only what is known to be possible is tried: the answer is then a call. If there is none, what may be possible
besides is tried too, and only where that fails as well the answer is no. In between, the answer is that nobody knows.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, TypeAlias

from ..operators import ERRS, FAILS, HOLDS
from . import formulas
from .asking import Unasked, text_for
from .atoms import Atom
from .calls import embedded
from .formulas import All, Formula, Literal
from .parts import Part, Parts, Values, divided

_MOST_STEPS: Final = 20_000
_MOST_QUESTIONS: Final = 60

Chosen: TypeAlias = dict[Any, Any]
"""What a search has chosen: the values of subjects, or the outcomes of atoms by their numbers."""


class Answer(NamedTuple):
    """What has been found out: the values of a call, that there is none, or neither (`unsure` says why)."""

    values: Values | None
    unsure: frozenset[str] = frozenset()

    @property
    def impossible(self) -> bool:
        """Whether it has been shown that there is no such call."""
        return self.values is None and not self.unsure


class Atoms:
    """The atoms of some formulas, numbered as they come."""

    def __init__(self) -> None:
        self.all: list[Atom] = []
        self._numbers: dict[Atom, int] = {}
        self._parts: Parts | None = None

    def literal(self, atom: Atom, *outcomes: int) -> Formula:
        """Return that an atom has one of these outcomes."""
        number = self._numbers.get(atom)
        if number is None:
            number = self._numbers[atom] = len(self.all)
            self.all.append(atom)
            self._parts = None
        return formulas.literal(number, formulas.mask(*outcomes))

    def satisfy(self, formula: Formula) -> Answer:
        """Return a call for which the formula holds, as far as its atoms ask for one."""
        if isinstance(formula, bool):
            return Answer({} if formula else None)
        if self._parts is None:
            self._parts = divided(self.all)
        try:
            return self._decided(_by_parts(formula, self._parts.shared), self._parts.all)
        except _TooManySteps:
            return Answer(None, frozenset({"too many combinations to try"}))

    def _decided(self, formula: Formula, parts: list[Part]) -> Answer:
        """Search, and ask about each doubtful way until it is known or nobody can be asked."""
        for _ in range(_MOST_QUESTIONS):
            found = _Search(parts, sure=True).run(formula)
            if found is not None:
                return Answer({subject: value for subject, value in found.items() if isinstance(subject, tuple)})
            if not any(part.doubtful for part in parts):
                return Answer(None)
            doubtful = _Search(parts, sure=False).run(formula)
            if doubtful is None:
                return Answer(None)
            try:
                formula = self._asked(formula, parts, doubtful)
            except Unasked as unasked:
                numbers = formulas.atoms(formula)
                why = [part.why for part in parts if part.doubtful and numbers.intersection(part.atoms)]
                told = frozenset().union(*why) or frozenset({str(unasked)})
                return Answer(None, told | ({str(unasked)} if "extra" in str(unasked) else frozenset()))
        return Answer(None, frozenset({"too many doubtful combinations"}))

    def _asked(self, formula: Formula, parts: list[Part], chosen: Chosen) -> Formula:
        """Return the formula without a way that is not possible, or learn a value that shows that it is."""
        for part in parts:
            said = {number: code for number in part.atoms if (code := chosen.get(number)) is not None}
            if not said or any(all(sure[number] == code for number, code in said.items()) for sure, _ in part.sure):
                continue
            if not part.texts or any(number >= len(self.all) for number in said):
                raise Unasked("more than texts")
            text = text_for([(self.all[number], code) for number, code in said.items()])
            if text is None:
                literals = [formulas.literal(number, formulas.mask(code)) for number, code in said.items()]
                return formulas.every([formula, formulas.negated(formulas.every(literals))])
            subject = self.all[part.atoms[0]].subjects[0]
            call = embedded(subject, text)
            part.sure.append(({number: self.all[number].outcome(call) for number in part.atoms}, {subject: text}))
            return formula
        raise Unasked("a combination that is sure by itself")


def _by_parts(formula: Formula, shared: dict[int, list[int]]) -> Formula:
    """Let every part of an object answer for its own keys."""
    if isinstance(formula, bool) or not shared:
        return formula
    if type(formula) is Literal:
        return _together(formula.mask, shared[formula.atom]) if formula.atom in shared else formula
    join = formulas.every if formula.all else formulas.some  # type: ignore[union-attr]
    return join(_by_parts(part, shared) for part in formula.parts)  # type: ignore[union-attr]


def _together(mask: int, parts: list[int]) -> Formula:
    """Return that parts say this together: wrong where one is, else not held where one does not hold."""

    def each(*outcomes: int) -> list[Formula]:
        return [formulas.literal(number, formulas.mask(*outcomes)) for number in parts]

    ways = {
        HOLDS: formulas.every(each(HOLDS)),
        FAILS: formulas.every([*each(HOLDS, FAILS), formulas.some(each(FAILS))]),
        ERRS: formulas.some(each(ERRS)),
    }
    return formulas.some(way for outcome, way in ways.items() if mask >> outcome & 1)


class _TooManySteps(Exception):
    """A search has taken too long."""


class _Search:
    """One search, part after part; a formula that was found to hold nowhere is not tried again."""

    def __init__(self, parts: list[Part], *, sure: bool) -> None:
        self.part_of: dict[int, int] = {}
        self.choices: list[list[tuple[dict[int, int], Values | None]]] = []
        for part in parts:
            if sure:
                self._add(list(part.sure))
                continue
            self._add([(outcomes, None) for outcomes in part.wide])
            bound = set(part.wide[0]) if part.wide else set()
            for number in part.atoms:
                if number not in bound:  # it may come out in any way
                    self._add([({number: outcome}, None) for outcome in range(4)])
        self.failed: set[Formula] = set()
        self.steps = 0

    def _add(self, choices: list[tuple[dict[int, int], Values | None]]) -> None:
        for outcomes, _ in choices[:1]:
            self.part_of.update(dict.fromkeys(outcomes, len(self.choices)))
        self.choices.append(choices)

    def run(self, formula: Formula) -> Chosen | None:
        """Return a choice for which the formula holds: values, or where there are none the outcomes by atom; None
        where there is no such choice.
        """
        if isinstance(formula, bool):
            return {} if formula else None
        if formula in self.failed:
            return None
        self.steps += 1
        if self.steps > _MOST_STEPS:
            raise _TooManySteps
        found = self._any(formula) if type(formula) is formulas.Any else self._all(formula)
        if found is None:
            self.failed.add(formula)
        return found

    def _any(self, formula: formulas.Any) -> Chosen | None:
        for part in sorted(formula.parts, key=_weight):
            found = self.run(part)
            if found is not None:
                return found
        return None

    def _all(self, formula: Formula) -> Chosen | None:
        """Choose for the part of the call that has least choice left."""
        number = _tightest(formula)
        part = self.part_of.get(number)
        if part is None:  # it has no choice at all
            return None
        asked = formulas.atoms(formula)
        tried = set()
        for outcomes, values in self.choices[part]:
            relevant = {atom: outcome for atom, outcome in outcomes.items() if atom in asked}
            key = tuple(relevant.values())
            if key in tried:
                continue
            tried.add(key)
            found = self.run(formulas.assigned(formula, relevant))
            if found is not None:
                return {**(relevant if values is None else values), **found}
        return None


def _weight(formula: Formula) -> int:
    return 0 if type(formula) is Literal else len(formulas.atoms(formula))


def _tightest(formula: Formula) -> int:
    """Return an atom to begin with: one that has to come out in a certain way, else one of the smallest choice."""
    if type(formula) is Literal:
        return formula.atom
    assert type(formula) is All  # noqa: S101  # for the type checker
    smallest = min(formula.parts, key=lambda part: (_weight(part), repr(part)))
    return smallest.atom if type(smallest) is Literal else min(formulas.atoms(smallest))
