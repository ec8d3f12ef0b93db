"""What a conversion has to say: what differs, what became stricter, and why something cannot be converted."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from mcp_policy.reading import Place, Places

Kind = Literal["refused", "stricter", "differs"]


class Note(NamedTuple):
    """One thing to know about a conversion.

    `kind` is `refused` where there is no policy because of it, `stricter` where calls may be denied that were allowed,
    `differs` for the rest. `pointer` leads into the original (RFC 6901), `line` and `column` count from 1.
    """

    code: str
    kind: Kind
    pointer: str
    message: str
    line: int | None = None
    column: int | None = None


GENERAL: Final[dict[str, tuple[Kind, str]]] = {
    "default_allow": (
        "differs",
        "no `default`, so what no rule names is allowed, as in the original; a policy of our own would deny it",
    ),
    "window": ("stricter", "windows slide: so much in any minute, hour or day, where the original goes by the clock"),
    "counts": (
        "differs",
        "counts live in memory unless the engine is given a store, are one for all callers, and count what was allowed",
    ),
    "types": ("stricter", 'nothing is coerced: `"5"` is no number, and a value of the wrong type is denied'),
    "absent": ("stricter", "a call that leaves out an argument that a condition reads, or passes null, is denied"),
    "hide": ("differs", "a call to a hidden tool is answered as if the tool did not exist, without a reason"),
    "rule_name": ("differs", "rules have no names here: a name is kept as the reason where there is no `on_deny`"),
    "wildcard": (
        "differs",
        "the rules of `*` became `all_tools`, which restricts every call and allows none by itself",
    ),
}
"""What is said once a document, at the first place that it is about."""


class Notes:
    """The notes of one conversion, as they come up."""

    def __init__(self) -> None:
        self.found: dict[Note, None] = {}
        self.said: set[str] = set()

    @property
    def refused(self) -> bool:
        """Whether anything cannot be converted."""
        return any(note.kind == "refused" for note in self.found)

    def refuse(self, code: str, pointer: str, message: str) -> None:
        """Say why there will be no policy."""
        self.found[Note(code, "refused", pointer, message)] = None

    def stricter(self, code: str, pointer: str, message: str) -> None:
        """Say what will be denied that was allowed."""
        self.found[Note(code, "stricter", pointer, message)] = None

    def differs(self, code: str, pointer: str, message: str) -> None:
        """Say what will be otherwise."""
        self.found[Note(code, "differs", pointer, message)] = None

    def general(self, code: str, pointer: str) -> None:
        """Say what is true of the whole document, once."""
        if code not in self.said:
            self.said.add(code)
            kind, message = GENERAL[code]
            self.found[Note(code, kind, pointer, message)] = None

    def placed(self, places: Places) -> tuple[Note, ...]:
        """Return the notes with line and column: first why there is no policy, then the rest, as they stand there."""
        known = places({note.pointer for note in self.found})
        notes = [_placed(note, known.get(note.pointer)) for note in self.found]
        return tuple(sorted(notes, key=lambda note: (note.kind != "refused", note.line or 0, note.column or 0)))


def _placed(note: Note, place: Place | None) -> Note:
    if place is None:
        return note
    line, column = place.key or place.value
    return note._replace(line=line, column=column)
