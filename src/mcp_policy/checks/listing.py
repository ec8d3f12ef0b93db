"""What is listed, hidden and denied: entries that are for nothing, and entries that others make pointless."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from ..errors import readable
from ..patterns import compile_pattern, is_exact
from ..suggestions import hint
from ..symbolic.expressions import glob
from ..symbolic.languages import texts
from ..values import canonical
from .codes import finding
from .finding import Finding
from .reading import Entry, Subject, below

_DEAD: Final = ("require", "deny_if", "approve_if", "rate_limit", "limits", "approval")


def check(subject: Subject) -> Iterator[Finding]:
    """Yield what is wrong with what a document lists."""
    yield from _document(subject)
    yield from _hidden(subject)
    yield from _keys(subject)
    for entry in subject.entries:
        yield from _excepted(subject, entry)
        yield from _dead(entry)
        yield from _shadowed(subject, entry)
        yield from _empty(entry)
        if entry.rule.get("mode") == "shadow":
            yield finding("shadow_rule", below(entry.pointer, "mode"), "this rule is decided and blocks nothing")
    yield from _twice(subject)


def _document(subject: Subject) -> Iterator[Finding]:
    for section in subject.sections:
        if section.tree.get("default") == "allow":
            yield finding(
                "default_allow",
                below(section.pointer, "default"),
                "a tool that nothing lists is allowed, also one that the server adds tomorrow",
                'list what may run and leave `default` at `"deny"`',
            )
        if section is not subject.side.document.top and not section.tree:
            yield finding("empty_section", section.pointer, "this section says nothing", "leave it out")
    if subject.tree.get("mode") == "shadow":
        yield finding(
            "shadow_mode",
            "/mode",
            "the whole document blocks nothing: what would be denied runs",
            'set `"mode": "enforce"` once the records look right',
        )
    lists = any(entry.group != "all_tools" for entry in subject.entries)
    allows = any(section.tree.get("default") == "allow" for section in subject.sections)
    if not lists and not allows:
        yield finding("lists_nothing", "", "no entry lists a tool, so every call is denied", "add entries to `tools`")


def _hidden(subject: Subject) -> Iterator[Finding]:
    for section in subject.sections:
        patterns = section.tree.get("hide", ())
        for place, text in enumerate(patterns):
            if subject.is_whole(section) and not any(map(compile_pattern(text), subject.tools or ())):
                yield _nothing(subject, text, below(section.pointer, "hide", place))
        for entry in subject.entries:
            if entry.group != "tools" or entry.rule.get("action") in ("deny", "hide"):
                continue
            for place, text in enumerate(patterns):
                if _within(entry.key, text) and section in (entry.section, subject.side.document.top):
                    yield finding(
                        "hidden_and_listed",
                        entry.pointer,
                        f"`{readable(entry.key)}` is hidden by `{below(section.pointer, 'hide', place)}`, "
                        "so this rule decides nothing",
                        "take it out of `hide`, or take the rule out",
                    )


def _keys(subject: Subject) -> Iterator[Finding]:
    for section in filter(subject.is_whole, subject.sections):
        for key in section.tools:
            if not any(map(compile_pattern(key), subject.tools or ())):
                yield _nothing(subject, key, below(section.pointer, "tools", key))


def _nothing(subject: Subject, text: str, pointer: str) -> Finding:
    """Return the finding for a name or pattern that no tool has."""
    names = tuple(subject.tools or ())
    if not is_exact(text):
        return finding(
            "matches_nothing", pointer, f"`{readable(text)}` matches none of the server's {len(names)} tools", "drop it"
        )
    near = hint(text, names)
    fix = near if near.startswith("did you mean") else ""
    return finding("unknown_tool", pointer, f"the server has no tool `{readable(text)}`", fix)


def _excepted(subject: Subject, entry: Entry) -> Iterator[Finding]:
    key = entry.key if entry.group == "tools" else "*"
    for place, text in enumerate(entry.rule.get("except", ())):
        pointer = below(entry.pointer, "except", place)
        if _within(key, text):
            message = f"`{readable(text)}` takes out all that the rule is for: it never applies"
            yield finding("never_applies", pointer, message, "narrow `except`, or drop the rule")
        elif not _overlap(key, text):
            message = f"`{readable(text)}` is not among what `{readable(key)}` is for"
            yield finding("except_without_match", pointer, message, "drop it, or correct the name")
        elif subject.is_whole(entry.section) and not any(map(compile_pattern(text), subject.tools or ())):
            yield _nothing(subject, text, pointer)


def _dead(entry: Entry) -> Iterator[Finding]:
    action = entry.rule.get("action")
    dead = [key for key in _DEAD if key in entry.rule]
    if action in ("deny", "hide") and dead:
        verb = "denies" if action == "deny" else "hides"
        yield finding(
            "dead_keys",
            below(entry.pointer, dead[0]),
            f"the rule {verb} every call that it applies to, so {_listed(dead)} cannot matter",
            f'drop them, or drop `"action": "{action}"`',
        )


def _shadowed(subject: Subject, entry: Entry) -> Iterator[Finding]:
    """An entry for tools that another one denies, whatever the call is."""
    if entry.group != "tools" or entry.rule.get("action") in ("deny", "hide"):
        return
    for other in subject.entries:
        if not _denies_all(other) or other.section not in (entry.section, subject.side.document.top):
            continue
        left_out = other.rule.get("except", ())
        if (other.group == "all_tools" or (other.group == "tools" and _within(entry.key, other.key))) and not any(
            _overlap(entry.key, text) for text in left_out
        ):
            what = "denies" if other.rule["action"] == "deny" else "hides"
            yield finding(
                "shadowed_entry",
                entry.pointer,
                f"`{other.pointer}` {what} all that this rule is for, and that wins",
                f"add `{readable(entry.key)}` to the `except` of `{other.pointer}`, or drop this rule",
            )
            return


def _denies_all(entry: Entry) -> bool:
    denies = entry.rule.get("action") in ("deny", "hide") and not entry.rule.get("when")
    return denies and entry.rule.get("mode") != "shadow"


def _empty(entry: Entry) -> Iterator[Finding]:
    for key in ("except", "when", "require", "deny_if", "approve_if", "limits"):
        if entry.rule.get(key) == []:
            yield finding("empty_section", below(entry.pointer, key), f"an empty `{key}` says nothing", "leave it out")


def _twice(subject: Subject) -> Iterator[Finding]:
    seen: dict[tuple[str, str, str, str], str] = {}
    for entry in subject.entries:
        key = (entry.section.pointer, entry.group, entry.key, canonical(entry.rule))
        first = seen.setdefault(key, entry.pointer)
        if first != entry.pointer:
            yield finding("duplicate_rule", entry.pointer, f"the same rule stands at `{first}` already", "drop one")


def _within(key: str, text: str) -> bool:
    """Tell whether a pattern matches every name that another one matches."""
    if is_exact(key):
        return compile_pattern(text)(key)
    found = texts((glob(key), glob(text)), printable=True)
    return found.complete and (True, False) not in found.found


def _overlap(key: str, text: str) -> bool:
    """Tell whether two patterns match a name together, or may."""
    if is_exact(key):
        return compile_pattern(text)(key)
    if is_exact(text):
        return compile_pattern(key)(text)
    found = texts((glob(key), glob(text)), printable=True)
    return not found.complete or (True, True) in found.found


def _listed(keys: Sequence[str]) -> str:
    return ", ".join(f"`{key}`" for key in keys)
