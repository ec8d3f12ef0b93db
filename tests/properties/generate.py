"""Policies and calls at random, from a seed.

Rules it keeps: every policy loads; the same seed gives the same policy and calls; the vocabulary is small, so that
patterns overlap, counters fill up and values meet; about a third of what is passed does not fit what reads it.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel

Tree = dict[str, Any]
CATEGORIES = ("read", "write", "execute", "destructive", "financial")
KNOWN = {"get_a": "read", "put_a": "write", "pay": "financial", "run": "execute", "del_a": "destructive"}
TOOLS = (*KNOWN, "get_b", "x/y~z")
PATTERNS = ("*", "get_*", "*_a", "???_a", "p*y", "del_?", "**", "x/*", *TOOLS)
SERVERS = ("near", "alone")
BIG = 2**53


@dataclasses.dataclass
class Point:
    """A dataclass is an object by field."""

    k: Any = 1
    j: Any = "ab"


class Model(BaseModel):
    """A model is an object by field."""

    k: Any = 2


def nest(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


# What a document may hold
NUMBERS = (0, 1, 2, 3, 5, -1, 1.0, 1.5, 0.1, 0.3, BIG, BIG + 1, 10**30, -0.5)
STRINGS = ("a", "ab", "abc", "feat/x", "1", "true", "A", "\u00e9", "", "p", "s1")
LISTS = ([], ["a"], ["a", 1], [1, 2, 3], ["x", "ab"], [[1], {}], [1.0, True], ["ab", "ab"])
OBJECTS = ({}, {"k": 1}, {"k": "ab"}, {"k": [1]}, {"j": 1, "k": 2}, {"k": {"j": 2}}, {"k": 1.0})
DIRECTORIES = ("/srv", "/srv/a", "/", "/srv/../etc", "/a//b/.")
HOSTS = ("a.example", "*.corp.example", "10.0.0.1", "[::1]", "A.Example")
REGEXES = ("^a", "b$", "[0-9]+", "^feat/[a-z]+$", "(?i)AB", "^$", "a|x", "a{2,}")
# What only a call may hold
NUMBERISH = (*NUMBERS, Decimal("0.1"), Decimal("1.00"), Decimal("1.5"), Decimal(BIG), -0.0, 1e300, 0.30000000000000004)
STRINGISH = (*STRINGS, "feat/x\n", "aa", "a\nb", "\U0001f600", "b\ud800", "a" * 16384, "a" * 16385)
LISTISH = (
    *LISTS,
    ("a", 1),
    (1, 2),
    [None],
    [1, None, "a"],
    [0.1, Decimal("0.1")],
    [Decimal(1)],
    [{"k": 1}, {"k": "ab"}],
    [{"k": 1}, {}],
    [{"k": 5}, {"k": 3}],
    [{}, None],
    ({"k": "a"},),
    [[1, 2], []],
)
OBJECTISH = (
    *OBJECTS,
    {"k": None},
    {"k": [{"k": 1}]},
    Point(),
    Point(5),
    Model(),
    Model(k="ab"),
    MappingProxyType({"k": 1}),
    Point(Point(1)),
    {"k": {"k": 1}},
    {"k": ["a"]},
    {"k": 3},
)
PATHS = (
    *DIRECTORIES,
    "/srv/a/b",
    "/srv/a/..",
    "/srva",
    "srv/a",
    "",
    "/srv\0/a",
    "//srv/./a",
    "/srv/../../srv/a",
    "~/a",
)
URLS = (
    "https://a.example/",
    "http://x.corp.example:80/a",
    "https://corp.example",
    "https://a.example@evil.example/",
    "ftp://a.example/",
    "HTTPS://A.EXAMPLE",
    "http://[::1]/",
    "http://10.0.0.1/",
    "http://10.1/",
    "https://a.example.",
    "https://evil.example/",
    "https://a.example:8443/x?y#z",
    "http://a.b.corp.example",
    "http://[::ffff:10.0.0.1]",
    "https://a.example\\@evil.example/",
    "https://a.example:/",
    "https://a.example:99999/",
    "https://a.example/ x",
    "https://a..example/",
    "https://x.example?a.example",
)
ODD: tuple[Callable[[], Any], ...] = (
    lambda: float("nan"),
    lambda: float("inf"),
    lambda: float("-inf"),
    object,
    lambda: {1, 2},
    lambda: b"bytes",
    lambda: {1: 2},
    lambda: nest(65),
    lambda: [float("nan")],
    lambda: {"k": float("nan")},
    lambda: Decimal("NaN"),
    lambda: Decimal("-Infinity"),
    lambda: 3 + 4j,
    lambda: Point(float("inf")),
    lambda: {"k": object()},
    lambda: print,
    lambda: [{"k": 1}, object()],
    lambda: iter([1]),
    lambda: range(3),
    lambda: {"k": nest(64), "j": 1},
    lambda: Point,
)
FITTING = {"n": NUMBERISH, "s": STRINGISH, "l": LISTISH, "o": OBJECTISH, "p": PATHS, "u": URLS}
KEYS = tuple(FITTING)
PRINCIPALS: tuple[Tree | None, ...] = (
    None,
    None,
    {"id": "p", "issuer": "i", "client": "c", "roles": ["a", "ab"], "scopes": ["x"], "claims": {"n": 3, "s": "ab"}},
    {"id": "p"},
    {"id": "q", "issuer": "j", "claims": {"l": ["a", 1], "o": {"k": 1}, "p": "/srv", "u": ["a.example"]}},
    {"id": ""},
    {"issuer": "i", "client": "d"},
    {"id": "p", "roles": ["a"], "claims": {"n": "3", "s": 1, "l": "a"}},
)
CONTEXTS: tuple[Tree | None, ...] = (
    None,
    None,
    {},
    {"n": 1, "s": "a"},
    {"n": "x", "s": "ab"},
    {"n": 2, "l": ["a"], "o": {"k": 1}},
)

NUMERIC = ("lt", "lte", "gt", "gte")
# operator: the argument keys that fit it, and the values a document may give it
OPERATORS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "eq": ("nslo", (*NUMBERS, *STRINGS, *LISTS, *OBJECTS, True, False)),
    "neq": ("nslo", (*NUMBERS, *STRINGS, *LISTS, True)),
    "in": ("nslo", (*LISTS, [1, 2, 5], ["a", "ab"], [{"k": 1}, []])),
    "not_in": ("nslo", (*LISTS, [1, 2, 5], ["a", "ab"])),
    "intersects": ("l", (["a"], [1], ["x", 2, 3.0], [True], [[1]])),
    **dict.fromkeys(NUMERIC, ("n", NUMBERS)),
    "contains": ("sl", (*STRINGS, 1, 1.0, True, {"k": 1}, [1])),
    "not_contains": ("sl", (*STRINGS, 1, True, {})),
    "starts_with": ("spu", ("a", "", "f", "/srv", "https")),
    "ends_with": ("spu", ("b", "", "/x", "a")),
    "regex": ("s", REGEXES),
    "not_regex": ("s", REGEXES),
    "glob": ("s", ("a*", "?", "*b*", ["a", "f*x"], "**", ["*\n", "A?"])),
    "exists": ("nslopu", (True, False)),
    "length_lte": ("slo", (0, 1, 2, 3)),
    "length_gte": ("slo", (0, 1, 2, 4)),
    "keys_in": ("o", (["k"], ["j", "k"], ["k", "x"])),
    "within": ("p", (*DIRECTORIES, ["/srv", "/etc"], ["/srv/a"])),
    "host_in": ("u", (["a.example"], ["*.corp.example", "10.0.0.1"], ["[::1]"], list(HOSTS))),
}
NO_VALUE_FROM = {"regex", "not_regex", "glob", "exists"}
RARE = ("neq", "not_in", "contains", "host_in", "within", "not_regex")  # seldom both met and fitting
DIMENSIONS = ("session", "principal", "grant", "agent", "tool", "server", "global")
WINDOWS = (1, 2, 4, 10, 60, 0.5, "minute", "30s", "second")
MAXIMA = (0, 1, 1, 2, 3, 5, 0.3, 1.5, 10)
COSTS = (
    1,
    1,
    0,
    0.1,
    2,
    "args.n",
    "args.o.k",
    "context.n",
    "args.l[0]",
    {"length": "args.l"},
    {"length": "args.s"},
    1.0,
)


class Maker:
    """Makes one policy, then calls for it."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.pick = self.random.choice
        self.values: list[Any] = [1]  # what the document compares with: some arguments should be just that
        self.counters = {name: {"window": self.pick(WINDOWS), "per": self.dimensions()} for name in ("c1", "c2")}

    def chance(self, part: float) -> bool:
        return self.random.random() < part

    def some(self, make: Callable[[], Any], most: int) -> list[Any]:
        return [make() for _ in range(self.random.randint(1, most))]

    def dimensions(self) -> Any:
        return self.pick(DIMENSIONS) if self.chance(0.7) else self.random.sample(DIMENSIONS, 2)

    # the document

    def path(self, key: str, *, star: bool, args: bool) -> str:
        """A path that may find something of this kind."""
        elsewhere = [
            f"principal.claims.{key}",
            f"context.{key}",
            "principal.id",
            "principal.roles",
            "session.id",
            "server.name",
            "tool.name",
            "tool.category",
            "principal.issuer",
            "principal.scopes",
            "principal.client",
            "principal.claims",
            "context",
        ]
        if not args or self.chance(0.15):
            return self.pick(elsewhere)
        deeper = [
            f"args.{key}",
            f"args.{key}",
            f"args.{key}",
            "args.o.k",
            "args.l[0]",
            "args.l[2]",
            f'args["{key}"]',
            "args",
            "args.o.k.j",
            "args.l[1].k",
            f"args.{key}.k",
            "args.missing",
        ]
        return self.pick(
            [*deeper, "args.l[*]", "args.l[*].k", "args.l[*][0]", "args.o.k[*]", "args.l[*]"] if star else deeper
        )

    def value(self, values: tuple[Any, ...]) -> Any:
        value = self.pick(values)
        self.values += [value, *(value if isinstance(value, list) else ())]
        return value

    def condition(self, *, star: bool = True, args: bool = True) -> Tree:
        op = self.pick(list(OPERATORS))
        fitting, values = OPERATORS[op]
        key = self.pick(fitting) if self.chance(0.85) else self.pick(KEYS)
        made: Tree = {"path": self.path(key, star=star, args=args), "op": op}
        if op in NO_VALUE_FROM or self.chance(0.75):
            return {**made, "value": self.value(values)}
        source = (
            "l" if op in ("in", "not_in", "intersects", "keys_in", "host_in") else "n" if op[:6] == "length" else key
        )
        return {**made, "value_from": self.path(source, star=False, args=args)}

    def item(self) -> Tree:
        if self.chance(0.75):
            return self.condition()
        return {"conditions": [self.condition() for _ in range(self.random.randint(0, 3))]}

    def limit(self) -> Tree:
        made: Tree = {"max": self.pick(MAXIMA), "window": self.pick(WINDOWS)}
        if self.chance(0.4):
            name = self.pick(list(self.counters))
            made |= {"counter": name, **self.counters[name]}
        elif self.chance(0.5):
            made[self.pick(("per", "scope"))] = self.dimensions()
        if self.chance(0.5):
            made["cost"] = self.pick(COSTS)
        return made

    def rule(self) -> Tree:
        """Mostly one or two keys, so that most rules let something through."""
        made: Tree = {}
        if self.chance(0.3):
            made["action"] = self.pick(("allow", "allow", "deny", "approve", "approve", "approve", "hide"))
        if self.chance(0.15):
            made["except"] = [self.pick(PATTERNS)]
        if self.chance(0.25):
            made["when"] = self.some(lambda: self.condition(star=False, args=made.get("action") != "hide"), 2)
        for kind, part in (("require", 0.12), ("deny_if", 0.15), ("approve_if", 0.15)):
            if self.chance(part):
                made[kind] = self.some(self.item, 2)
        if self.chance(0.25):
            made["limits"] = self.some(self.limit, 2)
        if self.chance(0.1):
            made["rate_limit"] = self.pick(("1/minute", "2/4s", self.limit()))
        if self.chance(0.2):
            made["approval"] = {"ttl": self.pick((2, 5, 60))}
        if self.chance(0.12):
            made["mode"] = "shadow"
        return made

    def section(self) -> Tree:
        made: Tree = {}
        if self.chance(0.1):
            made["hide"] = [self.pick(PATTERNS[1:])]
        if self.chance(0.25):
            made["all_tools"] = self.rule()
        if self.chance(0.25):
            made["categories"] = {category: self.rule() for category in self.random.sample(CATEGORIES, 2)}
        if self.chance(0.9):
            names = self.random.sample(PATTERNS, self.random.randint(1, 3))
            made["tools"] = {name: self.some(self.rule, 2) if self.chance(0.3) else self.rule() for name in names}
        return made

    def small(self) -> Tree:
        """One condition in every column, a tool for each: every cell of the table of absence is met."""
        op = self.pick((*OPERATORS, *RARE))
        key, star = self.pick(OPERATORS[op][0]), self.chance(0.2)
        made: Tree = {"path": f"args.{key}" + ("[*]" if star else ""), "op": op}
        if op in NO_VALUE_FROM or self.chance(0.7):
            made["value"] = self.value(OPERATORS[op][1])
        else:
            made["value_from"] = self.pick((f"principal.claims.{key}", f"args.{self.pick(KEYS)}", f"context.{key}"))
        rules = {
            "get_a": {"require": [made]},
            "get_b": {"deny_if": [made]},
            "pay": {"approve_if": [made]},
            "run": {"deny_if": [{"conditions": [made, made]}]},
            "del_a": {"require": [{"conditions": [made]}]},
        }
        if not star:
            rules["put_a"] = {"action": "deny", "when": [made]}
        return {"version": "1", "default": "allow", "tools": rules}

    def policy(self) -> Tree:
        if self.chance(0.5):
            return self.small()
        made: Tree = {"version": "1", **self.section()}
        if self.chance(0.7):
            made["default"] = self.pick(("allow", "allow", "deny"))
        if self.chance(0.5):
            made.setdefault("tools", {})["*"] = [{}, self.rule()]
        if self.chance(0.07):
            made["mode"] = "shadow"
        if self.chance(0.4):
            made["servers"] = {
                "near": self.section(),
                "alone": {"default": self.pick(("allow", "deny")), **self.section()},
            }
        return made

    # the calls

    def argument(self, key: str) -> Any:
        if self.chance(0.08):
            return None
        if self.chance(0.1):
            return self.pick(ODD)()
        if self.chance(0.2):
            return self.pick(self.values)
        kind = FITTING[key] if self.chance(0.8) else self.pick(list(FITTING.values()))
        return True if self.chance(0.03) else self.pick(kind)

    def arguments(self) -> Any:
        if self.chance(0.01):
            return self.pick(([], "x", 5))
        made = {key: self.argument(key) for key in KEYS if self.chance(0.7)}
        return MappingProxyType(made) if self.chance(0.02) else made

    def call(self) -> Tree:
        tool = self.pick(("", "get_a\n", "a" * 257, "\u200bpay", "\ud800")) if self.chance(0.02) else self.pick(TOOLS)
        return {
            "tool": tool,
            "arguments": self.arguments(),
            "server": self.pick((None, None, "", "near", "alone", "far")),
            "session": self.pick((None, "", "s1", "s2")),
            "principal": self.pick(PRINCIPALS),
            "context": self.pick(CONTEXTS),
        }

    def steps(self, count: int) -> list[Tree]:
        """Calls on a clock that moves in quarters of a second, some of them again, some approvals between them."""
        made: list[Tree] = []
        at = 0.0
        for _ in range(count):
            at += self.pick((0, 0, 0, 0.25, 0.5, 1, 4, 30, 60))
            call = made[-1]["call"] if made and self.chance(0.45) else self.call()
            after = self.pick(("approve", "approve", "approve", "reject")) if self.chance(0.6) else None
            made.append({"at": at, "do": "evaluate" if self.chance(0.1) else "authorize", "call": call, "then": after})
        return made


def category_of(server: str | None, tool: str) -> str | None:
    """What the test's catalogue knows: one server's tools."""
    return KNOWN.get(tool) if server in ("near", "alone") else None
