"""The gateway in front of several servers, over HTTP, and in front of servers at addresses."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Self

import httpx2
import pytest
import uvicorn
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.mcpserver import Context, MCPServer
from mcp_types import ElicitResult

from integration.gateways import GATEWAY, SOURCE, connected, environment, is_running, policy, server, started, written
from integration.servers import configuration
from integration.stacks import ERAS, HANDSHAKE, MODERN, facts, listed_by, refused, text


@pytest.fixture(params=ERAS)
def era(request) -> str:
    return request.param


def asked(coroutine: Any) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, 100))


def configured(folder: Path, entries: dict[str, Any]) -> str:
    return written(folder / "mcp.json", {"mcpServers": entries})


def entry(*tools: str, name: str = "files", **more: Any) -> dict[str, Any]:
    command, *arguments = server(*tools, name=name)
    return {"command": command, "args": arguments, "env": {"PYTHONPATH": SOURCE}, **more}


# -- several servers


SECTIONS = policy(
    servers={
        "files": {"hide": ["secret"], "tools": {"rm": {"action": "deny", "reason": "files stay"}}},
        "other": {"tools": {"pid": {"action": "deny", "reason": "pids are ours"}}},
    }
)


@pytest.mark.parametrize("prefix", [False, True])
def test_each_server_is_judged_under_its_own_name_and_its_tools_names(tmp_path, era, prefix):
    rules = written(tmp_path / "policy.json", SECTIONS)
    file = configured(
        tmp_path,
        {"files": entry("ls", "rm", "secret"), "other": entry("pid", "env"), "off": {"disabled": True, "command": "x"}},
    )

    def named(name: str, tool: str) -> str:
        return f"{name}_{tool}" if prefix else tool

    async def talk() -> None:
        options = ["--policy", rules, "--config", file, *(["--prefix"] if prefix else [])]
        async with connected(options, era, tmp_path / "talk") as client:
            assert sorted(await listed_by(client)) == sorted([named("files", "ls"), named("other", "env")])
            assert text(await client.call_tool(named("files", "ls"), {"path": "/a"})) == "/a"
            assert refused(await client.call_tool(named("files", "rm"), {}), "deny", "denied_by_rule")
            assert "pids are ours" in text(await client.call_tool(named("other", "pid"), {}))
            hidden, unknown = named("files", "secret"), named("files", "zecret")
            answers = [await client.call_tool(tool, {}) for tool in (hidden, unknown, "nowhere_at_all")]
            assert [text(answer) for answer in answers] == [
                f"Unknown tool: '{tool}'" for tool in (hidden, unknown, "nowhere_at_all")
            ]
            assert len({answer.model_dump_json().replace(text(answer), "") for answer in answers}) == 1

    asked(talk())
    assert (tmp_path / "talk").read_text() == ""


def test_real_servers_stand_behind_one_endpoint(tmp_path, era):
    file = configured(tmp_path, configuration(tmp_path))
    rules = written(
        tmp_path / "policy.json",
        policy(servers={"sqlite": {"tools": {"write_*": {"action": "deny", "reason": "read only"}}}}),
    )

    async def talk() -> None:
        async with connected(["--policy", rules, "--config", file], era) as client:
            names = await listed_by(client)
            assert {"git_status", "get_current_time", "read_query", "fetch"} <= set(names)
            assert "write_query" not in names
            assert "UTC" in text(await client.call_tool("get_current_time", {"timezone": "UTC"}))
            assert not (await client.call_tool("list_tables", {})).is_error
            assert "read only" in text(await client.call_tool("write_query", {"query": "DROP TABLE x"}))

    asked(talk())


def run(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, *GATEWAY, *arguments],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=environment(),
        timeout=60,
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


def test_a_name_that_two_servers_list_is_refused_at_start(tmp_path):
    rules = written(tmp_path / "policy.json", policy())
    file = configured(tmp_path, {"one": entry("ls", "pid"), "two": entry("ls", "env")})
    code, said = run("--policy", rules, "--config", file)
    assert code == 2
    assert "the tool `ls` is listed by `one` and `two`; --prefix puts the servers' names in front" in said


def test_a_prefix_that_makes_two_names_the_same_is_refused_too(tmp_path):
    clash = "from mcp.server.mcpserver import MCPServer; s = MCPServer('x', log_level='CRITICAL'); s.add_tool(lambda: 1, name={!r}); s.run()"
    entries = {
        name: {"command": sys.executable, "args": ["-c", clash.format(tool)]}
        for name, tool in (("a", "b_c"), ("a_b", "c"))
    }
    code, said = run(
        "--policy", written(tmp_path / "policy.json", policy()), "--config", configured(tmp_path, entries), "--prefix"
    )
    assert code == 2
    assert "`a_b_c` is listed by `a` and `a_b`" in said


def test_a_name_that_clashes_later_is_served_by_neither(tmp_path):
    rules = written(tmp_path / "policy.json", policy())
    late = "from mcp.server.mcpserver import MCPServer; s = MCPServer('x', log_level='CRITICAL'); s.add_tool(lambda: 'the other', name='late'); s.run()"
    file = configured(
        tmp_path, {"grows": entry("ls", "grow"), "has": {"command": sys.executable, "args": ["-c", late]}}
    )
    talk = tmp_path / "talk"

    async def steps() -> None:
        async with connected(["--policy", rules, "--config", file], HANDSHAKE, talk) as client:
            assert text(await client.call_tool("late", {})) == "the other"
            assert text(await client.call_tool("grow", {})) == "grown"
            assert sorted(await listed_by(client)) == ["grow", "ls"]
            assert text(await client.call_tool("late", {})) == "Unknown tool: 'late'"
            assert text(await client.call_tool("ls", {})) == "/"

    asked(steps())
    assert "the tool `late` is listed by `grows` and `has`: it is served by neither" in talk.read_text()


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"mcpServers": {}}, "no server is configured"),
        ({"mcpServers": {"a": {"command": "x", "disabled": True}}}, "every server is disabled"),
        (
            {"mcpServers": {"a": {"command": "x", "args": ["${NOT_SET_ANYWHERE}"]}}},
            "`a`: its `args` needs the variable",
        ),
        ({"mcpServers": {"a b": {"command": "x"}}}, "`a b` cannot be a prefix"),
        ([], "an MCP configuration is an object"),
    ],
)
def test_a_configuration_that_cannot_be_served_whole_is_not_served(tmp_path, tree, words, capsys):
    from mcp_policy.cli import main

    rules, file = written(tmp_path / "policy.json", policy()), written(tmp_path / "mcp.json", tree)
    assert main(["gateway", "--policy", rules, "--config", file, "--prefix"]) == 2
    assert words in capsys.readouterr().err


def test_a_section_for_no_server_is_said(tmp_path):
    rules = written(tmp_path / "policy.json", policy(servers={"flies": {"default": "deny"}, "files": {}}))
    talk = tmp_path / "talk"

    async def once() -> None:
        async with connected(["--policy", rules, "--config", configured(tmp_path, {"files": entry("ls")})], talk=talk):
            pass

    asked(once())
    assert "warning: the policy has a section for `flies`, and here is only `files`" in talk.read_text()


def test_one_of_several_that_ends_does_not_end_the_rest(tmp_path):
    rules = written(tmp_path / "policy.json", policy())
    file = configured(tmp_path, {"dies": entry("die", "pid"), "lives": entry("ls")})
    talk = tmp_path / "talk"

    async def steps() -> None:
        async with connected(["--policy", rules, "--config", file], talk=talk) as client:
            before = text(await client.call_tool("pid", {}))
            assert "cannot be reached, or did not answer" in text(await client.call_tool("die", {"status": 3}))
            assert text(await client.call_tool("ls", {})) == "/"
            assert text(await client.call_tool("pid", {})) != before, "it was started again when it was needed"

    asked(steps())
    assert "`dies` ended with status 3" in talk.read_text()


# -- over HTTP


@contextmanager
def serving(arguments: list[str], **env: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run a gateway over HTTP; yield its address and the process."""
    with started([*arguments[:2], "--http", "127.0.0.1:0", *arguments[2:]], environment(**env)) as process:
        said = ""
        while not (found := re.search(r"serving on (http://127\.0\.0\.1:\d+/mcp)\n", said)):
            line = process.stderr.readline()
            assert line, said
            said += line
        threading.Thread(target=process.stderr.read, daemon=True).start()
        try:
            yield found[1], process
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 128 + signal.SIGTERM


