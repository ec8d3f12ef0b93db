"""Where a path leads in a tool's input schema, and what a value there can be.

Schemas are other people's, and JSON Schema says more than is read here. What is left open (conditions, patterns of
keys, references into other documents, whatever is not understood) is read as "anything": it proves nothing wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from ..paths import Step
from ..values import equal

Schema: TypeAlias = dict[str, Any]

KINDS: Final[dict[str, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (),
}
"""The types of the values that a type of JSON Schema allows; null is absent."""

_MORE_KEYS: Final = ("allOf", "anyOf", "oneOf", "if", "patternProperties", "dependentSchemas", "$ref", "$dynamicRef")
_ALTERNATIVES: Final = ("anyOf", "oneOf")
_MOST: Final = 200  # alternatives of one value
_DEEPEST: Final = 20  # references in a row


class Unknown(NamedTuple):
    """A key that an object does not have, and the keys that it has."""

    key: str
    known: tuple[str, ...]


def reached(root: Schema, steps: Sequence[Step]) -> list[Schema] | Unknown | None:
    """Return the schemas one of which a value at a path meets; None where that is open."""
    found = [root]
    for step in steps:
        below: list[Schema] = []
        known: dict[str, None] = {}
        for schema in found:
            if schema.get("type") == "null":
                continue
            part = _below(root, schema, step, known)
            if part is None:
                return None
            below += part
        if not below:
            return Unknown(step, tuple(known)) if isinstance(step, str) else None
        found = below
    return found


def _below(root: Schema, schema: Schema, step: Step, known: dict[str, None]) -> list[Schema] | None:
    """Return what a schema says of one step; nothing where it has no such key, None where that is open."""
    if not isinstance(step, str):
        return alternatives(root, schema.get("items"))
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return None
    if step in properties:
        return alternatives(root, properties[step])
    known.update(dict.fromkeys(properties))
    more = schema.get("additionalProperties", False)
    return None if more is not False or any(word in schema for word in _MORE_KEYS) else []


def alternatives(root: Schema, schema: Any, depth: int = 0) -> list[Schema] | None:
    """Return a schema without references and alternatives at its top: one of these is met. None where that is open."""
    if not isinstance(schema, dict) or depth > _DEEPEST:
        return None
    if "type" in schema or "enum" in schema or "const" in schema or "properties" in schema:
        return [schema]  # whatever else it says allows less
    if "$ref" in schema:
        return alternatives(root, _referred(root, schema["$ref"]), depth + 1)
    if isinstance(schema.get("allOf"), list) and len(schema["allOf"]) == 1:
        return alternatives(root, schema["allOf"][0], depth + 1)
    for word in _ALTERNATIVES:
        if isinstance(schema.get(word), list) and schema[word]:
            found: list[Schema] = []
            for part in schema[word]:
                each = alternatives(root, part, depth + 1)
                if each is None or len(found) > _MOST:
                    return None
                found += each
            return found
    return None


def _referred(root: Schema, reference: Any) -> Any:
    """Return what a reference within the document leads to."""
    if not isinstance(reference, str) or not reference.startswith("#/"):
        return None
    node: Any = root
    for token in reference[2:].split("/"):
        node = node.get(token.replace("~1", "/").replace("~0", "~")) if isinstance(node, dict) else None
    return node


def kinds(schema: Schema) -> list[str] | None:
    """Return the types that a schema names; None where it names none, or one that is not known."""
    stated = schema.get("type")
    named = [stated] if isinstance(stated, str) else stated
    if not isinstance(named, list) or not all(isinstance(name, str) and name in KINDS for name in named):
        return None
    return named


def allows(schema: Schema, value: Any) -> bool:
    """Tell whether a schema allows a value, as far as its type, `enum` and `const` say."""
    if "const" in schema:
        return equal(schema["const"], value)
    if isinstance(schema.get("enum"), list):
        return any(equal(one, value) for one in schema["enum"])
    named = kinds(schema)
    if named is None:
        return True
    types = {kind for name in named for kind in KINDS[name]}
    return type(value) in types or (type(value) is float and value.is_integer() and int in types)
