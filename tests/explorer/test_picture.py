"""The picture of a limit: what the limiter did, and never something else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_policy.explorer.picture import HEIGHT, WIDTH, picture


def test_a_picture_says_what_it_shows():
    found = picture({"max": 10, "window": 60})
    assert found is not None
    assert found.label == "10 in any minute"
    assert found.says == (
        "In any minute, at most 10 run. The window moves with time, so there is no edge to wait for. "
        "In the picture, the first one refused could run about 22.5 seconds later."
    )
    assert [mark.runs for mark in found.marks] == [True] * 10 + [False] * 3 + [True] * 10
    assert found.again is not None
    assert found.end < found.again


def test_the_window_is_drawn_as_long_as_it_is_on_the_line():
    pictures = [picture({"max": most, "window": 60}) for most in range(1, 12)]
    lengths = {found.end - found.start for found in pictures if found is not None}
    assert lengths == {260}  # 560 for 2.15 windows
    for found in pictures:
        assert found is not None
        inside = [mark.runs for mark in found.marks if found.start <= mark.x < found.end]
        assert inside
        assert all(inside)


def test_the_short_form_is_the_same_limit():
    assert picture("5/hour") == picture({"max": 5, "window": 3600})


@pytest.mark.parametrize(
    "limit",
    [
        {"max": 0, "window": 60},
        {"max": 0.5, "window": 60},
        {"max": 5, "window": 60, "cost": 6},
        {"max": 5, "window": 1e-323},
        "0/day",
    ],
    ids=str,
)
def test_what_lets_nothing_run_has_no_picture(limit):
    assert picture(limit) is None


def test_what_lets_everything_run_has_no_picture():
    assert picture({"max": 5, "window": 60, "cost": 0}) is None


def test_many_are_drawn_with_few_and_it_says_so():
    found = picture({"max": 9_000_000_000, "window": "day"})
    assert found is not None
    assert "at most 9,000,000,000 run (drawn with 10)" in found.says
    assert len(found.marks) < 40


@pytest.mark.parametrize(
    ("cost", "label", "says"),
    [
        (3, "3 in any day", "In any day, at most 3 run, as each takes 3 of 10."),
        (0.1, "100 in any day", "at most 100 run, as each takes 0.1 of 10 (drawn with 10)."),
        (
            "args.amount",
            "a sum of 10 in any day",
            "`args.amount` of what runs adds up to at most 10 (drawn with 5 calls",
        ),
        ({"length": "args.to"}, "a sum of 10 in any day", "`length args.to` of what runs adds up to at most 10"),
    ],
    ids=["fixed", "fraction", "brought", "length"],
)
def test_what_a_call_takes_is_said(cost, label, says):
    found = picture({"max": 10, "window": "day", "cost": cost})
    assert found is not None
    assert found.label == label
    assert says in found.says


@pytest.mark.parametrize(
    ("window", "words"),
    [
        (1, "second"),
        ("minute", "minute"),
        (90, "90 seconds"),
        (3_599, "3,599 seconds"),
        (7_200, "2 hours"),
        ("7d", "7 days"),
        (100_000, "100,000 seconds"),
        (0.5, "0.5 seconds"),
    ],
    ids=str,
)
def test_the_length_of_a_window_is_said_exactly(window, words):
    found = picture({"max": 2, "window": window})
    assert found is not None
    assert found.label == f"2 in any {words}"


@given(st.floats(1, 9e9), st.floats(1e-6, 1e10))
def test_every_picture_stays_in_its_box(most, window):
    found = picture({"max": most, "window": window})
    assert found is not None
    places = [mark.x for mark in found.marks]
    assert places == sorted(places)
    assert all(0 <= x <= WIDTH for x in (*places, found.start, found.end, found.again or 0))
    first = next(mark for mark in found.marks if not mark.runs)
    assert found.start <= first.x == found.end
    assert HEIGHT < WIDTH
