"""What happens to approvals, by looking at their store again and again. Time is injected.

- Of a record that has gone before its time nobody can tell more than this: one that was approved has been used; one
  that was last seen waiting was approved and used between two looks, or its store has lost it.
- A store that fails after it has answered once is said once, and looked at until it answers again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Literal, NamedTuple, TypeAlias

from mcp_policy.approvals import Approval, ApprovalStore

EVERY: Final = 0.25
"""Seconds between two looks."""

_FOLLOWED: Final = 100  # approved records that are asked for, one by one, until they are used
_SKEW: Final = 1.0  # seconds that the clocks of two machines may differ

Kind: TypeAlias = Literal["pending", "voted", "approved", "rejected", "used", "expired", "gone"]


class Event(NamedTuple):
    """Something that happened to an approval, and the approval as it was last seen."""

    kind: Kind
    record: Approval


def events(
    store: ApprovalStore,
    *,
    say: Callable[[str], object],
    sleep: Callable[[float], object] = time.sleep,
    clock: Callable[[], float] = time.time,
) -> Iterator[Event]:
    """Yield what happens, those that wait already first; `say` is told of a store that fails later, and recovers.

    Raises what the store raises at first.
    """
    followed: dict[str, Approval] = {}
    seen = _look(store, followed)
    while True:
        for id, record in seen.items():
            last = record or followed[id]
            kind = _happened(followed.get(id), record, last.expires_at - _SKEW <= clock())
            if kind is not None:
                yield Event(kind, last)
        records = [record for record in seen.values() if record is not None]
        approved = [record for record in records if record.status == "approved"]  # the newest first
        waiting = [record for record in records if record.status == "pending"]
        followed = {record.id: record for record in (*waiting, *approved[:_FOLLOWED])}
        sleep(EVERY)
        seen = _look_patiently(store, followed, say, sleep)


def _happened(before: Approval | None, after: Approval | None, over: bool) -> Kind | None:
    if before is None:
        return "pending"
    if after is None:
        if over:
            return "expired"
        return "used" if before.status == "approved" else "gone"
    if after.status != before.status:
        return after.status
    return "voted" if len(after.votes) > len(before.votes) else None


def _look(store: ApprovalStore, followed: Mapping[str, Approval]) -> dict[str, Approval | None]:
    """Return the records that wait, and those that are followed, by id; None for one that is no more."""
    waiting = {record.id: record for record in store.pending()}
    return {**waiting, **{id: store.get(id) for id in followed if id not in waiting}}


def _look_patiently(
    store: ApprovalStore,
    followed: Mapping[str, Approval],
    say: Callable[[str], object],
    sleep: Callable[[float], object],
) -> dict[str, Approval | None]:
    failed = False
    while True:
        try:
            seen = _look(store, followed)
        except Exception as error:  # noqa: BLE001  # whatever a store raises, it cannot answer
            if not failed:
                say(f"the store does not answer, and is asked again and again: {error}")
            failed = True
            sleep(EVERY)
        else:
            if failed:
                say("the store answers again")
            return seen
