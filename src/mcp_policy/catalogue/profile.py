"""What is said of a tool: its category, its risk level, how sure that is, and what shows it."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, TypeAlias

Category: TypeAlias = Literal["read", "write", "execute", "destructive", "financial"]
Level: TypeAlias = Literal["low", "medium", "high", "critical"]
Source: TypeAlias = Literal["name", "description", "parameter", "annotation"]

CATEGORIES: Final[tuple[Category, ...]] = ("read", "write", "execute", "destructive", "financial")
"""From the least to the most dangerous; where several are suggested, the last one wins."""

LEVELS: Final[tuple[Level, ...]] = ("low", "medium", "high", "critical")


class Evidence(NamedTuple):
    """One sign of what a tool does: where it was found, the words themselves, and the category they suggest."""

    source: Source
    quote: str
    suggests: Category


class RiskProfile(NamedTuple):
    """What a tool's definition says about its risk.

    `confidence` is between 0 and 1: the share of tools with signs like these that are classified rightly. Below
    `UNSURE` the category is a guess on the safe side. `evidence` has the deciding signs first.
    """

    tool: str
    category: Category
    level: Level
    confidence: float
    evidence: tuple[Evidence, ...]


UNSURE: Final = 0.5
"""A tool that is classified with less confidence than this counts as unknown where a policy asks for its category."""
