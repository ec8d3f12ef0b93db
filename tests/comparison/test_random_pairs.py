"""Pairs of policies at random: what a comparison says is held against calls that are really made."""

from __future__ import annotations

import copy
import random
from typing import Any, NamedTuple

import pytest

from mcp_policy import Decision, Policy, PolicyEngine, ToolCall
from mcp_policy.comparison import Comparison, Relation, compare
from mcp_policy.comparison.sides import Bench
from mcp_policy.comparison.witness import rank
from properties.differential import tool_call
from properties.generate import Maker

CATEGORIES = ("read", "write", "execute", "destructive", "financial", "unknown")
PAIRS = 120
CALLS = 40


def parts(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a document."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path, *(place for key, part in items for place in parts(part, (*path, key)))]


def at(tree: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def changed(tree: dict[str, Any], other: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    """A document with one thing taken out, doubled, or replaced by something of the same key in another."""
    made = copy.deepcopy(tree)
    place = chance.choice([path for path in parts(made) if path])
    holder, key = at(made, place[:-1]), place[-1]
    kind = chance.random()
    if kind < 0.35:
        del holder[key]
    elif kind < 0.5 and isinstance(holder, list):
        holder.append(copy.deepcopy(holder[key]))
    else:
        same = [path for path in parts(other) if path and path[-1] == key] or [path for path in parts(other) if path]
        holder[key] = copy.deepcopy(at(other, chance.choice(same)))
    return made


def pair(seed: int) -> tuple[Policy, Policy] | None:
    chance = random.Random(seed)
    old = Maker(seed).policy()
    for _ in range(20):
        new = old
        for _ in range(chance.choice((0, 1, 1, 1, 2))):
            new = changed(new, Maker(chance.randrange(10**6)).policy(), chance)
        try:
            return Policy.model_validate(old), Policy.model_validate(new)
        except ValueError:
            continue
    return None


def calls(seed: int, count: int) -> list[ToolCall]:
    maker, chance = Maker(seed + 1), random.Random(seed + 1)
    made = []
    for _ in range(count):
        call = tool_call(maker.call())
        if call.flaw is None and call.tool.isprintable() and 0 < len(call.tool) <= 256:
            category = chance.choice(CATEGORIES)
            made.append(
                ToolCall(
                    call.tool,
                    call.arguments,
                    server=call.server,
                    session=call.session,
                    principal=call.principal,
                    context=call.context,
                    category=category,
                )
            )
    return made


def refuted(said: Comparison, old: Decision, new: Decision) -> bool:
    """Whether a call shows that a comparison is wrong: a difference that it neither knows nor leaves open."""
    if "invalid_call" in {reason.code for reason in (*old.reasons, *new.reasons)} or said.undecided:
        return False
    return (rank(new) > rank(old) and not said.looser) or (rank(new) < rank(old) and not said.stricter)


@pytest.mark.parametrize("start", range(4))
def test_no_call_refutes_a_comparison(start: int) -> None:
    relations = dict.fromkeys(Relation, 0)
    for seed in range(start * PAIRS, (start + 1) * PAIRS):
        both = pair(seed)
        if both is None:
            continue
        said = compare(*both)
        relations[said.relation] += 1
        engines = [PolicyEngine(policy) for policy in both]
        for call in calls(seed, CALLS):
            old, new = (engine.evaluate(call) for engine in engines)
            assert not refuted(said, old, new), (seed, said, call, call.arguments, old, new)
    assert relations[Relation.UNKNOWN] < 0.1 * PAIRS, relations
    assert all(count > 3 for count in relations.values()), relations


class Played(NamedTuple):
    """How many calls were made, and those after which the engines contradict a comparison."""

    calls: int
    refuted: str = ""


def played(seed: int, both: tuple[Policy, Policy], said: Comparison, rounds: int) -> Played:
    """Play the same few calls again and again, on a clock that moves, until one engine lets the last one run alone."""
    chance = random.Random(seed)
    old, new = map(Bench, both)
    made = 0
    for _ in range(rounds):
        old.reset()
        new.reset()
        pool = calls(chance.randrange(10**9), 4)
        at = 0.0
        for _ in range(30 if pool else 0):
            at += chance.choice((0, 0, 0, 0.3, 1, 2, 5, 31, 61))
            old.now = new.now = at
            call = chance.choice(pool)
            first, second = old.decide(call), new.decide(call)
            made += 1
            if "invalid_call" in {reason.code for reason in (*first.reasons, *second.reasons)}:
                break
            if first.allowed != second.allowed:
                if not said.undecided and not (said.looser if second.allowed else said.stricter):
                    return Played(made, f"{call} {call.arguments} at {at}: {first}, {second}")
                break
    return Played(made)


def limited(seed: int) -> dict[str, Any]:
    """A policy that is mostly limits, for few tools."""
    chance, maker = random.Random(seed), Maker(seed)

    def rule() -> dict[str, Any]:
        made: dict[str, Any] = {}
        if chance.random() < 0.8:
            made["limits"] = [maker.limit() for _ in range(chance.randint(1, 2))]
        if chance.random() < 0.2:
            made["rate_limit"] = chance.choice(("1/minute", "2/4s", "3/10s"))
        if chance.random() < 0.2:
            made["when"] = [{"path": "args.n", "op": chance.choice(("lt", "gte")), "value": 2}]
        if chance.random() < 0.1:
            made["action"] = "approve"
        return made

    keys = chance.sample(["*", "get_*", "get_a", "get_b", "pay", "?ay"], chance.randint(1, 3))
    tools = {key: rule() if chance.random() < 0.7 else [rule(), rule()] for key in keys}
    return {
        "version": "1",
        "default": "allow",
        "tools": tools,
        **({"all_tools": rule()} if chance.random() < 0.3 else {}),
    }


def test_no_sequence_of_calls_refutes_a_comparison_of_limits() -> None:
    made = 0
    for seed in range(150):
        chance = random.Random(seed)
        try:
            old = Policy.model_validate(limited(seed))
            new = Policy.model_validate(changed(limited(seed), limited(seed + 10_000), chance))
        except ValueError:
            continue
        found = played(seed, (old, new), compare(old, new), rounds=10)
        assert not found.refuted, (seed, found.refuted)
        made += found.calls
    assert made > 5_000
