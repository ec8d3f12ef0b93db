"""The contract of all stacks, for fastmcp 2, also as an ASGI app behind the policy."""

from __future__ import annotations

import logging

import pytest

from stacks import client_v1
from stacks.asgi import Asgi
from stacks.contract import Contract, HttpContract
from stacks.fastmcp_any import FASTMCP, MAJOR
from stacks.places import opened, places

PLACES = [
    *places(client_v1, {"fastmcp2": FASTMCP}),
    *places(client_v1, {"asgi-fastmcp2": Asgi(FASTMCP)}, over=["http"], lacks=["words", "questions"]),
]


@pytest.fixture(autouse=True, scope="module")
def quiet():
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


there = opened(PLACES)
web = opened([place for place in PLACES if place.transport == "http"])


def test_this_is_the_version():
    assert MAJOR == 2


class TestEverywhere(Contract):
    """At every place."""


class TestOverHttp(HttpContract):
    """Over HTTP."""
