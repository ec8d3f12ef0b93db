"""The words that show a tool's risk, marked where they stand in its definition.

Rules kept here:

- Whole words are marked, never a part of one: `run` does not stand in `prune`. What is not found marks nothing.
- A text is marked once for each sign, where its words first stand; so no text makes many pieces.
- The pieces of a text are the text: nothing is added or lost.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeAlias

from mcp_policy.catalogue.profile import CATEGORIES, Category, Evidence, Source
from mcp_policy.catalogue.verbs import split_name

from .stack import Tool

Pieces: TypeAlias = tuple[tuple[str, str], ...]
"""Pieces of a text, each with the category that it suggests, or nothing."""

Quotes: TypeAlias = dict[str, Category]
"""What words suggest, in lower case."""


class Marked(NamedTuple):
    """A definition in pieces; `parameters` by their names."""

    name: Pieces
    title: Pieces
    description: Pieces
    parameters: dict[str, Pieces]


def marked(tool: Tool) -> Marked:
    """Return a tool's definition with the evidence marked in it."""
    definition, evidence = tool.definition, tool.page.evidence
    said, taken = _of(evidence, "description"), _of(evidence, "parameter")
    names = [parameter.name for parameter in tool.page.parameters]
    # a title is read where there is no description
    title = {} if definition.description.strip() else said
    return Marked(
        _pieces(definition.name, _in_name(definition.name, _of(evidence, "name"))),
        _pieces(definition.title, _in_text(definition.title, title)),
        _pieces(definition.description, _in_text(definition.description, said)),
        {name: ((name, taken.get(name.lower(), "")),) for name in names},
    )


def _of(evidence: Iterable[Evidence], source: Source) -> Quotes:
    """Return what each quote suggests, the worst where there are several."""
    signs = sorted(evidence, key=lambda sign: CATEGORIES.index(sign.suggests))
    return {sign.quote.lower(): sign.suggests for sign in signs if sign.source == source and sign.quote}


class _Mark(NamedTuple):
    start: int
    end: int
    category: Category


def _in_name(name: str, quotes: Quotes) -> Iterator[_Mark]:
    left, end = dict(quotes), 0
    for word in split_name(name):
        start = name.index(word, end)  # what stands between words is no part of one
        end = start + len(word)
        if (category := left.pop(word.lower(), None)) is not None:
            yield _Mark(start, end, category)


def _in_text(text: str, quotes: Quotes) -> Iterator[_Mark]:
    for quote, category in quotes.items():
        found = re.search(rf"(?<!\w){re.escape(quote)}(?!\w)", text, re.IGNORECASE)
        if found is not None:
            yield _Mark(*found.span(), category)


def _pieces(text: str, marks: Iterable[_Mark]) -> Pieces:
    return tuple(piece for piece in _cut(text, sorted(marks, key=lambda mark: (mark.start, -mark.end))) if piece[0])


def _cut(text: str, marks: Iterable[_Mark]) -> Iterator[tuple[str, str]]:
    done = 0
    for start, end, category in marks:
        if start >= done:  # of words within others, those around them are marked
            yield text[done:start], ""
            yield text[start:end], category
            done = end
    yield text[done:], ""
