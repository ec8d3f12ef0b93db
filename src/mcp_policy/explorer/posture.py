"""What a policy does with a tool: the engine's own answer to an example call, and what that hangs on.

Rules kept here:

- Nothing is decided here. The decision shown is the engine's on the example call; the state adds what its plan for the
  tool holds for every call: whether conditions, limits or a person take part.
- The state never hangs on the values of the example, which its server can choose: where a condition looks at the call,
  the state says that it depends on it, and what costs too much as an example is not denied for that.
- What nothing holds back stands out: a tool that only the default allows, and one that does more than look and change,
  and runs without a limit, a condition or a person.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from mcp_policy.call import UNKNOWN, ToolCall
from mcp_policy.catalogue.definition import Definition, parameters
from mcp_policy.decision import Decision, Effect, ReasonCode
from mcp_policy.engine import PolicyEngine
from mcp_policy.evaluator import Plan, Rule
from mcp_policy.guard import utc_now

from .stack import Stack, Tool

State: TypeAlias = Literal["unguarded", "allowed", "conditional", "limited", "asks", "denied", "hidden"]

SESSION: Final = "example"
_UNJUDGED: Final = frozenset((ReasonCode.NO_POLICY, ReasonCode.INVALID_CALL, ReasonCode.INTERNAL_ERROR))


class Posture(NamedTuple):
    """What a policy does with a tool: the state, a sentence for people, and the engine's decision on which call."""

    state: State
    says: str
    decision: Decision | None
    call: ToolCall


def postures(engine: PolicyEngine | None, stack: Stack) -> dict[str, Posture]:
    """Return what is done with each tool of a stack, by slug."""
    return {slug: posture(engine, tool) for slug, tool in stack.tools.items()}


def posture(engine: PolicyEngine | None, tool: Tool) -> Posture:
    """Return what is done with a tool; without an engine nothing guards it."""
    call = example_call(engine, tool)
    if engine is None:
        return Posture("unguarded", "No policy is loaded, so nothing stops a call of it.", None, call)
    decision = engine.evaluate(call)
    plan = _plan(engine, call, decision)
    state: State = "denied" if plan is None else _state(plan, decision, tool)
    in_shadow = plan is not None and plan.shadow
    says = f"{_SAYS[state]}{_IN_SHADOW if in_shadow else ''}. For the example: {decision}"
    return Posture(state, says, decision, call)


def _plan(engine: PolicyEngine, call: ToolCall, decision: Decision) -> Plan | None:
    """Return what the engine goes by for this tool, or None where it denies every call without looking."""
    document = engine._plans.document
    # with a rule it is the example that cannot be put to a person, for what its server has put into it
    if document is None or any(reason.code in _UNJUDGED and not reason.rule for reason in decision.reasons):
        return None
    return document.plan(call.tool, *document.variant(call))


def _state(plan: Plan, decision: Decision, tool: Tool) -> State:
    rules = [rule for rule, _ in plan.entries if not rule.shadow]
    listing = [rule for rule, may_list in plan.entries if may_list and rule.can_list and rule.action in _OPENING]
    needs_listing = plan.default is Effect.DENY
    if plan.shadow:
        return "unguarded"
    if plan.hidden or any(rule.action == "hide" and rule.when is None for rule in rules):
        return "hidden"
    if any(map(_stops_all, rules)) or (needs_listing and not listing):
        return "denied"
    if any(map(_looks, rules)) or (needs_listing and all(rule.when is not None for rule in listing)):
        return "conditional"
    if any(rule.action == "approve" for rule in rules):
        return "asks"
    if any(rule.limits for rule in rules):
        return "limited"
    if not decision.allowed:  # for a reason that is not in the plan
        return "denied"
    only_by_default = ReasonCode.DEFAULT_ALLOW in {reason.code for reason in decision.reasons}
    return "unguarded" if only_by_default or tool.row.category not in ("read", "write") else "allowed"


_OPENING: Final = ("allow", "approve")


def _stops_all(rule: Rule) -> bool:
    """Tell whether a rule denies every call: by its action, or by a limit that is less than what each call costs."""
    dear = any(isinstance(limit.cost, int) and limit.cost > limit.maximum for limit in rule.limits)
    return rule.when is None and (rule.action == "deny" or dear)


def _looks(rule: Rule) -> bool:
    """Tell whether what a rule does depends on the call."""
    return rule.when is not None or bool(rule.items)


_SAYS: Final[Mapping[State, str]] = {
    "unguarded": "Calls run, and nothing holds them back",
    "allowed": "Calls run",
    "conditional": "It depends on the call",
    "limited": "Calls run, as often as the limit allows",
    "asks": "Each call waits for a person",
    "denied": "No call runs",
    "hidden": "It is answered as a tool that does not exist",
}
_IN_SHADOW: Final = ", as the policy is in shadow and stops nothing"


# -- the example


def example_call(engine: PolicyEngine | None, tool: Tool) -> ToolCall:
    """Return a call of a tool as a guard in front of its server would make it."""
    return ToolCall(
        tool.definition.name,
        example_arguments(tool.definition),
        server=tool.of.id,
        session=SESSION,
        context={"time": utc_now()},
        category=None if engine is None else category(engine, tool),
    )


def category(engine: PolicyEngine, tool: Tool) -> str | None:
    """Return the category that a guard in front of the tool's server would make a call with."""
    if not tool.listed or not engine.asks_definitions:
        return None
    return UNKNOWN if tool.contested else engine.category(tool.of.id, tool.definition)


def example_arguments(definition: Definition) -> dict[str, Any]:
    """Return the required arguments of a tool, with values of the types that its schema asks for."""
    required = definition.input_schema.get("required")
    names = required if isinstance(required, list) else []
    return {name: _example(schema) for name, schema in parameters(definition) if name in names}


_EXAMPLES: Final[Mapping[str, Any]] = {
    "string": "example",
    "integer": 1,
    "number": 1,
    "boolean": True,
    "array": [],
    "object": {},
}


def _example(schema: Mapping[str, Any]) -> Any:
    for key in ("const", "default"):
        if schema.get(key) is not None:
            return schema[key]
    for key in ("enum", "examples"):
        choices = schema.get(key)
        first = next((one for one in choices if one is not None), None) if isinstance(choices, list) else None
        if first is not None:
            return first
    return _EXAMPLES.get(_kind(schema), "example")


def _kind(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        return next((one for one in kind if isinstance(one, str) and one != "null"), "")
    if isinstance(kind, str):
        return kind
    branches: list[Any] = next((schema[key] for key in ("anyOf", "oneOf") if isinstance(schema.get(key), list)), [])
    kinds = (branch.get("type") for branch in branches if isinstance(branch, dict))
    return next((one for one in kinds if isinstance(one, str) and one != "null"), "")
