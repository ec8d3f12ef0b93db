"""The kinds of findings: what each means, and how much it weighs.

An error is something that does not do what it says; a warning is something that does, and is hardly meant; a note is
worth knowing. Errors and warnings fail a check, notes do not.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from .finding import Finding, Severity


class Kind(NamedTuple):
    """A kind of finding."""

    code: str
    severity: Severity
    summary: str
    tools: bool = False
    """Whether it takes the tools of the server to find it, or to find all of it."""


CODES: Final[dict[str, Kind]] = {
    kind.code: kind
    for kind in (
        # what is listed
        Kind("default_allow", "warning", "tools that nothing lists are allowed"),
        Kind("lists_nothing", "warning", "no entry lists a tool, so every call is denied"),
        Kind("unknown_tool", "error", "an entry names a tool that the server does not have", tools=True),
        Kind("matches_nothing", "warning", "a pattern matches no tool of the server", tools=True),
        Kind("empty_category", "note", "a category that no tool of the server has", tools=True),
        Kind("hidden_and_listed", "warning", "an entry lists what `hide` hides"),
        Kind("never_applies", "error", "`except` takes out everything that the entry is for"),
        Kind("except_without_match", "warning", "`except` names what the entry is not for anyhow"),
        Kind("shadowed_entry", "warning", "another entry denies whatever this one would let run"),
        Kind("dead_keys", "warning", "a rule that denies or hides has keys that cannot matter"),
        Kind("duplicate_rule", "warning", "the same rule stands twice in a list"),
        Kind("empty_section", "note", "a section or list that says nothing"),
        Kind("shadow_mode", "warning", "the document decides and blocks nothing"),
        Kind("shadow_rule", "note", "a rule is decided and blocks nothing"),
        # conditions
        Kind("cannot_hold", "error", "a condition holds for no call"),
        Kind("always_holds", "warning", "a condition holds for every call"),
        Kind("contradiction", "error", "conditions that never hold together"),
        Kind("never_runs", "error", "no call of a listed tool can ever run"),
        Kind("redundant_condition", "warning", "a condition that others imply"),
        Kind("duplicate_condition", "warning", "the same condition stands twice"),
        Kind("unanchored_regex", "warning", "a pattern that a value only has to contain"),
        Kind("path_prefix", "warning", "a path is compared as a text, which `..` gets around"),
        Kind("url_prefix", "warning", "an address is compared as a text, which other hosts get around"),
        Kind("unknown_time_field", "error", "`context.time` has no such field"),
        # conditions beside what the tools take
        Kind("unknown_argument", "error", "a path that the tool's input schema does not have", tools=True),
        Kind("wrong_argument_type", "error", "an operator that the argument's type never meets", tools=True),
        Kind("value_never_given", "warning", "a value that the argument's schema does not allow", tools=True),
        Kind("absence_allows", "warning", "leaving an optional argument out gets around a condition", tools=True),
        Kind("absence_denies", "note", "leaving an optional argument out is denied", tools=True),
        # limits and approvals
        Kind("unguarded_tool", "warning", "a destructive or financial tool runs without approval or limit", tools=True),
        Kind("session_limit", "warning", "what writes is limited by nothing but the session", tools=True),
        Kind("limit_blocks", "warning", "a limit that no call passes"),
        Kind("redundant_limit", "note", "a limit that another one keeps"),
        Kind("lone_counter", "note", "a counter that nothing shares, named almost like another one"),
        Kind("uncounted_when_down", "warning", "a limit lets calls run when they cannot be counted"),
        Kind("free_failures", "note", "a limit gives back what failed calls took"),
        Kind("approval_without_ask", "warning", "`approval` in a rule that never asks for one"),
        Kind("short_approval", "note", "an approval that expires before a person is likely to see it"),
        # suppressions
        Kind("unused_suppression", "warning", "a suppression that suppresses nothing"),
    )
}
"""Every kind of finding, by its code."""


def finding(code: str, pointer: str, message: str, fix: str = "") -> Finding:
    """Return a finding of one of these kinds."""
    return Finding(code, CODES[code].severity, pointer, message, fix)
