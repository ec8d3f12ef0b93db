"""What the catalogue recommends has nothing that a check would find, beside the tools and without them."""

from __future__ import annotations

import pytest

from mcp_policy import Policy
from mcp_policy.catalogue.definition import Tool, read_definition
from mcp_policy.catalogue.lookup import ToolCatalogue
from mcp_policy.catalogue.merging import merge
from mcp_policy.catalogue.recommendation import recommend, recommend_judged
from mcp_policy.checks import check
from mcp_policy.cli.check import _known

CATALOGUE = ToolCatalogue.bundled()
SERVERS = [server.id for server in CATALOGUE.servers()]
LISTED = [
    {"name": "list_notes", "description": "Lists all notes.", "inputSchema": {"type": "object"}},
    {
        "name": "run_script",
        "description": "Runs a script.",
        "inputSchema": {
            "type": "object",
            "properties": {"code": {"type": "string"}, "args": {"type": "array", "items": {"type": "string"}}},
            "required": ["code"],
        },
    },
    {"name": "delete_note", "description": "Deletes a note for good.", "inputSchema": {"type": "object"}},
    {"name": "send_mail", "description": "Sends a mail.", "inputSchema": {"type": "object"}},
]


def recommended(name: str, *, server: str | None = None) -> tuple[Policy, list[Tool]]:
    """Return what the catalogue recommends for a server that it knows, and the definitions that it has of its tools."""
    entry = CATALOGUE.server(name)
    assert entry is not None
    _, tools = _known(name)
    judged = [(entry.tools[tool["name"]].profile, read_definition(tool)) for tool in tools]
    return recommend_judged(judged, server=server), list(tools)


@pytest.mark.parametrize("name", SERVERS)
def test_a_recommended_policy_is_without_findings(name):
    for section in (None, name):
        policy, tools = recommended(name, server=section)
        assert tools
        assert check(policy, tools, server=name) == ()
        assert check(policy, tools) == ()
        assert check(policy) == ()


def test_so_are_several_of_them_together():
    known = {name: recommended(name, server=name) for name in SERVERS[::8]}
    policy = merge([policy for policy, _ in known.values()], listing="any")
    assert check(policy) == ()
    for name, (_, tools) in known.items():
        assert check(policy, tools, server=name) == ()


def test_so_is_what_is_recommended_for_a_list_of_tools():
    assert check(recommend(LISTED), LISTED) == ()
    assert check(recommend(LISTED)) == ()
