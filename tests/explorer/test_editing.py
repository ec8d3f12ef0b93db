"""Edits of a document: they change what they name, and nothing but a document that loads comes of them."""

from __future__ import annotations

import json
import random
from contextlib import suppress
from typing import Any

import pytest

from mcp_policy import Policy, PolicyError
from mcp_policy.explorer.editing import EMPTY, EditError, edited, kind_of, pointer, read
from mcp_policy.layout import layout, tree
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
    for spelt in ("1.50", "6E1", "1e-3", "é*"):
        assert spelt in new


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


@pytest.mark.parametrize("seed", range(150))
def test_an_edit_changes_what_it_names_and_nothing_else(seed):
    chance = random.Random(seed)
    text = layout(json.dumps(Maker(seed).policy()))
    at = f"/tools/{chance.choice(['a', 'new_one', 'b*'])}"
    new = after(text, "kind", at, to=chance.choice(KINDS))
    assert without(tree(new), at) == without(tree(text), at)


@pytest.mark.parametrize("seed", range(300))
def test_whatever_is_asked_for_ends_in_a_document_that_loads_or_in_words(seed):
    chance = random.Random(seed)
    text = layout(json.dumps(Maker(seed % 60).policy()))
    at = chance.choice([*places(tree(text)), "/tools/new", "/~", "/~2", "/tools/-", "/tools/x/require/99999999999999"])
    at += chance.choice(["", "", "/0", "/reason", "/~1/~0", "/require/-", "/\x00"])
    values = [
        "1",
        "{}",
        "[]",
        '"x"',
        "null",
        "true",
        "{",
        '{"action": "deny"}',
        '[{"path": "args.a", "op": "exists", "value": true}]',
    ]
    edit = {"do": chance.choice(["kind", "set", "unset", "add", "remove", "rename"]), "at": at,
            "to": chance.choice([*KINDS, "x", ""]), "value": chance.choice(values)}  # fmt: skip
    with suppress(EditError):
        new = edited(text, edit)
        Policy.parse(new)
        assert layout(new) == new
