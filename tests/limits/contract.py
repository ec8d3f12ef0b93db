"""What every store of limits promises, whatever keeps its counts.

A store takes part by a subclass that says how to make it. The model is the plainest there is: a list of every cost ever
taken, and a sum over it.
"""

from __future__ import annotations

import math
import sys
import threading
from bisect import bisect_left
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_policy.limits import CounterSpec, Key, LimitStore, Receipt, Reply

ONE = 1_000_000


class Clock:
    """A clock that stands where it is put."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def spec(counter="c", maximum=2, window=60.0, optional=False) -> CounterSpec:
    return CounterSpec(counter, window, maximum * ONE, optional)


class Model:
    """Every cost ever taken, one by one."""

    def __init__(self) -> None:
        self.now = -math.inf
        self.taken: dict[tuple[str, Key], list[tuple[float, int]]] = {}  # when, and the sum up to then

    def tell(self, now: float) -> None:
        self.now = max(self.now, now)

    def used(self, counter: str, key: Key, window: float, *, late: float = 0.0) -> int:
        taken = self.taken.get((counter, key), [(-math.inf, 0)])
        return taken[-1][1] - taken[self._gone(taken, window, late) - 1][1]

    def moments(self, counter: str, key: Key, window: float) -> int:
        taken = self.taken.get((counter, key), [(-math.inf, 0)])
        return len(taken) - self._gone(taken, window, 0.0)

    def fits(self, spec: CounterSpec, key: Key, cost: int) -> bool:
        return 0 < spec.maximum >= self.used(spec.counter, key, spec.window) + cost

    def take(self, spec: CounterSpec, key: Key, cost: int) -> None:
        taken = self.taken.setdefault((spec.counter, key), [(-math.inf, 0)])
        total = taken[-1][1] + cost
        if taken[-1][0] == self.now:
            taken.pop()
        taken.append((self.now, total))

    def refund(self, at: float, spec: CounterSpec, key: Key, cost: int) -> None:
        taken = self.taken[spec.counter, key]
        taken[:] = [(when, total - cost * (when >= at)) for when, total in taken]

    def _gone(self, taken: list[tuple[float, int]], window: float, late: float) -> int:
        # a cost counts at its own moment, also when the window is too short to be told from nothing
        return bisect_left(taken, True, key=lambda one: one[0] + window + late > self.now or one[0] == self.now)


def just_before(now: float, wait: float) -> float:
    """A moment so little before now + wait that only rounding lies between."""
    return now + wait - 4 * max(math.ulp(now), math.ulp(now + wait), math.ulp(wait))


SPECS = [
    CounterSpec("a", 10.0, 5, False),
    CounterSpec("b", 0.1, 3, False),
    CounterSpec("c", 7.3, 2, False),
    CounterSpec("d", 1e-9, 2, False),
    CounterSpec("e", 10.0, 0, False),
]
KEYS: list[Key] = ["x", None, ("x", None)]
STEPS = st.one_of(
    st.sampled_from([0.0, 0.1, 1.0, 3.3, 10.0, 7.3, 1e-9, -5.0, 1e6]),
    st.floats(-20, 20, allow_nan=False),
)
BURST_STEPS = st.one_of(st.sampled_from([0.0, 1e-4, 1e-3, 1 / 512, 0.02]), st.floats(0, 0.005))  # of the window
CROWDS = (  # window, bursts, maximum
    st.sampled_from([1.0, 60.0, 0.37]),
    st.lists(st.tuples(st.integers(1, 400), BURST_STEPS, st.integers(1, 3)), min_size=1, max_size=6),
    st.sampled_from([10, 500, 1_500, 10_000]),
)
CALLS = st.lists(
    st.tuples(st.sampled_from(SPECS), st.sampled_from(KEYS), st.integers(0, 6)),
    min_size=1,
    max_size=3,
    unique_by=lambda request: request[0].counter,
)


class LimitStoreContract:
    """The promises; `make` is the store's own."""

    exact = 256  # moments that are kept one by one
    resolution = 256  # beyond, room comes back late by this part of the window

    def make(self, clock: Clock, capacity: int = 1_000) -> LimitStore:
        raise NotImplementedError

    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    def store(self, clock: Clock) -> LimitStore:
        return self.make(clock)

    @pytest.fixture
    def busy_threads(self):
        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        yield
        sys.setswitchinterval(before)

    # -- one counter

    def test_up_to_the_maximum_and_no_further(self, store):
        assert [store.acquire([(spec(), "k", ONE)]).taken for _ in range(4)] == [True, True, False, False]

    def test_a_receipt_says_what_was_met(self, store, clock):
        clock.now = 5.0
        requests = ((spec(), "k", ONE),)
        assert store.acquire(requests) == Receipt(True, (Reply(ONE, 0.0, 60.0, True),), 5.0, requests)

    def test_a_refusal_says_when_to_come_back(self, store, clock):
        for clock.now in (0.0, 10.0):
            store.acquire([(spec(), "k", ONE)])
        clock.now = 25.0
        requests = ((spec(), "k", ONE),)
        assert store.acquire(requests) == Receipt(False, (Reply(2 * ONE, 35.0, 45.0, True),), 25.0, requests)

    def test_a_big_cost_waits_for_several(self, store, clock):
        for clock.now in (0.0, 10.0, 20.0):
            store.acquire([(spec(maximum=3), "k", ONE)])
        assert store.acquire([(spec(maximum=3), "k", 2 * ONE)]).replies[0].retry_after == 50.0
        assert store.acquire([(spec(maximum=3), "k", 3 * ONE)]).replies[0].retry_after == 60.0

    def test_there_is_no_calendar_edge(self, store, clock):
        clock.now = 59.0
        for _ in range(2):
            assert store.acquire([(spec(), "k", ONE)]).taken
        clock.now = 61.0
        assert not store.acquire([(spec(), "k", ONE)]).taken

    def test_the_window_excludes_its_far_end(self, store, clock):
        store.acquire([(spec(maximum=1), "k", ONE)])
        clock.now = math.nextafter(60.0, 0)
        assert not store.acquire([(spec(maximum=1), "k", ONE)]).taken
        clock.now = 60.0
        assert store.acquire([(spec(maximum=1), "k", ONE)]).taken

    def test_refused_calls_take_nothing(self, store, clock):
        store.acquire([(spec(maximum=1), "k", ONE)])
        for clock.now in range(50):
            assert not store.acquire([(spec(maximum=1), "k", ONE)]).taken
        clock.now = 60.0
        assert store.acquire([(spec(maximum=1), "k", ONE)]).taken

    @pytest.mark.parametrize("cost", [0, 1, ONE])
    def test_a_maximum_of_zero_blocks_every_cost(self, store, cost):
        receipt = store.acquire([(spec(maximum=0), "k", cost)])
        assert (receipt.taken, receipt.replies) == (False, (Reply(0, None, 0.0, True),))

    def test_a_cost_above_the_maximum_never_passes(self, store):
        store.acquire([(spec(), "k", ONE)])
        for key, used in (("k", ONE), ("new", 0)):
            reply = store.acquire([(spec(), key, 2 * ONE + 1)]).replies[0]
            assert (reply.used, reply.retry_after) == (used, None)

    def test_a_cost_of_zero_passes_a_used_up_counter_but_not_an_overdrawn_one(self, store):
        store.acquire([(spec(maximum=3), "k", 3 * ONE)])
        assert store.acquire([(spec(maximum=3), "k", 0)]) == Receipt(
            True, (Reply(3 * ONE, 0.0, 60.0, True),), 0.0, ((spec(maximum=3), "k", 0),)
        )
        assert not store.acquire([(spec(maximum=2), "k", 0)]).taken

    def test_a_cost_of_zero_on_a_new_key(self, store):
        assert store.acquire([(spec(), "k", 0)]).replies == (Reply(0, 0.0, 0.0, True),)

    def test_a_cost_below_zero_raises(self, store):
        for _ in range(2):
            with pytest.raises(ValueError, match="below zero"):
                store.acquire([(spec(), "k", -1)])
            store.acquire([(spec(), "k", ONE)])

    def test_keys_and_counters_do_not_mix(self, store):
        keys = ["k", None, "null", "None", "", ("k",), ("k", None), (None, "k"), (("k",), None), '["k"]']
        for counter in ("c", "d", '["c"'):
            for key in keys:
                assert store.acquire([(spec(counter, maximum=1), key, ONE)]).taken
                assert not store.acquire([(spec(counter, maximum=1), key, ONE)]).taken

    def test_a_policy_may_change_the_maximum_and_the_window(self, store, clock):
        for clock.now in (0.0, 10.0):
            store.acquire([(spec(maximum=2), "k", ONE)])
        assert not store.acquire([(spec(maximum=1), "k", ONE)]).taken
        assert store.acquire([(spec(maximum=3), "k", ONE)]).taken
        clock.now = 70.0
        reply = store.acquire([(spec(maximum=3, window=600.0), "k", 2 * ONE)]).replies[0]
        assert (reply.used, reply.retry_after) == (3 * ONE, 540.0)
        assert store.acquire([(spec(maximum=3, window=1.0), "k", ONE)]).taken

    def test_a_reply_is_about_the_window_of_its_request(self, store):
        store.acquire([(spec(window=60.0), "k", ONE)])
        assert store.acquire([(spec(window=60.0), "l", ONE)]).replies[0].reset_after == 60.0
        assert store.acquire([(spec(window=600.0), "m", ONE)]).replies[0].reset_after == 600.0

    def test_a_cost_that_never_passes_leaves_the_key_usable(self, store, clock):
        store.acquire([(spec(), "k", ONE)])
        clock.now = 100.0
        assert not store.acquire([(spec(), "k", 3 * ONE)]).taken
        assert store.acquire([(spec(), "k", 2 * ONE)]).taken

    # -- peek

    def test_peek_says_what_acquire_would_and_takes_nothing(self, store, clock):
        requests = [(spec(maximum=1), "k", ONE)]
        for _ in range(3):
            assert store.peek(requests) == Receipt(False, (Reply(0, 0.0, 0.0, True),), 0.0, tuple(requests))
        assert store.acquire(requests).taken
        clock.now = 20.0
        assert store.peek(requests) == store.acquire(requests)

    def test_peek_looks_past_what_has_left_the_window(self, store, clock):
        for clock.now in (0.0, 10.0, 20.0):
            store.acquire([(spec(maximum=3), "k", ONE)])
        clock.now = 65.0
        assert store.peek([(spec(maximum=3), "k", ONE)]).replies == (Reply(2 * ONE, 0.0, 15.0, True),)
        clock.now = 95.0
        assert store.peek([(spec(maximum=3), "k", ONE)]).replies == (Reply(0, 0.0, 0.0, True),)

    def test_peek_needs_no_room(self, clock):
        store = self.make(clock, capacity=1)
        for key in ("a", "b", "c"):
            assert store.peek([(spec(), key, ONE)]).replies[0].available
        assert store.acquire([(spec(), "d", ONE)]).taken

    # -- several counters

    def test_all_or_nothing(self, store):
        both = [(spec("a", 5), "k", ONE), (spec("b", 1), "k", ONE)]
        assert store.acquire(both).taken
        refused = store.acquire(both)
        assert not refused.taken
        assert [reply.used for reply in refused.replies] == [ONE, ONE]
        assert [reply.retry_after for reply in refused.replies] == [0.0, 60.0]
        assert store.peek(both).replies == refused.replies

    def test_nothing_is_left_of_a_refused_call_on_new_keys(self, clock):
        store = self.make(clock, capacity=1)
        store.acquire([(spec("b", 1), "k", ONE)])
        assert not store.acquire([(spec("a"), "lost", ONE), (spec("b", 1), "k", ONE)]).taken
        assert store.acquire([(spec("a"), "other", ONE)]).taken

    def test_nothing_is_taken_when_a_later_request_raises(self, store):
        with pytest.raises(ValueError, match="below zero"):
            store.acquire([(spec("a"), "k", ONE), (spec("b"), "k", -1)])
        assert store.peek([(spec("a"), "k", ONE)]).replies[0].used == 0

    def test_one_counter_twice_counts_twice(self, store):
        assert not store.acquire([(spec(maximum=1), "k", ONE)] * 2).taken
        assert store.acquire([(spec(maximum=2), "k", ONE)] * 2).taken
        assert not store.acquire([(spec(maximum=2), "k", ONE)]).taken

    def test_no_requests(self, store):
        assert store.acquire([]).taken

    # -- refund

    def test_a_refund_gives_back_what_was_asked(self, store):
        receipt = store.acquire([(spec("a", 1), "k", ONE), (spec("b", 1), "k", ONE)])
        store.refund(receipt, [1])
        assert not store.acquire([(spec("a", 1), "k", ONE)]).taken
        assert store.acquire([(spec("b", 1), "k", ONE)]).taken

    def test_a_refund_is_of_the_moment_of_taking(self, store, clock):
        receipts = []
        for clock.now in (0.0, 10.0, 20.0):
            receipts.append(store.acquire([(spec(maximum=3), "k", ONE)]))
        store.refund(receipts[1], [0])
        assert store.peek([(spec(maximum=3), "k", 2 * ONE)]).replies == (Reply(2 * ONE, 40.0, 60.0, True),)
        store.refund(receipts[2], [0])
        assert store.peek([(spec(maximum=3), "k", 3 * ONE)]).replies == (Reply(ONE, 40.0, 40.0, True),)

    def test_a_late_refund_frees_nothing(self, store, clock):
        receipt = store.acquire([(spec(maximum=1), "k", ONE)])
        clock.now = 60.0
        assert store.acquire([(spec(maximum=1), "k", ONE)]).taken
        store.refund(receipt, [0])
        assert not store.acquire([(spec(maximum=1), "k", ONE)]).taken

    def test_a_refund_of_what_was_not_taken_does_nothing(self, store):
        store.acquire([(spec(maximum=1), "k", ONE)])
        store.refund(store.acquire([(spec(maximum=1), "k", ONE)]), [0])
        store.refund(store.peek([(spec(maximum=1), "k", ONE)]), [0])
        assert not store.acquire([(spec(maximum=1), "k", ONE)]).taken

    def test_a_refund_that_leaves_nothing_makes_room(self, clock):
        store = self.make(clock, capacity=1)
        store.refund(store.acquire([(spec(), "a", ONE)]), [0])
        assert store.acquire([(spec(), "b", ONE)]).taken

    def test_a_refund_of_what_there_was_no_room_for_does_nothing(self, clock):
        store = self.make(clock, capacity=1)
        limit = spec(optional=True)
        first = store.acquire([(limit, "k", ONE)])
        without_room = store.acquire([(limit, "l", ONE)])
        store.refund(first, [0])
        assert store.acquire([(limit, "l", ONE)]).replies[0].available
        store.refund(without_room, [0])
        assert store.peek([(limit, "l", ONE)]).replies[0].used == ONE

    # -- time

    def test_a_clock_that_goes_back_frees_and_extends_nothing(self, store, clock):
        clock.now = 100.0
        store.acquire([(spec(maximum=1), "k", ONE)])
        for clock.now in (0.0, -1e9, 159.0):
            assert not store.acquire([(spec(maximum=1), "k", ONE)]).taken
        clock.now = 160.0
        assert store.acquire([(spec(maximum=1), "k", ONE)]).taken

    def test_what_is_taken_while_the_clock_is_behind_counts_from_the_latest_time(self, store, clock):
        clock.now = 100.0
        store.acquire([(spec(maximum=2), "k", ONE)])
        clock.now = 0.0
        assert store.acquire([(spec(maximum=2), "k", ONE)]).at == 100.0
        clock.now = 159.0
        assert store.peek([(spec(maximum=2), "k", ONE)]).replies[0].retry_after != 0.0

    def test_peek_sees_the_latest_time_too(self, store, clock):
        store.acquire([(spec(), "k", ONE)])
        clock.now = 100.0
        store.acquire([(spec(), "l", ONE)])
        clock.now = 30.0
        receipt = store.peek([(spec(), "k", ONE)])
        assert (receipt.at, receipt.replies[0].used) == (100.0, 0)

    @pytest.mark.parametrize("window", [5e-324, 1e-12, 1e-7])
    def test_a_window_too_short_for_the_clock_still_limits_its_moment(self, store, clock, window):
        clock.now = 1e9
        requests = [(spec(maximum=1, window=window), "k", ONE)]
        assert store.acquire(requests).taken
        refused = store.acquire(requests)
        assert not refused.taken
        clock.now += refused.replies[0].retry_after
        assert store.acquire(requests).taken

    # -- room

    def test_a_cost_of_zero_needs_no_room(self, clock):
        store = self.make(clock, capacity=1)
        store.acquire([(spec(), "k", ONE)])
        assert store.peek([(spec(), "l", 0)]).replies[0].available
        assert store.acquire([(spec(), "l", 0)]).taken

    def test_what_counts_for_a_moment_only_keeps_its_room_for_that_moment(self, clock):
        clock.now = 1e9
        store = self.make(clock, capacity=1)
        limit = spec(maximum=1, window=1e-12)
        assert store.acquire([(limit, "k", ONE)]).taken
        assert not store.acquire([(limit, "l", ONE)]).taken
        assert not store.acquire([(limit, "k", ONE)]).taken

    def test_a_full_counter_refuses_new_keys_and_keeps_the_old(self, clock):
        store = self.make(clock, capacity=3)
        for key in ("a", "b", "c"):
            assert store.acquire([(spec(), key, ONE)]).taken
        for _ in range(3):
            refused = store.acquire([(spec(), "d", ONE)])
            assert (refused.taken, refused.replies) == (False, (Reply(0, None, 0.0, False),))
            assert store.peek([(spec(), "d", ONE)]).replies == refused.replies
        for key in ("a", "b", "c"):
            assert store.acquire([(spec(), key, ONE)]).taken
            assert not store.acquire([(spec(), key, ONE)]).taken

    def test_a_full_counter_does_not_refuse_another(self, clock):
        store = self.make(clock, capacity=1)
        for counter in ("a", "b", "c"):
            assert store.acquire([(spec(counter), "k", ONE)]).taken
            assert not store.acquire([(spec(counter), "l", ONE)]).taken

    def test_room_comes_back_as_soon_as_one_key_no_longer_counts(self, clock):
        store = self.make(clock, capacity=3)
        for clock.now, key in ((0.0, "a"), (1.0, "b"), (2.0, "c"), (3.0, "a"), (4.0, "b")):
            store.acquire([(spec(), key, ONE)])
        clock.now = 61.9
        assert not store.acquire([(spec(), "d", ONE)]).taken
        clock.now = 62.0
        assert store.peek([(spec(), "d", ONE)]).replies[0].available
        assert store.acquire([(spec(), "d", ONE)]).taken
        assert not store.acquire([(spec(), "e", ONE)]).taken

    def test_an_optional_counter_that_is_full_is_passed_over(self, clock):
        store = self.make(clock, capacity=1)
        optional = spec("a", optional=True)
        store.acquire([(optional, "k", ONE)])
        receipt = store.acquire([(optional, "l", ONE), (spec("b"), "l", ONE)])
        assert receipt.taken
        assert [reply.available for reply in receipt.replies] == [False, True]
        store.refund(receipt, [0, 1])
        assert store.peek([(optional, "k", ONE), (spec("b"), "l", ONE)]).replies[0].used == ONE
        assert store.peek([(optional, "k", ONE), (spec("b"), "l", ONE)]).replies[1].used == 0

    def test_an_optional_counter_still_limits(self, clock):
        store = self.make(clock, capacity=1)
        optional = spec("a", 1, optional=True)
        assert store.acquire([(optional, "k", ONE)]).taken
        assert not store.acquire([(optional, "k", ONE)]).taken
        assert not store.acquire([(optional, "l", 2 * ONE)]).taken

    def test_a_full_counter_and_a_used_up_one_both_say_so(self, clock):
        store = self.make(clock, capacity=1)
        for counter in ("a", "b"):
            store.acquire([(spec(counter, 1), "k", ONE)])
        for requests in (
            [(spec("a", 1), "l", ONE), (spec("b", 1), "k", ONE)],
            [(spec("b", 1), "k", ONE), (spec("a", 1), "l", ONE)],
        ):
            receipt = store.acquire(requests)
            assert not receipt.taken
            assert sorted(reply.available for reply in receipt.replies) == [False, True]

    def test_a_flood_of_foreign_keys_buys_nobody_another_call(self, clock):
        store = self.make(clock, capacity=50)
        assert store.acquire([(spec(maximum=1), "victim", ONE)]).taken
        for number in range(500):
            clock.now = number / 10
            store.acquire([(spec(maximum=1), f"foreign {number}", ONE)])
        assert not store.acquire([(spec(maximum=1), "victim", ONE)]).taken

    # -- laws

    @given(st.lists(st.tuples(STEPS, CALLS), max_size=40))
    def test_decides_as_a_list_of_every_cost_does(self, calls: list[tuple[float, list[tuple[CounterSpec, Key, int]]]]):
        clock, model = Clock(), Model()
        store = self.make(clock)
        for step, requests in calls:
            clock.now += step
            model.tell(clock.now)
            expected = all(model.fits(*request) for request in requests)
            peeked, receipt = store.peek(requests), store.acquire(requests)
            assert receipt.taken == expected == all(reply.retry_after == 0.0 for reply in peeked.replies)
            assert receipt.at == model.now
            for request, before, after in zip(requests, peeked.replies, receipt.replies, strict=True):
                counter, key = request[0].counter, request[1]
                assert before.used == model.used(counter, key, request[0].window)
                if expected:
                    model.take(*request)
                assert after.used == model.used(counter, key, request[0].window)

    @given(
        st.floats(1e-3, 1e6),
        st.floats(-1e9, 1e9),
        st.lists(st.tuples(st.floats(0, 0.3), st.integers(1, 3)), min_size=1, max_size=12),
    )
    def test_waiting_as_told_is_enough_and_not_too_long(self, window: float, begin: float, costs):
        limit = CounterSpec("c", window, 3, False)
        clock = Clock(begin)
        store = self.make(clock)
        for step, cost in costs:
            clock.now += step * window
            request = (limit, "k", cost)
            wait = store.acquire([request]).replies[0].retry_after
            if wait:
                now, clock.now = clock.now, just_before(clock.now, wait)
                assert store.peek([request]).replies[0].retry_after != 0.0
                clock.now = now + wait
                assert store.acquire([request]).taken
        nothing = (limit, "k", 0)
        wait = store.peek([nothing]).replies[0].reset_after
        now, clock.now = clock.now, just_before(clock.now, wait)
        assert store.peek([nothing]).replies[0].used > 0
        clock.now = now + wait
        assert store.peek([nothing]).replies[0].used == 0

    @given(*CROWDS)
    def test_crowded_keys_never_admit_too_much_and_come_back_in_time(self, window: float, bursts, maximum: int):
        self.crowd(window, bursts, maximum)

    def crowd(self, window: float, bursts, maximum: int) -> None:
        limit = CounterSpec("c", window, maximum, False)
        clock, model = Clock(), Model()
        store = self.make(clock)
        late = window / self.resolution * (1 + 1e-9)
        crowded = False
        for count, step, cost in bursts:
            for _ in range(count):
                clock.now += step * window
                model.tell(clock.now)
                exact = model.used("c", "k", window)
                receipt = store.acquire([(limit, "k", cost)])
                used = receipt.replies[0].used - cost * receipt.taken
                assert exact <= used <= model.used("c", "k", window, late=late)
                assert receipt.taken == (used + cost <= maximum)
                crowded = crowded or model.moments("c", "k", window) >= self.exact
                assert crowded or used == exact
                if receipt.taken:
                    model.take(limit, "k", cost)
                assert model.used("c", "k", window) <= maximum

    # -- threads

    def test_threads_never_take_more_than_there_is_and_never_wait_for_each_other(self, store, busy_threads):
        a, b = (spec("a", 500), "k", ONE), (spec("b", 700), "k", ONE)
        calls: Sequence[list[tuple[CounterSpec, Key, int]]] = [[a, b], [b, a], [a], [b]]
        taken: list[str] = []

        def work(number: int) -> None:
            for turn in range(400):
                requests = calls[(number + turn) % 4]
                receipt = store.acquire(requests)
                if receipt.taken and turn % 7 == 0:
                    store.refund(receipt, range(len(requests)))
                elif receipt.taken:
                    taken.extend(limit.counter for limit, _, _ in requests)

        threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)
        assert taken.count("a") == store.peek([a]).replies[0].used // ONE == 500
        assert taken.count("b") == store.peek([b]).replies[0].used // ONE == 700
