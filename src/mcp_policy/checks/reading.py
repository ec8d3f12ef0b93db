"""What the checks look at: a document's rules, each with its place, and the tools that they are for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any, NamedTuple

from ..catalogue.definition import Definition, Tool, read_definition
from ..compiler import CATEGORIES, Document, Section, Tree, spelt_out_limits
from ..conditions import APPROVE_IF, DENY_IF, REQUIRE, WHEN
from ..errors import escape
from ..evaluator import Plan
from ..patterns import compile_pattern, is_exact
from ..policy import Policy
from ..symbolic.atoms import Setting


class Stated(NamedTuple):
    """A condition as written: where it stands, of which kind, and in which clause (None where it stands alone)."""

    raw: Tree
    pointer: str
    kind: str
    clause: str | None


class Entry(NamedTuple):
    """A rule: what it is for and where it stands."""

    rule: Tree
    pointer: str
    section: Section
    group: str
    """`all_tools`, `categories` or `tools`."""
    key: str

    @property
    def server(self) -> str | None:
        """The server whose section it stands in."""
        head, _, name = self.section.pointer.rpartition("/")
        return name.replace("~1", "/").replace("~0", "~") if head == "/servers" else None

    def covers(self, tool: str) -> bool:
        """Whether it is for a tool, by its key and its `except`; categories cover what they may."""
        named = self.group != "tools" or compile_pattern(self.key)(tool)
        return named and not any(compile_pattern(text)(tool) for text in self.rule.get("except", ()))

    def conditions(self) -> Iterator[Stated]:
        """Yield its conditions, in document order."""
        for kind in self.rule:
            if kind == WHEN:
                yield from (
                    Stated(raw, f"{self.pointer}/when/{place}", WHEN, f"{self.pointer}/when")
                    for place, raw in enumerate(self.rule[kind])
                )
            elif kind in (REQUIRE, DENY_IF, APPROVE_IF):
                for place, item in enumerate(self.rule[kind]):
                    yield from _items(item, f"{self.pointer}/{kind}/{place}", kind)

    def limits(self) -> list[tuple[str, Tree]]:
        """Return its limits, spelt out, with their places."""
        return list(spelt_out_limits(self.rule, self.pointer))

    @property
    def asks(self) -> bool:
        """Whether it ever asks for an approval."""
        return self.rule.get("action") == "approve" or bool(self.rule.get("approve_if"))


def _items(item: Tree, pointer: str, kind: str) -> Iterator[Stated]:
    if "conditions" not in item:
        yield Stated(item, pointer, kind, None)
        return
    for place, raw in enumerate(item["conditions"]):
        yield Stated(raw, f"{pointer}/conditions/{place}", kind, pointer)


class Side:
    """A document, indexed: what `comparison.sides` has of one, without an engine, which takes long to import."""

    def __init__(self, policy: Policy) -> None:
        self.tree: Tree = policy._tree
        self.document = Document(self.tree, lambda call: call.category if call.category in CATEGORIES else None)

    @cached_property
    def limits(self) -> dict[str, Tree]:
        """Every limit of the document, spelt out, by its pointer."""
        entries = (entry for section in self.all_sections() for entry in _entries(section))
        return {pointer: raw for entry in entries for pointer, raw in entry.limits()}

    def plan(self, setting: Setting) -> Plan:
        """Return what the policy says in one setting."""
        return self.document.plan(setting.tool, *self.document.variant(setting.call()))

    def sections(self, server: str | None) -> list[Section]:
        """Return the sections that a call to this server meets."""
        own = self.document.servers.get(server) if server is not None else None
        return [self.document.top, *([own] if own else [])]

    def all_sections(self) -> list[Section]:
        """Return every section."""
        return [self.document.top, *self.document.servers.values()]


class Subject:
    """A policy to check, and the tools of the server that it is for, where they are known."""

    def __init__(self, policy: Policy, tools: Iterable[Tool] | None, server: str | None) -> None:
        self.side = Side(policy)
        self.tree = self.side.tree
        self.tools = None if tools is None else {tool.name: tool for tool in map(read_definition, tools)}
        self.server = server if server is not None or tools is None else self._only_server()

    def _only_server(self) -> str | None:
        """Return the server that the whole document is for: it has a section, and nothing else lists tools."""
        names = list(self.side.document.servers)
        return names[0] if len(names) == 1 and not {"tools", "categories"} & self.tree.keys() else None

    @cached_property
    def entries(self) -> list[Entry]:
        """Every rule of the document that is for the server in question."""
        return [entry for section in self.sections for entry in _entries(section)]

    @property
    def sections(self) -> list[Section]:
        """The sections that can matter: all of them, unless the server is known."""
        if self.server is None:
            return self.side.all_sections()
        return self.side.sections(self.server)

    def is_met(self, section: Section) -> bool:
        """Tell whether calls of the tools that are known meet a section."""
        own = self.side.document.servers.get(self.server) if self.server is not None else None
        return self.tools is not None and section in (self.side.document.top, own)

    def is_whole(self, section: Section) -> bool:
        """Tell whether the tools that are known are all that a section can be about."""
        others = self.side.document.servers.keys() - {self.server}
        return self.is_met(section) and not (section is self.side.document.top and others)

    def definitions(self, entry: Entry) -> list[Definition]:
        """Return the definitions of the tools that an entry is for by name."""
        if entry.group != "tools" or self.tools is None or not self.is_met(entry.section):
            return []
        return [self.tools[name] for name in self.covered(entry)]

    def covered(self, entry: Entry) -> list[str]:
        """Return the names of the tools that are known and that an entry is for."""
        known = self.tools or {}
        exact = entry.group == "tools" and is_exact(entry.key)
        return [name for name in ([entry.key] if exact else known) if name in known and entry.covers(name)]


def _entries(section: Section) -> Iterator[Entry]:
    for place, raw in section.entries():
        group = place.section.rpartition("/")[2] if place.key is not None else "all_tools"
        rules: list[Any] = raw if isinstance(raw, list) else [raw]
        for number, rule in enumerate(rules):
            pointer = f"{place.pointer}/{number}" if isinstance(raw, list) else place.pointer
            yield Entry(rule, pointer, section, group, place.key or "")


def below(pointer: str, *keys: str | int) -> str:
    """Return the pointer to what stands below another one."""
    return pointer + "".join(f"/{escape(str(key))}" for key in keys)
