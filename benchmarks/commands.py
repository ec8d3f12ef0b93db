#!/usr/bin/env python3
"""Time what people and CI wait for: comparing policies, checking one, running cases.

    commands.py

Each is measured beside a floor of the same run: starting Python, or deciding the same calls without anything around.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

from mcp_policy import Policy, PolicyEngine, ToolCall
from mcp_policy.comparison import compare

Tree = dict[str, Any]
TIMES = 7


class Timing(NamedTuple):
    """One row: what it takes, the bound in the same unit (None: none), and how many times its floor that is."""

    name: str
    seconds: float
    bound: float | None
    floor: str
    ratio: float


def rule(number: int, more: int = 0) -> Tree:
    return {
        "require": [
            {"path": "args.id", "op": "regex", "value": "^[a-z0-9-]{1,40}$"},
            {"path": "args.amount", "op": "lte", "value": 100 + number + more},
        ],
        "deny_if": [{"path": "args.force", "op": "eq", "value": True}],
        "limits": [{"max": 10 + number % 5 + more, "window": "minute"}],
    }


def policy(changed: Callable[[int], int], **more: Any) -> Policy:
    tools = {f"tool_{number}": rule(number, changed(number)) for number in range(1_000)}
    return Policy.model_validate({"version": "1", **more, "tools": tools})


def taken(work: Callable[[], object]) -> float:
    spans = []
    for _ in range(TIMES):
        start = perf_counter()
        work()
        spans.append(perf_counter() - start)
    return median(spans)


def comparing() -> Iterator[Timing]:
    old = policy(lambda number: 0)
    everywhere = {"deny_if": [{"path": "args.dry", "op": "eq", "value": False}]}
    pairs = {
        "diff of 1,000 tools, one in ten changed": policy(lambda number: number % 10 == 0),
        "diff of 1,000 tools, a rule for all added": policy(lambda number: 0, all_tools=everywhere),
        "diff of 1,000 tools, every one changed its own way": policy(lambda number: 1),
    }
    floor = taken(lambda: Policy.model_validate(copy.deepcopy(old.document)))
    for place, (name, new) in enumerate(pairs.items()):
        seconds = taken(lambda new=new: compare(old, new))  # type: ignore[misc]
        yield Timing(name, seconds, 1.0 if place < 2 else None, "loading one of them", seconds / floor)


def started(*arguments: str) -> Callable[[], object]:
    # an installed package has its byte code; a checkout gets it at the first of these
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, *arguments]
    return lambda: subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False)


def commands(folder: Path) -> Iterator[Timing]:
    small = folder / "policy.json"
    small.write_text(json.dumps({"version": "1", "tools": {"create_charge": rule(1), "get_*": {}}}), encoding="utf-8")
    calls: list[dict[str, Any]] = [{"id": "a", "amount": number} for number in range(10_000)]
    call = {"tool": "create_charge"}
    table = {
        "name": "amounts",
        "call": call,
        "columns": ["args.id", "args.amount", "effect"],
        "rows": [["a", made["amount"], "allow" if made["amount"] <= 101 else "deny"] for made in calls],
    }
    cases = folder / "many.policytest.json"
    cases.write_text(json.dumps({"policy": "policy.json", "cases": [table]}), encoding="utf-8")
    engine = PolicyEngine(Policy.load(small))
    python = taken(started("-c", "pass"))
    pydantic = taken(started("-c", 'from mcp_policy import Policy; Policy.parse(\'{"version": "1"}\')'))
    bare = taken(lambda: [engine.evaluate(ToolCall("create_charge", made)) for made in calls])
    check = taken(started("-m", "mcp_policy", "check", str(small)))
    test = taken(started("-m", "mcp_policy", "test", str(cases)))
    yield Timing("starting Python", python, None, "itself", 1)
    yield Timing("starting Python, and loading a policy", pydantic, None, "starting Python", pydantic / python)
    yield Timing("`mcp-policy check` of one file", check, 0.25, "starting Python", check / python)
    yield Timing("`mcp-policy test` of 10,000 cases", test, 3.0, "deciding the calls", test / bare)


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        rows = [*comparing(), *commands(Path(folder))]
    wide = max(len(row.name) for row in rows)
    for row in rows:
        bound = "" if row.bound is None else f"of {row.bound:g} s{'' if row.seconds <= row.bound else ', over it'}"
        print(f"{row.name:<{wide}}  {row.seconds:7.3f} s  {bound:<16}  {row.ratio:8.1f} x {row.floor}")
    return any(row.bound is not None and row.seconds > row.bound for row in rows)


if __name__ == "__main__":
    sys.exit(main())
