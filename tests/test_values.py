"""JSON values: what counts as one, when two are equal, how one is written."""

from __future__ import annotations

import json
from collections import OrderedDict, UserDict, defaultdict
from dataclasses import dataclass
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from mcp_policy.values import MAX_DEPTH, NotJson, canonical, equal, plain

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


class Colour(StrEnum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Point(NamedTuple):
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class Slotted:
    x: int
    y: Any = None


class Model(BaseModel):
    model_config = ConfigDict(extra="allow")
    x: int


class LyingStr(str):
    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return hash("other")

    def __str__(self) -> str:
        return "other"


class LyingDict(dict):
    def items(self):
        return [("other", 1)]

    def __iter__(self):
        return iter(["other"])

    def __len__(self) -> int:
        return 0


class LyingList(list):
    def __iter__(self):
        return iter(["other"])

    def __len__(self) -> int:
        return 0


class LyingInt(int):
    def __eq__(self, other: object) -> bool:
        return True

    def __le__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0

    def __int__(self) -> int:
        return 0


@pytest.mark.parametrize(
    ("given_value", "expected"),
    [
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        (Point(1, 2), [1, 2]),
        ((1, (2,)), [1, [2]]),
        (Slotted(1, [2]), {"x": 1, "y": [2]}),
        (Model(x=1, z=(2,)), {"x": 1, "z": [2]}),
        (OrderedDict(a=1), {"a": 1}),
        (defaultdict(list, a=1), {"a": 1}),
        (UserDict({"a": (1,)}), {"a": [1]}),
        (Decimal("1.50"), Decimal("1.50")),
        (LyingStr("really"), "really"),
        (LyingDict(really=1), {"really": 1}),
        (LyingList([1, 2]), [1, 2]),
        (LyingInt(7), 7),
    ],
)
def test_what_stands_for_json_is_taken_for_what_it_holds(given_value, expected):
    found = plain(given_value)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        [float("-inf")],
        Decimal("NaN"),
        Decimal("sNaN"),
        Decimal("Infinity"),
        {1, 2},
        b"bytes",
        object(),
        {1: "a"},
        {"a": {("t",): 1}},
        {"deep": {"deeper": object()}},
        1j,
        iter([1]),
        range(3),
        lambda: None,
    ],
)
def test_what_is_not_json_is_refused(value):
    with pytest.raises(NotJson):
        plain(value)


@pytest.mark.parametrize("levels", [MAX_DEPTH + 1, 5_000])
def test_what_is_too_deep_is_refused(levels):
    assert plain(nested(MAX_DEPTH)) == nested(MAX_DEPTH)
    with pytest.raises(NotJson, match="deeper"):
        plain(nested(levels))


def test_cycles_and_endless_mappings_are_refused():
    cycle: list[Any] = []
    cycle.append(cycle)
    with pytest.raises(NotJson):
        plain(cycle)

    class Raising(UserDict):
        def __iter__(self):
            raise RuntimeError("no")

    with pytest.raises(NotJson, match="cannot be read"):
        plain(Raising(a=1))


def test_values_that_share_themselves_do_not_hang():
    shared: Any = [0] * 1000
    for _ in range(30):
        shared = [shared] * 1000
    with pytest.raises(NotJson, match="more than"):
        plain(shared)


@given(JSON)
def test_plain_json_is_plain(value):
    copy = plain(value)
    assert equal(copy, value)
    if isinstance(value, (dict, list)):
        assert copy is not value


# -- equality


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (1, 1.0),
        (0, -0.0),
        (Decimal("0.1"), 0.1),
        (0.1, Decimal("0.10")),
        (Decimal(5), 5),
        ([1, {"a": None}], [1.0, {"a": None}]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        (10**4000, 10**4000),
    ],
)
def test_equal(left, right):
    assert equal(left, right)
    assert equal(right, left)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (True, 1),
        (False, 0),
        ("1", 1),
        (None, False),
        (None, 0),
        ({}, []),
        ([], ""),
        (2**53 + 1, float(2**53)),
        (Decimal("0.1"), 0.1 + 1e-12),
        ({"a": None}, {}),
        ([1, 2], [2, 1]),
        ("a", "A"),
        ("\u00e9", "e\u0301"),
        (Decimal("1E+999999"), 1.5),
    ],
)
def test_not_equal(left, right):
    assert not equal(left, right)
    assert not equal(right, left)


@given(JSON, JSON)
def test_equality_is_symmetric_and_json_texts_of_equal_values_are_equal(left, right):
    assert equal(left, right) == equal(right, left)
    assert equal(left, right) == (canonical(left) == canonical(right))


# -- canonical text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": [True, None, "x"]}, '{"a":[true,null,"x"],"b":1}'),
        (1.0, "1"),
        (-0.0, "0"),
        (Decimal("-0.00"), "0"),
        (Decimal("1.50"), "1.5"),
        (0.1, "0.1"),
        (1e-7, "0.0000001"),
        (1e22, "10000000000000000000000"),
        (Decimal("1E+3"), "1000"),
        ("é\n", '"é\\n"'),
        ({"é": 1, "z": 2, "": 0}, '{"":0,"z":2,"é":1}'),
    ],
)
def test_canonical(value, text):
    assert canonical(value) == text


@given(JSON)
def test_canonical_text_is_json_of_the_same_value(value):
    assert equal(json.loads(canonical(value)), value)


@pytest.mark.parametrize(
    "value", ["\ud800", {"\udfff": 1}, Decimal("1E+401"), Decimal("1E-401"), 10**4001, Decimal(10**4001)]
)
def test_what_has_no_canonical_text_is_refused(value):
    with pytest.raises(NotJson):
        canonical(value)
