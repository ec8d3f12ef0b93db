"""A finding on a terminal, coloured by what each text means. Importing this needs the extra `rich`."""

from __future__ import annotations

import sys
from typing import Final

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.syntax import Syntax
from rich.table import Table as Grid
from rich.text import Text as Line

from ._render import Cell, Code, Facts, Items, Section, Style, Table, numeric, printable, style, visible, visible_lines
from ._render import words as words_of

_STYLES: Final[dict[Style, str]] = {
    "plain": "",
    "name": "bold",
    "low": "green",
    "medium": "yellow",
    "high": "bold bright_red",
    "critical": "bold white on red",
    "good": "green",
    "bad": "bold red",
    "muted": "dim",
}
_TITLES: Final = {1: "bold", 2: "bold cyan"}


def show(section: Section) -> None:
    """Print a section to standard output."""
    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    console.print(_section(section, 1))


def _section(section: Section, depth: int) -> RenderableType:
    title = Line(_safe(visible(section.title)), style=_TITLES.get(depth, "bold"))
    parts: list[RenderableType] = [title]
    for block in section.blocks:
        if depth < 3 or parts[1:]:
            parts.append("")
        parts.append(_section(block, depth + 1) if isinstance(block, Section) else _block(block))
    return Group(*parts)


def _block(block: Cell | Facts | Items | Table | Code) -> RenderableType:
    match block:
        case Facts(rows):
            grid = Grid.grid(padding=(0, 2, 0, 0))
            grid.add_column(no_wrap=True)
            grid.add_column()
            for label, value in rows:
                grid.add_row(Line(_safe(visible(label)), style="dim"), _line(value))
            return grid
        case Items(items):
            grid = Grid.grid(padding=(0, 1, 0, 0))
            for item in items:
                grid.add_row(Line("-", style="dim"), _line(item))
            return grid
        case Table():
            return _table(block)
        case Code(text, language):
            code = Syntax(_safe(visible_lines(text)), language, theme="ansi_dark", background_color="default")
            return Padding(code, (0, 0, 0, 4))
        case _:
            return _line(block)


def _table(table: Table) -> RenderableType:
    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="dim")
    for name, right in zip(table.columns, numeric(table), strict=True):
        grid.add_column(Line(_safe(visible(name))), justify="right" if right else "left", overflow="fold")
    for row in table.rows:
        grid.add_row(*(_line(cell) for cell in row))
    return grid


def _line(cell: Cell) -> Line:
    return Line(_safe(words_of(cell)), style=_STYLES[style(cell)])


def _safe(text: str) -> str:
    return printable(text, sys.stdout)
