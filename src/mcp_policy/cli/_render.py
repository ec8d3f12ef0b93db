"""What a command has found, as text, JSON, Markdown or HTML.

A command makes one `Section` for people and one JSON value for programs; `write` prints the one that was asked for.

Rules kept here:

- Every text is somebody else's: a server's name for a tool, a word of its description. Each format shows it as text.
  It cannot move the cursor, turn the writing round, hide, open a link or become markup.
- A page needs nothing but itself: no link, font, image or script from anywhere.
- The same finding gives the same bytes, whoever looks; only a terminal has colours and a width.
- A reader who has seen enough (`| head`) is no failure.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal, NamedTuple, TextIO, TypeAlias
from unicodedata import category, east_asian_width

Format: TypeAlias = Literal["text", "json", "markdown", "html"]
FORMATS: Final[tuple[Format, ...]] = ("text", "json", "markdown", "html")

Style: TypeAlias = Literal["plain", "name", "low", "medium", "high", "critical", "good", "bad", "muted"]
"""What a text means, which is what decides its colour: a risk level, the name of something, good or bad news."""


class Text(NamedTuple):
    """A text with a meaning. Plain `str` and `int` stand for texts without one."""

    text: str
    style: Style = "plain"


Cell: TypeAlias = str | int | Text


class Facts(NamedTuple):
    """Labels, each with its value."""

    rows: Sequence[tuple[str, Cell]]


class Items(NamedTuple):
    """A list with bullets."""

    items: Sequence[Cell]


class Table(NamedTuple):
    """Rows of as many cells as there are columns. Columns of nothing but numbers stand to the right."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]


class Code(NamedTuple):
    """Lines that somebody may copy, such as a policy document; line feeds stay, other control characters do not."""

    text: str
    language: str = "json"


class Section(NamedTuple):
    """A title and what stands below it, further sections too. A cell that stands alone is a paragraph."""

    title: str
    blocks: Sequence[Block]


Block: TypeAlias = Cell | Facts | Items | Table | Code | Section


def add_format(parser: argparse.ArgumentParser) -> None:
    """Declare `--format`."""
    parser.add_argument(
        "--format", choices=FORMATS, default="text", help="how to print what was found (default: %(default)s)"
    )


def write(section: Section, data: Any, format: Format) -> None:
    """Print a finding to standard output: `data` as JSON, or `section` as anything else."""
    terminal = format == "text" and sys.stdout.isatty()
    try:
        if not (terminal and _in_colour(section)):
            sys.stdout.write(printable(render(section, data, format), sys.stdout))
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read has gone. Python flushes once more at the end, which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def render(section: Section, data: Any, format: Format) -> str:
    """Return a finding in one of the formats, as text that ends with a line feed."""
    if format == "json":
        return json.dumps(data, indent=2) + "\n"
    if format == "html":
        from ._html import html

        return html(section)
    if format == "markdown":
        return _joined(_markdown(section, 1))
    return _joined(_plain(section, 1))


