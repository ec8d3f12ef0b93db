"""What the builder answers: the text and the form in step, and nothing that the text does not say."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import HTMLResponse
from starlette.testclient import TestClient

from mcp_policy import layout
from mcp_policy.catalogue import ToolCatalogue
from mcp_policy.explorer import building, rendering
from mcp_policy.explorer.current import Current
from mcp_policy.explorer.editing import EMPTY
from mcp_policy.explorer.saving import PolicyOnDisk
from mcp_policy.explorer.stack import Listed, Stack, of_catalogue, of_listings

PAY = {
    "name": "pay",
    "description": "Sends money.",
    "inputSchema": {
        "type": "object",
        "properties": {"amount": {"type": "number"}, "to": {"type": "string"}, "odd": {}},
        "required": ["amount"],
    },
}
STAR = {"name": "all*", "description": "Lists.", "inputSchema": {"type": "object", "properties": {}}}
SHOP = of_listings("mcp.json", [Listed("shop", "", (PAY, STAR), "")])
TWO = of_listings("mcp.json", [Listed("shop", "", (PAY,), ""), Listed("bank", "", (PAY,), "")])


def client(stack: Stack = SHOP, policy: Path | None = None) -> TestClient:
    """Return a client of the builder alone: who is let in is another's business."""

    def render(name: str, *, root: str = "", status: int = 200, **values: Any) -> HTMLResponse:
        always = {"live": True, "source": stack.source, "version": "0", "csrf": "secret"}
        return HTMLResponse(rendering.page(name, root=root, **always, **values), status)

    current = Current(None if policy is None else PolicyOnDisk(policy))
    return TestClient(Starlette(routes=building.routes(stack, current, render)))


