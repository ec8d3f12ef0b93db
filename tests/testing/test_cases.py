"""Case files: what is read, what is refused, and where."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from mcp_policy.testing.cases import CaseFileError, parse_cases, read_cases
from mcp_policy.testing.markers import expanded
from mcp_policy.testing.spans import spans

CONFORMANCE = Path(__file__).parent.parent / "conformance"
ALLOWS = {"effect": "allow"}


def single(**more: Any) -> dict[str, Any]:
    return {"name": "n", "call": {"tool": "t"}, "expect": ALLOWS, **more}


def table(**more: Any) -> dict[str, Any]:
    return {"name": "n", "call": {"tool": "t"}, "columns": ["args.a", "effect"], "rows": [[1, "allow"]], **more}


def sequence(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"name": "n", "steps": list(steps)}


def step(**more: Any) -> dict[str, Any]:
    return {"call": {"tool": "t"}, "expect": ALLOWS, **more}


def load(**more: Any) -> dict[str, Any]:
    return {"name": "n", "text": "{", "problems": [{"pointer": "", "code": "invalid_json"}], **more}


def parsed(*cases: Any, **top: Any) -> Any:
    return parse_cases("x.policytest.json", json.dumps({"policy": "policy.json", "cases": list(cases), **top})).cases


def refused(text: str) -> list[tuple[str, str]]:
    with pytest.raises(CaseFileError) as caught:
        parse_cases("x.policytest.json", text)
    return [(problem.pointer, str(problem.code)) for problem in caught.value.problems]


def without(tree: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in tree.items() if name != key}


# -- what is read


@pytest.mark.parametrize("path", sorted(CONFORMANCE.glob("*.json")), ids=lambda path: path.stem)
def test_the_conformance_format_is_read(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    # strict reading refuses lone surrogates, which these files hold to show that a policy does
    text = re.sub(r"(?<!\\)\\u[dD][89a-fA-F]..", "?", text)
    assert len(parse_cases(path, text).cases) == len(json.loads(text)["cases"])


def test_lines_are_those_of_the_cases_and_rows(tmp_path: Path) -> None:
    text = """{"policy": "policy.json", "cases": [
  {"name": "one", "call": {"tool": "t"}, "expect": {"effect": "allow"}},
  {"name": "two \\"quoted\\": [", "call": {"tool": "t"}, "columns": ["args.a", "effect"], "rows": [
    [1, "allow"],

    [2, "deny"]]}
]}"""
    path = tmp_path / "a.policytest.json"
    path.write_text(text, encoding="utf-8")
    found = read_cases(path).cases
    assert [(case.name, case.line) for case in found] == [
        ("one", 2),
        ('two "quoted": [[0]', 4),
        ('two "quoted": [[1]', 6),
    ]
    assert {case.policy.path for case in found if case.policy} == {tmp_path / "policy.json"}


def test_yaml_says_the_same(tmp_path: Path) -> None:
    path = tmp_path / "a.policytest.yaml"
    path.write_text(
        """policy: policy.json
cases:
  - name: amounts
    call: {tool: pay}
    columns: [args.amount, effect]
    rows:
      - [1, allow]
      - [no, deny]
