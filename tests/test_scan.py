"""`mcp-policy scan`: what it reads, asks, prints and writes, with servers that behave oddly."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import mcp_policy
from mcp_policy import Policy, PolicyEngine, ToolCall, document
from mcp_policy.cli import _child, _listing, _progress, main, scan
from mcp_policy.cli._listing import Listing
from mcp_policy.cli._servers import Server, from_command, from_config, from_url

ODD = Path(__file__).parent / "integration" / "odd_server.py"
SCHEMA = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
READ = {"name": "read_file", "description": "Read a file.", "inputSchema": SCHEMA}
DELETE = {"name": "delete_file", "description": "Delete a file for good.", "inputSchema": SCHEMA}


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def odd(*arguments: str) -> list[str]:
    return ["--", sys.executable, str(ODD), *arguments]


def put(name: str, tree: object) -> str:
    Path(name).write_text(tree if isinstance(tree, str) else json.dumps(tree))
    return name


def config(**modes: str) -> str:
    """Write an `mcp.json` with one odd server for each name."""
    entries = {name: {"command": sys.executable, "args": [str(ODD), mode]} for name, mode in modes.items()}
    return put("mcp.json", {"mcpServers": entries})


def scanned(capsys, *arguments: str) -> tuple[int, dict]:
    status = main(["scan", "--format", "json", *arguments])
    return status, json.loads(capsys.readouterr().out)


def failure(capsys, mode: str, *arguments: str) -> str:
    return failed_in(capsys, "--config", config(odd=mode), *arguments)


def failed_in(capsys, *arguments: str) -> str:
    status, data = scanned(capsys, *arguments)
    (server,) = data["servers"]
    assert status == 1
    assert server["tools"] == []
    return server["failure"]


# -- what is found


def test_the_tools_of_a_server_by_risk(capsys):
    assert main(["scan", *odd("fine")]) == 0
    said = capsys.readouterr()
    lines = said.out.splitlines()
    assert lines[0] == "2 tools of 1 server"
    (delete,) = (number for number, line in enumerate(lines) if " delete_file " in line)
    (read,) = (number for number, line in enumerate(lines) if " read_file " in line)
    assert delete < read
    assert re.match(r"critical +destructive +delete_file +\d+% +name: delete", lines[delete])
    assert re.match(r"medium +read +read_file +\d+%", lines[read])
    assert "categories  1 destructive, 1 read" in said.out
    assert "levels      1 critical, 1 medium" in said.out
    assert re.search(r"2 tools in \d+\.\d s", said.err)


@pytest.mark.parametrize("format", ["text", "markdown", "html", "json"])
def test_every_format_shows_nothing_raw(capsys, format):
    assert main(["scan", "--format", format, *odd("unseen")]) == 0
    out = capsys.readouterr().out
    assert not {"\x1b", "\u202e", "\u200b"} & set(out)
    assert "secrecy" in out or "keep something from the user" in out


def test_what_programs_get(capsys):
    status, data = scanned(capsys, *odd("fine"))
    assert status == 0
    assert data["totals"] == {
        "tools": 2,
        "categories": {"destructive": 1, "read": 1},
        "levels": {"critical": 1, "medium": 1},
        "warnings": 0,
    }
    (server,) = data["servers"]
    assert (server["server"], server["introduced"], server["failure"]) == ("odd", "odd", None)
    assert [tool["tool"] for tool in server["tools"]] == ["delete_file", "read_file"]
    assert server["tools"][0]["evidence"][0] == ["name", "delete", "destructive"]
    assert {tool["catalogue"] for tool in server["tools"]} == {"new"}


def test_a_scan_is_the_same_each_time(capsys):
    first = scanned(capsys, "--tools", put("tools.json", [READ, DELETE]))
    assert scanned(capsys, "--tools", "tools.json") == first


@pytest.mark.parametrize(
    ("tree", "name"),
    [
        ([READ], "tools"),
        ({"tools": [READ]}, "tools"),
        ({"tools": [READ], "nextCursor": None}, "tools"),
        ({"server": "files", "tools": [READ]}, "files"),
        ({"jsonrpc": "2.0", "id": 1, "result": {"tools": [READ]}}, "tools"),
    ],
)
def test_tools_from_a_file(capsys, monkeypatch, tree, name):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    status, data = scanned(capsys, "--tools", put("tools.json", tree))
    assert (status, data["servers"][0]["server"], data["totals"]["tools"]) == (0, name, 1)


def test_what_the_catalogue_knows(capsys):
    _, data = scanned(capsys, "--name", "clearml", "--tools", put("tools.json", [{"name": "get_task_info"}, READ]))
    assert {tool["tool"]: tool["catalogue"] for tool in data["servers"][0]["tools"]} == {
        "get_task_info": "changed",
        "read_file": "new",
    }


def test_a_server_that_has_no_tools(capsys):
    status, data = scanned(capsys, *odd("no_tools"))
    assert (status, data["totals"]["tools"]) == (0, 0)


def test_all_pages_are_read(capsys):
    status, data = scanned(capsys, *odd("pages"))
    assert (status, data["totals"]["tools"]) == (0, 2)


def test_output_that_is_no_message_is_left_out(capsys):
    status, data = scanned(capsys, *odd("chatty"))
    assert (status, data["totals"]["tools"]) == (0, 2)


def test_a_server_of_the_first_protocols_gets_its_handshake(capsys):
    status, data = scanned(capsys, *odd("fragile"))
    assert (status, data["totals"]["tools"]) == (0, 2)


# -- what goes wrong with a server


def test_a_server_that_fails_does_not_stop_the_others(capsys):
    status, data = scanned(capsys, "--config", config(good="fine", bad="dies", other="fine"))
    assert status == 1
    assert {server["server"]: len(server["tools"]) for server in data["servers"]} == {"good": 2, "bad": 0, "other": 2}


def test_why_a_server_failed_is_said(capsys):
    assert main(["scan", "--config", config(good="fine", bad="dies")]) == 1
    said = capsys.readouterr()
    assert "2 tools of 1 server\n" in said.out
    assert re.search(r"bad +it ended before it had answered, with status 1; it said: no key: set ODD_KEY", said.out)
    assert "bad: failed: it ended before it had answered" in said.err


def test_a_command_that_is_not_there(capsys):
    assert main(["scan", "--", "no-such-command"]) == 1
    assert "`no-such-command` is not there" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        ("endless", "its list has more than 500 pages"),
        ("circles", "its list goes round in circles: it gave the same cursor again"),
        ("many", "it lists more than 10,000 tools"),
        ("floods", "it wrote a line of more than 8 MiB"),
        ("unnamed", "entry 2 of the list: a tool's definition has to have a `name`"),
        ("not_a_list", ""),
    ],
)
def test_hostile_servers_are_held_to_bounds(capsys, mode, reason):
    assert reason in failure(capsys, mode)


def test_a_giant_description_is_reported(capsys):
    status, data = scanned(capsys, *odd("giant"))
    (tool,) = data["servers"][0]["tools"]
    assert status == 0
    assert "oversized" in {warning["code"] for warning in tool["warnings"]}
    assert len(json.dumps(data)) < 3000


def test_tools_that_share_a_name_are_reported(capsys):
    status, data = scanned(capsys, *odd("twice"))
    tools = data["servers"][0]["tools"]
    assert status == 0
    assert [tool["category"] for tool in tools] == ["destructive", "read"]
    assert all("duplicate" in {warning["code"] for warning in tool["warnings"]} for tool in tools)


def test_a_silent_server_is_given_up_and_ended(capsys):
    assert failure(capsys, "silent", "--timeout", "0.5") == "it did not answer within 0.5 s"


def is_running(pid: str) -> bool:
    """Tell whether a process is there and not only waiting for its parent to hear of its end."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", pid], capture_output=True, text=True, check=False).stdout
    return state.strip() not in ("", "Z", "Zs", "Z+")


