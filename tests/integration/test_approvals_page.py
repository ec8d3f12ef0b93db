"""The approvals page: in a real browser, and request by request with what should be refused."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from fastmcp import Client, FastMCP
from playwright.sync_api import Page, expect
from starlette.applications import Starlette
from starlette.routing import Mount

from browser import chromium, opened, served, until  # noqa: F401  # a fixture
from mcp_policy.adapters._page import board
from mcp_policy.adapters.approvals_page import approvals_page
from mcp_policy.adapters.approvers import wait_for_decision
from mcp_policy.adapters.fastmcp import PolicyMiddleware
from mcp_policy.approvals import Approval, MemoryApprovalStore
from mcp_policy.call import Principal, ToolCall
from mcp_policy.engine import PolicyEngine
from mcp_policy.policy import Policy

TOKEN = "a-token-of-a-test-0123456789"
ASK = {"rm": {"action": "approve", "reason": "what is gone is gone"}, "*": {"action": "approve"}}
AGENT = Principal("agent-7", issuer="https://id.example", client="app")
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&amp;`${alert(3)}"


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(board, "_EVERY", 0.2)
    for name in ("mcp", "fastmcp", "httpx2"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def policy_of(tools: Any = None, **top: Any) -> Policy:
    return Policy.model_validate({"version": "1", "tools": tools or ASK, **top})


def engine_of(tools: Any = None, **settings: Any) -> PolicyEngine:
    return PolicyEngine(policy_of(tools), **settings)


def ask(engine: PolicyEngine, tool: str = "rm", arguments: Any = None, **call: Any) -> str:
    """Call a tool that needs an approval, and return the approval's id."""
    given = {"path": "/tmp/x"} if arguments is None else arguments
    approval = engine.authorize(ToolCall(tool, given, **{"principal": AGENT, **call})).approval
    assert approval is not None
    return approval.id


class Failing(MemoryApprovalStore):
    """A store that can be told to fail, as no real one can be at will."""

    broken = False

    def pending(self) -> list[Approval]:
        if self.broken:
            raise ConnectionError("secret-host:6379 refused")
        return super().pending()

    def decide(self, approval_id: str, approved: bool, by: str, note: str = "") -> Approval:
        if self.broken:
            raise ConnectionError("secret-host:6379 refused")
        return super().decide(approval_id, approved, by, note)


# -- in a browser


class World:
    """A page that is served, its engine, and its store."""

    def __init__(self, origin: str, engine: PolicyEngine) -> None:
        self.origin, self.engine = origin, engine
        self.url = f"{origin}/?token={TOKEN}"


@pytest.fixture
def start(request) -> Iterator[Any]:
    ends: list[Any] = []

    def start(engine: PolicyEngine | None = None, by: str = "ann") -> World:
        engine = engine or engine_of()
        serving = served(approvals_page(engine, by=by, token=TOKEN))
        world = World(serving.__enter__(), engine)
        ends.append(serving)
        return world

    yield start
    for serving in reversed(ends):
        serving.__exit__(None, None, None)


def card(page: Page, tool: str = "rm") -> Any:
    return page.get_by_role("article", name=tool)


def press(page: Page, name: str) -> None:
    """Press a button by the keyboard alone."""
    page.get_by_role("button", name=name).focus()
    page.keyboard.press("Enter")


def test_a_call_that_waits_appears_by_itself_with_all_that_is_known(browser, start):
    world = start()
    with opened(browser, world.url) as page:
        expect(page.get_by_text("Nothing waits")).to_be_visible()
        expect(page.get_by_text("You decide as ann")).to_be_visible()
        expect(page.get_by_text("live", exact=True)).to_be_visible()
        assert page.url == f"{world.origin}/"
        assert page.title() == "Approvals"
        ask(world.engine, server="files")
        shown = card(page)
        expect(shown.get_by_role("heading", name="rm of files")).to_be_visible()
        expect(shown).to_contain_text("what is gone is gone")
        expect(shown).to_contain_text("agent-7 (issuer https://id.example, client app)")
        expect(shown).to_contain_text("/tools/rm")
        expect(shown.get_by_role("group", name="Arguments")).to_have_text('{\n  "path": "/tmp/x"\n}')
        expect(shown).to_contain_text(re.compile(r"asked 0:0\d ago · expires in \d+:\d\d"))
        expect(page.get_by_text("Nothing waits")).to_be_hidden()
        expect(page).to_have_title("(1) Approvals")
        expect(page.locator("#said")).to_have_text("rm waits for a decision")


def test_time_counts_down(browser, start):
    world = start()
    ask(world.engine)
    with opened(browser, world.url) as page:
        left = card(page).locator(".left")
        expect(left).to_contain_text("expires in")
        before = left.inner_text()
        expect(left).not_to_have_text(before)


