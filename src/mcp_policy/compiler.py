"""From the document to plans: for each tool, the rules that match it, compiled.

Reading a document only indexes it; a rule is compiled when the first call of a tool needs it, so that a document of
10,000 tools loads at once. What is compiled here is valid by now (`policy`); nothing here can refuse a document.

Document order is kept throughout: it is the order in which reasons are reported. It never changes an effect.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeAlias

from .call import Principal, ToolCall
from .conditions import (
    APPROVE_IF,
    DENY_IF,
    REQUIRE,
    WHEN,
    CategoryOf,
    Condition,
    Item,
    Missing,
    Outcome,
    compile_condition,
    finder,
    reason_of,
    sequence,
)
from .decision import Effect, Reason, ReasonCode
from .errors import escape
from .evaluator import Limit, Plan, Rule
from .limits.spec import normal_per, parse_shorthand, parse_window, to_micro_down, to_micro_up
from .paths import parse_path
from .patterns import compile_pattern, is_exact
from .sentences import UNKNOWN_TOOL
from .values import NotJson, canonical, plain

Tree: TypeAlias = dict[str, Any]
Watch: TypeAlias = Callable[[Rule, bool], Rule]
"""Gets each rule of a plan, and whether it may list the tool; returns what is to stand in its place, whose conditions
also tell somebody how they come out."""
CATEGORIES: Final = ("read", "write", "execute", "destructive", "financial")
CACHED_PLANS: Final = 4_096
DEFAULT_TTL: Final = 900.0


class Place(NamedTuple):
    """Where a rule stands: the pointer to its section (`/servers/prod/tools`), its key there (None for `all_tools`)."""

    section: str
    key: str | None

    @property
    def pointer(self) -> str:
        return self.section if self.key is None else f"{self.section}/{escape(self.key)}"


class Section:
    """The top level of a document or one server's section, indexed by tool name."""

    def __init__(self, tree: Tree, pointer: str) -> None:
        self.tree = tree
        self.pointer = pointer
        self.hide = [
            (compile_pattern(text), f"{pointer}/hide/{place}") for place, text in enumerate(tree.get("hide", ()))
        ]
        self.tools: Tree = tree.get("tools", {})
        self.patterns = [(compile_pattern(key), key) for key in self.tools if not is_exact(key)]

    @property
    def broad_rules(self) -> list[Tree]:
        """The rules that are not kept by the tool's name."""
        return [
            *([self.tree["all_tools"]] if "all_tools" in self.tree else []),
            *self.tree.get("categories", {}).values(),
        ]

    def matching(self, tool: str) -> list[str]:
        """Return the keys of `tools` that match a tool, in document order."""
        keys = [key for matches, key in self.patterns if matches(tool)]
        if tool in self.tools and is_exact(tool):
            keys.append(tool)
        if len(keys) > 1:
            order = {key: place for place, key in enumerate(self.tools)}
            keys.sort(key=order.__getitem__)
        return keys

    def entries(self) -> Iterator[tuple[Place, Tree | list[Tree]]]:
        """Yield every rule, or list of rules, and where it stands, in document order."""
        for name in self.tree:
            section = f"{self.pointer}/{name}"
            if name == "all_tools":
                yield Place(section, None), self.tree[name]
            elif name in ("categories", "tools"):
                yield from ((Place(section, key), raw) for key, raw in self.tree[name].items())

    def rules(self, tool: str, category: str | None) -> Iterator[tuple[Place, Tree, bool]]:
        """Yield each rule that matches: where it stands, as written, and whether it may list the tool."""
        for name in self.tree:
            section = f"{self.pointer}/{name}"
            if name == "all_tools":
                yield Place(section, None), self.tree[name], False
            elif name == "categories":
                for key, raw in self.tree[name].items():
                    if category is None or category == key:
                        yield Place(section, key), raw, category is not None
            elif name == "tools":
                for key in self.matching(tool):
                    yield Place(section, key), self.tools[key], True


