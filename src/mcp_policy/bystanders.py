"""Entries of a document that have no part in a decision, and why.

Which entries have a part in it is read off the plan that decides. Whether a name matches is asked of the same section.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .compiler import Document, Section
from .errors import escape
from .evaluator import Plan
from .patterns import is_exact


class OtherTrace(NamedTuple):
    """An entry of the document that has no part in the decision, and why."""

    rule: str
    why: str


def bystanders(
    document: Document, tool: str, server: str | None, category: str | None, plan: Plan
) -> Iterator[OtherTrace]:
    """Yield what a document says that the plan of a tool on a server (None: one without a section) leaves out."""
    part_of_it = {rule.pointer for rule, _ in plan.entries} | {reason.rule for reason in plan.hidden}
    sections = [document.top] if server is None else [document.top, document.servers[server]]
    for section in sections:
        for pointer, why in _entries(section, tool, category):
            if pointer not in part_of_it:
                yield OtherTrace(pointer, why)
    for name, section in document.servers.items():
        if name != server:
            yield OtherTrace(section.pointer, "is for another server")


def _entries(section: Section, tool: str, category: str | None) -> Iterator[tuple[str, str]]:
    """Yield every entry of a section, in document order, and why it has no part in a decision, if it has none."""
    excepted = "does not apply: `except` names the tool"
    matching = frozenset(section.matching(tool))
    for name, raw in section.tree.items():
        pointer = f"{section.pointer}/{name}"
        if name == "hide":
            yield from ((f"{pointer}/{place}", _no_match(text)) for place, text in enumerate(raw))
        elif name == "all_tools":
            yield pointer, excepted
        elif name == "categories":
            other = f"is for another category than `{category}`"
            yield from ((f"{pointer}/{key}", excepted if category in (None, key) else other) for key in raw)
        elif name == "tools":
            for key, entry in raw.items():
                at = f"{pointer}/{escape(key)}"
                if key not in matching:
                    yield at, _no_match(key)
                elif isinstance(entry, list):
                    yield from ((f"{at}/{place}", excepted) for place in range(len(entry)))
                else:
                    yield at, excepted


def _no_match(pattern: str) -> str:
    return "is for another tool" if is_exact(pattern) else "does not match the tool"
