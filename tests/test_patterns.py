"""Patterns match whole names, by code points, and never take more than linear time."""

from __future__ import annotations

from time import process_time
from unicodedata import category

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mcp_policy.errors import ProblemCode
from mcp_policy.patterns import check_name, check_pattern, compile_glob, compile_pattern, is_exact

LETTERS = st.text("ab.*?", max_size=12)


def naive(pattern: str, name: str) -> bool:
    """The meaning of a pattern, in exponential time."""
    if not pattern:
        return not name
    if pattern[0] == "*":
        return naive(pattern[1:], name) or (bool(name) and naive(pattern, name[1:]))
    return bool(name) and pattern[0] in ("?", name[0]) and naive(pattern[1:], name[1:])


@given(LETTERS, LETTERS)
@example("*", "")
@example("**", "a")
@example("a*a", "a")
@example("a*ab*b", "aabb")
@example("*?", "")
@example("?*?", "a")
@example("*a?b*", "aaab")
@example("?.a*", "*.a")
def test_matching_agrees_with_the_plain_meaning(pattern, name):
    assert compile_pattern(pattern)(name) is naive(pattern, name)


@given(st.text(), st.text())
def test_names_and_patterns_of_any_characters(pattern, name):
    assert compile_glob(pattern)(pattern.replace("*", name).replace("?", "!"))


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("get_task", ["get_task"], ["Get_task", "get_task ", "get_tasks", ""]),
        ("*", ["", "a", "a\nb"], []),
        ("get_*", ["get_", "get_x"], ["get", "xget_"]),
        ("*_all", ["_all", "x_all"], ["x_all_"]),
        ("a*b*c", ["abc", "a-b-c", "abbc"], ["ab", "acb", "abcd"]),
        ("?", ["x", "é", "\n", "💥"], ["", "xx"]),
        ("a?c", ["abc", "a\nc"], ["ac", "abbc"]),
        ("[ab]", ["[ab]"], ["a", "b"]),
        ("a.c", ["a.c"], ["abc"]),
        ("a\\*", ["a\\", "a\\b"], ["a*"]),
        ("é", ["é"], ["e\u0301"]),
    ],
)
def test_examples(pattern, yes, no):
    matches = compile_pattern(pattern)
    assert [name for name in yes if not matches(name)] == []
    assert [name for name in no if matches(name)] == []


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("*a" * 60 + "b", "a" * 200_000),
        ("a*" * 60 + "b", "a" * 200_000),
        ("*a?a?a" * 40 + "b*", "a" * 200_000),
        ("?*" * 60 + "b", "a" * 200_000),
    ],
)
def test_no_pattern_makes_a_long_name_slow(pattern, name):
    matches = compile_pattern(pattern)
    before = process_time()
    assert not matches(name)
    assert process_time() - before < 1


@pytest.mark.parametrize(("text", "exact"), [("a", True), ("a*", False), ("?", False), ("[a]", True)])
def test_an_exact_pattern_has_no_wildcard(text, exact):
    assert is_exact(text) is exact


@pytest.mark.parametrize(
    "name", ["a", "x" * 256, "tool name", "é/ü", "工具", "a\u00a0b", "💥", "*", "\ue000", "\U000e0fff"]
)
def test_names_that_are_valid(name):
    assert check_name(name) is None
    assert check_pattern(name) is None


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "empty"),
        ("x" * 257, "256"),
        ("a\n", "U+000A"),
        ("\x7f", "U+007F"),
        ("a\x85", "U+0085"),
        ("a\u200bb", "U+200B"),
        ("a\u202eb", "U+202E"),
        ("\ud800", "U+D800"),
        ("a\u2028", "U+2028"),
        ("a\u2029", "U+2029"),
        ("\U000e0001", "U+E0001"),
    ],
)
def test_names_that_are_not_valid(name, reason):
    assert reason in check_name(name)
    code, message = check_pattern(name)
    assert code is (ProblemCode.INVALID_PATTERN if name else ProblemCode.INVALID_VALUE)
    assert reason in message


@given(st.characters())
def test_a_name_is_refused_for_its_categories_and_nothing_else(char):
    assert (check_name(f"a{char}") is not None) == (category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"})
