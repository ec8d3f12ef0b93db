#!/usr/bin/env python3
"""Measure this package against its bounds, and against what a user would pick instead, in one run.

    run.py [--json PATH] [--markdown]

Prints a table and writes the numbers to PATH (results.json beside this file when none is given). Exit status 1 when a
bound is not kept. Peers that are not installed are left out.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import peers
from items import items
from measure import FLOOR, Sample, measure
from report import Row, markdown, tables
from work import ONE_LIMIT, TWO_LIMITS, WORKS, marching_clock

Library = TypeVar("Library")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results.json", metavar="PATH")
    parser.add_argument("--markdown", action="store_true", help="print the tables for the documentation")
    options = parser.parse_args()

    machine = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    floor = measure(FLOOR).seconds * 1e9
    results = list(items())
    rows = list(comparison())
    head = f"{machine}; the floor is {floor:.0f} ns"
    (markdown if options.markdown else tables)(head, results, rows)
    numbers = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine,
        "floor_ns": floor,
        "items": [item._asdict() | {"holds": item.holds} for item in results],
        "peers": [row._asdict() for row in rows],
    }
    options.json.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")
    missed = [item.name for item in results if not item.holds]
    if missed:
        print(f"over the bound: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


def comparison() -> Iterator[Row]:
    """Every library on every work that it has words for: first what it gets wrong, then how long it takes."""
    judges = list(available(peers.JUDGES))
    for work in WORKS:
        for judge in judges:
            if work.name in judge.cannot:
                yield Row(work.name, judge.name, None, None, [])
            else:
                ask = judge.prepare(work.timed.tool, work.timed.arguments)
                yield timed(work.name, judge.name, ask, judge.mistakes(work))
    for name, limits in (("one limit", ONE_LIMIT), ("two limits", TWO_LIMITS)):
        for limiter in available(peers.LIMITERS):
            mistakes = limiter.mistakes(limits)
            ask = limiter.build(limits, marching_clock().__next__)("s1", 1)
            yield timed(name, limiter.name, ask, mistakes)


def timed(work: str, library: str, ask: Callable[[], object], mistakes: list[str]) -> Row:
    for _ in range(300):
        ask()
    timing = measure(Sample("ask()", {"ask": ask}))
    return Row(work, library, timing.ratio, timing.seconds * 1e6, mistakes)


def available(makers: Iterable[Callable[[], Library]]) -> Iterator[Library]:
    for make in makers:
        try:
            yield make()
        except ImportError as missing:
            print(f"left out: {make.__name__} ({missing})", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
