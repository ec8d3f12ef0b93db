"""Approvals between processes: run once, survive a crash, and stay over when they are over. Real stores."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import mcp_policy
from mcp_policy import Policy, PolicyEngine, ToolCall
from mcp_policy.adapters.approvers import Question, wait_for_decision
from mcp_policy.approvals import MemoryApprovalStore
from mcp_policy.stores import open_stores
from redis_servers import server as store_server

TREE = {"version": "1", "tools": {"pay": {"action": "approve", "approval": {"ttl": 60}}}}
POLICY = Policy.model_validate(TREE)
CALL = ToolCall("pay", {"amount": 1}, session="s")

PROCESS = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
from mcp_policy import Policy, PolicyEngine, ToolCall
from mcp_policy.stores import open_stores
stores = open_stores(sys.argv[1])
engine = PolicyEngine(Policy.model_validate(json.loads(sys.argv[2])), approvals=stores.approvals)
call = ToolCall("pay", {"amount": 1}, session="s")
def authorize(_):
    while True:
        decision = engine.authorize(call)
        if str(decision.reasons[0].code) != "state_unavailable":
            return decision.allowed
if sys.argv[3] == "approve and wait":
    engine.approve(engine.authorize(call).approval.id, by="ann")
    print("approved", flush=True)
    sys.stdin.read()
sys.stdin.readline()
with ThreadPoolExecutor(25) as pool:
    print(sum(pool.map(authorize, range(25))))
stores.close()
"""


@pytest.fixture(params=["sqlite", "valkey"])
def store(request, tmp_path):
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'state.db'}"
    else:
        with store_server("valkey") as running:
            yield running.url


def process(store: str, what: str, tree=TREE) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROCESS, store, json.dumps(tree), what],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(mcp_policy.__file__).parent.parent)},
    )


def engine_on(store: str, policy=POLICY):
    stores = open_stores(store)
    return stores, PolicyEngine(policy, approvals=stores.approvals)


def test_of_a_hundred_calls_in_four_processes_one_runs(store):
    stores, engine = engine_on(store)
    engine.approve(engine.authorize(CALL).approval.id, by="ann")
    others = [process(store, "") for _ in range(4)]
    for other in others:
        other.stdin.write("go\n")
        other.stdin.flush()
    ran = [int(other.communicate(timeout=60)[0]) for other in others]
    assert sum(ran) == 1
    stores.close()


def test_of_a_hundred_threads_one_runs():
    engine = PolicyEngine(POLICY, approvals=MemoryApprovalStore())
    engine.approve(engine.authorize(CALL).approval.id, by="ann")
    ran: list[bool] = []
    together = threading.Barrier(100)

    def call() -> None:
        together.wait(30)
        ran.append(engine.authorize(CALL).allowed)

    threads = [threading.Thread(target=call) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (len(ran), sum(ran)) == (100, 1)


def test_a_crash_between_approving_and_using_loses_nothing(store):
    other = process(store, "approve and wait")
    assert other.stdout.readline() == "approved\n"
    other.kill()
    other.communicate(timeout=30)
    stores, engine = engine_on(store)
    assert [engine.authorize(CALL).allowed for _ in range(3)] == [True, False, False]
    stores.close()


def test_an_old_approval_is_refused_under_another_policy_and_by_another_process(store):
    stores, engine = engine_on(store)
    waiting = engine.authorize(CALL).approval
    engine.approve(waiting.id, by="ann")
    stores.close()
    changed = Policy.model_validate({**TREE, "tools": {"pay": {"action": "approve", "reason": "anew"}}})
    stores, engine = engine_on(store, changed)
    assert str(engine.authorize(CALL).reasons[0].code) == "approval_required"
    engine.reload(POLICY)
    assert engine.authorize(CALL).allowed
    engine.reload(changed)
    assert not engine.authorize(CALL).allowed
    stores.close()


def test_an_approval_that_was_used_is_used_for_every_process(store):
    stores, engine = engine_on(store)
    waiting = engine.authorize(CALL).approval
    engine.approve(waiting.id, by="ann")
    assert engine.authorize(CALL).allowed
    other = process(store, "")
    assert int(other.communicate("go\n", timeout=60)[0]) == 0
    assert engine.approval(waiting.id) is None
    stores.close()


def test_an_approval_that_has_expired_is_refused_by_a_process_that_begins_after_it(store):
    brief = {**TREE, "tools": {"pay": {"action": "approve", "approval": {"ttl": 1}}}}
    stores, engine = engine_on(store, Policy.model_validate(brief))
    engine.approve(engine.authorize(CALL).approval.id, by="ann")
    deadline = time.monotonic() + 30
    while engine.evaluate(CALL).allowed:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    other = process(store, "", brief)
    assert int(other.communicate("go\n", timeout=60)[0]) == 0
    stores.close()


@pytest.mark.parametrize("approved", [True, False])
def test_who_waits_is_answered_as_soon_as_another_process_has_decided(store, approved):
    """The deadline is generous; that it is prompt shows by the number of looks."""
    stores, engine = engine_on(store)
    waiting = engine.authorize(CALL).approval
    code = (
        "import sys; from mcp_policy import PolicyEngine; from mcp_policy.stores import open_stores\n"
        "stores = open_stores(sys.argv[1]); engine = PolicyEngine(approvals=stores.approvals)\n"
        f"(engine.approve if {approved} else engine.reject)(sys.argv[2], by='ann'); stores.close()"
    )

    async def wait() -> int:
        looks = 0
        decided = asyncio.Event()

        async def sleep(seconds: float) -> None:
            nonlocal looks
            looks += decided.is_set()
            await asyncio.sleep(seconds)

        async def decide() -> None:
            other = await asyncio.create_subprocess_exec(sys.executable, "-c", code, store, waiting.id)
            assert await other.wait() == 0
            decided.set()

        approver = wait_for_decision(timeout=60, sleep=sleep)
        deciding = asyncio.create_task(decide())
        outcome = await approver(Question(waiting, CALL, engine), None)
        await deciding
        assert outcome.why == ""
        return looks

    assert asyncio.run(wait()) <= 1
    assert engine.authorize(CALL).allowed is approved
    stores.close()
