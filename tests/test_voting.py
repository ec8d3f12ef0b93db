"""Several people decide, and not everybody may."""

from __future__ import annotations

import asyncio

import pytest

from mcp_policy import Policy, PolicyEngine, Principal, ReasonCode, ToolCall
from mcp_policy.approvals import ApprovalError

POLICY = Policy.model_validate({"version": "1", "tools": {"pay": {"action": "approve"}}})
CALL = ToolCall("pay", {"amount": 1}, principal=Principal("eve"))


def engine_with(**more) -> PolicyEngine:
    return PolicyEngine(POLICY, clock=lambda: 0.0, **more)


def test_two_people_approve_where_two_are_needed():
    engine = engine_with(quorum=2)
    waiting = engine.authorize(CALL).approval
    assert engine.approve(waiting.id, by="ann", note="fine").status == "pending"
    assert engine.authorize(CALL).reasons[0].code is ReasonCode.APPROVAL_REQUIRED
    decided = engine.approve(waiting.id, by="bob")
    assert (decided.status, decided.decided_by) == ("approved", "ann, bob")
    assert [(vote.by, vote.note) for vote in decided.votes] == [("ann", "fine"), ("bob", "")]
    assert engine.authorize(CALL).allowed
    assert not engine.authorize(CALL).allowed


def test_one_person_is_not_two():
    engine = engine_with(quorum=2)
    waiting = engine.authorize(CALL).approval
    engine.approve(waiting.id, by="ann")
    with pytest.raises(ApprovalError, match=r"`ann` has approved .* already; somebody else has to as well"):
        engine.approve(waiting.id, by=Principal("ann", issuer="elsewhere"))
    assert not engine.authorize(CALL).allowed


def test_one_rejection_rejects_whoever_has_approved():
    engine = engine_with(quorum=2)
    waiting = engine.authorize(CALL).approval
    engine.approve(waiting.id, by="ann")
    assert engine.reject(waiting.id, by="bob", note="too much").status == "rejected"
    assert engine.authorize(CALL).reasons[0].code is ReasonCode.APPROVAL_REJECTED
    with pytest.raises(ApprovalError, match="was rejected by `bob` already"):
        engine.approve(waiting.id, by="cid")


def test_only_those_who_may_decide():
    engine = engine_with(approvers={"ann", "bob"})
    waiting = engine.authorize(CALL).approval
    for decide in (engine.approve, engine.reject):
        with pytest.raises(ApprovalError, match="`cid` is not among those who may decide"):
            decide(waiting.id, by="cid")
    assert engine.approve(waiting.id, by="bob").status == "approved"


def test_who_may_decide_is_part_of_the_question():
    """An engine that decides for another one cannot ask for less."""
    asking = engine_with(approvers=["ann", "bob"], quorum=2)
    deciding = PolicyEngine(approvals=asking._approvals, allow_self_approval=True)
    waiting = asking.authorize(CALL).approval
    with pytest.raises(ApprovalError, match="not among those"):
        deciding.approve(waiting.id, by="cid")
    assert deciding.approve(waiting.id, by="ann").status == "pending"


def test_nobody_votes_for_a_call_of_their_own():
    engine = engine_with(quorum=2)
    waiting = engine.authorize(CALL).approval
    with pytest.raises(ApprovalError, match="its own call"):
        engine.approve(waiting.id, by="eve")
    with pytest.raises(ApprovalError, match="its own call"):
        asyncio.run(engine.approve_async(waiting.id, by=Principal("eve")))


def test_a_note_is_bounded():
    engine = engine_with()
    waiting = engine.authorize(CALL).approval
    with pytest.raises(ApprovalError, match="a note has at most 1,000 characters"):
        engine.approve(waiting.id, by="ann", note="x" * 1_001)
    assert engine.approval(waiting.id).status == "pending"


def test_what_waits_says_which_policy_asked():
    engine = engine_with()
    engine.authorize(CALL)
    (waiting,) = engine.pending()
    assert (waiting.policy, waiting.needed, waiting.approvers) == (POLICY.digest, 1, None)
    assert asyncio.run(engine.pending_async()) == [waiting]
    assert asyncio.run(engine.approval_async(waiting.id)) == waiting


@pytest.mark.parametrize("quorum", [0, -1, True, 1.5, "2", None])
def test_a_quorum_is_a_number_of_people(quorum):
    with pytest.raises(ValueError, match="`quorum` is a number of people"):
        engine_with(quorum=quorum)


def test_a_quorum_that_cannot_come_together_is_refused():
    with pytest.raises(ValueError, match="asks for 3 people, and there are 2 `approvers`"):
        engine_with(quorum=3, approvers=["ann", "bob", "bob"])
    with pytest.raises(TypeError, match="not one name"):
        engine_with(approvers="ann")
