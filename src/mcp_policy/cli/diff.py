"""Compare two policies by what they let run, not by how they are written.

For each tool the new policy is equal, stricter, looser, or both, and for every difference there is a call that shows
it: one policy lets it run, the other does not, and the engines of both have confirmed it. "equal" means that there is
no such call. Where that could not be decided, it says "unknown" and why.

  mcp-policy diff old.json new.json
  git show main:policy.json | mcp-policy diff - policy.json --format markdown

The exit status is 0, or 5 if `--fail-on` applies: `looser` (something runs that did not), `unknown` (that, or something
could not be decided; the default), `any` (they are not equal).
"""

from __future__ import annotations

import argparse
import gc
import json
import re
from collections.abc import Iterator, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

from ._exits import FINE, REFUSED
from ._files import PolicyFile, read_policy
from ._render import Cell, Style, Text, visible
from ._report import add_format
from ._style import write_lines, write_text

if TYPE_CHECKING:
    from mcp_policy import Decision, ToolCall
    from mcp_policy.comparison import Comparison, Step, ToolDifference, Witness

_STYLES: Final[dict[str, Style]] = {
    "equal": "good",
    "stricter": "good",
    "looser": "bad",
    "both": "bad",
    "unknown": "medium",
}
_FEW: Final = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("old", metavar="OLD", help="the policy before; `-` is standard input")
    parser.add_argument("new", metavar="NEW", help="the policy after")
    parser.add_argument(
        "--fail-on",
        metavar="WHAT",
        choices=("looser", "unknown", "any"),
        default="unknown",
        help="`looser`, `unknown` or `any`: what makes the exit status 5 (default: %(default)s)",
    )
    add_format(parser, "json", "markdown", "github")


def run(arguments: argparse.Namespace) -> int:
    """Compare, print and return the exit status."""
    old, new = read_policy(arguments.old), read_policy(arguments.new)
    found = _compared(old, new)
    failing = _fails(found, arguments.fail_on)
    if arguments.format == "json":
        write_text(json.dumps(_data(found), indent=2) + "\n")
    elif arguments.format == "markdown":
        write_text(_summary(found, new) + "\n")
    elif arguments.format == "github":
        write_text(_commands(found, new, failing=failing))
    else:
        write_lines(_pretty(found, old, new))
    return REFUSED if failing else FINE


def _compared(old: PolicyFile, new: PolicyFile) -> Comparison:
    from mcp_policy.comparison import compare

    gc.disable()  # what is made is kept until the end: looking for garbage would take half of the time
    try:
        return compare(old.policy, new.policy)
    finally:
        gc.enable()


def _fails(found: Comparison, on: str) -> bool:
    if on == "any":
        return found.relation != "equal"
    return found.looser or (on == "unknown" and found.undecided)


# -- for people


def _pretty(found: Comparison, old: PolicyFile, new: PolicyFile) -> Iterator[Sequence[Cell]]:
    """Yield lines: what became of the policy as a whole, then tool by tool."""
    count = f"{len(found.tools)} of {found.compared} differ" if found.tools else f"{found.compared} compared"
    yield [f"{_name(old)} → {_name(new)}: ", Text(found.relation, _STYLES[found.relation]), f" (tools: {count})"]
    for why in found.unknown:
        yield [Text("  undecided: ", "medium"), why]
    for tool in found.tools:
        yield []
        yield [Text(tool.tool, "name"), ": ", Text(tool.relation, _STYLES[tool.relation])]
        yield from _witness("  runs now", tool.looser, "bad")
        yield from _witness("  stopped now", tool.stricter, "good")
        for why in tool.unknown:
            yield [Text("  undecided: ", "medium"), why]
        for note in tool.notes:
            yield [Text("  note: ", "muted"), note]


def _name(file: PolicyFile) -> str:
    return "standard input" if file.path == "-" else file.path


def _witness(says: str, witness: Witness | None, style: Style) -> Iterator[Sequence[Cell]]:
    if witness is None:
        return
    more = f", while {witness.while_}" if witness.while_ else ""
    yield [Text(f"{says}{more}: ", style), *_steps(witness.steps)]
    yield [Text("    old  ", "muted"), str(witness.old)]
    yield [Text("    new  ", "muted"), str(witness.new)]


def _steps(steps: Sequence[Step]) -> Iterator[Cell]:
    """Yield what is called, and before it what has been called already."""
    from mcp_policy.comparison.telling import before_text, call_text

    yield visible(call_text(steps[-1].call))
    before = before_text(steps)
    if before:
        yield before


