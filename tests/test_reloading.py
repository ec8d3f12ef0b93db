"""A policy follows its file, whatever way that changes; looks are taken by hand where nothing else is tested."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mcp_policy.reloading
from mcp_policy import Policy, PolicyEngine, PolicyError, ToolCall
from mcp_policy.approvals.store import ApprovalError
from mcp_policy.reloading import _Follower, follow_policy, follow_policy_async, version

DEADLINE = 20.0  # seconds; reached only by a test that fails


def document(most: int, **more: Any) -> dict[str, Any]:
    return {"version": "1", "tools": {"ls": {"rate_limit": {"max": most, "window": 3600}}}, **more}


def write(path: Path, tree: dict[str, Any] | str) -> None:
    path.write_text(tree if isinstance(tree, str) else json.dumps(tree))


class World:
    """An engine that follows a file, and what it has said."""

    def __init__(self, path: Path) -> None:
        self.path = path
        write(path, document(1))
        self.engine = PolicyEngine(Policy.load(path))
        self.said: list[str] = []
        self.follower = _Follower(self.engine, path, self.said.append)

    def look(self, times: int = 2) -> list[str]:
        """Look as often as it takes, and return what is said meanwhile."""
        self.said.clear()
        for _ in range(times):
            self.follower.look()
        return [*self.said]

    @property
    def most(self) -> int | None:
        policy = self.engine.policy
        return None if policy is None else policy.document["tools"]["ls"]["rate_limit"]["max"]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "policy.json")


IN_FORCE = "has changed, and is in force"
STAYS = "is not taken, and the old policy stays in force"


# -- what is a change


def test_a_file_that_stays_as_it_is_changes_nothing(world: World) -> None:
    before = world.engine.policy
    assert world.look(5) == []
    assert world.engine.policy is before


def test_a_change_counts_as_a_whole_once_it_is_seen_twice(world: World) -> None:
    world.look()
    write(world.path, document(2))
    assert world.look(1) == []
    assert world.most == 1
    assert world.look(1) == [f"`{world.path}` {IN_FORCE}"]
    assert world.most == 2
    assert world.look(3) == []


def test_a_change_before_the_first_look_is_not_missed(tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    write(path, document(1))
    engine = PolicyEngine(Policy.load(path))
    write(path, document(2))
    follower = _Follower(engine, path, lambda line: None)
    follower.look()
    follower.look()
    assert engine.policy == Policy.load(path)


def test_an_engine_without_a_policy_gets_the_one_in_the_file(tmp_path: Path) -> None:
    write(tmp_path / "policy.json", document(1))
    engine = PolicyEngine()
    follower = _Follower(engine, tmp_path / "policy.json", lambda line: None)
    assert not engine.authorize(ToolCall("ls", session="s")).allowed
    follower.look()
    follower.look()
    assert engine.authorize(ToolCall("ls", session="s")).allowed


def test_what_is_being_written_is_left_alone(world: World) -> None:
    """A part of a YAML document can be a policy as well, and a looser one."""
    path = world.path.with_suffix(".yaml")
    write(path, "version: '1'\n")
    engine = PolicyEngine(Policy.load(path))
    follower = _Follower(engine, path, world.said.append)
    follower.look()
    follower.look()
    text = "version: '1'\ndefault: allow\nhide: [rm]\ntools: {rm: {action: deny}}\n"
    for length in range(1, len(text)):
        write(path, text[:length])
        follower.look()
        assert engine.policy == Policy.parse("version: '1'\n", "yaml")
    write(path, text)
    follower.look()
    follower.look()
    assert engine.policy == Policy.parse(text, "yaml")
    assert world.said == [f"`{path}` {IN_FORCE}"]


def test_a_file_that_changes_while_it_is_read_is_read_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.look()
    load, times, names = Policy.load, iter([2, 3]), iter([1, 2])

    class Meanwhile:
        @staticmethod
        def load(path: Path) -> object:
            found = load(path)
            write(path, document(next(times), name="x" * next(names)))
            return found

    write(world.path, document(9))
    with monkeypatch.context() as patched:
        patched.setattr(mcp_policy.reloading, "Policy", Meanwhile)
        assert world.look(3) == []
    assert world.most == 1
    assert world.look(2) == [f"`{world.path}` {IN_FORCE}"]
    assert world.most == 3


def test_a_change_of_the_same_size_and_time_is_seen(world: World) -> None:
    world.look()
    before = world.path.stat()
    write(world.path, document(2))
    os.utime(world.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert world.path.stat().st_size == before.st_size
    world.look()
    assert world.most == 2


def test_an_editor_that_puts_another_file_in_its_place(world: World) -> None:
    world.look()
    beside = world.path.with_name(".policy.json.swp")
    write(beside, document(2))
    beside.replace(world.path)
    world.look()
    assert world.most == 2


def test_a_link_that_is_moved_to_another_folder(tmp_path: Path) -> None:
    """As a config map is mounted: `policy.json` -> `..data/policy.json`, and `..data` is replaced."""
    for number in (1, 2):
        folder = tmp_path / f"..{number}"
        folder.mkdir()
        write(folder / "policy.json", document(number))
        os.utime(folder / "policy.json", ns=(0, 0))
    data, path = tmp_path / "..data", tmp_path / "policy.json"
    data.symlink_to("..1")
    path.symlink_to("..data/policy.json")
    engine = PolicyEngine(Policy.load(path))
    follower = _Follower(engine, path, lambda line: None)
    follower.look()
    follower.look()
    beside = tmp_path / "..data_tmp"
    beside.symlink_to("..2")
    beside.replace(data)
    follower.look()
    follower.look()
    assert engine.policy == Policy.model_validate(document(2))


# -- the start


def test_at_the_start_the_file_is_in_force_at_once(tmp_path: Path) -> None:
    path, said = tmp_path / "policy.json", list[str]()
    write(path, document(1))
    engine = PolicyEngine()
    with follow_policy(engine, path, every=3600, say=said.append):
        assert engine.policy == Policy.load(path)
    assert said == [f"`{path}` is in force"]


def test_at_the_start_a_file_as_it_is_known_is_nothing_to_tell(world: World) -> None:
    before = world.engine.policy
    with follow_policy(world.engine, world.path, every=3600, say=world.said.append):
        assert world.engine.policy is before
    assert world.said == []


def test_at_the_start_no_policy_is_told_once_and_denies_everything(tmp_path: Path) -> None:
    path, said = tmp_path / "policy.json", list[str]()
    write(path, "{")
    engine = PolicyEngine()
    follower = _Follower(engine, path, said.append)
    follower.start()
    for _ in range(3):
        follower.look()
    assert said[1:] == [f"`{path}` is not taken, and every call is denied"]
    assert said[0].startswith(f"{path}:1:2: document: invalid_json: ")
    assert not engine.authorize(ToolCall("ls", session="s")).allowed
    write(path, document(1))
    follower.look()
    follower.look()
    assert said[2:] == [f"`{path}` is in force"]


def test_a_change_right_after_the_first_reading_is_not_missed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even one that leaves every mark of the file as it was, as two writes in one tick of the clock do."""
    marks = version(world.path)
    monkeypatch.setattr(mcp_policy.reloading, "version", lambda path: marks)
    world.follower.start()
    write(world.path, document(2))
    assert world.look() == [f"`{world.path}` {IN_FORCE}"]
    assert world.most == 2


