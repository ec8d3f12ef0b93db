"""The door of a page that is served to this machine: who is let in, and what browsers are told.

Rules kept here:

- Whoever knows the token is let in. It is shown once, in the address, for a cookie that no script reads and no other
  site's request carries; without the cookie every answer but one is a refusal.
- Only requests that name one of `hosts` are answered, so that no foreign name can be made to lead here. What changes
  anything comes from a page of this very origin, and carries a secret that only such a page can read.
- Every answer tells browsers what they may do with it; an answer may say so more strictly itself.
- No answer says more of an error than that there was one.
"""

from __future__ import annotations

import hmac
import logging
import re
from collections.abc import Collection, Mapping
from hashlib import sha256
from html import escape
from typing import TYPE_CHECKING, Final

from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log: Final = logging.getLogger("mcp_policy")

LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]")
"""The names under which a machine reaches itself."""

HEADERS: Final[Mapping[str, str]] = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
"""What every answer says: run and load nothing but what this origin serves, in no frame, and keep nothing."""

_HOST: Final = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(?::[0-9]{1,5})?")
_SHORTEST_TOKEN: Final = 16  # characters

_REFUSED: Final = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Not let in</title>
<h1>Not let in</h1>
<p>Open the address that was printed when this page was started; it ends in <code>?token=</code> and a long word.</p>
<p>If you have opened it before in this browser, and came here by a link: <a href="?">go on to {what}</a>.</p>
</html>
"""


def secret_of(token: str) -> str:
    """Return what a page puts into the header `x-csrf-token` of a request that changes anything."""
    return _derived(token, "csrf")


def _derived(token: str, purpose: str) -> str:
    return hmac.new(token.encode(), purpose.encode(), sha256).hexdigest()


def _same(given: str, right: str) -> bool:
    return hmac.compare_digest(given.encode(), right.encode())


def door(*, token: str, hosts: Collection[str], what: str, headers: Mapping[str, str] | None = None) -> Middleware:
    """Return the door for the application of a page that people know as `what`, with headers beside `HEADERS`.

    Raises `ValueError` for a `token` of less than 16 characters.
    """
    if len(token) < _SHORTEST_TOKEN:
        raise ValueError(f"`token` needs {_SHORTEST_TOKEN} characters or more: whoever guesses it decides")
    if isinstance(hosts, str):
        raise TypeError("`hosts` is a collection of names, not one name")
    names = frozenset(host.lower() for host in hosts)
    return Middleware(_Door, token=token, hosts=names, what=what, headers={**HEADERS, **(headers or {})})


class _Door:
    """Lets through what may be answered, and puts on every answer what browsers are to know."""

    def __init__(self, app: ASGIApp, token: str, hosts: frozenset[str], what: str, headers: Mapping[str, str]) -> None:
        self._app, self._token, self._hosts, self._what, self._headers = app, token, hosts, what, headers
        self._key, self._secret = _derived(token, "cookie"), secret_of(token)
        self._cookie = f"mcp_policy_{_derived(token, 'name')[:16]}"  # pages on other ports have cookies of their own

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def with_headers(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            request = Request(scope)
            answer = self._refusal(request) or self._admission(request) or self._app
            await answer(scope, receive, with_headers)
        except Exception:
            log.exception("%s failed", self._what)
            if not begun:
                await PlainTextResponse("this failed; the log says why", 500)(scope, receive, with_headers)

    def _refusal(self, request: Request) -> Response | None:
        host = request.headers.getlist("host")
        name = _HOST.fullmatch(host[0].lower()) if len(host) == 1 else None
        if name is None or name[1] not in self._hosts:
            return _refuse(403, "this page is not served under that name")
        if request.method not in {"GET", "POST"}:
            return _refuse(405, "only GET and POST are answered")
        reading = request.method == "GET"
        origin = request.headers.getlist("origin")
        if origin != [f"{request.scope['scheme']}://{host[0].lower()}"] and (origin or not reading):
            return _refuse(403, "this request does not come from this page")
        site, mode = request.headers.get("sec-fetch-site"), request.headers.get("sec-fetch-mode")
        opened = reading and (site == "none" or mode == "navigate")
        if site not in {None, "same-origin"} and not opened:
            return _refuse(403, "this request does not come from this page")
        return None

    def _admission(self, request: Request) -> Response | None:
        """Return the refusal of who is not let in, and the cookie for who shows the token."""
        tokens = request.query_params.getlist("token")
        if tokens and request.method == "GET":
            return self._let_in(request) if len(tokens) == 1 and _same(tokens[0], self._token) else self._not_let_in()
        if not _same(request.cookies.get(self._cookie, ""), self._key):
            return self._not_let_in()
        if request.method == "POST" and not _same(request.headers.get("x-csrf-token", ""), self._secret):
            return _refuse(403, "this request does not come from this page: load it again")
        return None

    def _let_in(self, request: Request) -> Response:
        here = f"{request.scope.get('root_path', '')}/"
        answer = Response(status_code=303, headers={"location": here})
        secure = request.scope["scheme"] == "https"
        answer.set_cookie(self._cookie, self._key, path=here, httponly=True, samesite="strict", secure=secure)
        return answer

    def _not_let_in(self) -> Response:
        return HTMLResponse(_REFUSED.format(what=escape(self._what)), 403)


def _refuse(status: int, text: str) -> Response:
    return PlainTextResponse(text, status)
