"""What is to be said of a policy's text: what keeps it from loading, what is likely a mistake, and what has changed.

Rules kept here:

- A text that does not load has problems, all of them; one that loads has the findings of `check`.
- What takes no tools to find is said of the document as a whole. What takes them is said of a server's section if it is
  so beside that server, and of the top level if it is so beside every server that has the tool in question: a tool that
  one server lacks is no mistake where another has it.
- Of the whole catalogue nobody has all servers: beside it, sections alone are checked with tools.
- A difference is told with a call that both engines have decided (`comparison`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias

from mcp_policy.checks import CODES, Finding, check, placed
from mcp_policy.comparison import Comparison, ToolDifference, Witness, compare
from mcp_policy.comparison.telling import before_text, call_text
from mcp_policy.errors import PolicyError
from mcp_policy.policy import Policy

from .editing import pointer
from .stack import Server, Stack

Found: TypeAlias = tuple[Finding, ...]


def findings(text: str, stack: Stack) -> Found:
    """Return what is to be said of a text, with lines and columns, in the order of the text."""
    return _findings(text, stack.servers)


@lru_cache(maxsize=4)  # the form asks again for each tool that is looked at
def _findings(text: str, servers: tuple[Server, ...]) -> Found:
    try:
        policy = Policy.parse(text)
    except PolicyError as error:
        return tuple(
            Finding(one.code, "error", one.pointer, one.message, "", one.line, one.column) for one in error.problems
        )
    return placed(_checked(policy, [one for one in servers if one.tools]), text.encode(), "policy.json")


def _checked(policy: Policy, servers: Sequence[Server]) -> Found:
    named = policy.document.get("servers", {})
    if len(servers) == 1 and _is_listed(servers[0]) and servers[0].name not in named:
        return _beside(policy, servers[0], None)  # what a file is called need not be the server's name
    whole = len(servers) > 1
    known = [one for one in servers if not whole or _is_listed(one) or one.name in named]
    beside = {pointer("servers", one.name): _beside(policy, one, one.name) for one in known}
    top = [beside[pointer("servers", one.name)] for one in known if not whole or _is_listed(one)]
    alone = check(policy)
    found = dict.fromkeys([*alone, *(one for each in beside.values() for one in each)])
    counting = (one for one in found if _counts(one, alone, beside, top))
    return tuple(_once(counting))


def _is_listed(server: Server) -> bool:
    """Tell whether a server has listed its tools itself: it is not only known to the catalogue."""
    return server.tools[0].listed


def _beside(policy: Policy, server: Server, name: str | None) -> Found:
    return check(policy, [tool.definition for tool in server.tools], server=name)


def _counts(finding: Finding, alone: Found, beside: dict[str, Found], top: list[Found]) -> bool:
    if not CODES[finding.code].tools and finding.code != "never_runs":  # tools may tell how a call could run
        return finding in alone
    section = "/".join(finding.pointer.split("/")[:3])
    if section in beside:
        return finding in beside[section]
    if section.startswith("/servers/") or not top:
        return finding in alone
    if finding.code in _OF_ANY:
        return True
    return all(finding in found or _lacks(found, finding.pointer) for found in top)


_OF_ANY: Final = frozenset({"unguarded_tool", "session_limit", "absence_allows", "absence_denies"})
"""What is a mistake if it is one beside any server that has the tool."""

_LACKING: Final = frozenset({"unknown_tool", "matches_nothing", "empty_category"})
"""What says that a server has no tool that an entry is for."""


def _lacks(found: Found, at: str) -> bool:
    """Tell whether a server has nothing that the entry at a place is for."""
    return any(one.code in _LACKING and f"{at}/".startswith(f"{one.pointer}/") for one in found)


def _once(found: Iterator[Finding]) -> Iterator[Finding]:
    """Yield findings, what no server has only once: as the one that knows a tool of almost that name says it."""
    lacking: dict[tuple[str, str], Finding] = {}
    for one in found:
        if one.code not in _LACKING:
            yield one
        elif not lacking.get((one.code, one.pointer), one._replace(fix="")).fix:
            lacking[one.code, one.pointer] = one
    yield from lacking.values()


# -- what has changed


class Shown(NamedTuple):
    """A call that one policy lets run and the other does not, in words."""

    looser: bool
    call: str
    before: str
    """What is called before, and what has to be so."""
    old: str
    new: str


class Difference(NamedTuple):
    """What has changed for a tool: how the new policy stands to the old one, with calls that show it."""

    tool: str
    relation: str
    shown: tuple[Shown, ...]
    unknown: tuple[str, ...]
    notes: tuple[str, ...]


class Compared(NamedTuple):
    """How a text stands to the saved one. `problem` says why that cannot be told."""

    relation: str
    compared: int
    differences: tuple[Difference, ...]
    unknown: tuple[str, ...]
    problem: str = ""


def compared(old: str, new: str) -> Compared:
    """Return what a new text lets run that the old one does not, and the other way round."""
    policies = []
    for name, text in (("the saved file", old), ("the document", new)):
        try:
            policies.append(Policy.parse(text))
        except PolicyError as error:
            return Compared("unknown", 0, (), (), f"{name} does not load: {error.problems[0]}")
    return _told(compare(*policies))


def _told(found: Comparison) -> Compared:
    return Compared(str(found.relation), found.compared, tuple(map(_difference, found.tools)), found.unknown)


def _difference(tool: ToolDifference) -> Difference:
    return Difference(tool.tool, str(tool.relation), tuple(_shown(tool)), tool.unknown, tool.notes)


def _shown(tool: ToolDifference) -> Iterator[Shown]:
    for witness, looser in ((tool.looser, True), (tool.stricter, False)):
        if witness is not None:
            yield Shown(looser, call_text(witness.steps[-1].call), _before(witness), str(witness.old), str(witness.new))


def _before(witness: Witness) -> str:
    return before_text(witness.steps).strip() + (f"; while {witness.while_}" if witness.while_ else "")
