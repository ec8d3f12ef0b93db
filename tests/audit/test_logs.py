"""Decisions through `logging`."""

from __future__ import annotations

import logging

import pytest

from mcp_policy import Policy, PolicyEngine, ToolCall
from mcp_policy.audit.logs import LOGGER, LoggingSink

POLICY = Policy.model_validate(
    {
        "version": "1",
        "tools": {"read": {}, "rm": {"action": "deny"}, "pay": {"action": "approve"}, "pay2": {"action": "approve"}},
    }
)


@pytest.fixture
def lines(caplog):
    """What was logged: level and text."""
    with caplog.at_level(logging.DEBUG, LOGGER):
        yield lambda: [(record.levelname, record.message) for record in caplog.records if record.name == LOGGER]


def test_what_runs_and_what_is_stopped_is_logged(lines):
    engine = PolicyEngine(POLICY, audit=LoggingSink())
    for tool in ("read", "rm", "other\n\x1b[2J"):
        engine.authorize(ToolCall(tool, {"token": "secret"}))
    assert lines() == [
        ("INFO", "allow `read`: allowed"),
        ("WARNING", "deny `rm`: denied_by_rule"),
        ("WARNING", "deny `other\\u000a\\u001b[2J`: invalid_call"),
    ]


def test_what_a_person_says_is_logged(lines):
    engine = PolicyEngine(POLICY, audit=LoggingSink())
    for tool, decide in (("pay", engine.approve), ("pay2", engine.reject)):
        decide(engine.authorize(ToolCall(tool, session="s")).approval.id, by="ann\r")
    assert [line for line in lines() if line[0] == "INFO"] == [
        ("INFO", "`ann\\u000d` approved `pay`: approved"),
        ("INFO", "`ann\\u000d` rejected `pay2`: rejected"),
    ]


def test_the_event_goes_along_and_nothing_of_the_call_is_in_the_text(caplog):
    own = logging.getLogger("host.decisions")
    with caplog.at_level(logging.INFO, own.name):
        PolicyEngine(POLICY, audit=LoggingSink(own)).authorize(call := ToolCall("read", {"token": "secret"}))
    (record,) = caplog.records
    assert (record.name, record.mcp_policy.call) == (own.name, call)
    assert "secret" not in caplog.text
    assert "secret" not in repr(record.__dict__)


def test_percent_signs_are_no_formats(lines):
    PolicyEngine(POLICY, audit=LoggingSink()).authorize(ToolCall("%s %(x)s"))
    assert lines() == [("WARNING", "deny `%s %(x)s`: default_deny")]