@asynccontextmanager
async def client_of(url: str, era: str, headers: dict[str, str] | None = None, **settings: Any) -> Any:
    async with (
        httpx2.AsyncClient(headers=headers, timeout=60) as http,
        Client(streamable_http_client(url, http_client=http), mode=era, cache=None, **settings) as client,
    ):
        yield client


def test_sessions_over_http_have_servers_of_their_own(tmp_path):
    rules = written(tmp_path / "policy.json", policy(tools={"ls": {"rate_limit": {"max": 1, "window": 3600}}}))
    with serving(["--policy", rules, "--", *server()]) as (url, _):

        async def talk() -> set[int]:
            async with client_of(url, HANDSHAKE) as ann, client_of(url, HANDSHAKE) as bob:
                pids = [[int(text(await client.call_tool("pid", {}))) for _ in range(2)] for client in (ann, bob)]
                assert pids[0][0] == pids[0][1] != pids[1][0] == pids[1][1]
                assert text(await ann.call_tool("ls", {})) == text(await bob.call_tool("ls", {})) == "/"
                assert facts(await ann.call_tool("ls", {}))["effect"] == "limit"
                return {pids[0][0], pids[1][0]}

        pids = asked(talk())

        async def gone() -> None:
            while any(map(is_running, pids)):  # noqa: ASYNC110  # other processes
                await asyncio.sleep(0.05)

        asked(gone())  # with their sessions


