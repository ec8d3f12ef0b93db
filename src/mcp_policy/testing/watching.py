"""What tests that ask an engine themselves reach of its policy, added to what case files reach."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from ..call import ToolCall
from ..decision import Decision
from ..engine import PolicyEngine
from ..policy import Policy
from .coverage import Coverage, Row, by_policy, counted, summary


class WatchedEngine(PolicyEngine):
    """An engine whose decisions count for coverage; it decides as any other does."""

    def __init__(self, policy: Policy, *, clock: Callable[[], float], coverage: Coverage, name: str) -> None:
        self._coverage = coverage
        self._name = name
        super().__init__(policy, clock=clock)

    def _load(self, policy: Policy | None) -> None:
        if policy is None:
            super()._load(policy)
        else:
            self._plans = self._coverage.plans(self._name, policy, self._category_of)

    def evaluate(self, call: ToolCall) -> Decision:
        return self._noted(super().evaluate(call))

    def authorize(self, call: ToolCall) -> Decision:
        return self._noted(super().authorize(call))

    async def authorize_async(self, call: ToolCall) -> Decision:
        return self._noted(await super().authorize_async(call))

    def _noted(self, decision: Decision) -> Decision:
        if self.policy is not None:
            self._coverage.note(self.policy, decision)
        return decision


def merged(rows: Iterable[Row]) -> list[Row]:
    """Return one row for each part of each policy: what was reached anywhere, in whichever process, was reached."""
    found: dict[tuple[str, str], Row] = {}
    for row in rows:
        known = found.setdefault((row.policy, row.pointer), row)
        seen = (*known.seen, *(word for word in row.seen if word not in known.seen))
        unseen = tuple(word for word in known.unseen if word not in seen)
        found[row.policy, row.pointer] = row._replace(seen=seen, unseen=unseen)
    return list(found.values())


def percent(rows: Iterable[Row]) -> float:
    """Return how much of all that can occur did occur; 0 where no policy decided anything."""
    reached, every = counted(rows)
    return 100.0 * reached / every if every else 0.0


def lines_of(rows: Iterable[Row]) -> Iterator[tuple[str, bool]]:
    """Yield lines for people, each with whether all of it was reached."""
    for name, parts in by_policy(rows).items():
        yield summary(name, parts), not any(row.unseen for row in parts)
        for row in parts:
            if row.unseen:
                yield f"  {row.pointer}: {row.says}: never {', never '.join(row.unseen)}", False
