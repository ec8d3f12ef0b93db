"""What a scan has found, as data for programs and as a report for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

from ..catalogue.definition import Definition
from ..catalogue.drift import Change
from ..catalogue.judging import Known, Row, by_danger, rows_of
from ..catalogue.profile import CATEGORIES, LEVELS, RiskProfile
from ._listing import Listing
from ._render import Block, Facts, Section, Style, Table, Text


class Findings(NamedTuple):
    """All that a scan has found. `rows` have the most dangerous tools first; `changes` is None without a lock."""

    listings: tuple[Listing, ...]
    rows: tuple[Row, ...]
    changes: tuple[Change, ...] | None = None

    @property
    def failed(self) -> list[str]:
        """The servers that gave no list."""
        return [listing.server for listing in self.listings if listing.failure is not None]

    @property
    def answered(self) -> dict[str, tuple[dict[str, Any], ...]]:
        """The tools of each server that gave its list."""
        return {
            listing.server: listing.tools
            for listing in self.listings
            if listing.failure is None and listing.note is None
        }

    @property
    def judged(self) -> dict[str, list[tuple[RiskProfile, Definition]]]:
        """The same with what counts of each tool, in the order of their names."""
        servers: dict[str, list[tuple[RiskProfile, Definition]]] = {name: [] for name in self.answered}
        for row in self.rows:
            servers[row.server].append((row.profile, row.definition))
        return servers


def found(listings: Sequence[Listing], changes: Sequence[Change] | None = None) -> Findings:
    """Return what these listings show."""
    judged = (row for listing in listings for row in rows_of(listing.server, listing.tools, listing.introduced))
    rows = sorted(judged, key=by_danger)
    return Findings(tuple(listings), tuple(rows), None if changes is None else tuple(changes))


# -- for programs


def as_data(findings: Findings) -> dict[str, Any]:
    """Return the findings as plain JSON."""
    data: dict[str, Any] = {
        "version": "1",
        "servers": [_server_data(listing, findings.rows) for listing in findings.listings],
        "totals": {
            "tools": len(findings.rows),
            "categories": _totals(findings, "category"),
            "levels": _totals(findings, "level"),
            "warnings": sum(len(row.suspicions) for row in findings.rows),
        },
    }
    if findings.changes is not None:
        data["changes"] = [change._asdict() for change in findings.changes]
    return data


def _server_data(listing: Listing, rows: Sequence[Row]) -> dict[str, Any]:
    return {
        "server": listing.server,
        "introduced": listing.introduced or None,
        "failure": listing.failure,
        "note": listing.note,
        "tools": [_tool_data(row) for row in rows if row.server == listing.server],
    }


def _tool_data(row: Row) -> dict[str, Any]:
    profile = row.profile
    return {
        "tool": profile.tool,
        "category": profile.category,
        "level": profile.level,
        "confidence": round(profile.confidence, 2),
        "evidence": [list(sign) for sign in profile.evidence],
        "catalogue": row.known,
        "warnings": [suspicion._asdict() for suspicion in row.suspicions],
    }


def _totals(findings: Findings, part: Literal["category", "level"]) -> dict[str, int]:
    names: tuple[str, ...] = CATEGORIES if part == "category" else LEVELS
    counted = Counter(getattr(row.profile, part) for row in findings.rows)
    return {name: counted[name] for name in reversed(names) if counted[name]}


# -- for people

_SAID: Final[Mapping[str, str]] = {
    "server_gone": "server gone",
    "server_new": "new server",
    "gone": "gone",
    "new": "new",
    "description": "description",
    "schema": "schema",
    "annotations": "annotations",
    "risk_raised": "risk raised",
}


def as_report(findings: Findings) -> Section:
    """Return the findings as sections and tables."""
    count = len(findings.answered)
    title = f"{_many(len(findings.rows), 'tool')} of {_many(count, 'server')}"
    blocks: list[Block] = [Section("Totals", [_sums(findings)])]
    silent = [listing for listing in findings.listings if listing.failure is not None or listing.note is not None]
    if silent:
        rows = [(Text(listing.server, "name"), _fate(listing)) for listing in silent]
        blocks.append(Section("Servers without a list", [Table(("server", "why"), rows)]))
    if findings.changes is not None:
        blocks.append(Section("Changes since the lock file", [_drift(findings.changes)]))
    if findings.rows:
        blocks.append(Section("Tools, the most dangerous first", [_tools(findings)]))
    warned = [row for row in findings.rows if row.suspicions]
    blocks.append(Section("Warnings", [_warnings(warned) if warned else Text("none", "good")]))
    return Section(title, blocks)


def _sums(findings: Findings) -> Facts:
    def told(part: Literal["category", "level"]) -> str:
        return ", ".join(f"{count} {name}" for name, count in _totals(findings, part).items()) or "none"

    return Facts([("categories", told("category")), ("levels", told("level"))])


def _fate(listing: Listing) -> Text:
    return Text(listing.failure, "bad") if listing.failure is not None else Text(listing.note or "", "muted")


def _drift(changes: Sequence[Change]) -> Block:
    if not changes:
        return Text("none", "good")
    rows = [
        (Text(change.server, "name"), Text(change.tool, "name"), Text(_SAID[change.kind], "bad"), change.message)
        for change in changes
    ]
    return Table(("server", "tool", "change", "what"), rows)


def _tools(findings: Findings) -> Table:
    several = len(findings.listings) > 1
    columns = ("level", "category", *(("server",) if several else ()), "tool", "sure", "evidence", "catalogue")
    return Table(columns, [_tool_row(row, several=several) for row in findings.rows])


_KNOWN: Final[dict[Known, Style]] = {"known": "muted", "changed": "bad", "new": "plain"}


def _tool_row(row: Row, *, several: bool) -> tuple[Text | str, ...]:
    profile = row.profile
    return (
        Text(profile.level, profile.level),
        Text(profile.category, profile.level),
        *((row.server,) if several else ()),
        Text(profile.tool, "name"),
        f"{profile.confidence:.0%}",
        _evidence(profile),
        Text(row.known, _KNOWN[row.known]),
    )


def _evidence(profile: RiskProfile) -> str:
    """Return the sign that decided, and where it was found."""
    deciding = [sign for sign in profile.evidence if sign.suggests == profile.category] or list(profile.evidence)
    return f"{deciding[0].source}: {deciding[0].quote}" if deciding else "none"


def _warnings(rows: Sequence[Row]) -> Block:
    listed = [
        (Text(row.server, "name"), Text(row.profile.tool, "name"), warning.at, warning.message, warning.quote)
        for row in rows
        for warning in row.suspicions
    ]
    return Table(("server", "tool", "where", "what", "quote"), listed)


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
