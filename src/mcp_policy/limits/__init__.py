"""Sliding-window limits: the words, the store protocol, and the store in memory."""

from __future__ import annotations

from .memory import MemoryLimitStore
from .spec import (
    DIMENSIONS,
    MAXIMUM,
    from_micro,
    normal_per,
    parse_shorthand,
    parse_window,
    to_micro_down,
    to_micro_up,
)
from .store import AsyncLimitStore, CounterSpec, Key, LimitStore, Receipt, Reply, Request, render

__all__ = [
    "DIMENSIONS",
    "MAXIMUM",
    "AsyncLimitStore",
    "CounterSpec",
    "Key",
    "LimitStore",
    "MemoryLimitStore",
    "Receipt",
    "Reply",
    "Request",
    "from_micro",
    "normal_per",
    "parse_shorthand",
    "parse_window",
    "render",
    "to_micro_down",
    "to_micro_up",
]
