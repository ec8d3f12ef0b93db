"""Snapshots: the table, the file it is kept in, the difference."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_policy import Policy, PolicyEngine, Principal, ToolCall
from mcp_policy.testing.snapshot import Row, difference, file_of, table_of, write

POLICY = Policy.model_validate(
    {
        "version": "1",
        "tools": {
            "pay": {
                "require": [{"path": "args.amount", "op": "lte", "value": 100}],
                "deny_if": [{"path": "args.currency", "op": "eq", "value": "GBP"}],
                "limits": [{"max": 1, "window": 60}],
            },
            "close": {"action": "approve"},
            "try": {"mode": "shadow", "deny_if": [{"path": "args.a", "op": "exists", "value": True}]},
        },
    }
)


def table(*calls: ToolCall) -> list[Row]:
    return table_of(PolicyEngine(POLICY), calls)


def test_a_table_says_effect_codes_and_rules() -> None:
    calls = (
        ToolCall("pay", {"amount": 1}),
        ToolCall("pay", {"amount": 101, "currency": "GBP"}),
        ToolCall("close"),
        ToolCall("try", {"a": 1}),
        ToolCall("drop"),
    )
    denied = {"effect": "deny", "codes": ["deny_if"], "rules": ["/tools/try/deny_if/0"]}
    assert table(*calls) == [
        ({"tool": "pay", "arguments": {"amount": 1}}, {"effect": "allow", "codes": ["allowed"], "rules": ["/tools/pay"]}),
        (
            {"tool": "pay", "arguments": {"amount": 101, "currency": "GBP"}},
            {"effect": "deny", "codes": ["require", "deny_if"], "rules": ["/tools/pay/require/0", "/tools/pay/deny_if/0"]},
        ),
        ({"tool": "close", "arguments": {}}, {"effect": "approve", "codes": ["approval_required"], "rules": ["/tools/close"]}),
        (
            {"tool": "try", "arguments": {"a": 1}},
            {"effect": "allow", "codes": ["allowed"], "rules": ["/tools/try"], "would_be": denied},
        ),
        ({"tool": "drop", "arguments": {}}, {"effect": "deny", "codes": ["default_deny"], "rules": [""]}),
    ]  # fmt: skip


def test_each_call_is_decided_by_itself() -> None:
    engine = PolicyEngine(POLICY)
    call = ToolCall("pay", {"amount": 1})
    assert [row.decision["effect"] for row in table_of(engine, [call, call])] == ["allow", "allow"]
    assert engine.authorize(call).allowed


def test_a_row_says_who_called_and_how() -> None:
    ana = Principal("ana", roles=["admin"])
    full = ToolCall("pay", {}, server="s", session="t", principal=ana, context={"k": 1}, category="write")
    assert table(full)[0].call == {
        "tool": "pay", "arguments": {}, "server": "s", "session": "t",
        "principal": {"id": "ana", "roles": ["admin"]}, "context": {"k": 1}, "category": "write",
    }  # fmt: skip
    assert table(ToolCall("pay", {"odd": {1, 2}, "pair": (1, 2)}))[0].call["arguments"] == {
        "odd": "<set>",
        "pair": [1, 2],
    }
    malformed: Any = ["no", "object"]
    assert table(ToolCall("pay", malformed)) == [
        (
            {"malformed": "the arguments have to be an object, not list"},
            {"effect": "deny", "codes": ["invalid_call"], "rules": [""]},
        )
    ]


@pytest.mark.parametrize(
    ("calls", "error", "message"),
    [
        ([], ValueError, "a table needs a call"),
        (ToolCall("pay"), TypeError, "pass a list of `ToolCall`"),
        (["pay"], TypeError, "expected a `ToolCall`, found str"),
        ([ToolCall("pay"), None], TypeError, "expected a `ToolCall`, found NoneType"),
    ],
)
def test_what_is_no_table_is_refused(calls: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        table_of(PolicyEngine(POLICY), calls)


# -- files


def test_a_test_has_a_file_beside_it() -> None:
    assert file_of(Path("a/test_b.py"), "test_c") == Path("a/__policy_snapshots__/test_b/test_c.json")
    assert file_of(Path("a/test_b.py"), "test_c", 2) == Path("a/__policy_snapshots__/test_b/test_c.2.json")
    assert file_of(Path("test_b.py"), "T::test_c[x/../y]").name == "T.test_c-x-..-y-7fcb3e57.json"


@given(st.text(), st.text())
def test_different_names_have_different_files_of_one_folder(one: str, other: str) -> None:
    files = [file_of(Path("a/test_b.py"), name) for name in (one, other)]
    assert (files[0] == files[1]) == (one == other)
    for file in files:
        assert file.parent == Path("a/__policy_snapshots__/test_b")
        assert file.name.isascii()
        assert len(file.name) < 120


def test_a_table_that_was_written_does_not_differ(tmp_path: Path) -> None:
    file = tmp_path / "a" / "b.json"
    rows = table(ToolCall("é", {"text": "a\u202e\ud800\U000e0001\n", "odd": float("nan")}), ToolCall("é"))
    assert difference(file, rows) is None
    write(file, rows)
    assert difference(file, rows) == []
    text = file.read_text(encoding="utf-8")
    assert text.replace("\n", "").isprintable()
    assert r'"é", "arguments": {"text": "a\u202e\ud800\udb40\udc01\n"' in text
    file.write_text(json.dumps(json.loads(text), indent="\t"), encoding="utf-8", newline="\r\n")
    assert difference(file, rows) == []


@given(st.lists(st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | st.text()), min_size=1))
def test_whatever_was_written_is_read(arguments: list[dict[str, Any]]) -> None:
    rows = table(*(ToolCall("pay", each) for each in arguments))
    with TemporaryDirectory() as folder:
        write(Path(folder) / "x", rows)
        assert difference(Path(folder) / "x", rows) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expecting value"),
        ("{}", "expected a list of objects with `call` and `decision`"),
        ('[{"call": {}}]', "expected a list of objects with `call` and `decision`"),
        ('[{"call": {}, "decision": {}, "more": 1}]', "expected a list of objects with `call` and `decision`"),
        ('[{"call": [], "decision": {}}]', "expected an object as each `call` and `decision`"),
        ("[" * 100_000, "it is nested too deeply"),
    ],
    ids=range(6),
)
def test_what_is_no_snapshot_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        difference(tmp_path / "x", [])


# -- what changed

ALLOW = {"effect": "allow", "codes": ["allowed"], "rules": ["/tools/a"]}
DENY = {"effect": "deny", "codes": ["default_deny"], "rules": [""]}


def row(tool: str, decision: dict[str, Any] = ALLOW, **more: Any) -> Row:
    return Row({"tool": tool, "arguments": {}, **more}, decision)


def changed(old: list[Row], new: list[Row], folder: Path) -> list[str] | None:
    write(folder / "x", old)
    return difference(folder / "x", new)


def test_a_difference_is_what_changed_below_its_call(tmp_path: Path) -> None:
    old = [row("a"), row("b"), row("c", {**ALLOW, "would_be": DENY})]
    assert changed(old, old, tmp_path) == []
    assert changed(old, [old[0], row("b", DENY), old[2]], tmp_path) == [
        "b {}",
        "  - effect: allow",
        "  + effect: deny",
        "  - codes: allowed",
        "  + codes: default_deny",
        "  - rules: /tools/a",
        "  + rules: the document",
    ]
    assert changed(old, [*old[:2], row("c")], tmp_path) == [
        "c {}",
        "    effect: allow",
        "    codes: allowed",
        "    rules: /tools/a",
        "  - would_be: effect deny, codes default_deny, rules the document",
        "  + would_be: none",
    ]


def test_calls_that_come_and_go_are_told_whole(tmp_path: Path) -> None:
    old = [row("a"), row("b"), row("a", session="s")]
    allow = ["effect: allow", "codes: allowed", "rules: /tools/a"]
    gone = ["- b {}", *(f"-   {line}" for line in allow)]
    assert changed(old, [old[0], old[2]], tmp_path) == gone
    new = ['+ a {}, session "t"', *(f"+   {line}" for line in allow)]
    assert changed(old, [*old, row("a", session="t")], tmp_path) == new
    broken = Row({"malformed": "no call"}, DENY)
    assert changed([broken], [row("b")], tmp_path) == [
        "- malformed: no call",
        "-   effect: deny",
        "-   codes: default_deny",
        "-   rules: the document",
        "+ b {}",
        *(f"+   {line}" for line in allow),
    ]


def test_values_of_other_types_are_other_calls(tmp_path: Path) -> None:
    old, new = row("a", context={"k": 1}), row("a", context={"k": True})
    lines = changed([old], [new], tmp_path)
    assert lines is not None
    assert (lines[0], lines[4]) == ('- a {}, context {"k": 1}', '+ a {}, context {"k": true}')
