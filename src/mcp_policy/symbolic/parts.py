"""What of a call can be chosen independently, and how each such part can come out.

Conditions that compare two values of a call (`value_from`) tie these into one part. A condition on the keys of all
arguments (`keys_in`) does not: every argument answers for its own key, and the condition holds where all of them do.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from itertools import islice, product
from math import prod
from typing import Any, Final, NamedTuple, TypeAlias

from ..conditions import ABSENT
from ..paths import OPEN_ROOTS
from ..values import is_number
from .atoms import Atom, Subject
from .calls import assemble
from .numbers import around
from .spaces import MOST, Outcomes, Space, space

Values: TypeAlias = dict[Subject, Any]
Group: TypeAlias = tuple[Subject, ...]


class Part(NamedTuple):
    """How some atoms, by their numbers, can come out together."""

    atoms: tuple[int, ...]
    sure: list[tuple[dict[int, int], Values]]
    """Outcomes that some values have."""
    wide: list[dict[int, int]]
    """What has to be thought possible besides; what is not in it may come out in any way."""
    doubtful: bool
    """Whether there is more than what is sure."""
    why: frozenset[str]
    texts: bool
    """Whether nothing but texts is left to be known."""


class Parts(NamedTuple):
    """All parts of a call that some atoms ask for."""

    all: list[Part]
    shared: dict[int, list[int]]
    """For each atom on the keys of an object, the numbers under which the parts of the object answer."""


def divided(atoms: list[Atom]) -> Parts:
    """Return the parts of a call that these atoms, numbered by their place, ask for."""
    shared = [number for number, atom in enumerate(atoms) if _on_keys(atom)]
    names = frozenset(key for atom in atoms for _, key in atom.subjects if key is not None)
    parts = Parts([], {number: [] for number in shared})
    count = len(atoms)
    for group in _groups(atoms, shared):
        own = [n for n, atom in enumerate(atoms) if n not in parts.shared and atom.subjects[0] in group]
        common = [number for number in shared if any(root == atoms[number].path.root for root, _ in group)]
        places = {atoms[number]: number for number in own}
        for number in common:  # one more number for what this part says
            places[atoms[number]] = count
            parts.shared[number].append(count)
            count += 1
        found = _space(group, _picked(atoms, own), _picked(atoms, common), names if common else frozenset())
        parts.all.append(_numbered(found, places))
    return parts


def _on_keys(atom: Atom) -> bool:
    return atom.op == "keys_in" and atom.other is None and not atom.path.steps and atom.path.root in ("args", "context")


def _groups(atoms: list[Atom], shared: list[int]) -> list[Group]:
    """Return the subjects, those together that one condition compares with each other."""
    groups: list[frozenset[Subject]] = []
    for atom in atoms:
        own = frozenset(atom.subjects)
        touching = [group for group in groups if group & own]
        groups = [group for group in groups if not group & own]
        groups.append(own.union(*touching))
    missing = {(atoms[number].path.root, None) for number in shared} - {one for group in groups for one in group}
    return [tuple(sorted(group, key=repr)) for group in [*groups, *map(_single, missing)]]


def _single(subject: Subject) -> frozenset[Subject]:
    return frozenset({subject})


def _picked(atoms: list[Atom], numbers: Iterable[int]) -> tuple[Atom, ...]:
    """Return atoms in an order that does not depend on how they came to their numbers."""
    return tuple(sorted((atoms[number] for number in numbers), key=lambda atom: repr(atom.key)))


class _Together(NamedTuple):
    space: Space
    values: dict[Outcomes, Values]


@lru_cache(maxsize=4_096)
def _space(group: Group, own: tuple[Atom, ...], common: tuple[Atom, ...], names: frozenset[str]) -> _Together:
    linked = tuple(atom for atom in own if atom.other is not None)
    if len(group) > 1 or linked:
        return _linked(group, own, linked, common)
    (subject,) = group
    found = space(subject, own, common, names)
    return _Together(found, {outcomes: {subject: value} for outcomes, value in found.sure.items()})


def _linked(group: Group, own: tuple[Atom, ...], linked: tuple[Atom, ...], common: tuple[Atom, ...]) -> _Together:
    """Return the space of subjects that conditions compare with each other: each is tried with the values of all."""
    alone = [
        space(subject, tuple(atom for atom in own if atom.other is None and atom.subjects[0] == subject))
        for subject in group
    ]
    atoms = (*(atom for part in alone for atom in part.atoms), *linked, *common)
    pool = _pool([value for part in alone for value in part.sure.values()], own)
    options = [_some(subject, part, pool) for subject, part in zip(group, alone, strict=True)]
    values: dict[Outcomes, Values] = {}
    for chosen in islice(product(*options), _MOST_LINKED):
        one = dict(zip(group, chosen, strict=True))
        call = assemble(one, "tool")
        values.setdefault(tuple([atom.outcome(call) for atom in atoms]), one)
    tried = prod(map(len, options)) <= _MOST_LINKED
    if tried and not common and _comparing_only(own, linked, alone):
        return _Together(Space(atoms, dict.fromkeys(values), frozenset(), frozenset(), frozenset()), values)
    return _Together(_widened(alone, atoms, values), values)


_ORDER: Final = frozenset({"lt", "lte", "gt", "gte"})
_COMPARING: Final = _ORDER | {"eq", "neq", "in", "not_in", "exists"}


def _comparing_only(own: tuple[Atom, ...], linked: tuple[Atom, ...], alone: list[Space]) -> bool:
    """Tell whether nothing is asked but how values compare, with each other and with plain constants.

    Then values that compare in every way are values enough: `_pool` has two on either side of every constant.
    """
    plain = all(
        type(value) in (str, int, bool) or (type(value) is float and value.is_integer())
        for atom in own
        if atom.other is None and atom.op != "exists"
        for value in (atom.value if atom.op in ("in", "not_in") else [atom.value])
    )
    paths = {path for atom in own for path in (atom.path, atom.other) if path is not None}
    whole = all(len(path.steps) == (path.root in OPEN_ROOTS) for path in paths)
    fit = all(atom.op in _COMPARING for atom in own) and all(atom.op in _ORDER | {"eq", "neq"} for atom in linked)
    exact = not any(part.wide or part.loose for part in alone)
    return plain and whole and fit and exact and len({atom.subjects for atom in linked}) == 1


def _pool(known: list[Any], own: tuple[Atom, ...]) -> list[Any]:
    """Return values to compare with each other: two of each kind that nobody names, and between named numbers."""
    listed = [value for atom in own if atom.op in ("in", "not_in") and atom.other is None for value in atom.value]
    numbers = [value for value in (*known, *listed) if is_number(value)]
    dense = around([*numbers, *around(numbers), 0])
    texts = [value for value in known if type(value) is str]
    fresh = [f"value{number}" for number in range(len(texts) + 2) if f"value{number}" not in texts][:2]
    kinds: list[Any] = [*fresh, True, False, [], ["x"], ["y"], {}, {"x": 1}, {"y": 1}, float("nan")]
    return [*dense, *texts, *kinds]


def _some(subject: Subject, part: Space, pool: list[Any]) -> list[Any]:
    """Return values to try for a subject: its own, and those of the others where it can take them."""
    root, key = subject
    if root in OPEN_ROOTS and key is None:
        return list(part.sure.values()) or [ABSENT]
    if root in _LISTS:
        return [*part.sure.values(), ["value0"], ["value0", "value1"]]
    return [*part.sure.values(), *(value for value in pool if key is not None or type(value) is str)]


_LISTS: Final = ("principal.roles", "principal.scopes")
_MOST_LINKED: Final = 6_000


def _widened(alone: list[Space], atoms: tuple[Atom, ...], values: dict[Outcomes, Values]) -> Space:
    """Return the space in which what comparing conditions say is anybody's guess."""
    each = [[*part.sure, *part.wide] for part in alone]
    local = sum(len(part.atoms) for part in alone)
    rest = (0,) * (len(atoms) - local)
    wide = list(islice((sum(parts, ()) + rest for parts in product(*each)), MOST))
    loose = set(range(local, len(atoms)))
    start = 0
    for part in alone:
        loose |= {start + place for place in part.loose}
        start += len(part.atoms)
    if len(wide) == MOST:
        loose = set(range(len(atoms)))
    names = ", ".join(sorted(atom.text for atom in atoms if atom.other is not None))
    why = frozenset({f"{names}: compared with a value of the call"}).union(*(part.why for part in alone))
    return Space(atoms, dict.fromkeys(values), frozenset(wide), frozenset(loose), why)


def _numbered(found: _Together, places: dict[Atom, int]) -> Part:
    """Return a space by the numbers of its atoms; loose ones are left out of what is wide."""
    numbers = [places[atom] for atom in found.space.atoms]
    sure = [(dict(zip(numbers, outcomes, strict=True)), values) for outcomes, values in found.values.items()]
    kept = [(place, number) for place, number in enumerate(numbers) if place not in found.space.loose]
    vectors = dict.fromkeys(
        tuple(outcomes[place] for place, _ in kept) for outcomes in (*found.space.sure, *found.space.wide)
    )
    wide = [{number: code for (_, number), code in zip(kept, vector, strict=True)} for vector in vectors]
    return Part(
        tuple(numbers), sure, wide, bool(found.space.wide or found.space.loose), found.space.why, found.space.texts
    )
