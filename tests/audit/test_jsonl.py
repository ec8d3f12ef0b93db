"""The sink that writes JSON Lines: what is on disk, whatever happens while it is written."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

import mcp_policy
from mcp_policy import Policy, PolicyEngine, Principal, ToolCall
from mcp_policy.approvals import Approval, Vote
from mcp_policy.audit import Answered
from mcp_policy.audit.chain import PLACE
from mcp_policy.audit.jsonl import AuditError, JsonLinesSink, set_aside

from .recording import KEY, event, files, head_of, read, sink, verified, written

TESTS = Path(__file__).resolve().parent
SOURCE = Path(mcp_policy.__file__).parent.parent


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "audit.jsonl"


def sound(path: Path, records: int) -> bool:
    report = verified(path)
    return report.finding is None and report.records == records


def numbers(path: Path) -> list[int]:
    return [record["seq"] for record in read(path)]


def run(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(code, *arguments), capture_output=True, text=True, timeout=60, check=False)


def command(code: str, *arguments: object) -> list[str]:
    begin = f"import sys; sys.path[:0] = [{str(SOURCE)!r}, {str(TESTS)!r}]\nfrom recording import *\n"
    return [sys.executable, "-W", "error", "-c", begin + code, *map(str, arguments)]


# -- what is written


def test_a_record_is_one_line_of_json_in_order(path):
    with sink(path, clock=iter([1_700_000_000.25, 1_700_000_000.75, 1_700_000_001.0]).__next__) as audit:
        for _ in range(3):
            audit.record(event())
    assert [(record["seq"], record["time"]) for record in read(path)] == [
        (1, "2023-11-14T22:13:20.250000Z"),
        (2, "2023-11-14T22:13:20.750000Z"),
        (3, "2023-11-14T22:13:21.000000Z"),
    ]
    assert sound(path, 3)


def test_a_person_s_answer_is_on_record(path):
    approval = Approval(
        *("id1", "0" * 64, "approved", "pay", "bank", {}, None, None, (), "", 0.0, 1.0),
        decided_by="ann, bob",
        votes=(Vote("ann", 0.0), Vote("bob", 1.0, 'as "agreed"\n\u202e')),
        needed=2,
        policy="1" * 64,
    )
    with sink(path) as audit:
        audit.record(Answered(approval, True))
    (record,) = read(path)
    assert {name: record[name] for name in ("kind", "approval", "server", "tool", "approved", "by", "note")} == {
        "kind": "answer",
        "approval": "id1",
        "server": "bank",
        "tool": "pay",
        "approved": True,
        "by": "bob",
        "note": 'as "agreed"\n\u202e',
    }
    assert path.read_bytes().isascii()


def test_only_its_owner_may_read_it(path):
    written(path, 1)
    for one in (path, Path(f"{path}.head")):
        assert stat.S_IMODE(one.stat().st_mode) == 0o600


def test_each_record_is_with_the_system_at_once(path):
    with sink(path) as audit:
        for count in range(1, 4):
            audit.record(event())
            assert sound(path, count)


def test_records_are_written_together_where_that_is_asked_for(path):
    with sink(path, flush_every=3) as audit:
        for count, there in enumerate((0, 0, 3, 3, 3, 6, 6), 1):
            audit.record(event())
            assert sound(path, there), count
        audit.flush()
        assert sound(path, 7)
        audit.flush()
        audit.record(event())
    assert sound(path, 8)


def test_many_threads_write_one_chain(path):
    with sink(path, flush_every=7, rotate=20_000) as audit:

        def record() -> None:
            for number in range(200):
                audit.record(event({"n": number}))

        threads = [threading.Thread(target=record) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sound(path, 1_000)
    assert len(files(path)) > 5


# -- opening again


@pytest.mark.parametrize("settings", [{}, {"rotate": 1_000}, {"rotate": 1}, {"flush_every": 4}], ids=str)
def test_reopening_goes_on(path, settings):
    total = 0
    for count in (0, 1, 3, 0, 2, 7):
        written(path, count, **settings)
        total += count
        assert sound(path, total)
    assert numbers(path) == list(range(1, total + 1))


def test_a_record_of_long_lines_goes_on(path):
    for _ in range(3):
        with sink(path, safe=[f"k{number}" for number in range(300)]) as audit:
            audit.record(event({f"k{number}": "x" * 900 for number in range(300)}))
    assert path.stat().st_size > 3 * 200_000
    assert sound(path, 3)


def test_a_line_without_its_end_is_cut_off_and_said(path):
    written(path, 2)
    with path.open("ab") as file:
        file.write(b'{"seq":3,"time"')
    written(path, 1)
    assert [(record["seq"], record["kind"], record.get("dropped")) for record in read(path)] == [
        (1, "decision", None),
        (2, "decision", None),
        (3, "recovered", 15),
        (4, "decision", None),
    ]
    assert sound(path, 4)


def test_records_that_the_head_did_not_come_to_know_are_taken_up(path):
    head = head_of(written(path, 3))
    written(path, 4)
    Path(f"{path}.head").write_bytes(head)
    written(path, 1)
    assert sound(path, 8)


SPOILT = {
    "the last record is gone": lambda content: content[: content.rindex(b"\n", 0, -1) + 1],
    "the last record is cut": lambda content: content[:-10],
    "its end of line is gone": lambda content: content[:-1],
    "everything is gone": lambda _: b"",
    "the last record is changed": lambda content: content[:-200] + b"#" + content[-199:],
    "its link is changed": lambda content: content[:-4] + bytes([content[-4] ^ 1]) + content[-3:],
    "the last but one is changed": lambda content: content.replace(b'{"seq":4,', b'{"seq":9,'),
    "a line is added": lambda content: content + b"{}\n",
    "a record is repeated": lambda content: content + content[content.rindex(b"\n", 0, -1) + 1 :],
    "it is something else": lambda _: b"GET / HTTP/1.1\n" * 3,
    "it is one long line": lambda _: b"\0" * 100_000,
}


@pytest.mark.parametrize("how", SPOILT)
def test_what_is_not_sound_is_not_written_on_and_left_as_it_is(path, how):
    written(path, 5)
    path.write_bytes(spoilt := SPOILT[how](path.read_bytes()))
    with pytest.raises(AuditError, match=r"is not written on: .*verify it"):
        sink(path)
    assert path.read_bytes() == spoilt


@pytest.mark.parametrize("written_of_it", [0, 1, 75, 150])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_head_that_is_torn_is_recovered_and_that_is_said(path, count, written_of_it):
    """As where the writer dies while it writes the head of its last record, in the older of the two places."""
    before = head_of(written(path, count, flush_every=1))
    place = max((0, PLACE), key=lambda at: before[at : at + 20])  # the newer
    torn = b"#" * (PLACE - written_of_it)
    Path(f"{path}.head").write_bytes(before[: place + written_of_it] + torn + before[place + PLACE :])
    assert "one of the two places of its head" in verified(path).finding.what
    written(path, 1)
    assert [record["kind"] for record in read(path)] == ["decision"] * count + ["recovered", "decision"]
    assert [read(path)[count][name] for name in ("dropped", "head")] == [0, "torn"]
    assert sound(path, count + 2)


def test_the_newer_head_cannot_be_spoilt_to_hide_that_a_record_is_missing(path):
    head = head_of(written(path, 3))
    lines = path.read_bytes().splitlines(keepends=True)
    newer = max((0, PLACE), key=lambda at: head[at : at + 20])
    Path(f"{path}.head").write_bytes(head[:newer] + b"#" * PLACE + head[newer + PLACE :])
    path.write_bytes(b"".join(lines[:-1]))
    with pytest.raises(AuditError, match="one of the two places of its head was changed"):
        sink(path)


def test_the_head_of_a_sound_record_is_not_written_again(path):
    head = head_of(written(path, 3))
    for _ in range(2):
        written(path, 0)
        assert head_of(path) == head


@pytest.mark.parametrize("content", [None, b"", b"x"], ids=["missing", "empty", "changed"])
def test_without_its_head_a_record_is_not_written_on(path, content):
    written(path, 2)
    head = Path(f"{path}.head")
    head.unlink()
    if content is not None:
        head.write_bytes(content)
    with pytest.raises(AuditError, match="no authentic head"):
        sink(path)


def test_a_file_that_is_no_record_is_not_touched(path):
    for content in (b"notes of mine", b"notes of mine\n"):
        path.write_bytes(content)
        with pytest.raises(AuditError, match="is not written on"):
            sink(path)
        assert path.read_bytes() == content


def test_a_head_without_its_record_is_refused(path):
    written(path, 2)
    path.unlink()
    with pytest.raises(AuditError, match="its head says that there are 2: the end is missing"):
        sink(path)


def test_an_empty_record_is_begun(path):
    path.touch()
    written(path, 2)
    assert sound(path, 2)


def test_another_key_is_refused(path):
    written(path, 2)
    with pytest.raises(AuditError, match="this is not the key"):
        JsonLinesSink(path, key=b"x" * 32)
    assert sound(path, 2)


# -- one writer


def test_a_second_writer_is_refused_and_the_first_goes_on(path):
    with sink(path, rotate=500) as audit:
        for _ in range(4):
            with pytest.raises(AuditError, match="has a writer already; give each process a record of its own"):
                sink(path)
            audit.record(event())
    assert sound(path, 4)
    written(path, 1)
    assert sound(path, 5)


def test_another_process_is_refused(path):
    with sink(path):
        done = run("sink(Path(sys.argv[1]))", path)
    assert "AuditError" in done.stderr
    assert "has a writer already" in done.stderr


FORK = """
import os, threading, warnings
warnings.simplefilter("ignore")  # that a process with threads forks is what is tried
from mcp_policy.audit.jsonl import AuditError
audit = sink(Path(sys.argv[1]), flush_every=10)
audit.record(event())
audit._lock.acquire()  # as another thread may have at that moment
child = os.fork()
if not child:
    refused = 0
    for attempt in (lambda: audit.record(event()), audit.flush):
        try:
            attempt()
        except AuditError as error:
            refused += "belongs to the process that opened it" in str(error)
    audit.close()
    os._exit(refused)
