"""One call on its way through an ASGI guard, and the answers that the guard gives itself, as they stand on the wire.

The result of a tool, a refusal and a question look the same as from the SDKs; `resultType` stands there from protocol
version 2026-07-28 on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from ._answers import messages_in
from ._asking import ROUNDS, RoundsClient
from ._common import UNREADABLE, definition_text
from ._jsonrpc import Head, Headers, Message, Receive, Scope, Send
from .approvers import Approver, Client, NotYet, Outcome, Question, Reply, Unable, _anyio

Tools = dict[str, list[Any]]
"""What an app lists: definitions by name."""

_IS_ERROR: Final = re.compile(rb'"isError"\s*:\s*true')
_CHOOSES_VERSION: Final = ("fastmcp", "_fastmcp")  # in `_meta`: the tool that runs need not be the one that is listed
_CAPABILITIES: Final = "io.modelcontextprotocol/clientCapabilities"
_OUT_OF_REACH: Final = "a client of this protocol version cannot be asked from in front of the app"


class Request(NamedTuple):
    """One message of a client, and the way back to it."""

    scope: Scope
    receive: Receive
    send: Send
    head: Head
    message: Message

    @property
    def is_modern(self) -> bool:
        """Whether the message is of protocol version 2026-07-28 or later."""
        version = self.head.version
        return version is not None and version >= ROUNDS


def definition(at: Request, listed: list[Any]) -> str:
    """Return the one definition of a tool; there is none that counts where several, or another, may be what runs."""
    texts = {definition_text(tool) for tool in listed}
    meta = at.message.params.get("_meta") or {}
    return UNREADABLE if len(texts) > 1 or any(key in meta for key in _CHOOSES_VERSION) else texts.pop()


def headers_for(at: Request, method: str) -> Headers:
    """Return the client's headers, describing another message: nothing repeats the call and its arguments."""
    of_the_call = (b"mcp-method", b"mcp-name", b"accept")
    kept = [
        (key, value) for key, value in at.head.forwarded if key not in of_the_call and not key.startswith(b"mcp-param-")
    ]
    told = [(b"mcp-method", method.encode())] if b"mcp-method" in at.head.said else []
    return [*kept, *told, (b"accept", b"application/json, text/event-stream")]


def says_failed(data: bytes, id: str | int | None) -> bool:
    """Tell whether a text answers the request of this id with a failure. Raises as `read_json`."""
    if b'"error"' not in data and not _IS_ERROR.search(data):
        return False
    answers = [message for message in messages_in(data) if message.get("id") == id and "method" not in message]
    return any("error" in one or _is_error(one.get("result")) for one in answers)


def _is_error(result: Any) -> bool:
    return isinstance(result, dict) and result.get("isError") is True


# -- answers of our own


def result(at: Request, result: dict[str, Any]) -> dict[str, Any]:
    """Return a result as the answer to a request."""
    kind = {"resultType": "complete"} if at.is_modern else {}
    return {"jsonrpc": "2.0", "id": at.message.id, "result": {**kind, **result}}


def said(text: str) -> dict[str, Any]:
    """Return what a tool that fails gives back."""
    return {"content": [{"type": "text", "text": text}], "isError": True}


def asked(question: NotYet) -> dict[str, Any]:
    """Return what ends a call with a question, which the client answers when it calls again."""
    how: dict[str, Any] = {"mode": "url", "url": question.url}
    if question.schema is not None:
        how = {"mode": "form", "requestedSchema": question.schema}
    request = {"method": "elicitation/create", "params": {"message": question.message, **how}}
    return {"resultType": "input_required", "inputRequests": {question.key: request}}


class _AnyClient:
    """A client as an approver may ask it, and whether it is still there.

    Before 2026-07-28 a client is asked on a stream that belongs to the app: from here it is out of reach.
    """

    def __init__(self, at: Request) -> None:
        params = at.message.params
        capabilities = (params.get("_meta") or {}).get(_CAPABILITIES)
        self._receive = at.receive
        self._asks = RoundsClient(capabilities, params.get("inputResponses") or {}) if at.is_modern else None

    async def form(self, key: str, message: str, schema: Mapping[str, Any]) -> Reply:
        """Show a form."""
        if self._asks is None:
            raise Unable(_OUT_OF_REACH)
        return await self._asks.form(key, message, schema)

    async def page(self, key: str, message: str, url: str) -> Reply:
        """Offer to open a page."""
        if self._asks is None:
            raise Unable(_OUT_OF_REACH)
        return await self._asks.page(key, message, url)

    async def gone(self) -> None:
        """Return once the client has gone away; its message has been read whole."""
        while (await self._receive())["type"] == "http.request":
            pass


def client_of(at: Request) -> Client:
    """Return the client as an approver may ask it."""
    return _AnyClient(at)


def while_there(approver: Approver) -> Approver:
    """Return the approver that gives up when the client goes away: a call that nobody waits for does not run."""

    async def attentive(question: Question, client: Client) -> Outcome:
        if not isinstance(client, _AnyClient):
            raise Unable("whether the client is still there cannot be told")
        said: list[Outcome | Exception] = []
        async with _anyio().create_task_group() as group:

            async def watch() -> None:
                await client.gone()
                group.cancel_scope.cancel()

            group.start_soon(watch)
            try:
                said.append(await approver(question, client))
            except Exception as error:  # noqa: BLE001  # raised again below, outside of the group
                said.append(error)
            group.cancel_scope.cancel()
        if not said:
            raise Unable("the client went away")
        if isinstance(said[0], Exception):
            raise said[0]
        return said[0]

    return attentive