class Document:
    """A policy document, indexed, from which plans are made. Their rules are `watch`ed where somebody asks for it."""

    def __init__(self, tree: Tree, category_of: CategoryOf, watch: Watch | None = None) -> None:
        self.top = Section(tree, "")
        self.servers = {
            name: Section(part, f"/servers/{escape(name)}") for name, part in tree.get("servers", {}).items()
        }
        self.shadow = tree.get("mode") == "shadow"
        self.category_of = category_of
        self.watch = watch
        self.has_categories = "categories" in tree or any("categories" in part.tree for part in self.servers.values())

        self.plan = lru_cache(maxsize=CACHED_PLANS)(self._plan)
        sections = (self.top, *self.servers.values())
        self.spelt_out = frozenset().union(*(section.tools for section in sections))
        """Every key of `tools` anywhere."""
        self._matchers = [matches for section in sections for matches, _ in section.patterns + section.hide]
        self._excepts = any("except" in rule for section in sections for rule in section.broad_rules)

    def names(self, tool: str) -> bool:
        """Tell whether the document says anything of this tool that it does not say of every tool."""
        if self._excepts or tool in self.spelt_out:
            return True
        for matches in self._matchers:  # noqa: SIM110  # `any` costs more than all the rest of a new name
            if matches(tool):
                return True
        return False

    def variant(self, call: ToolCall) -> tuple[str | None, str | None]:
        """Return what else a plan depends on: the server, where it has a section, and the category, where any is
        listed.
        """
        server = call.server if call.server in self.servers else None
        return server, self.category_of(call) if self.has_categories else None

    def _plan(self, tool: str, server: str | None, category: str | None) -> Plan:
        """Return all that the document says about one tool on one server, its category given (None: unknown)."""
        section = self.servers.get(server) if server is not None else None
        own_default = section is not None and "default" in section.tree
        entries: list[tuple[Rule, bool]] = []
        hidden: list[Reason] = []
        for part in (self.top,) if section is None else (self.top, section):
            may_list = part is not self.top or not own_default
            hidden += [
                Reason(ReasonCode.HIDDEN, UNKNOWN_TOOL, pointer) for matches, pointer in part.hide if matches(tool)
            ]
            for place, raw, lists in part.rules(tool, category):
                entries += [(rule, lists and may_list) for rule in self._rules(place, raw, tool)]
        stated = section if own_default and section is not None else self.top
        default = Effect(stated.tree.get("default", "deny"))
        default_rule = f"{stated.pointer}/default" if "default" in stated.tree else ""
        if self.watch is not None:
            entries = [(self.watch(rule, lists), lists) for rule, lists in entries]
        return Plan(tuple(entries), tuple(hidden), default, default_rule, self.shadow)

    def _rules(self, place: Place, raw: Tree | list[Tree], tool: str) -> Iterator[Rule]:
        if isinstance(raw, list):
            rules = [(f"{place.pointer}/{number}", rule) for number, rule in enumerate(raw)]
        else:
            rules = [(place.pointer, raw)]
        for pointer, rule in rules:
            if not any(compile_pattern(text)(tool) for text in rule.get("except", ())):
                yield compile_rule(rule, place, pointer, self.category_of)


# -- rules


def compile_rule(raw: Tree, place: Place, pointer: str, category_of: CategoryOf) -> Rule:
    """Compile one rule of the document, which stands at `pointer`."""
    reason, shadow = reason_of(raw), raw.get("mode") == "shadow"
    when = _item(WHEN, {"conditions": raw["when"]}, pointer, reason, category_of) if raw.get("when") else None
    items: list[Item] = []
    for key, value in raw.items():
        if key in (REQUIRE, DENY_IF, APPROVE_IF):
            items += [
                _item(key, part, f"{pointer}/{key}/{number}", reason, category_of) for number, part in enumerate(value)
            ]
    stated = list(spelt_out_limits(raw, pointer))
    limits = [_limit(part, place, at, reason, shadow, category_of) for at, part in stated]
    ttl = float(raw.get("approval", {}).get("ttl", DEFAULT_TTL))
    reads = {
        text: path for item in (*items, *([when] if when else [])) for c in item.conditions for text, path in c.reads
    }
    reads |= {text: parse_path(text) for _, limit in stated if (text := cost_path(limit)) is not None}
    context = {text: path for text, path in reads.items() if path.root == "context"}
    return Rule(pointer, raw.get("action", "allow"), reason, shadow, when, tuple(items), tuple(limits), ttl, context)


