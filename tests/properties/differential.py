"""Plays the same steps on the engine and on the naive evaluator."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, NamedTuple

from mcp_policy import Decision, Policy, PolicyEngine, Principal, ToolCall

from .generate import Maker, Tree, category_of
from .reference import State, Verdict, decide

START = 1_000_000.0


class Catalogue:
    def category(self, server: str | None, tool: str) -> str | None:
        return category_of(server, tool)


class Difference(NamedTuple):
    seed: int
    policy: Tree
    step: Tree
    number: int
    engine: Verdict
    reference: Verdict

    def __str__(self) -> str:
        return (
            f"seed {self.seed}, step {self.number}\npolicy {json.dumps(self.policy)}\nstep {self.step!r:.3000}\n"
            f"engine    {self.engine}\nreference {self.reference}"
        )


def tool_call(raw: Tree) -> ToolCall:
    who = raw["principal"]
    return ToolCall(
        raw["tool"],
        raw["arguments"],
        server=raw["server"],
        session=raw["session"],
        context=raw["context"],
        principal=None if who is None else Principal(**who),
    )


def verdict(decision: Decision) -> Verdict:
    pointers = ((str(reason.code), reason.rule) for reason in decision.reasons)
    reasons = frozenset((code, "" if code == "invalid_call" else rule) for code, rule in pointers)
    would_be = None if decision.would_be is None else str(decision.would_be)
    return Verdict(str(decision.effect), reasons, would_be, decision.retry_after)


def differ(one: Verdict, other: Verdict) -> bool:
    if one[:3] != other[:3] or (one.retry_after is None) != (other.retry_after is None):
        return True
    return abs((one.retry_after or 0) - (other.retry_after or 0)) > 1e-6


class Pair:
    """An engine and a naive evaluator under one clock."""

    def __init__(self, policy: Tree) -> None:
        self.policy = policy
        self.now = START
        self.state = State()
        self.engine = PolicyEngine(Policy.parse(json.dumps(policy)), clock=lambda: self.now, catalogue=Catalogue())
        self.last_asked = ""

    def play(self, step: Tree) -> tuple[Verdict, Verdict]:
        """Both answers to one step; afterwards the last approval is decided if the step says so."""
        self.now = START + step["at"]
        call = step["call"]
        decision = getattr(self.engine, step["do"])(tool_call(call))
        category = category_of(call["server"], call["tool"])
        answer = decide(self.policy, call, self.state, self.now, category=category, commit=step["do"] == "authorize")
        if step["do"] == "authorize" and str(decision.effect) == "approve" and decision.approval is not None:
            self.last_asked = decision.approval.id
        record = self.state.approvals.get(self.state.last_asked)
        pending = record and record["status"] == "pending" and self.now < record["expires"] and self.last_asked
        if record and pending and step["then"] and answer.effect == "approve" and step["do"] == "authorize":
            getattr(self.engine, step["then"])(self.last_asked, by="reviewer")
            record["status"] = {"approve": "approved", "reject": "rejected"}[step["then"]]
        return verdict(decision), answer


def compare(policy: Tree, steps: list[Tree], seed: int = 0, hits: Counter[str] | None = None) -> Difference | None:
    """The first step that the two answer differently."""
    pair = Pair(policy)
    for number, step in enumerate(steps):
        engine, reference = pair.play(step)
        if differ(engine, reference):
            return Difference(seed, policy, step, number, engine, reference)
        if hits is not None:
            hits[reference.effect] += 1
            hits.update({code for code, _ in reference.reasons})
            if reference.would_be:
                hits[f"{reference.effect}, would be {reference.would_be}"] += 1
    return None


def run(seed: int, calls: int = 10, hits: Counter[str] | None = None) -> Difference | None:
    """One policy and its calls, from one seed."""
    maker = Maker(seed)
    return compare(maker.policy(), maker.steps(calls), seed, hits)


def told(found: Difference, calls: int = 10) -> str:
    """The difference on the smallest policy and the fewest steps that show it."""
    maker = Maker(found.seed)
    maker.policy()
    found, steps = shrink(found, maker.steps(calls)[: found.number + 1])
    return f"{found}\nafter {steps[:-1]!r:.3000}"


def smaller(policy: Any) -> list[Any]:
    """Every tree that is this one with one key or element left out."""
    if isinstance(policy, dict):
        less: list[Any] = [{k: v for k, v in policy.items() if k != key} for key in policy]
        return less + [{**policy, key: each} for key, value in policy.items() for each in smaller(value)]
    if isinstance(policy, list):
        less = [policy[:n] + policy[n + 1 :] for n in range(len(policy))]
        return less + [
            [*policy[:n], each, *policy[n + 1 :]] for n, value in enumerate(policy) for each in smaller(value)
        ]
    return []


def shrink(found: Difference, steps: list[Tree]) -> tuple[Difference, list[Tree]]:
    """A smaller policy and fewer steps that still differ."""
    progress = True
    while progress:
        progress = False
        tries = [(found.policy, steps[:n] + steps[n + 1 :]) for n in range(len(steps))]
        tries += [(policy, steps) for policy in smaller(found.policy)]
        for policy, fewer in tries:
            try:
                still = compare(policy, fewer, found.seed)
            except ValueError:  # it does not load any more
                continue
            if still:
                found, steps, progress = still, fewer[: still.number + 1], True
                break
    return found, steps
