"""The words of a limit, turned into numbers."""

from __future__ import annotations

import decimal
import math
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_policy.limits import (
    DIMENSIONS,
    MAXIMUM,
    from_micro,
    normal_per,
    parse_shorthand,
    parse_window,
    to_micro_down,
    to_micro_up,
)

BOTH = pytest.mark.parametrize("to_micro", [to_micro_up, to_micro_down])


# -- per


@pytest.mark.parametrize(
    ("value", "dimensions"),
    [
        ("session", ("session",)),
        ("grant", ("principal",)),
        (["tool", "session"], ("session", "tool")),
        (("principal", "grant", "principal"), ("principal",)),
        (list(reversed(DIMENSIONS)), tuple(sorted(DIMENSIONS))),
    ],
)
def test_dimensions_are_sorted_and_each_once(value, dimensions):
    assert normal_per(value) == dimensions


@pytest.mark.parametrize("value", [None, [], 5, {"session": 1}, {"session"}, b"session"])
def test_what_is_no_list_of_dimensions_is_refused(value):
    with pytest.raises(ValueError, match="`per` must be"):
        normal_per(value)


@pytest.mark.parametrize("value", ["", "Session", "user", ["session", 5], ["session", ["tool"]], [None]])
def test_an_unknown_dimension_is_refused(value):
    with pytest.raises(ValueError, match="unknown dimension; one of `session`, `principal`"):
        normal_per(value)


# -- window


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (60, 60.0),
        (0.5, 0.5),
        (1e10, 1e10),
        (5e-324, 5e-324),
        ("second", 1.0),
        ("minute", 60.0),
        ("hour", 3600.0),
        ("day", 86400.0),
        ("30s", 30.0),
        ("5m", 300.0),
        ("2h", 7200.0),
        ("7d", 604800.0),
        ("007s", 7.0),
        ("10000000000s", 1e10),
    ],
)
def test_windows_are_seconds(value, seconds):
    window = parse_window(value)
    assert (type(window), window) == (float, seconds)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        [],
        "",
        "60",
        "minutes",
        "Minute",
        "1 m",
        "1.5h",
        "-1s",
        "1w",
        "1M",
        "s",
        "5m\n",
        "٣s",
        "9" * 5_000 + "s",
        Decimal(5),
        b"1s",
    ],
)
def test_what_is_no_window_is_refused(value):
    with pytest.raises(ValueError, match="a window is a number of seconds"):
        parse_window(value)


@pytest.mark.parametrize(
    "value",
    [
        0,
        -1,
        -0.0,
        1.1e10,
        math.inf,
        -math.inf,
        math.nan,
        pytest.param(10**5_000, id="10**5000"),
        "0s",
        "00d",
        "10000000001s",
        "99999999999d",
    ],
)
def test_a_window_has_a_length_and_an_end(value):
    with pytest.raises(ValueError, match="longer than 0 seconds and at most"):
        parse_window(value)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("10/minute", (10, 60.0)),
        ("10/30s", (10, 30.0)),
        ("0/day", (0, 86400.0)),
        ("9000000000/1h", (9_000_000_000, 3600.0)),
    ],
)
def test_short_limits(text, limit):
    assert parse_shorthand(text) == limit


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10",
        "10/",
        "/minute",
        "10/60",
        "10/minutes",
        "10/m",
        "1.5/minute",
        "-1/minute",
        "10 / minute",
        "10/minute\n",
        "10/1/s",
        "1e3/day",
        "٣/day",
        "9" * 5_000 + "/day",
        5,
        None,
        ["10/minute"],
    ],
)
def test_what_is_no_short_limit_is_refused(text):
    with pytest.raises(ValueError, match="a short limit reads like"):
        parse_shorthand(text)


@pytest.mark.parametrize("text", ["10/0s", "10/99999999999d"])
def test_a_short_limit_has_a_window(text):
    with pytest.raises(ValueError, match="a window must be"):
        parse_shorthand(text)


def test_a_short_limit_has_a_largest_maximum():
    with pytest.raises(ValueError, match="at most 9,000,000,000"):
        parse_shorthand("9000000001/day")


# -- millionths


def test_ten_costs_of_a_tenth_are_one():
    assert 10 * to_micro_up(0.1) == to_micro_up(1) == to_micro_down(1.0) == 1_000_000


