"""Servers of other people behind the gateway, as their users would run them: what is allowed happens, what is denied does not."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from integration import npm, servers
from integration.gateways import connected, policy, written
from integration.stacks import ERAS, listed_by, text


@pytest.fixture(params=ERAS)
def era(request) -> str:
    return request.param


def package(name: str, *arguments: str) -> list[str]:
    """Return the command of an npm package's server."""
    home = npm.folder() / "node_modules" / "@modelcontextprotocol" / name
    return [npm.node(), str(home / "dist" / "index.js"), *arguments]


def talk(tmp_path: Path, rules: dict[str, Any], command: list[str], era: str, work: Any) -> Any:
    file = written(tmp_path / "policy.json", policy(**rules))

    async def run() -> Any:
        async with connected(["--policy", file, "--", *command], era) as client:
            return await work(client)

    return asyncio.run(run())


def test_files_are_written_where_the_policy_says(tmp_path, era):
    root = tmp_path.resolve() / "data"
    (root / "open").mkdir(parents=True)
    rules = {
        "hide": ["move_file"],
        "tools": {
            "write_file": {"require": [{"path": "args.path", "op": "within", "value": f"{root}/open"}]},
            "edit_file": {"action": "deny", "reason": "files are written, not edited"},
        },
    }

    async def work(client: Any) -> tuple[list[str], list[Any]]:
        calls = [
            ("write_file", {"path": f"{root}/open/a.txt", "content": "hello"}),
            ("write_file", {"path": f"{root}/b.txt", "content": "hello"}),
            ("write_file", {"path": f"{root}/open/../c.txt", "content": "hello"}),
            ("edit_file", {"path": f"{root}/open/a.txt", "edits": [{"oldText": "hello", "newText": "bye"}]}),
            ("move_file", {"source": f"{root}/open/a.txt", "destination": f"{root}/d.txt"}),
        ]
        return await listed_by(client), [await client.call_tool(*call) for call in calls]

    names, answers = talk(tmp_path, rules, package("server-filesystem", str(root)), era, work)
    assert "write_file" in names
    assert "move_file" not in names
    assert "edit_file" not in names
    assert [answer.is_error for answer in answers] == [False, True, True, True, True]
    assert sorted(path.name for path in root.rglob("*")) == ["a.txt", "open"]
    assert (root / "open" / "a.txt").read_text() == "hello"
    assert text(answers[3]) == "[POLICY DENIED] files are written, not edited."
    assert text(answers[4]) == "Unknown tool: 'move_file'"


def test_memory_is_kept_and_not_deleted(tmp_path, era):
    rules = {"tools": {"delete_*": {"action": "deny"}, "create_entities": {"rate_limit": {"max": 1, "window": 60}}}}
    memory = tmp_path / "memory.jsonl"

    def ann(name: str) -> dict[str, Any]:
        return {"entities": [{"name": name, "entityType": "person", "observations": ["likes tea"]}]}

    async def work(client: Any) -> list[Any]:
        calls = [
            ("create_entities", ann("ann")),
            ("create_entities", ann("bob")),
            ("delete_entities", {"entityNames": ["ann"]}),
            ("read_graph", {}),
        ]
        return [await client.call_tool(*call) for call in calls]

    command = ["env", f"MEMORY_FILE_PATH={memory}", *package("server-memory")]
    created, limited, denied, graph = talk(tmp_path, rules, command, era, work)
    assert [created.is_error, limited.is_error, denied.is_error] == [False, True, True]
    assert text(limited).startswith("[POLICY LIMIT] ")
    assert "ann" in text(graph)
    assert [json.loads(line)["name"] for line in memory.read_text().splitlines()] == ["ann"]


def test_everything_works_but_for_what_is_denied(tmp_path, era):
    rules = {"tools": {"get-sum": {"deny_if": [{"path": "args.a", "op": "gt", "value": 100}]}}, "hide": ["get-env"]}

    async def work(client: Any) -> tuple[list[str], list[Any], list[Any]]:
        calls = [
            ("echo", {"message": "hi"}),
            ("get-sum", {"a": 2, "b": 3}),
            ("get-sum", {"a": 101, "b": 3}),
            ("get-sum", {"a": "101", "b": 3}),
            ("get-env", {}),
        ]
        resources = (await client.list_resources()).resources
        return await listed_by(client), [await client.call_tool(*call) for call in calls], resources

    names, answers, resources = talk(tmp_path, rules, package("server-everything", "stdio"), era, work)
    assert "get-env" not in names
    assert [answer.is_error for answer in answers] == [False, False, True, True, True]
    assert "5" in text(answers[1])
    assert "PATH" not in text(answers[4])
    assert resources, "resources pass"


def test_a_repository_is_added_to_and_not_reset(tmp_path, era):
    repository = tmp_path / "repository"
    git = ["git", "-C", str(repository), "-c", "user.name=t", "-c", "user.email=t@example.com"]
    subprocess.run(["git", "init", "-q", str(repository)], check=True)
    (repository / "a.txt").write_text("a")
    rules = {
        "tools": {
            "git_reset": {"action": "deny"},
            "git_add": {"require": [{"path": "args.files[*]", "op": "neq", "value": "."}]},
        }
    }

    async def work(client: Any) -> list[Any]:
        at = {"repo_path": str(repository)}
        calls = [
            ("git_add", {**at, "files": ["."]}),
            ("git_add", {**at, "files": ["a.txt"]}),
            ("git_reset", at),
            ("git_status", at),
        ]
        return [await client.call_tool(*call) for call in calls]

    answers = talk(tmp_path, rules, [servers.script("mcp-server-git")], era, work)
    assert [answer.is_error for answer in answers] == [True, False, True, False]
    staged = subprocess.run([*git, "diff", "--cached", "--name-only"], capture_output=True, text=True, check=True)
    assert staged.stdout.split() == ["a.txt"]
