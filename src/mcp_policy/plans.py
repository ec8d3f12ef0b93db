"""Plans by tool name: resolved once, then one dict lookup a call.

Names that the document spells out are kept for good, they are as many as the document has. Every other name is cached
first in, first out, so that a flood of invented names costs time and never memory. Looking a cached name up takes no
lock; a miss does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import cached_property
from threading import Lock
from typing import Final, TypeAlias

from .call import ToolCall
from .claims import Claim, conclude
from .compiler import Document, Watch
from .conditions import CategoryOf
from .decision import Decision, Effect, Reason, ReasonCode
from .evaluator import Plan, judge, open_outcomes, parts
from .fastpath import chain
from .patterns import check_name
from .policy import Policy

Verdict: TypeAlias = Decision | Claim
Decide: TypeAlias = Callable[[ToolCall], Verdict]

CACHED_NAMES: Final = 4_096
REMEMBERED_OUTCOMES: Final = 64


class Plans(dict[str, Decide]):
    """What decides on a call, by the tool's name. To `watch` rules costs the short cut, and changes no decision."""

    def __init__(self, policy: Policy, category_of: CategoryOf, watch: Watch | None = None) -> None:
        super().__init__()
        self.policy = policy
        self.document = document = Document(policy._tree, category_of, watch)
        self._invented: deque[str] = deque()
        self._lock = Lock()
        self._unlisted = resolve(document, "")

    def __missing__(self, tool: str) -> Decide:
        flaw = check_name(tool)
        if flaw is not None:
            return _invalid(flaw)
        document = self.document
        decide = resolve(document, tool) if document.names(tool) else self._unlisted
        with self._lock:
            if tool not in self:
                self[tool] = decide
                if tool not in document.spelt_out:
                    self._invented.append(tool)
                    if len(self._invented) > CACHED_NAMES:
                        del self[self._invented.popleft()]
        return decide

    @cached_property
    def asks_categories(self) -> bool:
        """Whether the policy asks for a tool's category anywhere."""
        return self.document.has_categories or mentions(self.policy._tree, "tool.category")

    def digest(self) -> str:
        """Return the digest of the policy, which approvals are bound to."""
        return self.policy.digest


class NoPlans(dict[str, Decide]):
    """What decides where no policy is loaded: every call is denied."""

    policy = None
    document = None
    asks_categories = False

    def __missing__(self, tool: str) -> Decide:
        return lambda call: Decision(
            Effect.DENY, (Reason(ReasonCode.NO_POLICY, "no policy is loaded, so every call is denied"),)
        )

    def digest(self) -> str:
        """Return what no approval is bound to."""
        return ""


def mentions(tree: object, text: str) -> bool:
    """Tell whether a text stands anywhere in a document, which is shallow."""
    if isinstance(tree, dict):
        return any(mentions(item, text) for item in tree.values())
    return any(mentions(item, text) for item in tree) if isinstance(tree, list) else tree == text


def _invalid(flaw: str) -> Decide:
    return lambda call: Decision(Effect.DENY, (Reason(ReasonCode.INVALID_CALL, call.flaw or flaw),))


def resolve(document: Document, tool: str) -> Decide:
    """Return what decides on a tool's calls, on whatever server and of whatever category."""
    if not document.servers and not document.has_categories:
        return decider(document.plan(tool, None, None), watched=document.watch is not None)
    variants: dict[tuple[str | None, str | None], Decide] = {}

    def decide(call: ToolCall) -> Verdict:
        variant = document.variant(call)
        found = variants.get(variant)
        if found is None:
            found = variants[variant] = decider(document.plan(tool, *variant), watched=document.watch is not None)
        return found(call)

    return decide


def decider(plan: Plan, *, watched: bool = False) -> Decide:
    """Return the function that gives a plan's verdict on a call; `watched`, it asks every condition."""
    evaluate = [outcome for _, outcome, _ in parts(plan)]
    fine = tuple(expected for _, _, expected in parts(plan))
    remembered: dict[tuple[int, ...], Verdict] = {}

    def full(call: ToolCall) -> Verdict:
        outcomes = tuple([outcome(call) for outcome in evaluate])
        verdict = remembered.get(outcomes)
        if verdict is None:
            verdict = verdict_of(plan, outcomes)
            if len(remembered) < REMEMBERED_OUTCOMES:
                remembered[outcomes] = verdict
        return verdict

    return full if watched else chain(plan, verdict_of(plan, fine), full)


def verdict_of(plan: Plan, outcomes: tuple[int, ...]) -> Verdict:
    """Return what a plan says about a call whose conditions came out like this."""
    enforced = judge(plan, outcomes, with_shadow=False)
    full = judge(plan, outcomes, with_shadow=True)
    return conclude(enforced, full, document_shadow=plan.shadow)


def visible(document: Document, call: ToolCall) -> bool:
    """Tell whether a caller may ever call a tool, whatever the arguments: what a list of tools shows."""
    if check_name(call.tool) is not None:
        return False
    plan = document.plan(call.tool, *document.variant(call))
    ruling = judge(plan, open_outcomes(plan, call), with_shadow=False)
    return plan.shadow or ruling.effect is not Effect.DENY