def test_a_policy_that_could_not_be_put_in_force_is_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(policy: Policy) -> None:
        raise MemoryError

    world.look()
    write(world.path, document(2))
    with monkeypatch.context() as patched:
        patched.setattr(world.engine, "reload", fails)
        assert world.look() == []
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert world.most == 1
    assert world.look(1) == [f"`{world.path}` {IN_FORCE}"]
    assert world.most == 2


# -- what is not taken


def test_what_is_no_policy_changes_nothing_and_is_told_with_every_problem(world: World) -> None:
    world.look()
    text = '{\n  "version": "1",\n  "tools": "none",\n  "deny\\nline": 1\n}'
    write(world.path, text)
    with pytest.raises(PolicyError) as wrong:
        Policy.parse(text)
    assert len(wrong.value.problems) == 2
    said = world.look()
    assert [line.split(": ")[:2] for line in said[:-1]] == [
        [f"{world.path}:3:12", "/tools"],
        [f"{world.path}:4:3", "/deny\\u000aline"],
    ]
    assert said[-1] == f"`{world.path}` {STAYS}"
    assert world.most == 1
    assert world.look(3) == [], "it is told once"


def test_a_mistake_that_is_taken_back_is_told_too(world: World) -> None:
    world.look()
    write(world.path, "{")
    assert world.look()
    write(world.path, document(1))
    assert world.look() == [f"`{world.path}` {IN_FORCE}"]


def test_a_file_that_goes_and_comes_back(world: World) -> None:
    world.look()
    world.path.unlink()
    assert world.look() == [
        f"`{world.path}` cannot be read: no such file or directory",
        f"`{world.path}` {STAYS}",
    ]
    assert world.most == 1
    write(world.path, document(2))
    assert world.look() == [f"`{world.path}` {IN_FORCE}"]
    assert world.most == 2


def test_a_file_that_is_away_for_a_moment_is_not_told(world: World) -> None:
    world.look()
    world.path.unlink()
    assert world.look(1) == []
    write(world.path, document(1))
    assert world.look() == []


