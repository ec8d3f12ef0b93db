"""Converted policies: valid, told in full, and never looser than the original in any reading of it."""

from __future__ import annotations

import itertools
import json
import random
import re
from contextlib import suppress
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_policy import Policy, PolicyEngine, PolicyError, ToolCall
from mcp_policy.conversion import Conversion, convert
from mcp_policy.conversion.dialect import from_go
from mcp_policy.operators import OPERATORS
from mcp_policy.regexes import compile_regex

Tree = dict[str, Any]


def converted(tree: object) -> Conversion:
    conversion = convert(json.dumps(tree), "json")
    assert (conversion.document is None) == any(note.kind == "refused" for note in conversion.notes)
    if conversion.document is not None:
        Policy.model_validate(conversion.document)
    assert all(note.line and note.column and "\n" not in note.message for note in conversion.notes)
    return conversion


def one_rule(rule: Tree, tool: str = "t", **keys: Any) -> Conversion:
    return converted({"version": "1", "default": "allow", "tools": {tool: {"rules": [rule]}}, **keys})


def codes(conversion: Conversion) -> set[str]:
    return {note.code for note in conversion.notes}


def condition(op: str, value: Any, path: str = "args.x") -> Tree:
    return {"conditions": [{"path": path, "op": op, "value": value}]}


# -- the document

YAML = """
version: "1"
description: payments
hide: [delete_customer]
tools:
  create_charge:
    rules:
      - name: one charge
        conditions:
          - {path: args.amount, op: lte, value: 50000}
          - {path: args.currency, op: in, value: [usd, eur]}
        on_deny: at most 500.00
      - name: a day
        conditions:
          - {path: state.create_charge.spent, op: lte, value: 1000000}
        state: {counter: spent, window: day, increment_from: args.amount}
  create_refund:
    rules:
      - rate_limit: 10/hour
        on_deny: ten refunds an hour
  list_charges: {}
  delete_product:
    rules: [{action: deny, on_deny: never}]
  pay_out:
    rules: [{action: require_approval}]
  "*":
    rules:
      - rate_limit: 60/minute
"""


def test_a_whole_document():
    conversion = convert(YAML)
    assert conversion.document == {
        "version": "1",
        "description": "payments",
        "default": "allow",
        "hide": ["delete_customer"],
        "all_tools": {"limits": [{"max": 60, "window": "minute", "per": "global"}]},
        "tools": {
            "create_charge": [
                {
                    "reason": "at most 500.00",
                    "require": [
                        {"path": "args.amount", "op": "lte", "value": 50000},
                        {"path": "args.currency", "op": "in", "value": ["usd", "eur"]},
                    ],
                },
                {
                    "reason": "a day",
                    "limits": [
                        {
                            "max": 1000000,
                            "window": "day",
                            "per": "global",
                            "counter": "create_charge.spent",
                            "cost": "args.amount",
                        }
                    ],
                },
            ],
            "create_refund": {
                "reason": "ten refunds an hour",
                "limits": [{"max": 10, "window": "hour", "per": "global"}],
            },
            "list_charges": {},
            "delete_product": {"action": "deny", "reason": "never"},
            "pay_out": {"action": "approve"},
        },
    }
    assert [(note.code, note.kind, note.line) for note in conversion.notes] == [
        ("default_allow", "differs", 2),
        ("hide", "differs", 4),
        ("rule_name", "differs", 8),
        ("absent", "stricter", 10),
        ("types", "stricter", 10),
        ("counts", "differs", 16),
        ("window", "stricter", 16),
        ("wildcard", "differs", 26),
    ]


def test_json_of_the_same_shape():
    tree = {"version": "1", "tools": {"t": {"rules": [{"rate_limit": "5/hour"}]}}}
    assert converted(tree).document == convert(json.dumps(tree)).document


