"""What the explorer's pages show, and how they become HTML.

Rules kept here:

- Every text is somebody else's. It is escaped, and every character of it shows: one that is invisible, or turns the
  writing round, stands as its code point. Both happen to whatever a template prints, so no template can forget it.
- A template gets what it shows from the view of its page, and a name it was not given is an error, not a gap.
- What is said of a policy is what the engine answered (`posture`); nothing here decides anything.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined

from mcp_policy.adapters._page.shown import visible
from mcp_policy.catalogue.attacks import ATTACKS, REFERENCES, attacks_on
from mcp_policy.catalogue.definition import parameters
from mcp_policy.catalogue.page import Parameter, ToolRow
from mcp_policy.catalogue.profile import CATEGORIES, LEVELS, Level
from mcp_policy.engine import PolicyEngine
from mcp_policy.layout import layout

from .highlighting import Pieces, marked
from .posture import posture, postures
from .stack import Server, Stack, Tool

STATES: Final = ("unguarded", "allowed", "conditional", "limited", "asks", "denied", "hidden")
"""What a policy does with a tool, from what lets the most through to what lets nothing through."""


class Exact(str):
    """A text that goes into a page letter by letter, because it comes back from there: what a form is filled with."""

    __slots__ = ()


def page(name: str, **values: Any) -> str:
    """Return a page. Beside what its view gives, every page takes `root`, `live`, `source` and `version`."""
    return _PAGES.get_template(name).render(values)


def _shown(value: Any) -> Any:
    """Return what a template prints of a value; line feeds and tabs are layout and stay."""
    if not isinstance(value, str) or isinstance(value, Exact) or hasattr(value, "__html__"):
        return value
    if value.isascii() and value.isprintable():
        return value
    lines = value.replace("\r\n", "\n").split("\n")
    return "\n".join("\t".join(map(visible, line.split("\t"))) for line in lines)


def _number(count: int) -> str:
    return f"{count:,}"


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _document(document: Any) -> str:
    """Return a document, or its text, as `mcp-policy fmt` lays it out."""
    return layout(document if isinstance(document, str) else json.dumps(document)).rstrip()


_PAGES: Final = Environment(
    loader=PackageLoader("mcp_policy.explorer"),
    autoescape=True,
    undefined=StrictUndefined,
    finalize=_shown,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
# a name may hold what is no character, which has no place in an address
_PAGES.filters.update(urlencode=lambda text: quote(str(text), safe="/", errors="replace"))
_PAGES.filters.update(number=_number, document=_document, exact=Exact, json=json.dumps)
_PAGES.globals.update(many=_many, references=REFERENCES, csrf="")


# -- the stack


class Facet(NamedTuple):
    """One way to narrow the tools down: its key in the address, what it is called, each value with its count."""

    key: str
    title: str
    values: tuple[tuple[str, int], ...]


class Share(NamedTuple):
    """A stretch of a bar that is 100 wide: how many tools have this level, where it begins, how long it is."""

    level: Level
    tools: int
    start: float
    width: float


class ServerLine(NamedTuple):
    """A server in the list of servers."""

    server: Server
    shares: tuple[Share, ...]


def stack_view(stack: Stack, engine: PolicyEngine | None = None, problem: str = "") -> dict[str, Any]:
    """Return what the page of all tools shows. `problem` says why the engine has not the policy it should have."""
    found = {} if engine is None else postures(engine, stack)
    tools = tuple(stack.tools.values())
    states = Counter(one.state for one in found.values())
    return {
        "problem": problem,
        "lines": [ServerLine(server, shares(server.tools)) for server in stack.servers if not server.failure],
        "failed": [server for server in stack.servers if server.failure],
        "shares": shares(tools),
        "tools": tools,
        "postures": found,
        "unguarded": states["unguarded"],
        "facets": list(_facets(stack, states)),
    }


def _facets(stack: Stack, states: Mapping[Any, int]) -> Iterator[Facet]:
    rows = [tool.row for tool in stack.tools.values()]
    yield _facet("level", "Risk", LEVELS[::-1], Counter(row.level for row in rows))
    if states:
        yield _facet("decision", "Decision", STATES, states)
    yield _facet("category", "Category", CATEGORIES[::-1], Counter(row.category for row in rows))
    servers = {server.name: len(server.tools) for server in stack.servers if server.tools}
    if len(servers) > 1:
        yield _facet("server", "Server", servers, servers)


def _facet(key: str, title: str, values: Iterable[str], counts: Mapping[Any, int]) -> Facet:
    return Facet(key, title, tuple((value, counts[value]) for value in values if counts[value]))


def shares(tools: Iterable[Tool]) -> tuple[Share, ...]:
    """Return how these tools are spread over the levels, the worst first; a level without tools has no share."""
    counts = Counter(tool.row.level for tool in tools)
    found, start = [], 0.0
    for level in reversed(LEVELS):
        width = 100 * counts[level] / max(1, counts.total())
        if width:
            found.append(Share(level, counts[level], round(start, 2), round(width, 2)))
        start += width
    return tuple(found)


# -- a tool


class Described(NamedTuple):
    """A parameter: its name with the evidence marked, what is known of it, and what its server says of it."""

    name: Pieces
    parameter: Parameter
    description: str


class Related(NamedTuple):
    """A tool like this one, and the slug of its page."""

    row: ToolRow
    slug: str


def tool_view(stack: Stack, slug: str, engine: PolicyEngine | None = None, problem: str = "") -> dict[str, Any]:
    """Return what the page of one tool shows. Raises `KeyError` where the stack has no tool with this slug."""
    tool = stack.tools[slug]
    server = next(server for server in stack.servers if tool in server.tools)
    slugs = {other.definition.name: other.slug for other in server.tools}
    definition = marked(tool)
    return {
        "problem": problem,
        "server": server,
        "tool": tool,
        "page": tool.page,
        "marked": definition,
        "parameters": list(_described(tool, definition.parameters)),
        "posture": None if engine is None else posture(engine, tool),
        "related": [Related(row, slugs[row.tool]) for row in tool.page.related],
    }


def _described(tool: Tool, names: Mapping[str, Pieces]) -> Iterator[Described]:
    schemas = dict(parameters(tool.definition))
    for one in tool.page.parameters:
        said = schemas.get(one.name, {}).get("description")
        yield Described(names[one.name], one, said if isinstance(said, str) else "")


# -- the attack patterns


def attacks_view(stack: Stack) -> dict[str, Any]:
    """Return what the page of attack patterns shows: each one, and how many tools of the stack are open to it."""
    tools = stack.tools.values()
    open_to = Counter(attack.id for tool in tools for attack in attacks_on(tool.entry.profile, tool.definition))
    return {"attacks": ATTACKS, "open_to": open_to}
