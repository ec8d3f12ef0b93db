"""Spaces: in which combinations the answers to some questions about one value can come out.

For each combination a value is looked for, and every value is put to the conditions themselves, so what stands in
`sure` is so. The law kept here is the other direction: **every combination that any value has is in `sure`, or in
`wide`, or differs from those only in atoms that are `loose`.** Where that cannot be shown for an atom, it is loose.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice, product
from typing import Any, Final, NamedTuple, TypeAlias

from ..call import ToolCall
from ..conditions import ABSENT
from ..paths import OPEN_ROOTS, STAR, Step
from ..values import is_number
from .atoms import Atom, Subject
from .calls import embedded
from .numbers import around
from .strings import Strings, one_by_one, strings

Outcomes: TypeAlias = tuple[int, ...]
Embed: TypeAlias = Callable[[Any], ToolCall]

MOST: Final = 2_000
"""Most combinations that are looked at for one value."""

_MOST_CONDITIONS: Final = 60
"""Most conditions on one value that are looked at together."""

_LONGEST_LIST: Final = 200
_LONGEST_ALONE: Final = 20_001
"""Most elements of a list or an object of which nothing else is asked."""


class Space(NamedTuple):
    """How the atoms of a value can come out; `atoms` in the order of each `Outcomes`."""

    atoms: tuple[Atom, ...]
    sure: dict[Outcomes, Any]
    """Combinations, each with a value that has it (`ABSENT` for none)."""
    wide: frozenset[Outcomes]
    """Combinations that may be possible besides; nobody knows a value."""
    loose: frozenset[int]
    """Places in `atoms` of those that may come out in any way, whatever the others do."""
    why: frozenset[str]
    """Why some are loose or wide."""
    texts: bool = False
    """Whether nothing but texts is left to be known."""


class _Node:
    """A place in a value: what is asked of it, and of what is below it."""

    def __init__(self) -> None:
        self.own: list[Atom] = []
        self.keys: dict[str, _Node] = {}
        self.star: _Node | None = None
        self.indexed: list[Atom] = []

    def add(self, atom: Atom, steps: tuple[Step, ...]) -> None:
        if not steps:
            self.own.append(atom)
        elif isinstance(steps[0], str):
            self.keys.setdefault(steps[0], _Node()).add(atom, steps[1:])
        elif steps[0] is STAR:
            self.star = self.star or _Node()
            self.star.add(atom, steps[1:])
        else:
            self.indexed.append(atom)

    def atoms(self) -> tuple[Atom, ...]:
        below = [*self.keys.values(), *([self.star] if self.star else [])]
        return (*self.own, *self.indexed, *(atom for node in below for atom in node.atoms()))


def space(
    subject: Subject, atoms: tuple[Atom, ...], shared: tuple[Atom, ...] = (), names: frozenset[str] = frozenset()
) -> Space:
    """Return how atoms on one subject can come out.

    `shared` are conditions on the keys of the object that the subject is a part of: each part answers for itself. The
    subject that is the object without a key stands for all keys besides `names`.
    """
    root, key = subject
    node = _Node()
    for atom in atoms:
        node.add(atom, atom.path.steps[1:] if key is not None else ())
    ordered = (*node.atoms(), *shared)
    if root in ("principal.roles", "principal.scopes"):
        return _lists_of_names(ordered, subject)
    found = _Found(ordered, lambda value: embedded(subject, value))
    if root in OPEN_ROOTS and key is None:
        return _whole(found, atoms, shared, names)
    if shared:
        found.note(ABSENT)
        found.note(None)
    return _explore(node, found, texts_only=key is None)


def _whole(found: _Found, atoms: tuple[Atom, ...], shared: tuple[Atom, ...], names: frozenset[str]) -> Space:
    if atoms:
        found.doubt(atoms, "a condition on all arguments at once")
    for keys in _extra_keys(list(shared), names):
        found.note(keys)
    found.note({_UNFIT: float("nan")})
    return found.space()


# -- one value


class _Found:
    """Collects the combinations of one node."""

    def __init__(self, atoms: tuple[Atom, ...], embed: Embed) -> None:
        self.atoms = atoms
        self.embed = embed
        self.sure: dict[Outcomes, Any] = {}
        self.wide: set[Outcomes] = set()
        self.loose: set[Atom] = set()
        self.why: set[str] = set()
        self.texts = True

    def outcomes(self, value: Any) -> Outcomes:
        call = self.embed(value)
        return tuple([atom.outcome(call) for atom in self.atoms])

    def note(self, value: Any) -> Outcomes:
        found = self.outcomes(value)
        self.sure.setdefault(found, value)
        return found

    def doubt(self, atoms: Iterable[Atom], why: str, *, texts: bool = False) -> None:
        self.loose.update(atoms)
        self.why.add(why)
        self.texts &= texts

    def space(self) -> Space:
        loose = frozenset(place for place, atom in enumerate(self.atoms) if atom in self.loose)
        wide = frozenset(self.wide - self.sure.keys())
        return Space(self.atoms, self.sure, wide, loose, frozenset(self.why), self.texts)


def _explore(node: _Node, found: _Found, *, texts_only: bool = False) -> Space:
    found.note(ABSENT)
    constants = list(_constants(node.own))
    if not texts_only:
        for number in around([value for value in constants if is_number(value)]):
            found.note(number)
    if texts_only:  # an empty identity is none
        _texts(node, found, [*constants, ""])
        return found.space()
    _texts(node, found, constants)
    for value in (*constants, [], {}, True, False):
        found.note(value)
    _lists(node, found, constants)
    _objects(node, found, constants)
    found.note(float("nan"))
    return found.space()


def _constants(atoms: Iterable[Atom]) -> Iterator[Any]:
    """Yield the values that conditions compare with as a whole; costs compare with zero."""
    for atom in atoms:
        if atom.op in ("in", "not_in"):
            yield from atom.value
        elif atom.op in ("eq", "neq", "lt", "lte", "gt", "gte", "cost"):
            yield atom.value
            yield from (0, 1) if atom.op == "cost" else ()


def _texts(node: _Node, found: _Found, constants: list[Any]) -> None:
    named = [value for value in constants if type(value) is str]
    if len(node.own) > _MOST_CONDITIONS:
        found.doubt(node.own, "too many conditions on one text", texts=True)
        for text in (*named, *one_by_one(node.own)):
            found.note(text)
        return
    answer: Strings = strings(node.own, named)
    for text in answer.texts:
        found.note(text)
    if answer.loose:
        found.doubt(answer.loose, "; ".join(sorted(answer.why)), texts=True)
    if len(answer.groups) > 1 or answer.fussy:
        _combine_texts(node, found, answer, "x" * (1 + max(map(len, named), default=0)))


def _combine_texts(node: _Node, found: _Found, answer: Strings, unnamed: str) -> None:
    """Note what independent groups of conditions on a text may say together, and what odd texts may."""
    place = {atom: number for number, atom in enumerate(found.atoms)}
    plain = found.outcomes(unnamed)
    options = []
    for atoms, texts in answer.groups:
        options.append({tuple((place[atom], found.outcomes(text)[place[atom]]) for atom in atoms) for text in texts})
    together = [{number: code for part in parts for number, code in part} for parts in islice(product(*options), MOST)]
    if len(together) == MOST:
        found.doubt(node.own, "too many conditions on one text", texts=True)
        return
    before = len(found.wide)
    combined = [tuple(codes.get(number, plain[number]) for number in range(len(plain))) for codes in together]
    found.wide.update(vector for vector in combined if vector not in found.sure)
    # texts that no regular expression is tried on: each is a wrong type to all of them
    fussy = {place[atom] for atom in answer.fussy}
    for vector in list(dict.fromkeys([*combined, *map(found.outcomes, answer.texts)])) if fussy else []:
        odd = tuple(3 if number in fussy else code for number, code in enumerate(vector))
        value = found.sure.get(vector)
        if odd not in found.sure and isinstance(value, str):
            for text in _spoilt(value):
                found.note(text)
        if odd not in found.sure:
            found.wide.add(odd)
    if len(found.wide) > before:
        found.why.add("several kinds of conditions on one text")


def _spoilt(text: str) -> Iterator[str]:
    lone = "\ud800"
    yield from (text + lone, lone + text, text[: len(text) // 2] + lone + text[len(text) // 2 :])
    yield from (text[:place] + lone + text[place + 1 :] for place in range(min(len(text), 40)))


# -- lists


_LIST_OPS: Final = frozenset({"contains", "not_contains", "intersects"})
_SIZES: Final = frozenset({"length_lte", "length_gte"})
_WHOLE: Final = frozenset({"eq", "neq", "in", "not_in"})


def _lists(node: _Node, found: _Found, constants: list[Any]) -> None:
    asked = [atom for atom in node.own if atom.op in _LIST_OPS]
    if node.indexed:
        below = [*node.indexed, *(node.star.atoms() if node.star else ())]
        found.doubt([*below, *asked], "an element by its place")
    if node.star is None and not asked and not any(atom.op in _SIZES for atom in node.own):
        return _other_list(node, found, constants)
    _fold(node, found, list(_members(node, found, asked)), constants)
    return None


def _other_list(node: _Node, found: _Found, constants: list[Any]) -> None:
    """Note a list that is none of the document's."""
    known = [value for value in constants if type(value) is list]
    found.note(next(fresh for size in range(1, len(known) + 2) if (fresh := ["x"] * size) not in known))


