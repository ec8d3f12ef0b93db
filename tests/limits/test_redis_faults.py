"""What becomes of calls when the server fails: real servers, really failing."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import threading
import time
import tracemalloc
from pathlib import Path

import pytest
import redis

from mcp_policy import Policy, PolicyEngine, ToolCall
from mcp_policy.limits.redis import AsyncRedisLimitStore, RedisLimitStore
from redis_servers import KINDS, server

POLICY = Policy.model_validate(
    {
        "version": "1",
        "tools": {
            "search": {"rate_limit": {"max": 3, "window": 3600, "per": "global"}},
            "optional": {"limits": [{"max": 3, "window": 3600, "per": "global", "on_unavailable": "allow"}]},
            "free": {},
        },
    }
)
CALL = ToolCall("search", {"q": "x"})
PATIENCE = 30.0  # seconds for what is usually done in milliseconds


class Asked:
    """An engine on a store of one kind, asked as that kind is."""

    def __init__(self, kind: str, url: str, **settings) -> None:
        self.loop = asyncio.new_event_loop() if kind == "asynchronous" else None
        made = AsyncRedisLimitStore if self.loop else RedisLimitStore
        self.store = made.from_url(url, **settings)
        self.engine = PolicyEngine(POLICY, limits=self.store)

    def __call__(self, call=CALL):
        if self.loop is None:
            return self.engine.authorize(call)
        return self.loop.run_until_complete(self.engine.authorize_async(call))

    def code(self, call=CALL) -> str:
        return str(self(call).reasons[0].code)

    def until(self, code: str) -> None:
        """Ask until it is well again."""
        deadline = time.monotonic() + PATIENCE
        while self.code() != code:
            assert time.monotonic() < deadline

    def close(self) -> None:
        if self.loop is None:
            self.store.close()
        else:
            self.loop.run_until_complete(self.store.aclose())
            self.loop.close()


@pytest.fixture(scope="module", params=KINDS)
def shared(request):
    with server(request.param) as running:
        yield running


@pytest.fixture
def running(shared):
    """A server that works and is empty, also after a test has ended it."""
    shared.resume()
    if shared.process.poll() is not None:
        shared.start()
    with redis.Redis.from_url(shared.url) as client:
        client.config_set("maxmemory", 0)
        client.flushall()
    return shared


@pytest.fixture(params=["synchronous", "asynchronous"])
def asked(request, running):
    made = Asked(request.param, running.url)
    yield made
    running.resume()
    made.close()


def raw(running) -> redis.Redis:
    return redis.Redis.from_url(running.url, socket_timeout=5)


def test_a_server_that_is_down_and_comes_back(asked, running):
    assert asked.code() == "allowed"
    running.kill()
    decision = asked()
    assert (str(decision.effect), str(decision.reasons[0].code)) == ("limit", "state_unavailable")
    assert decision.retry_after is None
    assert asked.code(ToolCall("free")) == "allowed"
    running.start()
    asked.until("allowed")


def test_what_may_run_without_its_limit_runs_and_shows_it(asked, running):
    running.kill()
    decision = asked(ToolCall("optional"))
    assert decision.allowed
    assert [status.available for status in decision.limits] == [False]


def test_a_server_that_is_killed_in_the_middle_of_load(running):
    store = RedisLimitStore.from_url(running.url)
    engine = PolicyEngine(
        Policy.model_validate({"version": "1", "tools": {"search": {"rate_limit": "1000000/hour"}}}), limits=store
    )
    codes: list[str] = []
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            codes.append(str(engine.authorize(CALL).reasons[0].code))

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_for(lambda: codes.count("allowed") > 100)
    running.kill()
    wait_for(lambda: codes.count("state_unavailable") > 20)
    running.start()
    before = codes.count("allowed")
    wait_for(lambda: codes.count("allowed") > before + 100)
    stop.set()
    for thread in threads:
        thread.join(PATIENCE)
    store.close()
    assert set(codes) == {"allowed", "state_unavailable"}


def wait_for(true) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_frozen_server_denies_within_the_timeout_and_what_it_did_then_is_undone(asked, running):
    assert asked.code() == "allowed"
    running.pause()
    for _ in range(3):
        started = time.monotonic()
        assert asked.code() == "state_unavailable"
        assert time.monotonic() - started < 5
    running.resume()
    asked.until("allowed")
    assert asked.code() == "allowed"
    assert asked.code() == "rate_limited"


def test_what_may_run_without_its_limit_keeps_the_cost_of_a_frozen_server(asked, running):
    call = ToolCall("optional")
    assert asked(call).allowed
    running.pause()
    assert asked(call).allowed
    running.resume()
    wait_for(lambda: asked(call).limits[0].available)
    wait_for(lambda: not asked(call).allowed)


def test_scripts_that_are_forgotten_are_sent_again(asked, running):
    assert asked.code() == "allowed"
    with raw(running) as client:
        client.script_flush()
    assert [asked.code() for _ in range(3)] == ["allowed", "allowed", "rate_limited"]


def test_a_server_that_loses_its_data_begins_anew(asked, running):
    for _ in range(3):
        asked()
    assert asked.code() == "rate_limited"
    with raw(running) as client:
        client.flushall()
    assert asked.code() == "allowed"


def test_a_full_server_denies_and_recovers(asked, running):
    assert asked.code() == "allowed"
    with raw(running) as client:
        client.config_set("maxmemory", 1)
        assert asked.code() == "state_unavailable"
        client.config_set("maxmemory", 0)
    assert [asked.code() for _ in range(3)] == ["allowed", "allowed", "rate_limited"]


def test_a_server_that_only_reads_denies(asked, running):
    assert asked.code() == "allowed"
    with raw(running) as client:
        client.replicaof("127.0.0.1", "1")
        assert asked.code() == "state_unavailable"
        client.replicaof("NO", "ONE")
    asked.until("allowed")


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_still_loads_its_data_denies_and_then_goes_on_counting(kind):
    slowly = ("--enable-debug-command", "local", "--loading-process-events-interval-bytes", "1024")
    with server(kind, *slowly) as running, raw(running) as client:
        asked = Asked("synchronous", running.url)
        assert asked.code() == "allowed"
        client.mset({f"much {number}": b"" for number in range(20_000)})
        client.config_set("key-load-delay", 200)
        reloading = threading.Thread(target=reload, args=[running])
        reloading.start()
        wait_for(lambda: is_loading(client))
        assert asked.code() == "state_unavailable"
        client.config_set("key-load-delay", 0)
        reloading.join(PATIENCE)
        asked.until("allowed")
        assert [asked.code() for _ in range(2)] == ["allowed", "rate_limited"]
        asked.close()


def reload(running) -> None:
    """Have a server write its data down and read it again, as it does when it starts."""
    with redis.Redis.from_url(running.url, socket_timeout=PATIENCE) as client:
        client.execute_command("DEBUG RELOAD")


def is_loading(client) -> bool:
    try:
        client.ping()
    except redis.BusyLoadingError:
        return True
    return False


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda client, key: client.set(key, b"x"), id="another length"),
        pytest.param(lambda client, key: (client.delete(key), client.lpush(key, "x")), id="another type"),
    ],
)
@pytest.mark.parametrize("part", ["log", "keys", "time"])
def test_a_damaged_key_denies(asked, running, spoil, part):
    asked()
    with raw(running) as client:
        (key,) = client.keys(f"*:{part}*") if part == "time" else client.keys(f"*:{part}:*")
        spoil(client, key)
        if part == "keys":
            for log in client.keys("*:log:*"):
                client.delete(log)
    assert asked.code() == "state_unavailable"


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.mark.parametrize("kind", ["synchronous", "asynchronous"])
def test_ten_thousand_failures_leak_nothing(kind, monkeypatch):
    monkeypatch.setattr(logging.getLogger("mcp_policy"), "disabled", True)  # pytest keeps what is logged
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    asked = Asked(kind, f"redis://127.0.0.1:{port}/0")
    fds, threads = open_files(), threading.active_count()
    try:
        for _ in range(500):
            asked()
        gc.collect()
        tracemalloc.start()
        for _ in range(9_500):
            assert not asked().allowed
        gc.collect()
        grown, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert grown < 500_000
        assert open_files() <= fds + 2
        assert threading.active_count() == threads
    finally:
        asked.close()


def test_a_call_that_is_cancelled_while_it_waits_is_undone(running):
    async def talk() -> list[str]:
        store = AsyncRedisLimitStore.from_url(running.url, timeout=5)
        engine = PolicyEngine(POLICY, limits=store)
        await engine.authorize_async(CALL)
        running.pause()
        task = asyncio.create_task(engine.authorize_async(CALL))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        del task
        gc.collect()
        running.resume()
        codes = [str((await engine.authorize_async(CALL)).reasons[0].code) for _ in range(3)]
        await store.aclose()
        return codes

    assert asyncio.run(talk()) == ["allowed", "allowed", "rate_limited"]


def test_more_calls_at_once_than_connections(running):
    async def talk() -> list[str]:
        store = AsyncRedisLimitStore.from_url(running.url, timeout=5)
        engine = PolicyEngine(POLICY, limits=store)
        decisions = await asyncio.gather(*(engine.authorize_async(CALL) for _ in range(200)))
        await store.aclose()
        return [str(decision.reasons[0].code) for decision in decisions]

    codes = asyncio.run(talk())
    assert codes.count("allowed") == 3
    assert codes.count("rate_limited") == 197
