"""What an engine does with its sink.

Rules kept here:

* a sink that fails never stays silent: it is logged, and counted;
* where the record is required, a call whose decision could not be recorded does not run, and takes nothing from the
  limits; an approval that it used up stays used;
* what stops a call needs no record to stop it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from threading import Lock
from typing import Any, Final

from ..decision import Decision, Effect, Evidence, Reason, ReasonCode
from ..limits.store import AsyncLimitStore, LimitStore
from ..logs import log
from .event import AuditSink, Decided, Event

_UNRECORDED: Final = Decision(
    Effect.DENY,
    (Reason(ReasonCode.INTERNAL_ERROR, "the decision could not be recorded, so the call is denied"),),
)


class Recorder:
    """Hands events to a sink."""

    def __init__(self, sink: AuditSink, *, required: bool) -> None:
        self._sink = sink
        self._required = required
        self._lock = Lock()
        self.failures = 0
        """How many events were not kept."""

    def decided(
        self, event: Decided, limits: LimitStore | AsyncLimitStore
    ) -> Generator[Callable[[], Any], Any, Decision]:
        """Record a decision and return what stands: itself, or a denial. Yields questions to the limit store."""
        if self.keep(event) or not (self._required and event.decision.allowed):
            return event.decision
        evidence = event.decision.evidence
        while evidence is not None:
            yield from _give_back(evidence, limits)
            evidence = evidence[3]
        return _UNRECORDED

    def keep(self, event: Event) -> bool:
        """Record an event and tell whether it was kept."""
        try:
            self._sink.record(event)
        except Exception:  # noqa: BLE001  # whatever a sink raises, the event is not on record
            log().exception("the audit sink has failed: a decision, or a person's answer, is not on record")
            with self._lock:
                self.failures += 1
            return False
        return True


def _give_back(evidence: Evidence, limits: LimitStore | AsyncLimitStore) -> Generator[Callable[[], Any], Any, None]:
    receipt = evidence[1]
    which = [place for place, reply in enumerate(receipt.replies) if reply.available]
    if receipt.taken and which:
        try:
            yield partial(limits.refund, receipt, which)
        except Exception:  # noqa: BLE001  # logged below
            log().exception("the limit store cannot give back what a call took that did not run")
