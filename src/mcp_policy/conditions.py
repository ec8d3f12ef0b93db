"""Conditions, made from the document into functions of a call.

A condition answers with one of the outcome codes of `operators`. What an outcome means is not decided here:
`evaluator` says so. Only two things depend on the place a condition stands in: whether every element of `[*]` has to
hold or one is enough, and what text that is no plain path or URL counts as.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum
from math import inf
from typing import Any, Final, NamedTuple, TypeAlias

from .call import ToolCall
from .operators import AGAINST, ERRS, FAILS, HOLDS, OPERATORS, SHIFT, Operator, Test
from .paths import Path, Star, has_star, parse_path
from .values import NotJson, canonical, elements, fields, plain

Outcome: TypeAlias = Callable[[ToolCall], int]
CategoryOf: TypeAlias = Callable[[ToolCall], "str | None"]

REQUIRE: Final = "require"
DENY_IF: Final = "deny_if"
APPROVE_IF: Final = "approve_if"
WHEN: Final = "when"


class Missing(Enum):
    """What a path leads to when it leads to no value."""

    ABSENT = "absent"
    WRONG = "wrong type"


ABSENT: Final = Missing.ABSENT
WRONG: Final = Missing.WRONG


class Condition(NamedTuple):
    """One compiled condition."""

    outcome: Outcome
    operator: Operator
    path: Path
    text: str
    """The path as written."""
    value: Any
    """The document's value, or None with `value_from`."""
    value_from: str | None
    reason: str | None
    reads: tuple[tuple[str, Path], ...]
    """Every path it reads, as written and parsed."""

    @property
    def reads_arguments(self) -> bool:
        """Whether it depends on what the call brings."""
        return any(path.root == "args" for _, path in self.reads)


class Item(NamedTuple):
    """One item of `require`, `deny_if` or `approve_if`, or a rule's whole `when`."""

    kind: str
    pointer: str
    outcome: Outcome
    conditions: tuple[Condition, ...]
    reason: str | None
    """The clause's own reason."""
    rule_reason: str | None


# -- finding values


def finder(path: Path, category_of: CategoryOf) -> Callable[[ToolCall], Any]:
    """Return the function that finds what `path` (without `[*]`) leads to in a call: a raw value, or `Missing`."""
    start, steps = _root(path.root, category_of), path.steps
    return lambda call: walk(start(call), steps)


def walk(node: Any, steps: tuple[str | int | Star, ...]) -> Any:
    """Follow `steps` down from `node`. Null, on the way or at the end, is absent."""
    try:
        for step in steps:
            if node is None or node is ABSENT:
                return ABSENT
            node = _child(node, step)
            if node is WRONG:
                return WRONG
    except NotJson:
        return WRONG
    return ABSENT if node is None else node


def _child(node: Any, step: str | int | Star) -> Any:
    if type(step) is str:
        members = node if type(node) is dict else fields(node)
        return WRONG if members is None else members.get(step, ABSENT)
    items = elements(node)
    if items is None:
        return WRONG
    return items[step] if step < len(items) else ABSENT  # type: ignore[operator, index]  # no Star comes here


def _walk_all(node: Any, steps: tuple[str | int | Star, ...]) -> Iterator[Any]:
    """Yield what every element that `[*]` stands for leads to."""
    stars = [place for place, step in enumerate(steps) if type(step) is Star]
    if not stars:
        yield walk(node, steps)
        return
    before, after = steps[: stars[0]], steps[stars[0] + 1 :]
    found = walk(node, before)
    items = found if isinstance(found, Missing) else elements(found)
    if isinstance(items, Missing) or items is None:
        yield WRONG if items is None else items
        return
    for item in items:
        yield from _walk_all(item, after)


def _root(root: str, category_of: CategoryOf) -> Callable[[ToolCall], Any]:
    if root == "tool.category":
        return lambda call: category_of(call) or WRONG
    return _ROOTS[root]