def test_the_default_is_written_out():
    assert converted({"version": "1"}).document == {"version": "1", "default": "allow"}
    assert codes(converted({"version": "1"})) == {"default_allow"}
    for default in ("allow", "deny"):
        conversion = converted({"version": 1, "default": default})
        assert conversion == Conversion({"version": "1", "default": default}, ())


def test_a_rule_for_every_tool_lists_none():
    conversion = one_rule({"rate_limit": "5/hour"}, "*", default="deny")
    assert conversion.document == {
        "version": "1",
        "default": "deny",
        "all_tools": {"limits": [{"max": 5, "window": "hour", "per": "global"}]},
    }
    assert {"wildcard", "wildcard_deny"} <= codes(conversion)


def test_rules_for_every_tool_become_one():
    rules = [
        {"rate_limit": "5/hour", "on_deny": "a"},
        {**condition("eq", 1), "name": "b"},
        {"action": "require_approval", "on_deny": "c"},
        {},
    ]
    assert converted({"version": "1", "tools": {"*": {"rules": rules}}}).document == {
        "version": "1",
        "default": "allow",
        "all_tools": {
            "action": "approve",
            "reason": "c",
            "require": [{"path": "args.x", "op": "eq", "value": 1, "reason": "b"}],
            "limits": [{"max": 5, "window": "hour", "per": "global", "reason": "a"}],
        },
    }
    denied = converted({"version": "1", "tools": {"*": {"rules": [{}, {"action": "deny"}]}}})
    assert denied.document == {"version": "1", "default": "allow", "all_tools": {"action": "deny"}}


def test_a_name_with_a_star_is_a_pattern():
    assert "pattern" in codes(one_rule({"action": "deny"}, "delete_*"))
    assert one_rule({"action": "deny"}, "delete_*").document
    assert not one_rule({}, "get_?", default="deny").document
    assert "pattern" in codes(converted({"version": "1", "hide": ["a*"]}))


def test_denying_always_needs_no_condition():
    conversion = one_rule({"action": "deny", **condition("nonsense", 1), "rate_limit": "1/day"})
    assert conversion.document["tools"] == {"t": {"action": "deny"}}
    assert [note.pointer for note in conversion.notes if note.code == "denied_always"] == [
        "/tools/t/rules/0/conditions",
        "/tools/t/rules/0/rate_limit",
    ]


@pytest.mark.parametrize("said", ["no {{args.x}}", "no ${x}", "no %(x)s"])
def test_templates_are_told(said):
    conversion = one_rule({"action": "deny", "on_deny": said})
    assert conversion.document["tools"]["t"]["reason"] == said
    assert "template" in codes(conversion)
    assert not codes(one_rule({"action": "deny", "on_deny": "no {x}"}))


# -- conditions


@pytest.mark.parametrize(
    ("path", "written"),
    [
        ("args.a", "args.a"),
        ("args.a.b-c.0", "args.a.b-c.0"),
        ("args.a b.c", 'args["a b"].c'),
        ("args.it's", 'args["it\'s"]'),
    ],
)
def test_paths(path, written):
    conversion = one_rule(condition("eq", 1, path))
    assert conversion.document["tools"]["t"]["require"] == [{"path": written, "op": "eq", "value": 1}]


@pytest.mark.parametrize(
    "path",
    ["args", "args.", "args..a", "a", "args[0]", "args.a[0]", "args.*", "env.X", "tool.name", "", 5, None, ["a"]],
)
def test_paths_that_lead_elsewhere_are_refused(path):
    conversion = one_rule(condition("eq", 1, path))
    assert [(note.code, note.pointer) for note in conversion.notes if note.kind == "refused"] == [
        ("path", "/tools/t/rules/0/conditions/0/path")
    ]