def _members(node: _Node, found: _Found, asked: list[Atom]) -> Iterator[Any]:
    """Yield an element for each way in which elements can be told apart."""
    named = [value for atom in asked for value in (atom.value if atom.op == "intersects" else [atom.value])]
    yield from named
    yield next(text for text in (f"other{number or ''}" for number in range(len(named) + 1)) if text not in named)
    if node.star is None:
        yield float("nan")
        return
    if asked:
        found.doubt(asked, "elements asked for one by one and as members")
    inside = _Found(node.star.atoms(), lambda value: found.embed([None if value is ABSENT else value]))
    elements = _explore(node.star, inside)
    if elements.wide or elements.loose:
        found.doubt(node.star.atoms(), "; ".join(sorted(elements.why)))
    for value in elements.sure.values():
        yield None if value is ABSENT else value


def _fold(node: _Node, found: _Found, members: list[Any], constants: list[Any]) -> None:
    """Note lists for all that several elements can say together.

    What a list says depends on what its elements say one by one, so lists that say the same need not be told apart,
    except by their length; a list is made longer by repeating its last element.
    """
    sizes = [place for place, atom in enumerate(found.atoms) if atom in node.own and atom.op in _SIZES]
    lengths = sorted({int(found.atoms[place].value) for place in sizes})

    def said(items: list[Any]) -> Outcomes:
        vector = found.outcomes(items)
        return bool(items), *(code for place, code in enumerate(vector) if place not in sizes)

    longest = _LONGEST_LIST if len(found.atoms) > len(sizes) else _LONGEST_ALONE
    queue: deque[list[Any]] = deque([[]])
    seen = {said([])}
    while queue:
        items = queue.popleft()
        _note_lengths(found, items, lengths, constants, longest)
        for member in members if len(seen) < MOST else ():
            longer = [*items, member]
            if len(longer) <= _LONGEST_LIST and (key := said(longer)) not in seen:
                seen.add(key)
                queue.append(longer)
    if len(seen) >= MOST:
        found.doubt(found.atoms, "too many combinations of elements")
    if lengths and lengths[-1] > longest:
        found.doubt([found.atoms[place] for place in sizes], f"lengths above {longest}")


