"""Rules of several policies that have to stand in one place, and limits of several policies that meet in one document.

Rules kept here:

- Where a document has room for one rule only (`all_tools`, a category), the rules of several policies become one that
  says all that each of them says. What one rule cannot say (a limit or a `require` under a condition that is not the
  other's) is refused, never left out.
- Each restriction keeps the words it had: a rule's `reason` goes down to its items before the rules are joined.
- Limits of one policy that share a count go on sharing it. Limits of two policies share one where they name the same
  counter and mean the same by it, or where both count the same calls; else one of them gets a name of its own.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from ..compiler import DEFAULT_TTL
from ..errors import escape
from ..limits.spec import normal_per, parse_shorthand, parse_window
from ..values import canonical
from .listing import Inexpressible, Tree, not_named

_GUARD: Final = ("except", "when", "mode")


def unlike(rules: Iterable[Tree]) -> list[Tree]:
    """Return the rules (or items) without those that say what an earlier one says."""
    return list({canonical(rule): rule for rule in reversed([*rules])}.values())[::-1]


# -- several rules as one


def join(rules: Sequence[Tree], pointer: str, *, lists: bool) -> Tree:
    """Return one rule that restricts as all of these do together, and, where the place `lists`, lists as they do.

    They stand at `pointer`. Raises `Inexpressible`.
    """
    rules = unlike(rules)
    if len(rules) == 1:
        return rules[0]
    guards = [{key: rule[key] for key in _GUARD if rule.get(key)} for rule in rules]
    if any("mode" in guard for guard in guards):
        raise Inexpressible(pointer, "has a rule in shadow, which cannot become one rule with another policy's")
    if all(guard == guards[0] for guard in guards):
        return guards[0] | _together([_spelt_out(rule) for rule in rules])
    if lists and all(guards):
        raise Inexpressible(pointer, "lists under conditions that differ between policies; there is room for one rule")
    return _together([_guarded(rule, pointer) for rule in rules])


def _spelt_out(rule: Tree) -> Tree:
    """Return a rule whose action and reason have gone down to its items."""
    reason = rule.get("reason", rule.get("on_deny"))
    said = {"reason": reason} if reason else {}
    spelt: Tree = {
        key: [_told(item, said, key) for item in rule.get(key, ())] for key in ("require", "deny_if", "approve_if")
    }
    for action, key in (("deny", "deny_if"), ("approve", "approve_if")):
        if rule.get("action") == action:
            spelt[key].insert(0, {"conditions": [], **said})  # which always holds
    if rule.get("action") == "hide":
        spelt["action"] = "hide"
    spelt["limits"] = [_told(limit, said, "limits") for limit in limits_of(rule)]
    if spelt["approve_if"]:
        spelt["approval"] = {"ttl": DEFAULT_TTL, **rule.get("approval", {})}
    return spelt


def _told(item: Tree, said: Tree, kind: str) -> Tree:
    """Return an item with the words of its rule, unless it or one of its conditions speaks for itself."""
    speaks = _speaks(item) or (kind != "require" and any(map(_speaks, item.get("conditions", ()))))
    return item if speaks else {**item, **said}


def _speaks(item: Tree) -> bool:
    return "reason" in item or "on_deny" in item


def _guarded(rule: Tree, pointer: str) -> Tree:
    """Return a rule spelt out, each of whose items asks first whether the rule applies."""
    spelt = _spelt_out(rule)
    guard = [*not_named(rule.get("except", ())), *map(_silent, rule.get("when", ()))]
    if not guard:
        return spelt
    for key in ("action", "require", "limits"):
        if spelt.get(key):
            what = "`hide`" if key == "action" else f"`{key}`"
            message = f"has {what} under a `when` or `except` that another policy's rule has not; there is room for one"
            raise Inexpressible(pointer, message)
    if not (spelt["deny_if"] or spelt["approve_if"]):
        spelt["deny_if"] = [{"conditions": [_NEVER]}]  # a `when` that errs denies, whatever else the rule says
    return spelt | {key: [_behind(guard, item) for item in spelt[key]] for key in ("deny_if", "approve_if")}


_NEVER: Final = {"path": "tool.name", "op": "exists", "value": False}


def _behind(guard: list[Tree], item: Tree) -> Tree:
    """Return a clause that reads the conditions of `guard` before those of an item."""
    if "conditions" in item:
        return {**item, "conditions": [*guard, *item["conditions"]]}
    said = {key: value for key, value in item.items() if key in ("reason", "on_deny")}
    return {"conditions": [*guard, _silent(item)], **said}


def _silent(condition: Tree) -> Tree:
    return {key: value for key, value in condition.items() if key not in ("reason", "on_deny")}


def _together(rules: Sequence[Tree]) -> Tree:
    """Return one rule with all items of rules that are spelt out; where they ask for approval, the shortest `ttl`."""
    joined: Tree = {"action": "hide"} if any("action" in rule for rule in rules) else {}
    for key in ("require", "deny_if", "approve_if", "limits"):
        items = unlike(item for rule in rules for item in rule[key])
        if items:
            joined[key] = items
    ttl = min((rule["approval"]["ttl"] for rule in rules if "approval" in rule), default=DEFAULT_TTL)
    return joined if ttl == DEFAULT_TTL else {**joined, "approval": {"ttl": ttl}}


# -- counters


def limits_of(rule: Tree) -> list[Tree]:
    """Return all limits of a rule, spelt out."""
    short = rule.get("rate_limit")
    if isinstance(short, str):
        maximum, window = parse_shorthand(short)
        short = {"max": maximum, "window": int(window)}
    return [*([short] if short else []), *rule.get("limits", ())]


class _Counted(NamedTuple):
    """A limit of a rule in a document, and what it would share its count by."""

    rule: Tree
    limit: Tree
    share: Hashable
    meaning: Hashable
    """Limits that share a count have to agree on this."""
    label: str


def tell_apart(documents: Sequence[Tree]) -> None:
    """Name the counters of limits that would share a count with another document's and do not mean the same by it."""
    counted = [each for document in documents for each in _counted(document)]
    used = {each.limit.get("counter") for each in counted}
    meanings: dict[Hashable, dict[Hashable, str | None]] = {}
    for rule, limit, share, meaning, label in counted:
        known = meanings.setdefault(share, {})
        if meaning not in known:
            known[meaning] = _unused(label, len(known) + 1, used) if known else None
        name = known[meaning]
        if name is not None:
            limit["counter"] = name
            if not any(limit is each for each in rule.get("limits", ())):
                rule["rate_limit"] = limit


