"""The ASGI guard around apps of the MCP SDK, of fastmcp and of nobody, with real clients of both protocol eras."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import re
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from fastmcp.server.auth.providers.jwt import StaticTokenVerifier
from mcp.server.streamable_http import EventMessage, EventStore
from starlette.middleware import Middleware

from integration.asgi_apps import (
    META,
    POSTED,
    App,
    Bare,
    bare,
    call,
    connected,
    fast,
    listing,
    modern,
    sdk,
    send,
)
from integration.stacks import ERAS, HANDSHAKE, MODERN, Recorder, facts, listed_by, refused, wire
from mcp_policy.adapters._http_callers import Sessions
from mcp_policy.adapters.approvers import ask_client, open_page, wait_for_decision
from mcp_policy.adapters.asgi import PolicyASGIMiddleware
from mcp_policy.call import Principal
from mcp_policy.catalogue.lookup import ToolCatalogue
from mcp_policy.engine import PolicyEngine
from mcp_policy.policy import Policy

TWO_EACH = {"ls": {"rate_limit": {"max": 2, "window": 60}}}


@pytest.fixture(autouse=True)
def quiet():
    for name in ("mcp", "fastmcp", "httpx2"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


@pytest.fixture(params=[sdk, fast, bare], ids=["mcp", "fastmcp", "bare"])
def stack(request) -> Any:
    return request.param


@pytest.fixture(params=ERAS)
def era(request) -> str:
    return request.param


@pytest.fixture(params=[True, False], ids=["json", "sse"])
def in_json(request) -> bool:
    return request.param


def guarded(served: App, engine: Any, **more: Any) -> PolicyASGIMiddleware:
    return PolicyASGIMiddleware(served.app, engine, **more)


def asks(served: App, app: Any, era: str, *calls: tuple[str, dict[str, Any]]) -> list[Any]:
    async def run() -> list[Any]:
        async with served.running(), connected(app, era) as client:
            return [await outcome(client, *one) for one in calls]

    return asyncio.run(run())


async def outcome(client: Any, name: str, arguments: dict[str, Any]) -> Any:
    try:
        return wire(await client.call_tool(name, arguments))
    except Exception as error:  # noqa: BLE001  # what the client makes of an answer that is no result
        return type(error), str(error)


def once(app: Any, *body: bytes, **how: Any) -> Any:
    return asyncio.run(send(app, *body, **how))


# -- calls and lists


def test_lists_show_what_may_ever_be_called(stack, era, in_json):
    served = stack(json_response=in_json)
    engine = Recorder(
        {"ls": {"rate_limit": {"max": 0, "window": 60}}, "rm": {"action": "deny"}, "fail": {}}, hide=["fail"]
    )

    async def run() -> list[str]:
        async with served.running(), connected(guarded(served, engine), era) as client:
            page = await client.list_tools()
            names = [tool.name for tool in page.tools]
            while page.next_cursor:
                page = await client.list_tools(cursor=page.next_cursor)
                names += [tool.name for tool in page.tools]
            return names

    assert asyncio.run(run()) == ["ls"]
    assert engine.calls == []


def test_calls_run_or_are_refused(stack, era, in_json):
    served = stack(json_response=in_json)
    engine = Recorder(
        {
            "ls": {"require": [{"path": "args.path", "op": "within", "value": "/srv"}], "reason": "stay in /srv"},
            "rm": {"rate_limit": {"max": 1, "window": 60}},
        }
    )
    app = guarded(served, engine)
    calls = [("ls", {"path": "/srv/a"}), ("ls", {"path": "/etc"}), ("rm", {"path": "é"}), ("rm", {})]
    fine, denied, gone, late = asks(served, app, era, *calls)
    assert served.ran == [("ls", "/srv/a"), ("rm", "é")]
    assert fine["content"][0]["text"] == "/srv/a"
    assert not gone.get("isError")
    assert denied["isError"] is True
    assert denied["content"][0]["text"].startswith("[POLICY DENIED]")
    assert "structuredContent" not in denied
    assert late["content"][0]["text"].startswith("[POLICY LIMIT]")


def test_a_refusal_is_the_one_that_clients_read(stack, era):
    served = stack()

    async def run() -> Any:
        engine = Recorder({"ls": {"action": "deny", "reason": "no"}})
        async with served.running(), connected(guarded(served, engine), era) as client:
            return await listed_by(client), await client.call_tool("ls", {})

    names, refusal = asyncio.run(run())
    assert names == []
    assert refused(refusal, "deny", "denied_by_rule") == "[POLICY DENIED] no."
    assert facts(refusal) == {"effect": "deny", "codes": ["denied_by_rule"]}
    assert served.ran == []


def test_a_refusal_on_the_wire():
    app = guarded(bare(), Recorder({"ls": {"action": "deny", "reason": "no"}}))
    early = once(app, call(id="seven"))
    late = once(app, call(id=7, _meta=META), headers=modern())
    assert early.status == late.status == 200
    assert early.header(b"content-type") == b"application/json"
    assert early.json["id"] == "seven"
    assert sorted(early.json["result"]) == ["_meta", "content", "isError"]
    assert late.json["id"] == 7
    assert late.json["result"]["resultType"] == "complete"


@pytest.mark.parametrize("name", ["rm", "no such tool", "", 'q"\\ué', "r" * 300])
def test_hidden_and_unknown_get_one_answer(stack, era, in_json, name):
    served = stack(names=("ls", "rm"), json_response=in_json)
    engine = Recorder(hide=[name] if name == "rm" else ["rm"])
    found = asks(served, guarded(served, engine), era, (name, {"path": "/"}), ("rm", {}), ("rm", {}))
    assert f"Unknown tool: {name}" in found[0]["content"][0]["text"]
    assert served.ran == []
    assert found[1] == found[2]


def test_an_app_that_looks_at_no_name_is_not_asked_about_unknown_ones():
    app = Bare()
    app.called = lambda params, stamp: app.ran.append(params) or {"result": {"content": []}}
    shield = PolicyASGIMiddleware(app, Recorder(hide=["rm"]))
    for name in ("rm", "none"):
        told = once(shield, call(name)).json["result"]
        assert told == {"content": [{"type": "text", "text": f"Unknown tool: {name}"}], "isError": True}
    assert app.calls == []
    assert app.ran == []


def test_a_hidden_tool_and_one_that_is_not_there_are_the_same_byte_for_byte(stack, era, in_json):
    headers = modern(name="rm") if era == MODERN else [*POSTED, ("mcp-protocol-version", "2025-06-18")]

    def answer(names: tuple[str, ...]) -> Any:
        settings = {} if stack is bare else {"stateless_http": True}
        served = stack(names=names, json_response=in_json, **settings)

        async def run() -> Any:
            async with served.running():
                return await send(guarded(served, Recorder(hide=["rm"])), call("rm", _meta=META), headers=headers)

        return asyncio.run(run())

    hidden, missing = answer(("ls", "rm")), answer(("ls",))
    assert (hidden.status, hidden.body) == (missing.status, missing.body)
    assert [name for name, _ in hidden.headers] == [name for name, _ in missing.headers]
    assert b"rm" in hidden.body
    assert b"POLICY" not in hidden.body


def test_a_denied_tool_that_the_app_does_not_have_is_unknown(stack, era):
    served = stack(names=("ls",))
    engine = Recorder({"rm": {"action": "deny"}, "ls": {}})
    answer = asks(served, guarded(served, engine), era, ("rm", {}))[0]
    assert "POLICY" not in str(answer)
    assert engine.calls == []


def test_a_denied_tool_that_is_gone_is_unknown():
    app = Bare()
    shield = PolicyASGIMiddleware(app, Recorder({"ls": {"action": "deny"}}))
    assert "POLICY" in str(once(shield, call()).json)
    del app.tools[0]
    assert once(shield, call()).json["result"]["content"][0]["text"] == "Unknown tool: ls"


def test_tools_are_asked_for_once():
    app = Bare()
    shield = PolicyASGIMiddleware(app, Recorder())

    async def run() -> None:
        for _ in range(5):
            await send(shield, call("fail"))

    asyncio.run(run())
    assert [message["method"] for message in app.got] == ["tools/list"] * 2 + ["tools/call"] * 5


def test_tools_that_were_listed_to_a_client_are_known():
    app = Bare()
    shield = PolicyASGIMiddleware(app, Recorder())

    async def run() -> None:
        await send(shield, listing())
        await send(shield, call("rm"))

    asyncio.run(run())
    assert [message["method"] for message in app.got] == ["tools/list", "tools/call"]


@pytest.mark.parametrize(
    "listed",
    [{"error": {"code": -32601, "message": "no"}}, {"result": []}, {"result": {}}, {"result": {"tools": [1]}}],
    ids=["error", "list", "empty", "odd"],
)
def test_an_app_that_lists_nothing_runs_nothing(listed):
    class Silent(Bare):
        def answer(self, message: Any, *, modern: bool) -> dict[str, Any]:
            if message["method"] == "tools/list":
                return listed
            return super().answer(message, modern=modern)

    app = Silent()
    told = once(PolicyASGIMiddleware(app, Recorder()), call("ls")).json
    assert told["result"]["content"][0]["text"] == "Unknown tool: ls"
    assert app.ran == []


def test_an_endless_list_is_cut_and_nothing_runs():
    class Endless(Bare):
        def answer(self, message: Any, *, modern: bool) -> dict[str, Any]:
            said = super().answer(message, modern=modern)
            if message["method"] == "tools/list":
                said["result"]["nextCursor"] = "0"
            return said

    app = Endless()
    once(PolicyASGIMiddleware(app, Recorder()), call("ls"))
    assert app.ran == []
    assert len(app.got) == 100


def test_lists_are_private():
    app = Bare(json_response=True)
    late = once(PolicyASGIMiddleware(app, Recorder(hide=["ls"])), listing(), headers=modern("tools/list", None)).json
    assert late["result"]["cacheScope"] == "private"
    early = once(PolicyASGIMiddleware(app, Recorder(hide=["ls"])), listing()).json
    assert "cacheScope" not in early["result"]
    assert [tool["name"] for tool in early["result"]["tools"]] == ["rm"]
    assert early["result"]["nextCursor"] == "2"


def test_calls_at_once_stay_within_the_limit(stack):
    served = stack()
    engine = Recorder({"ls": {"rate_limit": {"max": 10, "window": 60, "per": "tool"}}})

    async def run() -> list[bool]:
        async with served.running(), connected(guarded(served, engine), MODERN) as client:
            results = await asyncio.gather(*(client.call_tool("ls", {}) for _ in range(40)))
            return [not result.is_error for result in results]

    assert sum(asyncio.run(run())) == 10
    assert len(served.ran) == 10


@pytest.mark.parametrize("name", ["fail", "ls"])
def test_a_call_that_fails_gives_its_cost_back(stack, era, in_json, name):
    served = stack(json_response=in_json)
    engine = Recorder({name: {"rate_limit": {"max": 1, "window": 60, "refund_on_error": True}}})
    asks(served, guarded(served, engine), era, *[(name, {})] * 3)
    assert len(served.ran) == (3 if name == "fail" else 1)


@pytest.mark.parametrize("how", ["status", "raise", "error"])
def test_other_failures_give_the_cost_back(how):
    class Failing(Bare):
        def called(self, params: Any, stamp: dict[str, Any]) -> dict[str, Any]:
            self.ran.append(params["name"])
            if how == "raise":
                raise OSError("failed")
            return {"error": {"code": -32603, "message": "failed"}}

        async def say(self, send: Any, text: bytes) -> None:
            status = 400 if how == "status" and b"failed" in text else 200
            await send({"type": "http.response.start", "status": status, "headers": self.headers})
            await send({"type": "http.response.body", "body": text})

    app = Failing()
    engine = Recorder({"ls": {"rate_limit": {"max": 1, "window": 60, "refund_on_error": True}}})
    shield = PolicyASGIMiddleware(app, engine)
    for _ in range(3):
        if how == "raise":
            with pytest.raises(OSError, match="failed"):
                once(shield, call())
        else:
            once(shield, call())
    assert len(app.ran) == 3


# -- who calls


def attempts(served: App, app: Any, era: str, connections: list[dict[str, str]]) -> list[bool]:
    async def run() -> list[bool]:
        async with served.running(), AsyncExitStack() as open_now:
            clients = [await open_now.enter_async_context(connected(app, era, headers)) for headers in connections]
            return [not (await client.call_tool("ls", {})).is_error for client in clients]

    return asyncio.run(run())


@pytest.mark.parametrize("make", [sdk, fast], ids=["mcp", "fastmcp"])
def test_a_session_that_the_app_issued_is_an_identity(make, in_json):
    served, engine = make(json_response=in_json), Recorder(TWO_EACH)

    async def run() -> list[bool]:
        app = guarded(served, engine)
        async with served.running(), connected(app, HANDSHAKE) as one, connected(app, HANDSHAKE) as other:
            return [not (await client.call_tool("ls", {})).is_error for client in (one, one, one, other, other, other)]

    assert asyncio.run(run()) == [True, True, False] * 2
    assert len({call.session for call in engine.calls}) == 2
    assert None not in {call.session for call in engine.calls}


@pytest.mark.parametrize("make", [sdk, fast, bare], ids=["mcp", "fastmcp", "bare"])
def test_ids_of_sessions_that_nobody_issued_are_nothing(make):
    served, engine = make(), Recorder(TWO_EACH)
    headers = [{"mcp-session-id": f"mine-{n}", "x-user": f"user-{n}"} for n in range(4)]
    assert attempts(served, guarded(served, engine), MODERN, headers) == [True, True, False, False]
    assert {(call.session, call.principal) for call in engine.calls} == {(None, None)}


def test_stateless_handshakes_share_one_count():
    served, engine = sdk(stateless_http=True), Recorder(TWO_EACH)
    assert attempts(served, guarded(served, engine), HANDSHAKE, [{}] * 3) == [True, True, False]


def test_users_are_told_apart_by_their_tokens(era):
    tokens = {name: {"client_id": "app", "sub": name, "scopes": ["read"]} for name in ("ann", "bob")}
    engine = Recorder(TWO_EACH)
    inside = [Middleware(PolicyASGIMiddleware, engine=engine)]
    served = fast(auth=StaticTokenVerifier(tokens), middleware=inside, stateless_http=True)
    connections = [{"authorization": f"Bearer {name}"} for name in ("ann", "ann", "ann", "bob", "bob", "bob")]
    assert attempts(served, served.app, era, connections) == [True, True, False] * 2
    assert {(call.principal.id, call.principal.client) for call in engine.calls} == {("ann", "app"), ("bob", "app")}


def ann(id: str = "ann") -> Any:
    return SimpleNamespace(access_token=SimpleNamespace(client_id="app", scopes=["read"], subject=id, claims={}))


class Opening(Bare):
    """Issues the same session to everybody who opens one, and ends it when asked."""

    status = 200

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def issue(event: Any) -> None:
            if event["type"] == "http.response.start":
                event = {**event, "status": self.status, "headers": [*event["headers"], (b"Mcp-Session-Id", b"s1")]}
            await send(event)

        await super().__call__(scope, receive, issue)


OPEN = json.dumps(
    {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": "2025-06-18"}}
).encode()
IN_SESSION = [*POSTED, ("Mcp-Session-Id", "s1")]


def sessions_of(*steps: Any, user: Any = None, caller: Any = None) -> Any:
    """Return the session of a call after these steps."""
    app, engine = Opening(), Recorder()
    shield = PolicyASGIMiddleware(app, engine)

    async def run() -> Any:
        for body, how, app.status in steps:
            await send(shield, body, **how, user=user)
        app.status = 200
        await send(shield, call(), headers=IN_SESSION, user=caller or user)
        return engine.calls[-1].session

    return asyncio.run(run())


def test_sessions_come_and_go():
    opened = OPEN, {}, 200
    assert sessions_of() is None
    assert sessions_of(opened) == "s1"
    assert sessions_of((listing(), {}, 200)) is None, "only an `initialize` opens one"
    assert sessions_of((OPEN, {}, 400)) is None
    assert sessions_of(opened, (b"", {"method": "DELETE", "headers": IN_SESSION}, 200)) is None
    assert sessions_of(opened, (b"", {"method": "DELETE", "headers": IN_SESSION}, 405)) == "s1"
    assert sessions_of(opened, (listing(), {"headers": IN_SESSION}, 404)) is None
    assert sessions_of(opened, (listing(), {}, 404)) == "s1"


def test_a_session_counts_for_whom_it_was_issued_to():
    opened = OPEN, {}, 200
    assert sessions_of(opened, user=ann()) == "s1"
    assert sessions_of(opened, user=ann(), caller=ann("eve")) == 'principal:[null, "eve"]'
    assert sessions_of(opened, caller=ann()) == 'principal:[null, "ann"]'


def test_memory_of_sessions_is_bounded(monkeypatch):
    monkeypatch.setattr(Sessions, "_MOST", 3)
    sessions = Sessions()
    for number in range(10):
        sessions.note({"headers": []}, [(b"mcp-session-id", b"s%d" % number)])
    sessions.note({"headers": []}, [(b"mcp-session-id", b"s" * 1000)])
    kept = [n for n in range(10) if sessions.identify({"headers": [(b"mcp-session-id", b"s%d" % n)]}).session]
    assert kept == [7, 8, 9]


@pytest.mark.parametrize(
    "user", [SimpleNamespace(is_authenticated=True), SimpleNamespace(access_token="secret"), "ann"]
)
def test_users_that_are_not_understood_are_nobody(user):
    engine = Recorder()
    once(PolicyASGIMiddleware(Bare(), engine), call(), user=user)
    assert (engine.calls[0].principal, engine.calls[0].session) == (None, None)


def test_a_host_with_identities_of_its_own():
    engine = Recorder()
    app = PolicyASGIMiddleware(
        Bare(), engine, server="files", identity=lambda scope: (Principal(scope["path"]), scope["method"])
    )
    once(app, call())
    asked = engine.calls[0]
    assert (asked.principal.id, asked.session, asked.server) == ("/mcp", "POST", "files")


def test_an_identity_that_raises_denies():
    def identity(scope: Any) -> Any:
        raise OSError("unreachable")

    app = Bare()
    shield = PolicyASGIMiddleware(app, Recorder(), identity=identity)
    assert "internal_error" in str(once(shield, call()).json)
    assert once(shield, listing()).json["result"]["tools"] == []
    assert app.ran == []


# -- streams that are sent again


class Events(EventStore):
    """Keeps what was sent, as a host's own store would."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, Any]] = []

    async def store_event(self, stream_id: str, message: Any) -> str:
        self.kept.append((stream_id, message))
        return str(len(self.kept) - 1)

    async def replay_events_after(self, last_event_id: str, send_callback: Any) -> str | None:
        stream = self.kept[int(last_event_id)][0]
        for at, (other, message) in enumerate(self.kept):
            if other == stream and at > int(last_event_id) and message is not None:
                await send_callback(EventMessage(message, str(at)))
        return stream


