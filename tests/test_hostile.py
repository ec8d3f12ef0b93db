"""Calls made to hurt: each is decided at once, as the document says or against the call, and nothing is ever raised."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any, NoReturn

import pytest

from mcp_policy import Decision, Policy, PolicyEngine, PolicyError, Principal, ToolCall

SECONDS = 5.0  # of this process, generously: what is slow here is slow by orders of magnitude
VALUES: dict[str, Any] = {
    "eq": "a",
    "neq": "a",
    "in": ["a", 1],
    "not_in": ["a", 1],
    "intersects": ["a"],
    "lt": 1,
    "lte": 1,
    "gt": 1,
    "gte": 1,
    "contains": "a",
    "not_contains": "a",
    "starts_with": "a",
    "ends_with": "a",
    "regex": "^(a+)+$",
    "not_regex": "(a|aa)+$",
    "glob": ["*a*a*a*a*b", "?"],
    "exists": True,
    "length_lte": 3,
    "length_gte": 3,
    "keys_in": ["a"],
    "within": "/srv",
    "host_in": ["a.example", "*.b.example"],
}
COLUMNS = ("require", "deny_if", "approve_if", "when")


def short(text: str) -> str:
    return f"{text[:12]!a} of {len(text)}"


def engine(*rules: dict[str, Any], **top: Any) -> PolicyEngine:
    return PolicyEngine(Policy.parse(json.dumps({"version": "1", "tools": {"t": list(rules)}, **top})))


def every_operator(column: str) -> list[PolicyEngine]:
    """One engine for each operator, the condition in this column."""
    conditions: list[dict[str, Any]] = [{"path": "args.v", "op": op, "value": value} for op, value in VALUES.items()]
    conditions += [
        {"path": "args.v", "op": op, "value_from": "args.w"}
        for op in VALUES
        if op not in ("regex", "not_regex", "glob", "exists")
    ]
    action = {"action": "deny"} if column == "when" else {}
    return [engine({}, {column: [condition], **action}) for condition in conditions]


def every_path() -> list[PolicyEngine]:
    """Steps into what is passed."""
    paths = ("args.v.a", "args.v[0]", "args.v[*]", "args.v[*].a", "args.v.a[*]")
    return [engine({"deny_if": [{"path": path, "op": "eq", "value": 1}]}) for path in paths]


ENGINES = {column: every_operator(column) for column in COLUMNS}
STEPPING = every_path()
BOUND = [
    engine({"action": "approve"}),
    engine({"limits": [{"max": 5, "window": 60, "cost": "args.v"}]}),
    engine({"limits": [{"max": 5, "window": 60, "cost": {"length": "args.v"}}]}),
]


def decided(decider: PolicyEngine, call: ToolCall) -> Decision:
    """The answer, which comes in time and is no crash of the engine."""
    begun = time.process_time()
    answers = [decider.evaluate(call), decider.authorize(call)]
    assert time.process_time() - begun < SECONDS
    for answer in answers:
        assert "internal_error" not in {str(reason.code) for reason in answer.reasons}, answer
    return answers[1]


def codes(decision: Decision) -> set[str]:
    return {str(reason.code) for reason in decision.reasons}


def everywhere(make: Callable[[], Any]) -> None:
    """Decide the value by every operator in every column, by paths into it, as an approval's argument and as a cost."""
    value = make()
    for decider in [decider for column in COLUMNS for decider in ENGINES[column]] + STEPPING + BOUND:
        for arguments in ({"v": value}, {"v": "a", "w": value}):
            decided(decider, ToolCall("t", arguments))


def wrong_type_everywhere(make: Callable[[], Any]) -> None:
    """What is no JSON is a wrong type for every operator and can be neither a cost nor approved."""
    value = make()
    for column in COLUMNS:
        for decider in ENGINES[column]:
            assert codes(decided(decider, ToolCall("t", {"v": value, "w": "a"}))) == {"type_mismatch"}
    for decider, code in zip(BOUND, ("invalid_call", "type_mismatch", "type_mismatch"), strict=True):
        assert codes(decided(decider, ToolCall("t", {"v": value}))) == {code}


