"""Lay policies out in one way, so that two of them differ only where they mean something else.

    mcp-policy fmt policy.json             rewrite the file
    mcp-policy fmt --diff policy.json      show what would change, and change nothing
    mcp-policy fmt --check policies/*.json for CI: list the files that would change
    mcp-policy fmt - < policy.json         from standard input to standard output

What a policy decides stays as it is, and so does the order of the reasons that it gives: sections, tools and the
conditions of a rule keep their order. JSON only: in YAML and TOML, comments would be lost.

The exit status is 0 if all is well, 4 if `--check` found a file that would change, 3 for a policy that is not valid
and 2 for a file that cannot be read or written. A file with a problem is left as it is.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

from mcp_policy.errors import PolicyError, readable

from ._exits import FAILED, FINE, FOUND, INVALID, USAGE, Stop
from ._files import read_policy, replace
from ._render import printable, visible, visible_lines
from ._style import write_text


class _Outcome(NamedTuple):
    """A file, its text, and the text that it should have."""

    path: str
    old: str
    new: str

    @property
    def differs(self) -> bool:
        return self.old != self.new


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.add_argument("policies", metavar="POLICY", nargs="+", help="a JSON policy; `-` is standard input")
    parser.add_argument("--check", action="store_true", help="change nothing; list the files that would change")
    parser.add_argument("--diff", action="store_true", help="change nothing; print what would change")


def run(arguments: argparse.Namespace) -> int:
    """Lay out every file that can be, and return the exit status."""
    status, differing = FINE, 0
    for path in arguments.policies:
        try:
            outcome = _outcome(path)
            _tell(outcome, arguments)
        except Stop as stop:
            status = status or stop.status
            for line in stop.lines:
                _say(line)
        else:
            differing += outcome.differs
    if status == FINE and differing and arguments.check:
        status = FOUND
    if arguments.check or arguments.diff:
        _say(f"{differing} of {len(arguments.policies)} would change")
    return status


def _outcome(path: str) -> _Outcome:
    from mcp_policy.layout import layout
    from mcp_policy.policy import Policy

    if Path(path).suffix.lower() in (".yaml", ".yml", ".toml"):
        raise Stop(
            USAGE, f"`{readable(path, 200)}` is left as it is: only JSON can be laid out, comments would be lost"
        )
    file = read_policy(path)
    new = layout(file.data)
    try:
        same = Policy.parse(new) == file.policy
    except PolicyError as error:  # with white space and escapes it is larger than a document may be
        raise Stop(
            INVALID, f"`{readable(path, 200)}` is left as it is: laid out, {error.problems[0].message}"
        ) from None
    if not same:
        raise Stop(FAILED, f"`{readable(path, 200)}` is left as it is: laid out, it would decide otherwise")
    return _Outcome(path, file.data.decode(), new)


def _tell(outcome: _Outcome, arguments: argparse.Namespace) -> None:
    """Print or write what was asked for."""
    if arguments.diff:
        write_text(_difference(outcome))
    if arguments.check:
        if outcome.differs:
            write_text(f"{visible(outcome.path)}\n")
    elif arguments.diff:
        return
    elif outcome.path == "-":
        write_text(outcome.new)
    elif outcome.differs:
        replace(Path(outcome.path), outcome.new.encode())
        _say(f"{outcome.path} was laid out anew")
    else:
        _say(f"{outcome.path} is laid out already")


def _difference(outcome: _Outcome) -> str:
    """Return what would change, for `patch`; what would hide from a person who looks shows."""
    from difflib import unified_diff
    from io import StringIO

    old, new = (list(StringIO(text, newline="\n")) for text in (outcome.old, outcome.new))
    if old and not old[-1].endswith("\n"):
        old[-1] += "\n\\ No newline at end of file\n"
    name = visible(outcome.path)
    text = "".join(unified_diff(old, new, f"{name} (as it is)", f"{name} (laid out)"))
    return visible_lines(text) if sys.stdout.isatty() else text


def _say(text: str) -> None:
    print(printable(f"mcp-policy fmt: {visible(text)}", sys.stderr), file=sys.stderr)
