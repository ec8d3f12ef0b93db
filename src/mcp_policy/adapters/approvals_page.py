"""A web page on which a person approves and rejects calls: an ASGI application, for this machine.

Rules kept here:

- Whoever knows the token decides, in the name of `by`; `_page/door.py` has the rules of who is let in.
- Nothing of a call becomes markup: the page is files as they are in this package, and gets its data as JSON. A browser
  is told to make no markup of texts itself.
- No path that a browser sends reaches a file system.

Cookies know no ports: another server on this machine that the person visits can see them. Serve the page where you
trust those.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Any, Final

try:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
    from starlette.routing import Route
except ImportError as error:
    raise ImportError('the approvals page needs starlette: pip install "mcp-policy[gateway]"') from error

from mcp_policy.approvals.store import MAX_NOTE, ApprovalError
from mcp_policy.engine import PolicyEngine

from ._page.board import UNREACHABLE, Board
from ._page.door import HEADERS, LOOPBACK, door, secret_of
from ._page.shown import arguments

log: Final = logging.getLogger("mcp_policy")

_STRICTER: Final = {
    "content-security-policy": f"{HEADERS['content-security-policy']}; require-trusted-types-for 'script'; "
    "trusted-types 'none'"
}
_FILES: Final = {
    "page.css": "text/css",
    "page.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
_GONE: Final = "there is no such approval: it was used or has expired, or there never was one"
_MOST: Final = 16_384  # bytes of a decision: a note of `MAX_NOTE` characters in its longest spelling, and the rest

Handler = Callable[[Request], Awaitable[Response]]


def approvals_page(
    engine: PolicyEngine, *, by: str, token: str, hosts: Collection[str] = LOOPBACK, home: str = ""
) -> Starlette:
    """Return the page as an ASGI application, to be served or mounted; `…/?token=TOKEN` lets a browser in.

    What is decided on it is decided in the name of `by`, and `engine` may have any store. Requests are answered that
    name one of `hosts`, on any port. `home` is the address of the pages that it is one of, where it is.
    `app.state.close()` ends the streams of open pages, so that a server that is to stop need not wait for them. Raises
    `ValueError` for an empty `by` and a `token` of less than 16 characters.
    """
    if not by:
        raise ValueError("`by` must name who decides on this page")
    board = Board(engine, by)
    routes = [
        Route("/", _file("index.html", "text/html"), methods=["GET"]),
        *(Route(f"/{name}", _file(name, kind), methods=["GET"]) for name, kind in _FILES.items()),
        Route("/events", _events(board, {"by": by, "csrf": secret_of(token), "home": home}), methods=["GET"]),
        Route("/arguments/{id}", _arguments(board), methods=["GET"]),
        Route("/decide", _decide(board), methods=["POST"]),
    ]
    front = door(token=token, hosts=hosts, what="the approvals page", headers=_STRICTER)
    app = Starlette(routes=routes, middleware=[front])
    app.router.redirect_slashes = False
    app.state.close = board.close
    return app


# -- what is answered


def _file(name: str, kind: str) -> Handler:
    content = (Path(__file__).parent / "_page" / name).read_bytes()

    async def answer(request: Request) -> Response:
        return Response(content, media_type=kind)

    return answer


def _events(board: Board, greeting: dict[str, Any]) -> Handler:
    async def answer(request: Request) -> Response:
        return StreamingResponse(board.events(greeting), media_type="text/event-stream")

    return answer


def _arguments(board: Board) -> Handler:
    async def answer(request: Request) -> Response:
        try:
            record = await board.find(request.path_params["id"])
        except Exception as error:  # noqa: BLE001  # whatever a store raises, it cannot answer
            log.error("the approvals page cannot read its store: %r", error)  # noqa: TRY400  # one line
            return PlainTextResponse(UNREACHABLE, 503)
        if record is None:
            return PlainTextResponse(_GONE, 404)
        return PlainTextResponse(arguments(record))

    return answer


def _decide(board: Board) -> Handler:
    async def answer(request: Request) -> Response:
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
