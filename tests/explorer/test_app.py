"""The explorer over HTTP: who is let in, what browsers are told, and that nothing of a server becomes markup."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest

from browser import served
from mcp_policy import Policy, PolicyEngine, ToolCall
from mcp_policy.catalogue import ToolCatalogue
from mcp_policy.explorer.app import explorer
from mcp_policy.explorer.saving import PolicyOnDisk
from mcp_policy.explorer.stack import Listed, of_catalogue, of_listings
from npm.packages import home

TOKEN = "a-token-of-a-test-0123456789"
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&amp;{{ 7*7 }}\u202e"
POLICY = {"version": "1", "tools": {"get_task_metrics": {}}}


class World(NamedTuple):
    origin: str
    policy: Path


@contextmanager
def opened(world: World, *, let_in: bool = True) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=world.origin, follow_redirects=False) as http:
        if let_in:
            assert http.get(f"/?token={TOKEN}").status_code == 303
        yield http


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[World]:
    policy = tmp_path_factory.mktemp("policy") / "policy.json"
    policy.write_text(json.dumps(POLICY))
    stack = of_catalogue(ToolCatalogue.bundled(), "clearml")
    with served(explorer(stack, token=TOKEN, disk=PolicyOnDisk(policy))) as origin:
        yield World(origin, policy)


@pytest.fixture
def http(world) -> Iterator[httpx2.Client]:
    with opened(world) as http:
        yield http


PAGES = ["/", "/index.html", "/tools/clearml/get_task_metrics.html", "/attacks.html", "/builder.html", "/approvals/"]
STATIC = [
    f"/static/{name}" for name in ("explore.css", "explore.js", "builder.css", "builder.js", "htmx.min.js", "icon.svg")
]
POSTS = ["/builder/edit", "/builder/read", "/builder/try", "/builder/compare", "/builder/save"]


@pytest.mark.parametrize("path", [*PAGES, *STATIC])
def test_who_has_no_cookie_is_not_let_in(world, path):
    with opened(world, let_in=False) as http:
        assert http.get(path).status_code == 403
        assert http.get(f"{path}?token={TOKEN[:-1]}x").status_code == 403


@pytest.mark.parametrize("path", [*PAGES, *STATIC])
def test_every_answer_says_what_a_browser_may_do(http, path):
    answer = http.get(path)
    assert answer.status_code == 200
    said = answer.headers["content-security-policy"]
    assert "default-src 'none'" in said
    assert "frame-ancestors 'none'" in said
    assert "unsafe" not in said
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example", "", "10.0.0.1"]
)
@pytest.mark.parametrize("path", ["/", "/builder.html", "/static/explore.js"])
def test_a_foreign_name_that_leads_here_is_refused(http, path, host):
    assert http.get(path, headers={"host": host}).status_code in (400, 403)


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "ORIGIN"},
        {"origin": "ORIGIN", "x-csrf-token": "0" * 64},
        {"origin": "ORIGIN", "sec-fetch-site": "cross-site", "x-csrf-token": "SECRET"},
        {"origin": "https://evil.example", "x-csrf-token": "SECRET"},
    ],
    ids=["nothing", "foreign", "null", "no secret", "wrong secret", "cross-site", "foreign with the secret"],
)
def test_what_changes_anything_comes_from_a_page_of_ours(world, http, path, headers):
    before = world.policy.read_bytes()
    given = {"ORIGIN": world.origin, "SECRET": secret(http)}
    sent = {name: given.get(value, value) for name, value in headers.items()}
    answer = http.post(path, headers=sent, data={"text": '{"version": "1", "default": "allow"}', "digest": ""})
    assert answer.status_code == 403
    assert world.policy.read_bytes() == before


@pytest.mark.parametrize("path", POSTS)
def test_what_the_page_sends_is_answered(world, http, path):
    headers = {"origin": world.origin, "sec-fetch-site": "same-origin", "x-csrf-token": secret(http)}
    assert http.post(path, headers=headers, data={"text": "{}"}).status_code < 403


@pytest.mark.parametrize(
    "path",
    ["/tools/clearml/nothing.html", "/tools/../../etc/passwd", "/static/../app.py", "/static/%2e%2e/app.py", "/static/",
     "/tools/clearml/%2e%2e%2f%2e%2e%2fapp.html", "/policy.json", "/tools/clearml/get_task_metrics", "/nothing"],
)  # fmt: skip
def test_an_address_that_is_none_leads_to_no_file(http, path):
    answer = http.get(path)
    assert answer.status_code == 404
    assert "import" not in answer.text


def test_other_methods_are_refused(http):
    assert http.put("/").status_code == 405
    assert http.delete("/builder/save").status_code == 405


def secret(http: httpx2.Client) -> str:
    """Return the secret that the builder's page has for its requests."""

    class Body(HTMLParser):
        found = ""

        def handle_starttag(self, tag: str, attrs: Any) -> None:
            headers = dict(attrs).get("hx-headers")
            if headers:
                self.found = json.loads(headers)["x-csrf-token"]

    reader = Body()
    reader.feed(http.get("/builder.html").text)
    assert reader.found
    return reader.found


