"""The gateway as users run it: real processes, real clients of both eras, one server behind it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mcp_types import ElicitResult

from integration.gateways import (
    GATEWAY,
    ask,
    connected,
    environment,
    greet,
    is_running,
    policy,
    server,
    started,
    written,
)
from integration.servers import script
from integration.stacks import ERAS, HANDSHAKE, facts, listed_by, refused, text
from mcp_policy.cli import gateway as command

RULES = policy(
    hide=["secret"],
    tools={
        "rm": {"deny_if": [{"path": "args.path", "op": "eq", "value": "/", "reason": "the root stays"}]},
        "ls": {"rate_limit": {"max": 2, "window": 3600}},
    },
)


@pytest.fixture(params=ERAS)
def era(request) -> str:
    return request.param


@pytest.fixture
def rules(tmp_path) -> Path:
    written(tmp_path / "policy.json", RULES)
    return tmp_path / "policy.json"


def asked(coroutine: Any) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, 100))


# -- calls and lists


def test_a_server_that_knows_nothing_of_it_is_guarded(rules, era, tmp_path):
    async def talk() -> None:
        async with connected(["--policy", str(rules), "--", *server()], era, tmp_path / "talk") as client:
            names = await listed_by(client)
            assert "secret" not in names
            assert {"ls", "rm"} < set(names)
            answers = [await client.call_tool("ls", {"path": path}) for path in ("/a", "/b", "/c")]
            assert [text(answer) for answer in answers[:2]] == ["/a", "/b"]
            assert answers[0].structured_content == {"result": "/a"}
            assert refused(answers[2], "limit", "rate_limited").startswith("[POLICY LIMIT] ")
            assert text(await client.call_tool("rm", {"path": "/x"})) == "gone /x"
            assert text(await client.call_tool("rm", {"path": "/"})) == "[POLICY DENIED] the root stays."
            hidden = (await client.call_tool("secret", {})).model_dump_json()
            unknown = (await client.call_tool("zecret", {})).model_dump_json()
            assert hidden == unknown.replace("zecret", "secret")
            assert "Unknown tool: 'secret'" in hidden

    asked(talk())
    assert (tmp_path / "talk").read_text() == ""


@pytest.mark.parametrize("name", ["mcp-server-time", "mcp-server-git"])
def test_real_servers_of_the_first_era_serve_clients_of_both(tmp_path, era, name):
    repository = tmp_path / "repository"
    subprocess.run(["git", "init", "-q", str(repository)], check=True)
    calls = {
        "mcp-server-time": ("get_current_time", {"timezone": "Europe/Berlin"}, "Europe/Berlin", "convert_time"),
        "mcp-server-git": ("git_status", {"repo_path": str(repository)}, "No commits yet", "git_commit"),
    }
    tool, arguments, expected, forbidden = calls[name]
    rules = written(tmp_path / "policy.json", policy(tools={forbidden: {"action": "deny", "reason": "no"}}))

    async def talk() -> None:
        async with connected(["--policy", rules, "--", script(name)], era) as client:
            names = await listed_by(client)
            assert tool in names
            assert forbidden not in names
            assert expected in text(await client.call_tool(tool, arguments))
            assert refused(await client.call_tool(forbidden, {}), "deny", "denied_by_rule")

    asked(talk())


def test_what_a_server_says_of_itself_and_on_the_way_comes_through(rules, era):
    async def talk() -> None:
        heard: list[tuple[float, float | None, str | None]] = []

        async def hear(progress: float, total: float | None, message: str | None) -> None:
            heard.append((progress, total, message))

        async with connected(["--policy", str(rules), "--", *server()], era) as client:
            if era == HANDSHAKE:
                assert client.server_info.name == "files"
                assert client.instructions == "Be nice."
            assert text(await client.call_tool("count", {}, progress_callback=hear)) == "counted"
        assert heard == [(1.0, 2.0, "step 1"), (2.0, 2.0, "step 2")]

    asked(talk())


def test_a_servers_question_reaches_the_client(rules):
    async def answer(context: Any, params: Any) -> Any:
        return ElicitResult(action="accept", content={})

    async def talk() -> None:
        arguments = ["--policy", str(rules), "--", *server()]
        async with connected(arguments, HANDSHAKE, elicitation_callback=answer) as client:
            assert text(await client.call_tool("ls", {})) == "/", "a call before it"
            assert text(await client.call_tool("ask", {})) == "accept"
            assert text(await client.call_tool("ask", {})) == "accept"

    asked(talk())


def test_a_new_tool_is_known_as_soon_as_the_server_says_so(rules):
    async def talk() -> None:
        async with connected(["--policy", str(rules), "--", *server()], HANDSHAKE) as client:
            assert text(await client.call_tool("late", {})) == "Unknown tool: 'late'"
            assert text(await client.call_tool("grow", {})) == "grown"
            assert text(await client.call_tool("late", {})) == "secret"

    asked(talk())


def test_sections_of_the_policy_go_by_the_name_that_the_operator_gives(tmp_path):
    rules = written(
        tmp_path / "policy.json", policy(servers={"store": {"tools": {"rm": {"action": "deny", "reason": "no"}}}})
    )

    async def denied(*options: str) -> Any:
        talk = tmp_path / "talk"
        async with connected(["--policy", rules, *options, "--", *server(name="store")], talk=talk) as client:
            return facts(await client.call_tool("rm", {"path": "/"})), talk.read_text()

    told, said = asked(denied("--name", "store"))
    assert told is not None
    assert said == ""
    told, said = asked(denied())
    assert told is None, "what a server calls itself does not choose its rules"
    assert "a section for `store`, and here is only `python" in said


@pytest.mark.parametrize(
    ("action", "expected"),
    [("accept", "gone /x"), ("decline", "[POLICY APPROVAL REQUIRED] a person rejected this call")],
)
def test_the_clients_user_may_be_asked_to_approve(tmp_path, era, action, expected):
    rules = written(tmp_path / "policy.json", policy(tools={"rm": {"action": "approve"}}))

    async def answer(context: Any, params: Any) -> Any:
        assert "Run `rm`" in params.message
        return ElicitResult(action=action, content={"approve": True} if action == "accept" else None)

    async def call(*options: str) -> str:
        arguments = ["--policy", rules, *options, "--", *server()]
        async with connected(arguments, era, elicitation_callback=answer) as client:
            return text(await client.call_tool("rm", {"path": "/x"}))

    assert asked(call("--approver", "elicit")).startswith(expected)
    assert asked(call()).startswith("[POLICY APPROVAL REQUIRED] ")


# -- what a server is given


def test_a_server_gets_a_small_environment_and_what_is_named(rules):
    given = environment(DEPLOY_KEY="hush", PASSED="through")

    async def talk(*options: str) -> dict[str, str]:
        async with connected(["--policy", str(rules), *options, "--", *server()], env=given) as client:
            return (await client.call_tool("env", {})).structured_content

    plain = asked(talk())
    assert plain["PATH"] == os.environ["PATH"]
    assert not {"DEPLOY_KEY", "PASSED", "PYTHONPATH"} & plain.keys()
    named = asked(talk("--pass-env", "PASSED", "--pass-env", "NOT_SET"))
    assert named["PASSED"] == "through"
    assert "DEPLOY_KEY" not in named


# -- the policy's file


def test_a_changed_policy_counts_from_the_next_call_on_and_a_bad_one_never(rules, tmp_path):
    talk = tmp_path / "talk"

    async def said(words: str) -> None:
        while words not in talk.read_text():  # noqa: ASYNC110  # another process writes it
            await asyncio.sleep(0.05)

    async def steps() -> None:
        async with connected(["--policy", str(rules), "--", *server()], talk=talk) as client:
            assert text(await client.call_tool("ls", {})) == "/"
            written(rules, {"version": "1", "tools": "none"})
            await said("the old policy stays in force")
            assert text(await client.call_tool("ls", {})) == "/"
            rules.unlink()
            await said("cannot be read: no such file")
            assert facts(await client.call_tool("ls", {}))["effect"] == "limit", "the old policy, and its counts"
            written(rules, RULES | {"tools": {"ls": {"rate_limit": {"max": 3, "window": 3600}}}})
            await said("and is in force")
            assert text(await client.call_tool("ls", {})) == "/"
            assert facts(await client.call_tool("ls", {}))["effect"] == "limit", "limits keep counting"

    asked(steps())
    assert "policy.json" in talk.read_text()


# -- the end


def pid_of(process: Any, number: int = 2) -> int:
    answer = ask(process, "tools/call", {"name": "pid", "arguments": {}}, number)
    return int(answer["result"]["content"][0]["text"])


def test_when_the_client_leaves_the_server_goes_too(rules):
    with started(["--policy", str(rules), "--", *server()]) as gateway:
        assert greet(gateway)["result"]["serverInfo"]["name"] == "files"
        child = pid_of(gateway)
        assert is_running(child)
        rest, said = gateway.communicate(timeout=60)
        assert gateway.returncode == 0
        assert (rest, said) == ("", "")
        assert not is_running(child)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_gateway_and_the_server(rules, number):
    with started(["--policy", str(rules), "--", *server()]) as gateway:
        greet(gateway)
        child = pid_of(gateway)
        gateway.send_signal(number)
        assert gateway.wait(60) == 128 + number
        assert not is_running(child)
        assert gateway.stdout.read() == ""


def test_a_signal_reaches_a_server_that_minds_nothing_else(rules, tmp_path):
    stubborn = (
        "import os, signal, sys, time\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        f"signal.signal(signal.SIGTERM, lambda *_: (open({str(tmp_path / 'heard')!r}, 'w').close(), os._exit(0)))\n"
        "sys.stderr.write('ready\\n')\nsys.stderr.flush()\n"
        "while True: time.sleep(60)\n"
    )
    with started(["--policy", str(rules), "--", sys.executable, "-c", stubborn]) as gateway:
        assert gateway.stderr.readline() == "ready\n"
        gateway.send_signal(signal.SIGTERM)
        assert gateway.wait(60) == 128 + signal.SIGTERM
    assert (tmp_path / "heard").exists()
    assert not is_running(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize("status", [0, 7])
def test_the_exit_status_is_that_of_a_server_which_ends(rules, status):
    with started(["--policy", str(rules), "--", *server()]) as gateway:
        greet(gateway)
        answer = ask(gateway, "tools/call", {"name": "die", "arguments": {"status": status}}, 2)
        assert answer["result"]["isError"] is True
        assert "cannot be reached, or did not answer" in answer["result"]["content"][0]["text"]
        assert gateway.wait(60) == status
        assert f"ended with status {status}" in gateway.stderr.read()


def test_a_server_that_is_killed_is_told_as_a_shell_would(rules):
    with started(["--policy", str(rules), "--", *server()]) as gateway:
        greet(gateway)
        os.kill(pid_of(gateway), signal.SIGKILL)
        assert gateway.wait(60) == 128 + signal.SIGKILL


def ended(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, *GATEWAY, *arguments],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=environment(),
        timeout=60,
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


@pytest.mark.parametrize(("status", "expected"), [(3, 3), (0, 1)])
def test_a_server_that_does_not_start_is_one_line_and_its_status(rules, status, expected):
    code, said = ended("--policy", str(rules), "--", sys.executable, "-c", f"raise SystemExit({status})")
    assert code == expected
    assert said.count("\n") == 1
    assert f"ended with status {status} before it was asked anything" in said


def test_a_command_that_is_not_there_is_one_line(rules):
    code, said = ended("--policy", str(rules), "--", "no-such-server-anywhere")
    assert code == 1
    assert (
        said
        == "mcp-policy gateway: `no-such-server-anywhere` cannot be reached: `no-such-server-anywhere` is not there\n"
    )


def test_what_a_server_started_goes_with_it(rules, tmp_path):
    starts = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']); open({str(tmp_path / 'pid')!r}, 'w').write(str(p.pid)); sys.argv[1:] = ['files']; import runpy; runpy.run_path({server()[1]!r}, run_name='__main__')"
    with started(["--policy", str(rules), "--", sys.executable, "-c", starts]) as gateway:
        greet(gateway)
        grandchild = int((tmp_path / "pid").read_text())
        assert is_running(grandchild)
        gateway.communicate(timeout=60)
        assert not is_running(grandchild)


# -- the command line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "one of -- COMMAND, --upstream URL and --config FILE"),
        (["--upstream", "http://127.0.0.1:9/mcp", "--", "x"], "one of -- COMMAND, --upstream URL and --config FILE"),
        (["--prefix", "--", "x"], "--prefix goes with --config"),
        (["--config", "x.json", "--name", "x"], "--name goes with one server"),
        (["--upstream", "ftp://127.0.0.1/"], "begins with http:// or https://"),
        (["--upstream", "http://127.0.0.1:9", "--pass-env", "X"], "--pass-env goes with servers that are started"),
        (["--upstream", "http://127.0.0.1:9", "--pass-header", "X"], "--pass-header goes with --http"),
        (
            ["--http", "127.0.0.1:0", "--upstream", "http://127.0.0.1:9", "--pass-header", "Transfer-Encoding"],
            "never passed on",
        ),
        (
            ["--http", "127.0.0.1:0", "--upstream", "http://127.0.0.1:9", "--pass-header", "mcp-session-id"],
            "never passed on",
        ),
        (
            ["--http", "127.0.0.1:0", "--upstream", "http://127.0.0.1:9", "--pass-header", "a: b"],
            "the name of a header",
        ),
        (["--http", "8000", "--", "x"], "--http takes HOST:PORT"),
        (["--http", "127.0.0.1:99999", "--", "x"], "--http takes HOST:PORT"),
    ],
)
def test_a_command_line_that_means_nothing_is_refused(rules, arguments, words, capsys):
    from mcp_policy.cli import main

    assert main(["gateway", "--policy", str(rules), *arguments]) == 2
    said = capsys.readouterr()
    assert words in said.err
    assert said.out == ""


def test_a_policy_that_is_none_is_refused_before_anything_starts(tmp_path, capsys):
    from mcp_policy.cli import main

    rules = written(tmp_path / "policy.json", {"version": "1", "tools": 1})
    assert main(["gateway", "--policy", rules, "--", "no-such-server-anywhere"]) == 3
    assert main(["gateway", "--policy", str(tmp_path / "none.json"), "--", "no-such-server-anywhere"]) == 2
    assert main(["gateway", "--policy", "-", "--", "no-such-server-anywhere"]) == 2
    assert "no-such-server-anywhere" not in capsys.readouterr().err


def test_without_fastmcp_it_says_which_extra_is_missing(rules, monkeypatch, capsys):
    from mcp_policy.cli import main

    monkeypatch.setattr(command, "find_spec", lambda name: None)
    assert main(["gateway", "--policy", str(rules), "--", "x"]) == 1
    assert 'pip install "mcp-policy[gateway]"' in capsys.readouterr().err
