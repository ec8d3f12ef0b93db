"""The explorer against those who try to get past it: through its door, and with texts that want to be more than text."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from browser import chromium, opened, served  # noqa: F401  # a fixture
from mcp_policy import PolicyEngine
from mcp_policy.adapters._page.door import secret_of
from mcp_policy.explorer.app import explorer
from mcp_policy.explorer.saving import PolicyOnDisk
from mcp_policy.explorer.stack import Listed, Stack, of_listings
from mcp_policy.policy import Policy

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser, Page

TOKEN = "a-token-of-a-test-0123456789"
MARKUP = (
    "</textarea></title></script><script>alert(1)</script><img src=x onerror=alert(2)><svg onload=alert(3)>"
    "<a href='javascript:alert(4)'>{{ 7*7 }}</a>\"' hx-on:click='alert(5)' data-hx-get='/'>`<!--]]>"
)
BUTTON = "<button id=save hx-get=/builder/saved hx-trigger=load hx-vals='js:{a: alert(6)}'>"
POINTER = "a~1b/c~0d\"'><i id=owned>"
PATH = f"args[{json.dumps(BUTTON)}]"


def hostile(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "title": MARKUP,
        "description": f"Deletes. {MARKUP} {BUTTON}",
        "inputSchema": {
            "type": "object",
            "properties": {
                MARKUP: {"type": MARKUP, "description": MARKUP, "default": MARKUP},
                BUTTON: {"type": "string", "enum": [MARKUP, BUTTON], "description": BUTTON, "default": BUTTON},
            },
            "required": [MARKUP, BUTTON],
        },
        "annotations": {"title": MARKUP, "readOnlyHint": True, MARKUP: True},
    }


NAMES = (MARKUP[:200], BUTTON, POINTER, "javascript:alert(7)")
STACK = of_listings(
    MARKUP,
    [
        Listed(MARKUP, MARKUP, tuple(map(hostile, NAMES)), ""),
        Listed(BUTTON, BUTTON, tuple(map(hostile, NAMES)), ""),
        Listed(POINTER, MARKUP, (), f"{MARKUP} `{BUTTON}`"),
    ],
)
CONDITION = {"path": PATH, "op": "eq", "value": MARKUP, "reason": MARKUP}
RULE = {
    "reason": MARKUP,
    "deny_if": [CONDITION, {"conditions": [CONDITION], "reason": BUTTON}],
    "rate_limit": {"max": 5, "window": 60, "counter": MARKUP, "reason": BUTTON, "cost": {"length": PATH}},
    "except": [BUTTON],
}
LOADS = json.dumps(
    {
        "version": "1",
        "$schema": MARKUP,
        "name": MARKUP,
        "description": BUTTON,
        "hide": ["javascript:*"],
        "tools": dict.fromkeys((*NAMES, f"{BUTTON[:60]}*"), RULE),
        "servers": {name: {"tools": {NAMES[0]: [RULE, {}]}} for name in (MARKUP, POINTER)},
    }
)
BROKEN = json.dumps({"version": "1", MARKUP: 1, "tools": {BUTTON: {MARKUP: BUTTON}}, "default": MARKUP})
assert Policy.parse(LOADS)


@pytest.fixture(name="policy")
def _policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy.json"
    path.write_text(LOADS)
    return path


# -- texts that want to be more


def harmless(page: Page) -> None:
    """Check that nothing on the page has come from a text: no element, no attribute that runs or asks anything."""
    assert (
        page.locator("#owned, img, main a[href^='javascript:' i], main script, main [onload], main [onerror]").count()
        == 0
    )
    asking = page.locator("[hx-get], [data-hx-get], [hx-trigger], [hx-on\\:click]").evaluate_all(
        "all => all.map((one) => one.getAttribute('hx-get') + one.hasAttribute('hx-trigger'))"
    )
    assert set(asking) <= {"builder/savedfalse"}
    assert page.locator("#save").count() <= 1


def pages(stack: Stack) -> Iterator[str]:
    yield from ("index.html", "attacks.html")
    for slug in stack.tools:
        yield f"tools/{slug}.html"


@pytest.mark.parametrize("text", [LOADS, BROKEN], ids=["loads", "broken"])
def test_no_text_becomes_anything_else_on_a_page(browser: Browser, policy: Path, text: str):
    policy.write_text(text)
    app = explorer(STACK, token=TOKEN, disk=PolicyOnDisk(policy), approvals=PolicyEngine(), by=MARKUP)
    with served(app) as origin, opened(browser, f"{origin}/?token={TOKEN}") as page:
        for path in pages(STACK):
            page.goto(f"{origin}/{path}")
            expect(page.locator("h1")).to_be_visible()
            harmless(page)


def test_no_text_becomes_anything_else_in_the_builder(browser: Browser, policy: Path):
    app = explorer(STACK, token=TOKEN, disk=PolicyOnDisk(policy))
    with served(app) as origin, opened(browser, f"{origin}/?token={TOKEN}") as page:
        for slug in STACK.tools:
            page.goto(f"{origin}/builder.html?tool={slug}")
            expect(page.locator("#panel-title")).to_be_visible()
            harmless(page)
            page.locator("#trial").get_by_role("button", name="Try it").click()
            expect(page.locator("#tried .verdict")).to_be_visible()
            harmless(page)
        for entry in page.locator("#entries a").all():
            entry.click()
            expect(entry).to_have_attribute("aria-current", "true")
            harmless(page)


def test_no_text_becomes_anything_else_in_what_is_answered(browser: Browser, policy: Path):
    app = explorer(STACK, token=TOKEN, disk=PolicyOnDisk(policy))
    with served(app) as origin, opened(browser, f"{origin}/?token={TOKEN}") as page:
        page.goto(f"{origin}/builder.html")
        page.locator("#text").fill(
            LOADS.replace('"eq"', '"neq"').replace('"version": "1"', '"version": "1", "all_tools": {}')
        )
        page.locator("#compare").click()
        expect(page.locator("#outcome .difference").first).to_be_visible()
        harmless(page)
        policy.write_text(BROKEN)
        page.locator("#save").click()
        expect(page.locator("#saved-text")).to_have_value(BROKEN)
        harmless(page)
        page.locator("#load-saved").click()
        expect(page.locator("#findings .finding").first).to_be_visible()
        harmless(page)


# -- the door


@pytest.fixture(scope="module", name="port")
def _port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    path = tmp_path_factory.mktemp("policy") / "policy.json"
    with served(explorer(STACK, token=TOKEN, disk=PolicyOnDisk(path))) as origin:
        yield int(origin.rpartition(":")[2])


def answer(port: int, request: str, *headers: str, host: str | None = None, body: str = "") -> tuple[int, bytes]:
    """Send a request letter by letter, and return the status of the answer and all of it."""
    lines = [f"{request} HTTP/1.1", f"Host: {host or f'127.0.0.1:{port}'}", "Connection: close", *headers]
    with socket.create_connection(("127.0.0.1", port), timeout=15) as connection:
        connection.sendall("\r\n".join([*lines, f"Content-Length: {len(body)}", "", body]).encode("latin-1"))
        said = b"".join(iter(lambda: connection.recv(65_536), b""))
    return int(said.split()[1]), said


@pytest.fixture(scope="module", name="cookie")
def _cookie(port: int) -> str:
    status, said = answer(port, f"GET /?token={TOKEN}")
    assert status == 303
    return next(
        f"Cookie: {line[12:].split(';')[0]}" for line in said.decode().split("\r\n") if line.startswith("set-cookie:")
    )


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil@127.0.0.1", "localhost.", "localhost, evil.example", "127.0.0.1:999999", "127.1", "0.0.0.0",
     "127.0.0.1.nip.io", "[::ffff:127.0.0.1]", "2130706433", "127.0.0.1:\xb2", "localhost/", "http://localhost"],
)  # fmt: skip
@pytest.mark.parametrize("target", ["/", "http://127.0.0.1/"])
def test_no_other_name_is_answered(port: int, cookie: str, host: str, target: str):
    assert answer(port, f"GET {target}", cookie, host=host)[0] in (400, 403)


@pytest.mark.parametrize(
    "target",
    ["http://evil.example/", "//evil.example/", "/..", "/static/../app.py", "/static/%2e%2e/app.py", "/static//explore.js",
     "/tools/x/..%2f..%2fbuilder.html", "/tools/%00/x.html", "/tools/%ff/%c0%af.html", "/approvals//", "/index.html/"],
)  # fmt: skip
def test_no_other_path_leads_anywhere(port: int, cookie: str, target: str):
    assert answer(port, f"GET {target}", cookie)[0] == 404


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "PROPFIND"])
def test_no_other_method_is_answered(port: int, cookie: str, method: str):
    assert answer(port, f"{method} /", cookie)[0] in (400, 405)


def test_letting_in_leads_to_this_page_whatever_was_asked_for(port: int):
    status, said = answer(port, f"GET //evil.example/?token={TOKEN}")
    assert (status, b"\r\nlocation: /\r\n" in said) == (303, True)


@pytest.mark.parametrize(
    "headers",
    [
        (),
        ("Origin: null",),
        ("Origin: http://127.0.0.1:1",),
        ("Origin: http://localhost:PORT",),
        ("Origin: HERE", "Origin: http://evil.example"),
        ("Origin: HERE", "Sec-Fetch-Site: same-site"),
        ("Origin: HERE", "Sec-Fetch-Site: none", "Sec-Fetch-Mode: navigate"),
        ("Origin: HERE.evil.example",),
    ],
    ids=["none", "null", "another port", "another name", "two", "same site", "typed in", "longer"],
)
def test_nothing_is_done_for_another_origin(port: int, cookie: str, headers: tuple[str, ...]):
    given = (one.replace("HERE", f"http://127.0.0.1:{port}").replace("PORT", str(port)) for one in headers)
    form = ("Content-Type: text/plain", f"X-CSRF-Token: {secret_of(TOKEN)}")
    assert answer(port, "POST /builder/read", cookie, *form, *given, body="text=%7B%7D")[0] == 403


def test_a_token_lets_nothing_be_done(port: int):
    here = f"Origin: http://127.0.0.1:{port}"
    secret = f"X-CSRF-Token: {secret_of(TOKEN)}"
    assert answer(port, f"POST /builder/read?token={TOKEN}", here, secret, body="text=%7B%7D")[0] == 403
    assert answer(port, f"GET /?token={TOKEN}&token=x")[0] == 403
