"""A policy that follows its file: when that changes, it is read again, and put in force as a whole or not at all.

Time is injected. Limits keep counting over a reload.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ._exits import Stop
from ._files import read_policy, shown
from ._watch import EVERY, Versions, versions

if TYPE_CHECKING:
    from mcp_policy.engine import PolicyEngine


async def follow(
    path: str,
    engine: PolicyEngine,
    known: Versions,
    say: Callable[[str], None],
    *,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> None:
    """Reload the policy of `engine` whenever its file is another than `known`; what is not a policy changes nothing.

    `known` is the file's version from before it was first read, so that no change is missed.
    """
    while True:
        await sleep(EVERY)
        now = await asyncio.to_thread(versions, [Path(path)])
        if now != known:
            known = now
            await _reload(path, engine, say)


async def _reload(path: str, engine: PolicyEngine, say: Callable[[str], None]) -> None:
    try:
        file = await asyncio.to_thread(read_policy, path)
        engine.reload(file.policy)
    except Stop as stop:
        for line in stop.lines:
            say(line)
        say(f"{shown(path)} has changed, and the old policy stays in force")
    except Exception as error:  # noqa: BLE001  # whatever is wrong with a file, the policy stays, and the next one counts
        say(f"{shown(path)} has changed, and the old policy stays in force: {type(error).__name__}: {error}")
    else:
        say(f"{shown(path)} has changed, and is in force")
