"""The catalogue's pages: as sections for people, as JSON values for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mcp_policy.catalogue.attacks import REFERENCES, Attack
from mcp_policy.catalogue.page import Parameter, ServerPage, ServerRow, ToolPage, ToolRow
from mcp_policy.catalogue.profile import CATEGORIES, LEVELS, Level

from ._render import Block, Cell, Code, Facts, Section, Table, Text, json_text

# -- for programs


def data(value: Any) -> Any:
    """Return a page, or a part of one, as a JSON value: named fields become members, in their order."""
    if isinstance(value, Attack):
        return _attack_data(value)
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: data(part) for name, part in value._asdict().items()}
    if isinstance(value, Mapping):
        return {name: data(part) for name, part in value.items()}
    return [data(part) for part in value] if isinstance(value, list | tuple) else value


def _attack_data(attack: Attack) -> dict[str, Any]:
    references = [{"id": one, "title": REFERENCES[one]} for one in attack.references]
    plain = {name: data(part) for name, part in attack._asdict().items()}
    return {**plain, "policy": json.loads(attack.policy), "references": references}


# -- for people


def servers_section(servers: Sequence[ServerRow]) -> Section:
    """Return the list of all servers, with the number of their tools by risk level."""
    if not servers:
        return Section("Tool risk catalogue", ["No server is known."])
    totals = {level: sum(server.levels[level] for server in servers) for level in LEVELS}
    tools = sum(totals.values())
    table = Table(
        ("server", "title", "tools", *reversed(LEVELS), "package"),
        [
            (Text(row.id, "name"), row.title, row.tools, *_counts(row.levels), Text(_package(row), "muted"))
            for row in servers
        ],
    )
    said = f"{_number(len(servers), 'server')}, {_number(tools, 'tool')}: {_shares(totals)}."
    return Section("Tool risk catalogue", [said, table])


def server_section(page: ServerPage) -> Section:
    """Return the page of a server."""
    server = page.server
    names = ", ".join(name for name in page.names if name != server.id)
    facts: list[tuple[str, Cell]] = [
        ("Server", Text(server.id, "name")),
        *([("Also known as", names)] if names else []),
        *([("Package", _package(server))] if server.package else []),
        ("Risk", f"{_number(server.tools, 'tool')}: {_shares(server.levels)}"),
        ("Categories", _shares(server.categories)),
    ]
    return Section(
        server.title,
        [*([server.about] if server.about else []), Facts(facts), Section("Tools", [_tools(page.tools, server="")])],
    )


def search_section(text: str, found: Sequence[ToolRow]) -> Section:
    """Return what a search has found."""
    return Section(f'{_number(len(found), "tool")} for "{text}"', [_tools(found, server="server")])


def tool_section(page: ToolPage) -> Section:
    """Return the page of a tool, with every section of it."""
    return Section(
        page.tool,
        [
            Facts(
                [
                    ("Server", f"{page.server_title} ({page.server})"),
                    ("Risk", Text(page.level, page.level)),
                    ("Category", page.category),
                    ("Confidence", f"{page.confidence:.0%}"),
                ]
            ),
            Section("What it does", [page.summary or Text("The catalogue has no sentence about it.", "muted")]),
            Section("Why it needs a policy", [page.why]),
            Section("Evidence", list(_evidence(page))),
            Section("Parameters", [_parameters(page.parameters)]),
            Section("Attack patterns", list(_attacks(page.attacks))),
            Section("Recommended policy", [_document(page.recommended)]),
            *(Section(f"How to {one.title} it", [one.says, _document(one.document)]) for one in page.how_to),
            Section("Related tools", [_related(page.related)]),
        ],
    )


def attacks_section(attacks: Iterable[Attack]) -> Section:
    """Return the table of attack patterns, one section for each."""
    said = "Ways to abuse what tools can do: what each one takes hold of, and the rule that stops it."
    return Section("Attack patterns", [said, *(_attack(attack) for attack in attacks)])


def _attack(attack: Attack) -> Section:
    facts: list[tuple[str, Cell]] = [
        ("Id", Text(attack.id, "name")),
        ("Abuses", ", ".join(attack.categories)),
        *([("Takes hold of", ", ".join(attack.signals))] if attack.signals else []),
        ("References", "; ".join(f"{one} {REFERENCES[one]}" for one in attack.references)),
    ]
    document = _document(json.loads(attack.policy))
    return Section(attack.title, [attack.what, Facts(facts), f"What stops it: {attack.stopped_by}", document])


def _attacks(attacks: Iterable[Attack]) -> Iterator[Block]:
    for attack in attacks:
        references = Text(", ".join(attack.references), "muted")
        yield Section(attack.title, [attack.what, f"What stops it: {attack.stopped_by}", references])


def _evidence(page: ToolPage) -> Iterator[Block]:
    if page.evidence:
        rows = [(sign.source, Text(sign.quote, "name"), sign.suggests) for sign in page.evidence]
        yield Table(("found in", "words", "suggests"), rows)
    else:
        yield Text("Nothing in its definition says what it does.", "muted")
    if page.hints:
        hints = ", ".join(f"{name} {json.dumps(value)}" for name, value in page.hints.items())
        yield f"Its author's hints: {hints}. A hint may raise the category, never lower it."
    if page.override:
        yield f"Reviewed: {page.override.reason}"


def _parameters(parameters: Sequence[Parameter]) -> Block:
    if not parameters:
        return Text("It takes none.", "muted")
    rows = [
        (Text(one.name, "name"), one.type, "yes" if one.required else "no", ", ".join(str(may) for may in one.choices))
        for one in parameters
    ]
    if any(one.choices for one in parameters):
        return Table(("parameter", "type", "required", "values"), rows)
    return Table(("parameter", "type", "required"), [row[:3] for row in rows])


def _related(tools: Sequence[ToolRow]) -> Block:
    return _tools(tools, server="") if tools else Text("None.", "muted")


def _tools(tools: Sequence[ToolRow], *, server: str) -> Table:
    """Return a table of tools, with their server where they are of several."""
    columns = (*([server] if server else []), "tool", "risk", "category", "what it does")
    return Table(columns, [_tool(row, with_server=bool(server)) for row in tools])


def _tool(row: ToolRow, *, with_server: bool) -> tuple[Cell, ...]:
    said = (Text(row.tool, "name"), Text(row.level, row.level), row.category, row.summary)
    return (row.server, *said) if with_server else said


def _document(document: Mapping[str, Any]) -> Code:
    return Code(json_text(document))


def _counts(levels: Mapping[Level, int]) -> Iterator[Cell]:
    for level in reversed(LEVELS):
        yield Text(str(levels[level]), level) if levels[level] else Text("-", "muted")


def _shares(counts: Mapping[Any, int]) -> str:
    order = [name for name in (*CATEGORIES, *LEVELS) if name in counts]
    return ", ".join(f"{counts[name]} {name}" for name in order if counts[name]) or "none"


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _package(server: ServerRow) -> str:
    return f"{server.package} {server.release}".strip()
