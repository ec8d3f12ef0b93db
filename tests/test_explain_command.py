"""`mcp-policy explain`: the tree a person reads, the same for programs, and input that means harm."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import mcp_policy
from mcp_policy import Policy, PolicyEngine, ToolCall
from mcp_policy.cli import main
from mcp_policy.cli._exits import FINE, INVALID, USAGE

SOURCE = Path(mcp_policy.__file__).parent.parent
POLICY = """{
  "version": "1",
  "tools": {
    "pay": {
      "require": [
        {"path": "args.amount", "op": "lte", "value": 100},
        {"conditions": [
          {"path": "args.currency", "op": "eq", "value": "EUR"},
          {"path": "args.to", "op": "starts_with", "value": "acme-"}
        ]}
      ],
      "rate_limit": "2/minute"
    },
    "pa*": {
      "when": [{"path": "principal.roles", "op": "contains", "value": "guest"}],
      "action": "approve"
    },
    "drop": {"action": "deny"}
  },
  "servers": {"prod": {"hide": ["pay"]}}
}
"""
CALL = {"tool": "pay", "arguments": {"amount": 150, "currency": "USD", "to": "acme-1"}}


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("policy.json").write_text(POLICY, encoding="utf-8")
    Path("call.json").write_text(json.dumps(CALL, indent=2), encoding="utf-8")


@pytest.fixture
def explain(capsys):
    def run(*argv: str, policy: str = "policy.json") -> tuple[int, str, str]:
        status = main(["explain", policy, *argv])
        told = capsys.readouterr()
        return status, told.out, told.err

    return run


def test_the_tree(explain):
    status, out, err = explain("--calls", "call.json", "--all")
    assert (status, err) == (FINE, "")
    assert (
        out
        == """\
deny     pay

  require  this call is allowed only if `args.amount` is at most 100
           /tools/pay/require/0, policy.json:6
  require  this call is allowed only if `args.currency` equals "EUR"
           /tools/pay/require/1, policy.json:7

