"""A record of a decision, read back: the call as far as it is on record, and what of it is not.

Rules kept here: what is not on record is unknown, never absent; what is cut or left out is not on record. A record that
is not as it should be raises `ValueError`, whatever is wrong with it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from ..audit.records import MAX_NAME
from ..call import CATEGORIES, UNKNOWN, Principal, ToolCall
from ..decision import Effect, ReasonCode
from ..paths import Path

_FAILURES: Final = frozenset({ReasonCode.INTERNAL_ERROR, ReasonCode.STATE_UNAVAILABLE})


class Known(NamedTuple):
    """What is on record of a call."""

    values: Collection[str]
    """The arguments whose values are."""
    keys: Collection[str] | None
    """The names of all arguments; None where not all of them are."""
    readable: bool
    """Whether the arguments were JSON."""
    nobody: bool
    """Whether there was no principal."""
    session: bool
    """Whether there was a session."""
    category: str | None
    names: bool
    """Whether the names of the server and of the caller are whole."""

    def knows(self, path: Path, op: str = "") -> bool:
        """Tell whether what a path leads to is on record, as far as an operator looks at it."""
        if path.root == "args":
            return self._knows_argument(path, op)
        if path.root in ("principal.roles", "principal.scopes", "principal.claims"):
            return self.nobody
        if path.root == "session.id":
            return not self.session or op == "exists"
        return path.root != "context"

    def _knows_argument(self, path: Path, op: str) -> bool:
        first = path.steps[0] if path.steps else None
        if isinstance(first, str):
            return first in self.values or (self.keys is not None and first not in self.keys)
        if self.keys is None or not self.readable:
            return False
        return (op == "keys_in" and not path.steps) or all(key in self.values for key in self.keys)


class Recorded(NamedTuple):
    """A decision on record. The session of `call` is a digest, and an argument that is not on record is null."""

    seq: int
    at: float
    """Seconds since 1970."""
    policy: str | None
    effect: Effect
    approved: bool
    """Whether it ran because a person had approved it."""
    failed: bool
    """Whether the engine or a store had failed."""
    call: ToolCall
    known: Known


def read(record: Any) -> Recorded:
    """Return the decision that a record is about. Raises `ValueError` for a record that is about something else, or is
    not as it should be.
    """
    if not isinstance(record, Mapping) or record.get("kind") != "decision":
        raise _unfit("kind")
    codes, effect = _texts(record, "codes"), _effect(record)
    who, session = _get(record, "principal", dict, None), _get(record, "session", str, None)
    keys, values = _texts(record, "keys"), _get(record, "values", dict) if "values" in record else {}
    call = ToolCall(
        _get(record, "tool", str),
        {**dict.fromkeys(keys), **values},
        server=_get(record, "server", str, None),
        session=session,
        principal=None if who is None else _principal(who),
    )
    known = Known(
        values.keys(),
        None if record.get("more", False) else frozenset(keys),
        _get(record, "arguments", str, None) is not None,
        who is None,
        session is not None,
        _category(record),
        not any(map(_is_cut, (call.server, *(who or {}).values()))),
    )
    return Recorded(
        _get(record, "seq", int),
        _time(_get(record, "time", str)),
        _get(record, "policy", str, None),
        effect,
        effect is Effect.ALLOW and ReasonCode.APPROVED in codes,
        not _FAILURES.isdisjoint(codes),
        call,
        known,
    )


def _unfit(name: str) -> ValueError:
    return ValueError(f"this is no record of a decision: `{name}` is missing, or not what it should be")


def _get(record: Mapping[str, Any], name: str, *kinds: type | None) -> Any:
    value = record.get(name)
    if (value is None and None in kinds) or type(value) in kinds:
        return value
    raise _unfit(name)


def _texts(record: Mapping[str, Any], name: str) -> list[str]:
    texts = _get(record, name, list)
    if not all(type(text) is str for text in texts):
        raise _unfit(name)
    return list(texts)


def _effect(record: Mapping[str, Any]) -> Effect:
    try:
        return Effect(_get(record, "effect", str))
    except ValueError:
        raise _unfit("effect") from None


def _time(text: str) -> float:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise _unfit("time") from None
    if at.tzinfo is None:
        raise _unfit("time")
    return at.timestamp()


def _principal(who: Mapping[str, Any]) -> Principal:
    return Principal(
        _get(who, "id", str, None), issuer=_get(who, "issuer", str, None), client=_get(who, "client", str, None)
    )


def _category(record: Mapping[str, Any]) -> str | None:
    category: str | None = _get(record, "category", str, None)
    return category if category in (*CATEGORIES, UNKNOWN) else None  # that of a malformed call may be any text


def _is_cut(name: object) -> bool:
    return isinstance(name, str) and len(name) == MAX_NAME + 1 and name.endswith("…")
