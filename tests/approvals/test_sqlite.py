"""The store on SQLite: the contract, and what is its own."""

from __future__ import annotations

import json
import math
import sqlite3
from contextlib import closing

import pytest

from mcp_policy import Policy, PolicyEngine, ToolCall
from mcp_policy.approvals import ApprovalError, ApprovalStore
from mcp_policy.approvals import sqlite as sqlite_module
from mcp_policy.approvals.sqlite import SQLiteApprovalStore
from mcp_policy.limits.sqlite import SQLiteLimitStore
from mcp_policy.sqlite_files import StateFileError
from state_files import Folder, process, together

from .contract import ApprovalMachine, ApprovalStoreContract, Clock, request


class TestSQLiteApprovalStore(ApprovalStoreContract):
    @pytest.fixture(autouse=True)
    def folder(self):
        self.made_in = Folder()
        yield
        self.made_in.close()

    def make(self, clock: Clock, max_pending: int = 100, capacity: int = 1_000) -> ApprovalStore:
        return self.made_in.make(SQLiteApprovalStore, clock=clock, max_pending=max_pending, capacity=capacity)


class SQLiteMachine(ApprovalMachine):
    def __init__(self) -> None:
        self.folder = Folder()
        super().__init__()

    def make(self, clock: Clock, max_pending: int, capacity: int) -> ApprovalStore:
        return self.folder.make(SQLiteApprovalStore, clock=clock, max_pending=max_pending, capacity=capacity)

    def teardown(self) -> None:
        self.folder.close()


TestSQLiteMachine = SQLiteMachine.TestCase


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.db"


def rows(path, sql: str) -> list[tuple]:
    with closing(sqlite3.connect(path, timeout=60)) as connection:
        return connection.execute(sql).fetchall()


POLICY = {"version": "1", "tools": {"pay": {"action": "approve", "limits": [{"max": 1, "window": "day"}]}}}
CALL = ToolCall("pay", {"amount": 5}, session="s")


def engine_on(limits: SQLiteLimitStore | None, approvals: SQLiteApprovalStore, **options) -> PolicyEngine:
    return PolicyEngine(Policy.model_validate(POLICY), limits=limits, approvals=approvals, **options)


def test_takes_the_wall_clock_and_a_hundred_pending_by_default(path):
    with SQLiteApprovalStore(path) as store:
        for number in range(100):
            record, _ = store.ask(request(f"{number}"))
            assert record.created_at > 1_700_000_000
        assert store.ask(request("more")) == (None, False)


@pytest.mark.parametrize("answer", [math.nan, math.inf, -math.inf, None, "5"])
def test_a_clock_without_an_answer_raises_and_changes_nothing(path, answer):
    clock = Clock(5.0)
    with SQLiteApprovalStore(path, clock=clock) as store:
        record = store.decide(store.ask(request())[0].id, True, "ann")
        clock.now = answer
        for ask in (
            lambda: store.ask(request()),
            lambda: store.find("d"),
            lambda: store.consume("d"),
            lambda: store.decide(record.id, True, "ann"),
            lambda: store.get(record.id),
            store.pending,
        ):
            with pytest.raises((ValueError, TypeError)):
                ask()
        clock.now = 6.0
        assert store.consume("d") == record


def test_reading_changes_nothing(path):
    clock = Clock()
    with SQLiteApprovalStore(path, clock=clock) as store:
        record, _ = store.ask(request())
        before = rows(path, "SELECT * FROM approvals, clocks")
        clock.now = 1_000.0
        assert (store.find("d"), store.get(record.id), store.pending()) == ((None, True), None, [])
        assert rows(path, "SELECT * FROM approvals, clocks") == before
        clock.now = 1.0
        assert store.find("d") == (record, False)


def test_what_is_past_is_forgotten_at_last(path, monkeypatch):
    monkeypatch.setattr(sqlite_module, "_REMEMBERED", 2)
    clock = Clock()
    with SQLiteApprovalStore(path, clock=clock) as store:
        records = [store.ask(request(f"{number}", ttl=10.0 + number))[0] for number in range(3)]
        clock.now = 30.0
        assert [store.ask(request(f"{number}"))[1] for number in (1, 2)] == [True, True]
        assert store.ask(request("0"))[1] is False
        with pytest.raises(ApprovalError, match=f"unknown approval `{records[0].id}`"):
            store.decide(records[0].id, True, "ann")
        for number in range(10):
            store.decide(store.ask(request(f"new {number}"))[0].id, True, "ann")
            store.consume(f"new {number}")
        assert rows(path, "SELECT count(*) FROM approvals_past") == [(2,)]


