"""The policy decision point: a policy, its state, and a clock.

This is the only place that sequences state. What it asks the compiled policy is pure; what the stores are asked is
settled step by step in `settlement`. Whatever fails in here ends in a denial (`internal_error`) that is logged, never
in an exception and never in a call that runs.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Generator
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from .approvals.memory import MemoryApprovalStore
from .approvals.store import Approval, ApprovalError, ApprovalStore, AsyncApprovalStore
from .audit.event import Answered, AuditSink, Decided
from .audit.recorder import Recorder
from .call import CATEGORIES, UNKNOWN, Principal, ToolCall
from .claims import Claim
from .decision import Decision, Effect, Reason, ReasonCode
from .demands import unanswered
from .driving import drive, drive_async
from .limits.memory import MemoryLimitStore
from .limits.store import AsyncLimitStore, LimitStore, Receipt
from .logs import log
from .plans import NoPlans, Plans, visible
from .policy import Policy
from .settlement import State, Steps, Voting, limited, refund, settle

if TYPE_CHECKING:
    from .catalogue.definition import Tool
    from .explain import Explanation

Answer = TypeVar("Answer")
_NO_POLICY: Final = NoPlans()


class Catalogue(Protocol):
    """Knows what kind of thing a tool does. May also take `definition`, as `ToolCatalogue.category` does."""

    def category(self, server: str | None, tool: str) -> str | None:
        """Return `read`, `write`, `execute`, `destructive` or `financial`, or None where the tool is not known."""


class PolicyEngine:
    """Decides tool calls by one policy.

    `limits` and `approvals` hold the state, in memory unless given; `clock` returns seconds and never has to be
    wall-clock time; `catalogue` knows the tools' categories, the bundled one unless given, which is read when a policy
    asks for the first category. Without a policy every call is denied. All methods may be called from any thread.

    `quorum` is how many different people have to approve a call, `approvers` the names of those who may decide, anybody
    unless given; nobody may approve a call of their own unless `allow_self_approval` is set.

    `audit` gets every decision that `authorize` makes and every answer of a person. Where it fails, that is logged and
    counted in `unrecorded`; with `audit_required` a call whose decision is not on record is denied.
    """

    def __init__(  # noqa: PLR0913  # what a host may replace, each by its name
        self,
        policy: Policy | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        limits: LimitStore | AsyncLimitStore | None = None,
        approvals: ApprovalStore | AsyncApprovalStore | None = None,
        catalogue: Catalogue | None = None,
        allow_self_approval: bool = False,
        approvers: Collection[str] | None = None,
        quorum: int = 1,
        audit: AuditSink | None = None,
        audit_required: bool = False,
    ) -> None:
        if policy is not None and not isinstance(policy, Policy):
            raise TypeError(f"`policy` has to be a `Policy`, not {type(policy).__name__}; use `Policy.load(path)`")
        self._limits = MemoryLimitStore(clock) if limits is None else limits
        self._approvals = MemoryApprovalStore(clock) if approvals is None else approvals
        self._catalogue: Any = catalogue
        self._takes_definitions = catalogue is None or _takes_definitions(catalogue)
        self._allow_self_approval = allow_self_approval
        self._voting = _voting(quorum, approvers)
        self._recorder = None if audit is None else Recorder(audit, required=audit_required)
        if audit is None and audit_required:
            raise ValueError("`audit_required` needs an `audit` to record to")
        self._load(policy)

    def _load(self, policy: Policy | None) -> None:
        # one assignment: a call sees either policy whole, never something of both
        self._plans = _NO_POLICY if policy is None else Plans(policy, self._category_of)

    @property
    def policy(self) -> Policy | None:
        """The policy that decides now; approvals are bound to its `digest`."""
        return self._plans.policy

    def _settle(self, plans: Plans | NoPlans, claim: Claim, call: ToolCall, *, take: bool) -> Steps:
        state = State(self._limits, self._approvals, plans.digest, self._voting)
        return settle(claim, call, state, take=take)

    def reload(self, policy: Policy) -> None:
        """Replace the policy, for all calls from now on at once. Limits keep counting; approvals of the old policy are
        void.
        """
        if not isinstance(policy, Policy):
            raise TypeError(f"`reload` takes a `Policy`, not {type(policy).__name__}; the old policy stays")
        self._load(policy)

    # -- deciding

    def evaluate(self, call: ToolCall) -> Decision:
        """Return what would be decided now; takes nothing and stores nothing."""
        return self._decided(self._plans, call, take=False)

    async def evaluate_async(self, call: ToolCall) -> Decision:
        """As `evaluate`, for stores that answer asynchronously; others serve as well."""
        return await self._decided_async(self._plans, call, take=False)

    def authorize(self, call: ToolCall) -> Decision:
        """Decide, and take from the limits what an allowed call costs: what an enforcement point asks."""
        if self._recorder is not None:
            return self._authorize_on_record(self._recorder, call)
        # What needs nothing but limits is settled right here: as `settle` would, without the detour of a generator.
        try:
            plans = self._plans
            verdict = plans[call.tool](call)
            if type(verdict) is Decision:
                return verdict
            if not verdict.simple:
                return _drive(self._settle(plans, verdict, call, take=True))
            asked = verdict.demand.ask(call)
            try:
                receipt = self._limits.acquire(asked)
                if type(receipt) is not Receipt:
                    receipt = _at_once(receipt)
            except Exception as error:  # noqa: BLE001  # whatever a store raises, it cannot answer
                log().error("the limit store cannot answer: %r", error)  # one line, however often
                receipt = unanswered(asked)
            return verdict.grant(receipt) if receipt.taken else limited(verdict, receipt)
        except Exception:  # noqa: BLE001  # whatever fails, the call is denied
            return _failed()

    async def authorize_async(self, call: ToolCall) -> Decision:
        """As `authorize`, for stores that answer asynchronously; others serve as well."""
        if self._recorder is None:
            return await self._decided_async(self._plans, call, take=True)
        started, plans = perf_counter(), self._plans
        decision = await self._decided_async(plans, call, take=True)
        event = Decided(call, decision, plans.digest(), perf_counter() - started)
        return await _drive_async(self._recorder.decided(event, self._limits))

    def _authorize_on_record(self, recorder: Recorder, call: ToolCall) -> Decision:
        started, plans = perf_counter(), self._plans
        decision = self._decided(plans, call, take=True)
        event = Decided(call, decision, plans.digest(), perf_counter() - started)
        return _drive(recorder.decided(event, self._limits))

    def _decided(self, plans: Plans | NoPlans, call: ToolCall, *, take: bool) -> Decision:
        try:
            verdict = plans[call.tool](call)
            return verdict if type(verdict) is Decision else _drive(self._settle(plans, verdict, call, take=take))
        except Exception:  # noqa: BLE001  # whatever fails, the call is denied
            return _failed()

    async def _decided_async(self, plans: Plans | NoPlans, call: ToolCall, *, take: bool) -> Decision:
        try:
            verdict = plans[call.tool](call)
            if type(verdict) is Decision:
                return verdict
            return await _drive_async(self._settle(plans, verdict, call, take=take))
        except Exception:  # noqa: BLE001  # whatever fails, the call is denied
            return _failed()

    def explain(self, call: ToolCall) -> Explanation:
        """Return every rule that matches a call and every condition in it with its outcome; takes nothing and stores
        nothing.
        """
        from .explain import Explanation, explain

        decision = self.evaluate(call)
        try:
            return explain(self._plans.document, call, decision)
        except Exception:  # noqa: BLE001  # logged below
            log().exception("a decision could not be explained")
            return Explanation(decision, (), (), "")

    def visible(self, call: ToolCall) -> bool:
        """Tell whether the caller may ever call the tool, whatever its arguments: whether a list of tools shows it."""
        try:
            document = self._plans.document
            return document is not None and visible(document, call)
        except Exception:  # noqa: BLE001  # logged below
            log().exception("whether a tool is visible could not be decided")
            return False

    # -- after the call

    def refund(self, decision: Decision) -> None:
        """Give back what a call took that then failed, for limits with `refund_on_error`; once, however often it is
        asked.
        """
        try:
            _drive(refund(decision, self._limits))
        except Exception:  # noqa: BLE001  # logged below
            log().exception("the limit store cannot give back what a failed call took")

    async def refund_async(self, decision: Decision) -> None:
        """As `refund`, for stores that answer asynchronously."""
        try:
            await _drive_async(refund(decision, self._limits))
        except Exception:  # noqa: BLE001  # logged below
            log().exception("the limit store cannot give back what a failed call took")

    def note(self, call: ToolCall, decision: Decision) -> None:
        """Put on record what an enforcement point has decided by itself: a denial of a call that it could not put to
        the engine.
        """
        if self._recorder is not None:
            self._recorder.keep(Decided(call, decision, self._plans.digest(), 0.0))

    # -- approvals

    def approve(self, approval_id: str, *, by: str | Principal, note: str = "") -> Approval:
        """Approve a pending call in the name of `by`; it stays pending until as many people have as it needs. Raises
        `ApprovalError`: unknown, decided, expired, one's own call, or not one of those who may.
        """
        return _drive(self._decide(approval_id, True, by, note))

    def reject(self, approval_id: str, *, by: str | Principal, note: str = "") -> Approval:
        """Reject a pending call in the name of `by`. Raises `ApprovalError`: unknown, decided, expired, or not one of
        those who may.
        """
        return _drive(self._decide(approval_id, False, by, note))

    def approval(self, approval_id: str) -> Approval | None:
        """Return the approval with this id as it stands now, or None where it is unknown, used or expired. Raises what
        its store raises.
        """
        return _drive(_get(self._approvals, approval_id))

    def pending(self) -> list[Approval]:
        """Return the approvals that wait for an answer, oldest first, those of other policies on the same store
        included. Raises what their store raises.
        """
        return _drive(_pending(self._approvals))

    async def approve_async(self, approval_id: str, *, by: str | Principal, note: str = "") -> Approval:
        """As `approve`, for stores that answer asynchronously."""
        return await _drive_async(self._decide(approval_id, True, by, note))

    async def reject_async(self, approval_id: str, *, by: str | Principal, note: str = "") -> Approval:
        """As `reject`, for stores that answer asynchronously."""
        return await _drive_async(self._decide(approval_id, False, by, note))

    async def approval_async(self, approval_id: str) -> Approval | None:
        """As `approval`, for stores that answer asynchronously."""
        return await _drive_async(_get(self._approvals, approval_id))

    async def pending_async(self) -> list[Approval]:
        """As `pending`, for stores that answer asynchronously."""
        return await _drive_async(_pending(self._approvals))

    def _decide(
        self, approval_id: str, approved: bool, by: str | Principal, note: str
    ) -> Generator[Any, Any, Approval]:
        if not isinstance(by, (str, Principal)):
            raise TypeError(f"`by` is a name or a `Principal`, not {type(by).__name__}")
        name = by if isinstance(by, str) else by.id
        if not name:
            raise ApprovalError("an approval is decided by somebody: `by` must not be empty")
        if approved and not self._allow_self_approval:
            record: Approval | None = yield lambda: self._approvals.get(approval_id)
            if record is not None and _is_own(record, by):
                raise ApprovalError("a principal cannot approve its own call")
        decided: Approval = yield lambda: self._approvals.decide(approval_id, approved, name, note)
        if self._recorder is not None:
            self._recorder.keep(Answered(decided, approved))
        return decided

    @property
    def unrecorded(self) -> int:
        """How many decisions and answers the audit sink has failed to keep."""
        return 0 if self._recorder is None else self._recorder.failures

    # -- categories

    @property
    def asks_definitions(self) -> bool:
        """Whether the policy asks for categories that depend on tools' definitions.

        Then an enforcement point says with each call what `category` made of the tool's definition.
        """
        return self._takes_definitions and self._plans.asks_categories

    def category(self, server: str | None, definition: Tool) -> str:
        """Return the category of a tool as its server lists it, an entry of `tools/list`, or `unknown`.

        For enforcement points: the `category` to make a `ToolCall` with. Raises whatever the catalogue raises; a call
        of that tool has to be denied then.
        """
        from .catalogue.definition import read_definition

        try:
            read = read_definition(definition)
        except ValueError:
            return UNKNOWN
        more = {"definition": read} if self._takes_definitions else {}
        return _one_of_ours(self._asked_catalogue().category(server or None, read.name, **more)) or UNKNOWN

    def _category_of(self, call: ToolCall) -> str | None:
        said = call.category
        if said is None:
            return _one_of_ours(self._asked_catalogue().category(call.server or None, call.tool))
        return None if said == UNKNOWN else said

    def _asked_catalogue(self) -> Any:
        if self._catalogue is None:
            from .catalogue.lookup import ToolCatalogue

            self._catalogue = ToolCatalogue.bundled()
        return self._catalogue


def _voting(quorum: int, approvers: Collection[str] | None) -> Voting:
    if isinstance(approvers, str):
        raise TypeError("`approvers` is a collection of names, not one name")
    if type(quorum) is not int or quorum < 1:
        raise ValueError("`quorum` is a number of people, at least 1")
    names = None if approvers is None else tuple(sorted(set(approvers)))
    if names is not None and len(names) < quorum:
        raise ValueError(f"`quorum` asks for {quorum} people, and there are {len(names)} `approvers`")
    return Voting(quorum, names)


def _takes_definitions(catalogue: Catalogue) -> bool:
    from inspect import signature

    try:
        return "definition" in signature(catalogue.category).parameters
    except (AttributeError, TypeError, ValueError):  # it does not say
        return False


def _one_of_ours(category: str | None) -> str | None:
    return category if category in CATEGORIES else None


def _is_own(record: Approval, by: str | Principal) -> bool:
    if record.principal is None:
        return False
    own, issuer = record.principal["id"], record.principal["issuer"] or None
    if isinstance(by, str) or not by.issuer or issuer is None:  # without an issuer on both sides the id has to do
        return own == (by if isinstance(by, str) else by.id)
    return own == by.id and issuer == by.issuer


def _failed() -> Decision:
    log().exception(  # called while an exception is handled
        "the policy engine failed; the call is denied"
    )
    return Decision(
        Effect.DENY, (Reason(ReasonCode.INTERNAL_ERROR, "the policy could not be evaluated, so the call is denied"),)
    )


def _drive(steps: Generator[Callable[[], Any], Any, Answer]) -> Answer:
    """Run a generator that asks its stores questions, with stores that answer at once."""
    return drive(steps, lambda question: _at_once(question()))


async def _drive_async(steps: Generator[Callable[[], Any], Any, Answer]) -> Answer:
    """Run a generator that asks its stores questions, with stores that answer at once or may be awaited."""
    return await drive_async(steps, _answered)


async def _answered(question: Callable[[], Any]) -> Any:
    answer = question()
    return await answer if isinstance(answer, Awaitable) else answer


def _get(store: ApprovalStore | AsyncApprovalStore, approval_id: str) -> Generator[Any, Any, Approval | None]:
    found: Approval | None = yield partial(store.get, approval_id)
    return found


def _pending(store: ApprovalStore | AsyncApprovalStore) -> Generator[Any, Any, list[Approval]]:
    found: list[Approval] = yield store.pending
    return found


def _at_once(answer: Any) -> Any:
    if isinstance(answer, Awaitable):
        close = getattr(answer, "close", None)
        if close is not None:
            close()
        raise TypeError("this store answers asynchronously: use the methods that end in `_async`")
    return answer
