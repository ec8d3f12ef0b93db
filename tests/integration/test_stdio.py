"""Guarded servers as child processes, and the demo as a user runs it."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

import mcp_policy
from integration.stacks import ERAS, facts, listed_by, text

SOURCE = str(Path(mcp_policy.__file__).parent.parent)
CALLS: list[tuple[str, dict[str, Any]]] = [
    *[("ls", {})] * 3,
    ("rm", {"path": "/tmp/x"}),
    ("rm", {"path": "/"}),
    ("secret", {}),
    ("none", {}),
]
SERVER = Path(__file__).with_name("stdio_server.py")


@pytest.mark.parametrize("stack", ["mcp", "fastmcp"])
@pytest.mark.parametrize("era", ERAS)
def test_a_child_process_is_guarded(stack, era):
    child = StdioServerParameters(command=sys.executable, args=[str(SERVER), stack], env={"PYTHONPATH": SOURCE})

    async def talk(nowhere: Any) -> tuple[list[str], list[Any]]:
        async with Client(stdio_client(child, errlog=nowhere), mode=era, cache=None) as client:
            return await listed_by(client), [await client.call_tool(tool, arguments) for tool, arguments in CALLS]

    with Path(os.devnull).open("w") as nowhere:
        names, answers = asyncio.run(talk(nowhere))
    assert names == ["ls", "rm"]
    assert [answer.is_error for answer in answers] == [False, False, True, False, True, True, True]
    assert facts(answers[2])["effect"] == "limit"
    assert text(answers[3]) == "gone /tmp/x"
    assert text(answers[4]) == "[POLICY DENIED] the root stays."
    hidden, unknown = (answer.model_dump_json() for answer in answers[5:])
    assert hidden == unknown.replace("none", "secret")


DEMO = [sys.executable, "-m", "mcp_policy", "demo"]


def settings(home: Path) -> dict[str, str]:
    """Return the environment of somebody who has a ClearML configuration of their own."""
    home.joinpath("clearml.conf").write_text('api { api_server: "http://127.0.0.1:9" }')
    own = {"HOME": str(home), "CLEARML_API_HOST": "http://127.0.0.1:9", "PYTHONIOENCODING": "utf-8"}
    return {**os.environ, "PYTHONPATH": SOURCE, **own}


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def told(home) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        DEMO, capture_output=True, text=True, encoding="utf-8", env=settings(home), timeout=120, check=False
    )


def test_the_demo_tells_its_story(told):
    assert told.returncode == 0, told.stdout + told.stderr
    story = told.stdout
    assert "WRONG" not in story
    assert re.search(r"server +clearml-mcp \d+\.\d+\.\d+, unmodified", story)
    assert "14 tools" in story
    steps = re.findall(r"^(\d)\. .+$", story, re.MULTILINE)
    assert steps == ["1", "2", "3", "4", "5"]
    assert 'policy   {"version": "1", "default": "deny", "tools": {"get_task_metrics": {}}}' in story
    assert re.search(r"list +get_task_metrics$", story, re.MULTILINE)
    assert re.search(r'answer +{"loss":{"train":{"last_value":0.52,', story)
    assert "[POLICY DENIED] " in story
    assert '"rate_limit": {"max": 10, "window": 60}' in story
    assert "ok       ten calls ran" in story
    assert re.search(r"\[POLICY LIMIT\] .+ Retry in \d+ s\.$", story, re.MULTILINE)
    waiting = re.search(r"\[POLICY APPROVAL REQUIRED\] .+ Approval id: (\S+)$", story, re.MULTILINE)
    assert waiting is not None
    assert f"approves {waiting[1]}" in story
    assert story.count("   ok ") == 9
    assert story.endswith("All as it should be.\n")
    assert told.stderr == "", "no chatter"


def test_the_demo_leaves_the_users_own_configuration_alone(told, home):
    assert told.returncode == 0
    assert [path.name for path in home.iterdir()] == ["clearml.conf"]


def test_an_interrupted_demo_leaves_no_process_behind(tmp_path):
    demo = subprocess.Popen(
        DEMO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=settings(tmp_path), start_new_session=True
    )
    with demo:
        assert demo.stdout is not None
        assert any(line.startswith("2. ") for line in demo.stdout), "the child is up"
        demo.send_signal(signal.SIGINT)
        _, chatter = demo.communicate(timeout=60)
    assert demo.returncode == 130
    assert "Traceback" not in chatter
    with pytest.raises(ProcessLookupError):  # the group that it led is empty
        os.killpg(demo.pid, 0)
