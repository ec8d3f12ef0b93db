"""The policy's file: read as it is now, and written only over what was read.

Rules kept here:

- One file is read and written, the one that was named at the start. A link is followed once, then: a folder that is
  replaced by one later does not lead elsewhere.
- A text is written whole or not at all, and only one that loads.
- Whoever saves says what they have seen (its digest). If the file holds anything else by now, nothing is written.
  Between that look and the writing another program may still write: only a lock that all heed could rule that out.
"""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from mcp_policy.errors import PolicyError, readable
from mcp_policy.policy import Policy, format_of
from mcp_policy.reading import MAX_BYTES


class SaveError(Exception):
    """The file cannot be read or written; the message is for people."""


class Conflict(SaveError):
    """The file holds something else than was seen last: `text`, with its `digest`."""

    def __init__(self, text: str, digest: str) -> None:
        super().__init__("the file has changed on disk since it was loaded here, so it was not written")
        self.text, self.digest = text, digest


class Loaded(NamedTuple):
    """The text of the file and its digest; both empty where there is no file yet."""

    text: str
    digest: str


class PolicyOnDisk:
    """The file of a policy, in JSON. May be used from any thread."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        try:
            self.path = Path(path).resolve()
        except RuntimeError:  # before Python 3.13; from then on reading tells it
            raise SaveError(f"{_shown(Path(path))} leads nowhere: its links go round in a circle") from None
        if any(format_of(str(one)) != "json" for one in (path, self.path)):
            raise SaveError(f"{_shown(self.path)} is not JSON: the builder writes policies in JSON only")
        self._lock = Lock()

    def load(self) -> Loaded:
        """Return what is in the file. Raises `SaveError`."""
        folder = self.path.parent
        if os.path.realpath(folder) != str(folder):
            raise SaveError(f"{_shown(folder)} has become a link since the start, so nothing is read or written there")
        try:
            data = self._read()
        except FileNotFoundError:
            if not folder.is_dir():
                raise SaveError(f"there is no folder {_shown(folder)}") from None
            return Loaded("", "")
        except OSError as error:
            raise SaveError(f"{_shown(self.path)} cannot be read: {_why(error)}") from None
        try:
            text = data.decode()
        except UnicodeDecodeError:
            raise SaveError(f"{_shown(self.path)} cannot be read: it is not UTF-8") from None
        return Loaded(text, sha256(data).hexdigest())

    def save(self, text: str, digest: str) -> str:
        """Write a text over what has this digest, and return the digest of the text.

        `digest` is empty where there was no file. Raises `Conflict` where the file holds something else, and
        `SaveError` for a text that does not load and where the file cannot be written.
        """
        try:
            Policy.parse(text)
        except PolicyError as error:
            raise SaveError(f"a policy that does not load is not saved: {error.problems[0]}") from None
        data = text.encode()
        with self._lock:
            now = self.load()
            if now.digest != digest:
                raise Conflict(*now)
            try:
                self._write(data, is_new=not digest)
            except FileExistsError:
                raise Conflict(*self.load()) from None
            except OSError as error:
                raise SaveError(f"{_shown(self.path)} cannot be written: {_why(error)}") from None
        return sha256(data).hexdigest()

    def _read(self) -> bytes:
        if not stat.S_ISREG(self.path.stat().st_mode):
            raise SaveError(f"{_shown(self.path)} cannot be read: it is no ordinary file")
        with self.path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise SaveError(f"{_shown(self.path)} cannot be read: a policy has at most {MAX_BYTES:,} bytes")
        return data

    def _write(self, data: bytes, *, is_new: bool) -> None:
        number, partial = tempfile.mkstemp(prefix=f".{self.path.name}.", suffix=".partial", dir=self.path.parent)
        try:
            with os.fdopen(number, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(partial).chmod(0o644 if is_new else stat.S_IMODE(self.path.stat().st_mode))
            if is_new:
                os.link(partial, self.path)  # fails where something is there by now
            else:
                Path(partial).replace(self.path)
        finally:
            with suppress(FileNotFoundError):
                Path(partial).unlink()


def _shown(path: Path) -> str:
    return f"`{readable(str(path), 200)}`"


def _why(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else str(error)
