"""The command line: one module per command, each with `SUMMARY`, `add_arguments(parser)` and `run(arguments) -> int`.

The exit status is 0 where everything went well, 1 where it did not, 2 where the command line could not be read.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, Final

from . import catalog, demo, scan

COMMANDS: Final = {"demo": demo, "catalog": catalog, "scan": scan}

_EPILOG: Final = """\
Start here:
  pip install "mcp-policy[demo]"
  mcp-policy demo          see a real MCP server behind a policy

`mcp-policy COMMAND --help` tells more about a command."""


class _Version(argparse.Action):
    """`--version`, looked up only when it is asked for."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(nargs=0, **settings)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"mcp-policy {version('mcp-policy')}")
        parser.exit()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that `argv` names (the process's own arguments unless given) and return its exit status."""
    parser = argparse.ArgumentParser(
        prog="mcp-policy",
        description="A policy document decides every MCP tool call: allow, deny, limit, or ask for approval.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, help="show the version and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)
    for name, module in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=module.SUMMARY,
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
    arguments = parser.parse_args(argv)
    status: int = COMMANDS[arguments.command].run(arguments)
    return status
