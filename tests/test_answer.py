"""What the agent is told."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from mcp_policy.answer import META_KEY, answer, is_hidden
from mcp_policy.decision import Decision, Effect, Reason, ReasonCode
from mcp_policy.engine import PolicyEngine, ToolCall
from mcp_policy.policy import Policy


def decided(effect: str, *reasons: tuple[str, str], **more) -> Decision:
    return Decision(
        Effect(effect), tuple(Reason(ReasonCode(code), message, "/rule") for code, message in reasons), **more
    )


def test_denial_says_why_in_the_first_line():
    text, meta = answer(decided("deny", ("deny_if", "amounts over 100 need a person.")))
    assert text == "[POLICY DENIED] amounts over 100 need a person."
    assert meta == {META_KEY: {"effect": "deny", "codes": ["deny_if"]}}


def test_all_reasons_are_told_as_sentences_and_each_once():
    found = decided("deny", ("require", "give a ticket"), ("deny_if", "not on Sundays!"), ("deny_if", "give a ticket."))
    text, meta = answer(found)
    assert text == "[POLICY DENIED] give a ticket. not on Sundays!"
    assert meta[META_KEY]["codes"] == ["require", "deny_if"]


@pytest.mark.parametrize(
    ("seconds", "told", "fact"),
    [(12.0, 12, 12.0), (11.2, 12, 11.2), (0.0004, 1, 0.001), (0.0, 1, 0.0), (86400.0, 86400, 86400.0)],
)
def test_limit_never_promises_too_early(seconds, told, fact):
    text, meta = answer(decided("limit", ("rate_limited", "10 calls a minute"), retry_after=seconds))
    assert text == f"[POLICY LIMIT] 10 calls a minute. Retry in {told} s."
    assert meta[META_KEY]["retry_after"] == fact
    assert meta[META_KEY]["retry_after"] >= seconds


def test_limit_that_never_passes_names_no_time():
    text, meta = answer(decided("limit", ("rate_limited", "this can never pass")))
    assert text == "[POLICY LIMIT] this can never pass."
    assert "retry_after" not in meta[META_KEY]


def test_approval_names_its_id():
    waits = decided("approve", ("approval_required", "somebody has to look"), approval=SimpleNamespace(id="a-1"))
    text, meta = answer(waits)
    assert text == "[POLICY APPROVAL REQUIRED] somebody has to look. Approval id: a-1"
    assert meta[META_KEY] == {"effect": "approve", "codes": ["approval_required"], "approval_id": "a-1"}


def test_evaluated_approval_has_no_id_yet():
    text, meta = answer(decided("approve", ("approval_required", "somebody has to look")))
    assert text == "[POLICY APPROVAL REQUIRED] somebody has to look."
    assert "approval_id" not in meta[META_KEY]


def test_facts_are_json_and_hold_no_rule():
    _, meta = answer(decided("deny", ("denied_by_rule", "no")))
    assert json.loads(json.dumps(meta)) == meta
    assert "/rule" not in json.dumps(meta)


def test_nothing_is_said_of_a_hidden_tool():
    gone = decided("deny", ("hidden", "there is no such tool"))
    assert is_hidden(gone)
    with pytest.raises(ValueError, match="unknown"):
        answer(gone)


def test_nothing_is_said_of_a_call_that_runs():
    with pytest.raises(ValueError, match="allowed"):
        answer(decided("allow", ("allowed", "listed")))


@pytest.mark.parametrize("secret", ["s3cret", "4711"])
def test_values_of_arguments_do_not_come_back(secret):
    policy = {"version": "1", "tools": {"pay": {"deny_if": [{"path": "args.a", "op": "neq", "value": "x"}]}}}
    engine = PolicyEngine(Policy.model_validate(policy))
    text, meta = answer(engine.evaluate(ToolCall("pay", {"a": secret})))
    assert secret not in text + json.dumps(meta)


def test_key_is_one_the_protocol_lets_others_use():
    prefix, _, name = META_KEY.partition("/")
    assert name.isalpha()
    assert prefix.split(".")[1] not in {"mcp", "modelcontextprotocol"}
