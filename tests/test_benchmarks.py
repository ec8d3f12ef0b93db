"""The benchmarks ask every library the same questions; this package answers all of them rightly."""

from __future__ import annotations

import pytest

import peers
from work import ONE_LIMIT, TWO_LIMITS, WORKS


@pytest.mark.parametrize("work", WORKS, ids=lambda work: work.name)
def test_decisions_are_right(work: object) -> None:
    assert peers.ours().mistakes(work) == []


@pytest.mark.parametrize("limits", [ONE_LIMIT, TWO_LIMITS], ids=["one limit", "two limits"])
def test_limits_are_right(limits: list[tuple[int, int]]) -> None:
    assert peers.our_limits().mistakes(limits) == []


def test_the_questions_tell_right_from_wrong() -> None:
    yes = peers.Judge("yes", lambda tool, arguments: lambda: True)
    no = peers.Judge("no", lambda tool, arguments: lambda: False)
    assert all(yes.mistakes(work) for work in WORKS[1:])
    assert all(no.mistakes(work) for work in WORKS if work.name != "plain denial")
    every = peers.Limiter("every", lambda limits, clock: lambda key, cost: lambda: True)
    assert set(every.mistakes(ONE_LIMIT)) == set(peers.LIMIT_QUESTIONS)
