"""Tables: many cases that differ in a few values, one a row.

A column is a path of the policy language (`args.amount`, `principal.id`, `context.time.hour`, `tool.name`), which says
where its cells go in the call; or the name of an expectation (`effect`, `codes`, ...), or `name`. What all rows share
stands in the table's own `call` and `expect`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from ..errors import readable
from ..paths import Path, parse_path

Tree: TypeAlias = dict[str, Any]

EXPECTATIONS: Final = ("effect", "codes", "rules", "message", "retry_after", "remaining", "would_be")
"""What can be expected of a decision."""

NULL_SAYS: Final = frozenset({"retry_after", "would_be"})
"""Expectations for which null is a value: never, and nothing. In a table null leaves the others out."""

_PLACES: Final = {
    "args": ("arguments",),
    "context": ("context",),
    "principal.claims": ("principal", "claims"),
    "principal.id": ("principal", "id"),
    "principal.issuer": ("principal", "issuer"),
    "principal.client": ("principal", "client"),
    "principal.roles": ("principal", "roles"),
    "principal.scopes": ("principal", "scopes"),
    "session.id": ("session",),
    "server.name": ("server",),
    "tool.name": ("tool",),
}
"""Where a case's `call` keeps what a path of the policy language begins with."""


class Row(NamedTuple):
    """One row, made into what a case needs: its call and expectations, and the column that each expectation is in."""

    number: int
    name: str
    call: Tree
    expect: Tree
    columns: dict[str, int]


def column_path(text: str) -> tuple[str, ...]:
    """Return the keys that lead to a column's value in a `call`. Raises `ValueError`, with the reason."""
    path: Path = parse_path(text)
    if path.root not in _PLACES:
        raise ValueError(f"`{path.root}` is looked up by server and tool; a call does not bring it")
    steps = [step for step in path.steps if isinstance(step, str)]
    if len(steps) != len(path.steps):
        raise ValueError(f"`{readable(text)}` names a part of a list; write the whole list in the cells")
    return (*_PLACES[path.root], *steps)


def rows_of(raw: Tree) -> Iterator[Row]:
    """Yield the rows of a table that is right."""
    columns: list[str] = raw["columns"]
    places = [None if name in EXPECTATIONS or name == "name" else column_path(name) for name in columns]
    for number, cells in enumerate(raw["rows"]):
        yield _row(raw, number, columns, places, cells)


def _row(
    raw: Tree, number: int, columns: Sequence[str], places: Sequence[tuple[str, ...] | None], cells: Sequence[Any]
) -> Row:
    name, call, expect, stated = f"{raw['name']}[{number}]", _held(raw.get("call", {})), {}, {}
    for column, (title, place, cell) in enumerate(zip(columns, places, cells, strict=True)):
        if place is not None:
            _put(call, place, cell)
        elif title == "name":
            name = f"{raw['name']}: {cell}"
        elif cell is not None or title in NULL_SAYS:
            expect[title] = cell
            stated[title] = column
    return Row(number, name, call, expect, stated)


def _held(value: Any) -> Any:
    """Return a copy of objects in objects: what a cell is put into."""
    return {key: _held(item) for key, item in value.items()} if isinstance(value, dict) else value


def _put(call: Tree, place: tuple[str, ...], cell: Any) -> None:
    *above, last = place
    for key in above:
        below = call.get(key)
        if not isinstance(below, dict):
            below = call[key] = {}
        call = below
    call[last] = cell