@pytest.mark.parametrize(
    ("op", "value", "guard"),
    [
        ("neq", "usd", None),
        ("neq", "5", ("starts_with", "")),
        ("neq", "", ("starts_with", "")),
        ("neq", "True", ("starts_with", "")),
        ("neq", 5, ("lte", 1.7976931348623157e308)),
        ("neq", True, ("in", [True, False])),
        ("not_in", ["a", "b"], None),
        ("not_in", ["a", "1"], ("starts_with", "")),
        ("not_in", [1, 2.5], ("lte", 1.7976931348623157e308)),
        ("not_in", [], None),
    ],
)
def test_what_differs_has_to_be_of_the_same_type(op, value, guard):
    conversion = one_rule(condition(op, value))
    kept = {"path": "args.x", "op": op, "value": value}
    guards = [{"path": "args.x", "op": guard[0], "value": guard[1]}] if guard else []
    assert conversion.document["tools"]["t"]["require"] == [*guards, kept]
    assert ("same_type" in codes(conversion)) == bool(guard)


@pytest.mark.parametrize(
    ("op", "value"),
    [
        ("exists", False),
        ("exists", "yes"),
        ("lt", "5"),
        ("gte", True),
        ("lt", 2**53),
        ("gt", 10**400),
        ("neq", 2**53),
        ("neq", [1]),
        ("not_in", ["1", 1]),
        ("not_in", [[1]]),
        ("in", "usd"),
        ("in", [None]),
        ("eq", None),
        ("contains", ["a"]),
        ("regex", "("),
        ("regex", "a(?=b)"),
        ("regex", r"\Qa\E"),
        ("regex", 5),
    ],
)
def test_values_that_cannot_be_kept_are_refused(op, value):
    conversion = one_rule(condition(op, value))
    assert [(note.code, note.pointer) for note in conversion.notes if note.kind == "refused"] == [
        ("value", "/tools/t/rules/0/conditions/0/value")
    ]


def test_an_operator_that_does_not_exist_is_refused_with_what_was_meant():
    (note,) = one_rule(condition("lte=", 1)).notes
    assert note.message == "the operator is the string `lte=`; did you mean `lte`?"
    (note,) = one_rule(condition("not_regex", "a")).notes
    assert note.code == "operator"
    (note,) = one_rule({"conditions": [{"path": "args.x", "op": "eq"}]}).notes
    assert note.message == "`eq`: it has no `value`"


# -- counting


@pytest.mark.parametrize(
    ("op", "value", "most"),
    [("lte", 5, 5), ("lt", 5, 4), ("lt", 0.5, 0.499999), ("lt", 0, 0), ("lte", -3, 0), ("lte", 1e12, 9_000_000_000), ("lt", 10**400, 9_000_000_000)],
)  # fmt: skip
def test_a_bound_on_a_counter(op, value, most):
    conversion = one_rule({**condition(op, value, "state.t.c"), "state": {"counter": "c", "window": "day"}})
    assert conversion.document["tools"]["t"]["limits"] == [
        {"max": most, "window": "day", "per": "global", "counter": "t.c"}
    ]


def test_a_counter_of_another_tool_is_read_and_not_counted():
    rules = {
        "pay": {"rules": [{"state": {"counter": "c", "window": "hour", "increment": 2}}]},
        "ask": {"rules": [condition("lt", 10, "state.pay.c")]},
    }
    document = converted({"version": "1", "tools": rules}).document
    shared = {"window": "hour", "per": "global", "counter": "pay.c"}
    assert document["tools"] == {
        "pay": {"limits": [{"max": 9_000_000_000, **shared, "cost": 2}]},
        "ask": {"limits": [{"max": 9, **shared, "cost": 0}]},
    }


