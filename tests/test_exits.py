"""How commands end: the right status and one clear line, whatever a file, a reader or a user does."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

import mcp_policy.cli
from mcp_policy.cli import _exits, _files, main
from mcp_policy.cli._exits import FAILED, FINE, FOUND, INTERRUPTED, INVALID, USAGE, Stop, ended
from mcp_policy.cli._files import read_bytes, read_policy

SOURCE = Path(mcp_policy.cli.__file__).parent.parent.parent
POLICY = {"version": "1", "tools": {"read": {"require": [{"path": "args.n", "op": "lte", "value": 5}]}}}
TERMINAL = "\x1b[2J"


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("good.json").write_text(json.dumps(POLICY), encoding="utf-8")


def started(code: str, **settings) -> subprocess.Popen[bytes]:
    """Start a Python of its own, in which `main` stands ready."""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    program = f"import sys\nfrom mcp_policy.cli import main\n{code}"
    return subprocess.Popen([sys.executable, "-c", program], env=environment, **settings)


def status_and_line(capsys, argv: list[str]) -> tuple[int, str]:
    """Run a command that prints nothing but a line on standard error, and perhaps how many files it has seen."""
    status = main(argv)
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.endswith("\n")
    line, *rest = told.err.splitlines()
    assert len(rest) <= (argv[0] == "fmt"), told.err
    assert line.isprintable()
    return status, line


# -- every command that reads a file

# A command's arguments, where FILE stands for the file that is bad.
COMMANDS: dict[str, list[str]] = {
    "check": ["check", "FILE"],
    "check --tools": ["check", "good.json", "--tools", "FILE"],
    "eval": ["eval", "FILE", "--tool", "read"],
    "explain": ["explain", "FILE", "--tool", "read"],
    "test": ["test", "FILE"],
    "diff old": ["diff", "FILE", "good.json"],
    "diff new": ["diff", "good.json", "FILE"],
    "fmt": ["fmt", "FILE"],
    "fmt --check": ["fmt", "--check", "FILE"],
    "convert": ["convert", "FILE"],
}
READ_POLICIES = {"check", "eval", "explain", "diff old", "diff new", "fmt", "fmt --check"}


def missing() -> str:
    return "missing.json"


def folder() -> str:
    Path("folder.json").mkdir()
    Path("folder.json", "note.txt").touch()
    return "folder.json"


def unreadable() -> str:
    Path("loop.json").symlink_to("loop.json")  # root may read every file, but follow no circle
    return "loop.json"


def control_characters() -> str:
    return f"a{TERMINAL}\nb\u202e.json"


def nul() -> str:
    return "a\x00b.json"


def too_long() -> str:
    return "a" * 5000 + ".json"


def empty() -> str:
    Path("empty.json").touch()
    return "empty.json"


def binary() -> str:
    Path("binary.json").write_bytes(bytes(range(256)))
    return "binary.json"


def huge() -> str:
    with Path("huge.json").open("wb") as file:
        file.truncate(_files.MAX_BYTES + 1)  # takes no space on the disk
    return "huge.json"


def endless() -> str:
    Path("endless.json").symlink_to("/dev/zero")
    return "endless.json"


def pipe() -> str:
    os.mkfifo("pipe.json")
    return "pipe.json"


UNREADABLE = [missing, folder, unreadable, control_characters, nul, too_long, huge, endless, pipe]
EMPTY = [empty, binary]


def pairs(*kinds: list[Callable[[], str]]):
    """Each command with each bad file; of a folder, `test` runs the cases."""
    every = [(command, bad) for command in COMMANDS for kind in kinds for bad in kind]
    return pytest.mark.parametrize(
        ("command", "bad"),
        [pytest.param(*pair, id=f"{pair[0]}-{pair[1].__name__}") for pair in every if pair != ("test", folder)],
    )


@pairs(UNREADABLE)
def test_a_file_that_cannot_be_read(capsys, command, bad):
    name = bad()
    status, line = status_and_line(capsys, [name if word == "FILE" else word for word in COMMANDS[command]])
    assert status == USAGE
    assert line.startswith(f"mcp-policy {COMMANDS[command][0]}: ")
    assert name[:20] in line or "\\u" in line


@pairs(EMPTY)
def test_a_file_that_holds_no_document(capsys, command, bad):
    name = bad()
    words = [name if word == "FILE" else word for word in COMMANDS[command]]
    if command == "check":  # what is wrong with a policy is what it was asked for
        assert main(words) == INVALID
        assert name in capsys.readouterr().out
        return
    status, line = status_and_line(capsys, words)
    assert status in ({INVALID} if command in READ_POLICIES else {INVALID, USAGE})
    assert name in line


# -- reading


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (missing, "`missing.json` cannot be read: no such file or directory"),
        (folder, "`folder.json` cannot be read: is a directory"),
        (unreadable, "`loop.json` cannot be read: too many levels of symbolic links"),
        (control_characters, "`a\\u001b[2J\\u000ab\\u202e.json` cannot be read: no such file or directory"),
        (nul, "`a\\u0000b.json` cannot be read: embedded null byte"),
        (too_long, f"`{'a' * 199}…` cannot be read: file name too long"),
        (huge, "`huge.json` is larger than 64 MiB"),
        (endless, "`endless.json` is larger than 64 MiB"),
        (pipe, "`pipe.json` cannot be read: it is a pipe that nothing was written to"),
    ],
)
def test_why_a_file_cannot_be_read(bad, why):
    name = bad()
    for read in (read_bytes, read_policy):
        with pytest.raises(Stop) as stop:
            read(name)
        assert (stop.value.status, stop.value.lines) == (USAGE, (why,))


def test_no_permission(monkeypatch):
    def refused(*_: object) -> int:
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(Stop, match=r"`good\.json` cannot be read: permission denied"):
        read_bytes("good.json")


def test_a_pipe_that_somebody_writes_to_is_read_to_its_end():
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover  # writes more than a pipe holds, so that reading has to wait for it
        os.close(reader)
        with os.fdopen(writer, "wb") as file:
            file.write(b" " * 2**20)
        os._exit(0)
    os.close(writer)
    assert len(read_bytes(f"/dev/fd/{reader}")) == 2**20
    os.close(reader)
    assert os.waitpid(child, 0)[1] == 0


def test_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(json.dumps(POLICY).encode())))
    assert read_policy("-").policy.digest == read_policy("good.json").policy.digest
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"x" * 100)))
    with pytest.raises(Stop, match="standard input is larger than"):
        read_bytes("-", most=99)
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(Stop, match="standard input cannot be read: it is closed"):
        read_bytes("-")


def test_as_much_as_the_cap_is_read():
    assert len(read_bytes("good.json", most=len(json.dumps(POLICY)))) == len(json.dumps(POLICY))


def test_every_problem_of_a_policy_is_a_line_that_names_the_file(capsys):
    Path(f"b{TERMINAL}.json").write_text('{"version": "1",\n "a\\nb": 1, "tolls": {}}', encoding="utf-8")
    with pytest.raises(Stop) as stop:
        read_policy(f"b{TERMINAL}.json")
    assert stop.value.status == INVALID
    assert [line.split(" ")[0] for line in stop.value.lines] == ["b\\u001b[2J.json:2:2:", "b\\u001b[2J.json:2:13:"]

    def work() -> int:
        raise stop.value

    assert ended("mcp-policy x", work) == INVALID
    told = capsys.readouterr().err
    assert told.count("\n") == 2
    assert told.replace("\n", "").isprintable()


def test_a_missing_extra_is_said(monkeypatch):
    Path("good.yaml").write_text("version: '1'\n", encoding="utf-8")
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(Stop) as stop:
        read_policy("good.yaml")
    assert stop.value.status == USAGE
    assert "mcp-policy[yaml]" in stop.value.lines[0]


# -- ends that nobody planned


def raising(error: BaseException) -> Callable[[], int]:
    def work() -> int:
        raise error

    return work


def test_an_unexpected_error_is_one_line(capsys, monkeypatch):
    monkeypatch.delenv("MCP_POLICY_TRACEBACK", raising=False)
    assert ended("mcp-policy x", raising(KeyError(f"a{TERMINAL}\nb"))) == FAILED
    told = capsys.readouterr().err
    assert told == (
        "mcp-policy x: unexpected error: KeyError: 'a\\x1b[2J\\nb' (set MCP_POLICY_TRACEBACK=1 to see where)\n"
    )
    assert ended("mcp-policy x", raising(ValueError(f"a{TERMINAL}\nb"))) == FAILED
    assert "ValueError: a\\u001b[2J b (set" in capsys.readouterr().err
    assert ended("mcp-policy x", raising(MemoryError())) == FAILED
    assert "unexpected error: MemoryError (set" in capsys.readouterr().err


def test_the_traceback_is_there_for_who_asks(capsys, monkeypatch):
    monkeypatch.setenv("MCP_POLICY_TRACEBACK", "1")
    assert ended("mcp-policy x", raising(KeyError(f"a{TERMINAL}"))) == FAILED
    told = capsys.readouterr().err
    assert "Traceback (most recent call last):" in told
    assert "test_exits.py" in told
    assert TERMINAL not in told


def test_an_interruption_is_one_line(capsys):
    assert ended("mcp-policy x", raising(KeyboardInterrupt())) == INTERRUPTED == 130
    assert capsys.readouterr().err == "mcp-policy x: interrupted\n"


def test_a_pipe_that_broke_is_quiet_but_not_fine(capsys):
    assert ended("mcp-policy x", raising(BrokenPipeError())) == FAILED
    assert capsys.readouterr().err == ""


def test_the_status_of_a_command_is_its_own(capsys):
    assert ended("x", lambda: FINE) == FINE
    assert ended("x", lambda: FOUND) == FOUND
    assert ended("x", raising(Stop(INVALID, "a", "  b"))) == INVALID
    assert capsys.readouterr().err == "x: a\nx:   b\n"


def test_statuses_are_what_is_documented():
    values = {name: value for name, value in vars(_exits).items() if isinstance(value, int) and name.isupper()}
    assert values == {
        "FINE": 0,
        "FAILED": 1,
        "USAGE": 2,
        "INVALID": 3,
        "FOUND": 4,
        "REFUSED": 5,
        "INTERRUPTED": 130,
    }


BLOCKS = """
import types
import mcp_policy.cli as cli
def run(arguments):
    print("ready", flush=True)
    sys.stdin.read()
