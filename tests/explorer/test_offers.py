"""What conditions can be about, by the tool's schema, and what a person types into one."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_policy import Policy
from mcp_policy.catalogue import ToolCatalogue
from mcp_policy.catalogue.definition import read_definition
from mcp_policy.checks.schemas import KINDS
from mcp_policy.explorer.editing import EditError
from mcp_policy.explorer.offers import OPERATOR_HINTS, OPERATOR_WORDS, Offer, condition, offers
from mcp_policy.explorer.stack import of_catalogue
from mcp_policy.operators import OPERATORS
from mcp_policy.paths import Path, parse_path

SCHEMA = {
    "type": "object",
    "properties": {
        "amount": {"type": "integer", "description": "in cents"},
        "currency": {"enum": ["eur", "usd"]},
        "file_path": {"type": "string"},
        "callback-url": {"type": "string"},
        "link": {"type": "string", "format": "uri"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "odd key": {"type": "string"},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "either": {"type": ["string", "number"]},
        "who": {"$ref": "#/$defs/person"},
        "open": {},
        "loop": {"$ref": "#/properties/loop"},
        "flag": {"type": "boolean"},
        "size": {"enum": ["1", "2", None]},
        "mode": {"const": "fast"},
        "mixed": {"enum": ["1", 1]},
        "outputDir": {"type": "string"},
        "place": {"type": "string", "format": "file-path"},
        "imageUrls": {"type": ["array", "null"], "items": {"type": "string"}},
        "rows": {"type": "array", "items": {"type": "object", "properties": {"id": {"type": "integer"}}}},
        "grid": {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
    },
    "$defs": {
        "person": {"type": "object", "properties": {"age": {"type": "number"}, "boss": {"$ref": "#/$defs/person"}}}
    },
}


def found(schema: Any) -> dict[str, Offer]:
    return {offer.path: offer for offer in offers(read_definition({"name": "t", "inputSchema": schema}))}


FOUND = found(SCHEMA)


@pytest.mark.parametrize(
    ("path", "kind", "first"),
    [
        ("args.amount", "number", "lte"),
        ("args.currency", "string", "in"),
        ("args.file_path", "string", "within"),
        ("args.callback-url", "string", "host_in"),
        ("args.link", "string", "host_in"),
        ("args.tags", "array", "length_lte"),
        ("args.tags[*]", "string", "eq"),
        ('args["odd key"]', "string", "eq"),
        ("args.note", "string", "eq"),
        ("args.either", "any", "eq"),
        ("args.who", "object", "keys_in"),
        ("args.who.age", "number", "lte"),
        ("args.who.boss.age", "number", "lte"),
        ("args.open", "any", "eq"),
        ("args.loop", "any", "eq"),
        ("args.flag", "boolean", "eq"),
        ("args.size", "string", "in"),
        ("args.mode", "string", "in"),
        ("args.mixed", "any", "in"),
        ("args.outputDir", "string", "within"),
        ("args.place", "string", "within"),
        ("args.imageUrls[*]", "string", "host_in"),
        ("args.rows[*].id", "number", "lte"),
        ("args.grid[*][*]", "number", "lte"),
        ("principal.roles", "array", "length_lte"),
        ("context.time.hour", "number", "lte"),
    ],
)
def test_types_decide_what_is_offered(path, kind, first):
    assert FOUND[path].type == kind
    assert FOUND[path].ops[0] == first


def test_whatever_is_open_is_offered_with_every_operator():
    assert set(FOUND["args.open"].ops) == set(OPERATORS)


def test_choices_and_descriptions_come_from_the_schema():
    assert FOUND["args.currency"].choices == ("eur", "usd")
    assert FOUND["args.size"].choices == ("1", "2")
    assert FOUND["args.mode"].choices == ("fast",)
    assert FOUND["args.amount"].description == "in cents"


def test_what_an_array_holds_is_known():
    assert {path: offer.of for path, offer in FOUND.items() if offer.of != "any"} == {
        "args.tags": "string",
        "args.imageUrls": "string",
        "args.rows": "object",
        "args.grid": "array",
        "args.grid[*]": "number",
        "principal.roles": "string",
        "principal.scopes": "string",
    }


def test_an_endless_schema_has_an_end():
    assert sum("boss" in path for path in FOUND) < 10
    wide = {"type": "object", "properties": {f"p{number}": {} for number in range(10_000)}}
    assert len(found(wide)) < 300
    assert len(found({"type": "object", "properties": {"a": {"enum": list(range(10_000))}}})["args.a"].choices) == 200


def test_a_schema_may_stand_elsewhere():
    assert found({"$ref": "#/$defs/it", "$defs": {"it": {"properties": {"a": {"type": "string"}}}}})["args.a"]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=8))
def test_every_name_of_a_parameter_has_its_path(name: str):
    first = next(iter(found({"type": "object", "properties": {name: {}}})))
    assert parse_path(first) == Path("args", (name,))


WORDS = st.sampled_from(
    ["type", "properties", "items", "anyOf", "oneOf", "allOf", "$ref", "enum", "const", "format", "description", "a"]
)
ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from([*KINDS, "#/properties/a", "#/items", "url"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(WORDS, ODD, max_size=4))
def test_whatever_a_server_sends_as_schema_is_read(schema: dict[str, Any]):
    for offer in found(schema).values():
        assert parse_path(offer.path)
        assert offer.ops
        assert set(offer.ops) <= set(OPERATORS)


def test_without_a_definition_there_is_what_every_call_has():
    assert all(not offer.path.startswith("args") for offer in offers(None))


def test_every_operator_is_said_in_words_with_what_to_type():
    assert set(OPERATOR_WORDS) == set(OPERATOR_HINTS) == set(OPERATORS)
    assert OPERATOR_WORDS["lte"] == "is at most"
    assert OPERATOR_WORDS["length_lte"] == "has at most … elements"
    assert not any("{" in words for words in OPERATOR_WORDS.values())


SENSIBLE = {
    "exists": "true", "lt": "5", "lte": "5", "gt": "5", "gte": "-1.5e3", "length_lte": "5", "length_gte": "0",
    "within": "/srv, /tmp", "host_in": "a.example, *.b.example", "keys_in": "a, b", "glob": "a*", "regex": "^a$",
    "not_regex": "^a$",
}  # fmt: skip
ONE = {"number": "5", "boolean": "true", "array": "[1]", "object": "{}"}
SEVERAL = {"number": "1, 2", "boolean": "true", "array": "[[1], [2]]", "object": "[{}]"}


@pytest.mark.parametrize("offer", [*FOUND.values(), None], ids=lambda offer: offer.path if offer else "unknown")
def test_whatever_is_offered_makes_a_condition_that_loads(offer: Offer | None):
    for op in OPERATORS if offer is None else offer.ops:
        kind = "any" if offer is None else offer.of if op == "intersects" else offer.type
        usual = SEVERAL.get(kind, "a, b") if op in ("in", "not_in", "intersects") else ONE.get(kind, "x")
        if offer and offer.type == "array" and op in ("contains", "not_contains"):
            usual = ONE.get(offer.of, "x")
        made = json.loads(condition("args.x" if offer is None else offer.path, op, SENSIBLE.get(op, usual), offer))
        assert made["op"] == op
        Policy.model_validate({"version": "1", "tools": {"t": {"require": [made]}}})


@given(
    st.sampled_from(sorted(OPERATORS)),
    st.text(max_size=12) | st.sampled_from(["[1", "[]", "null", "[null]", '"a, b"', "{}", "1e999", "[" * 99, "\ud800"]),
    st.sampled_from(["string", "number", "boolean", "array", "object", "any"]),
    st.sampled_from(["string", "number", "any"]),
)
def test_whatever_is_typed_becomes_json_of_its_type_or_is_refused(op: str, typed: str, kind: str, of: str):
    made: Any = None
    with suppress(EditError):
        made = json.loads(condition("args.x", op, typed, Offer("args.x", kind, (), of=of)))
    if made is None:
        return
    assert list(made) == ["path", "op", "value"]
    types = {"string": str, "number": int | float, "boolean": bool}
    if op in ("eq", "neq") and kind in types:
        assert isinstance(made["value"], types[kind])
    if op in ("in", "not_in") and kind in types:
        assert all(isinstance(one, types[kind]) for one in made["value"])


def test_every_offer_for_real_tools_is_a_path():
    for tool in of_catalogue(ToolCatalogue.bundled()).tools.values():
        for offer in offers(tool.definition)[:20]:
            made = json.loads(condition(offer.path, "exists", "true", offer))
            Policy.model_validate({"version": "1", "tools": {"t": {"require": [made]}}})


@pytest.mark.parametrize(
    ("op", "typed", "kind", "value"),
    [
        ("eq", "5", "string", "5"),
        ("eq", "5", "number", 5),
        ("eq", "5", "any", 5),
        ("eq", "five", "any", "five"),
        ("eq", "True", "boolean", True),
        ("eq", "[1, 2]", "array", [1, 2]),
        ("eq", '"5"', "any", "5"),
        ("in", "eur, usd", "string", ["eur", "usd"]),
        ("in", "eur\nus,d", "string", ["eur", "us,d"]),
        ("in", "1, 2", "number", [1, 2]),
        ("in", '["a", 1]', "any", ["a", 1]),
        ("in", "007, x", "string", ["007", "x"]),
        ("within", "/srv", "string", "/srv"),
        ("within", '["/srv", "/tmp"]', "string", ["/srv", "/tmp"]),
        ("within", "/srv, /tmp", "string", ["/srv", "/tmp"]),
        ("within", "/srv\n/a,b", "string", ["/srv", "/a,b"]),
        ("within", '"/a,b"', "string", "/a,b"),
        ("within", '["/srv"]', "string", ["/srv"]),
        ("glob", "a*, b*", "string", ["a*", "b*"]),
        ("in", '["1", "2"]', "string", ["1", "2"]),
        ("contains", "5", "string", "5"),
        ("contains", "5", "array", 5),
        ("regex", "^a, b$", "string", "^a, b$"),
        ("exists", "FALSE", "any", False),
        ("lte", "1e3", "number", 1000.0),
        ("intersects", "admin, ops", "array", ["admin", "ops"]),
        ("in", "[[1], [2]]", "array", [[1], [2]]),
    ],
)
def test_the_type_decides_what_is_meant(op, typed, kind, value):
    made: Any = json.loads(condition("args.x", op, typed, Offer("args.x", kind, ())))
    assert made["value"] == value
    assert type(made["value"]) is type(value)


def test_members_are_of_the_type_that_the_array_holds():
    roles = next(offer for offer in offers(None) if offer.path == "principal.roles")
    for op, typed, value in (("contains", "123", "123"), ("intersects", "7, ops", ["7", "ops"])):
        assert json.loads(condition(roles.path, op, typed, roles))["value"] == value


@pytest.mark.parametrize(
    ("op", "typed", "kind", "says"),
    [
        ("lte", "ten", "number", "a number"),
        ("lte", "NaN", "number", "a number"),
        ("lte", '"10"', "number", "a number"),
        ("eq", "yes", "boolean", "`true` or `false`"),
        ("eq", "1, 2", "array", "JSON array"),
        ("exists", "", "any", "`true` or `false`"),
        ("in", " , ", "string", "at least one"),
        ("eq", "", "any", "a value"),
        ("regex", "", "string", "a value"),
        ("matches", "x", "any", "no operator"),
        ("in", "[1, 2]", "string", "has to be a string"),
        ("not_in", '["1"]', "number", "has to be a number"),
        ("in", "[true]", "number", "has to be a number"),
        ("within", "[1]", "string", "has to be a string"),
        ("keys_in", "[1]", "object", "has to be a string"),
        ("within", " ", "string", "a value"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(op, typed, kind, says):
    with pytest.raises(EditError, match=says):
        condition("args.x", op, typed, Offer("args.x", kind, ()))
