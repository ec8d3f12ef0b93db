"""One HTTP request to one JSON-RPC message, or a refusal; knows no app and no policy.

What another reader could take for something else is refused, not guessed at:

- The body is UTF-8 JSON under `application/json`, not compressed, and read by the strict reader: no duplicate keys,
  NaN, lone surrogates, byte order mark; size and depth are bounded. Chunks are put together first.
- It is one message. Batches went with protocol version 2025-06-18.
- A message has the members of JSON-RPC and no others, the parameters of `tools/call` those of the protocol: nothing is
  left for a reader that does not tell `Name` from `name`. A method that only resembles one of tools is refused.
- Where headers repeat the body (`Mcp-Method`, `Mcp-Name`), they say the same. Headers that matter come once.

What is forwarded is the message that was read, written anew, under headers that describe it.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final, NamedTuple

from mcp_policy.document import read
from mcp_policy.errors import PolicyError, readable, short
from mcp_policy.reading import MAX_BYTES

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

CALL: Final = "tools/call"
LIST: Final = "tools/list"

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
INVALID_PARAMS: Final = -32602
METHOD_NOT_FOUND: Final = -32601
HEADER_MISMATCH: Final = -32020
UNREADABLE_ANSWER: Final = -32603

_ONCE: Final = frozenset(
    {
        b"accept-encoding",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"mcp-method",
        b"mcp-name",
        b"mcp-protocol-version",
        b"mcp-session-id",
        b"transfer-encoding",
    }
)
_OF_THE_BODY: Final = frozenset(
    {
        b"accept-encoding",  # an answer that is compressed could not be filtered
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"te",
        b"trailer",
        b"transfer-encoding",
    }
)
_JSON: Final = re.compile(rb'application/json(?:[ \t]*;[ \t]*charset=(?:utf-8|"utf-8"))?[ \t]*', re.IGNORECASE)
_MEMBERS: Final = frozenset({"jsonrpc", "id", "method", "params", "result", "error"})
_OF_A_CALL: Final = frozenset({"name", "arguments", "_meta", "task", "inputResponses", "requestState"})
_OBJECTS_OF_A_CALL: Final = ("arguments", "_meta", "task", "inputResponses")
_NAMED_BY: Final = {CALL: "name", "prompts/get": "name", "resources/read": "uri"}
_OF_TOOLS: Final = frozenset({"toolscall", "toolslist"})
_NOT_LETTERS: Final = re.compile("[^a-z0-9]")
_ENCODE: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_ENCODED: Final = re.compile(r"=\?base64\?(.*)\?=", re.DOTALL)


class Refused(Exception):
    """A request that is not forwarded: the HTTP status, and the code and message of the JSON-RPC error."""

    def __init__(self, status: int, code: int, message: str, id: str | int | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.id = status, code, message, id


class Message(NamedTuple):
    """One JSON-RPC message. `method` is None for an answer, `id` for a notification."""

    tree: dict[str, Any]
    method: str | None
    id: str | int | None
    params: dict[str, Any]


class Head(NamedTuple):
    """The headers of a request: those that may stand once, and those to forward."""

    said: dict[bytes, bytes]
    forwarded: Headers

    @property
    def version(self) -> str | None:
        """The protocol version that the client names."""
        found = self.said.get(b"mcp-protocol-version")
        return None if found is None else found.decode("latin-1")


def read_head(headers: Iterable[tuple[bytes, bytes]]) -> Head:
    """Sort the headers of a request. Raises `Refused` where one that may stand once stands twice."""
    lowered = [(name.lower(), value) for name, value in headers]
    once = [header for header in lowered if header[0] in _ONCE]
    said = dict(once)
    if len(said) < len(once):
        names = [name for name, _ in once]
        twice = next(name for name in names if names.count(name) > 1)
        raise Refused(400, HEADER_MISMATCH, f"the header `{twice.decode()}` is given more than once")
    return Head(said, [header for header in lowered if header[0] not in _OF_THE_BODY])


async def read_message(head: Head, receive: Receive) -> Message | None:
    """Return the message of a POST, or None where the client went away before it was complete. Raises `Refused`."""
    said = head.said
    kind = said.get(b"content-type", b"")
    if kind != b"application/json" and not _JSON.fullmatch(kind):
        raise Refused(415, INVALID_REQUEST, "a message is sent as `application/json` in UTF-8")
    if said.get(b"content-encoding", b"identity").lower() != b"identity":
        raise Refused(415, INVALID_REQUEST, "a message is sent without `content-encoding`")
    length = said.get(b"content-length", b"")
    if length.isdigit() and (len(length) > len(str(MAX_BYTES)) or int(length) > MAX_BYTES):
        raise _too_large()
    body = await _body(receive)
    if body is None:
        return None
    message = _message(_tree(body))
    _check_headers(said, message)
    return message


async def _body(receive: Receive) -> bytes | None:
    chunks: list[bytes] = []
    size, more = 0, True
    while more:
        event = await receive()
        if event["type"] != "http.request":
            return None
        chunk = event.get("body", b"")
        size += len(chunk)
        if size > MAX_BYTES:
            raise _too_large()
        chunks.append(chunk)
        more = event.get("more_body", False)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _too_large() -> Refused:
    return Refused(413, INVALID_REQUEST, f"a message has at most {MAX_BYTES:,} bytes")


def _tree(body: bytes) -> object:
    try:
        return read(bytes(body))[0]
    except PolicyError as error:
        why = error.problems[0].message
        raise Refused(400, PARSE_ERROR, f"the body is not a message that can be read: {why}") from None


# -- one message


def _message(tree: object) -> Message:
    if not isinstance(tree, dict):
        what = "a batch is not taken: send its messages one by one" if isinstance(tree, list) else "it is an object"
        raise Refused(400, INVALID_REQUEST, f"the body is one JSON-RPC message; {what}")
    id = tree.get("id")
    if id is not None and type(id) is not str and type(id) is not int:
        raise Refused(400, INVALID_REQUEST, f"`id` is a string or an integer, found {short(id)}")
    if tree.get("jsonrpc") != "2.0":
        raise Refused(400, INVALID_REQUEST, '`jsonrpc` is "2.0"', id)
    if not _MEMBERS.issuperset(tree):
        raise Refused(400, INVALID_REQUEST, f"a message has no member {_odd(tree, _MEMBERS)}", id)
    return _answer(tree, id) if "method" not in tree else _request(tree, id)


def _answer(tree: dict[str, Any], id: str | int | None) -> Message:
    if "params" in tree or "id" not in tree or ("result" in tree) == ("error" in tree):
        raise Refused(400, INVALID_REQUEST, "a message has a `method`, or an `id` and either `result` or `error`", id)
    return Message(tree, None, id, {})


def _request(tree: dict[str, Any], id: str | int | None) -> Message:
    method = tree["method"]
    if type(method) is not str:
        raise Refused(400, INVALID_REQUEST, f"`method` is a string, found {short(method)}", id)
    if "result" in tree or "error" in tree:
        raise Refused(400, INVALID_REQUEST, "a message with a `method` has neither `result` nor `error`", id)
    if id is None and "id" in tree:
        raise Refused(400, INVALID_REQUEST, "`id` is a string or an integer, found null")
    params = tree.get("params", {})
    if type(params) is not dict:
        raise Refused(400, INVALID_REQUEST, f"`params` is an object, found {short(params)}", id)
    message = Message(tree, method, id, params)
    if method == CALL:
        _check_call(message)
    if method in (CALL, LIST):
        if id is None:
            raise Refused(400, INVALID_REQUEST, f"`{method}` is a request: it has an `id`")
    elif not (method.isascii() and method.isprintable()) or _NOT_LETTERS.sub("", method.lower()) in _OF_TOOLS:
        raise Refused(400, METHOD_NOT_FOUND, f"there is no method `{readable(method)}`", id)
    return message


def _check_call(message: Message) -> None:
    params, id = message.params, message.id
    if not _OF_A_CALL.issuperset(params):
        raise Refused(400, INVALID_PARAMS, f"a call has no parameter {_odd(params, _OF_A_CALL)}", id)
    name = params.get("name")
    if type(name) is not str:
        raise Refused(400, INVALID_PARAMS, f"`name` is a string, found {short(name)}", id)
    for key in _OBJECTS_OF_A_CALL:
        value = params.get(key)
        if value is not None and type(value) is not dict:
            raise Refused(400, INVALID_PARAMS, f"`{key}` is an object, found {short(value)}", id)


def _odd(found: dict[str, Any], known: frozenset[str]) -> str:
    return f"`{readable(next(key for key in found if key not in known))}`"


# -- headers that repeat the body


def _check_headers(said: dict[bytes, bytes], message: Message) -> None:
    method = said.get(b"mcp-method")
    if method is not None and method.decode("latin-1") != message.method:
        raise Refused(400, HEADER_MISMATCH, "`Mcp-Method` is not the method of the body", message.id)
    name, key = said.get(b"mcp-name"), _NAMED_BY.get(message.method or "")
    if name is not None and key is not None:
        decoded = _decoded(name.decode("latin-1"))
        if decoded is None or decoded != message.params.get(key):
            raise Refused(400, HEADER_MISMATCH, f"`Mcp-Name` is not the `{key}` of the body", message.id)


def _decoded(value: str) -> str | None:
    """Return what a header says: names that a header cannot hold stand in base64."""
    found = _ENCODED.fullmatch(value) if value.startswith("=?") else None
    if found is None:
        return value
    try:
        data = base64.b64decode(found[1], validate=True)
        return data.decode() if base64.b64encode(data).decode() == found[1] else None
    except (binascii.Error, ValueError):
        return None


# -- what is forwarded, and what goes back


def written(tree: object) -> bytes:
    """Return JSON as it goes on the wire. Raises `ValueError` for what is not JSON."""
    return _ENCODE(tree).encode()


def forwarded(scope: Scope, headers: Headers, body: bytes = b"") -> Scope:
    """Return the scope under which an app gets `body`, and no way to answer that could not be looked at."""
    described = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())] if body else []
    inner = {**scope, "headers": [*headers, *described]}
    if scope.get("extensions"):
        inner["extensions"] = {
            name: value for name, value in scope["extensions"].items() if not name.startswith("http.response")
        }
    return inner


def replayed(body: bytes, receive: Receive) -> Receive:
    """Return the `receive` that gives `body`, and after it nothing but that the client went away."""
    given = False

    async def again() -> Event:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": False}
        while (event := await receive())["type"] == "http.request":
            pass  # what else the client sends belongs to no message that was read
        return event

    return again


async def respond(send: Send, status: int, tree: object, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    """Send JSON as the whole answer to an HTTP request."""
    body = written(tree)
    described = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *described]})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def error(code: int, message: str, id: str | int | None = None) -> dict[str, Any]:
    """Return a JSON-RPC error."""
    return {"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}}