def nest(depth: int, wrap: Callable[[Any], Any]) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = wrap(value)
    return value


def cyclic_list() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def cyclic_dict() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["a"] = value
    return value


def wide_cycle() -> list[Any]:
    """Every way through it is endless and there are many of them."""
    value: list[Any] = []
    value += [value] * 50
    return value


def doubling(depth: int = 8) -> Any:
    """Small in memory, 2 ** depth elements when walked."""
    return nest(depth, lambda inner: [inner, inner])


def trap(*_: Any, **__: Any) -> NoReturn:
    raise RuntimeError("an argument's own code ran")


class Raising:
    """Every way to look at it raises."""

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __len__ = __iter__ = __contains__ = __getitem__ = trap  # type: ignore[assignment]
    __bool__ = __str__ = __repr__ = __int__ = __float__ = __index__ = __getattr__ = __format__ = trap  # type: ignore[assignment]
    __hash__ = trap  # type: ignore[assignment]


class Lying:
    """Equal to everything, of every length."""

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return hash("a")

    def __len__(self) -> int:
        return 3

    def __iter__(self) -> Iterator[str]:
        return iter(["a"])

    def __lt__(self, other: object) -> bool:
        return True

    __gt__ = __le__ = __ge__ = __lt__

    @property
    def __class__(self) -> Any:  # type: ignore[override]
        return str


NO_JSON = {
    "an object": object,
    "a type": lambda: dict,
    "a function": lambda: trap,
    "bytes": lambda: b"a",
    "a set": lambda: {"a"},
    "a generator": lambda: (n for n in "a"),
    "an iterator": lambda: iter(["a"]),
    "a range": lambda: range(3),
    "a complex number": lambda: 1 + 2j,
    "an ellipsis": lambda: ...,
    "an exception": lambda: ValueError("a"),
    "NaN": lambda: float("nan"),
    "infinity": lambda: float("inf"),
    "a list with NaN": lambda: ["a", float("nan")],
    "an object with infinity": lambda: {"a": [-float("inf")]},
    "a decimal NaN": lambda: Decimal("NaN"),
    "a signalling NaN": lambda: Decimal("sNaN"),
    "a decimal infinity": lambda: Decimal("-Infinity"),
    "keys that are numbers": lambda: {1: "a"},
    "a key that is no string, deep down": lambda: [{"a": {None: 1}}],
    "lists 5,000 deep": lambda: nest(5_000, lambda inner: [inner]),
    "objects 5,000 deep": lambda: nest(5_000, lambda inner: {"a": inner}),
    "tuples 100,000 deep": lambda: nest(100_000, lambda inner: (inner,)),
    "lists 65 deep": lambda: nest(65, lambda inner: [inner]),
    "a list that holds itself": cyclic_list,
    "an object that holds itself": cyclic_dict,
    "a list that holds itself fifty times": wide_cycle,
    "an object whose methods raise": Raising,
    "a list of objects whose methods raise": lambda: [Raising()],
    "an object that lies": Lying,
}


@pytest.mark.parametrize("name", NO_JSON)
def test_what_is_no_json_is_a_wrong_type(name: str) -> None:
    wrong_type_everywhere(NO_JSON[name])
    everywhere(NO_JSON[name])


class LyingStr(str):
    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return hash("a")

    def __contains__(self, item: object) -> bool:
        return True

    def __len__(self) -> int:
        return 1

    def startswith(self, *_: object) -> bool:
        return True

    endswith = startswith

    def lower(self) -> str:
        return "https://a.example/"


class LyingInt(int):
    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 1

    def __lt__(self, other: object) -> bool:
        return True

    __le__ = __gt__ = __ge__ = __lt__


class LyingDict(dict[str, Any]):
    def __getitem__(self, key: str) -> Any:
        return "a"

    def get(self, key: str, default: Any = None) -> Any:
        return "a"

    def keys(self) -> Any:
        return ["a"]

    def __len__(self) -> int:
        return 3

    def __contains__(self, key: object) -> bool:
        return True


class LyingList(list[Any]):
    def __len__(self) -> int:
        return 3

    def __iter__(self) -> Iterator[Any]:
        return iter(["a"])

    def __contains__(self, item: object) -> bool:
        return True


