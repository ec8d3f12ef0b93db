"""What stands in a record: enough to say afterwards what was decided, and no more of a call than that.

Rules kept here:

* no value of an argument is in a record, unless the argument's name is among those that the host calls safe; equal
  arguments have equal digests, which say nothing to who has not the key;
* sessions are secrets, and are recorded as digests;
* whatever a call brings, it can be recorded: what has no JSON is said to have none; names and lists are cut;
* a host's own texts (the messages of reasons) are not in it: rules are pointers into the policy, which has a digest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from typing import Any, Final

from ..approvals.store import Approval
from ..decision import Effect, Reason
from ..values import NotJson, canonical, plain
from .event import Answered, Decided

MAX_NAME: Final = 256
"""Characters of a tool's, a server's or an identity's name."""
MAX_KEY: Final = 128
"""Characters of the name of an argument."""
MAX_KEYS: Final = 64
MAX_VALUE: Final = 1_000
"""Characters of a safe value, as JSON."""

Digest = Callable[[str], str]
"""A keyed digest of a text, in hexadecimal."""

_quoted: Final = json.encoder.encode_basestring_ascii
_encode: Final = json.JSONEncoder(separators=(",", ":")).encode  # ASCII only: no text in it can hide itself
_as_is: Final = json.encoder.encode_basestring
_NOT_ASCII: Final = re.compile(r"[^\x00-\x7f]")
_WRITE: Final[Mapping[type, Callable[[Any], str]]] = {
    str: _as_is,
    int: int.__repr__,
    bool: {False: "false", True: "true"}.__getitem__,
    type(None): {None: "null"}.__getitem__,
}


def decided(event: Decided, arguments: Digest, session: Digest, safe: Collection[str]) -> str:
    """Return the members of a decision's record, as JSON text without the braces."""
    call, decision, who = event.call, event.decision, event.call.principal
    more = "" if decision.would_be is None else _shadow(decision.would_be, decision.shadow)
    principal = "null" if who is None else _principal(_cut(who.id), _cut(who.issuer), _cut(who.client))
    digest = f'"{session(call.session)[:16]}"' if call.session else "null"
    limits = ",".join([_limit(*status) for status in decision.limits]) if decision.evidence is not None else ""
    approval = "" if decision.approval is None else _approval(decision.approval)
    again = decision.retry_after
    named = (_cut(call.server), _cut(call.tool), None if call.flaw else call.category)
    return (
        f"{_judgement(event.policy, *named, decision.effect, decision.reasons)}{more},"
        f'"principal":{principal},"session":{digest},{_of_arguments(call.arguments, arguments, safe)},'
        f'"retry_after":{"null" if again is None else repr(float(again))},"limits":[{limits}]{approval},'
        f'"us":{event.seconds * 1e6:.1f}'
    )


def answered(event: Answered) -> str:
    """Return the members of the record of what a person said."""
    approval, vote = event.approval, event.approval.votes[-1]
    members = {
        "kind": "answer",
        "approval": approval.id,
        "policy": approval.policy or None,
        "server": _cut(approval.server),
        "tool": _cut(approval.tool),
        "approved": event.approved,
        "by": _cut(vote.by),
        "note": vote.note,
        "status": approval.status,
    }
    return _encode(members)[1:-1]


# Much of a record is the same from call to call, and is written once. What callers can invent pushes out no more than
# its like.


@lru_cache(4_096)
def _judgement(
    policy: str | None,
    server: str | None,
    tool: str,
    category: str | None,
    effect: Effect,
    reasons: tuple[Reason, ...],
) -> str:
    members = {
        "kind": "decision",
        "policy": policy or None,
        "server": server,
        "tool": tool,
        **({} if category is None else {"category": category}),
        "effect": effect,
        "codes": [reason.code for reason in reasons],
        "rules": [reason.rule for reason in reasons if reason.rule],
    }
    return _encode(members)[1:-1]


@lru_cache(1_024)
def _principal(id: str | None, issuer: str | None, client: str | None) -> str:
    return _encode({"id": id, "issuer": issuer, "client": client})


