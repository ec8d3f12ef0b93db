"""Problems, pointers, and the words for what was found."""

from __future__ import annotations

import copy
import pickle
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_policy.errors import PolicyError, Problem, ProblemCode, json_type, pointer_of, pointer_to, readable, short

CODES = {
    "invalid_json", "duplicate_key", "too_deep", "too_large", "missing_key", "unknown_key", "unknown_operator",
    "wrong_type", "invalid_value", "invalid_path", "invalid_pattern", "invalid_regex", "conflict",
}  # fmt: skip

FIRST = Problem("/tools/a", ProblemCode.WRONG_TYPE, "found null", 3, 14)
SECOND = Problem("", ProblemCode.MISSING_KEY, "the key `version` is missing here")


def test_the_codes_are_the_ones_of_the_format():
    assert {code.value for code in ProblemCode} == CODES
    assert ProblemCode.WRONG_TYPE == "wrong_type"


def test_an_error_lists_every_problem_a_line_each():
    error = PolicyError([FIRST, SECOND])
    assert error.problems == (FIRST, SECOND)
    assert str(error).splitlines() == [
        "3:14: /tools/a: wrong_type: found null",
        "document: missing_key: the key `version` is missing here",
    ]


def test_an_error_takes_any_iterable_and_is_a_value_error():
    error = PolicyError(problem for problem in [FIRST])
    assert isinstance(error, ValueError)
    assert error.problems == (FIRST,)


def test_an_error_survives_pickling_and_copying():
    error = PolicyError([FIRST, SECOND])
    assert pickle.loads(pickle.dumps(error)).problems == error.problems
    assert str(copy.copy(error)) == str(error)


def test_a_problem_cannot_change():
    with pytest.raises(AttributeError):
        FIRST.pointer = "/x"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("tokens", "pointer"),
    [
        ([], ""),
        ([""], "/"),
        (["tools", "a/b"], "/tools/a~1b"),
        (["~1"], "/~01"),
        (["hide", 0], "/hide/0"),
        (["é"], "/é"),
    ],
)
def test_a_pointer_escapes_its_tokens(tokens, pointer):
    assert pointer_to(tokens) == pointer
    trail = None
    for token in tokens:
        trail = (trail, token)
    assert pointer_of(trail) == pointer


@given(st.lists(st.text()))
def test_a_pointer_can_be_read_back(tokens):
    read = [token.replace("~1", "/").replace("~0", "~") for token in pointer_to(tokens).split("/")[1:]]
    assert read == tokens


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "the boolean `true`"),
        (5, "the number `5`"),
        (1.5, "the number `1.5`"),
        (10**50, "a large number"),
        ("usd", "the string `usd`"),
        ("x" * 100, f"the string `{'x' * 59}…`"),
        ("a\n`\x00", "the string `a\\u000a\\u0060\\u0000`"),
        ([1], "a list"),
        ({}, "an object"),
        (Decimal(1), "a Python `Decimal`"),
    ],
)
def test_what_was_found_is_said_shortly(value, text):
    assert short(value) == text


@pytest.mark.parametrize(
    ("value", "name"),
    [(True, "a boolean"), (1, "a number"), ("", "a string"), ([], "a list"), ({}, "an object"), (None, "null")],
)
def test_types_have_their_names_in_json(value, name):
    assert json_type(value) == name


@given(st.text())
def test_a_readable_text_can_stand_between_backticks_on_one_line(text):
    shown = readable(text)
    assert shown.isprintable()
    assert "`" not in shown
    assert len(shown) <= 60 * 6
