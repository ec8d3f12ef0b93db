"""Intercept's policies: `tools: {name: {rules: [...]}}`, where each rule has to let a call pass.

How its words are taken, the strictest reading where there is more than one:

- A rule denies unless all its `conditions` hold; `action: deny` denies always, whatever the conditions.
- `default` is `allow` where the document does not say; `*` adds to other tools' rules and allows nothing by itself.
- A count includes the call that is being decided, and is one for all callers, whatever `scope` says.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeGuard

from mcp_policy.document import scan
from mcp_policy.errors import PolicyError, escape, json_type, readable, short
from mcp_policy.patterns import is_exact
from mcp_policy.policy import Policy
from mcp_policy.suggestions import hint

from .counting import Counters, find_counters, rate_limit, state_limits
from .notes import Note, Notes
from .requirements import requirement

if TYPE_CHECKING:
    from mcp_policy.document import Format

_TOP: Final = ("version", "description", "default", "hide", "tools")
_RULE: Final = ("name", "action", "conditions", "on_deny", "state", "rate_limit", "scope")
_ACTIONS: Final = {"evaluate": "allow", "deny": "deny", "require_approval": "approve"}
_STRENGTH: Final = ("deny", "approve", "allow")
_EVERY_TOOL: Final = "*"

Tree = dict[str, Any]


class Conversion(NamedTuple):
    """The native document, None where there can be none, and everything to know about it."""

    document: Tree | None
    notes: tuple[Note, ...]


def convert(text: str | bytes, format: Format = "yaml") -> Conversion:
    """Turn an Intercept policy into a native document. Raises `PolicyError` for what is not YAML or JSON at all."""
    reading = scan(text, format)
    if reading.problems:
        raise PolicyError(reading.problems)
    notes = Notes()
    document = _document(reading.tree, notes)
    if not notes.refused:
        _check_that_it_loads(document, reading.tree, notes)
    return Conversion(None if notes.refused else document, notes.placed(reading.places))


def _check_that_it_loads(document: Tree, original: object, notes: Notes) -> None:
    try:
        Policy.model_validate(document)
    except PolicyError as error:
        for problem in error.problems:
            notes.refuse("invalid", _known_part(problem.pointer, original), f"cannot be said here: {problem.message}")


def _known_part(pointer: str, tree: object) -> str:
    """Return as much of a pointer into the result as leads somewhere in the original."""
    known = ""
    for token in pointer.split("/")[1:]:
        key = token.replace("~1", "/").replace("~0", "~")
        if not isinstance(tree, dict) or key not in tree:
            return known
        known, tree = f"{known}/{token}", tree[key]
    return known


# -- the document


def _document(tree: object, notes: Notes) -> Tree:
    if not _is_object(tree, "", notes):
        return {}
    _only_known(tree, "", _TOP, notes)
    made: Tree = {"version": "1"}
    if tree.get("version") not in ("1", 1) or tree.get("version") is True:
        notes.refuse("version", "/version" if "version" in tree else "", 'expected `version: "1"`')
    if _text(tree, "description", "", notes):
        made["description"] = tree["description"]
    made["default"] = _default(tree, notes)
    if "hide" in tree:
        made["hide"] = _hidden(tree["hide"], notes)
    made |= _tools(tree.get("tools", {}), made["default"], notes)
    return made


def _default(tree: Tree, notes: Notes) -> str:
    stated = tree.get("default", "allow")
    if "default" not in tree:
        notes.general("default_allow", "")
    elif stated not in ("allow", "deny"):
        notes.refuse("invalid", "/default", f"found {short(stated)}, expected `allow` or `deny`")
    return str(stated)


def _hidden(value: object, notes: Notes) -> list[Any]:
    if not isinstance(value, list):
        notes.refuse("invalid", "/hide", f"found {json_type(value)}, expected a list of tools")
        return []
    if value:
        notes.general("hide", "/hide")
    for index, name in enumerate(value):
        if isinstance(name, str) and not is_exact(name):
            _told_of_pattern(name, f"/hide/{index}", notes)
    return value


def _told_of_pattern(name: str, at: str, notes: Notes) -> None:
    notes.stricter("pattern", at, f"`{readable(name)}` is a pattern here: `*` is any run of characters, `?` one")


def _tools(value: object, default: str, notes: Notes) -> Tree:
    """Return the sections `all_tools` and `tools`."""
    if not _is_object(value, "/tools", notes):
        return {}
    rules = {name: _rules_of(entry, f"/tools/{escape(name)}", notes) for name, entry in value.items()}
    counters = find_counters(rules, notes)
    made: Tree = {}
    tools: Tree = {}
    for name, stated in rules.items():
        at = f"/tools/{escape(name)}"
        converted = [
            rule
            for index, raw in enumerate(stated)
            if (rule := _rule(raw, f"{at}/rules/{index}", name, counters, notes)) is not None
        ]
        if name == _EVERY_TOOL:
            _told_of_wildcard(at, default, notes)
            made["all_tools"] = _joined(converted)
            continue
        if not is_exact(name):
            _check_pattern(name, at, default, notes)
        tools[name] = converted if len(converted) > 1 else (converted or [{}])[0]
    return {**made, "tools": tools} if tools else made


def _rules_of(entry: object, at: str, notes: Notes) -> list[Any]:
    if not _is_object(entry, at, notes):
        return []
    _only_known(entry, at, ("rules",), notes)
    rules = entry.get("rules", [])
    if not isinstance(rules, list):
        notes.refuse("invalid", f"{at}/rules", f"found {json_type(rules)}, expected a list of rules")
        return []
    return rules


def _told_of_wildcard(at: str, default: str, notes: Notes) -> None:
    notes.general("wildcard", at)
    if default == "deny":
        notes.stricter("wildcard_deny", at, "with `default: deny`, only tools that are named beside `*` may be called")


def _check_pattern(name: str, at: str, default: str, notes: Notes) -> None:
    if default == "deny":
        message = f"`{readable(name)}` would allow every tool that it matches as a pattern; name the tools one by one"
        notes.refuse("pattern", at, message)
    else:
        _told_of_pattern(name, at, notes)


def _joined(rules: list[Tree]) -> Tree:
    """Return one rule that says what several say, each with its own reason."""
    if len(rules) < 2:
        return rules[0] if rules else {}
    actions = [rule.get("action", "allow") for rule in rules]
    action = min(actions, key=_STRENGTH.index)
    speaks = next(
        (
            rule["reason"]
            for rule, said in zip(rules, actions, strict=True)
            if said == action != "allow" and "reason" in rule
        ),
        None,
    )
    made: Tree = {} if action == "allow" else {"action": action, **({"reason": speaks} if speaks else {})}
    for key in ("require", "limits"):
        parts = [_with_reason(part, rule) for rule in rules for part in rule.get(key, ())]
        made |= {key: parts} if parts else {}
    return made


def _with_reason(part: Tree, rule: Tree) -> Tree:
    return {**part, "reason": rule["reason"]} if "reason" in rule else part


# -- rules


def _rule(raw: object, at: str, tool: str, counters: Counters, notes: Notes) -> Tree | None:
    if not _is_object(raw, at, notes):
        return None
    _only_known(raw, at, _RULE, notes)
    made: Tree = {}
    action = _action(raw, at, notes)
    if action != "allow":
        made["action"] = action
    reason = _reason(raw, at, notes)
    if reason:
        made["reason"] = reason
    if action == "deny":
        _told_of_unread(raw, at, notes)
        return made
    require, limits = _conditions(raw, at, tool, counters, notes)
    if "rate_limit" in raw:
        limits += rate_limit(raw, at, notes)
    return made | ({"require": require} if require else {}) | ({"limits": limits} if limits else {})


def _action(raw: Tree, at: str, notes: Notes) -> str:
    stated = raw.get("action", "evaluate")
    if not isinstance(stated, str) or stated not in _ACTIONS:
        known = hint(stated, tuple(_ACTIONS)) if isinstance(stated, str) else ""
        notes.refuse(
            "action", f"{at}/action", f"the action is {short(stated)}, which has no counterpart; {known}".rstrip("; ")
        )
        return "allow"
    if stated == "require_approval" and raw.get("conditions"):
        message = (
            "an approval with `conditions` can mean that they ask for it or that they come before it; "
            "write `approve_if` or `require` by hand"
        )
        notes.refuse("approval", f"{at}/conditions", message)
    return _ACTIONS[stated]


def _reason(raw: Tree, at: str, notes: Notes) -> str | None:
    said, name = _text(raw, "on_deny", at, notes), _text(raw, "name", at, notes)
    if name:
        notes.general("rule_name", f"{at}/name")
    if said and re.search(r"\{\{|\$\{|%\(", said):
        notes.differs(
            "template",
            f"{at}/on_deny",
            "a reason is literal text: nothing is put in the place of what stands in braces",
        )
    return said or name


def _told_of_unread(raw: Tree, at: str, notes: Notes) -> None:
    for key in ("conditions", "state", "rate_limit"):
        if raw.get(key):
            notes.stricter("denied_always", f"{at}/{key}", f"`action: deny` denies every call; `{key}` is left out")


def _conditions(raw: Tree, at: str, tool: str, counters: Counters, notes: Notes) -> tuple[list[Tree], list[Tree]]:
    """Return what the arguments have to be, and the limits that conditions on counters became."""
    stated = raw.get("conditions", [])
    if not isinstance(stated, list):
        notes.refuse("invalid", f"{at}/conditions", f"found {json_type(stated)}, expected a list of conditions")
        stated = []
    require: list[Tree] = []
    on_counters: list[tuple[Tree, str]] = []
    for index, condition in enumerate(stated):
        place = f"{at}/conditions/{index}"
        if not _is_object(condition, place, notes):
            continue
        _only_known(condition, place, ("path", "op", "value"), notes)
        path = condition.get("path")
        if isinstance(path, str) and path.startswith("state."):
            on_counters.append((condition, place))
        else:
            require += requirement(condition, place, notes)
    return require, state_limits(raw, at, tool, on_counters, counters, notes)


# -- shapes


def _is_object(value: object, at: str, notes: Notes) -> TypeGuard[Tree]:
    if isinstance(value, dict):
        return True
    notes.refuse("invalid", at, f"found {short(value)}, expected an object")
    return False


def _only_known(value: Tree, at: str, known: tuple[str, ...], notes: Notes) -> None:
    for key in value:
        if key not in known:
            message = f"the key `{readable(key)}` is unknown here and may restrict calls; {hint(key, known)}"
            notes.refuse("unknown_key", f"{at}/{escape(key)}", message)


def _text(holder: Tree, key: str, at: str, notes: Notes) -> str | None:
    value = holder.get(key)
    if key in holder and not isinstance(value, str):
        notes.refuse("invalid", f"{at}/{key}", f"found {short(value)}, expected a string")
    return value if isinstance(value, str) else None
