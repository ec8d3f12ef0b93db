"""The command line, and the parts of the demo that can be tried without a server."""

from __future__ import annotations

import base64
import importlib.metadata
import json
import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

import mcp_policy
from mcp_policy.cli import COMMANDS, GROUPS, _story, command_line, demo, load, main
from mcp_policy.cli._clearml_api import TASKS, ClearMLApi, clearml_api
from mcp_policy.cli._story import Story
from mcp_policy.policy import Policy


def test_help_teaches(capsys):
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    told = capsys.readouterr().out
    assert "allow, deny, limit, or ask for approval" in told
    assert "mcp-policy scan -- COMMAND" in told
    assert list(COMMANDS) == [name for group in GROUPS.values() for name in group]
    for title, group in GROUPS.items():
        _, _, below = told.partition(f"\n{title}:\n")
        listed = [line.split(None, 1) for line in below.split("\n\n")[0].splitlines()]
        assert listed == [[name, summary] for name, summary in group.items()]
    assert max(map(len, told.splitlines())) <= 110


def test_the_examples_of_the_help_are_command_lines(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    for line in re.findall(r"^  mcp-policy (.*?)  +\S", capsys.readouterr().out, re.MULTILINE):
        words = line.split()
        assert command_line(words[:1]).parse_args(words).command == words[0]


def test_a_misspelt_command_is_answered_with_the_one_that_was_meant(capsys):
    with pytest.raises(SystemExit) as left:
        main(["chek"])
    assert left.value.code == 2
    assert capsys.readouterr().err == (
        "usage: mcp-policy COMMAND ...\nmcp-policy: error: there is no command `chek`: did you mean `check`?\n"
    )


def test_a_command_starts_without_the_others():
    code = (
        "import sys\nfrom mcp_policy.cli import COMMANDS, main\n"
        "try: main([sys.argv[1], '--help'])\n"
        "except SystemExit: pass\n"
        "loaded = {name for name in COMMANDS if f'mcp_policy.cli.{name}' in sys.modules}\n"
        "sys.exit(str(sorted(loaded | {'xml.etree', 'shtab', 'rich', 'yaml'} & sys.modules.keys())))"
    )
    for name in COMMANDS:
        done = subprocess.run([sys.executable, "-c", code, name], capture_output=True, text=True, check=False)
        assert done.stderr == f"['{name}']\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as left:
        main([name, "--help"])
    assert left.value.code == 0
    assert (load(name).__doc__ or "").strip().splitlines()[0] in capsys.readouterr().out


@pytest.mark.parametrize("argv", [[], ["nonsense"], ["demo", "--nonsense"]])
def test_what_cannot_be_read_is_said(argv, capsys):
    with pytest.raises(SystemExit) as left:
        main(argv)
    assert left.value.code == 2
    assert "usage: mcp-policy" in capsys.readouterr().err


def test_the_version(monkeypatch, capsys):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: f"of {name}")
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out == "mcp-policy of mcp-policy\n"


def test_help_needs_no_framework():
    code = (
        "import sys; from mcp_policy.cli import main\n"
        "try: main(['demo', '--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit(str(sorted({'mcp', 'fastmcp', 'rich', 'clearml', 'starlette'} & sys.modules.keys())))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(Path(mcp_policy.__file__).parent.parent)},
    )
    assert done.stderr == "[]\n"


