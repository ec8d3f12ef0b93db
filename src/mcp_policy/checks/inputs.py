"""Conditions beside what the tools take: arguments that there are not, of other types, or that may be left out.

What a schema leaves open (references, alternatives, further properties) is read as "anything": it proves nothing wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from ..catalogue.definition import Definition
from ..conditions import DENY_IF, REQUIRE
from ..errors import readable
from ..operators import OPERATORS
from ..paths import Path, Step, parse_path
from ..suggestions import hint
from ..values import equal
from .codes import finding
from .finding import Finding
from .reading import Entry, Stated, Subject

_KINDS: Final[dict[str, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (),
}
_OPEN: Final = ("$ref", "anyOf", "oneOf", "allOf", "if", "not", "patternProperties", "$dynamicRef")
_BOUNDING: Final = frozenset({"length_gte", "exists"})
"""Operators by which `deny_if` bounds what is given: what is left out is within the bound."""


def check(subject: Subject) -> Iterator[Finding]:
    """Yield what does not fit the tools' input schemas."""
    for entry in subject.entries:
        tools = subject.definitions(entry)
        if not tools:
            continue
        stated = list(entry.conditions())
        given = {one.raw["path"] for one in stated if one.raw["op"] == "exists"}
        for one in stated:
            yield from _condition(one, tools, given)
        yield from _costs(entry, tools)


def _condition(stated: Stated, tools: list[Definition], given: set[str]) -> Iterator[Finding]:
    raw = stated.raw
    for text, pointer in (
        (raw["path"], f"{stated.pointer}/path"),
        (raw.get("value_from"), f"{stated.pointer}/value_from"),
    ):
        path = parse_path(text) if text is not None else None
        if path is not None and path.root == "args" and (unknown := _unknown(path, tools)) is not None:
            yield finding("unknown_argument", pointer, *unknown)
            return
    path = parse_path(raw["path"])
    if path.root != "args" or not path.steps:
        return
    schemas = [schema for tool in tools if (schema := _schema(tool, path.steps)) is not None]
    yield from _type(stated, schemas)
    if "value" in raw:
        yield from _values(stated, schemas)
    optional = any(_is_optional(tool, path.steps[0]) for tool in tools)
    if optional and raw["path"] not in given and len(path.steps) == 1:
        yield from _absent(stated)


def _unknown(path: Path, tools: list[Definition]) -> tuple[str, str] | None:
    """Return what to say of a path that none of the tools has."""
    key = path.steps[0] if path.steps else None
    if not isinstance(key, str):
        return None
    known: dict[str, None] = {}
    for tool in tools:
        properties = tool.input_schema.get("properties")
        open_ = any(word in tool.input_schema for word in _OPEN) or tool.input_schema.get(
            "additionalProperties"
        ) not in (
            None,
            False,
        )
        if not isinstance(properties, dict) or key in properties or (open_ and not properties):
            return None
        known.update(dict.fromkeys(properties))
    whose = f"`{readable(tools[0].name)}`" if len(tools) == 1 else f"none of the {len(tools)} tools"
    verb = "has no argument" if len(tools) == 1 else "has an argument"
    fix = hint(key, tuple(known)) if known else "it takes no arguments"
    return f"{whose} {verb} `{readable(key)}`", fix


def _schema(tool: Definition, steps: tuple[Step, ...]) -> dict[str, Any] | None:
    """Return the schema of what a path leads to; None where the schema leaves that open."""
    node: Any = tool.input_schema
    for step in steps:
        if not isinstance(node, dict) or any(word in node for word in _OPEN):
            return None
        if isinstance(step, str):
            properties = node.get("properties")
            node = properties.get(step) if isinstance(properties, dict) else None
        else:
            node = node.get("items")
    return node if isinstance(node, dict) and not any(word in node for word in _OPEN) else None


def _kinds(schema: dict[str, Any]) -> list[str] | None:
    """Return the types that a schema names; None where it names none, or one that is not known."""
    stated = schema.get("type")
    named = [stated] if isinstance(stated, str) else stated
    if not isinstance(named, list) or not all(isinstance(name, str) and name in _KINDS for name in named):
        return None
    return named


