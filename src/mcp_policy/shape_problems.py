"""What pydantic says about the shape of a document, in this package's words.

Rules kept here: a problem points into the document as it was written (pydantic also names the members of unions on
its way; those are left out), says what was found, and says what would be right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, get_args

from pydantic import ValidationError

from . import shapes
from .errors import Problem, ProblemCode, json_type, pointer_to, readable, short
from .suggestions import hint, operator_hint

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

# The way from the shape of an object to the shapes below its keys. `x*` is a list or mapping of x, and a union (`|x`)
# stands for one more step in pydantic's location, which names the member of the union that was tried.
_SECTION: Final = {"hide": "scalar*", "all_tools": "rule", "categories": "rule*", "tools": "|entry*"}
_BELOW: Final[dict[str, dict[str, str]]] = {
    "document": {**_SECTION, "servers": "server*"},
    "server": _SECTION,
    "rule": {
        "except": "scalar*",
        "when": "condition*",
        "require": "|item*",
        "deny_if": "|item*",
        "approve_if": "|item*",
        "rate_limit": "|limit",
        "limits": "limit*",
        "approval": "approval",
    },
    "clause": {"conditions": "condition*"},
    "limit": {"window": "|scalar", "per": "|scalar", "scope": "|scalar", "cost": "|cost"},
}
_MEMBERS: Final[dict[str, dict[str, str]]] = {
    "|entry": {"object": "rule", "list": "rule*"},
    "|item": {"condition": "item", "clause": "clause"},
    "|limit": {"object": "limit"},
    "|scalar": {"list": "scalar*"},
    "|cost": {"object": "length"},
}
_KEYS: Final[dict[str, tuple[str, ...]]] = {
    name: tuple(shape.__annotations__)
    for name, shape in {
        "document": shapes.Document,
        "server": shapes.Server,
        "rule": shapes.Rule,
        "condition": shapes.Condition,
        "clause": shapes.Clause,
        "limit": shapes.Limit,
        "length": shapes.Length,
        "approval": shapes.Approval,
    }.items()
}
_KEYS["item"] = (*_KEYS["condition"], "conditions")  # where a clause may stand, a condition may be a misspelt one
_EXPECTED: Final = {
    "string_type": "a string",
    "float_type": "a number",
    "bool_type": "`true` or `false`",
    "list_type": "a list",
    "dict_type": "an object",
}
_BOUNDS: Final = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}
_ARTICLES: Final = {"object": "an object", "list": "a list", "string": "a string", "number": "a number"}
_OPERATORS: Final[tuple[str, ...]] = get_args(shapes.Op)


def shape_problems(tree: object) -> list[Problem]:
    """Return everything that is wrong with the shape of a tree, in the order of the shapes."""
    try:
        shapes.adapter().validate_python(tree)
    except ValidationError as error:
        return [_problem(detail) for detail in error.errors(include_url=False)]
    return []


def _problem(detail: ErrorDetails) -> Problem:
    location = detail["loc"]
    if detail["type"] == "literal_error" and location[-1] == "[key]":  # pydantic's word for the key of a mapping
        location = location[:-1]
    tokens, holder = _place(location)
    code, message = _explain(detail, tokens, holder)
    if code is ProblemCode.MISSING_KEY:
        tokens = tokens[:-1]
    return Problem(pointer_to(tokens), code, message)


def _place(location: tuple[int | str, ...]) -> tuple[list[int | str], str]:
    """Return the keys and indices that lead to a place in the document, and the shape of the object that holds it."""
    tokens: list[int | str] = []
    holder, kind = "document", "document"
    for step in location:
        if kind.startswith("|") and not kind.endswith("*"):
            kind = _MEMBERS[kind].get(str(step), "scalar")
        elif kind.endswith("*"):
            tokens.append(step)
            holder, kind = kind, kind[:-1]
        elif kind in _KEYS:
            tokens.append(step)
            holder, kind = kind, _BELOW.get(kind, {}).get(str(step), "scalar")
    return tokens, holder


def _explain(detail: ErrorDetails, tokens: list[int | str], holder: str) -> tuple[ProblemCode, str]:
    kind, found = detail["type"], detail["input"]
    context: dict[str, Any] = detail.get("ctx", {})
    if kind == "extra_forbidden":
        return ProblemCode.UNKNOWN_KEY, _unknown_key(str(tokens[-1]), holder)
    if kind == "missing":
        return ProblemCode.MISSING_KEY, f"the key `{tokens[-1]}` is missing here"
    if kind == "literal_error":
        return _not_a_word(found, tokens, context["expected"])
    if kind in ("too_short", "string_too_short"):
        return ProblemCode.INVALID_VALUE, f"{json_type(found)} here must not be empty"
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        return ProblemCode.INVALID_VALUE, f"found {short(found)}, expected {words} {context[key]:,.15g}"
    if kind == "float_type" and type(found) is int:
        return ProblemCode.INVALID_VALUE, f"found {short(found)}, which is out of bounds"
    expected = _EXPECTED.get(kind) or " or ".join(_ARTICLES[name] for name in detail["msg"].split(" or "))
    return ProblemCode.WRONG_TYPE, f"found {short(found)}, expected {expected}{_without_quotes(found, expected)}"


def _without_quotes(found: object, expected: str) -> str:
    numeric = isinstance(found, str) and "number" in expected and found.replace(".", "", 1).isdecimal()
    return "; a number is written without quotes" if numeric else ""


def _unknown_key(key: str, holder: str) -> str:
    return f"the key `{readable(key)}` is unknown here; {hint(key, _KEYS[holder])}"


def _not_a_word(found: object, tokens: list[int | str], expected: str) -> tuple[ProblemCode, str]:
    words = tuple(expected.replace(" or ", ", ").replace("'", "").split(", "))
    if not isinstance(found, str):
        some = " or ".join(f'`"{word}"`' for word in words[:1] if len(words) == 1) or "a string"
        return ProblemCode.WRONG_TYPE, f"found {short(found)}, expected {some}"
    if tokens[-1] == "op" and words == _OPERATORS:
        hinted = operator_hint(found, _OPERATORS)
        return ProblemCode.UNKNOWN_OPERATOR, f"`{readable(found)}` is not an operator; {hinted}"
    return ProblemCode.INVALID_VALUE, f"`{readable(found)}` is not known here; {hint(found, words)}"
