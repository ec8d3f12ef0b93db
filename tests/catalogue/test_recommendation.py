from __future__ import annotations

from random import Random
from typing import Any

import pytest

from mcp_policy import Policy, PolicyEngine, Principal, ToolCall
from mcp_policy.catalogue.definition import Definition, read_definition
from mcp_policy.catalogue.merging import merge
from mcp_policy.catalogue.profile import CATEGORIES, LEVELS, RiskProfile
from mcp_policy.catalogue.recommendation import (
    is_nameable,
    recommend,
    recommend_judged,
    rule_for,
    rule_of,
    snippet,
)

PER_PRINCIPAL = {"per": "principal"}


def profile(category: str, level: str = "low", confidence: float = 0.9, tool: str = "x") -> RiskProfile:
    return RiskProfile(tool, category, level, confidence, ())


def definition(name: str = "run", required: tuple[str, ...] = (), **properties: Any) -> Definition:
    return read_definition(
        {"name": name, "inputSchema": {"type": "object", "properties": properties, "required": list(required)}}
    )


def tool(name: str, description: str = "", **properties: Any) -> dict[str, Any]:
    return {
        "name": name,
        "description": description,
        "inputSchema": {"type": "object", "properties": properties, "required": list(properties)},
    }


TOOLS = [
    tool("list_notes", "Lists all notes."),
    tool("get_note", "Returns one note.", note_id={"type": "string"}),
    tool("create_note", "Creates a note.", text={"type": "string"}),
    tool("execute_sql", "Runs a statement.", sql={"type": "string"}),
    tool("delete_note", "Deletes a note for good.", note_id={"type": "string"}),
    tool("create_refund", "Gives the money of a payment back.", amount={"type": "number"}),
]


def decide(policy: Policy, name: str, arguments: dict[str, Any] | None = None, **about: Any) -> str:
    return str(PolicyEngine(policy).evaluate(ToolCall(name, arguments or {}, **about)).effect)


# -- one rule


@pytest.mark.parametrize(
    ("judged", "keys"),
    [
        (profile("read"), {"reason"}),
        (profile("read", "medium"), {"reason"}),
        (profile("read", "high"), {"reason", "action"}),
        (profile("write", "medium"), {"reason", "rate_limit"}),
        (profile("write", "high"), {"reason", "rate_limit"}),
        (profile("write", "critical"), {"reason", "action"}),
        (profile("execute", "high"), {"reason", "rate_limit"}),
        (profile("execute", "critical"), {"reason", "action"}),
        (profile("destructive", "critical"), {"reason", "action"}),
        (profile("financial", "critical"), {"reason", "action"}),
        (profile("read", "low", 0.49), {"reason", "action"}),
        (profile("write", "medium", 0.1), {"reason", "action"}),
    ],
)
def test_a_rule_is_as_strict_as_the_risk(judged: RiskProfile, keys: set[str]) -> None:
    rule = rule_of(judged, definition())
    assert rule.keys() == keys
    assert rule.get("action", "approve") == "approve"


@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize("level", LEVELS)
def test_every_rule_says_why_in_a_sentence_and_loads(category: str, level: str) -> None:
    rule = rule_of(profile(category, level), definition(command={"type": "string"}))
    assert rule["reason"][0].isupper()
    assert rule["reason"].endswith(".")
    Policy.model_validate({"version": "1", "tools": {"x": rule}})


def test_grave_changes_are_fewer() -> None:
    limits = [rule_of(profile("write", level))["rate_limit"] for level in ("medium", "high")]
    assert limits == [{"max": 10, "window": "minute", **PER_PRINCIPAL}, {"max": 10, "window": "hour", **PER_PRINCIPAL}]


def test_a_new_session_is_no_way_around_a_limit() -> None:
    engine = PolicyEngine(Policy.model_validate({"version": "1", "tools": {"x": rule_of(profile("write"))}}))

    def effects(count: int, **about: Any) -> set[str]:
        return {str(engine.authorize(ToolCall("x", {}, session=f"s{n}", **about)).effect) for n in range(count)}

    assert effects(10) == {"allow"}
    assert effects(3) == {"limit"}
    assert effects(10, principal=Principal("p")) == {"allow"}


# -- what runs its input


def bounds(**properties: Any) -> dict[str, Any]:
    required = tuple(properties.pop("required", ()))
    rule = rule_of(profile("execute", "high"), definition("run_query", required, **properties))
    return {key: value for key, value in rule.items() if key in ("require", "deny_if")}


