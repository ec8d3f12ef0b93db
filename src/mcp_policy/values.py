"""JSON values as policies see them: what counts as one, when two are equal, how one is written.

Rules kept here:

- A value is judged as plain JSON: exact `dict`, `list`, `str`, `int`, `float`, `bool`, `None`, and `Decimal`.
  Everything else that may stand for JSON is turned into that first; what cannot be turned raises `NotJson`.
- No object's own comparison, hash or length is ever asked. Built-in subclasses are read through the built-in type, so
  a subclass that lies about itself is seen as what it holds.
- Depth is bounded (`MAX_DEPTH`) and so is size (`MAX_NODES`): cyclic and self-sharing values end in `NotJson`, not in
  a hang.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from itertools import islice
from typing import Any, Final, TypeAlias

MAX_DEPTH: Final = 64
MAX_NODES: Final = 1_000_000
MAX_DIGITS: Final = 4_000
MAX_EXPONENT: Final = 400
_MAX_BITS: Final = 13_288  # 4,000 decimal digits

Number: TypeAlias = int | float | Decimal

_INFINITY = float("inf")


class NotJson(ValueError):
    """A value that is not JSON-like: NaN, too deep, a foreign object, a key that is no string."""


def plain(value: Any) -> Any:
    """Return `value` as plain JSON, copied as far as it has parts. Raises `NotJson`."""
    kind = type(value)
    if (
        kind is str
        or kind is int
        or kind is bool
        or value is None
        or (kind is float and -_INFINITY < value < _INFINITY)
    ):
        return value
    return _plain(value, 0, [MAX_NODES])


def _plain(value: Any, depth: int, budget: list[int]) -> Any:
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:
        return value
    if kind is float:
        if -_INFINITY < value < _INFINITY:
            return value
        raise NotJson("not a finite number")
    if (mapping := fields(value)) is not None:
        _descend(mapping, depth, budget)
        return {_key(key): _plain(item, depth + 1, budget) for key, item in mapping.items()}
    if (items := elements(value)) is not None:
        _descend(items, depth, budget)
        return [_plain(item, depth + 1, budget) for item in items]
    return _scalar(value, kind)


def _descend(container: dict[Any, Any] | list[Any] | tuple[Any, ...], depth: int, budget: list[int]) -> None:
    budget[0] -= len(container)
    if depth >= MAX_DEPTH:
        raise NotJson(f"deeper than {MAX_DEPTH} levels")
    if budget[0] < 0:
        raise NotJson(f"more than {MAX_NODES} values")


def _key(key: Any) -> str:
    if type(key) is str:
        return key
    if issubclass(type(key), str):
        return str.__str__(key)
    raise NotJson("an object key that is not a string")


def _scalar(value: Any, kind: type) -> Any:
    if issubclass(kind, Decimal):
        number = Decimal(value)
        if number.is_finite():
            return number
        raise NotJson("not a finite number")
    if issubclass(kind, str):
        return str.__str__(value)
    if issubclass(kind, int):
        return int.__int__(value)
    if issubclass(kind, float):
        return plain(float.__float__(value))
    raise NotJson("not a JSON value")


def fields(value: Any) -> dict[Any, Any] | None:
    """Return an object's members without copying what they hold, or None where `value` is no object.

    Mappings, pydantic models and dataclasses count as objects. Raises `NotJson` where reading them fails.
    """
    kind = type(value)
    if kind is dict:
        return value  # type: ignore[no-any-return]  # `kind is dict` does not narrow Any
    if kind in _LEAVES:
        return None
    try:
        if issubclass(kind, dict):
            return dict(dict.items(value))
        return _foreign_fields(value, kind)
    except NotJson:
        raise
    except Exception as error:
        raise NotJson("an object that cannot be read") from error


_LEAVES: Final = frozenset({str, int, float, bool, type(None), list, tuple, Decimal})


def _foreign_fields(value: Any, kind: type) -> dict[Any, Any] | None:
    from pydantic import BaseModel  # a tenth of a second, for those who bring objects

    if issubclass(kind, BaseModel):
        return {**object.__getattribute__(value, "__dict__"), **(value.__pydantic_extra__ or {})}
    if hasattr(kind, "__dataclass_fields__"):
        import dataclasses

        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if issubclass(kind, Mapping):
        keys = list(islice(iter(value), MAX_NODES + 1))
        if len(keys) > MAX_NODES:
            raise NotJson(f"more than {MAX_NODES} values")
        return {_key(key): value[key] for key in keys}
    return None


def elements(value: Any) -> list[Any] | tuple[Any, ...] | None:
    """Return a list's elements (a tuple is a list), or None where `value` is no list."""
    kind = type(value)
    if kind is list or kind is tuple:
        return value  # type: ignore[no-any-return]  # as above
    if issubclass(kind, list):
        return list.copy(value)
    if issubclass(kind, tuple):
        return tuple.__getitem__(value, slice(None))
    return None