def _note_lengths(found: _Found, items: list[Any], lengths: list[int], constants: list[Any], longest: int) -> None:
    found.note(items)
    fill = items[-1:] or []
    if not fill:
        return
    wanted = {size + more for size in lengths for more in (-1, 0, 1)}
    if any(type(value) is list for value in constants):  # a list beside one that is spelt out
        wanted |= {len(value) + 1 for value in constants if type(value) is list}
    for size in sorted(wanted):
        if len(items) < size <= longest + 1:
            found.note(items + fill * (size - len(items)))


def _lists_of_names(atoms: tuple[Atom, ...], subject: Subject) -> Space:
    """Roles and scopes: always a list, and of nothing but texts."""
    found = _Found(atoms, lambda value: embedded(subject, value))
    node = _Node()
    node.own = list(atoms)
    asked = [atom for atom in atoms if atom.op in _LIST_OPS]
    constants = list(_constants(atoms))
    members = [value for value in _members(node, found, asked) if type(value) is str]
    _fold(node, found, members, constants)
    for value in constants:
        if type(value) is list and all(type(item) is str for item in value):
            found.note(value)
    return found.space()


# -- objects


def _objects(node: _Node, found: _Found, constants: list[Any]) -> None:
    sizes = [atom for atom in node.own if atom.op in _SIZES]
    named = [atom for atom in node.own if atom.op == "keys_in"]
    spelt_out = any(type(value) is dict for value in constants)
    options = [list(_child(key, child, found)) for key, child in node.keys.items()]
    if (sizes and (node.keys or named)) or (spelt_out and (node.keys or named or sizes)):
        found.doubt(found.atoms, "an object as a whole and by its parts")
    extras = list(_extra_keys(named, frozenset(node.keys))) if named or spelt_out else [{}]
    if sizes:
        lengths = {min(int(atom.value) + more, _LONGEST_ALONE) for atom in sizes for more in (0, 1)}
        extras += [{f"key{number}": 1 for number in range(size)} for size in sorted(lengths)]
    extras.append({_UNFIT: float("nan")})  # what is no JSON anywhere is a wrong type as a whole, and not in its parts
    combinations = list(islice(product(*options, extras), MOST))
    for parts in combinations:
        found.note({key: value for part in parts for key, value in part.items()})
    if len(combinations) == MOST:
        found.doubt(found.atoms, "too many combinations of an object's parts")


