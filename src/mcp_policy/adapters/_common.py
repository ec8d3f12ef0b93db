"""What the adapters share: who calls, what is judged, and what a failed call is.

Identity is what the host and its transport know: the authenticated principal, the session that a stateful HTTP server
issued, the process on stdio and in memory, else nobody. What a client says of itself never counts: names, headers,
`_meta`, the id of a session that nobody issued.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

from mcp_policy.answer import is_hidden
from mcp_policy.call import Principal, ToolCall
from mcp_policy.decision import Decision, ReasonCode
from mcp_policy.engine import PolicyEngine
from mcp_policy.guard import FAILED, PolicyDenied, judged_copy, utc_now

log: Final = logging.getLogger("mcp_policy")

_UNJUDGED: Final = frozenset({ReasonCode.INVALID_CALL, ReasonCode.INTERNAL_ERROR})

PROCESS: Final = "process"
"""The session of everybody who talks to this process over stdio or in memory: one client, one session."""


class Token(Protocol):
    """What the MCP stacks know of an authenticated caller."""

    @property
    def client_id(self) -> str: ...
    @property
    def scopes(self) -> Sequence[str]: ...
    @property
    def subject(self) -> str | None: ...
    @property
    def claims(self) -> Mapping[str, Any] | None: ...


class Caller(NamedTuple):
    """On whose behalf a call is made."""

    principal: Principal | None = None
    session: str | None = None


IdentityHook = Callable[[Any], tuple[Principal | None, str | None]]
"""A host's own answer to who calls: from the stack's request context to the principal and the session, each or None."""


def principal_of(token: Token) -> Principal:
    """Return the principal that an access token stands for.

    Users of one client application share its `client_id`: the subject tells them apart. A token without a subject
    stands for the application itself, under an id that is not mistaken for a subject's.
    """
    claims = token.claims or {}
    issuer = claims.get("iss")
    return Principal(
        token.subject or f"client:{token.client_id}",
        issuer=None if issuer is None else str(issuer),
        client=token.client_id,
        scopes=token.scopes or (),
        claims=claims,
    )


def caller(token: Token | None, request: object | None, session_id: str | None) -> Caller:
    """Return who calls. `request` is the HTTP request, if there is one, `session_id` the one that the server issued."""
    principal = None if token is None else principal_of(token)
    if session_id:
        return Caller(principal, session_id)
    if principal is not None:  # a request without a session: its user is what tells it from others
        return Caller(principal, "principal:" + json.dumps([principal.issuer, principal.id]))
    return Caller(None, PROCESS if request is None else None)


def issued_session(session: Any) -> str | None:
    """Return the id that a stateful HTTP server issued to the connection of this session, if it did."""
    connection = getattr(session, "_connection", None)
    found = getattr(connection, "session_id", None)
    return found if isinstance(found, str) else None


def _copied(tool: str, given: Mapping[str, Any] | None) -> tuple[dict[str, Any], Decision | None]:
    """Return the copy of the arguments that is judged and runs, or the denial of what cannot be copied."""
    try:
        return judged_copy(tool, given), None
    except PolicyDenied as denied:
        return {}, denied.decision


class Judge(NamedTuple):
    """Asks the engine on behalf of those who call."""

    engine: PolicyEngine
    identify: Callable[[Any], tuple[Principal | None, str | None]]

    async def decide(
        self, context: Any, server: str | None, tool: str, given: Mapping[str, Any] | None
    ) -> tuple[Decision, dict[str, Any]]:
        """Return the decision on a call and the copy of its arguments that was judged; a failure denies the call."""
        bare = ToolCall(tool, {}, server=server)
        arguments, decision = _copied(tool, given)
        try:
            principal, session = self.identify(context)
            now = {"time": utc_now()}
            known = ToolCall(tool, {}, server=server, session=session, principal=principal, context=now)
            bare = (
                bare if known.flaw else known
            )  # an identity that is none: hidden may still be what is hidden from all
            if decision is None:
                call = ToolCall(tool, arguments, server=server, session=session, principal=principal, context=now)
                decision = await self.engine.authorize_async(call)
        except Exception:
            log.exception("the policy could not be applied to a call of %r: denied", tool)
            decision = FAILED
        return self._discreetly(decision, bare), arguments

    def _discreetly(self, decision: Decision, bare: ToolCall) -> Decision:
        """Return what hides the tool from this caller, also if the call never got so far."""
        if decision.allowed or decision.reasons[0].code not in _UNJUDGED:
            return decision
        hidden = self.engine.evaluate(bare)
        return hidden if is_hidden(hidden) else decision

    def viewer(self, context: Any, server: str | None) -> Callable[[str], bool]:
        """Return what says whether the caller may ever call a tool; a failure on the way hides them all."""
        try:
            principal, session = self.identify(context)
        except Exception:
            log.exception("who asks for the tools of %r could not be found out: none is listed", server)
            return lambda _: False
        now = {"time": utc_now()}
        return lambda tool: self.engine.visible(
            ToolCall(tool, {}, server=server, session=session, principal=principal, context=now)
        )


Found = TypeVar("Found")


class Known(Generic[Found]):
    """The tools that a server was found to have, by name, so that finding out costs nothing the next time.

    Only what exists is remembered, and not for ever: whoever is about to refuse a call looks again.
    """

    _MOST = 10_000

    def __init__(self) -> None:
        self._names: dict[str, Found] = {}

    def get(self, name: str) -> Found | None:
        """Return what `name` was found to be."""
        return self._names.get(name)

    def add(self, name: str, found: Found) -> None:
        """Remember a tool."""
        if len(self._names) >= self._MOST:
            self._names.clear()
        self._names[name] = found

    def forget(self, name: str) -> None:
        """Forget a tool that may be gone."""
        self._names.pop(name, None)