def test_a_list_that_is_sent_again_is_filtered_for_whoever_asks():
    served = sdk(json_response=False, event_store=Events())
    app = guarded(served, Recorder(hide=["rm"]))

    async def run() -> tuple[list[str], list[str]]:
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}}
        opened = await send(
            app, json.dumps({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}).encode()
        )
        session = ("mcp-session-id", opened.header(b"mcp-session-id").decode())
        ready = json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"}).encode()
        headers = [*POSTED, session, ("mcp-protocol-version", "2025-11-25")]
        await send(app, ready, headers=headers)
        first = await send(app, listing(5), headers=headers)
        stream = next(line for line in first.body.splitlines() if line.startswith(b"id:"))[3:].strip()
        again = await replayed(app, [*headers[1:], ("last-event-id", stream.decode())])
        return names_in(first.data[0]), names_in(again)

    async def replayed(app: Any, headers: list[tuple[str, str]]) -> Any:
        """Read one message of a stream, and go away."""
        got, gone = [], anyio.Event()

        async def receive() -> Any:
            await gone.wait()
            return {"type": "http.disconnect"}

        async def take(event: Any) -> None:
            lines = event.get("body", b"").splitlines()
            got.extend(json.loads(line[5:]) for line in lines if line.startswith(b"data:") and line[5:].strip())
            if got:
                gone.set()

        sent = [(b"host", b"127.0.0.1:8000"), *((name.encode(), value.encode()) for name, value in headers)]
        scope = {"type": "http", "method": "GET", "path": "/mcp", "query_string": b"", "root_path": "", "headers": sent}
        await app({**scope, "scheme": "http", "http_version": "1.1", "server": ("h", 1)}, receive, take)
        return got[0]

    async def all_of_it() -> Any:
        async with served.running():
            return await run()

    assert asyncio.run(all_of_it()) == (["ls", "fail"], ["ls", "fail"])


