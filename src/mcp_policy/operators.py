"""The operators of conditions: which values each takes, and when it holds.

One table row an operator. `make(value)` does the work that depends on the document's value alone and returns the test;
the test gets a plain found value (never absent) and answers with an outcome code. An operator states what it takes on
both sides, so that "wrong type" means the same thing at load, for `value_from`, and for what a call brings.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

from .errors import ProblemCode, json_type
from .locations import plain_host, resolve_path, url_host
from .patterns import compile_glob
from .regexes import MAX_SUBJECT, compile_regex
from .values import comparable, equal, is_number, lookup_text

# Outcome codes. AGAINST: absent, where absence counts against the call. OPEN: not known yet. A clause adds the
# place of its deciding condition in the bits above MASK.
HOLDS: Final = 0
FAILS: Final = 1
AGAINST: Final = 2
ERRS: Final = 3
OPEN: Final = 4
MASK: Final = 7
SHIFT: Final = 3

Test: TypeAlias = Callable[[Any], int]
Refusal: TypeAlias = tuple[ProblemCode, str, tuple[str | int, ...]]


class Operator(NamedTuple):
    """One operator: `refuse` says why a document's value does not fit, `make` builds the test."""

    name: str
    takes: str
    """What a found value has to be, for messages."""
    kinds: frozenset[type] | None
    """The types of plain values that it takes; None for all."""
    refuse: Callable[[Any], Refusal | None]
    make: Callable[[Any], Test]
    verb: str
    """What it says of a value, in words; `{}` is the document's value."""
    proper: Callable[[Any], object | None] | None = None
    """None for a string that is not what it has to be: not held in `require`, a wrong type everywhere else."""
    negative: bool = False
    """Absence counts against the call."""
    value_from: bool = True


def check_value(op: str, value: Any) -> Refusal | None:
    """Say why `value` is not one that operator `op` takes: code, message, tokens below `value`; None when it is."""
    if value is None:
        return _bad(_NULL)
    if op in ("in", "not_in") and type(value) is list:
        for place, member in enumerate(value):
            if member is None:
                return _bad(_NULL, place)
    return OPERATORS[op].refuse(value)


# -- what a document's value may be


_NULL: Final = "`null` can never be found: null is absent; use `exists`"


def _wrong(expected: str, value: Any, *below: str | int) -> Refusal:
    return ProblemCode.WRONG_TYPE, f"found {json_type(value)}, expected {expected}", below


def _bad(message: str, *below: str | int) -> Refusal:
    return ProblemCode.INVALID_VALUE, message, below


def _any_json(value: Any) -> Refusal | None:
    return None


def _number(value: Any) -> Refusal | None:
    return None if is_number(value) else _wrong("a number", value)


def _string(value: Any) -> Refusal | None:
    return None if type(value) is str else _wrong("a string", value)


def _boolean(value: Any) -> Refusal | None:
    return None if type(value) is bool else _wrong("`true` or `false`", value)


def _count(value: Any) -> Refusal | None:
    if type(value) is not int:
        return _wrong("an integer", value)
    return None if value >= 0 else _bad("a length is never below 0")


def _list(value: Any) -> Refusal | None:
    return None if type(value) is list else _wrong("a list", value)


def _each(check: Callable[[Any], Refusal | None], value: Any) -> Refusal | None:
    if type(value) is not list:
        return _wrong("a list", value)
    for place, member in enumerate(value):
        if refusal := check(member):
            return refusal[0], refusal[1], (place, *refusal[2])
    return None


def _one_or_each(check: Callable[[Any], Refusal | None], value: Any) -> Refusal | None:
    if type(value) is str:
        return check(value)
    return _each(check, value) if type(value) is list else _wrong("a string or a list of strings", value)


def _directory(value: Any) -> Refusal | None:
    if type(value) is not str:
        return _wrong("a string", value)
    return None if resolve_path(value) is not None else _bad("expected an absolute POSIX path such as `/srv/data`")


def _host(value: Any) -> Refusal | None:
    if type(value) is not str:
        return _wrong("a string", value)
    name = value.removeprefix("*.")
    if plain_host(name) is None or (name != value and name.startswith("[")):
        return _bad("expected a host such as `api.example.com`, `*.example.com` or `[::1]`, without scheme and port")
    return None


# -- tests


def _not(make: Callable[[Any], Test]) -> Callable[[Any], Test]:
    def make_negated(value: Any) -> Test:
        test = make(value)
        flipped = {HOLDS: FAILS, FAILS: HOLDS}
        return lambda found: flipped.get(outcome := test(found), outcome)

    return make_negated


def _eq(value: Any) -> Test:
    return lambda found: HOLDS if equal(found, value) else FAILS


def _in(members: list[Any]) -> Test:
    # Looked up, not compared one by one: a long list that a call brings must not cost its length for every element.
    names = frozenset(member for member in members if type(member) is str)
    texts = frozenset(lookup_text(member) for member in members if type(member) is not str)
    unlisted = [member for member in members if type(member) is not str and lookup_text(member) is None]

    def test(found: Any) -> int:
        if type(found) is str:
            return HOLDS if found in names else FAILS
        text = lookup_text(found)
        if text is not None and text in texts:
            return HOLDS
        compared = members if text is None else unlisted
        return HOLDS if any(equal(found, member) for member in compared) else FAILS

    return test


def _intersects(members: list[Any]) -> Test:
    is_member = _in(members)
    return lambda found: HOLDS if any(is_member(item) == HOLDS for item in found) else FAILS


def _lt(bound: Any) -> Test:
    exact = type(bound) is Decimal  # by way of `value_from`

    def test(found: Any) -> int:
        if type(found) is Decimal or exact:
            found, other = comparable(found, bound)
            return HOLDS if found < other else FAILS
        return HOLDS if found < bound else FAILS

    return test