def test_the_counter_of_every_tool_has_two_names():
    for name in ("state.*.c", "state._global.c"):
        rule = {**condition("lte", 3, name), "state": {"counter": "c", "window": "minute"}}
        assert one_rule(rule, "*").document["all_tools"]["limits"][0]["counter"] == "*.c"


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        (condition("lte", 5, "state.t.c"), "counter"),
        ({**condition("gt", 5, "state.t.c"), "state": {"counter": "c", "window": "day"}}, "counter"),
        ({**condition("lte", "5", "state.t.c"), "state": {"counter": "c", "window": "day"}}, "counter"),
        ({"state": {"counter": "c", "window": "week"}}, "window"),
        ({"state": {"counter": "c.d", "window": "day"}}, "invalid"),
        ({"state": {"window": "day"}}, "invalid"),
        ({"state": []}, "invalid"),
        ({"state": {"counter": "c", "window": "day", "increment": -1}}, "counter"),
        ({"state": {"counter": "c", "window": "day", "increment": 1, "increment_from": "args.x"}}, "counter"),
        ({"state": {"counter": "c", "window": "day", "increment_from": "x"}}, "path"),
        ({"state": {"counter": "c", "window": "day", "reset": 1}}, "unknown_key"),
        ({"rate_limit": "5/week"}, "window"),
        ({"rate_limit": "5"}, "window"),
        ({"rate_limit": "-5/day"}, "window"),
        ({"rate_limit": 5}, "window"),
    ],
)
def test_counts_that_cannot_be_kept_are_refused(rule, code):
    conversion = one_rule(rule)
    assert conversion.document is None
    assert code in codes(conversion)


def test_a_counter_that_counts_a_call_twice_is_refused():
    state = {"state": {"counter": "c", "window": "day"}}
    conversion = converted({"version": "1", "tools": {"t": {"rules": [state, state]}}})
    assert [(note.code, note.pointer) for note in conversion.notes if note.kind == "refused"] == [
        ("counter", "/tools/t/rules/1/state")
    ]


@pytest.mark.parametrize("where", ["rule", "state"])
def test_a_scope_becomes_one_count_for_all(where):
    state = {"counter": "c", "window": "day", **({"scope": "grant"} if where == "state" else {})}
    conversion = one_rule({"state": state, **({"scope": "grant"} if where == "rule" else {})})
    assert conversion.document["tools"]["t"]["limits"][0]["per"] == "global"
    assert "scope" in codes(conversion)
    assert "scope" not in codes(one_rule({"rate_limit": "1/day", "scope": "global"}))


# -- what is refused, and that all of it is told


@pytest.mark.parametrize(
    "tree",
    [
        None,
        [],
        "x",
        {},
        {"version": "2"},
        {"version": True},
        {"version": "1", "default": "ask"},
        {"version": "1", "default": []},
        {"version": "1", "hide": "x"},
        {"version": "1", "hide": [5]},
        {"version": "1", "hide": [""]},
        {"version": "1", "tools": []},
        {"version": "1", "tools": {"t": None}},
        {"version": "1", "tools": {"t": {"rules": {}}}},
        {"version": "1", "tools": {"t": {"rules": [5]}}},
        {"version": "1", "tools": {"t": {"rules": [{"conditions": {}}]}}},
        {"version": "1", "tools": {"t": {"rules": [{"conditions": [5]}]}}},
        {"version": "1", "tools": {"t": {"rules": [{"on_deny": 5}]}}},
        {"version": "1", "tools": {"t": {"rules": [{"action": "log"}]}}},
        {"version": "1", "tools": {"t": {"rules": [{"action": 5}]}}},
        {"version": "1", "tools": {"t": {"rules": [{"action": "require_approval", **condition("eq", 1)}]}}},
        {"version": "1", "tools": {"": {}}},
        {"version": "1", "tools": {"a\nb": {}}},
        {"version": "1", "tools": {"a" * 300: {}}},
        {"version": "1", "description": 5},
        {"version": "1", "approvals": {}},
        {"version": "1", "tools": {"t": {"rules": [], "enabled": False}}},
        {"version": "1", "tools": {"t": {"rules": [{"unless": []}]}}},
        {"version": "1", "tools": {"t": {"require": []}}},
    ],
)
def test_what_is_no_policy_of_theirs_is_refused(tree):
    assert converted(tree).document is None


