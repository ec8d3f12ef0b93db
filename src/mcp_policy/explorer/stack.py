"""What the explorer shows: the servers that agents can reach, and their tools.

Rules kept here:

- A tool has one address in a stack (its slug), whatever its server and it are called: letters, digits, `_` and `-` of
  ASCII in lower case, so that it is a file name everywhere and no two differ by their case alone.
- A server that gave no list stays in the stack, with the reason.
- What takes long to say of a tool is said when it is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple

from mcp_policy.adapters._common import UNREADABLE, definition_texts
from mcp_policy.catalogue.definition import Definition, parameters
from mcp_policy.catalogue.judging import Known, Row, by_danger, rows_of
from mcp_policy.catalogue.lookup import ServerEntry, ToolCatalogue, ToolEntry
from mcp_policy.catalogue.page import ToolPage, ToolRow, definition_of, row_of, tool_page
from mcp_policy.catalogue.suspicion import Suspicion

_LONGEST_SLUG: Final = 60
_LONGEST_SUMMARY: Final = 200
_DEVICE: Final = re.compile("con|prn|aux|nul|com[0-9]|lpt[0-9]")  # no file names on Windows
_SENTENCE: Final = re.compile(r"(.{0,400}?[.!?])(?=\s+[^\sa-z]|\s*$)", re.DOTALL)  # not the stop of `e.g. this`


class Listed(NamedTuple):
    """What a server lists: its name here, what it calls itself, entries of `tools/list`, and why there is no list."""

    server: str
    introduced: str
    tools: tuple[Any, ...]
    failure: str


@dataclass(frozen=True, eq=False)
class Tool:
    """One tool that agents can reach.

    `definition` is what its server says of it; of a tool of the catalogue, what is kept of that (`listed` is False).
    `contested`: its server lists another tool by the same name, so that no definition counts for a guard.
    """

    slug: str
    definition: Definition
    known: Known
    suspicions: tuple[Suspicion, ...]
    listed: bool
    contested: bool
    entry: ToolEntry
    of: ServerEntry

    @property
    def row(self) -> ToolRow:
        """What a list of tools says of it."""
        return row_of(self.entry)

    @cached_property
    def page(self) -> ToolPage:
        """All there is to say of it."""
        return tool_page(self.of, self.entry, self.definition)


class Server(NamedTuple):
    """A server with its tools, the most dangerous first; without a list, `failure` says why."""

    name: str
    title: str
    about: str
    package: str
    failure: str
    tools: tuple[Tool, ...]


class Stack(NamedTuple):
    """All servers, and all tools by slug, the most dangerous first. `source` says where they come from."""

    source: str
    servers: tuple[Server, ...]
    tools: Mapping[str, Tool]


def of_catalogue(catalogue: ToolCatalogue, name: str | None = None) -> Stack:
    """Return the servers of a catalogue, or the one with this id or name. Raises `KeyError` where there is none."""
    if name is None:
        return _stack("the bundled catalogue", map(_of_entry, catalogue.servers()))
    entry = catalogue.server(name)
    if entry is None:
        raise KeyError(name)
    return _stack(f"{entry.title or entry.id}, as the catalogue knows it", [_of_entry(entry)])


def of_listings(source: str, listings: Iterable[Listed]) -> Stack:
    """Return what servers list. Raises `ValueError` for an entry that is no tool's definition."""
    return _stack(source, map(_of_listing, listings))


# -- servers


class _Found(NamedTuple):
    entry: ServerEntry
    failure: str
    rows: list[tuple[Row, ToolEntry]]
    contested: frozenset[str] | None
    """Names of which no definition counts; None where nothing was listed."""


def _of_entry(server: ServerEntry) -> _Found:
    rows = [(Row(server.id, definition_of(one), one.profile, "known", ()), one) for one in server.tools.values()]
    return _Found(server, "", rows, None)


