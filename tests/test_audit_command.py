"""`mcp-policy audit` on real records: what it finds, shows and counts."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import tracemalloc
from contextlib import ExitStack
from pathlib import Path

import pytest

import mcp_policy
from audit.recording import KEY, event, files, sink, written
from mcp_policy import Policy, PolicyEngine, Principal, ToolCall
from mcp_policy.audit.jsonl import set_aside
from mcp_policy.cli import _audit_files, _audit_stats, main
from mcp_policy.cli._audit_files import LONGEST, Record, following, lines, newest, opened
from mcp_policy.cli._audit_stats import counted, data
from mcp_policy.cli._exits import FINE, FOUND, USAGE, Stop

SOURCE = Path(mcp_policy.__file__).parent.parent
POLICY = Policy.model_validate(
    {
        "version": "1",
        "tools": {
            "read": {},
            "rm": {"action": "deny"},
            "search": {"rate_limit": {"max": 1, "window": 60}},
            "pay": {"action": "approve"},
        },
    }
)
IN_SHADOW = Policy.model_validate({"version": "1", "mode": "shadow", "tools": {"read": {"action": "deny"}}})


@pytest.fixture
def path(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MCP_POLICY_AUDIT_KEY", raising=False)
    Path("audit.jsonl.key").write_bytes(KEY + b"\n")
    return Path("audit.jsonl")


@pytest.fixture
def audit(path, capsys):
    def run(*argv: str) -> tuple[int, str, str]:
        try:
            status = main(["audit", *argv])
        except SystemExit as stop:
            status = stop.code
        told = capsys.readouterr()
        return status, told.out, told.err

    return run


def day(path: Path, **settings) -> None:
    """Record what may happen in a day: 11 records."""
    with sink(path, **settings) as kept:
        engine = PolicyEngine(POLICY, clock=lambda: 0.0, audit=kept)

        def call(tool: str):
            return engine.authorize(ToolCall(tool, {"n": 1}, session="s", server="srv", principal=Principal("ann")))

        for tool in ("read", "rm", "rm", "other", "search", "search"):
            call(tool)
        asked = call("pay").approval
        call("pay")
        engine.approve(asked.id, by="bob", note="as agreed")
        call("pay")
        PolicyEngine(IN_SHADOW, audit=kept).authorize(ToolCall("read"))


# -- verify


def test_a_sound_record_is_said_to_be_sound(audit, path):
    written(path, 1)
    assert audit("verify", "audit.jsonl") == (FINE, "sound: 1 record, 1 to 1\n", "")
    written(path, 1_999)
    assert audit("verify", "audit.jsonl") == (FINE, "sound: 2,000 records, 1 to 2000\n", "")


def test_files_that_were_set_aside_are_taken_along(audit, path):
    written(path, 9, rotate=1_000)
    assert audit("verify", "audit.jsonl") == (FINE, f"sound: 9 records, 1 to 9, in {len(files(path))} files\n", "")


def test_the_first_thing_that_is_wrong_is_named(audit, path):
    written(path, 9, rotate=1_000)
    first, second, *_ = set_aside(path)
    gone = first.read_bytes().count(b"\n")
    second.write_bytes(second.read_bytes().replace(b'"read"', b'"rEad"', 1))
    status, said, _ = audit("verify", "audit.jsonl")
    assert status == FOUND
    assert said == (
        f"{second}:1: record {gone + 1} was changed, or sealed with another key\n"
        f"sound before it: {gone} records, 1 to {gone}\n"
    )
    second.unlink()
    status, said, _ = audit("verify", "audit.jsonl")
    assert status == FOUND
    assert f"record {gone + 1} is not here, but record" in said


def test_an_end_that_is_missing_is_found(audit, path):
    written(path, 3)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    status, said, _ = audit("verify", "audit.jsonl")
    assert (status, said) == (
        FOUND,
        (
            "audit.jsonl: the record ends here, and its head says that there are 3: the end is missing\n"
            "sound before it: 2 records, 1 to 2\n"
        ),
    )
    path.unlink()
    status, said, _ = audit("verify", "audit.jsonl")
    assert status == FOUND
    assert said.startswith("audit.jsonl: the record ends here, and its head says that there are 3")


def test_a_record_without_its_head_is_not_sound(audit, path):
    written(path, 3)
    Path("audit.jsonl.head").unlink()
    status, said, _ = audit("verify", "audit.jsonl")
    assert status == FOUND
    assert "there is no authentic head" in said


def test_from_a_record_on(audit, path):
    written(path, 9, rotate=1_000)
    first = set_aside(path)[0]
    since = first.read_bytes().count(b"\n") + 1
    first.unlink()
    assert audit("verify", "audit.jsonl")[0] == FOUND
    status, said, _ = audit("verify", "audit.jsonl", "--from", str(since))
    assert status == FINE
    assert said.startswith(f"sound: {10 - since} records, {since} to 9, in")
    assert f"what stands in record {since} is not checked" in said


@pytest.mark.parametrize("since", ["0", "-1", "x", "1e3", "٣", "9" * 30])
def test_a_number_that_is_none_is_refused(audit, path, since):
    written(path, 1)
    status, _, said = audit("verify", "audit.jsonl", f"--from={since}")
    assert status == USAGE
    assert "a whole number of at least 1" in said


def test_where_the_key_is(audit, path, monkeypatch):
    written(path, 2)
    Path("audit.jsonl.key").rename("elsewhere")
    assert audit("verify", "audit.jsonl")[0] == USAGE
    assert audit("verify", "audit.jsonl", "--key-file", "elsewhere")[0] == FINE
    monkeypatch.setenv("MCP_POLICY_AUDIT_KEY", KEY.decode())
    assert audit("verify", "audit.jsonl")[0] == FINE
    monkeypatch.setenv("MCP_POLICY_AUDIT_KEY", "x" * 32)
    status, said, _ = audit("verify", "audit.jsonl")
    assert status == FOUND
    assert "record 1 is not authentic, and there is no authentic head: this is not the key" in said
    Path("short").write_text("short")
    assert audit("verify", "audit.jsonl", "--key-file", "short")[0] == USAGE


@pytest.mark.parametrize("command", ["verify", "tail", "stats"])
@pytest.mark.parametrize("name", ["missing", "no/folder", "folder", "a\0b"], ids=["missing", "far", "folder", "null"])
def test_what_cannot_be_read_is_said(audit, path, command, name):
    Path("folder").mkdir()
    more = ["--key-file", "audit.jsonl.key"] if command == "verify" else []
    status, printed, said = audit(command, name, *more)
    assert (status, printed) == (USAGE, "")
    assert "cannot be read: " in said


def test_a_pipe_is_not_waited_for(audit, path):
    os.mkfifo("pipe")
    assert audit("tail", "pipe")[0] == USAGE
    assert audit("verify", "pipe", "--key-file", "audit.jsonl.key")[0] == FOUND


def test_a_hostile_name_is_shown(audit, path):
    name = "a\x1b[2J.jsonl"
    written(Path(name), 1)
    Path(name).write_bytes(b"x\n")
    status, said, _ = audit("verify", name, "--key-file", "audit.jsonl.key")
    assert status == FOUND
    assert "\x1b" not in said
    assert "a\\u001b[2J.jsonl:1: record 1 is no whole line" in said


def test_a_file_that_is_set_aside_meanwhile_is_neither_missed_nor_read_twice(path, monkeypatch):
    """The writer sets the file aside just after it was looked which ones there are."""
    kept = sink(path)
    for _ in range(3):
        kept.record(event())
    real, rotated = _audit_files.set_aside, []

    def meanwhile(of: Path) -> list[Path]:
        found = real(of)
        if not rotated:
            rotated.append(True)
            kept._set_aside()
            kept.record(event())
        return found

    monkeypatch.setattr(_audit_files, "set_aside", meanwhile)
    with kept, ExitStack() as stack:
        assert len(list(lines(opened(str(path), stack)))) == 4


def test_a_record_that_is_written_meanwhile_is_sound(audit, path):
    with sink(path, rotate=50_000) as kept:
        stop = threading.Event()

        def write() -> None:
            while not stop.is_set():
                kept.record(event())

        writer = threading.Thread(target=write)
        writer.start()
        try:
            found = [audit("verify", "audit.jsonl") for _ in range(20)]
        finally:
            stop.set()
            writer.join()
    assert [said for status, said, _ in found if status != FINE] == []


def test_a_head_that_is_half_written_is_looked_at_again(path):
    written(path, 3)
    head = Path("audit.jsonl.head")
    whole = head.read_bytes()
    head.write_bytes(whole[:200] + b"#" * 102)
    seen = []

    def is_whole(content: bytes) -> bool:
        seen.append(content)
        head.write_bytes(whole)
        return content == whole

    with ExitStack() as stack:
        assert opened(str(path), stack, is_whole).head == whole
    assert len(seen) == 2
    with ExitStack() as stack:
        assert opened(str(path), stack, lambda _: False).head == whole  # it is not waited for


def test_a_head_of_which_half_is_spoilt_is_found(audit, path):
    written(path, 3)
    head = Path("audit.jsonl.head")
    whole = head.read_bytes()
    for at in (10, 200):
        head.write_bytes(whole[:at] + b"#" + whole[at + 1 :])
        status, said, _ = audit("verify", "audit.jsonl")
        assert status == FOUND
        assert "one of the two places of its head was changed, or is not whole" in said


def test_a_line_without_an_end_is_not_held(path):
    path.write_bytes(b"x" * (2 * LONGEST + 5) + b"\n{}\n" + b"y" * (LONGEST + 1))
    with ExitStack() as stack:
        found = list(lines(opened(str(path), stack)))
    assert [(len(line.text), line.ended) for line in found] == [(LONGEST, False), (2, True), (LONGEST, False)]


# -- tail


def test_the_newest_records_are_a_table(audit, path):
    day(path)
    status, said, _ = audit("tail", "audit.jsonl", "-n", "11")
    header, *rows = said.splitlines()
    assert status == FINE
    assert header.split() == ["record", "time", "tool", "who", "why", "rule"]
    assert [row.split()[0] for row in rows] == [str(number) for number in range(1, 12)]
    assert [row.split()[2] for row in rows] == [
        *("allow", "deny", "deny", "deny", "allow", "limit", "approve", "approve", "approved", "allow", "allow"),
    ]
    assert rows[1].split()[1:] == [
        *("2023-11-14T22:13:20", "deny", "srv:", "rm", "ann", "denied_by_rule", "/tools/rm"),
    ]
    assert "bob" in rows[8]
    assert len({row.index("2023-11-14") for row in rows}) == 1


def test_as_many_as_are_asked_for(audit, path):
    day(path, rotate=1_000)
    assert len(set_aside(path)) > 2
    for count in (1, 3, 10, 11, 100):
        assert len(audit("tail", "audit.jsonl", "-n", str(count))[1].splitlines()) == 1 + min(11, count)


def test_in_shadow_it_says_what_would_have_been(audit, path):
    day(path)
    last = audit("tail", "audit.jsonl", "-n", "1")[1].splitlines()[-1]
    assert "allow" in last
    assert "in shadow deny: denied_by_rule" in last


def test_what_a_crash_has_left_is_shown(audit, path):
    written(path, 1)
    with path.open("ab") as file:
        file.write(b"half a line")
    written(path, 1)
    head = Path("audit.jsonl.head")
    content = head.read_bytes()
    newer = max((0, 151), key=lambda at: content[at : at + 20])
    head.write_bytes(content[:newer] + b"#" * 151 + content[newer + 151 :])
    written(path, 0)
    said = audit("tail", "audit.jsonl")[1].splitlines()
    assert "11 bytes of a line without its end were cut off" in said[2]
    assert "half of its head was lost" in said[4]


def test_records_as_json(audit, path):
    day(path)
    _, said, _ = audit("tail", "audit.jsonl", "-n", "3", "--json")
    assert [json.loads(line) for line in said.splitlines()] == [
        json.loads(line) for line in path.read_bytes().splitlines()[-3:]
    ]


HOSTILE = [
    b"",
    b"\xff\x1b[2J",
    b"[]",
    b"[" * 100_000,
    b'{"seq":"x","kind":["decision"],"time":7}',
    b'{"seq":1,"kind":"decision","time":"\\u001b[2J","tool":["x"],"server":{},"effect":"\\u202eallow","codes":{"a":1}}',
    b'{"kind":"decision","rules":[1,"\\n"],"principal":"me","would_be":[],"shadow":[1,{"code":2}],"limits":{"x":1}}',
    b'{"kind":"decision","rules":["\\n"],"effect":"allow","would_be":"\\u001b","shadow":7,"limits":[1],"approval":7}',
    b'{"seq":1,"kind":"decision","tool":"' + b"x" * 10_000 + b'","effect":"deny","codes":[[],"c"],"rules":null}',
    b'{"kind":"answer","by":"\\ud800\\u0007","approval":{},"status":[],"approved":"yes","note":"\\r\\nforged"}',
    b'{"kind":"recovered"}',
]


@pytest.mark.parametrize(
    "command", [["tail", "-n20"], ["tail", "-n20", "--json"], ["stats"], ["stats", "--json"]], ids=" ".join
)
def test_whatever_stands_in_a_file_is_shown_and_forges_nothing(audit, path, command):
    path.write_bytes(b"\n".join(HOSTILE) + b"\nno end")
    status, said, told = audit(command[0], "audit.jsonl", *command[1:])
    assert (status, told) == (FINE, "")
    assert said.replace("\n", "").isprintable()
    if command[0] == "tail":
        assert len(said.splitlines()) == len(HOSTILE) + ("--json" not in command)


def test_nothing_on_record(audit, path):
    written(path, 0)
    assert audit("tail", "audit.jsonl")[:2] == (FINE, "record  time    tool  who  why  rule\n")
    assert audit("stats", "audit.jsonl")[1].split() == ["audit.jsonl", "===========", "records", "0"]


class Ticks:
    """Instead of sleeping, does one thing after the other; stops after the last."""

    def __init__(self, *steps) -> None:
        self.steps = list(steps)

    def __call__(self) -> None:
        if not self.steps:
            raise KeyboardInterrupt
        self.steps.pop(0)()


def test_what_is_recorded_from_now_on_is_followed(path):
    kept = sink(path, rotate=2_000)
    kept.record(event())

    def record(count: int) -> None:
        for number in range(count):
            kept.record(event({"n": number}))

    sleep = Ticks(lambda: record(1), lambda: None, lambda: record(9), lambda: record(2))
    found = []
    with kept, ExitStack() as stack:
        file = opened(str(path), stack).files[-1][1]
        file.seek(0, os.SEEK_END)
        with pytest.raises(KeyboardInterrupt):
            found.extend(json.loads(line)["seq"] for line in following(str(path), file, sleep))
    assert len(set_aside(path)) > 1
    assert found == list(range(2, 14))


def test_a_line_is_shown_once_it_has_its_end_and_a_file_that_is_cut_from_its_beginning(path):
    path.write_bytes(b"")

    def add(content: bytes) -> None:
        with path.open("ab") as file:
            file.write(content)

    sleep = Ticks(lambda: add(b'{"a'), lambda: add(b'":1}\n{"b"'), lambda: os.truncate(path, 0), lambda: add(b"{}\n"))
    found = []
    with ExitStack() as stack:
        file = opened(str(path), stack).files[-1][1]
        with pytest.raises(KeyboardInterrupt):
            found.extend(following(str(path), file, sleep))
    assert found == [b'{"a":1}', b"{}"]


def test_follow_prints_as_it_happens_and_ends_with_its_reader(path):
    written(path, 2)
    command = [sys.executable, "-m", "mcp_policy", "audit", "tail", "audit.jsonl", "-n", "1", "--follow", "--json"]
    environment = os.environ | {"PYTHONPATH": str(SOURCE)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert json.loads(process.stdout.readline())["seq"] == 2
        written(path, 1)
        assert json.loads(process.stdout.readline())["seq"] == 3
        process.stdout.close()
        written(path, 1)
        assert process.wait(60) == 1


def test_newest_reads_backwards_over_many_blocks(path):
    content = b"".join(b"%d %s\n" % (number, b"x" * 5_000) for number in range(100))
    record = Record(None, (("old", io.BytesIO(content)), ("new", io.BytesIO(b"a\nb\nno end"))))
    assert newest(record, 2) == [b"a", b"b"]
    assert [line[:2] for line in newest(record, 5)] == [b"97", b"98", b"99", b"a", b"b"]
    assert len(newest(record, 1_000)) == 102


# -- stats


def test_what_is_counted(audit, path):
    day(path)
    _, said, _ = audit("stats", "audit.jsonl", "--json")
    found = json.loads(said)
    assert found["records"] == 11
    assert found["decisions"] == {"allow": 4, "deny": 3, "limit": 1, "approve": 2, "other": 0}
    assert found["stopped"]["top"][:2] == [
        {"server": "srv", "tool": "pay", "code": "approval_required", "calls": 2},
        {"server": "srv", "tool": "rm", "code": "denied_by_rule", "calls": 2},
    ]
    assert found["stopped"]["kinds"] == 4
    assert found["limits"]["top"] == [{"rule": "/tools/search/rate_limit", "calls": 1}]
    assert found["approvals"] == {
        "asked": 1,
        "granted": 1,
        "rejected": 0,
        "used": 1,
        "answers": {"top": [{"by": "bob", "said": "approved", "calls": 1}], "kinds": 1, "others": 0},
    }
    assert found["shadow"]["top"] == [{"would_be": "deny", "server": "", "tool": "read", "calls": 1}]


def test_the_same_for_people(audit, path):
    day(path, rotate=1_000)
    _, said, _ = audit("stats", "audit.jsonl")
    words = [line.split() for line in said.splitlines()]
    for line in (
        *("records 11", "deny 3", "srv rm denied_by_rule 2", "/tools/search/rate_limit 1", "bob approved 1"),
        *("1 asked, 1 granted, 0 rejected, 1 used", "deny - read 1"),
    ):
        assert line.split() in words


def test_limits_that_could_not_be_counted_are_said():
    record = {"kind": "decision", "effect": "allow", "tool": "x", "limits": [{"available": False}, {"available": True}]}
    stats = counted([json.dumps(record).encode()])
    assert data(stats)["uncounted"] == 1


def test_many_names_take_no_more_memory(monkeypatch):
    monkeypatch.setattr(_audit_stats, "MOST", most := 1_000)

    def denials():
        for number in range(3 * most):
            tool = "often" if number % 2 else f"{number}" + "x" * 500
            record = {"kind": "decision", "effect": "deny", "tool": tool, "codes": ["default_deny"]}
            yield json.dumps(record).encode()
            yield json.dumps({**record, "effect": "approve", "approval": {"id": tool}}).encode()

    tracemalloc.start()
    try:
        found = data(counted(denials()))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found["stopped"]["top"][0] == {"server": "", "tool": "often", "code": "default_deny", "calls": 3 * most}
    assert sum(one["calls"] for one in found["stopped"]["top"]) < found["records"] == 6 * most
    assert peak < 8_000_000


def test_colours_and_bars_are_for_a_terminal(path):
    pty = pytest.importorskip("pty")
    day(path)
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "TERM": "xterm", "PYTHONUTF8": "1", "COLUMNS": "100"}
    environment.pop("NO_COLOR", None)
    for command, expected in (("stats", "█"), ("tail", "\x1b[")):
        ours, theirs = pty.openpty()
        with subprocess.Popen(
            [sys.executable, "-m", "mcp_policy", "audit", command, "audit.jsonl"], env=environment, stdout=theirs
        ) as process:
            os.close(theirs)
            printed = b""
            try:
                while part := os.read(ours, 65_536):
                    printed += part
            except OSError:  # as Linux says that the other end is closed
                pass
            os.close(ours)
            assert process.wait(60) == FINE
        assert expected in printed.decode()


def test_help_names_what_there_is(audit):
    status, said, _ = audit("--help")
    assert status == FINE
    for name in ("verify", "tail", "stats"):
        assert f"mcp-policy audit {name}" in said


def test_a_file_that_fails_while_it_is_read_is_said():
    class Broken(io.BytesIO):
        def readline(self, *_):
            raise OSError(5, "input/output error")

        read = seek = readline

    for ask in (lambda record: list(lines(record)), lambda record: newest(record, 1)):
        with pytest.raises(Stop, match="cannot be read: input/output error"):
            ask(Record(None, (("x", Broken()),)))
