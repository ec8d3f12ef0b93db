"""What the adapters share: who calls, what is judged, and what a failed call is.

Identity is what the host and its transport know: the authenticated principal, the session that a stateful HTTP server
issued, the process on stdio and in memory, else nobody. What a client says of itself never counts: names, headers,
`_meta`, the id of a session that nobody issued.

A tool's category comes from its definition as the server lists it. A definition is passed on as its JSON text
(`definition_text`), so that what it was found to be is remembered for exactly this text.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from contextvars import Token as Admission
from functools import lru_cache
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar
from uuid import uuid4
from weakref import WeakKeyDictionary

from mcp_policy.answer import is_hidden
from mcp_policy.call import UNKNOWN, Principal, ToolCall
from mcp_policy.decision import Decision, Effect, Reason, ReasonCode
from mcp_policy.engine import PolicyEngine
from mcp_policy.guard import FAILED, PolicyDenied, judged_copy, utc_now

from .approvers import Approver, Client, NotYet, put

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
    claims = getattr(token, "claims", None) or {}  # older SDKs have neither claims nor a subject
    issuer = claims.get("iss")
    subject = getattr(token, "subject", None) or claims.get("sub")
    return Principal(
        subject if isinstance(subject, str) and subject else f"client:{token.client_id}",
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


_handshaken: Final[WeakKeyDictionary[Any, str]] = WeakKeyDictionary()


def handshake_session(session: Any) -> str | None:
    """Return what stands for a session of the 1.x SDK whose handshake this server has seen.

    The id is ours: over HTTP a client sends one along, and a stateless server, which makes a session for each request
    and sees no handshake in it, does not look at it.
    """
    if getattr(session, "client_params", None) is None:
        return None
    return _handshaken.setdefault(session, f"session:{uuid4().hex}")


def _copied(tool: str, given: Mapping[str, Any] | None) -> tuple[dict[str, Any], Decision | None]:
    """Return the copy of the arguments that is judged and runs, or the denial of what cannot be copied."""
    try:
        return judged_copy(tool, given), None
    except PolicyDenied as denied:
        return {}, denied.decision


UNREADABLE: Final = ""
"""What stands for a definition that cannot be read, or that the server did not give: the tool's category is unknown."""

_REMEMBERED: Final = 2_048


def definition_text(tool: Any) -> str:
    """Return a tool's definition, as a server lists it, as JSON text."""
    try:
        if hasattr(tool, "model_dump_json"):
            return str(tool.model_dump_json(by_alias=True, exclude_none=True))
        return json.dumps(dict(tool))
    except Exception:
        log.exception("the definition of a tool cannot be read: its category is unknown")
        return UNREADABLE


def definition_texts(named: Iterable[tuple[str, Any]]) -> list[str]:
    """Return the definitions of one list of tools; of a name with several different ones none counts."""
    texts = [(name, definition_text(tool)) for name, tool in named]
    first = dict(reversed(texts))
    odd = {name for name, text in texts if text != first[name]}
    return [UNREADABLE if name in odd else text for name, text in texts]


