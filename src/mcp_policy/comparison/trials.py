"""Calls to try where limits differ: the same call again and again, calls of ever new callers, calls that cost more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from ..call import ToolCall
from ..paths import Path, parse_path
from ..symbolic.atoms import Setting, Subject, subject
from ..symbolic.calls import assemble
from ..symbolic.parts import Values
from . import witness
from .bounds import Bound
from .witness import Benches, Make, Witness

_IDENTITIES: Final[dict[str, Subject]] = {
    "session": ("session.id", None),
    "principal": ("principal.id", None),
    "agent": ("principal.client", None),
}
_LONGEST: Final = 2_000
_MANY: Final = 100
_MOST_TRIED: Final = 20_000
"""Most calls that are made in one comparison; what is not known then stays so."""


def limit_witness(
    benches: Benches,
    setting: Setting,
    values: Values,
    limits: tuple[Bound, list[Bound]],
    others: list[str],
    *,
    looser: bool,
) -> Witness | None:
    """Return calls that exceed a limit and pass those of the other policy, where some are found.

    `limits` are the limit to exceed and those to pass; `others` tools that count as well.
    """
    bound, keepers = limits
    windows = [one.limit.window for one in (bound, *keepers)]

    def calls(chosen: Values, tool: str = setting.tool) -> ToolCall:
        return assemble(chosen, tool, server=setting.server, category=setting.category)

    cost = bound.limit.cost
    enough = bound.limit.maximum // cost + 2 if isinstance(cost, int) and cost else _MANY
    for costing in _costs(values, [bound, *keepers]):
        if benches.spent > _MOST_TRIED:
            return None
        one: ToolCall = calls(costing)
        alone = witness.without_store(benches, one, looser=looser)
        if alone is not None:
            return alone
        for failed in (False, True):
            found = witness.repeated(benches, lambda _, call=one: call, windows, looser=looser, failed=failed)  # type: ignore[misc]
            if found is not None:
                return found
        for make in _rotations(costing, setting, others):
            found = witness.rotated(benches, make, enough, looser=looser)
            if found is not None:
                return found
    return None


def _rotations(values: Values, setting: Setting, others: list[str]) -> Iterator[Make]:
    """Yield ways to make calls that differ in who makes them, or in the tool."""

    def make(tools: list[str], changing: tuple[Subject, ...]) -> Make:
        def call(number: int) -> ToolCall:
            chosen = {**values, **{one: f"{one[0].split('.')[0]}{number + 1}" for one in changing}}
            tool = tools[number % len(tools)]
            return assemble(chosen, tool, server=setting.server, category=setting.category)

        return call

    session, principal, agent = _IDENTITIES.values()
    for changing in ((session,), (principal,), (agent,), (session, principal), (session, agent), (principal, agent)):
        yield make([setting.tool], changing)
    for other in others:
        yield make([setting.tool, other], ())


def _costs(values: Values, bounds: list[Bound]) -> Iterator[Values]:
    """Yield the call as it is, and with other costs where a call says what it costs."""
    yield values
    for bound in bounds:
        cost = bound.applying.raw.get("cost", 1)
        if isinstance(cost, int | float):
            continue
        length = isinstance(cost, dict)
        path: Path = parse_path(cost["length"] if isinstance(cost, dict) else cost)
        for amount in sorted({other.limit.shown for other in bounds} | {1}):
            value: Any = "x" * min(int(amount), _LONGEST) if length else amount
            placed = _placed(values, path, value)
            if placed is not None:
                yield placed


def _placed(values: Values, path: Path, value: Any) -> Values | None:
    """Return the values with another one at a path, if that is an argument itself."""
    where = subject(path)
    return {**values, where: value} if where[1] is not None and len(path.steps) == 1 else None