@pytest.mark.parametrize("missing", ["fastmcp", "clearml_mcp"])
def test_the_demo_says_what_it_needs(monkeypatch, capsys, missing):
    monkeypatch.setattr(demo, "find_spec", lambda name: None if name == missing else object())
    assert main(["demo"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert missing.replace("_", "-") in said.err
    assert 'pip install "mcp-policy[demo]"' in said.err


def test_a_demo_that_breaks_off_fails(monkeypatch, capsys):
    async def breaks(*_: object, **__: object) -> None:
        raise OSError("no server here")

    monkeypatch.setattr(demo, "_tell", breaks)
    assert main(["demo"]) == 1
    told = capsys.readouterr().out
    assert "WRONG" in told
    assert "no server here" in told
    assert told.endswith("Not all as it should be.\n")
    assert main(["demo", "-v"]) == 1
    assert "mcp-policy demo: unexpected error: OSError: no server here (set MCP_" in capsys.readouterr().err


def test_an_interrupted_demo_says_so(monkeypatch):
    async def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "_tell", interrupted)
    assert main(["demo"]) == 130


@pytest.mark.parametrize("document", [demo.SEED, demo.LIMITED, demo.ASKING])
def test_the_demos_policies_load(document):
    assert Policy.model_validate(document).digest


# -- the story


def test_a_story_is_plain_text_where_nobody_looks(capsys):
    story = Story()
    story.title("Title")
    story.step("Step")
    story.note("label", "text")
    story.note("json", {"a": "ü"})  # a pipe may not take it as it is
    story.note("long", "x" * 500)
    story.check(True, "fine")
    story.end()
    lines = capsys.readouterr().out.splitlines()
    assert lines[:5] == ["Title", "", "1. Step", "   label    text", '   json     {"a": "\\u00fc"}']
    assert lines[5].endswith("...")
    assert len(lines[5]) < 130
    assert lines[6:] == ["   ok       fine", "", "All as it should be."]


def test_one_wrong_step_makes_a_wrong_story(capsys):
    story = Story()
    story.check(True, "fine")
    story.check(False, "not fine")
    story.check(True, "fine again")
    story.end()
    assert not story.right
    assert "   WRONG    not fine" in capsys.readouterr().out


class Terminal:
    """A standard output that somebody looks at."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self.written = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.written += text
        return len(text)

    def flush(self) -> None: ...


@pytest.mark.parametrize("has_rich", [True, False])
def test_a_story_has_colours_on_a_terminal_with_rich(monkeypatch, has_rich):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if not has_rich:
        monkeypatch.setitem(sys.modules, "rich.console", None)
    story = _story.Story()
    story.check(False, "[bold]not markup[/bold] " + "x" * 200)
    assert ("\x1b[" in terminal.written) == has_rich
    assert "[bold]not markup[/bold]" in terminal.written


# -- the stand-in for the ClearML API


def ask(api: ClearMLApi, endpoint: str, body: dict | None = None, authorization: str = "") -> tuple[int, dict]:
    asked = urllib.request.Request(f"{api.url}/v2.9/{endpoint}", json.dumps(body or {}).encode(), method="GET")
    if authorization:
        asked.add_header("Authorization", authorization)
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_the_stand_in_answers_what_the_server_needs():
    with clearml_api() as api:
        assert api.url.startswith("http://127.0.0.1:")
        assert api.environment["CLEARML_API_HOST"] == api.url
        pair = f"{api.environment['CLEARML_API_ACCESS_KEY']}:{api.environment['CLEARML_API_SECRET_KEY']}"
        status, login = ask(api, "auth.login", authorization="Basic " + base64.b64encode(pair.encode()).decode())
        assert status == 200
        bearer = f"Bearer {login['data']['token']}"
        task = next(iter(TASKS))
        assert ask(api, "projects.get_all", authorization=bearer)[1]["data"]["projects"]
        assert ask(api, "tasks.get_by_id", {"task": task}, bearer)[1]["data"]["task"]["id"] == task
        assert "loss" in ask(api, "events.scalar_metrics_iter_histogram", {"task": task}, bearer)[1]["data"]
        assert api.requests == ["projects.get_all", "tasks.get_by_id", "events.scalar_metrics_iter_histogram"]
        for endpoint, body in (("tasks.get_by_id", {"task": "nope"}), ("tasks.delete", {"task": task})):
            assert ask(api, endpoint, body, bearer)[0] == 400
    with pytest.raises(urllib.error.URLError):
        ask(api, "projects.get_all")


@pytest.mark.parametrize("credentials", ["", "Basic eDp5", "Bearer ", "Bearer guess", "Basic "])
def test_the_stand_in_lets_nobody_else_in(credentials):
    with clearml_api() as api:
        for endpoint in ("auth.login", "projects.get_all"):
            assert ask(api, endpoint, authorization=credentials)[0] == 401
        assert not api.requests
