"""Edits of a policy document: from one text that loads to another one.

Rules kept here:

- An edit changes what it names and nothing else; numbers stay as they are spelt. The new text is laid out by `layout`.
- Both texts load. An edit after which the document would not is refused, with every problem, and changes nothing.
- What an edit empties goes, and with its last condition a clause; what was empty before stays. A rule stays, for an
  empty one allows, and so does what a condition compares with, for that is data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, TypeAlias, get_args

from mcp_policy import layout
from mcp_policy.document import MAX_DEPTH
from mcp_policy.document import read as read_json
from mcp_policy.errors import PolicyError, pointer_to, readable
from mcp_policy.policy import Policy

Kind: TypeAlias = Literal["none", "allow", "deny", "hide", "limit", "approve", "custom"]
Tree: TypeAlias = dict[str, Any]

EMPTY: Final = layout.layout('{"version": "1", "default": "deny"}')
"""The document to begin with: it denies every call."""


class EditError(ValueError):
    """An edit that cannot be made; the message is for people."""


def read(text: str) -> Tree:
    """Return a document as a tree, numbers as they are spelt. Raises `PolicyError` where it does not load."""
    Policy.parse(text)
    found: Tree = layout.tree(text)
    return found


def pointer(*keys: str) -> str:
    """Return the JSON Pointer of a place."""
    return pointer_to(keys)


# -- kinds of entries

_OWN: Final[Mapping[str, frozenset[str]]] = {
    "allow": frozenset({"action"}),
    "deny": frozenset({"action", "reason", "on_deny"}),
    "hide": frozenset({"action"}),
    "limit": frozenset({"action", "rate_limit"}),
    "approve": frozenset({"action", "reason", "on_deny", "approval"}),
}
"""The keys that a rule of each kind may have; any other makes it a custom one."""


def kind_of(entry: Any) -> Kind:
    """Return what an entry is: a rule, a list of rules, or None."""
    if entry is None:
        return "none"
    if not isinstance(entry, dict):
        return "custom"
    kind: Kind = entry.get("action", "allow")
    if kind == "allow" and "rate_limit" in entry:
        kind = "limit"
    return kind if entry.keys() <= _OWN[kind] else "custom"


def _of_kind(entry: Any, kind: str) -> Any:
    """Return an entry made into one of another kind, keeping what both have."""
    if kind == "custom":
        return {} if entry is None else entry
    rule: Tree = entry if isinstance(entry, dict) else {}
    if kind == "limit":
        listed = rule.get("limits") or [{"max": layout.Number("10"), "window": layout.Number("60")}]
        return {"rate_limit": rule.get("rate_limit", listed[0])}
    kept = {key: value for key, value in rule.items() if key in _OWN[kind] and key != "action"}
    return kept if kind == "allow" else {"action": kind, **kept}


# -- edits

_GONE: Final = "there is nothing at this place any more"


def edited(text: str, edit: Mapping[str, str]) -> str:
    """Return the text of a document after an edit. Raises `EditError`.

    `do` says what is done at the JSON Pointer `at`: `kind` makes the entry there one of kind `to`; `set` puts the JSON
    text `value` there; `unset` and `remove` take away what is there; `add` appends `value` to the list there, and makes
    a list of a single rule; `rename` gives what is there the key `to`.
    """
    try:
        before = read(text)
    except PolicyError:
        raise EditError("the document does not load: the form waits until it does") from None
    do = edit.get("do", "")
    if do not in _EDITS:
        raise EditError(f"there is no edit `{readable(do)}`; there are {', '.join(_EDITS)}")
    after = layout.tree(text)
    _EDITS[do](after, _keys(edit.get("at", "")), edit)
    return text if after == before else _loading(after)


def _loading(tree: Tree) -> str:
    """Return the text of a tree; refuse one that is no policy."""
    try:
        Policy.parse(layout.spelt(tree))
        text = layout.laid_out(tree)
        read_json(text)  # what stands on lines of its own may be too large
    except PolicyError as error:
        problems = ((readable(one.pointer, 200) or "the document", one.message) for one in error.problems)
        raise EditError("\n".join(f"{place}: {message}" for place, message in problems)) from None
    return text


def _kind(tree: Tree, keys: list[str], edit: Mapping[str, str]) -> None:
    kind = edit.get("to", "")
    if kind not in get_args(Kind):
        raise EditError(f"there is no kind `{readable(kind)}`; there are {', '.join(get_args(Kind))}")
    if _to_rule(keys) != len(keys):
        raise EditError("only an entry is of a kind, such as the one at `/tools/read_file`")
    entry = found(tree, keys)
    if kind == kind_of(entry):
        return
    if kind == "none":
        _take_away(tree, keys)
    else:
        _put(tree, keys, _of_kind(entry, kind))


def _set(tree: Tree, keys: list[str], edit: Mapping[str, str]) -> None:
    _put(tree, keys, _value(edit))


def _unset(tree: Tree, keys: list[str], edit: Mapping[str, str]) -> None:
    _take_away(tree, keys)


def _add(tree: Tree, keys: list[str], edit: Mapping[str, str]) -> None:
    value, there = _value(edit), found(tree, keys)
    if isinstance(there, list):
        there.append(value)
    else:
        _put(tree, keys, [value] if there is None else [there, value])


def _rename(tree: Tree, keys: list[str], edit: Mapping[str, str]) -> None:
    *above, old = keys
    new, parent = edit.get("to", ""), found(tree, above)
    if not isinstance(parent, dict) or old not in parent:
        raise EditError(_GONE)
    if new == old:
        return
    if new in parent:
        raise EditError(f"`{readable(new)}` is there already")
    renamed = {new if key == old else key: value for key, value in parent.items()}
    parent.clear()
    parent.update(renamed)


_EDITS: Final[dict[str, Callable[[Tree, list[str], Mapping[str, str]], None]]] = {
    "kind": _kind,
    "set": _set,
    "unset": _unset,
    "add": _add,
    "remove": _unset,
    "rename": _rename,
}


def _value(edit: Mapping[str, str]) -> Any:
    """Return the JSON value of an edit, read as strictly as a document."""
    text = edit.get("value", "")
    try:
        read_json(text)
    except PolicyError as error:
        raise EditError(f"this is not a JSON value: {error.problems[0].message}") from None
    return layout.tree(text)


# -- places


def keys(at: str) -> list[str]:
    """Return the keys that a JSON Pointer leads through."""
    return [key.replace("~1", "/").replace("~0", "~") for key in at.split("/")[1:]]


def found(tree: Any, keys: list[str]) -> Any:
    """Return what stands at a place; None where nothing does."""
    for key in keys:
        own = _key(tree, key)
        if own is None:
            return None
        tree = tree[own]
    return tree


def _keys(at: str) -> list[str]:
    if not at.startswith("/") or at.count("~") != at.count("~0") + at.count("~1"):
        raise EditError("an edit needs a place in the document, such as `/tools/read_file`")
    steps = keys(at)
    if len(steps) > MAX_DEPTH:
        raise EditError(f"a document has at most {MAX_DEPTH} levels")
    return steps


def _to_rule(keys: list[str]) -> int:
    """Return how many of these keys lead to an entry, or to a rule in its list; 0 where they lead to none."""
    start = 2 if keys[:1] == ["servers"] else 0
    section, inside = keys[start : start + 1], keys[start + 1 :]
    if section == ["all_tools"]:
        return start + 1
    if section == ["categories"] and inside:
        return start + 2
    if section == ["tools"] and inside:
        return start + 3 if len(inside) > 1 and _index(inside[1]) is not None else start + 2
    return 0


def _index(key: str) -> int | None:
    is_one = key.isascii() and key.isdecimal() and len(key) < 10 and (key == "0" or key[0] != "0")
    return int(key) if is_one else None


def _key(part: Any, key: str) -> str | int | None:
    """Return a key as what `part` is asked with; None where it has no such member."""
    if isinstance(part, list):
        index = _index(key)
        return index if index is not None and index < len(part) else None
    return key if isinstance(part, dict) and key in part else None


def _put(tree: Any, keys: list[str], value: Any) -> None:
    """Put a value at a place, and make the objects above it that are not there."""
    *above, last = keys
    for key in above:
        if isinstance(tree, dict):
            tree.setdefault(key, {})
        tree = found(tree, [key])
        if not isinstance(tree, dict | list):
            raise EditError("there is no such place in the document")
    own = last if isinstance(tree, dict) else _key(tree, last)
    if own is None:
        raise EditError(_GONE)
    tree[own] = value


def _take_away(tree: Any, keys: list[str]) -> None:
    """Take away what stands at a place, if anything does, and what that empties above it."""
    for depth in range(len(keys) - 1, -1, -1):
        parent = found(tree, keys[:depth])
        own = _key(parent, keys[depth])
        if own is None:
            return
        del parent[own]
        if depth == 0 or _stays(parent, keys[:depth], keys[depth]):
            return


def _stays(parent: Any, keys: list[str], gone: str) -> bool:
    """Tell whether what stands at a place stays now that its member `gone` is no more."""
    rule = _to_rule(keys)
    if rule and "value" in keys[rule:]:
        return True  # data
    if rule and gone == "conditions" and len(keys) == rule + 2:
        return False  # a clause that is left with its reason
    return bool(parent) or (rule == len(keys) and isinstance(parent, dict))
