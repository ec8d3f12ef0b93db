"""Decisions through the standard library's `logging`: one short line each, with the record as `extra`."""

from __future__ import annotations

import logging
from typing import Final

from ..errors import readable
from .event import Decided, Event

LOGGER: Final = "mcp_policy.audit"
"""The logger's name."""


class LoggingSink:
    """Logs events: what runs at `INFO`, what is stopped at `WARNING`; `mcp_policy` of a log record is the event."""

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._logger = logging.getLogger(LOGGER) if logger is None else logger

    def record(self, event: Event) -> None:
        """Log an event."""
        if isinstance(event, Decided):
            codes = ", ".join(dict.fromkeys(str(reason.code) for reason in event.decision.reasons))
            level = logging.INFO if event.decision.allowed else logging.WARNING
            text = f"{event.decision.effect} `{readable(event.call.tool)}`: {codes}"
        else:
            vote, approval = event.approval.votes[-1], event.approval
            said = "approved" if event.approved else "rejected"
            level, text = logging.INFO, f"`{readable(vote.by)}` {said} `{readable(approval.tool)}`: {approval.status}"
        self._logger.log(level, "%s", text, extra={"mcp_policy": event})