def test_nothing_of_a_server_is_left_running(capsys):
    assert failed_in(capsys, "--timeout", "2", *odd("parent", "pids")) == "it did not answer within 2 s"
    pids = Path("pids").read_text().split()
    assert len(pids) == 2
    assert not any(map(is_running, pids))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_scan_leaves_nothing_running(number):
    command = [sys.executable, "-m", "mcp_policy", "scan", *odd("parent", "pids")]
    environment = os.environ | {"PYTHONPATH": str(Path(mcp_policy.__file__).parent.parent)}
    os.mkfifo("pids")
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        pids = Path("pids").read_text().split()  # waits for them to be written
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert len(pids) == 2
    assert not any(map(is_running, pids))


def test_no_secret_is_shown(capsys, monkeypatch):
    monkeypatch.setenv("MY_KEY", "s3cr3t-value")
    entry = {"command": sys.executable, "args": [str(ODD), "dies"], "env": {"ODD_KEY": "${MY_KEY}"}}
    assert main(["scan", "--config", put("mcp.json", {"mcpServers": {"a": entry}})]) == 1
    said = capsys.readouterr()
    assert "set ODD_KEY, not ***" in said.out
    assert "s3cr3t" not in said.out + said.err


@pytest.mark.parametrize("url", ["http://user:s3cr3t@127.0.0.1:9/mcp", "http://127.0.0.1:9/mcp?key=s3cr3t"])
def test_no_secret_of_an_address_is_shown(capsys, url):
    assert main(["scan", "--upstream", url, "--header", "Authorization=Bearer s3cr3t"]) == 1
    said = capsys.readouterr()
    assert "s3cr3t" not in said.out + said.err


