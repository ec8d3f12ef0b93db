"""Matchers: what they equal, what they never equal, what they refuse, and how they tell a difference."""

from __future__ import annotations

import asyncio
import logging
import re
import unittest
from fractions import Fraction
from typing import Any

import pytest

import mcp_policy.testing
from mcp_policy import Decision, Effect, Policy, PolicyEngine, Principal, Reason, ReasonCode, ToolCall
from mcp_policy.testing import (
    allowed,
    assert_allowed,
    assert_denied,
    assert_limited,
    assert_needs_approval,
    denied,
    limited,
    matchers,
    needs_approval,
)

POLICY = Policy.model_validate(
    {
        "version": "1",
        "tools": {
            "pay": {
                "require": [{"path": "args.amount", "op": "lte", "value": 100, "reason": "at most `100`"}],
                "deny_if": [{"path": "args.currency", "op": "eq", "value": "GBP"}],
                "approve_if": [{"path": "args.amount", "op": "gt", "value": 50}],
                "limits": [{"max": 2, "window": 60}],
            },
            "buy": {"limits": [{"max": 1, "window": 60, "cost": "args.amount"}]},
            "try": {"mode": "shadow", "deny_if": [{"path": "args.a", "op": "exists", "value": True}]},
        },
    }
)
PAY = ToolCall("pay", {"amount": 10}, session="s")
REQUIRE, DENY_IF, APPROVE_IF, LIMIT = (
    f"/tools/pay/{place}" for place in ("require/0", "deny_if/0", "approve_if/0", "limits/0")
)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def engine() -> PolicyEngine:
    return PolicyEngine(POLICY, clock=Clock())


def decision(tool: str = "pay", **arguments: Any) -> Decision:
    return engine().authorize(ToolCall(tool, arguments, session="s"))


def used_up() -> Decision:
    one = engine()
    return [one.authorize(PAY) for _ in range(3)][-1]


RUNS = decision(amount=10)
DENIED = decision(amount=101, currency="GBP")
LIMITED = used_up()
WAITS = decision(amount=60)
SHADOW = decision("try", a=1)
FAILED = Decision(Effect.DENY, (Reason(ReasonCode.INTERNAL_ERROR, "the policy could not be evaluated"),))


# -- what a matcher equals


@pytest.mark.parametrize(
    ("found", "matcher"),
    [
        (RUNS, allowed()),
        (RUNS, allowed(code="allowed", rule="/tools/pay", would_be=None)),
        (RUNS, allowed(code=ReasonCode.ALLOWED)),
        (SHADOW, allowed()),
        (SHADOW, allowed(would_be="deny")),
        (SHADOW, allowed(would_be=Effect.DENY)),
        (DENIED, denied()),
        (DENIED, denied(code="require")),
        (DENIED, denied(code="deny_if", rule=DENY_IF)),
        (DENIED, denied(rule=REQUIRE)),
        (FAILED, denied(code="internal_error")),
        (LIMITED, limited()),
        (LIMITED, limited(retry_after=60, code="rate_limited", rule=LIMIT)),
        (LIMITED, limited(retry_after=60.5)),
        (LIMITED, limited(retry_after=pytest.approx(59, abs=2))),
        (LIMITED, limited(retry_after=Fraction(60))),
        (decision("buy", amount=2), limited(retry_after=None)),
        (WAITS, needs_approval()),
        (WAITS, needs_approval(code="approval_required", rule=APPROVE_IF)),
    ],
)
def test_a_matcher_equals_a_decision_from_either_side(found: Decision, matcher: Any) -> None:
    assert found == matcher
    assert matcher == found
    assert (found != matcher) is False
    assert (matcher != found) is False
    assert matcher.differences(found) == []


