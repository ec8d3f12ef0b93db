"""Policies for MCP tool calls: one document decides which run, which never do, how often, which wait for a person."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .call import Principal, ToolCall
    from .decision import Decision, Effect, Reason, ReasonCode
    from .engine import PolicyEngine
    from .errors import PolicyError
    from .guard import Guard, PolicyDenied
    from .policy import Policy

__all__ = [
    "Decision",
    "Effect",
    "Guard",
    "Policy",
    "PolicyDenied",
    "PolicyEngine",
    "PolicyError",
    "Principal",
    "Reason",
    "ReasonCode",
    "ToolCall",
]

_HOMES: Final = {
    "Decision": "decision",
    "Effect": "decision",
    "Guard": "guard",
    "Policy": "policy",
    "PolicyDenied": "guard",
    "PolicyEngine": "engine",
    "PolicyError": "errors",
    "Principal": "call",
    "Reason": "decision",
    "ReasonCode": "decision",
    "ToolCall": "call",
}


def __getattr__(name: str) -> Any:
    # A name is imported when it is asked for: the pytest plugin and the commands live in this package, and a run that
    # uses no policy must not pay for one.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
