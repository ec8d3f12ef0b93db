"""Look up what a tool can do: its risk, what shows it, how it is abused, and the policy that bounds it.

`mcp-policy catalog list` shows all servers, `show SERVER` the tools of one, `show SERVER TOOL` everything about a tool,
`search WORD` finds tools by what they are called and do, `attacks` explains the attack patterns. Nothing is asked over
the network. The exit status is 0 if something was found, 1 if a search found nothing, 2 if there is no such name.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from mcp_policy.errors import readable

from ._render import add_format, visible

if TYPE_CHECKING:
    from mcp_policy.catalogue.attacks import Attack
    from mcp_policy.catalogue.lookup import ServerEntry, ToolCatalogue, ToolEntry

# What only a lookup needs is imported by it: help and other commands start without.


class UnknownNameError(Exception):
    """Nothing has the name that was asked for; the message says so, and which name may have been meant."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's own commands and their options."""
    commands = parser.add_subparsers(title="commands", metavar="WHAT", required=True)
    listing = _command(commands, "list", "all servers, with their tools counted by risk", _list)
    show = _command(commands, "show", "a server's tools, or everything about one tool", _show)
    show.add_argument("server", metavar="SERVER", help="its id, its package or the name it introduces itself by")
    show.add_argument("tool", metavar="TOOL", nargs="?", help="one of its tools")
    search = _command(commands, "search", "tools by name, server and what they do", _search)
    search.add_argument("words", metavar="WORD", nargs="+", help="has to occur; upper and lower case are the same")
    for command in (listing, show, search):
        command.add_argument(
            "--catalog",
            metavar="FILE",
            action="append",
            default=[],
            help="a catalogue file of your own, in front of the bundled ones; may be given several times",
        )
    attacks = _command(commands, "attacks", "the attack patterns and what stops them", _attacks)
    attacks.add_argument("attack", metavar="ID", nargs="?", help="one pattern")


def run(arguments: argparse.Namespace) -> int:
    """Print what was asked for and return the exit status."""
    try:
        status: int = arguments.look(arguments)
    except (UnknownNameError, OSError, ValueError) as error:
        for line in str(error).splitlines():
            print(f"mcp-policy catalog: {visible(line)}", file=sys.stderr)
        return 2
    return status


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    says: str,
    look: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=says, description=f"Show {says}.")
    parser.set_defaults(look=look)
    add_format(parser)
    return parser


def _list(arguments: argparse.Namespace) -> int:
    from mcp_policy.catalogue.page import server_row

    from ._pages import data, servers_section
    from ._render import write

    rows = [server_row(server) for server in _catalogue(arguments).servers()]
    write(servers_section(rows), {"servers": data(rows)}, arguments.format)
    return 0


def _show(arguments: argparse.Namespace) -> int:
    from mcp_policy.catalogue.page import server_page, tool_page

    from ._pages import data, server_section, tool_section
    from ._render import write

    server = _server(_catalogue(arguments), arguments.server)
    if arguments.tool is None:
        page = server_page(server)
        write(server_section(page), data(page), arguments.format)
    else:
        about = tool_page(server, _tool(server, arguments.tool))
        write(tool_section(about), data(about), arguments.format)
    return 0


def _search(arguments: argparse.Namespace) -> int:
    from mcp_policy.catalogue.page import search

    from ._pages import data, search_section
    from ._render import write

    text = " ".join(arguments.words)
    found = search(_catalogue(arguments), arguments.words)
    write(search_section(text, found), {"search": text, "tools": data(found)}, arguments.format)
    return 0 if found else 1


def _attacks(arguments: argparse.Namespace) -> int:
    from mcp_policy.catalogue.attacks import ATTACKS

    from ._pages import attacks_section, data
    from ._render import write

    found = ATTACKS if arguments.attack is None else (_attack(ATTACKS, arguments.attack),)
    write(attacks_section(found), {"attacks": data(found)}, arguments.format)
    return 0


# -- names


def _catalogue(arguments: argparse.Namespace) -> ToolCatalogue:
    from mcp_policy.catalogue.lookup import ToolCatalogue

    return ToolCatalogue.load(*arguments.catalog)


def _server(catalogue: ToolCatalogue, name: str) -> ServerEntry:
    found = catalogue.server(name)
    if found is not None:
        return found
    servers = catalogue.servers()
    having = [server.id for server in servers if name in server.tools]
    if having:
        raise UnknownNameError(f"`{name}` is a tool: try `mcp-policy catalog show {having[0]} {name}`")
    known = (called for server in servers for called in (server.id, *server.names))
    lead = _meant(name, known) or "`mcp-policy catalog list` shows all"
    raise UnknownNameError(f"there is no server `{readable(name)}` in the catalogue; {lead}")


def _tool(server: ServerEntry, name: str) -> ToolEntry:
    if name in server.tools:
        return server.tools[name]
    lead = _meant(name, server.tools) or f"`mcp-policy catalog show {server.id}` lists them"
    raise UnknownNameError(f"server `{server.id}` has no tool `{readable(name)}` in the catalogue; {lead}")


def _attack(attacks: tuple[Attack, ...], name: str) -> Attack:
    for attack in attacks:
        if attack.id == name:
            return attack
    lead = _meant(name, (attack.id for attack in attacks)) or "`mcp-policy catalog attacks` lists them"
    raise UnknownNameError(f"there is no attack pattern `{readable(name)}`; {lead}")


def _meant(name: str, known: Iterable[str]) -> str:
    """Return the question which near name was meant, or nothing where none is near."""
    from mcp_policy.suggestions import hint

    said = hint(name, tuple(known))
    return said if said.startswith("did you mean") else ""