class RaisingStr(str):
    __slots__ = ()
    __eq__ = __contains__ = __len__ = startswith = endswith = lower = encode = trap  # type: ignore[assignment]
    __hash__ = trap  # type: ignore[assignment]


class RaisingDict(dict[str, Any]):
    __getitem__ = __len__ = __contains__ = __iter__ = get = keys = items = values = trap  # type: ignore[assignment]


class Shifting(Mapping[str, Any]):
    """Another object at every look."""

    def __init__(self) -> None:
        self.looks = 0

    def __getitem__(self, key: str) -> Any:
        self.looks += 1
        return "a" if self.looks % 2 else object()

    def __iter__(self) -> Iterator[str]:
        self.looks += 1
        return iter(["a", f"b{self.looks}"])

    def __len__(self) -> int:
        self.looks += 1
        return self.looks


class Broken(Mapping[str, Any]):
    """A mapping whose methods raise."""

    __getitem__ = __iter__ = __len__ = keys = items = get = __contains__ = trap  # type: ignore[assignment]


class Endless(Mapping[str, Any]):
    """A mapping that holds another one, and so on."""

    def __getitem__(self, key: str) -> Any:
        return Endless()

    def __iter__(self) -> Iterator[str]:
        return iter(["a", "b"])

    def __len__(self) -> int:
        return 2


LIARS: dict[str, Callable[[], Any]] = {
    "a string that lies": lambda: LyingStr("x"),
    "a number that lies": lambda: LyingInt(7),
    "an object that lies": lambda: LyingDict(b=2),
    "a list that lies": lambda: LyingList([1]),
    "a string that raises": lambda: RaisingStr("x"),
    "an object that raises": lambda: RaisingDict(a=1),
    "a mapping that shifts": Shifting,
    "a mapping that raises": Broken,
    "a mapping without end": Endless,
    "a list that grows by doubling": doubling,
    "an object with a key that lies": lambda: {LyingStr("x"): 1},
    "a list of liars": lambda: [LyingStr("x"), LyingInt(7), LyingDict()],
}


@pytest.mark.parametrize("name", LIARS)
def test_liars_are_decided_and_nothing_is_raised(name: str) -> None:
    everywhere_or_denied(LIARS[name])


def everywhere_or_denied(make: Callable[[], Any]) -> None:
    """An argument that is broken may break its own call (`internal_error`): that is a denial too."""
    logging.getLogger("mcp_policy").setLevel(logging.CRITICAL)
    try:
        for decider in [decider for column in COLUMNS for decider in ENGINES[column]] + STEPPING + BOUND:
            for arguments in ({"v": make()}, {"v": "a", "w": make()}):
                call, begun = ToolCall("t", arguments), time.process_time()
                answers = [decider.evaluate(call), decider.authorize(call)]
                assert time.process_time() - begun < SECONDS
                assert all("internal_error" not in codes(answer) or not answer.allowed for answer in answers)
    finally:
        logging.getLogger("mcp_policy").setLevel(logging.NOTSET)


@pytest.mark.parametrize(
    "name", ["a string that lies", "a number that lies", "an object that lies", "a list that lies"]
)
@pytest.mark.parametrize(
    "condition",
    [
        {"op": "eq", "value": "a"},
        {"op": "in", "value": ["a", 1]},
        {"op": "contains", "value": "a"},
        {"op": "lt", "value": 1},
        {"op": "starts_with", "value": "a"},
        {"op": "keys_in", "value": ["a"]},
        {"op": "intersects", "value": ["a"]},
        {"op": "host_in", "value": ["a.example"]},
        {"op": "regex", "value": "^a$"},
        {"op": "glob", "value": "a"},
        {"op": "length_gte", "value": 2},
    ],
    ids=lambda condition: condition["op"],
)
def test_a_liar_is_not_believed(name: str, condition: dict[str, Any]) -> None:
    decider = engine({"require": [{"path": "args.v", **condition}]})
    assert not decider.authorize(ToolCall("t", {"v": LIARS[name]()})).allowed