def test_a_person_approves_by_the_keyboard_with_a_note(browser, start):
    world = start()
    id = ask(world.engine)
    with opened(browser, world.url) as page:
        expect(card(page)).to_be_visible()
        for name in ("Arguments", "Arguments", "Note", "Approve", "Reject"):  # the summary, the text, and so on
            page.keyboard.press("Tab")
            if name == "Note":
                page.keyboard.type("asked on the phone")
            if name == "Approve":
                expect(page.get_by_role("button", name="Approve rm")).to_be_focused()
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Space")
        expect(card(page).locator(".outcome")).to_have_text("Approved by ann")
        expect(card(page).locator(".outcome")).to_be_focused()
        entry = page.locator("#decided > li").first
        expect(entry).to_contain_text("✓ Approved rm")
        expect(entry).to_contain_text("by ann")
        expect(entry).to_contain_text("asked on the phone")
        expect(entry.locator("time")).to_contain_text(re.compile(r"\d:\d\d:\d\d"))
        expect(page.locator("#said")).to_have_text("Approved: rm")
    record = world.engine.approval(id)
    assert record is not None
    assert (record.status, record.decided_by, record.decided_at is not None) == ("approved", "ann", True)
    assert [(vote.by, vote.note) for vote in record.votes] == [("ann", "asked on the phone")]
    assert world.engine.authorize(ToolCall("rm", {"path": "/tmp/x"}, principal=AGENT)).allowed


def test_a_person_rejects(browser, start):
    world = start()
    id = ask(world.engine)
    with opened(browser, world.url) as page:
        card(page).get_by_label("Note").fill("not on a Friday")
        page.get_by_role("button", name="Reject rm").click()
        expect(page.locator("#decided > li").first).to_contain_text("✕ Rejected rm")
        expect(card(page).locator(".outcome")).to_have_text("Rejected by ann")
        expect(page.get_by_role("button", name="Approve")).to_have_count(0)
        page.mouse.move(0, 0)
        expect(card(page)).to_have_count(0)
        expect(page.get_by_text("Nothing waits")).to_be_visible()
        page.reload()
        expect(page.locator("#decided > li")).to_have_count(1)
        expect(page.locator("#decided > li").first).to_contain_text("not on a Friday")
    record = world.engine.approval(id)
    assert record is not None
    assert (record.status, record.decided_by, record.votes[0].note) == ("rejected", "ann", "not on a Friday")


def test_hostile_texts_are_text(browser, start):
    tool = "<img/src=x/onerror=alert(0)>"
    world = start(engine_of({tool: {"action": "approve", "reason": HOSTILE}}))
    arguments = {
        HOSTILE: HOSTILE,
        "reversed": "invoice\u202efdp.exe",
        "unseen": "a\u200bb\U000e0041\u3164",
        "long": "x" * 50_000,
        "lines": "one\ntwo\u2028three",
    }
    who = Principal(HOSTILE, issuer="javascript:alert(4)")
    id = ask(world.engine, tool, arguments, server=HOSTILE, principal=who)
    with opened(browser, world.url) as page:
        shown = card(page, tool)
        expect(shown.locator(".reason")).to_have_text(HOSTILE)
        expect(shown.locator(".server")).to_have_text(HOSTILE)
        expect(shown.locator(".principal")).to_have_text(f"{HOSTILE} (issuer javascript:alert(4))")
        expect(shown.locator("details")).not_to_have_attribute("open", "")
        shown.get_by_text("Arguments").click()
        text = shown.locator("pre").inner_text()
        assert json.dumps(HOSTILE)[1:-1] in text
        assert r"invoice\u202efdp.exe" in text
        assert r"a\u200bb\U000e0041\u3164" in text
        assert r"one\ntwo\u2028three" in text or len(text) == 20_000
        expect(shown.locator(".cut")).to_contain_text(re.compile(r"the first 20,000 of 50,\d\d\d characters"))
        with page.expect_popup() as other:
            shown.get_by_role("link", name="Show all").click()
        other.value.wait_for_load_state()
        whole = other.value.locator("body").inner_text()
        assert whole.count("x") >= 50_000
        assert r"one\ntwo\u2028three" in whole
        assert page.locator("#waiting img, #waiting script").count() == 0
        card(page, tool).get_by_label("Note").fill(HOSTILE)
        page.get_by_role("button", name="Approve").click()
        expect(page.locator("#decided .notes li")).to_have_text(HOSTILE)
    record = world.engine.approval(id)
    assert record is not None
    assert record.votes[0].note == HOSTILE


def test_what_was_decided_elsewhere_meanwhile_says_so(browser, start):
    world = start()
    ask(world.engine)
    id = ask(world.engine, "mv")
    with opened(browser, world.url) as page:
        card(page, "mv").get_by_label("Note").fill("as I was saying")
        world.engine.reject(id, by="bob", note="mine")
        expect(card(page, "mv").locator(".outcome")).to_have_text("Rejected by bob")
        expect(page.locator("#said")).to_have_text("mv: Rejected by bob")
        expect(card(page, "mv").locator(".outcome")).to_be_focused()
        expect(page.locator("#decided > li").first).to_contain_text("mine")
        expect(page.get_by_role("button", name="Approve")).to_have_count(1)


