"""What a policy does with a tool: the engine's own answer, and a state that holds for every call of it."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_policy import Policy, PolicyEngine, ToolCall
from mcp_policy.catalogue import ToolCatalogue
from mcp_policy.explorer.posture import category, example_arguments, posture, postures
from mcp_policy.explorer.stack import Listed, Stack, of_catalogue, of_listings
from properties.differential import tool_call
from properties.generate import TOOLS, Maker

CLEARML = of_catalogue(ToolCatalogue.bundled(), "clearml")


def tool(name: str, description: str = "", schema: Any = None, **more: Any) -> dict[str, Any]:
    return {"name": name, "description": description, "inputSchema": schema or {"type": "object"}, **more}


def stack_of(*tools: dict[str, Any], server: str = "s") -> Stack:
    return of_listings("x", [Listed(server, "", tools, "")])


def state(rules: dict[str, Any], name: str = "get_task_metrics", **top: Any) -> str:
    engine = PolicyEngine(Policy.model_validate({"version": "1", "tools": rules, **top}))
    stack = stack_of(
        tool(
            "get_task_metrics",
            "Get metrics.",
            {"type": "object", "properties": {"task_id": {"type": "string"}}, "required": ["task_id"]},
        ),
        tool("delete_task", "Delete a task."),
    )
    found = posture(engine, stack.tools[f"s/{name}"])
    assert bare(found.decision) == bare(engine.evaluate(found.call))
    assert str(found.decision) in found.says
    return found.state


def bare(decision: Any) -> Any:
    """Return a decision without what the engine has noted for itself."""
    return decision._replace(evidence=None)


LTE = {"path": "args.amount", "op": "lte", "value": 5}
ROLE = {"path": "principal.roles", "op": "contains", "value": "admin"}


@pytest.mark.parametrize(
    ("rules", "top", "expected"),
    [
        ({}, {}, "denied"),
        ({"get_*": {}}, {}, "allowed"),
        ({"get_*": {"action": "deny"}}, {}, "denied"),
        ({"get_*": {"action": "hide"}}, {}, "hidden"),
        ({"get_*": {}}, {"hide": ["*"]}, "hidden"),
        ({"get_*": {"rate_limit": "5/hour"}}, {}, "limited"),
        ({"get_*": {"rate_limit": "0/hour"}}, {}, "denied"),
        ({"get_*": {"action": "approve"}}, {}, "asks"),
        ({"get_*": {"require": [LTE]}}, {}, "conditional"),
        ({"get_*": {"deny_if": [ROLE]}}, {}, "conditional"),
        ({"get_*": {"when": [ROLE]}}, {}, "conditional"),
        ({"get_*": {"when": [ROLE]}, "*": {"action": "deny"}}, {}, "denied"),
        ({"get_*": {"mode": "shadow", "action": "deny"}}, {"default": "allow"}, "unguarded"),
        ({}, {"default": "allow"}, "unguarded"),
        ({"get_*": {"action": "deny"}}, {"mode": "shadow"}, "unguarded"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_what_a_policy_does_with_a_tool(rules, top, expected):
    assert state(rules, **top) == expected


def test_what_does_more_than_change_and_runs_freely_is_unguarded():
    assert state({"*": {}}, "delete_task") == "unguarded"
    assert state({"*": {"rate_limit": "5/hour"}}, "delete_task") == "limited"


def test_without_a_policy_nothing_guards():
    found = posture(None, CLEARML.tools["clearml/get_task_metrics"])
    assert (found.state, found.decision) == ("unguarded", None)
    assert posture(PolicyEngine(), CLEARML.tools["clearml/get_task_metrics"]).state == "denied"


def test_a_tool_has_the_category_that_a_guard_would_find():
    engine = PolicyEngine(
        Policy.model_validate({"version": "1", "categories": {"read": {}, "destructive": {"action": "approve"}}})
    )
    stack = of_listings(
        "x", [Listed("clearml", "", (tool("get_task_metrics", "Delete all."), tool("delete_x", "Delete it.")), "")]
    )
    assert (
        posture(engine, stack.tools["clearml/get_task_metrics"]).state == "denied"
    )  # it has changed, so it is unknown
    assert posture(engine, stack.tools["clearml/delete_x"]).state == "asks"
    assert posture(engine, CLEARML.tools["clearml/get_task_metrics"]).state == "allowed"


REST = [{"path": "args.amount", "op": "lte", "value": 5}]
COSTLY = {"rate_limit": {"max": 100, "window": 60, "cost": "args.amount"}}


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"all_tools": {"deny_if": [ROLE]}}, "denied"),
        ({"all_tools": {"require": REST, "rate_limit": "5/hour"}, "tools": {"get_*": {}}}, "conditional"),
        ({"tools": {"get_*": {"when": [ROLE], "action": "deny"}}}, "denied"),
        ({"tools": {"get_*": {"when": [ROLE], "action": "deny"}}, "default": "allow"}, "conditional"),
        ({"tools": {"get_*": [{"when": [ROLE], "action": "hide"}, {}]}}, "conditional"),
        ({"tools": {"get_*": [{"when": [{**ROLE, "op": "exists", "value": False}], "action": "hide"}, {}]}},
         "conditional"),
        ({"tools": {"get_*": {"when": [ROLE], "mode": "shadow"}}}, "conditional"),
        ({"tools": {"get_*": {"require": [ROLE], "mode": "shadow"}}}, "allowed"),
        ({"servers": {"s": {"default": "deny"}}, "tools": {"get_*": {"require": [ROLE]}}}, "denied"),
        ({"tools": {"get_*": COSTLY}}, "limited"),
        ({"tools": {"get_*": {"rate_limit": {"max": 3, "window": 60, "cost": 5}}}}, "denied"),
    ],
    ids=[
        "conditions of what lists nothing",
        "conditions beside a limit",
        "a conditional denial of what nothing lists",
        "a conditional denial of what the default allows",
        "hidden from others than the example",
        "hidden from the example",
        "listed by a shadow rule under a condition",
        "conditions in shadow",
        "listed for other servers",
        "a cost that the example lacks",
        "a cost above the limit",
    ],
)  # fmt: skip
def test_the_state_holds_for_every_call(document, expected):
    engine = PolicyEngine(Policy.model_validate({"version": "1", **document}))
    assert posture(engine, stack_of(tool("get_x", "Get it.")).tools["s/get_x"]).state == expected


@pytest.mark.parametrize("default", [10**9, -1, "x", [1]], ids=str)
def test_a_server_cannot_make_its_tool_look_denied(default):
    schema = {"type": "object", "properties": {"amount": {"default": default}}, "required": ["amount"]}
    engine = PolicyEngine(Policy.model_validate({"version": "1", "tools": {"*": COSTLY}}))
    found = posture(engine, stack_of(tool("get_x", "Get it.", schema)).tools["s/get_x"])
    assert (found.state, found.decision.allowed) == ("limited", False)


@pytest.mark.parametrize("default", ["\ud800", {"\ud800": 1}, ["\ud800"]], ids=["text", "key", "member"])
@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"action": "approve"}, "asks"),
        ({"approve_if": [{"path": "args.note", "op": "exists", "value": True}]}, "conditional"),
    ],
    ids=["always", "sometimes"],
)
def test_an_example_that_nobody_can_be_asked_about_says_nothing_of_other_calls(default, rule, expected):
    schema = {"type": "object", "properties": {"note": {"default": default}}, "required": ["note"]}
    engine = PolicyEngine(Policy.model_validate({"version": "1", "tools": {"*": rule}}))
    found = posture(engine, stack_of(tool("get_x", "Get it.", schema)).tools["s/get_x"])
    assert (found.state, str(found.decision.effect)) == (expected, "deny")


def test_a_policy_in_shadow_is_said_to_stop_nothing():
    engine = PolicyEngine(Policy.model_validate({"version": "1", "mode": "shadow"}))
    found = stack_of(tool("get_x", "Get it."), tool("a\nb")).tools
    assert "in shadow and stops nothing" in posture(engine, found["s/get_x"]).says
    invalid = posture(engine, found["s/a-b"])
    assert (invalid.state, "shadow" in invalid.says) == ("denied", False)


def test_the_example_comes_at_the_time_of_day():
    hours = [{"path": "context.time.hour", "op": "gte", "value": 0}]
    engine = PolicyEngine(Policy.model_validate({"version": "1", "tools": {"*": {"require": hours}}}))
    assert posture(engine, stack_of(tool("get_x")).tools["s/get_x"]).decision.allowed


def test_no_definition_counts_where_several_go_by_one_name():
    engine = PolicyEngine(Policy.model_validate({"version": "1", "categories": {"read": {}}}))
    stack = stack_of(tool("get_x", "Get it."), tool("get_x", "Get all."), tool("get_y", "Get it."))
    assert {slug: found.state for slug, found in postures(engine, stack).items()} == {
        "s/get_x": "denied",
        "s/get_x-2": "denied",
        "s/get_y": "allowed",
    }
    assert category(engine, stack.tools["s/get_x"]) == "unknown"
    assert category(PolicyEngine(Policy.model_validate({"version": "1"})), stack.tools["s/get_y"]) is None


RANDOM = of_listings(
    "x", [Listed(server, "", tuple(tool(name) for name in TOOLS), "") for server in ("near", "alone", "far")]
)
_UNJUDGED = {"invalid_call", "internal_error"}


@pytest.mark.parametrize("seed", range(60))
def test_every_state_holds_for_whatever_is_called(seed):
    maker = Maker(seed)
    engine = PolicyEngine(Policy.model_validate(maker.policy()))
    for found in postures(engine, RANDOM).values():
        assert bare(found.decision) == bare(engine.evaluate(found.call))
        calls = [found.call, *(like(found.call, maker) for _ in range(6))]
        for decision in map(engine.evaluate, calls):
            if not {reason.code for reason in decision.reasons} & _UNJUDGED:
                assert agrees(found.state, decision), (found.state, str(decision))


def like(call: ToolCall, maker: Maker) -> ToolCall:
    """Return a call of the same tool, with other arguments, of somebody else."""
    other = tool_call(maker.call())
    return ToolCall(
        call.tool,
        other.arguments or {},
        server=call.server,
        session=other.session,
        principal=other.principal,
        context=other.context,
        category=call.category,
    )


def agrees(state: str, decision: Any) -> bool:
    """Tell whether a call of a tool in this state may be decided so."""
    at_limits = all("limit" in reason.rule.rsplit("/", 2)[-1] + reason.rule.rsplit("/", 2)[-2]
                    for reason in decision.reasons if reason.rule)  # fmt: skip
    return {
        "hidden": decision.effect == "deny",
        "denied": decision.effect in ("deny", "limit"),
        "conditional": True,
        "asks": decision.effect == "approve" or (not decision.allowed and at_limits),
        "limited": decision.allowed or at_limits,
        "allowed": decision.allowed,
        "unguarded": decision.allowed,
    }[state]


def test_an_example_is_made_from_the_schema():
    schema = {
        "type": "object",
        "properties": {
            "a": {"type": "string"}, "b": {"type": ["null", "integer"]}, "c": {"enum": [None, "x"]}, "d": {"const": 7},
            "e": {"anyOf": [{"type": "null"}, {"type": "boolean"}]}, "f": {}, "g": {"type": "array", "default": [1]},
            "h": {"type": "string"}, "i": {"type": 5}, "j": True,
        },
        "required": ["a", "b", "c", "d", "e", "f", "g", "i", "j", "nothing", 5],
    }  # fmt: skip
    found = example_arguments(stack_of(tool("t", "", schema)).tools["s/t"].definition)
    assert found == {
        "a": "example",
        "b": 1,
        "c": "x",
        "d": 7,
        "e": True,
        "f": "example",
        "g": [1],
        "i": "example",
        "j": "example",
    }
