"""What a description says the tool does: the verbs of its first sentence, and a few plain warnings.

Rules kept here:

- A description says what the tool does with its leading verb (`Deletes a page`, `Use this tool to list ...`) and the
  verbs joined to it. What stands later speaks of parameters, results and other tools.
- What is denied is not done: `does not delete`, `without changing`.
- Warnings (`cannot be undone`) count wherever they stand.
- Work is linear: only the beginning of a text is taken apart, and no expression has a repetition in a repetition.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from .lexicon import EITHER, VERBS, word_set

_BEGINNING: Final = 400  # characters
_LEAD: Final = 14  # words among which the leading verb has to be
_FIRST: Final = 6  # words after which the end of a sentence ends the search for it
_SPEAKING: Final = 2_000  # characters that are asked for a query language

_TOKEN: Final = re.compile(r"[A-Za-z][A-Za-z'’-]*|[.,;:!?\n/&()]")
_MARKS: Final = re.compile(r"<[^<>]{0,80}>|\[[^\[\]]{0,60}\]|[*_`#>\"“”]+|^\s*\([^()]{0,40}\)")
_LANGUAGES: Final = re.compile(r"\b(?:SQL|Sql|sql|Cypher|NoSQL|DDL|DML|SOQL)\b|\bSELECT\b(?=[^\n]{1,200}\bFROM\b)")
_READ_ONLY: Final = re.compile(r"\bread[- ]only\b", re.IGNORECASE)
_IRREVERSIBLE: Final = re.compile(
    r"\b(?:cannot|can not|can't) be (?:undone|reversed|recovered|restored)\b|\birreversibl[ey]\b"
    r"|\bpermanently (?:delet|remov|eras|destroy|drop|purg|wip)\w*",
    re.IGNORECASE,
)

_FINAL: Final = ("irreversibl", "permanently", "recovered", "restored", "reversed", "undone")

_JOINING: Final = frozenset((",", "and", "or", "/", "&", "then", ":"))
_LISTING: Final = word_set("as by for including like supports")
_INTRODUCING: Final = _JOINING | _LISTING
_END: Final = frozenset(".!?\n")
_NEGATIONS: Final = word_set("avoid cannot doesn't don't instead never no nor not without")
_OPENERS: Final = word_set(
    """
    a able action allow allowing allows an and api are be can command could do does enable enables enabling endpoint for
    function help helping helps i if in is it its lets mcp method need needed operation order perform performs please
    server that the these this to tool tool's tools us use used useful utility want when which will would wrapper you
    your
    """
)
_PRESENTING: Final = word_set("combine format group merge order organise organize prepare process sort")  # results
_CALLS: Final = word_set("begin call invoke run start")  # `Call this first`, `Start here`
_ITSELF: Final = word_set("first here it this with")
_OBJECTS: Final = word_set("a all an any each every existing it its new that the their them these this those your")
_BEFORE_NOUNS: Final = word_set(
    """
    a all an any as at available by current each every existing following for from given in into its latest multiple new
    of on one per single some specific that the their these this those two with your
    """
)
_GONE: Final = word_set("delete destroy erase purge wipe")  # what `is removed` may only be left out
_PASSIVE: Final = word_set("are be been get gets is")
_ARTICLES: Final = _BEFORE_NOUNS - {"this", "that"}  # `this lists`
_LOOKUPS: Final = word_set("analysis check checks lookup queries query scan search searches")


def language(description: str) -> str | None:
    """Return the name of the query language that a description speaks of, or None."""
    found = _LANGUAGES.search(description[:_SPEAKING])
    return found[0] if found else None


def reads_only(description: str) -> bool:
    """Tell whether a description says that the tool reads only, and not that something else does."""
    found = _READ_ONLY.search(description[:_BEGINNING])
    return found is not None and not _NEGATIONS & set(description[: found.start()].lower().split()[-2:])


class Said(NamedTuple):
    """A verb of a description: its word as it is written, and its plain form."""

    quote: str
    verb: str


@lru_cache(4_096)
def plain_form(word: str) -> str | None:
    """Return the verb that a word is a form of (third person or -ing), or None where it is no verb that is known."""
    if word in VERBS:
        return word
    stems: tuple[str, ...] = ()
    if word.endswith("ies"):
        stems = (word[:-3] + "y",)
    elif word.endswith("s"):
        stems = (word[:-1], word[:-2])
    elif word.endswith("ing"):
        stem = word[:-3]
        stems = (stem, stem + "e", stem[:-1])
    return next((stem for stem in stems if stem in VERBS), None)


def said_verbs(description: str) -> list[Said]:
    """Return the leading verb of a description and those joined to it; none where it does not begin with one."""
    tokens = _TOKEN.findall(_MARKS.sub(" ", description[:_BEGINNING]).strip())
    low = list(map(str.lower, tokens))
    lead = _leading(low)
    if lead is None:
        return []
    found = dict.fromkeys((lead, *_joined(low, lead), *_listed(low, lead)))
    return [Said(tokens[at], plain_form(low[at]) or "") for at in found]


def _joined(low: list[str], lead: int) -> Iterator[int]:
    """Yield the places of the verbs that are joined to the leading one in its sentence."""
    last = lead
    for at in range(lead + 1, len(low)):
        if low[at] in _END and at > lead + 1:
            break
        before = low[at - 2] if low[at - 1].endswith("ly") else low[at - 1]  # `create or completely overwrite`
        verb = plain_form(low[at]) if before in _JOINING and not _negated(low, at) else None
        is_verb = verb is not None and verb not in _PRESENTING
        if is_verb and _may_be_verb(low, at, lead, near=at - last <= (2 if low[at] in EITHER or verb in EITHER else 3)):
            yield at
            last = at


def _listed(low: list[str], lead: int) -> Iterator[int]:
    """Yield the places of what a tool is said to do `by` or `including` it: cancelling, deleting and the like."""
    for at in range(lead + 1, len(low)):
        if low[at - 1] in _INTRODUCING and low[at].endswith("ing") and not _negated(low, at):
            verb = plain_form(low[at])
            if verb is not None and verb not in EITHER and VERBS[verb] == "destructive" and _is_listed(low, at):
                yield at


def _is_listed(low: list[str], at: int) -> bool:
    """Tell whether a list has begun in the sentence."""
    before = next((word for word in reversed(low[:at]) if word in _END or word in _LISTING or word == ":"), ".")
    return before not in _END


def is_lookup(description: str, said: Said) -> bool:
    """Tell whether what is said to be executed is a search."""
    start = description.find(said.quote) + len(said.quote)
    after = [token.lower() for token in _TOKEN.findall(description[start : start + 90])][:7]
    return bool(_LOOKUPS & set(after)) and not _LANGUAGES.search(description)


def later(description: str) -> str | None:
    """Return the word that says, somewhere in the beginning, that something is destroyed or paid as well; or None."""
    tokens: list[str] = _TOKEN.findall(_MARKS.sub(" ", description[:_BEGINNING]))
    low = list(map(str.lower, tokens))
    for at in range(1, len(low) - 1):
        word, before = low[at], low[at - 1]
        ends = "ing" if word.endswith("ing") else "ed" if word.endswith("ed") else "s" if _is_third(word) else ""
        if not ends or _negated(low, at):
            continue
        verb = plain_form(word) if ends != "ed" else _participle(word)
        if verb is None or VERBS[verb] not in ("destructive", "financial"):
            continue
        done = before in _PASSIVE and verb in _GONE if ends == "ed" else low[at + 1] in _OBJECTS
        if done and (ends != "ing" or before in _INTRODUCING):
            return tokens[at]
    return None


def _participle(word: str) -> str | None:
    return next((stem for stem in (word[:-2], word[:-1], word[:-3]) if stem in VERBS), None)


def warning(description: str) -> str | None:
    """Return the words that say that what the tool does is final; None where nothing says so."""
    low = description.lower()
    if not any(hint in low for hint in _FINAL):  # a tenth of the time that the expression takes
        return None
    found = _IRREVERSIBLE.search(description)
    if found is None:
        return None
    before = description[max(0, found.start() - 30) : found.start()].lower().split()
    return None if _NEGATIONS & set(before[-3:]) else found[0]


def _leading(low: list[str]) -> int | None:
    for at, word in enumerate(low[:_LEAD]):
        follows = low[at + 1] if at + 1 < len(low) else ""
        if word in _OPENERS or (word in _CALLS and follows in _ITSELF):
            continue
        noun = word in EITHER and at > 0 and low[at - 1] in _ARTICLES
        if not noun and plain_form(word) is not None and not _negated(low, at):
            return at
        if word in _END and word != "\n" and at > _FIRST:
            return None
    return None


def _may_be_verb(low: list[str], at: int, lead: int, *, near: bool) -> bool:
    """A word joined to the leading verb is a verb if it has the same form, and stands beside it or before an object."""
    word, first = low[at], low[lead]
    if _is_third(word) != _is_third(first) or word.endswith("ing") != first.endswith("ing"):
        return False
    after = low[at + 1] if at + 1 < len(low) else "."
    grave = word not in EITHER and VERBS[plain_form(word) or ""] in ("destructive", "financial")
    return near or after in _OBJECTS or grave


def _is_third(word: str) -> bool:
    return word.endswith("s") and not word.endswith("ss")


def _negated(low: list[str], at: int) -> bool:
    return not _NEGATIONS.isdisjoint(low[max(0, at - 3) : at])
