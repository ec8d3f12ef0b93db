"""`mcp-policy scan` and real servers: other people's over stdio, and ours at addresses."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from mcp.server.mcpserver import MCPServer
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from integration.servers import TOOLS, configuration
from mcp_policy import Policy, PolicyEngine, ToolCall
from mcp_policy.cli import _listing, main
from mcp_policy.cli._clearml_api import clearml_api

COUNTS = {**TOOLS, "clearml": 14}


@pytest.fixture(scope="module")
def configured(tmp_path_factory) -> Iterator[Path]:
    """An `mcp.json` with five servers of other people, one of them on the 2.x SDK, and one that cannot start."""
    folder = tmp_path_factory.mktemp("real")
    with clearml_api() as api:
        quiet = {"FASTMCP_SHOW_SERVER_BANNER": "false", "FASTMCP_CHECK_FOR_UPDATES": "off", "HOME": str(folder)}
        clearml = {"command": sys.executable, "args": ["-m", "clearml_mcp.clearml_mcp"], "env": quiet | api.environment}
        entries = {**configuration(folder), "clearml": clearml, "broken": {"command": "no-such-server"}}
        path = folder / "mcp.json"
        path.write_text(json.dumps({"mcpServers": entries}))
        yield path


def scanned(capsys, *arguments: str) -> tuple[int, dict[str, Any], str]:
    status = main(["scan", "--format", "json", *arguments])
    said = capsys.readouterr()
    return status, json.loads(said.out), said.err


def test_real_servers_are_scanned_in_one_run(configured, tmp_path, capsys):
    policy = tmp_path / "policy.json"
    status, data, talk = scanned(capsys, "--config", str(configured), "--timeout", "120", "--write", str(policy))
    assert status == 1, "one of them cannot start"
    failed = {server["server"]: server["failure"] for server in data["servers"] if server["failure"]}
    assert failed == {"broken": "`no-such-server` is not there"}
    found = {server["server"]: server["tools"] for server in data["servers"] if not server["failure"]}
    assert {name: len(tools) for name, tools in found.items()} == COUNTS
    assert all(f"{name}: {count} tool" in talk for name, count in COUNTS.items())
    assert {(tool["category"], tool["level"]) for tool in found["clearml"]} == {("read", "low")}
    assert {tool["catalogue"] for tool in found["clearml"]} <= {"known", "changed"}
    warned = {warning["code"] for tools in found.values() for tool in tools for warning in tool["warnings"]}
    assert warned <= {"contradiction"}
    engine = PolicyEngine(Policy.load(policy))
    assert engine.evaluate(ToolCall("get_task_info", {"task_id": "a"}, server="clearml")).allowed
    assert not engine.evaluate(ToolCall("write_query", {"query": "drop table a"}, server="unknown")).allowed


def test_real_servers_do_not_drift_by_themselves(configured, tmp_path, capsys):
    whole = json.loads(configured.read_text())
    del whole["mcpServers"]["broken"]
    config, lock = tmp_path / "mcp.json", str(tmp_path / "tools.lock.json")
    config.write_text(json.dumps(whole))
    assert main(["scan", "--config", str(config), "--timeout", "120", "--lock", lock]) == 0
    capsys.readouterr()
    status, data, _ = scanned(capsys, "--config", str(config), "--timeout", "120", "--check", lock)
    assert (status, data["changes"]) == (0, [])


# -- at an address


def served_tools() -> MCPServer:
    server: MCPServer = MCPServer("remote", log_level="CRITICAL")

    @server.tool()
    def read_note(name: str) -> str:
        """Read a note."""
        return name

    @server.tool()
    def delete_note(name: str) -> str:
        """Delete a note."""
        return name

    return server


@contextmanager
def listening(app: Any) -> Iterator[str]:
    """Serve an application on the loopback interface for as long as the block runs; yields its address."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1, ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{bound.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.mark.parametrize(("transport", "path"), [("streamable_http_app", "/mcp"), ("sse_app", "/sse")])
def test_a_server_at_an_address(capsys, transport, path):
    with listening(getattr(served_tools(), transport)()) as url:
        status, data, _ = scanned(capsys, "--upstream", url + path)
    (server,) = data["servers"]
    assert status == 0, server["failure"]
    assert server["introduced"] == "remote"
    assert [tool["tool"] for tool in server["tools"]] == ["delete_note", "read_note"]


def test_headers_are_sent(capsys):
    seen: list[str | None] = []

    async def refuse(request: Any) -> Response:
        seen.append(request.headers.get("authorization"))
        return PlainTextResponse("who are you?", 401)

    app = Starlette(routes=[Route("/mcp", refuse, methods=["GET", "POST", "DELETE"])])
    with listening(app) as url:
        status, data, _ = scanned(capsys, "--upstream", f"{url}/mcp", "--header", "Authorization=Bearer s3cr3t")
    assert status == 1
    assert "401" in data["servers"][0]["failure"]
    assert "s3cr3t" not in json.dumps(data)
    assert set(seen) == {"Bearer s3cr3t"}


async def long(_: Any) -> Response:
    async def chunks() -> Any:
        for _ in range(64):
            yield b" " * 65_536

    return StreamingResponse(chunks(), media_type="application/json")


async def compressed(_: Any) -> Response:
    return Response(b"", headers={"content-encoding": "gzip"}, media_type="application/json")


async def silent(_: Any) -> Response:
    return PlainTextResponse("nothing of the kind", 404)


@pytest.mark.parametrize(
    ("answer", "reason"), [(long, "it sent more than"), (compressed, "compressed"), (silent, "404")]
)
def test_answers_from_an_address_are_held_to_bounds(capsys, monkeypatch, answer, reason):
    monkeypatch.setattr(_listing, "MAX_BYTES", 2**20)
    app = Starlette(routes=[Route("/mcp", answer, methods=["GET", "POST", "DELETE"])])
    with listening(app) as url:
        status, data, _ = scanned(capsys, "--upstream", f"{url}/mcp", "--timeout", "20")
    assert status == 1
    assert reason in data["servers"][0]["failure"]


def test_nobody_at_the_address(capsys):
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
    status, data, _ = scanned(capsys, "--upstream", f"http://127.0.0.1:{port}/mcp")
    assert (status, data["servers"][0]["failure"]) == (1, "ConnectError: All connection attempts failed")
