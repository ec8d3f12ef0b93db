"""The stores on real Redis and Valkey servers: the contract, and what is their own."""

from __future__ import annotations

import asyncio
import itertools
import os
import random

import pytest
import redis
from hypothesis import given, settings

from mcp_policy.limits import LimitStore
from mcp_policy.limits.redis import AsyncRedisLimitStore, RedisLimitStore
from mcp_policy.redis_scripts import async_client, client
from redis_servers import redis_url  # noqa: F401  # a fixture

from .contract import CROWDS, ONE, Clock, LimitStoreContract, Model, spec

STEPS = int(os.environ.get("MCP_POLICY_STEPS", "3000"))

numbers = itertools.count()


@pytest.fixture(scope="module")
def made(redis_url):  # noqa: F811
    """A client of each kind of server."""
    with client(redis_url, timeout=5) as opened:
        yield opened


def prefix() -> str:
    return f"test-{next(numbers)}"


class TestRedisLimitStore(LimitStoreContract):
    exact, resolution = 50, 100

    @pytest.fixture(autouse=True)
    def _server(self, made):
        self.given = made

    def make(self, clock: Clock, capacity: int = 1_000) -> LimitStore:
        return RedisLimitStore(self.given, prefix=prefix(), capacity=capacity, clock=clock)

    @settings(max_examples=20)  # each is a thousand round trips and more
    @given(*CROWDS)
    def test_crowded_keys_never_admit_too_much_and_come_back_in_time(self, window, bursts, maximum):
        self.crowd(window, bursts, maximum)


