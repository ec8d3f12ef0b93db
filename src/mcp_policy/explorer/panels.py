"""What the builder's form shows of an entry: each rule, and what each of its fields holds.

Rules kept here:

- A form is made from the text of the document and from nothing else, so the two cannot disagree.
- Every value of a rule is shown: in a field, and where there is none, as JSON.
- Numbers stand in a field as they are spelt in the document.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple, TypeAlias

from mcp_policy import layout
from mcp_policy.adapters._page.shown import visible
from mcp_policy.conditions import DENY_IF, compile_condition
from mcp_policy.layout import Number, tree
from mcp_policy.sentences import describe

from .editing import EditError, Kind, Tree, kind_of
from .offers import Offer, condition
from .picture import Picture, picture

Known: TypeAlias = Mapping[str, Offer]
"""What is known of paths."""

KINDS: Final[tuple[tuple[Kind, str, str], ...]] = (
    ("allow", "Allow", "Calls run."),
    ("deny", "Deny", "No call runs, and the agent is told why."),
    ("hide", "Hide", "As if the tool did not exist: it is not listed either."),
    ("limit", "Limit", "So many calls run in any stretch of time; the next one is told when to try again."),
    ("approve", "Approve", "Each call waits until a person agrees to it."),
    ("custom", "Custom", "Conditions on arguments, callers and times; limits; exceptions."),
    ("none", "No rule", "Nothing of its own: what other entries and the default say."),
)
"""What an entry can be: its name in an edit, its name for people, and what it means."""

LISTS: Final = (
    ("when", "When", "The rule applies only if all of these hold."),
    ("require", "Require", "Each has to hold, or the call is denied."),
    ("deny_if", "Deny if", "If any of these holds, the call is denied."),
    ("approve_if", "Ask if", "If any of these holds, a person has to agree."),
)
DIMENSIONS: Final = ("session", "principal", "agent", "tool", "server", "global")
_ALIAS: Final = {"grant": "principal"}


class Condition(NamedTuple):
    """One condition: where it stands, in words, and what its fields hold."""

    at: str
    says: str
    path: str = ""
    op: str = ""
    value: str = ""
    by_path: bool = False
    """Whether it compares with what another path leads to."""
    reason: str = ""


class Item(NamedTuple):
    """One item of a list of conditions. A clause has several, and where they stand; else `clause` is empty."""

    at: str
    conditions: tuple[Condition, ...]
    clause: str = ""
    reason: str = ""
    reason_at: str = ""


class Items(NamedTuple):
    """A list of conditions: its key, its name, what it does, where it stands, and what is in it."""

    key: str
    title: str
    says: str
    at: str
    items: tuple[Item, ...]


class Limit(NamedTuple):
    """A limit as its fields show it; `short` where it is written as one text, such as `10/minute`."""

    at: str
    max: str
    window: str
    per: tuple[str, ...]
    per_at: str
    counter: str
    cost: str
    reason: str
    reason_at: str
    refund: bool
    anyway: bool
    """Whether calls run when the count cannot be kept."""
    short: bool
    listed: bool
    """Whether it stands in a list."""
    picture: Picture | None


class Card(NamedTuple):
    """One rule: where it stands and what each of its fields holds."""

    at: str
    kind: Kind
    action: str
    reason: str
    reason_at: str
    ttl: str
    shadow: bool
    excepts: str
    lists: tuple[Items, ...]
    limits: tuple[Limit, ...]
    number: int = 0
    """Its place among several, from 1; 0 where it is the only one."""


# -- the rules of an entry


def cards(entry: Any, at: str, offered: Iterable[Offer]) -> tuple[Card, ...]:
    """Return each rule of an entry; none where there is no entry. `offered` is what is known of paths."""
    known = {offer.path: offer for offer in offered}
    if isinstance(entry, list):
        return tuple(_card(rule, f"{at}/{place}", place + 1, known) for place, rule in enumerate(entry))
    return () if entry is None else (_card(entry, at, 0, known),)


def _card(rule: Tree, at: str, number: int, known: Known) -> Card:
    return Card(
        at=at,
        kind=kind_of(rule),
        action=rule.get("action", "allow"),
        reason=_reason(rule)[0],
        reason_at=f"{at}/{_reason(rule)[1]}",
        ttl=_text((rule.get("approval") or {}).get("ttl", "")),
        shadow=rule.get("mode") == "shadow",
        excepts="\n".join(rule.get("except") or []),
        lists=tuple(
            Items(key, title, says, f"{at}/{key}", tuple(_items(rule.get(key) or [], f"{at}/{key}", known)))
            for key, title, says in LISTS
        ),
        limits=tuple(_limits(rule, at)),
        number=number,
    )


def _reason(part: Mapping[str, Any]) -> tuple[str, str]:
    """Return a reason, and the name under which it stands."""
    key = "on_deny" if "on_deny" in part else "reason"
    return part.get(key, ""), key


def _items(items: list[Tree], at: str, known: Known) -> Iterator[Item]:
    for place, item in enumerate(items):
        here = f"{at}/{place}"
        if "conditions" not in item:
            yield Item(here, (_condition(item, here, known),))
            continue
        inner = f"{here}/conditions"
        parts = tuple(_condition(part, f"{inner}/{index}", known) for index, part in enumerate(item["conditions"]))
        reason, key = _reason(item)
        yield Item(here, parts, inner, reason, f"{here}/{key}")


def _condition(raw: Tree, at: str, known: Known) -> Condition:
    by_path = "value_from" in raw
    value = raw["value_from"] if by_path else typed(raw, known.get(raw["path"]))
    return Condition(at, _words(raw), raw["path"], raw["op"], value, by_path, _reason(raw)[0])


def typed(raw: Tree, offer: Offer | None) -> str:
    """Return a condition's value as a person would type it: a text as itself where that is read back as it is."""
    value = raw["value"]
    if isinstance(value, str) and can_be_seen(value):
        with suppress(EditError):
            if tree(condition(raw["path"], raw["op"], value, offer))["value"] == value:
                return value
    return layout.spelt(value)