@pytest.mark.parametrize(
    ("found", "matcher", "differs"),
    [
        (DENIED, allowed(), ["effect"]),
        (RUNS, allowed(code="default_allow"), ["code"]),
        (RUNS, allowed(rule="/tools/pay/require/0"), ["rule"]),
        (RUNS, allowed(would_be="allow"), ["would_be"]),
        (SHADOW, allowed(would_be=None), ["would_be"]),
        (RUNS, denied(code="require", rule=REQUIRE), ["effect", "code", "rule"]),
        (DENIED, denied(code="type_mismatch"), ["code"]),
        (DENIED, denied(code="require", rule=DENY_IF), ["rule"]),
        (DENIED, denied(code="type_mismatch", rule=DENY_IF), ["code"]),
        (FAILED, denied(), ["code"]),
        (FAILED, denied(rule="/tools/pay"), ["code", "rule"]),
        (LIMITED, limited(retry_after=61), ["retry_after"]),
        (LIMITED, limited(retry_after=59), ["retry_after"]),
        (LIMITED, limited(retry_after=None), ["retry_after"]),
        (LIMITED, limited(retry_after=pytest.approx(59)), ["retry_after"]),
        (LIMITED, limited(code="state_unavailable"), ["code"]),
        (decision("buy", amount=2), limited(retry_after=0), ["retry_after"]),
        (RUNS, limited(retry_after=0), ["effect", "retry_after"]),
        (WAITS, denied(), ["effect"]),
        (WAITS, needs_approval(code="approval_expired"), ["code"]),
        (Decision(Effect.DENY, ()), denied(code="require", rule=REQUIRE), ["code", "rule"]),
    ],
)
def test_what_differs_is_told_and_nothing_else(found: Decision, matcher: Any, differs: list[str]) -> None:
    assert found != matcher
    assert matcher != found
    lines = matcher.differences(found)
    assert [line[2:].partition(":")[0] for line in lines if line.startswith("- ")] == differs
    assert [line[2:].partition(":")[0] for line in lines if line.startswith("+ ")] == differs
    assert [line for line in lines if line.startswith("decided by ")] == [
        f"decided by {reason.rule or 'the document'}: {reason.code}: {reason.message}" for reason in found.reasons
    ]


def test_a_difference_reads_as_a_diff() -> None:
    matcher = denied(code="type_mismatch", rule="/tools/pay/limits/0")
    assert matcher.differences(DENIED) == [
        "- code: type_mismatch",
        "+ code: require, deny_if",
        "- rule: /tools/pay/limits/0",
        "+ rule: /tools/pay/require/0, /tools/pay/deny_if/0",
        "decided by /tools/pay/require/0: require: at most `100`",
        'decided by /tools/pay/deny_if/0: deny_if: this call is denied if `args.currency` equals "GBP"',
    ]
    assert limited(retry_after=None).differences(LIMITED)[:2] == ["- retry_after: none", "+ retry_after: 60"]
    assert allowed(would_be=None).differences(SHADOW) == [
        "- would_be: none",
        "+ would_be: deny",
        "decided by /tools/try: allowed: the policy allows this call",
        "would be by /tools/try/deny_if/0: deny_if: this call is denied if `args.a` is given",
    ]


def test_seconds_are_told_as_exactly_as_they_are_compared() -> None:
    found = LIMITED._replace(retry_after=1234567.25)
    assert limited(retry_after=7).differences(found)[:2] == ["- retry_after: 7", "+ retry_after: 1234567.25"]


def test_a_hundredth_of_what_is_expected_is_near_enough() -> None:
    assert limited(retry_after=60 / 1.0099) == LIMITED
    assert limited(retry_after=60 / 1.0101) != LIMITED
    assert LIMITED._replace(retry_after=0.0009) == limited(retry_after=0)
    assert LIMITED._replace(retry_after=0.0011) != limited(retry_after=0)


def test_messages_of_a_policy_stay_on_their_line() -> None:
    policy = Policy.model_validate(
        {"version": "1", "tools": {"a": {"action": "deny", "reason": "no\n+ effect: allow"}}}
    )
    lines = allowed().differences(PolicyEngine(policy).evaluate(ToolCall("a")))
    assert lines[-1] == r"decided by /tools/a: denied_by_rule: no\u000a+ effect: allow"


# -- what it never equals


async def _answer() -> Decision:
    return RUNS


@pytest.mark.parametrize(
    "other",
    [None, True, "allowed", Effect.ALLOW, (), tuple(RUNS), RUNS.reasons[0], Principal("a"), PAY, allowed()],
    ids=["None", "true", "text", "effect", "()", "tuple", "reason", "principal", "call", "matcher"],
)
def test_a_matcher_equals_nothing_but_decisions(other: object) -> None:
    matcher = allowed()
    assert matcher != other
    assert other != matcher
    assert matcher.differences(other)[0].endswith("expected a `Decision`")