SECRET = "s3cr3t-v4lue-t0ken"


@pytest.mark.parametrize(
    "entry",
    [
        {"command": "x", "env": {"A": SECRET}},
        {"command": "x", "env": {"A": f"Bearer {SECRET}"}},
        {"command": "x", "env": {"A": f"postgres://ann:{SECRET}@db.example/a"}},
        {"command": "x", "args": ["--key=${KEY}"]},
        {"command": "x", "args": ["${NONE:-" + SECRET + "}"]},
        {"url": "https://a.example/${KEY}"},
        {"url": f"https://a.example/mcp?a=b&key={SECRET}"},
        {"url": f"https://{SECRET}:x@a.example/mcp"},
        {"url": "https://a.example", "headers": {"Authorization": "Bearer ${KEY}"}},
        {"url": "https://a.example", "headers": {"X-Of-Mine": f"~ {SECRET}"}},
        {"url": "https://a.example", "headers": {"Authorization": f"bearer  {SECRET}"}},
        {"url": "https://a.example", "headers": {"Cookie": f'a=b; session="{SECRET}"'}},
    ],
)
def test_every_form_of_a_secret_is_masked(entry):
    server = one(entry, KEY=SECRET)
    told = _listing._told(OSError(f"no entry for <{SECRET}>"), server)
    assert told == "OSError: no entry for <***>"
    assert SECRET not in _listing._told(FileNotFoundError(2, "", f"/opt/{SECRET}"), server)


def test_a_secret_may_look_like_a_path():
    assert one({"command": "x", "env": {"API_KEY": "/a+b/c==", "FOLDER": "/srv/data"}}).secrets == {
        "/a+b/c==",
        "/a+b/c",
    }


def test_what_is_handed_on_is_masked():
    (server,) = from_config({"mcpServers": {"a": {"command": "x"}}}, {"USER": "annette"}, Path(), {"A": SECRET})
    assert SECRET in server.secrets
    assert "annette" not in server.secrets


def test_secrets_that_overlap_are_masked_as_one():
    server = Server("a", secrets=frozenset({"abcdef", "defghi", "fghi"}))
    assert _listing._told(OSError("<abcdefghi>abcdef"), server) == "OSError: <***>***"


@pytest.mark.parametrize("secret", ["two\nlines-of-it", "un\u200bseen", "s3cr3t" * 100])
def test_secrets_are_masked_before_anything_is_cut_or_escaped(secret):
    server = Server("a", secrets=frozenset({secret}))
    assert _listing._told(OSError("x" * 20 + secret), server) == f"OSError: {'x' * 20}***"
    assert _listing._quoted(words(secret + "x" * 290), server) == f"; it said: ***{'x' * 290}"
    assert _listing._quoted(words(f"\x1b[31m{secret[:3]}\x1b[0m{secret[3:]}"), server) == "; it said: ***"