def test_a_page_that_is_behind_is_told_that_another_has_decided(browser, start):
    world = start()
    id = ask(world.engine)
    with opened(browser, world.url) as page:
        expect(card(page)).to_be_visible()
        page.route("**/decide", lambda route: (world.engine.reject(id, by="bob"), route.continue_()))
        with page.expect_response("**/decide") as answer:
            press(page, "Approve rm")
        assert answer.value.status == 409
        assert answer.value.json() == {"error": f"approval `{id}` was rejected by `bob` already"}
        expect(card(page).locator(".outcome")).to_have_text("Rejected by bob")


def test_what_was_used_elsewhere_or_expired_says_so(browser, start, monkeypatch):
    now = [5_000.0]
    monkeypatch.setattr(board, "monotonic", lambda: now[0])
    world = start(engine_of({"*": {"action": "approve", "approval": {"ttl": 60}}}, clock=lambda: now[0]))
    used = ask(world.engine, "used")
    ask(world.engine, "late")
    with opened(browser, world.url) as page:
        expect(card(page, "late").locator(".left")).to_have_text(re.compile("expires in (1:00|0:5[0-9])"))
        world.engine.approve(used, by="bob")
        assert world.engine.authorize(ToolCall("used", {"path": "/tmp/x"}, principal=AGENT)).allowed
        expect(card(page, "used")).to_have_count(0)
        expect(page.locator("#decided > li").first).to_contain_text("used")
        now[0] += 61
        expect(page.locator("#decided > li").first).to_contain_text("Expired late")
        expect(card(page, "late")).to_have_count(0)


def test_an_expired_one_cannot_be_decided_by_a_page_that_is_behind(browser, start):
    now = [5_000.0]
    world = start(engine_of({"*": {"action": "approve", "approval": {"ttl": 60}}}, clock=lambda: now[0]))
    id = ask(world.engine)
    with opened(browser, world.url) as page:
        expect(card(page)).to_be_visible()

        def late(route: Any) -> None:
            now[0] += 61
            route.continue_()

        page.route("**/decide", late)
        with page.expect_response("**/decide") as answer:
            press(page, "Approve rm")
        assert answer.value.status == 409
        assert answer.value.json() == {"error": f"approval `{id}` has expired"}


def test_nobody_approves_a_call_of_their_own(browser, start):
    world = start(by=AGENT.id)
    ask(world.engine)
    with opened(browser, world.url) as page:
        press(page, "Approve rm")
        expect(card(page).get_by_role("alert")).to_have_text("a principal cannot approve its own call")
        expect(page.get_by_role("button", name="Reject rm")).to_be_enabled()


def test_several_people_are_counted(browser, start):
    world = start(engine_of(quorum=3, approvers=["ann", "bob", "eve"]))
    id = ask(world.engine)
    with opened(browser, world.url) as page:
        expect(card(page).locator(".tally")).to_have_text("0 of 3")
        expect(card(page).locator(".approvers")).to_have_text("ann, bob, eve")
        world.engine.approve(id, by="bob", note="fine with me")
        expect(card(page).locator(".tally")).to_have_text("1 of 3")
        expect(card(page).locator(".votes li").first).to_contain_text(re.compile("bob, .*: fine with me"))
        expect(card(page).locator(".votes li")).to_have_count(3)
        press(page, "Approve rm")
        expect(card(page).locator(".outcome")).to_have_text("You have approved; 1 more person has to.")
        expect(card(page).locator(".tally")).to_have_text("2 of 3")
        press(page, "Approve rm")
        expect(card(page).get_by_role("alert")).to_contain_text("has approved")
        world.engine.approve(id, by="eve")
        expect(card(page).locator(".outcome")).to_have_text("Approved by bob, ann, eve")
        expect(page.locator("#decided > li").first).to_contain_text("by bob, ann, eve")


def test_who_may_not_decide_is_told(browser, start):
    world = start(engine_of(approvers=["bob"]))
    ask(world.engine)
    with opened(browser, world.url) as page:
        press(page, "Reject rm")
        expect(card(page).get_by_role("alert")).to_contain_text("`ann` is not among those who may decide")


def test_two_tabs_show_the_same(browser, start):
    world = start()
    ask(world.engine)
    with opened(browser, world.url) as one:
        two = one.context.new_page()
        two.goto(f"{world.origin}/")
        expect(card(two)).to_be_visible()
        press(one, "Approve rm")
        expect(two.locator("#decided > li").first).to_contain_text("Approved rm")
        expect(card(two)).to_have_count(0)


def test_of_many_tabs_the_oldest_pauses_and_goes_on_when_it_is_looked_at(browser, start):
    world = start()
    with opened(browser, world.url) as first:
        expect(first.locator("#connection")).to_have_text("live")
        for _ in range(board.MAX_STREAMS):
            more = first.context.new_page()
            more.goto(f"{world.origin}/")
            expect(more.locator("#connection")).to_have_text("live")
        expect(first.locator("#connection")).to_contain_text("paused")
        ask(world.engine)
        first.evaluate("dispatchEvent(new Event('focus'))")
        expect(first.locator("#connection")).to_have_text("live")
        press(first, "Approve rm")
        expect(first.locator("#decided > li")).to_have_count(1)


