"""Each kind of finding: a fault of that kind that is found where it stands, and a sibling without it that is not."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mcp_policy import Policy
from mcp_policy.checks import CODES, Finding, check

Tree = dict[str, Any]
ABOUT_SUPPRESSIONS = {"unused_suppression"}  # found in another file: test_suppression.py


def document(**keys: Any) -> Tree:
    return {"version": "1", **keys}


def rule(**keys: Any) -> Tree:
    """Return a document with one rule, for the tool `t`."""
    return document(tools={"t": keys})


def condition(path: str, op: str, value: Any = None, **keys: Any) -> Tree:
    given = {} if "value_from" in keys else {"value": value}
    return {"path": path, "op": op, **given, **keys}


def limit(most: float = 5, window: int | str = 60, per: Any = "principal", **keys: Any) -> Tree:
    return {"max": most, "window": window, "per": per, **keys}


def tool(name: str, required: tuple[str, ...] = (), /, **properties: Any) -> Tree:
    schema = {"type": "object", "properties": properties, "required": list(required)}
    return {"name": name, "description": "", "inputSchema": schema}


FILES = [
    tool(
        "t",
        ("path",),
        path={"type": "string"},
        mode={"type": "string", "enum": ["fast", "slow"]},
        depth={"type": "integer"},
        force={"type": "boolean"},
        tags={"type": "array", "items": {"type": "string"}},
        filter={"type": "object", "properties": {"size": {"type": "number"}}},
    ),
    tool("list_files"),
    tool("read_file", ("path",), path={"type": "string"}),
]


def found(tree: Tree, tools: list[Tree] | None = None, server: str | None = None) -> tuple[Finding, ...]:
    return check(Policy.model_validate(tree), tools, server=server)


def codes(tree: Tree, tools: list[Tree] | None = None, server: str | None = None) -> set[str]:
    return {one.code for one in found(tree, tools, server)}


class Fault(NamedTuple):
    """A document with a fault, where the fault is, and the document without it."""

    code: str
    pointer: str
    wrong: Tree
    right: Tree
    tools: list[Tree] | None = None
    server: str | None = None


A, B = condition("args.n", "gte", 1), condition("args.n", "lte", 9)
LINE = "args.command"
COUNTERS = {"t": "refunds", "u": "refunds", "v": "refnds"}

FAULTS = [
    # what is listed
    Fault("default_allow", "/default", document(default="allow", tools={"t": {}}), rule()),
    Fault(
        "default_allow",
        "/servers/s/default",
        document(tools={"t": {}}, servers={"s": {"default": "allow"}}),
        document(tools={"t": {}}, servers={"s": {"default": "deny", "tools": {"u": {}}}}),
    ),
    Fault("lists_nothing", "", document(), rule()),
    Fault("lists_nothing", "", document(all_tools={"rate_limit": limit()}), document(categories={"read": {}})),
    Fault("lists_nothing", "", document(servers={"s": {"hide": ["x"]}}), document(servers={"s": {"tools": {"x": {}}}})),
    Fault(
        "unknown_tool", "/tools/read_fil", document(tools={"read_fil": {}}), document(tools={"read_file": {}}), FILES
    ),
    Fault("unknown_tool", "/hide/0", document(hide=["gone"], tools={"t": {}}), document(hide=["list_files"]), FILES),
    Fault(
        "unknown_tool",
        "/tools/*/except/0",
        document(tools={"*": {"except": ["listfiles"]}}),
        document(tools={"*": {"except": ["list_files"]}}),
        FILES,
    ),
    Fault("matches_nothing", "/tools/write_*", document(tools={"write_*": {}}), document(tools={"read_*": {}}), FILES),
    Fault("matches_nothing", "/hide/0", document(hide=["x?"], tools={"t": {}}), document(hide=["?"]), FILES),
    Fault(
        "matches_nothing",
        "/all_tools/except/0",
        document(tools={"t": {}}, all_tools={"except": ["w*"]}),
        document(tools={"t": {}}, all_tools={"except": ["r*"]}),
        FILES,
    ),
    Fault(
        "matches_nothing",
        "/servers/s~1~0/tools/write_*",
        document(servers={"s/~": {"tools": {"write_*": {}}}}),
        document(servers={"s/~": {"tools": {"read_*": {}}}}),
        FILES,
        "s/~",
    ),
    Fault(
        "empty_category",
        "/categories/financial",
        document(categories={"financial": {"action": "approve"}}),
        document(categories={"read": {}}),
        [tool("read_file"), tool("list_files")],
        "files",
    ),
    Fault(
        "hidden_and_listed", "/tools/t", document(hide=["t"], tools={"t": {}}), document(hide=["u"], tools={"t": {}})
    ),
    Fault(
        "hidden_and_listed",
        "/tools/read_x*",
        document(hide=["read_*"], tools={"read_x*": {}}),
        document(hide=["read_y*"], tools={"read_x*": {}}),
    ),
    Fault(
        "hidden_and_listed",
        "/servers/s/tools/t",
        document(servers={"s": {"hide": ["t"], "tools": {"t": {}}}}),
        document(servers={"s": {"hide": ["t"], "tools": {"t": {"action": "deny"}, "u": {}}}}),
    ),
    Fault("never_applies", "/tools/t/except/0", rule(**{"except": ["*"]}), rule(**{"except": []})),
    Fault(
        "never_applies",
        "/tools/read_*/1/except/1",
        document(tools={"read_*": [{}, {"except": ["read_x", "read*"], "rate_limit": "5/minute"}]}),
        document(tools={"read_*": [{}, {"except": ["read_x", "read_y*"], "rate_limit": "5/minute"}]}),
    ),
    Fault(
        "except_without_match",
        "/tools/read_*/except/0",
        document(tools={"read_*": {"except": ["write_x"]}}),
        document(tools={"read_*": {"except": ["read_x"]}}),
    ),
    Fault(
        "except_without_match",
        "/tools/a*/except/0",
        document(tools={"a*": {"except": ["b*"]}}),
        document(tools={"a*": {"except": ["*b"]}}),
    ),
    Fault(
        "shadowed_entry",
        "/tools/read_x",
        document(tools={"read_x": {}, "read_*": {"action": "deny"}}),
        document(tools={"read_x": {}, "read_*": {"action": "deny", "except": ["read_x"]}}),
    ),
    Fault(
        "shadowed_entry",
        "/servers/s/tools/t",
        document(all_tools={"action": "deny"}, servers={"s": {"tools": {"t": {}}}}),
        document(all_tools={"action": "deny", "when": [A]}, servers={"s": {"tools": {"t": {}}}}),
    ),
    Fault(
        "shadowed_entry",
        "/tools/t/0",
        document(tools={"t": [{}, {"action": "deny"}]}),
        document(tools={"t": [{}, {"action": "deny", "mode": "shadow"}]}),
    ),
    Fault(
        "dead_keys",
        "/tools/t/require",
        rule(action="deny", require=[A], rate_limit="5/minute"),
        rule(action="deny", when=[A], reason="no", **{"except": ["u"]}),
    ),
    Fault("dead_keys", "/tools/t/limits", rule(action="hide", limits=[limit()]), rule(action="hide")),
    Fault("duplicate_rule", "/tools/t/1", document(tools={"t": [{}, {}]}), document(tools={"t": [{}, {"when": [A]}]})),
    Fault("empty_section", "/servers/s", document(tools={"t": {}}, servers={"s": {}}), rule()),
    Fault("empty_section", "/tools/t/require", rule(require=[]), rule(require=[A])),
    Fault("empty_section", "/tools/t/limits", rule(limits=[]), rule(limits=[limit()])),
    Fault("shadow_mode", "/mode", document(mode="shadow", tools={"t": {}}), document(mode="enforce", tools={"t": {}})),
    Fault("shadow_rule", "/tools/t/mode", rule(mode="shadow"), rule()),
    # conditions
    Fault(
        "cannot_hold",
        "/tools/t/require/0",
        rule(require=[condition("args.n", "in", [])]),
        rule(require=[condition("args.n", "in", [1])]),
    ),
    Fault(
        "cannot_hold",
        "/tools/t/deny_if/0",
        rule(deny_if=[condition("principal.roles", "eq", "admin")]),
        rule(deny_if=[condition("principal.roles", "contains", "admin")]),
    ),
    Fault(
        "cannot_hold",
        "/tools/t/approve_if/0/conditions/1",
        rule(approve_if=[{"conditions": [A, condition("principal.id", "gt", 1)]}]),
        rule(approve_if=[{"conditions": [A, condition("principal.id", "eq", "1")]}]),
    ),
    Fault(
        "cannot_hold",
        "/tools/t/when/0",
        rule(when=[condition("args.s", "regex", "^a$b")]),
        rule(when=[condition("args.s", "regex", "^ab$")]),
    ),
    Fault(
        "always_holds",
        "/tools/t/deny_if/0",
        rule(deny_if=[condition("principal.id", "neq", 1)]),
        rule(deny_if=[condition("principal.id", "neq", "1")]),
    ),
    Fault(
        "always_holds",
        "/tools/t/require/0",
        rule(require=[condition("principal.roles", "length_gte", 0)]),
        rule(require=[condition("principal.roles", "length_gte", 1)]),
    ),
    Fault(
        "contradiction",
        "/tools/t/require/1",
        rule(require=[condition("args.n", "gt", 9), condition("args.n", "lt", 5)]),
        rule(require=[condition("args.n", "lt", 9), condition("args.n", "gt", 5)]),
    ),
    Fault(
        "contradiction",
        "/tools/t/require/0/conditions/1",
        rule(require=[{"conditions": [condition("args.s", "starts_with", "a"), condition("args.s", "eq", "b")]}]),
        rule(require=[{"conditions": [condition("args.s", "starts_with", "a"), condition("args.s", "neq", "ab")]}]),
    ),
    Fault(
        "contradiction",
        "/tools/t/deny_if/0/conditions/2",
        rule(deny_if=[{"conditions": [condition("args.s", "eq", "x"), A, condition("args.n", "lt", 1)]}]),
        rule(deny_if=[{"conditions": [condition("args.s", "eq", "x"), A, condition("args.n", "lt", 2)]}]),
    ),
    Fault(
        "contradiction",
        "/tools/t/when/1",
        rule(when=[condition("args.s", "exists", False), condition("args.s", "eq", "x")]),
        rule(when=[condition("args.s", "exists", True), condition("args.s", "eq", "x")]),
    ),
    Fault(
        "contradiction",
        "/tools/t/approve_if/0/conditions/1",
        rule(approve_if=[{"conditions": [condition("args.s", "regex", "^a+$"), condition("args.s", "regex", "^b*$")]}]),
        rule(
            approve_if=[{"conditions": [condition("args.s", "regex", "^a+$"), condition("args.s", "regex", "^.b*$")]}]
        ),
    ),
    Fault(
        "never_runs",
        "/tools/t",
        rule(require=[A], deny_if=[condition("args.n", "gte", 0)]),
        rule(require=[A], deny_if=[condition("args.n", "gte", 100)]),
    ),
    Fault(
        "never_runs",
        "/tools/t",
        document(all_tools={"require": [condition("args.n", "lt", 0)]}, tools={"t": {"require": [A]}}),
        document(all_tools={"require": [condition("args.n", "lt", 5)]}, tools={"t": {"require": [A]}}),
    ),
    Fault(
        "redundant_condition",
        "/tools/t/require/0",
        rule(require=[condition("args.n", "lte", 10), condition("args.n", "lte", 5)]),
        rule(require=[A, condition("args.n", "lte", 5)]),
    ),
    Fault("duplicate_condition", "/tools/t/require/1", rule(require=[A, {**A, "reason": "no"}]), rule(require=[A, B])),
    Fault(
        "duplicate_condition",
        "/tools/t/deny_if/0/conditions/1",
        rule(deny_if=[{"conditions": [A, A]}]),
        rule(deny_if=[{"conditions": [A, B]}]),
    ),
    Fault(
        "unanchored_regex",
        "/tools/t/require/0/value",
        rule(require=[condition("args.repo_name", "regex", "^acme/")]),
        rule(require=[condition("args.repo_name", "regex", "^acme/[a-z]+$")]),
    ),
    Fault(
        "unanchored_regex",
        "/tools/t/require/0/value",
        rule(require=[condition(LINE, "regex", "^ls|pwd$")]),
        rule(require=[condition(LINE, "regex", "^(?:ls|pwd)$")]),
    ),
    Fault(
        "unanchored_regex",
        "/tools/t/when/0/value",
        rule(when=[condition("args.hosts[0]", "regex", "acme")]),
        rule(when=[condition("args.hosts[0]", "regex", r"\Aacme\z")]),
    ),
    Fault(
        "path_prefix",
        "/tools/t/require/0",
        rule(require=[condition("args.path", "starts_with", "/srv/data")]),
        rule(require=[condition("args.path", "within", "/srv/data")]),
    ),
    Fault(
        "url_prefix",
        "/tools/t/require/0/conditions/0",
        rule(require=[{"conditions": [condition("args.url", "starts_with", "https://acme.com")]}]),
        rule(require=[{"conditions": [condition("args.url", "host_in", ["acme.com"])]}]),
    ),
    Fault(
        "unknown_time_field",
        "/tools/t/require/0",
        rule(require=[condition("context.time.hours", "lt", 18)]),
        rule(require=[condition("context.time.hour", "lt", 18)]),
    ),
    # conditions beside what the tools take
    Fault(
        "unknown_argument",
        "/tools/t/require/0/path",
        rule(require=[condition("args.pth", "eq", "x")]),
        rule(require=[condition("args.path", "eq", "x")]),
        FILES,
    ),
    Fault(
        "unknown_argument",
        "/tools/t/deny_if/0/value_from",
        rule(deny_if=[condition("args.path", "eq", value_from="args.pth")]),
        rule(deny_if=[condition("args.path", "eq", value_from="args.mode")]),
        FILES,
    ),
    Fault(
        "unknown_argument",
        "/tools/t/limits/0/cost",
        rule(limits=[limit(cost="args.dept")]),
        rule(limits=[limit(cost="args.depth")]),
        FILES,
    ),
    Fault(
        "unknown_argument",
        "/tools/*/require/0/path",
        document(tools={"*": {"require": [condition("args.paht", "eq", "x")]}}),
        document(tools={"*": {"require": [condition("args.path", "eq", "x")]}}),
        FILES,
    ),
    Fault(
        "wrong_argument_type",
        "/tools/t/require/0/op",
        rule(require=[condition("args.path", "lte", 5)]),
        rule(require=[condition("args.depth", "lte", 5)]),
        FILES,
    ),
    Fault(
        "wrong_argument_type",
        "/tools/t/deny_if/0/conditions/0/op",
        rule(deny_if=[{"conditions": [condition("args.tags", "starts_with", "x")]}]),
        rule(deny_if=[{"conditions": [condition("args.tags[*]", "starts_with", "x")]}]),
        FILES,
    ),
    Fault(
        "wrong_argument_type",
        "/tools/t/rate_limit/cost",
        rule(rate_limit=limit(cost="args.path")),
        rule(rate_limit=limit(cost={"length": "args.path"})),
        FILES,
    ),
    Fault(
        "value_never_given",
        "/tools/t/require/0/value/1",
        rule(require=[condition("args.mode", "in", ["fast", "slwo"])]),
        rule(require=[condition("args.mode", "in", ["fast", "slow"])]),
        FILES,
    ),
    Fault(
        "value_never_given",
        "/tools/t/deny_if/0/value",
        rule(deny_if=[condition("args.depth", "eq", "5")]),
        rule(deny_if=[condition("args.depth", "eq", 5.0)]),
        FILES,
    ),
    Fault(
        "absence_allows",
        "/tools/t/deny_if/0",
        rule(deny_if=[condition("args.mode", "eq", "fast")]),
        rule(deny_if=[condition("args.mode", "eq", "fast"), condition("args.mode", "exists", False)]),
        FILES,
    ),
    Fault(
        "absence_allows",
        "/tools/t/approve_if/0",
        rule(approve_if=[condition("args.depth", "gt", 3)]),
        rule(approve_if=[condition("args.path", "neq", "x")]),
        FILES,
    ),
    Fault(
        "absence_denies",
        "/tools/t/require/0",
        rule(require=[condition("args.depth", "lte", 3)]),
        rule(require=[condition("args.path", "eq", "x")]),
        FILES,
    ),
    # limits and approvals
    Fault("unguarded_tool", "/tools/delete_file", document(tools={"delete_file": {}}), document(tools={"list_x": {}})),
    Fault(
        "unguarded_tool",
        "/tools/create_refund/0",
        document(tools={"create_refund": [{"require": [condition("args.amount", "lte", 5)]}]}),
        document(tools={"create_refund": [{"action": "approve"}]}),
    ),
    Fault(
        "unguarded_tool",
        "/categories/destructive",
        document(categories={"destructive": {}}),
        document(categories={"destructive": {"rate_limit": "5/minute"}}),
    ),
    Fault(
        "unguarded_tool",
        "/tools/delete_file",
        document(tools={"delete_file": {"approve_if": [condition("args.force", "eq", True)]}}),
        document(tools={"delete_file": {"approve_if": [condition("args.force", "neq", False)], "rate_limit": "1/day"}}),
    ),
    Fault(
        "session_limit",
        "/tools/write_file",
        document(tools={"write_file": {"rate_limit": "5/minute"}}),
        document(tools={"write_file": {"rate_limit": limit()}}),
    ),
    Fault("limit_blocks", "/tools/t/limits/0", rule(limits=[limit(0)]), rule(limits=[limit(1)])),
    Fault("limit_blocks", "/tools/t/rate_limit", rule(rate_limit=limit(5, cost=6)), rule(rate_limit=limit(5, cost=5))),
    Fault(
        "redundant_limit",
        "/tools/t/limits/1",
        rule(limits=[limit(5, "minute"), limit(300, "hour")]),
        rule(limits=[limit(5, "minute"), limit(299, "hour")]),
    ),
    Fault(
        "lone_counter",
        "/tools/v/limits/0/counter",
        document(tools={name: {"limits": [limit(counter=counter)]} for name, counter in COUNTERS.items()}),
        document(tools={name: {"limits": [limit(counter="refunds")]} for name in COUNTERS}),
    ),
    Fault(
        "uncounted_when_down",
        "/tools/t/limits/0/on_unavailable",
        rule(limits=[limit(on_unavailable="allow")]),
        rule(limits=[limit(on_unavailable="deny")]),
    ),
    Fault(
        "free_failures",
        "/tools/t/rate_limit/refund_on_error",
        rule(rate_limit=limit(refund_on_error=True)),
        rule(rate_limit=limit(refund_on_error=False)),
    ),
    Fault("approval_without_ask", "/tools/t/approval", rule(approval={}), rule(approval={}, action="approve")),
    Fault(
        "approval_without_ask",
        "/categories/read/approval",
        document(categories={"read": {"approval": {"ttl": 60}}}),
        document(categories={"read": {"approval": {"ttl": 60}, "approve_if": [A]}}),
    ),
    Fault(
        "short_approval",
        "/tools/t/approval/ttl",
        rule(action="approve", approval={"ttl": 5}),
        rule(action="approve", approval={"ttl": 60}),
    ),
]


@pytest.mark.parametrize("fault", FAULTS, ids=[f"{fault.code} {place}" for place, fault in enumerate(FAULTS)])
def test_a_fault_is_found_where_it_stands_and_nowhere_else(fault):
    there = [one for one in found(fault.wrong, fault.tools, fault.server) if one.code == fault.code]
    assert [one.pointer for one in there] == [fault.pointer]
    assert there[0].severity == CODES[fault.code].severity
    assert fault.code not in codes(fault.right, fault.tools, fault.server)


def test_every_kind_of_finding_has_a_fault():
    assert {fault.code for fault in FAULTS} == CODES.keys() - ABOUT_SUPPRESSIONS


def test_what_is_said_of_a_finding_is_readable():
    for fault in FAULTS:
        for one in found(fault.wrong, fault.tools, fault.server):
            assert one.message
            assert one.message.isprintable()
            assert not one.message.endswith(".")
            assert one.line is None
            assert one.column is None


# -- several at once


def test_the_findings_of_a_policy_come_together():
    tree = document(
        default="allow",
        hide=["secret"],
        tools={
            "secret": {},
            "list_*": {"except": ["read_x"]},
            "read_x": {"require": [A, condition("args.n", "lt", 0)]},
        },
        servers={"s": {"tools": {"drop_table": {"rate_limit": "1/day", "require": [A, A]}}}},
    )
    assert [(one.code, one.pointer) for one in found(tree)] == [
        ("default_allow", "/default"),
        ("hidden_and_listed", "/tools/secret"),
        ("except_without_match", "/tools/list_*/except/0"),
        ("contradiction", "/tools/read_x/require/1"),
        ("duplicate_condition", "/servers/s/tools/drop_table/require/1"),
        ("session_limit", "/servers/s/tools/drop_table"),
    ]


def test_a_pattern_is_checked_for_every_tool_that_it_names():
    tools = [tool("read_a", path={"type": "string"}), tool("read_b", name={"type": "string"}), tool("delete_c")]
    tree = document(tools={"*": {"require": [condition("args.nmae", "eq", "x")]}})
    there = {(one.code, one.pointer) for one in found(tree, tools)}
    assert ("unknown_argument", "/tools/*/require/0/path") in there
    assert ("unguarded_tool", "/tools/*") in there
    tree = document(tools={"read_*": {"deny_if": [condition("args.name", "contains", "x")]}})
    assert codes(tree, tools) == {"absence_allows"}


@pytest.mark.parametrize("kind", ["require", "deny_if", "approve_if"])
@pytest.mark.parametrize("clause", [False, True])
def test_a_condition_is_checked_wherever_it_stands(kind, clause):
    wrong = condition("principal.scopes", "starts_with", "admin")
    tree = rule(**{kind: [A, {"conditions": [wrong]} if clause else wrong]})
    pointer = f"/tools/t/{kind}/1" + ("/conditions/0" if clause else "")
    assert [one.pointer for one in found(tree) if one.code == "cannot_hold"] == [pointer]
    assert "cannot_hold" not in codes(rule(**{kind: [A, condition("principal.scopes", "contains", "admin")]}))


def test_a_pattern_that_a_rule_denies_by_is_anchored_too():
    wrong = rule(deny_if=[condition("args.branch", "not_regex", "feature/")])
    assert [(one.code, one.pointer) for one in found(wrong)] == [("unanchored_regex", "/tools/t/deny_if/0/value")]
    assert codes(rule(deny_if=[condition("args.branch", "not_regex", "^feature/.*$")])) == set()


def test_a_server_is_checked_beside_its_own_tools():
    tree = document(servers={"a": {"tools": {"read_a": {}}}, "b": {"tools": {"read_b": {}}}})
    assert codes(tree, [tool("read_a")], "a") == set()
    assert codes(tree, [tool("read_b")], "b") == set()
    (one,) = found(tree, [tool("read_c")], "a")
    assert (one.code, one.pointer) == ("unknown_tool", "/servers/a/tools/read_a")


def test_a_definition_that_cannot_be_read_is_an_error():
    with pytest.raises(ValueError, match="name"):
        check(Policy.model_validate(rule()), [{"inputSchema": {}}])


# -- what is right, and looks as if it were not

STAR = "args.tags[*]"
RIGHT = {
    "a tool that one server denies": document(tools={"t": {}}, servers={"s": {"tools": {"t": {"action": "deny"}}}}),
    "a tool that one server hides": document(tools={"t": {}}, servers={"s": {"hide": ["t"]}}),
    "all but one": document(tools={"read_*": {}, "read_secret": {"action": "deny"}}),
    "a rule for each case": document(
        tools={"t": [{"when": [condition("args.s", "eq", "a")]}, {"when": [condition("args.s", "eq", "b")]}]}
    ),
    "a category that is denied": document(categories={"destructive": {"action": "deny"}}, tools={"t": {}}),
    "a tool of whatever category": document(
        all_tools={"require": [condition("tool.category", "in", ["read", "write"])]}, tools={"t": {}}
    ),
    "a rule for one category": document(
        all_tools={"deny_if": [condition("tool.category", "eq", "financial")]}, tools={"t": {}}
    ),
    "a list that may be empty": rule(require=[condition(STAR, "eq", "a"), condition(STAR, "eq", "b")]),
    "a bound, and that it is given": rule(require=[condition("args.n", "exists", True), condition("args.n", "lte", 5)]),
    "a guard for what follows": rule(
        deny_if=[{"conditions": [condition("args.p", "starts_with", "/"), condition("args.p", "within", "/srv")]}]
    ),
    "both ends of an interval": rule(require=[A, B]),
    "two ways to ask": rule(approve_if=[condition("args.n", "gt", 5), condition("args.n", "lt", 0)]),
    "the caller's own": rule(require=[condition("args.owner", "eq", value_from="principal.id")]),
    "either of two": rule(require=[condition("args.a", "eq", 1), condition("args.b", "eq", 1)]),
    "a pattern that is denied anywhere": rule(deny_if=[condition(LINE, "regex", "rm|mkfs")]),
    "a pattern for a title": rule(require=[condition("args.title", "regex", "[a-z]")]),
    "a pattern with both ends in each branch": rule(require=[condition(LINE, "regex", "^ls$|^pwd$")]),
    "working hours": rule(
        require=[
            condition("context.time.weekday", "lte", 5),
            condition("context.time.hour", "gte", 8),
            condition("context.time.hour", "lt", 18),
        ]
    ),
    "roles": rule(require=[condition("principal.roles", "intersects", ["admin", "ops"])]),
    "short and long limits": rule(limits=[limit(5, "minute"), limit(50, "hour")]),
    "limits for people and all": rule(limits=[limit(5), limit(5, per="agent"), limit(50, per="global")]),
    "a limit by a cost": rule(limits=[limit(100, "day", cost="args.amount"), limit(5, "day")]),
    "a limit with a name": rule(limits=[limit(counter="calls")]),
    "a tool that waits for a person": document(tools={"delete_file": {"action": "approve", "approval": {"ttl": 600}}}),
    "a limit for everything": document(all_tools={"limits": [limit()]}, tools={"delete_file": {}}),
    "a destructive tool that is denied": document(tools={"delete_file": {"action": "deny", "reason": "ask a person"}}),
    "approval above, a limit below": document(
        tools={
            "create_refund": {
                "approve_if": [condition("args.amount", "gt", 100)],
                "limits": [limit(5, "day"), limit(200, "day", cost="args.amount")],
            }
        }
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_has_no_finding(name):
    assert found(RIGHT[name]) == ()


BESIDE_FILES = {
    "all but one": document(tools={"*": {}, "read_file": {"action": "deny"}}),
    "all but what is hidden": document(hide=["read_*"], tools={"*": {}}),
    "a bound on what may be left out": rule(
        deny_if=[condition("args.depth", "exists", False), condition("args.depth", "gt", 3)]
    ),
    "a bound on a length": rule(deny_if=[condition("args.tags", "length_gte", 10)]),
    "elements": rule(deny_if=[condition("args.path", "contains", "x"), condition("args.tags", "length_gte", 4)]),
    "what is required": rule(require=[condition("args.path", "within", "/srv")]),
    "a key of an object": rule(deny_if=[condition("args.filter.size", "gt", 5)]),
}


@pytest.mark.parametrize("name", BESIDE_FILES)
def test_what_is_right_has_no_finding_beside_the_tools(name):
    assert found(BESIDE_FILES[name], FILES) == ()


OPEN = {
    "additional properties": {"type": "object", "additionalProperties": True},
    "no properties": {"type": "object"},
    "alternatives": {"anyOf": [{"type": "object", "properties": {"a": {}}}, {"type": "object"}]},
    "a reference": {"$ref": "#/$defs/x", "$defs": {"x": {"type": "object"}}},
}


@pytest.mark.parametrize("name", OPEN)
def test_what_a_schema_leaves_open_proves_nothing(name):
    definition = {"name": "t", "inputSchema": OPEN[name]}
    assert found(rule(require=[condition("args.z", "lte", 3)]), [definition]) == ()


# -- the policies that are shown

FENCE = re.compile(r"^( *)```json policy[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
ROOT = Path(__file__).parents[2]
MEANT = {"check-a-policy.md"}  # shows faults


def shown() -> Iterator[tuple[str, str]]:
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        if page.name not in MEANT:
            for place, match in enumerate(FENCE.finditer(page.read_text(encoding="utf-8"))):
                yield f"{page.name} {place}", textwrap.dedent(match[2])
    for file in sorted((ROOT / "examples").rglob("policy.json")):
        yield file.relative_to(ROOT).as_posix(), file.read_text(encoding="utf-8")


SHOWN = dict(shown())


@pytest.mark.parametrize("place", SHOWN)
def test_the_policies_that_are_shown_have_no_errors(place):
    assert [one for one in check(Policy.parse(SHOWN[place])) if one.severity == "error"] == []
