"""Reading is strict, bounded and fast, and says where each problem is."""

from __future__ import annotations

import datetime as dt
import json
import sys
from collections import OrderedDict
from contextlib import suppress
from decimal import Decimal
from types import MappingProxyType

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mcp_policy.document import MAX_BYTES, MAX_DEPTH, MAX_DIGITS, plain_copy, read, scan
from mcp_policy.document_json import _is_shallow, _outline
from mcp_policy.errors import PolicyError, ProblemCode

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
TREES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)
PRINTABLE = st.text(st.characters(codec="latin-1", exclude_categories=["C", "Z"]), max_size=20)


def refusal(text, format="json"):
    """The problems of a text that must not be read, as (pointer, code, line, column)."""
    with pytest.raises(PolicyError) as caught:
        read(text, format)
    return [(problem.pointer, problem.code.value, problem.line, problem.column) for problem in caught.value.problems]


def nested(depth, opening="[", closing="]"):
    return opening * depth + closing * depth


# -- JSON


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("", 1, 1),
        (" ", 1, 2),
        ("{", 1, 2),
        ('{"a": 1', 1, 8),
        ('{"a" 1}', 1, 6),
        ("{'a': 1}", 1, 2),
        ("[1 2]", 1, 4),
        ("[1]]", 1, 4),
        ("{} x", 1, 4),
        ("{}\n{}", 2, 1),
        ("\n\n  nul", 3, 3),
        ("[01]", 1, 3),
        ("[+1]", 1, 2),
        ("[.5]", 1, 2),
        ("[1.]", 1, 3),
        ("[0x10]", 1, 3),
        ("[True]", 1, 2),
        ("// comment\n{}", 1, 1),
        ('["\n"]', 1, 3),
        ('["\\x"]', 1, 3),
        ('["\\u12g4"]', 1, 5),
        ("\u00a0{}", 1, 1),
        ("{}\x00", 1, 3),
    ],
)
def test_what_is_not_json(text, line, column):
    (problem,) = refusal(text)
    assert problem[:2] == ("", "invalid_json")
    assert problem[2] == line
    assert abs(problem[3] - column) <= 1  # where exactly a broken text breaks differs between Python versions


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("[1,\n NaN]", 2, 2, "`NaN`"),
        ('{"é": Infinity}', 1, 7, "`Infinity`"),
        ('["NaN", -Infinity]', 1, 9, "`-Infinity`"),
        ("[1e400]", 1, 2, "infinity"),
        ("[1, -1e999]", 1, 5, "infinity"),
        ("[1" + "0" * 400 + ".5]", 1, 2, "infinity"),
        ("[" + "1" * (MAX_DIGITS + 1) + "]", 1, 2, "4,000 digits"),
        ("[7, -" + "1" * (MAX_DIGITS + 1) + "]", 1, 5, "4,000 digits"),
        ("[7, " + "1" * 100_000 + "]", 1, 5, "4,000 digits"),
    ],
)
def test_numbers_that_json_or_its_readers_cannot_hold(text, line, column, message):
    with pytest.raises(PolicyError, match=message):
        read(text)
    assert refusal(text) == [("", "invalid_json", line, column)]


@pytest.mark.parametrize("offset", [0, 1, 2, MAX_DIGITS - 1, MAX_DIGITS, MAX_DIGITS + 1, 3 * MAX_DIGITS - 7])
def test_a_long_integer_is_found_wherever_it_stands(offset):
    before = "[" + " " * offset
    assert read(before + "9" * MAX_DIGITS + "]")[0] == [10**MAX_DIGITS - 1]
    assert refusal(before + "9" * (MAX_DIGITS + 1) + "]")[0][1] == "invalid_json"
    digits = "9" * (MAX_DIGITS + 1)
    assert read(f'{before}"{digits}"]')[0] == [digits]


def test_a_lower_limit_of_the_host_on_integers_is_no_crash():
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(700)
    try:
        assert refusal("[1, " + "9" * 701 + "]") == [("", "invalid_json", 1, 5)]
    finally:
        sys.set_int_max_str_digits(before)


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ('["\\ud800"]', 1, 2),
        ('{"a": 1,\n "\\uDFFF": 2}', 2, 2),
        ('["\\ud83d\\ude00", "\\ude00\\ud83d"]', 1, 18),
        ('["x\ud800"]', 1, 4),
        (b'["x\xed\xa0\x80"]', 1, 4),
    ],
)
def test_lone_surrogates(text, line, column):
    assert refusal(text) == [("", "invalid_json", line, column)]


