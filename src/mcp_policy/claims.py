"""From rulings to verdicts: the decision where the rules alone make it, else a claim that has to be settled. Pure.

Verdicts are made once for each way that a tool's conditions can come out, and shared by all calls that go that way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from .decision import Decision, Effect, Reason
from .demands import NOTHING, Demand, demand
from .evaluator import Limit, Ruling
from .limits.store import Receipt


class Shadow(NamedTuple):
    """What would have been settled, but for shadow mode."""

    ruling: Ruling
    demand: Demand
    document: bool
    """Whether the whole document is in shadow mode: then its reasons are the decision's."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What has to be settled before a call may run."""

    ruling: Ruling
    demand: Demand
    grant: Callable[[Receipt], Decision]
    shadow: Shadow | None
    simple: bool
    """Nothing but limits: no approval, no shadow."""


def conclude(enforced: Ruling, full: Ruling, *, document_shadow: bool) -> Decision | Claim:
    """Return the decision where the rules alone make it, else the claim that has to be settled."""
    if document_shadow:
        return _conclude_in_shadow(enforced, full)
    shadow = full if full.shadowed else None
    if enforced.effect is Effect.DENY:
        if shadow is None:
            return Decision(Effect.DENY, enforced.reasons)
        return Decision(Effect.DENY, enforced.reasons, would_be=Effect.DENY, shadow=shadow.reasons)
    if shadow is not None and not (enforced.limits or enforced.asks or shadow.limits or shadow.asks):
        return Decision(Effect.ALLOW, enforced.reasons, would_be=shadow.effect, shadow=shadow.reasons)
    if shadow is None and not (enforced.limits or enforced.asks):
        return Decision(Effect.ALLOW, enforced.reasons)
    if shadow is None:
        return _claim(enforced, enforced.limits, None)
    own = {limit.pointer for limit in enforced.limits}
    apart = tuple(limit for limit in shadow.limits if limit.pointer not in own)
    return _claim(enforced, enforced.limits, Shadow(shadow, demand(apart), document=False))


def _conclude_in_shadow(enforced: Ruling, full: Ruling) -> Decision | Claim:
    if not enforced.asks and (full.effect is Effect.DENY or not (full.limits or full.asks)):
        return Decision(Effect.ALLOW, full.reasons, would_be=full.effect, shadow=full.reasons)
    return _claim(enforced, enforced.limits, Shadow(full, demand(full.limits), document=True))


def _claim(ruling: Ruling, limits: tuple[Limit, ...], shadow: Shadow | None) -> Claim:
    asked = demand(limits)
    return Claim(ruling, asked, _granter(ruling.reasons, asked), shadow, simple=not ruling.asks and shadow is None)


def _granter(reasons: tuple[Reason, ...], asked: Demand) -> Callable[[Receipt], Decision]:
    """Return the function that makes the decision of a call that passed its limits and needs nothing else."""
    counters, _, refunds = asked
    if refunds:
        return lambda receipt: Decision(Effect.ALLOW, reasons, evidence=(counters, receipt, [*refunds], None))
    # the commonest decision that has to be made anew: its parts are laid out by hand, which halves what it costs
    return lambda receipt: _new(
        Decision, (Effect.ALLOW, reasons, None, None, (), None, (counters, receipt, NOTHING, None))
    )


_new: Final = tuple.__new__
