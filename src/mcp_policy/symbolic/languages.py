"""Which texts hold which patterns together: a walk over all ways that several trees can match one text.

Each tree becomes a finite automaton; the walk follows all of them at once, character by character, and notes for each
combination of answers the shortest text that gives it. Characters are told apart only as far as a tree tells them
apart, so the walk ends; where it would take too long it says that it did not (`complete`).

The alphabet is all of ASCII, every character that is spelt out, and one character outside ASCII of each kind that the
engine's classes know (letter, digit, space, other, and those that case folding ties to ASCII letters).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple

from ..regexes import compile_regex
from .expressions import ANY, Chars, Choice, Edge, Repeat, Sequence, Tree, Undecided, letters

MOST_STATES: Final = 4_000
_MOST_PARTS: Final = 20_000
_NICE: Final = "xyzwvuabcdefghijklmnopqrst0123456789_-/.ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_OUTSIDE: Final = "\u00e9\u0663\u3000\u2192\u212a\u017f"


class Texts(NamedTuple):
    """What a walk found: a text for each combination of answers, and whether these are all there are."""

    found: dict[tuple[bool, ...], str]
    complete: bool


def texts(
    trees: tuple[Tree, ...], avoid: frozenset[str] = frozenset(), most: int = MOST_STATES, *, printable: bool = False
) -> Texts:
    """Return a shortest text for each combination of trees that match it; none is empty, where it has to be
    `printable`, and none is one of `avoid`.
    """
    try:
        return _Walk(trees, avoid | {""} if printable else avoid, printable=printable).run(most)
    except Undecided:
        return Texts({}, complete=False)


# -- automata

_ALWAYS, _AT_START, _AT_END = 0, 1, 2


class _Automata:
    """The automata of several trees, their states numbered through: `steps` take a character, `jumps` take none."""

    def __init__(self, trees: tuple[Tree, ...], alphabet: str) -> None:
        self.alphabet = alphabet
        self.all = (1 << len(alphabet)) - 1
        self.steps: list[list[tuple[int, int]]] = []
        self.jumps: list[list[tuple[int, int]]] = []
        self.owner: list[int] = []
        self.starts: list[int] = []
        self.accepts: list[int] = []
        for number, tree in enumerate(trees):
            self._add(number, tree)

    def _add(self, number: int, tree: Tree) -> None:
        anchored = isinstance(tree, Sequence) and bool(tree.parts) and tree.parts[0] == Edge(at_end=False)
        start, accept = self._state(number), self._state(number)
        if not anchored:  # what stands anywhere may stand after anything
            self.steps[start].append((self.all, start))
        self.steps[accept].append((self.all, accept))  # and anything may follow it
        self._build(number, tree, start, accept)
        self.starts.append(start)
        self.accepts.append(accept)

    def _state(self, number: int) -> int:
        if len(self.owner) > _MOST_PARTS:
            raise Undecided("too long")
        self.steps.append([])
        self.jumps.append([])
        self.owner.append(number)
        return len(self.owner) - 1

    def _build(self, number: int, tree: Tree, start: int, end: int) -> None:
        match tree:
            case Chars():
                self.steps[start].append((mask_of(tree, self.alphabet), end))
            case Edge(at_end):
                self.jumps[start].append((_AT_END if at_end else _AT_START, end))
            case Choice(parts):
                for part in parts:
                    self._build(number, part, start, end)
            case Sequence(parts):
                for part in parts:
                    after = self._state(number)
                    self._build(number, part, start, after)
                    start = after
                self.jumps[start].append((_ALWAYS, end))
            case Repeat(part, least, most):
                self._repeat(number, part, (least, most), start, end)

    def _repeat(self, number: int, part: Tree, times: tuple[int, int | None], start: int, end: int) -> None:
        least, most = times
        for _ in range(least):
            after = self._state(number)
            self._build(number, part, start, after)
            start = after
        if most is None:
            loop = self._state(number)
            self.jumps[start].append((_ALWAYS, loop))
            self._build(number, part, loop, loop)
            start = loop
        for _ in range(least, most or least):
            self.jumps[start].append((_ALWAYS, end))
            after = self._state(number)
            self._build(number, part, start, after)
            start = after
        self.jumps[start].append((_ALWAYS, end))

    def closure(self, states: Iterable[int], *, at_start: bool, at_end: bool = False) -> frozenset[int]:
        """Return the states that are reached without a character. What has been accepted stays so."""
        seen = set(states)
        todo = list(seen)
        while todo:
            for guard, target in self.jumps[todo.pop()]:
                if target not in seen and (guard == _ALWAYS or (at_start if guard == _AT_START else at_end)):
                    seen.add(target)
                    todo.append(target)
        done = {self.owner[state] for state in seen.intersection(self.accepts)}
        return frozenset(state for state in seen if self.owner[state] not in done or state in self.accepts)

    def following(self, states: frozenset[int]) -> list[tuple[int, frozenset[int]]]:
        """Return the sets of states that one more character leads to, each with the characters that do."""
        by_mask: dict[int, set[int]] = {}
        for state in states:
            for mask, target in self.steps[state]:
                by_mask.setdefault(mask, set()).add(target)
        blocks: list[tuple[int, frozenset[int]]] = [(self.all, frozenset())]
        for mask, targets in by_mask.items():
            split: list[tuple[int, frozenset[int]]] = []
            for chars, reached in blocks:
                if chars & mask:
                    split.append((chars & mask, reached | targets))
                if chars & ~mask:
                    split.append((chars & ~mask, reached))
            blocks = split
        return blocks


class _Walk:
    """One walk over the texts, the shortest first."""

    def __init__(self, trees: tuple[Tree, ...], avoid: frozenset[str], *, printable: bool) -> None:
        spelt = set().union(*map(letters, trees), *avoid)
        alphabet = alphabet_of(spelt)
        self.alphabet = "".join(filter(str.isprintable, alphabet)) if printable else alphabet
        self.automata = _Automata(trees, self.alphabet)
        self.avoid = avoid
        self.beginnings = frozenset(text[:size] for text in avoid for size in range(len(text) + 1))
        self.index = {char: place for place, char in enumerate(self.alphabet)}

    def run(self, most: int) -> Texts:
        automata = self.automata
        first = automata.closure(automata.starts, at_start=True)
        # beside the states, only what still may become a text to avoid has to be known of a text
        queue = deque([(first, "")])
        seen = {(first, "" if "" in self.beginnings else None)}
        found: dict[tuple[bool, ...], str] = {}
        while queue:
            states, text = queue.popleft()
            if text not in self.avoid:
                found.setdefault(self.answers(states, text), text)
            for char, reached in self.next(states, text):
                longer = text + char
                key = reached, longer if longer in self.beginnings else None
                if key not in seen:
                    if len(seen) >= most:
                        return Texts(found, complete=False)
                    seen.add(key)
                    queue.append((reached, longer))
        return Texts(found, complete=True)

    def answers(self, states: frozenset[int], text: str) -> tuple[bool, ...]:
        at_end = self.automata.closure(states, at_start=not text, at_end=True)
        return tuple(accept in at_end for accept in self.automata.accepts)

    def next(self, states: frozenset[int], text: str) -> Iterable[tuple[str, frozenset[int]]]:
        on = 0
        if text in self.beginnings:
            for char in self.alphabet:
                if text + char in self.beginnings:
                    on |= 1 << self.index[char]
        for chars, reached in self.automata.following(states):
            after = self.automata.closure(reached, at_start=False)
            if chars & ~on:
                yield self.alphabet[_lowest(chars & ~on)], after
            rest = chars & on
            while rest:
                yield self.alphabet[_lowest(rest)], after
                rest &= rest - 1


def _lowest(mask: int) -> int:
    return (mask & -mask).bit_length() - 1


def alphabet_of(spelt: set[str]) -> str:
    """Return the characters to tell apart: the readable ones that nobody spelt first, since they are shown."""
    ascii_ = [chr(code) for code in range(32, 127)] + [chr(code) for code in (*range(32), 127)]
    every = dict.fromkeys([*(char for char in _NICE if char not in spelt), *_NICE, *ascii_, *_OUTSIDE, *sorted(spelt)])
    return "".join(char for char in every if not "\ud800" <= char <= "\udfff")


@lru_cache(maxsize=2_048)
def mask_of(chars: Chars, alphabet: str) -> int:
    """Return which characters of an alphabet match, as bits."""
    if chars == ANY:
        return (1 << len(alphabet)) - 1
    if len(chars.pattern) == 1 or (len(chars.pattern) == 2 and not chars.pattern[1].isalnum()):
        place = alphabet.find(chars.pattern[-1])
        if chars.pattern != ".":
            return 1 << place if place >= 0 else 0
    matches = compile_regex(f"^{chars.pattern}$")
    return sum(1 << place for place, char in enumerate(alphabet) if matches(char))