_UNFIT: Final = "not a number"


def _child(key: str, child: _Node, found: _Found) -> Iterator[dict[str, Any]]:
    """Yield a part of an object for each way in which what stands below a key can come out."""
    inside = _Found(child.atoms(), lambda value: found.embed({} if value is ABSENT else {key: value}))
    below = _explore(child, inside)
    if below.wide or below.loose:
        found.doubt(child.atoms(), "; ".join(sorted(below.why)))
    for value in below.sure.values():
        yield {} if value is ABSENT else {key: value}
    yield {key: None}  # given, and absent all the same


def _extra_keys(named: list[Atom], taken: frozenset[str]) -> Iterator[dict[str, Any]]:
    """Yield further keys, told apart by which of the lists of keys have them; what several say adds up."""
    lists = [frozenset(atom.value) for atom in named]
    known = frozenset().union(*lists)
    unused = next(name for number in range(10**9) if (name := f"other{number or ''}") not in known | taken)
    pool = {tuple(key in names for names in lists): key for key in (*sorted(known - taken), unused)}
    seen: dict[tuple[bool, ...], dict[str, Any]] = {(True,) * len(lists): {}}
    queue = deque(seen.items())
    while queue:
        within, keys = queue.popleft()
        yield keys
        for answers, key in pool.items():
            both = tuple(one and other for one, other in zip(within, answers, strict=True))
            if both not in seen:
                seen[both] = {**keys, key: 1}
                queue.append((both, seen[both]))
