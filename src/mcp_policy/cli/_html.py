"""A finding as one HTML page that fetches nothing, runs nothing and shows every text as text."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from html import escape
from typing import Final

from ._render import Cell, Code, Facts, Items, Section, Table, numeric, style, visible, visible_lines, words

_STYLE: Final = """\
:root { color-scheme: light dark; --line: light-dark(#d4d4d8, #3f3f46); --soft: light-dark(#f4f4f5, #27272a);
  --quiet: light-dark(#52525b, #a1a1aa); --low: light-dark(#15803d, #4ade80); --medium: light-dark(#854d0e, #facc15);
  --high: light-dark(#c2410c, #fb923c); --critical: light-dark(#b91c1c, #f87171); }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem;
  background: light-dark(#fff, #18181b); color: light-dark(#18181b, #f4f4f5); overflow-wrap: anywhere; }
h1, h2, h3, h4, h5, h6 { line-height: 1.2; margin: 1.8em 0 .6em; }
h1 { margin-top: 0; }
h2 { border-bottom: 1px solid var(--line); padding-bottom: .25em; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .35em .8em .35em 0; border-bottom: 1px solid var(--line); }
th { color: var(--quiet); font-weight: 600; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3em 1.2em; }
dt { color: var(--quiet); }
dd { margin: 0; }
pre { background: var(--soft); border: 1px solid var(--line); border-radius: 6px; padding: .8em 1em; overflow-x: auto; }
code, .name { font-family: ui-monospace, monospace; font-size: .92em; }
.low, .medium, .high, .critical, .good, .bad { font-weight: 600; }
.low, .good { color: var(--low); }
.medium { color: var(--medium); }
.high { color: var(--high); }
.critical, .bad { color: var(--critical); }
.muted { color: var(--quiet); }
"""

_HEAD: Final = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{title}</title>
<style>{style}</style>
</head>
<body>"""


def html(section: Section) -> str:
    """Return a page that shows the section."""
    digest = b64encode(sha256(_STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    head = _HEAD.format(policy=policy, title=_text(section.title), style=_STYLE)
    return "\n".join([head, *_section(section, 1), "</body>", "</html>", ""])


def _section(section: Section, depth: int) -> Iterator[str]:
    heading = f"h{min(depth, 6)}"
    yield "<section>"
    yield f"<{heading}>{_text(section.title)}</{heading}>"
    for block in section.blocks:
        yield from _section(block, depth + 1) if isinstance(block, Section) else _block(block)
    yield "</section>"


def _block(block: Cell | Facts | Items | Table | Code) -> Iterator[str]:
    match block:
        case Facts(rows):
            yield "<dl>"
            yield from (f"<dt>{_text(label)}</dt><dd>{_cell(value)}</dd>" for label, value in rows)
            yield "</dl>"
        case Items(items):
            yield "<ul>"
            yield from (f"<li>{_cell(item)}</li>" for item in items)
            yield "</ul>"
        case Table():
            yield from _table(block)
        case Code(text):
            yield f"<pre><code>{escape(visible_lines(text))}</code></pre>"
        case _:
            yield f"<p>{_cell(block)}</p>"


def _table(table: Table) -> Iterator[str]:
    sides = [' class="number"' if right else "" for right in numeric(table)]
    yield '<div class="wide"><table>'
    titles = (f"<th{side}>{_text(name)}</th>" for name, side in zip(table.columns, sides, strict=True))
    yield f"<thead><tr>{''.join(titles)}</tr></thead>"
    yield "<tbody>"
    for row in table.rows:
        shown = (f"<td{side}>{_cell(cell)}</td>" for cell, side in zip(row, sides, strict=True))
        yield f"<tr>{''.join(shown)}</tr>"
    yield "</tbody></table></div>"


def _cell(cell: Cell) -> str:
    text = escape(words(cell))
    return text if style(cell) == "plain" else f'<span class="{style(cell)}">{text}</span>'


def _text(text: str) -> str:
    return escape(visible(text))