def test_a_matcher_does_not_even_equal_itself() -> None:
    matcher = allowed()
    assert matcher != matcher  # noqa: PLR0124
    assert matcher.differences(matcher) == ["found a matcher, expected a `Decision`"]


def test_what_was_not_awaited_is_no_decision() -> None:
    waiting = _answer()
    assert waiting != allowed()
    assert allowed().differences(waiting) == ["found a `coroutine`, expected a `Decision`; it has to be awaited"]
    assert asyncio.run(waiting) == allowed()


def test_a_matcher_is_neither_true_nor_false() -> None:
    with pytest.raises(TypeError, match=re.escape('write `assert decision == denied(code="require")`')):
        bool(denied(code="require"))
    with pytest.raises(TypeError, match="neither true nor false"):
        assert denied()


def test_a_matcher_has_no_hash() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(allowed())


# -- how it reads


@pytest.mark.parametrize(
    ("matcher", "text"),
    [
        (allowed(), "allowed()"),
        (allowed(code=ReasonCode.APPROVED, would_be=None), 'allowed(code="approved", would_be=None)'),
        (allowed(would_be=Effect.DENY), 'allowed(would_be="deny")'),
        (denied(code="require", rule='/tools/"x"'), r'denied(code="require", rule="/tools/\"x\"")'),
        (limited(retry_after=12), "limited(retry_after=12)"),
        (needs_approval(rule="/tools/x"), 'needs_approval(rule="/tools/x")'),
    ],
)
def test_a_matcher_reads_as_it_is_written(matcher: Any, text: str) -> None:
    assert repr(matcher) == matcher.text == text


def test_one_that_was_met_reads_as_the_decision_until_it_meets_another() -> None:
    matcher = denied()
    assert matcher == DENIED
    assert repr(matcher) == repr(DENIED)
    assert matcher.text == "denied()"
    assert matcher != RUNS
    assert repr(matcher) == "denied()"


def test_matchers_stand_in_lists() -> None:
    assert [allowed(), denied()] == [RUNS, DENIED]
    assert RUNS in [denied(), allowed()]
    assert {"a": limited()} != {"a": RUNS}


# -- what it refuses


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (denied, {"code": "requires"}, "`requires` is no reason code; did you mean `require`?"),
        (denied, {"code": ""}, "`` is no reason code; known here: `invalid_call`"),
        (denied, {"code": "rate_limited"}, "`rate_limited` is a code of `limited()`, never of `denied()`"),
        (denied, {"code": "allowed"}, "`allowed` is a code of `allowed()`, never of `denied()`"),
        (limited, {"code": "require"}, "`require` is a code of `denied()`, never of `limited()`"),
        (needs_approval, {"code": "approved"}, "`approved` is a code of `allowed()`, never of `needs_approval()`"),
        (allowed, {"code": "alowed"}, "`alowed` is no reason code; did you mean `allowed`?"),
        (allowed, {"would_be": "denied"}, "`denied` is no effect; did you mean `deny`?"),
        (denied, {"rule": ""}, "found the string `` as `rule`, expected a JSON Pointer"),
        (denied, {"rule": "tools/x"}, 'found the string `tools/x` as `rule`, expected a JSON Pointer into the policy, such as `"/tools'),
        (limited, {"retry_after": -1}, "found `-1` as `retry_after`, expected seconds, 0 or more"),
        (limited, {"retry_after": float("nan")}, "found `nan` as `retry_after`, expected seconds, 0 or more"),
        (limited, {"retry_after": float("inf")}, "found `inf` as `retry_after`, expected seconds, 0 or more"),
    ],
)  # fmt: skip
def test_what_no_decision_can_be_is_refused(make: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        make(**options)


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (denied, {"code": 1}, "found the number `1` as reason code, expected a string"),
        (denied, {"rule": ["/tools"]}, "found a list as `rule`, expected a string"),
        (allowed, {"would_be": True}, "found the boolean `true` as effect, expected a string"),
        (limited, {"retry_after": True}, "found the boolean `true` as `retry_after`, expected seconds, or what can equal"),
        (limited, {"retry_after": "12s"}, "found the string `12s` as `retry_after`, expected seconds, or what can equal"),
        (limited, {"retry_after": [12]}, "found a list as `retry_after`, expected seconds, or what can equal"),
        (limited, {"retry_after": Clock()}, "found a Python `Clock` as `retry_after`, expected seconds, or what can equal"),
    ],
)  # fmt: skip
def test_what_is_of_no_use_is_refused(make: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=f"^{re.escape(message)}"):
        make(**options)