audit._lock.release()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
audit.record(event())
audit.close()
"""


def test_the_child_of_a_fork_is_refused_and_does_not_wait(path):
    done = run(FORK, path)
    assert (done.stdout, done.stderr) == ("2\n", "")
    assert sound(path, 2)


def test_a_closed_record_is_refused(path):
    audit = sink(path)
    audit.close()
    audit.close()
    for attempt in (lambda: audit.record(event()), audit.flush):
        with pytest.raises(AuditError, match="is closed"):
            attempt()


def test_files_are_closed_where_opening_fails(path):
    written(path, 1)
    path.write_bytes(b"")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        with pytest.raises(AuditError):
            sink(path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"flush_every": 0}, ValueError),
        ({"rotate": 0}, ValueError),
        ({"key": b"short"}, ValueError),
        ({"safe": "path"}, TypeError),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_settings_that_make_no_sense_are_refused(path, settings, error):
    with pytest.raises(error):
        JsonLinesSink(path, **{"key": KEY, **settings})
    assert not path.exists()


# -- what goes wrong

KILLED = """
audit = sink(Path(sys.argv[1]), flush_every=int(sys.argv[2]), rotate=50_000)
number = 0
while True:
    audit.record(event({"n": number}))
    number += 1
"""


def size(path: Path) -> int:
    """The bytes of all files, one of which may be set aside just now."""
    total = 0
    for file in files(path):
        with suppress(FileNotFoundError):
            total += file.stat().st_size
    return total


@pytest.mark.parametrize("flush_every", [1, 16])
def test_a_writer_that_is_killed_leaves_a_record_that_goes_on(path, flush_every):
    for _ in range(3):
        there = size(path)
        with subprocess.Popen(command(KILLED, path, flush_every)) as process:
            try:
                deadline = time.monotonic() + 60
                while size(path) < there + 120_000:
                    assert process.poll() is None
                    assert time.monotonic() < deadline
                    time.sleep(0.005)
            finally:
                process.kill()
        before = sum(len(file.read_bytes().splitlines()) for file in files(path) if file.exists())
        written(path, 1)
        assert verified(path).finding is None
        assert before <= verified(path).records <= before + 2


FULL = """
import resource
path = Path(sys.argv[1])
audit = sink(path, flush_every=int(sys.argv[2]))
resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, resource.RLIM_INFINITY))
failed = 0
for number in range(40):
    try:
        audit.record(event({"n": number}))
    except OSError as error:
        failed += 1
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
for number in range(10):
    audit.record(event({"n": number}))
