"""Recorded calls under another policy: what it would have decided, as far as the record tells."""

from .replaying import Replay, Verdict

__all__ = ["Replay", "Verdict"]