def test_pairs_of_surrogates_and_escaped_backslashes_are_text():
    assert read('["\\ud83d\\ude00", "\\\\ud800", "\\\\\\\\uDC00"]')[0] == ["😀", "\\ud800", "\\\\uDC00"]


@pytest.mark.parametrize(
    ("data", "line", "column"),
    [
        (b'{"a": "\xff"}', 1, 8),
        (b'{"\xc3\xa9":\n"\xc3"}', 2, 2),
        (b'["\xc0\x80"]', 1, 3),
        ('{"a": 1}'.encode("utf-16"), 1, 1),
        ('{"a": 1}'.encode("utf-8-sig"), 1, 1),
        ('{"a": 1}'.encode("utf-16-le"), 1, 2),
    ],
)
def test_bytes_are_utf_8_without_a_mark(data, line, column):
    assert refusal(data) == [("", "invalid_json", line, column)]


def test_text_does_not_begin_with_a_byte_order_mark():
    assert refusal("\ufeff{}") == [("", "invalid_json", 1, 1)]
    assert read('{"a": "\ufeff"}')[0] == {"a": "\ufeff"}


@pytest.mark.parametrize("thing", [None, 5, {}, bytearray(b"{}"), ["{}"]])
def test_only_text_and_bytes_are_read(thing):
    assert refusal(thing) == [("", "wrong_type", None, None)]


def test_an_unknown_format_is_a_mistake_of_the_caller():
    with pytest.raises(ValueError, match="unknown format `xml`"):
        read("{}", "xml")


# -- bounds


@pytest.mark.parametrize("format", ["json", "toml", "yaml"])
@pytest.mark.parametrize(
    "text",
    [" " * (MAX_BYTES + 1), b" " * (MAX_BYTES + 1), "é" * (MAX_BYTES // 2 + 1)],
    ids=["text", "bytes", "two bytes"],
)
def test_a_document_that_is_too_large(text, format):
    assert refusal(text, format) == [("", "too_large", None, None)]


def test_a_document_of_exactly_the_largest_size():
    assert read("[]".ljust(MAX_BYTES))[0] == []
    text = '"' + "é" * (MAX_BYTES // 2 - 1) + '"'
    assert read(text.encode())[0] == json.loads(text)


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]"), ('{"]":[', "]}")])
def test_depth(opening, closing):
    times = MAX_DEPTH // len(closing)  # a level for each bracket that is closed
    good = opening * times + "0" + closing * times
    assert read(good)[0]
    (problem,) = refusal(f"[\n{good}]")
    assert problem[:3] == ("", "too_deep", 2)


@pytest.mark.parametrize(
    "text", [nested(65), nested(100_000), nested(2_000_000), "[" * 100_000, '{"a":' * 100_000], ids=len
)
def test_very_deep_text_is_refused_and_never_crashes(text):
    assert refusal(text)[0][:2] == ("", "too_deep")


def test_depth_is_refused_also_under_a_lax_recursion_limit():
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(10**6)
    try:
        assert refusal(nested(200_000))[0][1] == "too_deep"
    finally:
        sys.setrecursionlimit(before)


@pytest.mark.parametrize("format", ["json", "toml"])
def test_a_stack_that_is_almost_used_up_is_no_crash(monkeypatch, format):
    def recurse(*_):
        raise RecursionError

    monkeypatch.setattr("json.JSONDecoder.decode", recurse)
    monkeypatch.setattr("tomllib.loads", recurse)
    assert refusal("{}", format) == [("", "too_deep", None, None)]


def test_brackets_in_strings_are_no_depth():
    text = json.dumps({"a": "[" * 100, "b": '"' + "{" * 100, "c": "\\" + "[" * 99, "d]": '\\"[', "e": "}" * 70})
    assert read(text)[0] == json.loads(text)


def test_a_deep_value_hidden_beside_strings_full_of_brackets_is_found():
    for text in ("]" * 90, "}" * 90, '\\"]', "\\", '"'):
        assert refusal(json.dumps([text, json.loads(nested(64)), text]))[0][1] == "too_deep"


def depth_of(tree):
    if isinstance(tree, dict):
        return 1 + max(map(depth_of, tree.values()), default=0)
    return 1 + max(map(depth_of, tree), default=0) if isinstance(tree, list) else 0


@given(TREES, st.integers(0, 70), st.sampled_from(["[]", "{}"]), st.booleans())
@example("\\", 60, "[]", True)
def test_the_quick_look_at_depth_agrees_with_the_tree(tree, levels, kind, is_ascii):
    for _ in range(levels):
        tree = [tree] if kind == "[]" else {']"\\': tree}
    text = json.dumps(tree, ensure_ascii=is_ascii)
    assert _is_shallow(_outline(text.encode())) is (depth_of(tree) <= MAX_DEPTH)


