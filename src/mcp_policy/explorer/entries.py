"""The entries of a policy document: where they stand, what they are called, and which of them are for many tools.

Rules kept here:

- An entry is known by its JSON Pointer. Any text may be asked for as one: what leads nowhere is an entry that is not
  there yet.
- A tool's own entry is the one that holds for just that tool: below its server where there are several.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from mcp_policy.catalogue.profile import CATEGORIES
from mcp_policy.patterns import check_name, check_pattern, compile_pattern, is_exact

from . import editing
from .editing import Kind, Tree, keys, kind_of, pointer
from .stack import Stack, Tool


class Entry(NamedTuple):
    """An entry for many tools, in the list of entries."""

    at: str
    title: str
    kind: Kind | None
    matches: int | None = None
    """How many tools of the stack a pattern matches."""
    category: bool = False


class Group(NamedTuple):
    """Entries that stand together: those for all servers, or those for one."""

    title: str
    entries: tuple[Entry, ...]


class Section(NamedTuple):
    """What the document, or its section for one server, says beside its rules."""

    at: str
    server: str
    name: str
    description: str
    default: str
    shadow: bool
    hide: str
    schema: str


# -- places


def found(tree: Any, at: str) -> Any:
    """Return what stands at a place; None where nothing does."""
    return editing.found(tree, keys(at))


def own(tree: Tree, stack: Stack, server: str, tool: str) -> str | None:
    """Return where a tool's own entry stands, or would stand; None where no entry can be for it alone."""
    if not is_exact(tool) or check_name(tool) is not None:
        return None
    plain, below = pointer("tools", tool), pointer("servers", server, "tools", tool)
    if found(tree, plain) is not None or not server:
        return plain
    return below if found(tree, below) is not None or len(stack.servers) > 1 else plain


def entry_of(at: str) -> str:
    """Return the entry that a place belongs to: what can be selected."""
    steps = keys(at)
    before = steps[:2] if steps[:1] == ["servers"] and len(steps) > 1 else []
    inside = steps[len(before) :]
    if inside[:1] == ["all_tools"]:
        return pointer(*before, "all_tools")
    if inside[:1] in (["tools"], ["categories"]) and len(inside) > 1:
        return pointer(*before, *inside[:2])
    return pointer(*before)


def title_of(at: str) -> str:
    """Return what people call an entry."""
    steps = keys(at)
    server, inside = ("", steps) if steps[:1] != ["servers"] else (steps[1], steps[2:])
    if not inside:
        return f"Server {server}" if server else "The document itself"
    what = "Every tool" if inside[0] == "all_tools" else inside[1]
    if inside[0] == "categories":
        what = f"Every {what} tool"
    return f"{what} of {server}" if server else what


# -- the list of entries


def groups(tree: Tree, stack: Stack, owned: frozenset[str]) -> tuple[Group, ...]:
    """Return the entries for many tools; `owned` are those that a row of a tool leads to."""
    names = [tool.definition.name for tool in stack.tools.values()]
    found_groups = [Group("All servers", tuple(_entries(tree, "", "Document", names, owned, every=True)))]
    for server, section in (tree.get("servers") or {}).items():
        of = [tool.definition.name for one in stack.servers if one.name == server for tool in one.tools]
        at = pointer("servers", server)
        found_groups.append(Group(server, tuple(_entries(section, at, "Section", of, owned, every=False))))
    return tuple(found_groups)


def _entries(
    section: Tree, before: str, title: str, names: list[str], owned: frozenset[str], *, every: bool
) -> Iterator[Entry]:
    yield Entry(before, title, None)
    if every or "all_tools" in section:
        yield Entry(f"{before}/all_tools", "Every tool", kind_of(section.get("all_tools")))
    categories = section.get("categories") or {}
    for category in CATEGORIES:
        if every or category in categories:
            yield Entry(f"{before}/categories/{category}", category, kind_of(categories.get(category)), None, True)
    for name, entry in (section.get("tools") or {}).items():
        at = before + pointer("tools", name)
        if at not in owned:
            yield Entry(at, name, kind_of(entry), _matches(name, names))


def _matches(pattern: str, names: list[str]) -> int:
    is_match = compile_pattern(pattern)
    return sum(1 for name in names if is_match(name))


def matched(stack: Stack, at: str) -> tuple[Tool, ...]:
    """Return the tools of the stack whose name the pattern of an entry matches."""
    *before, pattern = keys(at)
    if check_pattern(pattern) is not None:
        return ()
    is_match = compile_pattern(pattern)
    servers = [one for one in stack.servers if before[:1] != ["servers"] or one.name == before[1]]
    return tuple(tool for one in servers for tool in one.tools if is_match(tool.definition.name))


def section(tree: Tree, at: str) -> Section:
    """Return what the fields of the document, or of a server's section, hold."""
    part, steps = found(tree, at) or {}, keys(at)
    return Section(
        at=at,
        server=steps[1] if steps else "",
        name=part.get("name", ""),
        description=part.get("description", ""),
        default=part.get("default", "" if steps else "deny"),
        shadow=part.get("mode") == "shadow",
        hide="\n".join(part.get("hide") or []),
        schema=part.get("$schema", ""),
    )
