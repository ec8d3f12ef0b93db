"""Texts on which conditions differ.

Conditions that are patterns of characters (regular expressions as far as `expressions` reads them, globs, beginnings,
ends, parts, lengths) are decided together, exactly. Paths (`within`) and hosts (`host_in`) are kinds of their own: each
is exact by itself, and where kinds meet on one text, every combination counts as possible.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, Final, NamedTuple

from ..locations import resolve_path
from .atoms import Atom
from .expressions import ANY, END, START, Choice, Repeat, Sequence, Tree, Undecided, expression, glob, literal
from .languages import texts

_LONGEST: Final = 400
_LONGEST_ALONE: Final = 20_000
_SIZES: Final = ("length_lte", "length_gte")


class Strings(NamedTuple):
    """Texts for each way in which conditions on a text can come out."""

    texts: list[str]
    groups: list[tuple[list[Atom], list[str]]]
    """Conditions that are decided apart from the others, with texts for all that those can say."""
    fussy: list[Atom]
    """Those that are not tried on every text."""
    loose: list[Atom]
    why: set[str]


def strings(atoms: Iterable[Atom], constants: list[str]) -> Strings:
    """Return texts on which these conditions differ; `constants` are texts that others compare with."""
    trees: list[tuple[Atom, Tree]] = []
    answer = Strings(list(dict.fromkeys(constants)), [], [], [], set())
    within: list[Atom] = []
    hosts: list[Atom] = []
    atoms = list(atoms)
    sizes = [atom for atom in atoms if atom.op in _SIZES]
    if _sizes_alone(atoms, sizes):
        answer.texts.extend("x" * size for size in _around(sizes))
        answer.groups.append((sizes, list(answer.texts)))
        return answer
    for atom in atoms:
        if atom.op in ("regex", "not_regex"):
            answer.fussy.append(atom)
        if atom.op in ("within", "host_in"):
            (within if atom.op == "within" else hosts).append(atom)
            continue
        try:
            tree = tree_of(atom)
        except Undecided as undecided:
            answer.loose.append(atom)
            answer.why.add(f"{atom.text} {atom.value!r}: {undecided}")
        else:
            if tree is not None:
                trees.append((atom, tree))
    _add_patterns(answer, trees, frozenset(constants))
    _add_kind(answer, within, _directories(within))
    _add_kind(answer, hosts, _addresses(hosts))
    return answer


def one_by_one(atoms: Iterable[Atom]) -> Iterator[str]:
    """Yield texts that each pattern by itself matches, and does not."""
    for atom in atoms:
        try:
            tree = tree_of(atom)
        except Undecided:
            continue
        if tree is not None:
            yield from _walked((tree,), frozenset()).found.values()


def _sizes_alone(atoms: list[Atom], sizes: list[Atom]) -> bool:
    """Tell whether nothing is asked of a text but how long it is."""
    texts_too = [atom for atom in atoms if atom.op not in _SIZES and atom.op != "exists"]
    return bool(sizes) and not texts_too and all(atom.value < _LONGEST_ALONE for atom in sizes)


def _around(sizes: list[Atom]) -> list[int]:
    return sorted({size for atom in sizes for size in (atom.value - 1, atom.value, atom.value + 1) if size >= 0} | {0})


def _add_patterns(answer: Strings, trees: list[tuple[Atom, Tree]], constants: frozenset[str]) -> None:
    known = _walked(tuple(tree for _, tree in trees), constants) if trees else None
    if known is not None and not known.complete:
        answer.loose.extend(atom for atom, _ in trees)
        answer.why.add("too many patterns on one text to follow")
    found = list(known.found.values()) if known is not None else []
    if not found:
        found = [next(text for number in range(len(constants) + 1) if (text := f"x{number or ''}") not in constants)]
    answer.texts.extend(found)
    if trees:
        answer.groups.append(([atom for atom, _ in trees], found))


_walked = lru_cache(maxsize=256)(texts)


def _add_kind(answer: Strings, atoms: list[Atom], found: Iterable[str]) -> None:
    if atoms:
        listed = list(found)
        answer.texts.extend(listed)
        answer.groups.append((atoms, listed))


def tree_of(atom: Atom) -> Tree | None:
    """Return the tree of a condition that is a pattern on texts, and None of any other. Raises `Undecided`.

    The tree of `length_lte` is that of the texts which are longer.
    """
    value = atom.value
    match atom.op:
        case "regex" | "not_regex":
            return expression(value)
        case "glob":
            return Choice(tuple(map(glob, [value] if type(value) is str else value)))
        case "starts_with":
            return Sequence((START, literal(value)))
        case "ends_with":
            return Sequence((literal(value), END))
        case "contains" | "not_contains":
            return literal(value) if type(value) is str else None
        case "length_lte" | "length_gte":
            return _length(value + (atom.op == "length_lte"))
        case _:
            return None


def _length(least: Any) -> Tree:
    """Return the tree of texts of at least so many characters."""
    if least > _LONGEST:
        raise Undecided(f"lengths above {_LONGEST}")
    return Sequence((START, Repeat(ANY, least, None), END))


def _directories(atoms: list[Atom]) -> Iterator[str]:
    """Yield a path at, below and beside every directory that is named, and what is no path.

    Whether a path is within directories depends on which of them it is at or below; they form a tree.
    """
    yield from ("", "x")
    named = {resolve_path(text) or () for atom in atoms for text in _listed(atom.value)}
    parts = {part for directory in named for part in directory}
    fresh = next(name for number in range(len(parts) + 1) if (name := f"x{number or ''}") not in parts)
    for place in sorted({directory[:size] for directory in named for size in range(len(directory) + 1)}):
        yield "/" + "/".join(place)
        yield "/" + "/".join((*place, fresh))


def _addresses(atoms: list[Atom]) -> Iterator[str]:
    """Yield an address at, below and beside every host that is named, and what is no plain address."""
    yield from ("", "https://user@example.invalid/")
    named = sorted({text for atom in atoms for text in atom.value})
    yield from ("https://other.invalid/", "https://other.test/", "https://[::9]/")
    for text in named:
        host = text.removeprefix("*.")
        yield f"https://{host}/"
        if not host.startswith("["):
            yield f"https://x.{host}/"
            yield f"https://y.x.{host}/"
            labels = host.split(".")
            yield from (f"https://{'.'.join(labels[size:])}/" for size in range(1, len(labels)))


def _listed(value: Any) -> list[str]:
    return [value] if type(value) is str else list(value)
