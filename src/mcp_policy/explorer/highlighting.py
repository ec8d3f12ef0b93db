"""The words that show a tool's risk, marked where they stand in its definition.

Words that were read and are not found as they stand (a word of a name in another spelling) mark nothing. The pieces of
a text are the text: nothing is added or lost.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeAlias

from mcp_policy.catalogue.profile import CATEGORIES, Category, Evidence, Source

from .stack import Tool

Pieces: TypeAlias = tuple[tuple[str, str], ...]
"""Pieces of a text, each with the category that it suggests, or nothing."""


class Marked(NamedTuple):
    """A definition in pieces; `parameters` by their names."""

    name: Pieces
    title: Pieces
    description: Pieces
    parameters: dict[str, Pieces]


def marked(tool: Tool) -> Marked:
    """Return a tool's definition with the evidence marked in it."""
    definition, evidence = tool.definition, tool.page.evidence
    names = [parameter.name for parameter in tool.page.parameters]
    return Marked(
        _pieces(definition.name, _of(evidence, "name")),
        _pieces(definition.title, _of(evidence, "description")),
        _pieces(definition.description, _of(evidence, "description")),
        {name: _pieces(name, _of(evidence, "parameter")) for name in names},
    )


def _of(evidence: Iterable[Evidence], source: Source) -> dict[str, Category]:
    """Return what each quote suggests, the worst where there are several."""
    signs = sorted(evidence, key=lambda sign: CATEGORIES.index(sign.suggests))
    return {sign.quote.lower(): sign.suggests for sign in signs if sign.source == source and sign.quote}


def _pieces(text: str, quotes: dict[str, Category]) -> Pieces:
    return tuple(_cut(text, quotes)) if quotes else ((text, ""),) if text else ()


def _cut(text: str, quotes: dict[str, Category]) -> Iterator[tuple[str, str]]:
    longest_first = sorted(quotes, key=len, reverse=True)
    done = 0
    for match in re.finditer("|".join(map(re.escape, longest_first)), text, re.IGNORECASE):
        if match.start() > done:
            yield text[done : match.start()], ""
        yield match[0], quotes.get(match[0].lower(), "")
        done = match.end()
    if done < len(text):
        yield text[done:], ""