def words(*written: str) -> _child.Child:
    """Return a child that has written this to its standard error."""
    child = _child.Child(None)
    for part in written:
        child.pipe_data_received(2, part.encode())
    return child


def test_the_rest_of_a_secret_is_no_last_word():
    server = Server("a", secrets=frozenset({SECRET}))
    for kept in range(1, len(SECRET)):
        child = words("x" * 9000, SECRET, "\n" * (_child._KEPT_OF_STDERR - kept - 5) + "ended")
        assert _listing._quoted(child, server) == "; it said: ended"


def test_a_reason_has_a_bound():
    assert len(_listing._told(OSError("x" * 100_000), Server("a"))) < 400


def test_servers_get_the_variables_that_are_theirs(capsys, monkeypatch):
    monkeypatch.setenv("CLOUD_SECRET", "s3cr3t-value")
    monkeypatch.setenv("HANDED_ON", "yes")
    entry = {"command": sys.executable, "args": [str(ODD), "environment"], "env": {"OWN": "${HANDED_ON}!"}}
    (server,) = from_config({"mcpServers": {"a": entry}}, os.environ, Path(), {"HANDED_ON": "yes"})
    assert server.env["OWN"] == "yes!"
    assert server.env["HANDED_ON"] == "yes"
    assert server.env["PATH"] == os.environ["PATH"]
    assert "CLOUD_SECRET" not in server.env
    assert from_command("a", ["x"], os.environ).env["CLOUD_SECRET"] == "s3cr3t-value"


# -- what clients are configured with


def servers(tree: object, environ: dict[str, str] | None = None) -> dict[str, Server]:
    return {server.name: server for server in from_config(tree, environ or {"HOME": "/home/ann"}, Path("/etc/mcp"))}


def one(entry: object, **environ: str) -> Server:
    return servers({"mcpServers": {"a": entry}}, environ)["a"]


def test_servers_as_clients_configure_them():
    read = one(
        {"command": "npx", "args": ["-y", "${NAME}", "${env:NAME}", "${NONE:-b}"], "cwd": "work", "env": {"N": 1}},
        NAME="n",
    )
    assert read.command == ("npx", "-y", "n", "n", "b")
    assert read.cwd == "/etc/mcp/work"
    assert read.env == {"N": "1"}
    remote = one({"url": "https://a.example/mcp", "headers": {"Authorization": "Bearer ${KEY}"}}, KEY="123456")
    assert (remote.kind, remote.headers) == ("any", {"Authorization": "Bearer 123456"})
    assert remote.secrets == {"Bearer 123456", "123456"}
    assert one({"type": "streamable-http", "url": "https://a.example"}).kind == "http"
    assert one({"type": "sse", "url": "https://a.example"}).kind == "sse"
    assert one({"command": "x"}).kind == "stdio"


@pytest.mark.parametrize("tree", [{"servers": {"a": {"command": "x"}}}, {"mcp": {"servers": {"a": {"command": "x"}}}}])
def test_the_files_of_other_clients_are_read(tree):
    assert servers(tree)["a"].command == ("x",)


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        ("npx", "not an object"),
        ({}, "either a `command` or a `url`"),
        ({"command": "x", "url": "y"}, "not both"),
        ({"command": ["x"]}, "its `command` is not a string"),
        ({"command": "x", "args": "-y"}, "its `args` is not a list of strings"),
        ({"command": "x", "args": [1]}, "its `args` is not a list of strings"),
        ({"command": "x", "env": {"A": []}}, "its `env` is not an object of strings"),
        ({"command": "x", "env": {"A": "${KEY}"}}, "its `env.A` needs the variable `KEY`, which is not set"),
        (
            {"command": "x", "args": ["${input:key}"]},
            "its `args` needs `${input:key}`, which only a client can fill in",
        ),
        ({"type": "stdio", "url": "y"}, 'its `type` is "stdio"'),
        ({"type": "carrier-pigeon", "command": "x"}, "its `type` is `carrier-pigeon`"),
    ],
)
def test_what_is_wrong_with_one_server_is_its_own(entry, problem):
    read = servers({"mcpServers": {"a": entry, "b": {"command": "x"}}})
    assert problem in read["a"].problem
    assert read["b"].problem is None


