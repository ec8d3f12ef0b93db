"""Running something again whenever one of its files changes.

Files are looked at again and again: their times and sizes cost little to ask for, on every system alike, and need no
library. Time is injected. Ctrl-C ends the watch as it ends every command.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, TypeAlias

from mcp_policy.reloading import Version, version

Versions: TypeAlias = Mapping[Path, "Version | None"]

EVERY: Final = 0.5
"""Seconds between two looks."""


def versions(files: Iterable[Path]) -> Versions:
    """Return what tells one version of each file from the next, None for a file that is not there."""
    return {file: version(file) for file in files}


def changes(
    files: Callable[[], Iterable[Path]], *, sleep: Callable[[float], None] = time.sleep
) -> Iterator[tuple[Path, ...]]:
    """Yield the files that changed, came or went, each time that any did; the first time at once, and none.

    `files` is asked for the names anew before each look, so that new files are seen; what happens to a file while
    something runs is a change as well.
    """
    known = versions(files())
    yield ()
    while True:
        known = {**versions(files()), **known}  # a run may have found out about further files
        sleep(EVERY)
        now = versions(files())
        changed = tuple(sorted(file for file in {*known, *now} if known.get(file) != now.get(file)))
        known = now
        if changed:
            yield changed
