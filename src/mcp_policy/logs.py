"""The library's logger, fetched when there is something to say: `logging` takes a fifth of the start-up time."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from logging import Logger


def log() -> Logger:
    """Return the logger `mcp_policy`."""
    import logging

    return logging.getLogger("mcp_policy")
