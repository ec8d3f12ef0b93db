"""Decide calls by a policy: what would become of them, and why.

  mcp-policy eval policy.json --tool create_charge --args '{"amount": 150}' --role finance
  mcp-policy eval policy.json --calls calls.jsonl --format json

In a file, a call is an object: `tool`, `arguments`, `server`, `session`, `principal` (`id`, `issuer`, `client`,
`roles`, `scopes`, `claims`), `context`, `category`, `at`. With each call on a line of its own, each gets an answer, in
the same order; a line that is no call is denied.

Nothing is run, and nothing is counted: every call meets its limits unused. With `--authorize` the calls are decided one
after the other as a server would, so that limits fill up and approvals are asked for; `"at": 90` puts a call at second
90. No time passes.

The exit status is 0 if every call is allowed, 5 if one is not, 2 if the command line or a file cannot be read, 3 if the
policy is not valid.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final, NamedTuple

from . import _calls
from ._exits import FINE, REFUSED
from ._files import PolicyFile, read_policy
from ._report import add_format

if TYPE_CHECKING:
    from mcp_policy.decision import Decision
    from mcp_policy.policy import Policy

    from ._calls import Asked, Refused
    from ._decisions import Line, Places

_AT_ONCE: Final = 1_000  # decisions that are printed together


class _Decided(NamedTuple):
    """What was asked, and the answer."""

    asked: Asked | Refused
    decision: Decision


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    _calls.add_arguments(parser, many=True)
    how = parser.add_argument_group("how")
    how.add_argument("--authorize", action="store_true", help="count calls against limits and ask for approvals")
    how.add_argument(
        "--at", metavar="SECONDS", type=_calls.seconds, default=0.0, help="the time of the first call (default: 0)"
    )
    add_format(how, "json")  # type: ignore[arg-type]  # a group takes arguments as a parser does


def run(arguments: argparse.Namespace) -> int:
    """Decide, print, and return the exit status."""
    file = read_policy(arguments.policy)
    asked = _calls.read_calls(arguments)
    decided = _decided(file.policy, [asked] if isinstance(asked, _calls.Asked) else asked, arguments)
    if arguments.format == "json":
        return _print_json(decided, indent=2 if arguments.calls is None else None)
    return _print_one(next(decided), file) if isinstance(asked, _calls.Asked) else _print_all(decided, file)


def _decided(policy: Policy, asked: Iterable[Asked | Refused], arguments: argparse.Namespace) -> Iterator[_Decided]:
    """Decide calls one after the other, each at its own time."""
    from mcp_policy.decision import Decision, Effect, Reason, ReasonCode
    from mcp_policy.engine import PolicyEngine

    now: float = arguments.at
    engine = PolicyEngine(policy, clock=lambda: now)
    decide = engine.authorize if arguments.authorize else engine.evaluate
    for one in asked:
        if isinstance(one, _calls.Refused):
            yield _Decided(one, Decision(Effect.DENY, (Reason(ReasonCode.INVALID_CALL, one.why),)))
        else:
            now = now if one.at is None else one.at
            yield _Decided(one, decide(one.call))


def _status(effects: Iterable[str]) -> int:
    return FINE if all(effect == "allow" for effect in effects) else REFUSED


def _print_json(decided: Iterator[_Decided], indent: int | None) -> int:
    from ._decisions import as_data
    from ._style import write_text

    effects: set[str] = set()
    while some := list(islice(decided, _AT_ONCE)):
        lines = []
        for asked, decision in some:
            line = {} if asked.line is None else {"line": asked.line}
            lines.append(json.dumps(line | as_data(decision), indent=indent) + "\n")
        write_text("".join(lines))
        effects.update(str(one.decision.effect) for one in some)
    return _status(effects)


def _print_one(decided: _Decided, file: PolicyFile) -> int:
    from ._decisions import details, headline, limits, locator, rules_of
    from ._style import write_lines

    decision = decided.decision
    lines = [headline(decision, _tool(decided.asked)), ()]
    lines += details(decision, locator(file)(rules_of(decision)), "  ")
    if decision.limits:
        lines += [(), *limits(decision)]
    write_lines(lines)
    return _status([str(decision.effect)])


def _print_all(decided: Iterator[_Decided], file: PolicyFile) -> int:
    from ._decisions import STYLES, locator, rules_of
    from ._render import Cell, Text
    from ._style import write_lines

    effects: Counter[str] = Counter()
    locate = locator(file)
    while some := list(islice(decided, _AT_ONCE)):
        places = locate([rule for one in some for rule in rules_of(one.decision)])
        write_lines(line for one in some for line in _lines(one, places))
        effects.update(str(one.decision.effect) for one in some)
    counts: list[Cell] = []
    for effect, style in STYLES.items():
        if effects[effect]:
            counts += [", " if counts else "", Text(f"{effects[effect]:,} {effect}", style)]
    write_lines([(), (f"{effects.total():,} calls: ", *counts)])
    return _status(effects)


def _lines(one: _Decided, places: Places) -> Iterator[Line]:
    """Yield the answer to one of several calls; about one that is simply allowed, no more than that."""
    from ._decisions import details, headline

    yield headline(one.decision, _tool(one.asked), f"{one.asked.line:>5}  ")
    if not one.decision.allowed or one.decision.would_be is not None:
        yield from details(one.decision, places, " " * 16)


def _tool(asked: Asked | Refused) -> str:
    return "(not a call)" if isinstance(asked, _calls.Refused) else asked.call.tool