# -- duplicates and places


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ('{"a": 1, "a": 1}', [("/a", 1, 10)]),
        ('{"a": 1,\n "a": 1,\n "a": 1}', [("/a", 2, 2), ("/a", 3, 2)]),
        ('{"a": {"b": 1, "b": 2}, "a": {}}', [("/a/b", 1, 16), ("/a", 1, 25)]),
        ('{"x/y~": 1, "x/y~": 1}', [("/x~1y~0", 1, 13)]),
        ('{"a": 1, "\\u0061": 1}', [("/a", 1, 10)]),
        ('{"": 1, "": 1}', [("/", 1, 9)]),
        ('[{"k": 1}, {"k": 1, "k": [{"q": 1, "q": 2}]}]', [("/1/k", 1, 21), ("/1/k/0/q", 1, 36)]),
        ('{"é💥": 1, "é💥": 1}', [("/é💥", 1, 11)]),
    ],
)
def test_every_duplicate_key_is_found(text, problems):
    assert refusal(text) == [(pointer, "duplicate_key", *place) for pointer, *place in problems]


def members_of(tree):
    children = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    return (len(tree) if isinstance(tree, dict) else 0) + sum(map(members_of, children))


@given(TREES, st.booleans())
@example({'"': ':"', ":": ["\\", "\\:"], "\\": {"": ':""'}}, False)
def test_the_outline_has_a_colon_for_each_member(tree, is_ascii):
    outline = _outline(json.dumps(tree, ensure_ascii=is_ascii).encode())
    assert outline.count(b":") == members_of(tree)
    assert outline.strip(b"[]{}:") == b""


def test_one_key_in_different_objects_is_no_duplicate():
    assert read('{"a": {"a": 1}, "b": {"a": [{"a": 1}, {"a": 1}]}}')[0]


def test_a_duplicate_leaves_a_tree_with_the_last_value():
    reading = scan('{"a": 1, "a": 2}')
    assert reading.tree == {"a": 2}
    assert reading.places({"/a"})["/a"] == ((1, 15), (1, 10))


def test_places():
    tree, locate = read('{\n  "a": [1, {"é": true}],\n\n"b/c": "x,:{",\t"d": {} , "e": []\r\n}')
    assert tree == {"a": [1, {"é": True}], "b/c": "x,:{", "d": {}, "e": []}
    assert [locate(pointer) for pointer in ("", "/a", "/a/0", "/a/1", "/a/1/é", "/b~1c", "/d", "/e")] == [
        (1, 1), (2, 8), (2, 9), (2, 12), (2, 18), (4, 8), (4, 21), (4, 31),
    ]  # fmt: skip
    assert locate("/a/2") is None
    assert locate("a") is None


def pointers(tree, pointer=""):
    yield pointer, tree
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, item in items:
        yield from pointers(item, f"{pointer}/{str(key).replace('~', '~0').replace('/', '~1')}")


@given(TREES, st.sampled_from([None, 0, 3]), st.booleans())
def test_every_value_stands_where_it_is_said_to(tree, indent, is_ascii):
    text = json.dumps(tree, indent=indent, ensure_ascii=is_ascii)
    lines = text.split("\n")
    _, locate = read(text)
    for pointer, value in pointers(tree):
        line, column = locate(pointer)
        rest = "\n".join([lines[line - 1][column - 1 :], *lines[line:]])
        assert json.JSONDecoder().raw_decode(rest)[0] == value


@given(TREES)
def test_what_is_written_is_read(tree):
    for text in (json.dumps(tree), json.dumps(tree, ensure_ascii=False), json.dumps(tree).encode()):
        assert json.dumps(read(text)[0]) == json.dumps(tree)


@given(st.one_of(st.binary(), st.text(), st.text('[]{}",:\\u0dDe18 \ntrueNaI-.'), st.text("[]{}:=&*!-? \n'\"a1#")))
def test_any_input_is_read_or_refused(text):
    for format in ("json", "toml", "yaml"):
        with suppress(PolicyError):
            read(text, format)


# -- TOML


