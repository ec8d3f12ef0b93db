"""A policy that follows its file: when that changes, it is read again, and put in force as a whole or not at all.

Rules kept here:

* what is not a policy changes nothing, and is told with all that is wrong with it; so are a file that has gone and one
  that cannot be read;
* a file is read at the start, and from then on whenever two looks in a row have found it the same: a change is not read
  while it is written, and none is missed, not even one that came while the first reading went on;
* what is looked at is where the path leads now, through whatever links;
* following never ends by itself, and never raises, whatever the file or who is told does.

Limits keep counting over a reload. Approvals of the old policy are void.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import TIMEOUT_MAX, Event, Thread
from typing import TYPE_CHECKING, Final, NoReturn, TypeAlias

from .errors import PolicyError, readable
from .logs import log
from .policy import Policy

if TYPE_CHECKING:
    from .engine import PolicyEngine

Version: TypeAlias = tuple[int, ...]
Say: TypeAlias = Callable[[str], None]

_UNKNOWN: Final = object()  # no version at all, not even that of a file that is not there


def version(path: Path) -> Version | None:
    """Return what tells one version of a file from the next; None where there is no ordinary file."""
    try:
        found = path.stat()
    except (OSError, ValueError):  # a ValueError is a name with a null character
        return None
    if not stat.S_ISREG(found.st_mode):  # a pipe would be waited for
        return None
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino, found.st_dev


def _logged(line: str) -> None:
    log().warning("%s", line)


@contextmanager
def follow_policy(
    engine: PolicyEngine, path: str | os.PathLike[str], *, every: float = 1.0, say: Say = _logged
) -> Iterator[None]:
    """Put the policy in a file in force, and again whenever the file changes, from a thread of its own, until the end
    of the `with` block.

    The file is looked at every so many seconds (`every`), and a change is in force after two looks. `say` is told what
    happens, line by line, from that thread; else it is logged as a warning. Raises `ValueError` where `every` is not
    above 0, and nothing for what is wrong with the file: without a policy in it the engine keeps the one it has, and
    denies every call where it has none.
    """
    _check(every)
    follower, ended = _Follower(engine, Path(path), say), Event()
    follower.start()

    def run() -> None:
        while not ended.wait(every):
            follower.look()

    thread = Thread(target=run, name="mcp-policy-reload", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


async def follow_policy_async(
    engine: PolicyEngine, path: str | os.PathLike[str], *, every: float = 1.0, say: Say = _logged
) -> NoReturn:
    """As `follow_policy`, as a task of an asyncio event loop that goes on until it is cancelled. `say` is called from a
    thread.
    """
    import asyncio

    _check(every)
    follower = _Follower(engine, Path(path), say)
    await asyncio.to_thread(follower.start)
    while True:
        await asyncio.sleep(every)
        await asyncio.to_thread(follower.look)


def _check(every: float) -> None:
    if not 0 < every <= TIMEOUT_MAX:
        raise ValueError("`every` is a finite number of seconds above 0")


class _Follower:
    """What is known of a file from look to look."""

    def __init__(self, engine: PolicyEngine, path: Path, say: Say) -> None:
        self._engine, self._path, self._say = engine, path, say
        self._seen: object = _UNKNOWN
        """The version at the last look."""
        self._read: object = _UNKNOWN
        """The version that was read last."""
        self._policy = engine.policy
        """What the file said last; None where that was no policy."""
        self._told: object = None
        """The version that is no policy, and what was told of it."""

    def start(self) -> None:
        """Read the file as it is now. That is not its last word: it may be just being written."""
        self._guarded(lambda: self._take(version(self._path), _read(self._path)))

    def look(self) -> None:
        """Look at the file, and reload where it has changed and is not being written."""
        self._guarded(self._look)

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception:  # noqa: BLE001  # logged below; who is told may raise anything
            log().exception("following a policy file has failed; it goes on")

    def _look(self) -> None:
        now = version(self._path)
        if now != self._seen:
            self._seen = now
        elif now != self._read:
            found = _read(self._path)
            self._seen = version(self._path)
            if self._seen == now:  # else it has changed while it was read
                self._take(now, found)
                self._read = now  # not before: a policy that could not be put in force is tried again

    def _take(self, now: Version | None, found: Policy | list[str]) -> None:
        if isinstance(found, Policy):
            self._put_in_force(found)
        elif (now, found) != self._told:
            self._told, self._policy = (now, found), None
            for line in found:
                self._say(line)
            stays = "every call is denied" if self._engine.policy is None else "the old policy stays in force"
            self._say(f"{_shown(self._path)} is not taken, and {stays}")

    def _put_in_force(self, policy: Policy) -> None:
        if policy == self._policy:
            return
        first = self._engine.policy is None
        self._engine.reload(policy)
        self._policy = policy
        self._say(f"{_shown(self._path)} {'is' if first else 'has changed, and is'} in force")


def _read(path: Path) -> Policy | list[str]:
    """Return the policy in a file, or what is wrong with it, in lines."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return [f"{_shown(path)} cannot be read: it is no ordinary file"]
        return Policy.load(path)
    except PolicyError as error:
        return [_printable(f"{readable(str(path), 200)}:{problem}") for problem in error.problems]
    except OSError as error:
        why = os.strerror(error.errno).lower() if error.errno else str(error)
        return [f"{_shown(path)} cannot be read: {why}"]
    except Exception as error:  # noqa: BLE001  # such as a missing extra: whatever it is, the policy stays
        return [f"{_shown(path)} cannot be read: {_printable(str(error) or type(error).__name__)}"]


def _shown(path: Path) -> str:
    return f"`{readable(str(path), 200)}`"


def _printable(text: str) -> str:
    """Return a text as one line, whatever keys of a document are in it."""
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text)
