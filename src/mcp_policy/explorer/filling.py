"""What a person put into a field of the builder's form, as an edit of the document.

Rules kept here:

- A field that is emptied leaves the document; nothing is guessed for it.
- Numbers go into the document as they were typed. What is not of the field's kind is refused, with what would be.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from mcp_policy import layout
from mcp_policy.operators import OPERATORS

from . import entries, panels
from .editing import EditError, Tree
from .offers import OPERATOR_HINTS, OPERATOR_WORDS, Offer, condition

Form = Mapping[str, str]

_NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")


def edit_of(form: Form, tree: Tree, offers: Iterable[Offer]) -> dict[str, str]:
    """Return the edit that a field asks for, as `editing.edited` takes it. Raises `EditError`.

    `do` of the form is one of the edits, or `fill`: put what was typed (`value`) at a place (`at`), as the kind of
    field that `as` names. With `as` `condition` an existing one is replaced, and with `add` one is added to a list.
    """
    if form.get("do") != "fill":
        return dict(form)
    kind = form.get("as", "")
    if kind == "condition":
        at = form.get("at", "")
        return {"do": form.get("how", "add"), "at": at, "value": _condition(form, entries.found(tree, at), offers)}
    if kind not in _KINDS:
        raise EditError(f"there is no field of the kind `{kind}`")
    value = _KINDS[kind](form.get("value", ""))
    return _within_limit(form.get("at", ""), value, tree) or _put(form.get("at", ""), value)


def _put(at: str, value: str) -> dict[str, str]:
    return {"do": "set", "at": at, "value": value} if value else {"do": "unset", "at": at}


def _within_limit(at: str, value: str, tree: Tree) -> dict[str, str] | None:
    """Return the edit of a part of a limit that is written as one text; None of anything else."""
    limit_at, _, key = at.rpartition("/")
    limit = entries.found(tree, limit_at)
    if not isinstance(limit, str):
        return None
    parts = {name: layout.spelt(part) for name, part in panels.expanded(limit).items()}
    if parts.get(key, "") == value:
        return {"do": "set", "at": limit_at, "value": json.dumps(limit)}  # as it is
    whole = {**parts, key: value}
    members = ", ".join(f"{json.dumps(name)}: {part}" for name, part in whole.items() if part)
    return {"do": "set", "at": limit_at, "value": f"{{{members}}}"}


# -- the kinds of fields: what was typed, as JSON text; empty where the field is


def _text(typed: str) -> str:
    return json.dumps(typed) if typed.strip() else ""


def _number(typed: str) -> str:
    typed = typed.strip()
    if typed and not _NUMBER.fullmatch(typed):
        raise EditError(f"a number is needed, such as `10`, not `{typed}`")
    return typed


def _window(typed: str) -> str:
    typed = typed.strip()
    return typed if _NUMBER.fullmatch(typed) else _text(typed)


def _cost(typed: str) -> str:
    typed = typed.strip()
    length = re.fullmatch(r"length(?: of)?\s+(\S.*)", typed)
    return json.dumps({"length": length[1]}) if length else _window(typed)


def _names(typed: str) -> str:
    names = [line.strip() for line in typed.splitlines() if line.strip()]
    return json.dumps(names) if names else ""


def _dimensions(typed: str) -> str:
    chosen = [one for one in typed.splitlines() if one]
    if len(chosen) > 1:
        return json.dumps(chosen)
    return "" if chosen in ([], ["session"]) else json.dumps(chosen[0])


_KINDS: Final[dict[str, Callable[[str], str]]] = {
    "text": _text,
    "number": _number,
    "window": _window,
    "cost": _cost,
    "names": _names,
    "dimensions": _dimensions,
    "json": str.strip,
}


def _condition(form: Form, old: Any, offers: Iterable[Offer]) -> str:
    """Return the JSON text of a condition from its fields; `old` is the one that it replaces, if any."""
    path, op = form.get("path", "").strip(), form.get("op", "")
    if not path:
        raise EditError("a condition is about something: choose what, such as `args.amount`")
    offer = next((one for one in offers if one.path == path), None)
    if form.get("by") == "path":
        text = _by_path(path, op, form.get("value", "").strip())
    elif _is_kept(form, path, op, old, offer):
        text = layout.spelt({"path": path, "op": op, "value": old["value"]})
    else:
        text = condition(path, op, form.get("value", ""), offer)
    reason, key = form.get("reason", ""), "on_deny" if isinstance(old, dict) and "on_deny" in old else "reason"
    return f'{text[:-1]}, "{key}": {json.dumps(reason, ensure_ascii=False)}}}' if reason.strip() else text


def _by_path(path: str, op: str, other: str) -> str:
    if op not in OPERATORS or not OPERATORS[op].value_from:
        raise EditError(f"`{op}` compares with a value of the document, not with another path")
    return json.dumps({"path": path, "op": op, "value_from": other}, ensure_ascii=False)


def _is_kept(form: Form, path: str, op: str, old: Any, offer: Offer | None) -> bool:
    """Tell whether the value is the one that was there, whatever it would be read as now."""
    if not isinstance(old, dict) or "value" not in old or (old.get("path"), old.get("op")) != (path, op):
        return False
    return form.get("value", "") == panels.typed(old, offer)


def choices(offers: Iterable[Offer]) -> dict[str, Any]:
    """Return what the script needs to offer operators and values by the type of what is compared."""
    return {
        "paths": {one.path: {"type": one.type, "ops": one.ops, "choices": one.choices} for one in offers},
        "ops": {
            name: {"verb": OPERATOR_WORDS[name], "hint": OPERATOR_HINTS[name], "by_path": one.value_from}
            for name, one in OPERATORS.items()
        },
    }
