"""Lines on standard output: coloured where a person looks and `rich` is installed, plain everywhere else.

Rules kept here:

- A piece of a line is somebody else's text: every character of it shows, and none of it ends the line.
- Output that is piped, or that `NO_COLOR` or `TERM=dumb` speaks for, has no escape sequence at all.
- A reader who has seen enough (`| head`) is no failure; a disk that is full is one, and is said.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import TextIO

from ._exits import FAILED, Stop
from ._render import Cell, Text, printable, style, visible


def write_lines(lines: Iterable[Sequence[Cell]]) -> None:
    """Print lines, each of them the pieces that it is made of."""
    shown = [[Text(_piece(cell), style(cell)) for cell in line] for line in lines]
    if not (in_colour(sys.stdout) and _with_rich(shown)):
        write_text("".join(f"{''.join(text for text, _ in line).rstrip()}\n" for line in shown))


def write_text(text: str) -> None:
    """Print text that is safe to show, such as JSON. Raises `Stop` where standard output does not take it."""
    try:
        write_now(text)
    except BrokenPipeError:
        abandon(sys.stdout)


def write_now(text: str) -> None:
    """As `write_text`, for what goes on and on: a reader who has left ends it. Raises `BrokenPipeError`, too."""
    try:
        sys.stdout.write(printable(text, sys.stdout))
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        abandon(sys.stdout)
        raise unwritable(error) from None


def in_colour(stream: TextIO) -> bool:
    """Return whether a person looks at a stream and wants colours."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def abandon(stream: TextIO) -> None:
    """Send what a stream still holds nowhere: Python flushes once more at its end, which must not fail again."""
    try:
        number = stream.fileno()
    except (OSError, ValueError):
        return  # not a stream of the system
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)


def unwritable(error: OSError) -> Stop:
    """Return what ends a command whose output cannot be written."""
    why = os.strerror(error.errno).lower() if error.errno else str(error)
    return Stop(FAILED, f"standard output cannot be written: {why}")


def _piece(cell: Cell) -> str:
    """Return the text of a piece as it shows, with the spaces around it: they set it apart from its neighbours."""
    text = cell.text if isinstance(cell, Text) else str(cell)
    inner = text.strip(" ")
    before = text[: len(text) - len(text.lstrip(" "))]
    return before + visible(inner) + text[len(before) + len(inner) :]


def _with_rich(lines: Sequence[Sequence[Text]]) -> bool:
    try:
        from rich.console import Console
        from rich.text import Text as Line

        from ._terminal import _STYLES
    except ImportError:
        return False
    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    for line in lines:
        pieces = [(printable(text, sys.stdout), _STYLES[meaning]) for text, meaning in line]
        console.print(Line.assemble(*pieces), soft_wrap=True)
    return True
