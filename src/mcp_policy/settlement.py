"""What is left of a decision when the rules have spoken: limits and approvals.

A claim says which counters a call has to pass and whether a person has to be asked. Settling it is a generator that
yields the questions to the stores as functions without arguments and gets the answers sent back: one piece of code
serves synchronous and asynchronous stores, and none of it does any input or output itself.

Rules kept here: limits come before approvals; all limits are taken together or not at all; only an allowed call takes;
an approval is used up by the call that runs and by no other; a store that cannot answer denies, unless each limit in
question says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from typing import Any, NamedTuple, TypeAlias

from .approvals.binding import Binding, bind
from .approvals.store import Approval, ApprovalRequest, ApprovalStore, AsyncApprovalStore
from .call import ToolCall
from .claims import Claim, Shadow
from .decision import Decision, Effect, Evidence, Reason, ReasonCode
from .demands import NOTHING, Demand, fits, met, unanswered, used_up
from .evaluator import Ruling
from .limits.store import AsyncLimitStore, LimitStore, Receipt, Request
from .logs import log
from .values import NotJson

Question: TypeAlias = Callable[[], Any]
Steps: TypeAlias = "Generator[Question, Any, Decision]"


class Voting(NamedTuple):
    """How many different people have to approve a call, and who may decide; None: anybody."""

    quorum: int = 1
    approvers: tuple[str, ...] | None = None


class State(NamedTuple):
    """The stores, what binds an approval to this policy, and who decides on it."""

    limits: LimitStore | AsyncLimitStore
    approvals: ApprovalStore | AsyncApprovalStore
    policy_digest: Callable[[], str]
    voting: Voting = Voting()


def limited(claim: Claim, receipt: Receipt) -> Decision:
    """Return the decision of a call that did not pass its limits."""
    reasons, retry_after = used_up(claim.ruling.limits, claim.demand.counters, receipt)
    return Decision(Effect.LIMIT, reasons, retry_after, evidence=met(claim.demand, receipt))


def _ask_limits(
    ask: Callable[[tuple[Request, ...]], Any], demand: Demand, call: ToolCall
) -> Generator[Question, Any, Receipt]:
    asked = demand.ask(call)
    if not asked:
        return Receipt(True, (), 0.0, ())
    try:
        receipt: Receipt = yield partial(ask, asked)
    except Exception as error:  # noqa: BLE001  # whatever a store raises, it cannot answer
        log().error("the limit store cannot answer: %r", error)  # one line, however often
        return unanswered(asked)
    return receipt


# -- settling


def settle(claim: Claim, call: ToolCall, state: State, *, take: bool) -> Steps:
    """Settle a claim: yields questions to the stores, returns the decision. Without `take` nothing is taken, stored or
    used up.
    """
    if claim.shadow is not None and claim.shadow.document:
        return (yield from _settle_in_shadow(claim, claim.shadow, call, state, take=take))
    if claim.ruling.asks:
        decision = yield from _settle_approval(claim, call, state, take=take)
    else:
        receipt = yield from _ask_limits(state.limits.acquire if take else state.limits.peek, claim.demand, call)
        passed = receipt.taken if take else fits(receipt)
        decision = claim.grant(receipt) if passed else limited(claim, receipt)
    if claim.shadow is not None:
        decision = yield from _settle_shadow(claim.shadow, decision, call, state, take=take)
    return decision


def _settle_approval(claim: Claim, call: ToolCall, state: State, *, take: bool) -> Steps:
    receipt = yield from _ask_limits(state.limits.peek, claim.demand, call)
    if not fits(receipt):
        return limited(claim, receipt)
    try:
        binding = bind(state.policy_digest(), call, claim.ruling.reads)
    except NotJson as error:
        return _cannot_ask(claim.ruling, error)
    try:
        return (yield from _settle_bound(claim, call, state, binding, receipt, take=take))
    except _StoreFailed as error:
        log().error("the approval store cannot answer: %r", error.__cause__)  # one line, however often
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
            return _approved(claim, peeked, record)
        return _waiting(claim, peeked, record, expired)
    record, expired = yield from _ask_approvals(partial(state.approvals.ask, _request(claim, call, state, binding)))
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
        record, expired = yield from _ask_approvals(partial(state.approvals.ask, _request(claim, call, state, binding)))
        return _no_room(claim, peeked) if record is None else _waiting(claim, peeked, record, expired)
    return _approved(claim, receipt, used)


def _give_back(state: State, receipt: Receipt) -> Generator[Question, Any, None]:
    which = [place for place, reply in enumerate(receipt.replies) if reply.available]
    if which:
        try:
            yield partial(state.limits.refund, receipt, which)
        except Exception:  # noqa: BLE001  # logged below
            log().exception("the limit store cannot give back what a call took that did not run")


def _request(claim: Claim, call: ToolCall, state: State, binding: Binding) -> ApprovalRequest:
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
        state.policy_digest(),
        *state.voting,
    )


def _approved(claim: Claim, receipt: Receipt, record: Approval) -> Decision:
    reasons = tuple(
        Reason(ReasonCode.APPROVED, "a person approved this call", reason.rule) for reason in claim.ruling.asks
    )
    return claim.grant(receipt)._replace(reasons=reasons, approval=record)


def _waiting(claim: Claim, receipt: Receipt, record: Approval | None, expired: bool) -> Decision:
    code, note = ReasonCode.APPROVAL_REQUIRED, ""
    if record is not None and record.status == "rejected":
        code, note = ReasonCode.APPROVAL_REJECTED, "a person rejected this call: "
    elif expired:
        code, note = ReasonCode.APPROVAL_EXPIRED, "the last approval ran out: "
    reasons = tuple(reason._replace(code=code, message=note + reason.message) for reason in claim.ruling.asks)
    return Decision(Effect.APPROVE, reasons, approval=record, evidence=met(claim.demand, receipt))


def _no_room(claim: Claim, receipt: Receipt) -> Decision:
    message = "no further call can be put to a person now: too many wait, or their store cannot answer"
    reasons = tuple(Reason(ReasonCode.STATE_UNAVAILABLE, message, reason.rule) for reason in claim.ruling.asks)
    return Decision(Effect.LIMIT, reasons, evidence=met(claim.demand, receipt))


def _settle_in_shadow(claim: Claim, shadow: Shadow, call: ToolCall, state: State, *, take: bool) -> Steps:
    """Let a call run and say what would have been; one that no person could be asked about is blocked as malformed."""
    flaw = _unbindable(claim.ruling, call) if claim.ruling.asks else None
    if flaw is not None and fits((yield from _ask_limits(state.limits.peek, claim.demand, call))):
        return flaw
    allowed = Decision(Effect.ALLOW, shadow.ruling.reasons)
    return (yield from _settle_shadow(shadow, allowed, call, state, take=take))


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
    evidence: Evidence = (counters, receipt, [*refunds] if really and receipt.taken else NOTHING, None)
    if not (receipt.taken if really else fits(receipt)):
        would_be, reasons = Effect.LIMIT, used_up(shadow.ruling.limits, counters, receipt)[0]
    elif decision.effect is Effect.DENY:
        would_be, reasons = Effect.DENY, decision.reasons
    elif asks:
        flaw = _unbindable(shadow.ruling, call)
        would_be, reasons = (Effect.APPROVE, asks) if flaw is None else (Effect.DENY, flaw.reasons)
    else:
        would_be, reasons = Effect.ALLOW, shadow.ruling.reasons
    if shadow.document:
        return decision._replace(reasons=reasons, would_be=would_be, shadow=reasons, evidence=evidence)
    taken = decision.evidence[:3] if decision.evidence else ((), Receipt(False, (), 0.0, ()), NOTHING)
    return decision._replace(would_be=would_be, shadow=reasons, evidence=(*taken, evidence))


def _unbindable(ruling: Ruling, call: ToolCall) -> Decision | None:
    try:
        bind("", call, ruling.reads)
    except NotJson as error:
        return _cannot_ask(ruling, error)
    return None


def _cannot_ask(ruling: Ruling, flaw: NotJson) -> Decision:
    message = f"this call cannot be put to a person for approval: {flaw}"
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