def test_toml():
    tree, locate = read(
        'version = "1"\n[tools."a.*"]\nrate_limit = {max = 10, window = 1.5}\nhide = [true, "x"]\n', "toml"
    )
    assert tree == {"version": "1", "tools": {"a.*": {"rate_limit": {"max": 10, "window": 1.5}, "hide": [True, "x"]}}}
    assert locate("/version") is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a = 1\na = 2", ("", "duplicate_key", 2, 6)),
        ("[a]\n[a]", ("", "duplicate_key", 2, 3)),
        ("a = {b = 1, b = 2}", ("", "duplicate_key", 1, 17)),
        ("a = ", ("", "invalid_json", 1, 5)),
        ("{}", ("", "invalid_json", 1, 1)),
        ("a = 2026-01-01", ("/a", "wrong_type", None, None)),
        ("[x]\na = [07:30:00]", ("/x/a/0", "wrong_type", None, None)),
        ("a = nan", ("/a", "invalid_value", None, None)),
        ("a = -inf", ("/a", "invalid_value", None, None)),
        ("a = " + "9" * (MAX_DIGITS + 1), ("/a", "invalid_value", None, None)),
        ("a = " + "9" * 5000, ("", "invalid_json", None, None)),
        ("a." * 64 + "a = 1", ("", "too_deep", None, None)),
        ("a = " + nested(100_000), ("", "too_deep", None, None)),
    ],
)
def test_toml_is_as_strict(text, problem):
    (found,) = refusal(text, "toml")
    assert found[:2] == problem[:2]
    assert found[2] == problem[2]


# -- YAML

YAML = """\
version: "1"
default: deny
tools:
  get_*: {}
  "*":
    action: deny
    when:
    - {path: args.n, op: gt, value: 10}
    - path: args.country
      op: eq
      value: no
"""


def test_yaml():
    tree, locate = read(YAML, "yaml")
    conditions = [{"path": "args.n", "op": "gt", "value": 10}, {"path": "args.country", "op": "eq", "value": "no"}]
    assert tree == {
        "version": "1",
        "default": "deny",
        "tools": {"get_*": {}, "*": {"action": "deny", "when": conditions}},
    }
    assert list(tree) == ["version", "default", "tools"]
    assert locate("/tools/*/when/1/value") == (11, 14)
    assert locate("/nowhere") is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True), ("false", False), ("null", None), ("~", None), ("", None),
        ("no", "no"), ("yes", "yes"), ("on", "on"), ("off", "off"), ("True", "True"), ("NULL", "NULL"), ("n", "n"),
        ("0", 0), ("-5", -5), ("1.5", 1.5), ("1e3", 1000.0), ("-0", 0), ("1.0", 1.0),
        ("010", "010"), ("0o7", "0o7"), ("0x1F", "0x1F"), ("1_000", "1_000"), ("+1", "+1"), (".5", ".5"), ("1.", "1."),
        ("1:30", "1:30"), ("2026-01-01", "2026-01-01"), ("2026-01-01 10:00:00", "2026-01-01 10:00:00"), ("=", "="),
        ("<<", "<<"), ("'1'", "1"), ('"true"', "true"), ("'null'", "null"), ("|\n  a\n  b\n", "a\nb\n"), ('"\\u00e9"', "é"),
        ("[]", []), ("{}", {}), ("[1, [a]]", [1, ["a"]]), ("inf", "inf"), ("NaN", "NaN"),
    ],
)  # fmt: skip
def test_yaml_scalars_are_those_of_json(text, value):
    tree, _ = read(f"a: {text}", "yaml")
    assert json.dumps(tree) == json.dumps({"a": value})


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("a: &x 1", 1, 4),
        ("a: &x [1]\nb: *x", 1, 4),
        ("a: 1\nb: *x", 2, 4),
        ("&k a: 1", 1, 1),
        ("a: !!str 1", 1, 4),
        ("a: !custom {}", 1, 4),
        ("a: ! x", 1, 4),
        ("a:\n  <<: {b: 1}", 2, 3),
        ("a: 1\n---\nb: 1", 2, 1),
        ("[a]: 1", 1, 1),
        ("1: x", 1, 1),
        ("true: x", 1, 1),
        ("a:\n  null: x", 2, 3),
        ("a: .nan", 1, 4),
        ("a: -.inf", 1, 4),
        ("a: 1e400", 1, 4),
        ("a: " + "9" * (MAX_DIGITS + 1), 1, 4),
        ('a: "\\ud800"', 1, None),
        ("a: [1", 1, None),
        ("a: b: c", 1, None),
        ("\ta: 1", 1, None),
        ("", 1, 1),
        ("# nothing", 1, 1),
    ],
)
def test_what_yaml_can_say_and_json_cannot(text, line, column):
    (problem,) = refusal(text, "yaml")
    assert problem[:2] == ("", "invalid_json")
    if column is not None:
        assert problem[2:] == (line, column)


