"""What another policy would have decided about recorded calls, as far as a record can tell.

A record has the names of a call's arguments and only some of their values. So a condition is known, or it is not, and
then every way in which it could have come out is tried: what all of them lead to is certain, the rest cannot be told.

Rules kept here:

* nothing is claimed that an argument, a role, a context or a category could change that is not on record;
* limits count along, by the record's times and identities, from its beginning; once a call may have been counted or
  not, what its counters say cannot be told until that has left their windows;
* an approval that a person gave then is taken to be given again; nothing else is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import product
from typing import Any, Final, NamedTuple

from .call import CATEGORIES, UNKNOWN, Principal, ToolCall
from .compiler import Document, cost_path
from .conditions import APPROVE_IF, DENY_IF, REQUIRE, Item
from .decision import Effect, ReasonCode
from .demands import demand, fits, used_up
from .evaluator import Limit, Plan, Ruling, judge, parts
from .limits.memory import MemoryLimitStore
from .operators import AGAINST, ERRS, FAILS, HOLDS
from .paths import Path, parse_path
from .patterns import check_name
from .policy import Policy

_WAYS: Final = 4_096  # tried at most
_OUTCOMES: Final = {REQUIRE: (HOLDS, FAILS), DENY_IF: (FAILS, HOLDS), APPROVE_IF: (FAILS, HOLDS, ERRS)}
_WHEN: Final = (HOLDS, FAILS, AGAINST, ERRS)
_COST: Final = (HOLDS, ERRS)
_FAILED: Final = frozenset({ReasonCode.INTERNAL_ERROR, ReasonCode.STATE_UNAVAILABLE})


class Verdict(NamedTuple):
    """What a recorded call would come to now."""

    seq: int
    server: str | None
    tool: str
    before: Effect
    """What was decided then."""
    after: Effect | None
    """What would be decided; None where that cannot be told."""
    rule: str
    """JSON Pointer into the new policy to what decides; empty where nothing in it speaks."""
    why: str
    """Why it cannot be told; empty where it can."""

    @property
    def differs(self) -> bool:
        """Whether it would be decided differently, for certain."""
        return self.after is not None and self.after is not self.before

    @property
    def is_looser(self) -> bool:
        """Whether it would run now, and did not then."""
        return self.differs and self.after is Effect.ALLOW


class _Unknown(Exception):
    """It cannot be told; the text says why."""


class Replay:
    """Puts recorded calls to a policy, one after the other, in the order of the record."""

    def __init__(self, policy: Policy) -> None:
        self._category: str | None = None
        self._policy = policy
        self._document = Document(policy._tree, lambda _: self._category)
        self._now = 0.0
        self._store = MemoryLimitStore(lambda: self._now)
        self._doubtful: dict[str, float] = {}

    def judge(self, record: Mapping[str, Any]) -> Verdict:
        """Judge a record of a decision. Raises `ValueError` for what is none."""
        try:
            facts = _Facts.of(record)
            self._now = facts.at
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError("this is no record of a decision") from error
        about = (facts.seq, facts.call.server, facts.call.tool, facts.before)
        try:
            after, rule = self._decide(facts)
        except _Unknown as unknown:
            return Verdict(*about, None, "", str(unknown))
        return Verdict(*about, after, rule, "")

    def _decide(self, facts: _Facts) -> tuple[Effect, str]:
        if facts.is_malformed or check_name(facts.call.tool) is not None:
            return Effect.DENY, ""
        rulings, unknown = self._rulings(facts)
        passing = [ruling for ruling in rulings if ruling.effect is not Effect.DENY]
        why = ""
        if facts.code in _FAILED:
            why = "it was not decided by the rules then: a store or the engine failed"
        elif not passing:
            return Effect.DENY, rulings[0].reasons[0].rule
        elif len(passing) < len(rulings):
            why = _depends(unknown)
        try:
            return self._settle(passing, facts, unknown, why)
        except _Unknown:
            self._doubt(limit for ruling in passing for limit in ruling.limits)
            raise

    # -- rules

    def _rulings(self, facts: _Facts) -> tuple[list[Ruling], list[str]]:
        """Every ruling that the policy may come to, and what is not known that could make the difference."""
        unknown: list[str] = []
        rulings: dict[tuple[Any, ...], Ruling] = {}
        categories: tuple[str | None, ...] = (facts.category,)
        if self._document.has_categories and facts.category is None:
            categories = (*CATEGORIES, None)
            unknown.append("the tool's category")
        for category in categories:
            self._category = None if category == UNKNOWN else category
            plan = self._document.plan(facts.call.tool, *self._document.variant(facts.call))
            for ruling in self._ways(plan, facts, unknown):
                rulings.setdefault((ruling.effect, ruling.limits, ruling.asks), ruling)
        return list(rulings.values()), unknown

    def _ways(self, plan: Plan, facts: _Facts, unknown: list[str]) -> Iterator[Ruling]:
        askable = facts.is_readable and not any(rule.reads for rule, _ in plan.entries)
        if plan.shadow and _may_ask(plan) and not askable:
            raise _Unknown("a person may have to be asked, and whether one can be is not on record")
        choices: list[tuple[int, ...]] = []
        ways = 1
        for part, outcome, _ in parts(plan):
            missing = [text for text, path in self._reads(part) if not facts.knows(path)]
            unknown += [f"`{text}`" for text in missing]
            choices.append(_open(part) if missing else (outcome(facts.call),))
            ways *= len(choices[-1])
        if ways > _WAYS:
            self._doubt(limit for rule, _ in plan.entries for limit in rule.limits)
            raise _Unknown(f"there are too many ways for it to come out: {_depends(unknown)}")
        for outcomes in product(*choices):
            yield _in_shadow(plan) if plan.shadow else judge(plan, outcomes, with_shadow=False)

    def _reads(self, part: Item | Limit) -> list[tuple[str, Path]]:
        if isinstance(part, Item):
            return [read for condition in part.conditions for read in condition.reads]
        raw: Any = self._policy._tree
        for step in part.pointer.split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            raw = raw[int(key)] if isinstance(raw, list) else raw[key]
        text = cost_path(raw)
        return [] if text is None else [(text, parse_path(text))]

    # -- limits and approvals

    def _settle(self, passing: list[Ruling], facts: _Facts, unknown: list[str], why: str) -> tuple[Effect, str]:
        if why:
            raise _Unknown(why)
        ruling = passing[0]
        limits = {tuple(limit.pointer for limit in other.limits) for other in passing}
        asks = {bool(other.asks) for other in passing}
        if len(limits) > 1 or len(asks) > 1:
            raise _Unknown(_depends(unknown))
        self._check_counts(ruling, facts)
        asked = demand(ruling.limits)
        requests = asked.ask(facts.call)
        waits = bool(ruling.asks) and facts.code != ReasonCode.APPROVED
        receipt = self._store.peek(requests) if waits else self._store.acquire(requests)
        if not (fits(receipt) if waits else receipt.taken):
            if any(limit.refund for limit in ruling.limits):
                raise _Unknown("whether earlier calls failed, and gave back what they took, is not on record")
            return Effect.LIMIT, used_up(ruling.limits, asked.counters, receipt)[0][0].rule
        if waits:
            return self._ask(ruling, facts)
        return Effect.ALLOW, ruling.reasons[0].rule

    def _ask(self, ruling: Ruling, facts: _Facts) -> tuple[Effect, str]:
        rule = ruling.asks[0].rule
        if not facts.is_readable:  # what has no JSON cannot be put to a person
            return Effect.DENY, rule
        if ruling.reads:
            raise _Unknown(_depends([f"`{text}`" for text in ruling.reads]))
        return Effect.APPROVE, rule

    def _check_counts(self, ruling: Ruling, facts: _Facts) -> None:
        for limit in ruling.limits:
            missing = [text for text, path in self._reads(limit) if not facts.knows(path)]
            if missing:
                raise _Unknown(_depends([f"`{missing[0]}`"]))
            if self._doubtful.get(limit.counter, 0.0) > facts.at:
                raise _Unknown("whether an earlier call was counted cannot be told")

    def _doubt(self, limits: Iterable[Limit]) -> None:
        """Remember that these limits may have counted this call, or not."""
        for limit in limits:
            self._doubtful[limit.counter] = max(self._doubtful.get(limit.counter, 0.0), self._now + limit.window)


def _may_ask(plan: Plan) -> bool:
    return any(
        rule.action == "approve" or any(item.kind == APPROVE_IF for item in rule.items) for rule, _ in plan.entries
    )


def _in_shadow(plan: Plan) -> Ruling:
    return judge(plan._replace(entries=(), hidden=(), default=Effect.ALLOW), (), with_shadow=False)


def _open(part: Item | Limit) -> tuple[int, ...]:
    return _OUTCOMES.get(part.kind, _WHEN) if isinstance(part, Item) else _COST


def _depends(unknown: list[str]) -> str:
    return f"it depends on {', '.join(dict.fromkeys(unknown))}, which is not on record"


class _Facts(NamedTuple):
    """What a record says of its call."""

    seq: int
    at: float
    before: Effect
    code: str
    call: ToolCall
    category: str | None
    keys: frozenset[str]
    values: frozenset[str]
    is_whole: bool
    """Whether all names of arguments are on record."""
    is_malformed: bool
    """Whether it was no proper call, whatever the policy."""
    is_readable: bool
    """Whether its arguments are JSON."""

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> _Facts:
        who = record["principal"]
        values = record.get("values", {})
        keys = frozenset(record["keys"])
        call = ToolCall(
            record["tool"],
            {key: values.get(key) for key in keys},
            server=record["server"],
            session=record["session"],
            principal=None if who is None else Principal(who["id"], issuer=who["issuer"], client=who["client"]),
        )
        at = datetime.fromisoformat(record["time"]).timestamp()
        return cls(
            int(record["seq"]),
            at,
            Effect(record["effect"]),
            record["codes"][0],
            call,
            record.get("category"),
            keys,
            frozenset(values),
            not record.get("more", False),
            record["codes"][0] == ReasonCode.INVALID_CALL and not record["rules"],
            record["arguments"] is not None,
        )

    def knows(self, path: Path) -> bool:
        """Tell whether what a path leads to is on record, also that it leads to nothing."""
        if path.root == "args":
            if not path.steps:
                return self.is_whole and self.keys <= self.values
            step = path.steps[0]
            return not isinstance(step, str) or step in self.values or (self.is_whole and step not in self.keys)
        if path.root in {"principal.id", "principal.issuer", "principal.client"}:
            return True
        if path.root.startswith("principal."):
            return self.call.principal is None
        if path.root == "session.id":
            return self.call.session is None
        if path.root == "tool.category":
            return self.category is not None
        return path.root in {"server.name", "tool.name"}
