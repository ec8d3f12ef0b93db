"""What a policy does with a tool, told by the engine's own answer to an example call of it.

Rules kept here:

- Nothing is decided here. The state is read off the engine's decision on the example call, and off the explanation of
  that decision.
- An example call is what an agent could send: the required arguments, of the types that the schema asks for. Where a
  condition looks at a call, the state says that it depends on it, whatever came out for the example.
- What nothing holds back stands out: a tool that only the default allows, and one that does more than look and change,
  and runs without a limit, a condition or a person.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from mcp_policy.call import ToolCall
from mcp_policy.catalogue.definition import Definition, parameters
from mcp_policy.conditions import WHEN
from mcp_policy.decision import Decision, Effect, ReasonCode
from mcp_policy.engine import PolicyEngine
from mcp_policy.explain import Explanation, RuleTrace

from .stack import Stack, Tool

State: TypeAlias = Literal["unguarded", "allowed", "conditional", "limited", "asks", "denied", "hidden"]

SESSION: Final = "example"


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
    # what no entry matches needs no explanation: most tools, in most stacks
    explanation = None if _is_plain(decision) else engine.explain(call)
    policy = engine.policy
    shadow = policy is not None and policy.document.get("mode") == "shadow"
    state = _state(decision, explanation, tool, shadow=shadow)
    says = f"{_SAYS[state]}{_IN_SHADOW if shadow else ''}. For the example: {decision}"
    return Posture(state, says, decision, call)


def _is_plain(decision: Decision) -> bool:
    return {reason.code for reason in decision.reasons} <= {
        ReasonCode.HIDDEN,
        ReasonCode.NO_POLICY,
        ReasonCode.INVALID_CALL,
    }


def _state(decision: Decision, explanation: Explanation | None, tool: Tool, *, shadow: bool) -> State:
    codes = {reason.code for reason in decision.reasons}
    rules = [] if explanation is None else [rule for rule in explanation.rules if not rule.shadow]
    if decision.allowed and shadow:
        return "unguarded"
    if ReasonCode.HIDDEN in codes:
        return "hidden"
    if any(map(_denies, rules)):
        return "denied"
    if any(rule.items for rule in rules):  # they look at the call
        return "conditional"
    if decision.effect is Effect.APPROVE:
        return "asks"
    if not decision.allowed:
        return "denied"
    if any(rule.limits for rule in rules):
        return "limited"
    if ReasonCode.DEFAULT_ALLOW in codes or tool.row.category not in ("read", "write"):
        return "unguarded"
    return "allowed"


def _denies(rule: RuleTrace) -> bool:
    """Tell whether a rule denies every call."""
    return rule.action == "deny" and not any(item.kind == WHEN for item in rule.items)


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
    category = engine.category(tool.of.id, tool.definition) if engine is not None and tool.listed else None
    return ToolCall(
        tool.definition.name,
        example_arguments(tool.definition),
        server=tool.of.id,
        session=SESSION,
        category=category,
    )


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
