"""Several policies as one document that allows no more than each of them.

Rules kept here:

- The result is an ordinary document. It is made of the documents' own rules, each in the section and under the key
  where it stood: so every restriction still applies where it applied, and limits go on counting what they counted.
- A call that any policy denies, by a rule or by its default, is denied; what any limits or asks about is limited
  or asked about; what all allow is allowed. That holds for each call; over many calls, the merged policy lets no more
  through than any limit of any policy.
- Asked for `listing="any"`, a tool may be called if one policy lists it, though the defaults of others deny it. Their
  rules still hold for it.
- What cannot be said exactly in one document raises `ValueError`; nothing is approximated where it would allow more.

The order of the policies does not change what is decided, only the order of keys and reasons.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from math import prod
from typing import Final, Literal, NamedTuple, TypeAlias

from ..errors import escape, readable
from ..policy import Policy
from .joining import join, tell_apart, unlike
from .listing import ALWAYS, Inexpressible, Opening, Scope, Tree, Way, can_list, openings, unlisted, ways

Listing: TypeAlias = Literal["all", "any"]

_LISTING: Final = ("categories", "tools")
MAX_WAYS: Final = 64
"""Most copies that are made of one rule, each under other conditions."""


def merge(policies: Iterable[Policy], *, listing: Listing = "all") -> Policy:
    """Return one policy that never allows what one of these denies.

    With `listing="any"` a tool that one of them lists may be called although another leaves it out: so policies
    for different tools or servers are put together. What a policy says about a tool holds all the same, and what none
    lists is denied unless all allow it by default.

    Limits that name the same counter, and agree on `window` and `per`, share its count. Raises `ValueError` where one
    document cannot say what these say together, with the policy and the place (a JSON Pointer).
    """
    given = list(policies)
    for policy in given:
        if not isinstance(policy, Policy):
            raise TypeError(f"`merge` takes policies, not {type(policy).__name__}; use `Policy.load(path)`")
    if not given:
        raise ValueError("there is nothing to merge: at least one policy is needed")
    if listing not in ("all", "any"):
        raise ValueError(f"`listing` is `all` or `any`, not `{listing}`")
    places = {policy: place for place, policy in reversed([*enumerate(given, 1)])}
    if len(places) == 1:
        return given[0]
    ordered = sorted(places, key=places.__getitem__)
    sources = [Source(_label(places[policy], policy.document), policy.document) for policy in ordered]
    return Policy.model_validate(_merged(sources, strict=listing == "all"))


class Source(NamedTuple):
    """One of the documents to merge, and what it is called in messages."""

    label: str
    document: Tree


class Part(NamedTuple):
    """A section of one of the documents, and by what each of the other documents lists calls there."""

    source: Source
    section: Tree
    others: tuple[tuple[Source, list[Opening]], ...]


def _label(number: int, document: Tree) -> str:
    return f"policy {number}" + (f" (`{readable(document['name'])}`)" if "name" in document else "")


def _refusal(labels: Iterable[str], error: Inexpressible) -> ValueError:
    where = f"`{error.pointer}` of {' and '.join(labels)}"
    return ValueError(f"these policies cannot be said in one document: {where} {error}")


# -- the document


def _merged(sources: list[Source], *, strict: bool) -> Tree:
    documents = [source.document for source in sources]
    tell_apart(documents)
    merged: Tree = {"version": "1", **_about(documents)}
    if any("default" in document for document in documents):
        merged["default"] = _strictest(document.get("default", "deny") for document in documents)
    if _is_shadow(sources):
        merged["mode"] = "shadow"
    merged |= _section(
        [Part(source, source.document, _others(sources, source, None, strict=strict)) for source in sources], ""
    )
    servers = dict.fromkeys(name for document in documents for name in document.get("servers", {}))
    if servers:
        merged["servers"] = {name: _server(sources, name, strict=strict) for name in servers}
    return merged


def _about(documents: list[Tree]) -> Tree:
    """Return what is for people and editors: names and descriptions one after the other."""
    found: Tree = {}
    for key, between in (("$schema", None), ("name", " + "), ("description", "\n")):
        texts = [text for text in dict.fromkeys(document.get(key) for document in documents) if text]
        if texts:
            found[key] = texts[0] if between is None else between.join(texts)
    return found


def _strictest(defaults: Iterable[str]) -> str:
    return "deny" if "deny" in set(defaults) else "allow"


def _is_shadow(sources: list[Source]) -> bool:
    shadow = [source.document.get("mode") == "shadow" for source in sources]
    if any(shadow) and not all(shadow):
        error = Inexpressible("/mode", "is `shadow`, while another's is not, and a document has one mode")
        raise _refusal([sources[shadow.index(True)].label], error)
    return any(shadow)


def _others(
    sources: list[Source], own: Source, server: str | None, *, strict: bool
) -> tuple[tuple[Source, list[Opening]], ...]:
    """Return by what the other documents list calls, where that matters."""
    if not strict:
        return ()
    return tuple((source, openings(source.document, server)) for source in sources if source is not own)


def _server(sources: list[Source], name: str, *, strict: bool) -> Tree:
    """Return the merged section of one server.

    Where any of the sections stands alone for listing, the merged one does; what a document without such a section
    lists at its top level is then listed here again.
    """
    owns = [source.document.get("servers", {}).get(name, {}) for source in sources]
    defaults = [
        own.get("default", source.document.get("default", "deny")) for source, own in zip(sources, owns, strict=True)
    ]
    parts = [
        Part(source, own, _others(sources, source, name, strict=strict))
        for source, own in zip(sources, owns, strict=True)
        if own
    ]
    if not any("default" in own for own in owns):
        return _section(parts, f"/servers/{escape(name)}")
    default = _strictest(defaults)
    alone = [
        Part(source, _bare(source.document), _others(sources, source, name, strict=strict))
        for source, own in zip(sources, owns, strict=True)
        if "default" not in own and default == "deny"
    ]
    return {"default": default, **_section([*parts, *alone], f"/servers/{escape(name)}")}


def _bare(document: Tree) -> Tree:
    """Return what the top level of a document lists, without any restriction."""

    def bare(entry: Tree | list[Tree]) -> list[Tree]:
        kept = ("except", "when", "mode")
        return [{key: rule[key] for key in kept if key in rule} for rule in _rules(entry) if can_list(rule)]

    return {kind: {key: bare(entry) for key, entry in document.get(kind, {}).items()} for kind in _LISTING}


def _rules(entry: Tree | list[Tree]) -> list[Tree]:
    return entry if isinstance(entry, list) else [entry]


# -- one section


def _section(parts: Sequence[Part], at: str) -> Tree:
    """Return the merged section of these, which stands at the pointer `at`."""
    merged: Tree = {}
    hide = list(dict.fromkeys(pattern for part in parts for pattern in part.section.get("hide", ())))
    if hide:
        merged["hide"] = hide
    by_key = {kind: _entries(parts, kind, at) for kind in _LISTING}
    every = [(part, part.section["all_tools"]) for part in parts if "all_tools" in part.section]
    every += _denials(parts)
    if every:
        merged["all_tools"] = _joined(every, f"{at}/all_tools", lists=False)
    categories = {
        key: _joined(rules, f"{at}/categories/{key}", lists=True) for key, rules in by_key["categories"].items()
    }
    tools = {key: _tidy([rule for _, rule in rules]) for key, rules in by_key["tools"].items()}
    return merged | {key: value for key, value in (("categories", categories), ("tools", tools)) if value}


def _joined(rules: Sequence[tuple[Part, Tree]], pointer: str, *, lists: bool) -> Tree:
    try:
        return join([rule for _, rule in rules], pointer, lists=lists)
    except Inexpressible as error:
        raise _refusal(dict.fromkeys(part.source.label for part, _ in rules), error) from None


def _entries(parts: Sequence[Part], kind: str, at: str) -> dict[str, list[tuple[Part, Tree]]]:
    """Return the rules of all parts by their keys, each applying only where the other documents list the call too."""
    found: dict[str, list[tuple[Part, Tree]]] = {}
    for part in parts:
        for key, entry in part.section.get(kind, {}).items():
            for rule in _rules(entry):
                pointer = f"{at}/{kind}/{escape(key)}"
                for copy in _conditioned(rule, Scope(kind, key, tuple(rule.get("except", ()))), part, pointer):
                    found.setdefault(key, []).append((part, copy))
    return found


def _conditioned(rule: Tree, scope: Scope, part: Part, pointer: str) -> Iterator[Tree]:
    """Yield the rule, once for each way in which all the other documents list what it applies to."""
    if not can_list(rule) or rule.get("action") in ("deny", "hide"):  # it lists nothing that it does not deny
        yield rule
        return
    found = [_ways(source, listed, scope) for source, listed in part.others]
    count = prod(map(len, found))
    if count > (1 if scope.section == "categories" else MAX_WAYS):
        message = f"would have to stand {count} times, each under other conditions on which the others list its tools"
        raise _refusal([part.source.label], Inexpressible(pointer, message))
    for combined in product(*found):
        yield _with_conditions(rule, [condition for way in combined for condition in way])


def _ways(source: Source, listed: list[Opening], scope: Scope) -> tuple[Way, ...]:
    if _is_denied_apart(listed, scope):
        return ALWAYS
    try:
        return ways(listed, scope)
    except Inexpressible as error:
        raise _refusal([source.label], error) from None


def _is_denied_apart(listed: list[Opening], scope: Scope) -> bool:
    """Tell whether what a document does not list is denied for all tools rather than left out of one rule.

    A category has one rule, which cannot be copied for each of several ways.
    """
    return scope.section == "categories" and unlisted(listed) is not None and len(ways(listed, scope)) > 1


def _denials(parts: Sequence[Part]) -> Iterator[tuple[Part, Tree]]:
    """Yield what denies the calls that a document does not list, where no condition of the others' rules says so."""
    for part in parts:
        scopes = [
            Scope("categories", key, tuple(rule.get("except", ())))
            for key, entry in part.section.get("categories", {}).items()
            for rule in _rules(entry)
        ]
        for _, listed in part.others:
            if any(_is_denied_apart(listed, scope) for scope in scopes):
                yield part, {"deny_if": unlisted(listed)}


def _with_conditions(rule: Tree, conditions: Iterable[Tree]) -> Tree:
    own = rule.get("when", [])
    more = [condition for condition in unlike(conditions) if condition not in own]
    if not more:
        return rule
    first = [key for key in ("action", "reason", "on_deny", "except") if key in rule]
    rest = [key for key in rule if key not in (*first, "when")]
    return {key: [*own, *more] if key == "when" else rule[key] for key in (*first, "when", *rest)}


def _tidy(rules: list[Tree]) -> Tree | list[Tree]:
    """Return the rules of one key without those that say nothing that the others do not say."""
    kept = unlike(rules)
    for rule in list(kept):
        others = [other for other in kept if other is not rule]
        if not rule.keys() - {"reason", "on_deny"} and any(map(_plainly_lists, others)):
            kept = others
    return kept[0] if len(kept) == 1 else kept


def _plainly_lists(rule: Tree) -> bool:
    return not rule.get("when") and not rule.get("except") and can_list(rule)
