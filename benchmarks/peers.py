"""This package and what a user would pick instead, each set up as its documentation shows, asked the same questions.

A request is made ready outside the time that counts where the library lets one do so. An exception counts as a refusal:
whoever calls the library would not let the tool run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple

from mcp_policy import Policy, PolicyEngine, ToolCall
from work import ADDRESS, POLICY, TOOLS, Clock, Question, Work

Ask = Callable[[], object]
Prepare = Callable[[str, dict[str, Any]], Ask]
Take = Callable[[str, int], Ask]


class Judge(NamedTuple):
    """A library that decides calls; `cannot` names the works that its language has no words for."""

    name: str
    prepare: Prepare
    cannot: tuple[str, ...] = ()

    def answer(self, question: Question) -> bool:
        try:
            return bool(self.prepare(question.tool, question.arguments)())
        except Exception:  # noqa: BLE001  # whatever it raises, the tool would not run
            return False

    def mistakes(self, work: Work) -> list[str]:
        """What it gets wrong, by what is tricky about it."""
        return [asked.about for asked in (work.timed, *work.others) if self.answer(asked) is not asked.right]


class Limiter(NamedTuple):
    """A library that counts calls: `build(limits, clock)(key, cost)` is ready to take or refuse `cost`."""

    name: str
    build: Callable[[list[tuple[int, int]], Callable[[], float]], Take]

    def mistakes(self, limits: list[tuple[int, int]]) -> list[str]:
        return [about for about, right in LIMIT_QUESTIONS.items() if not self.passes(right, limits)]

    def passes(self, right: Callable[[Take, Clock], bool], limits: list[tuple[int, int]]) -> bool:
        clock = Clock()
        return right(self.build(limits, clock), clock)


def takes(take: Take, times: int, cost: int = 1) -> int:
    return sum(bool(take("s1", cost)()) for _ in range(times))


def after(clock: Clock, seconds: float) -> bool:
    clock.now += seconds
    return True


LIMIT_QUESTIONS: dict[str, Callable[[Take, Clock], bool]] = {
    "ten pass in a minute and no more": lambda take, _: takes(take, 15) == 10,
    "no more pass across the edge of a minute": lambda take, clock: (
        after(clock, 19) and takes(take, 10) == 10 and after(clock, 2) and takes(take, 10) == 0
    ),
    "each call leaves a minute after it came": lambda take, clock: (
        takes(take, 4) == 4 and after(clock, 30) and takes(take, 9) == 6 and after(clock, 31) and takes(take, 9) == 4
    ),
    "what is refused takes nothing": lambda take, clock: (
        takes(take, 10) == 10
        and after(clock, 50)
        and takes(take, 5) == 0
        and after(clock, 11)
        and takes(take, 15) == 10
    ),
    "a cost of three is three": lambda take, _: takes(take, 5, 3) == 3 and takes(take, 5) == 1,
    "keys are counted apart": lambda take, _: takes(take, 15) == 10 and bool(take("s2", 1)()),
    "a clock that goes back frees nothing": lambda take, clock: (
        takes(take, 10) == 10 and after(clock, -3600) and takes(take, 5) == 0
    ),
}


def ours() -> Judge:
    engine = PolicyEngine(Policy.model_validate(POLICY))

    def prepare(tool: str, arguments: dict[str, Any]) -> Ask:
        call = ToolCall(tool, arguments, session="s1")
        return lambda: engine.evaluate(call).allowed

    return Judge("mcp-policy", prepare)


def our_limits() -> Limiter:
    def build(rates: list[tuple[int, int]], clock: Callable[[], float]) -> Take:
        limits = [{"max": top, "window": window, "counter": f"{top}/{window}"} for top, window in rates]
        costly = [{**limit, "cost": "args.cost"} for limit in limits]
        tools = {"call": {"limits": limits}, "costly_call": {"limits": costly}}
        engine = PolicyEngine(Policy.model_validate({"version": "1", "tools": tools}), clock=clock)

        def take(key: str, cost: int) -> Ask:
            call = ToolCall("call" if cost == 1 else "costly_call", {"cost": cost}, session=key)
            return lambda: engine.authorize(call).allowed

        return take

    return Limiter("mcp-policy", build)


def cedarpy() -> Judge:
    import cedarpy as cedar

    policies = [f'permit(principal, action, resource == Tool::"{tool}");' for tool in (*TOOLS, "delete_rows")]
    small = 'context.amount <= 100 && ["usd", "eur"].contains(context.currency)'
    policies += [
        f'permit(principal, action, resource == Tool::"create_charge") when {{ {small} }};',
        'permit(principal, action, resource == Tool::"deploy") when { context.job.target.name == "staging" };',
        'forbid(principal, action, resource == Tool::"delete_rows") when { context has count && context.count > 10 };',
    ]
    policy_set, entities = cedar.PolicySet.from_str("\n".join(policies)), cedar.Entities.from_json_str("[]")
    agent = {"type": "Agent", "id": "a1"}
    action = {"type": "Action", "id": "call"}

    def prepare(tool: str, arguments: dict[str, Any]) -> Ask:
        resource = {"type": "Tool", "id": tool}
        request = {"principal": agent, "action": action, "resource": resource, "context": arguments}
        return lambda: cedar.is_authorized(request, policy_set, entities).allowed

    return Judge("cedarpy", prepare, cannot=("a regex",))


CASBIN_MODEL = """
[request_definition]
r = tool, args