def test_what_expired_in_a_crowd_counts_for_nothing(path):
    clock = Clock()
    with SQLiteApprovalStore(path, clock=clock, max_pending=250, capacity=250) as store:
        records = [store.ask(request(f"{number}", ttl=10.0))[0] for number in range(250)]
        store.decide(records[249].id, True, "ann")
        clock.now = 10.0
        assert store.consume("249") is None
        for record in (records[248], records[249]):
            with pytest.raises(ApprovalError, match="has expired"):
                store.decide(record.id, True, "ann")
        renewed = [store.ask(request(f"{number}")) for number in reversed(range(250))]
        assert all(record.status == "pending" and expired for record, expired in renewed)
        assert store.ask(request("more")) == (None, False)
        assert len(store.pending()) == 250


@pytest.mark.parametrize("approval_id", ["", "\ud800", "Straße", "x\0", "%", "x' OR '1'='1"])
def test_ids_that_cannot_be(path, approval_id):
    with SQLiteApprovalStore(path) as store:
        store.ask(request())
        assert store.get(approval_id) is None
        with pytest.raises(ApprovalError, match="unknown approval"):
            store.decide(approval_id, True, "ann")


def test_limits_and_approvals_share_a_file(path):
    with SQLiteLimitStore(path) as limits, SQLiteApprovalStore(path) as approvals:
        engine = engine_on(limits, approvals)
        asked = engine.authorize(CALL)
        engine.approve(asked.approval.id, by="ann", note="fine")
        assert engine.authorize(CALL).effect == "allow"
        assert engine.authorize(CALL).effect == "limit"


def test_a_restart_keeps_what_people_said(path):
    with SQLiteApprovalStore(path) as store:
        approved = store.decide(store.ask(request("a"))[0].id, True, "ann", "fine")
        half_way = store.decide(store.ask(request("b", needed=2))[0].id, True, "ann")
        store.decide(store.ask(request("c"))[0].id, True, "ann")
        used = store.consume("c")
    with SQLiteApprovalStore(path) as store:
        assert store.find("a") == (approved, False)
        assert store.pending() == [half_way]
        assert store.decide(half_way.id, True, "bob").status == "approved"
        assert store.consume("a") == approved
        assert store.consume("c") is None
        with pytest.raises(ApprovalError, match="was approved and used"):
            store.decide(used.id, True, "ann")


# -- several processes

RUN = """
import sys, threading
from mcp_policy import Policy, PolicyEngine, ToolCall
from mcp_policy.approvals.sqlite import SQLiteApprovalStore
policy = Policy.model_validate({"version": "1", "tools": {"pay": {"action": "approve"}}})
effects = []
with SQLiteApprovalStore(sys.argv[1], timeout=60) as store:
    engine = PolicyEngine(policy, approvals=store)
    barrier = threading.Barrier(26)
    def call():
        barrier.wait(60)
        effects.append(engine.authorize(ToolCall("pay", {"amount": 5}, session="s")).effect.value)
    threads = [threading.Thread(target=call) for _ in range(25)]
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    sys.stdin.readline()
    barrier.wait(60)
    for thread in threads:
        thread.join()
print(*effects)
"""


def test_of_a_hundred_calls_at_once_in_four_processes_one_runs(path):
    policy = Policy.model_validate({"version": "1", "tools": {"pay": {"action": "approve"}}})
    with SQLiteApprovalStore(path) as store:
        engine = PolicyEngine(policy, approvals=store)
        engine.approve(engine.authorize(CALL).approval.id, by="ann")
        effects = " ".join(together(RUN, 4, path)).split()
        assert (effects.count("allow"), effects.count("approve")) == (1, 99)
        assert len(store.pending()) == 1


VOTE = """
import sys
from mcp_policy.approvals.sqlite import SQLiteApprovalStore
with SQLiteApprovalStore(sys.argv[1], timeout=60) as store:
    records = store.pending()
    print("ready", flush=True)
    sys.stdin.readline()
    me = str(id(store)) + str(__import__("os").getpid())
    for record in records:
        store.decide(record.id, True, me)
"""


