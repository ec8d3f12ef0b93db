"""The contract of all stacks, for those that live in this environment: mcp 2.x, fastmcp 4, ASGI and the gateway."""

from __future__ import annotations

import logging

import pytest

from stacks import client_v2
from stacks.asgi import Asgi
from stacks.contract import Contract, HttpContract
from stacks.fastmcp_any import FASTMCP
from stacks.gateway import TO_ADDRESS, TO_PROCESS
from stacks.mcp2 import MCP_SERVER, SERVER
from stacks.places import opened, places

ASGI_LACKS = ["words", "questions"]  # an app that it cannot see into is not asked about names that nobody has
PLACES = [
    *places(client_v2, {"Server": SERVER, "MCPServer": MCP_SERVER, "fastmcp4": FASTMCP, "gateway": TO_PROCESS}),
    *places(client_v2, {"gateway-http": TO_ADDRESS}, over=["http"]),
    *places(client_v2, {"asgi-mcp": Asgi(MCP_SERVER), "asgi-fastmcp": Asgi(FASTMCP)}, over=["http"], lacks=ASGI_LACKS),
]


@pytest.fixture(autouse=True, scope="module")
def quiet():
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


there = opened(PLACES)
web = opened([place for place in PLACES if place.transport == "http" and place.stack is not TO_PROCESS])


class TestEverywhere(Contract):
    """At every place."""


class TestOverHttp(HttpContract):
    """Over HTTP."""
