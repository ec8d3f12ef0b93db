"""What conditions can be about, by the tool's schema, and what a person types into one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mcp_policy import Policy
from mcp_policy.catalogue import ToolCatalogue
from mcp_policy.catalogue.definition import read_definition
from mcp_policy.explorer.editing import EditError
from mcp_policy.explorer.offers import Offer, condition, offers
from mcp_policy.explorer.stack import of_catalogue
from mcp_policy.operators import OPERATORS

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
    },
    "$defs": {
        "person": {"type": "object", "properties": {"age": {"type": "number"}, "boss": {"$ref": "#/$defs/person"}}}
    },
}
FOUND = {offer.path: offer for offer in offers(read_definition({"name": "t", "inputSchema": SCHEMA}))}


@pytest.mark.parametrize(
    ("path", "kind", "first"),
    [
        ("args.amount", "number", "lte"),
        ("args.currency", "any", "in"),
        ("args.file_path", "string", "within"),
        ("args.callback-url", "string", "host_in"),
        ("args.link", "string", "host_in"),
        ("args.tags", "array", "length_lte"),
        ("args.tags[*]", "string", "eq"),
        ('args["odd key"]', "string", "eq"),
        ("args.note", "string", "eq"),
        ("args.either", "any", "exists"),
        ("args.who", "object", "keys_in"),
        ("args.who.age", "number", "lte"),
        ("args.who.boss.age", "number", "lte"),
        ("args.open", "any", "exists"),
        ("args.loop", "any", "exists"),
        ("args.flag", "boolean", "eq"),
        ("principal.roles", "array", "length_lte"),
        ("context.time.hour", "number", "lte"),
    ],
)
def test_types_decide_what_is_offered(path, kind, first):
    assert FOUND[path].type == kind
    assert FOUND[path].ops[0] == first


def test_choices_and_descriptions_come_from_the_schema():
    assert FOUND["args.currency"].choices == ("eur", "usd")
    assert FOUND["args.amount"].description == "in cents"


def test_an_endless_schema_has_an_end():
    assert sum("boss" in path for path in FOUND) < 10
    wide = {"type": "object", "properties": {f"p{number}": {} for number in range(10_000)}}
    assert len(offers(read_definition({"name": "t", "inputSchema": wide}))) < 300


def test_without_a_definition_there_is_what_every_call_has():
    assert all(not offer.path.startswith("args") for offer in offers(None))


SENSIBLE = {
    "exists": "true", "lt": "5", "lte": "5", "gt": "5", "gte": "-1.5e3", "length_lte": "5", "length_gte": "0",
    "within": "/srv", "host_in": "a.example, *.b.example", "keys_in": "a, b", "intersects": "a, b", "in": "a, b", "not_in": "a",
    "glob": "a*", "regex": "^a$", "not_regex": "^a$",
}  # fmt: skip
BY_TYPE = {"number": "5", "boolean": "true", "array": "[1]", "object": "{}"}
LISTS_BY_TYPE = {"number": "1, 2", "boolean": "true"}


@pytest.mark.parametrize("offer", [*FOUND.values(), None], ids=lambda offer: offer.path if offer else "unknown")
def test_whatever_is_offered_makes_a_condition_that_loads(offer):
    for op in OPERATORS if offer is None else offer.ops:
        kind = "any" if offer is None else offer.type
        typed = LISTS_BY_TYPE.get(kind, "a, b") if op in ("in", "not_in") else SENSIBLE.get(op, BY_TYPE.get(kind, "x"))
        made = json.loads(condition("args.x" if offer is None else offer.path, op, typed, offer))
        assert made["op"] == op
        Policy.model_validate({"version": "1", "tools": {"t": {"require": [made]}}})


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
        ("contains", "5", "string", "5"),
        ("contains", "5", "array", 5),
        ("regex", "^a, b$", "string", "^a, b$"),
        ("exists", "FALSE", "any", False),
        ("lte", "1e3", "number", 1000.0),
        ("intersects", "admin, ops", "array", ["admin", "ops"]),
    ],
)
def test_the_type_decides_what_is_meant(op, typed, kind, value):
    made: Any = json.loads(condition("args.x", op, typed, Offer("args.x", kind, ())))
    assert made["value"] == value
    assert type(made["value"]) is type(value)


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
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(op, typed, kind, says):
    with pytest.raises(EditError, match=says):
        condition("args.x", op, typed, Offer("args.x", kind, ()))