├─ /tools/pay                                allow, applies, lists the tool  policy.json:4
│  ├─ require /tools/pay/require/0           does not hold, denies           policy.json:6
│  │  └─ `args.amount` is at most 100        does not hold                   found 150
│  ├─ require /tools/pay/require/1           does not hold, denies           policy.json:7
│  │  ├─ `args.currency` equals "EUR"        does not hold                   found "USD"
│  │  └─ `args.to` starts with "acme-"       not looked at
│  └─ limit /tools/pay/rate_limit            not looked at                   costs 1, policy.json:12
│     └─ at most 2 in 60 seconds
├─ /tools/pa*                                approve, does not apply         policy.json:14
│  └─ when                                   does not hold
│     └─ `principal.roles` contains "guest"  does not hold                   found []
├─ /tools/drop                               is for another tool             policy.json:18
├─ /servers/prod                             is for another server           policy.json:20
└─ default absent: deny
"""
    )


def test_options_and_files_say_the_same(explain):
    from_file = explain("--calls", "call.json")
    assert explain("--tool", "pay", "--args", json.dumps(CALL["arguments"])) == from_file
    assert "/tools/drop" not in from_file[1]
    assert "acme-1" not in from_file[1]  # it was not looked at


def test_approvals_and_limits_as_they_stand(explain):
    arguments = '{"amount": 1, "currency": "EUR", "to": "acme-1"}'
    out = explain("--tool", "pay", "--args", arguments, "--role", "guest")[1]
    assert out.startswith("approve  pay\n\n  approval_required  a person has to approve this call\n")
    assert "approve, applies, lists the tool" in out
    assert "2 of 2 left" in out
    assert 'found ["guest"]' in out


def test_a_hidden_tool(explain):
    out = explain("--tool", "pay", "--server", "prod")[1]
    assert "├─ /servers/prod/hide/0" in out
    assert "hides the tool" in out


def test_a_name_that_is_not_spelt_right(explain):
    out = explain("--tool", "dorp")[1]
    assert "  no entry lists it; did you mean `drop`?\n" in out
    assert "did you mean" not in explain("--tool", "something_else")[1]
    assert "did you mean" not in explain("--tool", "drop")[1]


def test_the_category(explain):
    Path("c.json").write_text('{"version": "1", "categories": {"read": {}, "write": {"action": "deny"}}}')
    assert "  its category is `read`\n" in explain("--tool", "t", "--category", "read", policy="c.json")[1]
    out = explain("--tool", "t", "--category", "unknown", policy="c.json")[1]
    assert "its category is unknown: it is restricted like every category, and listed by none" in out
    assert (
        "is for another category than `read`"
        in explain("--tool", "t", "--category", "read", "--all", policy="c.json")[1]
    )


def test_for_programs(explain):
    status, out, _ = explain("--calls", "call.json", "--format", "json", "--all")
    told = json.loads(out)
    assert status == FINE
    assert told.keys() == {"tool", "server", "category", "decision", "hidden", "rules", "others", "default"}
    engine = PolicyEngine(Policy.parse(POLICY))
    explanation = engine.explain(ToolCall(CALL["tool"], CALL["arguments"]))
    assert told["decision"]["reasons"] == [reason._asdict() for reason in explanation.decision.reasons]
    assert [rule["rule"] for rule in told["rules"]] == [rule.rule for rule in explanation.rules]
    assert told["rules"][0]["items"][1]["conditions"] == [
        {
            "path": "args.currency",
            "op": "eq",
            "says": '`args.currency` equals "EUR"',
            "outcome": "does not hold",
            "found": [{"path": "args.currency", "text": '"USD"'}],
        },
        {
            "path": "args.to",
            "op": "starts_with",
            "says": '`args.to` starts with "acme-"',
            "outcome": "not looked at",
            "found": [],
        },
    ]
    assert told["others"][0] == {"rule": "/tools/drop", "why": "is for another tool"}
    assert json.loads(explain("--calls", "call.json", "--format", "json")[1])["others"] == []


# -- what cannot be read


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'{"tool": "a"}\n{"tool": "b"}\n', "one call is explained at a time; `mcp-policy eval` decides several"),
        (b"", "`bad.json` holds no call"),
        (b'{"tool": "a", "tool": "b"}', "this key stands in its object already"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"[" * 100_000, "more than 64 levels"),
        (b'{"tool": "' + b"x" * (4 << 20), "at most 4,194,304 bytes"),
        (b'{"tool": "\\udc00"}', "lone surrogate"),
    ],
)
def test_no_call(explain, data, said):
    Path("bad.json").write_bytes(data)
    status, out, err = explain("--calls", "bad.json")
    assert (status, out, err.count("\n")) == (USAGE, "", 1)
    assert said in err


def test_a_policy_that_is_not_valid(explain):
    Path("bad.json").write_text("[]", encoding="utf-8")
    assert explain("--tool", "t", policy="bad.json")[0] == INVALID


def test_a_policy_from_standard_input(explain, monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(POLICY.encode())))
    status, out, _ = explain("--tool", "drop", policy="-")
    assert status == FINE
    assert ".json" not in out


# -- what is shown


@pytest.mark.parametrize("form", ["pretty", "json"])
def test_control_characters_show(explain, form):
    odd = "\x1b[2J\u202e\u200b"
    tree = {"version": "1", "tools": {"t": {"require": [{"path": f'args["{chr(0x202E)}"]', "op": "eq", "value": odd}]}}}
    Path("odd.json").write_text(json.dumps(tree), encoding="utf-8")
    for tool, arguments in ((odd, {}), ("t", {chr(0x202E): odd})):
        out = explain("--tool", tool, "--args", json.dumps(arguments), "--format", form, policy="odd.json")[1]
        assert out.replace("\n", "").isprintable()


def test_large_values_stay_out(explain):
    Path("call.json").write_text(
        json.dumps({"tool": "pay", "arguments": {"amount": "x" * 2_000_000}}), encoding="utf-8"
    )
    for form in ("pretty", "json"):
        assert len(explain("--calls", "call.json", "--format", form)[1]) < 5_000


def test_a_long_line_pushes_its_columns_and_is_not_cut(explain):
    tree = {"version": "1", "tools": {"t": {"require": [{"path": f"args.{'k' * 100}", "op": "exists", "value": True}]}}}
    Path("long.json").write_text(json.dumps(tree), encoding="utf-8")
    out = explain("--tool", "t", policy="long.json")[1]
    assert f"│     └─ `args.{'k' * 100}`".removeprefix("│  ") in out
    assert f"`args.{'k' * 100}` is given  does not hold  " in out


class Screen(io.StringIO):
    def __init__(self, encoding: str, *, terminal: bool) -> None:
        super().__init__()
        self.name_of_encoding, self.terminal = encoding, terminal

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self.name_of_encoding

    def isatty(self) -> bool:
        return self.terminal


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "no-such"])
def test_a_tree_where_boxes_cannot_be_written(monkeypatch, encoding):
    screen = Screen(encoding, terminal=False)
    monkeypatch.setattr(sys, "stdout", screen)
    if encoding == "no-such":
        monkeypatch.setattr("mcp_policy.cli._style.printable", lambda text, stream: text)
    assert main(["explain", "policy.json", "--tool", "drop"]) == FINE
    assert screen.getvalue().splitlines()[-2:] == [
        "|- /tools/drop           deny, applies, lists the tool  policy.json:18",
        "`- default absent: deny",
    ]


def test_colour_on_a_terminal_only(explain, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert "\x1b" not in explain("--calls", "call.json")[1]
    screen = Screen("utf-8", terminal=True)
    monkeypatch.setattr(sys, "stdout", screen)
    assert main(["explain", "policy.json", "--calls", "call.json"]) == FINE
    assert "\x1b[" in screen.getvalue()


def test_a_reader_who_has_gone():
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "mcp_policy", "explain", "policy.json", "--calls", "call.json"],
        env={**os.environ, "PYTHONPATH": str(SOURCE)}, stdout=writer, stderr=subprocess.PIPE, check=False,
    )  # fmt: skip
    os.close(writer)
    assert (done.returncode, done.stderr) == (FINE, b"")