def test_focus_and_a_typed_note_survive_updates_and_nothing_moves(browser, start):
    world = start()
    gone, kept = ask(world.engine, "first"), ask(world.engine, "second")
    with opened(browser, world.url) as page:
        note = card(page, "second").get_by_label("Note")
        note.click()
        page.keyboard.type("half a sen")
        before = note.bounding_box()
        ask(world.engine, "third")
        expect(card(page, "third")).to_be_visible()
        world.engine.reject(gone, by="bob")
        expect(card(page, "first").locator(".outcome")).to_have_text("Rejected by bob")
        page.keyboard.type("tence")
        expect(note).to_be_focused()
        expect(note).to_have_value("half a sentence")
        assert note.bounding_box() == before
        press(page, "Approve second")
        expect(page.locator("#decided > li").first).to_contain_text("half a sentence")
    record = world.engine.approval(kept)
    assert record is not None
    assert record.status == "approved"


def test_a_hundred_wait(browser, start):
    world = start()
    ids = [ask(world.engine, arguments={"path": f"/tmp/{number}"}) for number in range(100)]
    with opened(browser, world.url) as page:
        expect(page.get_by_role("article")).to_have_count(100)
        expect(page).to_have_title("(100) Approvals")
        last = page.get_by_role("article").nth(99)
        expect(last.locator("pre")).to_contain_text("/tmp/99")
        last.get_by_role("button", name="Approve").click()
        expect(page).to_have_title("(99) Approvals")
    assert world.engine.approval(ids[99]).status == "approved"
    assert len(world.engine.pending()) == 99


def test_more_than_can_be_looked_through_are_counted(browser, start):
    world = start(engine_of(approvals=MemoryApprovalStore(max_pending=1000)))
    for number in range(203):
        ask(world.engine, arguments={"path": f"/tmp/{number}"})
    with opened(browser, world.url) as page:
        expect(page.get_by_role("article")).to_have_count(200)
        expect(page.get_by_text("3 more wait")).to_be_visible()


def test_approvals_of_another_policy_are_void_and_have_no_buttons(browser, start):
    world = start()
    id = ask(world.engine)
    with opened(browser, world.url) as page:
        expect(page.get_by_role("button", name="Approve rm")).to_be_visible()
        world.engine.reload(policy_of({"rm": {"action": "approve", "reason": "since today"}}))
        expect(card(page).locator(".outcome")).to_have_text("void: the policy has changed")
        expect(page.get_by_role("button")).to_have_count(0)
        assert post(page, world, id)["error"].startswith("this approval is void")
        world.engine.reload(policy_of())
        expect(page.get_by_role("button", name="Approve rm")).to_be_visible()
    assert world.engine.approval(id).status == "pending"


def post(page: Page, world: World, id: str) -> Any:
    """Decide past the buttons, with all that the page itself would send."""
    with client(world) as http:
        return http.post("/decide", headers=sent(world, http), content=decision(id)).json()


def test_a_store_that_fails_is_said_and_recovers(browser, start, caplog):
    store = Failing()
    world = start(engine_of(approvals=store))
    ask(world.engine)
    with opened(browser, world.url) as page:
        expect(card(page)).to_be_visible()
        store.broken = True
        expect(page.get_by_text("the store of approvals cannot be reached")).to_be_visible()
        expect(card(page)).to_be_visible()
        press(page, "Approve rm")
        expect(card(page).get_by_role("alert")).to_contain_text("the store of approvals did not answer")
        assert "secret" not in page.content()
        store.broken = False
        expect(page.locator("#connection")).to_have_text("live")
        press(page, "Approve rm")
        expect(page.locator("#decided > li")).to_have_count(1)
    assert [record.getMessage()[:43] for record in caplog.records if record.name == "mcp_policy"] == [
        "the approvals page cannot read its store: C",
        "the approvals page cannot reach its store: ",
    ]


def test_a_page_whose_server_is_gone_says_so_and_comes_back_by_itself(browser):
    engine = engine_of()
    ask(engine, "before")

    def page_of(token: str) -> Any:
        return approvals_page(engine, by="ann", token=token)

    with ExitStack() as first, ExitStack() as tab:
        origin = first.enter_context(served(page_of(TOKEN)))
        port = int(origin.rpartition(":")[2])
        page = tab.enter_context(opened(browser, f"{origin}/?token={TOKEN}"))
        card(page, "before").get_by_label("Note").fill("kept")
        first.close()
        expect(page.get_by_text("no connection: trying again")).to_be_visible()
        ask(engine, "meanwhile")
        with served(page_of(TOKEN), port):
            expect(page.locator("#connection")).to_have_text("live")
            expect(card(page, "meanwhile")).to_be_visible()
            expect(card(page, "before").get_by_label("Note")).to_have_value("kept")
        with served(page_of(TOKEN[::-1]), port):
            expect(page.get_by_text("no longer let in")).to_be_visible()


