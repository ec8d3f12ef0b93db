"""The official TypeScript SDK of both protocol eras, against guarded servers over stdio and streamable HTTP.

It checks structured content against a tool's output schema: a refusal's reason has to reach its user all the same.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal

from mcp_policy.answer import META_KEY
from npm.packages import home, talk
from stacks import client_v2
from stacks.asgi import Asgi
from stacks.fastmcp_any import FASTMCP
from stacks.gateway import TO_PROCESS
from stacks.mcp2 import MCP_SERVER
from stacks.places import Place, There, child
from stacks.world import World

SDKS = ("handshake", "modern")
STACKS = {"MCPServer": MCP_SERVER, "fastmcp4": FASTMCP, "gateway": TO_PROCESS, "asgi": Asgi(MCP_SERVER)}
POLICY = {
    "hide": ["secret"],
    "tools": {
        "ls": {"rate_limit": {"max": 2, "window": 3600}},
        "rm": {"deny_if": [{"path": "args.path", "op": "eq", "value": "/", "reason": "the root stays"}]},
        "transfer": {"action": "approve", "reason": "it is money"},
    },
}
X = {"path": "/tmp/x"}
CALLS: list[Any] = [
    *[("ls", X)] * 3,
    ("rm", X),
    ("rm", {"path": "/"}),
    ("failing", {}),
    ("secret", {}),
    ("zecret", {}),
    ("transfer", {"amount": 5}),
]


@pytest.fixture(autouse=True, scope="module")
def quiet():
    home()
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(params=SDKS)
def sdk(request) -> str:
    return request.param


@pytest.fixture(params=[name for name in STACKS if name != "asgi"])
def over_stdio(request, tmp_path) -> tuple[World, dict[str, Any]]:
    world = World(tmp_path)
    command, env = child(STACKS[request.param], world, guarded=True)
    return world, {"command": command, "env": env}


@pytest.fixture(scope="module", params=STACKS)
def served(request) -> Iterator[There]:
    place = Place(request.param, STACKS[request.param], "http", client_v2.ERAS[0], client_v2)
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        start_blocking_portal() as portal,
        There(place, portal, Path(folder)).running() as there,
    ):
        yield there


@pytest.fixture
def over_http(served) -> tuple[World, dict[str, Any]]:
    return served.world, {"url": served.url}


def check(world: World, plan: dict[str, Any], sdk: str) -> None:
    """Check what the user of the SDK gets."""
    world.begin(**POLICY)
    seen = talk(sdk, {**plan, "calls": CALLS})
    assert seen["tools"] == ["ls", "rm", "transfer"]
    answers = seen["answers"]
    texts = [text(answer) for answer in answers]
    assert texts[:2] == ["/tmp/x"] * 2
    assert answers[0]["structuredContent"] == {"result": "/tmp/x"}
    assert texts[2].startswith("[POLICY LIMIT] ")
    assert texts[3] == "gone /tmp/x"
    assert texts[4] == "[POLICY DENIED] the root stays."
    assert texts[5].startswith("[POLICY DENIED] ")
    assert "[POLICY" not in texts[6]
    assert texts[6] == texts[7].replace("zecret", "secret")
    assert texts[8].startswith("[POLICY APPROVAL REQUIRED] it is money. ")
    for place in (2, 4, 5, 8):
        assert answers[place]["isError"] is True
        assert "structuredContent" not in answers[place]
        assert answers[place]["_meta"][META_KEY]["effect"] in {"deny", "limit", "approve"}
    assert world.ran == [["ls", X], ["ls", X], ["rm", X]]


def text(answer: Any) -> str:
    return answer["thrown"] if "thrown" in answer else "".join(part["text"] for part in answer["content"])


def test_over_stdio(over_stdio, sdk):
    check(*over_stdio, sdk)


def test_over_http(over_http, sdk):
    check(*over_http, sdk)


def test_a_person_is_asked_in_the_middle_of_the_call(over_http, served, sdk):
    world, plan = over_http
    world.begin(**POLICY)
    answer = {"action": "accept", "content": {"approve": True}}
    seen = talk(sdk, {**plan, "answer": answer, "calls": [("transfer", {"amount": 5})] * 2})
    if served.place.id == "asgi" and sdk == "handshake":  # nobody can be asked from in front of the app
        assert [text(answer).partition("]")[0] for answer in seen["answers"]] == ["[POLICY APPROVAL REQUIRED"] * 2
        return
    assert [text(answer) for answer in seen["answers"]] == ["moved 5"] * 2
    assert len(seen["questions"]) == 2
    assert "it is money" in seen["questions"][0]
    assert world.ran == [["transfer", {"amount": 5}]] * 2


def test_a_person_says_no(over_http, served, sdk):
    world, plan = over_http
    world.begin(**POLICY)
    seen = talk(sdk, {**plan, "answer": {"action": "decline"}, "calls": [("transfer", {"amount": 5})] * 2})
    can_be_asked = not (served.place.id == "asgi" and sdk == "handshake")
    assert len(seen["questions"]) == can_be_asked
    assert ["rejected" in text(answer) for answer in seen["answers"]] == [can_be_asked] * 2
    assert world.ran == []