@pytest.mark.parametrize("name", [name for name in LIARS if "object" in name or "mapping" in name])
def test_hostile_arguments_as_a_whole(name: str) -> None:
    make = LIARS[name]
    for decider in (
        engine({}),
        engine({"require": [{"path": "args.a", "op": "eq", "value": "b"}]}),
        engine({"action": "approve"}),
    ):
        for field in ("arguments", "context"):
            decider.evaluate(ToolCall("t", **{field: make()}))
            decider.authorize(ToolCall("t", **{field: make()}))
    assert (
        not engine({"require": [{"path": "args.z", "op": "eq", "value": "a"}]}).authorize(ToolCall("t", make())).allowed
    )


NO_PART: dict[str, Callable[[], Any]] = {
    "a number": lambda: 5,
    "zero": lambda: 0,
    "false": lambda: False,
    "an empty list": list,
    "empty bytes": bytes,
    "a list": lambda: ["t"],
    "a list of pairs": lambda: [("v", 1)],
    "bytes": lambda: b"t",
    "a set": lambda: {"t"},
    "an iterator": lambda: iter({}),
    "NaN": lambda: float("nan"),
    "an object": object,
    "an object whose methods raise": Raising,
    "an object that lies": Lying,
    "a list that holds itself": cyclic_list,
}


@pytest.mark.parametrize("name", NO_PART)
def test_arguments_that_are_no_object_are_no_call(name: str) -> None:
    assert codes(decided(engine({}, default="allow"), ToolCall("t", NO_PART[name]()))) == {"invalid_call"}


@pytest.mark.parametrize("field", ["tool", "server", "session", "principal", "context"])
@pytest.mark.parametrize("name", NO_PART)
def test_parts_of_another_type_are_no_call(field: str, name: str) -> None:
    parts = {"tool": "t", "arguments": {}, field: NO_PART[name]()}
    assert codes(decided(engine({}, default="allow"), ToolCall(**parts))) == {"invalid_call"}


@pytest.mark.parametrize(
    "name",
    [
        "",
        "\0",
        "t\0",
        "t\n",
        "\tt",
        "t\x7f",
        "t\x85",
        "t\u200b",
        "t\u200d",
        "t\u2060",
        "t\ufeff",
        "t\u202e",
        "t\u2066",
        "t\u00ad",
        "t\u2028",
        "t\u2029",
        "t\ud800",
        "\udfff",
        "t\U000e0001",
        "t" * 257,
        "t" * 10_000_000,
        "\u200b",
    ],
    ids=short,
)
def test_odd_names_are_no_call(name: str) -> None:
    assert codes(decided(engine({}, default="allow"), ToolCall(name))) == {"invalid_call"}


@pytest.mark.parametrize(
    "name",
    ["\u0442", "T", "t ", " t", "t\u0301", "\uff54", "t\u00a0", "\U0001d42d", "t/", "t\\", "t*", "?", "*", "t\ufe0f"],
    ids=short,
)
def test_lookalikes_are_other_tools(name: str) -> None:
    assert codes(decided(engine({}), ToolCall(name))) == {"default_deny"}


@pytest.mark.parametrize(
    "text", ["\ud800", "s\udc80", "\0", "s\n", "\u202es", "s" * 10_000_000, "None", "null", "()", "*"], ids=short
)
def test_odd_sessions_and_servers_are_names_like_others(text: str) -> None:
    decider = engine({"limits": [{"max": 2, "window": 60, "per": ["session", "server", "principal"]}]})
    call = ToolCall("t", session=text, server=text, principal=Principal(text, issuer=text))
    assert [decider.authorize(call).allowed for _ in range(3)] == [True, True, False]
    assert decider.authorize(ToolCall("t")).allowed
    for asking in (engine({"action": "approve"}), engine({"when": [{"path": "session.id", "op": "eq", "value": "x"}]})):
        assert not decided(asking, call).allowed


HUGE = {
    "4,000 digits": lambda: 10**3_999,
    "10,000 digits": lambda: 10**9_999,
    "a million digits": lambda: 1 << 3_300_000,
    "minus 10,000 digits": lambda: -(10**9_999),
    "1E+999999999": lambda: Decimal("1E+999999999"),
    "1E-999999999": lambda: Decimal("1E-999999999"),
    "-1E+999999999": lambda: Decimal("-1E+999999999"),
    "0E+999999999": lambda: Decimal("0E+999999999"),
    "1e308": lambda: 1e308,
    "5e-324": lambda: 5e-324,
    "a decimal of 10,000 digits": lambda: Decimal("9" * 10_000),
    "9.9 with 5,000 digits": lambda: Decimal("9." + "9" * 5_000),
}


