"""One of the two policies that are compared, and the engine that has the last word about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ..approvals.memory import MemoryApprovalStore
from ..call import ToolCall
from ..compiler import Document, Section, Tree, spelt_out_limits
from ..decision import Decision, Effect
from ..demands import unanswered
from ..engine import PolicyEngine
from ..evaluator import Plan
from ..limits.memory import MemoryLimitStore
from ..limits.store import Receipt, Request
from ..policy import Policy
from ..symbolic.atoms import Setting


def _limits(document: Document) -> Iterator[tuple[str, Tree]]:
    for section in (document.top, *document.servers.values()):
        for pointer, rule in rules(section):
            yield from spelt_out_limits(rule, pointer)


def rules(section: Section) -> Iterator[tuple[str, Tree]]:
    """Yield every rule of a section, with its pointer."""
    for place, raw in section.entries():
        if isinstance(raw, list):
            yield from ((f"{place.pointer}/{number}", rule) for number, rule in enumerate(raw))
        else:
            yield place.pointer, raw


class Bench:
    """An engine that can be tried again and again: each trial begins with empty counters, at time 0.

    It stands before a store of its own, so that a call can be made many times at once: what is taken then is what as
    many calls would take, all or nothing.
    """

    def __init__(self, policy: Policy) -> None:
        self.now = 0.0
        self.failing = False
        self.made = 0
        """Calls that were made in all trials."""
        self._fresh = True
        self._times = 1
        self._store = MemoryLimitStore(self._time)
        self.approvals = _Approvals(self._time)
        self.engine = PolicyEngine(policy, clock=self._time, limits=self, approvals=self.approvals, catalogue=_Nobody())

    def _time(self) -> float:
        return self.now

    @property
    def document(self) -> Document:
        """The engine's compiled document."""
        document = self.engine._plans.document
        assert document is not None  # noqa: S101  # a bench has a policy
        return document

    def reset(self) -> None:
        """Begin a trial."""
        self.now = 0.0
        if self._fresh:
            return
        self._fresh = True
        self._store = MemoryLimitStore(self._time)
        self.approvals.forget()

    def admits(self, call: ToolCall, times: int = 1, *, failed: bool = False) -> bool:
        """Make a call so many times and tell whether all of them ran; each may fail then."""
        self._times = times
        try:
            decision = self.decide(call)
        finally:
            self._times = 1
        if failed:
            self.engine.refund(decision)
        return decision.allowed

    def decide(self, call: ToolCall) -> Decision:
        """Make a call, with a person who approves what is asked for."""
        decision = self.authorize(call)
        if decision.effect is not Effect.APPROVE or decision.approval is None:
            return decision
        self.engine.approve(decision.approval.id, by="a person")
        return self.engine.authorize(call)

    def authorize(self, call: ToolCall) -> Decision:
        """Make a call."""
        self.made += 1
        self._fresh = False
        return self.engine.authorize(call)

    # the store, as the engine sees it

    def acquire(self, requests: Sequence[Request]) -> Receipt:
        """Take the costs of as many calls as are made at once."""
        return unanswered(tuple(requests)) if self.failing else self._store.acquire(self._many(requests))

    def peek(self, requests: Sequence[Request]) -> Receipt:
        """What `acquire` would meet."""
        return unanswered(tuple(requests)) if self.failing else self._store.peek(self._many(requests))

    def refund(self, receipt: Receipt, which: Sequence[int]) -> None:
        """Give costs back."""
        self._store.refund(receipt, which)

    def _many(self, requests: Sequence[Request]) -> list[Request]:
        return [(spec, key, cost * self._times) for spec, key, cost in requests]


class _Approvals(MemoryApprovalStore):
    """Approvals that a trial leaves behind are forgotten."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock_given = clock
        super().__init__(clock)

    def forget(self) -> None:
        """Begin anew."""
        super().__init__(self._clock_given)


class _Nobody:
    """A catalogue that knows no tool: a call says its category itself."""

    def category(self, server: str | None, tool: str) -> None:  # noqa: ARG002  # the protocol's signature
        return None


class Side:
    """A policy, taken apart for comparing, and its engine."""

    def __init__(self, policy: Policy) -> None:
        self.tree: Tree = policy._tree
        self.bench = Bench(policy)
        self.document = self.bench.document  # the engine's own: a plan is compiled once
        self.limits = dict(_limits(self.document))
        """Every limit of the document, spelt out, by its pointer."""

    def plan(self, setting: Setting) -> Plan:
        """Return what the policy says in one setting."""
        return self.document.plan(setting.tool, *self.document.variant(setting.call()))

    def sections(self, server: str | None) -> list[Section]:
        """Return the sections that a call to this server meets."""
        own = self.document.servers.get(server) if server is not None else None
        return [self.document.top, *([own] if own else [])]

    def all_sections(self) -> list[Section]:
        """Return every section."""
        return [self.document.top, *self.document.servers.values()]
