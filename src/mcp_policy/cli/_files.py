"""Reading the files that a command line names; what cannot be read ends the command, in one clear line.

A name may lead to anything: a folder, a device without an end, a pipe that nobody writes to. No more than a cap is
read, and a pipe without a writer is not waited for.
"""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, NamedTuple

from mcp_policy.errors import PolicyError, Problem, readable

from ._exits import INVALID, USAGE, Stop

if TYPE_CHECKING:
    from mcp_policy.policy import Policy

MAX_BYTES: Final = 64 * 2**20
"""Most bytes that a file of any kind may have."""


class PolicyFile(NamedTuple):
    """A policy, and the file that it was read from: `-` stands for standard input."""

    path: str
    policy: Policy
    data: bytes


def read_bytes(path: str, most: int = MAX_BYTES) -> bytes:
    """Return what a file holds; `-` is standard input. Raises `Stop` where it cannot be read or is too large."""
    try:
        data = _stdin().read(most + 1) if path == "-" else _read(path, most + 1)
    except (OSError, ValueError) as error:  # a ValueError is a name with a null character
        why = os.strerror(error.errno).lower() if isinstance(error, OSError) and error.errno else str(error)
        raise Stop(USAGE, f"{shown(path)} cannot be read: {why}") from None
    if len(data) > most:
        raise Stop(USAGE, f"{shown(path)} is larger than {most // 2**20} MiB")
    return data


def read_policy(path: str) -> PolicyFile:
    """Read a policy file, YAML and TOML by their suffix. Raises `Stop`: not readable (2), not a valid policy (3)."""
    from mcp_policy.policy import Policy, format_of

    data = read_bytes(path)
    try:
        return PolicyFile(path, Policy.parse(data, format_of(path)), data)
    except PolicyError as error:
        raise Stop(INVALID, *(f"{readable(path, 200)}:{_said(problem)}" for problem in error.problems)) from None
    except ImportError as error:
        raise Stop(USAGE, f"{shown(path)} cannot be read: {error}") from None


def shown(path: str) -> str:
    """Return a path for a message."""
    return "standard input" if path == "-" else f"`{readable(path, 200)}`"


def _stdin() -> IO[bytes]:
    if sys.stdin is None:  # Python starts without it where it is closed
        raise ValueError("it is closed")
    return sys.stdin.buffer


def _read(path: str, most: int) -> bytes:
    with open(path, "rb", opener=_opened) as file:  # `Path.open` takes no opener
        data = file.read(most)
        if not data and stat.S_ISFIFO(os.fstat(file.fileno()).st_mode):
            raise ValueError("it is a pipe that nothing was written to")
    return data


def _opened(path: str, flags: int) -> int:
    """Open a file without waiting for somebody to write to it, as opening a named pipe would."""
    if not hasattr(os, "O_NONBLOCK"):  # Windows has no pipes among its files
        return os.open(path, flags)
    number = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)
    os.set_blocking(number, True)
    return number


def _said(problem: Problem) -> str:
    """Return a problem as the rest of a line that begins with the file's name, as compilers write it."""
    return str(problem) if problem.line is not None else f" {problem}"


def replace(path: Path, data: bytes) -> None:
    """Put a file in the place of another, whole or not at all, with the same permissions. Raises `Stop`."""
    from tempfile import NamedTemporaryFile

    try:
        mode = path.lstat().st_mode
        if not stat.S_ISREG(mode):
            what = "a symbolic link: name the file that it leads to" if stat.S_ISLNK(mode) else "no ordinary file"
            raise Stop(USAGE, f"{shown(str(path))} is left as it is: it is {what}")
        with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            try:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).chmod(stat.S_IMODE(mode))
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        why = os.strerror(error.errno).lower() if error.errno else str(error)
        raise Stop(USAGE, f"{shown(str(path))} cannot be written: {why}") from None
