"""Conditions beside what the tools take: arguments that there are not, of other types, or that may be left out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from ..catalogue.definition import Definition
from ..compiler import Tree
from ..conditions import DENY_IF, REQUIRE, WHEN
from ..errors import readable
from ..operators import HOLDS, OPERATORS
from ..paths import Path, Step, parse_path
from ..suggestions import hint
from .codes import finding
from .finding import Finding
from .reading import Entry, Stated, Subject
from .schemas import KINDS, Schema, Unknown, allows, kinds, reached

_BOUNDING: Final = frozenset({"length_gte", "exists"})
"""Operators by which `deny_if` bounds what is given: what is left out is within the bound."""
_RESTRICTING: Final = ("require", "deny_if", "approve_if", "rate_limit", "limits")


def check(subject: Subject) -> Iterator[Finding]:
    """Yield what does not fit the tools' input schemas."""
    for entry in subject.entries:
        tools = subject.definitions(entry)
        if not tools:
            continue
        stated = list(entry.conditions())
        given = _said(entry, stated)
        for one in stated:
            path = parse_path(one.raw["path"])
            unknown = list(_unknown(one, tools))
            yield from unknown
            if unknown or path.root != "args" or not path.steps:
                continue
            yield from _values(one, _schemas(path, tools))
            if len(path.steps) == 1 and any(_may_lack(tool, path.steps[0], one) for tool in tools):
                yield from _absent(entry, one, given)
        yield from _costs(entry, tools)


def _said(entry: Entry, stated: list[Stated]) -> set[str]:
    """Return the paths of which a rule says what their absence means: it is denied, or asked for."""
    required = {one.raw["path"] for one in stated if one.kind == REQUIRE}
    return required | {one.raw["path"] for one in stated if one.raw["op"] == "exists"}


# -- what there is


def _unknown(stated: Stated, tools: list[Definition]) -> Iterator[Finding]:
    for key in ("path", "value_from"):
        text = stated.raw.get(key)
        if text is not None and (said := _says_unknown(parse_path(text), tools)) is not None:
            yield finding("unknown_argument", f"{stated.pointer}/{key}", *said)
            return


def _says_unknown(path: Path, tools: list[Definition]) -> tuple[str, str] | None:
    """Return what to say, and what to do, of a path that none of the tools has."""
    if path.root != "args":
        return None
    found = [reached(tool.input_schema, path.steps) for tool in tools]
    lacking = [one for one in found if isinstance(one, Unknown)]
    if not lacking or len(lacking) < len(found):
        return None
    known = tuple(dict.fromkeys(key for one in lacking for key in one.known))
    key = readable(lacking[0].key)
    whose = f"`{readable(tools[0].name)}` has no" if len(tools) == 1 else f"none of the {len(tools)} tools has an"
    fix = hint(lacking[0].key, known) if known else "it takes none"
    return f"{whose} argument `{key}`", fix


def _schemas(path: Path, tools: list[Definition]) -> list[Schema] | None:
    """Return what an argument can be, in those of the tools that have it; None where one leaves that open."""
    found: list[Schema] = []
    for tool in tools:
        there = reached(tool.input_schema, path.steps)
        if there is None:
            return None
        found += [] if isinstance(there, Unknown) else there
    return found or None


# -- types and values


def _values(stated: Stated, schemas: list[Schema] | None) -> Iterator[Finding]:
    """Yield that an operator never gets a type that it takes, and values that the schemas allow in no call."""
    raw = stated.raw
    if schemas is None:
        return
    takes, named = OPERATORS[raw["op"]], _named(schemas)
    if takes.kinds is not None and named and not any(kind in takes.kinds for name in named for kind in KINDS[name]):
        yield finding(
            "wrong_argument_type",
            f"{stated.pointer}/op",
            f"`{raw['path']}` is {_types(named)}, and `{raw['op']}` takes {takes.takes}: "
            "every call that gives it is denied",
            "use an operator for its type",
        )
    several = raw["op"] in ("in", "not_in")
    if "value" not in raw or raw["op"] not in ("eq", "neq", "in", "not_in"):
        return
    for place, value in enumerate(raw["value"] if several else [raw["value"]]):
        if not any(allows(schema, value) for schema in schemas):
            pointer = f"{stated.pointer}/value" + (f"/{place}" if several else "")
            message = f"`{readable(str(value))}` is no value that `{raw['path']}` can have"
            yield finding("value_never_given", pointer, message, _meant(value, schemas))


