"""What is asked of this package: each item, its bound, and how it is measured."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from statistics import median
from time import monotonic
from typing import NamedTuple

from mcp_policy import Policy, PolicyEngine, ToolCall
from measure import Sample, held, measure, stopwatch
from work import ADDRESS, CONDITIONS, FAULTY, ONE_LIMIT, POLICY, TWO_LIMITS, WORKS, marching_clock

FLOOR = "× floor"
FLOOD = 200_000


class Item(NamedTuple):
    """One result beside its bound; `bound` is None where the number only informs."""

    name: str
    value: float
    unit: str
    bound: float | None

    @property
    def holds(self) -> bool:
        return self.bound is None or self.value <= self.bound


def items() -> Iterator[Item]:
    """Every item, as it is measured."""
    for name, sample, bound in [*decisions(), *limited()]:
        yield Item(name, measure(sample).ratio, FLOOR, bound)
    yield from many_tools()
    yield from new_names()
    yield from loading()
    yield from start_up()
    yield Item("a fresh counter", counter_bytes(), "bytes", 320)


def decisions() -> Iterator[tuple[str, Sample, float]]:
    engine = engine_of(POLICY)
    timed = {work.name: ToolCall(work.timed.tool, work.timed.arguments, session="s1") for work in WORKS}
    asked = {
        "evaluate: plain allow": (timed["plain allow"], "allow", 3.5),
        "evaluate: plain denial": (timed["plain denial"], "deny", 3.5),
        "evaluate: an unknown name, asked before": (ToolCall("no_such_tool", {}, session="s1"), "deny", 3.5),
        "evaluate: two argument conditions": (timed["two conditions"], "allow", 7.5),
        "evaluate: a regex": (timed["a regex"], "allow", 8),
        "evaluate: a nested path": (timed["a nested path"], "allow", 9),
        "evaluate: a denial with its three reasons": (ToolCall("transfer", FAULTY, session="s1"), "deny", 28),
    }
    for name, (call, effect, bound) in asked.items():
        expect(engine, call, effect)
        yield name, Sample("evaluate(call)", {"evaluate": engine.evaluate, "call": call}), bound
    names = {"authorize": engine.authorize, "ToolCall": ToolCall}
    statement = 'authorize(ToolCall("get_task_metrics", {"task_id": "a1"}, session="s1"))'
    yield "authorize: the ToolCall built, plain allow", Sample(statement, names), 16


def limited() -> Iterator[tuple[str, Sample, float]]:
    for name, limits, bound in [("one limit", ONE_LIMIT, 36), ("two limits", TWO_LIMITS, 40)]:
        tool = {"limits": [{"max": maximum, "window": window} for maximum, window in limits]}
        engine = engine_of({"version": "1", "tools": {"get_task_metrics": tool}}, clock=marching_clock().__next__)
        call = ToolCall("get_task_metrics", {"task_id": "a1"}, session="s1")
        for _ in range(300):
            expect(engine, call, "allow")
        yield f"authorize: {name}", Sample("authorize(call)", {"authorize": engine.authorize, "call": call}), bound


def many_tools() -> Iterator[Item]:
    call = ToolCall("get_task_metrics", {"task_id": "a1"}, session="s1")
    tools = {**POLICY["tools"], **{f"tool_{number}": {} for number in range(10_000)}}
    few, many = (
        Sample("evaluate(call)", {"evaluate": engine_of(policy).evaluate, "call": call})
        for policy in (POLICY, {**POLICY, "tools": tools})
    )
    yield Item("evaluate: plain allow among 10,000 tools", measure(many, floor=few).ratio, "× among few", 1.1)


def new_names() -> Iterator[Item]:
    """Names that were never seen before, against entries that name their tools exactly."""
    engine = engine_of(POLICY)
    numbers = count()
    names: dict[str, object] = {"evaluate": engine.evaluate, "calls": []}

    def prepare(size: int = 2_000) -> None:
        names["calls"] = [ToolCall(f"invented_{next(numbers)}", {}, session="s1") for _ in range(size)]

    sample = Sample("for call in calls: evaluate(call)", names, prepare, size=2_000)
    yield Item("evaluate: a name never seen before", measure(sample).ratio, FLOOR, 35)

    def flood() -> None:
        for _ in range(FLOOD // 2):
            engine.evaluate(ToolCall(f"invented_{next(numbers)}", {}, session="s1"))

    half, whole = held(flood, flood)
    yield Item("memory: held after 200,000 invented names", whole / 1024, "KiB", None)
    yield Item("memory: of that, from the second half of them", (whole - half) / 1024, "KiB", 64)


def loading() -> Iterator[Item]:
    for kind, make, bounds in [("mixed", mixed, (12, 150)), ("heavy", heavy, (30, 400))]:
        for number, bound in zip((1_000, 10_000), bounds, strict=True):
            text = json.dumps({"version": "1", "tools": {f"tool_{n}": make(n) for n in range(number)}})
            seconds = stopwatch(partial(load, text))
            yield Item(f"loading: {number:,} {kind} tools", seconds * 1000, "ms", bound)


def load(text: str) -> PolicyEngine:
    return PolicyEngine(Policy.parse(text))


def mixed(number: int) -> dict[str, object]:
    """Six in ten say nothing more than that the tool may be called."""
    rules: list[dict[str, object]] = [
        {"action": "deny", "reason": "not for agents"},
        {"rate_limit": {"max": 10, "window": 60}},
        {"require": [{"path": "args.amount", "op": "lte", "value": number}]},
        {"require": [{"path": "args.to", "op": "regex", "value": ADDRESS}]},
    ]
    return rules[number % 10] if number % 10 < len(rules) else {}


def heavy(number: int) -> dict[str, object]:
    return {"require": CONDITIONS, "limits": [{"max": number + 1, "window": "minute"}]}


IMPORT = """
import time, pydantic
class Model(pydantic.BaseModel):
    number: int
Model(number=1)
start = time.process_time(), time.perf_counter()
from mcp_policy import *
print(time.process_time() - start[0], time.perf_counter() - start[1])
"""


def start_up(times: int = 15) -> Iterator[Item]:
    # an installed package has its byte code; a checkout gets it at the first of these
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    start = partial(subprocess.check_output, [sys.executable, "-c", IMPORT], env=environment, text=True)
    start()
    spans = [[float(span) * 1000 for span in start().split()] for _ in range(times)]
    busy, passed = zip(*spans, strict=True)
    yield Item("import mcp_policy, over one pydantic model", median(busy), "ms", 20)
    yield Item("import mcp_policy, by the clock on the wall, the best of 15", min(passed), "ms", None)


def counter_bytes(keys: int = 10_000) -> float:
    """What a session's first call leaves behind in the store, its key included."""
    engine = engine_of({"version": "1", "tools": {"get_task_metrics": {"rate_limit": {"max": 10, "window": 60}}}})
    sessions = [f"{random.Random(number).getrandbits(128):032x}" for number in range(keys + 1)]
    calls = [ToolCall("get_task_metrics", {}, session=session) for session in sessions]
    engine.authorize(calls.pop())

    def fill() -> None:
        for call in calls:
            engine.authorize(call)

    return held(fill)[0] / keys


def engine_of(policy: object, clock: Callable[[], float] = monotonic) -> PolicyEngine:
    return PolicyEngine(Policy.model_validate(policy), clock=clock)


def expect(engine: PolicyEngine, call: ToolCall, effect: str) -> None:
    """What is timed must be what is meant."""
    decision = engine.authorize(call)
    if decision.effect != effect:
        raise AssertionError(f"{call.tool}: {decision}, expected `{effect}`")
