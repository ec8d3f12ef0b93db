"""Conditions that hold never, always, or never together, and those that are easier to get around than they look."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from ..call import ToolCall
from ..compiler import Tree
from ..conditions import APPROVE_IF, DENY_IF, REQUIRE, WHEN, Condition, compile_condition
from ..errors import readable
from ..operators import AGAINST, ERRS, FAILS, HOLDS, MASK
from ..paths import parse_path
from ..suggestions import hint
from ..symbolic import possible
from ..symbolic.expressions import END, START, Choice, Edge, Sequence, Undecided, expression
from ..symbolic.expressions import Tree as Pattern
from ..values import canonical
from .codes import finding
from .finding import Finding
from .reading import Entry, Stated, Subject

_HELD: Final = frozenset({HOLDS})
_NOT_HELD: Final = frozenset({FAILS, AGAINST, ERRS})
_TIME: Final = {"hour": range(24), "minute": range(60), "weekday": range(1, 8)}
"""What `context.time` holds."""
_MOST_TOGETHER: Final = 40
_GUARDED: Final = re.compile(
    r"path|file|dir|folder|url|uri|host|domain|email|recipient|address|branch|ref|repo|bucket|table|schema|database|"
    r"query|sql|command|cmd|script|code|user|account|owner|name|id$|key|region|env|namespace|to$",
    re.IGNORECASE,
)
"""Arguments whose values say what a tool works on."""


def check(subject: Subject) -> Iterator[Finding]:
    """Yield what is wrong with a document's conditions."""
    for entry in subject.entries:
        stated = list(entry.conditions())
        odd: set[str] = set()
        for one in stated:
            for found in _alone(one):
                odd.add(one.pointer)
                yield found
            yield from _weak(entry, one)
        yield from _together(entry, [one for one in stated if one.pointer not in odd])


def _compiled(raw: Tree, kind: str) -> Condition:
    return compile_condition(raw, kind, lambda call: call.category)


def _alone(stated: Stated) -> Iterator[Finding]:
    raw, kind = stated.raw, stated.kind
    steps = parse_path(raw["path"]).steps
    if raw["path"].startswith("context.time.") and isinstance(steps[1], str):
        unfit = list(_time(stated, steps[1]))
        yield from unfit
        if unfit:
            return
    condition = _compiled(raw, kind)
    held = _HELD if kind == REQUIRE else frozenset({HOLDS, AGAINST})
    if not possible([(condition, held)], kind):
        wrong = not possible([(condition, frozenset({FAILS, AGAINST}))], kind)
        what = "is always a wrong type" if wrong else "holds for no call"
        yield finding("cannot_hold", stated.pointer, f"{_said(raw)} {what}, so {_never(stated)}", _other(raw))
    elif not possible([(condition, _NOT_HELD - held)], kind):
        yield finding("always_holds", stated.pointer, f"{_said(raw)} holds for every call", "drop it")


def _time(stated: Stated, field: str) -> Iterator[Finding]:
    """Yield what is wrong with a condition on the time: the field, or that no time of the day or week meets it."""
    if field not in _TIME:
        near = hint(field, tuple(_TIME))
        yield finding("unknown_time_field", stated.pointer, f"`context.time` has no `{readable(field)}`", near)
    elif "value" in stated.raw and stated.raw["op"] != "exists":
        condition = _compiled(stated.raw, stated.kind)
        times = (ToolCall("tool", {}, context={"time": {field: number}}) for number in _TIME[field])
        outcomes = {condition.outcome(call) & MASK for call in times}
        bounds = f"it is {_TIME[field].start} to {_TIME[field].stop - 1}"
        if HOLDS not in outcomes:
            message = f"{_said(stated.raw)} holds at no time, so {_never(stated)}"
            yield finding("cannot_hold", stated.pointer, message, bounds)
        elif outcomes == {HOLDS}:
            yield finding("always_holds", stated.pointer, f"{_said(stated.raw)} holds at every time", bounds)


def _never(stated: Stated) -> str:
    """Return what follows from a condition that never holds."""
    what = "its clause" if stated.clause is not None and stated.kind != WHEN else "it"
    return {
        "require": "every call is denied",
        "deny_if": f"{what} denies nothing",
        "approve_if": f"{what} asks for nothing",
        "when": "the rule never applies",
    }[stated.kind]


def _other(raw: Tree) -> str:
    if raw["path"] in ("principal.roles", "principal.scopes"):
        return f"`{raw['path']}` is a list: use `contains` or `intersects`"
    return "correct the operator or the value"


def _said(raw: Tree) -> str:
    value = f" `{readable(canonical(raw['value']))}`" if "value" in raw else f" `{raw.get('value_from')}`"
    return f"`{raw['path']}` `{raw['op']}`{value}"


# -- together


def _together(entry: Entry, stated: list[Stated]) -> Iterator[Finding]:
    """Conditions that have to hold together: those of one clause, and everything that a rule requires."""
    groups: dict[str, list[Stated]] = {}
    for one in stated[:_MOST_TOGETHER]:
        group = f"{entry.pointer}/require" if one.kind == REQUIRE else one.clause or one.pointer
        groups.setdefault(group, []).append(one)
    for group, members in groups.items():
        if len(members) > 1:
            yield from _group(group, members)


