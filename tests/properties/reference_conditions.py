"""Values, paths, operators and conditions of the naive evaluator.

Rules it keeps: a value is what it is in JSON or it is odd; numbers are exact (`Fraction`); every element of `[*]` is
looked at.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

from pydantic import BaseModel

HOLDS, NOT, ABSENT, AGAINST, ERRS = "holds", "not", "absent", "against", "errs"
NEGATIVE = {"neq", "not_in", "not_contains", "not_regex"}
GONE = object()  # what a path finds when there is nothing
SAID: Counter[tuple[str, str, str]] = Counter()  # (column, operator, outcome): which cells of the table a run has met


class Odd(Exception):
    """A wrong type."""


# Values ------------------------------------------------------------------------------------------------------------


def as_object(value: Any) -> Mapping[Any, Any] | None:
    if isinstance(value, Mapping):
        return value
    if isinstance(value, BaseModel):
        return {name: getattr(value, name) for name in type(value).model_fields}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return None


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)


def plain(value: Any, room: int = 64) -> Any:
    """The JSON value that this Python value stands for."""
    if value is None or isinstance(value, (bool, str, int)):
        return value
    if isinstance(value, (float, Decimal)):
        if not math.isfinite(value):
            raise Odd
        return value
    fields = as_object(value)
    if room == 0 or (fields is None and not isinstance(value, (list, tuple))):
        raise Odd
    if fields is None:
        return [plain(item, room - 1) for item in value]
    if not all(isinstance(key, str) for key in fields):
        raise Odd
    return {key: plain(item, room - 1) for key, item in fields.items()}


def difference(a: Any, b: Any) -> Fraction:
    """a - b, exactly; beside a Decimal a float is its shortest decimal text."""
    if isinstance(a, Decimal) or isinstance(b, Decimal):
        a, b = (Decimal(repr(n)) if isinstance(n, float) else n for n in (a, b))
    return Fraction(a) - Fraction(b)


def equal(a: Any, b: Any) -> bool:
    if is_number(a) and is_number(b):
        return difference(a, b) == 0
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict) and isinstance(b, dict):
        return set(a) == set(b) and all(equal(a[key], b[key]) for key in a)
    return type(a) is type(b) and bool(a == b)


def canonical(value: Any) -> Any:
    """Plain values whose `json.dumps` is the same exactly when they are equal."""
    if isinstance(value, dict):
        return {key: canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [canonical(item) for item in value]
    return {"": str(Fraction(str(value)))} if is_number(value) else value


# Paths -------------------------------------------------------------------------------------------------------------


def steps_of(path: str) -> list[str | int | None]:
    """The steps behind the root; None is `[*]`."""
    steps: list[str | int | None] = []
    for key, quoted, index in re.findall(r'\.([^.\[\]]+)|\[("(?:[^"\\]|\\.)*")\]|\[(\d+|\*)\]', path):
        steps.append(key or (json.loads(quoted) if quoted else None if index == "*" else int(index)))
    return steps


def root_of(path: str, call: Mapping[str, Any], category: str | None) -> tuple[Any, list[str | int | None]]:
    """The value at a path's root and the steps that are left; an empty identity is none."""
    steps = steps_of(path)
    root = str(re.split(r"[.\[]", path)[0])
    if root in ("args", "context"):
        return call["arguments"] if root == "args" else call.get("context") or {}, steps
    who = call.get("principal")
    if path == "tool.category" and category is None:
        raise Odd
    if steps[0] in ("roles", "scopes"):
        return (who or {}).get(steps[0]) or [], steps[1:]
    if steps[0] == "claims":
        return who and (who.get("claims") or {}), steps[1:]
    values = {
        "session": {"id": call.get("session")},
        "server": {"name": call.get("server")},
        "principal": who or {},
        "tool": {"name": call["tool"], "category": category},
    }
    return values[root].get(steps[0]) or None, steps[1:]