@pytest.mark.parametrize("name", HUGE)
def test_huge_numbers_are_compared_exactly(name: str) -> None:
    value = HUGE[name]()
    everywhere(lambda: value)
    for op, holds in (
        ("lt", value < 1),
        ("gt", value > 1),
        ("lte", value <= 1),
        ("gte", value >= 1),
        ("eq", value == 1),
        ("neq", value != 1),
    ):
        decider = engine({"require": [{"path": "args.v", "op": op, "value": 1}]})
        assert decided(decider, ToolCall("t", {"v": value})).allowed == holds


@pytest.mark.parametrize("name", HUGE)
def test_huge_costs_never_pass(name: str) -> None:
    value = HUGE[name]()
    decider = engine({"limits": [{"max": 5, "window": 60, "cost": "args.v"}]})
    decision = decided(decider, ToolCall("t", {"v": value}))
    assert decision.allowed == (0 <= value <= 5)
    assert codes(decision) == {"allowed"} if decision.allowed else codes(decision) <= {"rate_limited", "type_mismatch"}


@pytest.mark.parametrize(
    ("name", "effect"),
    [
        ("4,000 digits", "approve"),
        ("10,000 digits", "deny"),
        ("a million digits", "deny"),
        ("1E+999999999", "deny"),
        ("1E-999999999", "deny"),
        ("1e308", "approve"),
        ("5e-324", "approve"),
    ],
)
def test_absurd_numbers_cannot_be_bound(name: str, effect: str) -> None:
    assert str(decided(engine({"action": "approve"}), ToolCall("t", {"v": HUGE[name]()})).effect) == effect


@pytest.mark.parametrize(
    "text",
    [
        "a" * 10_000_000,
        "/" * 1_000_000,
        "/.." * 300_000,
        "https://" + "a." * 100_000,
        "https://" + "a" * 10_000_000,
        "*" * 1_000_000,
        "\ud800" * 1_000_000,
    ],
    ids=short,
)
def test_long_strings_are_read_in_time(text: str) -> None:
    everywhere_once(text)


def everywhere_once(value: Any) -> None:
    """The columns differ in what they make of an outcome, not in how they come by it: one is enough for what is long."""
    for decider in ENGINES["deny_if"] + STEPPING + BOUND:
        decided(decider, ToolCall("t", {"v": value}))


@pytest.mark.parametrize(
    "pattern", ["(a+)+$", "^(a|aa)+$", "^(a|a?)+$", "(.*a){20}b", "([a-z]+)*c", "a*a*a*a*a*a*b", "(?:a?){60}a{60}"]
)
def test_regular_expressions_are_linear(pattern: str) -> None:
    decider = engine({"deny_if": [{"path": "args.v", "op": "regex", "value": pattern}]})
    for text in ("a" * 16_384, "a" * 16_383 + "b", "a" * 16_383 + "!", "a" * 16_385):
        decided(decider, ToolCall("t", {"v": text}))


@pytest.mark.parametrize(
    "pattern",
    [
        "(?:[01]{1,60}1){1,40}x",
        "((a{1,100}){1,100}){1,100}",
        "(?:a{999}){999}",
        "(?:(?:a{50}){50}){50}",
        "a{1000000}",
        "(" * 500 + ")" * 500,
    ],
    ids=short,
)
def test_regular_expressions_that_blow_up_are_refused(pattern: str) -> None:
    begun = time.process_time()
    with pytest.raises(PolicyError) as refused:
        engine({"deny_if": [{"path": "args.v", "op": "regex", "value": pattern}]})
    assert time.process_time() - begun < SECONDS
    assert {str(problem.code) for problem in refused.value.problems} == {"invalid_regex"}


