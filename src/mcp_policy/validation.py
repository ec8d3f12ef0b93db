"""The meaning checks of a document: everything that is wrong with it besides its shape.

Rules kept here:

- The walk takes any tree and skips what has the wrong shape, which the shapes report: so both kinds of problems come
  out of one load.
- It follows the order of the document, so that of two things that disagree the later one is named.
- What other modules parse (paths, operators' values, windows) is checked by their own functions, never by a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

from .errors import Problem, ProblemCode, Trail, pointer_of, readable
from .limits.spec import normal_per, parse_shorthand, parse_window
from .operators import OPERATORS, Operator, check_value
from .paths import has_star, parse_path
from .patterns import check_pattern
from .regexes import compile_regex

MAX_REGEXES: Final = 4_096
"""Most distinct regular expressions in one document."""


def problems(tree: object) -> Iterator[Problem]:
    """Yield every problem of meaning, without its line and column, in document order."""
    walk = _Walk()
    if isinstance(tree, dict):
        walk.section(tree, None)
    yield from walk.found


class _Walk:
    """One pass over one document: what was found so far, and what must agree over the whole of it."""

    def __init__(self) -> None:
        self.found: list[Problem] = []
        self.counters: dict[str, tuple[float, tuple[str, ...], Trail]] = {}
        self.regexes: dict[str, str | None] = {}  # each with what is wrong with it

    def add(self, at: Trail, code: ProblemCode, message: str) -> None:
        self.found.append(Problem(pointer_of(at), code, message))

    def each(self, check: Callable[[Any, Trail], None], value: object, at: Trail) -> None:
        if isinstance(value, list):
            for index, item in enumerate(value):
                check(item, (at, index))

    def dispatch(self, checks: Mapping[str, Callable[[_Walk, Any, Trail], None]], value: object, at: Trail) -> None:
        if isinstance(value, dict):
            for key, member in value.items():
                check = checks.get(key)
                if check is not None:
                    check(self, member, (at, key))

    # -- sections

    def section(self, value: object, at: Trail) -> None:
        self.dispatch(_SECTION if at else _DOCUMENT, value, at)

    def servers(self, value: object, at: Trail) -> None:
        if isinstance(value, dict):
            for name, section in value.items():
                if not name:
                    self.add((at, name), ProblemCode.INVALID_VALUE, "the name of a server must not be empty")
                self.section(section, (at, name))

    def patterns(self, value: object, at: Trail) -> None:
        self.each(self.pattern, value, at)

    def pattern(self, text: object, at: Trail) -> None:
        wrong = check_pattern(text) if isinstance(text, str) else None
        if wrong is not None:
            self.add(at, *wrong)

    def categories(self, value: object, at: Trail) -> None:
        if isinstance(value, dict):
            for category, rule in value.items():
                self.rule(rule, (at, category))

    def tools(self, value: object, at: Trail) -> None:
        if isinstance(value, dict):
            for pattern, entry in value.items():
                place = (at, pattern)
                self.pattern(pattern, place)
                if isinstance(entry, list):
                    self.each(self.rule, entry, place)
                else:
                    self.rule(entry, place)

    # -- rules

    def rule(self, rule: object, at: Trail) -> None:
        if not isinstance(rule, dict) or not rule:
            return
        self.alias(rule, "reason", "on_deny", at)
        if rule.get("action") == "hide" and any(map(_reads_arguments, _listed(rule.get("when")))):
            message = "`hide` cannot depend on `args`: tools are listed before there are any; use `deny`"
            self.add(at, ProblemCode.CONFLICT, message)
        self.dispatch(_RULE, rule, at)

    def alias(self, holder: dict[str, object], name: str, alias: str, at: Trail) -> None:
        if alias in holder and name in holder:
            message = f"`{alias}` is another name for `{name}`; give one of them"
            self.add(at, ProblemCode.CONFLICT, message)

    def when(self, value: object, at: Trail) -> None:
        self.each(self.guard, value, at)

    def items(self, value: object, at: Trail) -> None:
        self.each(self.item, value, at)

    def item(self, item: object, at: Trail) -> None:
        if isinstance(item, dict) and "conditions" in item:
            self.alias(item, "reason", "on_deny", at)
            self.each(self.condition, item["conditions"], (at, "conditions"))
        else:
            self.condition(item, at)

    # -- conditions

    def guard(self, condition: object, at: Trail) -> None:
        self.condition(condition, at, "`when`")

    def condition(self, condition: object, at: Trail, no_star_in: str = "") -> None:
        if not isinstance(condition, dict):
            return
        self.alias(condition, "reason", "on_deny", at)
        if "path" in condition:
            self.path(condition["path"], (at, "path"), no_star_in)
        op = condition.get("op")
        operator = OPERATORS.get(op) if isinstance(op, str) else None
        if "value_from" in condition:
            self.value_from(condition, operator, at)
        elif "value" not in condition:
            self.add(at, ProblemCode.MISSING_KEY, "a condition needs the key `value` or `value_from`")
        if operator is not None and "value" in condition:
            self.value(operator.name, condition["value"], (at, "value"))

    def value_from(self, condition: dict[str, object], operator: Operator | None, at: Trail) -> None:
        self.path(condition["value_from"], (at, "value_from"), "`value_from`")
        if "value" in condition:
            self.add(at, ProblemCode.CONFLICT, "`value` and `value_from` exclude each other; give one of them")
        elif operator is not None and not operator.value_from:
            message = f"`{operator.name}` takes no `value_from`; give its `value` in the document"
            self.add(at, ProblemCode.CONFLICT, message)

    def path(self, text: object, at: Trail, no_star_in: str = "") -> None:
        if not isinstance(text, str):
            return
        try:
            path = parse_path(text)
        except ValueError as error:
            self.add(at, ProblemCode.INVALID_PATH, str(error))
            return
        if no_star_in and has_star(path):
            self.add(at, ProblemCode.INVALID_PATH, f"`{readable(text)}`: `[*]` cannot be used in {no_star_in}")

    def value(self, op: str, value: object, at: Trail) -> None:
        refusal = check_value(op, value)
        if refusal is not None:
            code, message, below = refusal
            for token in below:
                at = (at, token)
            self.add(at, code, message)
        elif op in ("regex", "not_regex") and isinstance(value, str):
            self.regex(value, at)

    def regex(self, pattern: str, at: Trail) -> None:
        if pattern not in self.regexes:
            if len(self.regexes) > MAX_REGEXES:
                return  # which was said of the first one beyond
            is_beyond = len(self.regexes) == MAX_REGEXES
            self.regexes[pattern] = None if is_beyond else _regex_problem(pattern)
            if is_beyond:
                message = f"a document has at most {MAX_REGEXES:,} distinct regular expressions"
                self.add(at, ProblemCode.TOO_LARGE, message)
        wrong = self.regexes[pattern]
        if wrong is not None:
            self.add(at, ProblemCode.INVALID_REGEX, wrong)

    # -- limits

    def rate_limit(self, value: object, at: Trail) -> None:
        if isinstance(value, str):
            self.parsed(_shorthand_text, value, at)
        else:
            self.limit(value, at)

    def limits(self, value: object, at: Trail) -> None:
        self.each(self.limit, value, at)

    def limit(self, limit: object, at: Trail) -> None:
        if not isinstance(limit, dict):
            return
        self.alias(limit, "reason", "on_deny", at)
        self.alias(limit, "per", "scope", at)
        if isinstance(limit.get("window"), str):
            self.parsed(_window_text, limit["window"], (at, "window"))
        cost = limit.get("cost")
        if isinstance(cost, dict):
            self.path(cost.get("length"), ((at, "cost"), "length"), "`cost`")
        else:
            self.path(cost, (at, "cost"), "`cost`")
        if isinstance(limit.get("counter"), str):
            self.agreement(limit, at)

    def parsed(self, parse: Callable[[Any], object], value: object, at: Trail) -> None:
        try:
            parse(value)
        except ValueError as error:
            self.add(at, ProblemCode.INVALID_VALUE, str(error))

    def agreement(self, limit: dict[str, Any], at: Trail) -> None:
        """Limits that name one counter share one count, which has one window and counts by one identity."""
        try:
            window = parse_window(limit.get("window"))
            per = normal_per(limit.get("per", limit.get("scope", "session")))
        except ValueError:
            return
        name = limit["counter"]
        first_window, first_per, first_at = self.counters.setdefault(name, (window, per, at))
        for key, here, there in (
            ("window", f"{window:g} s", f"{first_window:g} s"),
            ("per", ", ".join(per), ", ".join(first_per)),
        ):
            if here != there:
                message = (
                    f"the limits of counter `{readable(name)}` disagree on `{key}`: "
                    f"{here} here, {there} at `{pointer_of(first_at)}`"
                )
                self.add(at, ProblemCode.CONFLICT, message)


# Documents say the same few windows over and over. Text only: as numbers, 1 and true would share a place in the cache.
_window_text = lru_cache(maxsize=1024)(parse_window)
_shorthand_text = lru_cache(maxsize=1024)(parse_shorthand)


def _regex_problem(pattern: str) -> str | None:
    try:
        compile_regex(pattern)
    except ValueError as error:
        return str(error)
    return None


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _reads_arguments(condition: object) -> bool:
    if not isinstance(condition, dict):
        return False
    texts = (condition.get("path"), condition.get("value_from"))
    return any(isinstance(text, str) and text.startswith("args") for text in texts)


_SECTION: Final[Mapping[str, Callable[[_Walk, Any, Trail], None]]] = {
    "hide": _Walk.patterns,
    "all_tools": _Walk.rule,
    "categories": _Walk.categories,
    "tools": _Walk.tools,
}
_DOCUMENT: Final = {**_SECTION, "servers": _Walk.servers}
_RULE: Final[Mapping[str, Callable[[_Walk, Any, Trail], None]]] = {
    "except": _Walk.patterns,
    "when": _Walk.when,
    "require": _Walk.items,
    "deny_if": _Walk.items,
    "approve_if": _Walk.items,
    "rate_limit": _Walk.rate_limit,
    "limits": _Walk.limits,
}
