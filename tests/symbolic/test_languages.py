"""Patterns taken apart: what the walk says of a text is what the engine that decides says of it."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcp_policy.patterns import compile_pattern
from mcp_policy.regexes import compile_regex
from mcp_policy.symbolic.expressions import START, Sequence, Undecided, expression, glob, literal, whole
from mcp_policy.symbolic.languages import texts

ATOMS = [
    "a",
    "b",
    ".",
    r"\d",
    r"\w",
    r"\s",
    r"\.",
    "[ab]",
    "[^a]",
    "[a-c]",
    "[[:alpha:]]",
    r"[^\w]",
    "(?i:k)",
    "(?s:.)",
    r"\n",
    "é",
]
SUFFIXES = ["", "", "", "*", "+", "?", "{2}", "{0,2}", "{1,}", "*?", "+?"]
SUBJECTS = st.text(alphabet="abcAkK \n.-9é\u212a\u0663\u3000", max_size=6)


@st.composite
def patterns(draw: st.DrawFn, depth: int = 2) -> str:
    kind = draw(st.integers(0, 5)) if depth else 0
    if kind <= 2:
        return draw(st.sampled_from(ATOMS)) + draw(st.sampled_from(SUFFIXES))
    if kind == 3:
        return draw(patterns(depth - 1)) + draw(patterns(depth - 1))
    if kind == 4:
        return f"({draw(patterns(depth - 1))}|{draw(patterns(depth - 1))})" + draw(st.sampled_from(SUFFIXES))
    return draw(st.sampled_from(("^", ""))) + draw(patterns(depth - 1)) + draw(st.sampled_from(("$", "")))


def says(tree, text: str) -> bool:
    """What the walk says of one text: it is walked beside the text's own tree."""
    found = texts((tree, whole(literal(text))))
    assert found.complete
    (answer,) = {answers[0] for answers in found.found if answers[1]}
    return answer


@settings(max_examples=400)
@given(patterns(), SUBJECTS)
def test_a_tree_matches_what_the_engine_matches(pattern: str, text: str) -> None:
    try:
        matches, tree = compile_regex(pattern), expression(pattern)
    except (ValueError, Undecided):
        return
    assert says(tree, text) is matches(text)


@settings(max_examples=200)
@given(st.lists(patterns(), min_size=1, max_size=3), st.lists(SUBJECTS, max_size=20))
def test_no_combination_of_answers_is_missed(several: list[str], subjects: list[str]) -> None:
    try:
        engines = [compile_regex(pattern) for pattern in several]
        found = texts(tuple(map(expression, several)))
    except (ValueError, Undecided):
        return
    for answers, text in found.found.items():
        assert tuple(matches(text) for matches in engines) == answers
    if found.complete:
        for subject in subjects:
            assert tuple(matches(subject) for matches in engines) in found.found


@given(st.text(alphabet="ab*?", max_size=6), st.text(alphabet="abc", max_size=6))
def test_a_glob_matches_what_the_pattern_matches(pattern: str, text: str) -> None:
    assert says(glob(pattern), text) is compile_pattern(pattern)(text)


def test_texts_to_avoid_are_avoided() -> None:
    names = frozenset("".join(pair) for pair in itertools.product("xyz", repeat=2))
    found = texts((glob("??"), Sequence((START, literal("x")))), names)
    assert set(found.found) == set(itertools.product((True, False), repeat=2))
    assert not names & set(found.found.values())


def test_a_finite_language_runs_out() -> None:
    assert (True,) not in texts((expression("^[ab]$"),), frozenset({"a", "b"})).found


def test_too_much_is_said() -> None:
    assert not texts((expression("a.{13}b"),)).complete


@pytest.mark.parametrize("pattern", [r"\bx", r"\pL", r"\p{Greek}", "[é-ö]", "(?m)^x", "(?x) x", r"\x41", "(?i)é"])
def test_what_is_not_read_with_certainty_is_left_open(pattern: str) -> None:
    compile_regex(pattern)
    with pytest.raises(Undecided):
        expression(pattern)
