"""Edits of a document: they change what they name, and nothing but a document that loads comes of them."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_policy import Policy, PolicyError
from mcp_policy.document import MAX_BYTES
from mcp_policy.explorer.editing import EMPTY, EditError, edited, kind_of, pointer, read
from mcp_policy.layout import layout, spelt, tree
from properties.generate import Maker


def after(text: str, do: str, at: str, **more: str) -> str:
    return edited(text, {"do": do, "at": at, **more})


def document(**keys: Any) -> str:
    return layout(json.dumps({"version": "1", "default": "deny", **keys}))


# -- kinds


def test_a_policy_from_nothing():
    text = after(EMPTY, "kind", "/tools/get_task_metrics", to="allow")
    assert text == '{\n  "version": "1",\n  "default": "deny",\n  "tools": {\n    "get_task_metrics": {}\n  }\n}\n'
    text = after(text, "kind", "/tools/get_task_metrics", to="limit")
    assert text == document(tools={"get_task_metrics": {"rate_limit": {"max": 10, "window": 60}}})
    assert after(text, "kind", "/tools/get_task_metrics", to="none") == EMPTY


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        (None, "none"),
        ({}, "allow"),
        ({"action": "allow"}, "allow"),
        ({"action": "deny"}, "deny"),
        ({"action": "deny", "on_deny": "x"}, "deny"),
        ({"action": "hide"}, "hide"),
        ({"rate_limit": "5/minute"}, "limit"),
        ({"action": "allow", "rate_limit": {"max": 1, "window": 1}}, "limit"),
        ({"action": "approve", "reason": "x", "approval": {"ttl": 5}}, "approve"),
        ({"reason": "x"}, "custom"),
        ({"action": "hide", "reason": "x"}, "custom"),
        ({"action": "deny", "rate_limit": "5/minute"}, "custom"),
        ({"limits": [{"max": 1, "window": 1}]}, "custom"),
        ({"mode": "shadow"}, "custom"),
        ([{}], "custom"),
    ],
    ids=str,
)
def test_what_an_entry_is(entry, kind):
    assert kind_of(entry) == kind


KINDS = ("none", "allow", "deny", "hide", "limit", "approve")


@pytest.mark.parametrize("to", KINDS)
@pytest.mark.parametrize("start", KINDS)
def test_from_every_kind_to_every_other(start, to):
    text = after(EMPTY, "kind", "/tools/x", to=start)
    new = after(text, "kind", "/tools/x", to=to)
    assert kind_of(read(new).get("tools", {}).get("x")) == to
    assert (new == text) is (start == to)


def test_what_both_kinds_have_is_kept():
    text = document(tools={"x": {"action": "deny", "reason": "no"}})
    assert read(after(text, "kind", "/tools/x", to="approve"))["tools"]["x"] == {"action": "approve", "reason": "no"}
    text = document(tools={"x": {"reason": "at most", "rate_limit": "5/hour", "mode": "shadow"}})
    assert read(after(text, "kind", "/tools/x", to="limit"))["tools"]["x"] == {"rate_limit": "5/hour"}
    assert after(text, "kind", "/tools/x", to="custom") == text


def test_a_limit_that_is_there_is_kept():
    limit = {"max": 2, "window": "day", "per": "principal"}
    text = document(tools={"x": {"limits": [limit], "require": []}})
    assert read(after(text, "kind", "/tools/x", to="limit")) == read(document(tools={"x": {"rate_limit": limit}}))


@pytest.mark.parametrize(
    "at", ["/all_tools", "/categories/read", "/tools/x/0", "/servers/s~1s/tools/x", "/servers/s/all_tools"]
)
def test_entries_of_every_sort_have_a_kind(at):
    text = document(tools={"x": [{}, {"action": "hide"}]})
    new = after(text, "kind", at, to="deny")
    assert layout(new).count('"deny"') == 2
    assert after(new, "kind", at, to="deny") == new


@pytest.mark.parametrize("to", ["none", "allow", "deny", "custom"])
@pytest.mark.parametrize(
    "at", ["/tools", "/servers", "/servers/s", "/servers/s/tools", "/version", "/tools/x/reason", "/"]
)
def test_only_an_entry_is_of_a_kind(at, to):
    text = document(tools={"x": {"action": "deny", "reason": "no"}, "action": {}}, servers={"s": {"tools": {"y": {}}}})
    with pytest.raises(EditError, match="only an entry"):
        after(text, "kind", at, to=to)


def test_an_entry_that_becomes_custom_allows_until_something_is_said():
    assert read(after(EMPTY, "kind", "/tools/x", to="custom"))["tools"] == {"x": {}}


# -- other edits


def test_values_are_set_where_nothing_was():
    text = after(EMPTY, "set", "/servers/git~1hub/tools/x/limits", value='[{"max": 1e3, "window": "day"}]')
    assert '"git/hub"' in text
    assert '{"max": 1e3, "window": "day"}' in text


def test_what_an_edit_empties_goes_and_what_was_empty_stays():
    text = document(hide=[], tools={"x": {"require": [{"path": "args.a", "op": "exists", "value": True}]}})
    text = after(text, "remove", "/tools/x/require/0")
    assert text == document(hide=[], tools={"x": {}})
    assert after(text, "remove", "/tools/x") == document(hide=[])


EXISTS = {"path": "args.a", "op": "exists", "value": True}


@pytest.mark.parametrize("key", ["require", "deny_if", "approve_if"])
@pytest.mark.parametrize("reason", [{}, {"reason": "r"}], ids=["bare", "with a reason"])
def test_a_clause_goes_with_its_last_condition(key, reason):
    text = document(tools={"x": {key: [{"conditions": [EXISTS, EXISTS], **reason}, EXISTS]}})
    text = after(text, "remove", f"/tools/x/{key}/0/conditions/1")
    assert text == document(tools={"x": {key: [{"conditions": [EXISTS], **reason}, EXISTS]}})
    text = after(text, "remove", f"/tools/x/{key}/0/conditions/0")
    assert text == document(tools={"x": {key: [EXISTS]}})


def test_a_rule_of_a_list_that_is_emptied_stays():
    text = document(servers={"s": {"tools": {"x": [{"reason": "r"}, {"action": "deny"}]}}})
    new = after(text, "unset", "/servers/s/tools/x/0/reason")
    assert read(new)["servers"]["s"]["tools"]["x"] == [{}, {"action": "deny"}]


def test_what_a_condition_compares_with_is_data():
    compared = {"k": {"a": 1}, "n": None, "conditions": [1]}
    text = document(tools={"value": {"require": [{"path": "args.a", "op": "eq", "value": compared}]}})
    for at in ("k/a", "n", "conditions/0"):
        text = after(text, "remove", f"/tools/value/require/0/value/{at}")
    assert read(text)["tools"]["value"]["require"][0]["value"] == {"k": {}, "conditions": []}


def test_what_is_not_there_is_not_taken_away():
    text = document(hide=[], tools={"x": [{}]})
    for at in ("/all_tools", "/hide/0", "/tools/y/0/reason", "/tools/x/1", "/tools/x/-", "/version/0"):
        assert after(text, "remove", at) == text


def test_a_rule_becomes_a_list_when_another_is_added():
    text = after(document(tools={"x": {}}), "add", "/tools/x", value='{"action": "deny"}')
    assert read(text)["tools"]["x"] == [{}, {"action": "deny"}]
    text = after(text, "remove", "/tools/x/0")
    assert read(text)["tools"]["x"] == [{"action": "deny"}]
    assert after(text, "remove", "/tools/x/0") == EMPTY


def test_an_entry_is_renamed_in_its_place():
    text = document(tools={"a": {}, "b": {"action": "deny"}, "c": {}})
    assert list(read(after(text, "rename", "/tools/b", to="d*"))["tools"]) == ["a", "d*", "c"]
    with pytest.raises(EditError, match="there already"):
        after(text, "rename", "/tools/b", to="c")


def test_numbers_and_texts_stay_as_they_are_spelt():
    text = layout(
        '{"version": "1", "tools": {"x": {"limits": [{"max": 1.50, "window": 6E1, "cost": 1e-3}]}, "é*": {}}}'
    )
    new = after(text, "kind", "/tools/y", to="allow")
    for written in ("1.50", "6E1", "1e-3", "é*"):
        assert written in new


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        ({"do": "set", "at": "/tools/x/action", "value": '"dney"'}, "`dney`"),
        ({"do": "set", "at": "/tools/x/rate_limit", "value": '{"max": -1, "window": 0}'}, "/tools/x/rate_limit/max"),
        ({"do": "set", "at": "/tools/x", "value": '{"a": 1, "a": 2}'}, "not a JSON value"),
        ({"do": "set", "at": "/tools/x", "value": "NaN"}, "not a JSON value"),
        ({"do": "set", "at": "/tools/x", "value": ""}, "not a JSON value"),
        ({"do": "set", "at": "/tools/x", "value": "[" * 100_000}, "not a JSON value"),
        ({"do": "set", "at": "", "value": "{}"}, "needs a place"),
        ({"do": "set", "at": "tools", "value": "{}"}, "needs a place"),
        ({"do": "set", "at": "/version/x", "value": "1"}, "no such place"),
        ({"do": "set", "at": "/tools/x/require/7", "value": "{}"}, "/tools/x/require"),
        ({"do": "set", "at": "/tools/a~2b", "value": "{}"}, "needs a place"),
        ({"do": "set", "at": "/tools/x~", "value": "{}"}, "needs a place"),
        ({"do": "set", "at": "/tools/x" + "/a" * 100_000, "value": "{}"}, "at most 64 levels"),
        ({"do": "set", "at": "/tools/y" + "/a" * 50, "value": "[" * 50 + "]" * 50}, "64 levels"),
        ({"do": "kind", "at": "/tools/\ud800", "to": "deny"}, "the document: a string holds a lone surrogate"),
        ({"do": "kind", "at": "/tools/a\u202eb", "to": "deny"}, "/tools/a\\u202eb: "),
        ({"do": "rename", "at": "/tools/nothing", "to": "y"}, "nothing at this place"),
        ({"do": "kind", "at": "/tools/x", "to": "forbid"}, "no kind `forbid`"),
        ({"do": "kind", "at": "/categories/reed", "to": "deny"}, "reed"),
        ({"do": "burn", "at": "/tools"}, "no edit `burn`"),
        ({}, "no edit"),
    ],
    ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict) else "",
)
def test_what_cannot_be_is_refused_in_words(edit, says):
    with pytest.raises(EditError) as refused:
        edited(document(tools={"x": {}}), edit)
    assert says in str(refused.value)


def test_every_problem_is_told():
    with pytest.raises(EditError) as refused:
        after(document(tools={"x": {}}), "set", "/tools/x", value='{"action": "dney", "rate_limit": {"max": -1}}')
    assert [line.split(": ")[0] for line in str(refused.value).splitlines()] == [
        "/tools/x/action",
        "/tools/x/rate_limit",
        "/tools/x/rate_limit/max",
    ]


def test_a_document_that_is_too_large_on_lines_of_its_own_is_refused():
    tools = {f"t{number}": {} for number in range(100)}
    fill = "x" * (MAX_BYTES - len(json.dumps({"version": "1", "description": "", "tools": tools})))
    text = json.dumps({"version": "1", "description": fill})
    with pytest.raises(EditError, match="the document: a document has at most"):
        after(text, "set", "/tools", value=json.dumps(tools))
    assert after(text, "set", "/tools", value='{"x": {}}')


def test_the_form_waits_while_the_document_does_not_load():
    for broken in ("", "{", '{"version": "2"}', '{"version": "1", "tools": {"a": {}, "a": {}}}'):
        with pytest.raises(EditError, match="waits"):
            after(broken, "kind", "/tools/x", to="deny")
        with pytest.raises(PolicyError):
            read(broken)


# -- laws, over many documents


def places(value: Any, at: str = "") -> list[str]:
    found = [at]
    members = value.items() if isinstance(value, dict) else enumerate(value) if type(value) is list else ()
    for key, part in members:
        found += places(part, at + pointer(str(key)))
    return found


def without(value: Any, at: str) -> dict[str, str]:
    """Return every leaf with its place, but those at and below a place."""
    leaves: dict[str, str] = {}

    def walk(part: Any, here: str) -> None:
        if here == at or here.startswith(f"{at}/"):
            return
        if isinstance(part, dict):
            for key, below in part.items():
                walk(below, here + pointer(key))
        elif type(part) is list:
            for place, below in enumerate(part):
                walk(below, f"{here}/{place}")
        else:
            leaves[here] = str(part)

    walk(value, "")
    return leaves


SEEDS = st.integers(0, 10**9)
CHANCE = st.randoms(use_true_random=False)
OTHERWISE = {"max": "{}.0", "window": "{}E0", "ttl": "{}.00", "cost": "{}e+0"}


def policy(seed: int) -> str:
    """A document whose numbers are spelt as nobody would."""
    text = layout(json.dumps(Maker(seed).policy()))
    return layout(re.sub(r'"(max|window|ttl|cost)": ([0-9]+)(?![0-9.eE])', _otherwise, text))


def _otherwise(match: re.Match[str]) -> str:
    return f'"{match[1]}": {OTHERWISE[match[1]].format(match[2])}'


@given(SEEDS, CHANCE)
def test_an_edit_changes_what_it_names_and_nothing_else(seed: int, chance: Random):
    text = policy(seed)
    entries = [at for at in places(tree(text)) if re.fullmatch("(/servers/[^/]+)?/(tools|categories)/[^/]+", at)]
    at = chance.choice([*entries, "/tools/new", "/servers/new/tools/x", "/all_tools"])
    new = after(text, "kind", at, to=chance.choice(KINDS))
    assert without(tree(new), at) == without(tree(text), at)
    at += chance.choice(["/reason", "/mode", "/approval/ttl"])
    with suppress(EditError):
        changed = after(new, "set", at, value=chance.choice(['"x"', "5", '"shadow"']))
        assert without(tree(changed), at) == without(tree(new), at)


@given(SEEDS, CHANCE)
def test_what_was_there_before_undoes_a_kind(seed: int, chance: Random):
    text = policy(seed)
    old = tree(text).get("tools", {})
    if old:
        name = chance.choice(list(old))
        at = pointer("tools", name)
        new = after(text, "kind", at, to=chance.choice(["allow", "deny", "hide", "limit", "approve"]))
        assert after(new, "set", at, value=spelt(old[name])) == text


@given(SEEDS, CHANCE)
def test_what_is_added_and_removed_leaves_nothing(seed: int, chance: Random):
    text = policy(seed)
    lists = [at for at in places(tree(text)) if re.fullmatch(".*/(when|require|deny_if|approve_if|hide|except)", at)]
    for at in lists:
        value = '"x*"' if at.endswith(("hide", "except")) else '{"path": "context.n", "op": "eq", "value": 1.50}'
        new = after(text, "add", at, value=value)
        last = max(int(one[len(at) + 1 :]) for one in places(tree(new)) if re.fullmatch(re.escape(at) + "/[0-9]+", one))
        if last:  # a list that was empty goes
            assert after(new, "remove", f"{at}/{last}") == text


HOSTILE = ["/~", "/~2", "/tools/-", "/tools/x/require/99999999999999", "/tools" * 70, "/", "", "tools", "/\ud800/~1"]
BELOW = ["", "", "/0", "/00", "/-", "/reason", "/~1/~0", "/require/-", "/\x00", "/value/0", "/conditions/0", "/max"]
VALUES = ["1", "{}", "[]", '"x"', "null", "true", "{", "1e999", '{"action": "deny"}', json.dumps([EXISTS]),
          "[" * 60 + "]" * 60, '{"a": 1, "a": 2}', '"\\ud800"', "9" * 5000]  # fmt: skip


@given(SEEDS, CHANCE, st.sampled_from(["kind", "set", "unset", "add", "remove", "rename"]), st.text(max_size=6))
def test_whatever_is_asked_for_ends_in_a_document_that_loads_or_in_words(seed: int, chance: Random, do: str, any_: str):
    text = policy(seed)
    at = chance.choice([*places(tree(text)), *HOSTILE, f"/tools/{any_}"]) + chance.choice(BELOW)
    edit = {"do": do, "at": at, "to": chance.choice([*KINDS, "x", any_]), "value": chance.choice([*VALUES, any_])}
    with suppress(EditError):
        new = edited(text, edit)
        assert Policy.parse(new)
        assert layout(new) == new
