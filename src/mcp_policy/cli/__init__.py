"""The command line: one module per command, each with `add_arguments(parser)` and `run(arguments) -> int`.

The exit status is 0 where everything went well, 1 where something failed, 2 where the command line or a file could not
be read, and 4 where a check found something. A command's module is imported when the command is asked for.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import Any, Final

COMMANDS: Final = {
    "demo": "see a real MCP server behind a policy",
    "catalog": "look up what a tool can do, and the policy for it",
    "scan": "see what the tools of your servers can do",
}
"""What each command does, in a line; its module has the same name."""

_EPILOG: Final = """\
Start here:
  mcp-policy scan -- COMMAND          what the tools of a server can do, and a policy for them
  mcp-policy catalog show SERVER      the same for a server that the catalogue knows
  mcp-policy demo                     a real MCP server behind a policy

`mcp-policy COMMAND --help` tells more about a command."""


class _Version(argparse.Action):
    """`--version`, looked up only when it is asked for."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(nargs=0, **settings)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"mcp-policy {version('mcp-policy')}")
        parser.exit()


def load(name: str) -> ModuleType:
    """Return the module of a command."""
    return import_module(f".{name}", __name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that `argv` names (the process's own arguments unless given) and return its exit status."""
    given = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(
        prog="mcp-policy",
        description="A policy document decides every MCP tool call: allow, deny, limit, or ask for approval.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, help="show the version and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter)
        if name in given[:1]:
            module = load(name)
            command.description = module.__doc__
            module.add_arguments(command)
    arguments = parser.parse_args(given)
    status: int = load(arguments.command).run(arguments)
    return status
