"""The store in memory: the contract, and what is its own."""

from __future__ import annotations

import gc
import itertools
import math
import tracemalloc

import pytest

from mcp_policy.limits import CounterSpec, LimitStore, MemoryLimitStore

from .contract import ONE, Clock, LimitStoreContract, spec


class TestMemoryLimitStore(LimitStoreContract):
    def make(self, clock: Clock, capacity: int = 1_000) -> LimitStore:
        return MemoryLimitStore(clock, capacity)