def _of_listing(listing: Listed) -> _Found:
    rows = rows_of(listing.server, listing.tools, listing.introduced)
    known = _known(listing)
    entries = [_entry(listing.server, row, known) for row in rows]
    tools = {entry.name: entry for entry in entries}
    about = known.about if known is not None else ""
    title = known.title if known is not None else ""
    server = ServerEntry(listing.server, (), title or listing.introduced, "", "", about, tools)
    return _Found(server, listing.failure, list(zip(rows, entries, strict=True)), _contested(listing, rows))


def _contested(listing: Listed, rows: list[Row]) -> frozenset[str]:
    """Return the names of which no definition counts for a guard in front of this server."""
    names = [row.definition.name for row in rows]
    texts = definition_texts(zip(names, listing.tools, strict=True))
    return frozenset(name for name, text in zip(names, texts, strict=True) if text == UNREADABLE)


def _known(listing: Listed) -> ServerEntry | None:
    catalogue = ToolCatalogue.bundled()
    return catalogue.server(listing.server) or (catalogue.server(listing.introduced) if listing.introduced else None)


def _entry(server: str, row: Row, known: ServerEntry | None) -> ToolEntry:
    of_catalogue = None if known is None or row.known != "known" else known.tools.get(row.definition.name)
    override = None if of_catalogue is None or of_catalogue.profile != row.profile else of_catalogue.override
    return ToolEntry(
        server=server,
        name=row.definition.name,
        profile=row.profile,
        classified=row.profile,
        override=override,
        parameters=_parameters(row.definition),
        hints={name: value for name, value in row.definition.annotations.items() if type(value) is bool},
        summary=_summary(row.definition.description) or row.definition.title,
        fingerprint=None,
    )


def _parameters(definition: Definition) -> dict[str, dict[str, Any]]:
    return {name: dict(schema) for name, schema in parameters(definition)}


def _summary(description: str) -> str:
    """Return the first sentence of a description, or as much of it as is short."""
    start = description.strip()[: 2 * _LONGEST_SUMMARY]
    paragraph = start.split("\n\n")[0]
    found = _SENTENCE.match(paragraph)
    sentence = " ".join((found[1] if found else paragraph).split())
    return sentence if len(sentence) <= _LONGEST_SUMMARY else f"{sentence[: _LONGEST_SUMMARY - 1].rstrip()}…"


# -- the stack, with an address for each tool


def _stack(source: str, found: Iterable[_Found]) -> Stack:
    rows: dict[str, tuple[Row, Tool]] = {}
    servers: list[Server] = []
    folders: dict[str, int] = {}
    for one in found:
        entry = one.entry
        tools = sorted(_tools(_free(entry.id, folders), one), key=lambda pair: by_danger(pair[0]))
        rows |= {tool.slug: (row, tool) for row, tool in tools}
        package = f"{entry.package} {entry.release}".strip()
        held = tuple(tool for _, tool in tools)
        servers.append(Server(entry.id, entry.title, entry.about, package, one.failure, held))
    ordered = sorted(rows.values(), key=lambda pair: by_danger(pair[0]))
    return Stack(source, tuple(servers), {tool.slug: tool for _, tool in ordered})


def _tools(folder: str, found: _Found) -> Iterator[tuple[Row, Tool]]:
    files: dict[str, int] = {}
    for row, entry in found.rows:
        definition, slug = row.definition, f"{folder}/{_free(row.definition.name, files)}"
        listed = found.contested is not None
        contested = definition.name in (found.contested or ())
        yield row, Tool(slug, definition, row.known, row.suspicions, listed, contested, entry, found.entry)


def _free(name: str, taken: dict[str, int]) -> str:
    """Return a part of an address for a name, one that is not taken, and take it.

    `taken` has the number from which to look for the next one, so that many names alike take no longer than others.
    """
    plain = re.sub(r"[^a-z0-9_]+", "-", name.lower())[:_LONGEST_SLUG].strip("-") or "x"
    slug, number = plain, taken.get(plain, 2)
    if plain in taken or _DEVICE.fullmatch(plain):
        while (slug := f"{plain}-{number}") in taken:
            number += 1
        number += 1
    taken[plain] = number
    taken.setdefault(slug, 2)
    return slug