def test_a_decision_that_does_not_arrive_says_so(browser):
    engine = engine_of()
    with (
        served(approvals_page(engine, by="ann", token=TOKEN)) as origin,
        opened(browser, f"{origin}/?token={TOKEN}") as page,
    ):
        ask(engine)
        page.route("**/decide", lambda route: route.abort())
        expect(card(page)).to_be_visible()
        press(page, "Approve rm")
        expect(card(page).get_by_role("alert")).to_contain_text("there was no answer")
        page.unroute("**/decide")
        page.context.clear_cookies()
        press(page, "Approve rm")
        expect(card(page).get_by_role("alert")).to_contain_text("no longer let in")
    assert len(engine.pending()) == 1


@pytest.mark.parametrize("width", [320, 375, 1600])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_its_window(browser, start, width, scheme):
    world = start(engine_of({"*": {"action": "approve", "reason": "r" * 400}}, quorum=2))
    id = ask(world.engine, "t" * 100, {"k" * 300: ["v" * 3000]}, server="s" * 200, principal=Principal("p" * 300))
    world.engine.approve(id, by="b" * 80, note="n" * 1000)
    settings: Any = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme, "reduced_motion": "reduce"}
    with opened(browser, world.url, **settings) as page:
        card(page, "t" * 100).get_by_text("Arguments").click()
        expect(page.locator(".votes li").first).to_contain_text("nnn")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        press(page, "Reject")
        expect(page.locator("#decided > li")).to_have_count(1)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        light = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert light is (scheme == "light")


def test_every_control_has_a_name_and_a_note_has_an_end(browser, start):
    world = start()
    ask(world.engine)
    with opened(browser, world.url) as page:
        note = card(page).get_by_role("textbox", name="Note")
        note.fill("n" * 1000)
        note.press("End")
        page.keyboard.type("more")
        expect(note).to_have_value("n" * 1000)
        for role in ("button", "textbox", "link"):
            for control in page.get_by_role(role).all():
                expect(control).to_have_accessible_name(re.compile(r"\w+"))
        for button in page.get_by_role("button").all():
            box = button.bounding_box()
            assert box is not None
            assert box["height"] >= 44
        page.get_by_role("button", name="Approve rm").focus()
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_it_can_be_mounted_in_another_application(browser):
    engine = engine_of()
    page_app = approvals_page(engine, by="ann", token=TOKEN)
    outer = Starlette(routes=[Mount("/approvals", page_app)])
    outer.state.close = page_app.state.close
    ask(engine, arguments={"text": "x" * 30_000})
    with served(outer) as origin, opened(browser, f"{origin}/approvals/?token={TOKEN}") as page:
        assert page.url == f"{origin}/approvals/"
        (cookie,) = page.context.cookies()
        assert (cookie["path"], cookie["httpOnly"], cookie["sameSite"]) == ("/approvals/", True, "Strict")
        press(page, "Approve rm")
        expect(page.locator("#decided > li")).to_have_count(1)


def test_whoever_comes_by_a_link_from_elsewhere_can_go_on(browser, start):
    world = start()
    with opened(browser, world.url) as page:
        elsewhere = page.context.new_page()
        elsewhere.route("http://client.example/", lambda route: route.fulfill(
            content_type="text/html", body=f'<a href="{world.origin}/">decide</a>'
        ))  # fmt: skip
        elsewhere.goto("http://client.example/")
        elsewhere.get_by_role("link").click()
        expect(elsewhere.get_by_role("heading", name="Not let in")).to_be_visible()
        elsewhere.get_by_role("link", name="go on").click()
        expect(elsewhere.get_by_text("You decide as ann")).to_be_visible()


def test_a_call_that_waits_is_answered_when_the_page_approves(browser, start):
    world = start()
    ran: list[str] = []
    server = FastMCP("files", middleware=[PolicyMiddleware(world.engine, approver=wait_for_decision(timeout=60))])

    @server.tool
    def rm(path: str) -> str:
        ran.append(path)
        return f"gone {path}"

    async def call() -> Any:
        async with Client(server) as client:
            return await client.call_tool("rm", {"path": "/tmp/y"})

    with ThreadPoolExecutor(1) as pool, opened(browser, world.url) as page:
        answer = pool.submit(asyncio.run, call())
        expect(card(page)).to_be_visible()
        assert ran == []
        press(page, "Approve rm")
        expect(page.locator("#decided > li").first).to_contain_text("Approved rm")
        assert answer.result(30).data == "gone /tmp/y"
    assert ran == ["/tmp/y"]


class Awaited:
    """A store that is awaited, as one far away is."""

    silent = False

    def __init__(self) -> None:
        self._store = MemoryApprovalStore()

    def __getattr__(self, name: str) -> Any:
        async def method(*arguments: Any) -> Any:
            await asyncio.sleep(3600 if self.silent else 0)
            return getattr(self._store, name)(*arguments)

        return method


