"""What a contract test shares with the server that it talks to: a folder, since that may be another process.

The server notes there what ran and what was judged; the test leaves steps there (a policy, a later time, an approval),
which the engine takes before whatever it is asked next.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

from mcp_policy.engine import PolicyEngine
from mcp_policy.policy import Policy

NAME = "files"
"""The name of every server here."""

_LATER = 10_000_000.0  # seconds: past every window and every approval


class World:
    """The folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._steps = 0

    def note(self, kind: str, value: Any) -> None:
        """Add a line."""
        with (self.folder / kind).open("a", encoding="utf-8") as file:
            file.write(json.dumps(value) + "\n")

    def noted(self, kind: str) -> list[Any]:
        """Return all lines."""
        file = self.folder / kind
        return [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.exists() else []

    def begin(self, **document: Any) -> None:
        """Start anew: another policy, no count, no approval, nothing noted."""
        for kind in ("ran", "judged", "steps"):
            (self.folder / kind).unlink(missing_ok=True)
        never = {f"never-{self._steps}": {}}  # another policy each time: no approval is remembered
        self._tell(later=_LATER, policy={"version": "1", **document, "tools": document.get("tools", {}) | never})

    def reload(self, **document: Any) -> None:
        """Replace the policy, and nothing else."""
        self._tell(policy={"version": "1", **document})

    def approve(self, id: str) -> None:
        """Approve what waits, as an operator does."""
        self._tell(approve=id)

    def _tell(self, **step: Any) -> None:
        self._steps += 1
        self.note("steps", {"number": self._steps, **step})

    @property
    def ran(self) -> list[Any]:
        """The calls that ran: the tool, and the arguments that it got."""
        return self.noted("ran")

    @property
    def judged(self) -> list[Any]:
        """The calls that were decided on: the tool, and the arguments that were judged."""
        return self.noted("judged")


class Steered(PolicyEngine):
    """An engine that takes the test's steps, and notes the calls that it decides on."""

    def __init__(self, world: World) -> None:
        self._now = 0.0
        super().__init__(clock=lambda: self._now)
        self._world = world
        self._taken = 0
        self._following = threading.Lock()

    def _follow(self) -> None:
        with self._following:
            for step in self._world.noted("steps"):
                if step["number"] > self._taken:
                    self._taken = step["number"]
                    self._take(step)

    def _take(self, step: dict[str, Any]) -> None:
        self._now += step.get("later", 0)
        if "policy" in step:
            self.reload(Policy.model_validate(step["policy"]))
        if "approve" in step:
            self.approve(step["approve"], by="operator")

    @property
    def asks_definitions(self) -> bool:
        self._follow()
        return super().asks_definitions

    def authorize(self, call):
        self._follow()
        self._world.note("judged", [call.tool, call.arguments])
        return super().authorize(call)

    async def authorize_async(self, call):
        self._follow()
        self._world.note("judged", [call.tool, call.arguments])
        return await super().authorize_async(call)

    def visible(self, call):
        self._follow()
        return super().visible(call)
