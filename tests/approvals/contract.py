"""What every store of approvals promises, whatever keeps its records.

A store takes part by a subclass that says how to make it. The model is a table of digests.
"""

from __future__ import annotations

import contextlib
import math
import sys
import threading
from decimal import Decimal
from typing import ClassVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mcp_policy.approvals import Approval, ApprovalError, ApprovalRequest, ApprovalStore, Vote
from mcp_policy.approvals.store import MAX_NOTE
from mcp_policy.values import equal


class Clock:
    """A clock that stands where it is put."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def request(digest="d", owner="o", ttl=30.0, needed=1, approvers=None, arguments=None) -> ApprovalRequest:
    return ApprovalRequest(
        digest,
        owner,
        ttl,
        tool="pay",
        server="bank",
        arguments={"amount": 1} if arguments is None else arguments,
        principal={"id": "p", "issuer": None},
        session="s",
        rules=("/tools/pay",),
        reason="money leaves the house",
        policy="1234",
        needed=needed,
        approvers=approvers,
    )


class ApprovalStoreContract:
    """The promises; `make` is the store's own."""

    def make(self, clock: Clock, max_pending: int = 100, capacity: int = 1_000) -> ApprovalStore:
        raise NotImplementedError

    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    def store(self, clock: Clock) -> ApprovalStore:
        return self.make(clock)

    @pytest.fixture
    def busy_threads(self):
        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        yield
        sys.setswitchinterval(before)

    # -- asking

    def test_the_first_ask_makes_a_pending_record(self, store, clock):
        clock.now = 5.0
        record, expired = store.ask(request())
        assert not expired
        assert record == Approval(
            id=record.id,
            digest="d",
            status="pending",
            tool="pay",
            server="bank",
            arguments={"amount": 1},
            principal={"id": "p", "issuer": None},
            session="s",
            rules=("/tools/pay",),
            reason="money leaves the house",
            created_at=5.0,
            expires_at=35.0,
            decided_by=None,
            decided_at=None,
            votes=(),
            needed=1,
            approvers=None,
            policy="1234",
        )

    @pytest.mark.parametrize(
        "arguments",
        [
            pytest.param({}, id="nothing"),
            pytest.param(
                {"a": [1, 1.0, 0.1, 1e300, 5e-324, -0.0, 2**63, 10**400], "b": {"": [None, True, False]}}, id="numbers"
            ),
            pytest.param({"a": [Decimal("0.10"), Decimal(5), Decimal("1E+30"), Decimal("-1.5E-9")]}, id="decimals"),
            pytest.param({"Straße \U0001f600\0\n": ["\u2028\x7f", '"\\', "`"]}, id="texts"),
            pytest.param({"a": [[[[[{"b": [[[[{}]]]]}]]]]]}, id="depth"),
            pytest.param({"a": "x" * 1_000_000}, id="size"),
        ],
    )
    def test_arguments_come_back_as_they_went_in(self, store, arguments):
        record, _ = store.ask(request(arguments=arguments))
        for found in (record, store.find("d")[0], store.get(record.id), store.pending()[0]):
            assert equal(found.arguments, arguments)

    def test_asking_again_gets_the_same_record_and_moves_nothing(self, store, clock):
        first, _ = store.ask(request())
        clock.now = 20.0
        assert store.ask(request(owner="another", ttl=900.0)) == (first, False)
        assert store.pending() == [first]

    def test_ids_cannot_be_guessed(self, store):
        ids = [store.ask(request(f"{number}"))[0].id for number in range(100)]
        assert len({*ids}) == 100
        assert all(len(one) >= 22 for one in ids)  # 128 bits

    @pytest.mark.parametrize("ttl", [0.0, -1.0, math.nan, math.inf])
    def test_a_record_has_an_end(self, store, ttl):
        with pytest.raises(ValueError, match="`ttl` must be"):
            store.ask(request(ttl=ttl))
        assert store.pending() == []

    # -- finding

    def test_find_makes_nothing(self, store):
        assert store.find("d") == (None, False)
        assert store.pending() == []
        record, _ = store.ask(request())
        assert store.find("d") == (record, False)

    def test_find_does_not_spend_the_news_of_an_expiry(self, store, clock):
        store.ask(request())
        clock.now = 30.0
        for _ in range(2):
            assert store.find("d") == (None, True)
        assert store.ask(request())[1]

    def test_records_are_found_by_id(self, store):
        record, _ = store.ask(request())
        assert store.get(record.id) == record
        assert store.get("another") is None

    def test_pending_lists_what_waits_oldest_first(self, store, clock):
        records = []
        for clock.now in range(4):
            records.append(store.ask(request(f"{9 - clock.now}"))[0])
        store.decide(records[1].id, True, "r")
        store.decide(records[2].id, False, "r")
        assert store.pending() == [records[0], records[3]]

    # -- deciding

    @pytest.mark.parametrize(("approved", "status"), [(True, "approved"), (False, "rejected")])
    def test_a_decision_is_recorded(self, store, clock, approved, status):
        record, _ = store.ask(request())
        clock.now = 7.0
        decided = store.decide(record.id, approved, "ann")
        assert (decided.status, decided.decided_by, decided.decided_at) == (status, "ann", 7.0)
        assert (decided.id, decided.created_at, decided.expires_at) == (record.id, 0.0, 30.0)
        assert store.get(record.id) == decided
        assert store.find("d") == store.ask(request()) == (decided, False)
        assert store.pending() == []

    @pytest.mark.parametrize("first", [True, False])
    @pytest.mark.parametrize("second", [True, False])
    def test_a_decision_is_made_once(self, store, first, second):
        record, _ = store.ask(request())
        decided = store.decide(record.id, first, "ann")
        with pytest.raises(ApprovalError, match=f"was {decided.status} by `ann` already"):
            store.decide(record.id, second, "bob")
        assert store.get(record.id) == decided

    def test_an_unknown_id_cannot_be_decided(self, store):
        with pytest.raises(ApprovalError, match="unknown approval `x`"):
            store.decide("x", True, "ann")

    def test_somebody_decides(self, store):
        record, _ = store.ask(request())
        with pytest.raises(ApprovalError, match="`by` must name who decides"):
            store.decide(record.id, True, "")
        assert store.get(record.id) == record

    # -- several people

    def test_as_many_people_as_it_needs_approve(self, store, clock):
        record, _ = store.ask(request(needed=3))
        for clock.now, by in ((1.0, "ann"), (2.0, "bob")):
            waiting = store.decide(record.id, True, by)
            assert (waiting.status, waiting.decided_by, waiting.decided_at) == ("pending", None, None)
            assert store.pending() == [waiting]
            assert store.get(record.id) == store.ask(request(needed=3))[0] == waiting
        clock.now = 3.0
        decided = store.decide(record.id, True, "cyd")
        assert (decided.status, decided.decided_by, decided.decided_at) == ("approved", "ann, bob, cyd", 3.0)
        assert decided.votes == (Vote("ann", 1.0), Vote("bob", 2.0), Vote("cyd", 3.0))
        assert store.pending() == []
        assert store.consume("d") == decided

    def test_what_needs_two_is_not_usable_after_one(self, store):
        record, _ = store.ask(request(needed=2))
        waiting = store.decide(record.id, True, "ann")
        assert store.consume("d") is None
        assert store.get(record.id) == waiting

    def test_nobody_approves_twice(self, store):
        record, _ = store.ask(request(needed=2))
        waiting = store.decide(record.id, True, "ann")
        with pytest.raises(ApprovalError, match=r"`ann` has approved .* already"):
            store.decide(record.id, True, "ann")
        assert store.get(record.id) == waiting
        assert store.decide(record.id, True, "bob").status == "approved"

    @pytest.mark.parametrize("by", ["ann", "bob"])
    def test_one_rejection_rejects(self, store, clock, by):
        record, _ = store.ask(request(needed=3))
        store.decide(record.id, True, "ann")
        clock.now = 2.0
        decided = store.decide(record.id, False, by, "too much")
        assert (decided.status, decided.decided_by, decided.decided_at) == ("rejected", by, 2.0)
        assert decided.votes == (Vote("ann", 0.0), Vote(by, 2.0, "too much"))
        assert store.consume("d") is None
        with pytest.raises(ApprovalError, match="was rejected by"):
            store.decide(record.id, True, "cyd")

    @pytest.mark.parametrize("approved", [True, False])
    def test_only_those_who_may_decide_do(self, store, approved):
        record, _ = store.ask(request(approvers=("ann", "bob")))
        assert record.approvers == ("ann", "bob")
        for by in ("eve", "Ann", "ann, bob"):
            with pytest.raises(ApprovalError, match="is not among those who may decide"):
                store.decide(record.id, approved, by)
        assert store.get(record.id) == record
        assert store.decide(record.id, approved, "bob").decided_by == "bob"

    def test_where_nobody_may_decide_nobody_does(self, store):
        record, _ = store.ask(request(approvers=()))
        with pytest.raises(ApprovalError, match="is not among those who may decide"):
            store.decide(record.id, True, "ann")
        assert store.get(record.id) == record

    def test_notes_are_kept(self, store, clock):
        notes = ("fine\nby \u2028me: Straße", "x" * MAX_NOTE)
        record, _ = store.ask(request(needed=2))
        for clock.now, by, note in ((1.0, "ann", notes[0]), (2.5, "bob", notes[1])):
            decided = store.decide(record.id, True, by, note)
        assert decided.votes == (Vote("ann", 1.0, notes[0]), Vote("bob", 2.5, notes[1]))
        assert store.consume("d").votes == decided.votes

    @pytest.mark.parametrize("approved", [True, False])
    def test_a_note_has_a_length(self, store, approved):
        record, _ = store.ask(request())
        with pytest.raises(ApprovalError, match="a note has at most 1,000 characters"):
            store.decide(record.id, approved, "ann", "x" * (MAX_NOTE + 1))
        assert store.get(record.id) == record

    def test_votes_end_with_their_record(self, store, clock):
        record, _ = store.ask(request(needed=2))
        store.decide(record.id, True, "ann")
        clock.now = 30.0
        renewed, expired = store.ask(request(needed=2))
        assert (renewed.votes, expired) == ((), True)
        assert store.decide(renewed.id, True, "ann").status == "pending"

    def test_a_record_that_waits_for_more_votes_keeps_its_place(self, clock):
        store = self.make(clock, max_pending=1)
        record, _ = store.ask(request("1", needed=2))
        store.decide(record.id, True, "ann")
        assert store.ask(request("2")) == (None, False)
        store.decide(record.id, True, "bob")
        assert store.ask(request("2"))[0] is not None

    # -- using up

    def test_an_approval_is_used_once(self, store):
        record, _ = store.ask(request())
        approved = store.decide(record.id, True, "ann")
        assert store.consume("d") == approved
        assert store.consume("d") is None
        assert store.get(record.id) is None
        assert store.find("d") == (None, False)

    def test_after_use_the_next_ask_is_plainly_new(self, store, clock):
        record, _ = store.ask(request())
        store.decide(record.id, True, "ann")
        store.consume("d")
        clock.now = 1.0
        renewed, expired = store.ask(request())
        assert (renewed.status, renewed.created_at, expired) == ("pending", 1.0, False)
        assert renewed.id != record.id
        with pytest.raises(ApprovalError, match="was approved and used"):
            store.decide(record.id, True, "ann")

    def test_after_use_an_older_expiry_is_no_longer_news(self, store, clock):
        store.ask(request())
        clock.now = 30.0
        record, expired = store.ask(request())
        assert expired
        store.decide(record.id, True, "ann")
        store.consume("d")
        assert store.find("d") == (None, False)
        assert store.ask(request())[1] is False

    def test_only_an_approved_record_is_used(self, store):
        assert store.consume("d") is None
        record, _ = store.ask(request())
        assert store.consume("d") is None
        store.decide(record.id, False, "ann")
        assert store.consume("d") is None
        assert store.get(record.id).status == "rejected"

    def test_an_approval_is_for_its_own_digest(self, store):
        store.decide(store.ask(request("d"))[0].id, True, "ann")
        store.ask(request("e"))
        assert store.consume("e") is None
        assert store.consume("d") is not None

    # -- time

    @pytest.mark.parametrize("decision", [None, True, False])
    def test_a_record_is_valid_until_just_before_its_end(self, store, clock, decision):
        record, _ = store.ask(request())
        if decision is not None:
            record = store.decide(record.id, decision, "ann")
        clock.now = math.nextafter(30.0, 0)
        assert store.find("d") == store.ask(request()) == (record, False)
        assert store.get(record.id) == record
        clock.now = 30.0
        assert store.get(record.id) is None
        assert store.pending() == []
        assert store.find("d") == (None, True)
        assert store.consume("d") is None
        with pytest.raises(ApprovalError, match="has expired"):
            store.decide(record.id, True, "bob")

    @pytest.mark.parametrize("decision", [None, True, False])
    def test_the_first_ask_after_the_end_says_so(self, store, clock, decision):
        record, _ = store.ask(request())
        if decision is not None:
            store.decide(record.id, decision, "ann")
        clock.now = 31.0
        renewed, expired = store.ask(request())
        assert (renewed.status, renewed.expires_at, expired) == ("pending", 61.0, True)
        assert renewed.id != record.id
        assert store.find("d") == store.ask(request()) == (renewed, False)
        with pytest.raises(ApprovalError, match="has expired"):
            store.decide(record.id, True, "bob")

    def test_approving_does_not_extend(self, store, clock):
        record, _ = store.ask(request())
        clock.now = 29.0
        store.decide(record.id, True, "ann")
        clock.now = 30.0
        assert store.consume("d") is None

    def test_a_clock_that_goes_back_revives_nothing(self, store, clock):
        record, _ = store.ask(request())
        store.decide(record.id, True, "ann")
        clock.now = 30.0
        store.ask(request("another"))
        clock.now = 0.0
        assert store.consume("d") is None
        assert store.find("d") == (None, True)
        assert store.get(record.id) is None
        assert store.ask(request("e"))[0].expires_at == 60.0

    def test_records_of_any_ttl_expire_on_their_own(self, store, clock):
        for number in (5, 1, 4, 2, 3):
            store.ask(request(f"{number}", ttl=float(number)))
        for clock.now in range(1, 6):
            assert {record.digest for record in store.pending()} == {
                f"{number}" for number in range(1, 6) if number > clock.now
            }

    # -- room

    def test_pending_records_are_bounded_per_owner(self, clock):
        store = self.make(clock, max_pending=2)
        first, _ = store.ask(request("1"))
        store.ask(request("2"))
        assert store.ask(request("3")) == (None, False)
        assert store.find("3") == (None, False)
        assert store.ask(request("1")) == (first, False)
        assert store.ask(request("3", owner="another"))[0] is not None

    @pytest.mark.parametrize("approved", [True, False])
    def test_a_decision_makes_room(self, clock, approved):
        store = self.make(clock, max_pending=1)
        record, _ = store.ask(request("1"))
        store.decide(record.id, approved, "ann")
        assert store.ask(request("2"))[0] is not None
        assert store.ask(request("3"))[0] is None

    def test_an_expiry_makes_room(self, clock):
        store = self.make(clock, max_pending=1)
        store.ask(request("1"))
        clock.now = 30.0
        assert store.ask(request("2")) != (None, False)
        assert store.ask(request("3")) == (None, False)

    def test_a_decided_or_used_record_frees_its_place_once(self, clock):
        store = self.make(clock, max_pending=1)
        store.decide(store.ask(request("1"))[0].id, True, "ann")
        store.ask(request("2"))
        store.consume("1")
        assert store.ask(request("3")) == (None, False)
        clock.now = 30.0
        assert store.ask(request("3"))[0] is not None
        assert store.ask(request("4")) == (None, False)

    def test_where_there_is_no_room_the_news_of_an_expiry_waits(self, clock):
        store = self.make(clock, max_pending=1)
        store.ask(request("1"))
        clock.now = 30.0
        blocking, _ = store.ask(request("2"))
        for _ in range(2):
            assert store.ask(request("1")) == (None, True)
        store.decide(blocking.id, True, "ann")
        record, expired = store.ask(request("1"))
        assert (record.status, expired) == ("pending", True)

    def test_records_are_bounded_altogether(self, clock):
        store = self.make(clock, capacity=3)
        for number in range(3):
            record, _ = store.ask(request(f"{number}", owner=f"{number}"))
        store.decide(record.id, True, "ann")
        assert store.ask(request("more", owner="more")) == (None, False)
        store.consume("2")
        assert store.ask(request("more", owner="more"))[0] is not None

    # -- threads

    def test_of_many_callers_one_asks_one_decides_one_uses(self, store, busy_threads):
        asked: set[str] = set()
        decided: list[str] = []
        used: list[str] = []
        rounds = 60

        def work(number: int) -> None:
            for turn in range(rounds):
                record, _ = store.ask(request(f"{turn}"))
                asked.add(record.id)
                with contextlib.suppress(ApprovalError):
                    decided.append(store.decide(record.id, True, f"{number}").id)
                start_together.wait(60)
                if (found := store.consume(f"{turn}")) is not None:
                    used.append(found.id)

        start_together = threading.Barrier(8)
        threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)
        assert len(decided) == len({*decided}) == rounds
        assert sorted(used) == sorted(decided)
        assert asked == {*decided}

    def test_of_many_votes_at_once_none_is_lost(self, store, busy_threads):
        people, rounds = 8, 20
        records = [store.ask(request(f"{turn}", needed=people))[0] for turn in range(rounds)]
        status: list[str] = []

        def work(number: int) -> None:
            for record in records:
                start_together.wait(60)
                status.append(store.decide(record.id, True, f"{number}").status)

        start_together = threading.Barrier(people)
        threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(people)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)
        assert (status.count("approved"), status.count("pending")) == (rounds, rounds * (people - 1))
        for record in records:
            found = store.consume(record.digest)
            assert sorted(vote.by for vote in found.votes) == [f"{number}" for number in range(people)]


