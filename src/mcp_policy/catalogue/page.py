"""What a person wants to know of a tool, a server or all servers, as data; commands only print it.

Rules kept here:

- A page is made from the catalogue and from nothing else: the same entry gives the same page.
- Every document on a page loads as it stands and covers exactly the tool that it names.
- A sentence of a page says something of this tool: what it can do, and what of it can be aimed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from .attacks import Attack, attacks_on
from .definition import Definition, parameters
from .profile import CATEGORIES, LEVELS, UNSURE, Category, Evidence, Level, RiskProfile
from .signals import Kind, Signal, name_words, signals

if TYPE_CHECKING:
    from .lookup import Override, ServerEntry, ToolCatalogue, ToolEntry

RELATED: Final = 6
"""Most related tools that a page names."""


class Parameter(NamedTuple):
    """One parameter: its JSON type as far as it is known, whether it has to be given, the values it is limited to."""

    name: str
    type: str
    required: bool
    choices: tuple[Any, ...]


class HowTo(NamedTuple):
    """One way to rule a tool: what it is called, what then happens, and the whole document."""

    title: str
    says: str
    document: dict[str, Any]


class ToolRow(NamedTuple):
    """A tool in a list of tools."""

    server: str
    tool: str
    category: Category
    level: Level
    confidence: float
    summary: str


class ToolPage(NamedTuple):
    """Everything that the catalogue knows of one tool."""

    tool: str
    server: str
    server_title: str
    level: Level
    category: Category
    confidence: float
    summary: str
    why: str
    evidence: tuple[Evidence, ...]
    parameters: tuple[Parameter, ...]
    hints: dict[str, Any]
    override: Override | None
    attacks: tuple[Attack, ...]
    recommended: dict[str, Any]
    how_to: tuple[HowTo, ...]
    related: tuple[ToolRow, ...]


class ServerRow(NamedTuple):
    """A server in the list of servers. `levels` and `categories` count its tools, in the order of those tables."""

    id: str
    title: str
    package: str
    release: str
    about: str
    tools: int
    levels: dict[Level, int]
    categories: dict[Category, int]


class ServerPage(NamedTuple):
    """Everything that the catalogue knows of one server, the most dangerous tools first."""

    server: ServerRow
    names: tuple[str, ...]
    tools: tuple[ToolRow, ...]


def tool_page(server: ServerEntry, entry: ToolEntry, definition: Definition | None = None) -> ToolPage:
    """Return the page of a tool; `definition` is what its server says of it, where more is known than the entry has."""
    from .recommendation import rule_of

    profile, definition = entry.profile, definition or definition_of(entry)
    return ToolPage(
        tool=profile.tool,
        server=server.id,
        server_title=server.title or server.id,
        level=profile.level,
        category=profile.category,
        confidence=profile.confidence,
        summary=entry.summary,
        why=why(server, profile, definition),
        evidence=profile.evidence,
        parameters=tuple(_parameters(definition)),
        hints=definition.annotations,
        override=entry.override,
        attacks=attacks_on(profile, definition),
        recommended=_only(profile.tool, rule_of(profile, definition)),
        how_to=tuple(_how_to(profile.tool)),
        related=related(server, entry),
    )


def server_page(server: ServerEntry) -> ServerPage:
    """Return the page of a server."""
    tools = sorted(rows(server), key=lambda row: (-LEVELS.index(row.level), -CATEGORIES.index(row.category), row.tool))
    return ServerPage(server_row(server), tuple(server.names), tuple(tools))


def server_row(server: ServerEntry) -> ServerRow:
    """Return a server's line in the list of servers."""
    profiles = [entry.profile for entry in server.tools.values()]
    return ServerRow(
        id=server.id,
        title=server.title or server.id,
        package=server.package,
        release=server.release,
        about=server.about,
        tools=len(profiles),
        levels={level: sum(profile.level == level for profile in profiles) for level in LEVELS},
        categories={one: sum(profile.category == one for profile in profiles) for one in CATEGORIES},
    )


def rows(server: ServerEntry) -> Iterator[ToolRow]:
    """Return a line for each tool of a server, in the order of the catalogue."""
    return (row_of(entry) for entry in server.tools.values())


def search(catalogue: ToolCatalogue, words: Sequence[str]) -> tuple[ToolRow, ...]:
    """Return the tools that every one of these words leads to, those with the first word in their name first."""
    first, *others = words
    also = [{(entry.server, entry.name) for entry in catalogue.search(word)} for word in others]
    found = catalogue.search(first)
    return tuple(row_of(entry) for entry in found if all((entry.server, entry.name) in hits for hits in also))


def related(server: ServerEntry, entry: ToolEntry) -> tuple[ToolRow, ...]:
    """Return other tools of the server: those about the same things first, then those of the same category."""
    own = _objects(server, entry.profile)
    ranked = []
    for other in server.tools.values():
        shared = len(own & _objects(server, other.profile))
        alike = other.profile.category == entry.profile.category
        if other.name != entry.name and (shared or alike):
            ranked.append(((-shared, not alike, other.name), row_of(other)))
    return tuple(row for _, row in sorted(ranked)[:RELATED])


# -- why it needs a policy


def why(server: ServerEntry, profile: RiskProfile, definition: Definition) -> str:
    """Return why the tool needs a policy: what its access means, then what of it can be aimed."""
    about = _objects(server, profile)
    objects = " ".join(word for word in name_words(profile.tool) if _stem(word) in about)
    place = f"{server.title or server.id}{f' ({objects})' if objects else ''}"
    sentences = [_ACCESS[profile.category].format(place=place)]
    found = signals(profile.tool, definition)
    sentences += [_AIMED[signal.kind].format(parameter=signal.parameter) for signal in _worst(found)]
    if len(sentences) == 1 and (one := _key(definition)):
        sentences.append(f"It takes nothing but another `{one}` to get to the next one.")
    if profile.confidence < UNSURE:
        sentences.append("What it does is not certain from its definition, so the careful reading was taken.")
    return " ".join(sentences)