def test_a_store_that_is_awaited_serves_as_well(browser, start):
    engine = engine_of(approvals=Awaited())
    world = start(engine)
    with ThreadPoolExecutor(1) as pool, opened(browser, world.url) as page:
        call = ToolCall("rm", {"path": "/tmp/x"}, principal=AGENT)
        decision = pool.submit(asyncio.run, engine.authorize_async(call)).result()
        press(page, "Approve rm")
        expect(page.locator("#decided > li")).to_have_count(1)
        record = pool.submit(asyncio.run, engine.approval_async(decision.approval.id)).result()
    assert record.status == "approved"


# -- request by request


@contextmanager
def client(world: World, *, let_in: bool = True) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=world.origin, verify=False) as http:
        if let_in:
            assert http.get(f"/?token={TOKEN}").status_code == 303
        yield http


def sent(world: World, http: httpx2.Client) -> dict[str, str]:
    """Return the headers of a request that the page itself would send."""
    secret = greeting(http)["csrf"]
    return {
        "origin": world.origin,
        "sec-fetch-site": "same-origin",
        "x-csrf-token": secret,
        "content-type": "application/json",
    }


def greeting(http: httpx2.Client) -> Any:
    """Return what a page is told first."""
    with http.stream("GET", "/events") as stream:
        first = next(line for line in stream.iter_lines() if line.startswith("data:"))
    return json.loads(first.removeprefix("data:"))


def decision(id: str, /, **more: Any) -> bytes:
    return json.dumps({"id": id, "approve": True, "note": "", **more}).encode()


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    engine = engine_of()
    with served(approvals_page(engine, by="ann", token=TOKEN)) as origin:
        yield World(origin, engine)


@pytest.fixture
def http(world) -> Iterator[httpx2.Client]:
    with client(world) as http:
        yield http


def test_what_the_page_sends_is_answered(world, http):
    id = ask(world.engine, "plain")
    answer = http.post("/decide", headers=sent(world, http), content=decision(id, note="ok"))
    assert (answer.status_code, answer.json()["outcome"]) == (200, "approved")
    assert world.engine.approval(id).decided_by == "ann"


@pytest.mark.parametrize("path", ["/", "/page.js", "/page.css", "/icon.svg", "/events", "/arguments/x", "/nowhere"])
@pytest.mark.parametrize(
    "how", ["nothing", "wrong cookie", "token as cookie", "wrong token", "empty token", "two tokens"]
)
def test_nobody_is_let_in_without_the_token(world, path, how):
    name = cookie_name(world)
    cookies = {"wrong cookie": {name: "0" * 64}, "token as cookie": {name: TOKEN}}.get(how, {})
    params = {"wrong token": "token=x", "empty token": "token=", "two tokens": f"token={TOKEN}&token={TOKEN}"}.get(
        how, ""
    )
    header = {"cookie": "; ".join(f"{key}={value}" for key, value in cookies.items())} if cookies else {}
    with client(world, let_in=False) as http:
        answer = http.get(f"{path}?{params}", headers=header)
    assert answer.status_code == 403
    assert "Not let in" in answer.text
    assert "set-cookie" not in answer.headers


def cookie_name(world: World) -> str:
    with client(world) as http:
        (name,) = http.cookies.keys()
    return name


def test_the_token_is_changed_for_a_cookie_and_leaves_the_address(world):
    with client(world, let_in=False) as http:
        answer = http.get(f"/?token={TOKEN}")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert TOKEN not in cookie
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))


def test_pages_with_other_tokens_have_cookies_of_other_names(world):
    with (
        served(approvals_page(engine_of(), by="ann", token=TOKEN[::-1])) as origin,
        httpx2.Client(base_url=origin) as http,
    ):
        http.get("/", params={"token": TOKEN[::-1]})
        assert list(http.cookies.keys()) != [cookie_name(world)]


@pytest.mark.parametrize("path", ["/", "/events", "/page.js", f"/?token={TOKEN}"])
@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.",
        "127.0.0.1@evil.example",
        "127.1",
        "0.0.0.0",
        "",
        "[::2]:80",
        "127.0.0.1:x",
    ],
)
def test_another_name_is_refused(world, http, path, host):
    answer = http.get(path, headers={"host": host})
    assert answer.status_code in (400, 403)
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:1", "LOCALHOST", "[::1]:8000"])
def test_this_machine_is_answered_under_all_of_its_names(world, http, host):
    assert http.get("/page.css", headers={"host": host}).status_code == 200


FOREIGN = {
    "another origin": {"origin": "http://evil.example"},
    "another port": {"origin": "http://127.0.0.1:1"},
    "another scheme": {"origin": "https://127.0.0.1"},
    "null": {"origin": "null"},
    "no origin": {"origin": None},
    "cross-site": {"sec-fetch-site": "cross-site"},
    "same-site": {"sec-fetch-site": "same-site"},
    "navigation": {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},
    "no secret": {"x-csrf-token": None},
    "wrong secret": {"x-csrf-token": "0" * 64},
    "secret that is no ASCII": {"x-csrf-token": "é".encode()},
    "cookie as secret": {"x-csrf-token": "COOKIE"},
}


