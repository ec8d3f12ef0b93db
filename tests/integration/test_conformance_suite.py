"""The official conformance suite says the same of a server with an allow-all policy as of the same server without one."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from fastmcp.server import create_proxy

from integration import npm
from integration.conformance_server import server
from integration.web import served
from mcp_policy import Policy, PolicyEngine
from mcp_policy.adapters.asgi import PolicyASGIMiddleware
from mcp_policy.adapters.fastmcp import PolicyMiddleware
from mcp_policy.adapters.mcp import guard_server

# the suite asks for what the newest protocol version has given up
pytestmark = pytest.mark.filterwarnings("ignore:The (sampling|logging) capability is deprecated")

ALL = Policy.model_validate({"version": "1", "default": "allow"})


@pytest.fixture(autouse=True)
def quiet():
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


async def told(app: Any, results: Path) -> dict[str, list[tuple[str, str]]]:
    """Return what the suite says of an app: by scenario, each check and its outcome."""
    suite = npm.folder() / "node_modules" / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
    async with served(app) as url:
        arguments = [str(suite), "server", "--url", url, "--suite", "all", "--output-dir", str(results)]
        running = await asyncio.create_subprocess_exec(
            npm.node(), *arguments, cwd=results.parent, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        said, _ = await running.communicate()
    found = outcomes(results)
    assert len(found) >= 30, said.decode()
    return found


def outcomes(results: Path) -> dict[str, list[tuple[str, str]]]:
    """Return what the suite has left in a folder, without what depends on the time."""
    found = {}
    for file in sorted(results.glob("*/checks.json")):
        scenario = re.sub(r"-\d{4}-\d\d-\d\dT.*", "", file.parent.name).removeprefix("server-")
        checks = json.loads(file.read_text())
        found[scenario] = sorted((check["id"], check["status"]) for check in checks if check["status"] != "INFO")
    return found


def app_of(made: Any) -> Any:
    return made.streamable_http_app()


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> dict[str, list[tuple[str, str]]]:
    return asyncio.run(told(app_of(server()), tmp_path_factory.mktemp("bare") / "results"))


def test_the_suite_finds_a_server_that_it_can_judge(bare):
    said = [status for checks in bare.values() for _, status in checks]
    assert said.count("SUCCESS") >= 30
    assert ("tools-call-simple-text", "SUCCESS") in bare["tools-call-simple-text"]


def test_a_guard_changes_nothing(bare, tmp_path):
    app = app_of(guard_server(server(), PolicyEngine(ALL)))
    assert asyncio.run(told(app, tmp_path / "results")) == bare


def test_a_guard_around_the_app_changes_nothing(bare, tmp_path):
    app = PolicyASGIMiddleware(app_of(server()), PolicyEngine(ALL))
    assert asyncio.run(told(app, tmp_path / "results")) == bare


def test_a_guarded_proxy_is_as_a_bare_one(tmp_path):
    async def run(name: str, *middleware: Any) -> dict[str, list[tuple[str, str]]]:
        async with served(app_of(server())) as upstream:
            proxy = create_proxy(upstream, middleware=list(middleware))
            return await told(proxy.http_app(), tmp_path / name)

    guarded = asyncio.run(run("guarded", PolicyMiddleware(PolicyEngine(ALL))))
    assert guarded == asyncio.run(run("bare"))
