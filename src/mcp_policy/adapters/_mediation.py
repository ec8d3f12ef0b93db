"""Proof that no tool of a server is reached past its guard: what the adapters' `guarded_tools` and `assert_all_guarded`
have in common.

What is looked at is the server as it stands: ask after everything is registered and mounted, in a test or at start-up.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, NamedTuple, TypeVar

Found = TypeVar("Found")

ANY: Final = "*"
"""Stands for tools that a server does not name."""


class Access(NamedTuple):
    """One tool, and whether every call of it meets the policy; `why` says why not."""

    tool: str
    guarded: bool
    why: str = ""


class UnguardedTools(AssertionError):
    """Tools can be called past the policy; `tools` are their `Access` entries."""

    def __init__(self, tools: Sequence[Access]) -> None:
        super().__init__(tools)
        self.tools = tuple(tools)

    def __str__(self) -> str:
        lines = (f"- `{tool}`: {why}" for tool, _, why in self.tools)
        return "\n".join(("tools can be called past the policy:", *lines))


def check(found: Sequence[Access]) -> None:
    """Raise `UnguardedTools` for those that are not guarded."""
    open_ = [access for access in found if not access.guarded]
    if open_:
        raise UnguardedTools(open_)


def run(work: Callable[[], Coroutine[Any, Any, Found]]) -> Found:
    """Return what asynchronous `work` returns, whether or not an event loop runs here already."""
    results: list[Found] = []
    errors: list[BaseException] = []

    def target() -> None:
        try:
            results.append(asyncio.run(work()))
        except BaseException as error:  # noqa: BLE001  # raised again below
            errors.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
