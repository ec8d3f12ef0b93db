"""A stream of server-sent events, changed event by event as it passes.

- An event is passed on once it is complete, never in part: what is in it has been looked at.
- Only `data` is looked at and changed. Other fields, comments and the ends of lines stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

_END: Final = re.compile(rb"(?:\r\n|\r(?!\n)|\n)(?:\r\n|\r|\n)")
_BOM: Final = b"\xef\xbb\xbf"


class Events:
    """Changes the data of the events of one stream by `change`, which gets and returns bytes."""

    def __init__(self, change: Callable[[bytes], bytes]) -> None:
        self._change = change
        self._held = bytearray()
        self._at_start = True

    def feed(self, chunk: bytes) -> bytes:
        """Return the events that `chunk` completes."""
        searched = max(0, len(self._held) - 3)  # an end may have begun in what is held
        self._held += chunk
        if self._at_start:
            if _BOM.startswith(bytes(self._held[:3])) and len(self._held) < len(_BOM):
                return b""
            self._held = self._held.removeprefix(_BOM)
            self._at_start, searched = False, 0
        out, begin = [], 0
        for end in _END.finditer(self._held, searched):
            out.append(self._event(bytes(self._held[begin : end.end()])))
            begin = end.end()
        del self._held[:begin]
        return b"".join(out)

    def rest(self) -> bytes:
        """Return what stands after the last complete event: some clients read it as one."""
        held, self._held = bytes(self._held), bytearray()
        return self._event(held)

    def _event(self, text: bytes) -> bytes:
        lines = text.splitlines()
        values = [line[5:].removeprefix(b" ") for line in lines if line.startswith(b"data:")]
        if not values:
            return text
        data = b"\n".join(values)
        changed = self._change(data)
        if changed is data:
            return text
        others = [line for line in lines if line and not line.startswith(b"data:")]
        return b"\n".join([*others, *(b"data: " + line for line in changed.splitlines()), b"", b""])
