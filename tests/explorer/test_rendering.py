"""What the explorer's pages show: every text as text, and what the engine said of each tool."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from jinja2 import UndefinedError

from mcp_policy import Policy, PolicyEngine
from mcp_policy.catalogue import ToolCatalogue
from mcp_policy.catalogue.attacks import ATTACKS
from mcp_policy.explorer.rendering import Exact, attacks_view, page, shares, stack_view, tool_view
from mcp_policy.explorer.stack import Listed, Stack, of_catalogue, of_listings

ALWAYS = {"root": "", "live": False, "source": "mcp.json", "version": "0"}
HOSTILE = "<script>alert(1)</script>\"' onclick=alert(2) {{ 7 * 7 }} \u202eback \u200bnothing \x1b[31m \r"
POLICY = Policy.parse('{"version": "1", "default": "allow", "tools": {"read_file": {"rate_limit": "9/hour"}}}')


def tool(name: str, description: str = "", **more: Any) -> dict[str, Any]:
    return {"name": name, "description": description, "inputSchema": {"type": "object"}, **more}


def stack(*tools: dict[str, Any], source: str = "mcp.json") -> Stack:
    return of_listings(source, [Listed("files", "", tools, "")])


@pytest.fixture(scope="module")
def clearml() -> Stack:
    return of_catalogue(ToolCatalogue.bundled(), "clearml")


class Page(HTMLParser):
    """The elements and texts of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def shown(name: str, **values: Any) -> Page:
    return Page(page(name, **ALWAYS, **values))


HOSTILE_STACK = of_listings(
    HOSTILE,
    [
        Listed(
            HOSTILE,
            HOSTILE,
            (
                {
                    "name": f"delete {HOSTILE}",
                    "title": HOSTILE,
                    "description": f"Deletes. {HOSTILE}",
                    "inputSchema": {
                        "properties": {HOSTILE: {"type": HOSTILE, "description": HOSTILE, "enum": [HOSTILE]}},
                        "required": [HOSTILE],
                    },
                    "annotations": {HOSTILE: True, "readOnlyHint": True},
                },
                tool(f"remove {HOSTILE}"),
            ),
            "",
        ),
        Listed(f"down {HOSTILE}", "", (), HOSTILE),
    ],
)


def hostile_pages() -> dict[str, str]:
    engine = PolicyEngine(Policy.parse('{"version": "1", "tools": {"delete *": {"action": "approve"}}}'))
    return {
        "stack": page("stack.html", **ALWAYS | {"source": HOSTILE}, **stack_view(HOSTILE_STACK, engine, HOSTILE)),
        **{
            f"tool {number}": page("tool.html", **ALWAYS, **tool_view(HOSTILE_STACK, slug, engine, HOSTILE))
            for number, slug in enumerate(HOSTILE_STACK.tools)
        },
        "message": page("message.html", **ALWAYS, here="", heading=HOSTILE, says=HOSTILE),
    }


@pytest.mark.parametrize(("name", "html"), hostile_pages().items(), ids=hostile_pages())
class TestWhatServersSay:
    def test_never_becomes_an_element_or_an_attribute(self, name: str, html: str):
        found = Page(html)
        assert [attrs.get("src") for tag, attrs in found.elements if tag == "script"] == ["static/explore.js"]
        names = {key for _, attrs in found.elements for key in attrs}
        assert not [key for key in names if key.startswith("on") or key == "style"]
        assert "alert(1)" in found.text

    def test_is_no_template(self, name: str, html: str):
        assert "49" not in html
        assert "{{ 7 * 7 }}" in html

    def test_shows_every_character(self, name: str, html: str):
        assert not re.search("[\u202e\u200b\x1b\r]", html)
        assert "\\u202eback \\u200bnothing \\u001b[31m" in html

    def test_leads_nowhere_else(self, name: str, html: str):
        addresses = [attrs.get(key) or "" for _, attrs in Page(html).elements for key in ("href", "src")]
        assert not [address for address in addresses if re.match(r"[a-z]+:|//", address)]


