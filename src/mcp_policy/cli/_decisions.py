"""A decision, for people and for programs.

Rules kept here: a program gets every field each time, whatever the decision; a person is told which line of which file
has decided; times are rounded up, so that nobody comes back too early.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from ._files import PolicyFile
from ._render import Cell, Style, Text, cells, visible

if TYPE_CHECKING:
    from mcp_policy.decision import Decision, LimitStatus, Reason

Line: TypeAlias = Sequence[Cell]
Places: TypeAlias = Mapping[str, str]
"""Where in a file rules stand, by their JSON Pointers: `policy.json:7`."""

STYLES: Final[Mapping[str, Style]] = {"allow": "good", "deny": "bad", "limit": "medium", "approve": "medium"}
_WIDEST: Final = max(map(len, STYLES))


def as_data(decision: Decision) -> dict[str, Any]:
    """Return a decision as JSON can hold it."""
    return {
        "effect": str(decision.effect),
        "allowed": decision.allowed,
        "reasons": [reason._asdict() for reason in decision.reasons],
        "retry_after": decision.retry_after,
        "limits": [status._asdict() for status in decision.limits],
        "would_be": None if decision.would_be is None else str(decision.would_be),
        "shadow": [reason._asdict() for reason in decision.shadow],
        "approval": None if decision.approval is None else decision.approval.id,
    }


def rules_of(decision: Decision) -> list[str]:
    """Return the places in the document that a decision speaks of."""
    return [reason.rule for reason in (*decision.reasons, *decision.shadow)]


def locator(file: PolicyFile) -> Callable[[Collection[str]], Places]:
    """Return what says where in its file a policy has something; nothing of what is not in a file of lines."""
    from mcp_policy.document import scan
    from mcp_policy.errors import readable
    from mcp_policy.policy import format_of

    known: dict[str, str] = {}

    def locate(pointers: Collection[str]) -> Places:
        unknown = {pointer for pointer in pointers if pointer} - known.keys()
        if unknown and file.path != "-":
            places = scan(file.data, format_of(file.path)).places(unknown)
            known.update(
                (pointer, f"{readable(file.path, 200)}:{(place.key or place.value)[0]}")
                for pointer, place in places.items()
            )
            known.update((pointer, "") for pointer in unknown - known.keys())
        return known

    return locate


def headline(decision: Decision, tool: str, before: str = "") -> Line:
    """Return the line that says what becomes of a call."""
    effect = str(decision.effect)
    return (before, Text(effect.ljust(_WIDEST), STYLES[effect]), "  ", Text(tool, "name"))


def details(decision: Decision, places: Places, before: str) -> Iterator[Line]:
    """Yield the reasons of a decision, what it would have been, and when to come back."""
    yield from _reasons(decision.reasons, places, before)
    if decision.would_be is not None:
        would_be = str(decision.would_be)
        yield before, "in shadow mode; would be ", Text(would_be, STYLES[would_be])
        if decision.shadow != decision.reasons:
            yield from _reasons(decision.shadow, places, before)
    if decision.approval is not None and not decision.allowed:
        yield before, "waits for approval ", Text(decision.approval.id, "name")
    if str(decision.effect) == "limit":
        yield before, _retry(decision)


def limits(decision: Decision) -> Iterator[Line]:
    """Yield a small table of the limits that a call met."""
    rows = [("limit", "left", "of", "empty in"), *map(_limit, decision.limits)]
    wide = [max(cells(visible(row[column])) for row in rows) for column in range(4)]
    for place, row in enumerate(rows if rows[1:] else ()):
        first, left, of, reset = row
        meaning: Style = "muted" if place == 0 else "plain"
        yield (
            Text(f"  {first}{' ' * (wide[0] - cells(visible(first)))}  ", meaning),
            Text(f"{' ' * (wide[1] - len(left))}{left}  ", meaning),
            Text(f"{' ' * (wide[2] - len(of))}{of}  ", meaning),
            Text(reset, meaning),
        )


def in_words(seconds: float) -> str:
    """Return a time in words, rounded up to seconds, and from an hour on to minutes: `1 minute 30 seconds`."""
    left = math.ceil(seconds)
    if left > _HOUR:
        left = math.ceil(left / 60) * 60
    said = []
    for name, size in _UNITS:
        count, left = divmod(left, size)
        if count:
            said.append(f"{count:,} {name}{'s' if count != 1 else ''}")
    return " ".join(said) or "0 seconds"


_HOUR: Final = 3_600
_UNITS: Final = (("day", 86_400), ("hour", _HOUR), ("minute", 60), ("second", 1))


def _reasons(reasons: Sequence[Reason], places: Places, before: str) -> Iterator[Line]:
    wide = max((len(reason.code) for reason in reasons), default=0)
    for reason in reasons:
        yield before, Text(f"{reason.code.ljust(wide)}  ", "muted"), reason.message
        place = places.get(reason.rule, "")
        if reason.rule:
            yield f"{before}{' ' * (wide + 2)}", Text(f"{reason.rule}{', ' if place else ''}{place}", "muted")


def _retry(decision: Decision) -> str:
    if decision.retry_after is not None:
        return f"retry in {in_words(decision.retry_after)}"
    if any(reason.code == "state_unavailable" for reason in decision.reasons):
        return "nobody knows when it could pass"
    return "it never passes, however long it waits"


def _limit(status: LimitStatus) -> tuple[str, str, str, str]:
    name = status.rule if status.counter is None else f"{status.rule} (counted as {status.counter})"
    if not status.available:
        return name, "?", str(status.limit), "cannot be counted now"
    return name, str(status.remaining), str(status.limit), in_words(status.reset_after)