def test_every_reason_is_told_at_once_and_before_the_rest():
    tree = {
        "hide": ["x"],
        "version": "2",
        "mode": "x",
        "tools": {"t": {"rules": [condition("like", 1), {"rate_limit": 5}]}},
    }
    conversion = converted(tree)
    assert [note.code for note in conversion.notes] == [
        "version",
        "unknown_key",
        "operator",
        "window",
        "default_allow",
        "hide",
    ]


def test_what_is_not_read_at_all():
    with pytest.raises(PolicyError, match="duplicate_key"):
        convert('version: "1"\nversion: "1"\n')
    with pytest.raises(PolicyError, match="an anchor"):
        convert("a: &x 1\nb: *x\n")
    with pytest.raises(PolicyError):
        convert("{", "json")


# -- regular expressions


@pytest.mark.parametrize(
    ("go", "ours"),
    [
        ("^[a-z]+$", "^[a-z]+$"),
        (r"\d\D\w\W", "[0-9][^0-9][0-9A-Za-z_][^0-9A-Za-z_]"),
        (r"\s\S", r"[\t\n\f\r ][^\t\n\f\r ]"),
        (r"[\d_\D]", "[0-9_[^0-9]]"),
        (r"\bx\B", r"(?-u:\b)x(?-u:\B)"),
        (r"[a[b]", r"[a\[b]"),
        (r"[]a]", r"[\]a]"),
        (r"[^]a]", r"[^\]a]"),
        ("[a&&b~~c]", r"[a\&\&b\~\~c]"),
        ("[+--]", r"[+-\-]"),
        ("[a-]", r"[a\-]"),
        ("[--/]", r"[\--/]"),
        ("[[:alpha:]_]", "[[:alpha:]_]"),
        (r"[\]\\]", r"[\]\\]"),
        ("a{2,3}b{4}c{5,}", "a{2,3}b{4}c{5,}"),
        ("a{,3}{x}", r"a\{,3}\{x}"),
        (r"\<b\>", "<b>"),
        (r"[\<]", "[<]"),
        (r"\x{41}\pL\p{Greek}\x41", r"\x{41}\pL\p{Greek}\x41"),
        (r"(?i)(?P<n>a|b)*?\.", r"(?i)(?P<n>a|b)*?\."),
        ("[a", "[a"),
        ("\\", "\\"),
        ("", ""),
    ],
)
def test_patterns_of_go(go, ours):
    assert from_go(go) == ours


SUBJECTS = [
    "a",
    "5",
    "_",
    " ",
    "\v",
    "\n",
    "\u0663",
    "é",
    "ſ",
    "\u00a0",
    "[",
    "&",
    "~",
    "-",
    ",",
    "a{,3}",
    "a.b",
    "b\n",
    "É_",
    "x{",
    "<b>",
]


@pytest.mark.parametrize("pattern", [r"^\d$", r"^\w+$", r"^[^\w]$", r"^\W$", r"\ba", r"\b.\b", "^[&~-]$", "^a{,3}$", "^[^a-z]$", r"^[\d\-]$", "^.$", r"\<b\>", "x{$"])  # fmt: skip
def test_patterns_find_what_they_find_in_ascii_mode(pattern):
    """Python's engine in ASCII mode stands for Go's; it differs where it takes `{,n}` for a repetition."""
    ours, theirs = (
        compile_regex(from_go(pattern)),
        re.compile(pattern.replace("{,", r"\{,").replace("$", r"\Z"), re.ASCII),
    )
    for subject in SUBJECTS:
        assert ours(subject) == bool(theirs.search(subject)), subject


@given(st.text("ab09[]{}^$-&~\\dwsbDWSpx().|*+?,:<>Q \u0663", max_size=12))
def test_any_pattern_is_written_or_refused(pattern):
    with suppress(ValueError):
        compile_regex(from_go(pattern))
    assert isinstance(from_go(pattern), str)


