"""What a gateway shares and keeps: its stores, its record, the people it asks. Real gateways, real commands."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from typing import Any

import pytest

from integration.gateways import connected, environment, policy, server, written
from integration.stacks import facts, text
from redis_servers import server as store_server

LIMITED = policy(tools={"ls": {"rate_limit": {"max": 2, "window": 3600, "per": "global"}}})
APPROVED = policy(tools={"rm": {"action": "approve", "reason": "it is gone then"}})


@pytest.fixture(params=["sqlite", "valkey"])
def store(request, tmp_path):
    """The address of a store that several processes share."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'state.db'}"
    else:
        with store_server(request.param) as running:
            yield running.url


def asked(coroutine: Any) -> Any:
    async def within() -> Any:
        async with asyncio.timeout(60):
            return await coroutine

    return asyncio.run(within())


def command(*arguments: str) -> tuple[int, str, str]:
    """Run a command of ours and return its status and what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "mcp_policy", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(),
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


async def pending(store: str) -> list[dict[str, Any]]:
    """What waits, once something does."""
    while True:
        status, out, err = await asyncio.to_thread(command, "approvals", "list", "--store", store, "--json")
        assert status == 0, err
        if found := json.loads(out)["approvals"]:
            return found


def test_gateways_share_their_limits(tmp_path, store):
    rules = written(tmp_path / "policy.json", LIMITED)
    arguments = ["--policy", rules, "--store", store, "--", *server()]

    async def talk() -> list[Any]:
        async with connected(arguments) as one, connected(arguments) as other:
            return [facts(await client.call_tool("ls", {})) for client in (one, other, one, other)]

    told = asked(talk())
    assert [fact and fact["codes"] for fact in told] == [None, None, ["rate_limited"], ["rate_limited"]]


def test_a_call_waits_until_somebody_decides_in_a_terminal(tmp_path, store):
    rules = written(tmp_path / "policy.json", APPROVED)
    arguments = ["--policy", rules, "--store", store, "--approver", "wait", "--", *server()]

    async def talk(decision: str) -> str:
        async with connected(arguments) as client:
            call = asyncio.create_task(client.call_tool("rm", {"path": f"/{decision}"}))
            (waiting,) = await pending(store)
            assert (waiting["tool"], waiting["reason"]) == ("rm", "it is gone then")
            decide = (decision, waiting["id"], "--store", store, "--by", "ann")
            assert (await asyncio.to_thread(command, "approvals", *decide))[0] == 0
            return text(await call)

    assert asked(talk("approve")) == "gone /approve"
    assert asked(talk("reject")).startswith("[POLICY APPROVAL REQUIRED] a person rejected this call")


def test_two_people_where_two_are_needed(tmp_path, store):
    rules = written(tmp_path / "policy.json", APPROVED)
    more = ["--approver", "wait", "--quorum", "2", "--may-approve", "ann", "--may-approve", "bob"]
    arguments = ["--policy", rules, "--store", store, *more, "--", *server()]

    async def talk() -> str:
        async with connected(arguments) as client:
            call = asyncio.create_task(client.call_tool("rm", {"path": "/x"}))
            (waiting,) = await pending(store)
            for name, status in (("eve", 1), ("ann", 0), ("ann", 1)):
                decide = ("approve", waiting["id"], "--store", store, "--by", name)
                assert (await asyncio.to_thread(command, "approvals", *decide))[0] == status
                assert not call.done()
            await asyncio.to_thread(command, "approvals", "approve", waiting["id"], "--store", store, "--by", "bob")
            return text(await call)

    assert asked(talk()) == "gone /x"


def test_a_store_that_is_not_there_refuses_what_it_would_have_to_count(tmp_path):
    rules = written(tmp_path / "policy.json", LIMITED)
    with store_server("valkey") as running:
        url = running.url
    arguments = ["--policy", rules, "--store", url, "--", *server()]

    async def talk() -> tuple[Any, str]:
        async with connected(arguments) as client:
            return facts(await client.call_tool("ls", {})), text(await client.call_tool("rm", {"path": "/x"}))

    told, ran = asked(talk())
    assert (told["effect"], told["codes"]) == ("limit", ["state_unavailable"])
    assert ran == "gone /x"


def test_every_decision_is_on_record(tmp_path):
    rules, record = written(tmp_path / "policy.json", LIMITED), tmp_path / "audit.jsonl"
    arguments = ["--policy", rules, "--audit", str(record), "--audit-required", "--", *server(name="files")]

    async def talk() -> None:
        async with connected(arguments) as client:
            for _ in range(3):
                await client.call_tool("ls", {})
            await client.call_tool("rm", {"path": "/secret-path"})

    asked(talk())
    asked(talk())
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    assert [(line["tool"], line["effect"]) for line in lines] == [
        *[("ls", "allow")] * 2,
        ("ls", "limit"),
        ("rm", "allow"),
    ] * 2
    assert "secret-path" not in record.read_text()
    assert lines[3]["keys"] == ["path"]
    assert command("audit", "verify", str(record))[0] == 0
    record.write_text(record.read_text().replace('"limit"', '"allow"', 1))
    status, out, _ = command("audit", "verify", str(record))
    assert status == 4
    assert "3" in out


def test_a_record_that_cannot_be_written_is_said_at_the_start(tmp_path):
    rules = written(tmp_path / "policy.json", LIMITED)
    record = tmp_path / "no" / "audit.jsonl"
    status, _, said = command("gateway", "--policy", rules, "--audit", str(record), "--", *server())
    assert status == 2
    assert said == f"mcp-policy gateway: `{record}.key` cannot be made: no such file or directory\n"


def test_the_page_is_served_to_this_machine_and_says_where(tmp_path):
    rules, talk = written(tmp_path / "policy.json", APPROVED), tmp_path / "talk"
    arguments = ["--policy", rules, "--approvals-page", "--approver", "wait", "--", *server()]

    async def steps() -> str:
        import httpx2

        async with connected(arguments, talk=talk) as client:
            link = re.search(r"http://127\.0\.0\.1:\d+/\?token=\S+", talk.read_text())
            assert link is not None
            call = asyncio.create_task(client.call_tool("rm", {"path": "/x"}))
            async with httpx2.AsyncClient(follow_redirects=True) as browser:
                assert (await browser.get(link[0].partition("?")[0])).status_code in {401, 403}
                assert (await browser.get(link[0])).status_code == 200
            call.cancel()
            return link[0]

    asked(steps())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--approver", "wait"], "--approver wait: nobody could decide; --approvals-page or --store lets somebody"),
        (["--approver", "page"], "--approver page goes with --approvals-page"),
        (["--audit-required"], "--audit-required and --audit-key-file go with --audit"),
        (["--store", "memory"], "--store: found no kind of store where the address of a store should be"),
        (["--store", "postgres://u:secret@h/db"], "--store: found `postgres:` where the address of a store should be"),
        (["--store", "sqlite://state.db"], "--store: a file of state is named with three slashes"),
        (["--approvals-page", "8000"], "--approvals-page takes HOST:PORT, such as `127.0.0.1:8000`, not `8000`"),
        (["--approvals-page", "0.0.0.0:0"], "so it is served to this machine only"),
        (["--quorum", "0"], "`quorum` is a number of people, at least 1"),
        (["--quorum", "2", "--may-approve", "ann"], "`quorum` asks for 2 people, and there are 1 `approvers`"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_does_not_go_together(tmp_path, options, said):
    rules = written(tmp_path / "policy.json", APPROVED)
    status, out, told = command("gateway", "--policy", rules, *options, "--", *server())
    assert (status, out) == (2, "")
    assert said in told
    assert "secret" not in told
    assert len(told.splitlines()) == 1
