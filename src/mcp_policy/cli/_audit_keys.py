"""The key that seals a record of decisions: the content of a file, or of an environment variable.

A key is text of at least 32 characters; white space around it does not count. Who has it can forge the record: it is
made readable to its owner alone, and belongs on another machine than the record where that is to prove something.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ._exits import USAGE, Stop
from ._files import read_bytes, shown

VARIABLE: Final = "MCP_POLICY_AUDIT_KEY"
SHORTEST: Final = 32  # characters: 128 bits in hexadecimal


def key_for(record: str, key_file: str | None, make: Callable[[str], object] | None = None) -> bytes:
    """Return the key of a record: from `key_file`, else from the environment, else from the file beside the record.

    With `make` the last one is made where it is not there, and `make` is told so. Raises `Stop`.
    """
    if key_file is not None:
        return _checked(read_bytes(key_file), shown(key_file))
    given = os.environ.get(VARIABLE)
    if given is not None:
        return _checked(os.fsencode(given), VARIABLE)
    beside = Path(f"{record}.key")
    if make is not None and not beside.exists():
        _make(beside)
        make(f"made {shown(str(beside))}, the key that seals {shown(record)}: keep it apart from the record")
    return _checked(read_bytes(str(beside)), shown(str(beside)))


def _make(path: Path) -> None:
    try:
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:  # another process was faster
        return
    except OSError as error:
        why = os.strerror(error.errno).lower() if error.errno else str(error)
        raise Stop(USAGE, f"{shown(str(path))} cannot be made: {why}") from None
    with os.fdopen(number, "w", encoding="ascii") as file:
        file.write(secrets.token_hex(32) + "\n")


def _checked(content: bytes, where: str) -> bytes:
    key = content.strip()
    if len(key) < SHORTEST:
        raise Stop(USAGE, f"{where}: a key has at least {SHORTEST} characters, and this has {len(key)}")
    return key