def _unused(label: str, number: int, used: set[str | None]) -> str:
    while f"{label} ({number})" in used:
        number += 1
    used.add(f"{label} ({number})")
    return f"{label} ({number})"


def _counted(document: Tree) -> Iterator[_Counted]:
    """Yield the limits of a document.

    A named limit means its window and what it counts by. One without a name means the calls that the rules with this
    count apply to. Rules of `all_tools` and `categories` that can be joined apply to the same calls.
    """
    unnamed: list[tuple[Tree, Tree, Hashable, str, str]] = []
    for place, is_single, rule in _rules(document):
        for limit in limits_of(rule):
            window, per = parse_window(limit["window"]), normal_per(limit.get("per", limit.get("scope", "session")))
            if "counter" in limit:
                yield _Counted(rule, limit, limit["counter"], (window, per), limit["counter"])
            elif not is_single:
                share: Hashable = (place, window, per, canonical(limit.get("cost", 1)), "mode" in rule)
                guard = canonical([rule.get("when", []), sorted(rule.get("except", []))])
                unnamed.append((rule, limit, share, guard, place))
    guards: dict[Hashable, set[str]] = {}
    for _, _, share, guard, _ in unnamed:
        guards.setdefault(share, set()).add(guard)
    for rule, limit, share, _, place in unnamed:
        yield _Counted(rule, limit, share, frozenset(guards[share]), place)


def _rules(document: Tree) -> Iterator[tuple[str, bool, Tree]]:
    """Yield each rule of a document, after the pointer to its section and key and whether only one may stand there."""
    sections = [("", document), *((f"/servers/{escape(key)}", own) for key, own in document.get("servers", {}).items())]
    for at, section in sections:
        if "all_tools" in section:
            yield f"{at}/all_tools", True, section["all_tools"]
        for kind in ("categories", "tools"):
            for key, entry in section.get(kind, {}).items():
                for rule in entry if isinstance(entry, list) else [entry]:
                    yield f"{at}/{kind}/{escape(key)}", kind == "categories", rule