@pytest.mark.parametrize("how", FOREIGN)
def test_a_decision_from_anywhere_else_is_refused(world, http, how):
    id = ask(world.engine, "foreign")
    headers: dict[str, Any] = {**sent(world, http), **FOREIGN[how]}
    if headers["x-csrf-token"] == "COOKIE":
        headers["x-csrf-token"] = next(iter(http.cookies.values()))
    answer = http.post("/decide", headers={k: v for k, v in headers.items() if v is not None}, content=decision(id))
    assert answer.status_code == 403
    assert world.engine.approval(id).status == "pending"


def test_a_decision_without_the_cookie_is_refused(world, http):
    id = ask(world.engine, "foreign")
    headers = sent(world, http)
    http.cookies.clear()
    for path in ("/decide", f"/decide?token={TOKEN}"):
        assert http.post(path, headers=headers, content=decision(id)).status_code == 403
    assert world.engine.approval(id).status == "pending"


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_nothing_is_told_to_a_script_of_another_site(http, site):
    assert http.get("/events", headers={"sec-fetch-site": site, "sec-fetch-mode": "no-cors"}).status_code == 403
    assert http.get("/page.js", headers={"sec-fetch-site": site, "sec-fetch-mode": "no-cors"}).status_code == 403


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
def test_only_a_post_decides(world, http, method):
    assert http.request(method, "/decide", headers=sent(world, http)).status_code == 405


@pytest.mark.parametrize("path", ["/", "/events", "/page.js"])
def test_nothing_else_takes_a_post(world, http, path):
    assert http.post(path, headers=sent(world, http)).status_code == 405


BODIES = {
    "too large": (413, b'{"id": "' + b"x" * 20_000),
    "no JSON": (400, b"id=x"),
    "deep": (400, b"[" * 16_000),
    "a list": (400, b"[]"),
    "nothing": (400, b""),
    "no UTF-8": (400, b'{"id": "\xff", "approve": true, "note": ""}'),
    "more": (400, decision("x", by="bob")),
    "less": (400, b'{"id": "x", "approve": true}'),
    "truth as a number": (400, decision("x", approve=1)),
    "truth as a text": (400, decision("x", approve="true")),
    "number as an id": (400, decision("x", id=1)),
    "half a character": (400, b'{"id": "x", "approve": true, "note": "\\ud800"}'),
    "long note": (400, decision("x", note="n" * 1001)),
    "unknown id": (409, decision("x")),
    "path as an id": (409, decision("../../etc/passwd")),
}


@pytest.mark.parametrize("how", BODIES)
def test_a_decision_that_is_none_is_refused(world, http, how):
    status, body = BODIES[how]
    answer = http.post("/decide", headers=sent(world, http), content=body)
    assert answer.status_code == status
    assert "Traceback" not in answer.text
    assert list(answer.json()) == ["error"]


def test_a_body_that_goes_on_and_on_is_cut_off(world, http):
    def endless() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 1000

    assert http.post("/decide", headers=sent(world, http), content=endless()).status_code == 413


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_a_form_of_another_page_is_no_decision(world, http, kind):
    id = ask(world.engine, "foreign")
    answer = http.post("/decide", headers={**sent(world, http), "content-type": kind}, content=decision(id))
    assert answer.status_code == 415
    assert world.engine.approval(id).status == "pending"


def test_the_longest_note_fits(world, http):
    id = ask(world.engine, "long note")
    answer = http.post("/decide", headers=sent(world, http), content=decision(id, note="\U0001f600" * 1000))
    assert answer.status_code == 200
    assert world.engine.approval(id).votes[0].note == "\U0001f600" * 1000


