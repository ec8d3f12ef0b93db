"""What the engine asks of a store of approvals, and what it gets back.

Rules that every store keeps:

* at most one record per digest; it is pending, then approved or rejected, decided once: approved by as many different
  people as it needs, rejected by one;
* an approved record is used up once: of many callers exactly one gets it;
* a record is valid while now < `expires_at`, which runs from the first ask and never moves;
* a rejection stands until it expires: asking again gets the same record;
* the first ask after an expiry says so and gets a new record;
* pending records are bounded per owner, records altogether too; beyond that nothing is created;
* each method is one atomic step (one round trip for a remote store).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import Final, Literal, NamedTuple, Protocol, TypeAlias

Status: TypeAlias = Literal["pending", "approved", "rejected"]


class ApprovalError(Exception):
    """An approval could not be decided: its id is unknown, decided already, or expired; or this is not who may."""


class Vote(NamedTuple):
    """What one person said."""

    by: str
    at: float
    """Seconds of the store's clock."""
    note: str = ""


MAX_NOTE: Final = 1_000
"""Characters of a note."""


@dataclass(frozen=True, slots=True)
class Approval:
    """One question to a person about one exact call, and its answer."""

    id: str
    digest: str
    """SHA-256, in hex, over everything the answer is bound to."""
    status: Status
    tool: str
    server: str | None
    arguments: object = field(repr=False)
    """A plain tree; not to be changed."""
    principal: Mapping[str, object] | None
    session: str | None
    rules: tuple[str, ...]
    """JSON Pointers of the entries that asked."""
    reason: str
    created_at: float
    """Seconds of the store's clock."""
    expires_at: float
    """Seconds of the store's clock; no longer valid at this moment."""
    decided_by: str | None = None
    """Who decided; several names with `, ` between them where it took several."""
    decided_at: float | None = None
    votes: tuple[Vote, ...] = ()
    """What people said, oldest first; the last of a rejected record rejects it."""
    needed: int = 1
    """How many people have to approve."""
    approvers: tuple[str, ...] | None = None
    """Who may decide; None: anybody."""
    policy: str = ""
    """Digest of the policy that asked; under another one the approval is void."""


class ApprovalRequest(NamedTuple):
    """What `ApprovalStore.ask` needs to make a record."""

    digest: str
    owner: str
    """Whose pending records are counted together."""
    ttl: float
    """Seconds."""
    tool: str
    server: str | None
    arguments: object
    principal: Mapping[str, object] | None
    session: str | None
    rules: tuple[str, ...]
    reason: str
    policy: str = ""
    needed: int = 1
    approvers: tuple[str, ...] | None = None


# -- what stores have in common


def check_ttl(request: ApprovalRequest) -> None:
    """Raise `ValueError` for a `ttl` that is not a finite number above 0."""
    if not 0 < request.ttl < inf:
        raise ValueError("`ttl` must be a finite number of seconds above 0")


def pending(request: ApprovalRequest, approval_id: str, now: float) -> Approval:
    """Return the record of a question that is asked now."""
    return Approval(
        id=approval_id,
        digest=request.digest,
        status="pending",
        tool=request.tool,
        server=request.server,
        arguments=request.arguments,
        principal=request.principal,
        session=request.session,
        rules=request.rules,
        reason=request.reason,
        created_at=now,
        expires_at=now + request.ttl,
        needed=request.needed,
        approvers=request.approvers,
        policy=request.policy,
    )


def decided(record: Approval, approved: bool, vote: Vote) -> Approval:
    """Return a valid record with one more vote. Raises `ApprovalError` where it is not this vote's to take."""
    if not vote.by:
        raise ApprovalError("`by` must name who decides")
    if len(vote.note) > MAX_NOTE:
        raise ApprovalError(f"a note has at most {MAX_NOTE:,} characters")
    if record.status != "pending":
        raise ApprovalError(f"approval `{record.id}` was {record.status} by `{record.decided_by}` already")
    if record.approvers is not None and vote.by not in record.approvers:
        raise ApprovalError(f"`{vote.by}` is not among those who may decide approval `{record.id}`")
    if any(vote.by == earlier.by for earlier in record.votes) and approved:
        raise ApprovalError(f"`{vote.by}` has approved `{record.id}` already; somebody else has to as well")
    votes = (*record.votes, vote)
    if not approved:
        return replace(record, votes=votes, status="rejected", decided_by=vote.by, decided_at=vote.at)
    if len(votes) < record.needed:
        return replace(record, votes=votes)
    by = ", ".join(one.by for one in votes)
    return replace(record, votes=votes, status="approved", decided_by=by, decided_at=vote.at)


def unknown(approval_id: str, past: str | None) -> ApprovalError:
    """Return the error for an id without a valid record; `past` is what became of it, where that is known: `has
    expired`, `was approved and used`.
    """
    return ApprovalError(f"approval `{approval_id}` {past}" if past else f"unknown approval `{approval_id}`")


class ApprovalStore(Protocol):
    """Remembers who was asked what, and what they said."""

    def find(self, digest: str) -> tuple[Approval | None, bool]:
        """The valid record for this digest, and whether its last one expired. Changes nothing."""

    def ask(self, request: ApprovalRequest) -> tuple[Approval | None, bool]:
        """The valid record, else a new pending one, and whether the one before it expired.

        No record: the owner has too many pending, or the store is full.
        """

    def consume(self, digest: str) -> Approval | None:
        """Use up the approved, valid record; exactly one of many callers gets it, the others get `None`."""

    def decide(self, approval_id: str, approved: bool, by: str, note: str = "") -> Approval:
        """Approve or reject a pending, valid record in the name of `by`. Raises `ApprovalError`.

        A record that needs more approvals than it has by now stays pending.
        """

    def get(self, approval_id: str) -> Approval | None:
        """The valid record with this id."""

    def pending(self) -> list[Approval]:
        """The valid records that wait for an answer, oldest first."""


class AsyncApprovalStore(Protocol):
    """An `ApprovalStore` whose answers are awaited."""

    async def find(self, digest: str) -> tuple[Approval | None, bool]:
        """As `ApprovalStore.find`."""

    async def ask(self, request: ApprovalRequest) -> tuple[Approval | None, bool]:
        """As `ApprovalStore.ask`."""

    async def consume(self, digest: str) -> Approval | None:
        """As `ApprovalStore.consume`."""

    async def decide(self, approval_id: str, approved: bool, by: str, note: str = "") -> Approval:
        """As `ApprovalStore.decide`."""

    async def get(self, approval_id: str) -> Approval | None:
        """As `ApprovalStore.get`."""

    async def pending(self) -> list[Approval]:
        """As `ApprovalStore.pending`."""