_ROOTS: Final[dict[str, Callable[[ToolCall], Any]]] = {
    "args": lambda call: call.arguments,
    "context": lambda call: {} if call.context is None else call.context,
    "principal.id": lambda call: (call.principal and call.principal.id) or None,
    "principal.issuer": lambda call: (call.principal and call.principal.issuer) or None,
    "principal.client": lambda call: (call.principal and call.principal.client) or None,
    "principal.roles": lambda call: call.principal.roles if call.principal else [],
    "principal.scopes": lambda call: call.principal.scopes if call.principal else [],
    "principal.claims": lambda call: call.principal.claims if call.principal else None,
    "session.id": lambda call: call.session or None,
    "server.name": lambda call: call.server or None,
    "tool.name": lambda call: call.tool,
}


# -- from the document


def compile_condition(raw: dict[str, Any], place: str, category_of: CategoryOf) -> Condition:
    """Make a condition of the document (valid by now) into a function of a call."""
    operator, path = OPERATORS[raw["op"]], parse_path(raw["path"])
    value_from = raw.get("value_from")
    odd = FAILS if place == REQUIRE else ERRS
    reference = None if value_from is None else finder(parse_path(value_from), category_of)
    if reference is not None:
        judge_for = _judge_by_reference(operator, reference, odd)
    else:
        judge_for = _always(_judge_value(operator, raw["value"], odd))
    if has_star(path):
        refer = None if reference is None else _referrer(operator, reference)
        outcome = _every(path, judge_for, refer, place, category_of)
    elif reference is None and path.root == "args" and len(path.steps) == 1 and type(path.steps[0]) is str:
        outcome = _argument(path.steps[0], operator, operator.make(raw["value"]), judge_for)
    else:
        outcome = _found(finder(path, category_of), judge_for)
    reads = tuple((text, parse_path(text)) for text in (raw["path"], value_from) if text is not None)
    return Condition(outcome, operator, path, raw["path"], raw.get("value"), value_from, reason_of(raw), reads)


def reason_of(raw: dict[str, Any]) -> str | None:
    """Return the literal reason of a rule, limit, clause or condition."""
    return raw.get("reason", raw.get("on_deny"))


Judge: TypeAlias = Callable[[Any], int]
JudgeFor: TypeAlias = Callable[[ToolCall], Judge]


def _always(judge: Judge) -> JudgeFor:
    return lambda call: judge


def _found(find: Callable[[ToolCall], Any], judge_for: JudgeFor) -> Outcome:
    return lambda call: judge_for(call)(find(call))


def _argument(key: str, operator: Operator, test: Test, judge_for: JudgeFor) -> Outcome:
    """Return the outcome of a condition on one argument, as most are: straight to the test where that can be.

    It cannot where a string has to be a proper one besides, or where a value may have parts.
    """
    fit = frozenset() if operator.proper else _ATOMS if operator.kinds is None else _ATOMS & operator.kinds

    def outcome(call: ToolCall) -> int:
        found = call.arguments.get(key)
        if type(found) in fit:
            return test(found)
        return judge_for(call)(ABSENT if found is None else found)

    return outcome


def _every(
    path: Path,
    judge_for: JudgeFor,
    refer: Callable[[ToolCall], tuple[int, Any]] | None,
    place: str,
    category_of: CategoryOf,
) -> Outcome:
    start, steps, combine = _root(path.root, category_of), path.steps, _all if place == REQUIRE else _any

    def outcome(call: ToolCall) -> int:
        judge = judge_for(call)  # once a call, however many elements there are
        codes = {judge(found) for found in _walk_all(start(call), steps)}
        if not codes and refer is not None:  # an absent or unfit reference counts also where there is no element
            codes = {refer(call)[0]} - {HOLDS}
        return combine(codes)

    return outcome


def _all(codes: set[int]) -> int:
    if ERRS in codes:
        return ERRS
    return HOLDS if codes <= {HOLDS} else FAILS


