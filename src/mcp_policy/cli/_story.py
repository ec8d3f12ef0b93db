"""How a story is told while it happens: with colour on a terminal that has `rich`, as plain text everywhere else."""

from __future__ import annotations

import json
import sys
from typing import Any, Final

_WIDTH: Final = 110
_STYLES: Final = {"title": "bold", "step": "bold cyan", "ok": "green", "wrong": "bold red", "label": "dim"}


class Story:
    """Prints steps and what was found in them, and remembers whether all went as it should."""

    def __init__(self) -> None:
        self.right = True
        self._steps = 0
        self._console = _console()

    def title(self, text: str) -> None:
        """Print a headline."""
        self._print("title", text)

    def end(self) -> None:
        """Print how it went."""
        self._print("", "")
        self._print(
            "ok" if self.right else "wrong", "All as it should be." if self.right else "Not all as it should be."
        )

    def step(self, text: str) -> None:
        """Begin the next step."""
        self._steps += 1
        self._print("", "")
        self._print("step", f"{self._steps}. {text}")

    def note(self, label: str, value: Any) -> None:
        """Print one fact: text, shortened where it is long, or JSON, in full."""
        shown = value if isinstance(value, str) else json.dumps(value)
        if isinstance(value, str) and len(value) > _WIDTH:
            shown = f"{value[: _WIDTH - 3]}..."
        self._print("", f"   {label:<8} {shown}")

    def check(self, holds: bool, text: str) -> None:
        """Print whether what should have happened did."""
        self.right = self.right and holds
        self._print("ok" if holds else "wrong", f"   {'ok' if holds else 'WRONG':<8} {text}")

    def _print(self, style: str, text: str) -> None:
        if self._console is None:
            print(text, flush=True)
        else:
            self._console.print(text, style=_STYLES.get(style, ""), markup=False, highlight=False, soft_wrap=True)


def _console() -> Any:
    if not sys.stdout.isatty():
        return None
    try:
        from rich.console import Console
    except ImportError:
        return None
    return Console()
