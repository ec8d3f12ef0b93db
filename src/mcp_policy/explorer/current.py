"""The policy as its file has it now, with an engine that has loaded it.

The engine is made anew when the file has changed, and only then. A file that cannot be loaded leaves an engine without
a policy, which denies every call, and says why.
"""

from __future__ import annotations

from threading import Lock
from typing import NamedTuple

from mcp_policy.engine import PolicyEngine
from mcp_policy.errors import PolicyError
from mcp_policy.policy import Policy

from .saving import PolicyOnDisk, SaveError


class Now(NamedTuple):
    """What is in force: the engine, or None where no policy is looked at; and why there is no policy in it."""

    engine: PolicyEngine | None
    problem: str = ""


class Current:
    """Looks at the file whenever it is asked. May be called from any thread. `disk` None: there is no file."""

    def __init__(self, disk: PolicyOnDisk | None) -> None:
        self.disk = disk
        self._lock = Lock()
        self._digest: str | None = None
        self._now = Now(None)

    def now(self) -> Now:
        """Return what is in force now."""
        if self.disk is None:
            return self._now
        with self._lock:
            try:
                loaded = self.disk.load()
            except SaveError as error:
                self._digest, self._now = None, Now(PolicyEngine(), str(error))
                return self._now
            if loaded.digest != self._digest:
                self._digest, self._now = loaded.digest, _loaded(loaded.text, loaded.digest)
            return self._now


def _loaded(text: str, digest: str) -> Now:
    if not digest:
        return Now(None)  # there is no file yet
    try:
        return Now(PolicyEngine(Policy.parse(text)))
    except PolicyError as error:
        more = f" (and {len(error.problems) - 1:,} more)" if len(error.problems) > 1 else ""
        return Now(PolicyEngine(), f"the policy does not load: {error.problems[0]}{more}")