def printable(text: str, stream: TextIO) -> str:
    """Return the text with what a stream cannot write as escapes."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def visible(text: str) -> str:
    r"""Return a text on one line in which every character shows: a zero-width space is shown as `\u200b`."""
    return _ODD.sub(_shown, _SPACE.sub(" ", text)).strip()


def visible_lines(text: str) -> str:
    """Return `visible` of every line of a text, with the spaces at their start."""
    return "\n".join(_ODD.sub(_shown, line) for line in text.split("\n"))


def json_text(value: Any, before: str = "", *, whole: bool = True) -> str:
    """Return JSON for people: what fits on a line stands on one, except the value as a whole."""
    short = json.dumps(value)
    if not isinstance(value, dict | list) or not value or (not whole and len(before) + len(short) <= _JSON_WIDTH):
        return short
    further = before + "  "
    if isinstance(value, dict):
        parts = [f"{json.dumps(key)}: {json_text(part, further, whole=False)}" for key, part in value.items()]
    else:
        parts = [json_text(part, further, whole=False) for part in value]
    inside = ",\n".join(further + part for part in parts)
    return f"{'{['[isinstance(value, list)]}\n{inside}\n{before}{'}]'[isinstance(value, list)]}"


def words(cell: Cell) -> str:
    """Return the text of a cell, every character of which shows."""
    return visible(cell.text if isinstance(cell, Text) else str(cell))


def style(cell: Cell) -> Style:
    """Return the meaning of a cell."""
    return cell.style if isinstance(cell, Text) else "plain"


def numeric(table: Table) -> list[bool]:
    """Return for each column whether it holds nothing but numbers."""
    return [bool(table.rows) and all(_NUMBER.fullmatch(words(row[i])) for row in table.rows) for i in _columns(table)]


_JSON_WIDTH: Final = 80
_SPACE: Final = re.compile(r"[ \t\n\r\f\v]+")
_NUMBER: Final = re.compile(r"[0-9][0-9,.]* ?%?|[-–]?")
# Controls, formats (bidi, zero width, tags), surrogates, private, unassigned, line separators; then empty letters.
_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_FILLERS: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u2800\u3164\uffa0")
_ODD: Final = re.compile(r"[^\x20-\x7e]")


def _shown(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    selector = 0xFE00 <= code <= 0xFE0F or 0xE0100 <= code <= 0xE01EF
    if category(character) not in _HIDDEN and character not in _FILLERS and not selector:
        return character
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _joined(lines: Iterator[str]) -> str:
    return "\n".join(lines) + "\n"


def _columns(table: Table) -> range:
    return range(len(table.columns))


# -- plain text

_WIDTH: Final = 100
_RULES: Final = {1: "=", 2: "-"}


def _plain(section: Section, depth: int) -> Iterator[str]:
    title = visible(section.title)
    yield title
    if depth in _RULES:
        yield _RULES[depth] * cells(title)
    for index, block in enumerate(section.blocks):
        if index or depth in _RULES:
            yield ""
        yield from _plain(block, depth + 1) if isinstance(block, Section) else _plain_block(block)


def _plain_block(block: Cell | Facts | Items | Table | Code) -> Iterator[str]:
    match block:
        case Facts(rows):
            wide = max((cells(visible(label)) for label, _ in rows), default=0)
            for label, value in rows:
                yield from _wrapped(words(value), f"{_padded(visible(label), wide)}  ")
        case Items(items):
            for item in items:
                yield from _wrapped(words(item), "- ")
        case Table():
            yield from _plain_table(block)
        case Code(text):
            yield from (f"    {line}".rstrip() for line in visible_lines(text).splitlines())
        case _:
            yield from _wrapped(words(block), "")


def _wrapped(text: str, before: str) -> Iterator[str]:
    lines = textwrap.wrap(
        text, _WIDTH, initial_indent=before, subsequent_indent=" " * cells(before), break_on_hyphens=False
    )
    yield from lines or [before.rstrip()]


def _plain_table(table: Table) -> Iterator[str]:
    """Every row is one line, however long: lines can be searched, sorted and cut."""
    rows = [[visible(name) for name in table.columns], *([words(cell) for cell in row] for row in table.rows)]
    wide = [max(cells(row[i]) for row in rows) for i in _columns(table)]
    right = numeric(table)
    rows.insert(1, ["-" * size for size in wide])
    for row in rows:
        yield "  ".join(_padded(text, wide[i], right=right[i]) for i, text in enumerate(row)).rstrip()


def _padded(text: str, size: int, *, right: bool = False) -> str:
    space = " " * (size - cells(text))
    return space + text if right else text + space


def cells(text: str) -> int:
    """Return how many columns of a terminal a visible text takes."""
    return len(text) if text.isascii() else sum(2 if east_asian_width(one) in "FW" else 1 for one in text)


# -- Markdown

# What Markdown and its dialects read in the middle of a line: code, emphasis, HTML, links and bare addresses, tables,
# mentions, formulas. An underscore inside a word is none of it.
_ACTIVE: Final = re.compile(
    r"[\\`*<>\[\]|~$@#^{}!=]|&(?=[#A-Za-z])|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|:(?=/)|(?<=www)\.", re.IGNORECASE
)
_AT_START: Final = re.compile(r"^(?:[-+]|\d{1,9}(?=[.)]))")


def _markdown(section: Section, depth: int) -> Iterator[str]:
    yield f"{'#' * min(depth, 6)} {_escaped(visible(section.title))}"
    for block in section.blocks:
        yield ""
        yield from _markdown(block, depth + 1) if isinstance(block, Section) else _markdown_block(block)


def _markdown_block(block: Cell | Facts | Items | Table | Code) -> Iterator[str]:
    match block:
        case Facts(rows):
            yield from (f"- **{_escaped(visible(label))}:** {_marked(value)}" for label, value in rows)
        case Items(items):
            yield from (f"- {_marked(item)}" for item in items)
        case Table(columns, rows):
            yield _row([_escaped(visible(name)) for name in columns])
            yield _row(["--:" if right else "---" for right in numeric(block)])
            yield from (_row([_marked(cell) for cell in row]) for row in rows)
        case Code(text, language):
            fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
            yield from (f"{fence}{language}", *visible_lines(text).splitlines(), fence)
        case _:
            yield _marked(block)


def _row(texts: list[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _marked(cell: Cell) -> str:
    text = words(cell)
    if style(cell) == "name" and text and not set(text) & {"`", "|", "\\"}:
        return f"`{text}`"
    return f"**{_escaped(text)}**" if style(cell) == "critical" else _escaped(text)


def _escaped(text: str) -> str:
    escaped = _ACTIVE.sub(r"\\\g<0>", text)
    start = _AT_START.match(escaped)
    if start is None:
        return escaped
    cut = start.end() if start[0].isdigit() else 0
    return f"{escaped[:cut]}\\{escaped[cut:]}"


def _in_colour(section: Section) -> bool:
    """Print to a terminal with rich, where it is installed."""
    try:
        from ._terminal import show
    except ImportError:
        return False
    show(section)
    return True
