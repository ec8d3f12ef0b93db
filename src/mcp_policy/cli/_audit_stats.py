"""What a record of decisions adds up to.

However long the record is, and whatever names callers invent: of each kind of thing no more than `MOST` are counted
apart. Where there are more, the rarest go into one sum, and the counts of the rest may be too low.
"""

from __future__ import annotations

import sys
from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from ._audit_files import parsed
from ._render import Block, Cell, Facts, Section, Style, Table, Text

MOST: Final = 10_000
_SHOWN: Final = 10
_NAME: Final = 256  # characters
_BAR: Final = 30  # columns
_EFFECTS: Final[dict[str, Style]] = {"allow": "good", "deny": "bad", "limit": "medium", "approve": "medium"}

Names = tuple[str, ...]


class Tally:
    """How often each of several names was met."""

    def __init__(self) -> None:
        self._counts: Counter[Names] = Counter()
        self.others = 0
        """How many were met whose names were forgotten."""

    def add(self, *names: Any) -> None:
        """Count once."""
        self._counts[tuple(str(name)[:_NAME] for name in names)] += 1
        if len(self._counts) >= 2 * MOST:
            kept = Counter(dict(self._counts.most_common(MOST)))
            self.others += self._counts.total() - kept.total()
            self._counts = kept

    def top(self, most: int | None = None) -> list[tuple[Names, int]]:
        """Return the names and their counts, the most frequent first, equal ones by name."""
        return sorted(self._counts.items(), key=lambda one: (-one[1], one[0]))[:most]

    def __getitem__(self, names: Names) -> int:
        return self._counts[names]

    def __len__(self) -> int:
        return len(self._counts)


@dataclass
class Stats:
    """What was counted."""

    records: int = 0
    unreadable: int = 0
    recovered: int = 0
    since: str | None = None
    until: str | None = None
    effects: Counter[str] = field(default_factory=Counter)
    stopped: Tally = field(default_factory=Tally)
    """By server, tool and code."""
    limits: Tally = field(default_factory=Tally)
    """Calls that a limit has stopped, by rule."""
    uncounted: int = 0
    """Calls that a limit let through which could not count them."""
    asked: int = 0
    granted: int = 0
    rejected: int = 0
    used: int = 0
    people: Tally = field(default_factory=Tally)
    """Answers, by who gave it and which."""
    shadow: Tally = field(default_factory=Tally)
    """Calls that another effect would have met, by effect, server and tool."""
    waiting: OrderedDict[str, None] = field(default_factory=OrderedDict)
    """Approvals that were asked for: a call that waits asks again and again."""


def counted(lines: Iterable[bytes]) -> Stats:
    """Count the lines of a record."""
    stats = Stats()
    for line in lines:
        record = parsed(line)
        count = None if record is None else _KINDS.get(str(record.get("kind")))
        if record is None or count is None:
            stats.unreadable += 1
            continue
        stats.records += 1
        time = str(record.get("time"))[:_NAME]
        stats.since, stats.until = stats.since or time, time
        count(stats, record)
    return stats


def _decision(stats: Stats, record: dict[str, Any]) -> None:
    effect, where = str(record.get("effect")), _where(record)
    stats.effects[effect if effect in _EFFECTS else "other"] += 1
    approval = record.get("approval")
    if effect == "allow":
        stats.used += isinstance(approval, dict)
        stats.uncounted += any(one.get("available") is False for one in _dicts(record.get("limits")))
        would_be = record.get("would_be")
        if would_be is not None and would_be != effect:
            stats.shadow.add(would_be, *where)
        return
    for code in dict.fromkeys(_texts(record.get("codes"))):
        stats.stopped.add(*where, code)
    if effect == "limit":
        for rule in dict.fromkeys(_texts(record.get("rules"))):
            stats.limits.add(rule)
    if isinstance(approval, dict) and effect == "approve":
        _ask(stats, str(approval.get("id"))[:_NAME])


def _ask(stats: Stats, id: str) -> None:
    if id not in stats.waiting:
        stats.asked += 1
        stats.waiting[id] = None
        if len(stats.waiting) > MOST:
            stats.waiting.popitem(last=False)


def _answer(stats: Stats, record: dict[str, Any]) -> None:
    stats.people.add(record.get("by"), "approved" if record.get("approved") is True else "rejected")
    stats.granted += record.get("status") == "approved"
    stats.rejected += record.get("status") == "rejected"


