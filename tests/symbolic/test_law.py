"""The law of `symbolic`: what any call does is among what is said to be possible."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from mcp_policy.conditions import compile_condition
from mcp_policy.symbolic.atoms import Atom, of_condition
from mcp_policy.symbolic.calls import assemble
from mcp_policy.symbolic.parts import Part, divided
from properties.differential import tool_call
from properties.generate import Maker

ROUNDS = 1_000


def conditions(seed: int) -> tuple[list[Atom], Maker]:
    maker, chance = Maker(seed), random.Random(seed)
    narrow = chance.choice((None, "amount", "text", "names"))
    atoms: list[Atom] = []
    for _ in range(chance.randint(1, 5)):
        kind = chance.choice(("require", "deny_if"))
        raw = maker.condition(star=True)
        if narrow and chance.random() < 0.5 and atoms:
            raw["path"] = raw["path"] if chance.random() < 0.3 else path_of(atoms[0])
        try:
            condition = compile_condition(raw, kind, lambda call: call.category)
        except (KeyError, ValueError):
            continue
        atom = of_condition(condition, kind)
        if isinstance(atom, Atom):  # what the setting decides is no atom
            atoms.append(atom)
    return list(dict.fromkeys(atoms)), maker


def path_of(atom: Atom) -> str:
    return atom.text.split("`")[1]


def covered(part: Part, outcomes: dict[int, int]) -> str | None:
    if any(all(outcomes[number] == code for number, code in sure.items()) for sure, _ in part.sure):
        return "sure"
    if part.doubtful and any(all(outcomes[number] == code for number, code in wide.items()) for wide in part.wide):
        return "wide"
    return None


@pytest.mark.parametrize("start", range(4))
def test_what_a_call_does_is_possible(start: int) -> None:
    seen: Counter[str] = Counter()
    for seed in range(start * ROUNDS, (start + 1) * ROUNDS):
        atoms, maker = conditions(seed)
        parts = divided(atoms)
        for _ in range(25):
            call = tool_call(maker.call())
            if call.flaw:
                continue
            outcomes = {number: atom.outcome(call) for number, atom in enumerate(atoms)}
            for part in parts.all:
                if any(number >= len(atoms) for number in part.atoms):  # conditions on all keys: tested below
                    continue
                how = covered(part, outcomes)
                said = [(atoms[number].text, atoms[number].value, outcomes[number]) for number in part.atoms]
                assert how, (seed, said, call.arguments, call.context, call.principal)
                seen[how] += 1
    assert seen["sure"] > 5 * seen["wide"] > 0


def test_every_sure_outcome_has_a_call() -> None:
    for seed in range(800):
        atoms, _ = conditions(seed)
        for part in divided(atoms).all:
            for outcomes, values in part.sure:
                call = assemble(values, "tool")
                assert call.flaw is None
                for number, code in outcomes.items():
                    if number < len(atoms):
                        assert atoms[number].outcome(call) == code, (seed, atoms[number].text, values)
