"""`mcp-policy eval`: calls from options and files, every exit status, and input that means harm."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import mcp_policy
from mcp_policy.cli import main
from mcp_policy.cli._calls import Asked, Refused, read_calls
from mcp_policy.cli._decisions import in_words
from mcp_policy.cli._exits import FAILED, FINE, INVALID, REFUSED, USAGE

SOURCE = Path(mcp_policy.__file__).parent.parent
POLICY = """{
  "version": "1",
  "tools": {
    "pay": {
      "require": [{"path": "args.amount", "op": "lte", "value": 100}],
      "rate_limit": {"max": 2, "window": 90}
    },
    "drop": {"action": "approve", "reason": "cannot be undone"},
    "read*": {},
    "who": {"require": [
      {"path": "principal.id", "op": "eq", "value": "ann"},
      {"path": "principal.issuer", "op": "eq", "value": "idp"},
      {"path": "principal.client", "op": "eq", "value": "app"},
      {"path": "principal.roles", "op": "eq", "value": ["r1", "r2"]},
      {"path": "principal.scopes", "op": "eq", "value": ["s1"]},
      {"path": "principal.claims.tier", "op": "eq", "value": 2},
      {"path": "context.time.hour", "op": "eq", "value": 9},
      {"path": "session.id", "op": "eq", "value": "s"},
      {"path": "server.name", "op": "eq", "value": "srv"},
      {"path": "tool.category", "op": "eq", "value": "write"},
      {"path": "args.n", "op": "eq", "value": 1}
    ]}
  }
}
"""
WHO = {
    "tool": "who",
    "arguments": {"n": 1},
    "server": "srv",
    "session": "s",
    "principal": {
        "id": "ann",
        "issuer": "idp",
        "client": "app",
        "roles": ["r1", "r2"],
        "scopes": ["s1"],
        "claims": {"tier": 2},
    },
    "context": {"time": {"hour": 9}},
    "category": "write",
}


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("policy.json").write_text(POLICY, encoding="utf-8")


@pytest.fixture
def evaluate(capsys):
    def run(*argv: str, policy: str = "policy.json") -> tuple[int, str, str]:
        status = main(["eval", policy, *argv])
        told = capsys.readouterr()
        return status, told.out, told.err

    return run


def calls(*some: object, name: str = "calls.jsonl") -> str:
    lines = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in some]
    Path(name).write_bytes(b"\n".join(lines) + b"\n")
    return name


def answers(printed: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in printed.splitlines()]


def stdin(monkeypatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))


# -- one call


@pytest.mark.parametrize(
    ("argv", "status", "effect"),
    [
        (["--tool", "read_x"], FINE, "allow"),
        (["--tool", "pay", "--args", '{"amount": 100}'], FINE, "allow"),
        (["--tool", "pay", "--args", '{"amount": 101}'], REFUSED, "deny"),
        (["--tool", "drop"], REFUSED, "approve"),
        (["--tool", "unknown"], REFUSED, "deny"),
        (["--tool", ""], REFUSED, "deny"),
    ],
)
def test_the_status_says_whether_a_call_is_allowed(evaluate, argv, status, effect):
    found, out, err = evaluate(*argv)
    assert (found, err) == (status, "")
    assert out.startswith(f"{effect:<7}  {argv[1]}".rstrip())
    found, out, err = evaluate(*argv, "--format", "json")
    assert (found, json.loads(out)["effect"], err) == (status, effect, "")


def test_a_decision_for_people(evaluate):
    assert evaluate("--tool", "pay", "--args", '{"amount": 150}')[1] == (
        "deny     pay\n\n"
        "  require  this call is allowed only if `args.amount` is at most 100\n"
        "           /tools/pay/require/0, policy.json:5\n"
    )
    assert evaluate("--tool", "pay", "--args", '{"amount": 50}')[1] == (
        "allow    pay\n\n"
        "  allowed  the policy allows this call\n"
        "           /tools/pay, policy.json:4\n\n"
        "  limit                  left  of  empty in\n"
        "  /tools/pay/rate_limit     2   2  0 seconds\n"
    )


def test_a_decision_for_programs_has_every_field(evaluate):
    assert json.loads(evaluate("--tool", "pay", "--args", '{"amount": 150}', "--format", "json")[1]) == {
        "effect": "deny",
        "allowed": False,
        "reasons": [
            {
                "code": "require",
                "message": "this call is allowed only if `args.amount` is at most 100",
                "rule": "/tools/pay/require/0",
                "path": "args.amount",
            }
        ],
        "retry_after": None,
        "limits": [],
        "would_be": None,
        "shadow": [],
        "approval": None,
    }


def test_options_and_files_say_the_same(evaluate):
    options = [
        *("--tool", "who", "--args", '{"n": 1}', "--server", "srv", "--session", "s", "--principal", "ann"),
        *("--issuer", "idp", "--client", "app", "--role", "r1", "--role", "r2", "--scope", "s1"),
        *("--claims", '{"tier": 2}', "--context", '{"time": {"hour": 9}}', "--category", "write"),
    ]
    assert evaluate(*options)[0] == FINE
    assert evaluate("--calls", calls(WHO))[0] == FINE
    for key in WHO.keys() - {"tool"}:
        assert evaluate("--calls", calls({**WHO, key: None}))[0] == REFUSED, key
    for key in WHO["principal"]:
        assert evaluate("--calls", calls({**WHO, "principal": {**WHO["principal"], key: None}}))[0] == REFUSED, key


def test_objects_from_files(evaluate, monkeypatch):
    Path("args.json").write_text('{"amount": 1}', encoding="utf-8")
    assert evaluate("--tool", "pay", "--args", "@args.json")[0] == FINE
    stdin(monkeypatch, b'{"amount": 1}')
    assert evaluate("--tool", "pay", "--args", "@-")[0] == FINE
    stdin(monkeypatch, POLICY.encode())
    status, out, _ = evaluate("--tool", "read", policy="-")
    assert status == FINE
    assert out.endswith("/tools/read*\n")  # there is no file to point into


def test_a_call_over_several_lines(evaluate):
    text = json.dumps({**WHO, "arguments": {"n": 1, "list": [{"a": 1}, {"b": 2}]}}, indent=2)
    assert evaluate("--calls", calls(b"\n" + text.encode()))[0] == FINE
    (answer,) = answers(evaluate("--calls", "calls.jsonl", "--format", "json")[1])
    assert (answer["line"], answer["effect"]) == (2, "allow")


def test_yaml_and_toml_policies(evaluate):
    Path("p.yaml").write_text("version: '1'\ntools:\n  drop: {action: deny}\n", encoding="utf-8")
    assert "p.yaml:3\n" in evaluate("--tool", "drop", policy="p.yaml")[1]
    Path("p.toml").write_text('version = "1"\n[tools.drop]\naction = "deny"\n', encoding="utf-8")
    assert evaluate("--tool", "drop", policy="p.toml")[1].endswith(" /tools/drop\n")


# -- several calls


def test_one_answer_a_line_in_the_same_order(evaluate):
    name = calls({"tool": "read"}, {"tool": "drop"}, b"", {"tool": "nope"}, {"tool": "read2"})
    status, out, err = evaluate("--calls", name, "--format", "json")
    assert (status, err) == (REFUSED, "")
    told = [(one["line"], one["effect"], one["allowed"]) for one in answers(out)]
    assert told == [(1, "allow", True), (2, "approve", False), (4, "deny", False), (5, "allow", True)]
    assert evaluate("--calls", calls({"tool": "read"}, {"tool": "read2"}))[0] == FINE


def test_several_calls_for_people(evaluate):
    name = calls({"tool": "read"}, b'{"tol": 1}', {"tool": "drop"})
    assert evaluate("--calls", name)[1] == (
        "    1  allow    read\n"
        "    2  deny     (not a call)\n"
        "                invalid_call  `tol` is not a key of a call: did you mean `tool`?; `tool` is missing, which"
        " names what is called\n"
        "    3  approve  drop\n"
        "                approval_required  cannot be undone\n"
        "                                   /tools/drop, policy.json:8\n"
        "\n"
        "3 calls: 1 allow, 1 deny, 1 approve\n"
    )


def test_from_standard_input(evaluate, monkeypatch):
    stdin(monkeypatch, b'{"tool": "read"}\r\n{"tool": "read2"}\r\n')
    status, out, _ = evaluate("--calls", "-", "--format", "json")
    assert (status, [one["effect"] for one in answers(out)]) == (FINE, ["allow", "allow"])


PAY = {"tool": "pay", "arguments": {"amount": 1}, "session": "s"}


def test_evaluate_takes_nothing_and_authorize_counts(evaluate):
    name = calls(*[PAY] * 3)
    for _ in range(2):
        assert [one["effect"] for one in answers(evaluate("--calls", name, "--format", "json")[1])] == ["allow"] * 3
        told = answers(evaluate("--calls", name, "--authorize", "--format", "json")[1])
        assert [one["effect"] for one in told] == ["allow", "allow", "limit"]
        assert [one["limits"][0]["remaining"] for one in told] == [1, 0, 0]
        assert told[2]["retry_after"] == 90


def test_time_is_what_the_calls_say(evaluate):
    name = calls(PAY, {**PAY, "at": 30}, {**PAY, "at": 89.5}, PAY, {**PAY, "at": 90})
    told = answers(evaluate("--calls", name, "--authorize", "--format", "json")[1])
    assert [(one["effect"], one["retry_after"]) for one in told] == [
        ("allow", None),
        ("allow", None),
        ("limit", 0.5),
        ("limit", 0.5),
        ("allow", None),
    ]
    # the first call then comes at second 40, and those that say an earlier time no earlier than that
    told = answers(evaluate("--calls", name, "--authorize", "--at", "40", "--format", "json")[1])
    assert [one["effect"] for one in told] == ["allow", "allow", "limit", "limit", "limit"]
    out = evaluate("--calls", name, "--authorize")[1]
    assert "rate_limited  used up: the limit of 2 in 90 seconds\n" in out
    assert "                retry in 1 second\n" in out


def test_an_approval_is_shown_by_its_id(evaluate):
    drop = {"tool": "drop", "session": "s"}
    first, second = answers(evaluate("--calls", calls(drop, drop), "--authorize", "--format", "json")[1])
    assert first["approval"] == second["approval"]
    assert isinstance(first["approval"], str)
    assert "waits for approval " in evaluate("--calls", calls(drop), "--authorize")[1]
    assert answers(evaluate("--calls", calls(drop), "--format", "json")[1])[0]["approval"] is None


def test_shadow_mode(evaluate):
    shadow = {"version": "1", "tools": {"t": [{}, {"mode": "shadow", "action": "deny", "reason": "not yet"}]}}
    Path("shadow.json").write_text(json.dumps(shadow), encoding="utf-8")
    status, out, _ = evaluate("--tool", "t", policy="shadow.json")
    assert status == FINE
    assert out.splitlines()[4:6] == ["  in shadow mode; would be deny", "  denied_by_rule  not yet"]
    answer = json.loads(evaluate("--tool", "t", "--format", "json", policy="shadow.json")[1])
    assert (answer["effect"], answer["would_be"], answer["shadow"][0]["rule"]) == ("allow", "deny", "/tools/t/1")
    Path("all.json").write_text(json.dumps({"version": "1", "mode": "shadow"}), encoding="utf-8")
    assert evaluate("--calls", calls({"tool": "t"}, {"tool": "t"}), policy="all.json")[1].count("would be deny") == 2


def test_what_never_passes_says_so(evaluate):
    for limit, said in (({"max": 0, "window": 1}, "it never passes"), ({"max": 5, "window": 1, "cost": 9}, "it never")):
        Path("never.json").write_text(json.dumps({"version": "1", "tools": {"t": {"limits": [limit]}}}))
        status, out, _ = evaluate("--tool", "t", policy="never.json")
        assert (status, said in out) == (REFUSED, True)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 seconds"),
        (0.001, "1 second"),
        (59.2, "1 minute"),
        (90, "1 minute 30 seconds"),
        (3600, "1 hour"),
        (3601, "1 hour 1 minute"),
        (86_400, "1 day"),
        (200_000, "2 days 7 hours 34 minutes"),
        (1e10, "115,740 days 17 hours 47 minutes"),
    ],
)
def test_times_in_words(seconds, words):
    assert in_words(seconds) == words


# -- what cannot be read


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "nothing is called: `--tool NAME` names a tool, `--calls FILE` a file of calls"),
        (["--args", "{}"], "nothing is called"),
        (["--calls", "c", "--tool", "t"], "leave `--tool` out, or `--calls`"),
        (["--calls", "c", "--role", "r"], "leave `--role` out, or `--calls`"),
        (["--tool", "t", "--args", "[1]"], "`--args` has to be a JSON object, found a list"),
        (["--tool", "t", "--args", '{"a": 1, "a": 2}'], "`--args`: column 10: `/a`: this key stands in its object"),
        (["--tool", "t", "--args", '{"a": NaN}'], "`--args`: column 7: `NaN` is not a JSON number"),
        (["--tool", "t", "--args", "{"], "`--args`: column 2: not JSON"),
        (["--tool", "t", "--args", ""], "`--args`: column 1: not JSON"),
        (["--tool", "t", "--args", '{"a": "\\ud800"}'], "lone surrogate"),
        (["--tool", "t", "--args", '{"a": "\udcff"}'], "`--args`: column 8: a lone surrogate is not text"),
        (["--tool", "t", "--args", '{"a":' + "[" * 64 + "]" * 64 + "}"], "more than 64 levels are nested"),
        (["--tool", "t", "--args", "@missing.json"], "`missing.json` cannot be read: no such file"),
        (["--tool", "t", "--claims", "1"], "`--claims` has to be a JSON object, found a number"),
        (["--tool", "t", "--context", "null"], "`--context` has to be a JSON object, found null"),
        (["--tool", "\udcff"], "`--tool` is not UTF-8"),
        (["--tool", "t", "--role", "\udcff"], "`--role` is not UTF-8"),
        (["--tool", "t", "--session", "\udcff"], "`--session` is not UTF-8"),
        (["--calls", "missing.jsonl"], "`missing.jsonl` cannot be read: no such file"),
        (["--calls", "."], "`.` cannot be read: is a directory"),
        (["--tool", "t", "--args", "@/dev/zero"], "is larger than 4 MiB"),
    ],
)
def test_a_command_line_that_cannot_be_read(evaluate, argv, said):
    status, out, err = evaluate(*argv)
    assert (status, out, err.count("\n")) == (USAGE, "", 1)
    assert said in err
    assert err[:-1].isprintable()


@pytest.mark.parametrize(
    "argv", [["--calls", "-", "--args", "@-"], ["--tool", "t", "--args", "@-", "--claims", "@-"], ["--calls", "-"]]
)
def test_standard_input_is_read_once(evaluate, argv, monkeypatch):
    stdin(monkeypatch, POLICY.encode())
    policy = "-" if argv == ["--calls", "-"] else "policy.json"
    status, _, err = evaluate(*argv, policy=policy)
    assert status == USAGE
    assert "standard input is named twice" in err or "leave `--args` out" in err


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "soon", "1e13"])
def test_a_time_that_is_none(evaluate, text, capsys):
    with pytest.raises(SystemExit) as left:
        evaluate("--tool", "t", "--at", text)
    assert left.value.code == USAGE
    assert "is no number of seconds from 0 to 1,000,000,000,000" in capsys.readouterr().err


def test_a_policy_that_is_not_valid(evaluate):
    Path("bad.json").write_text('{"version": "1", "tols": {}}', encoding="utf-8")
    status, out, err = evaluate("--tool", "t", policy="bad.json")
    assert (status, out) == (INVALID, "")
    assert "bad.json:1:18: /tols: unknown_key" in err


# What is no call: bytes of one line, and what is said of them.
BAD = [
    (b'{"tool": "read", "tool": "pay"}', "column 18: `/tool`: this key stands in its object already"),
    (b'{"tool": "read", "at": NaN}', "`NaN` is not a JSON number"),
    (b'{"tool": "read", "at": 1e999}', "too large to be told from infinity"),
    (b'{"tool": "read", "at": 1e13}', "`at` has to be a number of seconds from 0 to 1,000,000,000,000"),
    (b'{"tool": "read", "at": -1}', "`at` has to be a number of seconds"),
    (b'{"tool": "read", "at": true}', "found the boolean `true`"),
    (b'{"tool": "read", "args": {}}', "`args` is not a key of a call: did you mean `arguments`?"),
    (b'{"tool": "read", "principal": {"rols": []}}', "`principal.rols` is not a key of a call: did you mean `roles`?"),
    (b'{"tool": "read", "principal": {"roles": "r"}}', "`principal.roles` has to be a list of strings, found the str"),
    (b'{"tool": "read", "principal": {"roles": [1]}}', "`principal.roles` has to be a list of strings, found a list"),
    (b'{"tool": "read", "principal": {"claims": []}}', "`principal.claims` has to be an object"),
    (b'{"tool": "read", "principal": "ann"}', "`principal` has to be an object, found the string `ann`"),
    (b'{"tool": "read", "arguments": [1]}', "`arguments` has to be an object, found a list"),
    (b'{"tool": "read", "context": 1}', "`context` has to be an object, found the number `1`"),
    (b'{"tool": "read", "session": 1}', "`session` has to be a string"),
    (b'{"tool": "read", "category": "reed"}', "the category has to be `read`"),
    (b'{"tool": ["read"]}', "`tool` has to be a string, found a list"),
    (b'{"tool": null}', "`tool` is missing"),
    (b"{}", "`tool` is missing"),
    (b'{"tool": "read"} {}', "not JSON: extra data"),
    (b'{"tool": "read"', "not JSON"),
    (b'["read"]', "a call is an object, found a list: of several calls, each stands on a line of its own"),
    (b'"read"', "a call is an object, found a string"),
    (b'{"tool": "\\ud800"}', "a string holds a lone surrogate"),
    (b'{"tool": "\xff"}', "not UTF-8: byte 0xFF"),
    (b'\xef\xbb\xbf{"tool": "read"}', "byte order mark"),
    (bytes(byte for byte in range(256) if byte != 10), "not UTF-8"),
    (b"\x00\x00\x00", "not JSON"),
    (b'{"tool": "read", "arguments": {"a":' + b"[" * 100 + b"]" * 100 + b"}}", "more than 64 levels"),
    (b"[" * 200_000, "more than 64 levels"),
    (b'{"tool": "read", "arguments": {"a": "' + b"x" * (4 << 20) + b'"}}', "at most 4,194,304 bytes"),
    (b'{"tool": "read", "arguments": {"a": ' + b"9" * 5000 + b"}}", "at most 4,000 digits"),
    (b'{"tool": "read", "\\u001b[2J\\u202e": 1}', "`\\u001b[2J\\u202e` is not a key of a call"),
]


@pytest.mark.parametrize(("line", "said"), BAD, ids=range(len(BAD)))
def test_one_call_that_cannot_be_read_is_an_error(evaluate, line, said):
    status, out, err = evaluate("--calls", calls(line))
    assert (status, out, err.count("\n")) == (USAGE, "", 1)
    assert err.startswith("mcp-policy eval: `calls.jsonl`: ")
    assert said in err
    assert err[:-1].isprintable()


@pytest.mark.parametrize(("line", "said"), BAD, ids=range(len(BAD)))
@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_of_several_that_cannot_be_read_is_denied(evaluate, line, said, place):
    some: list[object] = [{"tool": "read"}, {"tool": "read"}]
    some.insert(place, line)
    status, out, err = evaluate("--calls", calls(*some), "--format", "json")
    assert (status, err) == (REFUSED, "")
    told = answers(out)
    assert [one["effect"] for one in told] == ["deny" if number == place else "allow" for number in range(3)]
    (reason,) = told[place]["reasons"]
    assert (reason["code"], told[place]["line"]) == ("invalid_call", place + 1)
    assert said in reason["message"]
    status, out, err = evaluate("--calls", "calls.jsonl")
    assert (status, err) == (REFUSED, "")
    assert out.replace("\n", "").isprintable()


@pytest.mark.parametrize("data", [b"", b"\n\n", b"  \r\n"])
def test_no_call_at_all(evaluate, data):
    Path("calls.jsonl").write_bytes(data)
    assert evaluate("--calls", "calls.jsonl") == (USAGE, "", "mcp-policy eval: `calls.jsonl` holds no call\n")


def test_nothing_that_is_no_call_is_ever_allowed(evaluate):
    lines = [line for line, _ in BAD] * 2
    _, out, _ = evaluate("--calls", calls(*lines), "--format", "json")
    told = answers(out)
    assert len(told) == len(lines)
    assert not any(one["allowed"] for one in told)


def test_reading_the_same_command_line_twice_gives_the_same(tmp_path):
    arguments = SimpleNamespace(calls=calls({"tool": "a"}, b"{"), policy="p", tool=None)
    for name in ("args", "server", "session", "context", "category"):
        setattr(arguments, name, None)
    for name in ("principal", "issuer", "client", "role", "scope", "claims"):
        setattr(arguments, name, None)
    first, second = read_calls(arguments)
    assert isinstance(first, Asked)
    assert (first.call.tool, first.at, first.line) == ("a", None, 1)
    assert second == Refused("column 2: not JSON: expecting property name enclosed in double quotes", 2)


# -- what is shown


def test_control_characters_show(evaluate):
    for argv in (["--tool", "a\x1b[31m\u202eb"], ["--calls", calls({"tool": "a\x1b[31m\u202eb"})]):
        status, out, _ = evaluate(*argv)
        assert status == REFUSED
        assert "a\\u001b[31m\\u202eb" in out
        assert "invalid_call" in out
        assert out.replace("\n", "").isprintable()


def test_a_hostile_policy_shows_as_text(evaluate):
    odd = "x\u202e\x1b[2J\u200b"
    tree = {"version": "1", "tools": {"t": {"action": "deny", "reason": odd, "limits": [{"max": 1, "window": 1, "counter": odd}]}}}  # fmt: skip
    Path(f"p{odd}.json").write_text(json.dumps(tree), encoding="utf-8")
    assert evaluate("--tool", "t", policy=f"p{odd}.json")[1].replace("\n", "").isprintable()


class Terminal(io.StringIO):
    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


def test_colour_on_a_terminal_only(evaluate, monkeypatch):
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    assert "\x1b" not in evaluate("--tool", "drop")[1]
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("TERM", "xterm")
    assert main(["eval", "policy.json", "--tool", "read\x07"]) == REFUSED
    assert "\x1b[" in screen.getvalue()
    assert "\x07" not in screen.getvalue()


def ran(*argv: str, **settings: Any) -> tuple[int, bytes]:
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run(
        [sys.executable, "-m", "mcp_policy", "eval", "policy.json", *argv],
        env=environment, stderr=subprocess.PIPE, check=False, **settings,
    )  # fmt: skip
    return done.returncode, done.stderr


def test_a_reader_who_has_gone_changes_no_status():
    name = calls(*[{"tool": "read"}] * 5_000)
    for form in ("pretty", "json"):
        reader, writer = os.pipe()
        os.close(reader)
        assert ran("--calls", name, "--format", form, stdout=writer) == (FINE, b"")
        assert ran("--calls", calls(b"{", {"tool": "read"}, name="b"), "--format", form, stdout=writer) == (
            REFUSED,
            b"",
        )
        os.close(writer)


def test_a_full_disk_is_said():
    with Path("/dev/full").open("wb") as full:
        status, told = ran("--tool", "read", stdout=full)
    assert (status, told) == (FAILED, b"mcp-policy eval: standard output cannot be written: no space left on device\n")


def test_a_closed_output_is_said():
    script = f'exec "{sys.executable}" -m mcp_policy eval policy.json --tool read >&-'
    done = subprocess.run(
        ["sh", "-c", script], env={**os.environ, "PYTHONPATH": str(SOURCE)}, stderr=subprocess.PIPE, check=False
    )
    assert done.returncode == FAILED
    assert done.stderr == b"mcp-policy eval: standard output cannot be written: it is closed\n"
