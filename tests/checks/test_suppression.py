"""Findings that somebody has decided to live with: how a file of them is read, and what it covers."""

from __future__ import annotations

import json

import pytest

from mcp_policy import PolicyError
from mcp_policy.checks import CODES, Finding, read_suppressions, suppressed
from mcp_policy.checks.codes import finding


def read(*entries: dict[str, str]) -> tuple:
    return read_suppressions(json.dumps({"version": "1", "suppress": list(entries)}).encode())


def entry(code: str = "default_allow", **keys: str) -> dict[str, str]:
    return {"code": code, "reason": "meant so", **keys}


ALLOW = finding("default_allow", "/default", "x")
SECTION = finding("default_allow", "/servers/s/default", "x")
SHADOW = finding("shadow_mode", "/mode", "x")
FOUND = [ALLOW, SECTION, SHADOW]


def remaining(*entries: dict[str, str]) -> list[Finding]:
    return suppressed(FOUND, read(*entries))[0]


def test_a_suppression_covers_its_code_everywhere():
    kept, lived_with, unused = suppressed(FOUND, read(entry()))
    assert kept == [SHADOW]
    assert lived_with == [(ALLOW, "meant so"), (SECTION, "meant so")]
    assert unused == []


def test_with_a_pointer_it_covers_that_place():
    assert remaining(entry(pointer="/default")) == [SECTION, SHADOW]
    assert remaining(entry(pointer="/servers/*")) == [ALLOW, SHADOW]
    assert remaining(entry(pointer="*")) == [SHADOW]
    assert remaining(entry(pointer="/def")) == FOUND
    assert remaining(entry(pointer="")) == FOUND


def test_the_empty_pointer_is_the_document():
    nothing = finding("lists_nothing", "", "x")
    assert suppressed([nothing, ALLOW], read(entry("lists_nothing", pointer="")))[0] == [ALLOW]


def test_the_first_that_covers_a_finding_says_why():
    _, lived_with, unused = suppressed(FOUND, read(entry(pointer="/default", reason="first"), entry(reason="second")))
    assert [reason for _, reason in lived_with] == ["first", "second"]
    assert unused == []


def test_what_suppresses_nothing_is_a_finding():
    kept, _, (one,) = suppressed(FOUND, read(entry(), entry("dead_keys")))
    assert kept == [SHADOW]
    assert (one.code, one.severity, one.pointer) == ("unused_suppression", "warning", "/suppress/1")
    assert one.severity == CODES["unused_suppression"].severity
    assert "`dead_keys`" in one.message


def test_what_is_found_only_beside_tools_waits_for_them():
    suppressions = read(entry("unknown_tool"), entry("dead_keys"))
    assert [one.pointer for one in suppressed([], suppressions, tools=False)[2]] == ["/suppress/1"]
    assert [one.pointer for one in suppressed([], suppressions, tools=True)[2]] == ["/suppress/0", "/suppress/1"]


def test_no_suppressions():
    assert read() == ()
    assert suppressed(FOUND, ()) == (FOUND, [], [])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [("", "invalid_json")]),
        ("[]", [("", "wrong_type")]),
        ("{}", [("", "missing_key"), ("", "missing_key")]),
        ('{"version": 1, "suppress": []}', [("/version", "invalid_value")]),
        ('{"version": "1", "suppress": {}}', [("/suppress", "wrong_type")]),
        ('{"version": "1", "suppress": [], "a/b": 1}', [("/a~1b", "unknown_key")]),
        ('{"version": "1", "suppress": [1]}', [("/suppress/0", "wrong_type")]),
        ('{"version": "1", "suppress": [{}]}', [("/suppress/0", "missing_key"), ("/suppress/0", "missing_key")]),
        (
            '{"version": "1", "suppress": [{"code": "dead_keys", "reason": ""}]}',
            [("/suppress/0/reason", "wrong_type")],
        ),
        (
            '{"version": "1", "suppress": [{"code": "dead_key", "reason": "x", "pointer": 1, "path": ""}]}',
            [
                ("/suppress/0/path", "unknown_key"),
                ("/suppress/0/code", "invalid_value"),
                ("/suppress/0/pointer", "wrong_type"),
            ],
        ),
        ('{"version": "1", "suppress": [], "suppress": []}', [("/suppress", "duplicate_key")]),
    ],
)
def test_every_mistake_in_a_file_is_told(text, expected):
    with pytest.raises(PolicyError) as raised:
        read_suppressions(text.encode())
    found = [(problem.pointer, problem.code) for problem in raised.value.problems]
    assert sorted(found) == sorted(expected)


def test_a_mistake_has_its_line():
    with pytest.raises(PolicyError, match=r"2:24: /suppress/0/code: .*did you mean `dead_keys`"):
        read_suppressions(b'{"version": "1",\n "suppress": [{"code": "dead_key", "reason": "x"}]}')
