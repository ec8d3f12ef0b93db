"""Records as JSON text, for stores outside this process. What goes in comes back: floats and Decimals too."""

from __future__ import annotations

import json
from dataclasses import fields
from decimal import Decimal
from typing import Any, Final

from .store import Approval, Vote

_NAMES: Final = tuple(field.name for field in fields(Approval))


def written(record: Approval) -> str:
    """Return a record as text."""
    return _text({name: getattr(record, name) for name in _NAMES})


def read(text: str | bytes) -> Approval:
    """Return the record of a text. Raises `ValueError`, `TypeError` or `KeyError` for what is none."""
    tree = json.loads(text, parse_float=_number)
    tree["rules"] = tuple(tree["rules"])
    tree["votes"] = tuple(Vote(*vote) for vote in tree["votes"])
    tree["approvers"] = None if tree["approvers"] is None else tuple(tree["approvers"])
    return Approval(**tree)


def _text(value: Any) -> str:
    """A plain tree as JSON. A Decimal is a number with a capital `E`, which is how it is told from a float."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_text, value)) + "]"
    if isinstance(value, Decimal):
        text = str(value)
        return text if "E" in text else text + "E0"
    return json.dumps(value)


def _number(text: str) -> float | Decimal:
    return Decimal(text) if "E" in text else float(text)
