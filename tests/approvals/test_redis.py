"""The stores of approvals on real Redis and Valkey servers: the contract, and what is their own."""

from __future__ import annotations

import asyncio
import itertools
from threading import Thread

import pytest
import redis
from hypothesis import settings

from mcp_policy import Policy, PolicyEngine, ToolCall
from mcp_policy.approvals import ApprovalStore
from mcp_policy.approvals.redis import AsyncRedisApprovalStore, RedisApprovalStore
from mcp_policy.redis_scripts import async_client, client
from redis_servers import KINDS, redis_url, server  # noqa: F401  # a fixture

from .contract import ApprovalMachine, ApprovalStoreContract, Clock, request

numbers = itertools.count()


@pytest.fixture(scope="module")
def given(redis_url):  # noqa: F811
    """A client of each kind of server."""
    with client(redis_url, timeout=5) as made:
        yield made


def prefix() -> str:
    return f"test-{next(numbers)}"


class TestRedisApprovalStore(ApprovalStoreContract):
    @pytest.fixture(autouse=True)
    def _server(self, given):
        self.given = given

    def make(self, clock: Clock, max_pending: int = 100, capacity: int = 1_000) -> ApprovalStore:
        return RedisApprovalStore(self.given, prefix=prefix(), max_pending=max_pending, capacity=capacity, clock=clock)


class Awaited:
    """An asynchronous store, asked by threads."""

    def __init__(self, store: AsyncRedisApprovalStore, loop: asyncio.AbstractEventLoop) -> None:
        self.store, self.loop = store, loop

    def __getattr__(self, name):
        def ask(*arguments, **more):
            asked = getattr(self.store, name)(*arguments, **more)
            return asyncio.run_coroutine_threadsafe(asked, self.loop).result(60)

        return ask


@pytest.fixture(scope="module")
def awaited(redis_url):  # noqa: F811
    """An asynchronous client, and the loop that it lives in."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever)
    thread.start()
    made = async_client(redis_url, timeout=5)
    yield made, loop
    asyncio.run_coroutine_threadsafe(made.aclose(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


class TestAsyncRedisApprovalStore(ApprovalStoreContract):
    @pytest.fixture(autouse=True)
    def _server(self, awaited):
        self.awaited = awaited

    def make(self, clock: Clock, max_pending: int = 100, capacity: int = 1_000) -> ApprovalStore:
        made, loop = self.awaited
        store = AsyncRedisApprovalStore(made, prefix=prefix(), max_pending=max_pending, capacity=capacity, clock=clock)
        return Awaited(store, loop)


@pytest.mark.parametrize("kind", KINDS)
def test_any_sequence_agrees_with_a_table(kind):
    from hypothesis.stateful import run_state_machine_as_test

    with server(kind) as running, client(running.url, timeout=5) as made:

        class Machine(ApprovalMachine):
            @staticmethod
            def make(clock: Clock, max_pending: int, capacity: int) -> ApprovalStore:
                return RedisApprovalStore(
                    made, prefix=prefix(), max_pending=max_pending, capacity=capacity, clock=clock
                )

        run_state_machine_as_test(Machine, settings=settings(max_examples=30, stateful_step_count=30, deadline=None))


# -- keys


def test_every_key_expires_and_lies_in_one_hash_slot(given):
    store = RedisApprovalStore(given, prefix=prefix())
    for number in range(3):
        record, _ = store.ask(request(f"{number}", ttl=60.0))
        store.decide(record.id, True, "ann")
    store.consume("0")
    store.ask(request("waits", ttl=60.0))
    keys = list(given.scan_iter(match=f"*{store._approvals._tag}*"))
    names = {key.decode().removeprefix(store._approvals._tag).split(":")[1] for key in keys}
    assert names == {"id", "live", "owner", "record", "sequence", "time", "waiting"}
    assert all(0 < given.ttl(key) <= 86_400 for key in keys)
    assert all(key.startswith(store._approvals._tag.encode()) for key in keys)


def test_the_servers_time_counts(given):
    store = RedisApprovalStore(given, prefix=prefix())
    seconds, micros = given.time()
    record, _ = store.ask(request(ttl=60.0))
    assert 0 <= record.created_at - (seconds + micros / 1e6) < 5
    assert record.expires_at == record.created_at + 60


# -- what is not as it should be


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda old, text: {"text": b"{}"}, id="no record"),
        pytest.param(lambda old, text: {"text": b"\xff"}, id="no text"),
        pytest.param(lambda old, text: {"text": text.replace(b'"digest":"d"', b'"digest":"e"')}, id="another call"),
        pytest.param(lambda old, text: {"text": text.replace(b"pending", b"approved")}, id="another status"),
        pytest.param(lambda old, text: {"status": b"A"}, id="another letter"),
        pytest.param(lambda old, text: {"id": b"x"}, id="another id"),
        pytest.param(lambda old, text: {"expires": b"9e9"}, id="a longer life"),
        pytest.param(lambda old, text: {"expires": b"soon"}, id="no time"),
    ],
)
def test_a_damaged_record_approves_nothing(given, change):
    store = RedisApprovalStore(given, prefix=prefix())
    engine = PolicyEngine(
        Policy.model_validate({"version": "1", "tools": {"pay": {"action": "approve"}}}), approvals=store
    )
    store.ask(request("d"))
    call = ToolCall("pay", {"amount": 1})
    waiting = engine.authorize(call).approval
    for digest in ("d", waiting.digest):
        key = f"{store._approvals._tag}:record:{digest}"
        text = given.hget(key, "text")
        given.hset(key, mapping=change(given.hgetall(key), text))
    decision = engine.authorize(call)
    assert not decision.allowed
    with pytest.raises((ValueError, redis.RedisError)):
        store.find("d")


def test_a_client_that_decodes_replies_is_refused(given):
    with pytest.raises(ValueError, match="without `decode_responses`"):
        RedisApprovalStore(redis.Redis(decode_responses=True))