@BOTH
@pytest.mark.parametrize(
    ("number", "micro"),
    [
        (0, 0),
        (-0.0, 0),
        (Decimal("-0"), 0),
        (Decimal("0E-999999999999"), 0),
        (Decimal("0E+999999999999"), 0),
        (1, 1_000_000),
        (0.000001, 1),
        (2.5, 2_500_000),
        (Decimal("2.50"), 2_500_000),
        (Decimal("9E9"), MAXIMUM),
        (9_000_000_000, MAXIMUM),
        (Decimal("8999999999.999999"), MAXIMUM - 1),
        (IntEnum("Level", {"HIGH": 3}).HIGH, 3_000_000),
    ],
)
def test_exact_numbers(to_micro, number, micro):
    found = to_micro(number)
    assert (type(found), found) == (int, micro)


@pytest.mark.parametrize(
    ("number", "up", "down"),
    [
        (1e-7, 1, 0),
        (5e-324, 1, 0),
        (Decimal("1E-999999999999"), 1, 0),
        (Decimal("0.9999999"), 1_000_000, 999_999),
        (Decimal("1.0000000000000000000000000000000000000000001"), 1_000_001, 1_000_000),
        (Decimal("0.0000011"), 2, 1),
        (Decimal("8999999999.9999991"), MAXIMUM, MAXIMUM - 1),
        (0.1234567, 123_457, 123_456),
    ],
)
def test_costs_round_up_and_maxima_down(number, up, down):
    assert (to_micro_up(number), to_micro_down(number)) == (up, down)


@BOTH
@pytest.mark.parametrize(
    "number",
    [
        9_000_000_001,
        9e9 + 0.001,
        1e300,
        pytest.param(10**5_000, id="10**5000"),
        Decimal("9000000000.0000001"),
        Decimal("1E+999999999999"),
        Decimal("9" * 5_000),
    ],
)
def test_whatever_is_over_the_largest_maximum_is_one_over(to_micro, number):
    assert to_micro(number) == MAXIMUM + 1


@BOTH
@pytest.mark.parametrize(
    "value",
    [
        True,
        False,
        None,
        "5",
        b"7",
        [],
        {},
        1j,
        Fraction(1),
        -1,
        -1e-300,
        Decimal("-1E-999999"),
        math.nan,
        math.inf,
        -math.inf,
        Decimal("NaN"),
        Decimal("sNaN"),
        Decimal("-Infinity"),
    ],
)
def test_what_is_no_number_of_at_least_zero_is_refused(to_micro, value):
    with pytest.raises(ValueError, match=r"^must "):
        to_micro(value)


def test_no_code_of_a_number_of_another_class_runs():
    class Loud(float):
        def __repr__(self):
            raise AssertionError

        __float__ = __lt__ = __le__ = __gt__ = __eq__ = __repr__
        __hash__ = None

    class LoudInt(int):
        def __index__(self):
            raise AssertionError

        __int__ = __lt__ = __le__ = __gt__ = __mul__ = __index__

    class LoudDecimal(Decimal):
        def adjusted(self):
            raise AssertionError

        is_finite = __lt__ = __gt__ = __bool__ = adjusted

    assert to_micro_up(Loud(0.1)) == 100_000
    assert to_micro_up(LoudInt(2)) == 2_000_000
    assert to_micro_up(LoudDecimal("0.3")) == 300_000


def test_the_decimal_context_of_the_caller_changes_nothing():
    with decimal.localcontext(
        decimal.Context(prec=1, rounding=decimal.ROUND_UP, traps=[decimal.Inexact, decimal.Rounded])
    ):
        assert to_micro_up(Decimal("1.2345678")) == 1_234_568
        assert to_micro_up(0.1234567) == 123_457


@given(
    st.one_of(
        st.integers(0, 10**12),
        st.floats(0, 1e12),
        st.decimals(0, 10**12, allow_nan=False, places=None),
        st.decimals(0, 1, allow_nan=False, places=12),
    )
)
def test_rounding_is_that_of_the_exact_number(number):
    exact = Fraction(Decimal(repr(number)) if isinstance(number, float) else number)
    if exact > 9_000_000_000:
        assert to_micro_up(number) == to_micro_down(number) == MAXIMUM + 1
    else:
        assert to_micro_up(number) == math.ceil(exact * 1_000_000)
        assert to_micro_down(number) == math.floor(exact * 1_000_000)


@given(st.integers(0, 8_000_000_000_000_000))  # above, floats are further apart than a millionth
def test_millionths_come_back_as_they_were_written(micro):
    number = from_micro(micro)
    assert isinstance(number, int) == (micro % 1_000_000 == 0)
    assert to_micro_up(number) == to_micro_down(number) == micro
