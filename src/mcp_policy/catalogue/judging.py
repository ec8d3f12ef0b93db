"""What is said of the tools that a server lists: each one's risk, whether the catalogue knows it, and what is odd.

Rules kept here:

- A review counts for the very definition that was reviewed; whatever else a server lists is classified.
- A tool that is listed twice stands twice, with a warning: which one a client calls is anybody's guess.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple, TypeAlias

from .classifier import classify
from .definition import Definition, fingerprint, read_definition
from .lookup import ToolCatalogue
from .profile import CATEGORIES, LEVELS, RiskProfile
from .suspicion import Suspicion, suspicions

Known: TypeAlias = Literal["known", "changed", "new"]
"""Whether the catalogue has this tool of this server, has it with another definition, or does not have it."""


class Row(NamedTuple):
    """One tool of one server, and what is said of it."""

    server: str
    definition: Definition
    profile: RiskProfile
    known: Known
    suspicions: tuple[Suspicion, ...]


def judge(server: str, definition: Definition) -> RiskProfile:
    """Return what counts of a tool: what a review says of this very definition, else what the classifier says."""
    entry = ToolCatalogue.bundled().entry(server, definition.name)
    if entry is not None and entry.override is not None and entry.fingerprint == fingerprint(definition):
        return entry.profile
    return classify(definition)


def rows_of(server: str, tools: Iterable[Any], introduced: str = "") -> list[Row]:
    """Return a row for each entry of a server's `tools/list`, in its order. `introduced` is what it calls itself.

    Raises `ValueError` for an entry that is none.
    """
    definitions = [read_definition(tool) for tool in tools]
    counted = Counter(definition.name for definition in definitions)
    rows: list[Row] = []
    for definition in definitions:
        profile = judge(server, definition)
        warned = suspicions(definition, profile=profile, siblings=counted.keys())
        if counted[definition.name] > 1:
            message = f"is listed {counted[definition.name]} times: which one a client calls is anybody's guess"
            warned = (*warned, Suspicion("duplicate", "/name", definition.name, message))
        rows.append(Row(server, definition, profile, _known((server, introduced), definition), warned))
    return rows


def by_danger(row: Row) -> tuple[int, int, str, str]:
    """Sort rows by this to have the most dangerous first."""
    profile = row.profile
    return -LEVELS.index(profile.level), -CATEGORIES.index(profile.category), row.server, profile.tool


def _known(names: tuple[str, ...], definition: Definition) -> Known:
    catalogue = ToolCatalogue.bundled()
    entries = (catalogue.entry(server, definition.name) for server in names if server)
    entry = next((entry for entry in entries if entry is not None), None)
    if entry is None:
        return "new"
    return "known" if entry.fingerprint in (None, fingerprint(definition)) else "changed"
