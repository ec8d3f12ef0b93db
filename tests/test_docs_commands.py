"""The page about the command line has every command, option and argument that there is, and no other."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mcp_policy.cli import COMMANDS, load

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "command-line.md"
OPTION = re.compile(r"(?<![\w-])--?[a-z][a-z-]*")
SPOKEN = re.compile(r"`([^`]+)`")


def sections() -> dict[str, str]:
    """The text about each command, by its name; what is about all of them is not in it."""
    _, *parts = re.split(r"^## mcp-policy ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(part.split("\n", 1) for part in parts)


def rows(name: str) -> list[str]:
    """What stands first in each row of a command's tables, for arguments and options."""
    firsts = [line.split("|")[1] for line in sections()[name].splitlines() if line.startswith("| `")]
    return [said for first in firsts for said in SPOKEN.findall(first)]


def actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """What a command takes, also what its own commands take, without `--help`."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from actions(command)
        elif not isinstance(action, argparse._HelpAction):
            yield action


def taken(name: str) -> list[argparse.Action]:
    parser = argparse.ArgumentParser()
    load(name).add_arguments(parser)
    return list(actions(parser))


def spelt(action: argparse.Action) -> str:
    """How the page spells what stands in the first column: `--name NAME`, `--force`, `SERVER`."""
    value = action.metavar if isinstance(action.metavar, str) else action.dest.upper()
    if not action.option_strings:
        return value
    return action.option_strings[-1] + ("" if action.nargs == 0 else f" {value}")


def test_every_command_has_a_section() -> None:
    assert sections().keys() == COMMANDS.keys()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_and_argument_is_on_the_page(name: str) -> None:
    said = {row.removesuffix("...") for row in rows(name)}
    assert [spelt(action) for action in taken(name) if spelt(action) not in said] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_names_no_option_that_there_is_not(name: str) -> None:
    known = {option for action in taken(name) for option in action.option_strings}
    assert {option for said in SPOKEN.findall(sections()[name]) for option in OPTION.findall(said)} <= known


@pytest.mark.parametrize("name", COMMANDS)
def test_the_commands_of_a_command_are_on_the_page(name: str) -> None:
    parser = argparse.ArgumentParser()
    load(name).add_arguments(parser)
    own = [command for action in parser._actions if isinstance(action.choices, dict) for command in action.choices]
    shown = re.findall(rf"^mcp-policy {name} ([a-z]+)", sections()[name], re.MULTILINE)
    assert shown == own
