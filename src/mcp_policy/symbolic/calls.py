"""Calls made of values: what is chosen for each part of a call, put together."""

from __future__ import annotations

from typing import Any, Final

from ..call import Principal, ToolCall
from ..conditions import ABSENT
from .atoms import Subject


def embedded(subject: Subject, value: Any, tool: str = "tool") -> ToolCall:
    """Return a call in which nothing but this subject has a value."""
    return assemble({subject: value}, tool)


def assemble(
    values: dict[Subject, Any], tool: str, *, server: str | None = None, category: str | None = None
) -> ToolCall:
    """Return the call that has these values and no others."""
    objects: dict[str, dict[str, Any]] = {"args": {}, "context": {}, "principal.claims": {}}
    parts: dict[str, Any] = {}
    for (root, key), value in values.items():
        if value is ABSENT:
            continue
        if key is not None:
            objects[root][key] = value
        elif root in objects:
            objects[root].update(value)
        else:
            parts[root] = value
    who = {name: parts[f"principal.{name}"] for name in _WHO if f"principal.{name}" in parts}
    claims = objects["principal.claims"]
    return ToolCall(
        tool,
        objects["args"],
        server=server,
        session=parts.get("session.id"),
        principal=Principal(**who, claims=claims) if who or claims else None,
        context=objects["context"] or None,
        category=category,
    )


_WHO: Final = ("id", "issuer", "client", "roles", "scopes")
