"""Records of decisions as lines: a table for people, JSON for programs.

What stands in a record may be anything: it shows, forges no line, and is cut where a line holds several texts.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from ._audit_files import parsed
from ._render import Style, Text, cells, visible

_LONGEST: Final = 48  # characters of a text among others
_COLUMNS: Final = ("record", "time", "", "tool", "who", "why", "rule")
_STYLES: Final[dict[str, Style]] = {
    "allow": "good",
    "approved": "good",
    "deny": "bad",
    "rejected": "bad",
    "limit": "medium",
    "approve": "medium",
}

Row = tuple[str, ...]


def printer(first: Iterable[bytes], *, as_json: bool) -> Callable[[Iterable[bytes]], None]:
    """Return what prints records; in a table, the `first` ones say how wide its columns are."""
    if as_json:
        from ._style import write_now

        return lambda found: write_now("".join(_json(line) for line in found))
    rows = [_COLUMNS, *map(_row, first)]
    wide = [max(cells(text) for text in column) for column in zip(*rows, strict=True)]
    header = [_COLUMNS]

    def show(found: Iterable[bytes]) -> None:
        _print([_line(row, wide) for row in (*header, *map(_row, found))])
        header.clear()

    return show


def _json(line: bytes) -> str:
    record = parsed(line)
    return json.dumps({"unreadable": len(line)} if record is None else record) + "\n"


def _row(line: bytes) -> Row:
    record = parsed(line) or {}
    seq, time = record.get("seq"), record.get("time")
    when = time.partition(".")[0] if isinstance(time, str) else "-"
    row = (seq if isinstance(seq, int) else "-", when, *_KINDS.get(str(record.get("kind")), _unknown)(record))
    return tuple(_cut(one) for one in row)


def _decision(record: dict[str, Any]) -> tuple[Any, ...]:
    codes, rules = _texts(record.get("codes")), _texts(record.get("rules"))
    why = ", ".join(dict.fromkeys(codes))
    if record.get("would_be") is not None and record["would_be"] != record.get("effect"):
        shadow = record.get("shadow")
        reasons = [one for one in shadow if isinstance(one, dict)] if isinstance(shadow, list) else []
        why = (
            f"in shadow {record['would_be']}: {', '.join(dict.fromkeys(_texts([one.get('code') for one in reasons])))}"
        )
        rules = _texts([one.get("rule") for one in reasons])
    principal = record.get("principal")
    who = principal.get("id") if isinstance(principal, dict) else None
    return record.get("effect"), _tool(record), who, why, rules[0] if rules else None


def _answer(record: dict[str, Any]) -> tuple[Any, ...]:
    said = "approved" if record.get("approved") is True else "rejected"
    note = record.get("note")
    why = f"{record.get('status')}: {note}" if note else record.get("status")
    return said, _tool(record), record.get("by"), why, None


def _recovered(record: dict[str, Any]) -> tuple[Any, ...]:
    dropped = record.get("dropped")
    what = f"{dropped} bytes of a line without its end were cut off" if dropped else "half of its head was lost"
    return "-", None, None, what, None


def _unknown(_: dict[str, Any]) -> tuple[Any, ...]:
    return "-", None, None, "this line is no record", None


_KINDS: Final = {"decision": _decision, "answer": _answer, "recovered": _recovered}


def _tool(record: dict[str, Any]) -> Any:
    server = record.get("server")
    return record.get("tool") if server is None else f"{server}: {record.get('tool')}"


def _texts(found: Any) -> list[str]:
    return [one for one in found if isinstance(one, str)] if isinstance(found, list) else []


def _cut(value: Any) -> str:
    text = "-" if value is None or value == "" else visible(str(value)[: 4 * _LONGEST])
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


# -- printing


def _line(row: Row, wide: Sequence[int]) -> Sequence[Text]:
    meaning: Style = "muted" if row is _COLUMNS else "plain"
    return [
        Text(text + " " * (max(0, size - cells(text)) + 2), _STYLES.get(text, "plain") if place == 2 else meaning)
        for place, (text, size) in enumerate(zip(row, wide, strict=True))
    ]


def _print(lines: Sequence[Sequence[Text]]) -> None:
    from ._style import in_colour, write_lines, write_now

    if in_colour(sys.stdout):
        write_lines(lines)
    else:
        write_now("".join(f"{''.join(piece.text for piece in line).rstrip()}\n" for line in lines))
