"""The log of one key, by itself."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_policy.limits import Reply
from mcp_policy.limits.window import RESOLUTION, is_empty, is_over, refund, standing, start, take

MOST = 9_000_000_000_000_000


def used(log, window, now):
    return standing(log, window, now, 0, MOST).used


def test_a_fresh_log_is_one_small_list():
    assert start(5.0, 7) == [7, 5.0, 5.0, 7]


def test_every_moment_has_its_own_slot():
    log = start(0.0, 1)
    assert take(log, 10.0, 1.0, 2, 100) == 3
    assert log == [3, 0.0, 0.0, 1, 1.0, 1.0, 2]


def test_one_moment_has_one_slot():
    log = start(0.0, 1)
    for total in (2, 3, 4):
        assert take(log, 10.0, 0.0, 1, 4) == total
    assert take(log, 10.0, 0.0, 1, 4) == 0
    assert log == [4, 0.0, 0.0, 4]


def test_what_has_left_the_window_is_dropped():
    log = start(0.0, 1)
    for now in (1.0, 2.0, 3.0):
        take(log, 10.0, now, 1, 100)
    assert take(log, 10.0, 11.0, 5, 100) == 7
    assert log == [7, 2.0, 2.0, 1, 3.0, 3.0, 1, 11.0, 11.0, 5]


def test_a_log_starts_anew_when_all_of_it_has_left_the_window():
    log = start(0.0, 1)
    take(log, 10.0, 1.0, 1, 100)
    assert take(log, 10.0, 500.0, 3, 3) == 3
    assert log == [3, 500.0, 500.0, 3]


def test_beyond_the_resolution_costs_join_the_newest_slot_while_it_is_young():
    window = float(RESOLUTION)  # a slot is young for one second
    log = start(0.0, 1)
    for number in range(1, RESOLUTION):
        take(log, window, number / 1_000, 1, MOST)
    assert len(log) == 1 + 3 * RESOLUTION
    take(log, window, 1.3, 1, MOST)
    take(log, window, 1.4, 2, MOST)
    assert log[-6:] == [0.255, 0.255, 1, 1.3, 1.4, 3]
    take(log, window, 2.25, 4, MOST)
    assert log[-3:] == [1.3, 2.25, 7]
    take(log, window, 2.5, 1, MOST)
    assert log[-3:] == [2.5, 2.5, 1]
    assert used(log, window, 2.25 + window - 0.001) == 8
    assert used(log, window, 2.25 + window) == 1


def test_a_slot_beyond_the_resolution_is_young_from_its_first_moment():
    window = float(RESOLUTION)
    log = start(0.0, 1)
    for number in range(1, RESOLUTION):
        take(log, window, number / 1_000, 1, MOST)
    for now in (0.5, 0.9, 1.2, 1.254):
        take(log, window, now, 1, MOST)
    assert log[-3:] == [0.255, 1.254, 5]
    take(log, window, 1.26, 1, MOST)
    assert log[-3:] == [1.26, 1.26, 1]


def test_half_a_million_costs_fit_into_a_bounded_log():
    log, window = start(0.0, 1), 60.0
    longest = 0
    for number in range(1, 500_000):
        take(log, window, number * 1e-4, 1, MOST)
        longest = max(longest, len(log))
    assert log[0] == 500_000
    assert longest <= 1 + 3 * (2 * RESOLUTION + 1)


def test_a_steady_stream_keeps_a_bounded_log():
    log, window = start(0.0, 1), 1.0
    for number in range(1, 200_000):
        now = number * 1e-4
        total = take(log, window, now, 1, MOST)
        assert min(number + 1, 10_000) <= total <= 10_000 * (1 + 1 / RESOLUTION) + 1
        assert len(log) <= 1 + 3 * (2 * RESOLUTION + 1)


def test_a_refund_shrinks_the_slot_of_its_moment():
    log = start(0.0, 1)
    take(log, 10.0, 1.0, 5, 100)
    refund(log, 1.0, 2)
    assert log == [4, 0.0, 0.0, 1, 1.0, 1.0, 3]
    refund(log, 0.0, 1)
    assert log == [3, 1.0, 1.0, 3]


@pytest.mark.parametrize("at", [-1.0, 0.5, 2.0])
def test_a_refund_of_another_moment_does_nothing(at):
    log = start(0.0, 1)
    take(log, 10.0, 1.0, 5, 100)
    refund(log, at, 1)
    assert log == [6, 0.0, 0.0, 1, 1.0, 1.0, 5]


def test_a_refund_never_gives_back_more_than_the_slot_holds():
    log = start(0.0, 1)
    take(log, 10.0, 1.0, 5, 100)
    refund(log, 0.0, 4)
    assert log == [5, 1.0, 1.0, 5]
    refund(log, 1.0, 40)
    assert log == [0]
    assert is_empty(log)


def test_an_empty_log_is_over():
    assert is_over([0], 10.0, 0.0)
    assert standing([0], 10.0, 0.0, 1, 1) == Reply(0, 0.0, 0.0, True)


def test_a_log_is_over_when_its_last_cost_is():
    log = start(0.0, 1)
    take(log, 10.0, 5.0, 1, 100)
    assert not is_over(log, 10.0, math.nextafter(15.0, 0))
    assert is_over(log, 10.0, 15.0)


def test_standing_changes_nothing():
    log = start(0.0, 1)
    take(log, 10.0, 5.0, 1, 100)
    before = list(log)
    assert standing(log, 10.0, 12.0, 2, 2) == Reply(1, 3.0, 3.0, True)
    assert log == before


@pytest.mark.parametrize(
    ("cost", "maximum", "retry_after"),
    [
        (0, 6, 0.0),
        (1, 6, 5.0),
        (2, 6, 6.0),
        (4, 6, 7.0),
        (6, 6, 7.0),
        (7, 6, None),
        (0, 0, None),
        (1, 7, 0.0),
        (0, 5, 5.0),
    ],
)
def test_a_cost_waits_for_as_many_slots_as_it_needs(cost, maximum, retry_after):
    log = start(0.0, 1)
    take(log, 10.0, 1.0, 2, 100)
    take(log, 10.0, 2.0, 3, 100)
    assert standing(log, 10.0, 5.0, cost, maximum) == Reply(6, retry_after, 7.0, True)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("take"), st.sampled_from([0.0, 1e-4, 2e-4, 1e-3, 0.3]), st.integers(1, 5)),
            st.tuples(st.just("burst"), st.sampled_from([1e-5, 1e-4, 1e-3]), st.integers(1, 300)),
            st.tuples(st.just("refund"), st.floats(0, 1, exclude_max=True), st.just(0)),
        ),
        max_size=30,
    )
)
def test_with_refunds_a_log_never_counts_less_than_what_is_left(steps):
    window, now, events = 1.0, 0.0, [(0.0, 1)]
    log = start(0.0, 1)
    for what, number, size in steps:
        if what == "refund":
            if events:
                at, cost = events.pop(int(number * len(events)))
                refund(log, at, cost)
        else:
            for _ in range(size if what == "burst" else 1):
                now += number
                cost = 1 if what == "burst" else size
                if is_empty(log):
                    log = start(now, cost)
                else:
                    assert take(log, window, now, cost, MOST)
                events.append((now, cost))
        counted = used(log, window, now)
        assert sum(cost for at, cost in events if at + window > now) <= counted
        assert counted <= sum(cost for at, cost in events if at + window * (1 + 1.0001 / RESOLUTION) > now)
        assert log[0] == sum(log[3::3])
        assert len(log) <= 1 + 3 * (2 * RESOLUTION + 1)
