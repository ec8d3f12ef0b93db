"""A call tried against the text of a policy: what the run-time engine decides, and why.

Rules kept here:

- An engine is made for it that has loaded this very text, with a clock and counters of its own: nothing that is counted
  elsewhere is touched, and nothing is decided in another way than at run time.
- What is typed is read as strictly as a policy; what cannot be read is told, and no call is made of it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from mcp_policy.approvals.store import ApprovalError
from mcp_policy.call import Principal, ToolCall
from mcp_policy.decision import Decision, Effect
from mcp_policy.document import read as read_json
from mcp_policy.engine import PolicyEngine
from mcp_policy.errors import PolicyError, json_type
from mcp_policy.explain import Node, explain, nodes
from mcp_policy.policy import Policy

from .posture import category
from .stack import Tool

MAX_TIMES: Final = 1_000
_MOST_SECONDS: Final = 1e9

Form = Mapping[str, str]


class TryError(ValueError):
    """A call that cannot be made of what was typed; `field` names where, and the message is for people."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class Asked(NamedTuple):
    """A call to try, how many times, and how many seconds apart."""

    call: ToolCall
    times: int = 1
    seconds: float = 0


class Tried(NamedTuple):
    """The decision on the last call, what became of all, and every rule that had a part in it.

    `approved` is the decision once a person has agreed, where the call waits for one and that can be in time.
    """

    decision: Decision
    counted: dict[str, int]
    """How many calls were decided how, by effect."""
    nodes: list[Node]
    approved: Decision | None


def asked(form: Form, tool: Tool, engine: PolicyEngine) -> Asked:
    """Return the call of a form, as a guard in front of the tool's server would make it. Raises `TryError`.

    Fields: `arguments` and `context` (JSON objects), `principal`, `issuer`, `client`, `roles` and `scopes` (separated
    by commas), `session`, `times` and `seconds`.
    """
    call = ToolCall(
        tool.definition.name,
        _object(form, "arguments") or {},
        server=tool.of.id,
        session=form.get("session", "").strip() or None,
        principal=_principal(form),
        context=_object(form, "context"),
        category=category(engine, tool),
    )
    times = _number(form, "times", 1, MAX_TIMES)
    if times is not None and not times.is_integer():
        raise TryError("times", "`times` is a whole number")
    return Asked(call, int(times or 1), _number(form, "seconds", 0, _MOST_SECONDS) or 0)


def tried(text: str, form: Form, tool: Tool) -> Tried:
    """Return what the policy of a text decides on the call of a form.

    Raises `PolicyError` for a text that does not load, and `TryError` for what is no call.
    """
    now = 0.0
    # whoever the call is tried for may agree to it here
    engine = PolicyEngine(Policy.parse(text), clock=lambda: now, allow_self_approval=True)
    call, times, seconds = asked(form, tool, engine)
    counted: Counter[str] = Counter()
    for _ in range(times - 1):
        counted[engine.authorize(call).effect] += 1
        now += seconds
    before = engine.evaluate(call)  # as the limits stand when the last call comes
    explained = nodes(explain(engine._plans.document, call, before, values=True, others=True))
    decision = engine.authorize(call)
    counted[decision.effect] += 1
    return Tried(decision, dict(counted), explained, _approved(engine, call, decision))


def _approved(engine: PolicyEngine, call: ToolCall, decision: Decision) -> Decision | None:
    if decision.effect is not Effect.APPROVE or decision.approval is None:
        return None
    try:
        engine.approve(decision.approval.id, by="a person")
    except ApprovalError:  # it has expired at once: its time is less than the clock can tell
        return None
    return engine.authorize(call)


# -- what was typed


def _principal(form: Form) -> Principal | None:
    said = {name: form.get(name, "").strip() for name in ("principal", "issuer", "client")}
    roles, scopes = (_names(form.get(name, "")) for name in ("roles", "scopes"))
    if not any(said.values()) and not roles and not scopes:
        return None
    issuer, client = said["issuer"] or None, said["client"] or None
    return Principal(said["principal"], issuer=issuer, client=client, roles=roles, scopes=scopes)


def _names(typed: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in re.split(r"[,\n]", typed) if name.strip())


def _object(form: Form, field: str) -> dict[str, Any] | None:
    typed = form.get(field, "").strip()
    if not typed:
        return None
    try:
        found, _ = read_json(typed)
    except PolicyError as error:
        problem = error.problems[0]
        where = "" if problem.line is None else f"line {problem.line}, column {problem.column}: "
        raise TryError(field, f"`{field}`: {where}{problem.message}") from None
    if type(found) is not dict:
        raise TryError(field, f"`{field}` has to be a JSON object, found {json_type(found)}")
    return found


def _number(form: Form, field: str, least: float, most: float) -> float | None:
    typed = form.get(field, "").strip()
    if not typed:
        return None
    if not re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", typed) or not least <= float(typed) <= most:
        raise TryError(field, f"`{field}` is a number from {least:g} to {most:,.0f}")
    return float(typed)
