"""Two policies compared, tool by tool: by what they mean, not by how they are written.

For each tool both plans become formulas; a difference is a call for which one formula holds and the other does not.
Such a call counts only once both engines have confirmed it, and "equal" is said only where it has been shown that there
is no such call. What is left in between is unknown.

Calls that are malformed, or that cannot be put to a person because they cannot be bound, are denied by every policy
and are left out.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final, NamedTuple, TypeAlias

from ..call import CATEGORIES, UNKNOWN, ToolCall
from ..patterns import compile_pattern
from ..policy import Policy
from ..symbolic.atoms import Setting
from ..symbolic.calls import assemble
from ..symbolic.formulas import Formula, every, negated, some
from ..symbolic.meaning import Meaning, meaning
from ..symbolic.parts import Values
from ..symbolic.solving import Atoms
from ..values import canonical
from . import witness
from .bounds import Bound, Slot, bounds, keeps, sharing, slots
from .difference import Comparison, ToolDifference
from .names import Tool, tools
from .sides import Side
from .trials import limit_witness
from .witness import Benches, Witness

_GIVEN: Final = ("tool.name", "tool.category", "server.name")


def compare(old: Policy, new: Policy) -> Comparison:
    """Return how a new policy differs from an old one in what it lets run.

    For each difference that is claimed there is a witness that both engines have confirmed.
    """
    if old == new:
        return Comparison((), len(tools((Side(old), Side(new))).all))
    return _Comparing(old, new).run()


class _Found(NamedTuple):
    """What was found for a pair of plans in one direction, and what stays open."""

    witness: Witness | None = None
    unknown: tuple[str, ...] = ()
    values: Values | None = None
    """The values of the one call that the witness is."""


class _Signature(NamedTuple):
    """What decides in one setting, as written."""

    entries: tuple[tuple[str, str | None, str, bool], ...]
    """Section, key (`=` for the tool's own), the rule, and whether it may list the tool."""
    hidden: bool
    default: str
    shadow: bool


def _adds_only(base: _Signature, further: _Signature) -> bool:
    """Tell whether one is the other with more rules that list nothing: it can only be stricter."""
    if base[1:] != further[1:]:
        return False
    have, more = Counter(base.entries), Counter(further.entries)
    return have <= more and not any(may_list for _, _, _, may_list in more - have)


_Pair: TypeAlias = tuple[_Found, _Found, tuple[str, ...]]


class _Comparing:
    """One comparison."""

    def __init__(self, old: Policy, new: Policy) -> None:
        self.sides = Side(old), Side(new)
        self.benches = Benches(self.sides[0].bench, self.sides[1].bench)
        trees = [side.tree for side in self.sides]
        said = "".join(map(json.dumps, trees))  # a path that is nowhere in the text is asked for nowhere
        asked = any(side.document.has_categories for side in self.sides) or '"tool.category"' in said
        self.categories: tuple[str | None, ...] = (*CATEGORIES, UNKNOWN) if asked else (None,)
        self.by_setting = any(f'"{root}"' in said for root in _GIVEN)
        self.servers = _servers(self.sides, trees, asked='"server.name"' in said)
        several = len(self.servers) > 1
        self.slots = tuple(slots(side, several_servers=several) for side in self.sides)
        self.sharing = tuple(sharing(side, at) for side, at in zip(self.sides, self.slots, strict=True))
        self.texts: dict[int, str] = {}
        self.known: dict[tuple[_Signature, _Signature, Setting | None], _Pair] = {}
        self.kept_by: dict[tuple[bool, str], set[str]] = {}
        self.tools = tools(self.sides)

    def run(self) -> Comparison:
        found = [self.tool(tool) for tool in self.tools.all]
        telling = tuple(one for one in found if one.looser or one.stricter or one.unknown or one.notes)
        return Comparison(telling, len(found), (*self.tools.unknown, *self.split_counts()))

    def split_counts(self) -> Iterator[str]:
        """Yield what several limits keep that one limit kept before: together they may let more pass."""
        for (_, pointer), keepers in self.kept_by.items():
            if len(keepers) > 1:
                yield f"the count of `{pointer}` is kept by different limits for different tools"

    # -- one tool

    def tool(self, tool: Tool) -> ToolDifference:
        """Compare one tool on every server and in every category, until both differences are known."""
        looser: Witness | None = None
        stricter: Witness | None = None
        unknown: dict[str, None] = {}
        notes: dict[str, None] = {}
        for setting in (
            Setting(tool.name, server, category) for server in self.servers for category in self.categories
        ):
            if looser and stricter:
                break
            more, less, hiding = self.pair(setting)
            looser, stricter = looser or more.witness, stricter or less.witness
            unknown.update(dict.fromkeys((*more.unknown, *less.unknown)))
            notes.update(dict.fromkeys(hiding))
        return ToolDifference(tool.label, looser, stricter, tuple(unknown), tuple(notes))

    def pair(self, setting: Setting) -> _Pair:
        """Return what is known of two plans; what was found for two that are written alike is only confirmed again."""
        signatures = self.signature(0, setting), self.signature(1, setting)
        if signatures[0] == signatures[1]:
            return _Found(), _Found(), ()
        key = (*signatures, setting if self.by_setting else None)
        old, new = signatures
        known = self.known.get(key)
        if known is not None:
            again = self.again(known[0], setting, looser=True), self.again(known[1], setting, looser=False)
            if again[0] is not None and again[1] is not None:
                return again[0], again[1], known[2]
        atoms = Atoms()
        meanings = [meaning(side.plan(setting), side.limits, setting, atoms) for side in self.sides]
        both = meanings[0], meanings[1]
        more, less = (
            _Found() if _adds_only(base, further) else _Direction(self, setting, both, atoms, looser=looser).find()
            for base, further, looser in ((old, new, True), (new, old, False))
        )
        found = self.known[key] = more, less, tuple(_hiding(both, atoms))
        return found

    def again(self, known: _Found, setting: Setting, *, looser: bool) -> _Found | None:
        """Return what is known for another tool; None where it has to be looked for."""
        if known.witness is None:
            return known
        if known.values is None:
            return None
        call = assemble(known.values, setting.tool, server=setting.server, category=setting.category)
        found = witness.one_call(self.benches, call, looser=looser)
        return known._replace(witness=found) if found is not None else None

    def signature(self, which: int, setting: Setting) -> _Signature:
        """Return what decides in one setting, as written: plans with the same signature decide alike."""
        side = self.sides[which]
        sections = side.sections(setting.server)
        own = len(sections) > 1 and "default" in sections[1].tree
        category = None if setting.category in (None, UNKNOWN) else setting.category
        entries = []
        for section in sections:
            for place, entry, lists in section.rules(setting.tool, category):
                key = "=" if place.key == setting.tool else place.key
                raw: Any = entry  # a rule, or a list of rules
                for rule in raw if isinstance(raw, list) else (raw,):
                    if not any(compile_pattern(text)(setting.tool) for text in rule.get("except", ())):
                        may_list = lists and not (own and section is sections[0])
                        entries.append((place.section, key, self.text(rule), may_list))
        hidden = any(matches(setting.tool) for section in sections for matches, _ in section.hide)
        default = sections[-1 if own else 0].tree.get("default", "deny")
        return _Signature(tuple(entries), hidden, default, side.document.shadow)

    def text(self, rule: dict[str, Any]) -> str:
        """Return the canonical text of a rule; rules live as long as the comparison, so their ids do."""
        text = self.texts.get(id(rule))
        if text is None:
            text = self.texts[id(rule)] = canonical(rule)
        return text


class _Direction:
    """What one plan lets run and the other does not."""

    def __init__(
        self,
        comparing: _Comparing,
        setting: Setting,
        meanings: tuple[Meaning, Meaning],
        atoms: Atoms,
        *,
        looser: bool,
    ) -> None:
        self.comparing = comparing
        self.setting = setting
        self.looser = looser
        self.atoms = atoms
        self.less, self.more = meanings if looser else meanings[::-1]
        self.unknown: dict[str, None] = {}
        self.values: Values | None = None

    def find(self) -> _Found:
        """Return a witness, or why there may be one."""
        found = self.by_rules()
        if found is not None:
            return _Found(found, values=self.values)
        found = self.by_time() or self.by_limits()
        return _Found(found) if found else _Found(None, tuple(self.unknown))

    def by_rules(self) -> Witness | None:
        """Look for a call that runs, or can be approved, only with the one plan; then for one that needs approval only
        with the other.
        """
        runs = every([negated(self.more.denied), negated(self.more.asked)])
        waits = every([negated(self.less.denied), self.less.asked])
        stopped = every([self.less.denied, negated(self.more.denied)])
        return self.call(stopped) or self.call(every([runs, waits]))

    def call(self, formula: Formula) -> Witness | None:
        """Return the witness that a formula's call is; note it where that is open."""
        values = self.values = self.satisfy(formula)
        if values is None:
            return None
        made = self.made(values)
        found = witness.one_call(self.comparing.benches, made, looser=self.looser)
        if found is None:
            self.unknown["the engines do not confirm what the rules say"] = None
        return found

    def satisfy(self, formula: Formula) -> Values | None:
        answer = self.atoms.satisfy(formula)
        self.unknown.update(dict.fromkeys(sorted(answer.unsure)))
        return answer.values

    def made(self, values: Values) -> ToolCall:
        return assemble(values, self.setting.tool, server=self.setting.server, category=self.setting.category)

    def by_time(self) -> Witness | None:
        """Look for a call whose approval lasts longer with the one plan."""
        times = sorted({ask.ttl for side in (self.less, self.more) for ask in side.asks})
        if len(times) < 2:
            return None
        for place, ttl in enumerate(times[:-1]):
            short = some(ask.when for ask in self.less.asks if ask.ttl <= ttl)
            long = negated(some(ask.when for ask in self.more.asks if ask.ttl <= ttl))
            values = self.satisfy(every([short, long, self.more.asked, self.both_run()]))
            if values is not None:
                at = (ttl + times[place + 1]) / 2
                found = witness.later(self.comparing.benches, self.made(values), at, looser=self.looser)
                if found is not None:
                    return found
                self.unknown["how long an approval lasts"] = None
        return None

    def both_run(self) -> Formula:
        return every([negated(self.more.denied), negated(self.less.denied)])

    # -- limits

    def by_limits(self) -> Witness | None:
        """Look for calls that are more than a limit of the other plan lets pass."""
        comparing = self.comparing
        less, more = (0, 1) if self.looser else (1, 0)
        keepers = list(bounds(self.more.limits, comparing.slots[more], comparing.sharing[more]))
        for bound in bounds(self.less.limits, comparing.slots[less], comparing.sharing[less]):
            values = self.exceeding(bound, keepers)
            if values is None:
                continue
            found = limit_witness(
                comparing.benches, self.setting, values, (bound, keepers), self.others(bound.slot), looser=self.looser
            )
            if found is not None:
                return found
            self.unknown[f"whether other limits keep `{bound.limit.pointer}`"] = None
        return None

    def exceeding(self, bound: Bound, keepers: list[Bound]) -> Values | None:
        """Return a call that a limit counts and no limit of the other plan is known to count for it."""
        applies = every([bound.applying.when, self.both_run()])
        missed: Values | None = None
        for keeper in sorted(keepers, key=lambda one: one.slot != bound.slot):
            if keeps(keeper, bound):
                missed = self.satisfy(every([applies, negated(keeper.applying.when)]))
                if missed is None and not self.unknown:
                    kept_by = self.comparing.kept_by.setdefault((self.looser, bound.limit.pointer), set())
                    if not bound.slot.one_tool:
                        kept_by.add(keeper.limit.pointer)
                    return None
        return missed or self.satisfy(applies)

    def others(self, slot: Slot) -> list[str]:
        """Return other tools that a limit in this slot may count as well."""
        if slot.one_tool:
            return []
        matches = compile_pattern(slot.key) if slot.section.endswith("/tools") and slot.key else lambda name: True
        names = (tool.name for tool in self.comparing.tools.all)
        return [name for name in names if matches(name) and name != self.setting.tool][:5]


def _hiding(meanings: tuple[Meaning, Meaning], atoms: Atoms) -> Iterator[str]:
    old, new = meanings
    both_stop = every([old.denied, new.denied])
    if atoms.satisfy(every([old.hidden, negated(new.hidden), both_stop])).values is not None:
        yield "no longer hidden, and still denied"
    if atoms.satisfy(every([new.hidden, negated(old.hidden), both_stop])).values is not None:
        yield "hidden now; it was denied before"


def _servers(sides: tuple[Side, Side], trees: list[Any], *, asked: bool) -> tuple[str | None, ...]:
    """Return the servers that documents tell apart: none, those with a section, those asked for, and another."""
    named = dict.fromkeys(name for side in sides for name in side.document.servers)
    if asked:
        named.update(dict.fromkeys(_asked(trees)))
        named[next(name for n in range(len(named) + 1) if (name := f"other{n or ''}") not in named)] = None
    return (None, *named)


def _asked(tree: Any) -> Iterator[str]:
    if isinstance(tree, dict):
        if tree.get("path") == "server.name":
            value = tree.get("value")
            yield from (text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str))
        for part in tree.values():
            yield from _asked(part)
    elif isinstance(tree, list):
        for part in tree:
            yield from _asked(part)
