"""One layout for every policy document, so that a difference between two of them is one of meaning.

Rules kept here:

- Nothing changes but order and white space: the new text holds the same values, numbers as they were spelt, texts
  letter by letter. This is checked before the text is given back.
- Keys come in the order of the reference, except where their order can be seen: that of `all_tools`, `categories` and
  `tools`, of `require`, `deny_if` and `approve_if`, of `rate_limit` and `limits` is the order in which reasons are
  reported. Those keep the order in which they were written. So do the members of `tools`, `categories` and `servers`.
- What fits on a line of `WIDTH` columns stands on one; sections and their entries always stand below one another.
- In a text, what cannot be seen is escaped; everything else is written as itself.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, NamedTuple

from . import shapes

WIDTH: Final = 100


class Number(NamedTuple):
    """A number as it was spelt: `1e3` stays `1e3`."""

    spelt: str


def layout(source: str | bytes) -> str:
    """Return the text of a policy in the one layout. `source` is JSON that loads: whoever calls has parsed it."""
    return laid_out(tree(source))


def tree(source: str | bytes) -> Any:
    """Return JSON as values, numbers as they are spelt."""
    return json.loads(source, parse_int=Number, parse_float=Number)


def spelt(value: Any) -> str:
    """Return the JSON text, on one line, of a value as `tree` gives it."""
    return _flat(value, "")


def laid_out(document: Any) -> str:
    """Return the text of a policy, given as `tree` gives it, in the one layout."""
    text = _laid_out(document, "document", "", 0) + "\n"
    if tree(text) != document:
        raise AssertionError("the layout would have changed the policy")
    return text


# -- which keys come first

_SECTION: Final = {"all_tools": "rule", "categories": "entries", "tools": "entries"}
_ITEMS: Final = ("require", "deny_if", "approve_if")
_BELOW: Final[dict[str, dict[str, str]]] = {
    "document": {**_SECTION, "servers": "servers"},
    "server": _SECTION,
    "rule": {
        "when": "item",
        **dict.fromkeys(_ITEMS, "item"),
        "rate_limit": "limit",
        "limits": "limit",
        "approval": "approval",
    },
    "item": {"conditions": "item"},
}
"""The shape below each key of a shape; of a list, that of its elements."""
_MEMBERS: Final = {"entries": "rule", "servers": "server"}
"""Objects whose keys are names, and the shape of what stands there."""
_OPEN: Final = frozenset({"document", "server", *_MEMBERS})
_AS_WRITTEN: Final = (("all_tools", "categories", "tools"), _ITEMS, ("rate_limit", "limits"))


def _places(*kinds: Any) -> dict[str, int]:
    """Return the place of each key; keys that keep the order in which they were written share one."""
    keys = list(dict.fromkeys(key for kind in kinds for key in kind.__annotations__))
    places = {key: place for place, key in enumerate(keys)}
    return {
        key: next((places[group[0]] for group in _AS_WRITTEN if key in group), place) for key, place in places.items()
    }


_PLACES: Final = {
    "document": _places(shapes.Document),
    "server": _places(shapes.Server),
    "rule": _places(shapes.Rule),
    "item": {**_places(shapes.Condition, shapes.Clause), "conditions": -1},
    "limit": _places(shapes.Limit),
    "approval": _places(shapes.Approval),
}


def _ordered(value: dict[str, Any], shape: str) -> list[tuple[str, Any, str]]:
    """Return the members of an object in order, each with the shape of its value."""
    places, below, member = _PLACES.get(shape), _BELOW.get(shape, {}), _MEMBERS.get(shape, "")
    keys = list(value) if places is None else sorted(value, key=places.__getitem__)
    return [(key, value[key], below.get(key, member)) for key in keys]


# -- how it is set


def _laid_out(value: Any, shape: str, indent: str, used: int) -> str:
    """Return a value's text; `used` columns of its first line are taken, and one more by the comma after it."""
    if not isinstance(value, dict | list) or not value:
        return _flat(value, shape)
    if (isinstance(value, list) or shape not in _OPEN) and used + len(flat := _flat(value, shape)) < WIDTH:
        return flat
    further = indent + "  "
    if isinstance(value, dict):
        heads = [(f"{further}{_quoted(key)}: ", part, kind) for key, part, kind in _ordered(value, shape)]
    else:
        heads = [(further, part, shape) for part in value]
    lines = ",\n".join(head + _laid_out(part, kind, further, len(head)) for head, part, kind in heads)
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n{lines}\n{indent}{closing}"


def _flat(value: Any, shape: str) -> str:
    if isinstance(value, Number):
        return value.spelt
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, list):
        return f"[{', '.join(_flat(part, shape) for part in value)}]"
    if isinstance(value, dict):
        parts = (f"{_quoted(key)}: {_flat(part, kind)}" for key, part, kind in _ordered(value, shape))
        return f"{{{', '.join(parts)}}}"
    return json.dumps(value)


def _quoted(text: str) -> str:
    spelt = json.dumps(text, ensure_ascii=False)
    return spelt if spelt.isprintable() else _BEYOND_ASCII.sub(_escaped, spelt)


_BEYOND_ASCII: Final = re.compile(r"[^\x20-\x7e]")


def _escaped(match: re.Match[str]) -> str:
    return match[0] if match[0].isprintable() else json.dumps(match[0])[1:-1]
