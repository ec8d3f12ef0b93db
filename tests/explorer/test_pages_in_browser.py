"""The explorer's read-only pages in a real browser: finding a tool, reading its page, with and without a server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from browser import chromium, keystrokes, opened, painted, served  # noqa: F401  # `browser` is a fixture
from mcp_policy import Policy
from mcp_policy.catalogue import ToolCatalogue
from mcp_policy.explorer.export import export
from mcp_policy.explorer.stack import Listed, of_catalogue, of_listings

POLICY = Policy.parse(
    '{"version": "1", "default": "deny", "categories": {"read": {"rate_limit": "60/minute"}, "execute": {}}, '
    '"tools": {"delete_*": {"action": "approve"}, "drop_*": {"action": "deny", "on_deny": "hide"}}}'
)
HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script> \u202eturned"
MINE = [
    {"name": "read_file", "description": "Reads a file.", "inputSchema": {}},
    {"name": "run_command", "description": f"Runs a command. {HOSTILE}", "inputSchema": {}},
    {"name": f"delete {HOSTILE}", "description": HOSTILE, "inputSchema": {}},
]
SIZES = {"phone": {"width": 375, "height": 800}, "wide": {"width": 1600, "height": 900}}


@pytest.fixture(scope="module", name="folder")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sites")
    export(of_catalogue(ToolCatalogue.bundled()), folder / "all", POLICY)
    mine = [Listed("mine", "", tuple(MINE), ""), Listed("down", "", (), "`npx` is not there")]
    export(of_listings("mcp.json", mine), folder / "mine")
    return folder


@pytest.fixture(scope="module", name="origin")
def _origin(folder: Path) -> Iterator[str]:
    with served(Starlette(routes=[Mount("/", StaticFiles(directory=folder))])) as origin:
        yield origin


@pytest.fixture(name="page")
def _page(browser: Browser, origin: str) -> Iterator[Page]:
    with opened(browser, f"{origin}/all/index.html", viewport=SIZES["wide"]) as page:
        yield page


def names(page: Page) -> list[str]:
    """Return the tools that are shown, once all of them are."""
    expected = int(re.match(r"[\d,]+", page.locator("#count").inner_text())[0].replace(",", ""))
    expect(page.locator("#tools tbody tr:not([hidden])")).to_have_count(expected)
    return page.locator("#tools tbody tr:not([hidden]) .col-tool a").all_text_contents()


class TestFindingATool:
    def test_all_are_there_the_most_dangerous_first(self, page: Page):
        expect(page.get_by_role("heading", level=1)).to_have_text(re.compile(r"1,3\d\d tools on \d+ servers"))
        levels = page.locator("#tools tbody tr").evaluate_all("rows => rows.map((row) => row.dataset.level)")
        ranks = [("critical", "high", "medium", "low").index(level) for level in levels]
        assert len(ranks) > 1_000
        assert ranks == sorted(ranks)

    def test_by_words_of_its_name_server_and_purpose(self, page: Page):
        page.keyboard.press("/")
        page.keyboard.type("TASK clearml metrics")
        assert "get_task_metrics" in names(page)
        expect(page.locator("#count")).to_have_text(re.compile(r"\d+ of 1,3\d\d tools"))
        expect(page.locator("#said")).to_have_text(re.compile(r"\d+ of 1,3\d\d tools"))
        page.get_by_role("link", name="get_task_metrics", exact=True).click()
        expect(page.get_by_role("heading", level=1)).to_have_text("get_task_metrics")
        for title in ("Why it needs a policy", "Recommended rule", "What the policy does with it now"):
            expect(page.get_by_role("heading", name=title)).to_be_visible()
        page.get_by_role("navigation", name="Where this is").get_by_role("link", name="clearml").click()
        expect(page.locator("#count")).to_have_text(re.compile(" of "))
        assert set(page.locator("#tools tbody tr:not([hidden]) .col-server").all_text_contents()) == {"clearml"}

    def test_by_what_it_is_and_what_is_decided(self, page: Page):
        page.get_by_role("checkbox", name=re.compile("^critical")).check()
        page.get_by_role("checkbox", name=re.compile("^asks")).check()
        shown = names(page)
        assert shown
        assert all(name.startswith("delete_") for name in shown)
        critical = page.locator(".choice", has=page.locator('input[value="critical"]')).locator(".count")
        expect(critical).to_have_text(str(len(shown)))

    def test_what_is_unguarded_stands_out(self, page: Page):
        page.get_by_role("link", name="Show them").click()
        assert names(page)
        expect(page.get_by_role("checkbox", name=re.compile("^unguarded"))).to_be_checked()
        categories = page.locator("#tools tbody tr:not([hidden])").evaluate_all("r => r.map((x) => x.dataset.category)")
        assert set(categories) == {"execute"}

    def test_by_sorting_any_column(self, page: Page):
        by_level = names(page)
        for name in ("Tool", "Server", "Category", "Decision", "What it does", "Risk"):
            head = page.get_by_role("columnheader", name=name)
            head.get_by_role("button").click()
            first = head.get_attribute("aria-sort")
            one_way = names(page)
            head.get_by_role("button").click()
            assert {first, head.get_attribute("aria-sort")} == {"ascending", "descending"}
            assert names(page)[0] != one_way[0]
            assert page.locator('[aria-sort="ascending"], [aria-sort="descending"]').count() == 1
        head.get_by_role("button").click()
        assert names(page) == by_level
        page.get_by_role("columnheader", name="Server").get_by_role("button").click()
        servers = page.locator("#tools tbody .col-server").all_text_contents()
        assert servers == sorted(servers)

    def test_nothing_found_helps(self, page: Page):
        page.get_by_role("searchbox").fill("zzzz")
        expect(page.get_by_text("Nothing matches.")).to_be_visible()
        assert names(page) == []
        page.locator("#none").get_by_role("button").click()
        assert len(names(page)) > 1_000
        expect(page.get_by_role("searchbox")).to_be_focused()

    def test_what_was_chosen_can_be_linked(self, browser: Browser, page: Page, origin: str):
        page.get_by_role("searchbox").fill("get issue")
        page.get_by_role("checkbox", name=re.compile("^low")).check()
        page.get_by_role("columnheader", name="Tool").get_by_role("button").click()
        shown = names(page)
        page.wait_for_url("**/index.html#*sort=tool")
        assert "#q=get+issue&level=low" in page.url
        with opened(browser, page.url) as other:
            assert names(other) == shown
            other.goto(f"{origin}/all/index.html#main")
            assert names(other) == shown

    def test_an_address_that_means_nothing_harms_nothing(self, browser: Browser, origin: str):
        with opened(
            browser, f"{origin}/all/index.html#level=awful&sort=__proto__&__proto__=1&q=%3Cimg%20src=x%3E"
        ) as page:
            expect(page.get_by_text("Nothing matches.")).to_be_visible()
            expect(page.get_by_role("searchbox")).to_have_value("<img src=x>")

    def test_by_keyboard_only(self, page: Page):
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        expect(page.get_by_role("link", name="Skip to the content")).to_be_in_viewport()
        page.keyboard.press("/")
        page.keyboard.type("get_task_metrics")
        expect(page.locator("#tools tbody tr:not([hidden])")).to_have_count(1)
        for _ in range(150):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.matches('#tools tbody a')"):
                break
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text("get_task_metrics")


class TestHowFastItIs:
    """The marks: a first paint within a second, a keystroke within 50 ms, with more than 1,000 tools."""

    def test_first_paint(self, page: Page, origin: str):
        assert painted(page, f"{origin}/all/index.html") < 1_000

    def test_a_keystroke(self, page: Page):
        took = keystrokes(page, "#q", "delete")
        assert max(took.values()) < 50, took

    def test_nothing_moves_while_it_loads(self, browser: Browser, origin: str):
        for path in (
            "all/index.html",
            "all/index.html#level=high",
            "all/attacks.html",
            "all/tools/clearml/get_task_metrics.html",
        ):
            with opened(browser, f"{origin}/{path}", viewport=SIZES["wide"]) as page:
                moved = page.evaluate(
                    "() => new Promise((done) => new PerformanceObserver((list) => "
                    "done(list.getEntries().map((one) => one.value))).observe({type: 'layout-shift', buffered: true}) "
                    "?? setTimeout(() => done([]), 300))"
                )
                assert sum(moved) < 0.01, path


class TestAToolPage:
    def test_its_rule_can_be_copied(self, browser: Browser, origin: str):
        address = f"{origin}/all/tools/clearml/get_task_metrics.html"
        with opened(browser, address, permissions=["clipboard-read", "clipboard-write"]) as page:
            page.get_by_role("button", name="Copy recommended rule").click()
            expect(page.get_by_role("button", name="Copied recommended rule")).to_be_visible()
            expect(page.locator("#said")).to_have_text("copied: recommended rule")
            copied = page.evaluate("navigator.clipboard.readText()")
            assert Policy.parse(copied).document["tools"]["get_task_metrics"]

    def test_what_a_server_says_is_shown_and_does_nothing(self, browser: Browser, origin: str):
        with opened(browser, f"{origin}/mine/index.html") as page:
            expect(page.get_by_text("npx is not there")).to_be_visible()
            page.get_by_role("link", name=re.compile("^delete ")).click()
            expect(page.get_by_role("heading", level=1)).to_have_text(f"delete {HOSTILE}".replace("\u202e", "\\u202e"))
            assert page.locator("img").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "path", ["all/index.html", "all/attacks.html", "mine/index.html", "mine/tools/mine/run_command.html"]
)
class TestEveryPage:
    def test_scrolls_down_only(self, browser: Browser, origin: str, path: str, size: str, scheme: str):
        with opened(browser, f"{origin}/{path}", viewport=SIZES[size], color_scheme=scheme) as page:
            assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size]["width"]


@pytest.mark.parametrize("size", SIZES)
def test_the_names_of_the_pages_stay_where_they_are(browser: Browser, origin: str, size: str):
    places = "names => names.map((name) => name.getBoundingClientRect().toJSON())"
    with opened(browser, f"{origin}/all/index.html", viewport=SIZES[size]) as page:
        before = page.locator(".top nav a").evaluate_all(places)
        page.get_by_role("link", name="Attack patterns").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Attack patterns")
        assert page.locator(".top nav a").evaluate_all(places) == before


class TestWithout:
    def test_a_script_the_table_is_still_there(self, browser: Browser, origin: str):
        with opened(browser, f"{origin}/all/index.html") as page:
            expect(page.get_by_role("searchbox")).to_be_visible()
        context = browser.new_context(java_script_enabled=False)
        try:
            page = context.new_page()
            page.goto(f"{origin}/all/index.html")
            expect(page.get_by_role("link", name="get_task_metrics", exact=True)).to_be_visible()
            expect(page.get_by_role("searchbox")).to_be_hidden()
            assert page.evaluate("document.querySelector('#tools').offsetWidth / document.body.offsetWidth") > 0.9
        finally:
            context.close()

    def test_a_server_from_the_disk(self, browser: Browser, folder: Path):
        with opened(browser, f"{(folder / 'all' / 'index.html').as_uri()}#q=get_task_metrics") as page:
            expect(page.locator("#tools tbody tr:not([hidden])")).to_have_count(1)
            assert page.evaluate("getComputedStyle(document.querySelector('.top')).display") == "flex"
            page.get_by_role("link", name="get_task_metrics", exact=True).click()
            page.get_by_role("link", name="Attack patterns").click()
            expect(page.get_by_role("heading", level=1)).to_have_text("Attack patterns")

    def test_a_screen_on_paper(self, browser: Browser, origin: str):
        with opened(browser, f"{origin}/all/tools/clearml/get_task_metrics.html") as page:
            page.emulate_media(media="print")
            expect(page.get_by_role("button", name="Copy recommended rule")).to_be_hidden()
            expect(page.get_by_role("heading", name="Recommended rule")).to_be_visible()
