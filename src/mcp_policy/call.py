"""What is asked: one tool call, and on whose behalf.

A call is taken apart once, here. Whatever is not of the right kind is noted in `flaw` and makes the call malformed: it
is denied (`invalid_call`), whatever the policy says. Nothing is coerced.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple, Self

from .values import NotJson, fields

CATEGORIES: Final = ("read", "write", "execute", "destructive", "financial")
"""What a tool can be, from the least to the most dangerous."""

UNKNOWN: Final = "unknown"
"""The category of a call whose tool is to count as unknown, whatever a catalogue says of it."""

_SAID: Final = frozenset({*CATEGORIES, UNKNOWN})


class _Principal(NamedTuple):
    id: str | None
    issuer: str | None
    client: str | None
    roles: tuple[str, ...]
    scopes: tuple[str, ...]
    claims: Mapping[str, Any]


class Principal(_Principal):
    """Who calls, as the host has authenticated it; never what a client says of itself.

    `id` is unique within `issuer`; `client` is the authenticated client application (`per: "agent"`); `roles`,
    `scopes` and `claims` can be asked for in conditions. Raises `TypeError` where `roles` or `scopes` is one string
    instead of several.
    """

    __slots__ = ()

    def __new__(
        cls,
        id: str | None = None,
        *,
        issuer: str | None = None,
        client: str | None = None,
        roles: Iterable[str] = (),
        scopes: Iterable[str] = (),
        claims: Mapping[str, Any] | None = None,
    ) -> Self:
        for name, value in (("id", id), ("issuer", issuer), ("client", client)):
            if value is not None and type(value) is not str:
                raise TypeError(f"`{name}` is a string or None, not {type(value).__name__}")
        return tuple.__new__(
            cls,
            (id, issuer, client, _names("roles", roles), _names("scopes", scopes), {} if claims is None else claims),
        )


def _names(what: str, names: Iterable[str]) -> tuple[str, ...]:
    if isinstance(names, str):
        raise TypeError(f"`{what}` is a list of strings, not one string")
    found = tuple(names)
    if not all(type(name) is str for name in found):
        raise TypeError(f"`{what}` is a list of strings")
    return found


class ToolCall:
    """One call of one tool: what the engine decides on. Not to be changed once made.

    `arguments` are the values the tool would get; `session` is the session's id as the server issued it; `server` is
    the name under which the policy knows the server; `context` is what the host adds (`context.time`). `category` is
    what the host has found the tool to be: `read`, `write`, `execute`, `destructive`, `financial`, or `unknown`, which
    no catalogue then corrects; None asks the engine's catalogue. Empty identities count as none. A malformed call is
    still a `ToolCall`: its `flaw` says what is wrong, and the engine denies it.
    """

    __slots__ = ("arguments", "category", "context", "flaw", "principal", "server", "session", "tool")

    tool: str
    arguments: dict[str, Any]
    server: str | None
    session: str | None
    principal: Principal | None
    context: dict[str, Any] | None
    category: str | None
    flaw: str | None

    def __init__(
        self,
        tool: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        server: str | None = None,
        session: str | None = None,
        principal: Principal | None = None,
        context: Mapping[str, Any] | None = None,
        category: str | None = None,
    ) -> None:
        if (
            type(tool) is str
            and type(arguments) is dict
            and (session is None or type(session) is str)
            and (principal is None or type(principal) is Principal)
            and (server is None or type(server) is str)
            and (context is None or type(context) is dict)
            and (category is None or (type(category) is str and category in _SAID))
        ):
            self.tool = tool
            self.arguments = arguments
            self.server = server
            self.session = session
            self.principal = principal
            self.context = context
            self.category = category
            self.flaw = None
        else:
            self._take_apart(tool, arguments, server, session, principal, context, category)

    def _take_apart(
        self,
        tool: object,
        arguments: object,
        server: object,
        session: object,
        principal: object,
        context: object,
        category: object,
    ) -> None:
        """Fill in a call that is not of the plainest kind, or note what is wrong with it."""
        arguments_found, context_found = _object(arguments), _object(context)
        self.flaw = (
            _not_text("the tool's name", tool)
            or (None if server is None else _not_text("the server's name", server))
            or (None if session is None else _not_text("the session", session))
            or _not_object("arguments", arguments, arguments_found)
            or _not_object("context", context, context_found)
            or _not_principal(principal)
            or _not_category(category)
        )
        self.tool = _text(tool) or ""
        self.server, self.session = _text(server), _text(session)
        self.principal = principal if type(principal) is Principal else None
        self.arguments, self.context = arguments_found or {}, context_found
        self.category = _text(category)
        if self.flaw:
            self.tool = ""

    def __repr__(self) -> str:
        return f"ToolCall({self.tool!r}, {len(self.arguments)} arguments)"


def _not_text(what: str, value: object) -> str | None:
    return None if issubclass(type(value), str) else f"{what} has to be a string, not {type(value).__name__}"


def _not_object(what: str, value: object, found: dict[str, Any] | None) -> str | None:
    return None if found is not None else f"the {what} have to be an object, not {type(value).__name__}"


def _not_principal(value: object) -> str | None:
    if value is None or type(value) is Principal:
        return None
    return f"the principal has to be a `Principal`, not {type(value).__name__}"


def _not_category(value: object) -> str | None:
    found = _text(value)
    if value is None or found in _SAID:
        return None
    known = ", ".join(f"`{name}`" for name in CATEGORIES)
    what = type(value).__name__ if found is None else "another text"
    return f"the category has to be {known} or `{UNKNOWN}`, not {what}"


def _object(value: object) -> dict[str, Any] | None:
    try:
        return {} if value is None else fields(value)
    except NotJson:
        return None


def _text(value: object) -> str | None:
    return str.__str__(value) if issubclass(type(value), str) else None
