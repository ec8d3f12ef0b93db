"""Which texts are paths, and what they spell."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_policy.paths import CLOSED_ROOTS, OPEN_ROOTS, STAR, Path, has_star, parse_path

BARE = st.text(st.characters(exclude_categories=["Cs", "Z"], exclude_characters=".[]\"'*\\"), min_size=1).filter(
    lambda text: not any(map(str.isspace, text))
)
KEY = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.mark.parametrize(
    ("text", "root", "steps"),
    [
        ("args", "args", ()),
        ("context", "context", ()),
        ("principal.claims", "principal.claims", ()),
        ("args.a", "args", ("a",)),
        ("args.a.b", "args", ("a", "b")),
        ("args[0]", "args", (0,)),
        ("args[10][0]", "args", (10, 0)),
        ("args[*]", "args", (STAR,)),
        ("args.a[*].b", "args", ("a", STAR, "b")),
        ('args["odd key"]', "args", ("odd key",)),
        ('args["a.b"]["c]"]', "args", ("a.b", "c]")),
        ('args[""]', "args", ("",)),
        (r'args["\"\\\u00e9\n"]', "args", ('"\\é\n',)),
        (r'args["\ud83d\ude00"]', "args", ("😀",)),
        ('args["*"]', "args", ("*",)),
        ('args["0"]', "args", ("0",)),
        ("args.0", "args", ("0",)),
        ("args.-1", "args", ("-1",)),
        ("args.é-ü_$/@", "args", ("é-ü_$/@",)),
        ("context.time.weekday", "context", ("time", "weekday")),
        ("principal.claims.org", "principal.claims", ("org",)),
        ("principal.claims[0]", "principal.claims", (0,)),
    ],
)
def test_paths(text, root, steps):
    assert parse_path(text) == Path(root, steps)


@pytest.mark.parametrize("root", CLOSED_ROOTS)
def test_roots_without_steps(root):
    assert parse_path(root) == (root, ())
    for steps in (".x", "[0]", "[*]", '["x"]', "."):
        with pytest.raises(ValueError, match="takes no further steps"):
            parse_path(root + steps)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "arg", "argsx", "args ", " args", "Args", "$.args", "args.", "args..a", "args.a.", "args[", "args[]",
        "args[0", "args[01]", "args[-1]", "args[+1]", "args[1.0]", "args[ 0]", "args[0 ]", "args[٣]", "args['a']",
        'args["a]', 'args["a"', 'args["a""]', 'args["\n"]', r'args["\x41"]', r'args["\u00zz"]', r'args["\ud800"]',
        r'args["\udc00\ud800"]', "args[**]", "args.*", "args.a b", "args.a\u00a0b", "args.a\\b", "args.a'b", 'args."a"',
        "args[a]", "args[0]a", "args[1000000000000000000000]", "principal", "principal.", "principal.role", "principal.name",
        "principal.claimsx", "session", "session.idx", "server", "server.id", "tool", "tool.names", "tool.category.x",
        "tool.category[0]", "contexts", "context.", "env.HOME",
    ],
)  # fmt: skip
def test_what_is_no_path(text):
    with pytest.raises(ValueError, match=r"`|empty"):
        parse_path(text)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("arg.x", "did you mean `args`"),
        ("argument.x", "a path begins with `args`"),
        ("principal.role", "did you mean `principal.roles`"),
        ("principal.scope", "did you mean `principal.scopes`"),
        ("tool.categry", "did you mean `tool.category`"),
        ("contxt.time", "did you mean `context`"),
        ("zzz", "a path begins with `args`, `context`, `principal.claims`"),
        ("", "must not be empty"),
        ("args.a b", "from ` b` on"),
    ],
)
def test_the_message_leads_to_the_right_path(text, hint):
    with pytest.raises(ValueError, match=hint):
        parse_path(text)


@pytest.mark.parametrize(
    ("text", "star"), [("args.a[*]", True), ("args[*].b[0]", True), ('args["*"]', False), ("args", False)]
)
def test_a_star_is_a_step_and_not_a_key(text, star):
    assert has_star(parse_path(text)) is star


@given(st.sampled_from(OPEN_ROOTS), st.lists(st.one_of(BARE.map(lambda key: ("." + key, key)),
       KEY.map(lambda key: (f"[{json.dumps(key)}]", key)), st.integers(0, 10**18 - 1).map(lambda n: (f"[{n}]", n)),
       st.just(("[*]", STAR)))))  # fmt: skip
def test_every_path_that_is_written_down_is_read_back(root, steps):
    text = root + "".join(spelt for spelt, _ in steps)
    assert parse_path(text) == Path(root, tuple(step for _, step in steps))


@given(st.text("args.[]\"'*\\0 \ud800é"))
def test_any_text_is_a_path_or_a_value_error(text):
    try:
        root = parse_path("args" + text).root
    except ValueError:
        root = "args"
    assert root == "args"


def test_a_long_path_is_read_in_linear_time():
    assert len(parse_path("args" + ".a" * 200_000).steps) == 200_000
    with pytest.raises(ValueError, match="cannot be read"):
        parse_path('args["' + "\\" * 200_001)
