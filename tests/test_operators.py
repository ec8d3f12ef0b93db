"""The operators: plain paths, plain URLs, and what a document may ask."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_policy.errors import ProblemCode
from mcp_policy.locations import plain_host, resolve_path, url_host
from mcp_policy.operators import FAILS, HOLDS, OPERATORS, check_value


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/", ()),
        ("/a/b", ("a", "b")),
        ("/a//b/./c/", ("a", "b", "c")),
        ("/a/../b", ("b",)),
        ("/../../etc", ("etc",)),
        ("//a", ("a",)),
        ("/a/...", ("a", "...")),
        ("/a\\..\\b", ("a\\..\\b",)),
    ],
)
def test_paths_resolve_lexically(path, names):
    assert resolve_path(path) == names


@pytest.mark.parametrize("path", ["", "a", "./a", "../a", "~/a", "a/b", " /a", "/a\0b", "C:\\a", "file:///a"])
def test_what_is_no_absolute_path(path):
    assert resolve_path(path) is None


@given(st.lists(st.sampled_from(["", ".", "..", "srv", "data", "etc"])))
def test_nothing_resolves_to_dots(parts):
    assert not {"..", ".", ""} & set(resolve_path("/" + "/".join(parts)))


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://example.com", "example.com"),
        ("HTTPS://EXAMPLE.com:8443/a@b?c#d", "example.com"),
        ("http://a-b.c?x", "a-b.c"),
        ("http://127.0.0.1/", "127.0.0.1"),
        ("http://[::1]:80/", "[::1]"),
        ("http://[0:0:0:0:0:0:0:1]/", "[::1]"),
        ("http://[::ffff:169.254.169.254]/", "169.254.169.254"),
        ("http://a/ä", "a"),
    ],
)
def test_plain_urls(url, host):
    assert url_host(url) == host


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "//example.com",
        "ftp://example.com",
        "http:/example.com",
        "http://",
        "http:///x",
        "http://user@example.com",
        "http://example.com@evil.test",
        "http://example.com\\@evil.test",
        "http://exa mple.com",
        " http://example.com",
        "http://example.com ",
        "http://example.com/\n",
        "http://example.com/\u200b",
        "http://example.com/\u2028",
        "http://example.com.",
        "http://.example.com",
        "http://a..b",
        "http://exämple.com",
        "http://ex%61mple.com",
        "http://example.com:",
        "http://example.com:99999",
        "http://example.com:80:80",
        "http://example.com:٣",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://127.1/",
        "http://0177.0.0.1/",
        "http://127.0.0.256/",
        "http://1.2.3.4.5/",
        "http://0x7f000001/",
        "http://[::1",
        "http://[::1]x",
        "http://[fe80::1%25eth0]/",
        "http://[1.2.3.4]/",
        "http://[]/",
        "http://a\ud800/",
    ],
)
def test_what_is_no_plain_url(url):
    assert url_host(url) is None


@given(st.text(max_size=40))
def test_any_text_has_a_host_or_none(text):
    for url in (text, "http://" + text, "https://example.com" + text):
        host = url_host(url)
        assert host is None or plain_host(host) == host


HOSTS = [
    ("example.com", True),
    ("*.example.com", True),
    ("[::1]", True),
    ("1.2.3.4", True),
    ("http://example.com", False),
    ("example.com:80", False),
    ("example.com.", False),
    ("*", False),
    ("a*.com", False),
    ("*.[::1]", False),
    ("", False),
    ("exämple.com", False),
    ("::1", False),
    ("127.1", False),
]


@pytest.mark.parametrize(("host", "fits"), HOSTS)
def test_hosts_in_a_document(host, fits):
    assert (check_value("host_in", [host]) is None) is fits


def test_a_subdomain_pattern_does_not_match_the_domain_itself():
    test = OPERATORS["host_in"].make(["*.example.com"])
    assert [
        test(f"http://{host}/") for host in ("a.example.com", "a.b.example.com", "example.com", "badexample.com")
    ] == [
        HOLDS,
        HOLDS,
        FAILS,
        FAILS,
    ]


@pytest.mark.parametrize("op", OPERATORS)
def test_null_is_no_value_of_any_operator(op):
    assert check_value(op, None)[0] is ProblemCode.INVALID_VALUE


@pytest.mark.parametrize("op", ["in", "not_in"])
def test_null_is_no_member(op):
    assert check_value(op, [1, None])[0::2] == (ProblemCode.INVALID_VALUE, (1,))


@pytest.mark.parametrize(
    ("op", "wrong"),
    [
        ("in", "a"),
        ("intersects", {}),
        ("lt", "5"),
        ("lte", True),
        ("starts_with", 5),
        ("regex", ["a"]),
        ("glob", 5),
        ("glob", [5]),
        ("exists", 1),
        ("length_lte", 1.0),
        ("length_gte", True),
        ("keys_in", "a"),
        ("keys_in", [1]),
        ("within", 5),
        ("host_in", "a"),
    ],
)
def test_values_of_a_wrong_type(op, wrong):
    code, message, _ = check_value(op, wrong)
    assert code is ProblemCode.WRONG_TYPE
    assert "expected" in message


@pytest.mark.parametrize(
    ("op", "bad"), [("length_lte", -1), ("within", "a"), ("within", ["/a", "b"]), ("host_in", ["a b"])]
)
def test_values_that_are_not_allowed(op, bad):
    assert check_value(op, bad)[0] is ProblemCode.INVALID_VALUE
