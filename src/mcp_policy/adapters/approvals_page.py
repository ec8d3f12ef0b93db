"""A web page on which a person approves and rejects calls: an ASGI application, for this machine.

Rules kept here:

- Whoever knows the token decides, in the name of `by`. It is shown once, in the address, for a cookie that no script
  reads and no other site's request carries; without the cookie every answer but one is a refusal.
- Only requests that name this machine are answered (`hosts`), so that no foreign name can be made to lead here. What
  decides comes from a page of this very origin, and carries a secret that only such a page can read.
- Nothing of a call becomes markup: the page is files as they are in this package, and gets its data as JSON.
- A browser is told to run and load nothing else, and to show the page in no frame; nothing is kept in its cache.
- No path that a browser sends reaches a file system, and no answer says more of an error than that there was one.

Cookies know no ports: another server on this machine that the person visits can see them. Serve the page where you
trust those.
"""

from __future__ import annotations

import hmac
import json
import logging
import re
from collections.abc import Awaitable, Callable, Collection
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

try:
    from starlette.applications import Starlette
    from starlette.datastructures import MutableHeaders
    from starlette.middleware import Middleware
    from starlette.requests import Request
    from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
    from starlette.routing import Route
except ImportError as error:
    raise ImportError('the approvals page needs starlette: pip install "mcp-policy[gateway]"') from error

from mcp_policy.approvals.store import MAX_NOTE, ApprovalError
from mcp_policy.engine import PolicyEngine

from ._page.board import UNREACHABLE, Board
from ._page.shown import arguments

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log: Final = logging.getLogger("mcp_policy")

LOOPBACK: Final = ("127.0.0.1", "localhost", "[::1]")
"""The names under which a machine reaches itself."""

