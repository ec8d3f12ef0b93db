"""Turn a policy of Intercept, the proxy, into one of ours.

    mcp-policy convert intercept.yaml > policy.json
    mcp-policy convert intercept.yaml -o policy.json --format json

FILE is YAML (with the extra `yaml`) or JSON. The new policy goes to standard output or to a new file OUT; what differs
from the original goes to standard error, by line. No call is allowed that the original denies: `stricter` says what
will be denied besides, `differs` what will be otherwise, and `refused` what cannot be said here and has to be written
by hand. With `--format json`, policy and notes are one JSON value on standard output.

The exit status is 0 if there is a policy, 4 if something was refused (then there is none), 3 if FILE is no YAML or
JSON, and 2 if a file cannot be read or written.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mcp_policy.errors import PolicyError, readable

from ._exits import FINE, FOUND, INVALID, USAGE, Stop
from ._files import read_bytes
from ._render import printable, visible
from ._report import add_format
from ._style import write_text

if TYPE_CHECKING:
    from mcp_policy.conversion import Conversion, Note


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    parser.add_argument("file", metavar="FILE", help="the policy to convert; `-` is standard input")
    parser.add_argument("-o", "--output", metavar="OUT", help="a new file for the policy, instead of standard output")
    add_format(parser, "json")


def run(arguments: argparse.Namespace) -> int:
    """Convert, print, write what was asked for, and return the exit status."""
    conversion = _converted(arguments.file)
    text = _text(conversion)
    if arguments.output is not None and text is not None:
        _create(Path(arguments.output), text)
    if arguments.format == "json":
        notes = [note._asdict() for note in conversion.notes]
        write_text(json.dumps({"policy": conversion.document, "notes": notes}, indent=2) + "\n")
    else:
        _tell(arguments.file, conversion)
        if arguments.output is None and text is not None:
            write_text(text)
    return FOUND if text is None else FINE


def _converted(file: str) -> Conversion:
    from mcp_policy.conversion import convert

    data = read_bytes(file)
    try:
        return convert(data, "json" if Path(file).suffix.lower() == ".json" else "yaml")
    except PolicyError as error:
        raise Stop(INVALID, *(f"{file}:{'' if problem.line else ' '}{problem}" for problem in error.problems)) from None
    except ImportError as error:
        raise Stop(USAGE, f"`{readable(file, 200)}` cannot be read: {error}") from None


def _text(conversion: Conversion) -> str | None:
    from mcp_policy.layout import layout

    return None if conversion.document is None else layout(json.dumps(conversion.document))


def _create(path: Path, text: str) -> None:
    """Write a file that is not there yet, whole or not at all."""
    try:
        with path.open("x", encoding="utf-8") as file:
            try:
                file.write(text)
                file.flush()
            except BaseException:
                path.unlink(missing_ok=True)
                raise
    except (OSError, ValueError) as error:  # a ValueError is a name with a null character
        why = os.strerror(error.errno).lower() if isinstance(error, OSError) and error.errno else str(error)
        raise Stop(USAGE, f"`{readable(str(path), 200)}` cannot be written: {why}") from None


def _tell(file: str, conversion: Conversion) -> None:
    for note in conversion.notes:
        _say(f"{file}:{_place(note)}: {note.kind}: {note.message} ({note.code})")
    count = f"{len(conversion.notes)} note{'' if len(conversion.notes) == 1 else 's'}"
    _say(f"mcp-policy convert: {'converted' if conversion.document is not None else 'not converted'}, {count}")


def _place(note: Note) -> str:
    return note.pointer or "document" if note.line is None else f"{note.line}:{note.column}"


def _say(text: str) -> None:
    print(printable(visible(text), sys.stderr), file=sys.stderr)
