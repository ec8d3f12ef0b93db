"""A tool's name, word by word, and the verb that says what the tool does.

Rules kept here:

- Names are split at case, digits and punctuation: `getTaskInfo`, `get-task_info` and `tasks.get-info` read alike.
- The verb comes first (`delete_repo`), last (`repo_delete`) or after the name of the server (`github__delete_repo`).
  A word that may be a noun is the verb only where no plain verb stands.
- What stands after a preposition, and participles, say what a tool works on, not what it does (`list_deleted_items`).
- Verbs joined by `and` or `or` all count.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from .lexicon import EITHER, PAPERS, VERBS, word_set

_BETWEEN: Final = re.compile(
    r"[\W_]+|(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])"
)
_PREPOSITIONS: Final = word_set(
    """
    about after as at before between by during for from in inside into of on onto over per since to under until via
    with within without
    """
)
_COMPOUNDS: Final = frozenset(
    (first, second + end)
    for first, second in (
        ("pull", "request"),
        ("merge", "request"),
        ("load", "balancer"),
        ("log", "group"),
        ("log", "stream"),
    )
    for end in ("", "s")
)
_ASKED: Final = word_set("aggregate count export filter list lookup preview query search validate")
_JOINING: Final = frozenset(("and", "or", "then"))


class Verb(NamedTuple):
    """A verb in a name: its word as it is written, its plain form, and whether it can be nothing but a verb."""

    quote: str
    verb: str
    plain: bool


@lru_cache(4_096)
def split_name(name: str) -> tuple[str, ...]:
    """Return the words of a name as they are written."""
    return tuple(word for word in _BETWEEN.split(name) if word)


def verbs_of(words: Sequence[str]) -> list[Verb]:
    """Return the verbs that a name's words hold, the one that says most first; none where no word is one."""
    low = _plain([word.lower() for word in words])
    end = next((place for place, word in enumerate(low) if place and word in _PREPOSITIONS), len(low))
    able = [place for place in range(end) if low[place] in VERBS]
    if not able:
        able = [place for place in range(end, len(low)) if low[place] in VERBS and low[place] not in EITHER]
    if not able:
        return []
    plain = [place for place in able if low[place] not in EITHER]
    if low[able[0]] not in EITHER:
        chosen = [able[0]]
    elif plain:
        chosen = [plain[-1] if plain[-1] == end - 1 else plain[0]]
        if chosen[0] > able[0] + 1 or chosen[0] != end - 1:
            chosen.append(able[0])
    else:
        chosen = [able[0], *([able[-1]] if able[-1] == len(low) - 1 and able[-1] != able[0] else [])]
    chosen += [place for place in _joined(low, end) if place not in chosen]
    return [Verb(words[place], low[place], low[place] not in EITHER or _leads(low, place)) for place in chosen]


def _leads(low: Sequence[str], place: int) -> bool:
    """Tell whether a word that may be a noun is the verb all the same: a dangerous one at the beginning of a name."""
    return (
        place == 0
        and low[-1] not in PAPERS
        and (len(low) > 1 or VERBS[low[0]] in ("execute", "destructive", "financial"))
    )


def _plain(low: list[str]) -> list[str]:
    """Return the words with compounds that are no verbs blanked, and `un...` of what is a verb told as its undoing."""
    for place in range(len(low) - 1):
        if (low[place], low[place + 1]) in _COMPOUNDS:
            low[place] = low[place + 1] = ""
        elif (low[place], low[place + 1]) == ("get", "rid"):
            low[place] = ""
        elif (low[place], low[place + 1]) == ("top", "up"):
            low[place] = "topup"
        elif low[place] == "post" and low[-1] in _ASKED:
            low[place] = ""  # the method of a request that asks
    return ["undo" if word.startswith("un") and word not in VERBS and word[2:] in VERBS else word for word in low]


def _joined(low: Sequence[str], end: int) -> Iterator[int]:
    for place in range(1, end - 1):
        if low[place] in _JOINING:
            yield from (near for near in (place - 1, place + 1) if low[near] in VERBS)
