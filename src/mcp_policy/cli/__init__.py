"""The command line: one module per command, each with `add_arguments(parser)` and `run(arguments) -> int`.

A command's module is imported when the command is asked for. `_exits` lists what an exit status means.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Container, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NoReturn

from ._exits import FAILED, Stop, ended

GROUPS: Final = {
    "see what tools can do": {
        "scan": "see what the tools of your servers can do",
        "catalog": "look up what a tool can do, and the policy for it",
        "explore": "see tools and policy in a browser, and build the policy there",
        "demo": "see a real MCP server behind a policy",
    },
    "write a policy": {
        "convert": "turn a policy of another tool into one of ours",
        "schema": "print the JSON Schema of policy documents, for editors",
        "fmt": "lay policies out in one way",
    },
    "check it, here and in CI": {
        "check": "find mistakes in policies that load",
        "test": "run the test cases of policies",
        "diff": "show what a change of a policy allows or forbids",
    },
    "put it in force": {
        "gateway": "stand in front of servers that you cannot change",
    },
    "see what happens": {
        "approvals": "see the calls that wait for a person, and decide on them",
        "audit": "verify, read and count the record of decisions",
        "replay": "show which recorded calls another policy would decide differently",
    },
    "ask it": {
        "eval": "decide calls by a policy",
        "explain": "show why a call is decided as it is",
    },
    "type less": {
        "completion": "complete commands and options in your shell",
    },
}
"""What a person may want, and the commands for it, each with what it does, in a line."""

COMMANDS: Final = {name: summary for group in GROUPS.values() for name, summary in group.items()}
"""What each command does, in a line; its module has the same name."""

_ABOUT: Final = "A policy document decides every MCP tool call: allow, deny, limit, or ask for approval."
_EPILOG: Final = """\
start here:
  mcp-policy scan -- COMMAND                       what the tools of a server can do, and a policy for them
  mcp-policy check policy.json                     is it a policy, and does it say what you mean?
  mcp-policy eval policy.json --tool read_file     what is decided about a call

`mcp-policy COMMAND --help` tells more about a command."""


class _Parser(argparse.ArgumentParser):
    """A parser in whose errors every character of what was given shows."""

    def error(self, message: str) -> NoReturn:
        from ._render import visible

        super().error(visible(message))


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
    _prepare_streams()
    name = " ".join(["mcp-policy", *(name for name in given[:1] if name in COMMANDS)])
    return ended(name, lambda: _run(given))


def command_line(loaded: Container[str]) -> argparse.ArgumentParser:
    """Return the parser of all commands, with the arguments of those that are `loaded`."""
    parser = _Parser(
        prog="mcp-policy",
        usage="%(prog)s COMMAND ...",
        description=f"{_ABOUT}\n\n{_listed()}",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, help="show the version and exit")
    # The description lists the commands by what they are for.
    commands = parser.add_subparsers(
        prog="mcp-policy", metavar="COMMAND", dest="command", required=True, help=argparse.SUPPRESS
    )
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter)
        if name in loaded:
            module = load(name)
            command.description = module.__doc__
            module.add_arguments(command)
    return parser


def _run(given: Sequence[str]) -> int:
    if sys.stdout is None:  # Python starts without it where it is closed
        raise Stop(FAILED, "standard output cannot be written: it is closed")
    parser = command_line(given[:1])
    if given and given[0] not in COMMANDS and not given[0].startswith("-"):
        from mcp_policy.errors import readable
        from mcp_policy.suggestions import hint

        parser.error(f"there is no command `{readable(given[0])}`: {hint(given[0], tuple(COMMANDS))}")
    own, behind = _divided(given)
    arguments = parser.parse_args(own)
    arguments.behind = behind
    status: int = load(arguments.command).run(arguments)
    return status


def _divided(given: Sequence[str]) -> tuple[Sequence[str], list[str]]:
    """Return the arguments, and the command behind `--tools-from --`, which argparse would take for more of them."""
    for place, argument in enumerate(given[:-1]):
        if argument == "--":
            break
        if argument == "--tools-from" and given[place + 1] == "--":
            return given[: place + 1], list(given[place + 2 :])
    return given, []


def _listed() -> str:
    wide = max(map(len, COMMANDS))
    parts = []
    for title, group in GROUPS.items():
        parts.append("\n".join([f"{title}:", *(f"  {name:<{wide}}  {says}" for name, says in group.items())]))
    return "\n\n".join(parts)


def _prepare_streams() -> None:
    """Let nothing that is printed fail by its encoding, and nothing that is said end among the results."""
    if sys.stderr is None:  # closed; `print` would take standard output instead
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  # as long as the process
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")
