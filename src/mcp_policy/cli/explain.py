"""Show why a call is decided as it is: every rule that matches, and every condition with its outcome.

  mcp-policy explain policy.json --tool create_charge --args '{"amount": 150}'
  mcp-policy explain policy.json --tool create_charge --all

The tree shows what each condition found in the call, shortened: think before you show it to others. `--all` adds the
entries that have no part in the decision, and why. Nothing is run, and nothing is counted: limits stand as if this were
the first call.

The exit status is 0 whatever was decided, 2 if the command line or a file cannot be read, 3 if the policy is not valid.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from . import _calls
from ._exits import FINE, USAGE, Stop
from ._files import PolicyFile, read_policy
from ._report import add_format

if TYPE_CHECKING:
    from mcp_policy.call import ToolCall
    from mcp_policy.explain import Explanation

    from ._calls import Asked
    from ._decisions import Line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    _calls.add_arguments(parser, many=False)
    how = parser.add_argument_group("how")
    how.add_argument("--all", action="store_true", help="show also the entries without a part in it, and why")
    add_format(how, "json")  # type: ignore[arg-type]  # a group takes arguments as a parser does


def run(arguments: argparse.Namespace) -> int:
    """Explain, print, and return the exit status."""
    from mcp_policy.engine import PolicyEngine
    from mcp_policy.explain import explain

    from ._style import write_lines, write_text

    file = read_policy(arguments.policy)
    call = _call(arguments).call
    engine = PolicyEngine(file.policy)
    explanation = explain(engine._plans.document, call, engine.evaluate(call), values=True, others=arguments.all)
    if arguments.format == "json":
        write_text(json.dumps(_data(call, explanation), indent=2) + "\n")
    else:
        write_lines(_lines(call, explanation, file))
    return FINE


def _call(arguments: argparse.Namespace) -> Asked:
    asked = _calls.read_calls(arguments)
    if not isinstance(asked, _calls.Asked):
        raise Stop(USAGE, "one call is explained at a time; `mcp-policy eval` decides several")
    return asked


def _lines(call: ToolCall, explanation: Explanation, file: PolicyFile) -> Iterator[Line]:
    from mcp_policy.explain import nodes

    from ._decisions import details, headline, locator, rules_of
    from ._tree import pointers, tree

    decision, branches = explanation.decision, nodes(explanation)
    places = locator(file)([*rules_of(decision), *pointers(branches)])
    yield headline(decision, call.tool)
    yield ()
    yield from details(decision, places, "  ")
    yield from _notes(call, explanation, file)
    yield ()
    yield from tree(branches, places)


def _notes(call: ToolCall, explanation: Explanation, file: PolicyFile) -> Iterator[Line]:
    """Yield what explains the most puzzling decisions: an unknown category, and a name that is not spelt right."""
    from mcp_policy.call import UNKNOWN
    from mcp_policy.suggestions import hint

    if explanation.category == UNKNOWN:
        yield ("  its category is unknown: it is restricted like every category, and listed by none",)
    elif explanation.category is not None:
        yield (f"  its category is `{explanation.category}`",)
    if not any(rule.lists for rule in explanation.rules):
        meant = hint(call.tool, _names(call, file))
        if meant.startswith("did you mean"):
            yield (f"  no entry lists it; {meant}",)


def _names(call: ToolCall, file: PolicyFile) -> tuple[str, ...]:
    """Return the tools that a policy spells out for the server that is called."""
    from mcp_policy.patterns import is_exact

    tree = file.policy.document
    own = tree.get("servers", {}).get(call.server, {}) if call.server else {}
    names = [*tree.get("tools", {}), *own.get("tools", {})]
    return tuple(name for name in names if is_exact(name) and name != call.tool)


def _data(call: ToolCall, explanation: Explanation) -> dict[str, Any]:
    from ._decisions import as_data

    return {
        "tool": call.tool,
        "server": call.server,
        "category": explanation.category,
        "decision": as_data(explanation.decision),
        "hidden": explanation.hidden,
        "rules": [_plain(rule) for rule in explanation.rules],
        "others": [_plain(other) for other in explanation.others],
        "default": explanation.default,
    }


def _plain(value: Any) -> Any:
    """Return a trace as JSON can hold it: what has names is an object."""
    if hasattr(value, "_asdict"):
        return {name: _plain(part) for name, part in value._asdict().items()}
    return [_plain(part) for part in value] if isinstance(value, tuple) else value