@pytest.mark.parametrize("entry", [{"command": "x", "disabled": True}, {"command": "x", "enabled": False}])
def test_disabled_servers_are_left_out_and_said(capsys, entry):
    path = put(
        "mcp.json", {"mcpServers": {"off": entry, "on": {"command": sys.executable, "args": [str(ODD), "fine"]}}}
    )
    assert main(["scan", "--config", path]) == 0
    assert re.search(r"off +disabled in the configuration", capsys.readouterr().out)


# -- what cannot be done

USAGE = [
    (["--config", "none.json"], "`none.json` cannot be read: no such file or directory"),
    (["--config", "."], "`.` cannot be read"),
    (["--config", "broken.json"], "broken.json:1:2: document: invalid_json"),
    (["--config", "twice.json"], "duplicate_key"),
    (["--config", "list.json"], "`list.json`: an MCP configuration is an object"),
    (["--config", "empty.json"], "found neither `mcpServers` nor `servers`"),
    (["--config", "nothing.json"], "no server is configured"),
    (["--tools", "empty.json"], "`empty.json`: has no list of `tools`"),
    (["--tools", "page.json"], "`page.json`: has a `nextCursor`: its list is not whole"),
    (["--tools", "answer.json"], "`answer.json`: has a `nextCursor`: its list is not whole"),
    (["--tools", "list.json", "--check", "empty.json"], "`empty.json`: document: missing_key"),
    (["--tools", "list.json", "--check", "none.json"], "`none.json` cannot be read"),
    (["--tools", "list.json", "--write", "list.json"], "--write: `list.json` is there already; --force replaces it"),
    (["--tools", "list.json", "--lock", "list.json"], "--lock: `list.json` is there already"),
    (
        ["--tools", "list.json", "--write", "no/folder.json"],
        "`no/folder.json` cannot be written: No such file or directory",
    ),
    ([], "say what to scan"),
    (["--tools", "list.json", "--config", "x"], "say what to scan: one of"),
    (["--tools", "list.json", "--", "x"], "say what to scan: one of"),
    (["--tools", "list.json", "--header", "A=b"], "--header goes with --upstream"),
    (["--upstream", "http://127.0.0.1:9", "--header", "secret"], "--header takes NAME=VALUE"),
    (["--tools", "list.json", "--env", "A"], "--env goes with --config"),
    (["--config", "x", "--name", "a"], "--name goes with one server"),
]