def _group(group: str, members: list[Stated]) -> Iterator[Finding]:
    kind = members[0].kind
    seen: dict[str, str] = {}
    distinct: list[Stated] = []
    for one in members:
        text = canonical({key: value for key, value in one.raw.items() if key not in ("reason", "on_deny")})
        first = seen.setdefault(text, one.pointer)
        if first == one.pointer:
            distinct.append(one)
        else:
            yield finding("duplicate_condition", one.pointer, f"the same stands at `{first}` already", "drop one")
    compiled = [(one, _compiled(one.raw, kind)) for one in distinct]
    held = _HELD if kind == REQUIRE else frozenset({HOLDS, AGAINST})
    if not possible([(condition, held) for _, condition in compiled], kind):
        clash = _clash(compiled, held, kind)
        named = " and ".join(_said(one.raw) for one in clash)
        what = _never(Stated({}, group, kind, group))
        yield finding("contradiction", clash[-1].pointer, f"{named} never hold together, so {what}", "correct one")
        return
    for place, (one, condition) in enumerate(compiled):
        same = [(other, held) for rest, other in compiled if rest is not one and _touch(other, condition)]
        if (
            same
            and one.raw["op"] != "exists"  # says what absence means, though others imply it
            and not possible([*same, (condition, _NOT_HELD - held)], kind)
            and not (
                kind != REQUIRE and _keeps_from_erring(condition, [rest for _, rest in compiled[place + 1 :]], kind)
            )
        ):
            yield finding("redundant_condition", one.pointer, f"{_said(one.raw)} follows from the others", "drop it")
            return


def _keeps_from_erring(guard: Condition, later: list[Condition], kind: str) -> bool:
    """Tell whether a later condition of the clause may err on what a condition stops at now."""
    stopped = (guard, frozenset({FAILS}))
    held = [(one, frozenset({HOLDS, AGAINST})) for one in later]
    return any(possible([stopped, *held[:place], (one, frozenset({ERRS}))], kind) for place, one in enumerate(later))


def _touch(one: Condition, other: Condition) -> bool:
    return one.path.root == other.path.root and one.path.steps[:1] == other.path.steps[:1]


def _clash(compiled: list[tuple[Stated, Condition]], held: frozenset[int], kind: str) -> list[Stated]:
    """Return as few conditions as contradict each other: two where two do."""
    for place, (one, condition) in enumerate(compiled):
        for other, beside in compiled[:place]:
            if not possible([(beside, held), (condition, held)], kind):
                return [other, one]
    return [one for one, _ in compiled]


# -- weaker than they look


def _weak(entry: Entry, stated: Stated) -> Iterator[Finding]:
    raw = stated.raw
    if stated.kind == WHEN and entry.rule.get("action", "allow") != "allow":
        return  # what matches more, stops more
    path = parse_path(raw["path"])
    if path.root != "args" or (stated.kind in (DENY_IF, APPROVE_IF)) is not (raw["op"] == "not_regex"):
        return
    name = next((step for step in reversed(path.steps) if isinstance(step, str)), "")
    value = raw.get("value")
    if (
        raw["op"] in ("regex", "not_regex")
        and isinstance(value, str)
        and _GUARDED.search(name)
        and not _anchored(value)
    ):
        yield finding(
            "unanchored_regex",
            f"{stated.pointer}/value",
            f"`{readable(value)}` only has to be found somewhere in `{raw['path']}`: anything may stand around it",
            "write `^(?:…)$` around the whole pattern",
        )
    if raw["op"] == "starts_with" and isinstance(value, str):
        if re.match(r"(?i)https?://", value):
            yield finding(
                "url_prefix",
                stated.pointer,
                f"`{readable(value)}` is also how `{readable(value.rstrip('/'))}.example.com` or a user name begins"
                if value.count("/") < 3
                else f"an address that begins with `{readable(value)}` may still lead elsewhere by `..`",
                "use `host_in` with the host",
            )
        elif value.startswith("/"):
            folder = value.rstrip("/")
            message = f"`{readable(folder)}/../…` begins like it and leads elsewhere"
            fix = f'use `"op": "within", "value": "{readable(folder) or "/"}"`'
            yield finding("path_prefix", stated.pointer, message, fix)


def _anchored(pattern: str) -> bool:
    """Tell whether a pattern says of a text what stands at its start and at its end."""
    try:
        tree = expression(pattern)
    except Undecided:
        return pattern.startswith(("^", r"\A", "(?i)^")) and pattern.endswith(("$", r"\z")) and "|" not in pattern
    return _at(tree, START) and _at(tree, END)


def _at(tree: Pattern, edge: Edge) -> bool:
    if isinstance(tree, Choice):
        return all(_at(part, edge) for part in tree.parts)
    if isinstance(tree, Sequence) and tree.parts:
        return _at(tree.parts[-1 if edge.at_end else 0], edge)
    return tree == edge