def walk(value: Any, steps: list[str | int | None]) -> Iterator[Any]:
    """Every value that the steps lead to; GONE where there is none, Odd for a step that does not fit."""
    if value is None:
        yield GONE
    elif not steps:
        yield plain(value)
    elif isinstance(steps[0], str):
        fields = as_object(value)
        if fields is None:
            raise Odd
        yield from walk(fields.get(steps[0]), steps[1:])
    elif not isinstance(value, (list, tuple)):
        raise Odd
    elif steps[0] is None:
        for item in value:
            yield from walk(item, steps[1:])
    else:
        yield from walk(value[steps[0]] if steps[0] < len(value) else None, steps[1:])


def find(path: str, call: Mapping[str, Any], category: str | None) -> list[Any]:
    return list(walk(*root_of(path, call, category)))


# Operators ---------------------------------------------------------------------------------------------------------


def glob(pattern: str, text: str) -> bool:
    """Follow every place in the text that the pattern read so far can reach."""
    places = {0}
    for char in pattern:
        if char == "*":
            places = set(range(min(places), len(text) + 1)) if places else places
        else:
            places = {at + 1 for at in places if at < len(text) and char in ("?", text[at])}
    return len(text) in places


def path_parts(text: str) -> list[str] | None:
    """The parts of an absolute path after resolving dots."""
    if not text.startswith("/") or "\0" in text:
        return None
    parts: list[str] = []
    for part in text.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return parts


def plain_host(text: str) -> str | None:
    """A host in the one form in which hosts are compared."""
    if text.startswith("[") and text.endswith("]"):
        try:
            address = ipaddress.IPv6Address(text[1:-1])
        except ValueError:
            return None
        return None if address.scope_id else str(address.ipv4_mapped or address)
    labels = text.lower().split(".")
    if not re.fullmatch(r"[a-z0-9.-]+", text.lower()) or not text.isascii() or "" in labels:
        return None
    if re.fullmatch(r"\d+|0x[0-9a-f]*", labels[-1]):
        quad = len(labels) == 4 and all(re.fullmatch(r"0|[1-9]\d{0,2}", n) and int(n) < 256 for n in labels)
        return text if quad else None
    return text.lower()


def url_host(text: str) -> str | None:
    if any(unicodedata.category(c)[0] == "Z" or unicodedata.category(c) in ("Cc", "Cf", "Cs") for c in text):
        return None
    parts = re.fullmatch(r"(?i:https?)://(\[[^\]]*\]|[^:/?#\[\]@]*)(?::([0-9]+))?(?:[/?#].*)?", text)
    if not parts or "\\" in text or (parts[2] and int(parts[2]) > 65535):
        return None
    return plain_host(parts[1])


def host_entry(text: Any) -> str | None:
    if not isinstance(text, str):
        return None
    if text.startswith("*."):
        name = plain_host(text[2:])
        return "*." + name if name and not text.startswith("*.[") and not name[-1].isdigit() else None
    return plain_host(text)