# -- never looser


class Reading(NamedTuple):
    """One way to understand what the original leaves open. Only the strictest of each pair was converted."""

    coerces: bool
    """A number and a text that reads as it are equal, and such a text is less or more than a number as it would be."""
    counts_first: bool
    """A count includes the call that is decided."""
    absent_differs: bool
    """An absent argument is unlike any value, instead of failing each condition."""
    null_is_given: bool


READINGS = [Reading(*flags) for flags in itertools.product((False, True), repeat=4)]
ABSENT = object()


def same(one: Any, other: Any, reading: Reading) -> bool:
    if isinstance(one, str) and isinstance(other, str):
        return one == other
    if isinstance(one, bool) == isinstance(other, bool) and one == other:
        return True
    return reading.coerces and spelt(one) == spelt(other)


def spelt(value: Any) -> str:
    number = as_number(value, True)
    return json.dumps(value).strip('"').lower() if number is None else f"{number!r}"


def as_number(value: Any, coerces: bool) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and not coerces:
        return None
    with suppress(ValueError):
        return float(value)
    return None


def compares(found: Any, op: str, value: Any, reading: Reading) -> bool:
    number = as_number(found, reading.coerces)
    if number is None:
        return False
    return {"lt": number < value, "lte": number <= value, "gt": number > value, "gte": number >= value}[op]


def holds(found: Any, op: str, value: Any, reading: Reading) -> bool:
    if found is None and not reading.null_is_given:
        found = ABSENT
    if op == "exists":
        return (found is not ABSENT) == value
    if found is ABSENT or found is None:
        return reading.absent_differs and op in ("neq", "not_in")
    if op in ("eq", "neq"):
        return same(found, value, reading) == (op == "eq")
    if op in ("in", "not_in"):
        return any(same(found, one, reading) for one in value) == (op == "in")
    if op == "contains":
        text = isinstance(found, str) and isinstance(value, str) and value in found
        return text or (isinstance(found, list) and any(same(one, value, reading) for one in found))
    if op == "regex":
        return isinstance(found, str) and re.search(value.replace("$", r"\Z"), found, re.ASCII) is not None
    return compares(found, op, value, reading)