def _words(raw: Tree) -> str:
    return describe(compile_condition(json.loads(layout.spelt(raw)), DENY_IF, lambda call: None))


def _limits(rule: Tree, at: str) -> Iterator[Limit]:
    if "rate_limit" in rule:
        yield _limit(rule["rate_limit"], f"{at}/rate_limit", listed=False)
    for place, limit in enumerate(rule.get("limits") or []):
        yield _limit(limit, f"{at}/limits/{place}", listed=True)


def _limit(limit: Any, at: str, *, listed: bool) -> Limit:
    short = isinstance(limit, str)
    part = expanded(limit)
    per_key = "scope" if "scope" in part else "per"
    per = part.get(per_key, "session")
    reason, reason_key = _reason(part)
    cost = part.get("cost", "")
    return Limit(
        at=at,
        max=_text(part["max"]),
        window=_text(part["window"]),
        per=tuple(_ALIAS.get(one, one) for one in ([per] if isinstance(per, str) else per)),
        per_at=f"{at}/{per_key}",
        counter=part.get("counter", ""),
        cost=f"length {cost['length']}" if isinstance(cost, dict) else _text(cost),
        reason=reason,
        reason_at=f"{at}/{reason_key}",
        refund=part.get("refund_on_error", False),
        anyway=part.get("on_unavailable") == "allow",
        short=short,
        listed=listed,
        picture=picture(json.loads(layout.spelt(limit))),
    )


def expanded(limit: Any) -> Mapping[str, Any]:
    """Return a limit with its keys, also where it is written as one text."""
    if not isinstance(limit, str):
        return dict(limit)
    most, window = limit.split("/")
    return {"max": Number(str(int(most))), "window": window}


# -- values


def _text(value: Any) -> str:
    return value.spelt if isinstance(value, Number) else str(value)


def can_be_seen(text: str) -> bool:
    """Tell whether every character of a text shows in a field of one line."""
    return visible(text) == text