class TestAnyPage:
    def test_wants_every_name_that_it_shows(self):
        with pytest.raises(UndefinedError):
            page("message.html", **ALWAYS, here="", heading="x")

    def test_takes_line_feeds_and_tabs_as_they_are(self):
        html = page("message.html", **ALWAYS, here="", heading="x", says="one\r\n\ttwo\nthree")
        assert "one\n\ttwo\nthree" in html

    def test_gives_back_what_is_edited_letter_by_letter(self):
        html = page("message.html", **ALWAYS, here="", heading="x", says=Exact("a\u200b<\tb"))
        assert "a\u200b&lt;\tb" in html

    def test_offers_the_builder_only_where_somebody_serves_it(self):
        message = {"here": "", "heading": "x", "says": "y"}
        assert "Builder" not in shown("message.html", **message).text
        assert "Builder" in Page(page("message.html", **ALWAYS | {"live": True}, **message)).text

    def test_carries_its_own_policy_for_browsers_where_no_server_sends_one(self):
        meta = [attrs for tag, attrs in shown("message.html", here="", heading="x", says="y").elements if tag == "meta"]
        sent = [str(attrs["content"]) for attrs in meta if attrs.get("http-equiv") == "Content-Security-Policy"]
        assert len(sent) == 1
        assert sent[0].startswith("default-src 'none'; ")
        assert "unsafe" not in sent[0]


class TestTheStack:
    def test_has_a_row_for_every_tool_the_most_dangerous_first(self):
        found = shown("stack.html", **stack_view(stack(tool("get_x"), tool("delete_x"), tool("write_x"))))
        assert [attrs["data-level"] for tag, attrs in found.elements if "data-level" in attrs] == [
            "critical",
            "medium",
            "low",
        ]

    def test_counts_what_filters_offer(self, clearml: Stack):
        facets = {facet.key: facet.values for facet in stack_view(clearml)["facets"]}
        assert list(facets) == ["level", "category"]
        assert sum(count for _, count in facets["level"]) == len(clearml.tools)
        assert sum(count for _, count in facets["category"]) == len(clearml.tools)

    def test_says_what_the_engine_does_with_each_tool(self):
        view = stack_view(stack(tool("read_file"), tool("delete_file")), PolicyEngine(POLICY))
        assert {facet.key: facet.values for facet in view["facets"]}["decision"] == (("unguarded", 1), ("limited", 1))
        found = shown("stack.html", **view)
        assert [attrs["data-decision"] for _, attrs in found.elements if "data-decision" in attrs] == [
            "unguarded",
            "limited",
        ]
        assert "1 tool unguarded:" in found.text

    def test_says_nothing_of_a_policy_where_there_is_none(self, clearml: Stack):
        found = shown("stack.html", **stack_view(clearml))
        assert "unguarded" not in found.text
        assert "Decision" not in found.text
        assert "--policy" not in found.text

    def test_says_how_to_have_a_policy_where_there_is_none(self, clearml: Stack):
        found = Page(page("stack.html", **ALWAYS | {"live": True}, **stack_view(clearml)))
        assert "No policy is loaded, so nothing here says which calls run." in found.text
        assert ("a", {"href": "builder.html"}) in found.elements

    def test_says_why_a_server_gave_no_list(self):
        listed = [Listed("files", "", (tool("get_x"),), ""), Listed("down", "", (), "it `npx` is not there")]
        found = shown("stack.html", **stack_view(of_listings("mcp.json", listed)))
        assert "down gave no list of tools" in found.text
        assert "it npx is not there" in found.text
        assert "1 tool on 1 server" in found.text

    def test_helps_where_there_is_nothing(self):
        found = shown("stack.html", **stack_view(of_listings("mcp.json", [Listed("down", "", (), "no answer")])))
        assert "There are no tools to show." in found.text
        assert not [tag for tag, _ in found.elements if tag in ("table", "form")]

    def test_says_why_the_policy_is_not_in_force(self, clearml: Stack):
        found = shown("stack.html", **stack_view(clearml, PolicyEngine(), "the policy does not load: 1:1: no"))
        assert "the policy does not load: 1:1: no" in found.text

    def test_shares_a_bar_out_to_the_end(self):
        found = shares(stack(tool("get_x"), tool("delete_x"), tool("get_y")).tools.values())
        assert [(share.level, share.tools) for share in found] == [("critical", 1), ("low", 2)]
        assert found[0].start == 0
        assert found[0].width == pytest.approx(found[1].start)
        assert found[1].start + found[1].width == pytest.approx(100, abs=0.01)

    def test_shares_nothing_out_to_nobody(self):
        assert shares(()) == ()


