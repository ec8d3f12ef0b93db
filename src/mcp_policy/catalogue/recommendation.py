"""The policy to begin with: for each tool the rule that its risk asks for.

Rules kept here:

- Nothing is allowed but what is spelt out by name: a tool that a server adds later is denied until somebody has looked.
- Reads are allowed; changes are limited; what runs code is limited, and takes only input of bounded length; what
  deletes, moves money, hands out secrets or is not understood waits for a person.
- A limit counts by principal, which a client cannot make up anew as it can a session. Callers without one, as
  over stdio, share one count.
- A rule has no key that does nothing, and a `reason` in words for the agent that it stops.
- The same tools give the same document, whatever their order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple, TypeAlias

from ..errors import readable
from ..paths import parse_path
from ..patterns import check_name, is_exact
from ..policy import Policy
from ..values import canonical
from .definition import Definition, Tool, parameters, read_definition
from .profile import CATEGORIES, UNSURE, RiskProfile
from .signals import name_words, signals

Rule: TypeAlias = dict[str, Any]
Judged: TypeAlias = tuple[RiskProfile, Definition | None]
"""A tool's risk, and its definition as far as it is known."""

WRITES: Final = (10, "minute")
GRAVE_WRITES: Final = (10, "hour")
"""Writes of level `high`: what they do reaches other people, or is hard to take back."""
RUNS: Final = (10, "minute")

LONGEST_COMMAND: Final = 1_000
"""Characters of a command line."""
LONGEST_QUERY: Final = 4_000
LONGEST_CODE: Final = 10_000
MOST_PARTS: Final = 100
"""Elements of a command or a script that is given as a list."""

_RUN: Final = frozenset({"command", "query"})
_COMMANDS: Final = frozenset({"command", "commands", "cmd", "args"})
_QUERIES: Final = frozenset({"query", "queries", "sql", "cypher", "jql", "cql", "promql", "statement", "statements"})


def recommend(tools: Iterable[Tool], *, server: str | None = None) -> Policy:
    """Return the recommended policy for all tools of a server.

    With `server`, the rules hold for calls to that server only; such policies for several servers become one by
    `merge(policies, listing="any")`. A tool that is given twice has to pass the rules of both. Tools that no rule can
    name (`is_nameable`) are denied, and the description of the policy says so. Raises `ValueError` for a definition
    that cannot be read and for an empty `server`.
    """
    return recommend_judged([_judged(tool) for tool in tools], server=server)


def snippet(tool: Tool, *, server: str | None = None) -> Policy:
    """Return the recommended policy for one tool alone, to be merged with `listing="any"`.

    Raises `ValueError` as `recommend` does, and where no rule can name the tool.
    """
    judged = _judged(tool)
    if not is_nameable(judged[0].tool):
        raise ValueError(
            f"the tool `{readable(judged[0].tool)}` cannot be named in a policy: {_why_not(judged[0].tool)}"
        )
    return recommend_judged([judged], server=server)


def rule_for(tool: Tool) -> Rule:
    """Return the recommended rule for a tool. Raises `ValueError` for a definition that cannot be read."""
    return rule_of(*_judged(tool))


def _judged(tool: Tool) -> Judged:
    from .classifier import classify  # what is known already needs no word lists

    definition = read_definition(tool)
    return classify(definition), definition


def recommend_judged(judged: Iterable[Judged], *, server: str | None = None) -> Policy:
    """Return the recommended policy for tools whose risk is known already; as `recommend`."""
    if server is not None and not server:
        raise ValueError("`server` must not be empty: give the name by which calls come, or leave it out")
    judged = sorted(judged, key=_order)
    named: dict[str, list[Rule]] = {}
    for profile, definition in judged:
        rules = named.setdefault(profile.tool, []) if is_nameable(profile.tool) else []
        rule = rule_of(profile, definition)
        if rule not in rules:
            rules.append(rule)
    tools = {name: rules[0] if len(rules) == 1 else rules for name, rules in named.items()}
    section = {"tools": tools} if tools else {}
    unnamed = sorted({profile.tool for profile, _ in judged} - named.keys())
    document: Rule = {"version": "1"}
    if unnamed:
        names = ", ".join(f"`{readable(name)}`" for name in unnamed)
        document["description"] = f"Denied, because no rule can name them: {names}."
    document["default"] = "deny"
    return Policy.model_validate(document | (section if server is None else {"servers": {server: section}}))


def is_nameable(tool: str) -> bool:
    """Tell whether a rule can be given for just this tool: its name is no pattern, and calls of it are not refused."""
    return is_exact(tool) and check_name(tool) is None


def _why_not(tool: str) -> str:
    return check_name(tool) or "`*` and `?` would match other tools too"


def _order(judged: Judged) -> tuple[bool, int, str, str]:
    """What is allowed comes before what waits for a person; then by category, then by name."""
    profile, definition = judged
    rule = rule_of(profile, definition)
    return "action" in rule, CATEGORIES.index(profile.category), profile.tool, canonical(rule)