def _type(stated: Stated, schemas: list[dict[str, Any]]) -> Iterator[Finding]:
    """Yield that an operator takes none of the types that the arguments have."""
    takes = OPERATORS[stated.raw["op"]].kinds
    if not schemas or takes is None:
        return
    named: dict[str, None] = {}
    for schema in schemas:
        kinds = _kinds(schema)
        if kinds is None or any(kind in takes for name in kinds for kind in _KINDS[name]):
            return
        named.update(dict.fromkeys(kinds))
    types = " or ".join(f"`{name}`" for name in named)
    yield finding(
        "wrong_argument_type",
        f"{stated.pointer}/op",
        f"`{stated.raw['path']}` is {types}, and `{stated.raw['op']}` takes {OPERATORS[stated.raw['op']].takes}: "
        "every call that gives it is denied",
        "use an operator for its type",
    )


def _values(stated: Stated, schemas: list[dict[str, Any]]) -> Iterator[Finding]:
    """Yield values to compare with that the schema allows in no call."""
    raw = stated.raw
    if raw["op"] not in ("eq", "neq", "in", "not_in") or not schemas:
        return
    several = raw["op"] in ("in", "not_in")
    for place, value in enumerate(raw["value"] if several else [raw["value"]]):
        if not any(_allows(schema, value) for schema in schemas):
            pointer = f"{stated.pointer}/value" + (f"/{place}" if several else "")
            allowed = schemas[0].get("enum")
            fix = _meant(value, allowed) if isinstance(allowed, list) else f"it is {schemas[0].get('type')}"
            said = f"`{readable(str(value))}` is no value that `{raw['path']}` can have"
            yield finding("value_never_given", pointer, said, fix)


def _meant(value: Any, allowed: list[Any]) -> str:
    known = tuple(one for one in allowed if isinstance(one, str))
    return hint(value, known) if isinstance(value, str) and known else f"known here: {readable(str(allowed), 200)}"


def _allows(schema: dict[str, Any], value: Any) -> bool:
    """Tell whether a schema allows a value, as far as its type, `enum` and `const` say."""
    if "const" in schema:
        return equal(schema["const"], value)
    if isinstance(schema.get("enum"), list):
        return any(equal(one, value) for one in schema["enum"])
    kinds = _kinds(schema)
    if kinds is None:
        return True
    types = {kind for name in kinds for kind in _KINDS[name]}
    return type(value) in types or (type(value) is float and value.is_integer() and int in types)


def _is_optional(tool: Definition, key: Step) -> bool:
    required = tool.input_schema.get("required")
    properties = tool.input_schema.get("properties")
    has = isinstance(properties, dict) and key in properties
    return has and not (isinstance(required, list) and key in required)


def _absent(stated: Stated) -> Iterator[Finding]:
    """Yield what leaving an argument out does, where the rule does not say."""
    raw, kind = stated.raw, stated.kind
    negative = OPERATORS[raw["op"]].negative or "value_from" in raw
    if raw["op"] in _BOUNDING:
        return
    if kind == REQUIRE:
        message = f"`{raw['path']}` is optional, and a call without it is denied"
        yield finding("absence_denies", stated.pointer, message, "say so in a `reason`, or add an `exists` condition")
    elif not negative:
        what = {DENY_IF: "is not denied", "approve_if": "needs no approval"}.get(kind, "is not what the rule is for")
        message = f"`{raw['path']}` is optional, and a call without it {what}"
        fix = (
            f'say what absence means: add {{"path": "{raw["path"]}", "op": "exists", "value": false}}, or `require` it'
        )
        yield finding("absence_allows", stated.pointer, message, fix)


def _costs(entry: Entry, tools: list[Definition]) -> Iterator[Finding]:
    for pointer, raw in entry.limits():
        cost = raw.get("cost")
        text = cost["length"] if isinstance(cost, dict) else cost
        if not isinstance(text, str):
            continue
        path = parse_path(text)
        if path.root != "args":
            continue
        unknown = _unknown(path, tools)
        if unknown is not None:
            yield finding("unknown_argument", f"{pointer}/cost", *unknown)
            continue
        for schema in (schema for tool in tools if (schema := _schema(tool, path.steps)) is not None):
            kinds = _kinds(schema)
            fit = ("string", "array", "object") if isinstance(cost, dict) else ("integer", "number")
            if kinds is not None and not set(kinds) & set(fit):
                what = "a length" if isinstance(cost, dict) else "a number"
                message = f"`{text}` is `{' or '.join(kinds)}`, and a cost is {what}: every call is denied"
                yield finding("wrong_argument_type", f"{pointer}/cost", message, "name an argument that fits")
                break
