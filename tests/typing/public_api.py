"""What a type checker knows of the public names. It is checked, not run: an unused `type: ignore` is an error too."""

from __future__ import annotations

from typing import assert_type

from mcp_policy import (
    Decision,
    Effect,
    Guard,
    Policy,
    PolicyDenied,
    PolicyEngine,
    PolicyError,
    Principal,
    Reason,
    ReasonCode,
    ToolCall,
)


def documents() -> None:
    assert_type(Policy.load("policy.json"), Policy)
    assert_type(Policy.parse(b"{}"), Policy)
    assert_type(Policy.model_validate({"version": "1"}), Policy)
    try:
        Policy.parse("{}", format="xml")  # type: ignore[arg-type]
    except PolicyError as error:
        assert_type(error.problems[0].pointer, str)
        assert_type(error.problems[0].line, int | None)


def calls() -> None:
    principal = Principal("ann", issuer="https://id.example.com", roles=["admin"], claims={"team": "a"})
    assert_type(ToolCall("rm", {"path": "/"}, server="files", session="s1", principal=principal), ToolCall)
    assert_type(ToolCall("rm"), ToolCall)


async def decisions(policy: Policy, call: ToolCall) -> None:
    engine = PolicyEngine(policy, clock=lambda: 0.0)
    assert_type(engine.evaluate(call), Decision)
    assert_type(engine.authorize(call), Decision)
    assert_type(await engine.authorize_async(call), Decision)
    engine.evaluate("rm")  # type: ignore[arg-type]


def answers(decision: Decision) -> None:
    assert_type(decision.effect, Effect)
    assert_type(decision.allowed, bool)
    assert_type(decision.reasons, tuple[Reason, ...])
    assert_type(decision.reasons[0].code, ReasonCode)
    assert_type(decision.reasons[0].path, str | None)
    assert_type(decision.retry_after, float | None)
    assert_type(decision.would_be, Effect | None)
    assert_type(decision.limits[0].reset_after, float)
    if decision.approval is not None:
        assert_type(decision.approval.id, str)
    decision.effect = Effect.ALLOW  # type: ignore[misc]


async def guards(guard: Guard) -> None:
    @guard
    def delete(task_id: str, *, force: bool = False) -> int:
        return len(task_id)

    @guard("delete_task")
    async def delete_later(task_id: str) -> int:
        return len(task_id)

    assert_type(delete("a1", force=True), int)
    assert_type(await delete_later("a1"), int)
    delete(1)  # type: ignore[arg-type]


def denials(denied: PolicyDenied) -> None:
    assert_type(denied.decision, Decision)