def _recovered(stats: Stats, _: dict[str, Any]) -> None:
    stats.recovered += 1


_KINDS: Final = {"decision": _decision, "answer": _answer, "recovered": _recovered}


def _where(record: dict[str, Any]) -> tuple[str, str]:
    server = record.get("server")
    return "" if server is None else str(server), str(record.get("tool"))


def _texts(found: Any) -> list[str]:
    return [one for one in found if isinstance(one, str)] if isinstance(found, list) else []


def _dicts(found: Any) -> list[dict[str, Any]]:
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


# -- for programs


def data(stats: Stats) -> dict[str, Any]:
    """Return what was counted as JSON can hold it."""
    return {
        "records": stats.records,
        "unreadable": stats.unreadable,
        "recovered": stats.recovered,
        "from": stats.since,
        "to": stats.until,
        "decisions": {effect: stats.effects[effect] for effect in (*_EFFECTS, "other")},
        "stopped": _listed(stats.stopped, "server", "tool", "code"),
        "limits": _listed(stats.limits, "rule"),
        "uncounted": stats.uncounted,
        "approvals": {
            "asked": stats.asked,
            "granted": stats.granted,
            "rejected": stats.rejected,
            "used": stats.used,
            "answers": _listed(stats.people, "by", "said"),
        },
        "shadow": _listed(stats.shadow, "would_be", "server", "tool"),
    }


def _listed(tally: Tally, *columns: str) -> dict[str, Any]:
    top = [{**dict(zip(columns, names, strict=True)), "calls": count} for names, count in tally.top(_SHOWN)]
    return {"top": top, "kinds": len(tally), "others": tally.others}


# -- for people


def section(stats: Stats, title: str) -> Section:
    """Return what was counted, with bars where somebody looks."""
    rows: list[tuple[str, Cell]] = [("records", f"{stats.records:,}")]
    if stats.records:
        rows.append(("time", f"{stats.since} to {stats.until}"))
    if stats.unreadable:
        rows.append(("no records", Text(f"{stats.unreadable:,} lines: `mcp-policy audit verify` says more", "bad")))
    if stats.recovered:
        rows.append(("recovered", f"{stats.recovered:,} times, from a crash of what writes the record"))
    if stats.uncounted:
        rows.append(("uncounted", Text(f"{stats.uncounted:,} calls ran while a limit could not be counted", "bad")))
    blocks: list[Block] = [Facts(rows)]
    if stats.effects:
        blocks.append(_effects(stats))
    blocks += _tops(stats)
    return Section(title, blocks)


def _effects(stats: Stats) -> Section:
    most = max(stats.effects.values())
    known: dict[str, Style] = {**_EFFECTS, "other": "bad"}
    bars = sys.stdout.isatty()
    rows = [
        (effect, f"{count:,}", *((Text(_bar(count / most), style),) if bars else ()))
        for effect, style in known.items()
        if (count := stats.effects[effect])
    ]
    return Section("Decisions", [Table(("effect", "calls", *(("",) if bars else ())), rows)])


def _bar(share: float) -> str:
    one = "█" if (sys.stdout.encoding or "").lower().replace("-", "") == "utf8" else "#"
    return one * max(1, round(share * _BAR))


def _tops(stats: Stats) -> list[Block]:
    found: list[Block] = []
    if stats.stopped.top(1):
        found.append(_table("What was stopped", ("server", "tool", "code"), stats.stopped))
    if stats.limits.top(1):
        found.append(_table("Limits that were hit", ("rule",), stats.limits))
    if stats.asked or stats.people.top(1) or stats.used:
        said = f"{stats.asked:,} asked, {stats.granted:,} granted, {stats.rejected:,} rejected, {stats.used:,} used"
        answers = _table("Answers", ("by", "said"), stats.people).blocks if stats.people.top(1) else ()
        found.append(Section("Approvals", [said, *answers]))
    if stats.shadow.top(1):
        found.append(_table("What shadow would have stopped", ("would be", "server", "tool"), stats.shadow))
    return found


def _table(title: str, columns: tuple[str, ...], tally: Tally) -> Section:
    top = tally.top(_SHOWN)
    rows = [(*(name or "-" for name in names), f"{count:,}") for names, count in top]
    shown = sum(count for _, count in top)
    rest = sum(count for _, count in tally.top()) + tally.others - shown
    blocks: list[Block] = [Table((*columns, "calls"), rows)]
    if rest:
        blocks.append(f"and {rest:,} of others")
    return Section(title, blocks)
