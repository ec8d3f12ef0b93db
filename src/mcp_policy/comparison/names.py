"""Which tools have to be compared: every name that a document spells out, and one for each way in which patterns can
match a name that none spells out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from ..patterns import MAX_NAME, check_name, is_exact
from ..symbolic.expressions import Tree, glob
from ..symbolic.languages import texts
from .sides import Side, rules

_MOST_STATES: Final = 30_000


class Tool(NamedTuple):
    """A tool, or many that the documents do not tell apart: `label` says which, `name` is one of them."""

    label: str
    name: str


class Tools(NamedTuple):
    """The tools to compare."""

    all: tuple[Tool, ...]
    unknown: tuple[str, ...]
    """Why there may be more."""


def tools(sides: tuple[Side, Side]) -> Tools:
    """Return the tools that two documents tell apart."""
    named: dict[str, None] = {}
    patterns: dict[str, None] = {}
    unknown: dict[str, None] = {}
    for side in sides:
        for text in _patterns(side):
            (named if is_exact(text) else patterns)[text] = None
        for condition in _about_names(side.tree):
            values = condition.get("value")
            listed = [values] if isinstance(values, str) else values
            if condition["op"] in ("eq", "neq", "in", "not_in") and isinstance(listed, list):
                named.update(dict.fromkeys(text for text in listed if isinstance(text, str)))
            elif condition["op"] == "glob" and isinstance(listed, list):
                patterns.update(dict.fromkeys(listed))
            else:
                unknown[f"`tool.name` is asked for with `{condition['op']}`"] = None
    exact = [Tool(f"`{name}`", name) for name in named if check_name(name) is None]
    found = _groups(tuple(patterns), frozenset(named))
    if found is None:
        return Tools(tuple(exact), (*unknown, "too many patterns overlap"))
    return Tools((*exact, *found), tuple(unknown))


def _patterns(side: Side) -> Iterator[str]:
    for section in side.all_sections():
        yield from section.tools
        yield from section.tree.get("hide", ())
        for _, rule in rules(section):
            yield from rule.get("except", ())


def _about_names(tree: Any) -> Iterator[dict[str, Any]]:
    """Yield the conditions of a document that ask for the tool's name."""
    if isinstance(tree, dict):
        if "tool.name" in (tree.get("path"), tree.get("value_from")) and "op" in tree:
            yield tree if tree["path"] == "tool.name" else {"op": "value_from"}
        for part in tree.values():
            yield from _about_names(part)
    elif isinstance(tree, list):
        for part in tree:
            yield from _about_names(part)


def _groups(patterns: tuple[str, ...], named: frozenset[str]) -> list[Tool] | None:
    """Return a name for each set of patterns that some name matches; None where there are too many to follow."""
    trees: tuple[Tree, ...] = tuple(map(glob, patterns))
    found = texts(trees, named, most=_MOST_STATES, printable=True)
    if not found.complete:
        return None
    groups = []
    for matching, name in found.found.items():
        own = [pattern for pattern, matches in zip(patterns, matching, strict=True) if matches]
        if 0 < len(name) <= MAX_NAME:
            groups.append(Tool(_label(own, patterns), name))
    return sorted(groups, key=lambda tool: tool.label == _OTHER)


_OTHER: Final = "any other tool"


def _label(own: list[str], patterns: tuple[str, ...]) -> str:
    telling = [pattern for pattern in own if pattern.strip("*")] or own
    if not telling:
        return _OTHER
    return " and ".join(f"`{pattern}`" for pattern in telling)
