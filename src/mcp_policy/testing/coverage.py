"""Which parts of a policy its cases reach: every rule, and every outcome of every condition.

Rules kept here:

- Nothing is evaluated for coverage. The conditions of a watched rule are wrapped, and those wrapped ones decide: what
  is counted is what the decision was made from, so that the two cannot disagree.
- What a limit or an entry of `hide` does is taken from the reasons of the decision itself.
- An outcome counts towards the whole only if it can occur: text compared with text is never a wrong type.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from math import floor
from typing import Any, Final, NamedTuple

from ..call import ToolCall
from ..compiler import Document, Place, Section, Tree, compile_rule, together
from ..conditions import REQUIRE, WHEN, CategoryOf, Condition, Item, Outcome
from ..decision import Decision, Reason, ReasonCode
from ..evaluator import Limit, Rule
from ..operators import AGAINST, ERRS, FAILS, HOLDS, MASK
from ..paths import OPEN_ROOTS, Path, parse_path
from ..plans import Plans
from ..policy import Policy
from ..sentences import describe

WORDS: Final = {HOLDS: "holds", FAILS: "does not hold", AGAINST: "absent", ERRS: "wrong type"}
"""The outcomes of a condition. `absent` is said only where absence is neither of the first two."""

APPLIES: Final = "applies"
LISTS: Final = "lists"
MATCHES: Final = "matches"
USED_UP: Final = "used up"

_ALWAYS_THERE: Final = frozenset({"args", "context", "principal.roles", "principal.scopes", "tool.name"})
_LISTS: Final = frozenset({"principal.roles", "principal.scopes"})
_SAMPLES: Final[tuple[object, ...]] = ("a", 1, True, [], [1], {})
_TELLING: Final = {
    ReasonCode.HIDDEN: MATCHES,
    ReasonCode.RATE_LIMITED: USED_UP,
    ReasonCode.TYPE_MISMATCH: WORDS[ERRS],
}


class Row(NamedTuple):
    """One part of a policy: where it stands, what it says, and which of its outcomes the cases reached."""

    policy: str
    pointer: str
    says: str
    seen: tuple[str, ...]
    unseen: tuple[str, ...]
    """Outcomes that can occur and did not."""


class Part(NamedTuple):
    """What stands at a pointer of a policy, and the outcomes to be reached."""

    says: str
    goals: tuple[str, ...]


class Coverage:
    """What the cases that ran with it have reached, over any number of policies."""

    def __init__(self) -> None:
        self._policies: dict[Policy, _Watched] = {}

    def plans(self, name: str, policy: Policy, category_of: CategoryOf) -> Plans:
        """Return what decides by a policy, watched; `name` is what reports call the policy."""
        found = self._policies.get(policy)
        if found is None:
            found = self._policies[policy] = _Watched(name, policy, category_of)
        return found.plans

    def note(self, policy: Policy, decision: Decision) -> None:
        """Take down what a decision says of limits, and of what is hidden."""
        self._policies[policy].note((*decision.reasons, *decision.shadow))

    def rows(self) -> list[Row]:
        """Return a row for each part of each policy, in the order of the policies."""
        return [row for watched in self._policies.values() for row in watched.rows()]

    @property
    def percent(self) -> float:
        """How much of all that can occur did occur; 100 where a policy says nothing that could."""
        reached, every = counted(self.rows())
        return _share(reached, every)

    def __str__(self) -> str:
        """Return a line for each policy and for each part that was not reached in full."""
        return "\n".join(_lines(self.rows()))


# -- reports


def percent_text(percent: float) -> str:
    """Return a percentage with one digit, rounded down: what is not all of it is not called 100."""
    return f"{floor(percent * 10) / 10:.1f} %"


def by_policy(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Return rows by the policy that they are about."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.policy, []).append(row)
    return found


def summary(name: str, rows: Iterable[Row]) -> str:
    """Return the line that says how far a policy is covered."""
    reached, every = counted(rows)
    return f"coverage of {name}: {reached} of {every} outcomes, {percent_text(_share(reached, every))}"


def counted(rows: Iterable[Row]) -> tuple[int, int]:
    """Return how many outcomes were reached, and of how many."""
    rows = list(rows)
    reached = sum(len(row.seen) for row in rows)
    return reached, reached + sum(len(row.unseen) for row in rows)


def _share(reached: int, every: int) -> float:
    return 100.0 * reached / every if every else 100.0


def _lines(rows: list[Row]) -> Iterator[str]:
    for name, parts in by_policy(rows).items():
        yield summary(name, parts)
        for row in parts:
            if row.unseen:
                yield f"  {row.pointer}: {row.says}: never {', never '.join(row.unseen)}"


# -- watching


class _Watched:
    """One policy, and what was seen of it."""

    def __init__(self, name: str, policy: Policy, category_of: CategoryOf) -> None:
        self.name = name
        self.tree = policy._tree
        self.seen: defaultdict[str, set[str]] = defaultdict(set)
        self.plans = Plans(policy, category_of, self.watch)
        self.parts = dict(_parts(self.plans.document, self.tree))

    def watch(self, rule: Rule, may_list: bool) -> Rule:
        """Return a rule whose conditions tell how they come out; that it applies at all is made a condition as well."""
        when = self._item(rule.when or Item(WHEN, rule.pointer, together(WHEN, ()), (), None, rule.reason))
        noting = _noting(when.outcome, self.seen[rule.pointer], _RULE[may_list and rule.can_list])
        return rule._replace(when=when._replace(outcome=noting), items=tuple(map(self._item, rule.items)))

    def _item(self, item: Item) -> Item:
        conditions = tuple(
            condition._replace(outcome=_noting(condition.outcome, self.seen[pointer], _CONDITION))
            for condition, pointer in zip(item.conditions, _pointers(item, self.tree), strict=True)
        )
        return item._replace(outcome=together(item.kind, conditions), conditions=conditions)

    def note(self, reasons: Iterable[Reason]) -> None:
        for reason in reasons:
            word = _TELLING.get(reason.code)
            if word is not None and word in self.parts.get(reason.rule, _NOTHING).goals:
                self.seen[reason.rule].add(word)

    def rows(self) -> Iterator[Row]:
        for pointer, (says, goals) in self.parts.items():
            seen = self.seen[pointer]
            reached = tuple(goal for goal in goals if goal in seen)
            yield Row(self.name, pointer, says, reached, tuple(goal for goal in goals if goal not in seen))


_NOTHING: Final = Part("", ())
_CONDITION: Final[Mapping[int, tuple[str, ...]]] = {code: (word,) for code, word in WORDS.items()}
_RULE: Final[Mapping[bool, Mapping[int, tuple[str, ...]]]] = {
    True: {HOLDS: (APPLIES, LISTS), AGAINST: (APPLIES,)},
    False: {HOLDS: (APPLIES,), AGAINST: (APPLIES,)},
}
"""What a rule does, by whether it may list the tool and by how its `when` comes out."""


def _noting(outcome: Outcome, seen: set[str], words: Mapping[int, tuple[str, ...]]) -> Outcome:
    """Return an outcome that is taken down before it is used."""

    def noted(call: ToolCall) -> int:
        code = outcome(call)
        seen.update(words.get(code & MASK, ()))
        return code

    return noted


# -- what there is to be reached


def _parts(document: Document, tree: Tree) -> Iterator[tuple[str, Part]]:
    for section in (document.top, *document.servers.values()):
        for number, pattern in enumerate(section.tree.get("hide", ())):
            yield f"{section.pointer}/hide/{number}", Part(f"hides `{pattern}`", (MATCHES,))
        for place, raw, pointer in _stated_rules(section):
            rule = compile_rule(raw, place, pointer, document.category_of)
            yield from _rule_parts(rule, place, tree)


def _stated_rules(section: Section) -> Iterator[tuple[Place, Tree, str]]:
    """Yield every rule of a section: where it stands, as written, and its pointer."""
    if "all_tools" in section.tree:
        place = Place(f"{section.pointer}/all_tools", None)
        yield place, section.tree["all_tools"], place.pointer
    for name in ("categories", "tools"):
        for key, raw in section.tree.get(name, {}).items():
            place = Place(f"{section.pointer}/{name}", key)
            if isinstance(raw, list):
                yield from ((place, rule, f"{place.pointer}/{number}") for number, rule in enumerate(raw))
            else:
                yield place, raw, place.pointer


def _rule_parts(rule: Rule, place: Place, tree: Tree) -> Iterator[tuple[str, Part]]:
    # elsewhere a rule that applies lists the tool, or never does; and one that denies opens nothing
    opens = rule.can_list and rule.action in ("allow", "approve") and place.key is not None
    by_case = opens and (rule.when is not None or place.section.endswith("/categories"))
    yield rule.pointer, Part(f"rule: {rule.action}", (APPLIES, LISTS) if by_case else (APPLIES,))
    for item in (*([rule.when] if rule.when else []), *rule.items):
        for condition, pointer in zip(item.conditions, _pointers(item, tree), strict=True):
            yield pointer, Part(f"{item.kind}: {describe(condition)}", tuple(_outcomes(condition, item.kind)))
    for limit in rule.limits:
        yield limit.pointer, _limit_part(limit)


def _limit_part(limit: Limit) -> Part:
    goals = (USED_UP,) if isinstance(limit.cost, int) else (USED_UP, WORDS[ERRS])
    return Part(f"limit: {limit.shown} in {limit.window:g} seconds", goals)


def _pointers(item: Item, tree: Tree) -> list[str]:
    """Return where the conditions of an item stand."""
    if item.kind == WHEN:
        return [f"{item.pointer}/when/{place}" for place in range(len(item.conditions))]
    raw: Any = tree
    for step in item.pointer.split("/")[1:]:
        raw = raw[int(step)] if isinstance(raw, list) else raw[step.replace("~1", "/").replace("~0", "~")]
    if "conditions" in raw:
        return [f"{item.pointer}/conditions/{place}" for place in range(len(item.conditions))]
    return [item.pointer]


def _outcomes(condition: Condition, kind: str) -> Iterator[str]:
    """Yield the outcomes that a condition can have."""
    yield WORDS[HOLDS]
    yield WORDS[FAILS]
    reference = None if condition.value_from is None else parse_path(condition.value_from)
    counts = condition.operator.negative and _may_be_absent(condition.path)
    if counts or (reference is not None and _may_be_absent(reference)):
        yield WORDS[AGAINST]
    unfit = _is_unfit(condition, condition.value) if reference is None else _may_be_unfit(condition, reference)
    if unfit or _may_be_wrong(condition, kind):
        yield WORDS[ERRS]


def _may_be_absent(path: Path) -> bool:
    return bool(path.steps) or path.root not in _ALWAYS_THERE


def _may_be_wrong(condition: Condition, kind: str) -> bool:
    """Tell whether what the path leads to may be of a type that the operator does not take."""
    path, operator = condition.path, condition.operator
    if _is_free(path):
        return operator.kinds is not None or len(path.steps) > 1 or not isinstance(path.steps[0], str)
    (found,) = _samples(path)
    if path.root == "tool.category" or (operator.kinds is not None and type(found) not in operator.kinds):
        return True
    return operator.proper is not None and kind != REQUIRE


def _may_be_unfit(condition: Condition, reference: Path) -> bool:
    """Tell whether what a reference leads to may be nothing that the operator can compare with."""
    if reference.root == "tool.category" or (_is_free(reference) and len(reference.steps) > 1):
        return True
    return any(_is_unfit(condition, value) for value in _samples(reference))


def _is_unfit(condition: Condition, value: object) -> bool:
    operator = condition.operator
    if operator.refuse(value) is not None:
        return True
    test = operator.make(value)
    taken = [found for found in _samples(condition.path) if operator.kinds is None or type(found) in operator.kinds]
    return any(test(found) == ERRS for found in taken)


def _is_free(path: Path) -> bool:
    """Tell whether anything at all may stand where a path leads."""
    return path.root in OPEN_ROOTS and bool(path.steps)


def _samples(path: Path) -> tuple[object, ...]:
    """Return values of all types that may stand where a path leads."""
    if _is_free(path):
        return _SAMPLES
    return ({},) if path.root in OPEN_ROOTS else ([],) if path.root in _LISTS else ("a",)
