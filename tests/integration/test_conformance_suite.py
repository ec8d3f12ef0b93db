"""The official conformance suite: with a policy that allows everything, each check ends as it does without us."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fastmcp.client.transports import StreamableHttpTransport
from fastmcp.server import create_proxy

from mcp_policy import Policy, PolicyEngine
from mcp_policy.adapters.asgi import PolicyASGIMiddleware
from mcp_policy.adapters.gateway import Upstream, gateway
from mcp_policy.adapters.mcp import guard_server
from npm import packages
from stacks.conformance_server import app, make
from stacks.places import over_http
from stacks.world import NAME

# the suite is of the handshake era, and checks what is gone from the next
pytestmark = pytest.mark.filterwarnings("ignore:.* deprecated as of 2026-07-28")

Result = dict[str, list[tuple[str, str]]]
"""The checks of each scenario and how they ended, in order."""


def allowing() -> PolicyEngine:
    return PolicyEngine(Policy.model_validate({"version": "1", "default": "allow"}))


@asynccontextmanager
async def bare() -> AsyncIterator[Any]:
    yield app(make())


@asynccontextmanager
async def guarded() -> AsyncIterator[Any]:
    yield app(guard_server(make(), allowing()))


@asynccontextmanager
async def behind_asgi() -> AsyncIterator[Any]:
    yield PolicyASGIMiddleware(app(make()), allowing())


@asynccontextmanager
async def proxied() -> AsyncIterator[Any]:
    async with over_http(app(make())) as url:
        yield create_proxy(StreamableHttpTransport(url), name=NAME).http_app()


@asynccontextmanager
async def behind_gateway() -> AsyncIterator[Any]:
    async with over_http(app(make())) as url:
        upstream = Upstream(NAME, lambda: StreamableHttpTransport(url))
        async with gateway([upstream], allowing(), one_client=False) as server:
            yield server.http_app()


async def _checked(serving: Callable[[], AbstractAsyncContextManager[Any]], folder: Path) -> Result:
    async with serving() as served, over_http(served) as url:
        command = packages.script("@modelcontextprotocol/conformance")
        nowhere = asyncio.subprocess.DEVNULL
        suite = await asyncio.create_subprocess_exec(
            *command,
            "server",
            "--url",
            url,
            "--suite",
            "all",
            "--output-dir",
            str(folder),
            stdout=nowhere,
            stderr=nowhere,
        )
        await suite.wait()
    return _read(folder)


def _read(folder: Path) -> Result:
    found: Result = {}
    for file in sorted(folder.glob("*/checks.json")):
        scenario = re.sub(r"-\d{4}-\d\d-\d\dT.*", "", file.parent.name)
        found[scenario] = [(check["id"], check["status"]) for check in json.loads(file.read_text("utf-8"))]
    return found


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict[str, Result]:
    """Run the suite against all servers, side by side."""
    ways = (bare, guarded, behind_asgi, proxied, behind_gateway)
    packages.home()

    async def all_of_them() -> list[Result]:
        return await asyncio.gather(*(_checked(way, tmp_path_factory.mktemp(way.__name__)) for way in ways))

    logging.disable()
    try:
        return {way.__name__: result for way, result in zip(ways, asyncio.run(all_of_them()), strict=True)}
    finally:
        logging.disable(logging.NOTSET)


def ended(result: Result, status: str) -> set[str]:
    return {scenario for scenario, checks in result.items() if any(end == status for _, end in checks)}


def test_the_suite_has_something_to_check(results):
    assert len(results["bare"]) >= 30
    assert ended(results["bare"], "FAILURE") == set()


@pytest.mark.parametrize("way", ["guarded", "behind_asgi"])
def test_a_guard_changes_no_result(results, way):
    assert results[way] == results["bare"]


def test_the_gateway_does_what_a_bare_proxy_does(results):
    assert results["behind_gateway"] == results["proxied"]
