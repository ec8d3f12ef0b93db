"""The official TypeScript SDK as the client, in both protocol eras: what is refused reaches its user with its reason."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from fastmcp import FastMCP
from mcp.server.mcpserver import MCPServer

import mcp_policy
from integration import npm, stdio_server
from integration.gateways import policy, written
from integration.stacks import ERAS
from integration.web import served
from mcp_policy import Policy, PolicyEngine
from mcp_policy.adapters.approvers import ask_client
from mcp_policy.adapters.asgi import PolicyASGIMiddleware
from mcp_policy.adapters.fastmcp import PolicyMiddleware
from mcp_policy.adapters.mcp import guard_server
from mcp_policy.answer import META_KEY

SOURCE = str(Path(mcp_policy.__file__).parent.parent)
CALLS: list[Any] = [
    *[["ls", {}]] * 3,
    ["rm", {"path": "/tmp/x"}],
    ["rm", {"path": "/"}],
    ["secret", {}],
    ["none", {}],
]
TOOLS = (stdio_server.ls, stdio_server.rm, stdio_server.secret)


@pytest.fixture(autouse=True)
def quiet():
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(params=ERAS)
def era(request) -> str:
    return request.param


async def told(era: str, **asked: Any) -> Any:
    """Return what the client has to tell."""
    running = await asyncio.create_subprocess_exec(
        npm.node(),
        str(npm.folder() / npm.CLIENT.name),
        json.dumps({"era": era, **asked}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": SOURCE},
    )
    said, errors = await asyncio.wait_for(running.communicate(), 120)
    assert running.returncode == 0, errors.decode()
    return json.loads(said)


def check(found: Any) -> None:
    """Check what the policy of `stdio_server` lets a client see."""
    assert found["tools"] == ["ls", "rm"]
    answers = found["answers"]
    assert not any("thrown" in answer for answer in answers), answers
    assert [answer.get("isError", False) for answer in answers] == [False, False, True, False, True, True, True]
    limited, gone, denied, hidden, unknown = answers[2:]
    assert answers[0]["structuredContent"] == {"result": "/"}
    assert limited["content"][0]["text"].startswith("[POLICY LIMIT] ")
    assert limited["_meta"][META_KEY]["effect"] == "limit"
    assert gone["content"][0]["text"] == "gone /tmp/x"
    assert denied["content"][0]["text"] == "[POLICY DENIED] the root stays."
    assert "structuredContent" not in denied
    assert json.dumps(hidden) == json.dumps(unknown).replace("none", "secret")


@pytest.mark.parametrize("stack", ["mcp", "fastmcp"])
def test_a_server_over_stdio(stack, era):
    command = [sys.executable, stdio_server.__file__, stack]
    check(asyncio.run(told(era, command=command, calls=CALLS)))


def test_a_gateway_over_stdio(tmp_path, era):
    file = written(tmp_path / "policy.json", stdio_server.POLICY)
    bare = tmp_path / "bare.py"
    bare.write_text(
        "from mcp.server.mcpserver import MCPServer\n"
        "server = MCPServer('files', log_level='CRITICAL')\n"
        "@server.tool()\ndef ls(path: str = '/') -> str:\n    return path\n"
        "@server.tool()\ndef rm(path: str) -> str:\n    return f'gone {path}'\n"
        "@server.tool()\ndef secret() -> str:\n    return 'secret'\n"
        "server.run()\n"
    )
    gateway = [sys.executable, "-m", "mcp_policy", "gateway", "--policy", file, "--", sys.executable, str(bare)]
    check(asyncio.run(told(era, command=gateway, calls=CALLS)))


def engine(document: Any = stdio_server.POLICY) -> PolicyEngine:
    return PolicyEngine(Policy.model_validate(document))


def sdk(*, guarded: bool = True) -> Any:
    server = MCPServer("files", log_level="CRITICAL")
    for tool in TOOLS:
        server.add_tool(tool)
    return (guard_server(server, engine()) if guarded else server).streamable_http_app()


def fast() -> Any:
    server = FastMCP("files", middleware=[PolicyMiddleware(engine())])
    for tool in TOOLS:
        server.tool(tool)
    return server.http_app()


def around() -> Any:
    return PolicyASGIMiddleware(sdk(guarded=False), engine())


@pytest.mark.parametrize("app", [sdk, fast, around])
def test_a_server_over_http(app, era):
    async def run() -> Any:
        async with served(app()) as url:
            return await told(era, url=url, calls=CALLS)

    check(asyncio.run(run()))


@pytest.mark.parametrize("stack", [MCPServer, FastMCP])
@pytest.mark.parametrize(
    ("says", "runs"), [({"action": "accept", "content": {"approve": True}}, True), ({"action": "decline"}, False)]
)
def test_its_user_is_asked_in_the_middle_of_a_call(stack, era, says, runs):
    rules = engine(policy(tools={"rm": {"action": "approve", "reason": "gone is gone"}}))
    server = stack("files")
    if stack is MCPServer:
        server.add_tool(stdio_server.rm)
        app = guard_server(server, rules, approver=ask_client()).streamable_http_app()
    else:
        server.tool(stdio_server.rm)
        server.add_middleware(PolicyMiddleware(rules, approver=ask_client()))
        app = server.http_app()

    async def run() -> Any:
        async with served(app) as url:
            return await told(era, url=url, calls=[["rm", {"path": "/x"}]], says=says)

    found = asyncio.run(run())
    (answer,) = found["answers"]
    assert "gone is gone" in found["asked"][0]
    assert answer.get("isError", False) is not runs
    assert ("gone /x" in answer["content"][0]["text"]) is runs
