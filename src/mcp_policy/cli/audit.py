"""Verify, read and count the record of decisions.

  mcp-policy audit verify audit.jsonl             was it changed, or is something missing?
  mcp-policy audit tail audit.jsonl --follow      what is decided, as it happens
  mcp-policy audit stats audit.jsonl              what was stopped, how often, and why

Files that were set aside when they were full, `audit.jsonl.000001` and so on, are taken along.

The key that seals the record is needed to verify it: the one of `--key-file`, or of the variable MCP_POLICY_AUDIT_KEY,
or in `audit.jsonl.key`.

The exit status is 0, 2 if a file cannot be read, or 4 if the record is not sound.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from ._exits import FINE, FOUND

if TYPE_CHECKING:
    from mcp_policy.audit.chain import Report

_EVERY: Final = 0.25  # seconds between two looks at a file that is followed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's own commands and their options."""
    commands = parser.add_subparsers(title="commands", metavar="WHAT", required=True)
    verify = _command(commands, "verify", "whether the record is whole and unchanged", _verify)
    verify.add_argument("--key-file", metavar="FILE", help="the key that seals the record (default: RECORD.key)")
    verify.add_argument(
        "--from",
        metavar="SEQ",
        type=_count,
        default=1,
        dest="since",
        help="the record that it begins with, where older files were taken away",
    )
    tail = _command(commands, "tail", "the newest records", _tail)
    tail.add_argument("-n", "--lines", metavar="N", type=_count, default=10, help="how many (default: %(default)s)")
    tail.add_argument("-f", "--follow", action="store_true", help="go on with what is recorded from now on")
    stats = _command(commands, "stats", "what was decided, how often, and what stopped calls", _stats)
    for command in (tail, stats):
        command.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked for and return the exit status."""
    status: int = arguments.work(arguments)
    return status


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    says: str,
    work: Callable[[argparse.Namespace], int],
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=says, description=f"Show {says}.")
    parser.add_argument("record", metavar="RECORD", help="the file that is written to")
    parser.set_defaults(work=work)
    return parser


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 0 < len(text) < 19 and int(text)):
        raise argparse.ArgumentTypeError("a whole number of at least 1")
    return int(text)


# -- verify


def _verify(arguments: argparse.Namespace) -> int:
    from mcp_policy.audit.chain import keys, read_head, verify

    from ._audit_files import lines, opened
    from ._audit_keys import key_for

    sealing = keys(key_for(arguments.record, arguments.key_file))

    def is_whole(content: bytes) -> bool:
        head = read_head(sealing.head, content)
        return head is not None and not head.torn

    with ExitStack() as stack:
        record = opened(arguments.record, stack, is_whole)
        head = None if record.head is None else read_head(sealing.head, record.head)
        report = verify(lines(record), sealing, head, since=arguments.since)
    _tell(report, arguments.record, len(record.files), arguments.since)
    return FINE if report.finding is None else FOUND


def _tell(report: Report, path: str, files: int, since: int) -> None:
    from ._render import Text
    from ._style import write_lines

    records = f"{report.records:,} record{'s' * (report.records != 1)}"
    span = f", {report.first} to {report.last}" if report.records else ""
    found = report.finding
    if found is None:
        where = "" if files < 2 else f", in {files} files"
        write_lines([(Text("sound", "good"), f": {records}{span}{where}")])
    else:
        place = (found.file or path) + ("" if found.line is None else f":{found.line}")
        what = found.what if found.line is None else f"record {found.seq} {found.what}"
        write_lines([(Text(place, "name"), ": ", Text(what, "bad")), (f"sound before it: {records}{span}",)])
    if since > 1 and report.records:
        write_lines([(f"what stands in record {since} is not checked: its seal needs the one before it",)])


# -- tail and stats


def _tail(arguments: argparse.Namespace) -> int:
    from ._audit_files import following, newest, opened
    from ._audit_tail import printer

    with ExitStack() as stack:
        record = opened(arguments.record, stack)
        found = newest(record, arguments.lines)
        show = printer(found, as_json=arguments.json)
        show(found)
        if arguments.follow and record.files:
            for line in following(arguments.record, record.files[-1][1], lambda: time.sleep(_EVERY)):
                show([line])
    return FINE


def _stats(arguments: argparse.Namespace) -> int:
    import json

    from ._audit_files import lines, opened
    from ._audit_stats import counted, data, section
    from ._render import write
    from ._style import write_text

    with ExitStack() as stack:
        stats = counted(line.text for line in lines(opened(arguments.record, stack)))
    if arguments.json:
        write_text(json.dumps(data(stats), indent=2) + "\n")
    else:
        write(section(stats, arguments.record), None, "text")
    return FINE
