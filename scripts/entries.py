"""Turns a server's listing into its part of the bundled catalogue.

Rules kept here:

- Facts are taken from the listing: names, parameters, hints. What is said about them is said by the classifier and by
  `sentences/`; a server's own sentences stay where they are.
- The same listing gives the same bytes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from mcp_policy.catalogue.classifier import classify
from mcp_policy.catalogue.definition import fingerprint, parameters, read_definition
from recipes import Recipe

_MOST_VALUES: Final = 40
_LONGEST_VALUE: Final = 60
_HINTS: Final = ("readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint")


def server_entry(recipe: Recipe, listing: Mapping[str, Any], sentences: Mapping[str, Any]) -> dict[str, Any]:
    """Return a server's entry: who it is, and every tool of its listing in order of their names."""
    said = sentences.get("tools", {})
    introduced = listing.get("server_info", {}).get("name", "")
    return {
        "names": sorted({name for name in (recipe.project, introduced, *recipe.names) if name} - {recipe.id}),
        "title": recipe.title,
        "package": recipe.package,
        "release": recipe.release,
        "about": sentences.get("about", ""),
        "tools": {
            tool["name"]: _tool_entry(tool, said.get(tool["name"], ""))
            for tool in sorted(listing["tools"], key=lambda tool: str(tool["name"]))
        },
    }


def as_text(server: str, entry: dict[str, Any]) -> str:
    """Return the file of one server: JSON with one line for each tool."""
    tools = ",\n".join(f"{_json(name)}: {_json(tool)}" for name, tool in entry["tools"].items())
    head = ", ".join(f"{_json(key)}: {_json(value)}" for key, value in entry.items() if key != "tools")
    return f'{{"version": "1", "servers": {{{_json(server)}: {{{head}, "tools": {{\n{tools}\n}}}}}}}}\n'


def told_apart(entries: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the entries with the names that find one server only: a name that two of them have finds none."""
    claims = Counter(name for server, entry in entries.items() for name in (server, *entry["names"]))
    return {
        server: entry | {"names": [name for name in entry["names"] if claims[name] == 1]}
        for server, entry in entries.items()
    }


def index_text(entries: Mapping[str, dict[str, Any]]) -> str:
    """Return the index: every server with its names, title and number of tools, one line each."""
    lines = []
    for server, entry in entries.items():
        found = {"names": entry["names"], "title": entry["title"], "tools": len(entry["tools"])}
        lines.append(f"{_json(server)}: {_json(found)}")
    return '{"version": "1", "servers": {\n' + ",\n".join(lines) + "\n}}\n"


def _tool_entry(tool: Mapping[str, Any], summary: str) -> dict[str, Any]:
    profile = classify(tool)
    definition = read_definition(tool)
    annotations = definition.annotations
    entry = {
        "category": profile.category,
        "level": profile.level,
        "confidence": profile.confidence,
        "evidence": [list(sign) for sign in profile.evidence],
        "parameters": {
            name: _parameter(name, schema, definition.input_schema) for name, schema in parameters(definition)
        },
        "hints": {hint: annotations[hint] for hint in _HINTS if isinstance(annotations.get(hint), bool)},
        "summary": summary,
    }
    if not tool.get("varies"):
        entry["fingerprint"] = fingerprint(tool)._asdict()
    return entry


def _parameter(name: str, schema: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    required = whole.get("required")
    branches = list(_branches(schema, whole, 0))
    kinds = sorted({kind for branch in branches for kind in _kinds(branch)} - {"null"})
    values = [value for branch in branches for value in _values(branch) if value is not None]
    entry: dict[str, Any] = {"type": " | ".join(kinds) or "any"}
    if isinstance(required, list) and name in required:
        entry["required"] = True
    if values and len(values) <= _MOST_VALUES and all(len(str(value)) <= _LONGEST_VALUE for value in values):
        entry["enum"] = values
    return entry


def _branches(schema: Any, whole: dict[str, Any], depth: int) -> Iterator[dict[str, Any]]:
    """Return the plain schemas that a value may satisfy, with references and alternatives followed."""
    if not isinstance(schema, dict) or depth > 8:
        return
    reference = schema.get("$ref")
    if isinstance(reference, str):
        yield from _branches(_at(whole, reference), whole, depth + 1)
        return
    choices = [choice for key in ("anyOf", "oneOf", "allOf") for choice in schema.get(key, ())]
    for choice in choices:
        yield from _branches(choice, whole, depth + 1)
    if not choices or "type" in schema or "enum" in schema:
        yield schema


def _at(whole: Any, reference: str) -> Any:
    if not reference.startswith("#/"):
        return None
    for step in reference[2:].split("/"):
        whole = whole.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(whole, dict) else None
    return whole


def _kinds(schema: dict[str, Any]) -> list[str]:
    stated = schema.get("type")
    if isinstance(stated, str):
        return [stated]
    if isinstance(stated, list):
        return [kind for kind in stated if isinstance(kind, str)]
    kinds = {str: "string", bool: "boolean", int: "integer", float: "number"}
    return [kinds[type(value)] for value in _values(schema) if type(value) in kinds]


def _values(schema: dict[str, Any]) -> list[Any]:
    values = [schema["const"]] if "const" in schema else schema.get("enum", [])
    return [value for value in values if value is None or isinstance(value, str | int | float)]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
