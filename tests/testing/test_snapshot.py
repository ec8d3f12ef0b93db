"""Snapshots: the table, the file it is kept in, the difference."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_policy import Policy, PolicyEngine, Principal, ToolCall
from mcp_policy.testing.snapshot import difference, file_of, table_of, write

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
HEAD = "# What a policy decides, written by `pytest --policy-update`. Review a change here as one of the policy."


def rows(calls: Iterable[ToolCall], engine: PolicyEngine | None = None) -> list[str]:
    head, *lines, end = table_of(engine or PolicyEngine(POLICY), calls).split("\n")
    assert (head, end) == (HEAD, "")
    return lines


def test_a_table_says_effect_codes_and_rules() -> None:
    calls = [
        ToolCall("pay", {"amount": 1}),
        ToolCall("pay", {"amount": 101, "currency": "GBP"}),
        ToolCall("close"),
        ToolCall("try", {"a": 1}),
        ToolCall("drop"),
    ]
    assert rows(calls) == [
        'pay {"amount": 1}',
        "  allow: allowed at /tools/pay",
        'pay {"amount": 101, "currency": "GBP"}',
        "  deny: require at /tools/pay/require/0; deny_if at /tools/pay/deny_if/0",
        "close {}",
        "  approve: approval_required at /tools/close",
        'try {"a": 1}',
        "  allow: allowed at /tools/try",
        "  would be deny: deny_if at /tools/try/deny_if/0",
        "drop {}",
        "  deny: default_deny at the document",
    ]


def test_each_call_is_decided_by_itself() -> None:
    engine = PolicyEngine(POLICY)
    call = ToolCall("pay", {"amount": 1})
    allow = ['pay {"amount": 1}', "  allow: allowed at /tools/pay"]
    assert rows([call, call], engine) == [*allow, *allow]
    assert engine.authorize(call).allowed


def test_a_row_says_who_called_and_how() -> None:
    ana = Principal("ana", roles=["admin"])
    full = ToolCall("pay", {}, server="s", session="t", principal=ana, context={"k": 1}, category="write")
    assert rows([full])[0] == (
        'pay {}, server "s", session "t", principal {"id": "ana", "roles": ["admin"]}, context {"k": 1}, category "write"'
    )
    assert rows([ToolCall("pay", {"é\n": "\u202e\ud800"})])[0] == r'pay {"é\n": "\u202e\ud800"}'
    assert rows([ToolCall("pay", {"odd": {1, 2}})])[0] == 'pay {"odd": "<set>"}'
    malformed: Any = ["no", "object"]
    assert rows([ToolCall("pay", malformed)]) == [
        "malformed: the arguments have to be an object, not list",
        "  deny: invalid_call at the document",
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
    assert file_of(Path("a/test_b.py"), "test_c") == Path("a/__snapshots__/test_b/test_c.snap")
    assert file_of(Path("a/test_b.py"), "test_c", 2) == Path("a/__snapshots__/test_b/test_c.2.snap")
    assert file_of(Path("test_b.py"), "T::test_c[x/../y]").name == "T.test_c-x-..-y-7fcb3e57.snap"


@given(st.text(), st.text())
def test_different_names_have_different_files_of_one_folder(one: str, other: str) -> None:
    files = [file_of(Path("a/test_b.py"), name) for name in (one, other)]
    assert (files[0] == files[1]) == (one == other)
    for file in files:
        assert file.parent == Path("a/__snapshots__/test_b")
        assert file.name.isascii()
        assert len(file.name) < 120


def test_a_table_that_was_written_does_not_differ(tmp_path: Path) -> None:
    file, table = tmp_path / "a" / "b.txt", table_of(PolicyEngine(POLICY), [ToolCall("é")])
    assert difference(file, table) is None
    write(file, table)
    assert file.read_bytes() == table.encode()
    assert difference(file, table) == []
    file.write_bytes(table.replace("\n", "\r\n").encode())  # as version control may check it out
    assert difference(file, table) == []


def changed(old: list[str], new: list[str], folder: Path) -> list[str] | None:
    write(folder / "x", "\n".join(old) + "\n")
    return difference(folder / "x", "\n".join(new) + "\n")


def test_a_difference_is_what_changed_below_its_call(tmp_path: Path) -> None:
    old = ["# head", "a {}", "  allow: x", "b {}", "  allow: x", "c {}", "  allow: x", "  would be deny: y", "d {}", "  deny: z"]  # fmt: skip
    assert changed(old, old, tmp_path) == []
    assert changed(old, [*old[:4], "  deny: x", *old[5:]], tmp_path) == [" b {}", "-  allow: x", "+  deny: x"]
    assert changed(old, [*old[:7], "  would be limit: y", *old[8:]], tmp_path) == [
        " c {}",
        "-  would be deny: y",
        "+  would be limit: y",
    ]
    assert changed(old, [*old[:3], "B {}", *old[4:]], tmp_path) == ["-b {}", "-  allow: x", "+B {}", "+  allow: x"]
    assert changed(old, [*old[:3], *old[5:]], tmp_path) == ["-b {}", "-  allow: x"]
    assert changed(old, [*old, "e {}", "  allow: x"], tmp_path) == ["+e {}", "+  allow: x"]


def test_changes_far_apart_each_name_their_call(tmp_path: Path) -> None:
    old = [line for name in "abcdefgh" for line in (f"{name} {{}}", "  allow: x")]
    new = [line.replace("allow", "deny") if place in (1, 15) else line for place, line in enumerate(old)]
    assert changed(old, new, tmp_path) == [
        " a {}", "-  allow: x", "+  deny: x",
        " h {}", "-  allow: x", "+  deny: x",
    ]  # fmt: skip
