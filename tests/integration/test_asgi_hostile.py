"""Bodies and headers that want to get past the ASGI guard: nothing reaches the app but what was judged."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integration.asgi_apps import META, POSTED, Bare, call, listing, modern, send
from integration.stacks import MODERN, Recorder
from mcp_policy.adapters.asgi import PolicyASGIMiddleware
from mcp_policy.reading import MAX_BYTES

GOOD = call("ls", arguments={"path": "/srv"})
RM = '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"rm","arguments":{}}}'


def tried(*body: bytes, headers: Any = POSTED, **how: Any) -> tuple[Any, Bare]:
    """Send to an app of which only `ls` may be called, and return the answer and the app."""
    app = Bare()
    shield = PolicyASGIMiddleware(app, Recorder({"ls": {}, "rm": {"action": "deny"}, "fail": {"action": "deny"}}))
    return asyncio.run(send(shield, *body, headers=headers, **how)), app


def refused(response: Any, app: Bare, status: int = 400) -> str:
    """Check that a request was refused and nothing came to the app, and return why."""
    assert app.scopes == []
    assert response.status == status
    assert response.header(b"content-type") == b"application/json"
    assert response.header(b"content-length") == str(len(response.body)).encode()
    assert response.json["jsonrpc"] == "2.0"
    return response.json["error"]["message"]


# -- bodies

NOT_READ = {
    "nothing": b"",
    "text": b"hello",
    "cut": RM.encode()[:-1],
    "two": (RM + RM).encode(),
    "trailing comma": RM.replace("}}}", "},}}").encode(),
    "comment": (RM + "// x").encode(),
    "byte order mark": b"\xef\xbb\xbf" + RM.encode(),
    "utf-16": RM.encode("utf-16"),
    "utf-16 without mark": RM.encode("utf-16-le"),
    "utf-32": RM.encode("utf-32"),
    "utf-7": RM.replace('"', "+ACI-").encode(),
    "latin-1": RM.replace("rm", "é").encode("latin-1"),
    "overlong": RM.encode().replace(b"tools/call", b"tools\xc0\xafcall"),
    "nan": RM.replace("{}", '{"x":NaN}').encode(),
    "infinity": RM.replace("{}", '{"x":-Infinity}').encode(),
    "overflow": RM.replace("{}", '{"x":1e999}').encode(),
    "long number": RM.replace("{}", '{"x":' + "9" * 5000 + "}").encode(),
    "lone surrogate": RM.replace("rm", "\\ud800").encode(),
    "surrogate bytes": RM.encode().replace(b"rm", b"\xed\xa0\x80"),
    "deep": RM.replace("{}", '{"x":' + "[" * 100 + "]" * 100 + "}").encode(),
    "very deep": RM.replace("{}", '{"x":' + "[" * 200_000 + "]" * 200_000 + "}").encode(),
    "control character": RM.replace("rm", "r\nm").encode(),
    "nul": RM.encode() + b"\0",
    "two names": RM.replace('"name":"rm"', '"name":"ls","name":"rm"').encode(),
    "two names, one escaped": RM.replace('"name":"rm"', '"name":"ls","n\\u0061me":"rm"').encode(),
    "two arguments": RM.replace('"arguments":{}', '"arguments":{},"arguments":{"path":"/etc"}').encode(),
    "two methods": RM.replace('"method"', '"method":"ping","method"').encode(),
    "two params": RM.replace('"params"', '"params":{"name":"ls"},"params"').encode(),
    "two ids": RM.replace('"id"', '"id":2,"id"').encode(),
    "two keys far inside": RM.replace("{}", '{"a":[{"b":1,"b":2}]}').encode(),
    "single quotes": RM.replace('"', "'").encode(),
    "form": b"jsonrpc=2.0&method=tools/call",
}


@pytest.mark.parametrize("body", NOT_READ.values(), ids=NOT_READ)
def test_what_is_not_exactly_json_is_refused(body):
    response, app = tried(body)
    assert refused(response, app).startswith("the body is not a message that can be read: ")
    assert response.json["error"]["code"] == -32700
    assert response.json["id"] is None


NOT_MESSAGES = {
    "batch": f"[{RM}]",
    "empty batch": "[]",
    "batch in batch": f"[[{RM}]]",
    "string": json.dumps(RM),
    "null": "null",
    "no version": RM.replace('"jsonrpc":"2.0",', ""),
    "another version": RM.replace("2.0", "1.0"),
    "version as a number": RM.replace('"2.0"', "2.0"),
    "method in a list": RM.replace('"tools/call"', '["tools/call"]'),
    "no string for a method": RM.replace('"tools/call"', "null"),
    "params in a list": RM.replace('{"name":"rm","arguments":{}}', '["rm",{}]'),
    "null for params": RM.replace('{"name":"rm","arguments":{}}', "null"),
    "text for params": RM.replace('{"name":"rm","arguments":{}}', '"rm"'),
    "id in a list": RM.replace('"id":1', '"id":[1]'),
    "fraction for an id": RM.replace('"id":1', '"id":1.5'),
    "float for an id": RM.replace('"id":1', '"id":1.0'),
    "true for an id": RM.replace('"id":1', '"id":true'),
    "null for an id": RM.replace('"id":1', '"id":null'),
    "call without an id": RM.replace('"id":1,', ""),
    "list without an id": '{"jsonrpc":"2.0","method":"tools/list"}',
    "Method beside method": RM.replace('"method"', '"method":"ping","Method"'),
    "METHOD": RM.replace('"method"', '"METHOD"'),
    "long s": RM.replace('"params"', '"param\u017f":{},"params"'),
    "stray member": RM.replace('"id":1', '"id":1,"extra":1'),
    "params_ beside params": RM.replace('"params"', '"params_":{},"params"'),
    "call and result": RM.replace('"id":1', '"id":1,"result":{}'),
    "call and error": RM.replace('"id":1', '"id":1,"error":{}'),
    "result and error": '{"jsonrpc":"2.0","id":1,"result":{},"error":{}}',
    "neither": '{"jsonrpc":"2.0","id":1}',
    "result without an id": '{"jsonrpc":"2.0","result":{}}',
    "params without a method": '{"jsonrpc":"2.0","id":1,"result":{},"params":{"name":"rm"}}',
    "no name": RM.replace('"name":"rm",', ""),
    "null for a name": RM.replace('"rm"', "null"),
    "name in a list": RM.replace('"rm"', '["rm"]'),
    "number for a name": RM.replace('"rm"', "1"),
    "Name beside name": RM.replace('"name":"rm"', '"name":"ls","Name":"rm"'),
    "Name alone": RM.replace('"name"', '"Name"'),
    "name with a space": RM.replace('"name":"rm"', '"name":"ls","name ":"rm"'),
    "tool beside name": RM.replace('"name":"rm"', '"name":"ls","tool":"rm"'),
    "Arguments beside arguments": RM.replace('"arguments"', '"arguments":{},"Arguments"'),
    "args beside arguments": RM.replace('"arguments"', '"arguments":{},"args"'),
    "arguments with a long s": RM.replace('"arguments"', '"arguments":{},"argument\u017f"'),
    "arguments in a list": RM.replace("{}", "[]"),
    "text for arguments": RM.replace("{}", '"{}"'),
    "false for arguments": RM.replace("{}", "false"),
    "text for _meta": RM.replace('"arguments"', '"_meta":"x","arguments"'),
    "list for inputResponses": RM.replace('"arguments"', '"inputResponses":[],"arguments"'),
    "Tools/Call": RM.replace("tools/call", "Tools/Call"),
    "TOOLS/CALL": RM.replace("tools/call", "TOOLS/CALL"),
    "tools/call and a space": RM.replace("tools/call", "tools/call "),
    "space first": RM.replace("tools/call", " tools/call"),
    "tab": RM.replace("tools/call", "\\ttools/call"),
    "nul at the end": RM.replace("tools/call", "tools/call\\u0000"),
    "slash first": RM.replace("tools/call", "/tools/call"),
    "two slashes": RM.replace("tools/call", "tools//call"),
    "dot": RM.replace("tools/call", "tools.call"),
    "underscore": RM.replace("tools/call", "tools_call"),
    "camel": RM.replace("tools/call", "toolsCall"),
    "percent": RM.replace("tools/call", "tools%2fcall").replace("%2f", "\uff0f"),
    "full width": RM.replace("tools", "\uff54ools"),
    "zero width": RM.replace("tools/call", "tools/\u200bcall"),
    "Tools/List": '{"jsonrpc":"2.0","id":1,"method":"Tools/List"}',
    "tools/list with a newline": '{"jsonrpc":"2.0","id":1,"method":"tools/list\\n"}',
    "empty method that is not ascii": '{"jsonrpc":"2.0","id":1,"method":"é"}',
}


@pytest.mark.parametrize("body", NOT_MESSAGES.values(), ids=NOT_MESSAGES)
def test_what_is_not_one_proper_message_is_refused(body):
    response, app = tried(body.encode())
    assert refused(response, app)
    assert response.json["error"]["code"] in (-32600, -32601, -32602)


def test_a_refusal_says_what_was_found_and_what_would_be_right():
    def why(old: str, new: str) -> str:
        return refused(*tried(RM.replace(old, new).encode()))

    assert why('"rm"', "null") == "`name` is a string, found null"
    assert why("{}", "[]") == "`arguments` is an object, found a list"
    assert why('"name":"rm"', '"name":"ls","Name":"rm"') == "a call has no parameter `Name`"
    assert why('"id":1', '"id":true') == "`id` is a string or an integer, found the boolean `true`"
    assert why("tools/call", "Tools/Call") == "there is no method `Tools/Call`"
    assert refused(*tried(f"[{RM}]".encode())).endswith("a batch is not taken: send its messages one by one")


def test_a_refusal_carries_the_id_of_its_request():
    assert tried(RM.replace('"rm"', "null").encode())[0].json["id"] == 1


# -- headers


@pytest.mark.parametrize(
    "kind",
    [
        None,
        "",
        "text/plain",
        "text/json",
        "application/jsonx",
        "application/json-rpc",
        "application/vnd.api+json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/octet-stream",
        "application/json; charset=utf-16",
        "application/json; charset=utf-7",
        "application/json; charset=iso-8859-1",
        "application/json; charset=utf-8; charset=utf-16",
        "application/json; version=1",
        "application/json, text/plain",
        "text/plain, application/json",
        "application/json;",
    ],
)
def test_other_types_of_content_are_refused(kind):
    headers = [] if kind is None else [("content-type", kind)]
    assert "application/json" in refused(*tried(GOOD, headers=headers), 415)


@pytest.mark.parametrize(
    "kind",
    ["application/json", "Application/JSON", "application/json; charset=UTF-8", 'application/json;charset="utf-8"'],
)
def test_json_in_utf_8_has_these_names(kind):
    response, app = tried(GOOD, headers=[("content-type", kind)])
    assert response.status == 200
    assert app.ran == [("ls", "/srv")]
    assert [value for name, value in app.scopes[-1]["headers"] if name == b"content-type"] == [b"application/json"]


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "GZIP", "identity, gzip", "x"])
def test_compressed_bodies_are_refused(coding):
    body = gzip.compress(RM.encode())
    assert "content-encoding" in refused(*tried(body, headers=[*POSTED, ("content-encoding", coding)]), 415)


def test_a_compressed_body_that_does_not_say_so_is_no_json():
    refused(*tried(gzip.compress(RM.encode())))


@pytest.mark.parametrize(
    "name",
    [
        "content-type",
        "content-encoding",
        "content-length",
        "mcp-method",
        "mcp-name",
        "mcp-protocol-version",
        "mcp-session-id",
    ],
)
def test_headers_that_matter_come_once(name):
    value = dict(POSTED).get(name, "1")
    headers = [*((key, text) for key, text in POSTED if key != name), (name, value), (name.title(), value)]
    assert refused(*tried(GOOD, headers=headers)) == f"the header `{name}` is given more than once"


@pytest.mark.parametrize(
    ("body", "method", "name"),
    [
        (call("rm"), "tools/list", None),
        (call("rm"), "ping", None),
        (call("rm"), "Tools/call", None),
        (call("rm"), "", None),
        (listing(), "tools/call", "rm"),
        (b'{"jsonrpc":"2.0","id":1,"result":{}}', "tools/call", "rm"),
        (b'{"jsonrpc":"2.0","method":"notifications/x"}', "tools/call", "rm"),
        (call("rm"), "tools/call", "ls"),
        (call("rm"), "tools/call", ""),
        (call("rm"), "tools/call", "RM"),
        (call("rm"), "tools/call", "=?base64?bHM=?="),
        (call("rm"), "tools/call", "=?base64?cm0?="),
        (call("rm"), "tools/call", "=?base64?cm1=?="),
        (call("rm"), "tools/call", "=?base64?!!?="),
        (call("rm"), "tools/call", "=?base64?/w==?="),
        (call("é"), "tools/call", "é"),
        (b'{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"a:b"}}', "resources/read", "a:c"),
        (b'{"jsonrpc":"2.0","id":1,"method":"prompts/get"}', "prompts/get", "x"),
    ],
)
def test_headers_say_the_same_as_the_body(body, method, name):
    response, app = tried(body, headers=modern(method, name))
    if name == "é":  # as latin-1 it is the same name: the app decides whether it takes such a header
        assert response.status == 200
        return
    assert "of the body" in refused(response, app)
    assert response.json["error"]["code"] == -32020


def test_a_name_may_stand_in_base64():
    name = "=?base64?" + base64.b64encode(b"ls").decode() + "?="
    assert tried(call("ls", _meta=META), headers=modern(name=name))[1].ran == [("ls", "/")]


# -- size, chunks, clients that go away


def test_a_body_in_chunks_is_one_body():
    response, app = tried(*(bytes([byte]) for byte in GOOD), headers=[*POSTED, ("transfer-encoding", "chunked")])
    assert response.json["result"]["isError"] is False
    assert app.ran == [("ls", "/srv")]
    assert app.scopes[-1]["headers"][-1] == (
        b"content-length",
        str(len(json.dumps(json.loads(GOOD), separators=(",", ":")))).encode(),
    )
    assert b"transfer-encoding" not in dict(app.scopes[-1]["headers"])


def test_a_denied_call_in_chunks_is_denied():
    response, app = tried(*(bytes([byte]) for byte in RM.encode()))
    assert "POLICY DENIED" in response.body.decode()
    assert app.calls == []


def test_huge_bodies_are_refused_before_they_are_read():
    reads = []

    async def run(headers: Any, chunk: bytes) -> list[Any]:
        told: list[Any] = []

        async def receive() -> Any:
            reads.append(1)
            return {"type": "http.request", "body": chunk, "more_body": True}

        async def take(event: Any) -> None:
            told.append(event)

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/",
            "headers": [(b"content-type", b"application/json"), *headers],
        }
        app = Bare()
        await PolicyASGIMiddleware(app, Recorder())(scope, receive, take)
        assert app.scopes == []
        return told

    for length in (MAX_BYTES + 1, 10**5000):
        told = asyncio.run(run([(b"content-length", b"%d" % length if length < 10**20 else b"9" * 5000)], b""))
        assert told[0]["status"] == 413
    assert reads == []
    told = asyncio.run(run([], b" " * 2**20))
    assert told[0]["status"] == 413
    assert len(reads) == MAX_BYTES // 2**20 + 1
    assert "bytes" in json.loads(told[1]["body"])["error"]["message"]


def test_a_body_as_large_as_it_may_be_passes():
    filler = MAX_BYTES - len(call("ls", arguments={"path": ""}))
    response, app = tried(call("ls", arguments={"path": "x" * filler}))
    assert response.status == 200
    assert len(app.ran) == 1
    assert tried(call("ls", arguments={"path": "x" * (filler + 1)}))[0].status == 413


@pytest.mark.parametrize("size", [0, 20, len(GOOD)])
def test_nothing_is_forwarded_for_a_client_that_went_away(size):
    response, app = tried(GOOD[:size], gone=True)
    assert response.status == 0, "there is nobody to answer"
    assert app.scopes == []


@pytest.mark.parametrize("method", ["PUT", "PATCH", "post", "QUERY", "CONNECT", "TRACE", ""])
def test_other_http_methods_are_refused(method):
    assert "POST" in refused(*tried(GOOD, method=method), 405)


@pytest.mark.parametrize("method", ["GET", "DELETE", "OPTIONS"])
def test_a_body_where_none_belongs_is_left_behind(method):
    headers = [*POSTED, ("content-length", str(len(RM))), ("x-http-method-override", "POST")]
    response, app = tried(RM.encode(), method=method, headers=headers)
    assert response.body == b"page "
    assert not {b"content-length", b"content-type"} & dict(app.scopes[0]["headers"]).keys()


# -- what is forwarded


def test_the_body_that_is_judged_is_the_body_that_runs():
    engine, app = Recorder(), Bare()
    arguments = {"path": "é\u2028</script>", "n": 1, "f": 1.0, "e": 1e3, "big": 2**70, "t": [True, None, {"é": ""}]}
    body = (
        b' {\n"id" : "a\\u0062", "params":{"arguments":'
        + json.dumps(arguments, ensure_ascii=False, indent=1).encode()
        + b',"name":"l\\u0073"} , "method":"tools\\/call","jsonrpc":"2.0" }\r\n'
    )
    response = asyncio.run(send(PolicyASGIMiddleware(app, engine), body))
    assert response.json["id"] == "ab"
    assert engine.judged == arguments
    got = app.calls[0]
    assert got == {
        "jsonrpc": "2.0",
        "id": "ab",
        "method": "tools/call",
        "params": {"name": "ls", "arguments": arguments},
    }
    assert [type(value) for value in got["params"]["arguments"].values()] == [
        type(value) for value in arguments.values()
    ]


@pytest.mark.parametrize("arguments", ['"arguments":null', '"_meta":{}', '"_meta":null'])
def test_no_arguments_are_none(arguments):
    engine, app = Recorder(), Bare()
    body = '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"ls",' + arguments + "}}"
    asyncio.run(send(PolicyASGIMiddleware(app, engine), body.encode()))
    assert engine.judged == {}
    assert app.calls[0]["params"]["arguments"] == {}


@pytest.mark.parametrize(
    "body",
    [
        b'{"jsonrpc":"2.0","id":1,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":"x","method":"resources/read","params":{"uri":"a:b"}}',
        b'{"jsonrpc":"2.0","id":0,"method":"tasks/result","params":{"taskId":"1"}}',
        b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}',
        b'{"jsonrpc":"2.0","id":3,"result":{"action":"accept"}}',
        b'{"jsonrpc":"2.0","id":3,"error":{"code":1,"message":"no"}}',
    ],
)
def test_what_is_no_call_passes(body):
    response, app = tried(body)
    assert response.status in (200, 202)
    assert app.got == [json.loads(body)]


def test_what_comes_after_a_body_is_not_part_of_it():
    app = Bare()
    events: list[Any] = []

    async def reading(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)
        events.append(await receive())

    async def run() -> None:
        more = iter(
            [
                {"type": "http.request", "body": listing()},
                {"type": "http.request", "body": RM.encode()},
                {"type": "http.disconnect"},
            ]
        )

        async def receive() -> Any:
            return next(more)

        async def take(event: Any) -> None:
            return

        scope = {"type": "http", "method": "POST", "path": "/", "headers": [(b"content-type", b"application/json")]}
        await PolicyASGIMiddleware(reading, Recorder())(scope, receive, take)

    asyncio.run(run())
    assert events == [{"type": "http.disconnect"}]


TOKENS = [
    "tools/call",
    "tools/list",
    "rm",
    "ls",
    "name",
    "Name",
    "arguments",
    "method",
    "params",
    "id",
    "2.0",
    "jsonrpc",
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(TOKENS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(TOKENS), inner, max_size=4),
    max_leaves=6,
)
MESSAGES = st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0"), "method": st.sampled_from(["tools/call", "tools/call", "Tools/Call", "ping"])},
    optional={
        "id": st.just(1) | VALUES,
        "params": VALUES
        | st.fixed_dictionaries(
            {"name": st.sampled_from(["rm", "ls"]) | VALUES}, optional={"arguments": VALUES, "Name": VALUES}
        ),
        "result": VALUES,
        "Method": VALUES,
    },
)


@given(
    tree=MESSAGES | st.lists(MESSAGES, max_size=2) | VALUES,
    cut=st.integers(0, 200),
    put=st.sampled_from([b"", b"", b",", b'"', b"}", b"\x00", b"\\", b'"name":"rm",']),
    headers=st.sampled_from([list(POSTED), modern(), modern(name="rm"), modern("tools/list", None)]),
)
def test_every_call_that_reaches_the_app_was_judged_and_allowed(tree, cut, put, headers):
    text = json.dumps(tree).encode()
    app = Bare()
    engine = Recorder({"ls": {}, "rm": {"action": "deny"}, "fail": {"action": "deny"}})
    response = asyncio.run(send(PolicyASGIMiddleware(app, engine), text[:cut] + put + text[cut:], headers=headers))
    assert response.status in (200, 202, 400, 413, 415)
    real = [message["params"] for message in app.calls if message["params"]["name"] in ("ls", "rm", "fail")]
    assert [(params["name"], params["arguments"]) for params in real] == [
        (call.tool, call.arguments) for call in engine.calls if call.tool == "ls"
    ]
    assert all(name == "ls" for name, _ in app.ran)
    assert all(isinstance(message, dict) and type(message.get("method", "")) is str for message in app.got)


def test_the_version_of_a_request_is_its_header():
    assert "resultType" in tried(call("rm", _meta=META), headers=modern(name="rm"))[0].json["result"]
    assert "resultType" not in tried(call("rm", _meta={"x": MODERN}))[0].json["result"]
