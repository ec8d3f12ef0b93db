"""Servers of other people behind the gateway, unmodified: what is allowed has its effect, and what is denied has none."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from integration.gateways import GATEWAY, connected, environment, written
from integration.servers import script
from integration.stacks import MODERN
from mcp_policy.answer import META_KEY
from mcp_policy.cli._clearml_api import TASKS, clearml_api
from npm import packages

Call = tuple[str, dict[str, Any]]


class Case(NamedTuple):
    """A server; a call that the policy allows, and what shows that it ran; one that it denies, and what shows that not."""

    command: list[str]
    tools: dict[str, Any]
    allowed: Call
    has_run: Callable[[str], object]
    denied: Call
    has_not_run: Callable[[str], object]
    env: dict[str, str] = {}  # noqa: RUF012  # nobody changes it


@contextmanager
def git(folder: Path) -> Iterator[Case]:
    repository = str(folder / "repository")

    def run(*command: str) -> str:
        return subprocess.run(["git", "-C", repository, *command], check=True, capture_output=True, text=True).stdout

    subprocess.run(["git", "init", "-q", repository], check=True)
    run("config", "user.name", "somebody")
    run("config", "user.email", "somebody@example.com")
    Path(repository, "file").write_text("text")
    run("add", "file")
    at = {"repo_path": repository}
    yield Case(
        [script("mcp-server-git")],
        {"git_status": {}, "git_commit": {"require": [{"path": "args.message", "op": "regex", "value": "^[A-Z]"}]}},
        ("git_commit", {**at, "message": "Say it in a sentence"}),
        lambda _: run("log", "--format=%s") == "Say it in a sentence\n",
        ("git_create_branch", {**at, "branch_name": "other"}),
        lambda _: run("branch", "--list", "other") == "",
    )


@contextmanager
def filesystem(folder: Path) -> Iterator[Case]:
    public, private = folder / "public", folder / "private"
    for made in (public, private):
        made.mkdir()
    rule = {"path": "args.path", "op": "within", "value": str(public), "reason": "files go into the public folder"}
    yield Case(
        [*packages.script("@modelcontextprotocol/server-filesystem"), str(folder)],
        {"read_text_file": {}, "write_file": {"require": [rule]}},
        ("write_file", {"path": str(public / "notes"), "content": "written"}),
        lambda _: (public / "notes").read_text() == "written",
        ("write_file", {"path": str(public / ".." / "private" / "notes"), "content": "written"}),
        lambda _: not (private / "notes").exists(),
    )


@contextmanager
def memory(folder: Path) -> Iterator[Case]:
    file = folder / "memory.jsonl"
    known = {"type": "entity", "name": "Ann", "entityType": "person", "observations": ["knows Bob"]}
    file.write_text(json.dumps(known) + "\n")
    entity = {"name": "Bob", "entityType": "person", "observations": ["knows Ann"]}
    yield Case(
        packages.script("@modelcontextprotocol/server-memory"),
        {"read_graph": {}, "create_entities": {}},
        ("create_entities", {"entities": [entity]}),
        lambda _: "knows Ann" in file.read_text(),
        ("delete_entities", {"entityNames": ["Ann"]}),
        lambda _: "knows Bob" in file.read_text(),
        {"MEMORY_FILE_PATH": str(file)},
    )


@contextmanager
def everything(folder: Path) -> Iterator[Case]:
    yield Case(
        packages.script("@modelcontextprotocol/server-everything"),
        {"echo": {}, "get-sum": {"require": [{"path": "args.b", "op": "lte", "value": 10}]}},
        ("get-sum", {"a": 2, "b": 3}),
        lambda text: "5" in text,
        ("get-env", {}),
        lambda text: "PATH" not in text,
    )


@contextmanager
def clearml(folder: Path) -> Iterator[Case]:
    home = {"HOME": str(folder), "CLEARML_CONFIG_FILE": str(folder / "clearml.conf")}
    (task, _), *_ = TASKS.items()
    with clearml_api() as api:
        yield Case(
            [sys.executable, "-m", "clearml_mcp.clearml_mcp"],
            {"get_task_metrics": {}},
            ("get_task_metrics", {"task_id": task}),
            lambda text: "0.52" in text and api.requests,
            ("list_models", {}),
            lambda _: not any(request.startswith("models.") for request in api.requests),
            {**home, **api.environment},
        )


CASES: list[Callable[[Path], AbstractContextManager[Case]]] = [clearml, everything, filesystem, git, memory]


def by_python(era: str) -> Callable[..., Any]:
    def talk(arguments: list[str], env: dict[str, str], calls: list[Call]) -> tuple[list[str], list[Any]]:
        async def over() -> tuple[list[str], list[Any]]:
            async with connected(arguments, era, env=env) as client:
                names = [tool.name for tool in (await client.list_tools()).tools]
                answers = [await client.call_tool(*call) for call in calls]
                return names, [
                    json.loads(answer.model_dump_json(by_alias=True, exclude_none=True)) for answer in answers
                ]

        return asyncio.run(asyncio.wait_for(over(), 100))

    return talk


def by_typescript(sdk: str) -> Callable[..., Any]:
    def talk(arguments: list[str], env: dict[str, str], calls: list[Call]) -> tuple[list[str], list[Any]]:
        seen = packages.talk(sdk, {"command": [sys.executable, *GATEWAY, *arguments], "env": env, "calls": calls})
        return seen["tools"], seen["answers"]

    return talk


CLIENTS = {
    "python": by_python(MODERN),  # in the other era: `test_gateway.py`
    "typescript-handshake": by_typescript("handshake"),
    "typescript-modern": by_typescript("modern"),
}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("case", CASES)
def test_behind_the_gateway(case, client, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    with case(work) as server:
        policy = written(tmp_path / "policy.json", {"version": "1", "tools": server.tools})
        passed = [part for name in server.env for part in ("--pass-env", name)]
        arguments = ["--policy", policy, *passed, "--", *server.command]
        names, answers = CLIENTS[client](arguments, environment(**server.env), [server.allowed, server.denied])
        texts = ["".join(part.get("text", "") for part in answer["content"]) for answer in answers]
        assert set(names) == set(server.tools)
        assert not answers[0].get("isError"), texts[0]
        assert server.has_run(texts[0]), texts[0]
        assert answers[1]["isError"] is True
        assert texts[1].startswith("[POLICY DENIED] ")
        assert answers[1]["_meta"][META_KEY]["effect"] == "deny"
        assert server.has_not_run(texts[1])
