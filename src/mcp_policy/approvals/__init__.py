"""Approvals that are bound to one exact call, expire, and are used once."""

from __future__ import annotations

from .memory import MemoryApprovalStore
from .store import (
    Approval,
    ApprovalError,
    ApprovalRequest,
    ApprovalStore,
    AsyncApprovalStore,
    Status,
    Vote,
)

__all__ = [
    "Approval",
    "ApprovalError",
    "ApprovalRequest",
    "ApprovalStore",
    "AsyncApprovalStore",
    "MemoryApprovalStore",
    "Status",
    "Vote",
]
