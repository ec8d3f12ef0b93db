"""The store in memory: the contract, and what is its own."""

from __future__ import annotations

import gc
import itertools
import math
import tracemalloc
from threading import Event, Thread

import pytest

from mcp_policy.limits import CounterSpec, LimitStore, MemoryLimitStore

from .contract import ONE, Clock, LimitStoreContract, spec


class TestMemoryLimitStore(LimitStoreContract):
    def make(self, clock: Clock, capacity: int = 1_000) -> LimitStore:
        return MemoryLimitStore(clock, capacity)


def test_takes_the_monotonic_clock_by_default():
    store = MemoryLimitStore()
    assert store.acquire([(spec(maximum=1), "k", ONE)]).taken
    assert not store.acquire([(spec(maximum=1), "k", ONE)]).taken


@pytest.mark.parametrize("capacity", [0, -1])
def test_room_for_at_least_one_key(capacity):
    with pytest.raises(ValueError, match="`capacity` must be at least 1"):
        MemoryLimitStore(capacity=capacity)


# -- the clock


@pytest.mark.parametrize("answer", [math.nan, math.inf, -math.inf, None, "5", pytest.param(10**400, id="10**400")])
def test_a_clock_without_an_answer_raises_and_takes_nothing(answer):
    clock = Clock(5.0)
    store = MemoryLimitStore(clock)
    limit = spec(maximum=2)
    store.acquire([(limit, "k", ONE)])
    clock.now = answer
    for ask in (store.acquire, store.peek):
        with pytest.raises((ValueError, TypeError, OverflowError)):
            ask([(limit, "k", ONE)])
    clock.now = 6.0
    assert store.peek([(limit, "k", ONE)]).replies[0].used == ONE
    assert store.acquire([(limit, "k", ONE)]).at == 6.0


def test_a_clock_that_raises_leaves_the_store_usable():
    clock = Clock()

    def broken():
        if clock.now < 0:
            raise OSError("no time")
        return clock.now

    store = MemoryLimitStore(broken)
    store.acquire([(spec(), "k", ONE)])
    clock.now = -1.0
    for ask in (store.acquire, store.peek):
        with pytest.raises(OSError, match="no time"):
            ask([(spec(), "k", ONE)])
    clock.now = 1.0
    assert store.acquire([(spec(), "k", ONE)]).replies[0].used == 2 * ONE


def test_peek_does_not_move_time():
    clock = Clock()
    store = MemoryLimitStore(clock)
    clock.now = 1_000.0
    store.peek([(spec(), "k", ONE)])
    clock.now = 1.0
    assert store.acquire([(spec(), "k", ONE)]).at == 1.0


def test_nothing_is_taken_when_a_later_key_is_no_key():
    store = MemoryLimitStore(Clock())
    with pytest.raises(TypeError):
        store.acquire([(spec("a"), "k", ONE), (spec("b"), ["no", "key"], ONE)])
    assert store.peek([(spec("a"), "k", ONE)]).replies[0].used == 0


def test_what_is_given_back_is_given_back_once_when_the_answer_cannot_be_made():
    class Moody:
        left = 2  # to find the log, and to open it

        def __hash__(self):
            if not self.left:
                raise OSError("no more")
            self.left -= 1
            return 5

    store = MemoryLimitStore(Clock())
    key = Moody()
    store.acquire([(spec("a"), "k", ONE), (spec("b", 1), key, ONE)])
    key.left = 1
    with pytest.raises(OSError, match="no more"):
        store.acquire([(spec("a"), "k", ONE), (spec("b", 1), key, ONE)])
    assert store.peek([(spec("a"), "k", ONE)]).replies[0].used == ONE


def test_one_call_at_a_time():
    inside, leave, also_inside = Event(), Event(), Event()

    def clock():
        if inside.is_set():
            also_inside.set()
        inside.set()
        leave.wait(60)
        return 0.0

    store = MemoryLimitStore(clock)
    requests = [(spec(), "k", ONE)]
    first = Thread(target=store.acquire, args=[requests], daemon=True)
    first.start()
    assert inside.wait(60)
    others = [Thread(target=ask, args=[requests], daemon=True) for ask in (store.acquire, store.peek)]
    for other in others:
        other.start()
    assert not also_inside.wait(0.1)
    leave.set()
    for thread in (first, *others):
        thread.join(60)
    assert also_inside.is_set()


# -- memory


def keys_of(store: MemoryLimitStore) -> dict[str, int]:
    return {counter: len(keys) for counter, keys in store._counters.items()}