def _named(schemas: list[Schema]) -> list[str]:
    """Return the types that values can have, besides null; none where one schema leaves that open."""
    found: dict[str, None] = {}
    for schema in schemas:
        named = kinds(schema)
        if named is None:
            return []
        found.update(dict.fromkeys(name for name in named if name != "null"))
    return list(found)


def _types(named: list[str]) -> str:
    return " or ".join(f"`{name}`" for name in named)


def _meant(value: Any, schemas: list[Schema]) -> str:
    listed = [one for schema in schemas for one in schema.get("enum", []) if one is not None]
    texts = tuple(one for one in listed if isinstance(one, str))
    if isinstance(value, str) and texts:
        return hint(value, texts)
    return f"known here: {readable(str(listed), 200)}" if listed else f"it is {_types(_named(schemas))}"


# -- absence


def _may_lack(tool: Definition, key: Step, stated: Stated) -> bool:
    """Tell whether a call may leave an argument out, and a condition then misses what the server makes of that."""
    properties, required = (tool.input_schema.get(word) for word in ("properties", "required"))
    if not isinstance(properties, dict) or key not in properties or (isinstance(required, list) and key in required):
        return False
    default = properties[key].get("default") if isinstance(properties[key], dict) else None
    operator = OPERATORS[stated.raw["op"]]
    if default is None or "value" not in stated.raw or stated.kind == REQUIRE:
        return True
    fits = operator.kinds is None or type(default) in operator.kinds
    return not fits or operator.make(stated.raw["value"])(default) == HOLDS


def _absent(entry: Entry, stated: Stated, given: set[str]) -> Iterator[Finding]:
    """Yield what leaving an argument out does, where the rule does not say."""
    raw, kind = stated.raw, stated.kind
    if raw["op"] in _BOUNDING:
        return
    if kind == REQUIRE:
        if not _has_reason(stated):
            message = f"`{raw['path']}` is optional, and a call without it is denied"
            yield finding("absence_denies", stated.pointer, message, "say in a `reason` that it has to be given")
    elif raw["path"] not in given and not OPERATORS[raw["op"]].negative and "value_from" not in raw:
        if kind == WHEN and not _restricts(entry.rule):
            return
        what = {DENY_IF: "is not denied", "approve_if": "needs no approval"}.get(kind, "gets around this rule")
        message = f"`{raw['path']}` is optional, and a call without it {what}"
        fix = (
            f'say what absence means: `require` it, or add {{"path": "{raw["path"]}", "op": "exists", "value": false}}'
        )
        yield finding("absence_allows", stated.pointer, message, fix)


def _restricts(rule: Tree) -> bool:
    """Tell whether a rule does more than list tools: then a call that it does not apply to may run for it."""
    return rule.get("action", "allow") != "allow" or any(rule.get(key) for key in _RESTRICTING)


def _has_reason(stated: Stated) -> bool:
    return "reason" in stated.raw or "on_deny" in stated.raw


# -- costs


def _costs(entry: Entry, tools: list[Definition]) -> Iterator[Finding]:
    for pointer, raw in entry.limits():
        cost = raw.get("cost")
        text = cost["length"] if isinstance(cost, dict) else cost
        if not isinstance(text, str):
            continue
        path = parse_path(text)
        said = _says_unknown(path, tools)
        if said is not None:
            yield finding("unknown_argument", f"{pointer}/cost", *said)
            continue
        named = _named(_schemas(path, tools) or []) if path.root == "args" else []
        fit = ("string", "array", "object") if isinstance(cost, dict) else ("integer", "number")
        if named and not set(named) & set(fit):
            what = "a length" if isinstance(cost, dict) else "a number"
            message = f"`{text}` is {_types(named)}, and a cost is {what}: every call is denied"
            yield finding("wrong_argument_type", f"{pointer}/cost", message, "name an argument that fits")