PATHS = [
    *("/nowhere", "/page.js/", "/page.js%00", "/index.html", "/board.py", "/shown.py", "//page.js", "/./../page.js"),
    *("/../approvals_page.py", "/%2e%2e/approvals_page.py", "/..%2fapprovals_page.py", "/..%5capprovals_page.py"),
    *("/arguments", "/arguments/", "/arguments/..", "/arguments/%2e%2e%2f%2e%2e%2fetc%2fpasswd", "/arguments/nobody", "/static/page.js"),
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_no_path_leads_anywhere_else(world, http, path):
    answer = raw(world, path, dict(http.cookies))
    assert answer.startswith("HTTP/1.1 404 ")
    assert "import" not in answer


def raw(world: World, path: str, cookies: dict[str, str]) -> str:
    """Ask for a path as it is, which a client would tidy."""
    import socket

    host, port = world.origin.removeprefix("http://").split(":")
    cookie = "; ".join(f"{name}={value}" for name, value in cookies.items())
    with socket.create_connection((host, int(port)), 10) as connection:
        connection.sendall(
            f"GET {path} HTTP/1.1\r\nhost: {host}:{port}\r\ncookie: {cookie}\r\nconnection: close\r\n\r\n".encode()
        )
        return b"".join(iter(lambda: connection.recv(65_536), b"")).decode()


@pytest.mark.parametrize("path", ["/", "/page.js", "/page.css", "/icon.svg", "/nowhere", "/arguments/nobody"])
@pytest.mark.parametrize("let_in", [True, False], ids=["let in", "not let in"])
def test_every_answer_tells_browsers_what_to_keep_to(world, path, let_in):
    with client(world, let_in=let_in) as http:
        headers = http.get(path).headers
    rules = dict(rule.strip().partition(" ")[::2] for rule in headers["content-security-policy"].split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"
    assert rules["frame-ancestors"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert not any(name.startswith("access-control") for name in headers)


def test_an_error_inside_tells_nothing(caplog):
    class Broken(PolicyEngine):
        @property
        def policy(self):
            raise RuntimeError("secret")

        async def approval_async(self, approval_id):
            raise RuntimeError("secret")

    with served(approvals_page(Broken(policy_of()), by="ann", token=TOKEN)) as origin:
        world = World(origin, engine_of())
        with client(world) as http:
            for answer in (
                http.get("/arguments/x"),
                http.post("/decide", headers=sent(world, http), content=decision("x")),
            ):
                assert answer.status_code == 503
                assert "secret" not in answer.text
                assert answer.headers["x-content-type-options"] == "nosniff"
    assert "secret" in caplog.text


def test_a_failure_of_the_page_itself_is_one_line(caplog):
    app = approvals_page(engine_of(), by="ann", token=TOKEN)

    async def fails(request: Any) -> Any:
        raise RuntimeError("secret")

    app.add_route("/fails", fails)
    with served(app) as origin, client(World(origin, engine_of())) as http:
        answer = http.get("/fails")
    assert (answer.status_code, answer.text) == (500, "this failed; the log says why")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "the approvals page failed" in caplog.text


def test_no_websocket_is_opened():
    said: list[Any] = []

    async def send(message: Any) -> None:
        said.append(message)

    async def talk() -> None:
        app = approvals_page(engine_of(), by="ann", token=TOKEN)
        await app({"type": "websocket", "path": "/events", "headers": []}, None, send)  # type: ignore[arg-type]

    thread = threading.Thread(target=lambda: asyncio.run(talk()))
    thread.start()
    thread.join()
    assert [message["type"] for message in said] == ["websocket.close"]


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"by": ""}, ValueError),
        ({"token": ""}, ValueError),
        ({"token": "short"}, ValueError),
        ({"hosts": "localhost"}, TypeError),
    ],
    ids=["by", "no token", "short token", "hosts"],
)
def test_settings_that_would_let_anybody_in_are_refused(settings, error):
    with pytest.raises(error):
        approvals_page(engine_of(), **{"by": "ann", "token": TOKEN, **settings})


def test_the_streams_of_a_server_that_stops_end():
    app = approvals_page(engine_of(), by="ann", token=TOKEN)
    with served(app) as origin, client(World(origin, engine_of())) as http, http.stream("GET", "/events") as stream:
        lines = stream.iter_lines()
        assert next(line for line in lines if line.startswith("data:"))
        app.state.close()
        assert "event: elsewhere" not in list(lines)


@pytest.mark.parametrize(
    "odd", [10**5000, float("nan"), {1}, "\ud800"], ids=["digits", "nan", "set", "half a character"]
)
def test_a_record_that_cannot_be_written_down_keeps_no_other_from_being_shown(odd):
    class Odd(MemoryApprovalStore):
        """A store that keeps what no call can be."""

        def pending(self) -> list[Approval]:
            first, *more = super().pending()
            return [replace(first, arguments=odd), *more]

    engine = engine_of(approvals=Odd())
    ask(engine, "odd"), ask(engine, "even")
    with served(approvals_page(engine, by="ann", token=TOKEN)) as origin, client(World(origin, engine)) as http:
        first = greeting(http)
    assert [one["tool"] for one in first["changed"]] == ["odd", "even"]
    assert first["changed"][0]["arguments"] in {
        *(f"these arguments cannot be shown: {name}Error" for name in ("Value", "Type")),
        '"\\ud800"',
    }


def test_a_store_that_is_silent_is_given_up(monkeypatch):
    monkeypatch.setattr(board, "_PATIENCE", 0.05)
    store = Awaited()
    with served(approvals_page(engine_of(approvals=store), by="ann", token=TOKEN)) as origin:
        world = World(origin, engine_of())
        with client(world) as http:
            store.silent = True
            assert greeting(http)["problem"] == board.UNREACHABLE
            assert http.post("/decide", headers=sent(world, http), content=decision("x")).status_code == 503
            assert http.get("/arguments/x").status_code == 503
            store.silent = False
            until(lambda: greeting(http)["problem"] == "")
