"""`mcp-policy approvals` on real stores: what it shows, what it decides, and what it refuses."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import pytest
import redis

import mcp_policy
from mcp_policy import Policy, PolicyEngine, Principal, ToolCall
from mcp_policy.approvals import Approval, ApprovalRequest, MemoryApprovalStore
from mcp_policy.cli import main
from mcp_policy.cli._approvals import spoken
from mcp_policy.cli._approvals_watch import EVERY, events
from mcp_policy.cli._exits import FAILED, FINE, INTERRUPTED, USAGE
from mcp_policy.stores import open_stores
from redis_servers import server
from webhook_receiver import Receiver

SOURCE = Path(mcp_policy.__file__).parent.parent
SQLITE = "sqlite:///state.db"
POLICY = Policy.model_validate(
    {"version": "1", "tools": {"pay": {"action": "approve", "reason": "money leaves the house"}}}
)
ANN = Principal("ann", issuer="https://idp.example")
ODD = "pay\x1b[2J\r\n\u202ex\u200b\x07 \u2028y"


@pytest.fixture(scope="module")
def valkey():
    with server("valkey") as running:
        yield running


@pytest.fixture(params=["sqlite", "valkey"])
def url(request, tmp_path, monkeypatch):
    """The address of a store, which the environment names too."""
    monkeypatch.chdir(tmp_path)
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "dana")
    where = SQLITE
    if request.param == "valkey":
        where = request.getfixturevalue("valkey").url
        with redis.Redis.from_url(where) as client:
            client.flushall()
    monkeypatch.setenv("MCP_POLICY_STORE", where)
    return where


@pytest.fixture
def store(url):
    stores = open_stores(url)
    yield stores.approvals
    stores.close()


@pytest.fixture
def approvals(capsys):
    def run(*argv: str) -> tuple[int, str, str]:
        status = main(["approvals", *argv])
        told = capsys.readouterr()
        return status, told.out, told.err

    return run


def ask(store, amount=1, **settings) -> Approval:
    decision = engine(store, **settings).authorize(ToolCall("pay", {"amount": amount}, principal=ANN, server="bank"))
    return decision.approval


def engine(store, **settings):
    return PolicyEngine(POLICY, approvals=store, **settings)


def put(store, digest="d", **changed) -> Approval:
    request = ApprovalRequest(digest, "o", 900.0, "pay", None, {}, None, None, (), "")._replace(**changed)
    return store.ask(request)[0]


# -- list


def test_nothing_waits(approvals, store):
    assert approvals("list") == (FINE, "nothing waits for a person\n", "")
    assert approvals("list", "--json") == (FINE, '{\n  "approvals": []\n}\n', "")


def test_a_line_for_each_that_waits_oldest_first(approvals, store):
    records = [ask(store, amount, quorum=amount) for amount in (1, 2)]
    engine(store).approve(records[1].id, by="bob")
    status, out, err = approvals("list")
    assert (status, err) == (FINE, "")
    head, *lines = [line.split("  ") for line in out.splitlines()]
    heads = ["id", "tool", "server", "principal", "approvals", "age", "expires in", "rule", "reason"]
    assert [name.strip() for name in head if name] == heads
    rows = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert [row[0] for row in rows] == [record.id for record in records]
    assert [row[4] for row in rows] == ["0 of 1", "1 of 2"]
    for row in rows:
        assert row[1:4] == ["pay", "bank", "ann (issuer https://idp.example)"]
        assert row[6].startswith("14m")
        assert row[7:] == ["/tools/pay", "money leaves the house"]


def test_what_is_decided_does_not_wait(approvals, store):
    engine(store).approve(ask(store).id, by="bob")
    assert approvals("list")[1] == "nothing waits for a person\n"


def test_the_list_for_programs(approvals, store):
    record = ask(store, quorum=2, approvers=["bob", "dana"])
    engine(store).approve(record.id, by="bob", note="fine")
    status, out, _ = approvals("list", "--json")
    (said,) = json.loads(out)["approvals"]
    times = [said.pop(name) for name in ("created", "expires")] + [said["votes"][0].pop("at")]
    assert all(at.endswith("+00:00") for at in times)
    assert status == FINE
    assert said == {
        "id": record.id,
        "status": "pending",
        "tool": "pay",
        "server": "bank",
        "principal": {"id": "ann", "issuer": "https://idp.example", "client": None},
        "session": None,
        "rules": ["/tools/pay"],
        "reason": "money leaves the house",
        "needed": 2,
        "approvers": ["bob", "dana"],
        "votes": [{"by": "bob", "note": "fine"}],
        "decided_by": None,
        "decided_at": None,
        "policy": POLICY.digest,
    }


def test_long_texts_are_cut_in_the_list_and_ids_are_not(approvals, store):
    record = put(store, tool="t" * 5_000, reason="r" * 5_000, rules=("/tools/" + "x" * 5_000, "/b", "/c"))
    line = approvals("list")[1].splitlines()[1]
    assert line.startswith(f"{record.id}  {'t' * 59}…  ")
    assert " (+2)  " in line
    assert len(line) < 400
    assert "t" * 5_000 in approvals("show", record.id)[1].replace("\n", "").replace(" ", "")


# -- show


def test_show_tells_everything_but_the_arguments(approvals, store):
    record = put(store, principal={"id": None, "issuer": None, "client": None}, session="s1", arguments={"amount": 77_123}, needed=2, approvers=("bob", "dana"))  # fmt: skip
    engine(store).approve(record.id, by="bob", note="fine")
    status, out, _ = approvals("show", record.id)
    facts = dict(line.split("  ", 1) for line in out.splitlines()[3:])
    assert status == FINE
    said = {name: value.strip() for name, value in facts.items() if name not in {"asked", "expires", "said"}}
    assert said == {
        "status": "pending",
        "tool": "pay",
        "server": "-",
        "asked by": "-",
        "session": "s1",
        "reason": "-",
        "approvals": "1 of 2",
        "who may decide": "bob, dana",
        "policy": "-",
        "arguments": "--arguments shows them",
    }
    assert facts["said"].strip().startswith("bob, 20")
    assert facts["said"].endswith(": fine")
    assert "77" not in approvals("show", record.id, "--json")[1].replace(record.id, "")


def test_show_has_the_arguments_where_they_are_asked_for(approvals, store):
    record = put(store, arguments={"amount": Decimal("0.10"), "to": "\x1b[2J\u202e\n"})
    lines = approvals("show", record.id, "--arguments")[1].splitlines()
    assert [line.strip() for line in lines[-4:]] == ["{", '"amount": "0.10",', '"to": "\\u001b[2J\\u202e\\n"', "}"]
    said = json.loads(approvals("show", record.id, "--arguments", "--json")[1])
    assert said["arguments"] == {"amount": "0.10", "to": "\x1b[2J\u202e\n"}


def test_show_tells_who_decided(approvals, store):
    record = ask(store)
    engine(store).reject(record.id, by="bob", note="no")
    assert "status     rejected by bob\n" in approvals("show", record.id)[1]
    assert json.loads(approvals("show", record.id, "--json")[1])["decided_by"] == "bob"


@pytest.mark.parametrize("id", ["", "nobody", "\x1b[2J", "é"], ids=["empty", "unknown", "odd", "not ASCII"])
def test_there_is_no_such_approval(approvals, store, id):
    status, out, err = approvals("show", id)
    assert (status, out, err.count("\n")) == (FAILED, "", 1)
    assert "it was used or has expired, or there never was one" in err
    assert err[:-1].isprintable()


# -- approve and reject


def test_an_approved_call_runs_once(approvals, store):
    record = ask(store)
    status, out, err = approvals("approve", record.id, "--note", "as discussed")
    assert (status, out, err) == (FINE, f"approved  {record.id}  pay\n", "")
    (vote,) = store.get(record.id).votes
    assert (vote.by, vote.note) == ("dana", "as discussed")
    guard = engine(store)
    call = ToolCall("pay", {"amount": 1}, principal=ANN, server="bank")
    assert [guard.authorize(call).allowed for _ in range(2)] == [True, False]


def test_a_rejected_call_does_not(approvals, store):
    record = ask(store)
    assert approvals("reject", record.id, "--by", "bob") == (FINE, f"rejected  {record.id}  pay\n", "")
    assert store.get(record.id).decided_by == "bob"
    assert ask(store).status == "rejected"


def test_several_people_approve(approvals, store):
    record = ask(store, quorum=2)
    assert approvals("approve", record.id)[1] == f"pending   {record.id}  pay  1 of 2 approvals\n"
    status, out, err = approvals("approve", record.id)
    assert (status, out) == (FAILED, "")
    assert "`dana` has approved" in err
    assert approvals("approve", record.id, "--by", "bob")[1] == f"approved  {record.id}  pay\n"


def test_nobody_approves_their_own_call(approvals, store):
    record = ask(store)
    status, _, err = approvals("approve", record.id, "--by", "ann")
    assert (status, err) == (FAILED, "mcp-policy approvals: a principal cannot approve its own call\n")
    assert store.get(record.id).status == "pending"


def test_not_everybody_may(approvals, store):
    record = ask(store, approvers=["bob"])
    for verb in ("approve", "reject"):
        status, _, err = approvals(verb, record.id)
        assert (status, "`dana` is not among those who may decide" in err) == (FAILED, True)


def test_several_at_once_and_one_that_cannot_be(approvals, store):
    first, second = ask(store, 1), ask(store, 2)
    status, out, err = approvals("approve", first.id, "nobody", second.id)
    assert status == FAILED
    assert out == f"approved  {first.id}  pay\napproved  {second.id}  pay\n"
    assert err == "mcp-policy approvals: unknown approval `nobody`\n"


def test_a_part_of_an_id_is_not_enough(approvals, store):
    record = ask(store)
    for part in (record.id[:-1], record.id[:8], "", f"{record.id} ", record.id.swapcase()):
        status, out, err = approvals("approve", part)
        assert (status, out, "unknown approval" in err) == (FAILED, "", True)
    assert store.get(record.id).status == "pending"


def test_no_id_is_taken_for_an_option(store):
    assert not [id for id in (put(store, str(n), owner=str(n)).id for n in range(300)) if id.startswith("-")]


def test_what_was_decided_is_not_decided_again(approvals, store):
    record = ask(store)
    approvals("reject", record.id)
    status, _, err = approvals("approve", record.id, "--by", "bob")
    assert (status, "was rejected by `dana` already" in err) == (FAILED, True)


def test_what_was_used_is_not_approved_again(approvals, store):
    record = ask(store)
    engine(store).approve(record.id, by="bob")
    assert store.consume(record.digest)
    status, _, err = approvals("approve", record.id)
    assert (status, "was approved and used" in err) == (FAILED, True)


@pytest.mark.parametrize(
    ("options", "status", "why"),
    [
        (["--by", ""], FAILED, "`by` must not be empty"),
        (["--note", "x" * 1_001], FAILED, "a note has at most 1,000 characters"),
        (["--by", "\udcff"], USAGE, "is not text"),
        (["--note", "\udcff"], USAGE, "is not text"),
        (["\udcff"], USAGE, "is not text"),
    ],
    ids=["nobody", "long note", "name that is no text", "note that is no text", "id that is no text"],
)
def test_bad_names_and_notes(approvals, store, options, status, why):
    record = ask(store)
    told = approvals("approve", record.id, *options)
    assert (told[0], why in told[2], told[2].count("\n")) == (status, True, 1)
    assert store.get(record.id).status == "pending"


def test_a_user_without_a_name_has_to_say_one(approvals, store, monkeypatch):
    def nobody():
        raise KeyError("uid not found")

    monkeypatch.setattr("getpass.getuser", nobody)
    status, _, err = approvals("approve", ask(store).id)
    assert (status, "--by has to name who decides" in err) == (USAGE, True)


# -- text that means harm


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("argv", [("list",), ("show", "ID"), ("show", "ID", "--arguments"), ("approve", "ID"), ("reject", "ID"), ("approve", ODD, "ID")], ids=" ".join)  # fmt: skip
def test_no_text_of_a_call_forges_a_line_or_reaches_the_terminal(approvals, store, argv):
    odd = {"tool": ODD, "server": ODD, "session": ODD, "rules": (ODD,), "reason": ODD, "approvers": (ODD, "dana", "d2")}
    record = put(store, **odd, principal={"id": ODD, "issuer": ODD, "client": ODD}, arguments={ODD: ODD}, needed=3)
    fine = put(store, "fine", tool="x", server="x", session="x", rules=("x",), reason="x", approvers=("x", "dana", "d2"), principal={"id": "x", "issuer": "x", "client": "x"}, arguments={"x": "x"}, needed=3)  # fmt: skip
    store.decide(record.id, True, ODD, ODD)
    store.decide(fine.id, True, "x", "x")
    odd_text = approvals(*(record.id if one == "ID" else one for one in argv))
    fine_text = approvals(*(fine.id if one == "ID" else one for one in argv))
    for text in odd_text[1:]:
        assert text.replace("\n", "").isprintable()
    assert odd_text[0] == fine_text[0]
    assert odd_text[2].count("\n") == fine_text[2].count("\n")
    if argv[0] != "show":  # which wraps
        assert odd_text[1].count("\n") == fine_text[1].count("\n")


class Terminal(io.StringIO):
    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_colour_on_a_terminal_only(approvals, store, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    record = put(store, tool=ODD)
    for argv in (("list",), ("show", record.id)):
        assert "\x1b" not in approvals(*argv)[1]
        screen = Terminal()
        with monkeypatch.context() as here:
            here.setattr(sys, "stdout", screen)
            assert main(["approvals", *argv]) == FINE
        assert "\x1b[" in screen.getvalue()
        assert "\x1b[2J" not in screen.getvalue()
        assert record.id in screen.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0s"), (0.9, "0s"), (59.9, "59s"), (60, "1m"), (61, "1m1s"), (3_600, "1h"), (3_661, "1h1m"), (90_000, "1d1h"), (86_460, "1d"), (1e300, "years"), (float("inf"), "years"), (float("nan"), "years"), (float("-inf"), "0s")],
)  # fmt: skip
def test_times_in_short(seconds, text):
    assert spoken(seconds) == text


# -- stores that are not there

COMMANDS = [("list",), ("show", "x"), ("approve", "x"), ("reject", "x"), ("watch",)]


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MCP_POLICY_STORE", raising=False)


def one_line(told: tuple[int, str, str]) -> tuple[int, str]:
    assert (told[1], told[2].count("\n")) == ("", 1)
    assert told[2][:-1].isprintable()
    return told[0], told[2].removeprefix("mcp-policy approvals: ").rstrip("\n")


@pytest.mark.parametrize("argv", COMMANDS, ids=" ".join)
def test_no_store_is_named(approvals, nowhere, argv):
    status, line = one_line(approvals(*argv))
    assert status == USAGE
    assert line == "--store, or the variable MCP_POLICY_STORE, has to name the store that a server or gateway uses"


@pytest.mark.parametrize(
    ("named", "status", "why"),
    [
        ("memory", USAGE, "--store: found no kind of store"),
        ("mysql://ann:hunter2@h/d", USAGE, "--store: found `mysql:`"),
        ("sqlite://state.db", USAGE, "--store: a file of state is named with three slashes"),
        ("sqlite://[hunter2", USAGE, "--store: Invalid IPv6 URL"),
        ("sqlite:///gone.db", FAILED, "there is no file `gone.db`"),
        ("sqlite:///a%0Ab", FAILED, "there is no file"),
        ("sqlite:///a%00b", FAILED, "there is no file"),
        ("sqlite:///text.db", FAILED, "the store cannot be used: "),
        ("sqlite:///.", FAILED, "the store cannot be used: "),
        ("redis://:hunter2@127.0.0.1:PORT/0", FAILED, "the store cannot be used: "),
        ("valkey://127.0.0.1:PORT", FAILED, "the store cannot be used: "),
    ],
)
def test_a_store_that_cannot_be_used(approvals, nowhere, named, status, why):
    Path("text.db").write_text("this is no database, " * 100, encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        named = named.replace("PORT", str(taken.getsockname()[1]))
    for argv in COMMANDS:
        said = one_line(approvals(*argv, "--store", named))
        assert said[0] == status
        assert said[1].startswith(why)
        assert "hunter2" not in said[1]
    assert [path.name for path in Path().iterdir()] == ["text.db"]


def test_a_missing_extra_is_said(approvals, nowhere, monkeypatch):
    monkeypatch.setitem(sys.modules, "mcp_policy.approvals.redis", None)
    assert one_line(approvals("list", "--store", "redis://127.0.0.1:1"))[0] == FAILED


# -- what happens, as a watch sees it


class Scene:
    """A store that changes while a watch sleeps."""

    def __init__(self, *steps):
        self.now = 1_000.0
        self.store = MemoryApprovalStore(clock=lambda: self.now)
        self.steps = list(steps)
        self.said: list[str] = []
        self.down = False

    def pending(self):
        if self.down:
            raise ConnectionError("down\x1b[2J")
        return self.store.pending()

    def get(self, approval_id):
        return self.store.get(approval_id)

    def sleep(self, seconds):
        assert seconds == EVERY
        self.now += seconds
        if not self.steps:
            raise StopWatching
        self.steps.pop(0)(self)

    def seen(self) -> list[tuple[str, str]]:
        told = []
        try:
            for event in events(self, say=self.said.append, sleep=self.sleep, clock=lambda: self.now):
                told.append((event.kind, event.record.digest))  # noqa: PERF401  # until it raises
        except StopWatching:
            return told


class StopWatching(Exception):
    pass


def asking(digest, **changed):
    return lambda scene: put(scene.store, digest, **changed)


def deciding(digest, approved, by="bob"):
    return lambda scene: scene.store.decide(scene.store.find(digest)[0].id, approved, by)


def using(digest):
    return lambda scene: scene.store.consume(digest)


def waiting(seconds):
    def step(scene):
        scene.now += seconds

    return step


def nothing(scene):
    pass


def both(*steps):
    def step(scene):
        for one in steps:
            one(scene)

    return step


@pytest.mark.parametrize(
    ("steps", "kinds"),
    [
        ([], ["pending"]),
        ([nothing, nothing], ["pending"]),
        ([deciding("a", True), nothing, using("a"), nothing], ["pending", "approved", "used"]),
        ([deciding("a", False), nothing, waiting(900)], ["pending", "rejected"]),
        ([waiting(900), nothing], ["pending", "expired"]),
        ([deciding("a", True), waiting(900), nothing], ["pending", "approved", "expired"]),
        ([both(deciding("a", True), using("a")), nothing], ["pending", "gone"]),
    ],
    ids=["waits", "waits on", "used", "rejected", "expired", "approved, expired", "between two looks"],
)
def test_what_becomes_of_one(steps, kinds):
    scene = Scene(*steps)
    asking("a")(scene)
    assert scene.seen() == [(kind, "a") for kind in kinds]


def test_votes_show():
    scene = Scene(
        asking("a", needed=3), deciding("a", True, "ann"), deciding("a", True, "bob"), deciding("a", True, "cid")
    )
    assert [kind for kind, _ in scene.seen()] == ["pending", "voted", "voted", "approved"]


def test_what_comes_later_shows_and_asking_again_after_a_use_too():
    scene = Scene(
        asking("a"), asking("b"), deciding("a", True), using("a"), asking("a"), both(deciding("b", False), asking("c"))
    )
    assert scene.seen() == [("pending", "a"), ("pending", "b"), ("approved", "a"), ("used", "a"), ("pending", "a"), ("pending", "c"), ("rejected", "b")]  # fmt: skip


def test_a_store_that_fails_later_is_said_once_and_asked_again():
    def down(scene):
        scene.down = True

    def up(scene):
        scene.down = False
        put(scene.store, "b")

    scene = Scene(asking("a"), down, nothing, nothing, up, down, up, nothing)
    assert scene.seen() == [("pending", "a"), ("pending", "b")]
    assert [line.split(":")[0] for line in scene.said] == [
        "the store does not answer, and is asked again and again",
        "the store answers again",
    ] * 2


def test_a_store_that_fails_at_once_raises():
    scene = Scene()
    scene.down = True
    with pytest.raises(ConnectionError):
        scene.seen()


def test_of_many_that_are_approved_and_never_used_few_are_followed():
    asked = []
    scene = Scene(both(*(deciding(str(n), True) for n in range(500))), nothing, nothing)
    for n in range(500):
        put(scene.store, str(n), owner=str(n))
    scene.get = lambda id: asked.append(id) or scene.store.get(id)
    scene.seen()
    assert len(asked) == 500 + 100 + 100


# -- the command, in a process of its own


@contextmanager
def watching(*options, **settings):
    """A watch that runs; ended by Ctrl-C at the latest with the block."""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "mcp_policy", "approvals", "watch", *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **settings}
    with subprocess.Popen(command, env=environment, text=True, **pipes) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def test_a_watch_prints_what_happens_until_interrupted(store):
    first = ask(store)
    with watching("--json") as watch:
        assert (event := json.loads(watch.stdout.readline()))["event"] == "pending"
        assert event["id"] == first.id
        assert "arguments" not in event
        second = ask(store, 2)
        assert json.loads(watch.stdout.readline())["id"] == second.id
        engine(store).approve(first.id, by="bob", note="fine")
        event = json.loads(watch.stdout.readline())
        assert (event["event"], event["decided_by"], event["votes"][0]["note"]) == ("approved", "bob", "fine")
        store.consume(first.digest)
        assert json.loads(watch.stdout.readline())["event"] == "used"
        watch.send_signal(signal.SIGINT)
        out, err = watch.communicate(timeout=30)
    assert (watch.returncode, out, err) == (INTERRUPTED, "", "mcp-policy approvals: interrupted\n")


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_watch_for_people_is_one_line_each_whatever_a_call_says(store):
    odd = put(store, tool=ODD, server=ODD, reason=ODD, principal={"id": ODD, "issuer": ODD, "client": ODD}, needed=2)
    with watching() as watch:
        lines = [watch.stdout.readline()]
        store.decide(odd.id, True, ODD, ODD)
        lines.append(watch.stdout.readline())
        store.decide(odd.id, False, "bob", "too much")
        lines.append(watch.stdout.readline())
    for line, kind in zip(lines, ("pending", "voted", "rejected"), strict=True):
        assert line[:-1].isprintable()
        assert line[10:].startswith(f"{kind:8}  {odd.id}  `pay\\u001b[2J")
    assert lines[2].endswith(" by `bob`: too much\n")


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_watch_ends_when_its_reader_has_left(store):
    ask(store, 1)
    with watching() as watch:
        assert watch.stdout.readline()
        watch.stdout.close()
        ask(store, 2)
        assert watch.wait(30) == FAILED
        assert watch.stderr.read() == ""


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_watch_says_a_full_disk(store):
    ask(store)
    with Path("/dev/full").open("wb") as full, watching(stdout=full) as watch:
        assert watch.wait(30) == FAILED
        said = "mcp-policy approvals: standard output cannot be written: no space left on device\n"
        assert watch.stderr.read() == said


def test_a_watch_outlives_a_server_that_is_away_for_a_while(tmp_path, monkeypatch):
    with server("valkey") as running:
        monkeypatch.setenv("MCP_POLICY_STORE", running.url)
        with watching("--json") as watch:
            stores = open_stores(running.url)
            record = ask(stores.approvals, 1)
            assert json.loads(watch.stdout.readline())["id"] == record.id
            running.kill()
            assert "the store does not answer" in watch.stderr.readline()
            running.start()
            assert watch.stderr.readline() == "mcp-policy approvals: the store answers again\n"
            assert json.loads(watch.stdout.readline())["event"] == "gone"  # it kept nothing
            record = ask(stores.approvals, 2)
            assert json.loads(watch.stdout.readline())["id"] == record.id
            stores.close()


# -- the webhook of a watch

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


def test_a_watch_tells_a_receiver(store, monkeypatch):
    import standardwebhooks

    monkeypatch.setenv("MCP_POLICY_WEBHOOK_SECRET", SECRET)
    record = ask(store, 77_123)
    with Receiver() as receiver:
        with watching("--webhook", receiver.url) as watch:
            deadline = time.monotonic() + 30
            while not receiver.got:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            watch.send_signal(signal.SIGINT)
            watch.communicate(timeout=30)
            assert watch.returncode == INTERRUPTED
        (got,) = receiver.got
    standardwebhooks.Webhook(SECRET).verify(got.body, got.headers)
    assert got.data["id"] == record.id
    assert "arguments" not in got.data


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("to", "secret", "status", "why"),
    [
        ("https://example.com/", None, USAGE, "--webhook needs its secret in the variable MCP_POLICY_WEBHOOK_SECRET"),
        ("https://example.com/", "", USAGE, "--webhook needs its secret in the variable MCP_POLICY_WEBHOOK_SECRET"),
        ("https://example.com/", "hunter2", USAGE, "--webhook: the secret of a webhook is bytes, or `whsec_`"),
        ("http://example.com/hunter2", SECRET, USAGE, "--webhook: the URL of a webhook has `https:`"),
    ],
    ids=["no secret", "an empty secret", "a bad secret", "plain HTTP"],
)
def test_a_webhook_that_cannot_be(approvals, store, monkeypatch, to, secret, status, why):
    if secret is None:
        monkeypatch.delenv("MCP_POLICY_WEBHOOK_SECRET", raising=False)
    else:
        monkeypatch.setenv("MCP_POLICY_WEBHOOK_SECRET", secret)
    said = one_line(approvals("watch", "--webhook", to))
    assert said[0] == status
    assert said[1].startswith(why)
    assert "hunter2" not in said[1]


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_webhook_without_its_extra(approvals, store, monkeypatch):
    monkeypatch.setenv("MCP_POLICY_WEBHOOK_SECRET", SECRET)
    monkeypatch.delitem(sys.modules, "mcp_policy.approvals.webhook", raising=False)
    monkeypatch.setitem(sys.modules, "httpx2", None)
    said = one_line(approvals("watch", "--webhook", "https://example.com/"))
    assert said == (FAILED, 'webhooks need httpx2: pip install "mcp-policy[webhook]"')
