"""Limits beside each other: which one makes sure that another is kept.

A limit keeps another if whatever it lets pass, the other lets pass as well, whenever the calls are made. With windows
that slide, that can be told exactly: within any time W, `max` calls fit into each of its `W / window` beginnings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from math import ceil, inf, nan
from typing import NamedTuple

from ..compiler import Tree, spelt_out_limits
from ..evaluator import Limit
from ..limits.spec import normal_per, parse_window
from ..patterns import is_exact
from ..symbolic.meaning import Applying
from ..values import canonical
from .sides import Side, rules


class Slot(NamedTuple):
    """Where a limit stands, as far as it matters for what shares its count."""

    section: str
    key: str | None
    one_tool: bool
    """Whether all the calls that it can count are of one tool, on one server."""


class Bound(NamedTuple):
    """A limit, and what its count is shared with."""

    applying: Applying
    slot: Slot
    sharing: str
    """Where others share the count: all of them, with what each counts. Equal where two counters count alike."""

    @property
    def limit(self) -> Limit:
        return self.applying.limit

    @property
    def per(self) -> frozenset[str]:
        raw = self.applying.raw
        return frozenset(normal_per(raw.get("per", raw.get("scope", "session")))) - {"global"}

    @property
    def cost(self) -> str:
        return canonical(self.applying.raw.get("cost", 1))


def slots(side: Side, *, several_servers: bool) -> dict[str, Slot]:
    """Return the slot of every limit of a document, by the limit's pointer."""
    found: dict[str, Slot] = {}
    for section in side.all_sections():
        for place, raw in section.entries():
            listed = (
                [(f"{place.pointer}/{n}", rule) for n, rule in enumerate(raw)]
                if isinstance(raw, list)
                else [(place.pointer, raw)]
            )
            one = place.section.endswith("/tools") and place.key is not None and is_exact(place.key)
            one = one and not (several_servers and section.pointer == "")
            for pointer, rule in listed:
                for at, _ in spelt_out_limits(rule, pointer):
                    found[at] = Slot(place.section, place.key, one)
    return found


def sharing(side: Side, at: dict[str, Slot]) -> dict[str, str]:
    """Return for each limit whose count is shared by others what is counted there; by the limit's pointer."""
    counters: dict[str, list[tuple[str, str]]] = {}
    for section in side.all_sections():
        for pointer, rule in rules(section):
            applies = canonical([rule.get("when", []), rule.get("except", []), rule.get("mode", "")])
            for place, raw in spelt_out_limits(rule, pointer):
                said = f"{pointer} {canonical(raw.get('cost', 1))} {applies}"
                counters.setdefault(_counter(raw, at[place]), []).append((place, said))
    counted = {counter: sorted({said for _, said in members}) for counter, members in counters.items()}
    return {
        place: "\n".join(counted[counter])
        for counter, members in counters.items()
        if len(counted[counter]) > 1  # several limits of one rule, of one cost, count the same
        for place, _ in members
    }


def _counter(raw: Tree, slot: Slot) -> str:
    if "counter" in raw:
        return f"named {raw['counter']}"
    per = normal_per(raw.get("per", raw.get("scope", "session")))
    return f"{slot} {parse_window(raw['window'])} {per} {canonical(raw.get('cost', 1))}"


def keeps(one: Bound, other: Bound) -> bool:
    """Tell whether `one`, wherever it applies, makes sure that `other` is kept."""
    if (one.limit.optional and not other.limit.optional) or (one.limit.refund and not other.limit.refund):
        return False
    if not one.per <= other.per or (other.sharing and one.sharing != other.sharing):
        return False
    if not other.slot.one_tool and (one.slot != other.slot or one.per != other.per):
        return False
    turns = ceil(Fraction(other.limit.window) / Fraction(one.limit.window))
    if one.cost == other.cost:
        return one.limit.maximum * turns <= other.limit.maximum
    return not other.sharing and _calls(one.limit) * turns <= _calls(other.limit)


def _calls(limit: Limit) -> float:
    """Return how many calls a limit lets pass, as far as that is known."""
    if not isinstance(limit.cost, int):
        return nan
    return limit.maximum // limit.cost if limit.cost else inf


def bounds(limits: Iterable[Applying], at: dict[str, Slot], shared: dict[str, str]) -> Iterator[Bound]:
    """Yield limits with what their counts are shared with."""
    for applying in limits:
        yield Bound(applying, at[applying.limit.pointer], shared.get(applying.limit.pointer, ""))