class ApprovalMachine(RuleBasedStateMachine):
    """Any sequence of questions, answers, uses and ticks, against a table of digests.

    A store takes part by a subclass that sets `make`.
    """

    make: ClassVar[staticmethod]
    digests = st.sampled_from(["a", "b", "c", "d"])
    owners = st.sampled_from(["x", "y"])

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.now = -math.inf
        self.store: ApprovalStore = self.make(self.clock, 2, 3)
        self.live: dict[str, Approval] = {}
        self.owner: dict[str, str] = {}
        self.expired: set[str] = set()
        self.ids: list[str] = []

    def _pass_time(self) -> None:
        """The store notices time when something changes it."""
        self.now = max(self.now, self.clock.now)
        for digest, record in [*self.live.items()]:
            if self.now >= record.expires_at:
                del self.live[digest]
                self.expired.add(digest)

    @rule(step=st.sampled_from([0.5, 1.0, 3.0, 10.0, -2.0]))
    def tick(self, step: float) -> None:
        self.clock.now += step

    @rule(digest=digests, owner=owners, ttl=st.sampled_from([1.0, 5.0, 20.0]), needed=st.sampled_from([1, 1, 2]))
    def ask(self, digest: str, owner: str, ttl: float, needed: int) -> None:
        self._pass_time()
        record, expired = self.store.ask(request(digest, owner, ttl, needed))
        if digest in self.live:
            assert (record, expired) == (self.live[digest], False)
            return
        assert expired == (digest in self.expired)
        waiting = [one for one in self.live.values() if one.status == "pending" and self.owner[one.id] == owner]
        if len(waiting) >= 2 or len(self.live) >= 3:
            assert record is None
            return
        assert (record.status, record.created_at, record.expires_at) == ("pending", self.now, self.now + ttl)
        assert record.id not in self.ids
        self.live[digest] = record
        self.owner[record.id] = owner
        self.expired.discard(digest)
        self.ids.append(record.id)

    @precondition(lambda self: self.ids)
    @rule(data=st.data(), approved=st.booleans(), by=st.sampled_from(["ann", "bob"]))
    def decide(self, data: st.DataObject, approved: bool, by: str) -> None:
        self._pass_time()
        approval_id = data.draw(st.sampled_from(self.ids))
        record = next((one for one in self.live.values() if one.id == approval_id), None)
        again = record is not None and approved and by in [vote.by for vote in record.votes]
        if record is None or record.status != "pending" or again:
            with pytest.raises(ApprovalError):
                self.store.decide(approval_id, approved, by)
            return
        decided = self.store.decide(approval_id, approved, by)
        assert decided.votes == (*record.votes, Vote(by, self.now))
        if approved and len(decided.votes) < record.needed:
            assert (decided.status, decided.decided_at) == ("pending", None)
        else:
            assert (decided.status, decided.decided_at) == ("approved" if approved else "rejected", self.now)
        assert (decided.expires_at, decided.digest) == (record.expires_at, record.digest)
        self.live[record.digest] = decided

    @rule(digest=digests)
    def consume(self, digest: str) -> None:
        self._pass_time()
        record = self.live.get(digest)
        usable = record is not None and record.status == "approved"
        assert self.store.consume(digest) == (record if usable else None)
        if usable:
            del self.live[digest]

    @invariant()
    def reading_agrees(self) -> None:
        now = max(self.now, self.clock.now)
        valid = {digest: record for digest, record in self.live.items() if now < record.expires_at}
        for digest in ("a", "b", "c", "d"):
            record = valid.get(digest)
            gone = record is None and (digest in self.expired or digest in self.live)
            assert self.store.find(digest) == (record, gone)
        for approval_id in self.ids:
            assert self.store.get(approval_id) == next((one for one in valid.values() if one.id == approval_id), None)
        waiting = [record for record in valid.values() if record.status == "pending"]
        assert sorted(self.store.pending(), key=lambda one: one.id) == sorted(waiting, key=lambda one: one.id)
