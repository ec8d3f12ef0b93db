"""The engine and the naive evaluator answer alike, over many policies and calls."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from . import differential
from .differential import compare, run, shrink, told
from .generate import OPERATORS, Tree
from .reference import Verdict, decide
from .reference_conditions import ABSENT, AGAINST, ERRS, HOLDS, NEGATIVE, NOT, SAID

PAIRS, CALLS = 20_000, 10
CODES = {
    "allowed",
    "approval_expired",
    "approval_rejected",
    "approval_required",
    "approved",
    "default_allow",
    "default_deny",
    "denied_by_rule",
    "deny_if",
    "hidden",
    "invalid_call",
    "rate_limited",
    "require",
    "type_mismatch",
}
NUMBER = {"path": "args.n", "op": "lt", "value": 5}
# What `exists` finds absent holds or does not; what takes no `value_from` and is not negative is never against the call.
NEVER = {ABSENT: NEGATIVE | {"exists"}, AGAINST: {"regex", "glob", "exists"}}


@pytest.fixture(scope="module")
def hits() -> Iterator[Counter[str]]:
    """Play every pair; the codes, effects and cells that occurred."""
    log = logging.getLogger("mcp_policy")
    level, counted = log.level, Counter[str]()
    log.setLevel(logging.CRITICAL)  # an internal error shows as a difference
    SAID.clear()
    for seed in range(PAIRS // CALLS):
        found = run(seed, CALLS, counted)
        if found:
            pytest.fail(told(found, CALLS))
    yield counted
    log.setLevel(level)


def test_every_pair_is_answered_alike(hits: Counter[str]) -> None:
    assert sum(hits[effect] for effect in ("allow", "deny", "limit", "approve")) == PAIRS


def test_every_reason_code_occurs(hits: Counter[str]) -> None:
    assert {code for code in CODES if not hits[code]} == set()


@pytest.mark.parametrize("column", ["require", "deny_if", "approve_if", "when"])
def test_every_cell_of_the_table_occurs_for_every_operator(hits: Counter[str], column: str) -> None:
    cells = {
        (op, outcome)
        for op in OPERATORS
        for outcome in (HOLDS, NOT, ABSENT, AGAINST, ERRS)
        if op not in NEVER.get(outcome, ())
    }
    assert {cell for cell in cells if not SAID[column, *cell]} == set()


def test_every_turn_of_shadow_occurs(hits: Counter[str]) -> None:
    turns = {f"{effect}, would be {other}" for effect in ("allow", "limit", "approve") for other in ("deny", effect)}
    assert {turn for turn in turns | {"allow, would be limit", "allow, would be approve"} if not hits[turn]} == set()


def test_a_difference_is_found_and_made_small(monkeypatch: pytest.MonkeyPatch) -> None:
    def lenient(policy: Tree, call: Tree, *state: Any, **facts: Any) -> Verdict:
        return decide(policy, {**call, "arguments": {"n": 0}} if call["tool"] == "pay" else call, *state, **facts)

    policy = {
        "version": "1",
        "default": "allow",
        "hide": ["x"],
        "tools": {"pay": [{}, {"require": [NUMBER]}], "run": {}},
    }
    step = {
        "at": 0.0,
        "do": "authorize",
        "then": None,
        "call": {"server": None, "session": None, "principal": None, "context": None},
    }
    steps = [{**step, "call": {**step["call"], "tool": tool, "arguments": {"n": 7}}} for tool in ("run", "pay", "run")]
    assert compare(policy, steps) is None
    monkeypatch.setattr(differential, "decide", lenient)
    found = compare(policy, steps)
    assert found is not None
    assert (found.number, found.engine.effect, found.reference.effect) == (1, "deny", "allow")
    found, steps = shrink(found, steps)
    assert (len(steps), found.policy["tools"]) == (1, {"pay": [{"require": [NUMBER]}]})
    assert "seed 0, step 0" in str(found)
