"""What replaying a record claims, against what the engines do with the very calls."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from mcp_policy import Policy, PolicyEngine, Principal, ToolCall
from mcp_policy.audit.jsonl import JsonLinesSink
from mcp_policy.decision import ReasonCode
from mcp_policy.replay import Replay
from properties.differential import START, Catalogue, tool_call
from properties.generate import KEYS, Maker

KEY = b"k" * 32


class World:
    """An engine with a clock, and a record if one is wanted."""

    def __init__(self, policy, sink=None, **more) -> None:
        self.now = START
        loaded = policy if isinstance(policy, Policy) else Policy.parse(json.dumps(policy))
        self.engine = PolicyEngine(loaded, clock=lambda: self.now, audit=sink, **more)


def recorded(path: Path, policy, steps, safe=(), **more):
    """The records of calls under a policy; steps are a time and a call."""
    world = World(policy, **more)
    with JsonLinesSink(path, key=KEY, safe=safe, flush_every=1_000, clock=lambda: world.now) as sink:
        world = World(policy, sink, **more)
        for at, call, then in steps:
            world.now = START + at
            decision = world.engine.authorize(call)
            waiting = decision.approval if decision.effect == "approve" else None
            if then and waiting is not None and waiting.status == "pending":
                getattr(world.engine, then)(waiting.id, by="reviewer")
    return [json.loads(line) for line in path.read_text().splitlines()]


def verdicts(policy, records):
    replay = Replay(policy if isinstance(policy, Policy) else Policy.parse(json.dumps(policy)))
    return [replay.judge(record) for record in records if record["kind"] == "decision"]


def truth(policy, steps, records, **more):
    """What another policy decides about the same calls at the same times, where people approve what they did then."""
    world = World(policy, **more)
    decisions = [record for record in records if record["kind"] == "decision"]
    found = []
    for (at, call, _), record in zip(steps, decisions, strict=True):
        world.now = START + at
        decision = world.engine.authorize(call)
        if decision.effect == "approve" and record["codes"][0] == ReasonCode.APPROVED:
            if decision.approval.status == "pending":
                world.engine.approve(decision.approval.id, by="reviewer")
            decision = world.engine.authorize(call)
        found.append(decision)
    return found


# -- laws


@pytest.mark.parametrize("part", range(8))
def test_what_is_claimed_is_what_the_engine_does(tmp_path, part):
    """Random policies, random calls, random arguments on record: no claim is wrong, and enough is claimed."""
    hits: Counter[str] = Counter()
    for seed in range(part * 60, part * 60 + 60):
        chance = random.Random(seed)
        maker = Maker(seed)
        before, after = maker.policy(), maker.policy()
        steps = [(step["at"], tool_call(step["call"]), step["then"]) for step in maker.steps(12)]
        safe = KEYS if chance.random() < 0.5 else [key for key in KEYS if chance.random() < 0.4]
        records = recorded(tmp_path / f"{seed}.jsonl", before, steps, safe, catalogue=Catalogue())
        for policy in (after, before):
            decisions = truth(policy, steps, records, catalogue=Catalogue())
            for verdict, decision in zip(verdicts(policy, records), decisions, strict=True):
                hits["told" if verdict.after else "untold"] += 1
                if verdict.after is not None:
                    assert verdict.after == decision.effect, (seed, verdict, decision, policy)
                    hits[str(verdict.after)] += 1
    assert hits["told"] > hits["untold"] / 2
    assert min(hits[effect] for effect in ("allow", "deny", "limit", "approve")) > 0


SEEN = Policy.model_validate(
    {
        "version": "1",
        "tools": {
            "pay": {
                "require": [{"path": "args.amount", "op": "lte", "value": 100}],
                "rate_limit": {"max": 3, "window": 60, "per": "principal"},
            },
            "ls": {},
        },
    }
)


def changed(**pay) -> Policy:
    return Policy.model_validate({"version": "1", "tools": {"pay": pay, "ls": {}}})


def pays(*amounts, step=1.0):
    ann = Principal("ann")
    return [
        (number * step, ToolCall("pay", {"amount": amount}, principal=ann), None)
        for number, amount in enumerate(amounts)
    ]


def test_the_same_policy_changes_nothing(tmp_path):
    steps = pays(1, 2, 500, 3, 4)
    found = verdicts(SEEN, recorded(tmp_path / "a", SEEN, steps, safe=["amount"]))
    assert [str(verdict.after) for verdict in found] == ["allow", "allow", "deny", "allow", "limit"]
    assert not any(verdict.differs for verdict in found)


def test_what_depends_on_a_value_that_is_not_on_record_cannot_be_told(tmp_path):
    records = recorded(tmp_path / "a", changed(), pays(1, 500))
    (first, second) = verdicts(SEEN, records)
    assert first.after is second.after is None
    assert first.why == "it depends on `args.amount`, which is not on record"


def test_what_does_not_depend_on_it_can(tmp_path):
    records = recorded(tmp_path / "a", SEEN, pays(1, 500))
    found = verdicts(changed(action="deny"), records)
    assert [(str(verdict.after), verdict.rule) for verdict in found] == [("deny", "/tools/pay")] * 2
    assert [verdict.differs for verdict in found] == [True, False]
    assert not any(verdict.is_looser for verdict in found)


def test_an_argument_that_was_not_there_is_known_to_be_absent(tmp_path):
    records = recorded(tmp_path / "a", SEEN, pays(1))
    (verdict,) = verdicts(changed(require=[{"path": "args.reason", "op": "exists", "value": True}]), records)
    assert str(verdict.after) == "deny"


def test_a_looser_policy_shows_with_its_rule(tmp_path):
    records = recorded(tmp_path / "a", changed(action="deny"), pays(1))
    (verdict,) = verdicts(changed(), records)
    assert (verdict.is_looser, verdict.rule, verdict.seq) == (True, "/tools/pay", 1)


def test_limits_count_along_by_the_times_on_record(tmp_path):
    records = recorded(tmp_path / "a", changed(), pays(*[1] * 6, step=20.0))
    found = verdicts(changed(rate_limit={"max": 2, "window": 60, "per": "principal"}), records)
    assert [str(verdict.after) for verdict in found] == ["allow", "allow", "limit", "allow", "allow", "limit"]
    assert found[2].rule == "/tools/pay/rate_limit"


def test_a_count_that_is_in_doubt_is_in_doubt_until_the_window_is_over(tmp_path):
    steps = [
        (0.0, ToolCall("pay", {"amount": 1}), None),
        (1.0, ToolCall("pay", {}), None),
        (70.0, ToolCall("pay", {}), None),
    ]
    policy = changed(deny_if=[{"path": "args.amount", "op": "gt", "value": 5}], rate_limit={"max": 1, "window": 60})
    found = verdicts(policy, recorded(tmp_path / "a", changed(), steps))
    assert [verdict.after and str(verdict.after) for verdict in found] == [None, None, "allow"]
    assert found[1].why == "whether an earlier call was counted cannot be told"


def test_a_cost_that_is_not_on_record_cannot_be_told(tmp_path):
    policy = changed(limits=[{"max": 10, "window": 60, "cost": "args.amount"}])
    (verdict,) = verdicts(policy, recorded(tmp_path / "a", changed(), pays(1)))
    assert verdict.after is None
    assert "`args.amount`" in verdict.why


def test_refunds_are_not_on_record(tmp_path):
    policy = changed(limits=[{"max": 1, "window": 60, "refund_on_error": True}])
    found = verdicts(policy, recorded(tmp_path / "a", changed(), pays(1, 1)))
    assert [verdict.after and str(verdict.after) for verdict in found] == ["allow", None]


def test_what_a_person_approved_is_approved_again(tmp_path):
    policy = changed(action="approve")
    call = ToolCall("pay", {"amount": 1}, principal=Principal("ann"))
    records = recorded(tmp_path / "a", policy, [(0.0, call, "approve"), (1.0, call, None)])
    assert [str(verdict.after) for verdict in verdicts(policy, records)] == ["approve", "allow"]
    found = verdicts(policy, recorded(tmp_path / "b", changed(), [(0.0, call, None)]))
    assert [(str(verdict.before), str(verdict.after)) for verdict in found] == [("allow", "approve")]


def test_a_document_in_shadow_lets_everything_run(tmp_path):
    policy = Policy.model_validate({"version": "1", "mode": "shadow", "tools": {"pay": {"action": "deny"}}})
    (verdict,) = verdicts(policy, recorded(tmp_path / "a", SEEN, pays(500)))
    assert verdict.is_looser


def test_a_malformed_call_stays_denied(tmp_path):
    records = recorded(tmp_path / "a", SEEN, [(0.0, ToolCall("a" * 300), None), (0.0, ToolCall("ls", 5), None)])
    assert [str(verdict.after) for verdict in verdicts(SEEN, records)] == ["deny", "deny"]


def test_what_failed_then_tells_nothing(tmp_path):
    class Broken:
        def acquire(self, requests):
            raise ConnectionError

        peek = acquire

    records = recorded(tmp_path / "a", changed(rate_limit="5/minute"), pays(1), limits=Broken())
    (verdict,) = verdicts(changed(), records)
    assert verdict.after is None
    assert "failed" in verdict.why


@pytest.mark.parametrize(
    "record",
    [
        pytest.param({}, id="empty"),
        pytest.param({"kind": "decision", "seq": 1, "time": "yesterday"}, id="no time"),
        pytest.param([], id="a list"),
    ],
)
def test_what_is_no_record_is_refused(record):
    with pytest.raises(ValueError, match="no record of a decision"):
        Replay(SEEN).judge(record)
