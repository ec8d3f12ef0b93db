"""The command `mcp-policy explore`: what it serves and writes, and how it ends."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx2
import pytest

from mcp_policy import Policy, PolicyEngine, ToolCall
from mcp_policy.cli import main
from mcp_policy.stores import open_stores

TOOLS = {"tools": [{"name": "delete_page", "description": "Delete a page.", "inputSchema": {"type": "object"}}]}
SERVER = """
import sys
from mcp.server import MCPServer
server = MCPServer("little")
@server.tool()
def read_page(id: str) -> str:
    "Read a page."
    return id
server.run()
"""


@contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], httpx2.Client]]:
    """Start the command and yield its process, and a client that it has let in."""
    command = [sys.executable, "-m", "mcp_policy", "explore", "--no-browser", *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = next(line for line in process.stderr if "open http" in line)
            found = re.search(r"open (http://[^/]+)/(\?token=\S+)", line)
            assert found, line
            with httpx2.Client(base_url=found[1]) as http:
                assert http.get(f"/{found[2]}", follow_redirects=True).status_code == 200
                yield process, http
        finally:
            process.kill()


def said(capsys) -> str:
    return capsys.readouterr().err


def test_the_bundled_catalogue_is_served_where_nothing_is_named():
    with running() as (_, http):
        assert http.get("/").text.count("get_task_metrics") >= 1
        assert str(http.base_url.host) == "127.0.0.1"


def test_a_server_is_started_and_asked(tmp_path):
    script = tmp_path / "server.py"
    script.write_text(SERVER)
    with running("--", sys.executable, str(script)) as (_, http):
        page = http.get("/").text
    assert "read_page" in page
    assert "get_task_metrics" not in page


def test_the_policy_is_made_by_saving_it(tmp_path):
    tools, policy = tmp_path / "tools.json", tmp_path / "policy.json"
    tools.write_text(json.dumps(TOOLS))
    text = '{"version": "1", "tools": {"delete_page": {"action": "deny"}}}'
    with running("--tools", str(tools), "--policy", str(policy)) as (_, http):
        answer = http.post("/builder/save", headers=of_page(http), data={"text": text, "digest": ""})
        assert answer.status_code == 200, answer.text
        assert policy.read_text() == text


def of_page(http: httpx2.Client) -> dict[str, str]:
    """Return the headers that the builder's page sends with a request."""
    page = http.get("/builder.html").text
    found = re.search(r"x-csrf-token&#34;: &#34;(\w+)", page) or re.search(r'x-csrf-token":\s*"(\w+)', page)
    assert found
    return {"origin": str(http.base_url).rstrip("/"), "x-csrf-token": found[1]}


@pytest.mark.parametrize("policy", ["none", "not there yet", "the servers' own", "another"])
def test_calls_that_wait_in_a_store_are_decided(tmp_path, policy):
    text, url, path = (
        '{"version": "1", "tools": {"rm": {"action": "approve"}}}',
        f"sqlite:///{tmp_path}/s.db",
        tmp_path / "p",
    )
    with closing(open_stores(url)) as stores:
        server = PolicyEngine(Policy.parse(text), approvals=stores.approvals)
        approval = server.authorize(ToolCall("rm", {}, session="s")).approval
        assert approval is not None
        if policy in ("the servers' own", "another"):
            path.write_text(text if policy == "the servers' own" else '{"version": "1"}')
        more = [] if policy == "none" else ["--policy", str(path)]
        with running("--server", "clearml", "--store", url, *more) as (_, http):
            sent = {"id": approval.id, "approve": True, "note": "as discussed"}
            answer = http.post("/approvals/decide", headers=of_page(http), json=sent)
            assert answer.status_code == (409 if policy == "another" else 200), answer.text
        record = server.approval(approval.id)
        assert record is not None
        assert record.status == ("pending" if policy == "another" else "approved")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_it_ends_when_it_is_told_to(number):
    with running("--server", "clearml") as (process, _):
        process.send_signal(number)
        assert process.wait(30) == 128 + number
        assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--tools", "a.json", "--server", "b"], "only one of"),
        (["--server", "clearnl"], "did you mean `clearml`"),
        (["--tools", "nothing.json"], "nothing.json"),
        (["--policy", "policy.yaml", "--server", "clearml"], "JSON"),
        (["--policy", "nowhere/policy.json", "--server", "clearml"], "nowhere"),
        (["--server", "clearml", "--http", "8000"], "--http takes HOST:PORT"),
        (["--server", "clearml", "--http", "0.0.0.0:0"], "not all addresses"),
        (["--server", "clearml", "--store", "nothing://x"], "--store"),
        (["--server", "clearml", "--export", "x", "--store", "sqlite:///x"], "nothing is served"),
    ],
    ids=["two sources", "misspelt", "no file", "yaml", "no folder", "no address", "everywhere", "no store", "export"],
)
def test_what_cannot_be_used_is_said(tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(tmp_path)
    assert main(["explore", "--no-browser", *arguments]) == 2
    assert says in said(capsys)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_gives_no_list_is_told(capsys):
    assert main(["explore", "--no-browser", "--", sys.executable, "-c", "pass"]) == 1
    assert "gave no list of tools" in said(capsys)


def test_the_pages_are_written(tmp_path, capsys):
    tools, policy, site = tmp_path / "tools.json", tmp_path / "policy.json", tmp_path / "site"
    tools.write_text(json.dumps(TOOLS))
    policy.write_text('{"version": "1", "tools": {"delete_page": {"action": "hide"}}}')
    assert main(["explore", "--tools", str(tools), "--policy", str(policy), "--export", str(site)]) == 0
    assert "index.html" in said(capsys)
    assert "delete_page" in (site / "index.html").read_text()


def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path, capsys):
    (tmp_path / "precious").write_text("x")
    assert main(["explore", "--server", "clearml", "--export", str(tmp_path)]) == 1
    assert "--export" in said(capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_a_broken_policy_is_not_exported(tmp_path, capsys):
    policy = tmp_path / "policy.json"
    policy.write_text('{"version": "2", "tols": {}}')
    assert main(["explore", "--server", "clearml", "--policy", str(policy), "--export", str(tmp_path / "site")]) == 3
    told = said(capsys)
    assert "/version" in told
    assert "did you mean `tools`" in told
    assert not Path(tmp_path / "site").exists()