def _any(codes: set[int]) -> int:
    for code in (ERRS, AGAINST, HOLDS):
        if code in codes:
            return code
    return FAILS


def _judge_value(operator: Operator, value: Any, odd: int) -> Judge:
    test, absent, kinds, proper = operator.make(value), _absent(operator, value), operator.kinds, operator.proper

    def judge(found: Any) -> int:
        if found is ABSENT:
            return absent
        if kinds is not None and type(found) in _CONTAINERS and type(found) not in kinds:
            return ERRS  # without a look inside, however large it is
        if type(found) not in _ATOMS and not (type(found) is float and -inf < found < inf):
            found = _plain_or_wrong(found)
        if found is WRONG or (kinds is not None and type(found) not in kinds):
            return ERRS
        if proper is not None and proper(found) is None:
            return odd
        return test(found)

    return judge


_ATOMS: Final = frozenset({str, int, bool})  # plain JSON as they are
_CONTAINERS: Final = frozenset({dict, list})


def _absent(operator: Operator, value: Any) -> int:
    if operator.name == "exists":
        return FAILS if value else HOLDS
    return AGAINST if operator.negative else FAILS


def _judge_by_reference(operator: Operator, reference: Callable[[ToolCall], Any], odd: int) -> JudgeFor:
    """Wrong types come first, then an absent reference, which counts against the call, then an absent value."""
    kinds, proper, refer = operator.kinds, operator.proper, _referrer(operator, reference)

    def judge_for(call: ToolCall) -> Judge:
        code, value = refer(call)
        judge_value = _judge_value(operator, value, odd) if code == HOLDS else None

        def judge(found: Any) -> int:
            found = _plain_or_wrong(found)
            if found is WRONG or (found is not ABSENT and kinds is not None and type(found) not in kinds):
                return ERRS
            if judge_value is not None:
                return judge_value(found)
            if code == AGAINST and found is not ABSENT and proper is not None and proper(found) is None:
                return odd
            return code

        return judge

    return judge_for


def _referrer(operator: Operator, reference: Callable[[ToolCall], Any]) -> Callable[[ToolCall], tuple[int, Any]]:
    """Return what says what a reference leads to: HOLDS where the operator can take it, AGAINST where it is absent."""

    def refer(call: ToolCall) -> tuple[int, Any]:
        value = _plain_or_wrong(reference(call))
        if value is ABSENT:
            return AGAINST, None
        return (ERRS if value is WRONG or operator.refuse(value) is not None else HOLDS), value

    return refer


def _plain_or_wrong(found: Any) -> Any:
    if isinstance(found, Missing):
        return found
    try:
        return plain(found)
    except NotJson:
        return WRONG


# -- clauses


def sequence(outcomes: tuple[Outcome, ...], *, absence_holds: bool) -> Outcome:
    """Read conditions in order and stop at the first that does not hold.

    The code of the deciding condition carries its place above `MASK`. Where absence counts as holding (`deny_if`,
    `approve_if`, `when`), AGAINST is remembered and reading goes on.
    """

    def outcome(call: ToolCall) -> int:
        result = HOLDS
        for place, condition in enumerate(outcomes):
            code = condition(call)
            if code == AGAINST and absence_holds:
                result = AGAINST
            elif code != HOLDS:
                return code | place << SHIFT
        return result

    return outcome


def read_context(paths: dict[str, Path], call: ToolCall) -> dict[str, str]:
    """Return the canonical text of what each `context` path (by its text) leads to, null where that is nothing.

    Raises `NotJson` where a value has no canonical text.
    """
    start = _ROOTS["context"](call)
    return {
        text: canonical([_bindable(found) for found in _walk_all(start, path.steps)]) for text, path in paths.items()
    }


def _bindable(found: Any) -> Any:
    return None if isinstance(found, Missing) else plain(found)