def test_questions_go_to_the_session_that_they_are_about(tmp_path):
    rules = written(tmp_path / "policy.json", policy())

    def answering(action: str) -> Any:
        async def answer(context: Any, params: Any) -> Any:
            return ElicitResult(action=action, content={} if action == "accept" else None)

        return answer

    with serving(["--policy", rules, "--", *server("ask")]) as (url, _):

        async def talk() -> None:
            async with (
                client_of(url, HANDSHAKE, elicitation_callback=answering("accept")) as ann,
                client_of(url, HANDSHAKE, elicitation_callback=answering("decline")) as bob,
            ):
                for _ in range(3):
                    answers = await asyncio.gather(ann.call_tool("ask", {}), bob.call_tool("ask", {}))
                    assert [text(answer) for answer in answers] == ["accept", "decline"]

        asked(talk())


def test_clients_without_sessions_are_served_and_told_apart_by_nothing(tmp_path):
    rules = written(tmp_path / "policy.json", policy(tools={"ls": {"rate_limit": {"max": 3, "window": 3600}}}))
    with serving(["--policy", rules, "--", *server()]) as (url, _):

        async def talk() -> None:
            async with client_of(url, MODERN) as ann, client_of(url, MODERN) as bob:
                heard: dict[str, list[Any]] = {"ann": [], "bob": []}

                def hearing(name: str) -> Any:
                    async def hear(*progress: Any) -> None:
                        heard[name].append(progress[2])

                    return hear

                counted = [
                    client.call_tool("count", {}, progress_callback=hearing(name))
                    for name, client in (("ann", ann), ("bob", bob))
                ]
                assert [text(answer) for answer in await asyncio.gather(*counted)] == ["counted"] * 2
                assert heard == {"ann": ["step 1", "step 2"], "bob": ["step 1", "step 2"]}
                ran = [not (await client.call_tool("ls", {})).is_error for client in (ann, bob, ann, bob)]
                assert ran == [True, True, True, False]
                assert (await ann.call_tool("ask", {})).is_error, "a process that several share asks nobody"

        asked(talk())


