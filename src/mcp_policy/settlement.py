"""What is left of a decision when the rules have spoken: limits and approvals.

A claim says which counters a call has to pass and who has to be asked. Settling it is a generator that yields the
questions to the stores as functions without arguments and gets the answers sent back: one piece of code serves
synchronous and asynchronous stores, and none of it does any input or output itself.

Rules kept here: limits come before approvals; all limits are taken together or not at all; only an allowed call takes;
an approval is used up by the call that runs and by no other; a store that cannot answer denies, unless each limit in
question says otherwise.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

from .approvals.binding import Binding, bind
from .approvals.store import Approval, ApprovalRequest, ApprovalStore, AsyncApprovalStore
from .call import ToolCall
from .decision import Decision, Effect, Evidence, Reason, ReasonCode
from .evaluator import Limit, Ruling
from .limits.store import AsyncLimitStore, CounterSpec, LimitStore, Receipt, Reply, Request
from .values import NotJson

log: Final = logging.getLogger("mcp_policy")

Question: TypeAlias = Callable[[], Any]
Ask: TypeAlias = Callable[[ToolCall], list[Request]]
Steps: TypeAlias = "Generator[Question, Any, Decision]"


class Counter(NamedTuple):
    """One count that a call has to pass, with every limit that checks it."""

    spec: CounterSpec
    key: Callable[[ToolCall], Any]
    cost: int | None
    """Millionths; None where a call says what it costs."""
    limits: tuple[Limit, ...]


class Demand(NamedTuple):
    """The counters that a call has to pass together."""

    counters: tuple[Counter, ...]
    ask: Ask
    refunds: tuple[int, ...]
    """Places of the counters whose cost a failed call gets back."""


class Shadow(NamedTuple):
    """What would have been settled, but for shadow mode."""

    ruling: Ruling
    demand: Demand
    document: bool
    """Whether the whole document is in shadow mode: then its reasons are the decision's."""


class Claim(NamedTuple):
    """What has to be settled before a call may run."""

    ruling: Ruling
    demand: Demand
    grant: Callable[[Receipt], Decision]
    shadow: Shadow | None
    simple: bool
    """Nothing but limits: no approval, no shadow."""


class State(NamedTuple):
    """The stores, and what binds an approval to this policy."""

    limits: LimitStore | AsyncLimitStore
    approvals: ApprovalStore | AsyncApprovalStore
    policy_digest: Callable[[], str]


# -- from rulings to verdicts


def conclude(enforced: Ruling, full: Ruling, *, document_shadow: bool) -> Decision | Claim:
    """Return the decision where the rules alone make it, else the claim that has to be settled."""
    if document_shadow:
        return _conclude_in_shadow(full)
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


def _conclude_in_shadow(full: Ruling) -> Decision | Claim:
    if full.effect is Effect.DENY or not (full.limits or full.asks):
        return Decision(Effect.ALLOW, full.reasons, would_be=full.effect, shadow=full.reasons)
    return _claim(full._replace(asks=()), (), Shadow(full, demand(full.limits), document=True))


def _claim(ruling: Ruling, limits: tuple[Limit, ...], shadow: Shadow | None) -> Claim:
    asked = demand(limits)
    return Claim(ruling, asked, _granter(ruling.reasons, asked), shadow, simple=not ruling.asks and shadow is None)


def demand(limits: tuple[Limit, ...]) -> Demand:
    """Return what limits ask of a call."""
    counters = merge(limits)
    refunds = tuple(place for place, counter in enumerate(counters) if all(limit.refund for limit in counter.limits))
    return Demand(counters, _asker(counters), refunds)


def merge(limits: tuple[Limit, ...]) -> tuple[Counter, ...]:
    """Bring limits on the same counter together: a call takes from a counter once, and every limit checks its own
    `max`.
    """
    groups: dict[str, list[Limit]] = {}
    for limit in limits:
        groups.setdefault(limit.counter, []).append(limit)
    return tuple(_counter(tuple(group)) for group in groups.values())


def _counter(limits: tuple[Limit, ...]) -> Counter:
    first = limits[0]
    optional = all(limit.optional for limit in limits)
    spec = CounterSpec(first.counter, first.window, min(limit.maximum for limit in limits), optional)
    costs = [limit.cost for limit in limits]
    fixed = (
        max(cost for cost in costs if isinstance(cost, int)) if all(isinstance(cost, int) for cost in costs) else None
    )
    return Counter(spec, first.key, fixed, limits)


