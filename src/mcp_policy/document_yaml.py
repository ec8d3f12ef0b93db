"""YAML (behind the extra `yaml`), cut down to what JSON can say.

Rules kept here:

- Only `true` and `false` are booleans, only what JSON calls a number is one, only `null`, `~` and nothing are null;
  every other plain scalar is a string (`no`, `010`, `2026-01-01`).
- Duplicate keys, anchors, aliases, tags, merge keys, NaN, Infinity and a second document are refused.
- The tree is built from the parser's events, one by one: nothing is expanded, and depth is seen as it grows.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from .errors import Problem, ProblemCode, escape, readable
from .reading import MAX_DEPTH, MAX_DIGITS, Place, Position, Reading, refused

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_WORDS = {"true": True, "false": False, "null": None, "~": None, "": None}


def scan_yaml(text: str) -> Reading:
    """Return the tree of a YAML text. Raises `PolicyError`, or `ImportError` without the extra."""
    try:
        import yaml
    except ImportError:
        raise ImportError('reading YAML needs PyYAML: pip install "mcp-policy[yaml]"') from None
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return _Builder(yaml).build(yaml.parse(text, Loader=loader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        message = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be read"
        raise refused(ProblemCode.INVALID_JSON, f"not YAML: {message}", mark and _position(mark)) from None


def _position(mark: Any) -> Position:
    return mark.line + 1, mark.column + 1


class _Builder:
    """Builds plain values from events, and keeps where each stands."""

    def __init__(self, yaml: Any) -> None:
        self.yaml = yaml
        self.places: dict[str, Place] = {}
        self.problems: list[Problem] = []
        self.events: Iterator[Any] = iter(())

    def build(self, events: Iterator[Any]) -> Reading:
        self.events = events
        kinds = self.yaml.events
        tree: object = None
        documents = 0
        for event in events:
            if isinstance(event, kinds.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise _no("a second document in one text", event)
            elif not isinstance(event, kinds.StreamStartEvent | kinds.StreamEndEvent | kinds.DocumentEndEvent):
                tree = self.value(event, "", 0, None)
        if not documents:
            raise refused(ProblemCode.INVALID_JSON, "not YAML: the text is empty", (1, 1))
        return Reading(tree, tuple(self.problems), self.find)

    def find(self, pointers: Collection[str]) -> dict[str, Place]:
        return {pointer: self.places[pointer] for pointer in pointers if pointer in self.places}

    def value(self, event: Any, pointer: str, depth: int, key: Position | None) -> object:
        kinds = self.yaml.events
        _check_node(event, kinds)
        self.places[pointer] = Place(_position(event.start_mark), key)
        if isinstance(event, kinds.ScalarEvent):
            return self.scalar(event)
        if depth >= MAX_DEPTH:
            line, column = _position(event.start_mark)
            message = f"more than {MAX_DEPTH} levels are nested at line {line}, column {column}"
            raise refused(ProblemCode.TOO_DEEP, message, (line, column))
        if isinstance(event, kinds.SequenceStartEvent):
            return self.sequence(pointer, depth)
        return self.mapping(pointer, depth)

    def sequence(self, pointer: str, depth: int) -> list[object]:
        items: list[object] = []
        for event in self.events:
            if isinstance(event, self.yaml.events.SequenceEndEvent):
                break
            items.append(self.value(event, f"{pointer}/{len(items)}", depth + 1, None))
        return items

    def mapping(self, pointer: str, depth: int) -> dict[str, object]:
        members: dict[str, object] = {}
        for event in self.events:
            if isinstance(event, self.yaml.events.MappingEndEvent):
                break
            key, place = self.key(event), _position(event.start_mark)
            below = f"{pointer}/{escape(key)}"
            if key in members:
                message = "this key stands in its object already; say everything about it in one place"
                self.problems.append(Problem(below, ProblemCode.DUPLICATE_KEY, message, *place))
            members[key] = self.value(next(self.events), below, depth + 1, place)
        return members

    def key(self, event: Any) -> str:
        _check_node(event, self.yaml.events)
        if not isinstance(event, self.yaml.events.ScalarEvent):
            raise _no("a list or an object as a key", event)
        if event.implicit[0] and event.value == "<<":
            raise _no("a merge key", event)
        key = self.scalar(event)
        if not isinstance(key, str):
            raise _no(f"`{readable(event.value)}` as a key: a key is a string, write it in quotes", event)
        return key

    def scalar(self, event: Any) -> object:
        text: str = event.value
        if not event.implicit[0]:  # quoted, or a block
            return _text(text, event)
        if text in _WORDS:
            return _WORDS[text]
        if _NOT_FINITE.fullmatch(text):
            raise _no(f"the number `{text}`", event)
        number = _NUMBER.fullmatch(text)
        return _number(number, event) if number else _text(text, event)


def _number(match: re.Match[str], event: Any) -> int | float:
    if match[1] or match[2]:
        number = float(match[0])
        if number in (float("inf"), float("-inf")):
            raise _no("a number too large to be told from infinity", event)
        return number
    if len(match[0].lstrip("-")) > MAX_DIGITS:
        raise _no(f"an integer of more than {MAX_DIGITS:,} digits", event)
    return int(match[0])


def _text(text: str, event: Any) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _no("a lone surrogate", event) from None
    return text


def _check_node(event: Any, kinds: Any) -> None:
    if isinstance(event, kinds.AliasEvent):
        raise _no("an alias", event)
    if event.anchor is not None:
        raise _no("an anchor", event)
    if event.tag is not None:
        raise _no("a tag", event)


def _no(what: str, event: Any) -> Exception:
    return refused(ProblemCode.INVALID_JSON, f"not in a policy: {what}", _position(event.start_mark))
