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
from typing import Any, NamedTuple, TypeAlias

from ..values import NotJson, canonical, plain

Tool: TypeAlias = "Mapping[str, Any] | object"
"""One entry of `tools/list`: a mapping, or any object with these fields."""


class Definition(NamedTuple):
    """A tool's definition as plain JSON; what the server did not say is empty."""

    name: str
    title: str
    description: str
    input_schema: dict[str, Any]
    output_schema: dict[str, Any]
    annotations: dict[str, Any]


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
    try:
        return Definition(
            str(name),
            _text(_field(tool, "title")),
            _text(_field(tool, "description")),
            _object(_field(tool, "inputSchema", "input_schema")),
            _object(_field(tool, "outputSchema", "output_schema")),
            _set(_object(_field(tool, "annotations"))),
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
        _digest([name, definition.title, definition.description]),
        _digest([name, definition.input_schema, definition.output_schema]),
        _digest([name, definition.annotations]),
    )


def parameters(definition: Definition) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return the tool's parameters, each with its schema, in the order of the definition."""
    properties = definition.input_schema.get("properties")
    for name, schema in properties.items() if isinstance(properties, dict) else ():
        yield name, schema if isinstance(schema, dict) else {}


def _field(tool: Tool, *names: str) -> Any:
    for name in names:
        found = tool.get(name) if isinstance(tool, Mapping) else getattr(tool, name, None)
        if found is not None:
            return found
    return None


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
