"""The store on SQLite: the contract, and what is its own."""

from __future__ import annotations

import json
import math
import os
import shutil
import sqlite3
import stat
import sys
from contextlib import closing

import pytest

from mcp_policy import Policy, PolicyEngine, ReasonCode, ToolCall
from mcp_policy.limits import CounterSpec, LimitStore
from mcp_policy.limits.sqlite import SQLiteLimitStore
from mcp_policy.sqlite_files import StateFileError
from state_files import Folder, process, together

from .contract import ONE, Clock, LimitStoreContract, spec


def rows(path, sql: str) -> list[tuple]:
    with closing(sqlite3.connect(path, timeout=60)) as connection:
        return connection.execute(sql).fetchall()


def change(path, *statements: str) -> None:
    with closing(sqlite3.connect(path, timeout=60)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


class TestSQLiteLimitStore(LimitStoreContract):
    @pytest.fixture(autouse=True)
    def folder(self):
        self.made_in = Folder()
        yield
        files = [*self.made_in.path.glob("*.db")]
        for path in files:
            counted = "SELECT id, keys, (SELECT count(*) FROM limit_logs WHERE counter = id) FROM limit_counters"
            assert all(keys == there for _, keys, there in rows(path, counted))
        self.made_in.close()

    def make(self, clock: Clock, capacity: int = 1_000) -> LimitStore:
        return self.made_in.make(SQLiteLimitStore, clock=clock, capacity=capacity)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.db"


def engine_on(store: SQLiteLimitStore, maximum: int = 100) -> PolicyEngine:
    limit = {"max": maximum, "window": "day"}
    return PolicyEngine(Policy.model_validate({"version": "1", "tools": {"t": {"rate_limit": limit}}}), limits=store)


def answer(engine: PolicyEngine, session: str = "s") -> str:
    decision = engine.authorize(ToolCall("t", session=session))
    return decision.reasons[0].code.value if decision.effect == "limit" else decision.effect.value


UNAVAILABLE = ReasonCode.STATE_UNAVAILABLE.value


# -- opening


def test_takes_the_wall_clock_by_default(path):
    with SQLiteLimitStore(path) as store:
        assert store.acquire([(spec(maximum=1), "k", ONE)]).at > 1_700_000_000
        assert not store.acquire([(spec(maximum=1), "k", ONE)]).taken


@pytest.mark.parametrize("capacity", [0, -1])
def test_room_for_at_least_one_key(path, capacity):
    with pytest.raises(ValueError, match="`capacity` must be at least 1"):
        SQLiteLimitStore(path, capacity=capacity)
    assert not path.exists()


@pytest.mark.parametrize("timeout", [-1, math.nan, math.inf])
def test_waiting_has_an_end(path, timeout):
    with pytest.raises(ValueError, match="`timeout` must be a number of seconds, an hour at most"):
        SQLiteLimitStore(path, timeout=timeout)
    assert not path.exists()


def test_only_its_owner_may_read_the_files(path):
    before = os.umask(0)
    try:
        with SQLiteLimitStore(path) as store:
            store.acquire([(spec(), "k", ONE)])
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(["state.db", "state.db-wal", "state.db-shm"], 0o600)


@pytest.mark.parametrize("name", [":memory:", "a?mode=memory", "a#b", "100%20", "Straße 'x' \"y\"", "file:x"])
def test_a_name_is_a_name(tmp_path, name):
    with SQLiteLimitStore(tmp_path / name) as store:
        store.acquire([(spec(maximum=1), "k", ONE)])
    assert [file.name for file in tmp_path.iterdir()] == [name]
    with SQLiteLimitStore(tmp_path / name) as store:
        assert not store.acquire([(spec(maximum=1), "k", ONE)]).taken


def test_a_process_may_change_its_directory(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with SQLiteLimitStore("state.db") as store:
        monkeypatch.chdir("elsewhere")
        assert store.acquire([(spec(), "k", ONE)]).taken
    assert (tmp_path / "state.db").exists()


def a_text(path):
    path.write_text("not a database, but a text that somebody keeps\n" * 20)


def another_application(path):
    change(path, "CREATE TABLE t (x)", "PRAGMA application_id = 7")


def no_application(path):
    change(path, "CREATE TABLE users (name)")


def another_version(path):
    SQLiteLimitStore(path).close()
    change(path, "PRAGMA user_version = 9")


def a_folder(path):
    path.mkdir()


def in_no_folder(path):
    path.parent.rmdir()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (a_text, "cannot be used: file is not a database"),
        (another_application, "is a database of application 0x7; a file of state or no file at all is right"),
        (no_application, "is a database of an application that it does not name"),
        (another_version, "is a file of state of version 9; version 1 is right"),
        (a_folder, "cannot be used: unable to open database file"),
        (in_no_folder, "cannot be used: No such file or directory"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_no_file_of_state_is_refused_and_left_alone(tmp_path, make, message):
    path = tmp_path / "folder" / "state.db"
    path.parent.mkdir()
    make(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(StateFileError, match=message) as refused:
        SQLiteLimitStore(path)
    assert f"`{path}`" in str(refused.value)
    assert (path.read_bytes() if path.is_file() else None) == before


def test_an_empty_file_is_made_one(path):
    path.touch()
    with SQLiteLimitStore(path) as store:
        assert store.acquire([(spec(), "k", ONE)]).taken


def test_a_closed_store_answers_nothing(path):
    with SQLiteLimitStore(path) as store:
        receipt = store.acquire([(spec(), "k", ONE)])
    store.close()
    for ask in (store.acquire, store.peek, lambda _: store.refund(receipt, [0])):
        with pytest.raises(StateFileError, match=r"the store on .* is closed"):
            ask([(spec(), "k", ONE)])
    assert answer(engine_on(store)) == UNAVAILABLE


# -- the clock


@pytest.mark.parametrize("answer", [math.nan, math.inf, -math.inf, None, "5", pytest.param(10**400, id="10**400")])
def test_a_clock_without_an_answer_raises_and_takes_nothing(path, answer):
    clock = Clock(5.0)
    limit = spec(maximum=2)
    with SQLiteLimitStore(path, clock=clock) as store:
        store.acquire([(limit, "k", ONE)])
        clock.now = answer
        for ask in (store.acquire, store.peek):
            with pytest.raises((ValueError, TypeError, OverflowError)):
                ask([(limit, "k", ONE)])
        clock.now = 6.0
        assert store.peek([(limit, "k", ONE)]).replies[0].used == ONE
        assert store.acquire([(limit, "k", ONE)]).at == 6.0


def test_what_raises_leaves_no_transaction_behind(path):
    clock = Clock()

    def broken():
        if clock.now < 0:
            raise OSError("no time")
        return clock.now

    with SQLiteLimitStore(path, clock=broken) as store, SQLiteLimitStore(path, clock=clock, timeout=0) as other:
        clock.now = -1.0
        for ask in (store.acquire, store.peek):
            with pytest.raises(OSError, match="no time"):
                ask([(spec(), "k", ONE)])
        clock.now = 1.0
        with pytest.raises(ValueError, match="below zero"):
            store.acquire([(spec("a"), "k", ONE), (spec("b"), "k", -1)])
        assert other.acquire([(spec(), "k", ONE)]).taken
        assert store.acquire([(spec(), "k", ONE)]).replies[0].used == 2 * ONE


def test_time_is_kept_for_all_processes_and_restarts(path):
    clock, behind = Clock(100.0), Clock(10.0)
    with SQLiteLimitStore(path, clock=clock) as store, SQLiteLimitStore(path, clock=behind) as other:
        store.acquire([(spec(maximum=1), "k", ONE)])
        assert other.acquire([(spec("d"), "k", ONE)]).at == 100.0
        clock.now = 150.0
        assert not store.acquire([(spec(maximum=1), "k", ONE)]).taken
        assert other.peek([(spec(), "k", ONE)]).at == 150.0
    with SQLiteLimitStore(path, clock=behind) as store:
        assert store.acquire([(spec(maximum=2), "k", ONE)]).at == 150.0


def test_peek_changes_nothing(path):
    clock = Clock()
    with SQLiteLimitStore(path, clock=clock) as store:
        store.acquire([(spec(), "k", ONE)])
        before = rows(path, "SELECT * FROM limit_logs, limit_counters, clocks")
        clock.now = 1_000.0
        store.peek([(spec(), "k", ONE), (spec("new"), "l", ONE)])
        assert rows(path, "SELECT * FROM limit_logs, limit_counters, clocks") == before
        clock.now = 1.0
        assert store.acquire([(spec(), "k", ONE)]).at == 1.0


# -- what the file holds


def keys_in(path) -> int:
    return rows(path, "SELECT count(*) FROM limit_logs")[0][0]


def test_no_identity_stands_in_the_file(path):
    with SQLiteLimitStore(path) as store:
        store.acquire([(spec("counter-of-x"), ("session-of-ann", None), ONE)])
    assert b"ann" not in path.read_bytes()
    assert b"counter-of-x" not in path.read_bytes()


def test_looking_refusing_and_giving_back_leave_no_key(path):
    with SQLiteLimitStore(path, clock=Clock()) as store:
        store.peek([(spec(), "k", ONE)])
        store.acquire([(spec(), "k", 0)])
        store.acquire([(spec(), "k", 3 * ONE)])
        receipt = store.acquire([(spec(), "k", ONE)])
        store.refund(receipt, [0])
        store.refund(receipt, [0])
        assert keys_in(path) == 0
        store.acquire([(spec("b", 1), "k", ONE)])
        store.acquire([(spec("a"), "k", ONE), (spec("b", 1), "k", ONE)])
        assert keys_in(path) == 1


def test_the_file_is_bounded_however_many_keys_there_were(path):
    clock = Clock()
    sizes = []
    with SQLiteLimitStore(path, clock=clock) as store:
        for number in range(6_000):
            clock.now = number / 10
            store.acquire([(spec(), f"{number}", ONE)])
            if number % 1_500 == 1_499:
                sizes.append(rows(path, "PRAGMA page_count")[0][0])
                assert keys_in(path) <= 601
    assert max(sizes) <= sizes[0] + 8


def test_a_counter_that_no_policy_names_any_more_goes(path):
    clock = Clock()
    with SQLiteLimitStore(path, clock=clock) as store:
        for number in range(200):
            store.acquire([(spec(f"old {number % 50}"), f"{number}", ONE)])
        clock.now = 1_000.0
        for _ in range(40):
            store.acquire([(spec("new"), None, 0)])
        assert rows(path, "SELECT * FROM limit_counters") == rows(path, "SELECT * FROM limit_logs") == []


def test_what_still_counts_under_a_longer_window_is_not_swept(path):
    clock = Clock()
    with SQLiteLimitStore(path, clock=clock) as store:
        store.acquire([(spec(window=1.0), "k", ONE)])
        store.acquire([(spec(window=1.0), "l", ONE)])
        store.acquire([(spec(window=5_000.0), "l", ONE)])
        clock.now = 1_000.0
        for _ in range(40):
            store.acquire([(spec("other"), None, 0)])
        for key, used in (("k", ONE), ("l", 2 * ONE)):
            assert store.peek([(spec(window=5_000.0), key, 0)]).replies[0].used == used


@pytest.mark.parametrize("counters", [1, 15, 16, 17, 50])
def test_sweeping_comes_to_an_end(path, counters):
    clock = Clock()
    with SQLiteLimitStore(path, clock=clock) as store:
        for number in range(counters):
            store.acquire([(spec(f"{number}", window=10_000.0), "k", ONE)])
        clock.now = 1_000.0
        for _ in range(5):
            store.acquire([(spec("0"), None, 0)])
        assert store._sweep_at > clock.now
        assert keys_in(path) == counters


# -- several processes

HAMMER = """
import sys
from mcp_policy.limits import CounterSpec
from mcp_policy.limits.sqlite import SQLiteLimitStore
print("ready", flush=True)
sys.stdin.readline()
both = [(CounterSpec("a", 86_400.0, 700, False), "k", 1), (CounterSpec("b", 86_400.0, 900, False), "k", 1)]
with SQLiteLimitStore(sys.argv[1], timeout=60) as store:
    taken = [store.acquire(both if turn % 2 else both[:1]).taken for turn in range(400)]
print(sum(taken))
"""


def test_four_processes_never_take_more_than_there_is(path):
    assert sum(map(int, together(HAMMER, 4, path))) == 700
    assert keys_in(path) == 2
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]


LOAD = """
import sys
from itertools import count
from mcp_policy.limits import CounterSpec
from mcp_policy.limits.sqlite import SQLiteLimitStore
store = SQLiteLimitStore(sys.argv[1])
for number in count():
    print(store.acquire([(CounterSpec("c", 86_400.0, 10**9, False), "k", 1)]).replies[0].used, flush=True)
"""


def test_a_process_that_is_killed_loses_no_count(path):
    limit = CounterSpec("c", 86_400.0, 10**9, False)
    with process(LOAD, path) as child:
        printed = [child.stdout.readline() for _ in range(300)]
        child.kill()
        last = int([line for line in [*printed, *child.stdout] if line.endswith("\n")][-1])
    assert path.with_name("state.db-wal").stat().st_size > 0
    with SQLiteLimitStore(path) as store:
        assert last <= store.peek([(limit, "k", 0)]).replies[0].used <= last + 1
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]


def test_a_restart_keeps_the_counts(path):
    with SQLiteLimitStore(path) as store:
        assert answer(engine_on(store, 1)) == "allow"
    with SQLiteLimitStore(path) as store:
        assert answer(engine_on(store, 1)) == ReasonCode.RATE_LIMITED.value


FORK = """
import os, sys, threading
from mcp_policy.limits import CounterSpec
from mcp_policy.limits.sqlite import SQLiteLimitStore
ask = [(CounterSpec("c", 86_400.0, 10**9, False), "k", 1)]
with SQLiteLimitStore(sys.argv[1], timeout=60) as store:
    store.acquire(ask)
    at_work = threading.Event()
    def work():
        for turn in range(300):
            store.acquire(ask)
            if turn == 20:
                at_work.set()
    if sys.argv[2] == "busy":
        thread = threading.Thread(target=work)
        thread.start()
        at_work.wait(60)
    children = []
    for _ in range(5):
        child = os.fork()
        if not child:
            inherited = store._file._connection is not None
            store.acquire(ask)
            store.close()
            os._exit(inherited)
        children.append(child)
    store.acquire(ask)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 5
    if sys.argv[2] == "busy":
        thread.join()
    print(store.acquire(ask).replies[0].used)
"""


@pytest.mark.parametrize(("how", "used"), [("idle", 8), ("busy", 308)])
def test_a_fork_never_shares_a_connection(path, how, used):
    code = FORK if sys.version_info < (3, 12) else "import warnings\nwarnings.simplefilter('ignore')" + FORK
    with process(code, path, how) as child:
        assert child.communicate(timeout=120)[0] == f"{used}\n"
        assert child.returncode == 0
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]


# -- failures: the engine denies, and recovers when the cause is gone


@pytest.fixture
def store(path):
    with SQLiteLimitStore(path, timeout=0.01) as store:
        yield store


@pytest.fixture
def engine(store):
    engine = engine_on(store)
    assert answer(engine) == "allow"
    return engine


def used(store, session="s") -> int:
    with closing(sqlite3.connect(store._file._path)) as connection:
        (log,) = connection.execute("SELECT log FROM limit_logs").fetchone()
    return int.from_bytes(log[:8], "little") // ONE


def test_a_file_that_is_locked(path, engine, store, caplog):
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert answer(engine) == UNAVAILABLE
        assert "database is locked" in caplog.text
        assert engine.evaluate(ToolCall("t", session="s")).effect == "allow"  # reading goes on
        other.execute("ROLLBACK")
        assert answer(engine) == "allow"
    assert used(store) == 2


def test_a_store_that_another_thread_is_using(engine, store, caplog):
    from threading import Event, Thread

    inside, leave = Event(), Event()
    thread = Thread(target=store._file.read, args=[lambda execute, now: (inside.set(), leave.wait(60))], daemon=True)
    thread.start()
    assert inside.wait(60)
    assert answer(engine) == UNAVAILABLE
    assert "is in use by other threads" in caplog.text
    leave.set()
    thread.join(60)
    assert answer(engine) == "allow"


def test_a_full_disk(engine, store, caplog):
    connection = store._file._connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    answers = [answer(engine, f"{number}") for number in range(200)]
    refused = answers.index(UNAVAILABLE)
    assert "database or disk is full" in caplog.text
    assert {*answers[:refused]} <= {"allow"}
    assert {*answers[refused + 1 :]} == {"allow"}  # a new connection has no such bound


FULL = """
import resource, sys
from mcp_policy.limits import CounterSpec
from mcp_policy.limits.sqlite import SQLiteLimitStore
from mcp_policy.sqlite_files import StateFileError
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
limit = CounterSpec("c", 86_400.0, 2, False)
with SQLiteLimitStore(sys.argv[1], timeout=60) as store:
    store.acquire([(limit, "k", 1)])
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    failed = 0
    for number in range(1_000):
        try:
            store.acquire([(limit, f"{number}", 1)])
        except StateFileError:
            failed += 1
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    receipts = [store.acquire([(limit, "k", 1)]).taken for _ in range(2)]
print(failed > 0, receipts)
"""


def test_files_that_cannot_grow(path):
    with process(FULL, path) as child:
        assert child.communicate(timeout=120)[0] == "True [True, False]\n"
    assert rows(path, "PRAGMA integrity_check") == [("ok",)]


def files_of(path):
    return [file for file in path.parent.iterdir() if file.name.startswith(path.name)]


def test_a_file_that_is_gone_is_not_made_anew(path, engine, store, tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    for file in files_of(path):
        file.rename(kept / file.name)
    for _ in range(3):
        assert answer(engine) == UNAVAILABLE
    assert files_of(path) == []
    for file in kept.iterdir():
        file.rename(path.parent / file.name)
    assert answer(engine) == "allow"
    assert used(store) == 2


def empty(path):
    os.truncate(path, 0)


def half(path):
    os.truncate(path, path.stat().st_size // 2)


def garbage(path):
    path.write_bytes(b"garbage")


def more_garbage(path):
    path.write_bytes(b"garbage" * 10_000)


def of_another_version(path):
    path.unlink()
    another_version(path)


def of_nobody(path):
    path.unlink()
    path.touch()


@pytest.mark.parametrize("spoil", [empty, half, garbage, of_another_version, of_nobody])
def test_a_file_that_is_spoiled(path, store, engine, spoil, tmp_path):
    store._file._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store.peek([])
    good = shutil.copy(path, tmp_path / "good")
    spoil(path)
    for _ in range(3):
        assert answer(engine) == UNAVAILABLE
    for file in files_of(path):
        file.unlink()
    shutil.copy(good, path)
    assert answer(engine) == "allow"
    assert used(store) == 2


def test_garbage_over_all_of_it_never_allows_more(path, store):
    """What this process remembers of the file still counts; a new one does not open it."""
    engine = engine_on(store, 3)
    assert answer(engine) == "allow"
    store._file._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    more_garbage(path)
    answers = [answer(engine) for _ in range(20)]
    assert answers.count("allow") <= 2
    with pytest.raises(StateFileError):
        SQLiteLimitStore(path)


def test_a_log_of_writes_that_is_gone(path, store, engine):
    path.with_name("state.db-wal").unlink()
    assert answer(engine) in {"allow", UNAVAILABLE}
    assert answer(engine) == "allow"
    assert used(store) >= 2


@pytest.mark.parametrize(
    "log",
    ["x''", "x'0102'", "NULL + 5", "'text'", "zeroblob(8)", "zeroblob(32) || x'01'", "x'01' || substr(log, 2)"],
)
def test_a_damaged_log_denies_its_key_alone(path, store, engine, log):
    before = rows(path, "SELECT key FROM limit_logs")
    change(path, f"UPDATE limit_logs SET log = coalesce({log}, 5)")
    for _ in range(3):
        assert answer(engine) == UNAVAILABLE
    assert answer(engine, "another") == "allow"
    change(path, f"DELETE FROM limit_logs WHERE key = x'{before[0][0].hex()}'")
    assert answer(engine) == "allow"


READ_ONLY = """
import json, logging, os, pathlib, sys
from mcp_policy import Policy, PolicyEngine, ToolCall
from mcp_policy.limits.sqlite import SQLiteLimitStore
from mcp_policy.sqlite_files import StateFileError
folder = pathlib.Path(sys.argv[1])
policy = Policy.model_validate({"version": "1", "tools": {"t": {"rate_limit": "5/day"}}})
if os.geteuid() == 0:
    os.chown(folder, 65534, 65534)
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
os.chdir(folder)
store = SQLiteLimitStore("state.db", timeout=5)
engine = PolicyEngine(policy, limits=store)
said = [engine.authorize(ToolCall("t")).effect]
store._file._disconnect()
for mode in (0o500, 0o700):
    folder.chmod(mode)
    said.append(engine.authorize(ToolCall("t")).effect)
folder.chmod(0o500)
try:
    SQLiteLimitStore("another.db")
except StateFileError as error:
    said.append(str(error).rpartition(": ")[2])
folder.chmod(0o700)
store.close()
print(json.dumps(said))
"""


def test_a_folder_that_is_read_only():
    folder = Folder()
    folder.path.chmod(0o755)
    try:
        with process(READ_ONLY, folder.path) as child:
            said = json.loads(child.communicate(timeout=120)[0])
    finally:
        folder.close()
    assert said == ["allow", "limit", "allow", "Permission denied"]


def test_a_signal_that_forks_in_the_middle_of_a_call(path):
    code = """
import os, signal, sys
from mcp_policy.limits import CounterSpec
from mcp_policy.limits.sqlite import SQLiteLimitStore
from mcp_policy.sqlite_files import StateFileError
ask = [(CounterSpec("c", 86_400.0, 10**9, False), "k", 1)]
first = [True]
def clock():
    if first.pop():
        child = os.fork()
        if not child:
            os._exit(0)
        os.waitpid(child, 0)
    first.append(False)
    return 5.0
store = SQLiteLimitStore(sys.argv[1], clock=clock)
try:
    store.acquire(ask)
except StateFileError as error:
    print("refused")
first.append(False)
print(store.acquire(ask).replies[0].used)
store.close()
"""
    with process(code, path) as child:
        assert child.communicate(timeout=60)[0] == "refused\n1\n"