def _item(kind: str, raw: Tree, pointer: str, rule_reason: str | None, category_of: CategoryOf) -> Item:
    if "conditions" not in raw:
        condition = compile_condition(raw, kind, category_of)
        return Item(kind, pointer, condition.outcome, (condition,), None, rule_reason)
    conditions = tuple(compile_condition(part, kind, category_of) for part in raw["conditions"])
    return Item(kind, pointer, together(kind, conditions), conditions, reason_of(raw), rule_reason)


def together(kind: str, conditions: tuple[Condition, ...]) -> Outcome:
    """Return the outcome of conditions that an item of this kind takes together."""
    return sequence(tuple(condition.outcome for condition in conditions), absence_holds=kind != REQUIRE)


# -- limits


def spelt_out_limits(rule: Tree, pointer: str) -> Iterator[tuple[str, Tree]]:
    """Yield each limit of a rule, spelt out, with its place, in document order."""
    for key, value in rule.items():
        if key == "rate_limit":
            yield f"{pointer}/rate_limit", _spelt_out(value)
        elif key == "limits":
            yield from ((f"{pointer}/limits/{number}", part) for number, part in enumerate(value))


def _spelt_out(raw: Tree | str) -> Tree:
    if isinstance(raw, dict):
        return raw
    maximum, window = parse_shorthand(raw)
    return {"max": maximum, "window": window}


def cost_path(raw: Tree | str) -> str | None:
    """Return the path that a limit of the document takes its cost from, if it does."""
    cost = raw.get("cost") if isinstance(raw, dict) else None
    found = cost["length"] if isinstance(cost, dict) else cost
    return found if isinstance(found, str) else None


def _limit(
    raw: Tree, place: Place, pointer: str, rule_reason: str | None, shadow: bool, category_of: CategoryOf
) -> Limit:
    window, per = parse_window(raw["window"]), normal_per(raw.get("per", raw.get("scope", "session")))
    name, cost = raw.get("counter"), raw.get("cost", 1)
    known_by = ["counter", name, per] if name is not None else [place.section, place.key, window, per, canonical(cost)]
    return Limit(
        pointer,
        name,
        ("shadow" if shadow else "") + json.dumps(known_by),
        window,
        to_micro_down(raw["max"]),
        raw["max"],
        _key(per),
        _cost(raw, category_of),
        _measure(raw),
        reason_of(raw) or rule_reason,
        raw.get("refund_on_error", False),
        raw.get("on_unavailable", "deny") == "allow",
    )


def _measure(raw: Tree) -> str:
    cost = raw.get("cost", 1)
    if isinstance(cost, dict):
        return f"`{cost['length']}` has to be a string, a list or an object, whose length is the cost"
    return f"`{cost}` has to be a finite number of at least 0, which is the cost"


def _cost(raw: Tree, category_of: CategoryOf) -> int | Callable[[ToolCall], int | None]:
    path = cost_path(raw)
    if path is None:
        return to_micro_up(raw.get("cost", 1))
    find, measure = finder(parse_path(path), category_of), _length if isinstance(raw["cost"], dict) else to_micro_up

    def cost(call: ToolCall) -> int | None:
        found = find(call)
        if isinstance(found, Missing):
            return None
        try:
            return measure(plain(found))
        except (NotJson, ValueError):
            return None

    return cost


def _length(value: Any) -> int | None:
    return to_micro_up(len(value)) if isinstance(value, (str, list, dict)) else None


def _principal_key(call: ToolCall) -> str | tuple[str, str] | None:
    return None if call.principal is None else _qualified(call.principal.id, call.principal)


def _agent_key(call: ToolCall) -> str | tuple[str, str] | None:
    return None if call.principal is None else _qualified(call.principal.client, call.principal)


def _qualified(name: str | None, principal: Principal) -> str | tuple[str, str] | None:
    if not name:
        return None
    return (principal.issuer, name) if principal.issuer else name


_KEYS: Final[dict[str, Callable[[ToolCall], Any]]] = {
    "session": lambda call: call.session or None,
    "principal": _principal_key,
    "agent": _agent_key,
    "tool": lambda call: call.tool,
    "server": lambda call: call.server or None,
    "global": lambda call: "",
}


def _key(per: tuple[str, ...]) -> Callable[[ToolCall], Any]:
    parts = tuple(_KEYS[dimension] for dimension in per)
    if len(parts) == 1:
        return parts[0]
    return lambda call: tuple(part(call) for part in parts)
