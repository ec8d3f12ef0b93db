"""Policies for MCP tool calls: one document decides which run, which never do, how often, which wait for a person."""

from __future__ import annotations

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
