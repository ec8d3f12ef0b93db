"""What conditions on a tool can be about, which comparisons fit, and how what a person types becomes one.

Rules kept here:

- What a tool's schema leaves open is offered with every operator: it proves nothing to be out of place.
- Types decide what a typed text means: `5` for a number is the number, for a string it is the text. A condition that
  compares a string with a number would load, and never hold.
- What does not fit is refused with what would; the document has the last word on every condition.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final, NamedTuple

from mcp_policy.catalogue.definition import Definition
from mcp_policy.catalogue.profile import CATEGORIES
from mcp_policy.catalogue.verbs import split_name
from mcp_policy.checks.schemas import Schema, alternatives, kinds
from mcp_policy.document import read as read_json
from mcp_policy.errors import PolicyError, readable
from mcp_policy.operators import OPERATORS
from mcp_policy.paths import parse_path

from .editing import EditError

_DEEPEST: Final = 3  # objects in one another
_MOST: Final = 200  # offers, and choices of one


class Offer(NamedTuple):
    """Something that a condition can be about: its path, its type in words, the operators that fit, the best first."""

    path: str
    type: str
    ops: tuple[str, ...]
    choices: tuple[Any, ...] = ()
    """The values that it can have, where the schema lists them."""
    description: str = ""
    of: str = "any"
    """The type of the elements of an array."""


OPERATOR_WORDS: Final[Mapping[str, str]] = {
    name: operator.verb.removesuffix(" {}").replace("{}", "…") for name, operator in OPERATORS.items()
}
"""Each operator in plain words, without the value."""

OPERATOR_HINTS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("eq", "neq", "contains", "not_contains"), "a value"),
    **dict.fromkeys(("in", "not_in", "intersects"), "values, separated by commas"),
    **dict.fromkeys(("lt", "lte", "gt", "gte"), "a number, such as 100"),
    **dict.fromkeys(("length_lte", "length_gte"), "a whole number, such as 10"),
    **dict.fromkeys(("starts_with", "ends_with"), "a text"),
    **dict.fromkeys(("regex", "not_regex"), "a regular expression, such as ^[a-z]+$"),
    "glob": "texts with * and ?, separated by commas",
    "exists": "true or false",
    "keys_in": "names of keys, separated by commas",
    "within": "directories such as /srv/data, separated by commas",
    "host_in": "hosts such as api.example.com or *.example.com, separated by commas",
}
"""What a person types for each operator."""

_OPS: Final[Mapping[str, tuple[str, ...]]] = {
    "string": (
        "eq", "neq", "in", "not_in", "starts_with", "ends_with", "contains", "not_contains", "glob", "regex",
        "not_regex", "length_lte", "length_gte", "within", "host_in", "exists",
    ),
    "number": ("lte", "gte", "lt", "gt", "eq", "neq", "in", "not_in", "exists"),
    "boolean": ("eq", "exists"),
    "array": ("length_lte", "length_gte", "contains", "not_contains", "intersects", "exists", "eq", "neq"),
    "object": ("keys_in", "length_lte", "length_gte", "exists", "eq", "neq"),
    "any": tuple(OPERATORS),
}  # fmt: skip
_TYPES: Final = {"integer": "number"}
_JSON_TYPES: Final = {str: "string", int: "number", float: "number", bool: "boolean", list: "array", dict: "object"}
_FIRST: Final = ("in", "not_in", "eq", "neq")  # of a value that is one of a list

_PATHS: Final = frozenset({
    "path", "paths", "dir", "dirs", "directory", "directories", "file", "files", "filename", "filenames", "filepath",
    "filepaths", "folder", "folders", "cwd", "file-path", "directory-path",
})  # fmt: skip
_LINKS: Final = frozenset({
    "url", "urls", "uri", "uris", "link", "links", "href", "endpoint", "endpoints", "webhook", "webhooks",
})  # fmt: skip
"""Last words of names, and formats."""

_ELSEWHERE: Final = (
    Offer("principal.id", "string", _OPS["string"], description="who calls"),
    Offer("principal.issuer", "string", _OPS["string"], description="who vouches for the caller"),
    Offer("principal.client", "string", _OPS["string"], description="the application"),
    Offer("principal.roles", "array", _OPS["array"], description="roles of the caller", of="string"),
    Offer("principal.scopes", "array", _OPS["array"], description="scopes of the caller's token", of="string"),
    Offer("session.id", "string", _OPS["string"], description="the session, as the server issued it"),
    Offer("server.name", "string", _OPS["string"], description="the server, as the policy knows it"),
    Offer("tool.name", "string", _OPS["string"], description="the tool"),
    Offer(
        "tool.category", "string", (*_FIRST, "exists"), tuple(CATEGORIES), "what kind of thing the tool does",
    ),
    Offer("context.time.hour", "number", _OPS["number"], description="0 to 23, UTC unless the host says otherwise"),
    Offer("context.time.minute", "number", _OPS["number"], description="0 to 59"),
    Offer("context.time.weekday", "number", _OPS["number"], tuple(range(1, 8)), "1 is Monday"),
)  # fmt: skip


def offers(definition: Definition | None) -> tuple[Offer, ...]:
    """Return what conditions on a tool can be about: its arguments first. Without a definition, what every call has."""
    if definition is None:
        return _ELSEWHERE
    root = definition.input_schema
    return (*islice(_below(root, root, "args", "", 0), _MOST), *_ELSEWHERE)


def _below(root: Schema, schema: Any, path: str, name: str, depth: int) -> Iterator[Offer]:
    """Yield what stands inside a value: the members of an object, the elements of an array."""
    found = _met(root, schema)
    if depth > _DEEPEST or len(found) != 1:
        return
    properties, items = found[0].get("properties"), found[0].get("items")
    for key, part in properties.items() if isinstance(properties, dict) else ():
        yield from _of_value(root, part, path + _step(key), key, depth)
    if _type(found) == "array" and isinstance(items, dict):
        yield from _of_value(root, items, f"{path}[*]", name, depth)


def _of_value(root: Schema, schema: Any, path: str, name: str, depth: int) -> Iterator[Offer]:
    found = _met(root, schema)
    kind, choices = _type(found), tuple(islice(_choices(found), _MOST))
    said = schema.get("description") if isinstance(schema, dict) else None
    of = _type(_met(root, found[0].get("items"))) if kind == "array" and len(found) == 1 else "any"
    ops = _fitting(kind, name, found, choices)
    yield Offer(path, kind, ops, choices, said if isinstance(said, str) else "", of)
    yield from _below(root, schema, path, name, depth + 1)


def _step(name: str) -> str:
    try:
        if parse_path(f"args.{name}").steps == (name,):
            return f".{name}"
    except ValueError:
        pass
    return f"[{json.dumps(name)}]"


def _met(root: Schema, schema: Any) -> list[Schema]:
    """Return the schemas one of which a value that is not null meets; none where that is open."""
    return [one for one in alternatives(root, schema) or [] if one.get("type") not in ("null", ["null"])]


def _type(found: Iterable[Schema]) -> str:
    """Return the one type that all of these schemas have, else `any`."""
    named = {_TYPES.get(kind, kind) for one in found for kind in kinds(one) or _types_listed(one)} - {"null"}
    return named.pop() if len(named) == 1 else "any"


def _listed(schema: Schema) -> list[Any] | None:
    """Return the values that a schema lists; None where it allows others."""
    listed = [schema["const"]] if "const" in schema else schema.get("enum")
    return listed if isinstance(listed, list) else None


def _types_listed(schema: Schema) -> list[str]:
    """Return the types of the values that a schema lists."""
    return [_JSON_TYPES.get(type(value), "null") for value in _listed(schema) or []] or ["any"]


def _choices(found: Iterable[Schema]) -> Iterator[Any]:
    listed = [_listed(one) for one in found]
    if all(one is not None for one in listed):
        yield from (value for one in listed for value in one or () if value is not None)


def _fitting(kind: str, name: str, found: Iterable[Schema], choices: tuple[Any, ...]) -> tuple[str, ...]:
    """Return the operators that fit a type; those first that fit the choices, the name or the format."""
    ops = _OPS[kind]
    says = {one.get("format") for one in found if isinstance(one.get("format"), str)}
    says.update(word.lower() for word in split_name(name)[-1:])
    first: tuple[str, ...] = ()
    if choices:
        first = tuple(op for op in _FIRST if op in ops)
    elif kind == "string":
        first = ("within",) if says & _PATHS else ("host_in",) if says & _LINKS else ()
    return (*first, *(op for op in ops if op not in first))


# -- what a person types

_NUMBERS: Final = frozenset({"lt", "lte", "gt", "gte", "length_lte", "length_gte"})
_TEXTS: Final = frozenset({"starts_with", "ends_with", "regex", "not_regex"})
_TEXT_LISTS: Final = frozenset({"keys_in", "host_in"})
_LISTS: Final = frozenset({"in", "not_in", "intersects"})
_ONE_OR_MORE: Final = frozenset({"within", "glob"})
_MEMBERS: Final = frozenset({"contains", "not_contains", "intersects"})
_PYTHON: Final[Mapping[str, tuple[type, ...]]] = {"string": (str,), "number": (int, float), "boolean": (bool,)}


def condition(path: str, op: str, value: str, offer: Offer | None) -> str:
    """Return the JSON text of a condition from what a person typed. Raises `EditError`.

    `offer` is what is known of the path. Lists are typed with commas or on lines of their own, or as JSON.
    """
    if op not in OPERATORS:
        raise EditError(f"there is no operator `{readable(op)}`")
    spelt = _spelt(op, value, Offer(path, "any", ()) if offer is None else offer)
    return f'{{"path": {_text(path)}, "op": "{op}", "value": {spelt}}}'


def _spelt(op: str, value: str, offer: Offer) -> str:
    if op == "exists":
        return _boolean(value.strip())
    if op in _NUMBERS:
        return _number(value.strip())
    if op in _TEXTS:
        return _text(_needed(value))
    if op in _TEXT_LISTS:
        return _list(value, "string")
    if op in _ONE_OR_MORE:
        return _one_or_more(value)
    kind = offer.of if op in _MEMBERS and offer.type == "array" else offer.type
    return _list(value, kind) if op in _LISTS else _one(value, kind)


def _one(value: str, kind: str) -> str:
    """Return one value: of a known type as that, else as JSON where it is some, and as a text where it is not."""
    typed = _needed(value).strip()
    if kind == "string":
        return _text(value)
    if kind == "number":
        return _number(typed)
    if kind == "boolean":
        return _boolean(typed)
    found = _json(typed)
    if kind in ("array", "object"):
        if not isinstance(found, list if kind == "array" else dict):
            raise EditError(f"a JSON {kind} is needed here, such as `{'[1, 2]' if kind == 'array' else '{}'}`")
        return typed
    return _text(value) if found is None and typed != "null" else typed


def _one_or_more(value: str) -> str:
    """Return a text, or a list of those where several are typed; a text with a comma is typed as JSON."""
    typed = _needed(value).strip()
    if isinstance(_json(typed), str):
        return typed
    parts = _parts(typed)
    return _text(parts[0]) if len(parts) == 1 and not isinstance(_json(typed), list) else _list(typed, "string")


def _list(value: str, kind: str) -> str:
    typed = value.strip()
    given = _json(typed)
    if isinstance(given, list):
        if kind in _PYTHON and not all(type(one) in _PYTHON[kind] for one in given):
            raise EditError(f"each value of the list has to be a {kind}, for that is what it is compared with")
        return typed
    members = [_one(part, kind) for part in _parts(typed)]
    if not members:
        raise EditError("at least one value is needed: several are separated by commas")
    return f"[{', '.join(members)}]"


def _parts(typed: str) -> list[str]:
    parts = (part.strip() for part in typed.split("\n" if "\n" in typed else ","))
    return [part for part in parts if part]


def _boolean(typed: str) -> str:
    if typed.lower() not in ("true", "false"):
        raise EditError("`true` or `false` is needed here")
    return typed.lower()


def _number(typed: str) -> str:
    if type(_json(typed)) not in (int, float):
        raise EditError("a number is needed here, such as `100`")
    return typed


def _needed(value: str) -> str:
    if not value.strip():
        raise EditError("a value to compare with is needed")
    return value


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _json(typed: str) -> Any:
    """Return the JSON value that a text is, None where it is none."""
    try:
        return read_json(typed)[0]
    except PolicyError:
        return None
