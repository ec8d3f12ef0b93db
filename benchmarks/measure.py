"""How things are timed.

- The floor is one dict lookup plus one function call. It is measured right before and right after every sample, so that
  a machine that slows down for a moment slows both; a result is the median of the ratios over many short rounds.
- What counts is the processor's time of this process, where the system tells it finely: what else the machine does
  meanwhile is not this package's doing.
- Garbage collection is off while a sample runs, and what a sample needs is made outside the time that counts.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from time import get_clock_info, perf_counter, process_time
from timeit import Timer
from typing import NamedTuple

ROUNDS = 40
ROUND_SECONDS = 0.005
FLOOR_TIMES = 25_000

clock = process_time if get_clock_info("process_time").resolution < 1e-6 else perf_counter


class Sample(NamedTuple):
    """A statement and the names it uses. `prepare` comes before each round; running the statement is `size` steps."""

    statement: str
    names: dict[str, object]
    prepare: Callable[[], object] = int
    size: int = 1


class Timing(NamedTuple):
    """A step's median cost: as a ratio to the floor, and in seconds."""

    ratio: float
    seconds: float


def identity(value: object) -> object:
    return value


FLOOR = Sample("function(table[key])", {"function": identity, "table": {"key": 1, "other": 2}, "key": "key"})


def measure(sample: Sample, floor: Sample = FLOOR) -> Timing:
    """Time `sample`, round by round between two looks at `floor`."""
    timer, ground = (Timer(each.statement, timer=clock, globals=each.names) for each in (sample, floor))
    sample.prepare()
    times = 1 if sample.size > 1 else max(1, round(ROUND_SECONDS / (timer.timeit(100) / 100)))
    rounds = []
    for _ in range(ROUNDS):
        sample.prepare()
        before = ground.timeit(FLOOR_TIMES)
        taken = timer.timeit(times) / times / sample.size
        after = ground.timeit(FLOOR_TIMES)
        rounds.append((taken * 2 * FLOOR_TIMES / (before + after), taken))
    return Timing(median(ratio for ratio, _ in rounds), median(seconds for _, seconds in rounds))


def stopwatch(work: Callable[[], object], times: int = 9) -> float:
    """The median time of whole runs of `work`, in seconds."""
    spans = []
    for _ in range(times):
        with collected():
            start = clock()
            work()
            spans.append(clock() - start)
    return median(spans)


def held(*works: Callable[[], object]) -> list[int]:
    """How many bytes more than at first are held after each of `works`, done one after the other."""
    sizes = []
    with collected():
        tracemalloc.start()
        for work in works:
            work()
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
    return sizes


@contextmanager
def collected() -> Iterator[None]:
    """Garbage is collected first and then left alone."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
