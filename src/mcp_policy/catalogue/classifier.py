"""`classify`: a tool's category and risk, from its own definition and nothing else.

Rules kept here:

- The worst that is plainly said counts: financial > destructive > execute > write > read.
- The name weighs most. A description can make it worse, and speaks for a tool whose name says nothing; it never makes
  harmless what the name plainly says.
- Annotations raise and never lower. What runs code stays `execute`, which says more than that it may destroy.
- A tool of which nothing is known is a write, with a confidence below `UNSURE`.
- The same definition gives the same profile, in time linear in its size.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Final, NamedTuple

from .definition import Definition, Tool, parameters, skim_definition
from .inputs import of_annotations, of_parameters
from .levels import level_of
from .lexicon import (
    CARRIERS,
    EITHER,
    ELSEWHERE,
    IDENTIFIED,
    MAKING,
    MARKET,
    MONEY,
    MONEY_TALK,
    NOTICES,
    ORDERED,
    PAPERS,
    SOFT,
    STARTED,
    TRADED,
    VERBS,
)
from .profile import CATEGORIES, Category, Evidence, RiskProfile
from .telling import is_lookup, later, plain_form, reads_only, said_verbs, warning
from .verbs import split_name, verbs_of

# Shares of tools told apart rightly (read or not) on the servers that were looked at: benchmarks/accuracy.py.
AGREED: Final = 0.97
"""The name and the description say the same."""
TOLD: Final = 0.95
"""Only the description says what the tool does."""
NAMED: Final = 0.9
"""Only the name does, or a parameter or an annotation says that it is worse."""
DIFFERENT: Final = 0.75
"""Name and description say different things."""
VAGUE: Final = 0.4
"""The tool `manages` or `handles` something, and nothing says how."""
UNKNOWN: Final = 0.3

_RANK: Final = {category: rank for rank, category in enumerate(CATEGORIES)}
_VAGUE: Final = frozenset(("do", "handle", "manage", "perform", "process"))
_TRIED: Final = frozenset(("dryrun", "estimate", "preview", "simulation"))
_MADE: Final = frozenset(("create", "deploy", "generate", "publish", "update"))
_OPEN: Final = {"resolve", *ELSEWHERE}  # verbs that other words decide on
_WORDS: Final = re.compile(r"\w+")
_BESIDE: Final = 200  # characters of a description that hold what its verbs are about
_LONGEST_NAME: Final = 256  # a tool with a longer one cannot be called
_KEPT: Final = 8  # signs that are shown
_NEAR: Final = 600  # characters of a description that are asked what a tool has to do with


class _Named(NamedTuple):
    """What a name says: signs, whether they are plain, and the verbs themselves."""

    signs: list[Evidence]
    plain: bool
    verbs: frozenset[str]


def classify(tool: Tool) -> RiskProfile:
    """Return what a tool's definition says about its risk.

    Raises `ValueError` where the definition has no name or is not JSON.
    """
    definition = skim_definition(tool)
    words = split_name(definition.name[:_LONGEST_NAME])
    said = _of_description(definition, words)
    named = _settled(_of_name(words, definition), said)
    reads = bool(named.signs) and _worst(named.signs) == "read"
    shaped = list(of_parameters(definition, named.verbs, reads=reads))
    signs = [*named.signs, *said, *shaped]
    category, confidence = _weighed(named, said, shaped)
    if not said and not shaped and _is_paper(words, named, definition.description):
        signs = [Evidence("name", words[-1], "read")]
        category, confidence = "read", VAGUE if definition.description.strip() else DIFFERENT
    if category == "write" and (final := warning(definition.description)) is not None:
        signs.append(Evidence("description", final, "destructive"))
        category, confidence = "destructive", DIFFERENT
    if category == "read" and (doubt := _doubt(definition, words, said)) is not None:
        signs += doubt
        confidence = min(confidence, VAGUE)
    hint = of_annotations(definition)
    if hint is not None:
        signs.append(hint)
        if _RANK[hint.suggests] > _RANK[category] and category != "execute":
            category, confidence = hint.suggests, NAMED
    if not definition.name.isascii() and _is_disguised(definition.name):
        confidence = UNKNOWN
    shown = sorted(dict.fromkeys(signs), key=lambda sign: -_RANK[sign[2]] if sign[2] != category else -len(_RANK))
    level = level_of(definition, category, words)
    return RiskProfile(definition.name, category, level, confidence, tuple(shown[:_KEPT]))


def _doubt(definition: Definition, words: tuple[str, ...], said: list[Evidence]) -> list[Evidence] | None:
    """Return the signs that what reads does more, none where that cannot be told; None where there is no doubt."""
    text = definition.description
    found = later(text) or warning(text)
    if found is not None:
        return [Evidence("description", found, "destructive")]
    for word in words[1:]:
        if word.lower() not in EITHER and VERBS.get(word.lower()) in ("destructive", "financial") and not text.strip():
            return [Evidence("name", word, "destructive")]
    return [] if text.strip() and not said and not text.isascii() else None


def _is_disguised(name: str) -> bool:
    from .hidden import hidden, look_alikes

    return any(True for _ in (*hidden(name), *look_alikes(name)))


def _worst(signs: Iterable[Evidence]) -> Category | None:
    worst: Category | None = None
    for _, _, category in signs:
        if worst is None or _RANK[category] > _RANK[worst]:
            worst = category
    return worst


# -- the name


def _of_name(words: tuple[str, ...], definition: Definition) -> _Named:
    low = frozenset(word.lower() for word in words)
    tried = next((word for word in (*words[:1], *words[-1:]) if word.lower() in _TRIED), "")
    removes = bool(words) and VERBS.get(words[0].lower()) == "destructive" and "cancel" not in low
    if tried and not low & _MADE and not removes:
        return _Named([Evidence("name", tried, "read")], True, frozenset((tried.lower(),)))
    dry = next((first for first, second in pairwise(words) if (first.lower(), second.lower()) == ("dry", "run")), None)
    if dry is not None:
        return _Named([Evidence("name", dry, "read")], True, frozenset(("preview",)))
    found = verbs_of(words)
    if not found and not low.isdisjoint(("order", "orders")) and not low.isdisjoint(ORDERED):
        return _Named([Evidence("name", words[-1], "financial")], True, frozenset())
    signs = [Evidence("name", verb.quote, _meaning(verb.verb, low)) for verb in found]
    signs += _carried(words, signs)
    if signs and _worst(signs) != "read" and (money := _money(words, low, definition)):
        signs.insert(0, Evidence("name", money, "financial"))
    return _Named(signs, any(verb.plain for verb in found), frozenset(verb.verb for verb in found))


def _is_paper(words: tuple[str, ...], named: _Named, description: str) -> bool:
    """Tell whether a name without any verb but its last word says what is read: `pods_log`, `weather_forecast`."""
    last = words[-1].lower() if words else ""
    if last not in PAPERS or named.plain or not named.verbs <= {last}:
        return False
    return all(
        said.verb not in _VAGUE for said in said_verbs(description)
    )  # `Manages versions` does more than tell them


def _carried(words: tuple[str, ...], signs: list[Evidence]) -> Iterator[Evidence]:
    """Yield what is worse than the verbs themselves: `execute_swap`, `force_push`."""
    for carrier, word in pairwise(words):
        if carrier.lower() in CARRIERS and VERBS.get(word.lower()) in ("destructive", "financial"):
            yield Evidence("name", word, VERBS[word.lower()])
    forced = next((word for word in words if word.lower() == "force"), None)
    if signs and forced is not None and _worst(signs) != "read":
        yield Evidence("name", forced, "destructive")


def _meaning(verb: str, near: Iterable[str]) -> Category:
    """Return what a verb does, among these words."""
    if verb in ELSEWHERE:
        beside, category = ELSEWHERE[verb]
        if not beside.isdisjoint(near):
            return category
    if verb == "send" and not STARTED.isdisjoint(near):
        return "execute"
    if verb == "resolve" and IDENTIFIED.isdisjoint(near):
        return "write"
    return VERBS[verb]


def _money(words: tuple[str, ...], low: frozenset[str], definition: Definition) -> str | None:
    """Return the word of a name that speaks of money, where the tool plainly has to do with it."""
    if words[-1].lower() in MONEY_TALK:
        return None
    for word in words:
        if word.lower() in MONEY and "point" not in low:  # charge points are for cars
            return word
    if low.isdisjoint(TRADED):
        return None
    near = low.union(_WORDS.findall(definition.description[:_NEAR].lower()))
    near |= {part.lower() for name, _ in parameters(definition) for part in split_name(name)}
    market = MARKET & near
    for word in words:
        if word.lower() in ("order", "orders", "trade", "trades") and low & ORDERED:
            return word
        if word.lower() in ("position", "positions") and low & {"open", "close"}:
            return word
        if word.lower() in ("subscription", "subscriptions") and near.isdisjoint(NOTICES):
            return word
        if word.lower() in TRADED and market - {word.lower()}:
            return word
    return None


def _settled(named: _Named, said: list[Evidence]) -> _Named:
    """Return what a name says once its description has been heard: whether a word that may be a noun is the verb."""
    if not said:
        return named
    signs = [sign for sign in named.signs if sign.quote.lower() not in _VAGUE]
    if signs and not named.plain and said[0].suggests == "read":
        signs = [sign for sign in signs if sign.suggests == "read"]
    return named._replace(signs=signs)


# -- the description


def _of_description(definition: Definition, words: tuple[str, ...]) -> list[Evidence]:
    text = definition.description if definition.description.strip() else definition.title
    asks = any(word.lower() == "query" for word in words) and reads_only(text)
    signs = []
    for said in said_verbs(text):
        if said.verb in _VAGUE:
            continue
        near = _WORDS.findall(text[:_BESIDE].lower()) if said.verb in _OPEN else ()
        category = _meaning(said.verb, near)
        looks_up = category == "execute" and (asks or is_lookup(text, said))
        signs.append(Evidence("description", said.quote, "read" if looks_up else category))
    return signs


# -- together


def _weighed(named: _Named, said: list[Evidence], shaped: list[Evidence]) -> tuple[Category, float]:
    category, confidence = _spoken(named, said)
    worst = _worst(shaped)
    if worst is not None and _RANK[worst] > _RANK[category]:
        return worst, NAMED
    return category, confidence


def _spoken(named: _Named, said: list[Evidence]) -> tuple[Category, float]:
    """Return what the name and the description say together."""
    by_name, by_text = _worst(named.signs), _worst(said)
    if by_name is None:
        return (by_text, TOLD) if by_text is not None else ("write", UNKNOWN)
    if by_text is None:
        return by_name, VAGUE if named.verbs <= _VAGUE else NAMED
    lead = said[0].suggests
    if _RANK[by_text] <= _RANK[by_name]:
        return by_name, AGREED if lead == by_name else DIFFERENT
    plainly_reads = by_name == "read" and named.plain and not named.verbs <= SOFT
    if plainly_reads and lead == "write":
        verb = plain_form(said[0].quote.lower())
        return by_name, DIFFERENT if verb in MAKING or verb in EITHER else VAGUE
    if plainly_reads and lead != "read":
        return lead, DIFFERENT
    return by_text, DIFFERENT
