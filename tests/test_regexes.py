"""Which regular expressions are taken, and that the others are refused before a call meets them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_policy.regexes import MAX_PRODUCT, MAX_SUBJECT, _Scanner, compile_regex, nested_product


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("b", ["b", "abc"], ["", "B"]),
        ("^b", ["bc"], ["ab", "a\nb"]),
        ("b$", ["ab"], ["ab\n", "bc"]),
        ("^$", [""], ["\n"]),
        (r"^\d{4}-\d\d$", ["2026-01"], ["2026-1"]),
        ("(?i)usd", ["USD", "xUsD"], ["eur"]),
        ("(?m)^b$", ["a\nb\nc"], ["ab"]),
        ("a.c", ["abc"], ["a\nc"]),
        ("(?s)a.c", ["a\nc"], []),
        (r"\p{Lu}", ["É"], ["é"]),
        ("💥", ["a💥"], ["a"]),
        ("[[:digit:]&&[^5]]", ["4"], ["5"]),
        ("", ["", "x"], []),
    ],
)
def test_a_pattern_is_found_anywhere_in_a_text(pattern, yes, no):
    is_match = compile_regex(pattern)
    assert [text for text in yes if is_match(text) is not True] == []
    assert [text for text in no if is_match(text) is not False] == []


def test_what_is_no_short_text_never_matches():
    is_match = compile_regex("")
    assert is_match("x" * MAX_SUBJECT)
    assert is_match("💥" * MAX_SUBJECT)
    assert not is_match("x" * (MAX_SUBJECT + 1))
    for other in (b"x", 1, None, ["x"], "\ud800"):
        assert is_match(other) is False


def test_a_pattern_is_built_once():
    assert compile_regex("once-and-again") is compile_regex("once-and-again")


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(a", "unclosed group"),
        ("a)", "unopened group"),
        ("[a", "unclosed character class"),
        ("*a", "repetition operator missing expression"),
        ("a(?=b)", "look-around"),
        ("(?<!a)b", "look-around"),
        (r"(a)\1", "backreferences"),
        ("a{3,2}", "repetition"),
        ("a{99999999999}", "usable"),
        (r"\Z", "escape"),
        ("(?P<n>a)(?P<n>b)", "duplicate"),
        (r"\w{1000}", "size limit"),
        ("(" * 300 + ")" * 300, "nest"),
        ("a\ud800", "lone surrogate"),
    ],
)
def test_what_the_engine_refuses_is_refused_with_the_reason(pattern, why):
    with pytest.raises(ValueError, match=why) as caught:
        compile_regex(pattern)
    assert len(str(caught.value)) < 250
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "product"),
    [
        ("", 1),
        ("a{2000}", 1),
        ("(a{2000})", 1),
        ("(a)(?:b{2000})c{2000}", 1),
        ("a{2000}|b{2000}", 1),
        ("a{2000}?", 1),
        ("(a+)+$", 1),
        ("(a*b?)*", 1),
        ("(a{60}){60}", 3600),
        ("(?:a{60}){60}", 3600),
        ("(?P<n>a{60}){60}", 3600),
        ("(?<n>a{60}){60}", 3600),
        ("(?P<n[x.y]>a{60}){60}", 3600),
        ("(?i:a{60}){60}", 3600),
        ("(?i-s:a{60}){60}", 3600),
        ("(?:[01]{1,60}1){1,40}x", 2400),
        ("(?:a*){1,2000}", 2000),
        ("(?:a{2000})*", 2000),
        ("(?:a{2000}b){1}", 2000),
        ("(?:a{3,}){500}", 1500),
        ("(?:a{3,7}){200,}", 1400),
        ("((a{11}b){11}c){11}", 1331),
        ("((a{11}b)(c{30}){11}d){11}", 3630),
        ("a{40}{40}", 1600),
        ("a{2000}??", 2000),
        ("a{2000}*", 2000),
        ("a{2000}?+", 2000),
        ("(?:(a{50}|b)|c{7}){50}", 2500),
        ("(?:){2000}{2}", 4000),
        ("(?:x|a{30}){40}", 1200),
        (r"\x{4100}", 1),
        (r"\x{4100}{40}{40}", 1600),
        (r"\x41{40}{40}", 1600),
        (r"\u{41}{5}", 1),
        (r"\U0001F600{5}", 1),
        (r"\p{Greek}{40}{40}", 1600),
        (r"\pL{40}{40}", 1600),
        (r"\P{L}", 1),
        (r"\b{start}{40}", 1),
        (r"\b{start-half}{40}{40}", 1600),
        (r"\b{40}{40}", 1600),
        (r"(\(a{60}\)){60}", 3600),
        (r"\(a{60}\){60}", 1),
        (r"\\(a{60}){60}", 3600),
        (r"\{60}{60}", 1),
        ("[(]a{60}[)]{60}", 1),
        ("[]({60}]{60}", 1),
        ("[^](]{60}", 1),
        ("[[(]{60}]{60}", 1),
        ("[a[^]{60}]b]{60}", 1),
        (r"[\](a{60}]{60}", 1),
        ("[[:alpha:]({60}]{60}", 1),
        ("([[:alpha:]]{60}){60}", 3600),
        ("[a&&[^b]{60}]{60}", 1),
        ("([a-]{60}){60}", 3600),
        ("([-]{60}){60}", 3600),
        ("(?x) a{60} # ({60}\n {60}", 3600),
        ("(?x) ( a {60} ) {60}", 3600),
        ("(?x) a{6 0}{6#}\n0}", 3600),
        ("(?x: a{60} ) {60}", 1),
        ("(?x: a{60} ){60}", 3600),
        ("(?x)(?-x)a{60} {60}", 1),
        ("(?x)[#\n]{60}]{60}", 1),
        (r"(?x)\#{60}", 1),
        (r"(?x)\x {60}{60}{60}", 3600),
        ("((?x)a{60} ){60} {60}", 3600),
        ("a #{60}{60}", 3600),
        ("(?:a{0}){2000}", 2000),
        ("(?:a{2000}){0}", 2000),
        ("(?:a{99999999999999999999}){2}", 1999999998),
    ],
)
def test_the_product_of_nested_repetitions(pattern, product):
    assert nested_product(pattern) == product


@pytest.mark.parametrize("pattern", ["(a{60}){60}", "(?:[01]{1,60}1){1,40}x", "(?:a*){1,2000}", "(?x)(a{60}){60}"])
def test_big_products_are_refused(pattern):
    with pytest.raises(ValueError, match=r"nested repetitions .* more than 1,000"):
        compile_regex(pattern)


@pytest.mark.parametrize("pattern", ["(a+)+$", "a{2000}", "(a{25}){40}", "(?:a{10}){100}"])
def test_products_up_to_the_bound_are_taken(pattern):
    assert compile_regex(pattern)


@given(st.text("(){}[]?*+|\\^-0123#,x: <>Pnpb\n", max_size=40))
def test_the_scanner_reads_any_text_to_its_end(pattern):
    assert nested_product(pattern) >= 1
    assert nested_product("(?x)" + pattern) >= 1


PIECES = ["(", ")", "(?:", "(?x)", "(?x:", "(?-x)", "(?-x:", "(?P<n>", "(?<m[]>", "( ?:", "(?i-x)", "[", "]", "[^", "-", "&&", "--",
          "[:alpha:]", "\\]", "\\[", "\\(", "\\{", "\\x41", "\\x{41}", "\\x {41}", "\\p{L}", "\\pL", "\\b", "\\b{start}", "{2}", "{2,}",
          " {2}", "{ 2 }", "?", "*", "|", "a", " ", "\n", "#", "^", ".", "é"]  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=10).map("".join))
def test_the_scanner_sees_the_groups_that_the_engine_sees(pattern):
    """A parenthesis that only one of them takes for a group would stay open, or close what is not open."""
    try:
        compile_regex(pattern)
    except ValueError:
        return
    scanner = _Scanner(pattern)
    while scanner.at < len(pattern):
        closes = pattern[scanner.at] == ")"
        depth = len(scanner.open)
        scanner.step()
        assert not closes or scanner.open != [] or depth > 0
    assert scanner.open == []


ATOMS = ["a", ".", "é", r"\d", r"\{", r"\(", r"\x{41}", r"\x41", r"\p{L}", r"\pL", r"\b{start}", "[a-z]", "[]{9}(]", "[^]x]",
         "[[:alpha:]x]", r"[\]{8}]", "[a[(]]", "[a&&b]"]  # fmt: skip
COUNTS = st.one_of(
    st.sampled_from([("*", 1), ("+", 1), ("?", 1)]),
    st.integers(1, 40).flatmap(lambda n: st.sampled_from([(f"{{{n}}}", n), (f"{{{n},}}", n), (f"{{0,{n}}}", n)])),
)


def joined(parts):
    """A concatenation or alternation: its text, its greatest product, and whether anything repeats in it."""
    texts, products, repeats = zip(*[part[:3] for part in parts], strict=True)
    worst = max(part[3] for part in parts)
    return texts, max(products), any(repeats), worst


@st.composite
def trees(draw):
    """A pattern with the product that its making knows: (text, product along one nesting, repeats, worst nested product)."""

    def group(inner):
        texts, product, repeats, worst = joined(inner)
        opening = draw(st.sampled_from(["(", "(?:", "(?i:", "(?P<n>", "(?<n>", "(?x:", "(?-x:"]))
        body = draw(st.sampled_from(["", "|"])).join(texts)
        return f"{opening}{body})", product, repeats, worst

    def repeated(part):
        text, product, repeats, worst = part
        spelt, count = draw(COUNTS)
        lazy = draw(st.sampled_from(["", "?"]))
        product *= count
        return f"(?:{text}){spelt}{lazy}", product, True, max(worst, product) if repeats else worst

    atoms = st.sampled_from(ATOMS).map(lambda text: (text, 1, False, 1))
    parts = st.deferred(lambda: atoms | st.lists(parts, min_size=1, max_size=3).map(group) | parts.map(repeated))
    return draw(parts)


@given(trees())
def test_the_scanner_agrees_with_how_a_pattern_was_made(tree):
    text, _, _, worst = tree
    assert nested_product(text) == worst
    if worst > MAX_PRODUCT:
        with pytest.raises(ValueError, match="nested repetitions"):
            compile_regex(text)
