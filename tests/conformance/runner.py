"""Plays a case of the conformance format and says what differed.

Only public names are used, and a clock that moves when a step says so. Beside the format's own expectations a step
may state `would_be`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcp_policy import Decision, Policy, PolicyEngine, PolicyError, Principal, ToolCall

HERE = Path(__file__).parent


@dataclass
class Clock:
    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def files() -> list[Path]:
    return sorted(HERE.glob("*.json"))


def cases(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8"))["cases"]


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


MARKERS = {"$float": float, "$nest": nested, "$repeat": lambda pair: pair[0] * pair[1]}


def expanded(value: Any) -> Any:
    """The value with its markers replaced by what JSON cannot hold."""
    if isinstance(value, list):
        return [expanded(item) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1 and (marker := next(iter(value))) in MARKERS:
        return MARKERS[marker](value[marker])
    return {key: expanded(item) for key, item in value.items()}


def call_of(raw: dict[str, Any]) -> ToolCall:
    about = {key: raw[key] for key in ("session", "server", "context") if key in raw}
    if "principal" in raw:
        about["principal"] = Principal(**raw["principal"])
    return ToolCall(raw["tool"], expanded(raw.get("arguments", {})), **about)


def close(found: float | None, wanted: float | None, window: float) -> bool:
    if found is None or wanted is None:
        return found is wanted
    return abs(found - wanted) <= max(window / 100, 0.001)


def differences(decision: Decision, expect: dict[str, Any], window: float) -> list[str]:
    """What the decision has that the step does not expect."""
    found = {
        "effect": str(decision.effect),
        "codes": {str(reason.code) for reason in decision.reasons},
        "would_be": None if decision.would_be is None else str(decision.would_be),
    }
    wanted = {**expect, "codes": set(expect.get("codes", found["codes"]))}
    said = [f"{key} {found[key]}, not {wanted[key]}" for key in found if key in wanted and found[key] != wanted[key]]
    if decision.allowed != (found["effect"] == "allow"):
        said.append("`allowed` is not what the effect says")
    rules = {reason.rule for reason in decision.reasons}
    said += [f"no reason at {rule}, only at {sorted(rules)}" for rule in expect.get("rules", ()) if rule not in rules]
    if "retry_after" in expect and not close(decision.retry_after, expect["retry_after"], window):
        said.append(f"retry_after {decision.retry_after}, not {expect['retry_after']}")
    for name, left in expect.get("remaining", {}).items():
        kept = [status.remaining for status in decision.limits if name in (status.counter, status.rule)]
        if kept[:1] != [left]:
            said.append(f"remaining of {name} {kept}, not {left}")
    return said


def load(case: dict[str, Any]) -> list[str]:
    try:
        Policy.parse(expanded(case["text"]))
    except PolicyError as error:
        found = {(problem.pointer, str(problem.code)) for problem in error.problems}
    else:
        return ["it loads"] if case["problems"] else []
    if not case["problems"]:
        return [f"it does not load: {sorted(found)}"]
    wanted = {(problem["pointer"], problem["code"]) for problem in case["problems"]}
    return [f"no {code} at {pointer!r}, only {sorted(found)}" for pointer, code in sorted(wanted - found)]


def decide(case: dict[str, Any]) -> list[str]:
    clock = Clock()
    start = clock.now
    engine = PolicyEngine(Policy.parse(json.dumps(case["policy"])), clock=clock)
    last_asked, said = "", []
    for number, step in enumerate(case["steps"]):
        clock.now = start + step.get("at", 0)
        do = step.get("do", "authorize")
        if do in ("approve", "reject"):
            getattr(engine, do)(last_asked, by=step["by"])
            continue
        for _ in range(step.get("times", 1)):
            decision = getattr(engine, do)(call_of(step["call"]))
            if str(decision.effect) == "approve" and decision.approval is not None:
                last_asked = decision.approval.id
            said += [f"step {number}: {text}" for text in differences(decision, step["expect"], step.get("window", 60))]
    return said


def play(case: dict[str, Any]) -> list[str]:
    return load(case) if "text" in case else decide(case)
