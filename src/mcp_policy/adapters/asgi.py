"""Any ASGI app that speaks MCP over streamable HTTP: `app = PolicyASGIMiddleware(app, engine)`.

- Every POST is read whole and understood, or refused. What the app gets is written anew from what was judged.
- The app is asked for its tools, on behalf of the caller, where a name is not known: what it does not list to them does
  not run.
- A hidden tool and one that the app does not list get one and the same answer, in the words of the MCP SDK: the app is
  not asked about them, since one that looks at no name would run something.
- Lists are filtered wherever they pass: in JSON, in events, and in events that are sent again.
- Web sockets are closed: MCP over them would go past the guard.

It belongs inside authentication (which leaves `scope["user"]`) and outside whatever serves MCP.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Collection, Sequence
from typing import Any, Final

from mcp_policy.answer import answer, is_hidden
from mcp_policy.decision import Decision
from mcp_policy.engine import PolicyEngine
from mcp_policy.guard import has_failed
from mcp_policy.placement import check_engine

from ._answers import Answer, Began, Change, messages_in, read_json
from ._common import IdentityHook, Judge, Known, definition_texts
from ._exchange import Request, Tools, asked, client_of, definition, headers_for, result, said, says_failed, while_there
from ._http_callers import Sessions
from ._jsonrpc import (
    CALL,
    LIST,
    METHOD_NOT_FOUND,
    App,
    Event,
    Headers,
    Receive,
    Refused,
    Scope,
    Send,
    error,
    forwarded,
    read_head,
    read_message,
    replayed,
    respond,
    written,
)
from .approvers import Approver, NotYet

log: Final = logging.getLogger("mcp_policy")

_WITHOUT_MESSAGE: Final = ("GET", "HEAD", "OPTIONS", "DELETE")
_PAGES: Final = 100
_ESCAPED: Final = re.compile(rb"\\u00[67]")  # a letter of `tools`, in another spelling


class PolicyASGIMiddleware:
    """Puts `engine` in front of every tool of an ASGI app that speaks MCP.

    `server` is the name under which the policy knows the server. `unguarded` are the paths, exactly as in
    `scope["path"]`, that go to the app untouched: those where it takes other POSTs than MCP's. `identity` is called
    with the ASGI scope and returns the principal and the session, each or None; without it they are what authentication
    has left in `scope["user"]`, and the session that the app issued. `approver` is asked, in the middle of the call,
    where a call needs an approval (`mcp_policy.adapters.approvers`). Raises `TypeError` for what is not an ASGI app.
    """

    def __init__(
        self,
        app: App,
        engine: PolicyEngine,
        *,
        server: str | None = None,
        unguarded: Collection[str] = (),
        identity: IdentityHook | None = None,
        approver: Approver | None = None,
    ) -> None:
        if not callable(app):
            raise TypeError(
                f"the guard stands around an ASGI app, and `{type(app).__name__}` is none; pass what it serves"
            )
        if isinstance(unguarded, str):
            raise TypeError("`unguarded` is a list of paths, not one string")
        self._app = app
        self._sessions = Sessions()
        self._judge = Judge(
            check_engine(engine), identity or self._sessions.identify, approver and while_there(approver)
        )
        self._server = server
        self._unguarded = frozenset(unguarded)
        self._known: Known[bool] = Known()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        kind = scope["type"]
        if kind == "lifespan" or (kind == "http" and scope["path"] in self._unguarded):
            await self._app(scope, receive, send)
        elif kind == "http":
            await self._serve(scope, receive, send)
        elif kind == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": "policies are applied over HTTP only"})
        else:
            raise RuntimeError(f"connections of type `{kind}` cannot be guarded")

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        bare = scope["method"] in _WITHOUT_MESSAGE
        try:
            head = read_head(scope["headers"])
            if not bare and scope["method"] != "POST":
                raise Refused(405, METHOD_NOT_FOUND, "a message is sent by POST")  # noqa: TRY301  # one way to refuse
            message = None if bare else await read_message(head, receive)
        except Refused as refusal:
            await respond(send, refusal.status, error(refusal.code, refusal.message, refusal.id))
            return
        if bare:
            told = Answer(send, self._showing(scope), began=self._noting(scope), to_message=False)
            await self._app(forwarded(scope, head.forwarded), replayed(b"", receive), told)
        elif message is not None:  # else the client is gone
            at = Request(scope, receive, send, head, message)
            await (
                self._call(at)
                if message.method == CALL
                else self._forward(at, message.tree, self._showing(scope, at.is_modern))
            )

    async def _forward(self, at: Request, tree: object, change: Change) -> int:
        """Hand a message to the app and its answer, changed, to the client; return the HTTP status."""
        body = written(tree)
        told = Answer(at.send, change, began=self._noting(at.scope, at.message.method), id=at.message.id)
        await self._app(forwarded(at.scope, at.head.forwarded, body), replayed(body, at.receive), told)
        return told.status

    def _noting(self, scope: Scope, method: str | None = None) -> Began:
        def began(status: int, headers: Headers) -> None:
            if method == "initialize" and status < 400:
                self._sessions.note(scope, headers)
            elif status == 404 or (scope["method"] == "DELETE" and status < 300):
                self._sessions.drop(scope)

        return began

    # -- calls

    async def _call(self, at: Request) -> None:
        name = at.message.params["name"]
        tools: Tools | None = None
        listed: str | None = None
        if self._judge.engine.asks_definitions or self._known.get(name) is None:
            tools = await self._tools(at)
            if name not in tools:
                await self._answer_as_unknown(at, tools)
                return
            listed = definition(at, tools[name]) if self._judge.engine.asks_definitions else None
        client = client_of(at) if self._judge.approver is not None else None
        try:
            decision, arguments = await self._judge.decide(
                at.scope, self._server, name, at.message.params.get("arguments"), listed, client
            )
        except NotYet as question:
            await respond(at.send, 200, result(at, asked(question)))
            return
        if decision.allowed:
            await self._run(at, arguments, decision)
            return
        tools = await self._tools(at) if tools is None else tools
        if is_hidden(decision) or name not in tools:
            await self._answer_as_unknown(at, tools)
        else:
            text, meta = answer(decision)
            await respond(at.send, 200, result(at, {**said(text), "_meta": meta}))

    async def _run(self, at: Request, arguments: dict[str, Any], decision: Decision) -> None:
        show, failed = self._showing(at.scope, at.is_modern), False

        def change(data: bytes) -> bytes:
            nonlocal failed
            failed = failed or says_failed(data, at.message.id)
            return show(data)

        judged = {**at.message.tree, "params": {**at.message.params, "arguments": arguments}}
        try:
            status = await self._forward(at, judged, change)
        except Exception as error:
            if has_failed(error):
                await self._judge.engine.refund_async(decision)
            raise
        if failed or status >= 400:
            await self._judge.engine.refund_async(decision)

    async def _answer_as_unknown(self, at: Request, tools: Tools) -> None:
        """Answer in the place of the app: asking it would be a call, where an app looks at no name."""
        name = at.message.params["name"]
        if name not in tools:
            self._known.forget(name)
        await respond(at.send, 200, result(at, said(f"Unknown tool: {name}")))

    # -- lists

    async def _tools(self, at: Request) -> Tools:
        """Return the definitions that the app lists to this caller now, by name; none where there is no whole list."""
        found: Tools = {}
        cursor: Any = None
        try:
            for _ in range(_PAGES):
                page = await self._page(at, cursor)
                for tool in page["tools"]:
                    found.setdefault(_name(tool), []).append(tool)
                cursor = page.get("nextCursor")
                if cursor is None:
                    for name in found:
                        self._known.add(name, True)
                    return found
        except Exception:
            log.info("the tools of `%s` cannot be listed: none is known", self._server, exc_info=True)
        return {}

    async def _page(self, at: Request, cursor: Any) -> dict[str, Any]:
        """Return one page of the app's list, as it answers this caller. Raises where it does not."""
        id = f"mcp-policy-{secrets.token_hex(8)}"
        meta = {key: value for key, value in (at.message.params.get("_meta") or {}).items() if key != "progressToken"}
        params = {"_meta": meta} if cursor is None else {"_meta": meta, "cursor": cursor}
        body = written({"jsonrpc": "2.0", "id": id, "method": LIST, "params": params})
        answers: list[dict[str, Any]] = []

        def keep(data: bytes) -> bytes:
            answers.extend(message for message in messages_in(data) if message.get("id") == id)
            return data

        scope = forwarded(at.scope, headers_for(at, LIST), body)
        await self._app(scope, replayed(body, at.receive), Answer(_nowhere, keep))
        page = answers[0]["result"]
        if not isinstance(page, dict):
            raise TypeError("a list of tools is an object")
        return page

    def _showing(self, scope: Scope, is_modern: bool = False) -> Change:
        """Return what takes from lists of tools those that whoever sent the request of this scope may never call."""

        def show(data: bytes) -> bytes:
            if not _may_list(data):
                return data
            tree = read_json(data)
            messages = tree if isinstance(tree, list) else [tree]
            shown = [self._shown(scope, message, is_modern) for message in messages]
            if all(one is other for one, other in zip(shown, messages, strict=True)):
                return data
            return written(shown if isinstance(tree, list) else shown[0])

        return show

    def _shown(self, scope: Scope, message: Any, is_modern: bool) -> Any:
        result = message.get("result") if isinstance(message, dict) else None
        if not isinstance(result, dict) or "tools" not in result:
            return message
        named = [(_name(tool), tool) for tool in result["tools"]]
        for name, _ in named:
            self._known.add(name, True)
        texts: Sequence[str | None] = [None] * len(named)
        if self._judge.engine.asks_definitions:
            texts = definition_texts(named)
        shows = self._judge.viewer(scope, self._server)
        tools = [tool for (name, tool), text in zip(named, texts, strict=True) if shows(name, text)]
        private = {"cacheScope": "private"} if is_modern or "cacheScope" in result else {}
        return {**message, "result": {**result, "tools": tools, **private}}


async def _nowhere(event: Event) -> None:
    """Take an answer that is for nobody but the guard."""


def _may_list(data: bytes) -> bool:
    """Tell whether a text can hold a list of tools, without reading it."""
    return b"tools" in data or b"\0" in data or (b"\\u00" in data and _ESCAPED.search(data) is not None)


def _name(tool: Any) -> str:
    name = tool["name"]
    if type(name) is not str:
        raise TypeError("the name of a tool is a string")
    return name
