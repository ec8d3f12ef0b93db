"""Several processes on one key of a real server, each with a clock of its own that is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from bisect import bisect_right
from pathlib import Path

import pytest

import mcp_policy
from redis_servers import KINDS, server

SECONDS = float(os.environ.get("MCP_POLICY_PROCESS_SECONDS", "3"))
WINDOW, MAXIMUM = 0.5, 40

# What a process does: asks as often as it can, and notes when the server let it. Its own clocks are wrong.
WORK = """
import sys, time, json
skew, url, seconds, window, maximum = float(sys.argv[1]), sys.argv[2], *map(float, sys.argv[3:])
real, real_monotonic = time.time, time.monotonic
time.time = lambda: real() + skew
time.monotonic = lambda: real_monotonic() + skew
from mcp_policy import Policy, PolicyEngine, ToolCall
from mcp_policy.limits.redis import RedisLimitStore
limit = {"max": int(maximum), "window": window, "per": "global"}
store = RedisLimitStore.from_url(url, timeout=5)
engine = PolicyEngine(Policy.model_validate({"version": "1", "tools": {"t": {"rate_limit": limit}}}), limits=store)
end, taken, refused = real_monotonic() + seconds, [], 0
while real_monotonic() < end:
    decision = engine.authorize(ToolCall("t"))
    if decision.allowed:
        taken.append(decision.evidence[1].at)
    else:
        refused += 1
store.close()
print(json.dumps([taken, refused]))
"""


@pytest.mark.parametrize("kind", KINDS)
def test_no_window_admits_more_than_its_maximum(kind):
    env = {**os.environ, "PYTHONPATH": str(Path(mcp_policy.__file__).parent.parent)}
    with server(kind) as running:
        work = [
            subprocess.Popen(
                [sys.executable, "-c", WORK, *map(str, (skew, running.url, SECONDS, WINDOW, MAXIMUM))],
                stdout=subprocess.PIPE,
                env=env,
            )
            for skew in (-3.0, -1.0, 1.0, 3.0)
        ]
        results = [json.loads(process.communicate(timeout=SECONDS + 60)[0]) for process in work]
    taken = sorted(at for times, _ in results for at in times)
    assert all(refused > 0 for _, refused in results)
    most = max(place + 1 - bisect_right(taken, at - WINDOW) for place, at in enumerate(taken))
    assert most <= MAXIMUM
    assert len(taken) >= MAXIMUM * (SECONDS / WINDOW - 2) * 0.9, "and what it may admit it does"
