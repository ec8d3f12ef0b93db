"""What is answered: a decision, its effect, and the reasons for it.

Decisions of calls that need no state are made once, when a policy is compiled, and shared by all such calls: so
everything here is immutable. Tuples are, and cost the least to build.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NamedTuple, TypeAlias, final

from .approvals.store import Approval
from .limits.spec import from_micro
from .limits.store import Receipt


class Effect(StrEnum):
    """What becomes of a call. Only `allow` lets it run."""

    ALLOW = "allow"
    DENY = "deny"
    LIMIT = "limit"
    APPROVE = "approve"


class ReasonCode(StrEnum):
    """Why, in one word."""

    INVALID_CALL = "invalid_call"
    NO_POLICY = "no_policy"
    HIDDEN = "hidden"
    DEFAULT_DENY = "default_deny"
    DENIED_BY_RULE = "denied_by_rule"
    DENY_IF = "deny_if"
    REQUIRE = "require"
    TYPE_MISMATCH = "type_mismatch"
    RATE_LIMITED = "rate_limited"
    STATE_UNAVAILABLE = "state_unavailable"
    APPROVAL_REQUIRED = "approval_required"
    APPROVAL_EXPIRED = "approval_expired"
    APPROVAL_REJECTED = "approval_rejected"
    ALLOWED = "allowed"
    DEFAULT_ALLOW = "default_allow"
    APPROVED = "approved"
    INTERNAL_ERROR = "internal_error"


class Reason(NamedTuple):
    """One reason. `rule` is a JSON Pointer into the document, `path` what the condition looked at; no argument value
    is in it.
    """

    code: ReasonCode
    message: str
    rule: str = ""
    path: str | None = None


class LimitStatus(NamedTuple):
    """How one limit stands: `remaining` of `limit`; seconds in `reset_after` until its count is zero.

    `available` is false where the count could not be kept and the limit says `on_unavailable: "allow"`.
    """

    counter: str | None
    rule: str
    limit: int | float
    remaining: int | float
    reset_after: float
    available: bool = True


Evidence: TypeAlias = "tuple[tuple[Any, ...], Receipt, list[int], Evidence | None]"
"""What a decision met in the limits: the counters, the store's receipt, the places in it that can be given back
(emptied by the first who asks), and the same for shadow rules.
"""


class _Decision(NamedTuple):
    effect: Effect
    reasons: tuple[Reason, ...]
    retry_after: float | None
    would_be: Effect | None
    shadow: tuple[Reason, ...]
    approval: Approval | None
    evidence: Evidence | None


@final
class Decision(_Decision):
    """The answer to one call.

    `effect` and `reasons` say what becomes of it and why; `retry_after` is in seconds and absent when the call can
    never pass; `would_be` is set in shadow mode only: the effect it would have had, with its reasons in `shadow`;
    `approval` is the approval that the call waits for, or that it has used up. A decision is true where the call may
    run.
    """

    __slots__ = ()

    def __new__(
        cls,
        effect: Effect,
        reasons: tuple[Reason, ...],
        retry_after: float | None = None,
        would_be: Effect | None = None,
        shadow: tuple[Reason, ...] = (),
        approval: Approval | None = None,
        evidence: Evidence | None = None,
    ) -> Decision:
        return tuple.__new__(cls, (effect, reasons, retry_after, would_be, shadow, approval, evidence))

    @property
    def allowed(self) -> bool:
        """Whether the call may run."""
        return self.effect is Effect.ALLOW

    @property
    def limits(self) -> tuple[LimitStatus, ...]:
        """How each limit that the call met stands, after the decision."""
        return () if self.evidence is None else _statuses(*self.evidence[:2])

    def __bool__(self) -> bool:
        return self.effect is Effect.ALLOW

    def __repr__(self) -> str:
        # neither what a call brought nor who brought it: a decision may end up in any log
        return f"<Decision {self}>"

    def __str__(self) -> str:
        text = "; ".join(dict.fromkeys(reason.message.rstrip(".") for reason in self.reasons))
        shadow = f" (shadow: would be {self.would_be})" if self.would_be else ""
        return f"{self.effect}: {text}{shadow}."


def _statuses(counters: tuple[Any, ...], receipt: Receipt) -> tuple[LimitStatus, ...]:
    return tuple(
        LimitStatus(
            limit.name,
            limit.pointer,
            limit.shown,
            from_micro(max(0, limit.maximum - reply.used)),
            reply.reset_after,
            reply.available,
        )
        for counter, reply in zip(counters, receipt.replies, strict=True)
        for limit in counter.limits
    )