def _lte(bound: Any) -> Test:
    exact = type(bound) is Decimal

    def test(found: Any) -> int:
        if type(found) is Decimal or exact:
            found, other = comparable(found, bound)
            return HOLDS if found <= other else FAILS
        return HOLDS if found <= bound else FAILS

    return test


def _contains(value: Any) -> Test:
    def test(found: Any) -> int:
        if type(found) is list:
            return HOLDS if any(equal(item, value) for item in found) else FAILS
        if type(value) is not str:
            return ERRS
        return HOLDS if value in found else FAILS

    return test


def _starts_with(prefix: str) -> Test:
    return lambda found: HOLDS if found.startswith(prefix) else FAILS


def _ends_with(suffix: str) -> Test:
    return lambda found: HOLDS if found.endswith(suffix) else FAILS


def _regex(pattern: str) -> Test:
    is_match = compile_regex(pattern)

    def test(found: str) -> int:
        if is_match(found):
            return HOLDS
        return ERRS if len(found) > MAX_SUBJECT or not encodable(found) else FAILS

    return test


def encodable(text: str) -> bool:
    """Tell whether a text has a UTF-8 form: it holds no lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _glob(value: str | list[str]) -> Test:
    matchers = [compile_glob(glob) for glob in ([value] if type(value) is str else value)]
    return lambda found: HOLDS if any(is_match(found) for is_match in matchers) else FAILS


def _exists(wanted: bool) -> Test:
    return lambda found: HOLDS if wanted else FAILS


def _length_lte(bound: int) -> Test:
    return lambda found: HOLDS if len(found) <= bound else FAILS


def _length_gte(bound: int) -> Test:
    return lambda found: HOLDS if len(found) >= bound else FAILS


def _keys_in(names: list[str]) -> Test:
    allowed = frozenset(names)
    return lambda found: HOLDS if allowed.issuperset(found) else FAILS


def _within(value: str | list[str]) -> Test:
    directories = [resolve_path(path) or () for path in ([value] if type(value) is str else value)]

    def test(found: str) -> int:
        path = resolve_path(found) or ()
        return HOLDS if any(path[: len(directory)] == directory for directory in directories) else FAILS

    return test


def _host_in(hosts: list[str]) -> Test:
    exact = frozenset(plain_host(host) for host in hosts if not host.startswith("*."))
    below = tuple(f".{plain_host(host[2:])}" for host in hosts if host.startswith("*."))

    def test(found: str) -> int:
        host = url_host(found) or ""
        return HOLDS if host in exact or host.endswith(below) else FAILS

    return test


# -- the table


_JSON: Final = ("a JSON value", None)
_NUMBER: Final = ("a finite number, not a boolean or a string", frozenset({int, float, Decimal}))
_STRING: Final = ("a string", frozenset({str}))
_LIST: Final = ("a list", frozenset({list}))
_OBJECT: Final = ("an object", frozenset({dict}))
_TEXT: Final = (f"a string of at most {MAX_SUBJECT} characters", frozenset({str}))
_SIZED: Final = ("a string, a list or an object", frozenset({str, list, dict}))
_STRING_OR_LIST: Final = ("a string or a list", frozenset({str, list}))
_PATH: Final = ("an absolute path", frozenset({str}))
_LINK: Final = ("a plain http or https URL", frozenset({str}))

_paths = partial(_one_or_each, _directory)
_globs = partial(_one_or_each, _string)
_keys = partial(_each, _string)
_hosts = partial(_each, _host)

OPERATORS: Final[dict[str, Operator]] = {
    operator.name: operator
    for operator in (
        Operator("eq", *_JSON, _any_json, _eq, "equals {}"),
        Operator("neq", *_JSON, _any_json, _not(_eq), "differs from {}", negative=True),
        Operator("in", *_JSON, _list, _in, "is one of {}"),
        Operator("not_in", *_JSON, _list, _not(_in), "is none of {}", negative=True),
        Operator("intersects", *_LIST, _list, _intersects, "shares a member with {}"),
        Operator("lt", *_NUMBER, _number, _lt, "is less than {}"),
        Operator("lte", *_NUMBER, _number, _lte, "is at most {}"),
        Operator("gt", *_NUMBER, _number, _not(_lte), "is more than {}"),
        Operator("gte", *_NUMBER, _number, _not(_lt), "is at least {}"),
        Operator("contains", *_STRING_OR_LIST, _any_json, _contains, "contains {}"),
        Operator("not_contains", *_STRING_OR_LIST, _any_json, _not(_contains), "lacks {}", negative=True),
        Operator("starts_with", *_STRING, _string, _starts_with, "starts with {}"),
        Operator("ends_with", *_STRING, _string, _ends_with, "ends with {}"),
        Operator("regex", *_TEXT, _string, _regex, "matches the pattern {}", value_from=False),
        Operator("not_regex", *_TEXT, _string, _not(_regex), "avoids the pattern {}", negative=True, value_from=False),
        Operator("glob", *_STRING, _globs, _glob, "matches {}", value_from=False),
        Operator("exists", *_JSON, _boolean, _exists, "is given", value_from=False),
        Operator("length_lte", *_SIZED, _count, _length_lte, "has at most {} elements"),
        Operator("length_gte", *_SIZED, _count, _length_gte, "has at least {} elements"),
        Operator("keys_in", *_OBJECT, _keys, _keys_in, "has no keys besides {}"),
        Operator("within", *_PATH, _paths, _within, "stays within {}", resolve_path),
        Operator("host_in", *_LINK, _hosts, _host_in, "has its host among {}", url_host),
    )
}