# -- what servers and policies say is text


class Markup(HTMLParser):
    """Every element, and every attribute that could run something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, Any]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, dict(attrs)))


def hostile_tool() -> dict[str, Any]:
    return {
        "name": f"delete_{HOSTILE}"[:60],
        "title": HOSTILE,
        "description": f"Deletes everything. {HOSTILE}",
        "inputSchema": {
            "type": "object",
            "properties": {HOSTILE: {"type": "string", "description": HOSTILE, "enum": [HOSTILE]}},
            "required": [HOSTILE],
        },
        "annotations": {"title": HOSTILE, "destructiveHint": True},
    }


@pytest.mark.parametrize("broken", [False, True])
def test_nothing_that_a_server_or_a_policy_says_becomes_markup(tmp_path, broken):
    policy = tmp_path / "policy.json"
    name = hostile_tool()["name"]
    rule = {"action": "deny", "reason": HOSTILE, **({HOSTILE: 1} if broken else {})}
    policy.write_text(json.dumps({"version": "1", "name": HOSTILE, "tools": {HOSTILE[:80]: rule, "delete_*": rule}}))
    stack = of_listings(HOSTILE, [Listed(HOSTILE, HOSTILE, (hostile_tool(),), ""), Listed("gone", "", (), HOSTILE)])
    slug = next(iter(stack.tools))
    with (
        served(explorer(stack, token=TOKEN, disk=PolicyOnDisk(policy))) as origin,
        opened(World(origin, policy)) as http,
    ):
        pages = ["/", f"/tools/{slug}.html", "/attacks.html", "/builder.html", f"/builder.html?tool={slug}", "/nothing"]
        headers = {"origin": origin, "x-csrf-token": secret(http)}
        texts = [http.get(path).text for path in pages]
        form = {"text": policy.read_text(), "selected": f"/tools/{HOSTILE[:80]}", "tool": slug, "do": "kind", "to": HOSTILE,
                "at": HOSTILE, "arguments": json.dumps({HOSTILE: HOSTILE}), "session": HOSTILE, "principal": HOSTILE}  # fmt: skip
        texts += [http.post(path, headers=headers, data=form).text for path in POSTS]
    for text in texts:
        assert "<script>alert" not in text
        assert "\u202e" not in text
        assert ">49<" not in text
        for tag, attributes in Markup(text).elements:
            assert not any(key.startswith("on") or key == "style" for key in attributes), (tag, attributes)
            assert tag != "script" or attributes.get("src", "").startswith(("static/", "../")), attributes
            assert tag != "img" or attributes.get("src") != "x"
    assert all(name[:7] in text for text in texts[:2])


# -- what is in force, and who waits


def test_a_page_says_what_the_file_says_now(world, http):
    before = world.policy.read_text()
    page = "/tools/clearml/get_task_metrics.html"
    try:
        assert "denied" not in posture(http, page)
        world.policy.write_text(json.dumps({"version": "1", "tools": {"get_task_metrics": {"action": "deny"}}}))
        assert "denied" in posture(http, page)
        world.policy.write_text("{")
        assert "denied" in posture(http, page)
        assert "does not load" in http.get(page).text
    finally:
        world.policy.write_text(before)


def posture(http: httpx2.Client, page: str) -> str:
    """Return what a tool's page says of its state."""
    found = re.search(r'class="badge state-(\w+)"', http.get(page).text)
    assert found
    return found[1]


def test_approvals_are_decided_on_the_page_that_there_is(tmp_path):
    engine = PolicyEngine(Policy.model_validate({"version": "1", "tools": {"rm": {"action": "approve"}}}))
    approval = engine.authorize(ToolCall("rm", {}, session="s")).approval
    assert approval is not None
    stack = of_catalogue(ToolCatalogue.bundled(), "clearml")
    with (
        served(explorer(stack, token=TOKEN, approvals=engine, by="ann")) as origin,
        opened(World(origin, tmp_path)) as http,
    ):
        assert "trusted-types" in http.get("/approvals/").headers["content-security-policy"]
        headers = {"origin": origin, "content-type": "application/json"}
        answer = {"id": approval.id, "approve": True, "note": ""}
        assert http.post("/approvals/decide", headers=headers, json=answer).status_code == 403
        headers["x-csrf-token"] = secret(http)
        assert http.post("/approvals/decide", headers=headers, json=answer).status_code == 200
    record = engine.approval(approval.id)
    assert record is not None
    assert (record.status, record.votes[0].by) == ("approved", "ann")


def test_a_token_that_can_be_guessed_is_refused():
    stack = of_catalogue(ToolCatalogue.bundled(), "clearml")
    with pytest.raises(ValueError, match="16 characters"):
        explorer(stack, token="short")
    with pytest.raises(ValueError, match="`by`"):
        explorer(stack, token=TOKEN, approvals=PolicyEngine())


def test_the_script_of_others_that_is_served_is_what_its_makers_publish():
    ours = files("mcp_policy.explorer").joinpath("static", "htmx.min.js").read_bytes()
    assert ours == (home() / "node_modules" / "htmx.org" / "dist" / "htmx.min.js").read_bytes()
