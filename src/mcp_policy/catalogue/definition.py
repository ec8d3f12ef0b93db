"""A tool as its server describes it: one entry of `tools/list`, read once and without trust.

Rules kept here:

- A definition is a mapping or an object with the fields of an entry (`inputSchema` or `input_schema`); it is copied as
  plain JSON before anything looks at it.
- Only a missing name or a value that is not JSON is refused. What else is odd about a definition is read as absent:
  it then proves nothing, and a tool of which nothing is known is not harmless.
- A fingerprint covers everything of a definition that an agent or a policy goes by, part by part, so that a
  change can be named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any, Final, NamedTuple, TypeAlias

from ..values import NotJson, canonical, plain

Tool: TypeAlias = "Mapping[str, Any] | object"
"""One entry of `tools/list`: a mapping, or any object with these fields."""


_FIELDS: Final = {
    "title": ("title",),
    "description": ("description",),
    "input": ("inputSchema", "input_schema"),
    "output": ("outputSchema", "output_schema"),
    "annotations": ("annotations",),
}


class Definition(NamedTuple):
    """A tool's definition as plain JSON; what the server did not say is empty."""

    name: str
    title: str
    description: str
    input_schema: dict[str, Any]
    output_schema: dict[str, Any]
    annotations: dict[str, Any]
    odd: tuple[tuple[str, Any], ...] = ()
    """What is of another type than it should be, and was read as absent."""


class Fingerprint(NamedTuple):
    """Digests of a definition's parts (SHA-256, the first 32 hexadecimal digits); each covers the tool's name too."""

    description: str
    schema: str
    annotations: str


def read_definition(tool: Tool) -> Definition:
    """Return a tool's definition as plain JSON. Raises `ValueError` where it has no name or is not JSON."""
    if isinstance(tool, Definition):
        return tool
    name = _field(tool, "name")
    if not isinstance(name, str) or not name:
        raise ValueError("a tool's definition has to have a `name`: one entry of `tools/list`")
    found = {key: _field(tool, *spellings) for key, spellings in _FIELDS.items()}
    try:
        return Definition(
            str(name),
            _text(found["title"]),
            _text(found["description"]),
            _object(found["input"]),
            _object(found["output"]),
            _set(_object(found["annotations"])),
            tuple((key, plain(value)) for key, value in found.items() if _is_odd(key, value)),
        )
    except NotJson as error:
        raise ValueError(f"the definition of tool `{name}` is not JSON: {error}") from error


def skim_definition(tool: Tool) -> Definition:
    """Return a tool's definition without its output schema, and uncopied where that is plain: for one who only looks.

    Raises `ValueError` where it has no name, or is not JSON as far as it was looked at.
    """
    name = tool.get("name") if type(tool) is dict else None
    if type(tool) is not dict or not isinstance(name, str) or not name:
        return read_definition(tool)
    schema, hints = _field(tool, "inputSchema", "input_schema"), tool.get("annotations")
    try:
        schema = schema if type(schema) is dict else _object(schema)
        hints = _set(_object(hints)) if hints else {}
    except NotJson as error:
        raise ValueError(f"the definition of tool `{name}` is not JSON: {error}") from error
    return Definition(name, _text(tool.get("title")), _text(tool.get("description")), schema, {}, hints)


def fingerprint(tool: Tool) -> Fingerprint:
    """Return the digests of a tool's definition. Raises `ValueError` where it has no name or is not JSON."""
    definition = read_definition(tool)
    name = definition.name
    return Fingerprint(
        _digest([name, definition.title, definition.description, *map(list, definition.odd)]),
        _digest([name, definition.input_schema, definition.output_schema]),
        _digest([name, definition.annotations]),
    )


def parameters(definition: Definition) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return the tool's parameters, each with its schema, in the order of the definition."""
    properties = definition.input_schema.get("properties")
    for name, schema in properties.items() if isinstance(properties, dict) else ():
        yield name, schema if isinstance(schema, dict) else {}


def _field(tool: Tool, *names: str) -> Any:
    """Return what stands under the first of these names: the wire's comes first, in an object the last one."""
    if isinstance(tool, Mapping):
        return next((tool[name] for name in names if tool.get(name) is not None), None)
    found = (getattr(tool, name, None) for name in reversed(names))
    return next((value for value in found if value is not None), None)


def _is_odd(key: str, value: Any) -> bool:
    if value is None or (key in ("title", "description") and isinstance(value, str)):
        return False
    return key in ("title", "description") or not isinstance(plain(value), dict)


def _text(value: Any) -> str:
    return str(value) if isinstance(value, str) else ""


def _object(value: Any) -> dict[str, Any]:
    found = plain(value)
    return found if isinstance(found, dict) else {}


def _set(annotations: dict[str, Any]) -> dict[str, Any]:
    """Leave out what an SDK's object holds as None and the wire does not carry; one spelling for each hint.

    Of a hint that is given in two spellings the worse one counts.
    """
    found: dict[str, Any] = {}
    for key, value in annotations.items():
        hint = _SPELLING.get(key, key)
        if value is not None:
            twice = hint in found and found[hint] is not value
            found[hint] = hint in ("destructiveHint", "openWorldHint") if twice else value
    return found


_SPELLING = {
    "read_only_hint": "readOnlyHint",
    "destructive_hint": "destructiveHint",
    "idempotent_hint": "idempotentHint",
    "open_world_hint": "openWorldHint",
}


def _digest(parts: list[Any]) -> str:
    return sha256(canonical(parts).encode()).hexdigest()[:32]
