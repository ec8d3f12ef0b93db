"""The explorer as a person uses it, in a real browser: every page, in light and dark, narrow and wide.

With `MCP_POLICY_SCREENSHOTS=1` in the environment the pictures of the documentation are made anew.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from playwright.sync_api import Browser, Page, expect

from axe import violations
from browser import chromium, keystrokes, opened, painted, served  # noqa: F401  # a fixture
from mcp_policy import Policy, PolicyEngine, Principal, ToolCall
from mcp_policy.catalogue import ToolCatalogue
from mcp_policy.explorer.app import explorer
from mcp_policy.explorer.saving import PolicyOnDisk
from mcp_policy.explorer.stack import Stack, of_catalogue

TOKEN = "a-token-of-a-test-0123456789"
IMAGES = Path(__file__).parents[2] / "docs" / "images"
POLICY = """\
{
  "version": "1",
  "name": "payments",
  "default": "deny",
  "categories": {
    "read": {"rate_limit": {"max": 60, "window": "minute"}},
    "destructive": {"action": "approve", "reason": "a person looks at what is removed"}
  },
  "tools": {
    "create_payment_link": {"rate_limit": {"max": 10, "window": "hour"}},
    "create_refund": {
      "require": [{"path": "args.amount", "op": "lte", "value": 10000, "reason": "a person refunds more than 100"}],
      "limits": [{"max": 50000, "window": "day", "per": "principal", "cost": "args.amount"}]
    },
    "cancel_subscription": {"action": "hide"},
    "create_customer": {}
  }
}
"""
WIDE, NARROW = {"width": 1600, "height": 1000}, {"width": 375, "height": 800}


PAYMENTS = count(1)


class World(NamedTuple):
    origin: str
    engine: PolicyEngine
    stack: Stack
    policy: Path


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[World]:
    policy = tmp_path_factory.mktemp("policy") / "policy.json"
    policy.write_text(POLICY)
    stack = of_catalogue(ToolCatalogue.bundled(), "stripe")
    engine = PolicyEngine(Policy.parse(POLICY))
    with served(explorer(stack, token=TOKEN, disk=PolicyOnDisk(policy), approvals=engine, by="ann")) as origin:
        yield World(origin, engine, stack, policy)


def ask(world: World) -> None:
    """Make another call that waits for a person."""
    payment = f"pi_3N{next(PAYMENTS)}"
    agent = Principal("agent-7", issuer="https://id.example", client="billing")
    call = ToolCall("cancel_payment", {"id": payment}, session="s1", principal=agent, category="destructive")
    assert world.engine.authorize(call).approval is not None


@contextmanager
def look(browser: Browser, world: World, path: str, **settings: Any) -> Iterator[Page]:
    with opened(browser, f"{world.origin}/?token={TOKEN}", **settings) as page:
        page.goto(f"{world.origin}/{path}")
        yield page


def tool(world: World, name: str) -> str:
    """Return the slug of a tool."""
    return next(slug for slug, one in world.stack.tools.items() if one.definition.name == name)


PAGES = {
    "stack": "",
    "tool": "tools/SLUG.html",
    "attacks": "attacks.html",
    "builder": "builder.html?tool=SLUG",
    "approvals": "approvals/",
    "missing": "tools/no/such.html",
}


def address(world: World, name: str) -> str:
    return PAGES[name].replace("SLUG", tool(world, "create_refund"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("name", PAGES)
def test_everybody_can_use_every_page(browser, world, name, size, scheme):
    if name == "approvals":
        ask(world)
    with look(browser, world, address(world, name), viewport=size, color_scheme=scheme) as page:
        if name == "approvals":
            expect(page.locator("article")).not_to_have_count(0)
        assert violations(page) == []
        overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert overflow <= 0, "the page scrolls sideways"
        for heading in page.locator("h1").all():
            expect(heading).to_be_visible()


@pytest.mark.parametrize("name", ["stack", "tool", "attacks", "builder", "missing"])
def test_a_page_is_there_without_script(browser, world, name):
    with look(browser, world, address(world, name), java_script_enabled=False) as page:
        assert page.locator("main").inner_text().strip()


# -- a way through it


def test_from_finding_a_tool_to_a_call_that_a_person_approves(browser, world):
    with look(browser, world, "") as page:
        page.get_by_role("searchbox").fill("refund")
        expect(page.locator("#tools tbody tr:not([hidden])")).to_have_count(1)
        page.get_by_role("link", name="create_refund").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("create_refund")
        expect(page.locator("main")).to_contain_text("It depends on the call")
        page.get_by_role("link", name="Open in the builder").click()
        expect(page.get_by_role("heading", name="create_refund")).to_be_visible()
        ask(world)
        page.get_by_role("link", name="Approvals").click()
        card = page.locator("article", has_text="cancel_payment").first
        card.get_by_role("textbox").fill("as discussed")
        card.get_by_role("button", name="Approve").click()
        expect(card).to_contain_text("Approved by ann")
        page.get_by_role("link", name="Stack").click()
        expect(page.get_by_role("searchbox")).to_be_visible()


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory) -> Iterator[str]:
    policy = tmp_path_factory.mktemp("policy") / "policy.json"
    policy.write_text(POLICY)
    stack = of_catalogue(ToolCatalogue.bundled())
    assert len(stack.tools) > 1_000
    with served(explorer(stack, token=TOKEN, disk=PolicyOnDisk(policy))) as origin:
        yield origin


@pytest.mark.parametrize(("path", "search"), [("", "#q"), ("builder.html", "#find")])
def test_a_thousand_tools_are_painted_within_a_second_and_searched_without_delay(browser, catalogue, path, search):
    with opened(browser, f"{catalogue}/?token={TOKEN}", viewport=WIDE) as page:
        assert painted(page, f"{catalogue}/{path}") < 1_000
        took = keystrokes(page, search, "delete")
        assert max(took.values()) < 50, took


# -- the pictures of the documentation


@pytest.mark.parametrize("name", ["stack", "tool", "builder", "approvals"])
def test_the_documentation_shows_every_page(browser, world, name, tmp_path):
    if name == "approvals":
        ask(world)
    picture = (IMAGES if "MCP_POLICY_SCREENSHOTS" in os.environ else tmp_path) / f"explorer-{name}.png"
    size = {"width": 1440, "height": 900}
    with look(browser, world, address(world, name), viewport=size, color_scheme="light") as page:
        if name == "approvals":
            expect(page.locator("article")).not_to_have_count(0)
        picture.parent.mkdir(exist_ok=True)
        page.screenshot(path=picture, animations="disabled")
    shown = (IMAGES / f"explorer-{name}.png").read_bytes()
    assert shown[:16] == picture.read_bytes()[:16]
    assert shown[16:24] == picture.read_bytes()[16:24], "another size than the page has now"
    pages = "".join(path.read_text("utf-8") for path in IMAGES.parent.rglob("*.md"))
    assert f"images/explorer-{name}.png)" in pages
