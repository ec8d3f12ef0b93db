"""The store in memory: the contract, and what is its own."""

from __future__ import annotations

import math

import pytest

from mcp_policy.approvals import ApprovalError, ApprovalStore, MemoryApprovalStore
from mcp_policy.approvals import memory as memory_module

from .contract import ApprovalMachine, ApprovalStoreContract, Clock, request


class TestMemoryApprovalStore(ApprovalStoreContract):
    def make(self, clock: Clock, max_pending: int = 100, capacity: int = 1_000) -> ApprovalStore:
        return MemoryApprovalStore(clock, max_pending, capacity)


class MemoryMachine(ApprovalMachine):
    make = staticmethod(MemoryApprovalStore)


TestMemoryMachine = MemoryMachine.TestCase


def test_takes_the_monotonic_clock_and_a_hundred_pending_by_default():
    store = MemoryApprovalStore()
    for number in range(100):
        assert store.ask(request(f"{number}"))[0] is not None
    assert store.ask(request("more")) == (None, False)


@pytest.mark.parametrize("answer", [math.nan, math.inf, -math.inf, None, "5"])
def test_a_clock_without_an_answer_raises_and_changes_nothing(answer):
    clock = Clock(5.0)
    store = MemoryApprovalStore(clock)
    record = store.decide(store.ask(request())[0].id, True, "ann")
    clock.now = answer
    for ask in (
        lambda: store.ask(request()),
        lambda: store.find("d"),
        lambda: store.consume("d"),
        lambda: store.decide(record.id, True, "ann"),
        lambda: store.get(record.id),
        store.pending,
    ):
        with pytest.raises((ValueError, TypeError)):
            ask()
    clock.now = 6.0
    assert store.consume("d") == record


def test_what_expired_is_forgotten_at_last(monkeypatch):
    monkeypatch.setattr(memory_module, "_REMEMBERED", 2)
    clock = Clock()
    store = MemoryApprovalStore(clock)
    records = [store.ask(request(f"{number}", ttl=10.0 + number))[0] for number in range(3)]
    clock.now = 30.0
    assert [store.ask(request(f"{number}"))[1] for number in (1, 2)] == [True, True]
    assert store.ask(request("0"))[1] is False
    with pytest.raises(ApprovalError, match=f"unknown approval `{records[0].id}`"):
        store.decide(records[0].id, True, "ann")


def test_what_expires_first_goes_first_however_many_were_used():
    clock = Clock()
    store = MemoryApprovalStore(clock)
    for number in range(10):
        store.decide(store.ask(request(f"{number}", ttl=1_000.0 - number))[0].id, True, "ann")
    for _ in range(200):
        store.decide(store.ask(request(ttl=2_000.0))[0].id, True, "ann")
        store.consume("d")
    for number in reversed(range(10)):
        clock.now = 1_000.0 - number
        assert store.consume(f"{number}") is None


def test_asking_and_using_without_end_takes_bounded_memory():
    clock = Clock()
    store = MemoryApprovalStore(clock)
    for _number in range(2_000):
        record, _ = store.ask(request(ttl=1e6))
        store.decide(record.id, True, "ann")
        assert store.consume("d") is not None
        assert len(store._expiries) <= 66
    assert not store._records
    assert not store._digests
    assert not store._owners
    assert not store._pending