@pytest.mark.parametrize(("arguments", "message"), USAGE)
def test_what_cannot_be_done_is_said(capsys, arguments, message):
    put("broken.json", "{")
    put("twice.json", '{"mcpServers": {}, "mcpServers": {}}')
    put("list.json", [READ])
    put("page.json", {"tools": [READ], "nextCursor": ""})
    put("answer.json", {"jsonrpc": "2.0", "id": 1, "result": {"tools": [READ], "nextCursor": "2"}})
    put("empty.json", {})
    put("nothing.json", {"mcpServers": {}})
    assert main(["scan", *arguments]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert "Traceback" not in said.err
    assert Path("list.json").read_text() == json.dumps([READ])


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon"])
def test_a_timeout_is_a_number_of_seconds(capsys, seconds):
    with pytest.raises(SystemExit) as left:
        main(["scan", "--timeout", seconds, "--tools", "x"])
    assert left.value.code == 2
    assert "--timeout" in capsys.readouterr().err


def test_the_client_is_an_extra(capsys, monkeypatch):
    monkeypatch.setattr(scan, "find_spec", lambda name: None)
    assert main(["scan", *odd("fine")]) == 1
    assert 'pip install "mcp-policy[mcp]"' in capsys.readouterr().err


# -- what is written


def test_the_recommended_policy_is_written(capsys):
    assert main(["scan", "--tools", put("tools.json", [READ, DELETE]), "--write", "policy.json"]) == 0
    text = Path("policy.json").read_text()
    policy = Policy.load("policy.json")
    assert text == json.dumps(policy.document, indent=2) + "\n"
    engine = PolicyEngine(policy)
    assert engine.evaluate(ToolCall("read_file", {"path": "a"})).allowed
    assert engine.evaluate(ToolCall("delete_file", {"path": "a"})).effect == "approve"
    assert engine.evaluate(ToolCall("other_tool", {})).effect == "deny"
    assert "wrote the recommended policy to policy.json" in capsys.readouterr().err
    assert [path.name for path in Path().iterdir() if "partial" in path.name] == []


def test_a_policy_for_several_servers_has_sections(capsys):
    assert main(["scan", "--config", config(a="fine", b="pages"), "--write", "policy.json"]) == 0
    engine = PolicyEngine(Policy.load("policy.json"))
    assert engine.evaluate(ToolCall("read_file", {"path": "a"}, server="a")).allowed
    assert not engine.evaluate(ToolCall("read_file", {"path": "a"}, server="c")).allowed


def test_a_named_server_gets_a_section():
    assert main(["scan", "--name", "files", "--tools", put("tools.json", [READ]), "--write", "policy.json"]) == 0
    assert list(Policy.load("policy.json").document["servers"]) == ["files"]


def test_a_file_is_replaced_only_by_force():
    put("policy.json", "mine")
    arguments = ["scan", "--tools", put("tools.json", [READ]), "--write", "policy.json"]
    assert main(arguments) == 2
    assert Path("policy.json").read_text() == "mine"
    assert main([*arguments, "--force"]) == 0
    assert Policy.load("policy.json")


def test_a_server_that_failed_is_denied_and_not_locked(capsys):
    path = config(good="fine", bad="dies")
    assert main(["scan", "--config", path, "--write", "policy.json", "--lock", "tools.lock.json"]) == 1
    said = capsys.readouterr().err
    assert "denied as a whole, for want of a list: `bad`" in said
    assert "tools.lock.json was not written: it has to know every server, and there is no list of `bad`" in said
    assert not Path("tools.lock.json").exists()
    engine = PolicyEngine(Policy.load("policy.json"))
    assert not engine.evaluate(ToolCall("read_file", {"path": "a"}, server="bad")).allowed


def test_without_any_list_there_is_no_policy(capsys):
    assert main(["scan", "--config", config(bad="dies"), "--write", "policy.json"]) == 1
    assert "policy.json was not written: no server gave its list" in capsys.readouterr().err
    assert not Path("policy.json").exists()


UNLOCKABLE = {
    "a name must not be empty": [{**READ, "inputSchema": {"type": "object", "properties": {"": {}}}}],
    "a document has at most 1,000 bytes": [{"name": f"read_{number}"} for number in range(9)],
}


@pytest.mark.parametrize(("reason", "tools"), UNLOCKABLE.items())
def test_a_lock_that_could_not_be_checked_is_not_written(capsys, monkeypatch, reason, tools):
    monkeypatch.setattr(document, "MAX_BYTES", 1000)
    assert main(["scan", "--tools", put("tools.json", tools), "--lock", "tools.lock.json"]) == 1
    said = capsys.readouterr().err
    assert "tools.lock.json was not written, as --check could not read it: " in said
    assert reason in said
    assert not Path("tools.lock.json").exists()


# -- drift


@pytest.fixture
def lock() -> str:
    assert main(["scan", "--tools", put("tools.json", [READ, DELETE]), "--lock", "tools.lock.json"]) == 0
    return "tools.lock.json"


def test_nothing_changed(lock, capsys):
    status, data = scanned(capsys, "--tools", "tools.json", "--check", lock)
    assert (status, data["changes"]) == (0, [])


def test_a_change_fails_the_check(lock, capsys):
    put("tools.json", [{**READ, "description": "Delete a file.", "annotations": {"destructiveHint": True}}])
    assert main(["scan", "--tools", "tools.json", "--check", lock]) == 4
    out = capsys.readouterr().out
    assert re.search(r"tools +delete_file +gone +is not there any more", out)
    assert re.search(r"tools +read_file +description +the description changed", out)
    assert re.search(r"tools +read_file +annotations +the annotations changed: `destructiveHint` unsaid -> true", out)
    assert re.search(r"tools +read_file +risk raised +read -> destructive", out)


def test_a_server_that_is_silent_fails_the_check(capsys):
    assert (
        main(
            [
                "scan",
                *odd("fine"),
            ]
        )
        == 0
    )
    assert main(["scan", "--lock", "tools.lock.json", *odd("fine")]) == 0
    assert main(["scan", "--check", "tools.lock.json", *odd("fine")]) == 0
    assert main(["scan", "--check", "tools.lock.json", *odd("dies")]) == 4
    assert re.search(r"odd +server gone +did not answer", capsys.readouterr().out)


def test_a_server_that_is_not_configured_any_more_fails_the_check(capsys):
    assert main(["scan", "--config", config(a="fine", b="fine"), "--lock", "tools.lock.json"]) == 0
    assert main(["scan", "--config", config(a="fine", c="fine"), "--check", "tools.lock.json"]) == 4
    out = capsys.readouterr().out
    assert re.search(r"b +server gone +is in the lock file and was not scanned", out)
    assert re.search(r"c +new server +is not in the lock file", out)


def test_a_lock_of_tools_that_share_a_name_holds_both(capsys):
    assert main(["scan", "--lock", "tools.lock.json", *odd("twice")]) == 0
    assert main(["scan", "--check", "tools.lock.json", *odd("twice")]) == 0
    assert main(["scan", "--check", "tools.lock.json", *odd("pages")]) == 4


# -- on a terminal


class Terminal:
    encoding = "utf-8"

    def __init__(self) -> None:
        self.written = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.written += text
        return len(text)

    def flush(self) -> None: ...


LISTINGS = [
    Listing("good", (READ,), seconds=1.0),
    Listing("bad\x1b[2J", failure="no \u202ekey"),
    Listing("off", note="disabled"),
]


@pytest.mark.parametrize("has_rich", [True, False])
def test_progress_on_a_terminal(monkeypatch, has_rich):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    if not has_rich:
        monkeypatch.setitem(sys.modules, "rich.console", None)
    with _progress.progress([listing.server for listing in LISTINGS]) as report:
        for listing in LISTINGS:
            report(listing.server, None)
        for listing in LISTINGS:
            report(listing.server, listing)
    assert "1 tool in 1.0 s" in terminal.written
    assert "failed: no \\u202ekey" in terminal.written
    assert "left out: disabled" in terminal.written
    assert "\x1b[2J" not in terminal.written
    assert ("\x1b[" in terminal.written) == has_rich


# -- parts


def test_addresses_are_asked_in_both_ways():
    assert from_url("a", "https://a.example", {"K": "v"}).kind == "any"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ExceptionGroup("", [ExceptionGroup("", [OSError("no route")])]), "OSError: no route"),
        (PermissionError(13, "denied", "run.sh"), "`run.sh` may not be run"),
        (ValueError(), "ValueError"),
        (ValueError("one\ntwo"), "ValueError: one"),
    ],
)
def test_what_went_wrong_in_few_words(error, told):
    assert _listing._told(error, Server("a")) == told


@pytest.mark.parametrize(
    ("bound", "reason"), [("MAX_BYTES", "it wrote more than"), ("MAX_LINE", "it wrote a line of more than")]
)
def test_the_bound_is_one(monkeypatch, capsys, bound, reason):
    monkeypatch.setattr(_child, bound, 1000)
    assert reason in failure(capsys, "giant")


@pytest.fixture
def outside() -> Path:
    """A file that a link where we write leads to."""
    Path("outside").write_text("theirs")
    Path("policy.json").symlink_to("outside")
    return Path("outside")


def test_a_link_is_replaced_and_not_followed(outside):
    scan._put("policy.json", "ours", force=True)
    assert not Path("policy.json").is_symlink()
    assert (Path("policy.json").read_text(), outside.read_text()) == ("ours", "theirs")


@pytest.mark.parametrize("is_there", [True, False])
def test_without_force_a_link_is_left_alone(outside, is_there):
    if not is_there:
        outside.unlink()
    with pytest.raises(scan.UsageError, match="it is there already; --force replaces it"):
        scan._put("policy.json", "ours", force=False)
    assert Path("policy.json").is_symlink()
    assert outside.exists() == is_there
    assert not list(Path().glob(".*partial"))