@pytest.mark.parametrize(
    ("name", "most"), [("command", 1_000), ("shell_cmd", 1_000), ("sql", 4_000), ("query", 4_000), ("code", 10_000), ("script", 10_000)]
)  # fmt: skip
def test_input_is_bounded_by_what_it_is(name: str, most: int) -> None:
    path = f"args.{name}"
    assert bounds(**{name: {"type": "string"}}, required=[name]) == {
        "require": [{"path": path, "op": "length_lte", "value": most}]
    }
    assert bounds(**{name: {"type": "string"}}) == {"deny_if": [{"path": path, "op": "length_gte", "value": most + 1}]}


@pytest.mark.parametrize("required", [(), ("sql",)])
def test_a_bound_holds_whether_the_parameter_has_to_be_given_or_not(required: tuple[str, ...]) -> None:
    rule = rule_of(profile("execute", "high"), definition("run", required, sql={"type": "string"}))
    policy = Policy.model_validate({"version": "1", "tools": {"x": rule}})
    given = [{"sql": "x" * 4_000}, {"sql": "x" * 4_001}, {"sql": 5}, {}, {"sql": None}]
    absent = "deny" if required else "allow"
    assert [decide(policy, "x", arguments) for arguments in given] == ["allow", "deny", "deny", absent, absent]


def test_a_list_is_bounded_in_number_and_in_each_element() -> None:
    rule = rule_of(profile("execute", "high"), definition(command={"type": "array", "items": {"type": "string"}}))
    policy = Policy.model_validate({"version": "1", "tools": {"x": rule}})
    given = [["ls"] * 100, ["ls"] * 101, ["x" * 1_000], ["ls", "x" * 1_001], []]
    assert [decide(policy, "x", {"command": command}) for command in given] == [
        "allow",
        "deny",
        "allow",
        "deny",
        "allow",
    ]
    assert rule["reason"] == (
        "This tool runs what it is given: at most 10 calls in any minute, 100 elements in `command`, 1,000 characters in each of them."
    )


DEFINITIONS = {
    "text": {"type": "string"},
    "texts": {"type": "array", "items": {"$ref": "#/$defs/text"}},
    "maybe": {"type": ["string", "null"]},
    "a/b c": {"type": "string"},
    "number": {"type": "integer"},
    "again": {"$ref": "#/$defs/again"},
    "wide": {"anyOf": [{"$ref": "#/$defs/wide"}] * 9},
    "union": {"oneOf": [{"type": "null"}, {"type": "string"}]},
}
LONG = "x" * 100_000


def running(name: str, schema: Any, *, required: bool = True, **root: Any) -> Definition:
    """A tool that runs what it is given, by one parameter."""
    given = {"type": "object", "properties": {name: schema}, "$defs": DEFINITIONS, "required": [name] * required}
    return read_definition({"name": "run", "inputSchema": given | root})


def effects(defined: Definition, *arguments: dict[str, Any]) -> list[str]:
    rule = rule_of(profile("execute", "high"), defined)
    policy = Policy.model_validate({"version": "1", "tools": {"x": rule}})
    return [decide(policy, "x", given) for given in arguments]


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string"},
        {"type": ["string", "null"]},
        {"anyOf": [{"type": "string"}, {"type": "null"}]},
        {"$ref": "#/$defs/text"},
        {"$ref": "#/$defs/a~1b%20c"},
        {"$ref": "#/$defs/union/oneOf/1"},
        {"anyOf": [{"$ref": "#/$defs/union"}, {"type": "string", "maxLength": 5}]},
        {"allOf": [{"$ref": "#/$defs/text"}, {"minLength": 1}]},
        {"type": ["string", "integer"], "allOf": [{"$ref": "#/$defs/text"}]},
        {"type": "string", "anyOf": [{"minLength": 1}, {"pattern": "a"}]},
    ],
)
def test_a_text_is_bounded_however_it_is_written(schema: dict[str, Any], required: bool) -> None:
    defined = running("command", schema, required=required)
    assert effects(defined, {"command": "ls"}, {"command": LONG}, {"command": 5}) == ["allow", "deny", "deny"]


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": {"type": "string"}},
        {"$ref": "#/$defs/texts"},
        {"anyOf": [{"$ref": "#/$defs/texts"}, {"type": "null"}]},
    ],
)
def test_a_list_of_texts_is_bounded_however_it_is_written(schema: dict[str, Any], required: bool) -> None:
    given = [["ls"], ["ls"] * 101, [LONG], LONG, [5]]
    defined = running("command", schema, required=required)
    assert effects(defined, *({"command": each} for each in given)) == ["allow", "deny", "deny", "deny", "deny"]


