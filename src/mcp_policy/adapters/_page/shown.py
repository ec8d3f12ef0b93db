"""Approvals as the page shows them: plain JSON whose every text can be seen.

- Characters that nobody sees, or that change the order of others, are shown as their code points.
- What is too long to be read is cut, and its full length is said.
- Nothing in a record keeps the others from being shown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, Final

from mcp_policy.approvals.store import Approval, Vote

READABLE: Final = 20_000
"""Characters of arguments that stand on the page itself."""
_LINE: Final = 2_000  # characters of any other text

# Letters and marks without a shape; what `str.isprintable` knows (controls, bidi, zero width, tags) comes on top.
_BLANK: Final = "\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef"
_ODD: Final = re.compile("[^\x20-\x7e]")
_IS_BLANK: Final = re.compile(f"[{_BLANK}]")

Shown = dict[str, Any]


def waiting(approval: Approval, *, void: bool) -> Shown:
    """Return a pending approval; it is `void` where another policy has asked for it."""
    text = arguments(approval)
    return {
        "id": approval.id,
        "tool": line(approval.tool),
        "server": line(approval.server or ""),
        "who": _who(approval),
        "rules": line(", ".join(approval.rules)),
        "reason": line(approval.reason),
        "asked": approval.created_at,
        "expires": approval.expires_at,
        "votes": _votes(approval.votes),
        "needed": approval.needed,
        "approvers": None if approval.approvers is None else line(", ".join(approval.approvers)),
        "arguments": text[:READABLE],
        "length": len(text),
        "void": void,
    }


def settled(approval: Approval, outcome: str) -> Shown:
    """Return what became of an approval: `approved`, `rejected`, `expired`, or `gone` where that cannot be told."""
    return {
        "id": approval.id,
        "tool": line(approval.tool),
        "server": line(approval.server or ""),
        "outcome": outcome,
        "by": line(approval.decided_by or ""),
        "at": approval.decided_at,
        "votes": _votes(approval.votes),
    }


def arguments(approval: Approval) -> str:
    """Return the whole arguments, for people."""
    try:
        text = json.dumps(approval.arguments, ensure_ascii=False, allow_nan=False, indent=2)
    except (RecursionError, TypeError, ValueError) as error:
        return f"these arguments cannot be shown: {type(error).__name__}"
    return "\n".join(visible(one) for one in text.split("\n"))


def line(text: str) -> str:
    """Return a text of one line, cut where it is too long."""
    if len(text) > _LINE:
        text = f"{text[:_LINE]}… (cut: {len(text):,} characters)"
    return visible(text)


def visible(text: str) -> str:
    """Return a text in which every character can be seen."""
    return text if text.isascii() and text.isprintable() else _ODD.sub(_code_point, text)


def _code_point(match: re.Match[str]) -> str:
    char = match[0]
    if char.isprintable() and not _IS_BLANK.match(char):
        return char
    return f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}"


def _who(approval: Approval) -> str:
    who = approval.principal
    if who is not None and who.get("id"):
        more = ", ".join(f"{name} {who[name]}" for name in ("issuer", "client") if who.get(name))
        return line(f"{who['id']} ({more})" if more else str(who["id"]))
    return line(f"nobody known, in session {approval.session}" if approval.session else "nobody known")


def _votes(votes: Iterable[Vote]) -> list[Shown]:
    return [{"by": line(vote.by), "at": vote.at, "note": line(vote.note)} for vote in votes]