@pytest.mark.parametrize("kind", ["folder", "pipe", "loop"])
def test_what_is_no_file_is_not_waited_for(world: World, kind: str) -> None:
    world.look()
    world.path.unlink()
    make: dict[str, Callable[[], None]] = {
        "folder": world.path.mkdir,
        "pipe": lambda: os.mkfifo(world.path),
        "loop": lambda: world.path.symlink_to(world.path),
    }
    make[kind]()
    assert len(world.look()) == 2
    assert world.most == 1


def test_a_file_that_is_too_large_is_not_taken(world: World) -> None:
    world.look()
    write(world.path, " " * (5 * 2**20))
    assert "too_large" in world.look()[0]
    assert world.most == 1


def test_whoever_is_told_may_fail_and_following_goes_on(world: World, caplog: pytest.LogCaptureFixture) -> None:
    def fails(line: str) -> None:
        raise RuntimeError("nobody listens")

    follower = _Follower(world.engine, world.path, fails)
    for most in (2, 3):
        write(world.path, document(most))
        follower.look()
        follower.look()
        assert world.most == most
    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2


# -- what stays, and what does not


def test_limits_keep_counting(world: World) -> None:
    call = ToolCall("ls", session="s")
    assert world.engine.authorize(call).allowed
    write(world.path, document(2))
    world.look()
    assert world.engine.authorize(call).allowed
    assert not world.engine.authorize(call).allowed


def test_approvals_of_the_old_policy_are_void(world: World) -> None:
    asks = {"version": "1", "tools": {"rm": {"action": "approve"}, "ls": {"rate_limit": {"max": 1, "window": 60}}}}
    write(world.path, asks)
    world.look()
    call = ToolCall("rm", session="s")
    waiting = world.engine.authorize(call).approval
    assert waiting is not None
    world.engine.approve(waiting.id, by="ann")
    write(world.path, {**asks, "default": "allow"})
    world.look()
    again = world.engine.authorize(call)
    assert not again.allowed
    assert again.approval is not None
    assert again.approval.id != waiting.id
    with pytest.raises(ApprovalError):
        world.engine.approve(waiting.id, by="ann")


# -- followed for real


def test_a_thread_follows_until_the_end_of_the_block(tmp_path: Path) -> None:
    path, told, said = tmp_path / "policy.json", threading.Event(), list[str]()
    write(path, document(1))
    engine = PolicyEngine(Policy.load(path))

    def say(line: str) -> None:
        said.append(line)
        told.set()

    with follow_policy(engine, path, every=0.01, say=say):
        write(path, document(20))
        assert told.wait(DEADLINE)
    assert said == [f"`{path}` {IN_FORCE}"]
    assert engine.policy == Policy.load(path)
    assert "mcp-policy-reload" not in {thread.name for thread in threading.enumerate()}


def test_a_block_that_fails_ends_it_as_well(tmp_path: Path) -> None:
    with pytest.raises(KeyError), follow_policy(PolicyEngine(), tmp_path / "none.json"):
        raise KeyError
    assert "mcp-policy-reload" not in {thread.name for thread in threading.enumerate()}


def test_a_task_follows_until_it_is_cancelled(tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    write(path, document(1))
    engine = PolicyEngine(Policy.load(path))

    async def steps() -> list[str]:
        loop, said, told = asyncio.get_running_loop(), list[str](), asyncio.Event()

        def say(line: str) -> None:
            said.append(line)
            loop.call_soon_threadsafe(told.set)

        following = asyncio.create_task(follow_policy_async(engine, path, every=0.01, say=say))
        write(path, document(20))
        await asyncio.wait_for(told.wait(), DEADLINE)
        following.cancel()
        with pytest.raises(asyncio.CancelledError):
            await following
        return said

    assert asyncio.run(steps()) == [f"`{path}` {IN_FORCE}"]
    assert engine.policy == Policy.load(path)


def test_it_is_logged_where_nobody_is_to_be_told(world: World, caplog: pytest.LogCaptureFixture) -> None:
    follower = _Follower(world.engine, world.path, mcp_policy.reloading._logged)
    write(world.path, document(2))
    follower.look()
    follower.look()
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("mcp_policy", logging.WARNING)
    assert record.getMessage() == f"`{world.path}` {IN_FORCE}"


@pytest.mark.parametrize("every", [0, -1, float("nan"), float("inf"), 1e12], ids=str)
def test_no_time_between_looks_is_refused(every: float) -> None:
    with pytest.raises(ValueError, match="`every`"), follow_policy(PolicyEngine(), "policy.json", every=every):
        pass
    with pytest.raises(ValueError, match="`every`"):
        asyncio.run(follow_policy_async(PolicyEngine(), "policy.json", every=every))
