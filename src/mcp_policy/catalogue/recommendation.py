"""The policy to begin with: for each tool the rule that its risk asks for.

Rules kept here:

- Nothing is allowed but what is spelt out by name: a tool that a server adds later is denied until somebody has looked.
- Reads are allowed; changes are limited; what runs code is limited, and takes only input of bounded length; what
  deletes, moves money, hands out secrets or is not understood waits for a person.
- A tool that runs code has each text and list of texts bounded, but for ids. Numbers, booleans and listed values need
  no bound; with a parameter that may be anything else, or several things, it waits for a person. This goes by the
  tool's schema: that a call keeps to it is for the server to check, for a length counts the elements of a list too.
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
from urllib.parse import unquote

from ..errors import readable
from ..paths import parse_path
from ..patterns import check_name, is_exact
from ..policy import Policy
from ..values import canonical
from .definition import Definition, Tool, parameters, read_definition
from .profile import CATEGORIES, UNSURE, RiskProfile
from .signals import name_words

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
        found = list(_bounds(definition))
    except ValueError:  # something that it takes has no length that a condition could read
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


def _bounds(definition: Definition | None) -> Iterator[_Bound]:
    """Yield what bounds the input that a tool runs. Raises `ValueError` where some of it cannot be bounded."""
    if definition is None or not _is_listed(definition.input_schema):
        raise ValueError("not every parameter is known")
    required = definition.input_schema.get("required")
    for name, schema in parameters(definition):
        kinds = _kinds(definition.input_schema, schema)
        if not kinds:
            raise ValueError("a parameter of any kind, or of none")
        needed = isinstance(required, list) and name in required and "null" not in kinds
        kinds -= {"null"}
        if kinds <= _PLAIN or (kinds <= {"string", _STRINGS} and name_words(name)[-1:] in _IDS):
            continue
        path, most = _path(name), _longest(name)
        if kinds == {"string"}:
            yield _at_most(path, most, f"{most:,} characters in `{readable(name)}`", needed=needed)
        elif kinds == {_STRINGS}:
            yield _at_most(path, MOST_PARTS, f"{MOST_PARTS} elements in `{readable(name)}`", needed=needed)
            yield _at_most(f"{path}[*]", most, f"{most:,} characters in each of them", needed=needed)
        else:
            raise ValueError("a parameter without a length, or of several kinds")


def _is_listed(schema: Rule) -> bool:
    """Tell whether all parameters of a tool stand in its `properties`."""
    properties = schema.get("properties", {})
    free = schema.get("additionalProperties", False) is not False
    return isinstance(properties, dict) and not free and _ELSEWHERE.isdisjoint(schema)


def _at_most(path: str, most: int, said: str, *, needed: bool) -> _Bound:
    """Return the bound on a length. A parameter that is absent fails a `require` and passes a `deny_if`."""
    if needed:
        return _Bound("require", {"path": path, "op": "length_lte", "value": most}, said)
    return _Bound("deny_if", {"path": path, "op": "length_gte", "value": most + 1}, said)


# -- what a parameter may be

_Kinds: TypeAlias = "frozenset[str] | None"
"""What a value may be: JSON types, `_STRINGS` and `_CHOICE`. None where the schema does not say, or nobody can tell."""

_CHOICE: Final = "one of listed values"
_STRINGS: Final = "array of strings"
_PLAIN: Final = frozenset({"number", "boolean", _CHOICE})
_TYPES: Final = frozenset({"array", "boolean", "null", "number", "object", "string"})
_IDS: Final = (("id",), ("ids",), ("uuid",))
_ELSEWHERE: Final = frozenset({"$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "if", "patternProperties"})
"""Where else than in `properties` a schema names parameters."""
_DEEPEST_KIND: Final = 16
_MOST_SCHEMAS: Final = 1_000
"""Schemas of one parameter that are looked at."""


def _kinds(root: Rule, schema: Rule) -> _Kinds:
    """Return what a value of this schema may be, also by references into `root`."""
    return _read_kinds(root, schema, 0, iter(range(_MOST_SCHEMAS)))


def _read_kinds(root: Rule, schema: Any, depth: int, left: Iterator[int]) -> _Kinds:
    if not isinstance(schema, dict) or depth > _DEEPEST_KIND or next(left, None) is None:
        return None
    listed = [schema["const"]] if "const" in schema else schema.get("enum")
    if isinstance(listed, list):
        return frozenset("null" if value is None else _CHOICE for value in listed)

    def read(part: Any) -> _Kinds:
        return _read_kinds(root, part, depth + 1, left)

    kinds = _stated(schema.get("type"))
    if (
        kinds
        and "array" in kinds
        and "prefixItems" not in schema
        and read(schema.get("items")) == frozenset({"string"})
    ):
        kinds = kinds - {"array"} | {_STRINGS}
    if "$ref" in schema:
        kinds = _both(kinds, read(_referred(root, schema["$ref"])))
    for part in _list(schema.get("allOf")):
        kinds = _both(kinds, read(part))
    for key in ("anyOf", "oneOf"):
        if key in schema:
            kinds = _both(kinds, _either([read(part) for part in _list(schema[key])]))
    return kinds


def _stated(found: Any) -> _Kinds:
    """Return the kinds that a `type` names, also as the catalogue writes several: `object | string`."""
    stated = found.split(" | ") if isinstance(found, str) else _list(found)
    if not stated or not all(isinstance(kind, str) for kind in stated):
        return None
    kinds = frozenset("number" if kind == "integer" else kind for kind in stated)
    return kinds if kinds <= _TYPES else None


def _both(one: _Kinds, other: _Kinds) -> _Kinds:
    """Return what passes two schemas: a list of values is narrower than anything else."""
    if one is None or other is None:
        return other if one is None else one
    return next((kinds for kinds in (one, other) if _CHOICE in kinds), one & other)


def _either(branches: list[_Kinds]) -> _Kinds:
    known = [kinds for kinds in branches if kinds is not None]
    return frozenset().union(*known) if known and len(known) == len(branches) else None


def _referred(root: Rule, reference: Any) -> Any:
    """Return the schema that a reference within the same definition leads to; None for any other one."""
    if not isinstance(reference, str) or not reference.startswith("#/"):
        return None
    target: Any = root
    for step in unquote(reference[2:]).split("/"):
        key = step.replace("~1", "/").replace("~0", "~")
        if isinstance(target, list) and key.isascii() and key.isdigit() and len(key) < 5:
            target = dict(enumerate(target)).get(int(key))
        else:
            target = target.get(key) if isinstance(target, dict) else None
    return target


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


# -- how long, and where


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
