"""How a command ends: the exit statuses, the exception that ends one early, and a clear line for all that can go wrong.

Rules kept here:

- A command ends with a status that is listed here, and never with a traceback that nobody asked for.
- What is said goes to standard error. A text in it, such as a file's name, cannot forge a line.
- A status of a command that could not print its results is never `FINE`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Final

FINE: Final = 0
FAILED: Final = 1
"""Something went wrong that nobody expected."""
USAGE: Final = 2
"""The command line, or a file that it names, could not be read."""
INVALID: Final = 3
"""A policy is not valid."""
FOUND: Final = 4
"""A test failed, or a check found something."""
REFUSED: Final = 5
"""A call is not allowed, or a policy is looser than the one before."""
INTERRUPTED: Final = 130
"""Ctrl-C, as shells count it."""

TRACEBACK: Final = "MCP_POLICY_TRACEBACK"
"""The environment variable that, where it is not empty, asks for the traceback of an unexpected error."""


class Stop(Exception):
    """Ends a command: `status`, and lines for standard error."""

    def __init__(self, status: int, *lines: str) -> None:
        super().__init__(status, *lines)
        self.status = status
        self.lines = lines


def ended(name: str, work: Callable[[], int]) -> int:
    """Do a command's work and return its exit status, whatever happens. Raises `SystemExit` where `work` does."""
    try:
        status = work()
    except Stop as stop:
        status = _told(name, stop)
    except KeyboardInterrupt:
        status = _told(name, Stop(INTERRUPTED, "interrupted"))
    except SystemExit:  # the help, or a command line that cannot be read
        if _flushed(name, FINE) != FINE:
            raise SystemExit(FAILED) from None
        raise
    except BrokenPipeError:  # whoever read has seen enough; a command answers itself for pipes of its own
        status = FAILED
    except Exception as error:  # noqa: BLE001  # the last place where an error can become a line
        status = _told(name, _unexpected(error))
    return _flushed(name, status)


def _unexpected(error: Exception) -> Stop:
    if os.environ.get(TRACEBACK):
        from traceback import format_exception

        return Stop(FAILED, *"".join(format_exception(error)).splitlines())
    said = f"unexpected error: {type(error).__name__}: {error}".removesuffix(": ")
    return Stop(FAILED, f"{said} (set {TRACEBACK}=1 to see where)")


def _told(name: str, stop: Stop) -> int:
    from ._render import visible_lines

    for line in stop.lines:
        print(f"{name}: {visible_lines(line.replace(chr(10), ' '))}", file=sys.stderr)
    return stop.status


def _flushed(name: str, status: int) -> int:
    """Return the status, or another where the results that belong to it cannot be written."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        from ._style import abandon, unwritable

        abandon(sys.stdout)
        if not isinstance(error, BrokenPipeError):
            return _told(name, unwritable(error))
    return status
