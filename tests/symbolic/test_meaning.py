"""The formulas of a plan say what the engine does."""

from __future__ import annotations

import random

from mcp_policy import Effect, Policy, PolicyEngine, ToolCall
from mcp_policy.comparison.sides import Side
from mcp_policy.symbolic import formulas
from mcp_policy.symbolic.atoms import Setting
from mcp_policy.symbolic.meaning import meaning
from mcp_policy.symbolic.solving import Atoms
from properties.differential import tool_call
from properties.generate import Maker

CATEGORIES = ("read", "write", "execute", "destructive", "financial", "unknown")


def value(formula: formulas.Formula, outcomes: dict[int, int]) -> bool:
    found = formulas.assigned(formula, outcomes)
    assert isinstance(found, bool)
    return found


def test_formulas_say_what_the_engine_does() -> None:
    effects = dict.fromkeys(Effect, 0)
    for seed in range(1_500):
        maker, chance = Maker(seed), random.Random(seed)
        policy = Policy.model_validate(maker.policy())
        engine, side = PolicyEngine(policy), Side(policy)
        for _ in range(8):
            made = tool_call(maker.call())
            if made.flaw or not made.tool or not made.tool.isprintable() or len(made.tool) > 256:
                continue
            setting = Setting(made.tool, made.server, chance.choice(CATEGORIES))
            call: ToolCall = setting.call(made)
            atoms = Atoms()
            said = meaning(side.plan(setting), side.limits, setting, atoms)
            outcomes = {number: atom.outcome(call) for number, atom in enumerate(atoms.all)}
            decision = engine.evaluate(call)
            if decision.reasons[0].code == "invalid_call":  # asked for, and cannot be put to a person
                continue
            told = "denied" if value(said.denied, outcomes) else "asked" if value(said.asked, outcomes) else "allowed"
            expected = {"deny": "denied", "limit": "denied", "approve": "asked", "allow": "allowed"}[decision.effect]
            assert told == expected, (seed, call, decision)
            effects[decision.effect] += 1
    assert min(effects.values()) > 10
