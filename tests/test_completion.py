"""Completion: scripts that real shells take, which know every command and option."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys

import pytest

from mcp_policy.cli import COMMANDS, command_line, main
from mcp_policy.cli.completion import SHELLS

ASK = """
source {script} || exit 1
function=$(complete -p mcp-policy | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
"$function" mcp-policy "${{COMP_WORDS[COMP_CWORD]}}" "${{COMP_WORDS[COMP_CWORD-1]}}"
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture(scope="module")
def bash(tmp_path_factory):
    """What a real bash offers for words, the last of which is being typed."""
    here = tmp_path_factory.mktemp("completion")
    script = here / "mcp-policy.bash"
    script.write_text(printed("bash"), encoding="utf-8")
    (here / "my-policy.json").touch()
    (here / "my-folder").mkdir()

    def offered(*words: str) -> set[str]:
        shell = [shutil.which("bash") or "bash", "--norc", "--noprofile", "-c", ASK.format(script=script)]
        done = subprocess.run([*shell, "bash", *words], capture_output=True, text=True, check=False, cwd=here)
        assert (done.returncode, done.stderr) == (0, "")
        return {word.rstrip() for word in done.stdout.splitlines() if word}

    return offered


def printed(shell: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "mcp_policy", "completion", shell], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_commands_are_offered(bash):
    assert bash("mcp-policy", "che") == {"check"}
    assert bash("mcp-policy", "") >= set(COMMANDS)


def test_options_are_offered(bash):
    assert "--format" in bash("mcp-policy", "check", "--f")
    assert bash("mcp-policy", "--ver") == {"--version"}
    assert bash("mcp-policy", "catalog", "sh") == {"show"}
    assert "--catalog" in bash("mcp-policy", "catalog", "show", "--cat")


def test_values_are_offered(bash):
    assert bash("mcp-policy", "check", "--format", "sar") == {"sarif"}
    assert bash("mcp-policy", "completion", "z") == {"zsh"}


@pytest.mark.parametrize(
    "words",
    [
        *(["check"], ["check", "--tools"], ["eval"], ["explain"], ["test"], ["diff"], ["diff", "old.json"]),
        *(["fmt"], ["convert"], ["scan", "--config"], ["catalog", "list", "--catalog"]),
    ],
    ids=" ".join,
)
def test_files_are_offered_where_a_file_is_taken(bash, words):
    assert bash("mcp-policy", *words, "my-p") == {"my-policy.json"}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_knows_every_command_and_option(shell):
    script = printed(shell)
    assert "mcp-policy" in script
    commands = next(action for action in command_line(COMMANDS)._actions if isinstance(action.choices, dict)).choices
    assert isinstance(commands, dict)
    for name, command in commands.items():
        assert name in script
        assert isinstance(command, argparse.ArgumentParser)
        for option in command._option_string_actions:
            assert option.lstrip("-") in script


@pytest.mark.parametrize("shell", [shell for shell in SHELLS if shutil.which(shell)])
def test_a_shell_that_is_there_takes_its_script(shell, tmp_path):
    script = tmp_path / "script"
    script.write_text(printed(shell), encoding="utf-8")
    done = subprocess.run([shell, "-n", str(script)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_missing_extra_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == "mcp-policy completion: completion needs shtab: pip install 'mcp-policy[completion]'\n"


def test_another_shell_is_a_mistake_of_usage(capsys):
    with pytest.raises(SystemExit) as left:
        main(["completion", "csh"])
    assert left.value.code == 2
    assert "choose from" in capsys.readouterr().err
