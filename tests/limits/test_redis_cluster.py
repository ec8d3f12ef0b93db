"""A real Cluster of three servers: where keys lie, and that calls are all or nothing there too."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.cluster import key_slot
from redis.retry import Retry

from mcp_policy import Policy, PolicyEngine, ToolCall
from mcp_policy.approvals.redis import AsyncRedisApprovalStore, RedisApprovalStore
from mcp_policy.limits.redis import AsyncRedisLimitStore, RedisLimitStore
from redis_servers import KINDS, Server, server

from .contract import ONE, spec

SLOTS = 16_384
POLICY = Policy.model_validate(
    {
        "version": "1",
        "tools": {
            "search": {
                "limits": [
                    {"max": 5, "window": 60, "per": "session"},
                    {"max": 7, "window": 60, "per": "global"},
                ]
            },
            "pay": {"action": "approve"},
        },
    }
)


@pytest.fixture(scope="module", params=KINDS)
def nodes(request) -> Iterator[list[Server]]:
    """Three servers that know each other and share the slots."""
    with ExitStack() as stack:
        made = [stack.enter_context(server(request.param, "--cluster-enabled", "yes")) for _ in range(3)]
        clients = [stack.enter_context(redis.Redis(port=node.port, socket_timeout=5)) for node in made]
        for place, client in enumerate(clients):
            first, last = place * SLOTS // 3, (place + 1) * SLOTS // 3 - 1
            client.execute_command("CLUSTER ADDSLOTSRANGE", first, last)
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", place + 1)
            client.execute_command("CLUSTER MEET", "127.0.0.1", made[0].port)
        deadline = time.monotonic() + 30
        while not all(is_whole(client) for client in clients):
            assert time.monotonic() < deadline, "the servers do not find each other"
            time.sleep(0.05)
        yield made


def is_whole(client: redis.Redis) -> bool:
    info = client.execute_command("CLUSTER INFO")
    return info["cluster_state"] == "ok" and info["cluster_known_nodes"] == "3"


@pytest.fixture
def cluster(nodes):
    with redis.RedisCluster(host="127.0.0.1", port=nodes[0].port, socket_timeout=5) as made:
        made.flushall(target_nodes="primaries")
        yield made


def slots_of(cluster) -> set[int]:
    return {key_slot(key) for key in cluster.scan_iter(target_nodes="primaries")}


def test_all_keys_of_limits_lie_in_one_slot(cluster):
    store = RedisLimitStore(cluster)
    engine = PolicyEngine(POLICY, limits=store)
    codes = [str(engine.authorize(ToolCall("search", session=f"s{number % 2}")).effect) for number in range(9)]
    assert codes == ["allow"] * 7 + ["limit"] * 2
    assert len(slots_of(cluster)) == 1


def test_shards_spread_the_keys_over_the_servers(cluster):
    store = RedisLimitStore(cluster, shards=64)
    for number in range(60):
        assert store.acquire([(spec("a"), f"s{number}", ONE), (spec("b"), f"s{number}", ONE)]).taken
    slots = slots_of(cluster)
    assert len(slots) > 30
    assert {slot * 3 // SLOTS for slot in slots} == {0, 1, 2}


def test_limits_of_several_slots_are_all_or_nothing(cluster):
    store = RedisLimitStore(cluster, shards=64)
    engine = PolicyEngine(POLICY, limits=store)
    for number in range(7):
        assert engine.authorize(ToolCall("search", session=f"s{number}")).allowed
    refused = engine.authorize(ToolCall("search", session="new"))
    assert str(refused.effect) == "limit"
    assert [status.remaining for status in refused.limits] == [5, 0]
    store.refund(store.acquire([(spec("x"), "one", ONE), (spec("y"), "other", ONE)]), [0, 1])
    peeked = store.peek([(spec("x"), "one", ONE), (spec("y"), "other", ONE)])
    assert [reply.used for reply in peeked.replies] == [0, 0]


def test_a_frozen_server_denies_what_it_counts_and_nothing_else(nodes, cluster):
    once = Retry(NoBackoff(), 0)
    with redis.RedisCluster(host="127.0.0.1", port=nodes[0].port, socket_timeout=1, retry=once) as made:
        store = RedisLimitStore(made, shards=64)
        keys = {key_slot(store._limits._place("c", f"s{number}")[0].encode()): f"s{number}" for number in range(99)}
        home = {keys[slot]: slot * 3 // SLOTS for slot in keys}
        mine, others = ([key for key in home if (home[key] == 2) == frozen][:2] for frozen in (True, False))
        asked = {key: [(spec(maximum=5), key, ONE)] for key in (*mine, *others)}
        assert all(store.acquire(asked[key]).taken for key in asked)
        nodes[2].pause()
        try:
            for key in mine:
                with pytest.raises(redis.TimeoutError):
                    store.acquire(asked[key])
            assert all(store.acquire(asked[key]).taken for key in others)
        finally:
            nodes[2].resume()
        assert {store.acquire(asked[key]).replies[0].used for key in mine} == {2 * ONE}
        assert {store.acquire(asked[key]).replies[0].used for key in others} == {3 * ONE}


def test_approvals_lie_in_one_slot(cluster):
    engine = PolicyEngine(POLICY, limits=RedisLimitStore(cluster), approvals=RedisApprovalStore(cluster))
    call = ToolCall("pay", {"amount": 1}, session="s")
    engine.approve(engine.authorize(call).approval.id, by="ann")
    assert engine.pending() == []
    assert [engine.authorize(call).allowed for _ in range(2)] == [True, False]
    assert len(slots_of(cluster)) == 1


def test_asynchronous_stores_on_a_cluster(nodes, cluster):
    async def talk() -> list[str]:
        made = redis.asyncio.RedisCluster(host="127.0.0.1", port=nodes[0].port, socket_timeout=5)
        async with made:
            limits, approvals = AsyncRedisLimitStore(made, shards=8), AsyncRedisApprovalStore(made)
            engine = PolicyEngine(POLICY, limits=limits, approvals=approvals)
            call = ToolCall("pay", {"amount": 1}, session="s")
            await engine.approve_async((await engine.authorize_async(call)).approval.id, by="ann")
            calls = [call, *[ToolCall("search", session="s")] * 6]
            return [str((await engine.authorize_async(one)).effect) for one in calls]

    assert asyncio.run(talk()) == ["allow", *["allow"] * 5, "limit"]
