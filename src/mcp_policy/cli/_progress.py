"""What happens while servers start, on standard error: live lines on a terminal with rich, else plain ones."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ._render import printable, visible

if TYPE_CHECKING:
    from ._listing import Listing, Report


@contextmanager
def progress(names: Sequence[str]) -> Iterator[Report]:
    """Show how far servers are for as long as the block runs; yields what wants to be told."""
    live = _live(names) if sys.stderr.isatty() else None
    if live is None:
        yield _line
        return
    display, report = live
    with display:
        yield report


def outcome(listing: Listing) -> str:
    """Return what became of a server, in a few words."""
    if listing.failure is not None:
        return f"failed: {listing.failure}"
    if listing.note is not None:
        return f"left out: {listing.note}"
    count = len(listing.tools)
    return f"{count} {'tool' if count == 1 else 'tools'} in {listing.seconds:.1f} s"


def _line(name: str, listing: Listing | None) -> None:
    said = "starting" if listing is None else outcome(listing)
    print(printable(f"{visible(name)}: {visible(said)}", sys.stderr), file=sys.stderr, flush=True)


def _live(names: Sequence[str]) -> tuple[Any, Report] | None:
    try:
        from rich.console import Console
        from rich.live import Live
        from rich.spinner import Spinner
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        return None
    states: dict[str, Any] = dict.fromkeys(names, Text("waiting", style="dim"))

    def drawn() -> Any:
        grid = Table.grid(padding=(0, 2, 0, 0))
        for name, state in states.items():
            grid.add_row(Text(visible(name), style="bold"), state)
        return grid

    def report(name: str, listing: Listing | None) -> None:
        if listing is None:
            states[name] = Spinner("dots", Text("starting"))
        else:
            style = "red" if listing.failure else "dim" if listing.note else "green"
            states[name] = Text(visible(outcome(listing)), style=style)

    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    return Live(get_renderable=drawn, console=console, refresh_per_second=8), report