[policy_definition]
p = tool, rule, eft

[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))

[matchers]
m = r.tool == p.tool && eval(p.rule)
"""


def pycasbin() -> Judge:
    import casbin

    model = casbin.Model()
    model.load_model_from_text(CASBIN_MODEL)
    enforcer = casbin.Enforcer(model)
    rules = [(tool, "True", "allow") for tool in (*TOOLS, "delete_rows")]
    rules += [
        ("rm", "True", "deny"),
        ("create_charge", 'r.args["amount"] <= 100 && r.args["currency"] in ("usd", "eur")', "allow"),
        ("send_mail", f'regexMatch(r.args["to"], "{ADDRESS}")', "allow"),
        ("deploy", 'r.args["job"]["target"]["name"] == "staging"', "allow"),
        ("delete_rows", '"count" in r.args && r.args["count"] > 10', "deny"),
    ]
    enforcer.add_policies([list(rule) for rule in rules])
    return Judge("pycasbin", lambda tool, arguments: lambda: enforcer.enforce(tool, arguments))


def vakt() -> Judge:
    import vakt as v
    from vakt.rules import Any as Anything
    from vakt.rules import Eq, Greater, In, LessOrEqual, RegexMatch

    logging.getLogger("vakt").setLevel(logging.CRITICAL)  # it writes a traceback for every argument it cannot compare
    storage = v.MemoryStorage()
    rules: list[tuple[str, dict[str, object], str]] = [(tool, {}, v.ALLOW_ACCESS) for tool in (*TOOLS, "delete_rows")]
    rules += [
        ("rm", {}, v.DENY_ACCESS),
        ("create_charge", {"amount": LessOrEqual(100), "currency": In("usd", "eur")}, v.ALLOW_ACCESS),
        ("send_mail", {"to": RegexMatch(ADDRESS)}, v.ALLOW_ACCESS),
        ("delete_rows", {"count": Greater(10)}, v.DENY_ACCESS),
    ]
    for number, (tool, context, effect) in enumerate(rules):
        policy = v.Policy(
            number, subjects=[Anything()], actions=[Eq("call")], resources=[Eq(tool)], context=context, effect=effect
        )
        storage.add(policy)
    guard = v.Guard(storage, v.RulesChecker())

    def prepare(tool: str, arguments: dict[str, Any]) -> Ask:
        inquiry = v.Inquiry(subject="a1", action="call", resource=tool, context=arguments)
        return lambda: guard.is_allowed(inquiry)

    return Judge("vakt", prepare, cannot=("a nested path",))


def limits() -> Limiter:
    from limits.storage import MemoryStorage, memory
    from limits.strategies import MovingWindowRateLimiter

    from limits import RateLimitItemPerSecond

    def build(rates: list[tuple[int, int]], clock: Callable[[], float]) -> Take:
        memory.time = SimpleNamespace(time=clock)  # it takes no clock
        limiter = MovingWindowRateLimiter(MemoryStorage())
        items = [RateLimitItemPerSecond(maximum, window) for maximum, window in rates]
        if len(items) == 1:
            return lambda key, cost: lambda: limiter.hit(items[0], key, cost=cost)
        return lambda key, cost: (
            lambda: (
                all(limiter.test(item, key, cost=cost) for item in items)
                and all(limiter.hit(item, key, cost=cost) for item in items)
            )
        )

    return Limiter("limits", build)


def pyrate_limiter() -> Limiter:
    import pyrate_limiter as pyrate

    class InjectedClock(pyrate.AbstractClock):
        def __init__(self, clock: Callable[[], float]) -> None:
            self.clock = clock

        def now(self) -> int:
            return int(self.clock() * 1000)

    class Buckets(pyrate.BucketFactory):
        """One bucket a key, as the library's documentation has it."""

        def __init__(self, rates: list[tuple[int, int]], clock: Callable[[], float]) -> None:
            self.rates = [pyrate.Rate(maximum, window * 1000) for maximum, window in rates]
            self.clock = InjectedClock(clock)
            self.buckets: dict[str, pyrate.InMemoryBucket] = {}

        def wrap_item(self, name: str, weight: int = 1) -> pyrate.RateItem:
            return pyrate.RateItem(name, self.clock.now(), weight=weight)

        def get(self, item: pyrate.RateItem) -> pyrate.InMemoryBucket:
            bucket = self.buckets.get(item.name)
            if bucket is None:
                bucket = self.buckets[item.name] = pyrate.InMemoryBucket(self.rates)
                bucket._clock = self.clock  # its thread that clears old items away; it takes no clock
                self.schedule_leak(bucket)
            return bucket

    def build(rates: list[tuple[int, int]], clock: Callable[[], float]) -> Take:
        limiter = pyrate.Limiter(Buckets(rates, clock))
        return lambda key, cost: lambda: limiter.try_acquire(key, weight=cost, blocking=False)

    return Limiter("pyrate-limiter", build)


JUDGES = (ours, cedarpy, pycasbin, vakt)
LIMITERS = (our_limits, limits, pyrate_limiter)
