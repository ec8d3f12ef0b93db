"""What a refusal says to the agent: one text, and the same facts for programs beside it.

Pure. The text's first line opens with one of three marks: an agent can tell a refusal that stands from one that waits.

- `[POLICY DENIED]`: the same call will be refused again;
- `[POLICY LIMIT]`: the same call may pass later, after `Retry in N s.` where a time is known;
- `[POLICY APPROVAL REQUIRED]`: the same call may pass once somebody has approved `Approval id: …`.

The facts stand under `META_KEY` in the result's `_meta`: `effect`, `codes`, and where they exist `retry_after` (in
seconds) and `approval_id`. Neither holds a rule of another tool nor a value of an argument. About a hidden tool nothing
is said at all: enforcement points ask `is_hidden` first and answer as their stack answers a tool that it does not have.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

from .decision import Decision, Effect, ReasonCode

META_KEY: Final = "io.github.mcp-policy/decision"
"""The key in a result's `_meta` under which the machine-readable decision stands."""

_MARKS: Final = {
    Effect.DENY: "[POLICY DENIED]",
    Effect.LIMIT: "[POLICY LIMIT]",
    Effect.APPROVE: "[POLICY APPROVAL REQUIRED]",
}


class Answer(NamedTuple):
    """What goes back to the agent: `text` for the model, `meta` for the result's `_meta`."""

    text: str
    meta: dict[str, Any]


def is_hidden(decision: Decision) -> bool:
    """Return whether the caller must not learn that the tool exists, nor that there is a policy."""
    return any(reason.code is ReasonCode.HIDDEN for reason in decision.reasons)


def answer(decision: Decision) -> Answer:
    """Return what to tell the agent whose call `decision` stops.

    Raises `ValueError` for a decision that lets the call run, and for a hidden tool, about which nothing may be said.
    """
    if decision.allowed:
        raise ValueError("an allowed call has no refusal to explain")
    if is_hidden(decision):
        raise ValueError("a hidden tool is answered as an unknown one, without a word of policy")
    return Answer(_text(decision), {META_KEY: _facts(decision)})


def _text(decision: Decision) -> str:
    said = dict.fromkeys(_sentence(reason.message) for reason in decision.reasons)
    parts = [_MARKS[decision.effect], *said]
    if decision.retry_after is not None:
        parts.append(f"Retry in {max(1, math.ceil(decision.retry_after))} s.")
    if decision.approval is not None:
        parts.append(f"Approval id: {decision.approval.id}")
    return " ".join(parts)


def _sentence(message: str) -> str:
    message = message.strip()
    return message if message.endswith((".", "!", "?", "…")) else f"{message}."


def _facts(decision: Decision) -> dict[str, Any]:
    codes = list(dict.fromkeys(str(reason.code) for reason in decision.reasons))
    facts: dict[str, Any] = {"effect": str(decision.effect), "codes": codes}
    if decision.retry_after is not None:
        facts["retry_after"] = math.ceil(decision.retry_after * 1000) / 1000  # never a moment too early
    if decision.approval is not None:
        facts["approval_id"] = decision.approval.id
    return facts
