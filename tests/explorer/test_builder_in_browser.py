"""The builder in a browser: a policy is made by clicking, tried, compared and saved, and the text is never lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

import axe
from browser import chromium, opened, served  # noqa: F401  # a fixture
from mcp_policy import layout
from mcp_policy.catalogue import ToolCatalogue
from mcp_policy.explorer.app import explorer
from mcp_policy.explorer.editing import EMPTY
from mcp_policy.explorer.saving import PolicyOnDisk
from mcp_policy.explorer.stack import Listed, Stack, of_catalogue, of_listings

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

TOKEN = "a-token-of-a-test-0123456789"
SEED = '{"version": "1", "default": "deny", "tools": {"get_task_metrics": {"rate_limit": {"max": 10, "window": 60}}}}'
PAY = {
    "name": "pay",
    "description": "Sends money.",
    "inputSchema": {
        "type": "object",
        "properties": {
            "amount": {"type": "number", "description": "in euros"},
            "to": {"type": "string"},
            "kind": {"type": "string", "enum": ["instant", "slow"]},
            "urgent": {"type": "boolean"},
        },
        "required": ["amount", "to"],
    },
}
READ = {"name": "read_page", "description": "Reads a page.", "inputSchema": {"type": "object", "properties": {}}}
SHOP = of_listings("mcp.json", [Listed("shop", "", (PAY, READ), "")])
CLEARML = of_catalogue(ToolCatalogue.bundled(), "clearml")


@contextmanager
def building(
    browser: Browser, stack: Stack = SHOP, policy: Path | None = None, *, at: str = "", **settings: Any
) -> Iterator[Page]:
    """Open the builder; `at` is what the address asks for."""
    app = explorer(stack, token=TOKEN, disk=None if policy is None else PolicyOnDisk(policy))
    with served(app) as origin, opened(browser, f"{origin}/?token={TOKEN}", **settings) as page:
        page.goto(f"{origin}/builder.html{at}")
        yield page


def text(page: Page) -> Locator:
    return page.locator("#text")


def panel(page: Page) -> Locator:
    return page.locator("#panel")


def kind(page: Page, name: str) -> Locator:
    return panel(page).get_by_role("radio", name=name, exact=True)


def choose(page: Page, name: str) -> None:
    """Choose what happens to calls, as a person does: by its word."""
    panel(page).locator(".kind").filter(has_text=name).click()


def tool(page: Page, name: str) -> Locator:
    return page.locator("#tool-list").get_by_role("link", name=name)


def write(page: Page, document: str) -> None:
    """Put a text into the place of the one that is there."""
    text(page).fill(document)


def findings(page: Page) -> Locator:
    return page.locator("#findings .finding")


def has(page: Page, document: Any) -> None:
    """Wait until the text is this document in the one layout."""
    source = document if isinstance(document, str) else json.dumps(document)
    expect(text(page)).to_have_value(layout.layout(source))


# -- from nothing, by clicking


def test_the_documented_policy_is_built_from_nothing_by_clicking(browser):
    with building(browser, CLEARML) as page:
        expect(text(page)).to_have_value(EMPTY)
        page.get_by_label("Search").fill("metrics")
        expect(page.locator("#tools-count")).to_have_text("1 of 14 tools")
        tool(page, "get_task_metrics").click()
        expect(panel(page)).to_contain_text("get_task_metrics")
        choose(page, "Limit")
        has(page, SEED)
        expect(kind(page, "Limit")).to_be_checked()
        expect(tool(page, "get_task_metrics")).to_contain_text("limited")
        page.get_by_label("At most", exact=True).fill("25")
        page.get_by_label("within", exact=True).fill("hour")
        page.get_by_label("within", exact=True).press("Tab")
        expect(text(page)).to_have_value(layout.layout(SEED.replace("10", "25").replace("60", '"hour"')))
        page.get_by_label("At most", exact=True).fill("10")
        page.get_by_label("within", exact=True).fill("60")
        page.get_by_label("within", exact=True).press("Tab")
        has(page, SEED)


def test_a_custom_rule_is_built_by_clicking_and_a_call_tried_against_it(browser):
    with building(browser) as page:
        tool(page, "pay").click()
        choose(page, "Custom")
        expect(kind(page, "Custom")).to_be_checked()
        expect(text(page)).to_have_value(EMPTY)  # a form to fill in allows nothing yet
        page.locator("#r0-require-adding").click()
        page.locator("#r0-require-add-path").fill("args.amount")
        operators = page.locator("#r0-require-add-op")
        expect(operators.locator("option")).to_have_text(
            ["is at most", "is at least", "is less than", "is more than", "equals", "differs from", "is one of",
             "is none of", "is given"]
        )  # fmt: skip
        operators.select_option("lte")
        page.locator("#r0-require-add-value").fill("1e2")
        page.locator("#r0-require-add-reason").fill('at most "100"')
        page.locator("#r0-require-add").get_by_role("button", name="Add", exact=True).click()
        condition = '{"path": "args.amount", "op": "lte", "value": 1e2, "reason": "at most \\"100\\""}'
        has(page, f'{{"version": "1", "default": "deny", "tools": {{"pay": {{"require": [{condition}]}}}}}}')
        expect(panel(page)).to_contain_text("args.amount is at most")

        arguments = page.get_by_label("Arguments")
        expect(arguments).to_have_value('{\n  "amount": 1,\n  "to": "example"\n}')
        arguments.fill('{"amount": 100.5, "to": "ann"}')
        page.get_by_role("button", name="Try it").click()
        tried = page.locator("#tried")
        expect(tried.locator(".effect")).to_contain_text("Denied")
        expect(tried).to_contain_text('at most "100"')
        expect(tried.locator(".tree .found").first).to_contain_text("found 100.5")
        page.locator("#r0-require-0-says").click()
        page.locator("#r0-require-0-value").fill("200")
        page.locator("#r0-require-0").get_by_role("button", name="Change it").click()
        expect(tried.locator(".effect")).to_contain_text("Allowed")  # the call is tried again by itself
        expect(text(page)).to_have_value(layout.layout(text(page).input_value().replace("1e2", "200")))
        arguments.fill('{"amount": 100.5')
        page.get_by_role("button", name="Try it").click()
        expect(tried.get_by_role("alert")).to_contain_text("column")
        expect(arguments).to_have_attribute("aria-invalid", "true")


def test_the_values_of_the_schema_are_offered(browser):
    with building(browser, at="?tool=shop%2Fpay") as page:
        choose(page, "Custom")
        page.locator("#r0-deny_if-adding").click()
        form = page.locator("#r0-deny_if-add")
        form.locator("[name=path]").fill("args.kind")
        assert form.locator("datalist option").evaluate_all("all => all.map(one => one.value)") == ["instant", "slow"]
        form.locator("[name=path]").fill("args.urgent")
        assert form.locator("datalist option").evaluate_all("all => all.map(one => one.value)") == ["true", "false"]
        expect(form.locator("[name=op] option")).to_have_text(["equals", "is given"])
        form.locator("[name=value]").fill("perhaps")
        form.get_by_role("button", name="Add", exact=True).click()
        expect(form.get_by_role("alert")).to_contain_text("true")
        expect(form.locator("[name=value]")).to_have_value("perhaps")
        expect(text(page)).to_have_value(EMPTY)


# -- the text


def test_every_finding_of_a_broken_document_is_shown_with_its_place(browser):
    with building(browser, at="?tool=shop%2Fpay") as page:
        expect(tool(page, "pay")).to_contain_text("denied")
        broken = '{"version": "2",\n "defualt": "deny",\n "tools": {"pay": {"action": "alow",\n  "rate_limit": {"max": -1}}}}'
        write(page, broken)
        expect(findings(page)).to_have_count(5)
        expect(panel(page)).to_contain_text("The form waits")
        expect(page.locator("#old-states")).to_be_visible()
        expect(tool(page, "pay")).to_contain_text("denied")  # as of the last text that loaded
        expect(page.locator(".gutter .has-error")).to_have_text(["1", "2", "3", "4"])
        assert text(page).input_value() == broken
        second = findings(page).filter(has_text="defualt")
        expect(second).to_contain_text("2:2")
        second.press("Enter")
        expect(text(page)).to_be_focused()
        expect(page.locator("#cursor")).to_contain_text("Line 2")
        page.get_by_role("button", name="Undo").click()
        expect(text(page)).to_have_value(EMPTY)
        expect(panel(page)).to_contain_text("No rule")
        expect(page.locator("#old-states")).to_be_hidden()


def test_the_form_follows_what_is_typed_and_keeps_what_it_has_no_field_for(browser):
    document = {
        "$schema": "https://example.com/policy.json", "version": "1", "name": "shop",
        "tools": {"pay": [{"when": [{"path": "principal.roles", "op": "contains", "value": "clerk"}]},
                          {"rate_limit": "10/minute"}]},
    }  # fmt: skip
    with building(browser, at="?tool=shop%2Fpay") as page:
        write(page, json.dumps(document))
        expect(panel(page)).to_contain_text("2 rules stand here")
        page.locator("#r2-l0-max").fill("12")
        page.locator("#r2-l0-max").press("Tab")
        document["tools"]["pay"][1]["rate_limit"] = {"max": 12, "window": "minute"}  # type: ignore[index]
        has(page, document)
        page.locator("#entries").get_by_role("link", name="Document").click()
        expect(panel(page)).to_contain_text("$schema")
        page.get_by_label("Name").fill("my shop")
        page.get_by_label("Name").press("Tab")
        has(page, {**document, "name": "my shop"})


def test_undo_and_redo_go_through_edits_and_typing(browser):
    with building(browser, at="?tool=shop%2Fpay") as page:
        undo, redo = page.get_by_role("button", name="Undo"), page.get_by_role("button", name="Redo")
        expect(undo).to_be_disabled()
        choose(page, "Deny")
        has(page, {"version": "1", "default": "deny", "tools": {"pay": {"action": "deny"}}})
        choose(page, "Approve")
        has(page, {"version": "1", "default": "deny", "tools": {"pay": {"action": "approve"}}})
        page.keyboard.press("Control+z")
        expect(kind(page, "Deny")).to_be_checked()
        undo.click()
        expect(text(page)).to_have_value(EMPTY)
        expect(kind(page, "No rule")).to_be_checked()
        expect(undo).to_be_disabled()
        redo.click()
        redo.click()
        expect(kind(page, "Approve")).to_be_checked()
        expect(redo).to_be_disabled()
        text(page).press("End")
        text(page).press_sequentially("   ")
        text(page).press("Control+z")
        has(page, {"version": "1", "default": "deny", "tools": {"pay": {"action": "approve"}}})


def test_edits_that_follow_one_another_at_once_are_all_made(browser):
    with building(browser, at="?tool=shop%2Fpay") as page:
        choose(page, "Deny")
        page.get_by_label("Reason").fill("not for agents")
        choose(page, "Approve")  # leaves the field, which asks for an edit of its own
        rule = {"action": "approve", "reason": "not for agents"}
        has(page, {"version": "1", "default": "deny", "tools": {"pay": rule}})
        page.get_by_label("Reason").fill("a person has to agree")
        page.keyboard.press("Tab")
        page.keyboard.type("60")  # while the answer to the reason is on its way
        page.keyboard.press("Tab")
        rule = {"action": "approve", "reason": "a person has to agree", "approval": {"ttl": 60}}
        has(page, {"version": "1", "default": "deny", "tools": {"pay": rule}})


# -- rules for many


def test_rules_for_many_tools_are_built(browser):
    with building(browser) as page:
        page.locator("#entries").get_by_role("link", name="destructive").click()
        choose(page, "Approve")
        page.get_by_text("Add a rule for many").click()
        page.get_by_label("Pattern", exact=True).fill("read_*")
        page.get_by_role("button", name="Show it").click()
        expect(panel(page)).to_contain_text("Matches 1 tool")
        choose(page, "Allow")
        document = {
            "version": "1",
            "default": "deny",
            "categories": {"destructive": {"action": "approve"}},
            "tools": {"read_*": {}},
        }
        has(page, document)
        expect(tool(page, "read_page")).to_contain_text("allowed")
        expect(page.locator("#entries").get_by_role("link", name="read_*")).to_contain_text("1 tool")
        page.locator("#rename").fill("read_?age")
        page.get_by_role("button", name="Rename").click()
        expect(page.locator("#panel-title")).to_have_text("read_?age")
        tool(page, "read_page").click()
        page.locator(".others").get_by_role("link", name="/tools/read_?age").click()
        expect(page.locator("#panel-title")).to_have_text("read_?age")


# -- saving


def test_a_policy_is_compared_and_saved(browser, tmp_path):
    policy = tmp_path / "policy.json"
    policy.write_text(EMPTY)
    with building(browser, policy=policy, at="?tool=shop%2Fpay") as page:
        state, outcome = page.locator("#saving-state"), page.locator("#outcome")
        expect(state).to_have_text("Saved")
        choose(page, "Limit")
        expect(state).to_have_text("Changed")
        page.get_by_role("button", name="Compare with the saved file").click()
        expect(outcome).to_contain_text("This lets more run than the file does")
        expect(outcome.locator(".witness")).to_contain_text("pay")
        assert policy.read_text() == EMPTY
        page.get_by_role("button", name="Save", exact=True).click()
        expect(outcome).to_contain_text("Saved to policy.json")
        expect(state).to_have_text("Saved")
        assert policy.read_text() == text(page).input_value()
        page.get_by_role("button", name="Close").click()
        choose(page, "Deny")
        page.keyboard.press("Control+s")
        expect(outcome).to_contain_text("Saved to policy.json")
        assert '"deny"' in policy.read_text()


def test_what_somebody_else_has_written_is_not_overwritten(browser, tmp_path):
    policy = tmp_path / "policy.json"
    policy.write_text(EMPTY)
    theirs = json.dumps({"version": "1", "name": "theirs"})
    with building(browser, policy=policy, at="?tool=shop%2Fpay") as page:
        choose(page, "Limit")
        expect(page.locator("#saving-state")).to_have_text("Changed")
        mine = text(page).input_value()
        policy.write_text(theirs)
        page.get_by_role("button", name="Save", exact=True).click()
        outcome = page.locator("#outcome")
        expect(outcome).to_contain_text("has changed on disk")
        assert policy.read_text() == theirs
        expect(page.locator("#saved-text")).to_have_value(theirs)
        expect(text(page)).to_have_value(mine)
        page.get_by_role("button", name="Save", exact=True).click()  # once more, as a person's fingers do
        expect(page.locator("#saving-state")).to_have_text("Changed")
        expect(outcome).to_contain_text("has changed on disk")
        assert policy.read_text() == theirs
        page.get_by_role("button", name="Load it here").click()
        expect(text(page)).to_have_value(theirs)
        expect(page.locator("#saving-state")).to_have_text("Saved")
        page.get_by_role("button", name="Undo").click()
        expect(text(page)).to_have_value(mine)
        policy.write_text(EMPTY)
        page.get_by_role("button", name="Save", exact=True).click()
        page.get_by_role("button", name="Save yours over it").click()
        expect(outcome).to_contain_text("Saved to policy.json")
        assert policy.read_text() == mine


def test_looking_at_the_file_allows_no_saving_over_it(browser, tmp_path):
    policy = tmp_path / "policy.json"
    policy.write_text(EMPTY)
    with building(browser, policy=policy, at="?tool=shop%2Fpay") as page:
        choose(page, "Limit")
        expect(page.locator("#saving-state")).to_have_text("Changed")
        policy.write_text(theirs := json.dumps({"version": "1", "name": "theirs"}))
        page.get_by_role("button", name="Compare").click()
        page.get_by_role("button", name="Show the file").click()
        expect(page.locator("#saved-text")).to_have_value(theirs)
        page.get_by_role("button", name="Save", exact=True).click()
        expect(page.locator("#outcome")).to_contain_text("has changed on disk")
        assert policy.read_text() == theirs


def test_the_keyboard_stays_at_the_entry_whose_field_is_gone(browser):
    with building(browser, at="?tool=shop%2Fpay") as page:
        expect(page.locator("#panel-title")).to_be_focused()
        choose(page, "Limit")
        page.get_by_role("button", name="Remove this limit").press("Enter")
        expect(page.get_by_role("button", name="Remove this limit")).to_have_count(0)
        expect(page.locator("#panel-title")).to_be_focused()


def test_without_a_file_the_text_is_downloaded(browser):
    with building(browser, at="?tool=shop%2Fpay") as page:
        expect(page.get_by_role("button", name="Save", exact=True)).to_be_disabled()
        expect(page.locator(".builder-head")).to_contain_text("--policy")
        choose(page, "Deny")
        has(page, {"version": "1", "default": "deny", "tools": {"pay": {"action": "deny"}}})
        with page.expect_download() as download:
            page.get_by_role("button", name="Download").click()
        assert download.value.suggested_filename == "policy.json"
        assert Path(download.value.path()).read_text() == text(page).input_value()


def test_leaving_with_changes_is_asked_about(browser):
    with building(browser, at="?tool=shop%2Fpay") as page:
        asks = "() => !dispatchEvent(new Event('beforeunload', {cancelable: true}))"
        assert not page.evaluate(asks)
        choose(page, "Deny")
        expect(page.get_by_role("button", name="Undo")).to_be_enabled()
        assert page.evaluate(asks)


# -- for everybody


def test_everything_is_reached_and_done_by_keyboard(browser):
    with building(browser) as page:
        page.keyboard.press("/")
        expect(page.get_by_label("Search")).to_be_focused()
        page.keyboard.type("pay")
        page.keyboard.press("Enter")
        expect(page.locator("#panel-title")).to_have_text("pay")
        expect(page.locator("#panel-title")).to_be_focused()
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        expect(kind(page, "No rule")).to_be_focused()
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowLeft")
        expect(kind(page, "Approve")).to_be_checked()
        expect(kind(page, "Approve")).to_be_focused()
        has(page, {"version": "1", "default": "deny", "tools": {"pay": {"action": "approve"}}})
        expect(page.locator("#said")).to_contain_text("asks")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [375, 1600])
def test_it_is_accessible_and_nothing_sticks_out(browser, tmp_path, width, scheme):
    policy = tmp_path / "policy.json"
    clause = {"conditions": [{"path": "args.amount", "op": "gt", "value": 10}], "reason": "too much"}
    rule = {
        "require": [{"path": "args.to", "op": "in", "value": ["ann", "bob"]}],
        "deny_if": [clause],
        "limits": [{"max": 10, "window": 60}],
    }
    policy.write_text(json.dumps({"version": "1", "tools": {"pay": rule, "nothing_*": {}}}))
    settings = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme}
    with building(browser, policy=policy, at="?tool=shop%2Fpay", **settings) as page:
        page.get_by_role("button", name="Try it").click()
        expect(page.locator("#tried .effect")).to_be_visible()
        page.locator("#r0-require-adding").click()
        page.locator("#compare").click()
        expect(page.locator("#outcome")).to_be_visible()
        assert axe.violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        write(page, '{"version": 1}')
        expect(panel(page)).to_contain_text("The form waits")
        assert axe.violations(page) == []


def test_it_stays_quick_beside_the_whole_catalogue(browser):
    with building(browser, of_catalogue(ToolCatalogue.bundled())) as page:
        expect(page.locator("#tool-list li")).to_have_count(len(of_catalogue(ToolCatalogue.bundled()).tools))
        page.get_by_label("Search").fill("get_task_metrics clearml")
        tool(page, "get_task_metrics").click()
        with page.expect_response("**/builder/edit") as answer:
            choose(page, "Limit")
        assert len(answer.value.body()) < 40_000
        has(page, {"version": "1", "default": "deny",
                   "servers": {"clearml": {"tools": {"get_task_metrics": {"rate_limit": {"max": 10, "window": 60}}}}}})  # fmt: skip
        expect(tool(page, "get_task_metrics")).to_contain_text("limited")