# -- limits


def _asker(counters: tuple[Counter, ...]) -> Ask:
    """Return the function that says what a call asks of its counters."""
    fixed = [(spec, key, cost) for spec, key, cost, _ in counters if cost is not None]
    if len(fixed) == len(counters) == 1:
        only, key_of, cost_of = fixed[0]
        return lambda call: [(only, key_of(call), cost_of)]
    if len(fixed) == len(counters):
        return lambda call: [(spec, key(call), cost) for spec, key, cost in fixed]
    parts = [(spec, key, _cost_of(limits)) for spec, key, _, limits in counters]
    return lambda call: [(spec, key(call), cost(call)) for spec, key, cost in parts]


def _cost_of(limits: tuple[Limit, ...]) -> Callable[[ToolCall], int]:
    """Return what a call takes from a counter: the highest cost that any of its limits asks."""

    def cost(call: ToolCall) -> int:
        asked = [limit.cost if isinstance(limit.cost, int) else limit.cost(call) for limit in limits]
        known = [cost for cost in asked if cost is not None]
        if len(known) < len(asked):
            raise ValueError("the cost of the call changed while it was decided")
        return max(known)

    return cost


def _granter(reasons: tuple[Reason, ...], asked: Demand) -> Callable[[Receipt], Decision]:
    """Return the function that makes the decision of a call that passed its limits and needs nothing else."""
    counters, _, refunds = asked
    if refunds:
        return lambda receipt: Decision(Effect.ALLOW, reasons, evidence=(counters, receipt, [*refunds], None))
    # the commonest decision that has to be made anew: its parts are laid out by hand, which halves what it costs
    return lambda receipt: _new(
        Decision, (Effect.ALLOW, reasons, None, None, (), None, (counters, receipt, _NOTHING, None))
    )


_new: Final = tuple.__new__
_NOTHING: Final[list[int]] = []  # nothing to give back; never written to


def limited(claim: Claim, receipt: Receipt) -> Decision:
    """Return the decision of a call that did not pass its limits."""
    reasons, retry_after = used_up(claim.ruling.limits, claim.demand.counters, receipt)
    return Decision(Effect.LIMIT, reasons, retry_after, evidence=_met(claim.demand, receipt))


def _met(asked: Demand, receipt: Receipt) -> Evidence:
    return asked.counters, receipt, _NOTHING, None


def used_up(
    limits: tuple[Limit, ...], counters: tuple[Counter, ...], receipt: Receipt
) -> tuple[tuple[Reason, ...], float | None]:
    """Return why the limits stop a call, in document order, and in how many seconds it could pass (None: never, or
    unknown).
    """
    said: dict[str, Reason] = {}
    waits: list[float | None] = []
    for counter, reply, (_, _, cost) in zip(counters, receipt.replies, receipt.requests, strict=True):
        if not reply.available and not counter.spec.optional:
            waits.append(None)
            said |= {limit.pointer: _unavailable(limit) for limit in counter.limits if not limit.optional}
        elif reply.available and reply.retry_after != 0:
            waits.append(reply.retry_after)
            said |= {
                limit.pointer: _rate_limited(limit, cost) for limit in counter.limits if _is_used_up(limit, reply, cost)
            }
    known = [wait for wait in waits if wait is not None]
    retry_after = max(known, default=None) if len(known) == len(waits) else None
    return tuple(said[limit.pointer] for limit in limits if limit.pointer in said), retry_after


def _is_used_up(limit: Limit, reply: Reply, cost: int) -> bool:
    return limit.maximum == 0 or reply.used + cost > limit.maximum


def _rate_limited(limit: Limit, cost: int) -> Reason:
    never = limit.maximum == 0 or cost > limit.maximum
    text = "this call costs more than" if never else "used up:"
    message = limit.reason or f"{text} the limit of {limit.shown} in {limit.window:g} seconds"
    return Reason(ReasonCode.RATE_LIMITED, message, limit.pointer)


def _unavailable(limit: Limit) -> Reason:
    return Reason(
        ReasonCode.STATE_UNAVAILABLE, "a limit cannot be counted now, so the call is not let through", limit.pointer
    )


def _fits(receipt: Receipt) -> bool:
    return all(
        reply.retry_after == 0 if reply.available else spec.optional
        for (spec, _, _), reply in zip(receipt.requests, receipt.replies, strict=True)
    )


