"""Complete commands, options and file names of mcp-policy in your shell.

Prints the script that teaches it to a shell. For bash, and each new shell from now on:

  mcp-policy completion bash > ~/.local/share/bash-completion/completions/mcp-policy

For zsh, into a folder of `$fpath` with the name `_mcp-policy`; for fish, to
`~/.config/fish/completions/mcp-policy.fish`. Print it again after an upgrade. Needs the extra `completion`.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any, Final

from ._exits import FAILED, FINE, Stop
from ._style import write_text

SHELLS: Final = ("bash", "zsh", "fish")

# What commands call the files and folders that they take.
_FILES: Final = re.compile(r"FILE|PATHS?|POLIC(Y|IES)|DOCUMENT|TOOLS|OLD|NEW|CASES?")
_FOLDERS: Final = re.compile(r"DIR|FOLDER")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help=f"one of {', '.join(SHELLS)}")


def run(arguments: argparse.Namespace) -> int:
    """Print the script of a shell and return the exit status."""
    try:
        shtab: Any = import_module("shtab")
    except ImportError:
        raise Stop(FAILED, "completion needs shtab: pip install 'mcp-policy[completion]'") from None
    write_text(script(shtab, arguments.shell))
    return FINE


def script(shtab: Any, shell: str) -> str:
    """Return the script that completes all commands in a shell, written by `shtab`."""
    from . import COMMANDS, command_line

    parser = command_line(COMMANDS)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            action.help = "what to do"  # it hides its commands from the help, which lists them by what they are for
    for action in _actions(parser):
        _complete_names(action, shtab)
    written: str = shtab.complete(parser, shell)
    return written.rstrip() + "\n"


def _complete_names(action: argparse.Action, shtab: Any) -> None:
    metavar = action.metavar if isinstance(action.metavar, str) else ""
    if action.nargs != 0 and action.choices is None:
        if _FILES.fullmatch(metavar):
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # where shtab looks for it
        elif _FOLDERS.fullmatch(metavar):
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