def post(url: str, **headers: str) -> int:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    sent = {"accept": "application/json, text/event-stream", **headers}
    return httpx2.post(url, json=body, headers=sent, timeout=60).status_code


def test_pages_from_elsewhere_cannot_reach_it(tmp_path):
    rules = written(tmp_path / "policy.json", policy())
    with serving(["--policy", rules, "--", *server("ls")]) as (url, _):
        port = url.split(":")[2].partition("/")[0]
        assert post(url, host=f"evil.example:{port}") == 421
        assert post(url, origin="http://evil.example") == 403
        assert post(url, origin=f"http://evil.example:{port}") == 403
        assert post(url, origin="null") == 403
        assert post(url) not in {403, 421}


def test_an_address_that_others_reach_is_warned_of_and_one_in_use_refused(tmp_path):
    rules = written(tmp_path / "policy.json", policy())
    with started(["--policy", rules, "--http", "0.0.0.0:0", "--", *server("ls")]) as process:
        lines = [process.stderr.readline() for _ in range(2)]
        assert "serving on http://0.0.0.0:" in lines[0]
        assert "warning: others can reach this address" in lines[1]
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = run("--policy", rules, "--http", f"127.0.0.1:{port}", "--", *server("ls"))
    assert code == 1
    assert f"cannot be served on 127.0.0.1:{port}: address already in use" in said


def test_a_child_that_ends_does_not_end_a_gateway_over_http(tmp_path):
    rules = written(tmp_path / "policy.json", policy())
    with serving(["--policy", rules, "--", *server()]) as (url, process):

        async def talk() -> None:
            async with client_of(url, HANDSHAKE) as client:
                assert (await client.call_tool("die", {"status": 3})).is_error
                assert text(await client.call_tool("ls", {})) == "/"

        asked(talk())
        assert process.poll() is None


# -- servers at addresses


class Remote:
    """A server on a socket of this process, and what reached it."""

    def __init__(self, *, stateless: bool) -> None:
        self.requests: list[dict[str, str]] = []
        made = MCPServer("remote", log_level="CRITICAL")
        made.add_tool(self.ls)
        made.add_tool(self.session)
        app = made.streamable_http_app(stateless_http=stateless)

        async def noting(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                self.requests.append({name.decode(): value.decode() for name, value in scope["headers"]})
            await app(scope, receive, send)

        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}/mcp"
        self._server = uvicorn.Server(
            uvicorn.Config(noting, log_config=None, lifespan="on", timeout_graceful_shutdown=1)
        )
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self.socket]})

    def ls(self, path: str = "/") -> str:
        """List."""
        return path

    def session(self, ctx: Context) -> str:
        """Tell the session."""
        return str(ctx.headers.get("mcp-session-id") if ctx.headers else None)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()
        self.socket.close()


def test_a_server_at_an_address_is_guarded(tmp_path, era):
    rules = written(tmp_path / "policy.json", policy(servers={"127.0.0.1": {"hide": ["session"]}}))
    with Remote(stateless=False) as remote:

        async def talk() -> None:
            async with connected(["--policy", rules, "--upstream", remote.url], era, tmp_path / "talk") as client:
                assert await listed_by(client) == ["ls"]
                assert text(await client.call_tool("ls", {"path": "/x"})) == "/x"
                assert text(await client.call_tool("session", {})) == "Unknown tool: 'session'"

        asked(talk())
    assert (tmp_path / "talk").read_text() == ""


def test_no_client_gets_the_session_of_another(tmp_path):
    rules = written(tmp_path / "policy.json", policy())
    with Remote(stateless=False) as remote, serving(["--policy", rules, "--upstream", remote.url]) as (url, _):

        async def talk() -> None:
            async with (
                client_of(url, HANDSHAKE) as ann,
                client_of(url, HANDSHAKE) as bob,
                client_of(url, MODERN) as eve,
            ):
                seen = [[text(await client.call_tool("session", {})) for _ in range(2)] for client in (ann, bob, eve)]
                assert seen[0][0] == seen[0][1] != seen[1][0] == seen[1][1]
                assert seen[2] == ["None", "None"]

        asked(talk())