class Original:
    """The original, evaluated as naively as can be. It counts the calls that are said to have run, by calendar."""

    def __init__(self, policy: Tree) -> None:
        self.policy = policy
        self.runs: list[tuple[float, str, Tree]] = []

    def rules(self, tool: str) -> list[tuple[str, Tree]]:
        tools = self.policy["tools"]
        return [(name, rule) for name in (tool, "*") if name in tools for rule in tools[name].get("rules", [])]

    def allows(self, now: float, tool: str, arguments: Tree, reading: Reading) -> bool:
        if tool in self.policy.get("hide", []):
            return False
        if tool not in self.policy["tools"] and self.policy.get("default", "allow") == "deny":
            return False
        return all(self.passes(name, rule, now, tool, arguments, reading) for name, rule in self.rules(tool))

    def passes(self, name: str, rule: Tree, now: float, tool: str, arguments: Tree, reading: Reading) -> bool:
        if rule.get("action") == "deny":
            return False
        if "rate_limit" in rule:
            most, _, window = rule["rate_limit"].partition("/")
            if sum(1 for run in self.within(window, now) if name in (run[1], "*")) >= int(most):
                return False
        return all(self.meets(one, now, tool, arguments, reading) for one in rule.get("conditions", []))

    def meets(self, one: Tree, now: float, tool: str, arguments: Tree, reading: Reading) -> bool:
        found: Any = arguments
        if one["path"].startswith("state."):
            _, counted, counter = one["path"].split(".")
            found = self.count(counted, counter, now)
            if reading.counts_first:
                found += self.cost(counted, counter, tool, arguments)
            return holds(found, one["op"], one["value"], reading)
        for key in one["path"].split(".")[1:]:
            found = found.get(key, ABSENT) if isinstance(found, dict) else ABSENT
        return holds(found, one["op"], one["value"], reading)

    def within(self, window: str, now: float) -> list[tuple[float, str, Tree]]:
        seconds = {"minute": 60, "hour": 3_600, "day": 86_400}[window]
        return [run for run in self.runs if run[0] // seconds == now // seconds]

    def count(self, counted: str, counter: str, now: float) -> float:
        states = [rule["state"] for rule in self.policy["tools"][counted]["rules"] if "state" in rule]
        window = next(state["window"] for state in states if state["counter"] == counter)
        return sum(self.cost(counted, counter, tool, arguments) for _, tool, arguments in self.within(window, now))

    def cost(self, counted: str, counter: str, tool: str, arguments: Tree) -> float:
        if counted not in (tool, "*"):
            return 0
        states = [rule.get("state", {}) for rule in self.policy["tools"][counted]["rules"]]
        state = next(state for state in states if state.get("counter") == counter)
        if "increment_from" in state:
            return as_number(arguments.get(state["increment_from"].removeprefix("args.")), False) or 0
        return state.get("increment", 1)


VALUES = (0, 1, 2, 5, 2.5, -1, "a", "ab", "5", "5.0", "", "true", True, False, "usd")
PATTERNS = (r"^\d+$", "^[a-z]+$", r"\w", "a|b", r"^\S*$")
FOUND = (*VALUES, None, [1], ["a", "5"], {"y": 1}, {"y": "a"}, "1e0", "\u0663", "01", 10**20, 1e300, [], {})


class Maker:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.pick = self.random.choice

    def condition(self) -> Tree:
        op = self.pick(("eq", "neq", "in", "not_in", "lt", "lte", "gt", "gte", "regex", "contains", "exists"))
        value: Any = self.pick(VALUES)
        if op in ("in", "not_in"):
            value = [self.pick(VALUES[:6]) for _ in range(2)] if self.random.random() < 0.5 else ["a", "5", "usd"]
        elif op in ("lt", "lte", "gt", "gte"):
            value = self.pick(VALUES[:6])
        elif op == "regex":
            value = self.pick(PATTERNS)
        elif op == "exists":
            value = True
        return {"path": self.pick(("args.x", "args.x", "args.x.y", "args.z")), "op": op, "value": value}

    def rule(self, tool: str, counters: list[str]) -> Tree:
        made: Tree = {}
        if self.random.random() < 0.06:
            return {"action": "deny"}
        if self.random.random() < 0.4:
            made["conditions"] = [self.condition() for _ in range(self.random.randint(1, 2))]
        if self.random.random() < 0.25:
            made["rate_limit"] = f"{self.pick((0, 1, 2, 3))}/{self.pick(('minute', 'hour', 'day'))}"
        if self.random.random() < 0.3 and counters:
            name = counters.pop()
            made["state"] = {"counter": name, "window": self.pick(("minute", "hour"))}
            made["state"] |= self.pick(({}, {"increment": 2}, {"increment_from": "args.n"}, {"increment": 0.5}))
            bound = {"path": f"state.{tool}.{name}", "op": self.pick(("lt", "lte")), "value": self.pick((1, 2, 3, 2.5))}
            made.setdefault("conditions", []).append(bound)
        return made

    def policy(self) -> Tree:
        made: Tree = {"version": "1", "tools": {}}
        for tool in self.random.sample(("a", "b", "c", "*"), self.random.randint(1, 3)):
            counters = ["k", "l"]
            rules = [self.rule(tool, counters) for _ in range(self.random.randint(0, 3))]
            made["tools"][tool] = {"rules": rules}
        counted = [
            (tool, rule["state"]["counter"])
            for tool, entry in made["tools"].items()
            for rule in entry["rules"]
            if "state" in rule
        ]
        if counted and self.random.random() < 0.5:
            tool, counter = self.pick(counted)
            reader = {"path": f"state.{tool}.{counter}", "op": "lt", "value": self.pick((1, 2))}
            made["tools"].setdefault("b", {"rules": []})["rules"].append({"conditions": [reader]})
        if self.random.random() < 0.5:
            made["default"] = self.pick(("allow", "deny"))
        if self.random.random() < 0.1:
            made["hide"] = ["a"]
        return made

    def call(self) -> tuple[str, Tree]:
        arguments = {key: self.pick(FOUND) for key in ("x", "z") if self.random.random() < 0.85}
        if self.random.random() < 0.8:
            arguments["n"] = self.pick((0, 1, 1, 2, 0.5))
        return self.pick(("a", "b", "c", "d")), arguments


class Clock:
    now = 0.0


def play(seed: int, steps: int = 30) -> tuple[int, bool]:
    """Play calls on a converted policy and compare each that is allowed; return how many were, and if it was made."""
    maker, clock = Maker(seed), Clock()
    policy = maker.policy()
    document = converted(policy).document
    if document is None:
        return 0, False
    original, allowed = Original(policy), 0
    engine = PolicyEngine(Policy.model_validate(document), clock=lambda: clock.now)
    for _ in range(steps):
        clock.now += maker.pick((0, 1, 20, 40, 61, 2000))
        tool, arguments = maker.call()
        if engine.authorize(ToolCall(tool, arguments)).allowed:
            allowed += 1
            for reading in READINGS:
                assert original.allows(clock.now, tool, arguments, reading), (seed, policy, tool, arguments, reading)
            original.runs.append((clock.now, tool, arguments))
    return allowed, True


@given(st.integers(0, 10**9))
def test_no_call_is_allowed_that_the_original_denies_in_any_reading(seed):
    play(seed)


def test_and_that_is_not_because_nothing_is_allowed():
    played = [play(seed) for seed in range(60)]
    assert sum(made for _, made in played) > 30
    assert sum(allowed for allowed, _ in played) > 300


# -- anything at all

WORDS = [
    "version",
    "default",
    "hide",
    "tools",
    "rules",
    "name",
    "action",
    "conditions",
    "on_deny",
    "state",
    "rate_limit",
    "scope",
    "path",
    "op",
    "value",
    "counter",
    "window",
    "increment",
    "increment_from",
    "evaluate",
    "deny",
    "require_approval",
    "allow",
    "eq",
    "neq",
    "in",
    "not_in",
    "lt",
    "regex",
    "exists",
    "args.x",
    "state.t.c",
    "t",
    "*",
    "1",
    "5/hour",
    "day",
    "minute",
    "c",
]
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=4) | st.sampled_from([*WORDS, *OPERATORS])
)  # fmt: skip
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=3), inner, max_size=5)
    ),
    max_leaves=16,
)


@st.composite
def mutants(draw: st.DrawFn) -> Tree:
    """A policy of theirs with some things in it changed."""
    tree = Maker(draw(st.integers(0, 10**6))).policy()
    for _ in range(draw(st.integers(1, 3))):
        holder: Any = tree
        while isinstance(holder, dict | list) and holder:
            key = draw(st.sampled_from(list(holder) if isinstance(holder, dict) else range(len(holder))))
            if not isinstance(holder[key], dict | list) or not holder[key] or draw(st.integers(0, 5)) == 0:
                holder[key] = draw(TREES)
                break
            holder = holder[key]
    return tree


@given(mutants() | TREES | TREES.map(lambda tree: {"version": "1", "tools": {"t": {"rules": [tree]}}}))
def test_anything_converts_to_a_valid_document_or_says_why_not(tree):
    conversion = converted(tree)
    assert conversion.document is not None or conversion.notes


@given(st.text(max_size=30) | st.text('{}[]:-"\n ab1,&*!', max_size=30) | st.binary(max_size=20))
def test_any_text_converts_or_says_why_not(text):
    with suppress(PolicyError):
        convert(text)
