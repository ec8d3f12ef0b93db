"""The checks of meaning: each problem at its place, all at once, whatever else is wrong with the document."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_policy import validation
from mcp_policy.operators import OPERATORS
from mcp_policy.paths import CLOSED_ROOTS, OPEN_ROOTS
from mcp_policy.policy import Policy
from mcp_policy.validation import MAX_REGEXES, problems

PLACES = ["when", "require", "deny_if", "approve_if"]
GOOD_VALUES = {
    "eq": [1, "x", True, [], {}, [None], {"a": None}],
    "neq": [0, ""],
    "in": [[], [1, "x", True, [None]]],
    "not_in": [["x"]],
    "intersects": [[], ["a"], [None]],
    "lt": [0, 1.5, -3, 10**30],
    "lte": [0],
    "gt": [0],
    "gte": [0],
    "contains": ["x", 1, [], {}],
    "not_contains": ["x"],
    "starts_with": ["", "x"],
    "ends_with": ["x"],
    "regex": ["^a$"],
    "not_regex": ["a|b"],
    "glob": ["a*", ["a*", "b?"], [], ""],
    "exists": [True, False],
    "length_lte": [0, 5],
    "length_gte": [0],
    "keys_in": [[], ["a"]],
    "within": ["/", "/srv/data", ["/a", "/b/"]],
    "host_in": [["example.com", "*.example.com", "127.0.0.1", "[::1]"], []],
}
BAD_VALUES = [
    ("in", "usd", "", "wrong_type"),
    ("in", {}, "", "wrong_type"),
    ("in", [1, None], "/1", "invalid_value"),
    ("not_in", [None], "/0", "invalid_value"),
    ("not_in", 5, "", "wrong_type"),
    ("intersects", "a", "", "wrong_type"),
    ("lt", "5", "", "wrong_type"),
    ("lte", True, "", "wrong_type"),
    ("gt", [5], "", "wrong_type"),
    ("gte", {}, "", "wrong_type"),
    ("starts_with", 5, "", "wrong_type"),
    ("ends_with", ["x"], "", "wrong_type"),
    ("regex", 5, "", "wrong_type"),
    ("regex", ["a"], "", "wrong_type"),
    ("regex", "(a", "", "invalid_regex"),
    ("regex", "a(?=b)", "", "invalid_regex"),
    ("regex", "(a{60}){60}", "", "invalid_regex"),
    ("not_regex", r"(a)\1", "", "invalid_regex"),
    ("glob", 5, "", "wrong_type"),
    ("glob", ["a", 5], "/1", "wrong_type"),
    ("exists", 1, "", "wrong_type"),
    ("exists", "true", "", "wrong_type"),
    ("length_lte", 1.5, "", "wrong_type"),
    ("length_lte", True, "", "wrong_type"),
    ("length_gte", -1, "", "invalid_value"),
    ("keys_in", "a", "", "wrong_type"),
    ("keys_in", ["a", 5], "/1", "wrong_type"),
    ("within", "srv", "", "invalid_value"),
    ("within", ["/a", "b"], "/1", "invalid_value"),
    ("within", [5], "/0", "wrong_type"),
    ("within", 5, "", "wrong_type"),
    ("host_in", "example.com", "", "wrong_type"),
    ("host_in", ["https://example.com"], "/0", "invalid_value"),
    ("host_in", ["example.com:443"], "/0", "invalid_value"),
    ("host_in", [5], "/0", "wrong_type"),
    *((op, None, "", "invalid_value") for op in OPERATORS),
]


def found(tree):
    return [(problem.pointer, problem.code.value) for problem in problems(tree)]


def condition(path="args.x", op="eq", value=1, **more):
    return {"path": path, "op": op, "value": value, **more}


def rule(**keys):
    return {"version": "1", "tools": {"a": keys}}


def limit(**keys):
    return rule(limits=[{"max": 1, "window": 60, **keys}])


def at(*tools, **servers):
    """One limit for each tool, then one for each server."""

    def section(limit):
        return {"tools": {"t": {"limits": [{"max": 1, **limit}]}}}

    tree = {"tools": {f"t{index}": {"limits": [{"max": 1, **each}]} for index, each in enumerate(tools)}}
    return {**tree, "servers": {name: section(each) for name, each in servers.items()}}


def only_message(tree):
    (problem,) = problems(tree)
    return problem.message


# -- conditions


@pytest.mark.parametrize(("op", "value"), [(op, value) for op, values in GOOD_VALUES.items() for value in values])
@pytest.mark.parametrize("place", PLACES)
def test_values_that_operators_take(place, op, value):
    assert found(rule(**{place: [condition(op=op, value=value)]})) == []


def test_every_operator_is_tried():
    assert GOOD_VALUES.keys() == OPERATORS.keys()


@pytest.mark.parametrize(("op", "value", "below", "code"), BAD_VALUES)
def test_values_that_operators_do_not_take(op, value, below, code):
    tree = {
        "version": "1",
        "servers": {"s": {"tools": {"a/b": [{}, {"require": [{"conditions": [condition(op=op, value=value)]}]}]}}},
    }
    assert found(tree) == [(f"/servers/s/tools/a~1b/1/require/0/conditions/0/value{below}", code)]


@pytest.mark.parametrize(
    "path", ["arg.x", "", "args.", "principal.role", "principal.roles[0]", "tool", "args[01]", "x"]
)
@pytest.mark.parametrize("place", PLACES)
def test_paths_that_are_none(place, path):
    assert found(rule(**{place: [condition(path=path)]})) == [(f"/tools/a/{place}/0/path", "invalid_path")]


@pytest.mark.parametrize("path", [*OPEN_ROOTS, *CLOSED_ROOTS, "args.a[0]", 'context["x"].y'])
@pytest.mark.parametrize("place", PLACES)
def test_paths(place, path):
    assert found(rule(**{place: [condition(path=path)]})) == []


@pytest.mark.parametrize("place", ["require", "deny_if", "approve_if"])
def test_a_star_may_stand_in_items_and_clauses(place):
    star = condition(path="args.ids[*]")
    assert found(rule(**{place: [star, {"conditions": [star]}]})) == []


def test_a_star_may_not_stand_in_when():
    tree = rule(when=[condition(), condition(path="args.ids[*]")])
    assert found(tree) == [("/tools/a/when/1/path", "invalid_path")]
    assert "`[*]` cannot be used in `when`" in only_message(tree)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("path", ["args.ids[*]", "arg", "principal.claims[*].x"])
def test_value_from_is_a_path_without_a_star(place, path):
    tree = rule(**{place: [{"path": "args.x", "op": "eq", "value_from": path}]})
    assert found(tree) == [(f"/tools/a/{place}/0/value_from", "invalid_path")]


@pytest.mark.parametrize("op", OPERATORS)
def test_which_operators_take_value_from(op):
    refused = op in ("regex", "not_regex", "glob", "exists")
    tree = rule(deny_if=[{"path": "args.x", "op": op, "value_from": "principal.claims.x"}])
    assert found(tree) == ([("/tools/a/deny_if/0", "conflict")] if refused else [])


def test_value_and_value_from_exclude_each_other():
    assert found(rule(require=[condition(value_from="args.y")])) == [("/tools/a/require/0", "conflict")]
    assert found(rule(require=[condition(op="regex", value="a", value_from="args.y")])) == [
        ("/tools/a/require/0", "conflict")
    ]


@pytest.mark.parametrize("op", ["eq", "exists", "regex", "bogus"])
def test_one_of_value_and_value_from_is_needed(op):
    assert found(rule(when=[{"path": "args.x", "op": op}])) == [("/tools/a/when/0", "missing_key")]


def test_a_condition_of_which_everything_is_wrong():
    wrong = {"path": "arg", "op": "regex", "value": "(", "value_from": "args[*]", "reason": "x", "on_deny": "y"}
    assert found(rule(require=[wrong])) == [
        ("/tools/a/require/0", "conflict"),
        ("/tools/a/require/0/path", "invalid_path"),
        ("/tools/a/require/0/value_from", "invalid_path"),
        ("/tools/a/require/0", "conflict"),
        ("/tools/a/require/0/value", "invalid_regex"),
    ]


# -- names that exclude each other


@pytest.mark.parametrize(
    ("tree", "pointer"),
    [
        (rule(reason="x", on_deny="y"), "/tools/a"),
        (rule(deny_if=[condition(reason="x", on_deny="y")]), "/tools/a/deny_if/0"),
        (rule(when=[condition(reason="x", on_deny="y")]), "/tools/a/when/0"),
        (rule(deny_if=[{"conditions": [], "reason": "x", "on_deny": "x"}]), "/tools/a/deny_if/0"),
        (rule(deny_if=[{"conditions": [condition(reason="x", on_deny="y")]}]), "/tools/a/deny_if/0/conditions/0"),
        (limit(reason="x", on_deny="y"), "/tools/a/limits/0"),
        (limit(per="session", scope="session"), "/tools/a/limits/0"),
        (rule(rate_limit={"max": 1, "window": 1, "per": "tool", "scope": "grant"}), "/tools/a/rate_limit"),
        ({"version": "1", "all_tools": {"reason": "x", "on_deny": "y"}}, "/all_tools"),
        ({"version": "1", "categories": {"read": {"reason": "x", "on_deny": "y"}}}, "/categories/read"),
        ({"version": "1", "servers": {"s": {"all_tools": {"reason": "x", "on_deny": "y"}}}}, "/servers/s/all_tools"),
        ({"version": "1", "tools": {"a": [{}, {"reason": "x", "on_deny": "y"}]}}, "/tools/a/1"),
        (rule(action="hide", when=[condition()]), "/tools/a"),
        (rule(action="hide", when=[condition(path="principal.id"), condition(path="args")]), "/tools/a"),
        (rule(action="hide", when=[{"path": "principal.id", "op": "eq", "value_from": "args.me"}]), "/tools/a"),
    ],
)
def test_conflicts(tree, pointer):
    assert found(tree) == [(pointer, "conflict")]


def test_hide_may_depend_on_what_is_known_before_a_call():
    conditions = [condition(path="principal.id"), condition(path="context.time.hour"), condition(path="server.name")]
    assert found(rule(action="hide", when=conditions)) == []
    assert found(rule(action="hide", require=[condition()])) == []
    assert found(rule(action="deny", when=[condition()])) == []
    assert found(rule(action="hide", when=[5, "args", {"path": 5}, {}])) == [
        ("/tools/a/when/2", "missing_key"),
        ("/tools/a/when/3", "missing_key"),
    ]


# -- patterns


@pytest.mark.parametrize("pattern", ["*", "a", "get_*", "?", "x" * 256, "é*", "a b", "[a]"])
def test_patterns(pattern):
    assert found({"version": "1", "hide": [pattern], "tools": {pattern: {"except": [pattern]}}}) == []


@pytest.mark.parametrize(
    ("pattern", "code"),
    [
        ("", "invalid_value"),
        ("x" * 257, "invalid_pattern"),
        ("a\n", "invalid_pattern"),
        ("\u200b", "invalid_pattern"),
        ("\u2028", "invalid_pattern"),
    ],
)
def test_patterns_that_no_tool_can_match(pattern, code):
    section = {"hide": ["a", pattern], "all_tools": {"except": [pattern]}, "tools": {pattern: {}}}
    tree = {"version": "1", **section, "categories": {"read": {"except": [pattern]}}, "servers": {"s": section}}
    assert found(tree) == [
        ("/hide/1", code),
        ("/all_tools/except/0", code),
        (f"/tools/{pattern}", code),
        ("/categories/read/except/0", code),
        ("/servers/s/hide/1", code),
        ("/servers/s/all_tools/except/0", code),
        (f"/servers/s/tools/{pattern}", code),
    ]


def test_globs_are_free_of_the_rules_for_names():
    assert found(rule(require=[condition(op="glob", value=["", "a\n*", "x" * 300])])) == []


def test_a_server_has_a_name():
    assert found({"version": "1", "servers": {"": {"hide": [""]}, " ": {}}}) == [
        ("/servers/", "invalid_value"),
        ("/servers//hide/0", "invalid_value"),
    ]


# -- limits


@pytest.mark.parametrize("window", ["second", "minute", "hour", "day", "30s", "5m", "2h", "1d", 60, 0.5])
def test_windows(window):
    assert found(limit(window=window)) == []


@pytest.mark.parametrize(
    "window", ["", "60", "minutes", "1 h", "h", "-5s", "0s", "1.5h", "1w", "99999999999d", "٣s", "5S"]
)
def test_windows_that_are_none(window):
    assert found(limit(window=window)) == [("/tools/a/limits/0/window", "invalid_value")]


@pytest.mark.parametrize("text", ["10/minute", "0/second", "5/30s", "9000000000/day", "007/1h"])
def test_short_limits(text):
    assert found(rule(rate_limit=text)) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10",
        "10/",
        "/minute",
        "10/60",
        "10 / minute",
        "-1/minute",
        "1.5/minute",
        "10/minutes",
        "10/0s",
        "9000000001/day",
        "10/minute/2",
    ],
)
def test_short_limits_that_are_none(text):
    assert found(rule(rate_limit=text)) == [("/tools/a/rate_limit", "invalid_value")]


@pytest.mark.parametrize(
    ("cost", "below"),
    [("args.n", ""), ("context.price", ""), ({"length": "args.ids"}, "/length"), ("principal.roles", "")],
)
def test_costs(cost, below):
    assert found(limit(cost=cost)) == []
    path = cost["length"] if below else cost
    for wrong in ("nowhere." + path, path + "[*]", ""):
        bad = {"length": wrong} if below else wrong
        assert found(limit(cost=bad)) == [(f"/tools/a/limits/0/cost{below}", "invalid_path")]
        assert found(rule(rate_limit={"max": 1, "window": 1, "cost": bad})) == [
            (f"/tools/a/rate_limit/cost{below}", "invalid_path")
        ]


@pytest.mark.parametrize(
    ("tree", "pointers"),
    [
        (at({"counter": "c", "window": 60}, {"counter": "c", "window": 90}), ["/tools/t1/limits/0"]),
        (at({"counter": "c", "window": 60}, {"counter": "c", "window": 90}, {"counter": "c", "window": 90}), ["/tools/t1/limits/0", "/tools/t2/limits/0"]),
        (at({"counter": "c", "window": 60}, {"counter": "c", "window": 60, "per": "tool"}), ["/tools/t1/limits/0"]),
        (at({"counter": "c", "window": 60}, s={"counter": "c", "window": 61}), ["/servers/s/tools/t/limits/0"]),
        (at(s={"counter": "c", "window": 60}, t={"counter": "c", "window": 61}), ["/servers/t/tools/t/limits/0"]),
        (at({"counter": "c", "window": 60, "per": "tool"}, {"counter": "c", "window": 61}), ["/tools/t1/limits/0"] * 2),
        (at({"counter": "c", "window": 60}, {"counter": "d", "window": 90}, {"window": 30}), []),
        (at({"counter": "c", "window": 60}, {"counter": "c", "window": "minute"}, {"counter": "c", "window": "1m"}, {"counter": "c", "window": 60.0}), []),
        (at({"counter": "c", "window": 60, "max": 1}, {"counter": "c", "window": 60, "max": 2, "cost": "args.x"}), []),
        (at({"counter": "c", "window": 60}, {"counter": "c", "window": 60, "per": ["session"]}, {"counter": "c", "window": 60, "scope": "session"}), []),
        (at({"counter": "c", "window": 60, "per": "grant"}, {"counter": "c", "window": 60, "scope": ["principal", "grant"]}), []),
        (at({"counter": "c", "window": 60, "per": ["tool", "agent"]}, {"counter": "c", "window": 60, "per": ["agent", "tool"]}), []),
        (at({"counter": "c", "window": "x"}, {"counter": "c", "window": 90}, {"counter": "c", "window": 90}), ["/tools/t0/limits/0/window"]),
    ],
)  # fmt: skip
def test_limits_of_one_counter_agree(tree, pointers):
    assert [pointer for pointer, _ in found(tree)] == pointers


def test_a_rate_limit_and_shadow_rules_take_part_in_the_agreement():
    tree = {
        "tools": {
            "a": {"rate_limit": {"max": 1, "window": 60, "counter": "c"}},
            "b": {"mode": "shadow", "limits": [{"max": 1, "window": 61, "counter": "c"}]},
        }
    }
    assert found(tree) == [("/tools/b/limits/0", "conflict")]


def test_the_later_limit_of_the_text_is_the_one_that_disagrees():
    one, other = {"max": 1, "window": 60, "counter": "c"}, {"max": 1, "window": 61, "counter": "c"}
    assert found({"tools": {"a": {"limits": [one]}}, "all_tools": {"limits": [other]}}) == [
        ("/all_tools/limits/0", "conflict")
    ]
    assert found({"all_tools": {"limits": [one]}, "tools": {"a": {"limits": [other]}}}) == [
        ("/tools/a/limits/0", "conflict")
    ]
    assert found({"tools": {"a": {"limits": [one], "rate_limit": other}}}) == [("/tools/a/rate_limit", "conflict")]
    assert found({"tools": {"a": {"rate_limit": one, "limits": [other]}}}) == [("/tools/a/limits/0", "conflict")]


def test_a_disagreement_names_both_limits():
    message = only_message(at({"counter": "c", "window": 60}, {"counter": "c", "window": "2m"}))
    assert message == "the limits of counter `c` disagree on `window`: 120 s here, 60 s at `/tools/t0/limits/0`"


# -- how many regular expressions


def regexes(count):
    return rule(require=[condition(op="regex", value=f"^{number}$") for number in range(count)])


def test_the_number_of_distinct_regular_expressions_is_bounded(monkeypatch):
    monkeypatch.setattr(validation, "MAX_REGEXES", 50)
    many = regexes(50)
    many["tools"]["b"] = regexes(50)["tools"]["a"]
    assert found(many) == []
    assert found(regexes(53)) == [("/tools/a/require/50/value", "too_large")]
    assert MAX_REGEXES == 4_096


def test_no_regular_expression_beyond_the_bound_is_built(monkeypatch):
    built = []
    monkeypatch.setattr(validation, "MAX_REGEXES", 2)
    monkeypatch.setattr(validation, "compile_regex", built.append)
    list(problems(regexes(100)))
    assert built == ["^0$", "^1$"]


def test_a_bad_regular_expression_is_reported_wherever_it_stands():
    bad = condition(op="regex", value="(a")
    assert found(rule(require=[bad, bad])) == [
        ("/tools/a/require/0/value", "invalid_regex"),
        ("/tools/a/require/1/value", "invalid_regex"),
    ]


# -- any tree at all

KEYS = ["version", "hide", "all_tools", "categories", "read", "tools", "servers", "action", "reason", "on_deny", "except", *PLACES, "conditions",
        "path", "op", "value", "value_from", "rate_limit", "limits", "max", "window", "per", "scope", "counter", "cost", "length", ""]  # fmt: skip
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from(["args", "eq", "regex", "(", "hide", "c", "minute"])
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6),
    max_leaves=30,
)


@given(TREES)
def test_the_walk_takes_any_tree(tree):
    for shape in (
        tree,
        {"tools": {"a": tree}},
        rule(require=tree, limits=tree, rate_limit=tree),
        {"servers": {"s": tree}, "hide": tree},
    ):
        for problem in problems(shape):
            assert problem.message
            assert problem.line is None


@given(TREES)
def test_the_walk_leaves_the_tree_alone(tree):
    before = repr(tree)
    list(problems({"tools": {"a": tree}}))
    assert repr(tree) == before


def test_a_good_document_has_no_problems_from_either_side():
    tree = rule(
        **{
            place: [condition(op=op, value=value) for op, values in GOOD_VALUES.items() for value in values]
            for place in PLACES
        }
    )
    assert found(tree) == []
    assert json.dumps(Policy.model_validate(tree).document) == json.dumps(tree)