# -- for programs


def _data(found: Comparison) -> dict[str, Any]:
    return {
        "relation": found.relation,
        "compared": found.compared,
        "unknown": list(found.unknown),
        "tools": [_tool_data(tool) for tool in found.tools],
    }


def _tool_data(tool: ToolDifference) -> dict[str, Any]:
    return {
        "tool": tool.tool.replace("`", "") if tool.tool.count("`") == 2 else tool.tool,
        "relation": tool.relation,
        "looser": tool.looser and _witness_data(tool.looser),
        "stricter": tool.stricter and _witness_data(tool.stricter),
        "unknown": list(tool.unknown),
        "notes": list(tool.notes),
    }


def _witness_data(witness: Witness) -> dict[str, Any]:
    return {
        "steps": [{"at": step.at, "times": step.times, "call": _call_data(step.call)} for step in witness.steps],
        "while": witness.while_,
        "old": _decision_data(witness.old),
        "new": _decision_data(witness.new),
    }


def _call_data(call: ToolCall) -> dict[str, Any]:
    """Return a call as `mcp-policy eval` and case files read it; what JSON cannot hold as text."""
    who = call.principal
    data = {
        "tool": call.tool,
        "arguments": _plain(call.arguments),
        "server": call.server,
        "session": call.session,
        "principal": who and {name: _plain(value) for name, value in who._asdict().items() if value},
        "context": _plain(call.context),
        "category": call.category,
    }
    return {name: value for name, value in data.items() if value or name == "arguments"}


def _plain(value: Any) -> Any:
    """Return a value as JSON holds it; a number that it cannot hold as case files write it."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not isfinite(value):
        return {"$float": str(value)}
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def _decision_data(decision: Decision) -> dict[str, Any]:
    return {
        "effect": decision.effect,
        "codes": list(dict.fromkeys(reason.code for reason in decision.reasons)),
        "rules": [reason.rule for reason in decision.reasons if reason.rule],
        "message": str(decision),
    }


# -- for a pull request


def _summary(found: Comparison, new: PolicyFile) -> str:
    """Return one line of Markdown."""
    said = [f"{_code(_name(new))}: **{found.relation}**"]
    parts: dict[str, list[tuple[ToolDifference, Witness | None]]] = {
        "runs now": [(tool, tool.looser) for tool in found.tools if tool.looser],
        "stopped now": [(tool, tool.stricter) for tool in found.tools if tool.stricter],
        "undecided": [(tool, None) for tool in found.tools if tool.unknown],
    }
    for says, tools in parts.items():
        if tools:
            named = ", ".join(_brief(tool, witness) for tool, witness in tools[:_FEW])
            rest = f" and {len(tools) - _FEW} more" if len(tools) > _FEW else ""
            said.append(f"{says}: {named}{rest}")
    said += [f"undecided: {_code(why)}" for why in found.unknown]
    return "; ".join(said)


def _brief(tool: ToolDifference, witness: Witness | None) -> str:
    if witness is None:
        return _code(tool.tool.replace("`", ""))
    call, *rest = map(str, _steps(witness.steps))
    return _code(call) + "".join(rest)


def _code(text: str) -> str:
    """Return a text as code, fenced by more backticks than it has in a row."""
    shown = visible(text)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    return f"{fence} {shown} {fence}" if "`" in shown else f"`{shown}`"


def _commands(found: Comparison, new: PolicyFile, *, failing: bool) -> str:
    """Return workflow commands of GitHub Actions: one for each tool that differs."""
    from ._github import command

    place = None if new.path == "-" else new.path
    level = "error" if failing else "notice"
    lines = []
    for tool in found.tools:
        worse = tool.looser is not None or bool(tool.unknown)
        text = "\n".join(
            "".join(str(cell.text if isinstance(cell, Text) else cell) for cell in line) for line in _body(tool)
        )
        lines.append(
            command(level if worse else "notice", _visible_block(text), file=place, title=f"policy {tool.relation}")
        )
    lines += [command(level, visible(why), file=place, title="policy unknown") for why in found.unknown]
    return "".join(lines)


def _body(tool: ToolDifference) -> Iterator[Sequence[Cell]]:
    yield [tool.tool]
    yield from _witness("runs now", tool.looser, "bad")
    yield from _witness("stopped now", tool.stricter, "good")
    yield from ([f"undecided: {why}"] for why in tool.unknown)


def _visible_block(text: str) -> str:
    """Return lines in which every character shows."""
    return "\n".join(visible(line) for line in text.split("\n"))
