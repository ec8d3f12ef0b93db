"""The tables: on a terminal, as plain text, and as Markdown for the documentation."""

from __future__ import annotations

import sys
from typing import NamedTuple

from items import Item

BAR = 20


class Row(NamedTuple):
    """One library on one work. `ratio` is None where its language has no words for it."""

    work: str
    library: str
    ratio: float | None
    microseconds: float | None
    mistakes: list[str]

    @property
    def verdict(self) -> str:
        if self.ratio is None:
            return "cannot say it"
        return f"wrong: {', '.join(self.mistakes)}" if self.mistakes else "right"


ITEM_HEAD = ["item", "measured", "bound", ""]
ROW_HEAD = ["work", "library", "× floor", "µs", "× ours", "answers"]
LEFT = {"item", "work", "library", "answers", "", "of the bound"}


def tables(head: str, items: list[Item], rows: list[Row]) -> None:
    """With colours where rich is installed and someone is looking, aligned text elsewhere."""
    lines = [[item.name, number(item), bound(item), verdict(item)] for item in items]
    show = rich_table if sys.stdout.isatty() and has_rich() else plain_table
    print(head)
    show("Bounds", ITEM_HEAD, lines)
    show("The same work elsewhere", ROW_HEAD, peer_lines(rows))


def markdown(head: str, items: list[Item], rows: list[Row]) -> None:
    """Tables with a bar for how much of its bound each item uses."""
    print(f"{head[0].upper()}{head[1:]}.\n")
    lines = [[item.name, number(item), bound(item), bar(item)] for item in items]
    markdown_table([*ITEM_HEAD[:3], "of the bound"], lines)
    markdown_table(ROW_HEAD, peer_lines(rows))


def number(item: Item) -> str:
    return f"{item.value:.0f} {item.unit}" if item.value >= 100 else f"{item.value:.2f} {item.unit}"


def bound(item: Item) -> str:
    return "" if item.bound is None else f"{item.bound:g}"


def verdict(item: Item) -> str:
    if item.bound is None:
        return ""
    return "ok" if item.holds else "over"


def bar(item: Item) -> str:
    if item.bound is None:
        return ""
    filled = min(BAR, round(max(item.value, 0) / item.bound * BAR))
    return f"`{'█' * filled}{'░' * (BAR - filled)}` {item.value / item.bound:.0%}"


def peer_lines(rows: list[Row]) -> list[list[str]]:
    ours = {row.work: row.ratio for row in rows if row.library == "mcp-policy"}
    return [peer_line(row, ours[row.work]) for row in rows]


def peer_line(row: Row, ours: float | None) -> list[str]:
    if row.ratio is None or row.microseconds is None or ours is None:
        return [row.work, row.library, "", "", "", row.verdict]
    times = f"{row.ratio:,.1f}", f"{row.microseconds:,.2f}", f"{row.ratio / ours:,.1f}"
    return [row.work, row.library, *times, row.verdict]


def has_rich() -> bool:
    try:
        import rich  # noqa: F401
    except ImportError:
        return False
    return True


def rich_table(title: str, head: list[str], lines: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for name in head:
        table.add_column(name, justify="left" if name in LEFT else "right")
    for line in lines:
        colour = "red" if line[-1] == "over" else "yellow" if line[-1].startswith(("wrong", "cannot")) else None
        table.add_row(*line, style=colour)
    Console().print(table)


def plain_table(title: str, head: list[str], lines: list[list[str]]) -> None:
    widths = [max(len(line[place]) for line in [head, *lines]) for place in range(len(head))]
    print(f"\n{title}\n")
    for line in [head, *lines]:
        cells = zip(line, widths, head, strict=True)
        print(
            "  ".join(cell.ljust(width) if name in LEFT else cell.rjust(width) for cell, width, name in cells).rstrip()
        )


def markdown_table(head: list[str], lines: list[list[str]]) -> None:
    print(f"| {' | '.join(head)} |")
    print(f"| {' | '.join('---' if name in LEFT else '--:' for name in head)} |")
    for line in lines:
        print(f"| {' | '.join(line)} |")
    print()