def test_duplicate_keys_in_yaml():
    assert refusal('a: 1\nb:\n  c: 1\n  "c": 2\na: 3\n', "yaml") == [
        ("/b/c", "duplicate_key", 4, 3),
        ("/a", "duplicate_key", 5, 1),
    ]


def test_deep_yaml():
    assert read(nested(64), "yaml")[0]
    assert refusal(nested(65), "yaml") == [("", "too_deep", 1, 65)]
    assert refusal(nested(3_000), "yaml")[0][1] == "too_deep"
    assert refusal("\n".join(" " * level + "a:" for level in range(70)), "yaml")[0][1] == "too_deep"


def test_a_bomb_of_aliases_is_not_expanded():
    assert refusal("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]", "yaml")[0][:2] == ("", "invalid_json")


def test_without_pyyaml_the_message_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(ImportError, match=r'pip install "mcp-policy\[yaml\]"'):
        read("a: 1", "yaml")


def test_yaml_is_read_alike_without_the_c_parser(monkeypatch):
    import yaml

    monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    assert read(YAML, "yaml")[0]["tools"]["*"]["when"][1]["value"] == "no"
    assert refusal("a: 1\na: &x 2", "yaml")[0][1] == "invalid_json"
    assert refusal('a: "\\ud800"', "yaml") == [("", "invalid_json", 1, 4)]


@given(st.dictionaries(PRINTABLE, st.lists(PRINTABLE | st.integers() | st.booleans() | st.none())))
def test_json_is_yaml(tree):
    text = json.dumps(tree)
    assert json.dumps(read(text, "yaml")[0]) == text


# -- trees


def problems_of(tree):
    return [(problem.pointer, problem.code.value) for problem in plain_copy(tree)[1]]


def test_a_copy_is_plain_and_new():
    inner = [1, 2.5, None, True, "é"]
    tree = OrderedDict(b=MappingProxyType({"x": (1, [2])}), a=inner)
    copy, problems = plain_copy(tree)
    assert problems == ()
    assert copy == {"b": {"x": [1, [2]]}, "a": inner}
    assert list(copy) == ["b", "a"]
    assert type(copy) is dict
    assert type(copy["b"]["x"]) is list
    assert copy["a"] is not inner


class Text(str):
    __slots__ = ()


class Number(int):
    pass


@pytest.mark.parametrize(
    ("tree", "problems"),
    [
        ({"a": {1, 2}}, [("/a", "wrong_type")]),
        ({"a": [object(), b"x"]}, [("/a/0", "wrong_type"), ("/a/1", "wrong_type")]),
        ({"a": Decimal(1)}, [("/a", "wrong_type")]),
        ({"a": dt.date(2026, 1, 1)}, [("/a", "wrong_type")]),
        ({"a": Text("x")}, [("/a", "wrong_type")]),
        ({"a": Number(1)}, [("/a", "wrong_type")]),
        ({"a": ProblemCode.CONFLICT}, [("/a", "wrong_type")]),
        ({"a": float("nan"), "b": float("-inf")}, [("/a", "invalid_value"), ("/b", "invalid_value")]),
        ({"a": 10**MAX_DIGITS}, [("/a", "invalid_value")]),
        ({"a": -(10**MAX_DIGITS)}, [("/a", "invalid_value")]),
        ({"a": 10**MAX_DIGITS - 1}, []),
        ({"a": "\ud800"}, [("/a", "invalid_value")]),
        ({"x": {"\udc00": 1}}, [("/x", "invalid_value")]),
        ({"x": {1: 2, None: 3, Text("k"): 4}}, [("/x", "wrong_type")] * 3),
        ({"a/b": [1, {2}]}, [("/a~1b/1", "wrong_type")]),
    ],
)
def test_what_is_not_plain(tree, problems):
    assert problems_of(tree) == problems


def wrapped(levels, value=1):
    for _ in range(levels):
        value = [value]
    return value


def test_deep_trees():
    assert plain_copy(wrapped(64))[0] == wrapped(64)
    cycle = []
    cycle.append(cycle)
    for tree in (wrapped(65), wrapped(64, {}), cycle):
        with pytest.raises(PolicyError, match="too_deep"):
            plain_copy(tree)


def test_a_tree_that_shares_itself_is_not_unfolded(monkeypatch):
    monkeypatch.setattr("mcp_policy.document.MAX_BYTES", 10_000)
    tree = [1]
    for _ in range(60):
        tree = [tree, tree]
    with pytest.raises(PolicyError, match="too_large"):
        plain_copy(tree)


@given(TREES)
def test_plain_trees_are_copied_as_they_are(tree):
    copy, problems = plain_copy(tree)
    assert problems == ()
    assert json.dumps(copy) == json.dumps(tree)