# -- comparing plain values


def is_number(value: Any) -> bool:
    """Tell whether a plain value is a number; a boolean is not."""
    kind = type(value)
    return kind is int or kind is float or kind is Decimal


def comparable(left: Number, right: Number) -> tuple[Any, Any]:
    """Return two numbers as Python compares them exactly: a float beside a Decimal means its shortest decimal text."""
    if type(left) is Decimal and type(right) is float:
        return left, Decimal(repr(right))
    if type(left) is float and type(right) is Decimal:
        return Decimal(repr(left)), right
    return left, right


def equal(left: Any, right: Any) -> bool:
    """Tell whether two plain values are equal as JSON: type-strict, deep, 1 = 1.0, true ≠ 1."""
    kind = type(left)
    if is_number(left):
        if not is_number(right):
            return False
        a, b = comparable(left, right)
        return bool(a == b)
    if kind is not type(right):
        return False
    if kind is dict:
        return left.keys() == right.keys() and all(equal(item, right[key]) for key, item in left.items())
    if kind is list:
        return len(left) == len(right) and all(map(equal, left, right))
    return bool(left == right)


# -- writing plain values


def canonical(value: Any) -> str:
    """Return the canonical JSON text of a plain value: keys sorted, no white space, numbers by value.

    Raises `NotJson` where it has none: lone surrogates, numbers beyond `MAX_DIGITS` or `MAX_EXPONENT`.
    """
    text = _write(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise NotJson("a lone surrogate") from None
    return text


def lookup_text(value: Any) -> str | None:
    """Return a text that two plain values share exactly when they are equal; None where only comparing them can tell.

    That is so for Decimals, which equal floats by their shortest text and integers by value, and for endless integers.
    """
    try:
        return None if _holds_decimal(value) else _write(value)
    except NotJson:
        return None


def _holds_decimal(value: Any) -> bool:
    kind = type(value)
    if kind is list:
        return any(map(_holds_decimal, value))
    if kind is dict:
        return any(map(_holds_decimal, value.values()))
    return kind is Decimal


def _write(value: Any) -> str:
    kind = type(value)
    if kind is str:
        return json.dumps(value, ensure_ascii=False)
    if kind is dict:
        return "{" + ",".join(f"{_write(key)}:{_write(value[key])}" for key in sorted(value)) + "}"
    if kind is list:
        return "[" + ",".join(map(_write, value)) + "]"
    if kind is bool:
        return "true" if value else "false"
    if value is None:
        return "null"
    return _write_number(value)


def _write_number(value: Number) -> str:
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is int:
        if value.bit_length() > _MAX_BITS:
            raise NotJson(f"an integer of more than {MAX_DIGITS} digits")
        return str(value)
    number = value if type(value) is Decimal else Decimal(repr(value))
    if not number:
        return "0"
    if abs(number.adjusted()) > MAX_EXPONENT or len(number.as_tuple().digits) > MAX_DIGITS:
        raise NotJson("a number with too many digits")
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text