_HEADERS: Final = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
_FILES: Final = {
    "page.css": "text/css",
    "page.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
_HOST: Final = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(?::[0-9]{1,5})?")
_MOST: Final = 16_384  # bytes of a decision: a note of `MAX_NOTE` characters in its longest spelling, and the rest
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
<p>If you have opened it before in this browser, and came here by a link: <a href="?">go on to the approvals</a>.</p>
</html>
"""

Handler = Callable[[Request], Awaitable[Response]]


def approvals_page(engine: PolicyEngine, *, by: str, token: str, hosts: Collection[str] = LOOPBACK) -> Starlette:
    """Return the page as an ASGI application, to be served or mounted; `…/?token=TOKEN` lets a browser in.

    What is decided on it is decided in the name of `by`, and `engine` may have any store. Requests are answered that
    name one of `hosts`, on any port. `app.state.close()` ends the streams of open pages, so that a server that is to
    stop need not wait for them. Raises `ValueError` for an empty `by` and a `token` of less than 16 characters.
    """
    if not by:
        raise ValueError("`by` must name who decides on this page")
    if len(token) < _SHORTEST_TOKEN:
        raise ValueError(f"`token` needs {_SHORTEST_TOKEN} characters or more: whoever guesses it decides")
    if isinstance(hosts, str):
        raise TypeError("`hosts` is a collection of names, not one name")
    board, secret = Board(engine, by), _derived(token, "csrf")
    routes = [
        Route("/", _file("index.html", "text/html"), methods=["GET"]),
        *(Route(f"/{name}", _file(name, kind), methods=["GET"]) for name, kind in _FILES.items()),
        Route("/events", _events(board, secret), methods=["GET"]),
        Route("/arguments/{id}", _arguments(board), methods=["GET"]),
        Route("/decide", _decide(board, secret), methods=["POST"]),
    ]
    names = frozenset(host.lower() for host in hosts)
    app = Starlette(routes=routes, middleware=[Middleware(_Door, token=token, hosts=names)])
    app.router.redirect_slashes = False
    app.state.close = board.close
    return app


def _derived(token: str, purpose: str) -> str:
    return hmac.new(token.encode(), purpose.encode(), sha256).hexdigest()


def _same(given: str, right: str) -> bool:
    return hmac.compare_digest(given.encode(), right.encode())


# -- who is let in


class _Door:
    """Lets through what may be answered, and puts on every answer what browsers are to know."""

    def __init__(self, app: ASGIApp, token: str, hosts: frozenset[str]) -> None:
        self._app, self._token, self._hosts = app, token, hosts
        self._key = _derived(token, "cookie")
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
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        try:
            request = Request(scope)
            answer = self._refusal(request) or self._admission(request) or self._app
            await answer(scope, receive, with_headers)
        except Exception:
            log.exception("the approvals page failed")
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
            return self._let_in(request) if len(tokens) == 1 and _same(tokens[0], self._token) else _not_let_in()
        return None if _same(request.cookies.get(self._cookie, ""), self._key) else _not_let_in()

    def _let_in(self, request: Request) -> Response:
        here = f"{request.scope.get('root_path', '')}/"
        answer = Response(status_code=303, headers={"location": here})
        secure = request.scope["scheme"] == "https"
        answer.set_cookie(self._cookie, self._key, path=here, httponly=True, samesite="strict", secure=secure)
        return answer


def _refuse(status: int, text: str) -> Response:
    return PlainTextResponse(text, status)


def _not_let_in() -> Response:
    return HTMLResponse(_REFUSED, 403)


# -- what is answered


def _file(name: str, kind: str) -> Handler:
    content = (Path(__file__).parent / "_page" / name).read_bytes()

    async def answer(request: Request) -> Response:
        return Response(content, media_type=kind)

    return answer


def _events(board: Board, secret: str) -> Handler:
    async def answer(request: Request) -> Response:
        greeting = {"by": board.by, "csrf": secret}
        return StreamingResponse(board.events(greeting), media_type="text/event-stream")

    return answer


def _arguments(board: Board) -> Handler:
    async def answer(request: Request) -> Response:
        try:
            record = await board.find(request.path_params["id"])
        except Exception as error:  # noqa: BLE001  # whatever a store raises, it cannot answer
            log.error("the approvals page cannot read its store: %r", error)  # noqa: TRY400  # one line
            return _refuse(503, UNREACHABLE)
        if record is None:
            return _refuse(404, "there is no such approval: it was used or has expired, or there never was one")
        return PlainTextResponse(arguments(record))

    return answer


def _decide(board: Board, secret: str) -> Handler:
    async def answer(request: Request) -> Response:
        if not _same(request.headers.get("x-csrf-token", ""), secret):
            return _failed(403, "this request does not come from this page: load it again")
        if request.headers.get("content-type") != "application/json":
            return _failed(415, "a decision is sent as `application/json`")
        body = await _body(request)
        if body is None:
            return _failed(413, f"a decision has at most {_MOST:,} bytes")
        asked = _asked(body)
        if asked is None:
            return _failed(400, 'a decision is `{"id": text, "approve": true or false, "note": text}`')
        if len(asked[2]) > MAX_NOTE:
            return _failed(400, f"a note has at most {MAX_NOTE:,} characters")
        try:
            return JSONResponse(await board.decide(*asked))
        except ApprovalError as error:
            return _failed(409, str(error))
        except Exception as error:  # noqa: BLE001  # whatever a store raises, it cannot answer
            log.error("the approvals page cannot reach its store: %r", error)  # noqa: TRY400  # one line
            return _failed(503, "the store of approvals did not answer: the list will show whether this was decided")

    return answer


def _failed(status: int, text: str) -> Response:
    return JSONResponse({"error": text}, status)


async def _body(request: Request) -> bytes | None:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST:
            return None
    return bytes(body)


def _asked(body: bytes) -> tuple[str, bool, str] | None:
    try:
        tree: Any = json.loads(body)
    except (RecursionError, ValueError):
        return None
    if not isinstance(tree, dict) or tree.keys() != {"id", "approve", "note"}:
        return None
    id, approve, note = tree["id"], tree["approve"], tree["note"]
    if type(id) is not str or type(approve) is not bool or type(note) is not str:
        return None
    return (id, approve, note) if _is_text(id) and _is_text(note) else None


def _is_text(text: str) -> bool:
    """Tell whether it can be written down: half of a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