class TestATool:
    def test_has_every_section(self, clearml: Stack):
        found = shown("tool.html", **tool_view(clearml, "clearml/get_task_metrics"))
        headings = ["Why it needs a policy", "Recommended rule", "How it is abused, and what stops that"]
        headings += ["Other ways to rule it", "Its definition", "What shows its risk", "Parameters", "Tools like it"]
        places = [found.text.index(heading) for heading in headings]
        assert places == sorted(places)

    def test_shows_the_recommended_rule_as_a_document_that_loads(self, clearml: Stack):
        html = page("tool.html", **ALWAYS, **tool_view(clearml, "clearml/get_task_metrics"))
        documents = re.findall(r"<code>(\{.*?\})</code></pre>", html, re.DOTALL)
        assert len(documents) == 4
        for text in documents:
            assert Policy.parse(text.replace("&#34;", '"').replace("&#39;", "'").replace("&lt;", "<"))

    def test_marks_the_evidence_in_its_definition(self):
        shows = stack(tool("purge_cache", "Deletes all entries."))
        html = page("tool.html", **ALWAYS, **tool_view(shows, "files/purge_cache"))
        assert '<mark class="mark" title="suggests destructive">Deletes</mark> all entries.' in html

    def test_names_its_parameters_with_what_is_said_of_them(self):
        schema = {
            "type": "object",
            "properties": {"mode": {"type": "string", "enum": ["fast", 3], "description": "how"}, "n": {}},
            "required": ["mode"],
        }
        found = shown("tool.html", **tool_view(stack(tool("get_x", inputSchema=schema)), "files/get_x"))
        assert 'mode string yes "fast" 3 how n any no any' in found.text

    def test_says_what_the_policy_does_with_it(self):
        shows = stack(tool("read_file"))
        found = shown("tool.html", **tool_view(shows, "files/read_file", PolicyEngine(POLICY)))
        assert "What the policy does with it now limited Calls run, as often as the limit allows" in found.text
        assert "/tools/read_file" in found.text

    def test_says_nothing_of_a_policy_where_there_is_none(self):
        assert "policy does with it" not in shown("tool.html", **tool_view(stack(tool("x")), "files/x")).text

    def test_links_to_tools_like_it_and_to_its_attack_patterns(self, clearml: Stack):
        found = shown("tool.html", **tool_view(clearml, "clearml/get_task_metrics"))
        links = [str(attrs["href"]) for tag, attrs in found.elements if tag == "a"]
        assert [link for link in links if link.startswith("tools/clearml/")]
        assert {link.partition("#")[2] for link in links if link.startswith("attacks.html#")} <= {
            attack.id for attack in ATTACKS
        }

    def test_warns_of_what_is_odd_about_its_definition(self):
        shows = stack(tool("get_x", "Gets x.\u200b"))
        assert "1 warning about its definition" in shown("tool.html", **tool_view(shows, "files/get_x")).text

    def test_is_opened_in_the_builder_where_there_is_one(self, clearml: Stack):
        html = page("tool.html", **ALWAYS | {"live": True}, **tool_view(clearml, "clearml/get_task_metrics"))
        assert 'href="builder.html?tool=clearml/get_task_metrics"' in html

    def test_is_one_of_the_stack(self, clearml: Stack):
        with pytest.raises(KeyError):
            tool_view(clearml, "clearml/nothing")


class TestAttackPatterns:
    def test_have_an_anchor_each(self, clearml: Stack):
        found = shown("attacks.html", **attacks_view(clearml))
        assert {attack.id for attack in ATTACKS} <= {attrs.get("id") for _, attrs in found.elements}

    def test_count_the_tools_that_are_open_to_them(self, clearml: Stack):
        view = attacks_view(clearml)
        assert view["open_to"]["exfiltration-read"] == sum(
            any(attack.id == "exfiltration-read" for attack in tool.page.attacks) for tool in clearml.tools.values()
        )
