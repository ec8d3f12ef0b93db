"""What a comparison found."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from .witness import Witness


class Relation(StrEnum):
    """How a new policy stands to an old one."""

    EQUAL = "equal"
    """Whatever the one lets run, the other does."""
    STRICTER = "stricter"
    LOOSER = "looser"
    BOTH = "both"
    """Looser for some calls, stricter for others."""
    UNKNOWN = "unknown"
    """No difference was found, and that there is none could not be shown."""


class ToolDifference(NamedTuple):
    """How two policies differ for a tool, or for the tools that patterns do not tell apart.

    `looser` is a witness of what only the new policy lets run, `stricter` of what only the old one does; `unknown`
    says, for what could not be decided, why; `notes` what changed besides without changing what runs.
    """

    tool: str
    looser: Witness | None = None
    stricter: Witness | None = None
    unknown: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def relation(self) -> Relation:
        """How the new policy stands to the old one here."""
        return relation(looser=self.looser is not None, stricter=self.stricter is not None, unknown=bool(self.unknown))


class Comparison(NamedTuple):
    """How two policies differ: the tools for which they do or may, and how many were compared."""

    tools: tuple[ToolDifference, ...]
    compared: int
    unknown: tuple[str, ...] = ()
    """What could not be decided of all tools together."""

    @property
    def relation(self) -> Relation:
        """How the new policy stands to the old one over all tools."""
        return relation(looser=self.looser, stricter=self.stricter, unknown=self.undecided)

    @property
    def looser(self) -> bool:
        """Whether the new policy lets something run that the old one does not."""
        return any(tool.looser for tool in self.tools)

    @property
    def stricter(self) -> bool:
        """Whether the old policy lets something run that the new one does not."""
        return any(tool.stricter for tool in self.tools)

    @property
    def undecided(self) -> bool:
        """Whether anything could not be decided."""
        return bool(self.unknown) or any(tool.unknown for tool in self.tools)


def relation(*, looser: bool, stricter: bool, unknown: bool) -> Relation:
    """Return the relation that what was found amounts to."""
    if looser and stricter:
        return Relation.BOTH
    if looser or stricter:
        return Relation.LOOSER if looser else Relation.STRICTER
    return Relation.UNKNOWN if unknown else Relation.EQUAL
