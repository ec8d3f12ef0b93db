"""Decisions, on record: what is recorded, and who takes it. The sinks are in modules of their own."""

from __future__ import annotations

from .event import Answered, AuditSink, Decided, Event

__all__ = ["Answered", "AuditSink", "Decided", "Event"]