_ACCESS: Final[dict[Category, str]] = {
    "read": "It brings data of {place} before the model, and without a limit a looping or misled agent gathers all "
    "that the server's account can see.",
    "write": "It changes data of {place} in the name of the server's account, and a looping or misled agent does so "
    "as often as nothing stops it.",
    "execute": "It runs something in {place} that its caller decides on, with all the rights of the server's account.",
    "destructive": "It removes, replaces or ends something of {place}, and a call with a wrong argument is not undone "
    "by a right one.",
    "financial": "It moves money or enters into obligations through {place}, and what went to the wrong place is "
    "seldom got back.",
}
_AIMED: Final[dict[Kind, str]] = {
    "command": "`{parameter}` is run as it is written, whoever the words came from.",
    "query": "`{parameter}` is a query as it is written, so one permission covers all that can be asked or changed.",
    "amount": "`{parameter}` is whatever the agent says it is.",
    "actions": "`{parameter}` chooses between several actions, so one permission covers the worst of them.",
    "path": "`{parameter}` reaches every file that the server's account can, unless a rule bounds it.",
    "url": "`{parameter}` can be aimed at a host inside the server's network, or at one that collects what it is sent.",
    "recipient": "`{parameter}` decides who receives it.",
    "secret": "`{parameter}` holds a secret, which then stands in the context of the model.",
    "force": "`{parameter}` switches a safeguard off, and an agent that is stuck will try that.",
    "foreign text": "It handles what other people write, and such text may be addressed to the model.",
    "open world": "Its author says that it reaches beyond the server.",
}
"""From the worst to the least: a page names the first few."""
_NAMED: Final = 2


def _worst(found: tuple[Signal, ...]) -> list[Signal]:
    """Return one signal of each of the worst kinds."""
    kinds = [kind for kind in _AIMED if any(signal.kind == kind for signal in found)]
    return [next(signal for signal in found if signal.kind == kind) for kind in kinds[:_NAMED]]


def _key(definition: Definition) -> str:
    """Return the required parameter that says which thing is meant, where there is one."""
    names = [parameter.name for parameter in _parameters(definition) if parameter.required]
    return next((name for name in names if name_words(name)[-1:] in _KEYS), "")


_KEYS: Final = (("id",), ("key",), ("name",), ("uuid",), ("slug",), ("number",))


def _objects(server: ServerEntry, profile: RiskProfile) -> set[str]:
    """Return what a tool is about: the words of its name without its verb and the server's own name."""
    own = {_stem(word) for name in (server.id, server.title) for word in name_words(name)}
    found = [_stem(word) for word in name_words(profile.tool)]
    verbs = {_stem(word) for sign in profile.evidence if sign.source == "name" for word in name_words(sign.quote)}
    about = [word for word in found if word not in own]
    return {word for word in about if word not in verbs} if verbs & set(about) else set(about[1:])


def _stem(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


# -- parts of a page


def definition_of(entry: ToolEntry) -> Definition:
    """Return what the catalogue has kept of a tool's definition: its name, parameters and hints."""
    required = [name for name, schema in entry.parameters.items() if schema.get("required") is True]
    properties = {
        name: {key: value for key, value in schema.items() if key != "required"}
        for name, schema in entry.parameters.items()
    }
    schema = {"type": "object", "properties": properties, "required": required}
    return Definition(entry.name, "", "", schema, {}, dict(entry.hints))


def _parameters(definition: Definition) -> Iterator[Parameter]:
    required = definition.input_schema.get("required")
    for name, schema in parameters(definition):
        choices = schema.get("enum")
        yield Parameter(
            name,
            _type(schema.get("type")),
            isinstance(required, list) and name in required,
            tuple(choices) if isinstance(choices, list) else (),
        )


def _type(found: Any) -> str:
    return " or ".join(str(one) for one in found) if isinstance(found, list) else str(found or "any")


def row_of(entry: ToolEntry) -> ToolRow:
    """Return a tool's line in a list of tools."""
    profile = entry.profile
    return ToolRow(entry.server, entry.name, profile.category, profile.level, profile.confidence, entry.summary)


LIMIT: Final = {"max": 10, "window": 60}
"""The limit that a page shows: calls, and seconds."""


def _how_to(tool: str) -> Iterator[HowTo]:
    yield HowTo(
        "limit",
        f"At most {LIMIT['max']} calls of a session within any {LIMIT['window']} seconds run; the next one is told "
        "when to try again.",
        _only(tool, {"rate_limit": dict(LIMIT)}),
    )
    yield HowTo(
        "deny",
        "No call runs, and the agent is told why.",
        _only(tool, {"action": "deny", "reason": f"`{tool}` is not for agents"}),
    )
    yield HowTo(
        "approve",
        "Each call waits until a person approves it; the approval is good for this very call, once, and runs out.",
        _only(tool, {"action": "approve", "reason": f"a person has to agree to `{tool}`"}),
    )


def _only(tool: str, rule: dict[str, Any]) -> dict[str, Any]:
    """Return a document with one rule for exactly this tool: a `*` or `?` in its name is then no pattern."""
    if set(tool) & set("*?"):
        rule = {"when": [{"path": "tool.name", "op": "eq", "value": tool}], **rule}
    return {"version": "1", "default": "deny", "tools": {tool: rule}}