def _shadow(would_be: Effect, reasons: tuple[Reason, ...]) -> str:
    shadow = [{"code": reason.code, "rule": reason.rule} for reason in reasons]
    return f',"would_be":"{would_be}","shadow":{_encode(shadow)}'


def _limit(counter: str | None, rule: str, limit: float, remaining: float, reset_after: float, available: bool) -> str:
    counted = f'"remaining":{_encode(remaining)},"available":{"true" if available else "false"}'
    return f'{{"rule":{_quoted(rule)},"counter":{"null" if counter is None else _quoted(counter)},{counted}}}'


def _approval(approval: Approval) -> str:
    by = "null" if approval.decided_by is None else _quoted(approval.decided_by)
    return f',"approval":{{"id":{_quoted(approval.id)},"by":{by},"at":{_encode(approval.decided_at)}}}'


def _cut(name: str | None) -> str | None:
    return name if name is None or len(name) <= MAX_NAME else name[:MAX_NAME] + "…"


# -- arguments


_Order = tuple[tuple[str, str], ...]
"""Names in their order, each behind what stands before its value."""


def _of_arguments(arguments: Mapping[str, Any], digest: Digest, safe: Collection[str]) -> str:
    names = tuple(arguments)
    order: _Order | None = None
    if _are_plain(names):
        named, (keys, order) = arguments, _few_keys(names)
    else:
        named = {str.__str__(name): value for name, value in arguments.items() if issubclass(type(name), str)}
        keys = _keys(tuple(named), len(named) < len(names))
    values = _safe_values(named, safe) if safe else ""
    try:
        found = f'"arguments":"{digest(_text(arguments, order))}"'
    except Exception as error:  # noqa: BLE001  # a caller's own object may raise anything
        found = f'"arguments":null,"unreadable":{_quoted(str(error) if type(error) is NotJson else "cannot be read")}'
    return f"{keys},{values}{found}"


def _are_plain(names: tuple[Any, ...]) -> bool:
    for name in names:  # `all` takes twice the time
        if type(name) is not str or len(name) > MAX_KEY:
            return False
    return len(names) <= MAX_KEYS


@lru_cache(1_024)
def _few_keys(names: tuple[str, ...]) -> tuple[str, _Order]:
    order = sorted(names)
    return _keys(names), tuple((f"{',' if place else ''}{_as_is(name)}:", name) for place, name in enumerate(order))


def _keys(names: tuple[str, ...], is_cut: bool = False) -> str:
    shown = [name[:MAX_KEY] for name in sorted(names)[:MAX_KEYS]]
    is_cut = is_cut or len(names) > MAX_KEYS or any(len(name) > MAX_KEY for name in names)
    return f'"keys":{_encode(shown)}' + (',"more":true' if is_cut else "")


def _safe_values(arguments: Mapping[str, Any], safe: Collection[str]) -> str:
    values: list[str] = []
    left_out: list[str] = []
    for key in safe:
        if key not in arguments:
            continue
        text = _short(arguments[key])
        if text is None:
            left_out.append(key)
        else:
            values.append(f"{_quoted(key)}:{text}")
    more = f'"left_out":{_encode(left_out)},' if left_out else ""
    return f'"values":{{{",".join(values)}}},{more}'


def _short(value: Any) -> str | None:
    """The JSON text of a value; None where it has none, or too long a one."""
    try:
        text = canonical(plain(value))
    except Exception:  # noqa: BLE001  # as above
        return None
    return _NOT_ASCII.sub(lambda found: _quoted(found[0])[1:-1], text) if len(text) <= MAX_VALUE else None


def _text(arguments: Mapping[str, Any], order: _Order | None) -> str:
    if order is not None:
        try:  # what `canonical` makes of plain values, in a quarter of the time
            return "".join([before + _WRITE[type(value := arguments[name])](value) for before, name in order])
        except (KeyError, ValueError):
            pass
    return canonical(plain(arguments))[1:-1]
