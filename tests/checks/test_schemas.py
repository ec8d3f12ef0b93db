"""What a tool's input schema says of a path: what is open proves nothing, what is closed is found."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_policy import Policy
from mcp_policy.checks import check
from mcp_policy.checks.schemas import Unknown, alternatives, reached

NUMBER = {"type": "integer"}
SIZED = {"type": "object", "properties": {"size": NUMBER}}


def codes(schema: dict[str, Any], **rule: Any) -> list[str]:
    """Return what is found in a rule about the arguments of a tool with this schema."""
    policy = Policy.model_validate({"version": "1", "tools": {"t": rule}})
    return [one.code for one in check(policy, [{"name": "t", "inputSchema": {"type": "object", **schema}}])]


def condition(path: str, op: str, value: Any) -> dict[str, Any]:
    return {"path": f"args.{path}", "op": op, "value": value}


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"properties": {"a": {}}, "additionalProperties": True},
        {"properties": {"a": {}}, "additionalProperties": {"type": "string"}},
        {"properties": {"a": {}}, "anyOf": [{"properties": {"b": {}}}]},
        {"properties": {"a": {}}, "patternProperties": {"^b": {}}},
    ],
)
def test_a_schema_that_is_open_has_every_argument(schema):
    assert reached({"type": "object", **schema}, ("b",)) is None
    assert codes(schema, require=[condition("b", "eq", 1)]) == []


def test_a_schema_that_is_closed_has_its_own_only():
    assert reached({"properties": {}}, ("b",)) == Unknown("b", ())
    assert codes({"properties": {"a": {}}}, require=[condition("b", "eq", 1)]) == ["unknown_argument"]


@pytest.mark.parametrize(
    "schema",
    [
        SIZED,
        {"$ref": "#/$defs/Sized"},
        {"allOf": [{"$ref": "#/$defs/Sized"}]},
        {"anyOf": [{"$ref": "#/$defs/Sized"}, {"type": "null"}]},
    ],
)
def test_keys_are_looked_up_below_references_and_alternatives(schema):
    whole = {"properties": {"m": schema}, "required": ["m"], "$defs": {"Sized": SIZED}}
    assert codes(whole, require=[condition("m.size", "lte", 1)]) == []
    assert codes(whole, require=[condition("m.sise", "lte", 1)]) == ["unknown_argument"]
    assert codes(whole, require=[condition("m.size", "starts_with", "x")]) == ["wrong_argument_type"]


@pytest.mark.parametrize("reference", ["#/$defs/Gone", "other.json#/x", "#", 5])
def test_a_reference_that_leads_nowhere_is_open(reference):
    whole = {"properties": {"m": {"$ref": reference}}, "required": ["m"]}
    assert codes(whole, require=[condition("m.size", "starts_with", "x")]) == []


def test_references_in_a_circle_are_open():
    whole = {"properties": {"m": {"$ref": "#/$defs/A"}}, "required": ["m"], "$defs": {"A": {"$ref": "#/$defs/A"}}}
    assert codes(whole, require=[condition("m.size", "lte", 1)]) == []


def test_an_alternative_of_another_type_is_enough():
    whole = {"properties": {"m": {"anyOf": [NUMBER, {"type": "string"}]}}, "required": ["m"]}
    assert codes(whole, require=[condition("m", "starts_with", "x")]) == []
    assert codes(whole, require=[condition("m", "contains", "x")]) == []
    assert codes(whole, require=[condition("m", "host_in", ["a.example"])]) == []


@pytest.mark.parametrize(("default", "found"), [(False, []), (None, ["absence_allows"]), (True, ["absence_allows"])])
def test_a_default_says_what_absence_means(default, found):
    schema = {"properties": {"force": {"type": "boolean", "default": default}}}
    assert codes(schema, deny_if=[condition("force", "eq", True)]) == found


def test_what_is_required_elsewhere_cannot_be_left_out():
    schema = {"properties": {"n": NUMBER}}
    required = {**condition("n", "lte", 9), "reason": "say how many"}
    assert codes(schema, require=[required], deny_if=[condition("n", "eq", 4)]) == []


def test_a_when_that_only_lists_lets_nothing_run_by_absence():
    schema = {"properties": {"n": NUMBER}}
    assert codes(schema, when=[condition("n", "eq", 4)]) == []
    assert codes(schema, when=[condition("n", "eq", 4)], action="deny") == ["absence_allows"]


def test_alternatives_that_lead_nowhere_are_soon_left():
    defs = {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 100} for n in range(9)} | {"d9": {"anyOf": []}}
    assert alternatives({"$defs": defs}, {"$ref": "#/$defs/d0"}) is None
