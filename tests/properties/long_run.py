"""The comparison of `test_differential`, for as long as one likes.

PYTHONPATH=src:tests python -m properties.long_run --pairs 1000000 --seed 1 --processes 2
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import sys
import time
from collections import Counter

from .differential import run, told
from .reference_conditions import SAID

CALLS = 10


def share(seeds: range) -> tuple[Counter[str], Counter[tuple[str, str, str]], str]:
    """Play one seed after the other up to the first difference."""
    logging.getLogger("mcp_policy").setLevel(logging.CRITICAL)
    hits: Counter[str] = Counter()
    SAID.clear()
    for seed in seeds:
        found = run(seed, CALLS, hits)
        if found:
            return hits, SAID, told(found, CALLS)
    return hits, SAID, ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=100_000, help="how many calls to decide")
    parser.add_argument("--seed", type=int, default=1, help="the first seed; each makes one policy and ten calls")
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    last, width = options.seed + options.pairs // CALLS, 500
    parts = [range(first, min(first + width, last)) for first in range(options.seed, last, width)]
    hits: Counter[str] = Counter()
    cells: Counter[tuple[str, str, str]] = Counter()
    differences, begun = [], time.monotonic()
    with multiprocessing.Pool(options.processes) as pool:
        for more, said, difference in pool.imap_unordered(share, parts):
            hits.update(more)
            cells.update(said)
            if difference:
                differences.append(difference)
                print(difference, flush=True)
    pairs = sum(hits[effect] for effect in ("allow", "deny", "limit", "approve"))
    print(f"{pairs} pairs in {time.monotonic() - begun:.0f} s, {len(differences)} differences")
    for name, count in hits.most_common():
        print(f"{count:9} {name}")
    columns = ("require", "deny_if", "approve_if", "when")
    print("cells met (operator, outcome):", *columns)
    for op, outcome in sorted({(op, outcome) for _, op, outcome in cells}):
        print(f"{op:13} {outcome:8}", *(f"{cells[column, op, outcome]:9}" for column in columns))
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