def test_of_votes_in_several_processes_none_is_lost(path):
    with SQLiteApprovalStore(path, timeout=60) as store:
        for number in range(30):
            store.ask(request(f"{number}", needed=4, ttl=600.0))
        together(VOTE, 4, path)
        assert store.pending() == []
        assert all(len({vote.by for vote in store.consume(f"{number}").votes}) == 4 for number in range(30))


LOAD = """
import sys
from itertools import count
from mcp_policy.approvals import ApprovalRequest
from mcp_policy.approvals.sqlite import SQLiteApprovalStore
store = SQLiteApprovalStore(sys.argv[1])
for number in count():
    digest = f"{number}"
    record, _ = store.ask(ApprovalRequest(digest, "o", 600.0, "t", None, {}, None, None, (), ""))
    store.decide(record.id, True, "ann")
    print("approved", digest, flush=True)
    if number % 2:
        store.consume(digest)
        print("used", digest, flush=True)
"""


def test_a_process_that_is_killed_loses_nothing_between_approving_and_using(path):
    with process(LOAD, path) as child:
        printed = [child.stdout.readline() for _ in range(200)]
        child.kill()
        told = [line.split() for line in [*printed, *child.stdout] if line.endswith("\n")]
    used = {digest for what, digest in told if what == "used"}
    approved = [digest for what, digest in told if what == "approved" and digest not in used]
    with SQLiteApprovalStore(path) as store:
        assert [digest for digest in used if store.consume(digest) is not None] == []
        assert approved.pop() is not None  # the last one may have been used before it could be told
        assert [digest for digest in approved if store.consume(digest) is None] == []
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]


# -- failures: the engine denies, and recovers when the cause is gone


@pytest.fixture
def store(path):
    with SQLiteApprovalStore(path, timeout=0.01) as store:
        yield store


def said(engine: PolicyEngine, amount: int = 5) -> str:
    decision = engine.authorize(ToolCall("pay", {"amount": amount}, session="s"))
    return decision.reasons[0].code.value


def test_a_file_that_is_locked(path, store):
    engine = engine_on(None, store)
    record = engine.authorize(CALL).approval
    engine.approve(record.id, by="ann")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for amount in (5, 6):
            assert said(engine, amount) == "state_unavailable"
        with pytest.raises(StateFileError, match="database is locked"):
            engine.reject(record.id, by="ann")
        other.execute("ROLLBACK")
    assert said(engine) == "approved"
    assert said(engine) == "rate_limited"


def test_a_full_disk(store):
    connection = store._file._connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    engine = engine_on(None, store)
    codes = [said(engine, amount) for amount in range(30)]
    assert codes.count("state_unavailable") == 1
    assert codes[-1] == "approval_required"  # a new connection has no such bound
    assert len(store.pending()) == 29


def test_a_file_that_is_gone_is_not_made_anew(path, store, tmp_path):
    engine = engine_on(None, store)
    engine.approve(engine.authorize(CALL).approval.id, by="ann")
    kept = tmp_path / "kept"
    kept.mkdir()
    for file in [*tmp_path.glob("state.db*")]:
        file.rename(kept / file.name)
    for _ in range(3):
        assert said(engine) == "state_unavailable"
    assert not path.exists()
    for file in kept.iterdir():
        file.rename(tmp_path / file.name)
    assert said(engine) == "approved"


@pytest.mark.parametrize("record", ["''", "'{'", "'{}'", "'null'", "NULL + 5", "replace(record, '\"pay\"', '')"])
def test_a_damaged_record_is_no_approval(path, store, record):
    engine = engine_on(None, store)
    engine.approve(engine.authorize(CALL).approval.id, by="ann")
    with closing(sqlite3.connect(path)) as other:
        other.execute(f"UPDATE approvals SET record = coalesce({record}, 5)")
        other.commit()
    for _ in range(2):
        assert said(engine) == "state_unavailable"
    assert said(engine, 6) == "approval_required"


def test_a_record_is_json_that_others_can_read(path, store):
    store.ask(request(arguments={"a": [1.5, "ß"]}))
    ((text,),) = rows(path, "SELECT record FROM approvals")
    assert json.loads(text)["arguments"] == {"a": [1.5, "ß"]}