audit.close()
print(failed)
"""


@pytest.mark.parametrize("flush_every", [1, 3])
def test_a_full_disk_is_said_and_later_records_go_on(path, flush_every):
    done = run(FULL, path, flush_every)
    assert done.stderr == ""
    failed = int(done.stdout)
    assert 20 < failed < 40
    assert sound(path, 50 - failed)


def test_what_a_torn_write_left_is_cut_off_before_the_next(path, monkeypatch):
    def full(file, data):
        os.write(file, bytes(data)[:50])
        raise OSError(28, "no space")

    def stuck(*_):
        raise OSError(5, "input/output error")

    with sink(path) as audit:
        audit.record(event())
        with monkeypatch.context() as broken:
            broken.setattr("mcp_policy.audit.jsonl._write_all", full)
            broken.setattr(os, "ftruncate", stuck)
            with pytest.raises(OSError, match="no space"):
                audit.record(event())
        assert not path.read_bytes().endswith(b"\n")
        audit.record(event())
    assert sound(path, 2)


def test_a_head_that_cannot_be_written_is_said_and_its_record_stays(path, monkeypatch):
    with sink(path) as audit:
        audit.record(event())
        with monkeypatch.context() as broken:
            broken.setattr(audit, "_write_head", lambda: (_ for _ in ()).throw(OSError(5, "input/output error")))
            with pytest.raises(OSError, match="input/output"):
                audit.record(event())
        audit.record(event())
    assert sound(path, 3)


def test_an_interrupt_leaves_no_gap(path):
    def clock():
        if interrupted.pop(0):
            raise KeyboardInterrupt
        return 0.0

    interrupted = [False, True, False, True, False]
    with sink(path, clock=clock, flush_every=3) as audit:
        for _ in range(5):
            if interrupted[0]:
                with pytest.raises(KeyboardInterrupt):
                    audit.record(event())
            else:
                audit.record(event())
    assert sound(path, 3)


# -- what others do to the file


def test_what_others_add_stays_and_the_record_goes_on(path):
    with sink(path) as audit:
        audit.record(event())
        with path.open("ab") as file:
            file.write(b"something else")
        audit.record(event())
    lines = path.read_bytes().splitlines()
    assert [lines[1], len(lines)] == [b"something else", 3]
    assert json.loads(lines[2])["seq"] == 2
    assert verified(path).finding.line == 2


@pytest.mark.parametrize("size", [0, 100])
def test_a_file_that_others_cut_is_not_filled_up(path, size):
    with sink(path) as audit:
        audit.record(event())
        audit.record(event())
        os.truncate(path, size)
        audit.record(event())
    assert b"\0" not in path.read_bytes()
    assert json.loads(path.read_bytes().splitlines()[-1])["seq"] == 3
    assert verified(path).finding.seq == 1


def test_a_file_that_others_delete_is_begun_anew_and_misses_its_beginning(path):
    with sink(path) as audit:
        audit.record(event())
        path.unlink()
        audit.record(event())
        audit.record(event())
    assert numbers(path) == [2, 3]
    assert verified(path).finding.seq == 1
    assert verified(path, since=2).finding is None


def test_a_head_that_others_delete_is_made_anew(path):
    with sink(path) as audit:
        audit.record(event())
        Path(f"{path}.head").unlink()
        audit.record(event())
        assert sound(path, 2)
        with pytest.raises(AuditError, match="has a writer already"):
            sink(path)
    assert sound(path, 2)


def test_a_folder_that_others_delete_is_said_and_later_records_go_on(tmp_path):
    path = tmp_path / "records" / "audit.jsonl"
    path.parent.mkdir()
    with sink(path) as audit:
        audit.record(event())
        shutil.rmtree(path.parent)
        for _ in range(2):
            with pytest.raises(FileNotFoundError):
                audit.record(event())
        path.parent.mkdir()
        audit.record(event())
        audit.record(event())
    assert numbers(path) == [2, 3]
    assert verified(path).finding.seq == 1
    assert verified(path, since=2).finding is None
    written(path, 1)
    assert verified(path, since=2).last == 4


# -- rotation


def test_full_files_are_set_aside(path):
    written(path, 10, rotate=1_000)
    older = set_aside(path)
    assert [one.name for one in older] == [f"audit.jsonl.{number:06d}" for number in range(1, len(older) + 1)]
    assert all(1_000 <= one.stat().st_size < 2_000 for one in older)
    assert sound(path, 10)


def test_nothing_that_was_set_aside_is_overwritten(path):
    written(path, 10, rotate=500)
    first, *others = set_aside(path)
    kept = {one: one.read_bytes() for one in others}
    since = first.read_bytes().count(b"\n") + 1
    first.unlink()
    written(path, 10, rotate=500)
    assert {one: one.read_bytes() for one in kept} == kept
    report = verified(path, since=since)
    assert (report.finding, report.last) == (None, 20)


def test_all_older_files_may_be_taken_away(path):
    for _ in range(4):
        written(path, 2, rotate=1)
        for one in set_aside(path):
            one.unlink()
    assert numbers(path) == [8]
    assert verified(path, since=8).finding is None


def test_a_writer_that_died_while_it_set_a_file_aside_goes_on(path):
    written(path, 3)
    path.rename(f"{path}.000001")
    written(path, 2)
    assert sound(path, 5)
    assert [len(file.read_bytes().splitlines()) for file in files(path)] == [3, 2]


def test_what_was_changed_before_the_writer_died_is_refused(path):
    written(path, 3)
    path.rename(aside := Path(f"{path}.000001"))
    aside.write_bytes(aside.read_bytes().replace(b'{"seq":3', b'{"seq":4'))
    with pytest.raises(AuditError, match="record 3 is not here"):
        sink(path)


def test_where_nothing_can_be_set_aside_nothing_is_recorded_and_nothing_lost(path, monkeypatch):
    def refused(*_):
        raise PermissionError(13, "permission denied")

    with sink(path, rotate=1_000) as audit:
        with monkeypatch.context() as broken:
            broken.setattr(Path, "rename", refused)
            failed = 0
            for _ in range(6):
                try:
                    audit.record(event())
                except PermissionError:
                    failed += 1
        assert 0 < failed < 6
        audit.record(event())
    assert sound(path, 7 - failed)


# -- with an engine

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


def test_what_an_engine_decides_is_on_record(path):
    ann = Principal("ann", issuer="https://idp.example", client="app")
    with sink(path, safe=["path"]) as audit:
        engine = PolicyEngine(POLICY, clock=lambda: 0.0, audit=audit)
        for tool in ("read", "rm", "other", "search", "search", "pay"):
            call = ToolCall(tool, {"path": "/é", "token": "secret"}, session="s1", principal=ann, server="files")
            decision = engine.authorize(call)
        engine.approve(decision.approval.id, by="bob", note="as agreed")
        assert engine.authorize(call).allowed
        assert engine.unrecorded == 0
    assert sound(path, 8)
    records = read(path)
    assert [record.get("effect") for record in records] == [
        *("allow", "deny", "deny", "allow", "limit", "approve", None, "allow"),
    ]
    assert [record.get("codes") for record in records] == [
        ["allowed"],
        ["denied_by_rule"],
        ["default_deny"],
        ["allowed"],
        ["rate_limited"],
        ["approval_required"],
        None,
        ["approved"],
    ]
    limited, asked, answered, ran = records[4:]
    assert limited["rules"] == ["/tools/search/rate_limit"]
    assert limited["retry_after"] == 60.0
    assert [(one["remaining"], one["available"]) for one in limited["limits"]] == [(0, True)]
    assert (answered["by"], answered["note"], answered["status"]) == ("bob", "as agreed", "approved")
    assert ran["approval"] == {"id": asked["approval"]["id"], "by": "bob", "at": 0.0}
    assert (asked["approval"]["by"], asked["approval"]["at"]) == (None, None)
    assert {record["policy"] for record in records} == {POLICY.digest}
    assert ran["principal"] == {"id": "ann", "issuer": "https://idp.example", "client": "app"}
    assert ran["values"] == {"path": "/é"}
    assert ran["keys"] == ["path", "token"]
    assert b"secret" not in path.read_bytes()
    assert b'"s1"' not in path.read_bytes()


def test_an_engine_that_requires_its_record_denies_without_it(path):
    audit = sink(path)
    engine = PolicyEngine(POLICY, audit=audit, audit_required=True)
    assert engine.authorize(ToolCall("read")).allowed
    audit.close()
    assert not engine.authorize(ToolCall("read")).allowed
    assert engine.unrecorded == 1