class Seen(HTMLParser):
    """The attributes of each element that has an id, by it; the edits that can be asked for; and all words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: dict[str, dict[str, str]] = {}
        self.edits: list[dict[str, str]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        found = {name: value or "" for name, value in attrs}
        if "id" in found:
            assert found["id"] not in self.ids
            self.ids[found["id"]] = found
        if "data-edit" in found:
            self.edits.append(json.loads(found["data-edit"]))

    def handle_data(self, data: str) -> None:
        self.words += data


def asked(http: TestClient, what: str, /, **form: str) -> Seen:
    answer = http.post(f"/builder/{what}", data=form)
    assert answer.status_code == 200
    return Seen(answer.text)


def edit(text: str, stack: Stack = SHOP, /, *, tool: str = "shop/pay", **form: str) -> str:
    """Return the text that an edit leaves."""
    return asked(client(stack), "edit", text=text, tool=tool, **form).ids["news"]["data-text"]


def refusal(text: str, /, **form: str) -> str:
    """Return why an edit is refused; it then swaps nothing but that."""
    answer = client().post("/builder/edit", data={"text": text, "tool": "shop/pay", **form})
    assert answer.headers["hx-reswap"] == "none"
    news = Seen(answer.text).ids
    assert list(news) == ["news"]
    assert "data-text" not in news["news"]
    return news["news"]["data-refused"]


def policy(**rest: Any) -> str:
    return layout.layout(json.dumps({"version": "1", **rest}))


def rule(of: dict[str, Any]) -> str:
    return policy(tools={"pay": of})


# -- edits


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("allow", {}),
        ("deny", {"action": "deny"}),
        ("hide", {"action": "hide"}),
        ("limit", {"rate_limit": {"max": 10, "window": 60}}),
        ("approve", {"action": "approve"}),
    ],
)
def test_choosing_what_happens_makes_the_entry(kind, expected):
    assert edit(policy(), do="kind", at="/tools/pay", to=kind) == rule(expected)
    assert edit(rule({"action": "deny"}), do="kind", at="/tools/pay", to="none") == policy()


@pytest.mark.parametrize(
    ("kind", "at", "typed", "expected"),
    [
        ("text", "reason", "no, never", {"reason": "no, never"}),
        ("number", "approval/ttl", " 6e1 ", {"approval": {"ttl": "NUMBER"}}),
        ("names", "except", "a\n\n b*\r\n", {"except": ["a", "b*"]}),
        ("text", "mode", "shadow", {"mode": "shadow"}),
    ],
    ids=["a text", "a number as it was typed", "names", "a box"],
)
def test_what_is_typed_goes_into_the_document(kind, at, typed, expected):
    start = {"action": "approve"}
    after = edit(rule(start), do="fill", at=f"/tools/pay/{at}", value=typed, **{"as": kind})
    assert after == rule({**start, **expected}).replace('"NUMBER"', "6e1")
    assert edit(after, do="fill", at=f"/tools/pay/{at}", value=" ", **{"as": kind}) == rule(start)


@pytest.mark.parametrize(
    ("kind", "key", "typed", "expected"),
    [
        ("number", "max", "12.50", "12.50"),
        ("window", "window", "90", "90"),
        ("window", "window", "90s", '"90s"'),
        ("dimensions", "per", "principal\ntool", '["principal", "tool"]'),
        ("dimensions", "per", "agent", '"agent"'),
        ("cost", "cost", "args.amount", '"args.amount"'),
        ("cost", "cost", "0.50", "0.50"),
        ("cost", "cost", "length args.to", '{"length": "args.to"}'),
        ("json", "refund_on_error", "true", "true"),
        ("text", "counter", "money", '"money"'),
    ],
    ids=["max", "seconds", "window", "dimensions", "one dimension", "path", "number", "length", "refund", "counter"],
)
@pytest.mark.parametrize("short", [False, True], ids=["keys", "one text"])
def test_each_part_of_a_limit_has_a_field(kind, key, typed, expected, short):
    limit = "10/minute" if short else {"max": 10, "window": "minute"}
    after = edit(rule({"rate_limit": limit}), do="fill", at=f"/tools/pay/rate_limit/{key}", value=typed, **{"as": kind})
    parts = {"max": "10", "window": '"minute"', key: expected}
    members = ", ".join(f'"{name}": {value}' for name, value in parts.items())
    assert after == layout.layout(f'{{"version": "1", "tools": {{"pay": {{"rate_limit": {{{members}}}}}}}}}')


def test_a_session_of_its_own_is_the_default_and_not_written():
    limit = {"max": 10, "window": 60}
    start = rule({"rate_limit": {**limit, "per": "tool"}})
    after = edit(start, do="fill", at="/tools/pay/rate_limit/per", value="session", **{"as": "dimensions"})
    assert after == rule({"rate_limit": limit})


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ({"path": "args.amount", "op": "lte", "value": "1e2"}, '{"path": "args.amount", "op": "lte", "value": 1e2}'),
        ({"path": "args.to", "op": "eq", "value": "5"}, '{"path": "args.to", "op": "eq", "value": "5"}'),
        ({"path": "args.to", "op": "in", "value": "a, b", "reason": 'only "a", "b"'},
         '{"path": "args.to", "op": "in", "value": ["a", "b"], "reason": "only \\"a\\", \\"b\\""}'),
        ({"path": "args.to", "op": "eq", "by": "path", "value": "principal.id"},
         '{"path": "args.to", "op": "eq", "value_from": "principal.id"}'),
    ],
    ids=["number", "text", "list and reason", "path"],
)  # fmt: skip
def test_a_condition_is_added_changed_and_removed(typed, expected):
    form = {"do": "fill", "as": "condition"}
    after = edit(policy(), **form, how="add", at="/tools/pay/require", **typed)
    with_one = f'{{"version": "1", "tools": {{"pay": {{"require": [{expected}]}}}}}}'
    assert after == layout.layout(with_one)
    seen = asked(client(), "read", text=after, tool="shop/pay")
    fields = {name: seen.ids[f"r0-require-0-{name}"].get("value", "") for name in ("path", "value", "reason")}
    again = edit(after, **form, how="set", at="/tools/pay/require/0", op=typed["op"], by=typed.get("by", ""), **fields)
    assert again == after  # what a form is filled with is read back as it was
    assert edit(after, do="remove", at="/tools/pay/require/0") == rule({})


@pytest.mark.parametrize("path", ["args.odd", "args.to"])
@pytest.mark.parametrize("value", ["5", "true", '"a"', "[1]", "", "a b", "{"])
def test_a_text_stays_a_text_also_where_nothing_says_of_which_type_it_is(path, value):
    start = rule({"deny_if": [{"path": path, "op": "eq", "value": value, "on_deny": "no"}]})
    seen = asked(client(), "read", text=start, tool="shop/pay")
    form = {"do": "fill", "as": "condition", "how": "set", "at": "/tools/pay/deny_if/0", "path": path, "op": "eq"}
    assert edit(start, reason="no", value=seen.ids["r0-deny_if-0-value"]["value"], **form) == start


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ({"do": "fill", "as": "number", "at": "/tools/pay/approval/ttl", "value": "soon"}, "such as `10`"),
        ({"do": "fill", "as": "number", "at": "/tools/pay/approval/ttl", "value": "-1"}, "expected more than 0"),
        ({"do": "fill", "as": "nothing", "at": "/tools/pay/reason", "value": "x"}, "no field"),
        ({"do": "fill", "as": "condition", "at": "/tools/pay/require", "path": "", "op": "eq"}, "about something"),
        ({"do": "fill", "as": "condition", "at": "/tools/pay/require", "path": "args.to", "op": "regex", "value": "("}, "`(`"),
        ({"do": "fill", "as": "condition", "at": "/tools/pay/require", "path": "args.to", "op": "glob", "by": "path", "value": "args.x"}, "glob"),
        ({"do": "kind", "at": "/tools/pay", "to": "perhaps"}, "perhaps"),
        ({"do": "set", "at": "/tools/pay/no_such_key", "value": "1"}, "no_such_key"),
        ({"do": "rename", "at": "/tools/nothing", "to": "x"}, "nothing at this place"),
        ({"do": "fill"}, "no field"),
        ({}, "no edit"),
    ],
    ids=["no number", "out of range", "no kind", "no path", "no regex", "no reference", "no choice", "no key", "gone", "half", "empty"],
)  # fmt: skip
def test_what_cannot_be_is_refused_and_nothing_changes(form, says):
    assert says in refusal(rule({"action": "approve"}), **form)


# -- the panel


def test_the_form_of_a_text_says_all_that_it_says():
    condition = {"path": "args.to", "op": "glob", "value": "*@example.com", "reason": "only us"}
    clause = {"conditions": [condition, {"path": "args.amount", "op": "gt", "value": 5}], "on_deny": "too much"}
    whole = {
        "action": "approve", "on_deny": "no", "except": ["pay_*"], "approval": {"ttl": 77}, "mode": "shadow",
        "when": [{"path": "principal.roles", "op": "contains", "value": "clerk"}], "require": [clause],
        "limits": [{"max": 3, "window": "hour", "scope": ["grant", "tool"], "counter": "c", "cost": {"length": "args.to"},
                    "on_deny": "slow", "refund_on_error": True, "on_unavailable": "allow"}],
    }  # fmt: skip
    seen = asked(client(), "read", text=rule(whole), tool="shop/pay")
    values = {one["id"]: one.get("value") for one in seen.ids.values()}
    assert values["r0-reason"] == "no"
    assert values["r0-ttl"] == "77"
    assert "checked" in seen.ids["r0-shadow"]
    assert "pay_*" in seen.words
    assert (values["r0-require-0-0-value"], values["r0-require-0-0-reason"]) == ("*@example.com", "only us")
    assert values["r0-require-0-reason"] == "too much"
    limit = {key: values[f"r0-l0-{key}"] for key in ("max", "window", "counter", "cost", "reason")}
    assert limit == {"max": "3", "window": "hour", "counter": "c", "cost": "length args.to", "reason": "slow"}
    assert [name for name in ("session", "principal", "tool") if "checked" in seen.ids[f"r0-l0-per-{name}"]] == [
        "principal",
        "tool",
    ]
    assert all("checked" in seen.ids[f"r0-l0-{name}"] for name in ("refund", "anyway"))
    assert "checked" in seen.ids["kind-custom"]


def test_every_field_of_a_form_can_be_asked_for_as_it_stands_and_changes_nothing():
    whole = {
        "action": "approve",
        "reason": "no",
        "require": [{"path": "args.to", "op": "eq", "value": "x"}],
        "rate_limit": "5/minute",
    }
    start = policy(default="deny", tools={"pay": [whole, {"limits": [{"max": 3, "window": 60, "per": "tool"}]}]})
    http = client()
    page = http.post("/builder/read", data={"text": start, "tool": "shop/pay"}).text
    fields = [
        one
        for one in Seen(page).ids.values()
        if "value" in one and json.loads(one.get("data-edit", "{}")).get("do") == "fill"
    ]
    assert len(fields) > 10
    for one in fields:
        if one.get("type") == "checkbox" and "checked" not in one:
            continue
        form = {"text": start, "tool": "shop/pay", "value": one["value"], **json.loads(one["data-edit"])}
        assert Seen(http.post("/builder/edit", data=form).text).ids["news"]["data-text"] == start, one


def test_where_the_form_cannot_be_the_text_waits_with_all_that_is_wrong():
    seen = asked(client(), "read", text='{"version": "2",\n"a": 1,\n"default": true}', tool="shop/pay")
    assert "The form waits" in seen.words
    assert "3 findings" in seen.words
    assert seen.ids["news"]["data-loads"] == "false"
    assert seen.ids["news"]["data-states"] == ""
    assert not seen.edits


def test_custom_opens_a_form_and_changes_nothing():
    seen = asked(client(), "read", text=policy(), tool="shop/pay", custom="on")
    assert "checked" in seen.ids["kind-custom"]
    assert {"do": "fill", "at": "/tools/pay/require", "as": "condition", "how": "add"} in seen.edits
    assert "data-text" not in seen.ids["news"]


def test_a_tool_whose_name_is_a_pattern_has_no_entry_of_its_own():
    seen = asked(client(), "read", text=policy(), tool="shop/all")
    assert "No entry can be for this tool alone" in seen.words
    assert not [one for one in seen.edits if one["do"] == "kind"]


@pytest.mark.parametrize(
    ("stack", "document", "at"),
    [
        (SHOP, {}, "/tools/pay"),
        (SHOP, {"servers": {"shop": {"tools": {"pay": {}}}}}, "/servers/shop/tools/pay"),
        (TWO, {}, "/servers/shop/tools/pay"),
        (TWO, {"tools": {"pay": {}}}, "/tools/pay"),
    ],
    ids=["one server", "one server with a section", "several", "several, and an entry for all"],
)
def test_the_entry_of_a_tool_is_where_it_holds_for_just_that_tool(stack, document, at):
    seen = asked(client(stack), "read", text=policy(**document), tool="shop/pay")
    assert {one["at"] for one in seen.edits if one["do"] == "kind"} == {at}


def test_what_else_applies_is_linked():
    seen = Seen(client().post("/builder/read", data={
        "text": policy(all_tools={"rate_limit": "5/hour"}, tools={"p*": {"action": "deny"}}), "tool": "shop/pay"}).text)  # fmt: skip
    assert "/all_tools" in seen.words
    assert "/tools/p*" in seen.words


def test_entries_for_many_are_listed_with_how_many_tools_they_match():
    start = policy(
        tools={"p*": {}, "pay": {}, "gone": {}}, servers={"shop": {"default": "deny", "tools": {"a/b~*": {}}}}
    )
    page = client().post("/builder/read", data={"text": start, "selected": "/servers/shop/tools/a~1b~0*"}).text
    for at in (
        "",
        "/all_tools",
        "/categories/financial",
        "/tools/p*",
        "/tools/gone",
        "/servers/shop",
        "/servers/shop/tools/a~1b~0*",
    ):
        assert f'data-at="&#34;{at}&#34;"' in page
    assert 'data-at="&#34;/tools/pay&#34;"' not in page  # the tool's own row leads there
    assert "Matches 0 tools" in Seen(page).words


@pytest.mark.parametrize(
    "selected", ["nothing", "/", "/servers", "/servers/", "/tools", "/tools/", "/tools/x/deny_if/0", "/hide/0", "/categories/none", "/~9", "/tools/\u202e"]
)  # fmt: skip
def test_any_place_can_be_asked_for(selected):
    seen = asked(client(), "read", text=policy(tools={"x": {"deny_if": []}}), selected=selected)
    assert seen.ids["panel-title"]
    assert client().get("/builder.html", params={"at": selected}).status_code == 200


def test_the_states_are_those_of_all_tools_in_their_order():
    seen = asked(client(), "read", text=rule({"action": "approve"}), tool="shop/pay")
    states = [rendering.STATES[int(one)] for one in seen.ids["news"]["data-states"]]
    assert dict(zip(SHOP.tools, states, strict=True)) == {"shop/pay": "asks", "shop/all": "denied"}


def test_an_answer_beside_the_whole_catalogue_stays_small():
    stack = of_catalogue(ToolCatalogue.bundled())
    answer = client(stack).post("/builder/edit", data={"text": EMPTY, "tool": next(iter(stack.tools)), "do": "kind",
                                                       "at": "/tools/x", "to": "deny"})  # fmt: skip
    assert len(stack.tools) > 1000
    assert len(answer.content) < 40_000


# -- trying, comparing, saving


def test_a_call_is_decided_by_the_engine_on_this_text():
    form = {
        "text": rule({"rate_limit": {"max": 2, "window": 60}}),
        "tool": "shop/pay",
        "arguments": '{"amount": 1}',
        "session": "s",
    }
    assert "Allowed" in asked(client(), "try", **form).words
    seen = asked(client(), "try", **form, times="3", seconds="10")
    assert "Over the limit" in seen.words
    assert "again in 40 s" in seen.words
    assert "allow 2" in seen.words
    assert "limit 1" in seen.words


@pytest.mark.parametrize(
    ("form", "says"),
    [({"tool": ""}, "Choose a tool"), ({"text": "{"}, "no policy yet"), ({"arguments": "["}, "arguments"), ({"times": "0"}, "times")],
    ids=["no tool", "no policy", "no arguments", "no times"],
)  # fmt: skip
def test_what_is_no_call_is_told(form, says):
    assert says in asked(client(), "try", **{"text": policy(), "tool": "shop/pay", **form}).words


def test_the_file_is_compared_saved_and_never_written_over_unseen(tmp_path):
    path = tmp_path / "policy.json"
    path.write_text(policy())
    http = client(policy=path)
    digest = Seen(http.get("/builder.html").text).ids["digest"]["value"]
    new = rule({"action": "approve"})
    assert "lets more run" in asked(http, "compare", text=new).words
    assert "Saved" in asked(http, "save", text=new, digest=digest).words
    assert path.read_text() == new
    seen = asked(http, "save", text=policy(), digest=digest)
    assert "has changed on disk" in seen.words
    assert path.read_text() == new
    shown = Seen(http.get("/builder/saved").text)
    assert shown.ids["saved-text"]["data-digest"] == seen.ids["saved-text"]["data-digest"] != digest
    assert "Saved" in asked(http, "save", text=policy(), digest=seen.ids["saved-text"]["data-digest"]).words
    assert path.read_text() == policy()
    assert "does not load is not saved" in asked(http, "save", text="{", digest=digest).words


def test_a_file_that_is_not_there_yet_is_made_by_saving(tmp_path):
    path = tmp_path / "policy.json"
    http = client(policy=path)
    page = Seen(http.get("/builder.html").text)
    assert "no file yet" in asked(http, "compare", text=EMPTY).words
    assert "Saved" in asked(http, "save", text=EMPTY, digest=page.ids["digest"]["value"]).words
    assert path.read_text() == EMPTY


def test_a_file_that_cannot_be_read_is_told(tmp_path):
    path = tmp_path / "policy.json"
    path.write_bytes(b"\xff")
    http = client(policy=path)
    assert "cannot be read" in Seen(http.get("/builder.html").text).words
    assert "cannot be read" in asked(http, "compare", text=EMPTY).words
    assert "cannot be read" in Seen(http.get("/builder/saved").text).words


def test_without_a_file_nothing_is_saved():
    http = client()
    assert "--policy" in asked(http, "save", text=EMPTY, path="/tmp/x", file="/tmp/x").words
    assert "--policy" in Seen(http.get("/builder/saved").text).words
    assert "disabled" in Seen(http.get("/builder.html").text).ids["save"]


# -- what is sent


def test_what_does_not_show_is_made_to_show_and_comes_back_as_it_was():
    hidden = "not\u200b now\u202e"
    start = rule({"deny_if": [{"path": "args.odd", "op": "eq", "value": hidden}], "reason": hidden})
    http = client()
    page = http.post("/builder/read", data={"text": start, "tool": "shop/pay"})
    assert not {"\u200b", "\u202e"} & set(page.text)
    field = Seen(page.text).ids["r0-reason"]
    form = {"text": start, "tool": "shop/pay", "value": field["value"], **json.loads(field["data-edit"])}
    assert Seen(http.post("/builder/edit", data=form).text).ids["news"]["data-text"] == start


def test_what_is_too_large_or_no_form_is_refused():
    http = client()
    assert http.post("/builder/read", content=b"text=" + b"x" * (12 << 20)).status_code == 413
    assert http.post("/builder/read", content="text=é".encode()).status_code == 400
    assert http.post("/builder/read", content="&".join(f"a{one}=" for one in range(100))).status_code == 400


def test_a_text_comes_back_letter_by_letter():
    odd = layout.layout(
        '{"version": "1", "name": "\\u202e <script>&amp; \\n", "tools": {"pay": {"reason": "\u00e9 \U0001f600"}}}'
    )
    assert edit(odd, do="fill", at="/name", value="", **{"as": "text"}) == layout.layout(
        '{"version": "1", "tools": {"pay": {"reason": "\u00e9 \U0001f600"}}}'
    )
    raw = '{"version": "1", "name": "a\u200bb"}'
    assert edit(raw, do="unset", at="/nothing") == raw
