"""What the catalogue knows of a tool: looked up by server and tool together, never by a tool's name alone.

Rules kept here:

- A server is found by its id or one of its names, exactly. A tool that is known of another server only is unknown.
- People's own files come before the bundled ones, tool by tool.
- A definition that has changed since its entry was made is unknown, whatever it says now.
- What a server says of a tool may raise its category, never lower it.
- A guess (a confidence below `UNSURE`) is no category.
- Nothing is read before it is asked for. All methods may be called from any thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, cached_property
from typing import Any, Final, NamedTuple

from . import files
from .definition import Fingerprint, Tool, fingerprint, read_definition
from .profile import CATEGORIES, UNSURE, Category, Evidence, Level, RiskProfile

LEVEL_OF: Final[dict[Category, Level]] = {
    "read": "low",
    "write": "medium",
    "execute": "high",
    "destructive": "critical",
    "financial": "critical",
}
"""The level of a tool of which only the category is said."""


class Override(NamedTuple):
    """A reviewed correction of what the classifier says, and why."""

    category: Category
    level: Level
    reason: str


class ToolEntry(NamedTuple):
    """What the catalogue knows of one tool.

    `profile` is what counts, after a review where there was one (`override`); `classified` is what the classifier said.
    `parameters` have what is kept of each one's schema (`type`, `required`, `enum`). Without `fingerprint` the
    definition is not the same everywhere, or was never seen.
    """

    server: str
    name: str
    profile: RiskProfile
    classified: RiskProfile
    override: Override | None
    parameters: dict[str, dict[str, Any]]
    hints: dict[str, bool]
    summary: str
    fingerprint: Fingerprint | None

    @property
    def category(self) -> Category:
        """The category that counts."""
        return self.profile.category

    @property
    def level(self) -> Level:
        """The level that counts."""
        return self.profile.level

    @property
    def override_reason(self) -> str | None:
        """Why a review came to another category or level than the classifier; None where there was none."""
        return None if self.override is None else self.override.reason


class ServerEntry(NamedTuple):
    """What the catalogue knows of one server; what is not said of it is empty. `names` are those beside its id."""

    id: str
    names: tuple[str, ...]
    title: str
    package: str
    release: str
    about: str
    tools: dict[str, ToolEntry]


class ToolCatalogue:
    """Knows what servers' tools do. Get one with `ToolCatalogue.bundled()` or `ToolCatalogue.load(path, ...)`."""

    def __init__(self, *sources: _Source) -> None:
        self._sources = sources
        self._servers: dict[str, ServerEntry] = {}

    @classmethod
    def bundled(cls) -> ToolCatalogue:
        """Return the catalogue that comes with the package; always the same one."""
        return _bundled()

    @classmethod
    def load(cls, *paths: str | os.PathLike[str]) -> ToolCatalogue:
        """Return a catalogue of these files, and of the bundled one for tools that they do not have.

        Raises `CatalogueError` for what a file says, and `OSError` for one that cannot be read.
        """
        servers = files.read_all(*paths)
        names = {server: entry.get("names", ()) for server, entry in servers.items()}
        return cls(_Source(lambda: names, servers.__getitem__, dict), _bundled_source())

    def servers(self) -> tuple[ServerEntry, ...]:
        """Return every server, in the order of their ids."""
        ids = {server for source in self._sources for server in source.names.values()}
        return tuple(self._server(server) for server in sorted(ids))

    def server(self, name: str) -> ServerEntry | None:
        """Return the server with this id or name, or None where none is known."""
        return self._server(name) if any(name in source.names for source in self._sources) else None

    def entry(self, server: str, tool: str) -> ToolEntry | None:
        """Return what is known of a server's tool, or None."""
        found = self._servers.get(server) or self.server(server)
        return None if found is None else found.tools.get(tool)

    def search(self, word: str) -> tuple[ToolEntry, ...]:
        """Return the tools in whose name, parameters, summary or server this occurs, whatever its case: names first."""
        wanted = word.casefold()
        found = [
            (wanted not in entry.name.casefold(), entry.server, entry.name, entry)
            for server in self.servers()
            for entry in server.tools.values()
            if entry.server == server.id and wanted in _searched(server, entry)
        ]
        return tuple(entry for *_, entry in sorted(found, key=lambda hit: hit[:3]))

    def category(self, server: str | None, tool: str, definition: Tool | None = None) -> Category | None:
        """Return what kind of thing a tool does, or None where that is not known.

        `definition` is its entry of `tools/list`, as the server has registered it. With it, a tool that no entry is
        about is classified, and one that has changed since its entry was made is unknown; without, the entry counts.
        """
        entry = None if server is None else self.entry(server, tool)
        if definition is not None:
            return _registered(entry, tool, definition)
        return None if entry is None else _known(entry.profile)

    def _server(self, name: str) -> ServerEntry:
        found = self._servers.get(name)
        if found is None:
            having = [source for source in self._sources if name in source.names]
            found = _overlaid([source.read(source.names[name]) for source in having])
            if any(source.names[name] == name for source in having):  # claimed as a name elsewhere, it is still an id
                found = found._replace(id=name, names=tuple(other for other in found.names if other != name))
            self._servers[name] = found
        return found


