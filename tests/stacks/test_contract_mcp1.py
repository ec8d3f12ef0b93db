"""The contract of all stacks, for mcp 1.x: lowlevel servers, `FastMCP`, and an ASGI app of it behind the policy."""

from __future__ import annotations

import logging

import pytest

from stacks import client_v1
from stacks.asgi import Asgi
from stacks.contract import Contract, HttpContract
from stacks.mcp1 import FASTMCP, SERVER
from stacks.places import opened, places

PLACES = [
    *places(client_v1, {"Server": SERVER, "FastMCP": FASTMCP}),
    *places(client_v1, {"asgi-mcp1": Asgi(FASTMCP)}, over=["http"], lacks=["words", "questions"]),
]


@pytest.fixture(autouse=True, scope="module")
def quiet():
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


there = opened(PLACES)
web = opened([place for place in PLACES if place.transport == "http"])


class TestEverywhere(Contract):
    """At every place."""


class TestOverHttp(HttpContract):
    """Over HTTP."""
