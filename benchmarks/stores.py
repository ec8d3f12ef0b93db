#!/usr/bin/env python3
"""Time decisions whose state is kept elsewhere: on a Redis or Valkey server, in SQLite; and what a record costs.

    stores.py [ROUNDS]

Everything is asked in turn in one run, on a server that is started for it, so that a busy machine slows all alike.
Decisions on a server are told beside a bare `PING` of the same client: the ratio is what to look at. Peers limit on the
same server. Exit status 1 when a bound is not kept.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))

from mcp_policy import Policy, PolicyEngine, ToolCall
from mcp_policy.audit import Decided
from mcp_policy.audit.jsonl import JsonLinesSink
from mcp_policy.limits.redis import RedisLimitStore
from mcp_policy.limits.sqlite import SQLiteLimitStore
from redis_servers import KINDS, server  # type: ignore[import-not-found]  # among the tests

ROUNDS = 3_000
WARM = 200
MAX = 1_000_000
POLICY = Policy.model_validate(
    {
        "version": "1",
        "tools": {
            "one": {"rate_limit": {"max": MAX, "window": 60}},
            "two": {"limits": [{"max": MAX, "window": 60}, {"max": MAX, "window": 3600}]},
            "used_up": {"rate_limit": {"max": 1, "window": 3600}},
            "read_file": {},
        },
    }
)
CALLS = {
    tool: ToolCall(tool, {"path": "/srv/a", "limit": 5, "all": True}, session="s1") for tool in POLICY.document["tools"]
}

Ask = Callable[[], object]


class Row(NamedTuple):
    """What was measured, the figure, its unit, and the bound that it has to keep, if any."""

    what: str
    figure: float
    unit: str
    bound: float | None = None

    @property
    def holds(self) -> bool:
        return self.bound is None or self.figure <= self.bound


def in_turn(asks: dict[str, Ask], rounds: int) -> dict[str, float]:
    """The median of each in microseconds, all of them asked in turn."""
    taken: dict[str, list[float]] = {name: [] for name in asks}
    for turn in range(WARM + rounds):
        for name, ask in asks.items():
            started = perf_counter()
            ask()
            if turn >= WARM:
                taken[name].append(perf_counter() - started)
    return {name: median(times) * 1e6 for name, times in taken.items()}


# -- on a server


def on_server(kind: str, rounds: int) -> Iterator[Row]:
    with server(kind) as running, contextlib.ExitStack() as stack:
        store = RedisLimitStore.from_url(running.url)
        stack.callback(store.close)
        engine = PolicyEngine(POLICY, limits=store)
        client = store.client
        asks: dict[str, Ask] = {"PING": client.ping}
        asks |= {tool: partial(engine.authorize, call) for tool, call in CALLS.items() if tool != "read_file"}
        asks |= dict(peers(running.url))
        took = in_turn(asks, rounds)
        ping = took.pop("PING")
        yield Row(f"{kind}: PING", ping, "µs")
        bounds = {"one": 1.5, "two": 1.7}
        for name, micros in took.items():
            yield Row(f"{kind}: {LABELS.get(name, name)}", micros / ping, "x PING", bounds.get(name))
        yield Row(f"{kind}: server time, two limits", server_time(client, engine, rounds), "µs", 30)
        yield Row(f"{kind}: memory of a full key", memory(client, engine), "bytes", 3 * 1024)


LABELS = {"one": "a decision with one limit", "two": "with two limits", "used_up": "one that is refused"}


def server_time(client: Any, engine: PolicyEngine, rounds: int) -> float:
    """Microseconds that the server spends on a decision with two limits."""
    client.config_resetstat()
    for _ in range(rounds):
        engine.authorize(CALLS["two"])
    stats = client.info("commandstats")
    return float(sum(stat["usec"] for name, stat in stats.items() if name.startswith("cmdstat_eval"))) / rounds


def memory(client: Any, engine: PolicyEngine) -> float:
    """Bytes of the largest key, after enough calls that none of them grows any more."""
    started = time.monotonic()
    while time.monotonic() - started < 3:
        engine.authorize(CALLS["two"])
    return float(max(client.memory_usage(key) for key in client.scan_iter() if client.type(key) == b"string"))


def peers(url: str) -> Iterator[tuple[str, Ask]]:
    with contextlib.suppress(ImportError):
        import limits

        window = limits.strategies.MovingWindowRateLimiter(limits.storage.RedisStorage(url))
        sliding = limits.strategies.SlidingWindowCounterRateLimiter(limits.storage.RedisStorage(url))
        item = limits.RateLimitItemPerMinute(MAX)
        yield "limits, moving window", lambda: window.hit(item, "s1")
        yield "limits, sliding window counter (inexact)", lambda: sliding.hit(item, "s2")
    with contextlib.suppress(ImportError):
        import pyrate_limiter as pyrate
        import redis

        bucket = pyrate.RedisBucket.init([pyrate.Rate(MAX, 60_000)], redis.Redis.from_url(url), "pyrate")
        limiter = pyrate.Limiter(bucket)
        yield "pyrate-limiter", lambda: limiter.try_acquire("s1", blocking=False)


# -- in a file


def in_file(rounds: int) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        store = SQLiteLimitStore(Path(folder) / "state.db")
        engine = PolicyEngine(POLICY, limits=store)
        asks: dict[str, Ask] = {tool: partial(engine.authorize, CALLS[tool]) for tool in ("one", "two", "used_up")}
        took = in_turn(asks, rounds)
        store.close()
    for tool, bound in (("one", 60), ("two", None), ("used_up", None)):
        yield Row(f"SQLite: {LABELS[tool]}", took[tool], "µs", bound)


def on_record(rounds: int) -> Iterator[Row]:
    decision = PolicyEngine(POLICY).authorize(CALLS["read_file"])
    event = Decided(CALLS["read_file"], decision, POLICY.digest, 1e-6)
    with tempfile.TemporaryDirectory() as folder:
        took: dict[str, float] = {}
        for name, together in (("buffered", 100), ("at once", 1)):
            with JsonLinesSink(Path(folder) / name, key=bytes(32), flush_every=together) as sink:
                took |= in_turn({name: partial(sink.record, event)}, rounds)
                started = perf_counter()
                for _ in range(rounds):
                    sink.record(event)
                took[f"{name}, with its share of writing"] = (perf_counter() - started) / rounds * 1e6
    for name, micros in took.items():
        yield Row(f"audit: a record, {name}", micros, "µs", 6 if name == "buffered" else None)


def main() -> int:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    rows: list[Row] = []
    for kind in KINDS:
        rows += on_server(kind, rounds)
    rows += [*in_file(rounds), *on_record(rounds)]
    wide = min(max(len(row.what) for row in rows), shutil.get_terminal_size().columns - 30)
    for row in rows:
        bound = "" if row.bound is None else f"  {'within' if row.holds else 'OVER'} {row.bound:g}"
        print(f"{row.what:<{wide}}  {row.figure:>9.2f} {row.unit:<7}{bound}")
    return 0 if all(row.holds for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
