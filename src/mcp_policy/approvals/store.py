"""What the engine asks of a store of approvals, and what it gets back.

Rules that every store keeps:

* at most one record per digest; it is pending, then approved or rejected, decided once;
* an approved record is used up once: of many callers exactly one gets it;
* a record is valid while now < `expires_at`, which runs from the first ask and never moves;
* a rejection stands until it expires: asking again gets the same record;
* the first ask after an expiry says so and gets a new record;
* pending records are bounded per owner, records altogether too; beyond that nothing is created;
* each method is one atomic step (one round trip for a remote store).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol, TypeAlias

Status: TypeAlias = Literal["pending", "approved", "rejected"]


class ApprovalError(Exception):
    """An approval could not be decided: its id is unknown, decided already, or expired."""


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
    decided_at: float | None = None


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

    def decide(self, approval_id: str, approved: bool, by: str) -> Approval:
        """Approve or reject a pending, valid record in the name of `by`. Raises `ApprovalError`."""

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

    async def decide(self, approval_id: str, approved: bool, by: str) -> Approval:
        """As `ApprovalStore.decide`."""

    async def get(self, approval_id: str) -> Approval | None:
        """As `ApprovalStore.get`."""

    async def pending(self) -> list[Approval]:
        """As `ApprovalStore.pending`."""
