"""An explanation as a tree: what there is, how it came out, and what was found, in columns.

Rules kept here: no line is cut, one that is too long pushes its columns to the right; box characters stand only where
the output can write them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from ._decisions import Line, Places
from ._render import Style, Text, cells, visible

if TYPE_CHECKING:
    from mcp_policy.explain import Node, Tone

_STYLES: Final[dict[Tone, Style]] = {"good": "good", "bad": "bad", "plain": "plain", "muted": "muted"}
_WIDEST: Final = (64, 60)
"""As far as the first two columns make room for a long line."""
_ASCII: Final = str.maketrans({"├": "|", "└": "`", "│": "|", "─": "-"})


class _Row(NamedTuple):
    """A line of a tree: the branches before it, and its columns."""

    branches: tuple[str, ...]
    text: str
    says: str
    note: str
    tone: Tone
    open: bool
    """Whether something stands below it."""


def tree(nodes: Sequence[Node], places: Places) -> Iterator[Line]:
    """Yield the lines of a tree, with the places in its file of what has one."""
    rows = list(_rows(nodes, (), places))
    wide = (
        min(_WIDEST[0], max((_reach(row) for row in rows), default=0)),
        min(_WIDEST[1], max((cells(row.says) for row in rows), default=0)),
    )
    plain = _is_plain()
    for row in rows:
        style = _STYLES[row.tone]
        yield (
            *(Text(branch.translate(_ASCII) if plain else branch, "muted") for branch in row.branches),
            Text(row.text, "name" if row.open and style != "muted" else "muted" if style == "muted" else "plain"),
            " " * (max(wide[0] - _reach(row), 0) + 2) if row.says or row.note else "",
            Text(row.says, style),
            " " * (max(wide[1] - cells(row.says), 0) + 2) if row.note else "",
            Text(row.note, "muted"),
        )


def pointers(nodes: Sequence[Node]) -> Iterator[str]:
    """Yield the places in the document that a tree speaks of."""
    for node in nodes:
        yield node.pointer
        yield from pointers(node.children)


def _rows(nodes: Sequence[Node], before: tuple[str, ...], places: Places) -> Iterator[_Row]:
    from mcp_policy.explain import branches

    for branch, further, node in branches(nodes):
        place = places.get(node.pointer, "") if node.text != "when" else ""
        note = ", ".join(part for part in (node.note, place) if part)
        yield _Row((*before, branch), visible(node.text), visible(node.says), note, node.tone, bool(node.children))
        yield from _rows(node.children, (*before, further), places)


def _reach(row: _Row) -> int:
    return 3 * len(row.branches) + cells(row.text)


def _is_plain() -> bool:
    """Return whether the output cannot write box characters."""
    try:
        "├└│─".encode(sys.stdout.encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return True
    return False