def unanswered(asked: list[Request]) -> Receipt:
    """Return the receipt of a store that could not answer: taken only where no limit minds."""
    return Receipt(
        all(spec.optional for spec, _, _ in asked), (Reply(0, None, 0.0, False),) * len(asked), 0.0, tuple(asked)
    )


def _ask_limits(
    ask: Callable[[list[Request]], Any], demand: Demand, call: ToolCall
) -> Generator[Question, Any, Receipt]:
    asked = demand.ask(call)
    if not asked:
        return Receipt(True, (), 0.0, ())
    try:
        receipt: Receipt = yield partial(ask, asked)
    except Exception as error:  # noqa: BLE001  # whatever a store raises, it cannot answer
        log.error("the limit store cannot answer: %r", error)  # noqa: TRY400  # one line, however often
        return unanswered(asked)
    return receipt


# -- settling


def settle(claim: Claim, call: ToolCall, state: State, *, take: bool) -> Steps:
    """Settle a claim: yields questions to the stores, returns the decision. Without `take` nothing is taken, stored or
    used up.
    """
    if claim.ruling.asks:
        decision = yield from _settle_approval(claim, call, state, take=take)
    else:
        receipt = yield from _ask_limits(state.limits.acquire if take else state.limits.peek, claim.demand, call)
        passed = receipt.taken if take else _fits(receipt)
        decision = claim.grant(receipt) if passed else limited(claim, receipt)
    if claim.shadow is not None:
        decision = yield from _settle_shadow(claim.shadow, decision, call, state, take=take)
    return decision


def _settle_approval(claim: Claim, call: ToolCall, state: State, *, take: bool) -> Steps:
    receipt = yield from _ask_limits(state.limits.peek, claim.demand, call)
    if not _fits(receipt):
        return limited(claim, receipt)
    try:
        binding = bind(state.policy_digest(), call, claim.ruling.reads)
    except NotJson as error:
        return _cannot_ask(claim.ruling, error)
    try:
        return (yield from _settle_bound(claim, call, state, binding, receipt, take=take))
    except _StoreFailed as error:
        log.error("the approval store cannot answer: %r", error.__cause__)  # noqa: TRY400  # one line, however often
        return _no_room(claim, receipt)


class _StoreFailed(Exception):
    """The approval store raised."""


def _ask_approvals(question: Question) -> Generator[Question, Any, Any]:
    try:
        return (yield question)
    except Exception as error:
        raise _StoreFailed from error


def _settle_bound(
    claim: Claim, call: ToolCall, state: State, binding: Binding, peeked: Receipt, *, take: bool
) -> Steps:
    if not take:
        record, expired = yield from _ask_approvals(partial(state.approvals.find, binding.digest))
        if record is not None and record.status == "approved":
            return _approved(claim, peeked)
        return _waiting(claim, peeked, record, expired)
    record, expired = yield from _ask_approvals(partial(state.approvals.ask, _request(claim, call, binding)))
    if record is None:
        return _no_room(claim, peeked)
    if record.status != "approved":
        return _waiting(claim, peeked, record, expired)
    receipt = yield from _ask_limits(state.limits.acquire, claim.demand, call)
    if not receipt.taken:
        return limited(claim, receipt)
    try:
        used = yield from _ask_approvals(partial(state.approvals.consume, binding.digest))
    except _StoreFailed:
        yield from _give_back(state, receipt)
        raise
    if used is None:  # somebody else was faster: the approval is gone, and this call takes nothing
        yield from _give_back(state, receipt)
        record, expired = yield from _ask_approvals(partial(state.approvals.ask, _request(claim, call, binding)))
        return _no_room(claim, peeked) if record is None else _waiting(claim, peeked, record, expired)
    return _approved(claim, receipt)


def _give_back(state: State, receipt: Receipt) -> Generator[Question, Any, None]:
    which = [place for place, reply in enumerate(receipt.replies) if reply.available]
    if which:
        try:
            yield partial(state.limits.refund, receipt, which)
        except Exception:
            log.exception("the limit store cannot give back what a call took that did not run")


def _request(claim: Claim, call: ToolCall, binding: Binding) -> ApprovalRequest:
    asks = claim.ruling.asks
    return ApprovalRequest(
        binding.digest,
        binding.owner,
        claim.ruling.ttl,
        call.tool,
        call.server,
        binding.arguments,
        binding.principal,
        call.session,
        tuple(reason.rule for reason in asks),
        "; ".join(dict.fromkeys(reason.message for reason in asks)),
    )


