"""From text, bytes or a foreign tree to a plain tree, whatever the format.

Rules kept here:

- Bytes are UTF-8 without a byte order mark; size is bounded before anything is made of them.
- Every format keeps the strictness of JSON: no duplicate keys, nothing that JSON cannot hold.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any, Final, Literal, TypeAlias

from .document_json import scan_json
from .errors import PolicyError, Problem, ProblemCode, Trail, json_type, pointer_of, readable, short
from .reading import MAX_BYTES, MAX_DEPTH, MAX_DIGITS, TOO_DEEP_TO_READ, Position, Reading, position_of, refused

__all__ = ["MAX_BYTES", "MAX_DEPTH", "MAX_DIGITS", "Format", "Locate", "plain_copy", "read", "scan"]

Format: TypeAlias = Literal["json", "yaml", "toml"]
Locate: TypeAlias = Callable[[str], Position | None]


def read(text: str | bytes, format: Format = "json") -> tuple[object, Locate]:
    """Return the plain tree of a document, and a function from JSON Pointer to (line, column).

    Raises `PolicyError` with every problem that reading alone can see.
    """
    reading = scan(text, format)
    if reading.problems:
        raise PolicyError(reading.problems)

    def locate(pointer: str) -> Position | None:
        place = reading.places([pointer]).get(pointer)
        return place and place.value

    return reading.tree, locate


def scan(text: str | bytes, format: Format = "json") -> Reading:
    """Like `read`, but leave it to the caller to raise the problems of a tree that can be checked further."""
    text, data = _decoded(text)
    if format == "json":
        return scan_json(text, data)
    if format == "toml":
        return _scan_toml(text)
    if format == "yaml":
        from .document_yaml import scan_yaml

        return scan_yaml(text)
    raise ValueError(f"unknown format `{format}`: `json`, `yaml` and `toml` are known")


# -- bytes to text


def _decoded(source: str | bytes) -> tuple[str, bytes]:
    if not isinstance(source, str | bytes):
        raise refused(ProblemCode.WRONG_TYPE, f"a document is read from text or bytes, not from {json_type(source)}")
    if len(source) > MAX_BYTES:  # before anything is made of it
        raise _too_large()
    text, data = (source, _encode(source)) if isinstance(source, str) else (_decode(source), source)
    if len(data) > MAX_BYTES:
        raise _too_large()
    if text.startswith("\ufeff"):
        raise refused(ProblemCode.INVALID_JSON, "a document must not begin with a byte order mark", (1, 1))
    return text, data


def _encode(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        position = position_of(text, error.start)
        raise refused(ProblemCode.INVALID_JSON, "a lone surrogate is not text", position) from None


def _decode(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start].decode()
        message = f"not UTF-8: byte 0x{data[error.start]:02X}, {error.reason}"
        raise refused(ProblemCode.INVALID_JSON, message, position_of(before, len(before))) from None


def _too_large() -> PolicyError:
    return refused(ProblemCode.TOO_LARGE, f"a document has at most {MAX_BYTES:,} bytes")


# -- TOML


_TOML_STRING: Final = r'"(?:[^"\\\n]|\\.)*+"|\'[^\'\n]*+\''


def _scan_toml(text: str) -> Reading:
    import tomllib

    # a dotted key nests a level a dot, and the parser takes the square of their number
    if any(line.count(".") > MAX_DEPTH for line in re.sub(_TOML_STRING, "", text).splitlines()):
        raise refused(ProblemCode.TOO_DEEP, TOO_DEEP_TO_READ)
    try:
        tree = tomllib.loads(text)
    except RecursionError:
        raise refused(ProblemCode.TOO_DEEP, TOO_DEEP_TO_READ) from None
    except ValueError as error:  # TOMLDecodeError is one, and so is an integer beyond what Python converts
        message, position = _toml_message(str(error), text)
        twice = re.match(r"Cannot (?:overwrite|declare|mutate)|Duplicate", message)
        code = ProblemCode.DUPLICATE_KEY if twice else ProblemCode.INVALID_JSON
        raise refused(code, f"not a TOML document: {message[:1].lower()}{message[1:]}", position) from None
    return Reading(*plain_copy(tree))


def _toml_message(message: str, text: str) -> tuple[str, Position | None]:
    found = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", message)
    if found is None:
        return message, None
    position = (int(found[1]), int(found[2])) if found[1] else position_of(text, len(text))
    return message[: found.start()], position


# -- trees that others built

_PLAIN_SCALARS: Final = frozenset({str, int, float, bool, type(None)})
_TOO_LONG: Final = 10**MAX_DIGITS


def plain_copy(tree: object) -> tuple[Any, tuple[Problem, ...]]:
    """Return a copy made of plain JSON values, and the problems of what is none (in the copy, null stands there).

    Mappings become objects, tuples lists. Raises `PolicyError` for a tree that is too deep or too large to go on with.
    """
    problems: list[Problem] = []
    budget = MAX_BYTES  # of values: one takes a byte of text at least

    def copy(value: Any, trail: Trail, depth: int) -> Any:
        nonlocal budget
        budget -= 1
        if budget < 0:
            raise refused(ProblemCode.TOO_LARGE, f"a document has at most {MAX_BYTES:,} values")
        kind = type(value)
        if kind is not dict and (kind in _PLAIN_SCALARS or not isinstance(value, Mapping | list | tuple)):
            return scalar(value, trail)
        if depth >= MAX_DEPTH:
            raise refused(ProblemCode.TOO_DEEP, f"more than {MAX_DEPTH} levels are nested at `{_start(trail)}`")
        if kind is dict or isinstance(value, Mapping):
            members = value.items()
            return {key: copy(item, (trail, key), depth + 1) for key, item in members if is_key(key, trail)}
        return [copy(item, (trail, index), depth + 1) for index, item in enumerate(value)]

    def scalar(value: object, trail: Trail) -> object:
        found = _scalar_problem(value)
        if found is None:
            return value
        problems.append(Problem(pointer_of(trail), *found))
        return None

    def is_key(key: object, trail: Trail) -> bool:
        if type(key) is str:
            found = _scalar_problem(key)
        else:
            found = ProblemCode.WRONG_TYPE, f"a key is a string, found {short(key)}"
        if found is not None:
            problems.append(Problem(pointer_of(trail), *found))
        return found is None

    return copy(tree, None, 0), tuple(problems)


def _start(trail: Trail) -> str:
    return readable(pointer_of(trail))


def _scalar_problem(value: object) -> tuple[ProblemCode, str] | None:
    kind = type(value)
    if kind is str:
        return None if str(value).isascii() else _text_problem(str(value))
    if kind not in _PLAIN_SCALARS:
        return ProblemCode.WRONG_TYPE, f"found {json_type(value)}, which JSON cannot hold"
    if isinstance(value, float) and not isfinite(value):
        return ProblemCode.INVALID_VALUE, f"`{value}` is not a JSON number"
    if isinstance(value, int) and not -_TOO_LONG < value < _TOO_LONG:
        return ProblemCode.INVALID_VALUE, f"an integer has at most {MAX_DIGITS:,} digits"
    return None


def _text_problem(text: str) -> tuple[ProblemCode, str] | None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return ProblemCode.INVALID_VALUE, "a string holds a lone surrogate, which is not text"
    return None
