"""The gateway's policy follows its file."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from mcp_policy.reloading import follow_policy_async

from ._watch import EVERY, Versions

if TYPE_CHECKING:
    from mcp_policy.engine import PolicyEngine


async def follow(path: str, engine: PolicyEngine, known: Versions, say: Callable[[str], None]) -> NoReturn:
    """Reload the policy of `engine` whenever its file changes."""
    await follow_policy_async(engine, path, every=EVERY, say=say)