def _approved(claim: Claim, receipt: Receipt) -> Decision:
    reasons = tuple(
        Reason(ReasonCode.APPROVED, "a person approved this call", reason.rule) for reason in claim.ruling.asks
    )
    return claim.grant(receipt)._replace(reasons=reasons)


def _waiting(claim: Claim, receipt: Receipt, record: Approval | None, expired: bool) -> Decision:
    code, note = ReasonCode.APPROVAL_REQUIRED, ""
    if record is not None and record.status == "rejected":
        code, note = ReasonCode.APPROVAL_REJECTED, "a person rejected this call: "
    elif expired:
        code, note = ReasonCode.APPROVAL_EXPIRED, "the last approval ran out: "
    reasons = tuple(reason._replace(code=code, message=note + reason.message) for reason in claim.ruling.asks)
    return Decision(Effect.APPROVE, reasons, approval=record, evidence=_met(claim.demand, receipt))


def _no_room(claim: Claim, receipt: Receipt) -> Decision:
    message = "no further call can be put to a person now: too many wait, or their store cannot answer"
    reasons = tuple(Reason(ReasonCode.STATE_UNAVAILABLE, message, reason.rule) for reason in claim.ruling.asks)
    return Decision(Effect.LIMIT, reasons, evidence=_met(claim.demand, receipt))


def _settle_shadow(shadow: Shadow, decision: Decision, call: ToolCall, state: State, *, take: bool) -> Steps:
    """Add what would have been. Shadow limits take only from a call that runs and would have run."""
    if shadow.ruling.effect is Effect.DENY:
        return decision._replace(would_be=Effect.DENY, shadow=shadow.ruling.reasons)
    if decision.effect is Effect.LIMIT:
        return decision._replace(would_be=Effect.LIMIT, shadow=decision.reasons)
    approved = any(reason.code is ReasonCode.APPROVED for reason in decision.reasons)
    asks = () if approved else shadow.ruling.asks
    really = take and not asks
    receipt = yield from _ask_limits(state.limits.acquire if really else state.limits.peek, shadow.demand, call)
    counters, _, refunds = shadow.demand
    evidence: Evidence = (counters, receipt, [*refunds] if really and receipt.taken else _NOTHING, None)
    if not (receipt.taken if really else _fits(receipt)):
        would_be, reasons = Effect.LIMIT, used_up(shadow.ruling.limits, counters, receipt)[0]
    elif decision.effect is Effect.DENY:
        would_be, reasons = Effect.DENY, decision.reasons
    elif asks:
        flaw = _unbindable(shadow.ruling, call)
        if flaw is not None and shadow.document:
            return flaw  # a malformed call is blocked in shadow too
        would_be, reasons = (Effect.APPROVE, asks) if flaw is None else (Effect.DENY, flaw.reasons)
    else:
        would_be, reasons = Effect.ALLOW, shadow.ruling.reasons
    if shadow.document:
        return decision._replace(reasons=reasons, would_be=would_be, shadow=reasons, evidence=evidence)
    taken = decision.evidence[:3] if decision.evidence else ((), Receipt(False, (), 0.0, ()), _NOTHING)
    return decision._replace(would_be=would_be, shadow=reasons, evidence=(*taken, evidence))


def _unbindable(ruling: Ruling, call: ToolCall) -> Decision | None:
    try:
        bind("", call, ruling.reads)
    except NotJson as error:
        return _cannot_ask(ruling, error)
    return None


def _cannot_ask(ruling: Ruling, flaw: NotJson) -> Decision:
    message = f"this call cannot be put to a person: it holds {flaw}"
    return Decision(Effect.DENY, (Reason(ReasonCode.INVALID_CALL, message, ruling.asks[0].rule),))


def refund(decision: Decision, limits: LimitStore | AsyncLimitStore) -> Generator[Question, Any, None]:
    """Give back what a failed call took, where its limits say so; once."""
    evidence = decision.evidence
    while evidence is not None:
        _, receipt, refundable, evidence = evidence
        which = [refundable.pop() for _ in range(len(refundable))]
        which = [place for place in which if receipt.replies[place].available]
        if which:
            yield partial(limits.refund, receipt, which)