""",
        encoding="utf-8",
    )
    cases = read_cases(path).cases
    assert [(case.name, case.line) for case in cases] == [("amounts[0]", 7), ("amounts[1]", 8)]
    assert cases[1].steps[0].call == {"tool": "pay", "arguments": {"amount": "no"}}
    path.write_text("cases: [{name: a, name: b}]\n", encoding="utf-8")
    with pytest.raises(CaseFileError, match=r"a\.policytest\.yaml:1:19: /cases/0/name: duplicate_key"):
        read_cases(path)


def test_columns_put_their_cells_where_conditions_look() -> None:
    columns = ["args.a.b", 'args["odd key"]', "context.time.hour", "principal.id", "principal.roles"]
    columns += ["principal.claims.tier", "session.id", "server.name", "tool.name", "effect"]
    row = [1, 2, 3, "alice", ["r"], "gold", "s", "srv", "pay", "deny"]
    call = {"arguments": {"a": {"c": 0}}, "principal": {"client": "app"}}
    (case,) = parsed(table(call=call, columns=columns, rows=[row], expect={"codes": ["require"]}))
    assert case.steps[0].call == {
        "tool": "pay",
        "arguments": {"a": {"c": 0, "b": 1}, "odd key": 2},
        "context": {"time": {"hour": 3}},
        "principal": {"client": "app", "id": "alice", "roles": ["r"], "claims": {"tier": "gold"}},
        "session": "s",
        "server": "srv",
    }
    assert case.steps[0].expect == {"codes": ["require"], "effect": "deny"}
    assert case.steps[0].places == {"codes": "/cases/0/expect/codes", "effect": "/cases/0/rows/0/9"}
    assert call == {"arguments": {"a": {"c": 0}}, "principal": {"client": "app"}}


def test_null_leaves_an_expectation_out_where_it_is_no_value() -> None:
    columns = ["args.a", "effect", "retry_after", "would_be", "codes"]
    first, second = parsed(
        table(columns=columns, rows=[[1, "allow", None, None, None], [2, None, 3, "deny", ["require"]]])
    )
    assert first.steps[0].expect == {"effect": "allow", "retry_after": None, "would_be": None}
    assert second.steps[0].expect == {"retry_after": 3, "would_be": "deny", "codes": ["require"]}


def test_rows_may_have_names() -> None:
    cases = parsed(table(columns=["name", "args.a", "effect"], rows=[["small", 1, "allow"]]))
    assert [case.name for case in cases] == ["n: small"]


def test_times_are_seconds_or_spelt() -> None:
    (case,) = parsed(sequence(step(), step(at=1.5), step(at="90s"), step(at="2m"), step(at="1h"), step(at="1d")))
    assert [one.at for one in case.steps] == [0, 1.5, 90, 120, 3600, 86400]


def test_a_policy_of_a_case_comes_before_that_of_the_file() -> None:
    own, other = parsed(single(policy={"version": "1"}), single())
    assert own.policy.tree == {"version": "1"}
    assert str(own.policy) == "x.policytest.json#/cases/0/policy"
    assert str(other.policy) == "policy.json"


def test_markers_stand_for_what_json_cannot_hold() -> None:
    tree = expanded(
        {"a": [{"$float": "inf"}, {"$nest": 2}], "b": {"$repeat": ["ab", 2]}, "c": {"$float": "nan", "d": 1}}
    )
    assert tree == {"a": [float("inf"), [[1]]], "b": "abab", "c": {"$float": "nan", "d": 1}}


# -- what is refused

REFUSED: dict[str, tuple[Any, list[tuple[str, str]]]] = {
    "no name": (without(single(), "name"), [("", "missing_key")]),
    "empty name": (single(name=""), [("/name", "invalid_value")]),
    "unknown key": (single(expct={}), [("/expct", "unknown_key")]),
    "no kind": ({"name": "n"}, [("", "missing_key")]),
    "no case": ([], [("", "wrong_type")]),
    "a key of another kind": (single(steps=[step()]), [("/call", "unknown_key"), ("/expect", "unknown_key")]),
    "no expectation": (without(single(), "expect"), [("", "missing_key")]),
    "nothing expected": (single(expect={}), [("/expect", "invalid_value")]),
    "unknown expectation": (single(expect={"efect": "allow"}), [("/expect/efect", "unknown_key")]),
    "no effect": (single(expect={"effect": "alow"}), [("/expect/effect", "invalid_value")]),
    "an effect that is null": (single(expect={"effect": None}), [("/expect/effect", "wrong_type")]),
    "no code": (single(expect={"codes": ["requires"]}), [("/expect/codes/0", "invalid_value")]),
    "no codes": (single(expect={"codes": []}), [("/expect/codes", "invalid_value")]),
    "rules that cannot fail": (single(expect={"rules": []}), [("/expect/rules", "invalid_value")]),
    "no pointer": (single(expect={"rules": ["tools/t"]}), [("/expect/rules/0", "invalid_value")]),
    "remaining that cannot fail": (single(expect={"remaining": {}}), [("/expect/remaining", "invalid_value")]),
    "remaining of text": (single(expect={"remaining": {"c": "1"}}), [("/expect/remaining/c", "wrong_type")]),
    "a message that cannot fail": (single(expect={"message": ""}), [("/expect/message", "invalid_value")]),
    "negative time": (single(expect={"retry_after": -1}), [("/expect/retry_after", "invalid_value")]),
    "would be": (single(expect={"would_be": "denied"}), [("/expect/would_be", "invalid_value")]),
    "no tool": (single(call={}), [("/call", "missing_key")]),
    "misspelt call": (single(call={"tool": "t", "args": {}}), [("/call/args", "unknown_key")]),
    "a call that is none": (single(call="t"), [("/call", "wrong_type")]),
    "no principal": (single(call={"tool": "t", "principal": "alice"}), [("/call/principal", "wrong_type")]),
    "roles": (single(call={"tool": "t", "principal": {"roles": "admin"}}), [("/call/principal/roles", "wrong_type")]),
    "claims": (single(call={"tool": "t", "principal": {"claims": []}}), [("/call/principal/claims", "wrong_type")]),
    "an id": (single(call={"tool": "t", "principal": {"id": 1}}), [("/call/principal/id", "wrong_type")]),
    "a float": (
        single(call={"tool": "t", "arguments": {"a": {"$float": "1"}}}),
        [("/call/arguments/a", "invalid_value")],
    ),
    "a nest": (single(call={"tool": "t", "arguments": {"a": {"$nest": -1}}}), [("/call/arguments/a", "invalid_value")]),
    "a bomb": (
        single(call={"tool": "t", "arguments": [{"$repeat": ["ab", 10**9]}]}),
        [("/call/arguments/0", "invalid_value")],
    ),
    "window": (single(window="soon"), [("/window", "invalid_value")]),
    "policy": (single(policy=1), [("/policy", "wrong_type")]),
    "policy without a name": (single(policy=""), [("/policy", "invalid_value")]),
    "policy with a null": (single(policy="a\0"), [("/policy", "invalid_value")]),
    "no steps": (sequence(), [("/steps", "invalid_value")]),
    "steps that expect nothing": (sequence({"do": "approve"}), [("/steps", "invalid_value")]),
    "no step": (sequence(1), [("/steps/0", "wrong_type")]),  # type: ignore[arg-type]
    "unknown act": (sequence(step(do="refuse")), [("/steps/0/do", "invalid_value")]),
    "an approval with a call": (sequence(step(), step(do="approve")), [("/steps/1/call", "unknown_key")] * 1),
    "never": (sequence(step(times=0)), [("/steps/0/times", "invalid_value")]),
    "true times": (sequence(step(times=True)), [("/steps/0/times", "wrong_type")]),
    "no time": (sequence(step(at="1 min")), [("/steps/0/at", "invalid_value")]),
    "before the beginning": (sequence(step(at=-1)), [("/steps/0/at", "invalid_value")]),
    "a text": (load(text=1), [("/text", "wrong_type")]),
    "no problems": (without(load(), "problems"), [("", "missing_key")]),
    "problems": (load(problems={}), [("/problems", "wrong_type")]),
    "a problem": (load(problems=[{"pointer": ""}]), [("/problems/0", "missing_key")]),
    "a problem's code": (load(problems=[{"pointer": "", "code": "x"}]), [("/problems/0/code", "invalid_value")]),
    "a load with a policy": (load(policy={}), [("/policy", "unknown_key")]),
    "no columns": (without(table(), "columns"), [("", "missing_key")]),
    "empty columns": (table(columns=[], rows=[[]]), [("/columns", "invalid_value")]),
    "no rows": (table(rows=[]), [("/rows", "invalid_value")]),
    "a short row": (table(rows=[[1, "allow"], [1]]), [("/rows/1", "invalid_value")]),
    "a row that is none": (table(rows=[1]), [("/rows/0", "invalid_value")]),
    "unknown column": (table(columns=["args.a", "efect"]), [("/columns/1", "invalid_path")]),
    "a column of a category": (table(columns=["tool.category", "effect"]), [("/columns/0", "invalid_path")]),
    "a column of elements": (table(columns=["args.a[*]", "effect"]), [("/columns/0", "invalid_path")]),
    "a column twice": (table(columns=["effect", "effect"]), [("/columns/1", "conflict")]),
    "a column in a column": (table(columns=["args.a", "args.a.b"]), [("/columns/1", "conflict")]),
    "a column that is no text": (table(columns=[1, "effect"]), [("/columns/0", "wrong_type")]),
    "rows that expect nothing": (table(columns=["args.a"], rows=[[1]]), [("/rows/0", "invalid_value")]),
    "a row that expects nothing": (table(rows=[[1, None]]), [("/rows/0", "invalid_value")]),
    "a cell": (table(rows=[[1, "allow"], [1, "alow"]]), [("/rows/1/1", "invalid_value")]),
    "a cell of a name": (table(columns=["name", "effect"], rows=[["", "allow"]]), [("/rows/0/0", "invalid_value")]),
    "a table without a tool": (table(call={}), [("/rows/0", "missing_key")]),
}


@pytest.mark.parametrize(("raw", "expected"), REFUSED.values(), ids=REFUSED)
def test_what_is_wrong_is_said_with_its_place(raw: Any, expected: list[tuple[str, str]]) -> None:
    found = refused(json.dumps({"policy": "policy.json", "cases": [raw]}))
    assert {(f"/cases/0{pointer}", code) for pointer, code in expected} <= set(found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [("", "invalid_json")]),
        ("[]", [("", "wrong_type")]),
        ("{}", [("", "missing_key")]),
        ('{"cases": []}', [("/cases", "invalid_value")]),
        ('{"cases": {}}', [("/cases", "wrong_type")]),
        ('{"cases": [], "cases": []}', [("/cases", "duplicate_key"), ("/cases", "invalid_value")]),
        ('{"polcy": "p", "cases": [{"name": "a", "text": "", "problems": []}]}', [("/polcy", "unknown_key")]),
        ('{"cases": [{"name": "a", "call": {"tool": "t"}, "expect": {"effect": "deny"}}]}', [("", "missing_key")]),
    ],
)
def test_a_file_that_is_none(text: str, expected: list[tuple[str, str]]) -> None:
    assert refused(text) == expected


def test_all_problems_at_once_in_the_order_of_the_text_with_what_was_meant() -> None:
    text = json.dumps({"policy": "p", "cases": [single(expct={}), single(name=1, call={"tol": 1})]}, indent=1)
    with pytest.raises(CaseFileError) as caught:
        parse_cases("dir/x.policytest.json", text)
    said = str(caught.value).splitlines()
    assert [line.split(": ")[0] for line in said] == [
        f"dir/x.policytest.json:{place}" for place in ("12:4", "15:12", "16:12", "17:5")
    ]
    assert "did you mean `expect`?" in said[0]
    assert "did you mean `tool`?" in said[3]


# -- where values stand


def test_spans_find_every_value() -> None:
    text = ' { "a/b" : [ 1 , {"c~d": "x\\" ]"} , [] ],\n"e":{},"f" : null } '
    found = spans(text, ["", "/a~1b", "/a~1b/0", "/a~1b/1/c~0d", "/a~1b/2", "/e", "/f", "/g", "/a~1b/7", "/f/0"])
    values = {pointer: json.loads(text[place.start : place.end]) for pointer, place in found.items()}
    assert values == {
        "": json.loads(text),
        "/a~1b": [1, {"c~d": 'x" ]'}, []],
        "/a~1b/0": 1,
        "/a~1b/1/c~0d": 'x" ]',
        "/a~1b/2": [],
        "/e": {},
        "/f": None,
    }
