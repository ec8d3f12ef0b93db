"""Which calls a policy lists, written as conditions for the rules of another policy.

A rule lists the tools of its key. Where two policies become one document, a rule of the first must not list what the
second leaves to its `default: deny`. So it is given conditions under which the second lists the call too: one list of
conditions for each way in which it may. What the second does not list it denies, so that nothing is lost where the
rule does not apply.

Rules kept here:

- The conditions are exact: they hold where the other policy lists the call, and err only where it denies the call.
- They are as few as possible: none where the other policy plainly lists all that the rule is about.
- What conditions cannot say is refused (`Inexpressible`), never left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from ..errors import escape
from ..patterns import compile_pattern, is_exact

Tree: TypeAlias = dict[str, Any]
Way: TypeAlias = tuple[Tree, ...]
"""Conditions for a `when`: all have to hold."""

UNLISTED: Final = "The policy does not list this tool, and what it does not list is denied."
ALWAYS: Final[tuple[Way, ...]] = ((),)


class Inexpressible(ValueError):
    """What a document cannot say; `pointer` is the rule that would have to be said otherwise."""

    def __init__(self, pointer: str, message: str) -> None:
        super().__init__(message)
        self.pointer = pointer


class Scope(NamedTuple):
    """What a rule is about: the section (`tools` or `categories`), its key there, and what it excepts."""

    section: str
    key: str
    excepted: tuple[str, ...] = ()


class Opening(NamedTuple):
    """A rule that lists what it is about where `when` holds; on one server only where `server` is given."""

    scope: Scope
    when: Way
    server: str | None
    shadow: bool
    pointer: str


def can_list(rule: Tree) -> bool:
    """Tell whether a rule lists what it applies to: a shadow rule does so only by allowing."""
    return rule.get("mode") != "shadow" or rule.get("action", "allow") == "allow"


def openings(document: Tree, server: str | None) -> list[Opening]:
    """Return all by which a document lists calls to a server, or (None) to any: what is for one server says so."""
    servers, default = document.get("servers", {}), document.get("default", "deny")
    if server is not None:
        own = servers.get(server, {})
        if own.get("default", default) == "allow":
            return [_everything(None, "default" in own, server)]
        top = () if "default" in own else _of_section(document, "", None)
        return [*top, *_of_section(own, f"/servers/{escape(server)}", None)]
    if default == "allow":
        return [_everything(None, False, "")]
    found = list(_of_section(document, "", None))
    for name, own in servers.items():
        if own.get("default") == "allow":
            found.append(_everything(name, True, name))
        else:
            found += _of_section(own, f"/servers/{escape(name)}", name)
    return found


def _everything(server: str | None, is_own: bool, name: str) -> Opening:
    at = f"/servers/{escape(name)}" if is_own else ""
    return Opening(Scope("tools", "*"), (), server, False, f"{at}/default")


def _of_section(section: Tree, at: str, server: str | None) -> Iterator[Opening]:
    for kind in ("categories", "tools"):
        for key, entry in section.get(kind, {}).items():
            for rule in entry if isinstance(entry, list) else [entry]:
                if can_list(rule):
                    scope = Scope(kind, key, tuple(rule.get("except", ())))
                    shadow = rule.get("mode") == "shadow"
                    yield Opening(scope, tuple(rule.get("when", ())), server, shadow, f"{at}/{kind}/{escape(key)}")


# -- the ways in which a policy lists what a rule is about


def ways(found: Iterable[Opening], scope: Scope) -> tuple[Way, ...]:
    """Return the conditions under which these openings list what a rule of this scope is about, one for each way.

    `ALWAYS` where they list all of it, nothing where none of it. Raises `Inexpressible`.
    """
    near = [opening for opening in found if _may_meet(opening.scope, scope)]
    if any(not opening.when and opening.server is None and _covers(opening.scope, scope) for opening in near):
        return ALWAYS
    for opening in near:
        if opening.shadow and opening.when:
            message = "lists tools by the `when` of a shadow rule, which cannot be a condition of the other's rules"
            raise Inexpressible(opening.pointer, message)
    names = [opening for opening in near if opening.scope.section == "tools"]
    categories = [opening for opening in near if opening.scope.section == "categories"]
    return tuple(_distinct([*_by_name(names, scope), *_by_category(categories, names, scope)]))


def _by_name(found: list[Opening], scope: Scope) -> Iterator[Way]:
    """Yield one way for all names that are simply listed, for each server, and one for each opening that asks more."""
    simple: dict[str | None, list[str]] = {}
    for opening in found:
        if not _asks_more(opening, scope):
            simple.setdefault(opening.server, []).append(opening.scope.key)
    for server, keys in simple.items():
        yield (*_on(server), *([] if any(_matches_all(key, scope) for key in keys) else _named(keys)))
    for opening in found:
        if _asks_more(opening, scope):
            key = opening.scope.key
            name = [] if _matches_all(key, scope) else _named([key])
            yield (*_on(opening.server), *name, *_excepted(opening, scope), *opening.when)


def _by_category(found: list[Opening], names: list[Opening], scope: Scope) -> Iterator[Way]:
    """Yield one way for each opening by category.

    A condition on the category of an unknown tool errs. So it is asked only of tools that are not listed by name.
    """
    if scope.section == "categories":  # the very category that the rule is about
        yield from ((*_on(opening.server), *_excepted(opening, scope), *opening.when) for opening in found)
        return
    simple: dict[str | None, list[str]] = {}
    for opening in found:
        if any(_asks_more(other, scope) or other.server not in (None, opening.server) for other in names):
            message = "lists tools by category and others by name under conditions, which no `when` can tell apart"
            raise Inexpressible(opening.pointer, message)
        if not _asks_more(opening, scope):
            simple.setdefault(opening.server, []).append(opening.scope.key)
    by_name = not_named([other.scope.key for other in names])
    for server, keys in simple.items():
        yield (*_on(server), *by_name, _compare("tool.category", "in", keys))
    for opening in found:
        if _asks_more(opening, scope):
            category = _compare("tool.category", "eq", opening.scope.key)
            yield (*_on(opening.server), *by_name, *_excepted(opening, scope), category, *opening.when)


def _asks_more(opening: Opening, scope: Scope) -> bool:
    return bool(opening.when or _excepted(opening, scope))


def _may_meet(one: Scope, scope: Scope) -> bool:
    """Tell whether a rule of scope `one` may be about something that a rule of `scope` is about."""
    if one.section == "categories":
        return scope.section == "tools" or one.key == scope.key
    if is_exact(one.key):
        known = scope.section == "categories" or _is_about(scope, one.key)
        return known and _is_about(one, one.key)
    return not _is_one(scope) or _is_about(one, scope.key)


def _is_about(scope: Scope, name: str) -> bool:
    if is_exact(scope.key) and scope.key != name:
        return False
    return compile_pattern(scope.key)(name) and not any(compile_pattern(pattern)(name) for pattern in scope.excepted)


def _covers(one: Scope, scope: Scope) -> bool:
    """Tell whether all that a rule of `scope` is about is plainly what one of scope `one` is about."""
    if one.section == "categories":
        return one.key == scope.key and scope.section == "categories" and set(one.excepted) <= set(scope.excepted)
    if not _matches_all(one.key, scope):
        return False
    return set(one.excepted) <= set(scope.excepted) or (_is_one(scope) and _is_about(one, scope.key))


def _is_one(scope: Scope) -> bool:
    return scope.section == "tools" and is_exact(scope.key)


def _matches_all(pattern: str, scope: Scope) -> bool:
    """Tell whether a pattern plainly matches every name that a rule of `scope` is about."""
    if not pattern.strip("*"):
        return True
    if scope.section == "categories":
        return False
    if _is_one(scope):
        return compile_pattern(pattern)(scope.key)
    # without `?`, only a `*` can take up the `*` and `?` of the other pattern
    return pattern == scope.key or ("?" not in pattern and compile_pattern(pattern)(scope.key))


def unlisted(found: Sequence[Opening]) -> list[Tree] | None:
    """Return the items of a `deny_if` that hold where these openings do not list the call; None where none can."""
    if any(opening.when or opening.scope.excepted or opening.scope.section != "tools" for opening in found):
        return None
    names: dict[str | None, list[str]] = {None: []}
    for opening in found:
        names.setdefault(opening.server, []).append(opening.scope.key)
    everywhere = names.pop(None)
    elsewhere = [_compare("server.name", "not_in", [*names])] if names else []
    clauses = [[*elsewhere, *not_named(everywhere)]]
    clauses += [[*_on(server), *not_named([*everywhere, *keys])] for server, keys in names.items()]
    return [{"conditions": conditions, "reason": UNLISTED} for conditions in clauses]


# -- conditions


def _compare(path: str, op: str, value: object) -> Tree:
    return {"path": path, "op": op, "value": value}


def _on(server: str | None) -> list[Tree]:
    return [] if server is None else [_compare("server.name", "eq", server)]


def _named(patterns: list[str]) -> list[Tree]:
    if not all(map(is_exact, patterns)):
        return [_compare("tool.name", "glob", patterns)]
    return [_compare("tool.name", "in", patterns)]


def not_named(patterns: Iterable[str]) -> list[Tree]:
    """Return conditions that hold for names that match none of the patterns; a name is never absent, so none errs."""
    patterns = list(patterns)
    exact = [pattern for pattern in patterns if is_exact(pattern)]
    others = [_compare("tool.name", "not_regex", _regex(pattern)) for pattern in patterns if not is_exact(pattern)]
    return ([_compare("tool.name", "not_in", exact)] if exact else []) + others


def _regex(pattern: str) -> str:
    """Return the regular expression of a pattern; a tool's name has no line breaks, so that `.` is any character."""
    spelt = {"*": ".*", "?": "."} | {char: f"\\{char}" for char in r"\.+()|[]{}^$"}
    return f"^{''.join(spelt.get(char, char) for char in pattern)}$"


def _excepted(opening: Opening, scope: Scope) -> list[Tree]:
    """Return what an opening excepts, as conditions, as far as the rule does not except it too."""
    if _is_one(scope) and opening.scope.section == "tools":
        return []  # the one name is not excepted: it would not have been near
    return not_named(pattern for pattern in opening.scope.excepted if pattern not in scope.excepted)


def _distinct(found: list[Way]) -> list[Way]:
    return [way for place, way in enumerate(found) if way not in found[:place]]
