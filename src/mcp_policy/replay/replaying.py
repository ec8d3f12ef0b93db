"""Recorded calls, decided again by another policy.

The rules are asked for every way in which a call may come out, the limits for what they surely or perhaps let pass. A
decision is told where all of this comes to one effect.

Rules kept here:

* what is told is so for the call that was made, whatever of it is not on record. The one thing that is taken for
  granted is that nothing has been counted before the first record;
* a decision of the same policy is the one on record;
* where a person has approved a call, and it would have to be approved again, a person is taken to approve it again;
* memory does not grow with the number of records.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from ..call import CATEGORIES, UNKNOWN, ToolCall
from ..comparison.sides import Side
from ..decision import Effect
from ..demands import Counter
from ..plans import mentions
from ..policy import Policy
from .counting import Costs, Counts, Taking, costs_of
from .reading import Recorded, read
from .ways import Denied, Passing, Rules, TooMany, Way

_RANK: Final = {Effect.ALLOW: 2, Effect.APPROVE: 1, Effect.DENY: 0, Effect.LIMIT: 0}
"""How far a call gets."""
_EARLIER: Final = "whether an earlier call was counted cannot be told"
_FAILED: Final = "it was not decided by the rules then: a store or the engine failed"
_CUT: Final = "a name is cut"
_TOO_MANY: Final = "it could come out in too many ways"


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
    """JSON Pointer into the new policy to what decides; empty where nothing in it does, or several may."""
    why: str
    """Why it cannot be told; empty where it can."""

    @property
    def differs(self) -> bool:
        """Whether it would be decided differently, for certain."""
        return self.after is not None and self.after is not self.before

    @property
    def is_looser(self) -> bool:
        """Whether it would get further than it did, for certain: it would run, or a person would be asked."""
        return self.after is not None and _RANK[self.after] > _RANK[self.before]


class Replay:
    """Decides recorded calls by a policy, one after the other, in the order of the record."""

    def __init__(self, policy: Policy) -> None:
        side = Side(policy)
        self._digest = policy.digest
        self._rules = Rules(side)
        self._counts = Counts()
        asked = side.document.has_categories or mentions(policy._tree, "tool.category")
        self._categories: tuple[str | None, ...] = (*CATEGORIES, UNKNOWN) if asked else (None,)

    def judge(self, record: Mapping[str, Any]) -> Verdict:
        """Return what the policy would have decided about the call of a record, and count what the call takes then.

        Raises `ValueError` for what is no record of a decision.
        """
        recorded = read(record)
        self._counts.now = recorded.at
        finding = _Finding(recorded, self._rules, self._counts, is_given=recorded.policy == self._digest)
        lost = _CUT if not recorded.known.names else "" if self._find(finding, recorded) else _TOO_MANY
        if lost:
            self._counts.lose()
        elif Effect.ALLOW in finding.effects and finding.taking:
            self._counts.take(finding.taking, recorded.call, surely=len(finding.effects) == 1)
        after, rule, why = finding.outcome(lost)
        return Verdict(recorded.seq, recorded.call.server, recorded.call.tool, recorded.effect, after, rule, why)

    def _find(self, finding: _Finding, recorded: Recorded) -> bool:
        """Find all that a call may come to; False where that is too much."""
        known = recorded.known
        for category in self._categories if known.category is None else (known.category,):
            call = _in_category(recorded.call, category)
            try:
                ways = self._rules.ways(call, known)
            except TooMany:
                return False
            finding.missing.update(dict.fromkeys(ways.missing))
            for way, counters in ways.all:
                finding.add(way, counters, call)
        if known.category is None and len(self._categories) > 1:
            finding.missing["tool.category"] = None
        return True


class _Finding:
    """What is found out about one call."""

    def __init__(self, recorded: Recorded, rules: Rules, counts: Counts, *, is_given: bool) -> None:
        self.recorded = recorded
        self.rules, self.counts = rules, counts
        self.is_given = is_given
        """Whether the decision on record is one of this policy."""
        self.effects: dict[Effect, str] = {}
        """What may be decided, and the rule that does it, empty where that depends."""
        self.missing: dict[str, None] = {}
        self.taking: list[Taking] = []

    def add(self, way: Way, counters: tuple[Counter, ...], call: ToolCall) -> None:
        """Note one way in which the rules may come out."""
        if self.is_given:
            self.effects[self.recorded.effect] = ""
            if isinstance(way, Passing) and not way.shadow:
                self.taking.append((counters, self.costs(way, counters, call)))
        elif isinstance(way, Denied):
            self.note(Effect.DENY, way.rule)
        elif way.shadow:
            self.note(Effect.ALLOW, way.rule)
            if way.asks:
                self.binding(way)
        else:
            self.limited(way, counters, call)

    def costs(self, way: Passing, counters: tuple[Counter, ...], call: ToolCall) -> Costs:
        """Return what a call takes from its counters."""
        unknown = self.rules.unknown_costs(way, self.recorded.known)
        self.missing.update(dict.fromkeys(unknown.values()))
        return costs_of(counters, call, unknown)

    def limited(self, way: Passing, counters: tuple[Counter, ...], call: ToolCall) -> None:
        """Note what limits, and then people, may say."""
        costs = self.costs(way, counters, call)
        standing = self.counts.standing(counters, costs, call)
        if standing.may_stop:
            self.note(Effect.LIMIT, standing.rule)
        if standing.may_pass:
            self.passed(way)
            self.taking.append((counters, costs))

    def note(self, effect: Effect, rule: str) -> None:
        """Note what may be decided, and by which rule."""
        self.effects[effect] = rule if self.effects.get(effect, rule) == rule else ""

    def passed(self, way: Passing) -> None:
        """Note what becomes of a call that passes its limits."""
        if way.asks and self.binding(way):
            effect = Effect.ALLOW if self.recorded.approved else Effect.APPROVE
            self.note(effect, way.asks[0])
        elif not way.asks:
            self.note(Effect.ALLOW, way.rule)

    def binding(self, way: Passing) -> bool:
        """Note that a call which cannot be put to a person is denied, and tell whether it may be put to one."""
        if self.recorded.known.readable and not way.reads:
            return True
        self.note(Effect.DENY, way.asks[0])
        self.missing.update(dict.fromkeys(way.reads))
        return self.recorded.known.readable

    def outcome(self, lost: str) -> tuple[Effect | None, str, str]:
        """Return what is decided, by which rule, and why that cannot be told."""
        if self.is_given:
            return self.recorded.effect, "", ""
        if not lost and len(self.effects) == 1:
            ((effect, rule),) = self.effects.items()
            if not self.recorded.failed or effect is self.recorded.effect:
                return effect, rule, ""
            return None, "", _FAILED
        depends = ", ".join(f"`{path}`" for path in self.missing)
        why = f"it depends on {depends}, which is not on record" if depends else _EARLIER
        return None, "", lost or why


def _in_category(call: ToolCall, category: str | None) -> ToolCall:
    if category is None:
        return call
    return ToolCall(
        call.tool,
        call.arguments,
        server=call.server,
        session=call.session,
        principal=call.principal,
        category=category,
    )