def test_every_code_has_one_effect() -> None:
    makers = {"deny": denied, "limit": limited, "approve": needs_approval}
    for code in ReasonCode:
        assert allowed(code=code).text == f'allowed(code="{code}")'  # in shadow mode
        taken = []
        for effect, make in makers.items():
            try:
                make(code=code)
            except ValueError:
                continue
            taken.append(effect)
        assert len(taken) == (0 if code in ("allowed", "default_allow", "approved") else 1)


# -- for unittest


class AsUnittest(unittest.TestCase):
    """Run by unittest below, and by pytest."""

    def test_a_policy(self) -> None:
        one = engine()
        assert assert_allowed(one, PAY, code="allowed", would_be=None).limits[0].remaining == 1
        assert_allowed(one, PAY)
        assert_limited(one, PAY, retry_after=60, rule=LIMIT)
        assert_denied(one, ToolCall("pay", {"amount": 101}), code="require", rule=REQUIRE)
        waiting = assert_needs_approval(engine(), ToolCall("pay", {"amount": 60}), rule=APPROVE_IF)
        assert waiting.approval is not None


def test_the_functions_are_for_unittest() -> None:
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(AsUnittest).run(result)
    assert result.wasSuccessful()
    assert result.testsRun == 1


@pytest.mark.parametrize(
    ("check", "options", "expected"),
    [
        (assert_allowed, {"code": "allowed"}, 'allowed(code="allowed")'),
        (assert_denied, {"code": "deny_if", "rule": DENY_IF}, f'denied(code="deny_if", rule="{DENY_IF}")'),
        (assert_limited, {"retry_after": 60}, "limited(retry_after=60)"),
        (assert_needs_approval, {"rule": APPROVE_IF}, f'needs_approval(rule="{APPROVE_IF}")'),
    ],
)
def test_they_raise_what_the_matcher_would_say(check: Any, options: dict[str, Any], expected: str) -> None:
    make = getattr(mcp_policy.testing, check.__name__.removeprefix("assert_"))
    call = ToolCall("pay", {"amount": 101})
    with pytest.raises(AssertionError) as caught:
        check(engine(), call, **options)
    assert str(caught.value).splitlines() == [
        f"expected {expected}",
        *make(**options).differences(engine().authorize(call)),
    ]


@pytest.mark.parametrize(
    ("call", "kind"), [("drop_tables", "a `str`"), (None, "no call"), ({"tool": "pay"}, "a `dict`")]
)
def test_what_is_no_call_is_not_taken_for_denied(call: Any, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    said = f"found a `PolicyEngine` and {kind}; pass a `Decision`, or an engine and a `ToolCall`"
    with pytest.raises(TypeError, match=f"^{re.escape(said)}$"):
        assert_denied(engine(), call)
    with caplog.at_level(logging.CRITICAL, "mcp_policy"):
        assert engine().authorize(call) != denied()


def test_they_take_decisions_as_well() -> None:
    assert assert_denied(DENIED, code="require") is DENIED
    assert assert_limited(LIMITED, retry_after=60) is LIMITED
    with pytest.raises(AssertionError, match=re.escape("expected allowed()\n- effect: allow\n+ effect: deny\n")):
        assert_allowed(DENIED)
    with pytest.raises(TypeError, match="a `Decision` is about its call already"):
        assert_allowed(RUNS, PAY)


def test_what_was_not_awaited_is_refused() -> None:
    waiting: Any = _answer()
    with pytest.raises(TypeError, match="found a `coroutine` and no call"):
        assert_allowed(waiting)
    assert assert_allowed(asyncio.run(waiting)) is RUNS


def test_the_package_exports_what_tests_use() -> None:
    for name in (*matchers._NAMES.values(), *(f"assert_{name}" for name in matchers._NAMES.values())):
        assert name in mcp_policy.testing.__all__
        assert getattr(mcp_policy.testing, name) is getattr(matchers, name)