class Awaited:
    """An asynchronous store, asked by threads."""

    def __init__(self, store: AsyncRedisLimitStore, loop: asyncio.AbstractEventLoop) -> None:
        self.store, self.loop = store, loop

    def _ask(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(60)

    def acquire(self, requests):
        return self._ask(self.store.acquire(requests))

    def peek(self, requests):
        return self._ask(self.store.peek(requests))

    def refund(self, receipt, which):
        return self._ask(self.store.refund(receipt, which))


class TestAsyncRedisLimitStore(LimitStoreContract):
    exact, resolution = 50, 100
    test_crowded_keys_never_admit_too_much_and_come_back_in_time = None  # the scripts are those of the other store

    @pytest.fixture(autouse=True)
    def _server(self, awaited):
        self.awaited = awaited

    def make(self, clock: Clock, capacity: int = 1_000) -> LimitStore:
        made, loop = self.awaited
        return Awaited(AsyncRedisLimitStore(made, prefix=prefix(), capacity=capacity, clock=clock), loop)


@pytest.fixture(scope="module")
def awaited(redis_url):  # noqa: F811
    """An asynchronous client, and the loop that it lives in."""
    from threading import Thread

    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever)
    thread.start()
    made = async_client(redis_url, timeout=5)
    yield made, loop
    asyncio.run_coroutine_threadsafe(made.aclose(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


# -- what is the server's


def limit(maximum=3, window=60.0, counter="c"):
    return spec(counter, maximum, window)


def keys_of(made, store) -> list[bytes]:
    return list(made.scan_iter(match=f"{{{store._limits._prefix}:limits*"))


def test_the_servers_time_counts_and_every_key_expires(made):
    store = RedisLimitStore(made, prefix=prefix())
    seconds, micros = made.time()
    receipt = store.acquire([(limit(), "k", ONE), (limit(counter="d", window=600.0), "l", ONE)])
    assert 0 <= receipt.at - (seconds + micros / 1e6) < 5
    names = {key.decode().partition("}:")[2].partition(":")[0]: made.pttl(key) for key in keys_of(made, store)}
    assert names.keys() == {"time", "once", "log", "keys"}
    assert all(0 < left <= (86_400 + 600) * 1000 for left in names.values())
    assert 0 < made.pttl(f'{{{store._limits._prefix}:limits}}:log:["c","k"]') <= 60_001


def test_a_full_log_takes_less_than_three_kibibytes(made):
    clock = Clock()
    store = RedisLimitStore(made, prefix=prefix(), clock=clock)
    for number in range(400):
        clock.now = number / 8
        assert store.acquire([(limit(1_000), "k" * 40, ONE)]).taken
    most = max(made.memory_usage(key) for key in keys_of(made, store) if b":log:" in key)
    assert 2_000 < most <= 3 * 1024


def test_a_request_that_comes_twice_takes_once(made):
    store = RedisLimitStore(made, prefix=prefix(), clock=Clock(5.0))
    steps = store._limits.acquire([(limit(1), "k", ONE)])
    run = next(steps)
    first, second = (made.eval(run.script.text, len(run.keys), *run.keys, *run.arguments) for _ in range(2))
    assert first == second
    with pytest.raises(StopIteration) as stop:
        steps.send(second)
    assert stop.value.value.taken
    assert store.peek([(limit(1), "k", ONE)]).replies[0].used == ONE


class Lossy:
    """A client whose connection is lost on the way back, or there."""

    def __init__(self, client, *, arrives: bool) -> None:
        self.client, self.arrives, self.lost = client, arrives, []
        self.losing = True

    def get_encoder(self):
        return self.client.get_encoder()

    def evalsha(self, *arguments):
        return self.client.evalsha(*arguments)

    def eval(self, *arguments):
        if self.losing:
            self.losing = False
            self.lost.append(arguments)
            if self.arrives:
                self.client.eval(*arguments)
            raise redis.TimeoutError("no answer")
        return self.client.eval(*arguments)


@pytest.mark.parametrize("arrives", [True, False])
def test_a_request_without_an_answer_is_undone_whether_it_came_through_or_not(made, arrives):
    made.script_flush()
    lossy = Lossy(made, arrives=arrives)
    store = RedisLimitStore(lossy, prefix=prefix(), clock=Clock(5.0))
    with pytest.raises(redis.TimeoutError):
        store.acquire([(limit(1), "k", ONE)])
    assert store.acquire([(limit(1), "k", ONE)]).taken
    made.eval(*lossy.lost[0])  # it comes late, or once more
    assert store.peek([(limit(1), "k", ONE)]).replies[0].used == ONE


def test_a_request_of_a_call_that_ran_all_the_same_keeps_its_cost(made):
    made.script_flush()
    store = RedisLimitStore(Lossy(made, arrives=True), prefix=prefix(), clock=Clock(5.0))
    optional = limit()._replace(optional=True)
    with pytest.raises(redis.TimeoutError):
        store.acquire([(optional, "k", ONE)])
    assert store.peek([(optional, "k", ONE)]).replies[0].used == ONE
    assert store.acquire([(optional, "k", ONE)]).replies[0].used == 2 * ONE


def test_a_refund_from_before_the_data_was_lost_frees_nothing(made):
    clock = Clock(5.0)
    store = RedisLimitStore(made, prefix=prefix(), clock=clock)
    before = store.acquire([(limit(1), "k", ONE)])
    made.delete(*keys_of(made, store))
    clock.now = 6.0
    assert store.acquire([(limit(1), "k", ONE)]).taken
    store.refund(before, [0])
    assert not store.acquire([(limit(1), "k", ONE)]).taken


def test_names_of_keys_are_bounded_and_their_own(made):
    store = RedisLimitStore(made, prefix=prefix())
    for key in ("x" * 10_000, "x" * 10_001, "\ud800", "{a}"):
        assert store.acquire([(limit(1), key, ONE)]).taken
        assert not store.acquire([(limit(1), key, ONE)]).taken
    assert max(map(len, keys_of(made, store))) < 300


@pytest.mark.parametrize(
    "reply",
    [
        None,
        1,
        [],
        b"",
        b"\x01",
        b"\x02" + bytes(8),
        b"\x01" + bytes(8),
        b"\x00" + bytes(8),
        b"\x00" + bytes(8) + b"\x01\xff\xff\xff\xff",
    ],
    ids=["nil", "number", "list", "nothing", "cut", "other", "no limits", "no logs", "a cut log"],
)
def test_a_reply_that_is_none_raises(made, reply):
    class Odd(Lossy):
        def evalsha(self, *arguments):
            return reply

    store = RedisLimitStore(Odd(made, arrives=True))
    for ask in (store.acquire, store.peek):
        with pytest.raises(ValueError, match="the server answered"):
            ask([(limit(), "k", ONE)])


def test_a_client_that_decodes_replies_is_refused():
    with pytest.raises(ValueError, match="without `decode_responses`"):
        RedisLimitStore(redis.Redis(decode_responses=True))


@pytest.mark.parametrize("odd", [{"capacity": 0}, {"shards": 0}], ids=["capacity", "shards"])
def test_what_cannot_be(made, odd):
    with pytest.raises(ValueError, match="must be at least 1"):
        RedisLimitStore(made, **odd)


@pytest.mark.parametrize("timeout", [0, -1, 3_600, float("nan")])
def test_a_timeout_is_a_time(timeout):
    with pytest.raises(ValueError, match="`timeout`"):
        RedisLimitStore.from_url("redis://localhost", timeout=timeout)


def test_a_long_walk_agrees_with_a_list_of_every_cost(made):
    """Few keys, many steps: nothing drifts."""
    chance = random.Random(7)
    clock, model = Clock(1_000.0), Model()
    store = RedisLimitStore(made, prefix=prefix(), clock=clock)
    limits = [spec("a", 5, 10.0), spec("b", 3, 2.5)]
    taken = []
    for _ in range(STEPS):
        clock.now += chance.choice([0.0, 0.25, 0.5, 1.0, 4.0, -1.0])
        model.tell(clock.now)
        requests = [
            (one, chance.choice("xy"), chance.randint(0, 3) * ONE)
            for one in chance.sample(limits, chance.randint(1, 2))
        ]
        receipt = store.acquire(requests)
        assert receipt.taken == all(model.fits(*request) for request in requests)
        if receipt.taken:
            for request in requests:
                model.take(*request)
            taken.append(receipt)
        if taken and not chance.randrange(4):
            back = taken.pop(chance.randrange(max(0, len(taken) - 6), len(taken)))
            which = chance.sample(range(len(back.requests)), chance.randint(1, len(back.requests)))
            store.refund(back, which)
            for place in which:
                model.refund(back.at, *back.requests[place])
        for one, key, _ in requests:
            assert store.peek([(one, key, 0)]).replies[0].used == model.used(one.counter, key, one.window)


# -- several hash slots


def test_who_is_counted_says_where(made):
    store = RedisLimitStore(made, prefix=prefix(), shards=64, clock=Clock(5.0))
    for number in range(40):
        store.acquire([(limit(counter="a"), f"s{number}", ONE), (limit(counter="b"), f"s{number}", ONE)])
    tags = {key.partition(b"}")[0] for key in keys_of(made, store)}
    assert len(tags) > 20
    for number in range(40):
        asked = ((limit(counter="a"), f"s{number}", ONE), (limit(counter="b"), f"s{number}", ONE))
        assert len(store._limits._groups(asked)) == 1


def test_all_or_nothing_over_several_slots(made):
    clock = Clock(5.0)
    store = RedisLimitStore(made, prefix=prefix(), shards=64, clock=clock)
    both = [(limit(5, counter="a"), "one", ONE), (limit(1, counter="b"), "other", ONE)]
    assert len(store._limits._groups(tuple(both))) == 2
    first = store.acquire(both)
    assert first.taken
    clock.now = 6.0
    refused = store.acquire(both)
    assert not refused.taken
    assert [reply.used for reply in refused.replies] == [ONE, ONE]
    assert [reply.retry_after for reply in refused.replies] == [0.0, 59.0]
    store.refund(first, [0, 1])
    assert [reply.used for reply in store.peek(both).replies] == [0, 0]


def test_a_slot_that_fails_gives_back_what_the_others_took(made):
    store = RedisLimitStore(made, prefix=prefix(), shards=64, clock=Clock(5.0))
    both = [(limit(5, counter="a"), "one", ONE), (limit(5, counter="b"), "other", ONE)]
    group = store._limits._groups(tuple(both))[1]
    made.set(group.keys[0], b"damaged")
    with pytest.raises(redis.ResponseError):
        store.acquire(both)
    assert store.peek(both[:1]).replies[0].used == 0


def answer(made, run):
    return made.eval(run.script.text, len(run.keys), *run.keys, *run.arguments)


def of_two_slots(made, *, optional: tuple[bool, bool]):
    """A store, and two limits that lie apart; a call may be made once of the second."""
    store = RedisLimitStore(made, prefix=prefix(), shards=64, clock=Clock(5.0))
    first = limit(5, counter="a")._replace(optional=optional[0])
    second = limit(1, counter="b")._replace(optional=optional[1])
    return store, [(first, "one", ONE), (second, "other", ONE)]


def meet(store) -> None:
    """Be in contact with both slots."""
    store.acquire([(limit(counter="c"), "one", ONE), (limit(counter="c"), "other", ONE)])


@pytest.mark.parametrize("optional", [(False, False), (False, True), (True, False)])
def test_a_call_that_one_slot_leaves_unanswered_costs_nothing(made, optional):
    store, both = of_two_slots(made, optional=optional)
    steps = store._limits.acquire(both)
    second = steps.send(answer(made, next(steps)))
    answer(made, second)
    undo = steps.throw(redis.TimeoutError("no answer"))
    with pytest.raises(redis.TimeoutError):
        steps.send(answer(made, undo))
    meet(store)
    assert [reply.used for reply in store.peek(both).replies] == [0, 0]


@pytest.mark.parametrize("optional", [(False, False), (True, True)])
def test_a_call_that_is_cancelled_between_two_slots_costs_nothing(made, optional):
    store, both = of_two_slots(made, optional=optional)
    steps = store._limits.acquire(both)
    answer(made, steps.send(answer(made, next(steps))))
    steps.close()
    meet(store)
    assert [reply.used for reply in store.peek(both).replies] == [0, 0]


@pytest.mark.parametrize("order", [1, -1], ids=["first", "last"])
def test_a_slot_that_fails_does_not_hide_that_another_refuses(made, order):
    store, both = of_two_slots(made, optional=(True, True))
    assert store.acquire(both[1:]).taken
    made.set(store._limits._groups(tuple(both))[0].time, b"damaged")
    refused = store.acquire(both[::order])
    assert not refused.taken
    failing, used_up = refused.replies[::order]
    assert (failing.available, used_up.available, used_up.retry_after) == (False, True, 60.0)
    with pytest.raises(redis.ResponseError):
        store.acquire([both[0], (limit(5, counter="d")._replace(optional=True), "other", ONE)])
