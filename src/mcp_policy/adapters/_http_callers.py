"""Who calls an ASGI app: the principal that authentication around the guard left, and sessions that the app issued.

A session id in a request is the client's word. It counts only if this process saw the app give it out in answer to an
`initialize`, and only for the principal that it was given to.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from ._common import Caller, caller, principal_of
from ._jsonrpc import Headers, Scope

SESSION: Final = b"mcp-session-id"
_LONGEST: Final = 256  # bytes of a session id


class _Token(NamedTuple):
    client_id: str
    scopes: Sequence[str]
    subject: str | None
    claims: Mapping[str, Any] | None


Owner = tuple[str | None, str | None, str | None] | None


class Sessions:
    """The sessions that an app has issued and not ended. The longest unused go first where there are too many."""

    _MOST = 10_000

    def __init__(self) -> None:
        self._owners: OrderedDict[bytes, Owner] = OrderedDict()

    def note(self, scope: Scope, answered: Headers) -> None:
        """Remember the session that the app gave out in answer to the `initialize` of this scope."""
        issued = [value for name, value in answered if name == SESSION]
        if len(issued) == 1 and 0 < len(issued[0]) <= _LONGEST:
            self._owners[issued[0]] = _owner(scope)
            while len(self._owners) > self._MOST:
                self._owners.popitem(last=False)

    def drop(self, scope: Scope) -> None:
        """Forget the session that this request belongs to, if it is its owner's."""
        asked = _asked(scope)
        if asked is not None and self._owners.get(asked, ()) == _owner(scope):
            del self._owners[asked]

    def identify(self, scope: Scope) -> Caller:
        """Return who sent the request of this scope."""
        asked = _asked(scope)
        issued = asked is not None and self._owners.get(asked, ()) == _owner(scope)
        if not issued or asked is None:
            return caller(_token(scope), scope, None)
        self._owners.move_to_end(asked)
        return caller(_token(scope), scope, asked.decode("latin-1"))


def _asked(scope: Scope) -> bytes | None:
    found = [value for name, value in scope["headers"] if name.lower() == SESSION]
    return found[0] if len(found) == 1 else None


def _owner(scope: Scope) -> Owner:
    token = _token(scope)
    if token is None:
        return None
    principal = principal_of(token)
    return principal.issuer, principal.id, principal.client


def _token(scope: Scope) -> _Token | None:
    """Return the access token of the user that an authentication middleware has put into the scope."""
    token = getattr(scope.get("user"), "access_token", None)
    if token is None or not hasattr(token, "client_id"):
        return None
    return _Token(
        token.client_id,
        getattr(token, "scopes", ()),
        getattr(token, "subject", None),
        getattr(token, "claims", None),
    )
