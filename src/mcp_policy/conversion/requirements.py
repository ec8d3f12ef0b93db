"""Conditions of an Intercept policy on arguments, as requirements that are at least as strict.

How the original compares `"5"` with 5 need not be known: what is required to be equal is compared strictly, and what
is required to differ has to be of the same type besides.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, TypeGuard

from mcp_policy.errors import readable, short
from mcp_policy.operators import check_value
from mcp_policy.regexes import compile_regex
from mcp_policy.suggestions import operator_hint

from .dialect import from_go
from .notes import Notes

Tree = dict[str, Any]
OPERATORS: Final = ("eq", "neq", "in", "not_in", "lt", "lte", "gt", "gte", "regex", "contains", "exists")
_EXACT: Final = 2**53
"""Up to here a 64-bit float tells all integers apart."""
_LARGEST: Final = 1.7976931348623157e308
_BARE: Final = re.compile(r"""[^\s.\[\]"'*\\]+""")
_LIKE_ANOTHER_TYPE: Final = re.compile(
    r"\s*(?:[-+.]?[0-9].*|[-+]?\.?(?:inf|nan).*|true|false|null|nil|<nil>|~|(?:map)?[\[{].*)?\s*",
    re.IGNORECASE | re.DOTALL,
)
"""What a text may look like that stands for a value of another type somewhere."""


def requirement(condition: Tree, at: str, notes: Notes) -> list[Tree]:
    """Return what a condition on an argument became: nothing where it was refused, else one item or two."""
    op: object = condition.get("op")
    value: Any = condition.get("value")
    path = argument_path(condition.get("path"), f"{at}/path", notes)
    if not isinstance(op, str) or op not in OPERATORS:
        lead = operator_hint(op, OPERATORS) if isinstance(op, str) else f"expected one of {', '.join(OPERATORS)}"
        notes.refuse("operator", f"{at}/op", f"the operator is {short(op)}; {lead}")
        return []
    reason = _refusal(op, value, given="value" in condition)
    if reason is not None:
        notes.refuse("value", f"{at}/value" if "value" in condition else at, f"`{op}`: {reason}")
    if path is None or reason is not None:
        return []
    notes.general("absent", at)
    notes.general("types", at)
    if op == "regex":
        value = _pattern(value, f"{at}/value", notes)
    guard = _guard(path, value if op == "not_in" else [value]) if op in ("neq", "not_in") else []
    if guard:
        message = "a value of another type is denied too: it may have been taken for an equal one"
        notes.stricter("same_type", at, message)
    return [*guard, {"path": path, "op": op, "value": value}]


def argument_path(path: object, at: str, notes: Notes) -> str | None:
    """Return the path to an argument as it is written here, or None where it leads elsewhere or nowhere plain."""
    if not isinstance(path, str) or not re.fullmatch(r"args(?:\.[^.\[\]*]+)+", path):
        notes.refuse("path", at, f"expected a path such as `args.amount`, found {short(path)}")
        return None
    root, *keys = path.split(".")
    return root + "".join(f".{key}" if _BARE.fullmatch(key) else f"[{json.dumps(key)}]" for key in keys)


def is_number(value: object) -> TypeGuard[float]:
    """Tell whether a value is a JSON number; a boolean is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _refusal(op: str, value: Any, *, given: bool) -> str | None:
    """Say why a value cannot be kept with its operator; None where it can."""
    wrong = check_value(op, value) if given else None
    if not given:
        return "it has no `value`"
    if wrong is not None:
        return wrong[1]
    if op == "exists" and not value:
        return "`exists: false` may let null through here, which counts as absent; write it by hand if that is right"
    if op == "contains" and not _is_scalar(value):
        return f"found {short(value)}, expected a string, a number or a boolean"
    if op in ("neq", "not_in"):
        return _not_tellable(value if op == "not_in" else [value])
    if op in ("lt", "lte", "gt", "gte") and abs(value) >= _EXACT:
        return "numbers as large are not told apart by every program; compare with one below 2^53"
    return _regex_problem(value) if op == "regex" else None


def _not_tellable(values: list[Any]) -> str | None:
    if not all(map(_is_scalar, values)):
        return "that a list or an object differs cannot be kept"
    if any(is_number(value) and abs(value) >= _EXACT for value in values):
        return "numbers as large are not told apart by every program; compare with ones below 2^53"
    if len({_type(value) for value in values}) > 1:
        return "values of several types in one list; give each type a condition of its own"
    return None


def _is_scalar(value: object) -> bool:
    return isinstance(value, str | int | float)


def _type(value: object) -> str:
    return "number" if is_number(value) else type(value).__name__


def _guard(path: str, values: list[Any]) -> list[Tree]:
    """Return what makes sure of the type where a value of another one may be taken for an equal one."""
    kind = _type(values[0]) if values else ""
    if kind == "number":
        return [{"path": path, "op": "lte", "value": _LARGEST}]
    if kind == "bool":
        return [{"path": path, "op": "in", "value": [True, False]}]
    if any(_LIKE_ANOTHER_TYPE.fullmatch(value) for value in values):
        return [{"path": path, "op": "starts_with", "value": ""}]
    return []


def _pattern(pattern: str, at: str, notes: Notes) -> str:
    written = from_go(pattern)
    if written != pattern:
        notes.differs("regex", at, f"`{readable(pattern)}` is written `{readable(written)}`, which finds the same here")
    return written


def _regex_problem(pattern: str) -> str | None:
    try:
        compile_regex(from_go(pattern))
    except ValueError as error:
        return str(error)
    return None
