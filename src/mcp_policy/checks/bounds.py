"""What runs without limit or approval, and limits and approvals that do not do what they look like."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ..call import UNKNOWN
from ..catalogue.profile import CATEGORIES, UNSURE
from ..errors import readable
from ..limits.spec import normal_per, parse_window, to_micro_down, to_micro_up
from ..patterns import compile_pattern, is_exact
from ..plans import mentions
from ..suggestions import hint
from ..symbolic.atoms import Setting
from ..symbolic.formulas import every, negated, some
from ..symbolic.meaning import Meaning, meaning
from ..symbolic.solving import Atoms
from .codes import finding
from .finding import Finding
from .reading import Entry, Subject, below

_GRAVE: Final = ("destructive", "financial")
_CHANGING: Final = ("write", "execute", *_GRAVE)
_SHORT: Final = 30  # seconds
_SURE_BY_NAME: Final = 0.8


def check(subject: Subject) -> Iterator[Finding]:
    """Yield what is wrong with a document's limits and approvals, and with what has neither."""
    for entry in subject.entries:
        yield from _limits(entry)
        yield from _approval(entry)
    yield from _counters(subject)
    yield from _tools(subject)


def _limits(entry: Entry) -> Iterator[Finding]:
    for pointer, raw in entry.limits():
        cost = raw.get("cost", 1)
        if to_micro_down(raw["max"]) == 0 or (
            isinstance(cost, int | float) and to_micro_up(cost) > to_micro_down(raw["max"])
        ):
            message = f"a `max` of {raw['max']} lets no call pass" + ("" if cost == 1 else f" that costs {cost}")
            yield finding("limit_blocks", pointer, message, 'use `"action": "deny"` if that is meant')
        if raw.get("on_unavailable") == "allow":
            message = "when the count cannot be kept, calls run without a limit"
            yield finding("uncounted_when_down", f"{pointer}/on_unavailable", message, "leave it out: calls wait then")
        if raw.get("refund_on_error"):
            message = "failing calls are free, so a loop of them is not limited"
            yield finding("free_failures", f"{pointer}/refund_on_error", message)
    limits = entry.limits()
    for pointer, raw in limits:
        for at, other in limits:
            if at != pointer and _kept(raw, other) and not (_kept(other, raw) and at > pointer):
                message = f"whatever passes `{at}` passes this limit too"
                yield finding("redundant_limit", pointer, message, "drop it, or correct it")
                break


