"""What stands in a record, and what never does, whatever a call brings."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_policy import Policy, PolicyEngine, Principal, ToolCall
from mcp_policy.approvals import Approval, Vote
from mcp_policy.audit import Answered, Decided, records
from mcp_policy.audit.chain import digest, keys
from mcp_policy.decision import Decision, Effect, Reason, ReasonCode
from mcp_policy.values import NotJson, canonical, plain

from .recording import ALLOWED, KEY, event, files, read, sink, verified

SECRET = "hunter2-hunter2"
ARGUMENTS = digest(keys(KEY).arguments)
SESSION = digest(keys(KEY).session, "surrogatepass")


class Text(str):
    __slots__ = ()


class Liar(str):
    """A text that answers nothing truthfully, or at all."""

    __slots__ = ()

    def _refuse(self, *_: object) -> Any:
        raise RuntimeError("no")

    __eq__ = __lt__ = __getitem__ = __len__ = __str__ = __iter__ = __contains__ = __format__ = __repr__ = _refuse
    __hash__ = str.__hash__


class Meta(type):
    def __hash__(cls) -> int:
        raise RuntimeError("no")


class Foreign(metaclass=Meta):
    """An object that cannot even be looked up by its type."""


@dataclass
class Person:
    name: str


def record_of(arguments: Any, *, safe: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    made = event(arguments, **more)
    return json.loads("{" + records.decided(made, ARGUMENTS, SESSION, safe) + "}")


def deep(levels: int) -> Any:
    value: Any = SECRET
    for _ in range(levels):
        value = [value]
    return value


def cyclic() -> Any:
    value: dict[str, Any] = {"secret": SECRET}
    value["self"] = value
    return value


# name: arguments, whether they have a digest
HOSTILE = {
    "deep": ({"a": deep(5_000)}, False),
    "as deep as is judged": ({"a": deep(62)}, True),
    "10 MB": ({"a": SECRET * 700_000}, True),
    "10 MB name": ({"n" * 10_000_000: SECRET}, True),
    "cyclic": ({"a": cyclic()}, False),
    "set": ({"a": {SECRET}}, False),
    "bytes": ({"a": SECRET.encode()}, False),
    "NaN": ({"a": float("nan"), "b": SECRET}, False),
    "infinite": ({"a": float("-inf"), "b": SECRET}, False),
    "lone surrogate": ({"a": "\ud800" + SECRET}, False),
    "lone surrogate deeper": ({"a": ["\udfff" + SECRET]}, False),
    "lone surrogate in a name": ({"\ud800": SECRET}, False),
    "huge integer": ({"a": 10**5_000, "b": SECRET}, False),
    "endless integer": ({"a": 1 << 10_000_000, "b": SECRET}, False),
    "large integer": ({"a": 10**3_999, "b": SECRET}, True),
    "huge decimal": ({"a": Decimal("1E+999999"), "b": SECRET}, False),
    "decimal": ({"a": Decimal("1E+400"), "b": SECRET}, True),
    "name that is no text": ({1: SECRET, "a": 1}, False),
    "names of several kinds": ({None: SECRET, (1, 2): 1, b"a": 2, "a": 3}, False),
    "100,000 names": ({f"key{number}": SECRET for number in range(100_000)}, True),
    "more values than are judged": ({"a": [0] * 1_000_001, "b": SECRET}, False),
    "names of a kind of text": ({Text("a"): Text(SECRET)}, True),
    "names that lie": ({Liar("a"): Liar(SECRET), "b": 1}, True),
    "foreign object": ({"a": Foreign(), "b": SECRET}, False),
    "dataclass": ({"a": Person(SECRET)}, True),
    "empty": ({}, True),
    "empty name": ({"": SECRET}, True),
    "controls": ({"\n\x1b[2J\u202e\u2028\0": SECRET}, True),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_whatever_a_call_brings_is_recorded_without_its_values(tmp_path, what):
    arguments, has_digest = HOSTILE[what]
    path = tmp_path / "audit.jsonl"
    with sink(path, safe=["a name that nobody has"]) as audit:
        audit.record(event(arguments))
        audit.record(event())
    content = path.read_bytes()
    assert verified(path).records == 2
    assert verified(path).finding is None
    assert content.isascii()
    assert SECRET.encode() not in content
    assert len(content) < 100_000
    record = read(path)[0]
    assert isinstance(record["arguments"], str) is has_digest
    assert ("unreadable" in record) is not has_digest


@pytest.mark.parametrize("what", HOSTILE)
def test_an_engine_s_decision_on_it_is_on_record(tmp_path, what):
    path = tmp_path / "audit.jsonl"
    policy = Policy.model_validate({"version": "1", "tools": {"read": {}}})
    with sink(path, safe=["a", "b", "key1"]) as audit:
        engine = PolicyEngine(policy, audit=audit)
        effect = engine.authorize(ToolCall("read", HOSTILE[what][0])).effect
        assert engine.unrecorded == 0
    assert [record["effect"] for record in read(path)] == [effect]


@pytest.mark.parametrize(
    "call",
    [
        ToolCall(7, {"a": SECRET}),  # type: ignore[arg-type]
        ToolCall("read", [SECRET]),  # type: ignore[arg-type]
        ToolCall("read", session=7),  # type: ignore[arg-type]
        ToolCall("read", principal="ann"),  # type: ignore[arg-type]
        ToolCall("read", category=SECRET * 1_000),
        ToolCall("t" * 1_000_000, server="s" * 1_000_000, session="z" * 1_000_000),
        ToolCall("\ud800", server="\ud800", session="\ud800", principal=Principal("\ud800", issuer="\ud800")),
        ToolCall("read", principal=Principal("i" * 1_000_000, client="c" * 1_000_000)),
        ToolCall(Liar("read"), server=Liar("s"), session=Liar("s")),
    ],
    ids=["tool", "arguments", "session", "principal", "category", "long", "surrogates", "long principal", "liar"],
)
def test_whoever_calls_whatever_is_recorded(tmp_path, call):
    path = tmp_path / "audit.jsonl"
    with sink(path) as audit:
        engine = PolicyEngine(Policy.model_validate({"version": "1", "default": "allow"}), audit=audit)
        engine.authorize(call)
        assert engine.unrecorded == 0
    assert verified(path).records == 1
    assert path.stat().st_size < 10_000


# -- names


def test_names_of_arguments_are_sorted_and_cut():
    assert record_of({"b": 1, "a": 2})["keys"] == ["a", "b"]
    assert "more" not in record_of({f"k{number:02}": 1 for number in range(records.MAX_KEYS)})
    many = record_of({f"k{number:02}": 1 for number in range(records.MAX_KEYS + 1)})
    assert (many["keys"][-1], len(many["keys"]), many["more"]) == ("k63", records.MAX_KEYS, True)
    long = record_of({"x" * 200: 1})
    assert (long["keys"], long["more"]) == (["x" * records.MAX_KEY], True)
    odd = record_of({1: 2, "a": 3})
    assert (odd["keys"], odd["more"], odd["unreadable"]) == (["a"], True, "an object key that is not a string")


def test_long_names_are_cut():
    record = record_of({}, tool="t" * 300, server="s" * 300, principal=Principal("i" * 300))
    assert record["tool"] == "t" * 256 + "…"
    assert record["server"] == "s" * 256 + "…"
    assert record["principal"]["id"] == "i" * 256 + "…"


def test_a_session_is_recorded_as_a_digest():
    one, same, other = (record_of({}, session=session)["session"] for session in ("s1", "s1", "s2"))
    assert one == same != other
    assert record_of({})["session"] is None
    assert record_of({}, session="")["session"] is None
    assert len(one) == 16


# -- values that are called safe


@pytest.mark.parametrize(
    ("value", "recorded"),
    [
        ("/srv/é\U0001f600", "/srv/é\U0001f600"),
        ({"b": [1, 2.5, None, True], "a": {}}, {"a": {}, "b": [1, 2.5, None, True]}),
        (Text("x"), "x"),
        (1.0, 1),
        (Decimal("1E+400"), 10**400),
        ("x" * 998, "x" * 998),
    ],
    ids=["text", "object", "subclass", "number", "decimal", "longest"],
)
def test_a_safe_value_is_recorded(value, recorded):
    record = record_of({"path": value, "token": SECRET}, safe=("path", "other"))
    assert record["values"] == {"path": recorded}
    assert "left_out" not in record


def test_a_safe_number_is_recorded_as_it_is():
    for text in ("0." + "0" * 399 + "1", "1" * 400 + ".5"):
        members = records.decided(event({"n": Decimal(text)}), ARGUMENTS, SESSION, ("n",))
        assert f'"values":{{"n":{text}}}' in members


@pytest.mark.parametrize(
    "value",
    [deep(100), "x" * 999, {SECRET}, float("nan"), "\ud800", cyclic(), 10**1_001, Foreign(), Liar("x" * 2_000)],
    ids=["deep", "long", "set", "NaN", "surrogate", "cyclic", "integer", "foreign", "liar"],
)
def test_a_safe_value_that_cannot_be_written_is_said_to_be_left_out(value):
    record = record_of({"path": value, "n": 1}, safe=("n", "path"))
    assert (record["values"], record["left_out"]) == ({"n": 1}, ["path"])


def test_safe_values_of_long_and_lying_names_are_recorded():
    long = "x" * 500
    assert record_of({long: 1}, safe=(long,))["values"] == {long: 1}
    assert record_of({Liar("a"): 1, "b": 2}, safe=("a", "b"))["values"] == {"a": 1, "b": 2}


# -- digests


@pytest.mark.parametrize(
    ("one", "same"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"a": 1}, {"a": 1.0}),
        ({"a": 1}, {"a": Decimal("1.00")}),
        ({"a": 10**20}, {"a": 1e20}),
        ({"a": [1, {"x": 1, "y": 2}]}, {"a": (1.0, {"y": 2, "x": 1})}),
        ({"a": "x"}, {Text("a"): Text("x")}),
        ({"a": Person("ann")}, {"a": {"name": "ann"}}),
    ],
    ids=["order", "float", "decimal", "large", "nested", "subclass", "dataclass"],
)
def test_equal_arguments_have_equal_digests(one, same):
    assert record_of(one)["arguments"] == record_of(same)["arguments"] is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1}, {"a": True}),
        ({"a": 1}, {"a": "1"}),
        ({"a": None}, {"a": "null"}),
        ({"a": ""}, {"a": None}),
        ({"a": '","b":"'}, {"a": "", "b": ""}),
        ({}, {"": ""}),
        ({"a": 1}, {"b": 1}),
        ({"a": "é"}, {"a": "e\u0301"}),
    ],
    ids=["true", "text", "null", "empty", "forged", "nothing", "name", "normal form"],
)
def test_different_arguments_have_different_digests(one, other):
    assert record_of(one)["arguments"] != record_of(other)["arguments"]


def test_digests_say_nothing_without_the_key():
    other = digest(keys(b"another key, as long as that").arguments)
    made = event({"a": 1})
    assert records.decided(made, ARGUMENTS, SESSION, ()) != records.decided(made, other, SESSION, ())


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.text(st.characters()) | st.decimals(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), VALUES, max_size=5))
def test_the_fast_way_to_a_digest_is_the_canonical_one(arguments):
    try:
        expected = canonical(plain(arguments))[1:-1]
    except NotJson:
        assert "unreadable" in record_of(arguments)
    else:
        assert record_of(arguments)["arguments"] == ARGUMENTS(expected)


# -- the rest of a record


def test_shadow_is_on_record():
    would = (Reason(ReasonCode.DENIED_BY_RULE, SECRET, "/tools/read"),)
    decision = Decision(Effect.ALLOW, ALLOWED.reasons, None, Effect.DENY, would)
    record = record_of({}, decision=decision)
    assert (record["effect"], record["would_be"]) == ("allow", "deny")
    assert record["shadow"] == [{"code": "denied_by_rule", "rule": "/tools/read"}]


def test_a_host_s_own_words_are_not_on_record():
    decision = Decision(Effect.DENY, (Reason(ReasonCode.DENY_IF, SECRET, "/tools/read/deny_if/0", SECRET),))
    record = record_of({}, decision=decision)
    assert SECRET not in json.dumps(record)
    assert (record["codes"], record["rules"]) == (["deny_if"], ["/tools/read/deny_if/0"])


def test_the_digest_of_the_policy_is_on_record():
    assert record_of({})["policy"] == "0" * 64
    call = Decided(ToolCall("read"), ALLOWED, None, 0.000_001_26)
    record = json.loads("{" + records.decided(call, ARGUMENTS, SESSION, ()) + "}")
    assert (record["policy"], record["us"]) == (None, 1.3)


def test_what_is_remembered_is_bounded(tmp_path):
    """Names, sessions and identities that callers invent, each long: at most what the caches hold stays."""
    with sink(tmp_path / "audit.jsonl", flush_every=100) as audit:
        tracemalloc.start()
        try:
            for number in range(5_000):
                name = f"{number}" + "x" * 5_000
                audit.record(event({name: 1}, tool=name, session=name, principal=Principal(name)))
            grown, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert grown < 15_000_000


# -- any sequence of events

TEXT = st.text(st.characters(), max_size=20)
NAMES = st.none() | TEXT
REASONS = st.builds(Reason, st.sampled_from(ReasonCode), TEXT, TEXT)
APPROVALS = st.builds(
    lambda id, tool, server, by, note, policy, at: Approval(
        *(id, "0" * 64, "approved", tool, server, {}, None, None, (), "", 0.0, 1.0),
        decided_by=by,
        decided_at=at,
        votes=(Vote(by, at, note),),
        policy=policy,
    ),
    *(TEXT, TEXT, NAMES, TEXT, TEXT, TEXT),
    st.floats(0, 1e10),
)
DECISIONS = st.builds(
    Decision,
    st.sampled_from(Effect),
    st.lists(REASONS, max_size=3).map(tuple),
    st.none() | st.floats(0, 1e9),
    st.none() | st.sampled_from(Effect),
    st.lists(REASONS, max_size=2).map(tuple),
    st.none() | APPROVALS,
)
PRINCIPALS = st.none() | st.builds(lambda id, more: Principal(id, issuer=more), TEXT.filter(bool), NAMES)
CALLS = st.builds(
    ToolCall,
    *(TEXT, st.dictionaries(TEXT, VALUES, max_size=3)),
    server=NAMES,
    session=NAMES,
    principal=PRINCIPALS,
)
EVENTS = st.builds(Decided, CALLS, DECISIONS, NAMES, st.floats(0, 100)) | st.builds(Answered, APPROVALS, st.booleans())


def units(text: str) -> bytes:
    """Two halves of a character that stand side by side are that character in JSON."""
    return text.encode("utf-16", "surrogatepass")


@given(events=st.lists(EVENTS, max_size=8), together=st.integers(1, 4), rotate=st.none() | st.just(700))
def test_any_events_are_one_line_of_json_each(tmp_path_factory, events, together, rotate):
    path = tmp_path_factory.mktemp("any") / "audit.jsonl"
    with sink(path, flush_every=together, rotate=rotate, safe=["", "a"]) as audit:
        for one in events:
            audit.record(one)
    assert [(record["seq"], record["kind"]) for record in read(path)] == [
        (number, "decision" if isinstance(one, Decided) else "answer") for number, one in enumerate(events, 1)
    ]
    for one, record in zip(events, read(path), strict=True):
        expected = one.decision.effect if isinstance(one, Decided) else one.approval.votes[-1].note
        said = record["effect" if isinstance(one, Decided) else "note"]
        assert units(said) == units(expected)
    assert all(file.read_bytes().isascii() for file in files(path))
    assert (verified(path).finding, verified(path).records) == (None, len(events))