# -- one rule


def rule_of(profile: RiskProfile, definition: Definition | None = None) -> Rule:
    """Return the recommended rule for a tool of this risk; `definition` says what can be bounded."""
    asked = _asked(profile)
    if asked is not None:
        return {"action": "approve", "reason": asked}
    if profile.category == "read":
        return {"reason": "This tool only reads and may be called."}
    if profile.category == "write":
        maximum, window = GRAVE_WRITES if profile.level == "high" else WRITES
        return {
            "reason": f"This tool changes things: at most {maximum} calls in any {window}.",
            "rate_limit": _limit(maximum, window),
        }
    return _bounded(definition)


def _asked(profile: RiskProfile) -> str | None:
    """Return why a person has to be asked about a tool; None where nobody has."""
    if profile.confidence < UNSURE:
        return "What this tool does is not known well enough, so a person has to approve each call."
    if profile.category == "financial":
        return "This tool moves money or commits to pay, so a person has to approve each call."
    if profile.category == "destructive":
        return "What this tool removes or overwrites may not come back, so a person has to approve each call."
    if profile.category == "read" and profile.level in ("high", "critical"):
        return "This tool hands out what is secret, so a person has to approve each call."
    if profile.level == "critical":
        return "A mistake with this tool cannot be made good, so a person has to approve each call."
    return None


def _limit(maximum: int, window: str) -> Rule:
    return {"max": maximum, "window": window, "per": "principal"}


def _bounded(definition: Definition | None) -> Rule:
    """Return the rule of a tool that runs what it is given: how often, and how much at once."""
    maximum, window = RUNS
    try:
        found = list(_bounds(definition)) if definition is not None else []
    except ValueError:  # no path leads to what would have to be bounded
        return {
            "action": "approve",
            "reason": "This tool runs input that cannot be checked, so a person has to approve each call.",
        }
    said = ", ".join([f"{maximum} calls in any {window}", *(bound.said for bound in found)])
    rule: Rule = {"reason": f"This tool runs what it is given: at most {said}."}
    for kind in ("require", "deny_if"):
        conditions = [bound.condition for bound in found if bound.kind == kind]
        if conditions:
            rule[kind] = conditions
    return rule | {"rate_limit": _limit(maximum, window)}


class _Bound(NamedTuple):
    """A bound on what a call brings: where it goes in the rule, the condition, and words for it."""

    kind: str
    condition: Rule
    said: str


def _bounds(definition: Definition) -> Iterator[_Bound]:
    """Yield what bounds the input that a tool runs. Raises `ValueError` where no path leads to it."""
    required = definition.input_schema.get("required")
    schemas = dict(parameters(definition))
    for name in dict.fromkeys(found.parameter for found in signals(definition.name, definition) if found.kind in _RUN):
        kinds, path, most = _kinds(schemas[name]), _path(name), _longest(name)
        needed = isinstance(required, list) and name in required and "null" not in kinds
        if "string" in kinds or not kinds - {"null"}:
            yield _at_most(path, most, f"{most:,} characters in `{readable(name)}`", needed=needed)
        elif "array" in kinds:
            yield _at_most(path, MOST_PARTS, f"{MOST_PARTS} elements in `{readable(name)}`", needed=needed)
            elements = schemas[name].get("items")
            if isinstance(elements, dict) and _kinds(elements) == {"string"}:
                yield _at_most(f"{path}[*]", most, f"{most:,} characters in each of them", needed=needed)


def _at_most(path: str, most: int, said: str, *, needed: bool) -> _Bound:
    """Return the bound on a length. A parameter that is absent fails a `require` and passes a `deny_if`."""
    if needed:
        return _Bound("require", {"path": path, "op": "length_lte", "value": most}, said)
    return _Bound("deny_if", {"path": path, "op": "length_gte", "value": most + 1}, said)


def _kinds(schema: Rule) -> set[str]:
    """Return the JSON types that a schema names; none where it does not say."""
    stated = schema.get("type")
    kinds = {kind for kind in (stated if isinstance(stated, list) else [stated]) if isinstance(kind, str)}
    for branches in (schema.get("anyOf"), schema.get("oneOf")):
        for branch in branches if isinstance(branches, list) else ():
            kinds |= _kinds(branch) if isinstance(branch, dict) else set()
    return kinds


def _longest(parameter: str) -> int:
    words = name_words(parameter)
    if _COMMANDS.intersection(words):
        return LONGEST_COMMAND
    return LONGEST_QUERY if _QUERIES.intersection(words) else LONGEST_CODE


def _path(parameter: str) -> str:
    """Return the path of a parameter. Raises `ValueError` where there is none."""
    path = f"args.{parameter}" if re.fullmatch(r"[A-Za-z0-9_-]+", parameter) else f"args[{json.dumps(parameter)}]"
    parse_path(path)
    return path