def test_looking_and_costing_nothing_leaves_no_key():
    store = MemoryLimitStore(Clock())
    store.peek([(spec(), "k", ONE)])
    store.acquire([(spec(), "k", 0)])
    store.acquire([(spec(maximum=0), "k", ONE)])
    store.acquire([(spec(), "k", 3 * ONE)])
    assert keys_of(store) == {}


def test_a_refused_or_refunded_call_leaves_no_key():
    store = MemoryLimitStore(Clock())
    store.acquire([(spec("b", 1), "k", ONE)])
    store.acquire([(spec("a"), "k", ONE), (spec("b", 1), "k", ONE)])
    assert keys_of(store) == {"b": 1}
    store.refund(store.acquire([(spec("a"), "k", ONE)]), [0])
    assert keys_of(store) == {"b": 1}


def test_a_refused_call_on_a_key_that_no_longer_counts_leaves_no_key():
    clock = Clock()
    store = MemoryLimitStore(clock)
    store.acquire([(spec("a"), "k", ONE)])
    clock.now = 100.0
    store.acquire([(spec("b", 1), "k", ONE)])
    assert not store.acquire([(spec("a"), "k", ONE), (spec("b", 1), "k", ONE)]).taken
    assert keys_of(store) == {"b": 1}


def test_new_keys_push_out_what_no_longer_counts():
    clock = Clock()
    store = MemoryLimitStore(clock)
    for number in range(1_000):
        clock.now = float(number)
        store.acquire([(spec(), f"{number}", ONE)])
        assert keys_of(store)["c"] <= 60


def test_a_policy_that_no_longer_names_a_counter_does_not_keep_its_memory():
    clock = Clock()
    store = MemoryLimitStore(clock)
    for number in range(500):
        store.acquire([(spec(f"old {number % 5}"), f"{number}", ONE)])
    clock.now = 1_000.0
    for _ in range(50):
        store.acquire([(spec("new"), None, 0)])
    assert keys_of(store) == {}


def test_what_still_counts_under_a_longer_window_is_not_swept():
    clock = Clock()
    store = MemoryLimitStore(clock)
    store.acquire([(spec(window=1.0), "k", ONE)])
    store.acquire([(spec(window=5_000.0, maximum=2), "k", ONE)])
    clock.now = 1_000.0
    for _ in range(50):
        store.acquire([(spec("other"), None, 0)])
    assert not store.acquire([(spec(window=5_000.0, maximum=2), "k", ONE)]).taken


def test_a_fresh_counter_is_small():
    ticks = itertools.count(0.0, 1e-4)
    store = MemoryLimitStore(lambda: next(ticks))
    store.acquire([(spec(), "warm", ONE)])
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(10_000):
            store.acquire([(spec(), f"session-{number}", ONE)])
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown / 10_000 <= 320


def test_replies_to_ever_new_totals_are_not_all_kept():
    store = MemoryLimitStore(Clock())
    limit = CounterSpec("c", 60.0, 10**9, False)
    for _ in range(2_000):
        store.acquire([(limit, "k", 1)])
    assert len(store._counters["c"].replies) <= 256


def test_sweeping_gets_over_a_counter_that_went_by_itself():
    clock = Clock()
    store = MemoryLimitStore(clock)
    receipts = [store.acquire([(spec(f"{number}"), "k", ONE)]) for number in range(100)]
    clock.now = 50.0
    for number in range(100):
        store.acquire([(spec(f"{number}"), "l", ONE)])
    clock.now = 400.0
    store.acquire([(spec(), None, 0)])  # begins a sweep that is too long for one call
    left = keys_of(store)
    assert 0 < len(left) < 100
    kept = next(iter(left))
    store.refund(receipts[int(kept)], [0])
    store.refund(store.acquire([(spec(kept), "l", ONE)]), [0])
    for _ in range(50):
        store.acquire([(spec(), None, 0)])
    assert keys_of(store) == {}


def test_a_new_key_counts_over_the_new_window():
    clock = Clock()
    store = MemoryLimitStore(clock)
    store.acquire([(spec(window=1.0), "k", ONE)])
    store.acquire([(spec(window=1_000.0, maximum=1), "l", ONE)])
    clock.now = 400.0
    for _ in range(5):
        store.acquire([(spec("other"), None, 0)])
    assert not store.acquire([(spec(window=1_000.0, maximum=1), "l", ONE)]).taken


@pytest.mark.parametrize("counters", [1, 63, 64, 65, 200])
def test_sweeping_comes_to_an_end(counters):
    clock = Clock()
    store = MemoryLimitStore(clock)
    for number in range(counters):
        store.acquire([(spec(f"{number}", window=10_000.0), "k", ONE)])
    clock.now = 1_000.0
    for _ in range(5):
        store.acquire([(spec(), None, 0)])
    assert store._sweep_at > clock.now
    assert len(keys_of(store)) == counters
