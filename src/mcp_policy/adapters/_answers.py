"""What an app answers over HTTP, looked at before it goes out; knows no policy.

- JSON is held until it is complete, events pass one by one; each is handed to `change`.
- What cannot be looked at is not passed on: other types of content in answer to a message, compressed answers, text
  that cannot be read. The client gets an error in its place.
- Pages and files in answer to other requests than messages pass as they are.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from enum import Enum
from functools import lru_cache
from typing import Any, Final

from ._jsonrpc import UNREADABLE_ANSWER, Event, Headers, Send, error, respond, written
from ._sse import Events

log: Final = logging.getLogger("mcp_policy")

Change = Callable[[bytes], bytes]
Began = Callable[[int, Headers], None]

_OF_THE_BODY: Final = (b"content-type", b"content-length", b"content-encoding", b"transfer-encoding")
_UTF_8: Final = re.compile(r'(?:utf-8|"utf-8")', re.IGNORECASE)


class _Way(Enum):
    AS_IT_IS = 0
    WHOLE = 1
    EVENTS = 2
    REFUSED = 3


class Answer:
    """The `send` of an app whose answer goes on to `send` by way of `change`.

    `change` gets the text of each message and returns it, the same object where nothing changes; it may raise. `began`
    is called with status and headers before anything goes out. `to_message` says that the request was a message.
    """

    def __init__(
        self,
        send: Send,
        change: Change,
        *,
        began: Began | None = None,
        to_message: bool = True,
        id: str | int | None = None,
    ) -> None:
        self._send = send
        self._change = change
        self._began = began
        self._to_message = to_message
        self._id = id
        self._way = _Way.AS_IT_IS
        self._start: Event = {}
        self._held: list[bytes] = []
        self._events: Events | None = None
        self.status = 0

    async def __call__(self, event: Event) -> None:
        """Take one event of the app's answer."""
        if event["type"] == "http.response.start":
            await self._begin(event)
        elif event["type"] == "http.response.body":
            await self._continue(event.get("body", b""), more=event.get("more_body", False))
        else:
            raise ValueError(f"an answer by `{event['type']}` cannot be looked at")

    async def _begin(self, event: Event) -> None:
        headers: Headers = [(name.lower(), value) for name, value in event.get("headers", ())]
        self.status = event["status"]
        if self._began is not None:
            self._began(self.status, headers)
        self._way = _way(headers, to_message=self._to_message)
        if self._way is _Way.AS_IT_IS:
            await self._send(event)
        elif self._way is _Way.EVENTS:
            self._events = Events(self._changed)
            kept = [header for header in headers if header[0] != b"content-length"]
            await self._send({**event, "headers": kept})
        else:
            self._start = {**event, "headers": headers}

    async def _continue(self, body: bytes, *, more: bool) -> None:
        if self._way is _Way.AS_IT_IS:
            await self._send({"type": "http.response.body", "body": body, "more_body": more})
        elif self._events is not None:
            passed = self._events.feed(body) if more else self._events.feed(body) + self._events.rest()
            if passed or not more:
                await self._send({"type": "http.response.body", "body": passed, "more_body": more})
        else:
            self._held.append(body)
            if not more:
                await self._finish(b"".join(self._held))

    async def _finish(self, body: bytes) -> None:
        headers: Headers = self._start["headers"]
        if body and self._way is _Way.WHOLE:
            try:
                body = self._change(body)
            except Exception:
                log.exception("an answer of the server could not be looked at: it is not passed on")
                self._way = _Way.REFUSED
        if body and self._way is _Way.REFUSED:
            failed = self.status >= 400  # the status and its headers are the app's word still
            kept = [header for header in headers if header[0] not in _OF_THE_BODY] if failed else []
            await respond(self._send, self.status if failed else 502, _unreadable(self._id), kept)
            return
        kept = [header for header in headers if header[0] != b"content-length"]
        if body or len(kept) < len(headers):
            kept.append((b"content-length", str(len(body)).encode()))
        await self._send({**self._start, "headers": kept})
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    def _changed(self, data: bytes) -> bytes:
        """Return the data of one event; what cannot be read becomes an error."""
        try:
            return self._change(data) if data else data
        except Exception:
            log.exception("an event of the server could not be looked at: it is not passed on")
            return written(_unreadable(self._id))


def _way(headers: Headers, *, to_message: bool) -> _Way:
    described = [header for header in headers if header[0] in _OF_THE_BODY]
    said = dict(described)
    if len(said) < len(described):
        return _Way.REFUSED
    way = _way_of(said.get(b"content-type", b""))
    if way is None:
        return _Way.REFUSED if to_message else _Way.AS_IT_IS
    return way if said.get(b"content-encoding", b"identity").lower() == b"identity" else _Way.REFUSED


@lru_cache(64)
def _way_of(content_type: bytes) -> _Way | None:
    """Return the way of a type of content; None for pages and files."""
    kind, _, parameters = content_type.decode("latin-1").partition(";")
    kind = kind.strip().lower()
    is_json = kind == "application/json" or kind.endswith("+json")
    if not (is_json or kind == "text/event-stream"):
        return None
    name, _, charset = parameters.partition("=")
    if name.strip().lower() == "charset" and not _UTF_8.fullmatch(charset.strip()):
        return _Way.REFUSED
    return _Way.WHOLE if is_json else _Way.EVENTS


def _unreadable(id: str | int | None) -> dict[str, Any]:
    return error(UNREADABLE_ANSWER, "the server's answer cannot be read, so it is not passed on", id)


def read_json(data: bytes) -> Any:
    """Return what a text of an app says. Raises `ValueError` and `RecursionError`."""
    return json.loads(data.decode())


def messages_in(data: bytes) -> list[dict[str, Any]]:
    """Return the messages in a text: one, or those of a batch. Raises as `read_json`."""
    tree = read_json(data)
    return [message for message in (tree if isinstance(tree, list) else [tree]) if isinstance(message, dict)]
