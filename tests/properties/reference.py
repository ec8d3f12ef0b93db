"""A naive evaluator: the document's meaning read aloud, to be compared with the engine.

Rules it keeps: nothing of the package is imported; nothing is compiled, cached or short-cut; numbers are exact
(`Fraction`); state is two plain dicts. Where it and the engine differ, one of them misreads the document.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

from .reference_conditions import (
    ABSENT,
    AGAINST,
    ERRS,
    GONE,
    HOLDS,
    NOT,
    Odd,
    canonical,
    condition,
    find,
    glob,
    held,
    is_number,
    plain,
)

UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "s": 1, "m": 60, "h": 3600, "d": 86400}


class Verdict(NamedTuple):
    effect: str
    reasons: frozenset[tuple[str, str]]  # (code, rule pointer)
    would_be: str | None = None
    retry_after: float | None = None


@dataclasses.dataclass
class State:
    events: dict[Any, list[tuple[float, int]]] = dataclasses.field(default_factory=dict)
    approvals: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    last_asked: str = ""


# Entries -----------------------------------------------------------------------------------------------------------


def applies(rule: Mapping[str, Any], call: Mapping[str, Any], category: str | None) -> str:
    """HOLDS, AGAINST (restricts, lists nothing), ERRS or NOT."""
    if any(glob(pattern, call["tool"]) for pattern in rule.get("except", [])):
        return NOT
    answers = []
    for item in rule.get("when", []):
        answers.append(condition(item, call, category, "when"))
        if answers[-1] in (NOT, ABSENT, ERRS):
            return ERRS if answers[-1] == ERRS else NOT
    return AGAINST if AGAINST in answers else HOLDS


class Entry(NamedTuple):
    pointer: str
    section: str  # where unnamed limits live: section and key
    rule: Mapping[str, Any]
    may_list: bool
    answer: str

    @property
    def shadow(self) -> bool:
        return self.rule.get("mode") == "shadow"


def token(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def sections(policy: Mapping[str, Any], call: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any], bool]]:
    server = call.get("server")
    own = policy.get("servers", {}).get(server) if server else None
    alone = own is not None and "default" in own
    found = [("", policy, not alone)]
    return [*found, (f"/servers/{token(server)}", own, True)] if server and own is not None else found


def entries(policy: Mapping[str, Any], call: Mapping[str, Any], category: str | None) -> Iterator[Entry]:
    for prefix, section, lists in sections(policy, call):
        rules = [(f"{prefix}/all_tools", section["all_tools"], False)] if "all_tools" in section else []
        for key, rule in section.get("categories", {}).items():
            if category in (None, key):
                rules.append((f"{prefix}/categories/{key}", rule, lists and category is not None))
        for key, rule in section.get("tools", {}).items():
            if glob(key, call["tool"]):
                rules.append((f"{prefix}/tools/{token(key)}", rule, lists))
        for pointer, rule, may_list in rules:
            many = isinstance(rule, list)
            for number, each in enumerate(rule if many else [rule]):
                answer = applies(each, call, category)
                if answer != NOT:
                    yield Entry(f"{pointer}/{number}" if many else pointer, pointer, each, may_list, answer)


# Limits ------------------------------------------------------------------------------------------------------------


class Limit(NamedTuple):
    pointer: str
    counter: Any
    window: float
    maximum: int
    cost: int


def millionths(number: Any, up: bool) -> int:
    exact = Fraction(Decimal(repr(number)) if isinstance(number, float) else number) * 1_000_000
    return math.ceil(exact) if up else math.floor(exact)


def window_of(text: Any) -> float:
    if not isinstance(text, str):
        return float(text)
    return float(UNITS[text]) if text in UNITS and len(text) > 1 else float(text[:-1]) * UNITS[text[-1]]


def cost_of(cost: Any, call: Mapping[str, Any], category: str | None) -> Any:
    if isinstance(cost, (int, float)):
        return cost
    found = find(cost if isinstance(cost, str) else cost["length"], call, category)[0]
    if isinstance(cost, dict):
        if not isinstance(found, (str, list, dict)):
            raise Odd
        return len(found)
    if not is_number(found) or found < 0:
        raise Odd
    return found


def identity(dim: str, call: Mapping[str, Any]) -> Any:
    who = call.get("principal") or {}
    if dim in ("principal", "agent"):
        name = who.get("id" if dim == "principal" else "client")
        return (who.get("issuer") or None, name) if name else None
    return {"session": call.get("session"), "tool": call["tool"], "global": "all", "server": call.get("server")}[
        dim
    ] or None


def limits_of(entry: Entry, call: Mapping[str, Any], category: str | None) -> Iterator[tuple[str, Limit | None]]:
    """Each limit of an entry, None for one whose cost errs."""
    rate = entry.rule.get("rate_limit")
    if isinstance(rate, str):
        count, unit = rate.split("/")
        rate = {"max": int(count), "window": unit}
    raw = [(f"{entry.pointer}/rate_limit", rate)] if rate is not None else []
    raw += [(f"{entry.pointer}/limits/{n}", each) for n, each in enumerate(entry.rule.get("limits", []))]
    for pointer, each in raw:
        per = each.get("per", each.get("scope", "session"))
        dims = sorted({"principal" if d == "grant" else d for d in ([per] if isinstance(per, str) else per)})
        window, cost = window_of(each["window"]), each.get("cost", 1)
        name = each.get("counter") or (entry.section, window, tuple(dims), json.dumps(canonical(cost)))
        counter = (entry.shadow, name, tuple(identity(dim, call) for dim in dims))
        try:
            asked = millionths(cost_of(cost, call, category), up=True)
        except Odd:
            yield pointer, None
        else:
            yield pointer, Limit(pointer, counter, window, millionths(each["max"], up=False), asked)


def wait(limit: Limit, state: State, now: float) -> float | None:
    """Seconds until this cost fits; 0 when it does, None when it never can."""
    if limit.maximum == 0 or limit.cost > limit.maximum:
        return None
    live = [(at, n) for at, n in state.events.get(limit.counter, []) if at + limit.window > now]
    used, ready = sum(n for _, n in live), 0.0
    for at, n in sorted(live):
        if used + limit.cost <= limit.maximum:
            break
        used, ready = used - n, at + limit.window - now
    return ready


# The decision ------------------------------------------------------------------------------------------------------


def binding(policy: Mapping[str, Any], call: Mapping[str, Any], category: str | None, found: Iterable[Entry]) -> str:
    """What an approval is bound to; Odd when it cannot be bound."""
    texts = re.findall(r'"(context(?:[^"\\]|\\.)*)"', json.dumps([entry.rule for entry in found]))
    read = {path: [None if v is GONE else v for v in find(json.loads(f'"{path}"'), call, category)] for path in texts}
    who = call.get("principal") or {}
    caller = [who.get("issuer") or None, who["id"]] if who.get("id") else call.get("session") or None
    about = {key: value for key, value in policy.items() if key not in ("$schema", "name", "description")}
    bound = [about, call.get("server") or None, call["tool"], plain(call["arguments"]), caller, read]
    try:
        return json.dumps(canonical(bound), sort_keys=True, ensure_ascii=False).encode().decode()
    except UnicodeEncodeError:
        raise Odd from None


class World(NamedTuple):
    """What a set of entries says about a call."""

    effect: str
    reasons: frozenset[tuple[str, str]]
    limits: tuple[Limit, ...] = ()
    retry_after: float | None = None
    bound: str | None = None
    ttl: float = 900


Reasons = set[tuple[str, str]]


def hidden_by(policy: Mapping[str, Any], call: Mapping[str, Any], found: list[Entry]) -> Reasons:
    """Step 2."""
    lists = {
        ("hidden", f"{prefix}/hide/{n}")
        for prefix, section, _ in sections(policy, call)
        for n, pattern in enumerate(section.get("hide", []))
        if glob(pattern, call["tool"])
    }
    return lists | {("hidden", e.pointer) for e in found if e.rule.get("action") == "hide" and e.answer != ERRS}


def default_of(policy: Mapping[str, Any], call: Mapping[str, Any]) -> tuple[str, str]:
    default = ("deny", "")
    for prefix, section, _ in sections(policy, call):
        if "default" in section:
            default = (section["default"], f"{prefix}/default")
    return default


def said(entry: Entry, call: Mapping[str, Any], category: str | None) -> tuple[Reasons, set[str], list[Limit]]:
    """What one applying entry says: reasons to deny, pointers that ask for approval, limits."""
    if entry.answer == ERRS:
        return {("type_mismatch", entry.pointer)}, set(), []
    action = entry.rule.get("action")
    no = {("denied_by_rule", entry.pointer)} if action == "deny" else set()
    ask = {entry.pointer} if action == "approve" else set()
    for kind, speaks in (("require", NOT), ("deny_if", HOLDS), ("approve_if", HOLDS)):
        for n, item in enumerate(entry.rule.get(kind, [])):
            answer, pointer = held(item, call, category, kind), f"{entry.pointer}/{kind}/{n}"
            if answer == ERRS:
                no.add(("type_mismatch", pointer))
            elif answer == speaks and kind == "approve_if":
                ask.add(pointer)
            elif answer == speaks:
                no.add((kind, pointer))
    limits = list(limits_of(entry, call, category))
    no |= {("type_mismatch", pointer) for pointer, limit in limits if limit is None}
    return no, ask, [limit for _, limit in limits if limit is not None]


def limited(limits: list[Limit], state: State, now: float) -> World | None:
    """Step 5."""
    waits = [(limit.pointer, wait(limit, state, now)) for limit in limits]
    used_up = [(pointer, seconds) for pointer, seconds in waits if seconds != 0]
    if not used_up:
        return None
    longest = None if any(seconds is None for _, seconds in used_up) else max(seconds or 0 for _, seconds in used_up)
    return World("limit", frozenset(("rate_limited", pointer) for pointer, _ in used_up), retry_after=longest)


def asked(bound: str, ask: set[str], state: State, now: float) -> tuple[str, frozenset[tuple[str, str]]]:
    """Step 6."""
    record, code = state.approvals.get(bound), "approval_required"
    if record and now >= record["expires"]:
        code = "approval_expired"
    elif record and record["status"] != "pending":
        code = "approval_rejected" if record["status"] == "rejected" else "approved"
    return "allow" if code == "approved" else "approve", frozenset((code, pointer) for pointer in ask)


def judge(
    policy: Mapping[str, Any],
    call: Mapping[str, Any],
    category: str | None,
    every: list[Entry],
    state: State,
    now: float,
    would: bool,
) -> World:
    """Steps 2 to 7; `would` takes the shadow entries at their word."""
    found = [e for e in every if would or not e.shadow]
    if hidden := hidden_by(policy, call, found):
        return World("deny", frozenset(hidden))
    default, stated = default_of(policy, call)
    listing = {
        e.pointer
        for e in every
        if e.may_list and e.answer == HOLDS and (not e.shadow or e.rule.get("action", "allow") == "allow")
    }
    if not listing and default == "deny":
        return World("deny", frozenset({("default_deny", stated)}))
    no, ask, limits = set(), set(), []
    for entry in found:
        more = said(entry, call, category)
        no, ask, limits = no | more[0], ask | more[1], limits + more[2]
    if no:
        return World("deny", frozenset(no))
    costs = {limit.counter: max(x.cost for x in limits if x.counter == limit.counter) for limit in limits}
    limits = [limit._replace(cost=costs[limit.counter]) for limit in limits]
    if spent := limited(limits, state, now):
        return spent
    if not ask:
        reasons = {("allowed", pointer) for pointer in listing} or {("default_allow", stated)}
        return World("allow", frozenset(reasons), tuple(limits))
    try:
        bound = binding(policy, call, category, every)
    except Odd:
        return World("deny", frozenset({("invalid_call", "")}))
    effect, why = asked(bound, ask, state, now)
    ttl = min(e.rule.get("approval", {}).get("ttl", 900) for e in found if said(e, call, category)[1])
    return World(effect, why, tuple(limits), None, bound, ttl)


def malformed(call: Mapping[str, Any]) -> bool:
    tool = call["tool"]
    objects = (call["arguments"], call.get("context") or {})
    names = (tool, call.get("session") or "", call.get("server") or "")
    return (
        not all(isinstance(name, str) for name in names)
        or not all(isinstance(each, Mapping) for each in objects)
        or not 0 < len(tool) <= 256
        or any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in tool)
    )


def take(world: World, state: State, now: float, shadow: bool) -> None:
    """Take the cost of every counter of this kind once."""
    for limit in {limit.counter: limit for limit in world.limits if limit.counter[0] == shadow}.values():
        state.events.setdefault(limit.counter, []).append((now, limit.cost))


def decide(
    policy: Mapping[str, Any],
    call: Mapping[str, Any],
    state: State,
    now: float,
    *,
    category: str | None = None,
    commit: bool = True,
) -> Verdict:
    """The decision for a well-formed policy; `commit` takes from the limits and asks for approvals."""
    if malformed(call):
        return Verdict("deny", frozenset({("invalid_call", "")}))
    found = list(entries(policy, call, category))
    real = judge(policy, call, category, found, state, now, would=False)
    shadows = [e for e in found if e.shadow]
    would = judge(policy, call, category, found, state, now, would=True) if shadows else real
    if policy.get("mode") == "shadow" and any(code == "invalid_call" for code, _ in real.reasons):
        return Verdict("deny", real.reasons)
    if policy.get("mode") == "shadow":
        if commit and would.effect == "allow":
            take(would, state, now, False)
            take(would, state, now, True)
        return Verdict("allow", would.reasons, would.effect)
    if commit and real.effect == "allow":
        take(real, state, now, False)
        if would.effect == "allow":
            take(would, state, now, True)
        if real.bound:
            del state.approvals[real.bound]
    if commit and real.effect == "approve":
        assert real.bound is not None
        state.last_asked = real.bound
        record = state.approvals.get(real.bound)
        if record is None or now >= record["expires"]:
            state.approvals[real.bound] = {"status": "pending", "expires": now + real.ttl}
    return Verdict(real.effect, real.reasons, would.effect if shadows else None, real.retry_after)