cli.load = lambda name: types.SimpleNamespace(__doc__="", add_arguments=lambda parser: None, run=run)
sys.exit(main(["demo"]))
"""


def test_ctrl_c_in_a_real_process():
    process = started(BLOCKS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGINT)
    _, told = process.communicate()
    assert (process.returncode, told) == (130, b"mcp-policy demo: interrupted\n")


# -- an output that does not take what is printed


def ran(argv: list[str], **settings) -> tuple[int, bytes, bytes]:
    process = started(f"sys.exit(main({argv!r}))", **settings)
    out, told = process.communicate()
    return process.returncode, out, told


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("argv", [["schema"], ["catalog", "list", "--format", "json"]])
def test_a_closed_pipe_is_quiet_and_no_failure(argv, unbuffered, monkeypatch):
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    reader, writer = os.pipe()
    os.close(reader)
    assert ran(argv, stdout=writer, stderr=subprocess.PIPE)[0::2] == (0, b"")
    os.close(writer)


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["schema"], ["schema", "--help"]])
def test_a_full_disk_is_said_and_fails(argv, monkeypatch):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    with Path("/dev/full").open("wb") as full:
        status, _, told = ran(argv, stdout=full, stderr=subprocess.PIPE)
    name = b"mcp-policy schema" if argv[0] == "schema" else b"mcp-policy"
    assert (status, told) == (1, name + b": standard output cannot be written: no space left on device\n")


def test_no_standard_output():
    status, _, told = ran(["catalog", "list"], stderr=subprocess.PIPE, preexec_fn=lambda: os.close(1))
    assert (status, told) == (1, b"mcp-policy catalog: standard output cannot be written: it is closed\n")


def test_no_standard_error_is_no_reason_to_talk_among_the_results():
    status, out, _ = ran(["catalog", "show", "nobody"], stdout=subprocess.PIPE, preexec_fn=lambda: os.close(2))
    assert (status, out) == (2, b"")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-16"])
def test_another_encoding_of_standard_output(encoding, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    status, out, told = ran(
        ["catalog", "show", "filesystem", "read_file"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert (status, told) == (0, b"")
    assert out.decode(encoding)


def test_what_a_command_line_cannot_be_is_said_visibly(capsys):
    for argv in ([f"{TERMINAL}\nx"], ["catalog", "list", f"--{TERMINAL}\nx"], ["catalog", "list", "a", TERMINAL]):
        with pytest.raises(SystemExit) as left:
            main(argv)
        assert left.value.code == 2
        assert capsys.readouterr().err.replace("\n", "").isprintable()
