"""Show which recorded calls another policy would decide differently, before it is put in force.

Reads records of decisions, as `JsonLinesSink` and `mcp-policy gateway --audit` write them, and puts each call to the
new policy, limits included. A record has the names of arguments and only the values of those that were called safe, so
some calls cannot be told: it says what they depend on. `mcp-policy audit verify` looks at the record's seal, this does
not.

  mcp-policy replay audit.jsonl --policy new.json

The exit status is 0, or 5 if `--fail-on` applies: `looser` (a call runs that did not), `unknown` (that, or a call that
cannot be told), `any` (a call is decided differently; the default).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ._exits import FINE, REFUSED, USAGE, Stop
from ._files import read_policy, shown
from ._render import Style, Text
from ._style import write_lines, write_text

if TYPE_CHECKING:
    from mcp_policy.replay import Verdict

_STYLES: Final[dict[str, Style]] = {"allow": "good", "limit": "medium", "approve": "medium", "deny": "bad"}
_MOST: Final = 10_000  # different lines of the table; a record of more is counted on without them


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "record", metavar="RECORD", help="the record; files that were set aside when they were full are taken along"
    )
    parser.add_argument("--policy", metavar="FILE", required=True, help="the policy to put the calls to")
    parser.add_argument(
        "--fail-on",
        metavar="WHAT",
        choices=("looser", "unknown", "any"),
        default="any",
        help="`looser`, `unknown` or `any`: what makes the exit status 5 (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Replay, print and return the exit status."""
    from mcp_policy.replay import Replay

    replay = Replay(read_policy(arguments.policy).policy)
    found = _Found()
    for where, record in _records(arguments.record):
        try:
            found.add(replay.judge(record))
        except ValueError as error:
            raise Stop(USAGE, f"{where}: {error}") from None
    if arguments.json:
        write_text(json.dumps(found.as_data(), indent=2) + "\n")
    else:
        write_lines(found.lines())
    failing = {"looser": found.looser, "unknown": found.looser + found.unknown, "any": found.different}
    return REFUSED if failing[arguments.fail_on] else FINE


def _records(path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the records of decisions, and where they stand. Raises `Stop` at a line that is no record."""
    from ._audit_files import lines, opened, parsed

    with ExitStack() as stack:
        for line in lines(opened(path, stack)):
            where = f"{shown(line.file)}, line {line.number}"
            record = parsed(line.text)
            if record is None or not isinstance(record.get("kind"), str):
                raise Stop(USAGE, f"{where}: this is no record of a decision")
            if record["kind"] == "decision":
                yield where, record


class _Kind(NamedTuple):
    """Calls that come out alike."""

    server: str | None
    tool: str
    before: str
    after: str | None
    rule: str
    why: str


class _Found:
    """What has been found so far."""

    def __init__(self) -> None:
        self.calls = self.different = self.looser = self.unknown = 0
        self._kinds: dict[_Kind, list[int]] = {}  # how many, and the first record

    def add(self, verdict: Verdict) -> None:
        """Count a verdict."""
        self.calls += 1
        self.different += verdict.differs
        self.looser += verdict.is_looser
        self.unknown += verdict.after is None
        if verdict.after is verdict.before:
            return
        after = None if verdict.after is None else str(verdict.after)
        kind = _Kind(verdict.server, verdict.tool, str(verdict.before), after, verdict.rule, verdict.why)
        if kind in self._kinds:
            self._kinds[kind][0] += 1
        elif len(self._kinds) < _MOST:
            self._kinds[kind] = [1, verdict.seq]

    def as_data(self) -> dict[str, Any]:
        """Return everything as JSON can hold it."""
        counts = {name: getattr(self, name) for name in ("calls", "different", "looser", "unknown")}
        kinds = [{**kind._asdict(), "calls": calls, "first": first} for kind, (calls, first) in self._sorted()]
        return {**counts, "kinds": kinds}

    def lines(self) -> Iterator[tuple[Any, ...]]:
        """Yield the lines of the table and a summary."""
        rows = [(kind, f"{calls:,}", first) for kind, (calls, first) in self._sorted()]
        wide = max((len(calls) for _, calls, _ in rows), default=0)
        for kind, calls, first in rows:
            tool = kind.tool if kind.server is None else f"{kind.server}: {kind.tool}"
            after = "cannot be told" if kind.after is None else kind.after
            style: Style = "muted" if kind.after is None else _STYLES[kind.after]
            about = kind.why or kind.rule
            yield (
                *(calls.rjust(wide), "  ", Text(kind.before, _STYLES[kind.before]), " → ", Text(after, style)),
                *("  ", Text(tool, "name"), "  ", about, f"  (first: record {first})"),
            )
        if rows:
            yield ("",)
        different = f"{self.different:,} decided differently ({self.looser:,} looser)"
        yield (f"{self.calls:,} calls: {different}, {self.unknown:,} cannot be told",)

    def _sorted(self) -> list[tuple[_Kind, list[int]]]:
        """Looser ones first, then the rest of what differs, then what cannot be told; the most frequent first."""
        return sorted(self._kinds.items(), key=lambda one: (one[0].after is None, one[0].after != "allow", -one[1][0]))