def test_too_many_regular_expressions_are_refused() -> None:
    conditions = [{"path": "args.v", "op": "regex", "value": f"a{n}"} for n in range(4_097)]
    with pytest.raises(PolicyError) as refused:
        engine({"deny_if": conditions})
    assert "too_large" in {str(problem.code) for problem in refused.value.problems}


@pytest.mark.parametrize("pattern", ["*a" * 127, "*" * 256, "?*" * 128, "*" + "a*" * 127 + "b"], ids=short)
def test_tool_patterns_are_linear(pattern: str) -> None:
    decider = engine({}, hide=[pattern], all_tools={"except": [pattern]}, default="allow")
    for name in ("a" * 256, "a" * 255 + "b", "b" * 256):
        decided(decider, ToolCall(name))
    matcher = engine({"deny_if": [{"path": "args.v", "op": "glob", "value": pattern}]})
    decided(matcher, ToolCall("t", {"v": "a" * 1_000_000}))


def test_wide_arguments_are_read_in_time() -> None:
    for value in (list(range(100_000)), {str(n): n for n in range(100_000)}, [[]] * 100_000):
        for decider in (ENGINES["deny_if"][0], ENGINES["require"][8], ENGINES["when"][18], *STEPPING, *BOUND):
            decided(decider, ToolCall("t", {"v": value}))


def test_messages_never_hold_argument_values() -> None:
    secret = "s3cr3t-value"
    for column in COLUMNS:
        for decider in ENGINES[column]:
            for arguments in (
                {"v": secret},
                {"v": {secret: secret}},
                {"v": [secret], "w": secret},
                {"v": "a", "w": [secret]},
            ):
                decision = decider.authorize(ToolCall("t", arguments))
                assert secret not in str(decision)
                assert not any(secret in reason.message or secret in reason.rule for reason in decision.reasons)


def test_text_that_is_no_utf_8_is_no_document() -> None:
    for raw in (
        b'{"version": "1", "name": "\xff"}',
        b'\xef\xbb\xbf{"version": "1"}',
        '{"version": "1"}'.encode("utf-16"),
        b"\x00",
        b"\xed\xa0\x80",
    ):
        with pytest.raises(PolicyError) as refused:
            Policy.parse(raw)
        assert {(problem.pointer, str(problem.code)) for problem in refused.value.problems} == {("", "invalid_json")}


NO_DOCUMENT: dict[str, Any] = {
    "nothing": None,
    "a number": 5,
    "a string": "x",
    "a list": [],
    "an object": object(),
    "keys that are numbers": {1: 2},
    "a tool that is a number": {"version": "1", "tools": {5: {}}},
    "a rule that is an object": {"version": "1", "tools": {"a": object()}},
    "a version that is a list": {"version": ["1"]},
    "a default that is an object": {"version": "1", "default": {}},
    "a mode that is a list": {"version": "1", "mode": []},
    "a pattern that is a list": {"version": "1", "hide": [[]]},
    "tools without end": {"version": "1", "tools": cyclic_dict()},
    "NaN as a value": {
        "version": "1",
        "tools": {"a": {"deny_if": [{"path": "args.x", "op": "eq", "value": float("nan")}]}},
    },
    "a set as a value": {
        "version": "1",
        "tools": {"a": {"deny_if": [{"path": "args.x", "op": "in", "value": [{1, 2}]}]}},
    },
    "a value without end": {
        "version": "1",
        "tools": {"a": {"deny_if": [{"path": "args.x", "op": "eq", "value": cyclic_list()}]}},
    },
    "an integer without end": {
        "version": "1",
        "tools": {"a": {"deny_if": [{"path": "args.x", "op": "gt", "value": 10**5_000}]}},
    },
    "a max that is NaN": {"version": "1", "tools": {"a": {"rate_limit": {"max": float("nan"), "window": 60}}}},
    "a window that is infinite": {"version": "1", "tools": {"a": {"rate_limit": {"max": 1, "window": float("inf")}}}},
}


@pytest.mark.parametrize("name", NO_DOCUMENT)
def test_a_tree_that_is_no_document_is_refused(name: str) -> None:
    with pytest.raises(PolicyError) as refused:
        Policy.model_validate(NO_DOCUMENT[name])
    assert refused.value.problems
