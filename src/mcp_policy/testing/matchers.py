"""Matchers: what a decision is expected to be, written as the decision would be, and the same for unittest.

Rules kept here:

- A matcher equals decisions only: no other matcher, no coroutine that nobody awaited. It is neither true nor false.
- What no decision could meet (a misspelt code, the code of another effect, no pointer) is refused where it is written.
- What is not stated is not looked at. `code` and `rule` have to be met by one and the same reason.
- A denial because the engine failed is no denial by the policy: only `denied(code="internal_error")` equals it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from math import isfinite
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Final, final

from ..call import ToolCall
from ..decision import Decision, Effect, ReasonCode
from ..errors import readable, short
from ..suggestions import hint
from .report import _reasons, shown

if TYPE_CHECKING:
    from ..engine import PolicyEngine

_NAMES: Final = {
    Effect.ALLOW: "allowed",
    Effect.DENY: "denied",
    Effect.LIMIT: "limited",
    Effect.APPROVE: "needs_approval",
}
_EFFECTS: Final = {
    **dict.fromkeys((ReasonCode.ALLOWED, ReasonCode.DEFAULT_ALLOW, ReasonCode.APPROVED), Effect.ALLOW),
    **dict.fromkeys((ReasonCode.RATE_LIMITED, ReasonCode.STATE_UNAVAILABLE), Effect.LIMIT),
    ReasonCode.APPROVAL_REQUIRED: Effect.APPROVE,
    ReasonCode.APPROVAL_EXPIRED: Effect.APPROVE,
    ReasonCode.APPROVAL_REJECTED: Effect.APPROVE,
}
"""The effect that a code goes with, where that is not a denial."""

_SMALLEST: Final = 0.001
"""Seconds that `retry_after` may always be off; else a hundredth of what is expected."""


@final
class Matcher:
    """What a decision is expected to be: `decision == matcher`, from either side."""

    __slots__ = ("_effect", "_met", "_stated")
    __hash__ = None  # type: ignore[assignment]  # what equals many things has no hash

    def __init__(self, effect: Effect, stated: dict[str, Any]) -> None:
        self._effect = effect
        self._stated = stated
        self._met: Decision | None = None

    @property
    def text(self) -> str:
        """The matcher as it is written in a test."""
        stated = ", ".join(f"{name}={_written(value)}" for name, value in self._stated.items())
        return f"{_NAMES[self._effect]}({stated})"

    def __eq__(self, other: object) -> bool:
        self._met = other if isinstance(other, Decision) and not any(self._pairs(other)) else None
        return self._met is not None

    def __bool__(self) -> bool:
        raise TypeError(f"a matcher is neither true nor false: write `assert decision == {self.text}`")

    def __repr__(self) -> str:
        # one that was met reads as the decision that met it: in the diff of two lists only what differs shows
        return self.text if self._met is None else repr(self._met)

    def differences(self, found: object) -> list[str]:
        """Return how something differs, as lines: `-` is expected, `+` was found; then who decided. Empty if it does
        not.
        """
        if not isinstance(found, Decision):
            awaited = "; it has to be awaited" if hasattr(found, "__await__") else ""
            return [f"found {_kind(found)}, expected a `Decision`{awaited}"]
        lines = [
            line
            for name, wanted, was in self._pairs(found)
            for line in (f"- {name}: {_said(wanted)}", f"+ {name}: {_said(was)}")
        ]
        return [*lines, *map(str.strip, _reasons(found))] if lines else []

    def _pairs(self, decision: Decision) -> Iterator[tuple[str, object, object]]:
        """Yield what differs: its name, what is expected, and what was decided."""
        if decision.effect is not self._effect:
            yield "effect", self._effect, decision.effect
        yield from self._reason_pairs(decision)
        if "retry_after" in self._stated and not _is_close(self._stated["retry_after"], decision.retry_after):
            yield "retry_after", self._stated["retry_after"], decision.retry_after
        if "would_be" in self._stated and decision.would_be != self._stated["would_be"]:
            yield "would_be", self._stated["would_be"], decision.would_be

    def _reason_pairs(self, decision: Decision) -> Iterator[tuple[str, object, object]]:
        code, rule, reasons = self._stated.get("code"), self._stated.get("rule"), decision.reasons
        if code is None and any(reason.code is ReasonCode.INTERNAL_ERROR for reason in reasons):
            yield "code", "of the policy", ReasonCode.INTERNAL_ERROR
        elif code is not None:
            having = tuple(reason for reason in reasons if reason.code == code)
            if not having:
                yield "code", code, [*dict.fromkeys(str(reason.code) for reason in reasons)]
            reasons = having or reasons
        if rule is not None and all(reason.rule != rule for reason in reasons):
            yield "rule", rule, [*dict.fromkeys(reason.rule or "the document" for reason in reasons)]


# -- the matchers


def allowed(*, code: str | None = None, rule: str | None = None, would_be: str | EllipsisType | None = ...) -> Matcher:
    """Expect that the call runs.

    `code` and `rule` (a JSON Pointer into the policy) are those of one of its reasons. `would_be` is the effect that
    the call would have had without shadow mode, None where nothing is in shadow mode. Raises `ValueError` and
    `TypeError` for what no decision can be.
    """
    stated = _reason(Effect.ALLOW, code, rule)
    if would_be is not ...:
        stated["would_be"] = would_be if would_be is None else _word("effect", would_be, tuple(map(str, Effect)))
    return Matcher(Effect.ALLOW, stated)


def denied(*, code: str | None = None, rule: str | None = None) -> Matcher:
    """Expect that the call is denied; `code` and `rule` as for `allowed`."""
    return Matcher(Effect.DENY, _reason(Effect.DENY, code, rule))


def limited(*, retry_after: object = ..., code: str | None = None, rule: str | None = None) -> Matcher:
    """Expect that the call meets a limit; `code` and `rule` as for `allowed`.

    `retry_after` is in seconds and may be off by a hundredth; None for a call that can never pass; anything that has
    an equality of its own, such as `pytest.approx`, is asked for it.
    """
    stated = _reason(Effect.LIMIT, code, rule)
    if retry_after is not ...:
        stated["retry_after"] = _seconds(retry_after)
    return Matcher(Effect.LIMIT, stated)


def needs_approval(*, code: str | None = None, rule: str | None = None) -> Matcher:
    """Expect that the call waits for a person; `code` and `rule` as for `allowed`."""
    return Matcher(Effect.APPROVE, _reason(Effect.APPROVE, code, rule))


# -- for unittest


def assert_allowed(
    asked: PolicyEngine | Decision,
    call: ToolCall | None = None,
    *,
    code: str | None = None,
    rule: str | None = None,
    would_be: str | EllipsisType | None = ...,
) -> Decision:
    """Compare a decision, or what an engine decides on a call: it is authorized, which takes from its limits.

    Returns the decision. Raises `AssertionError` where it is not `allowed(...)`.
    """
    __tracebackhide__ = True
    return _asserted(asked, call, allowed(code=code, rule=rule, would_be=would_be))


def assert_denied(
    asked: PolicyEngine | Decision, call: ToolCall | None = None, *, code: str | None = None, rule: str | None = None
) -> Decision:
    """As `assert_allowed`, for `denied(...)`."""
    __tracebackhide__ = True
    return _asserted(asked, call, denied(code=code, rule=rule))


def assert_limited(
    asked: PolicyEngine | Decision,
    call: ToolCall | None = None,
    *,
    retry_after: object = ...,
    code: str | None = None,
    rule: str | None = None,
) -> Decision:
    """As `assert_allowed`, for `limited(...)`."""
    __tracebackhide__ = True
    return _asserted(asked, call, limited(retry_after=retry_after, code=code, rule=rule))


def assert_needs_approval(
    asked: PolicyEngine | Decision, call: ToolCall | None = None, *, code: str | None = None, rule: str | None = None
) -> Decision:
    """As `assert_allowed`, for `needs_approval(...)`."""
    __tracebackhide__ = True
    return _asserted(asked, call, needs_approval(code=code, rule=rule))


def _asserted(asked: PolicyEngine | Decision, call: ToolCall | None, expected: Matcher) -> Decision:
    __tracebackhide__ = True
    decision = _decision(asked, call)
    differences = expected.differences(decision)
    if differences:
        raise AssertionError("\n".join([f"expected {expected.text}", *differences]))
    return decision


def _decision(asked: PolicyEngine | Decision, call: object) -> Decision:
    __tracebackhide__ = True
    if isinstance(asked, Decision):
        if call is not None:
            raise TypeError("a `Decision` is about its call already: pass no other")
        return asked
    if not isinstance(call, ToolCall):  # an engine denies what is no call: that says nothing about a policy
        said = "pass a `Decision`, or an engine and a `ToolCall`"
        raise TypeError(f"found {_kind(asked)} and {'no call' if call is None else _kind(call)}; {said}")
    return asked.authorize(call)


# -- what can be stated


def _reason(effect: Effect, code: object, rule: object) -> dict[str, Any]:
    """Return what is stated about a reason. Raises `ValueError` and `TypeError` where none can be so."""
    stated: dict[str, Any] = {}
    if code is not None:
        stated["code"] = _word("reason code", code, tuple(map(str, ReasonCode)))
        own = _EFFECTS.get(ReasonCode(stated["code"]), Effect.DENY)
        if own is not effect and effect is not Effect.ALLOW:  # in shadow mode whatever would have been is the reason
            raise ValueError(f"`{stated['code']}` is a code of `{_NAMES[own]}()`, never of `{_NAMES[effect]}()`")
    if rule is not None:
        if not isinstance(rule, str):
            raise TypeError(f"found {short(rule)} as `rule`, expected a string")
        if not rule.startswith("/"):
            said = 'expected a JSON Pointer into the policy, such as `"/tools/search/require/0"`'
            raise ValueError(f"found {short(rule)} as `rule`, {said}")
        stated["rule"] = rule
    return stated


def _word(what: str, found: object, known: tuple[str, ...]) -> str:
    if not isinstance(found, str):
        raise TypeError(f"found {short(found)} as {what}, expected a string")
    if found not in known:
        raise ValueError(f"`{readable(found)}` is no {what}; {hint(found, known)}")
    return str(found)


def _seconds(value: object) -> object:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if not (isfinite(value) and value >= 0):
            raise ValueError(f"found `{value!r}` as `retry_after`, expected seconds, 0 or more")
    elif value is not None and (type(value).__module__ == "builtins" or type(value).__eq__ is object.__eq__):
        # texts, lists and what compares by identity never equal a number of seconds
        raise TypeError(f"found {short(value)} as `retry_after`, expected seconds, or what can equal a number")
    return value


def _is_close(wanted: Any, found: float | None) -> bool:
    if wanted is None or found is None:
        return found is wanted
    if isinstance(wanted, (int, float)):
        return abs(found - wanted) <= max(wanted / 100, _SMALLEST)
    return bool(wanted == found)


# -- how it is told


def _written(value: object) -> str:
    return json.dumps(str(value), ensure_ascii=False) if isinstance(value, str) else repr(value)


def _said(value: object) -> str:
    return f"{value:.12g}" if isinstance(value, float) else shown(value)


def _kind(value: object) -> str:
    return "a matcher" if isinstance(value, Matcher) else f"a `{type(value).__name__}`"