def _kept(raw: dict[str, object], other: dict[str, object]) -> bool:
    """Tell whether a limit is kept where the other one is, both in one rule."""
    same = ("counter", "cost", "refund_on_error", "on_unavailable")
    if any(raw.get(key) != other.get(key) for key in same):
        return False
    per, other_per = (set(normal_per(one.get("per", one.get("scope", "session")))) - {"global"} for one in (raw, other))
    turns = -(-parse_window(raw["window"]) // parse_window(other["window"]))
    return other_per <= per and to_micro_down(other["max"]) * turns <= to_micro_down(raw["max"])


def _approval(entry: Entry) -> Iterator[Finding]:
    if "approval" not in entry.rule or entry.rule.get("action") in ("deny", "hide"):
        return
    pointer = below(entry.pointer, "approval")
    if not entry.asks:
        message = "this rule never asks for an approval"
        yield finding("approval_without_ask", pointer, message, 'add `"action": "approve"` or `approve_if`')
    elif entry.rule["approval"].get("ttl", 900) < _SHORT:
        ttl = entry.rule["approval"]["ttl"]
        yield finding("short_approval", f"{pointer}/ttl", f"an approval expires {ttl} seconds after it is asked for")


def _counters(subject: Subject) -> Iterator[Finding]:
    """A counter that one limit names, and another one names almost so, counts half of what it is for.

    Limits that share a counter agree on window and `per`: names are compared where these do.
    """
    places: dict[tuple[object, ...], dict[str, list[str]]] = {}
    for entry in subject.entries:
        for pointer, raw in entry.limits():
            if "counter" in raw:
                alike = parse_window(raw["window"]), normal_per(_per(raw))
                places.setdefault(alike, {}).setdefault(raw["counter"], []).append(pointer)
    for names in places.values():
        for name, pointers in names.items():
            near = hint(name, tuple(other for other in names if other != name)) if len(names) > 1 else ""
            if len(pointers) == 1 and near.startswith("did you mean"):
                message = f"no other limit counts on `{readable(name)}`"
                yield finding("lone_counter", f"{pointers[0]}/counter", message, near)


# -- what runs


def _tools(subject: Subject) -> Iterator[Finding]:
    for name, entries in _listed(subject).items():
        for server in _servers(subject, entries):
            category = _category(subject, name, server)
            setting = Setting(_example(name), server, category or UNKNOWN)
            atoms = Atoms()
            plan = subject.side.plan(setting)
            if not any(may_list for _, may_list in plan.entries):
                continue
            said = meaning(plan, subject.side.limits, setting, atoms)
            if _denied(subject, name, server, category):
                continue
            if atoms.satisfy(negated(said.denied)).impossible:
                found = list(_never(subject, name, server, category, entries[0]))
            else:
                found = list(_tool(name, category, said, atoms, entries[0]))
            yield from found
            if found:
                break
    yield from _categories(subject)


def _listed(subject: Subject) -> dict[str, list[Entry]]:
    """Return the tools that are listed by name or pattern, with the entries that do; known tools by their names."""
    found: dict[str, list[Entry]] = {}
    for entry in subject.entries:
        if entry.group != "tools" or entry.rule.get("action") in ("deny", "hide"):
            continue
        names = [entry.key] if subject.tools is None else subject.covered(entry)
        for name in names:
            found.setdefault(name, []).append(entry)
    return found


def _servers(subject: Subject, entries: list[Entry]) -> list[str | None]:
    """Return the servers on which a tool may be listed: all where the top level does, None for those without a name."""
    if subject.server is not None:
        return [subject.server]
    named = list(dict.fromkeys(entry.server for entry in entries))
    return [None, *subject.side.document.servers] if None in named else named


def _example(name: str) -> str:
    return name if is_exact(name) else name.replace("*", "x").replace("?", "x")


def _category(subject: Subject, name: str, server: str | None) -> str | None:
    """Return what kind of tool this is: by its definition, by the catalogue, else by a telling name."""
    from ..catalogue.classifier import classify
    from ..catalogue.lookup import ToolCatalogue

    definition = subject.tools.get(name) if subject.tools is not None else None
    known = ToolCatalogue.bundled().category(server, name) if server is not None else None
    if known is not None:
        return known
    profile = classify(definition if definition is not None else {"name": _example(name)})
    return profile.category if profile.confidence >= (UNSURE if definition is not None else _SURE_BY_NAME) else None


def _denied(subject: Subject, name: str, server: str | None, category: str | None) -> bool:
    """Tell whether the document says itself that a tool is denied or hidden, whatever others list."""
    sections = subject.side.sections(server)
    if any(compile_pattern(text)(_example(name)) for section in sections for text in section.tree.get("hide", ())):
        return True
    return any(
        entry.rule.get("action") in ("deny", "hide") and not entry.rule.get("when") and entry.covers(_example(name))
        for entry in subject.entries
        if entry.section in sections and (entry.group != "categories" or entry.key == category)
        if entry.rule.get("mode") != "shadow"
    )


def _never(subject: Subject, name: str, server: str | None, category: str | None, entry: Entry) -> Iterator[Finding]:
    """Yield that no call can run, of a tool of whatever category where that is not known."""
    if any(to_micro_down(raw["max"]) == 0 for _, raw in entry.limits()):
        return  # `limit_blocks` says so
    matters = subject.side.document.has_categories or mentions(subject.tree, "tool.category")
    for one in CATEGORIES if category is None and matters else ():
        setting = Setting(_example(name), server, one)
        atoms = Atoms()
        said = meaning(subject.side.plan(setting), subject.side.limits, setting, atoms)
        if not atoms.satisfy(negated(said.denied)).impossible:
            return
    where = "" if server is None or subject.server is not None else f" of the server `{readable(server)}`"
    yield finding(
        "never_runs",
        entry.pointer,
        f"`{readable(name)}`{where} is listed, and no call of it can run",
        "correct the conditions, or deny it",
    )


def _some(said: Meaning) -> str:
    return "runs" if said.asked is False and not said.limits else "some of its calls run"


def _tool(name: str, category: str | None, said: Meaning, atoms: Atoms, entry: Entry) -> Iterator[Finding]:
    runs = negated(said.denied)
    free = every([runs, negated(said.asked), *(negated(limit.when) for limit in said.limits)])
    if category in _GRAVE and atoms.satisfy(free).values is not None:
        yield finding(
            "unguarded_tool",
            entry.pointer,
            f"`{readable(name)}` is {category} and {_some(said)} without approval or limit",
            'add `"action": "approve"`, `approve_if` or a limit',
        )
    elif category in _CHANGING:
        lasting = [limit.when for limit in said.limits if "session" not in normal_per(_per(limit.raw))]
        alone = every([runs, negated(said.asked), negated(some(lasting)), some(limit.when for limit in said.limits)])
        if atoms.satisfy(alone).values is not None:
            yield finding(
                "session_limit",
                entry.pointer,
                f"`{readable(name)}` ({category}) is limited per session only, and a caller may open another session",
                'count `"per": "principal"` as well',
            )


def _per(raw: dict[str, object]) -> object:
    return raw.get("per", raw.get("scope", "session"))


def _categories(subject: Subject) -> Iterator[Finding]:
    """Entries for a category as a whole."""
    for entry in subject.entries:
        if entry.group != "categories":
            continue
        free = entry.rule.get("action", "allow") == "allow" and not entry.limits() and not entry.rule.get("approve_if")
        if entry.key in _GRAVE and free and not any(_guards(other, entry) for other in subject.entries):
            yield finding(
                "unguarded_tool",
                entry.pointer,
                f"every {entry.key} tool runs without approval or limit",
                'add `"action": "approve"`, `approve_if` or a limit',
            )
        if subject.tools is not None and subject.server is not None:
            known = {_category(subject, name, subject.server) for name in subject.tools}
            if entry.key not in known:
                yield finding("empty_category", entry.pointer, f"the server has no {entry.key} tool")


def _guards(entry: Entry, other: Entry) -> bool:
    return (
        entry.group == "all_tools"
        and entry.section.pointer in ("", other.section.pointer)
        and not entry.rule.get("when")
        and (entry.rule.get("action") == "approve" or bool(entry.limits()))
    )
