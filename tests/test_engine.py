"""The engine: what it sequences, what it survives, what it never lets through."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import UserDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType

import pytest

from mcp_policy import Effect, Guard, Policy, PolicyDenied, PolicyEngine, PolicyError, Principal, ReasonCode, ToolCall
from mcp_policy.approvals import ApprovalError, MemoryApprovalStore
from mcp_policy.limits import MemoryLimitStore, Receipt
from mcp_policy.values import equal


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def engine(tree: dict, **options) -> PolicyEngine:
    return PolicyEngine(Policy.model_validate({"version": "1", **tree}), **options)


def codes(decision) -> set[str]:
    return {reason.code.value for reason in decision.reasons}


PAY = {"tools": {"pay": {"action": "approve"}}}
ONCE = {"tools": {"t": {"rate_limit": {"max": 1, "window": 60}}}}


# -- no policy, reload


def test_without_a_policy_every_call_is_denied():
    decision = PolicyEngine().authorize(ToolCall("anything"))
    assert (decision.effect, codes(decision)) == (Effect.DENY, {"no_policy"})
    assert not PolicyEngine().visible(ToolCall("anything"))
    assert PolicyEngine().explain(ToolCall("anything")).decision == decision


def test_reload_replaces_the_policy_and_limits_keep_counting():
    subject = engine(ONCE)
    assert subject.authorize(ToolCall("t")).allowed
    subject.reload(Policy.model_validate({"version": "1", "tools": {"t": {"rate_limit": {"max": 2, "window": 60}}}}))
    assert subject.authorize(ToolCall("t")).allowed
    assert subject.authorize(ToolCall("t")).effect is Effect.LIMIT


@pytest.mark.parametrize("bad", [None, {"version": "1"}, "policy.json"])
def test_a_reload_that_fails_keeps_the_old_policy(bad):
    subject = engine({"tools": {"t": {}}})
    old = subject.policy
    with pytest.raises(TypeError, match="the old policy stays"):
        subject.reload(bad)
    assert subject.policy is old
    assert subject.authorize(ToolCall("t")).allowed


def test_a_reload_voids_approvals_of_the_old_policy():
    subject = engine(PAY)
    asked = subject.authorize(ToolCall("pay"))
    subject.approve(asked.approval.id, by="reviewer")
    subject.reload(Policy.model_validate({"version": "1", "tools": {"pay": {"action": "approve"}, "other": {}}}))
    assert subject.authorize(ToolCall("pay")).effect is Effect.APPROVE


def test_a_policy_that_differs_only_in_its_name_keeps_approvals():
    subject = engine(PAY)
    subject.approve(subject.authorize(ToolCall("pay")).approval.id, by="reviewer")
    subject.reload(Policy.model_validate({"version": "1", "name": "renamed", **PAY}))
    assert subject.authorize(ToolCall("pay")).allowed


# -- what fails denies


class Broken:
    """A store that cannot do anything."""

    def __getattr__(self, name: str):
        def fail(*arguments: object) -> None:
            raise ConnectionError("gone")

        return fail


def test_a_limit_store_that_raises_limits_and_says_so(caplog):
    decision = engine(ONCE, limits=Broken()).authorize(ToolCall("t"))
    assert (decision.effect, codes(decision)) == (Effect.LIMIT, {"state_unavailable"})
    assert decision.retry_after is None
    assert "the limit store cannot answer" in caplog.text


def test_a_limit_that_says_so_lets_the_call_run_without_its_store_and_shows_it():
    tree = {"tools": {"t": {"rate_limit": {"max": 1, "window": 60, "on_unavailable": "allow"}}}}
    decision = engine(tree, limits=Broken()).authorize(ToolCall("t"))
    assert decision.allowed
    assert [status.available for status in decision.limits] == [False]


def test_one_limit_that_must_be_counted_is_enough_to_stop_the_call():
    limits = [{"max": 1, "window": 60, "on_unavailable": "allow"}, {"max": 9, "window": 90}]
    decision = engine({"tools": {"t": {"limits": limits}}}, limits=Broken()).authorize(ToolCall("t"))
    assert decision.effect is Effect.LIMIT
    assert [reason.rule for reason in decision.reasons] == ["/tools/t/limits/1"]


def test_an_approval_store_that_raises_limits(caplog):
    decision = engine(PAY, approvals=Broken()).authorize(ToolCall("pay"))
    assert (decision.effect, codes(decision)) == (Effect.LIMIT, {"state_unavailable"})
    assert "the approval store cannot answer" in caplog.text


@pytest.mark.parametrize("method", ["evaluate", "authorize"])
@pytest.mark.parametrize("call", [None, "t", 3, object()])
def test_what_is_no_call_is_denied(method, call, caplog):
    decision = getattr(engine({"default": "allow"}), method)(call)
    assert (decision.effect, codes(decision)) == (Effect.DENY, {"internal_error"})
    assert "the call is denied" in caplog.text


class RaisingCatalogue:
    def category(self, server: str | None, tool: str) -> str | None:
        raise RuntimeError("no idea")


def test_a_catalogue_that_raises_denies(caplog):
    subject = engine({"default": "allow", "categories": {"read": {}}}, catalogue=RaisingCatalogue())
    assert codes(subject.authorize(ToolCall("t"))) == {"internal_error"}
    assert codes(subject.explain(ToolCall("t")).decision) == {"internal_error"}
    assert not subject.visible(ToolCall("t"))


# -- categories


class ByName:
    """A catalogue that goes by names only."""

    def category(self, server: str | None, tool: str) -> str | None:
        return {"get": "read", "odd": "harmless"}.get(tool) if server == "s" else None


class ByDefinition(ByName):
    def category(self, server: str | None, tool: str, definition: object = None) -> str | None:
        return "write" if definition is not None else super().category(server, tool)


BY_CATEGORY = {"categories": {"read": {}, "write": {"action": "approve"}, "destructive": {"action": "deny"}}}


@pytest.mark.parametrize(
    ("said", "effect"),
    [("read", Effect.ALLOW), ("write", Effect.APPROVE), ("destructive", Effect.DENY), ("financial", Effect.DENY)],
)
def test_a_category_that_the_host_says_counts(said, effect):
    subject = engine(BY_CATEGORY, catalogue=RaisingCatalogue())
    call = ToolCall("get", server="s", category=said)
    assert subject.authorize(call).effect is subject.evaluate(call).effect is effect
    assert subject.visible(call) == (effect is not Effect.DENY)
    assert subject.explain(call).decision.effect is effect


def test_a_category_that_the_host_says_is_unknown_stays_unknown():
    subject = engine({"tools": {"get": {}}, **BY_CATEGORY}, catalogue=ByName())
    assert codes(subject.authorize(ToolCall("get", server="s"))) == {"allowed"}
    assert codes(subject.authorize(ToolCall("get", server="s", category="unknown"))) == {"denied_by_rule"}
    assert codes(engine(BY_CATEGORY).authorize(ToolCall("t", category="unknown"))) == {"default_deny"}


def test_conditions_see_what_the_host_says():
    subject = engine({"tools": {"*": {"require": [{"path": "tool.category", "op": "neq", "value": "write"}]}}})
    assert subject.authorize(ToolCall("t", category="read")).allowed
    assert codes(subject.authorize(ToolCall("t", category="write"))) == {"require"}
    assert codes(subject.authorize(ToolCall("t", category="unknown"))) == {"type_mismatch"}


@pytest.mark.parametrize("tool", ["none", "odd"])
def test_what_a_catalogue_does_not_know_is_unknown(tool):
    subject = engine(BY_CATEGORY, catalogue=ByName())
    assert codes(subject.authorize(ToolCall(tool, server="s"))) == {"default_deny"}
    assert subject.category("s", {"name": tool}) == "unknown"


def test_an_approval_does_not_depend_on_who_says_the_category():
    subject = engine(BY_CATEGORY)
    asked = subject.authorize(ToolCall("t", category="write"))
    subject.approve(asked.approval.id, by="reviewer")
    assert codes(subject.authorize(ToolCall("t", category="destructive"))) == {"denied_by_rule"}
    assert subject.authorize(ToolCall("t", category="write")).allowed


@pytest.mark.parametrize(
    ("document", "asks"),
    [
        ({"tools": {"t": {"require": [{"path": "tool.name", "op": "eq", "value": "t"}]}}}, False),
        ({"categories": {"read": {}}}, True),
        ({"servers": {"s": {"categories": {}}}}, True),
        ({"tools": {"t": [{}, {"when": [{"path": "tool.category", "op": "eq", "value": "read"}]}]}}, True),
        ({"all_tools": {"deny_if": [{"path": "args.a", "op": "eq", "value_from": "tool.category"}]}}, True),
    ],
)
def test_whether_definitions_are_asked_for(document, asks):
    subject = engine({"default": "allow"})
    assert not subject.asks_definitions
    subject.reload(Policy.model_validate({"version": "1", **document}))
    assert subject.asks_definitions == asks
    assert engine(document, catalogue=ByDefinition()).asks_definitions == asks
    assert not engine(document, catalogue=ByName()).asks_definitions
    assert not PolicyEngine(catalogue=ByDefinition()).asks_definitions


@pytest.mark.parametrize("odd", [object(), len, None])
def test_a_catalogue_that_does_not_say_what_it_takes_takes_no_definition(odd):
    assert engine(BY_CATEGORY, catalogue=odd).asks_definitions == (odd is None)


def test_the_category_of_a_definition():
    assert engine(BY_CATEGORY, catalogue=ByName()).category("s", {"name": "get"}) == "read"
    assert engine(BY_CATEGORY, catalogue=ByName()).category("", {"name": "get"}) == "unknown"
    assert engine(BY_CATEGORY, catalogue=ByDefinition()).category("s", {"name": "get"}) == "write"
    for odd in ({}, {"name": ""}, None, 5, {"name": "t", "inputSchema": {"a": object()}}):
        assert engine(BY_CATEGORY, catalogue=ByDefinition()).category("s", odd) == "unknown"
    with pytest.raises(RuntimeError, match="no idea"):
        engine(BY_CATEGORY, catalogue=RaisingCatalogue()).category("s", {"name": "get"})


def test_without_a_catalogue_the_bundled_one_is_asked():
    subject = engine(BY_CATEGORY)
    assert subject.authorize(ToolCall("get_task_info", server="clearml")).allowed
    assert not subject.authorize(ToolCall("get_task_info")).allowed
    assert not subject.authorize(ToolCall("get_task_info", server="elsewhere")).allowed
    assert subject.category("elsewhere", {"name": "delete_page"}) == "destructive"
    assert subject.category("clearml", {"name": "get_task_info", "description": "Another."}) == "unknown"


def test_many_threads_may_ask_for_the_first_category():
    subject, decided = engine(BY_CATEGORY), []
    start = threading.Barrier(8)

    def ask() -> None:
        start.wait()
        decided.append(subject.authorize(ToolCall("get_task_info", server="clearml")).allowed)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert decided == [True] * 8


@pytest.mark.parametrize("tick", [float("nan"), float("inf"), "late", None])
def test_a_clock_that_tells_no_time_denies_what_needs_it(tick, caplog):
    assert engine(ONCE, clock=lambda: tick).authorize(ToolCall("t")).effect is Effect.LIMIT
    assert not engine(PAY, clock=lambda: tick).authorize(ToolCall("pay")).allowed


@dataclass
class AsyncStore:
    """A store whose answers have to be awaited."""

    inner: object
    asked: list[str] = field(default_factory=list)

    def __getattr__(self, name: str):
        async def answer(*arguments: object) -> object:
            self.asked.append(name)
            await asyncio.sleep(0)
            return getattr(self.inner, name)(*arguments)

        return answer


def test_a_synchronous_call_on_an_asynchronous_store_is_refused(caplog):
    subject = engine(ONCE, limits=AsyncStore(MemoryLimitStore()))
    assert subject.authorize(ToolCall("t")).effect is Effect.LIMIT
    assert "use the methods that end in `_async`" in caplog.text


def test_asynchronous_stores_decide_the_same():
    subject = engine(
        {"tools": {"t": {"rate_limit": {"max": 1, "window": 60}}, **PAY["tools"]}},
        limits=AsyncStore(MemoryLimitStore()),
        approvals=AsyncStore(MemoryApprovalStore()),
    )

    async def story() -> list[Effect]:
        effects = [(await subject.authorize_async(ToolCall("t"))).effect for _ in range(2)]
        asked = await subject.authorize_async(ToolCall("pay"))
        await subject.approve_async(asked.approval.id, by="reviewer")
        effects += [(await subject.authorize_async(ToolCall("pay"))).effect for _ in range(2)]
        return effects

    assert asyncio.run(story()) == [Effect.ALLOW, Effect.LIMIT, Effect.ALLOW, Effect.APPROVE]


def test_one_call_with_limits_is_one_question_to_the_store():
    store = AsyncStore(MemoryLimitStore())
    subject = engine({"tools": {"t": {"limits": [{"max": 9, "window": w} for w in (1, 60, 3600)]}}}, limits=store)
    assert asyncio.run(subject.authorize_async(ToolCall("t"))).allowed
    assert store.asked == ["acquire"]


def test_evaluate_asks_only_what_changes_nothing():
    limits, approvals = AsyncStore(MemoryLimitStore()), AsyncStore(MemoryApprovalStore())
    tree = {"tools": {"pay": {"action": "approve", "rate_limit": "1/minute"}}}
    recorded = []

    class Recorder:
        def __init__(self, inner: object) -> None:
            self.inner = inner

        def __getattr__(self, name: str):
            recorded.append(name)
            return getattr(self.inner, name)

    subject = engine(tree, limits=Recorder(limits.inner), approvals=Recorder(approvals.inner))
    assert subject.evaluate(ToolCall("pay")).effect is Effect.APPROVE
    assert set(recorded) == {"peek", "find"}


# -- refund


def refundable(**more: object) -> dict:
    return {"tools": {"t": {"rate_limit": {"max": 1, "window": 60, "refund_on_error": True, **more}}}}


def test_a_refund_gives_back_what_a_failed_call_took_once():
    subject = engine(refundable())
    decision = subject.authorize(ToolCall("t"))
    subject.refund(decision)
    other = subject.authorize(ToolCall("t"))
    assert other.allowed
    subject.refund(decision)  # a second time must not give back what the other call took
    assert subject.authorize(ToolCall("t")).effect is Effect.LIMIT


def test_a_refund_is_given_only_where_the_limit_says_so():
    subject = engine(ONCE)
    subject.refund(subject.authorize(ToolCall("t")))
    assert subject.authorize(ToolCall("t")).effect is Effect.LIMIT


def test_a_counter_is_refunded_only_if_all_its_limits_say_so():
    limit = {"counter": "c", "max": 1, "window": 60}
    subject = engine({"tools": {"t": {"limits": [{**limit, "refund_on_error": True}, limit]}}})
    subject.refund(subject.authorize(ToolCall("t")))
    assert subject.authorize(ToolCall("t")).effect is Effect.LIMIT


def test_a_refund_comes_back_in_the_window_it_was_taken_from():
    clock = Clock()
    subject = engine(refundable(), clock=clock)
    late = subject.authorize(ToolCall("t"))
    clock.now += 61
    assert subject.authorize(ToolCall("t")).allowed
    subject.refund(late)
    assert subject.authorize(ToolCall("t")).effect is Effect.LIMIT


def test_refunds_work_with_asynchronous_stores():
    subject = engine(refundable(), limits=AsyncStore(MemoryLimitStore()))

    async def story() -> bool:
        await subject.refund_async(await subject.authorize_async(ToolCall("t")))
        return (await subject.authorize_async(ToolCall("t"))).allowed

    assert asyncio.run(story())


def test_a_refund_that_fails_is_logged_and_never_raises(caplog):
    class Once(MemoryLimitStore):
        def refund(self, receipt: Receipt, which: object) -> None:
            raise ConnectionError("gone")

    subject = engine(refundable(), limits=Once())
    subject.refund(subject.authorize(ToolCall("t")))
    assert "cannot give back" in caplog.text


def test_shadow_limits_are_refunded_apart():
    tree = {"tools": {"t": [{}, {"mode": "shadow", "rate_limit": {"max": 1, "window": 60, "refund_on_error": True}}]}}
    subject = engine(tree)
    first = subject.authorize(ToolCall("t"))
    assert first.would_be is Effect.ALLOW
    subject.refund(first)
    assert subject.authorize(ToolCall("t")).would_be is Effect.ALLOW
    assert subject.authorize(ToolCall("t")).would_be is Effect.LIMIT


# -- approvals


def test_a_principal_cannot_approve_its_own_call():
    subject = engine(PAY)
    asked = subject.authorize(ToolCall("pay", principal=Principal("ann", issuer="corp")))
    for by in ("ann", Principal("ann", issuer="corp")):
        with pytest.raises(ApprovalError, match="its own call"):
            subject.approve(asked.approval.id, by=by)
    subject.approve(asked.approval.id, by=Principal("ann", issuer="elsewhere"))


def test_a_host_may_allow_self_approval():
    subject = engine(PAY, allow_self_approval=True)
    asked = subject.authorize(ToolCall("pay", principal=Principal("ann")))
    assert subject.approve(asked.approval.id, by="ann").decided_by == "ann"


def test_a_principal_may_reject_its_own_call():
    subject = engine(PAY)
    asked = subject.authorize(ToolCall("pay", principal=Principal("ann")))
    assert subject.reject(asked.approval.id, by="ann").status == "rejected"


@pytest.mark.parametrize("by", ["", Principal()])
def test_nobody_cannot_decide(by):
    subject = engine(PAY)
    asked = subject.authorize(ToolCall("pay"))
    with pytest.raises(ApprovalError, match="by somebody"):
        subject.approve(asked.approval.id, by=by)


def test_deciding_an_unknown_decided_or_expired_approval_raises():
    clock = Clock()
    subject = engine(PAY, clock=clock)
    with pytest.raises(ApprovalError):
        subject.approve("no such id", by="reviewer")
    asked = subject.authorize(ToolCall("pay"))
    subject.approve(asked.approval.id, by="reviewer")
    with pytest.raises(ApprovalError):
        subject.reject(asked.approval.id, by="reviewer")
    late = subject.authorize(ToolCall("pay", {"n": 2}))
    clock.now += 900
    with pytest.raises(ApprovalError):
        subject.approve(late.approval.id, by="reviewer")


def test_the_record_tells_a_person_what_is_asked():
    subject = engine({"tools": {"pay": {"action": "approve", "reason": "money leaves the house"}}})
    call = ToolCall("pay", {"amount": 5}, server="bank", session="s1", principal=Principal("ann", client="desk"))
    record = subject.authorize(call).approval
    assert (record.tool, record.server, record.arguments, record.session) == ("pay", "bank", {"amount": 5}, "s1")
    assert record.principal["id"] == "ann"
    assert (record.rules, record.reason) == (("/tools/pay",), "money leaves the house")
    assert len(record.digest) == 64


def test_evaluate_creates_no_approval():
    subject = engine(PAY)
    assert subject.evaluate(ToolCall("pay")).approval is None
    asked = subject.authorize(ToolCall("pay"))
    assert subject.evaluate(ToolCall("pay")).approval.id == asked.approval.id
    subject.approve(asked.approval.id, by="reviewer")
    for _ in range(3):
        assert codes(subject.evaluate(ToolCall("pay"))) == {"approved"}
    assert codes(subject.authorize(ToolCall("pay"))) == {"approved"}


def test_an_approval_that_somebody_else_used_up_gives_its_cost_back():
    class Raced(MemoryApprovalStore):
        def consume(self, digest: str):
            super().consume(digest)
            return super().consume(digest)  # the one that was there is gone by now

    tree = {"tools": {"pay": {"action": "approve", "rate_limit": {"max": 1, "window": 60}}}}
    subject = engine(tree, approvals=Raced())
    subject.approve(subject.authorize(ToolCall("pay")).approval.id, by="reviewer")
    decision = subject.authorize(ToolCall("pay"))
    assert decision.effect is Effect.APPROVE
    assert decision.approval.status == "pending"
    assert subject.evaluate(ToolCall("pay")).limits[0].remaining == 1


def test_a_store_that_fails_to_use_an_approval_up_gives_the_cost_back():
    class Failing(MemoryApprovalStore):
        def consume(self, digest: str):
            raise ConnectionError("gone")

    tree = {"tools": {"pay": {"action": "approve", "rate_limit": {"max": 1, "window": 60}}}}
    subject = engine(tree, approvals=Failing())
    subject.approve(subject.authorize(ToolCall("pay")).approval.id, by="reviewer")
    assert codes(subject.authorize(ToolCall("pay"))) == {"state_unavailable"}
    assert subject.evaluate(ToolCall("pay")).limits[0].remaining == 1


def test_pending_approvals_are_bounded_per_principal():
    subject = engine(PAY)
    for number in range(100):
        assert subject.authorize(ToolCall("pay", {"n": number}, session="s1")).effect is Effect.APPROVE
    full = subject.authorize(ToolCall("pay", {"n": 100}, session="s1"))
    assert (full.effect, codes(full)) == (Effect.LIMIT, {"state_unavailable"})
    assert subject.authorize(ToolCall("pay", {"n": 0}, session="s1")).effect is Effect.APPROVE
    assert subject.authorize(ToolCall("pay", {"n": 100}, session="s2")).effect is Effect.APPROVE


# -- concurrency


def in_threads(work, count: int = 8) -> None:
    start = threading.Barrier(count)
    failures: list[BaseException] = []

    def run() -> None:
        start.wait()
        try:
            work()
        except BaseException as error:  # noqa: BLE001  # told to the thread that waits
            failures.append(error)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads), "deadlock"
    assert not failures


def test_eight_threads_never_over_admit():
    limits = [{"max": 500, "window": 3600}, {"max": 400, "window": 3600, "per": "global"}]
    subject = engine({"tools": {"t": {"limits": limits}}})
    admitted: list[bool] = []
    in_threads(lambda: admitted.extend(subject.authorize(ToolCall("t", {}, session="s")).allowed for _ in range(200)))
    assert (len(admitted), sum(admitted)) == (1600, 400)


def test_eight_threads_use_one_approval_once():
    subject = engine(PAY)
    for number in range(50):
        call = ToolCall("pay", {"n": number})
        subject.approve(subject.authorize(call).approval.id, by="reviewer")
        ran: list[bool] = []
        in_threads(lambda call=call, ran=ran: ran.append(subject.authorize(call).allowed))
        assert sum(ran) == 1


def test_eight_threads_meet_reloads_without_a_mixture():
    policies = [Policy.model_validate({"version": "1", "tools": {"t": rule}}) for rule in ({}, {"action": "deny"})]
    subject = PolicyEngine(policies[0])
    seen: set[str] = set()

    def work() -> None:
        for number in range(300):
            subject.reload(policies[number % 2])
            seen.update(reason.code.value for reason in subject.authorize(ToolCall("t")).reasons)
            seen.update(reason.code.value for reason in subject.authorize(ToolCall(f"unknown{number}")).reasons)

    in_threads(work)
    assert seen == {"allowed", "denied_by_rule", "default_deny"}


def test_tasks_never_over_admit():
    subject = engine(
        {"tools": {"t": {"rate_limit": {"max": 50, "window": 3600}}}}, limits=AsyncStore(MemoryLimitStore())
    )

    async def story() -> int:
        decisions = await asyncio.gather(*(subject.authorize_async(ToolCall("t")) for _ in range(200)))
        return sum(decision.allowed for decision in decisions)

    assert asyncio.run(story()) == 50


def test_a_cancelled_call_keeps_its_cost():
    class Slow(AsyncStore):
        def __getattr__(self, name: str):
            async def answer(*arguments: object) -> object:
                result = getattr(self.inner, name)(*arguments)
                await asyncio.Event().wait()
                return result

            return answer

    inner = MemoryLimitStore()
    subject = engine(refundable(), limits=Slow(inner))

    async def story() -> None:
        task = asyncio.create_task(subject.authorize_async(ToolCall("t")))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(story())
    assert engine(refundable(), limits=inner).authorize(ToolCall("t")).effect is Effect.LIMIT


# -- bounded memory


def test_a_flood_of_invented_names_is_forgotten_and_known_names_are_not():
    subject = engine({"tools": {"known": {}, "prefix_*": {}}})
    assert subject.authorize(ToolCall("known")).allowed
    for number in range(20_000):
        subject.authorize(ToolCall(f"invented{number}"))
        subject.authorize(ToolCall(f"prefix_{number}"))
    assert len(subject._plans) <= 4_096 + 1
    assert "known" in subject._plans


def test_outcomes_are_remembered_within_bounds():
    conditions = [{"path": f"args.a{number}", "op": "eq", "value": 1} for number in range(10)]
    subject = engine({"tools": {"t": {"require": conditions}}})
    for number in range(1024):
        arguments = {f"a{place}": 1 for place in range(10) if number >> place & 1}
        failed = subject.evaluate(ToolCall("t", arguments))
        assert len(failed.reasons) == (10 - len(arguments) or 1)


# -- what is visible


@pytest.mark.parametrize(
    ("rule", "shown"),
    [
        ({}, True),
        ({"action": "deny"}, False),
        ({"action": "hide"}, False),
        ({"action": "approve"}, True),
        ({"rate_limit": {"max": 0, "window": 60}}, True),
        ({"require": [{"path": "args.x", "op": "eq", "value": 1}]}, True),
        ({"require": [{"path": "principal.id", "op": "eq", "value": "ann"}]}, False),
        (
            {
                "require": [
                    {
                        "conditions": [
                            {"path": "principal.id", "op": "exists", "value": True},
                            {"path": "args.x", "op": "eq", "value": 1},
                        ]
                    }
                ]
            },
            False,
        ),
        ({"deny_if": [{"path": "args.x", "op": "eq", "value": 1}]}, True),
        ({"deny_if": [{"conditions": []}]}, False),
        ({"deny_if": [{"path": "principal.id", "op": "exists", "value": False}]}, False),
        ({"when": [{"path": "args.x", "op": "eq", "value": 1}]}, True),
        ({"when": [{"path": "args.x", "op": "eq", "value": 1}], "action": "deny"}, True),
        ({"when": [{"path": "principal.id", "op": "exists", "value": True}]}, False),
        ({"limits": [{"max": 5, "window": 60, "cost": "args.n"}]}, True),
        ({"mode": "shadow", "action": "deny"}, False),
    ],
)
def test_a_list_shows_what_may_ever_be_called(rule, shown):
    assert engine({"tools": {"t": rule}}).visible(ToolCall("t")) is shown


def test_a_list_leaves_out_what_is_hidden_unlisted_or_misnamed():
    subject = engine({"hide": ["h"], "tools": {"*": {}, "t": {}}})
    assert [name for name in ("t", "h", "", "a\u200bb") if subject.visible(ToolCall(name))] == ["t"]


def test_in_shadow_every_tool_is_shown():
    assert engine({"mode": "shadow", "hide": ["h"]}).visible(ToolCall("h"))


# -- explain


def test_explain_shows_every_rule_and_condition_with_its_outcome():
    tree = {
        "all_tools": {"rate_limit": "10/minute"},
        "tools": {
            "pay*": {"when": [{"path": "args.kind", "op": "neq", "value": "x"}], "action": "deny"},
            "pay": {
                "require": [
                    {"path": "args.n", "op": "lte", "value": 5},
                    {"path": "args.u", "op": "starts_with", "value": "a"},
                ]
            },
        },
    }
    explanation = engine(tree).explain(ToolCall("pay", {"n": 9, "u": 3}))
    assert [(rule.rule, rule.applies, rule.lists) for rule in explanation.rules] == [
        ("/all_tools", True, False),
        ("/tools/pay*", True, False),
        ("/tools/pay", True, True),
    ]
    outcomes = [(c.path, c.outcome) for rule in explanation.rules for item in rule.items for c in item.conditions]
    assert outcomes == [
        ("args.kind", "absent, which counts against the call"),
        ("args.n", "does not hold"),
        ("args.u", "wrong type"),
    ]
    text = str(explanation)
    assert "`args.n` is at most 5: does not hold" in text
    assert "/tools/pay*: deny, applies" in text


def test_explain_agrees_with_evaluate_and_takes_nothing():
    subject = engine(ONCE)
    for _ in range(3):
        assert subject.explain(ToolCall("t")).decision.allowed
    assert subject.authorize(ToolCall("t")).allowed


def test_explain_of_a_hidden_tool_names_the_entry():
    explanation = engine({"hide": ["secret_*"]}).explain(ToolCall("secret_x"))
    assert explanation.hidden == ("/hide/0",)
    assert "/hide/0: hides the tool" in str(explanation)


def test_messages_hold_no_argument_values():
    secret = "hunter2-hunter2"
    tree = {
        "tools": {
            "t": {
                "require": [
                    {"path": "args.a", "op": "in", "value": ["x"]},
                    {"path": "args.b", "op": "lte", "value": 1},
                ],
                "deny_if": [{"path": "args.c", "op": "starts_with", "value": "hunter"}],
                "limits": [{"max": 1, "window": 1, "cost": "args.d"}],
            }
        }
    }
    subject = engine(tree)
    call = ToolCall("t", dict.fromkeys("abcd", secret), session=secret)
    decision = subject.authorize(call)
    assert len(decision.reasons) == 4
    assert secret not in f"{decision} {decision.reasons} {subject.explain(call)} {decision!r} {call!r}"


def test_the_nearest_reason_speaks():
    tree = {
        "tools": {
            "t": {
                "reason": "rule",
                "require": [
                    {"path": "args.a", "op": "exists", "value": True, "reason": "condition"},
                    {"conditions": [{"path": "args.b", "op": "exists", "value": True}], "reason": "clause"},
                    {
                        "conditions": [{"path": "args.c", "op": "exists", "value": True, "on_deny": "inner"}],
                        "on_deny": "clause",
                    },
                    {"path": "args.d", "op": "exists", "value": True},
                ],
            }
        }
    }
    messages = [reason.message for reason in engine(tree).evaluate(ToolCall("t")).reasons]
    assert messages == ["condition", "clause", "inner", "rule"]


def test_a_decision_is_true_only_where_the_call_may_run():
    subject = engine({"tools": {"t": {}}})
    assert subject.evaluate(ToolCall("t"))
    assert not subject.evaluate(ToolCall("other"))
    assert ReasonCode("allowed") is ReasonCode.ALLOWED


def test_failures_are_logged_under_the_library_s_name(caplog):
    with caplog.at_level(logging.ERROR, logger="mcp_policy"):
        engine({"default": "allow"}).authorize(None)
    assert {record.name for record in caplog.records} == {"mcp_policy"}


# -- what is put together wrongly is refused at once


@pytest.mark.parametrize("policy", ["policy.json", {"version": "1"}, b"{}"])
def test_an_engine_takes_a_policy_and_nothing_else(policy):
    with pytest.raises(TypeError, match=r"use `Policy\.load"):
        PolicyEngine(policy)


def test_a_guard_takes_an_engine_and_nothing_else():
    with pytest.raises(TypeError, match=r"pass `PolicyEngine\(policy\)`"):
        Guard(Policy.parse('{"version": "1"}'))


def test_who_decides_is_a_name_or_a_principal():
    with pytest.raises(TypeError, match="a name or a `Principal`"):
        engine(PAY).approve("id", by=5)


def test_a_wrong_type_is_told_beside_the_rule_s_own_words():
    tree = {"tools": {"t": {"require": [{"path": "args.n", "op": "lte", "value": 5, "reason": "at most five"}]}}}
    assert engine(tree).evaluate(ToolCall("t", {"n": 9})).reasons[0].message == "at most five"
    told = engine(tree).evaluate(ToolCall("t", {"n": "3"})).reasons[0].message
    assert told == "at most five (`args.n` has to be a finite number, not a boolean or a string)"


def test_a_decision_shows_neither_arguments_nor_identities():
    asked = engine(PAY).authorize(ToolCall("pay", {"card": "4111"}, session="s-secret"))
    assert "4111" not in repr(asked) + repr(asked.approval)
    assert "s-secret" not in repr(engine(ONCE).authorize(ToolCall("t", {}, session="s-secret")))


# -- found by those who tried to get past


def test_a_decimal_that_a_reference_brings_compares_by_decimal_text():
    for found, bound in ((0.3, Decimal("0.3")), (Decimal("0.3"), 0.3)):
        tree = {"tools": {"t": {"require": [{"path": "args.a", "op": "lt", "value_from": "args.b"}]}}}
        assert not engine(tree).evaluate(ToolCall("t", {"a": found, "b": bound})).allowed
        tree = {"tools": {"t": {"require": [{"path": "args.a", "op": "lte", "value_from": "args.b"}]}}}
        assert engine(tree).evaluate(ToolCall("t", {"a": found, "b": bound})).allowed


@pytest.mark.parametrize(
    "kind",
    [int, str, float, lambda number: [number], lambda number: {"k": number}],
    ids=["integers", "strings", "floats", "lists", "objects"],
)
@pytest.mark.parametrize(("path", "op"), [("args.a", "intersects"), ("args.a[*]", "in"), ("args.a[*]", "not_in")])
def test_two_long_lists_from_a_call_cost_their_sum_not_their_product(kind, path, op):
    looked: list[int] = []

    def counting(left: object, right: object) -> bool:
        looked.append(1)
        return equal(left, right)

    tree = {"tools": {"t": {"deny_if": [{"path": path, "op": op, "value_from": "args.b"}]}}}
    call = ToolCall("t", {"a": [kind(n) for n in range(2000)], "b": [kind(n) for n in range(2000, 4000)]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mcp_policy.operators.equal", counting)
        assert engine(tree).evaluate(call).allowed is (op != "not_in")
    assert len(looked) < 10


def test_a_reference_is_looked_at_once_a_call_however_many_elements_ask():
    class Counting(UserDict):
        asked = 0

        def __getitem__(self, key: str) -> object:
            self.asked += 1
            return super().__getitem__(key)

    claims = Counting(allowed=[1])
    tree = {"tools": {"t": {"require": [{"path": "args.a[*]", "op": "in", "value_from": "principal.claims.allowed"}]}}}
    engine(tree).evaluate(ToolCall("t", {"a": [1] * 100}, principal=Principal("p", claims=claims)))
    assert claims.asked == 1


@pytest.mark.parametrize(
    ("own", "other"),
    [
        (Principal("bob"), Principal("bob", issuer="")),
        (Principal("bob", issuer="https://idp"), Principal("bob")),
        (Principal("bob"), Principal("bob", issuer="https://idp")),
        (Principal("bob", issuer=""), "bob"),
    ],
)
def test_an_issuer_left_out_is_no_way_to_approve_one_s_own_call(own, other):
    subject = engine(PAY)
    asked = subject.authorize(ToolCall("pay", principal=own))
    with pytest.raises(ApprovalError, match="its own call"):
        subject.approve(asked.approval.id, by=other)


def test_a_mapping_that_changes_later_changes_nothing_that_runs():
    held = {"amount": 1}
    ran: list[object] = []
    guard = Guard(engine({"tools": {"pay": {"require": [{"path": "args.o.amount", "op": "lte", "value": 5}]}}}))

    @guard("pay")
    def pay(o: Mapping[str, int]) -> None:
        held["amount"] = 999
        ran.append(o["amount"])

    pay(MappingProxyType(held))
    assert ran == [1]


def test_a_key_that_lies_about_itself_is_found_by_what_it_holds():
    class Key(str):
        __slots__ = ()

        def __hash__(self) -> int:
            return 1

        def __eq__(self, other: object) -> bool:
            return False

    guard = Guard(engine({"tools": {"pay": {"deny_if": [{"path": "args.o.amount", "op": "gt", "value": 10}]}}}))
    pay = guard("pay")(lambda o: o)
    with pytest.raises(PolicyDenied):
        pay({Key("amount"): 50})


def test_a_dotted_toml_key_cannot_hang_the_reader():
    with pytest.raises(PolicyError) as refused:
        Policy.parse(".".join(["a"] * 30_000) + "=1", "toml")
    assert [problem.code for problem in refused.value.problems] == ["too_deep"]
