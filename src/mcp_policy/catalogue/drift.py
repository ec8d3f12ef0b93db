"""What a lock file holds of servers' tools, and what has changed since it was written.

Rules kept here:

- A lock is a catalogue file (version "1") whose tools all have fingerprints. It holds facts only: no sentence of a
  server's goes into it.
- A server that is in the lock and did not answer is a change: silence is never "no drift".
- A tool with the fingerprint of the lock has not changed, whatever this version of the classifier says of it.
- Where a server lists several definitions under one name, the lock covers them all, and keeps the worst category.
- Pure: the same lists give the same bytes, in one order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from .definition import Definition, Fingerprint, Tool, fingerprint, parameters, read_definition
from .files import VERSION, problems
from .profile import CATEGORIES, RiskProfile

Judge: TypeAlias = Callable[[str, Definition], RiskProfile]
"""What says how dangerous a server's tool is."""

_TOLD: Final = 3  # problems of a file that is no lock file

Kind: TypeAlias = Literal[
    "server_gone", "server_new", "gone", "new", "description", "schema", "annotations", "risk_raised"
]

_Part: TypeAlias = Literal["description", "schema", "annotations"]
_PARTS: Final[tuple[_Part, ...]] = ("description", "schema", "annotations")


class Change(NamedTuple):
    """One difference between a lock and what is there now; `tool` is empty where it is about the server as a whole."""

    server: str
    tool: str
    kind: Kind
    message: str


def locked(servers: Mapping[str, Iterable[Tool]], judge: Judge | None = None) -> dict[str, Any]:
    """Return the content of a lock file for these servers' tools, as plain JSON, in the order of the names.

    `judge` says how dangerous a tool is, `classify` unless it is given. Raises `ValueError` where a tool has no name or
    is not JSON.
    """
    entries = {name: {"tools": _tools(name, tools, judge or _classified)} for name, tools in sorted(servers.items())}
    return {"version": VERSION, "servers": entries}


def read_lock(tree: object) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the tools of each server in a lock file's content. Raises `ValueError` where it is no lock file."""
    wrong = list(problems(tree))
    if wrong or not isinstance(tree, dict):
        raise ValueError("; ".join(map(str, wrong[:_TOLD])))
    servers = {server: entry["tools"] for server, entry in tree["servers"].items()}
    for server, tools in servers.items():
        for tool, facts in tools.items():
            if "fingerprint" not in facts:
                raise ValueError(f"tool `{tool}` of server `{server}` has no `fingerprint`: this is no lock file")
    return servers


def drifted(lock: object, found: Mapping[str, Sequence[Tool] | None], judge: Judge | None = None) -> tuple[Change, ...]:
    """Return what has changed since the lock was written, server by server, in the order of the names.

    `found` has each server's tools, or None where it did not answer; `judge` is that of `locked`. Raises `ValueError`
    where `lock` is no lock file's content, or a tool has no name or is not JSON.
    """
    servers = read_lock(lock)
    changes: list[Change] = []
    for name in sorted({*servers, *found}):
        now = found.get(name)
        if now is None:
            why = "did not answer" if name in found else "is in the lock file and was not scanned"
            changes.append(Change(name, "", "server_gone", why))
        elif name not in servers:
            changes.append(Change(name, "", "server_new", "is not in the lock file"))
        else:
            changes += _differences(name, servers[name], _tools(name, now, judge or _classified))
    return tuple(changes)


def _differences(server: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    for tool in sorted({*old, *new}):
        if tool not in new:
            yield Change(server, tool, "gone", "is not there any more")
        elif tool not in old:
            yield Change(server, tool, "new", f"is new, and reads as {new[tool]['category']}")
        else:
            yield from _changes(server, tool, old[tool], new[tool])


def _changes(server: str, tool: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    changed = [part for part in _PARTS if old["fingerprint"][part] != new["fingerprint"][part]]
    for part in changed:
        yield Change(server, tool, part, _told(part, old, new))
    if changed and CATEGORIES.index(new["category"]) > CATEGORIES.index(old["category"]):
        yield Change(server, tool, "risk_raised", f"{old['category']} -> {new['category']}")


def _told(part: _Part, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Return what can be said of a changed part from the facts that a lock keeps."""
    if part == "schema":
        before, after = old.get("parameters", {}), new.get("parameters", {})
        details = [
            *(f"`{name}` is new" for name in after if name not in before),
            *(f"`{name}` is gone" for name in before if name not in after),
            *(f"`{name}` changed" for name in after if name in before and before[name] != after[name]),
        ]
        return "the schema changed" + (f": {', '.join(details[:5])}" if details else "")
    if part == "annotations":
        was, now = old.get("hints", {}), new.get("hints", {})
        changed = [name for name in {**was, **now} if was.get(name) != now.get(name)]
        hints = [f"`{name}` {_said(was, name)} -> {_said(now, name)}" for name in changed]
        return "the annotations changed" + (f": {', '.join(hints[:5])}" if hints else "")
    return "the description changed"


def _said(hints: Mapping[str, Any], name: str) -> str:
    return str(hints[name]).lower() if name in hints else "unsaid"


# -- what is kept of a tool


def _classified(_: str, definition: Definition) -> RiskProfile:
    from .classifier import classify

    return classify(definition)


def _tools(server: str, tools: Iterable[Tool], judge: Judge) -> dict[str, dict[str, Any]]:
    named: dict[str, list[Definition]] = {}
    for tool in tools:
        definition = read_definition(tool)
        named.setdefault(definition.name, []).append(definition)
    return {
        name: _facts(definitions, [judge(server, each) for each in definitions])
        for name, definitions in sorted(named.items())
    }


def _facts(definitions: Sequence[Definition], profiles: Sequence[RiskProfile]) -> dict[str, Any]:
    """Return what a lock keeps of the definitions of one name, which an honest server has one of."""
    worst = max(range(len(profiles)), key=lambda index: CATEGORIES.index(profiles[index].category))
    definition, profile = definitions[worst], profiles[worst]
    facts: dict[str, Any] = {"category": profile.category, "level": profile.level, "confidence": _rounded(profile)}
    if hints := {name: value for name, value in definition.annotations.items() if isinstance(value, bool)}:
        facts["hints"] = hints
    if kept := _parameters(definition):
        facts["parameters"] = kept
    return facts | {"fingerprint": _joined([fingerprint(each) for each in definitions])._asdict()}


def _rounded(profile: RiskProfile) -> float:
    return round(profile.confidence, 2)


def _parameters(definition: Definition) -> dict[str, dict[str, Any]]:
    required = definition.input_schema.get("required")
    required = required if isinstance(required, list) else []
    kept: dict[str, dict[str, Any]] = {}
    for name, schema in parameters(definition):
        kind = schema.get("type")
        kept[name] = {"type": kind} if isinstance(kind, str) else {}
        if name in required:
            kept[name]["required"] = True
    return kept


def _joined(prints: Sequence[Fingerprint]) -> Fingerprint:
    """Return one fingerprint for all of these; the order in which a server lists them does not count."""
    if len(distinct := sorted(set(prints))) == 1:
        return distinct[0]
    return Fingerprint(*(sha256("".join(parts).encode()).hexdigest()[:32] for parts in zip(*distinct, strict=True)))