def strings(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else value


def subject_fits(op: str, found: Any) -> bool:
    """Whether an operator takes a found value of this type."""
    if op in ("lt", "lte", "gt", "gte"):
        return is_number(found)
    if op in ("regex", "not_regex"):
        return isinstance(found, str) and len(found) <= 16384 and not re.search("[\ud800-\udfff]", found)
    if op in ("starts_with", "ends_with", "glob", "within", "host_in"):
        return isinstance(found, str)
    kinds = {"contains": (str, list), "not_contains": (str, list), "intersects": list, "keys_in": dict}
    return isinstance(found, kinds.get(op, object)) and not (op[:6] == "length" and not hasattr(found, "__len__"))


def value_fits(op: str, value: Any) -> bool:
    """Whether an operator takes this value from the call, as it would from the document."""
    if op in ("lt", "lte", "gt", "gte"):
        return is_number(value)
    if op in ("starts_with", "ends_with"):
        return isinstance(value, str)
    if op[:6] == "length":
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if op in ("in", "not_in", "intersects", "keys_in", "host_in") and not isinstance(value, list):
        return False
    if op == "keys_in":
        return all(isinstance(key, str) for key in value)
    if op == "host_in":
        return all(host_entry(item) for item in value)
    if op == "within":
        return isinstance(value, (str, list)) and all(
            isinstance(item, str) and path_parts(item) is not None for item in strings(value)
        )
    return True


def has(found: Any, value: Any) -> bool:
    if isinstance(found, list):
        return any(equal(item, value) for item in found)
    if not isinstance(value, str):
        raise Odd
    return value in found


def under(found: str, value: Any) -> bool | None:
    parts = path_parts(found)
    tops = [path_parts(top) or [] for top in strings(value)]
    return None if parts is None else any(parts[: len(top)] == top for top in tops)


def at_host(found: str, value: list[str]) -> bool | None:
    host = url_host(found)
    entries = [host_entry(item) or "" for item in value]
    return None if host is None else any(host == e or (e[:2] == "*." and host.endswith(e[1:])) for e in entries)


def searched(found: str, pattern: str) -> bool:
    return bool(re.search(re.sub(r"\$$", r"\\Z", pattern), found))


OPERATORS: dict[str, Any] = {
    "eq": equal,
    "neq": lambda found, value: not equal(found, value),
    "in": lambda found, value: any(equal(found, item) for item in value),
    "not_in": lambda found, value: not any(equal(found, item) for item in value),
    "intersects": lambda found, value: any(equal(a, b) for a in found for b in value),
    "lt": lambda found, value: difference(found, value) < 0,
    "lte": lambda found, value: difference(found, value) <= 0,
    "gt": lambda found, value: difference(found, value) > 0,
    "gte": lambda found, value: difference(found, value) >= 0,
    "contains": has,
    "not_contains": lambda found, value: not has(found, value),
    "starts_with": lambda found, value: found.startswith(value),
    "ends_with": lambda found, value: found.endswith(value),
    "regex": searched,
    "not_regex": lambda found, value: not searched(found, value),
    "glob": lambda found, value: any(glob(pattern, found) for pattern in strings(value)),
    "length_lte": lambda found, value: len(found) <= value,
    "length_gte": lambda found, value: len(found) >= value,
    "keys_in": lambda found, value: set(found) <= set(value),
    "within": under,
    "host_in": at_host,
}


# Conditions --------------------------------------------------------------------------------------------------------


def one(op: str, found: Any, value: Any, column: str) -> str:
    """What one found value says; `value` is GONE when `value_from` found nothing."""
    if op == "exists":
        return HOLDS if (found is not GONE) == value else NOT
    if found is not GONE and not subject_fits(op, found):
        return ERRS
    if value is GONE:
        odd = op in ("within", "host_in") and (url_host if op == "host_in" else path_parts)(str(found)) is None
        return ERRS if found is not GONE and odd and column != "require" else AGAINST
    if found is GONE:
        return AGAINST if op in NEGATIVE else ABSENT
    held = OPERATORS[op](found, value)
    if held is None:  # not a path, not a URL
        return NOT if column == "require" else ERRS
    return HOLDS if held else NOT


def condition(item: Mapping[str, Any], call: Mapping[str, Any], category: str | None, column: str) -> str:
    outcome = outcome_of(item, call, category, column)
    if outcome in (AGAINST, ERRS):
        SAID[column, item["op"], outcome] += 1
    return outcome


def outcome_of(item: Mapping[str, Any], call: Mapping[str, Any], category: str | None, column: str) -> str:
    op = item["op"]
    try:
        value = item["value"] if "value" in item else find(item["value_from"], call, category)[0]
        if "value_from" in item and value is not GONE and not value_fits(op, value):
            raise Odd
        said = [one(op, found, value, column) for found in find(item["path"], call, category)]
    except Odd:
        return ERRS
    SAID.update((column, op, answer) for answer in said)
    if value is GONE and not said:
        return AGAINST
    if ERRS in said:
        return ERRS
    if column == "require":
        return NOT if set(said) - {HOLDS} else HOLDS
    ranked = [answer for answer in (HOLDS, AGAINST, NOT, ABSENT) if answer in said]
    return ranked[0] if ranked else NOT


def held(item: Mapping[str, Any], call: Mapping[str, Any], category: str | None, column: str) -> str:
    """HOLDS, NOT or ERRS for an item of `require`, `deny_if` or `approve_if`."""
    for part in item.get("conditions", [item]):
        answer = condition(part, call, category, column)
        if answer == ERRS:
            return ERRS
        if answer in (NOT, ABSENT):
            return NOT
        if answer == AGAINST and column == "require":
            return NOT
    return HOLDS
