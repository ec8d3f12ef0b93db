"""Files of state for the tests of the stores on SQLite, and processes that use them."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_IN_MEMORY = Path("/dev/shm")


class Folder:
    """A folder of state files, in memory where there is such a place; stores are closed at the end."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        where = tempfile.TemporaryDirectory(dir=_IN_MEMORY if _IN_MEMORY.is_dir() else None)
        self.path = Path(self._stack.enter_context(where))
        self._made = 0

    def make(self, kind: Any, **options: Any) -> Any:
        """A store of this kind on a new file. Patient: a loaded machine must not fail a test."""
        self._made += 1
        return self._stack.enter_context(kind(self.path / f"{self._made}.db", **{"timeout": 60.0, **options}))

    def close(self) -> None:
        self._stack.close()


@contextlib.contextmanager
def process(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A Python process of its own, killed at the end."""
    command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            yield child
        finally:
            child.kill()


def together(code: str, count: int, *arguments: object) -> list[str]:
    """What so many processes print, each of which says `ready` and waits for a line before it begins."""
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(process(code, *arguments)) for _ in range(count)]
        for child in children:
            assert child.stdout.readline() == "ready\n"
        for child in children:
            child.stdin.write("\n")
            child.stdin.flush()
        printed = [child.communicate(timeout=120)[0] for child in children]
        assert [child.returncode for child in children] == [0] * count
    return printed
