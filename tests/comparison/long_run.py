#!/usr/bin/env python3
"""Hold many comparisons against calls that are really made: `long_run.py [PAIRS [CALLS [FIRST]]]`.

Prints the relations, and every call that refutes one; the exit status is 1 where any does. The tests do the same with
fewer: `test_random_pairs.py`.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]

from test_random_pairs import calls, pair, played, refuted  # noqa: E402  # the path comes first

from mcp_policy import PolicyEngine  # noqa: E402
from mcp_policy.comparison import Relation, compare  # noqa: E402


def main() -> int:
    pairs, count, first = (*map(int, sys.argv[1:]), *(1_000, 10_000, 1_000_000)[len(sys.argv) - 1 :])
    relations = dict.fromkeys(Relation, 0)
    made = bad = 0
    for seed in range(first, first + pairs):
        both = pair(seed)
        if both is None:
            continue
        said = compare(*both)
        relations[said.relation] += 1
        engines = [PolicyEngine(policy) for policy in both]
        for call in calls(seed, count):
            old, new = (engine.evaluate(call) for engine in engines)
            made += 1
            if refuted(said, old, new):
                bad += 1
                print(f"refuted: seed {seed}, {said.relation}, {call} {call.arguments}, {old}, {new}")
                break
        found = played(seed, both, said, rounds=20)
        made += found.calls
        if found.refuted:
            bad += 1
            print(f"refuted: seed {seed}, {said.relation}, by a sequence: {found.refuted}")
    print({str(relation): number for relation, number in relations.items()}, f"{made:,} calls, {bad} refuted")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