class Judge:
    """Asks the engine on behalf of those who call.

    `listed` is a tool's definition as the server lists it, as text; None where the engine does not ask for it
    (`engine.asks_definitions`) or the server lists nothing. `approver` is asked where a call waits for a person.
    """

    def __init__(
        self,
        engine: PolicyEngine,
        identify: Callable[[Any], tuple[Principal | None, str | None]],
        approver: Approver | None = None,
    ) -> None:
        self.engine = engine
        self.identify = identify
        self.approver = approver
        self._category_by = lru_cache(_REMEMBERED)(self._find_category)

    async def decide(
        self,
        context: Any,
        server: str | None,
        tool: str,
        given: Mapping[str, Any] | None,
        listed: str | None = None,
        client: Client | None = None,
    ) -> tuple[Decision, dict[str, Any]]:
        """Return the decision on a call and the copy of its arguments that was judged; a failure denies the call.

        `client` is whom an approver may ask. Raises `NotYet` where the client has to answer with its next request.
        """
        arguments, decision = _copied(tool, given)
        if decision is not None:
            self.engine.note(ToolCall(tool, server=server), decision)
        try:
            if decision is None:
                call = self._asked(context, server, tool, arguments, listed)
                decision = await self.engine.authorize_async(call)
                if decision.effect is Effect.APPROVE and self.approver is not None and client is not None:
                    decision = await self._put(self.approver, decision, call, client)
        except NotYet:
            raise
        except Exception:
            log.exception("the policy could not be applied to a call of %r: denied", tool)
            decision = FAILED
            self.engine.note(ToolCall(tool, server=server), decision)
        if not decision.allowed and decision.reasons[0].code in _UNJUDGED:
            hidden = await self.engine.evaluate_async(self._bare(context, server, tool, listed))
            decision = hidden if is_hidden(hidden) else decision
        return decision, arguments

    def _asked(
        self, context: Any, server: str | None, tool: str, arguments: Mapping[str, Any], listed: str | None
    ) -> ToolCall:
        category = None if listed is None else self._category_by(server, listed)
        principal, session = self.identify(context)
        now = {"time": utc_now()}
        return ToolCall(
            tool, arguments, server=server, session=session, principal=principal, context=now, category=category
        )

    def _bare(self, context: Any, server: str | None, tool: str, listed: str | None) -> ToolCall:
        """Return a call that never got so far, with what is known of it: a tool that is hidden from this caller, or
        from all, stays so.
        """
        bare = ToolCall(tool, {}, server=server)
        try:
            category = None if listed is None else self._category_by(server, listed)
            bare = ToolCall(tool, {}, server=server, category=category)
            known = self._asked(context, server, tool, {}, listed)
        except Exception:  # noqa: BLE001  # logged when the call was decided
            return bare
        return known if known.flaw is None else bare

    async def _put(self, approver: Approver, waiting: Decision, call: ToolCall, client: Client) -> Decision:
        """Have a person asked about a call that waits, and decide on it again: as of now, since answers take time."""
        approval = waiting.approval
        if approval is None or approval.status != "pending":
            return waiting
        why = await put(approver, approval, call, client, self.engine)
        if why is not None:
            said = Reason(waiting.reasons[0].code, f"nobody has approved this call: {why}", waiting.reasons[0].rule)
            return waiting._replace(reasons=(*waiting.reasons, said))
        context = {**(call.context or {}), "time": utc_now()}
        again = ToolCall(
            call.tool,
            call.arguments,
            server=call.server,
            session=call.session,
            principal=call.principal,
            context=context,
            category=call.category,
        )
        return await self.engine.authorize_async(again)

    def viewer(self, context: Any, server: str | None) -> Callable[[str, str | None], bool]:
        """Return what says whether the caller may ever call a tool, by its name and definition.

        A failure on the way hides it.
        """
        try:
            principal, session = self.identify(context)
        except Exception:
            log.exception("who asks for the tools of %r could not be found out: none is listed", server)
            return lambda tool, listed: False
        now = {"time": utc_now()}

        def shows(tool: str, listed: str | None) -> bool:
            try:
                category = None if listed is None else self._category_by(server, listed)
            except Exception:
                log.exception("what %r of %r does could not be found out: it is not listed", tool, server)
                return False
            call = ToolCall(
                tool, {}, server=server, session=session, principal=principal, context=now, category=category
            )
            return self.engine.visible(call)

        return shows

    def _find_category(self, server: str | None, listed: str) -> str:
        return UNKNOWN if listed == UNREADABLE else self.engine.category(server, json.loads(listed))


class _Admitted(NamedTuple):
    """A call that a guard let through, for as long as its handler runs."""

    guard: object
    tool: str
    arguments: Mapping[str, Any] | None


_admitted: Final[ContextVar[list[_Admitted]]] = ContextVar("mcp_policy_admitted")


def admit(guard: object, tool: str, arguments: Mapping[str, Any] | None) -> Admission[list[_Admitted]]:
    """Let a call through to its handler, which may be one that hands it on to an earlier handler, guarded as well.

    What is returned goes to `release` when the handler has ended.
    """
    return _admitted.set([_Admitted(guard, tool, arguments)])


release: Final = _admitted.reset


def is_admitted(guard: object, tool: str, arguments: Mapping[str, Any] | None) -> bool:
    """Tell whether this very call was let through by this guard and comes back from its handler; once."""
    for call in _admitted.get([]):
        same = arguments is call.arguments or repr(arguments) == repr(call.arguments)  # tells `1` and `true` apart
        if call.guard is guard and call.tool == tool and same:
            _admitted.get().remove(call)
            return True
    return False


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