@pytest.mark.parametrize("name", ["command", "source"])
@pytest.mark.parametrize(
    "schema",
    [
        {},
        True,
        {"type": "object"},
        {"type": "any"},
        {"type": ["string", "object"]},
        {"type": "object | string"},
        {"type": "array | string"},
        {"type": ["boolean", "string"]},
        {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
        {"anyOf": [{"type": "string"}, {}]},
        {"oneOf": [{"type": "string"}, {"type": "object"}]},
        {"allOf": [{"$ref": "#/$defs/texts"}, {"type": "array", "maxItems": 3}]},
        {"allOf": [{"$ref": "#/$defs/text"}, {"$ref": "#/$defs/number"}]},
        {"type": "array"},
        {"type": "array", "items": {}},
        {"type": "array", "items": {"type": "object"}},
        {"type": "array", "items": {"$ref": "#/$defs/maybe"}},
        {"type": "array", "items": {"type": "array", "items": {"type": "string"}}},
        {"type": "array", "items": {"type": "string"}, "prefixItems": [{"type": "object"}]},
        {"$ref": "#/$defs/again"},
        {"$ref": "#/$defs/wide"},
        {"$ref": "#/$defs/none"},
        {"$ref": "https://example.com/schema"},
        {"$ref": 5},
        {"$ref": "#/$defs/union/oneOf/7"},
        {"type": {"odd": 1}, "anyOf": 5},
        {"type": []},
        {"type": ["string", {}]},
        {"enum": []},
    ],
)
def test_input_without_one_length_waits_for_a_person(name: str, schema: Any) -> None:
    given = ["ls", LONG, [LONG], {"a": LONG}, 3]
    assert effects(running(name, schema), *({name: each} for each in given)) == ["approve"] * 5


@pytest.mark.parametrize(
    ("schema", "given"),
    [
        ({"$ref": "#/$defs/number"}, 3),
        ({"const": 3}, 3),
        ({"enum": ["start", "stop", None]}, "start"),
        ({"type": "string", "enum": ["start", "stop"]}, "stop"),
        ({"type": "string", "allOf": [{"enum": ["start", 5]}]}, "start"),
        ({"type": ["boolean", "integer"]}, True),
        ({"type": "integer | number"}, 0.5),
        ({"type": "null"}, None),
    ],
)
def test_what_is_short_anyway_is_not_bounded(schema: dict[str, Any], given: Any) -> None:
    defined = running("command", schema)
    assert rule_of(profile("execute", "high"), defined).keys() == {"reason", "rate_limit"}
    assert effects(defined, {"command": given}) == ["allow"]


@pytest.mark.parametrize(("name", "most"), [("commandLine", 1_000), ("source", 10_000), ("input", 10_000)])
def test_a_text_is_bounded_whatever_it_is_called(name: str, most: int) -> None:
    defined = running(name, {"type": "string"})
    assert effects(defined, {name: "x" * most}, {name: "x" * (most + 1)}) == ["allow", "deny"]


def test_a_command_inside_another_parameter_waits_for_a_person() -> None:
    request = {"type": "object", "properties": {"command": {"type": "string"}}}
    assert effects(running("request", request), {"request": {"command": LONG}}) == ["approve"]
    beside = definition("run", ("command",), command={"type": "string"}, options=request)
    assert effects(beside, {"command": "ls", "options": {"command": LONG}}) == ["approve"]


@pytest.mark.parametrize(
    "root",
    [
        {"additionalProperties": True},
        {"additionalProperties": {"type": "string"}},
        {"patternProperties": {"": {}}},
        {"$ref": "#/$defs/text"},
        {"allOf": [{"properties": {"sql": {}}}]},
        {"properties": ["sql"]},
    ],
)
def test_parameters_that_are_not_listed_wait_for_a_person(root: dict[str, Any]) -> None:
    assert effects(running("command", {"type": "string"}, **root), {"command": "ls"}) == ["approve"]


def test_a_tool_without_parameters_is_only_limited() -> None:
    for schema in ({}, {"type": "object", "properties": {}, "additionalProperties": False}):
        rule = rule_of(profile("execute", "high"), read_definition({"name": "reboot", "inputSchema": schema}))
        assert rule.keys() == {"reason", "rate_limit"}


def test_a_tool_of_which_no_parameter_is_known_waits_for_a_person() -> None:
    assert rule_of(profile("execute", "high"))["action"] == "approve"


def test_a_parameter_that_may_be_null_may_be_absent() -> None:
    assert bounds(code={"type": ["string", "null"]}, required=["code"]).keys() == {"deny_if"}


def test_ids_and_numbers_are_not_bounded() -> None:
    ids = {"type": "array", "items": {"type": "string"}}
    assert bounds(job_id={"type": "string"}, nodeIds=ids, timeout={"type": "number"}) == {}


def test_an_odd_name_is_found_by_its_path() -> None:
    (condition,) = bounds(**{'the "x".sql': {"type": "string"}})["deny_if"]
    assert condition["path"] == 'args["the \\"x\\".sql"]'


def test_input_that_no_path_leads_to_waits_for_a_person() -> None:
    unpaired = Definition("run", "", "", {"properties": {"\ud800 sql": {"type": "string"}}}, {}, {})
    assert rule_of(profile("execute", "high"), unpaired)["action"] == "approve"


# -- a whole server


def test_a_server_gets_one_document_from_free_to_strict() -> None:
    document = recommend(TOOLS).document
    assert list(document) == ["version", "default", "tools"]
    assert document["default"] == "deny"
    assert list(document["tools"]) == [
        "get_note",
        "list_notes",
        "create_note",
        "execute_sql",
        "delete_note",
        "create_refund",
    ]
    assert all(set(name).isdisjoint("*?") for name in document["tools"])
    assert [decide(recommend(TOOLS), each["name"], {"sql": "select 1"}) for each in TOOLS] == ["allow"] * 4 + [
        "approve"
    ] * 2


def test_a_tool_that_is_new_is_denied() -> None:
    assert decide(recommend(TOOLS), "list_secrets") == "deny"
    assert decide(recommend([]), "list_notes") == "deny"


def test_the_order_of_the_tools_does_not_matter() -> None:
    shuffled = Random(7).sample(TOOLS, len(TOOLS))
    assert list(recommend(shuffled).document["tools"].items()) == list(recommend(TOOLS).document["tools"].items())


def test_the_rules_of_a_server_hold_for_its_calls_only() -> None:
    policy = recommend(TOOLS, server="notes")
    assert policy.document["servers"] == {"notes": {"tools": recommend(TOOLS).document["tools"]}}
    assert [decide(policy, "list_notes", server=server) for server in ("notes", "other", None)] == [
        "allow",
        "deny",
        "deny",
    ]
    with pytest.raises(ValueError, match="`server` must not be empty"):
        recommend(TOOLS, server="")


@pytest.mark.parametrize("server", [None, "notes"])
def test_snippets_merged_are_the_whole(server: str | None) -> None:
    snippets = [snippet(each, server=server) for each in TOOLS]
    assert merge(snippets, listing="any") == recommend(TOOLS, server=server)


def test_servers_merged_stay_apart() -> None:
    policy = merge([recommend(TOOLS, server="notes"), recommend([tool("list_files")], server="files")], listing="any")
    calls = [("list_notes", "notes"), ("list_files", "files"), ("list_notes", "files"), ("list_files", "notes")]
    assert [decide(policy, name, server=server) for name, server in calls] == ["allow", "allow", "deny", "deny"]


def test_a_tool_that_is_given_twice_has_to_pass_both_rules() -> None:
    twice = [(profile("read"), None), (profile("destructive", "critical"), None), (profile("read"), None)]
    document = recommend_judged(twice).document
    assert [rule.get("action") for rule in document["tools"]["x"]] == [None, "approve"]
    assert decide(recommend_judged(twice), "x") == "approve"


@pytest.mark.parametrize("name", ["delete_*", "get_?", "a" * 257, "zero\u200bwidth", "two\nlines"])
def test_a_tool_that_no_rule_can_name_is_left_out_and_said(name: str) -> None:
    policy = recommend([tool(name), tool("list_notes")])
    assert not is_nameable(name)
    assert list(policy.document["tools"]) == ["list_notes"]
    assert policy.document["description"].startswith("Denied, because no rule can name them: `")
    assert policy.document["description"].isprintable()
    assert decide(policy, name) == "deny"
    with pytest.raises(ValueError, match="cannot be named in a policy"):
        snippet(tool(name))


def test_the_rule_of_a_tool_is_the_one_in_its_snippet() -> None:
    for each in TOOLS:
        assert snippet(each).document == {"version": "1", "default": "deny", "tools": {each["name"]: rule_for(each)}}
