"""The explorer as an ASGI application: its pages, the builder, and the approvals page that there is.

Rules kept here:

- It decides nothing: what a page says of the policy was asked of an engine that has loaded the file as it is now.
- Who is let in, and what browsers may do with an answer, is the door's business (`adapters/_page/door.py`); it stands
  in front of everything.
- An address leads to a page that was made for it, or to none: files are read when it starts, and no path that a
  browser sends reaches a file system. The one file that is written is the policy that the command line named.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from importlib.metadata import version
from importlib.resources import files
from pathlib import PurePath
from typing import Any, Final

try:
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import HTMLResponse, Response
    from starlette.routing import BaseRoute, Mount, Route

    from . import rendering
except ImportError as error:
    raise ImportError('the explorer needs starlette and jinja2: pip install "mcp-policy[web]"') from error

from mcp_policy.adapters._page.door import LOOPBACK, door, secret_of
from mcp_policy.adapters.approvals_page import approvals_page
from mcp_policy.engine import PolicyEngine

from . import building
from .current import Current
from .saving import PolicyOnDisk
from .stack import Stack

Handler = Callable[[Request], Response]

_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def explorer(
    stack: Stack,
    *,
    token: str,
    disk: PolicyOnDisk | None = None,
    hosts: Collection[str] = LOOPBACK,
    approvals: PolicyEngine | None = None,
    by: str = "",
) -> Starlette:
    """Return the explorer of a stack as an ASGI application; `…/?token=TOKEN` lets a browser in.

    `disk` is the policy to show and build. `approvals` is an engine whose store holds the calls that wait; what is
    decided on them is decided in the name of `by`. Requests are answered that name one of `hosts`, on any port.
    `app.state.close()` ends the streams of open pages. Raises `ValueError` for a `token` of less than 16 characters,
    and for `approvals` without a name to decide in.
    """
    current = Current(disk)
    always = {"live": True, "source": stack.source, "version": version("mcp-policy"), "csrf": secret_of(token)}

    def render(name: str, *, root: str = "", status: int = 200, **values: Any) -> Response:
        return HTMLResponse(rendering.page(name, root=root, **always, **values), status)

    routes: list[BaseRoute] = [
        *_pages(stack, current, render),
        *building.routes(stack, current, render),
        *_static(),
    ]
    board = None
    if approvals is not None:
        board = approvals_page(approvals, by=by, token=token, hosts=hosts, home="../index.html")
    routes.append(Route("/approvals/", _without_store(render)) if board is None else Mount("/approvals", board))
    app = Starlette(
        routes=routes,
        middleware=[door(token=token, hosts=hosts, what="the explorer")],
        exception_handlers={HTTPException: _refused(render)},
    )
    app.router.redirect_slashes = False
    app.state.close = (lambda: None) if board is None else board.state.close
    return app


def _pages(stack: Stack, current: Current, render: Callable[..., Response]) -> Iterator[Route]:
    def index(request: Request) -> Response:
        now = current.now()
        return render("stack.html", **rendering.stack_view(stack, now.engine, now.problem))

    def tool(request: Request) -> Response:
        slug = f"{request.path_params['server']}/{request.path_params['tool']}"
        if slug not in stack.tools:
            raise HTTPException(404)
        now = current.now()
        return render("tool.html", root="../../", **rendering.tool_view(stack, slug, now.engine, now.problem))

    def attacks(request: Request) -> Response:
        return render("attacks.html", **rendering.attacks_view(stack))

    yield Route("/", index)
    yield Route("/index.html", index)
    yield Route("/tools/{server}/{tool}.html", tool)
    yield Route("/attacks.html", attacks)


def _static() -> Iterator[Route]:
    for file in files("mcp_policy.explorer").joinpath("static").iterdir():
        kind = _TYPES.get(PurePath(file.name).suffix)
        if kind is not None:
            yield Route(f"/static/{file.name}", _sent(file.read_bytes(), kind))


def _sent(content: bytes, kind: str) -> Handler:
    return lambda request: Response(content, media_type=kind)


def _without_store(render: Callable[..., Response]) -> Handler:
    says = "No store of approvals is known. Start with --store, such as --store sqlite:///state.db, to decide here."
    return lambda request: render(
        "message.html", root="../", here="Approvals", heading="No approvals to show", says=says
    )


def _refused(render: Callable[..., Response]) -> Callable[[Request, Exception], Response]:
    def answer(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        root = "../" * (request.url.path.count("/") - 1)
        says = "There is no such page: the stack may have changed since you were here. The stack lists all tools."
        return render("message.html", root=root, status=status, here="", heading="Not found", says=says)

    return answer
