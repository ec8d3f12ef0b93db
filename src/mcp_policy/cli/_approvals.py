"""Approvals, for people and for programs.

Rules kept here:

- Every text of a call is somebody else's: it shows, forges no line, and is cut where a line holds several.
- Ids are never cut: they are there to be copied.
- Arguments are there where they are asked for, and only then.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from mcp_policy.errors import readable

from ._render import Block, Cell, Code, Facts, Section, Style, Text, cells, json_text, visible

if TYPE_CHECKING:
    from mcp_policy.approvals import Approval

Line: TypeAlias = Sequence[Cell]

STYLES: Final[dict[str, Style]] = {"pending": "medium", "approved": "good", "rejected": "bad"}
_LONGEST: Final = 60  # characters of a text among others, without those of escapes
_UNITS: Final = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))


def as_data(record: Approval, *, arguments: bool = False) -> dict[str, Any]:
    """Return a record as JSON can hold it."""
    data: dict[str, Any] = {
        "id": record.id,
        "status": record.status,
        "tool": record.tool,
        "server": record.server,
        "principal": record.principal,
        "session": record.session,
        "rules": record.rules,
        "reason": record.reason,
        "created": iso(record.created_at),
        "expires": iso(record.expires_at),
        "needed": record.needed,
        "approvers": record.approvers,
        "votes": [{"by": vote.by, "at": iso(vote.at), "note": vote.note} for vote in record.votes],
        "decided_by": record.decided_by,
        "decided_at": None if record.decided_at is None else iso(record.decided_at),
        "policy": record.policy,
    }
    return data | ({"arguments": record.arguments} if arguments else {})


def as_json(data: Any, indent: int | None = None) -> str:
    """Return JSON text; a Decimal among arguments becomes a string, which is exact."""
    return json.dumps(data, indent=indent, default=str) + "\n"


def table(records: Sequence[Approval], now: float) -> Iterator[Line]:
    """Yield a line for each record, below one with what stands in it."""
    rows = [tuple(name for name, _ in _COLUMNS), *(_row(record, now) for record in records)]
    wide = [max(cells(visible(row[column])) for row in rows) for column in range(len(_COLUMNS))]
    for place, row in enumerate(rows):
        yield [
            Text(text + " " * (size - cells(visible(text)) + 2), "muted" if place == 0 else meaning)
            for text, size, (_, meaning) in zip(row, wide, _COLUMNS, strict=True)
        ]


def section(record: Approval, now: float, *, arguments: bool) -> Section:
    """Return everything about a record."""
    said = "" if record.decided_by is None else f" by {record.decided_by}"
    rows: list[tuple[str, Cell]] = [
        ("status", Text(f"{record.status}{said}", STYLES[record.status])),
        ("tool", Text(record.tool, "name")),
        ("server", record.server or "-"),
        ("asked by", who(record)),
        ("session", record.session or "-"),
        ("reason", record.reason or "-"),
        *(("rule", rule) for rule in record.rules),
        ("asked", f"{iso(record.created_at) or '?'}, {spoken(now - record.created_at)} ago"),
        ("expires", f"{iso(record.expires_at) or 'never'}, in {spoken(record.expires_at - now)}"),
        ("approvals", progress(record)),
    ]
    if record.approvers is not None:
        rows.append(("who may decide", ", ".join(record.approvers)))
    rows += [("said", f"{vote.by}, {iso(vote.at)}{': ' if vote.note else ''}{vote.note}") for vote in record.votes]
    rows.append(("policy", record.policy or "-"))
    if not arguments:
        return Section(record.id, [Facts([*rows, ("arguments", Text("--arguments shows them", "muted"))])])
    shown: list[Block] = [Facts(rows), Section("arguments", [Code(json_text(json.loads(as_json(record.arguments))))])]
    return Section(record.id, shown)


def told(kind: str, record: Approval, now: float) -> Line:
    """Return what happened to a record, in pieces of a line that are safe to print as they are."""
    line = (Text(kind.ljust(8), STYLES.get(kind, "muted")), "  ", Text(visible(record.id), "name"), "  ")
    last = record.votes[-1] if record.votes else None
    if kind == "pending":
        where = f" of `{readable(record.server)}`" if record.server else ""
        asks = f" for `{readable(who(record))}`"
        rest = f"{where}{asks}, expires in {spoken(record.expires_at - now)}: {cut(record.reason)}"
    elif last is not None and kind in {"voted", "approved", "rejected"}:
        share = f" ({progress(record)} approvals)" if kind == "voted" else ""
        rest = f" by `{readable(last.by)}`{share}{': ' if last.note else ''}{last.note}"
    else:
        rest = ""
    return (*line, visible(f"`{readable(record.tool)}`{rest}"))


def who(record: Approval) -> str:
    """Return who asks, in a line."""
    asks = record.principal
    if asks is None or not asks.get("id"):
        return "-"
    more = ", ".join(f"{name} {asks[name]}" for name in ("issuer", "client") if asks.get(name))
    return f"{asks['id']} ({more})" if more else str(asks["id"])


def progress(record: Approval) -> str:
    """Return how many have approved, of how many that have to."""
    approvals = len(record.votes) - (record.status == "rejected")
    return f"{approvals} of {record.needed}"


def spoken(seconds: float) -> str:
    """Return a time in its two largest units, rounded down: `1h30m`; what is over is `0s`."""
    if not seconds < _UNITS[0][1] * 10_000:
        return "years"
    left = int(max(0.0, seconds))
    said: list[str] = []
    for name, size in _UNITS:
        count, left = divmod(left, size)
        if count or said:
            said.append(f"{count}{name}" if count else "")
    return "".join(said[:2]) or "0s"


def iso(seconds: float) -> str | None:
    """Return a time of a shared store as the time of day, None where no calendar has it."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    except (OSError, OverflowError, ValueError):
        return None


def cut(text: str) -> str:
    """Return a text as it stands among others."""
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


_COLUMNS: Final[tuple[tuple[str, Style], ...]] = (
    ("id", "name"),
    ("tool", "plain"),
    ("server", "plain"),
    ("principal", "plain"),
    ("approvals", "plain"),
    ("age", "plain"),
    ("expires in", "plain"),
    ("rule", "muted"),
    ("reason", "plain"),
)


def _row(record: Approval, now: float) -> tuple[str, ...]:
    more = f" (+{len(record.rules) - 1})" if len(record.rules) > 1 else ""
    return (
        record.id,
        cut(record.tool),
        cut(record.server or "-"),
        cut(who(record)),
        progress(record),
        spoken(now - record.created_at),
        spoken(record.expires_at - now),
        cut(record.rules[0] if record.rules else "-") + more,
        cut(record.reason),
    )