def names_in(message: Any) -> list[str]:
    return [tool["name"] for tool in message["result"]["tools"]]


def saying(body: bytes, *headers: tuple[bytes, bytes], status: int = 200) -> Any:
    """An app that says one thing, in one piece."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        await send({"type": "http.response.body", "body": body})

    return app


EVENTS = (b"content-type", b"text/event-stream")
LISTED = b'{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"ls"},{"name":"rm"}]}}'
HIDDEN = b'{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"ls"}]}}'


@pytest.mark.parametrize(
    ("stream", "passed"),
    [
        (b"data: %s\n\n", b"data: %s\n\n"),
        (b"\xef\xbb\xbfdata: %s\n\n", b"data: %s\n\n"),
        (b": hi\r\n\r\nid: 1\r\ndata:%s\r\n\r\n", b": hi\r\n\r\nid: 1\ndata: %s\n\n"),
        (b"id: 1\rdata: %s\r\rdata: x\r\r", b"id: 1\ndata: %s\n\ndata: x\r\r"),
        (b"data: %s", b"data: %s\n\n"),
        (b"data: [%s]\n\n", b"data: [%s]\n\n"),
        (b"retry: 1\n\n\n\nevent: message\ndata: %s\n\n", b"retry: 1\n\n\n\nevent: message\ndata: %s\n\n"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
def test_streams_in_all_their_forms(stream, passed, method, size):
    whole = stream % LISTED

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [EVENTS, (b"content-length", b"9")]})
        for at in range(0, len(whole), size):
            await send({"type": "http.response.body", "body": whole[at : at + size], "more_body": True})
        await send({"type": "http.response.body"})

    got = once(
        PolicyASGIMiddleware(app, Recorder(hide=["rm"])), *([listing()] if method == "POST" else []), method=method
    )
    assert lines_of(got.body) == lines_of(passed % HIDDEN)
    assert got.header(b"content-length") is None


def lines_of(stream: bytes) -> bytes:
    """Return a stream without what ends its lines: a CR may come in one piece and its LF in the next."""
    return re.sub(rb"[\r\n]+", b"\n", stream)


def test_data_in_several_lines_is_one_message():
    stream = b"data: " + LISTED.replace(b",", b",\ndata: ") + b"\n\n"
    got = once(PolicyASGIMiddleware(saying(stream, EVENTS), Recorder(hide=["rm"])), method="GET")
    assert got.body == b"data: " + HIDDEN + b"\n\n"


def test_events_pass_as_they_come():
    seen: list[bytes] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [EVENTS]})
        for part in (b"data: 1\n", b"\ndata: 2\n\nda", b"ta: 3\n\n"):
            await send({"type": "http.response.body", "body": part, "more_body": True})
            seen.append(b"|".join(took))
        await send({"type": "http.response.body"})

    took: list[bytes] = []

    async def take(event: Any) -> None:
        took.append(event.get("body", b""))

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    asyncio.run(PolicyASGIMiddleware(app, Recorder())(scope, receive, take))
    assert seen == [b"", b"|data: 1\n\ndata: 2\n\n", b"|data: 1\n\ndata: 2\n\n|data: 3\n\n"]


# -- answers that cannot be looked at

JSON = (b"content-type", b"application/json")


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (gzip.compress(LISTED, mtime=0), [JSON, (b"content-encoding", b"gzip")]),
        (gzip.compress(b"data: " + LISTED + b"\n\n", mtime=0), [EVENTS, (b"content-encoding", b"gzip")]),
        (LISTED, [JSON, (b"content-encoding", b"identity"), (b"content-encoding", b"gzip")]),
        (LISTED, [JSON, (b"content-type", b"text/plain")]),
        (LISTED[:-1], [JSON]),
        (LISTED.decode().encode("utf-16"), [JSON]),
        (LISTED.decode().encode("utf-16"), [(b"content-type", b"application/json; charset=utf-16")]),
        (b"\xef\xbb\xbf" + LISTED, [JSON]),
        (b'{"jsonrpc":"2.0","id":1,"result":{"tools":{"rm":{}}}}', [JSON]),
        (b'{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":1}]}}', [JSON]),
        (b'{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"ls","x":NaN}]}}', [JSON]),
        (b'{"tools":' + b"[" * 100_000, [JSON]),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_cannot_be_read_is_not_passed_on(body, headers, method):
    shield = PolicyASGIMiddleware(saying(body, *headers), Recorder(hide=["rm"]))
    got = once(shield, *([listing()] if method == "POST" else []), method=method)
    assert got.status == 502
    assert got.header(b"content-encoding") is None
    assert got.json["id"] == (1 if method == "POST" else None)
    assert got.json["error"]["message"] == "the server's answer cannot be read, so it is not passed on"


def test_an_event_that_cannot_be_read_becomes_an_error():
    stream = b"data: {tools\n\ndata: \n\ndata: " + LISTED + b"\n\n"
    got = once(PolicyASGIMiddleware(saying(stream, EVENTS), Recorder(hide=["rm"])), listing())
    assert got.data[0]["error"]["code"] == -32603
    assert names_in(got.data[1]) == ["ls"]


def test_other_content_in_answer_to_a_message_is_not_passed_on():
    shield = PolicyASGIMiddleware(saying(LISTED, (b"content-type", b"text/html")), Recorder(hide=["rm"]))
    assert once(shield, listing()).status == 502
    assert once(shield, method="GET").body == LISTED, "a page is a page"


def test_a_failure_of_the_app_keeps_its_status_and_headers():
    plain = (b"content-type", b"text/plain"), (b"www-authenticate", b"Bearer"), (b"content-length", b"6")
    got = once(PolicyASGIMiddleware(saying(b"secret", *plain, status=401), Recorder()), listing())
    assert got.status == 401
    assert got.header(b"www-authenticate") == b"Bearer"
    assert b"secret" not in got.body


@pytest.mark.parametrize("status", [202, 307, 406])
def test_empty_answers_pass(status):
    got = once(PolicyASGIMiddleware(saying(b"", (b"location", b"/mcp/"), status=status), Recorder()), listing())
    assert (got.status, got.body, got.header(b"location")) == (status, b"", b"/mcp/")


def test_an_app_is_not_asked_to_compress():
    app = Bare()
    once(PolicyASGIMiddleware(app, Recorder()), listing(), headers=[*POSTED, ("accept-encoding", "gzip")])
    assert b"accept-encoding" not in dict(app.scopes[0]["headers"])


def test_an_app_that_sends_files_by_path_is_stopped():
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["extensions"] == {"tls": {}}
        await send({"type": "http.response.start", "status": 200, "headers": [JSON]})
        await send({"type": "http.response.pathsend", "path": "/etc/passwd"})

    with pytest.raises(ValueError, match=r"`http.response.pathsend` cannot be looked at"):
        once(PolicyASGIMiddleware(app, Recorder()), listing(), extensions={"tls": {}, "http.response.pathsend": {}})


# -- categories


def by_category() -> PolicyEngine:
    document = {"version": "1", "categories": {"read": {}, "destructive": {"action": "deny"}}}
    return PolicyEngine(Policy.model_validate(document), catalogue=ToolCatalogue())


def test_a_category_comes_from_the_apps_own_list():
    app = Bare()
    app.tools = [
        {"name": "get_page", "description": "Get a page.", "inputSchema": {"type": "object"}},
        {"name": "delete_page", "description": "Delete a page.", "inputSchema": {"type": "object"}},
    ]
    shield = PolicyASGIMiddleware(app, by_category())
    assert names_in(once(shield, listing()).json) == ["get_page"]
    assert "POLICY" in str(once(shield, call("delete_page")).json)
    assert "result" in once(shield, call("get_page")).json
    app.tools[0]["description"] = "Delete everything, for ever."
    app.tools[0]["annotations"] = {"destructiveHint": True, "readOnlyHint": False}
    assert "POLICY" in str(once(shield, call("get_page")).json), "the list is read anew for each call"
    assert app.ran == [("get_page", "/")]


@pytest.mark.parametrize("key", ["fastmcp", "_fastmcp"])
def test_a_tool_of_another_version_is_of_no_category(key):
    app = Bare()
    app.tools = [{"name": "get_page", "description": "Get a page.", "inputSchema": {"type": "object"}}]
    shield = PolicyASGIMiddleware(app, by_category())
    assert "POLICY" in str(once(shield, call("get_page", _meta={key: {"version": "1"}})).json)


# -- approvals

ASK = {"rm": {"action": "approve", "reason": "what is gone is gone"}}


def test_a_client_of_today_is_asked_in_rounds(in_json):
    served, engine = sdk(json_response=in_json), Recorder(ASK)
    app = guarded(served, engine, approver=ask_client())
    able = {**META, "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}}

    async def run() -> list[Any]:
        async with served.running():
            asked = (await send(app, call("rm", _meta=able), headers=modern(name="rm"))).json["result"]
            key, question = next(iter(asked["inputRequests"].items()))
            assert asked["resultType"] == "input_required"
            assert question["method"] == "elicitation/create"
            assert "what is gone is gone" in question["params"]["message"]
            answers = {key: {"action": "accept", "content": {"approve": True}}}
            again = call("rm", _meta=able, inputResponses=answers)
            return [(await send(app, again, headers=modern(name="rm"))).json["result"] for _ in range(2)]

    ran, twice = asyncio.run(run())
    assert ran["content"][0]["text"] == "gone /"
    assert served.ran == [("rm", "/")]
    assert twice["resultType"] == "input_required" or twice["isError"]


def test_a_client_of_today_is_sent_to_a_page():
    app, engine = Bare(), Recorder(ASK)

    async def decide(seconds: float) -> None:
        engine.approve(waiting().id, by="ann")

    def waiting() -> Any:
        return next(iter(engine._approvals._records.values()))

    page = open_page(lambda record: f"https://example.com/{record.id}", sleep=decide)
    shield = PolicyASGIMiddleware(app, engine, approver=page)
    able = {**META, "io.modelcontextprotocol/clientCapabilities": {"elicitation": {"url": {}}}}
    unable = once(shield, call("rm", _meta=META), headers=modern(name="rm")).json["result"]
    assert "the client cannot open a page" in unable["content"][0]["text"]
    asked = once(shield, call("rm", _meta=able), headers=modern(name="rm")).json["result"]
    key, question = next(iter(asked["inputRequests"].items()))
    assert question["params"]["mode"] == "url"
    assert question["params"]["url"] == f"https://example.com/{waiting().id}"
    again = call("rm", _meta=able, inputResponses={key: {"action": "accept"}})
    assert once(shield, again, headers=modern(name="rm")).json["result"]["isError"] is False
    assert app.ran == [("rm", "/")]


@pytest.mark.parametrize(
    "approver", [ask_client(), open_page(lambda record: "https://example.com")], ids=["form", "page"]
)
def test_a_client_of_yesterday_is_out_of_reach(approver):
    app = Bare()
    said = once(PolicyASGIMiddleware(app, Recorder(ASK), approver=approver), call("rm")).json["result"]
    assert "cannot be asked from in front of the app" in said["content"][0]["text"]
    assert app.ran == []


def test_a_call_waits_for_a_decision_in_the_store():
    app, engine = Bare(), Recorder(ASK)

    async def decide(seconds: float) -> None:
        record = next(iter(engine._approvals._records.values()))
        if record.status == "pending":
            engine.approve(record.id, by="ann")

    shield = PolicyASGIMiddleware(app, engine, approver=wait_for_decision(sleep=decide))
    assert once(shield, call("rm")).json["result"]["isError"] is False
    assert app.ran == [("rm", "/")]


def test_a_call_whose_client_went_away_while_somebody_thought_does_not_run():
    app, engine = Bare(), Recorder(ASK)

    async def run() -> None:
        thinking = anyio.Event()

        async def think(seconds: float) -> None:
            thinking.set()
            await anyio.sleep_forever()

        told: list[Any] = []
        body = iter([{"type": "http.request", "body": call("rm")}])

        async def receive() -> Any:
            for event in body:
                return event
            await thinking.wait()
            return {"type": "http.disconnect"}

        async def take(event: Any) -> None:
            told.append(event)

        shield = PolicyASGIMiddleware(app, engine, approver=wait_for_decision(sleep=think))
        headers = [(name.encode(), value.encode()) for name, value in POSTED]
        await shield({"type": "http", "method": "POST", "path": "/", "headers": headers}, receive, take)
        assert b"the client went away" in told[-1]["body"]

    asyncio.run(run())
    assert app.ran == []
    assert [record.status for record in engine._approvals._records.values()] == ["pending"]


# -- what else comes by


def test_the_life_of_an_app_passes():
    events: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        events.append((scope, await receive()))

    async def receive() -> Any:
        return "startup"

    asyncio.run(PolicyASGIMiddleware(app, Recorder())({"type": "lifespan"}, receive, None))
    assert events == [({"type": "lifespan"}, "startup")]


def test_web_sockets_are_closed():
    app, told = Bare(), []

    async def take(event: Any) -> None:
        told.append(event)

    asyncio.run(PolicyASGIMiddleware(app, Recorder())({"type": "websocket", "path": "/"}, None, take))
    assert told[0]["type"] == "websocket.close"
    assert app.scopes == []


def test_other_connections_are_refused():
    with pytest.raises(RuntimeError, match="connections of type `quic` cannot be guarded"):
        asyncio.run(PolicyASGIMiddleware(Bare(), Recorder())({"type": "quic"}, None, None))


def test_paths_beside_the_guard():
    app = Bare()
    shield = PolicyASGIMiddleware(app, Recorder(hide=["ls"]), unguarded=["/token"])
    form = [("content-type", "application/x-www-form-urlencoded")]
    assert once(shield, b"a=b", headers=form, path="/token/").status == 415
    assert once(shield, listing(), path="/token").json["result"]["tools"][0]["name"] == "ls"


def test_what_cannot_be_guarded_is_refused():
    with pytest.raises(TypeError, match="`object` is none"):
        PolicyASGIMiddleware(object(), Recorder())
    with pytest.raises(TypeError, match="a list of paths"):
        PolicyASGIMiddleware(Bare(), Recorder(), unguarded="/token")
    with pytest.raises(TypeError, match="needs a `PolicyEngine`"):
        PolicyASGIMiddleware(Bare(), None)


def test_results_are_passed_on_as_they_are():
    said = b'{"jsonrpc": "2.0", "id": 1, "result": {"content": [{"type":"text","text":"tools \\u00e9"}], "isError": false}}'

    class Exact(Bare):
        async def say(self, send: Any, text: bytes) -> None:
            await super().say(send, said if b"content" in text else text)

    assert once(PolicyASGIMiddleware(Exact(), Recorder()), call()).body == said
