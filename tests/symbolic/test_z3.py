"""The solver of the extra `z3`, held against the walk through automata."""

from __future__ import annotations

import itertools
import random
import sys
from typing import Any

import pytest

from mcp_policy import Policy
from mcp_policy.comparison import Relation, compare
from mcp_policy.regexes import compile_regex
from mcp_policy.symbolic.expressions import Undecided, expression
from mcp_policy.symbolic.languages import texts
from mcp_policy.symbolic.z3 import Unanswered, text_with

PIECES = ("a", "b", "[ab]", "[^a]", ".", r"\d", r"\w", "ab", "(?:a|bc)", "(?i:d)")
TIMES = ("", "", "*", "+", "?", "{2}", "{1,3}")


def pattern(chance: random.Random) -> str:
    made = "".join(chance.choice(PIECES) + chance.choice(TIMES) for _ in range(chance.randint(1, 3)))
    return chance.choice(("", "^")) + made + chance.choice(("", "$"))


@pytest.mark.parametrize("seed", range(60))
def test_the_solver_and_the_walk_agree(seed: int) -> None:
    chance = random.Random(seed)
    patterns = [pattern(chance) for _ in range(2)]
    trees = tuple(map(expression, patterns))
    walked = texts(trees)
    assert walked.complete
    for answers in itertools.product((True, False), repeat=2):
        try:
            found = text_with(list(zip(trees, answers, strict=True)), frozenset())
        except Unanswered:
            continue
        assert (found is not None) is (answers in walked.found), (patterns, answers, found)
        if found is not None:
            assert tuple(compile_regex(one)(found) for one in patterns) == answers


def test_it_decides_what_is_too_much_for_the_walk() -> None:
    assert compare(many(), many({"path": "args.s", "op": "glob", "value": "*b*"})).relation is Relation.EQUAL
    assert compare(many(), many({"path": "args.s", "op": "glob", "value": "*bb*"})).relation is Relation.STRICTER


def test_without_it_that_is_unknown_and_says_which_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp_policy.symbolic.z3", None)
    found = compare(many(), many({"path": "args.s", "op": "glob", "value": "*b*"}))
    assert found.relation is Relation.UNKNOWN
    assert any("mcp-policy[z3]" in why for tool in found.tools for why in tool.unknown)


def many(*more: dict[str, Any]) -> Policy:
    """A pattern whose automaton has some 16,000 states, which is too many to walk through."""
    condition = {"path": "args.s", "op": "regex", "value": "a.{13}b"}
    return Policy.model_validate({"version": "1", "tools": {"say": {"require": [condition, *more]}}})


def test_what_is_not_read_with_certainty_is_not_asked() -> None:
    with pytest.raises(Undecided):
        expression(r"\bword\b")
