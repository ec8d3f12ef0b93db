"""What the engine puts on record, and what becomes of a call whose decision could not be."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest

from mcp_policy import Guard, Policy, PolicyDenied, PolicyEngine, ReasonCode, ToolCall
from mcp_policy.adapters import Judge
from mcp_policy.audit import Answered, Decided
from mcp_policy.limits import MemoryLimitStore


class Kept:
    """A sink that keeps events, and fails while it is told to."""

    def __init__(self) -> None:
        self.events: list[Decided | Answered] = []
        self.failing = False

    def record(self, event: Decided | Answered) -> None:
        if self.failing:
            raise OSError("the disk is full")
        self.events.append(event)


class AsyncLimits:
    """A store whose answers are awaited."""

    def __init__(self) -> None:
        self.store = MemoryLimitStore(lambda: 0.0)

    async def acquire(self, requests):
        return self.store.acquire(requests)

    async def peek(self, requests):
        return self.store.peek(requests)

    async def refund(self, receipt, which):
        self.store.refund(receipt, which)


POLICY = Policy.model_validate(
    {
        "version": "1",
        "tools": {
            "read": {},
            "rm": {"action": "deny"},
            "search": {"rate_limit": {"max": 2, "window": 60}},
            "pay": {"action": "approve", "rate_limit": {"max": 1, "window": 60}},
            "tried": {"action": "allow", "limits": [{"max": 2, "window": 60}]},
        },
    }
)
IN_SHADOW = Policy.model_validate(
    {"version": "1", "mode": "shadow", "tools": {"search": {"rate_limit": {"max": 1, "window": 60}}}}
)


@pytest.fixture
def sink() -> Kept:
    return Kept()


def engine_with(sink, policy=POLICY, **more) -> PolicyEngine:
    return PolicyEngine(policy, clock=lambda: 0.0, audit=sink, **more)


@pytest.fixture(params=["synchronous", "asynchronous", "asynchronous store"])
def authorize(request):
    """How to ask an engine, and what to make it with."""
    if request.param == "synchronous":
        return lambda engine, call: engine.authorize(call)
    return lambda engine, call: asyncio.run(engine.authorize_async(call))


@pytest.fixture
def stores(request):
    return {"limits": AsyncLimits()} if "asynchronous store" in request.node.name else {}


def test_every_decision_is_on_record_as_it_was_made(sink, authorize, stores):
    engine = engine_with(sink, **stores)
    calls = [
        ToolCall(tool, {"a": 1}, session="s") for tool in ("read", "rm", "other", "search", "search", "search", "pay")
    ]
    decisions = [authorize(engine, call) for call in calls]
    assert [event.call for event in sink.events] == calls
    assert all(event.decision is decision for event, decision in zip(sink.events, decisions, strict=True))
    assert [str(event.decision.effect) for event in sink.events] == [
        *("allow", "deny", "deny", "allow", "allow", "limit", "approve"),
    ]
    assert {event.policy for event in sink.events} == {POLICY.digest}
    assert all(event.seconds >= 0 for event in sink.events)
    assert engine.unrecorded == 0


def test_recorded_and_unrecorded_decide_alike(sink, authorize, stores):
    plain, recorded = PolicyEngine(POLICY, clock=lambda: 0.0), engine_with(sink, **stores)
    for tool in ("read", "rm", "other", "search", "search", "search", "tried", "tried", "tried"):
        call = ToolCall(tool, {}, session="s")
        assert plain.authorize(call)[:2] == authorize(recorded, call)[:2]


def test_what_would_be_decided_is_not_recorded(sink):
    engine = engine_with(sink)
    engine.evaluate(ToolCall("read"))
    asyncio.run(engine.evaluate_async(ToolCall("read")))
    engine.explain(ToolCall("read"))
    assert sink.events == []


def test_shadow_is_on_record_with_what_would_have_been(sink):
    engine = engine_with(sink, IN_SHADOW)
    for _ in range(2):
        assert engine.authorize(ToolCall("search")).allowed
    assert [str(event.decision.would_be) for event in sink.events] == ["allow", "limit"]


def test_without_a_policy_the_denial_is_on_record(sink):
    PolicyEngine(audit=sink).authorize(ToolCall("read"))
    assert sink.events[0].decision.reasons[0].code is ReasonCode.NO_POLICY


def test_a_reload_shows_in_the_record(sink):
    engine = engine_with(sink)
    engine.authorize(ToolCall("search"))
    engine.reload(IN_SHADOW)
    engine.authorize(ToolCall("search"))
    assert [event.policy for event in sink.events] == [POLICY.digest, IN_SHADOW.digest]


def test_who_approved_is_on_record_with_the_answer_and_with_the_call(sink):
    engine = engine_with(sink)
    waiting = engine.authorize(ToolCall("pay", {"amount": 1}, session="s")).approval
    engine.approve(waiting.id, by="ann", note="as agreed")
    assert engine.authorize(ToolCall("pay", {"amount": 1}, session="s")).allowed
    asked, answered, ran = sink.events
    assert (asked.decision.approval.id, asked.decision.approval.status) == (waiting.id, "pending")
    assert (answered.approved, answered.approval.votes[-1].by, answered.approval.votes[-1].note) == (
        True,
        "ann",
        "as agreed",
    )
    assert (ran.decision.approval.id, ran.decision.approval.decided_by) == (waiting.id, "ann")


def test_a_rejection_is_on_record(sink):
    engine = engine_with(sink)
    waiting = engine.authorize(ToolCall("pay", {}, session="s")).approval
    asyncio.run(engine.reject_async(waiting.id, by="ann"))
    assert (sink.events[-1].approved, sink.events[-1].approval.status) == (False, "rejected")


# -- a sink that fails


def test_a_sink_that_fails_is_logged_and_counted_and_stops_nothing(sink, authorize, stores, caplog):
    engine = engine_with(sink, **stores)
    sink.failing = True
    with caplog.at_level(logging.ERROR, "mcp_policy"):
        assert authorize(engine, ToolCall("read")).allowed
        assert not authorize(engine, ToolCall("rm")).allowed
    assert engine.unrecorded == 2
    assert [record.message for record in caplog.records] == [
        "the audit sink has failed: a decision, or a person's answer, is not on record"
    ] * 2


def test_where_the_record_is_required_nothing_runs_without_it(sink, authorize, stores):
    engine = engine_with(sink, audit_required=True, **stores)
    sink.failing = True
    for tool in ("read", "search"):
        decision = authorize(engine, ToolCall(tool, session="s"))
        assert (str(decision.effect), decision.reasons[0].code) == ("deny", ReasonCode.INTERNAL_ERROR)
        assert "could not be recorded" in decision.reasons[0].message
    sink.failing = False
    assert authorize(engine, ToolCall("read")).allowed


def test_what_could_not_be_recorded_takes_nothing(sink, authorize, stores):
    engine = engine_with(sink, audit_required=True, **stores)
    sink.failing = True
    for _ in range(5):
        authorize(engine, ToolCall("search", session="s"))
    sink.failing = False
    assert [authorize(engine, ToolCall("search", session="s")).allowed for _ in range(3)] == [True, True, False]


def test_what_is_refused_anyhow_stays_refused_for_its_own_reason(sink, authorize, stores):
    engine = engine_with(sink, audit_required=True, **stores)
    sink.failing = True
    assert authorize(engine, ToolCall("rm")).reasons[0].code is ReasonCode.DENIED_BY_RULE
    assert authorize(engine, ToolCall("pay", session="s")).reasons[0].code is ReasonCode.APPROVAL_REQUIRED


def test_an_approval_whose_call_could_not_be_recorded_is_used_up(sink):
    engine = engine_with(sink, audit_required=True)
    call = ToolCall("pay", {}, session="s")
    engine.approve(engine.authorize(call).approval.id, by="ann")
    sink.failing = True
    assert not engine.authorize(call).allowed
    sink.failing = False
    assert engine.authorize(call).reasons[0].code is ReasonCode.APPROVAL_REQUIRED


def test_a_store_that_cannot_give_back_is_logged_and_the_call_is_denied(sink, caplog):
    class Odd(MemoryLimitStore):
        def refund(self, receipt, which):
            raise ConnectionError("gone")

    engine = engine_with(sink, audit_required=True, limits=Odd())
    sink.failing = True
    assert not engine.authorize(ToolCall("search", session="s")).allowed
    assert "cannot give back" in caplog.text


def test_failures_of_many_threads_are_counted_whole(sink):
    engine = engine_with(sink)
    sink.failing = True
    logging.getLogger("mcp_policy").disabled = True
    try:
        threads = [
            threading.Thread(target=lambda: [engine.authorize(ToolCall("read")) for _ in range(200)]) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        logging.getLogger("mcp_policy").disabled = False
    assert engine.unrecorded == 800


def test_a_required_record_needs_somewhere_to_go():
    with pytest.raises(ValueError, match="`audit_required` needs an `audit`"):
        PolicyEngine(POLICY, audit_required=True)


# -- what an enforcement point denies by itself


def nested(depth: int):
    made: object = 1
    for _ in range(depth):
        made = [made]
    return made


def test_what_a_guard_cannot_put_to_the_engine_is_on_record(sink):
    guard = Guard(engine_with(sink), server="files", principal=lambda: 1 / 0)

    @guard("read")
    def read(path):
        raise AssertionError("it ran")

    @guard("read")
    async def read_later(path):
        raise AssertionError("it ran")

    for call in (lambda: read("/"), lambda: asyncio.run(read_later("/")), lambda: read(nested(5_000))):
        with pytest.raises(PolicyDenied):
            call()
    with pytest.raises(PolicyDenied), guard.call("read", {"path": nested(5_000)}):
        raise AssertionError("it ran")
    assert [(event.call.tool, event.call.server) for event in sink.events] == [("read", "files")] * 4
    assert [str(event.decision.reasons[0].code) for event in sink.events] == [
        *("internal_error", "internal_error", "invalid_call", "invalid_call"),
    ]


def test_what_an_adapter_cannot_put_to_the_engine_is_on_record(sink):
    judge = Judge(engine_with(sink), lambda context: 1 / 0)
    for given in ({"path": "/"}, {"path": nested(5_000)}):
        decision, _ = asyncio.run(judge.decide(None, "files", "read", given))
        assert not decision.allowed
    assert [str(event.decision.reasons[0].code) for event in sink.events] == ["internal_error", "invalid_call"]
