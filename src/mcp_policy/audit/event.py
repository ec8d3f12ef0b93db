"""What is put on record, and who takes it.

A sink gets every decision on a call that was to run (`authorize`, never `evaluate`), and every answer of a person.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, TypeAlias

from ..approvals.store import Approval
from ..call import ToolCall
from ..decision import Decision


class Decided(NamedTuple):
    """A decision on a call."""

    call: ToolCall
    decision: Decision
    policy: str | None
    """Digest of the policy that decided; None without one."""
    seconds: float
    """What deciding took, its stores included."""


class Answered(NamedTuple):
    """What a person said to a call that waited. The last of `approval.votes` is what was said now."""

    approval: Approval
    approved: bool


Event: TypeAlias = Decided | Answered


class AuditSink(Protocol):
    """Keeps events. May be called by several threads at once."""

    def record(self, event: Event) -> None:
        """Keep an event; whatever it raises means that it was not kept."""
