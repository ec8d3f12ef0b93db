"""JSON text to a plain tree, strictly: RFC 8259 and I-JSON (RFC 7493).

Rules kept here:

- What is not exactly JSON is refused: duplicate keys, NaN and Infinity (also by overflow), lone surrogates, text after
  the end.
- Depth is bounded before anything is built from the text.
- Reading good text does no more work than it must. Places (line, column) and the list of duplicates come from a
  second, iterative pass over the tokens, made only when there is a problem to place.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from json import JSONDecodeError, JSONDecoder, loads
from math import isfinite
from typing import TYPE_CHECKING, Final, NamedTuple

from .errors import Problem, ProblemCode, escape
from .reading import MAX_DEPTH, MAX_DIGITS, TOO_DEEP_TO_READ, Place, Position, Reading, position_of, refused

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator


def scan_json(text: str, data: bytes) -> Reading:
    """Return the tree of a JSON text, which is also given as UTF-8. Raises `PolicyError`."""
    outline = _outline(data)
    if not _is_shallow(outline) and (offset := _too_deep_at(text)) is not None:
        line, column = position_of(text, offset)
        message = f"more than {MAX_DEPTH} levels are nested at line {line}, column {column}"
        raise refused(ProblemCode.TOO_DEEP, message, (line, column))
    tree, members = _loaded(text)
    if "\\u" in text and (found := re.search(r"\\u[dD][89a-fA-F]", text)):
        _check_surrogates(text, found.start())
    problems = () if members == outline.count(b":") else tuple(_duplicates(text))
    return Reading(tree, problems, lambda pointers: _places(text, pointers))


def _loaded(text: str) -> tuple[object, int]:
    """Return the tree and how many members its objects have: fewer than colons in the text means duplicate keys."""
    objects: list[dict[str, object]] = []
    note = objects.append

    def noted(found: dict[str, object]) -> dict[str, object]:
        note(found)
        return found

    decoder = JSONDecoder(
        object_hook=noted,
        parse_float=_float,
        parse_int=_integer if _has_long_number(text) else None,
        parse_constant=_constant,
    )
    try:
        tree = decoder.decode(text)
        return tree, sum(map(len, objects))
    except JSONDecodeError as error:
        message = f"not JSON: {error.msg[:1].lower()}{error.msg[1:]}"
        raise refused(ProblemCode.INVALID_JSON, message, (error.lineno, error.colno)) from None
    except ValueError as error:  # by one of the functions above, or an integer beyond what Python converts
        raise refused(ProblemCode.INVALID_JSON, _number_message(error), _refused_number(text)) from None
    except RecursionError:
        raise refused(ProblemCode.TOO_DEEP, TOO_DEEP_TO_READ) from None


class _NotJsonError(ValueError):
    """A number that JSON, or a bound of this package, does not allow."""


def _float(digits: str) -> float:
    number = float(digits)
    if isfinite(number):
        return number
    raise _NotJsonError("a number is too large to be told from infinity")


def _integer(digits: str) -> int:
    if len(digits.lstrip("-")) > MAX_DIGITS:
        raise _NotJsonError(f"an integer has at most {MAX_DIGITS:,} digits")
    return int(digits)


def _constant(name: str) -> None:
    raise _NotJsonError(f"`{name}` is not a JSON number")


def _number_message(error: ValueError) -> str:
    return str(error) if isinstance(error, _NotJsonError) else f"an integer has at most {MAX_DIGITS:,} digits"


def _has_long_number(text: str) -> bool:
    """Tell whether more than `MAX_DIGITS` digits follow one another: such a run covers one of these offsets."""
    for offset in range(MAX_DIGITS, len(text), MAX_DIGITS):
        if text[offset].isdigit():
            near = text[offset - MAX_DIGITS : offset + MAX_DIGITS + 1]
            if re.search(rf"[0-9]{{{MAX_DIGITS + 1}}}", near):
                return True
    return False


_DETAILS: Final = bytes(byte for byte in range(256) if byte not in b'[]{}:"')
_ONE_BRACKET: Final = bytes.maketrans(b"[]", b"{}")


def _outline(data: bytes) -> bytes:
    """Return the brackets and colons of JSON that stand outside strings, in a few passes that run in C."""
    if b"\\" in data:
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    outline = data.translate(None, _DETAILS).replace(b'""', b"")
    return re.sub(rb'"[^"]*"', b"", outline) if b'"' in outline else outline


def _is_shallow(outline: bytes) -> bool:
    """Tell whether the nesting of JSON stays within `MAX_DEPTH`: the innermost brackets go, level by level.

    For what is not JSON the answer may be a wrong no.
    """
    brackets = outline.translate(_ONE_BRACKET, b":")
    for _ in range(MAX_DEPTH):
        if not brackets:
            return True
        brackets = brackets.replace(b"{}", b"")
    return not brackets


def _too_deep_at(text: str) -> int | None:
    depth = 0
    for token in _TOKEN.finditer(text):
        if token[0] in ("[", "{"):
            depth += 1
            if depth > MAX_DEPTH:
                return token.start()
        elif token[0] in ("]", "}"):
            depth -= 1
    return None


def _check_surrogates(text: str, start: int) -> None:
    """Refuse strings whose escapes spell half of a surrogate pair. A string without such an escape is fine."""
    for token in _STRING.finditer(text):
        if token.end() > start and "\\u" in token[0]:
            try:
                loads(token[0]).encode()
            except UnicodeEncodeError:
                message = "a string holds a lone surrogate, which is not text"
                raise refused(ProblemCode.INVALID_JSON, message, position_of(text, token.start())) from None


# -- the second pass

_STRING = re.compile(r'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_TOKEN = re.compile(rf'{_STRING.pattern}|[\[\]{{}},:]|[^\s\[\]{{}},:"]++', re.DOTALL)


class _Node(NamedTuple):
    """One value of a JSON text and the offsets of it and of its key (-1: it has none)."""

    pointer: str
    value: int
    key: int
    duplicate: bool


class _Frame:
    """A list or object that is being read: where it is, the keys seen and the members begun."""

    __slots__ = ("index", "is_object", "keys", "pointer")

    def __init__(self, pointer: str, is_object: bool) -> None:
        self.pointer = pointer
        self.is_object = is_object
        self.keys: set[str] = set()
        self.index = 0


def _nodes(text: str) -> Iterator[_Node]:
    """Yield every value of a text that is known to be JSON, in document order."""
    frames: list[_Frame] = []
    pointer, key_at, duplicate, key_next = "", -1, False, False
    for token in _TOKEN.finditer(text):
        char = text[token.start()]
        if char in "}]":
            frames.pop()
        elif char == ",":
            frame = frames[-1]
            frame.index += 1
            key_next = frame.is_object
            pointer, key_at, duplicate = f"{frame.pointer}/{frame.index}", -1, False
        elif key_next and char == '"':
            frame, key = frames[-1], loads(token[0])
            pointer, key_at, duplicate = f"{frame.pointer}/{escape(key)}", token.start(), key in frame.keys
            frame.keys.add(key)
            key_next = False
        elif char != ":":
            yield _Node(pointer, token.start(), key_at, duplicate)
            if char in "{[":
                key_next = char == "{"
                frames.append(_Frame(pointer, key_next))
                pointer, key_at, duplicate = f"{pointer}/0", -1, False


def _duplicates(text: str) -> Iterator[Problem]:
    position = _positions(text)
    for node in _nodes(text):
        if node.duplicate:
            message = "this key stands in its object already; say everything about it in one place"
            yield Problem(node.pointer, ProblemCode.DUPLICATE_KEY, message, *position(node.key))


def _places(text: str, pointers: Collection[str]) -> dict[str, Place]:
    """Return where these pointers lead; of several members with one key the last counts, as it does in the tree."""
    wanted, position = frozenset(pointers), _positions(text)
    return {
        node.pointer: Place(position(node.value), position(node.key) if node.key >= 0 else None)
        for node in _nodes(text)
        if node.pointer in wanted
    }


def _positions(text: str) -> Callable[[int], Position]:
    """Return `position_of` for many offsets into one text."""
    starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def position(offset: int) -> Position:
        line = bisect_right(starts, offset)
        return line, offset - starts[line - 1] + 1

    return position


def _refused_number(text: str) -> Position | None:
    """Return where the first number stands that `_loaded` refuses."""
    numbers = (token for token in _TOKEN.finditer(text) if token[0][0] in "-0123456789NI")
    return next((position_of(text, number.start()) for number in numbers if _is_refused(number[0])), None)


def _is_refused(number: str) -> bool:
    try:
        JSONDecoder(parse_float=_float, parse_int=_integer, parse_constant=_constant).decode(number)
    except ValueError:
        return True
    return False