def test_headers_are_passed_by_name_and_anew_with_each_request(tmp_path, era):
    rules = written(tmp_path / "policy.json", policy())
    sent = {"x-tenant": "t1", "x-other": "o1", "cookie": "c=1", "authorization": "Bearer one", "x-static": "forged"}
    with Remote(stateless=False) as remote:
        file = configured(tmp_path, {"remote": {"url": remote.url, "headers": {"X-Static": "ours"}}})
        options = ["--policy", rules, "--config", file, "--pass-header", "X-Tenant", "--pass-header", "x-static"]
        with serving(options) as (url, _):

            async def talk() -> None:
                async with client_of(url, era, sent) as client:
                    remote.requests.clear()
                    await client.call_tool("ls", {})
                async with client_of(url, era, sent | {"x-tenant": "t2"}) as client:
                    await client.call_tool("ls", {})

            asked(talk())
    tenants = [request.get("x-tenant") for request in remote.requests]
    assert {"t1", "t2"} <= set(tenants)
    assert tenants == sorted(tenants, key=lambda tenant: tenant or "t1"), "each with the request that it came with"
    assert not any({"x-other", "cookie", "authorization"} & request.keys() for request in remote.requests)
    assert {request["x-static"] for request in remote.requests} == {"ours"}


def test_a_header_that_changes_in_a_session_is_passed_as_it_is_now(tmp_path):
    rules = written(tmp_path / "policy.json", policy())
    with (
        Remote(stateless=False) as remote,
        serving(["--policy", rules, "--upstream", remote.url, "--pass-header", "authorization"]) as (url, _),
    ):

        async def talk() -> None:
            async with (
                httpx2.AsyncClient(headers={"authorization": "Bearer one"}, timeout=60) as http,
                Client(streamable_http_client(url, http_client=http), mode=HANDSHAKE, cache=None) as client,
            ):
                first = text(await client.call_tool("session", {}))
                http.headers["authorization"] = "Bearer two"
                remote.requests.clear()
                assert text(await client.call_tool("session", {})) == first
                assert {request.get("authorization") for request in remote.requests} == {"Bearer two"}

        asked(talk())


def test_a_server_that_cannot_be_reached_is_one_line(tmp_path):
    rules = written(tmp_path / "policy.json", policy())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    code, said = run("--policy", rules, "--upstream", f"http://127.0.0.1:{port}/mcp?token=hush-hush")
    assert code == 1
    assert said.count("\n") == 1
    assert "`127.0.0.1` cannot be reached: " in said
    assert "hush" not in said


def test_a_server_that_goes_away_is_an_error_to_callers_and_one_that_comes_back_is_used(tmp_path, era):
    rules = written(tmp_path / "policy.json", policy())

    async def talk() -> None:
        with Remote(stateless=False) as remote:
            url = remote.url
            async with AsyncExitStack() as stack:
                client = await stack.enter_async_context(connected(["--policy", rules, "--upstream", url], era))
                assert text(await client.call_tool("ls", {})) == "/"
                await asyncio.to_thread(remote.__exit__)
                for _ in range(2):
                    answer = await client.call_tool("ls", {})
                    assert answer.is_error
                    assert text(answer) == "the server `127.0.0.1` cannot be reached, or did not answer"
                again = Remote(stateless=False)
                again.socket.close()
                port = int(url.split(":")[2].partition("/")[0])
                again.socket = socket.create_server(("127.0.0.1", port))
                again._thread = threading.Thread(target=again._server.run, kwargs={"sockets": [again.socket]})
                with again:
                    answers = [await client.call_tool("ls", {}) for _ in range(2)]
                    assert text(answers[-1]) == "/"

    asked(talk())
