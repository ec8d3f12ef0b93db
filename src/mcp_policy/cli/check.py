"""Find mistakes in policies that load: rules that never apply, conditions that never hold, tools nobody guards.

  mcp-policy check policy.json
  mcp-policy check policy.json --tools tools.json       beside the list of tools that a server gave
  mcp-policy check policy.json --server github          beside what the catalogue knows of a server
  mcp-policy check policy.json --tools-from -- COMMAND  beside what a server says that is started for it

Each finding has a code, a place and what would be right. Errors and warnings fail the check, notes do not. What is
meant to be so is written down, with a reason, in `policy.check.json` beside `policy.json`:

  {"version": "1", "suppress": [{"code": "default_allow", "reason": "a gateway in front lists the tools"}]}

The exit status is 0, 2 if a file cannot be read, 3 if a policy is not valid, or 4 if something was found.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mcp_policy.checks.finding import Finding

from ._exits import FINE, FOUND, INVALID, USAGE, Stop
from ._files import read_bytes, shown
from ._report import FileFindings, Suppressed, add_format, write_findings

if TYPE_CHECKING:
    from mcp_policy.catalogue.lookup import ServerEntry
    from mcp_policy.checks import Suppression
    from mcp_policy.errors import Problem

_SECONDS: Final = 30.0
_WORSE: Final = (FINE, FOUND, INVALID)
"""How one policy may end, from fine to worst: of several, the worst decides."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.usage = "%(prog)s POLICY... [OPTIONS] [--tools FILE | --server NAME | --tools-from -- COMMAND...]"
    parser.add_argument("policies", metavar="POLICY", nargs="+", help="a policy file; `-` is standard input")
    source = parser.add_argument_group("the tools that the policies are for")
    source.add_argument("--tools", metavar="FILE", help="a `tools/list` result in a file")
    source.add_argument("--server", metavar="NAME", help="a server that the catalogue knows")
    source.add_argument("--tools-from", action="store_true", help="start the COMMAND behind `--` and ask it")
    add_format(parser, "json", "sarif", "github", "junit")


def run(arguments: argparse.Namespace) -> int:
    """Check, print and return the exit status."""
    if sum([arguments.tools is not None, arguments.server is not None, arguments.tools_from]) > 1:
        raise Stop(USAGE, "only one of --tools, --server and --tools-from says which tools there are")
    if arguments.tools_from and not arguments.behind:
        raise Stop(USAGE, "--tools-from needs a command: `mcp-policy check POLICY --tools-from -- COMMAND...`")
    server, tools = _tools(arguments, arguments.behind)
    found: list[FileFindings] = []
    status = FINE
    for path in arguments.policies:
        one, ended = _checked(path, server, tools, catalogued=arguments.server is not None)
        found += one
        status = max(status, ended, key=_WORSE.index)
    write_findings(found, arguments.format, rules=_rules())
    return status


# -- the tools


def _tools(arguments: argparse.Namespace, command: list[str]) -> tuple[str | None, list[Any] | None]:
    """Return the server's name and its tools, as far as they were asked for."""
    if arguments.server is not None:
        return _known(arguments.server)
    if arguments.tools is None and not command:
        return None, None
    from . import scan

    try:
        if arguments.tools is not None:
            listing = scan.from_file(arguments.tools, None)
        else:
            asked = argparse.Namespace(
                tools=None, config=None, upstream=None, server_command=command, name=None, timeout=_SECONDS, env=[]
            )
            (listing,) = scan.listings(asked, None)
    except scan.UsageError as error:
        raise Stop(USAGE, *str(error).splitlines()) from None
    except ModuleNotFoundError:
        raise Stop(USAGE, "asking a server needs the MCP client: pip install 'mcp-policy[mcp]'") from None
    if listing.failure is not None:
        raise Stop(USAGE, f"the server gave no list of tools: {listing.failure}")
    return listing.server, list(listing.tools)


def _known(name: str) -> tuple[str, list[dict[str, Any]]]:
    """Return a server of the catalogue, and its tools as far as the catalogue has kept their definitions."""
    server = known_server(name)
    return server.id, [_definition(tool, entry.parameters, entry.hints) for tool, entry in server.tools.items()]


def known_server(name: str) -> ServerEntry:
    """Return a server of the catalogue. Raises `Stop`."""
    from mcp_policy.catalogue.lookup import ToolCatalogue
    from mcp_policy.suggestions import hint

    catalogue = ToolCatalogue.bundled()
    server = catalogue.server(name)
    if server is None:
        known = tuple(called for entry in catalogue.servers() for called in (entry.id, *entry.names))
        near = hint(name, known)
        lead = near if near.startswith("did you mean") else "`mcp-policy catalog list` shows all"
        raise Stop(USAGE, f"there is no server {shown(name)} in the catalogue; {lead}")
    return server


def _definition(name: str, parameters: Mapping[str, Any], hints: Mapping[str, bool]) -> dict[str, Any]:
    properties = {
        key: {word: value for word, value in about.items() if word != "required"} for key, about in parameters.items()
    }
    required = [key for key, about in parameters.items() if about.get("required")]
    schema = {"type": "object", "properties": properties, "required": required}
    return {"name": name, "inputSchema": schema, "annotations": dict(hints)}


# -- one policy


def _checked(
    path: str, server: str | None, tools: list[Any] | None, *, catalogued: bool
) -> tuple[list[FileFindings], int]:
    """Return what was found in a policy and in its file of suppressions, and the exit status.

    The name by which a server calls itself counts only where the policy, or the catalogue, knows it by that.
    """
    from mcp_policy.checks import check, placed, suppressed
    from mcp_policy.errors import PolicyError
    from mcp_policy.policy import Policy, format_of

    data = read_bytes(path)
    try:
        policy = Policy.parse(data, format_of(path))
    except PolicyError as error:
        return [FileFindings(path, [_as_finding(problem) for problem in error.problems])], INVALID
    except ImportError as error:
        raise Stop(USAGE, f"{shown(path)} cannot be read: {error}") from None
    beside, suppressions = _suppressions(path)
    known = server if catalogued or server in policy.document.get("servers", {}) else None
    everything = placed(check(policy, tools, server=known), data, path)
    remaining, lived_with, unused = suppressed(everything, suppressions, tools=tools is not None)
    found = [FileFindings(path, remaining, [Suppressed(*one) for one in lived_with])]
    if unused:
        found.append(FileFindings(beside, placed(unused, read_bytes(beside), beside)))
    failing = any(one.severity != "note" for one in (*remaining, *unused))
    return found, FOUND if failing else FINE


def _suppressions(path: str) -> tuple[str, tuple[Suppression, ...]]:
    """Return the suppressions beside a policy, and the name of their file."""
    from mcp_policy.checks import read_suppressions
    from mcp_policy.errors import PolicyError

    file = Path(path)
    beside = str(file.with_name(f"{file.stem}.check.json"))
    if path == "-" or not Path(beside).exists():
        return beside, ()
    try:
        return beside, read_suppressions(read_bytes(beside))
    except PolicyError as error:
        raise Stop(USAGE, *(f"{shown(beside)}: {problem}" for problem in error.problems)) from None


def _as_finding(problem: Problem) -> Finding:
    return Finding(problem.code, "error", problem.pointer, problem.message, "", problem.line, problem.column)


def _rules() -> dict[str, str]:
    from mcp_policy.checks import CODES
    from mcp_policy.errors import ProblemCode

    return {kind.code: kind.summary for kind in CODES.values()} | {
        str(code): f"the policy is not valid: {code.replace('_', ' ')}" for code in ProblemCode
    }