def _registered(entry: ToolEntry | None, tool: str, definition: Tool) -> Category | None:
    """Return the category of a tool by its definition and by what is known of it."""
    from .classifier import classify

    try:
        read = read_definition(definition)
    except ValueError:
        return None
    if read.name != tool:
        return None
    said = classify(read)
    if entry is None:
        return _known(said)
    if entry.fingerprint is None:
        sure = _known(entry.profile) or _known(said)
        return None if sure is None else _highest([entry.category, said.category])
    known = _known(entry.profile) if entry.fingerprint == fingerprint(read) else None
    if known is None or known == "execute":  # which no hint raises: see `classifier`
        return known
    return _highest([known, *(sign.suggests for sign in said.evidence if sign.source == "annotation")])


def _known(profile: RiskProfile) -> Category | None:
    return profile.category if profile.confidence >= UNSURE else None


def _highest(categories: Iterable[Category]) -> Category:
    return max(categories, key=CATEGORIES.index)


def _overlaid(entries: Sequence[ServerEntry]) -> ServerEntry:
    """Return one entry for a server that several sources know: the first one counts, the rest fills in."""
    first, *others = entries
    for other in others:
        told = {name: value for name, value in first._asdict().items() if value}
        first = ServerEntry(**(other._asdict() | told | {"tools": other.tools | first.tools}))
    return first


def _searched(server: ServerEntry, entry: ToolEntry) -> str:
    return "\n".join((server.id, server.title, entry.name, entry.summary, *entry.parameters)).casefold()


# -- from files


class _Source:
    """Some servers, found by their names and read when they are asked for."""

    def __init__(
        self,
        index: Callable[[], Mapping[str, Iterable[str]]],
        read: Callable[[str], files.Tree],
        overrides: Callable[[], Mapping[str, Mapping[str, files.Tree]]],
    ) -> None:
        self._index = index
        self._tree_of = read
        self._read_overrides = overrides

    @cached_property
    def names(self) -> dict[str, str]:
        """Every id and name, with the id that it leads to; an id is nobody else's name."""
        index = self._index()
        return {name: server for server, names in index.items() for name in names} | {
            server: server for server in index
        }

    @cached_property
    def _overrides(self) -> Mapping[str, Mapping[str, files.Tree]]:
        return self._read_overrides()

    def read(self, server: str) -> ServerEntry:
        """Return a server's entry, by its id."""
        tree, reviewed = self._tree_of(server), self._overrides.get(server, {})
        tools = {name: _entry(server, name, raw, reviewed.get(name)) for name, raw in tree["tools"].items()}
        title, package, release, about = (tree.get(key, "") for key in ("title", "package", "release", "about"))
        return ServerEntry(server, tuple(tree.get("names", ())), title, package, release, about, tools)


def _entry(server: str, name: str, raw: files.Tree, reviewed: files.Tree | None) -> ToolEntry:
    category: Category = raw["category"]
    evidence = tuple(map(Evidence._make, raw.get("evidence", ())))
    classified = RiskProfile(name, category, raw.get("level", LEVEL_OF[category]), raw.get("confidence", 1.0), evidence)
    override = profile = None
    if reviewed is not None:
        right: Category = reviewed["category"]
        override = Override(right, reviewed.get("level", LEVEL_OF[right]), reviewed["reason"])
        profile = RiskProfile(name, override.category, override.level, 1.0, evidence)
    parts = raw.get("fingerprint")
    return ToolEntry(
        server,
        name,
        profile or classified,
        classified,
        override,
        raw.get("parameters", {}),
        raw.get("hints", {}),
        raw.get("summary", ""),
        None if parts is None else Fingerprint(**parts),
    )


@cache
def _bundled_source() -> _Source:
    return _Source(files.bundled_index, files.bundled_server, files.bundled_overrides)


@cache
def _bundled() -> ToolCatalogue:
    return ToolCatalogue(_bundled_source())
