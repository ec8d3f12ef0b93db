"""Running cases: what passes, what fails and how it is told, and that the engine of run time is what runs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from mcp_policy import PolicyError
from mcp_policy.plans import Plans
from mcp_policy.testing import Coverage, check_file, read_cases, run_case
from mcp_policy.testing.cases import parse_cases
from mcp_policy.testing.running import policy_of
from mcp_policy.testing.updating import updated

CONFORMANCE = Path(__file__).parent.parent / "conformance"
POLICY: dict[str, Any] = {
    "version": "1",
    "tools": {
        "pay": {
            "require": [{"path": "args.amount", "op": "lte", "value": 100, "reason": "at most `100`"}],
            "approve_if": [{"path": "args.amount", "op": "gt", "value": 50}],
            "limits": [{"max": 2, "window": 60, "counter": "payments"}],
        },
        "look": {"rate_limit": {"max": 1, "window": "hour"}},
        "try": {"mode": "shadow", "deny_if": [{"path": "args.a", "op": "exists", "value": True}]},
    },
}
RANDOM = re.compile("`[0-9a-f]{32}`")  # the ids of approvals
PAY = {"tool": "pay", "arguments": {"amount": 10}, "session": "s"}


def failure(case: dict[str, Any], policy: dict[str, Any] = POLICY) -> str | None:
    text = json.dumps({"policy": policy, "cases": [{"name": "n", **case}]}, indent=1)
    results = [run_case(one) for one in parse_cases("x.policytest.json", text).cases]
    covered = [run_case(one, Coverage()) for one in parse_cases("x.policytest.json", text).cases]
    assert RANDOM.sub("ID", str(list(map(str, results)))) == RANDOM.sub("ID", str(list(map(str, covered))))
    return "\n".join(str(result) for result in results if result is not None) or None


def is_text(text: str) -> bool:
    return text == text.encode(errors="ignore").decode()


@pytest.mark.parametrize("path", sorted(CONFORMANCE.glob("*.json")), ids=lambda path: path.stem)
def test_the_conformance_cases_pass_with_and_without_coverage(path: Path) -> None:
    # strict reading refuses lone surrogates, which some cases hold to show that a policy does
    cases = [case for case in json.loads(path.read_bytes())["cases"] if is_text(json.dumps(case, ensure_ascii=False))]
    coverage = Coverage()
    for case in parse_cases(path, json.dumps({"cases": cases})).cases:
        assert run_case(case) is None
        assert run_case(case, coverage) is None


# -- every expectation can fail

CALL = {"tool": "pay", "arguments": {"amount": 101}, "session": "s"}


@pytest.mark.parametrize(
    ("call", "right", "wrong"),
    [
        (CALL, {"effect": "deny"}, {"effect": "allow"}),
        (CALL, {"codes": ["require"]}, {"codes": ["require", "deny_if"]}),
        (CALL, {"rules": ["/tools/pay/require/0"]}, {"rules": ["/tools/pay/require/0", "/tools/pay"]}),
        (CALL, {"message": "at most `100`"}, {"message": "At most"}),
        (CALL, {"retry_after": None}, {"retry_after": 0}),
        (CALL, {"would_be": None}, {"would_be": "deny"}),
        (PAY, {"remaining": {"payments": 1}}, {"remaining": {"payments": 2}}),
        (PAY, {"remaining": {"/tools/pay/limits/0": 1}}, {"remaining": {"payments": 1, "others": 1}}),
        ({"tool": "try", "arguments": {"a": 1}}, {"codes": ["allowed"], "would_be": "deny"}, {"codes": ["deny_if"]}),
    ],
)
def test_each_expectation_passes_and_fails(call: dict[str, Any], right: dict[str, Any], wrong: dict[str, Any]) -> None:
    assert failure({"call": call, "expect": right}) is None
    said = failure({"call": call, "expect": wrong})
    (key,) = wrong
    assert said is not None
    assert f"\n  - {key}: " in said
    assert f"\n  + {key}: " in said


def test_retry_after_may_be_off_by_a_hundredth_of_the_window() -> None:
    steps = [{"call": {"tool": "look"}, "expect": {"effect": "allow"}}]
    late = {"at": 10, "call": {"tool": "look"}, "window": 3600}
    assert failure({"steps": [*steps, {**late, "expect": {"retry_after": 3560}}]}) is None
    assert failure({"steps": [*steps, {**late, "expect": {"retry_after": 3500}}]}) is not None
    assert failure({"steps": [*steps, {**late, "window": 60, "expect": {"retry_after": 3560}}]}) is not None


def test_a_failure_shows_the_difference_the_rule_its_message_and_the_place() -> None:
    said = failure({"call": {**CALL, "principal": {"id": "al"}}, "expect": {"effect": "allow", "codes": ["require"]}})
    lines = str(said).splitlines()
    assert re.fullmatch(r"x\.policytest\.json:\d+: n", lines[0])
    assert lines[1:] == [
        '  pay {"amount": 101}, session "s", principal {"id": "al"}',
        "  - effect: allow",
        "  + effect: deny",
        "    codes: require",
        "  decided by /tools/pay/require/0: require: at most `100`",
    ]


def test_a_failure_cannot_forge_a_line() -> None:
    said = failure({"name": "a\nb", "call": {"tool": "t\n  + x"}, "expect": {"effect": "allow", "message": "x\n  + y"}})
    assert said is not None
    assert len(said.splitlines()) == 7
    assert "a\\u000ab" in said


def test_steps_move_the_clock_and_keep_the_state() -> None:
    allow, limit = {"effect": "allow"}, {"effect": "limit", "codes": ["rate_limited"]}
    steps = [
        {"call": PAY, "times": 2, "expect": allow},
        {"at": 30, "call": PAY, "expect": {**limit, "retry_after": 30}},
        {"at": "1m", "do": "evaluate", "call": PAY, "times": 9, "expect": allow},
        {"at": "1m", "call": PAY, "times": 2, "expect": allow},
        {"at": "1m", "call": {**PAY, "session": "other"}, "expect": {"remaining": {"payments": 1}}},
    ]
    assert failure({"steps": steps}) is None


def test_a_person_may_approve_or_reject() -> None:
    call = {"tool": "pay", "arguments": {"amount": 60}}
    ask = {"call": call, "expect": {"effect": "approve", "codes": ["approval_required"]}}
    approved = {"call": call, "expect": {"effect": "allow", "codes": ["approved"]}}
    rejected = {"call": call, "expect": {"codes": ["approval_rejected"]}}
    assert failure({"steps": [ask, {"do": "approve"}, approved, ask]}) is None
    assert failure({"steps": [ask, {"do": "reject", "by": "bob"}, rejected]}) is None
    said = failure({"steps": [{**approved, "expect": {"effect": "approve"}}, {"do": "approve"}, {"do": "approve"}]})
    assert said is not None
    assert "step 2 at 0 s: approve\n    cannot approve: " in said
    assert failure({"steps": [{"do": "approve"}, ask]}) is not None


def test_a_repetition_is_told_by_its_number() -> None:
    said = failure({"steps": [{"call": PAY, "times": 9, "expect": {"effect": "allow"}}]})
    assert said is not None
    assert "step 0 at 0 s, 3 of 9: pay" in said
    assert said.endswith("\n  and 2 more that differ")


def test_rows_share_nothing() -> None:
    rows = [["allow"]] * 9
    assert failure({"call": PAY, "columns": ["effect"], "rows": rows}) is None


def test_markers_and_malformed_calls() -> None:
    deny = {"effect": "deny"}
    for arguments in ({"amount": {"$float": "nan"}}, {"amount": {"$nest": 70}}, [1]):
        assert failure({"call": {"tool": "pay", "arguments": arguments}, "expect": deny}) is None
    assert failure({"call": {"tool": None}, "expect": {"codes": ["invalid_call"]}}) is None
    context = {
        "tool": "pay",
        "context": {"a": {"$repeat": ["a", 3]}},
        "principal": {"claims": {"b": {"$float": "inf"}}},
    }
    assert failure({"call": context, "expect": deny}) is None


@pytest.mark.parametrize(
    ("text", "problems", "fails"),
    [
        ("{", [("", "invalid_json")], False),
        ('{"version": "1"}', [], False),
        ('{"version": "1"}', [("", "missing_key")], True),
        ("{}", [], True),
        ('{"x": 1}', [("", "missing_key")], False),
        ('{"x": 1}', [("/x", "wrong_type")], True),
    ],
)
def test_texts_that_load_or_do_not(text: str, problems: list[tuple[str, str]], fails: bool) -> None:
    stated = [{"pointer": pointer, "code": code} for pointer, code in problems]
    said = failure({"text": text, "problems": stated})
    assert (said is not None) == fails
    if said is not None:
        assert re.search(r"\n  - problems: .*\n  \+ problems: ", said)


# -- policies


def test_a_policy_is_read_and_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    make = Plans.__init__

    def counted(self: Plans, *arguments: Any) -> None:
        made.append(self)
        make(self, *arguments)

    monkeypatch.setattr(Plans, "__init__", counted)
    policy = {"version": "1", "name": "compiled once", "tools": {"pay_once": {}}}
    assert failure({"call": {"tool": "pay_once"}, "columns": ["effect"], "rows": [["allow"]] * 50}, policy) is None
    assert len(made) == 1 + 50  # and once for each coverage


def test_a_policy_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    cases, policy = tmp_path / "a.policytest.json", tmp_path / "policy.json"
    case = {"name": "n", "call": {"tool": "t"}, "expect": {"effect": "allow"}}
    cases.write_text(json.dumps({"policy": "policy.json", "cases": [case]}), encoding="utf-8")
    policy.write_text('{"version": "1"}', encoding="utf-8")
    with pytest.raises(AssertionError, match=r"a\.policytest\.json:1: n\n"):
        check_file(cases)
    policy.write_text('{"version": "1", "default": "allow"}', encoding="utf-8")
    check_file(cases)
    policy.write_text("{}", encoding="utf-8")
    with pytest.raises(PolicyError):
        check_file(cases)
    policy.unlink()
    with pytest.raises(FileNotFoundError):
        check_file(cases)
    policy.mkdir()
    (case,) = read_cases(cases).cases
    assert case.policy is not None
    with pytest.raises(OSError, match="is not a file"):
        policy_of(case.policy)


# -- accepting


def accepted(text: str, policy: dict[str, Any] = POLICY) -> tuple[str, int]:
    """Return the text after an update, and how many cases still fail."""
    text = text.replace("POLICY", json.dumps(policy))
    file = parse_cases(Path("x.policytest.json"), text)
    failures = [found for case in file.cases if (found := run_case(case)) is not None]
    new, changes = updated(file.path, text, failures)
    assert (new == text) == (not changes)
    left = sum(run_case(case) is not None for case in parse_cases(file.path, new).cases)
    return new.replace(json.dumps(policy), "POLICY"), left


def test_an_update_changes_the_expectations_that_fail_and_nothing_else() -> None:
    text = """{ "policy":POLICY,
  "cases": [
    {"name": "é", "call":  {"tool": "pay", "arguments": {"amount": 101}}, "expect": {"effect" :"allow","message": "100",
       "codes":[ "allowed" ]}},\r
    {"name": "t", "call": {"tool": "pay"}, "columns": ["args.amount", "effect"], "rows": [[1, "deny"],  [101,"deny"]]},
    {"name": "load", "text": "{}", "problems": [ ]},
    {"name": "s", "steps": [{"call": {"tool": "look"}, "expect": {"effect": "allow"}},
      {"at": 0.5, "call": {"tool": "look"}, "expect": {"retry_after": null}}]}
  ]}"""
    new, left = accepted(text)
    assert left == 0
    expected = text.replace('"effect" :"allow"', '"effect" :"deny"').replace('[ "allowed" ]', '["require"]')
    expected = expected.replace('[1, "deny"]', '[1, "allow"]').replace('"retry_after": null', '"retry_after": 3599.5')
    assert new == expected.replace("[ ]", '[{"pointer": "", "code": "missing_key"}]')


def test_an_update_leaves_what_it_cannot_make_right() -> None:
    shared = '{"policy": POLICY, "cases": [{"name": "t", "call": {"tool": "pay"}, "expect": {"effect": "allow"}, '
    shared += '"columns": ["args.amount"], "rows": [[1], [101], [2]]}]}'
    assert accepted(shared) == (shared, 1)
    repeated = '{"policy": POLICY, "cases": [{"name": "s", "steps": [{"call": {"tool": "look"}, "times": 3, '
    repeated += (
        '"expect": {"effect": "allow"}}]}, {"name": "o", "call": {"tool": "no"}, "expect": {"effect": "allow"}}]}'
    )
    new, left = accepted(repeated)
    assert left == 1
    assert new == '"deny"'.join(repeated.rsplit('"allow"', 1))
    unmet = '{"policy": POLICY, "cases": [{"name": "n", "call": {"tool": "no"}, "expect": {"remaining": {"c": 1}}}]}'
    assert accepted(unmet) == (unmet, 1)
