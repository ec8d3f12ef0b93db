"""`mcp-policy check`: what it reads, what it prints in each format, and how it ends."""

from __future__ import annotations

import io
import json
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from mcp_policy.cli import main

INTEGRATION = Path(__file__).parent / "integration"
FINE = {"version": "1", "tools": {"read_file": {}}}
FOUND = {"version": "1", "default": "allow", "tools": {"read_file": {}}}
NOTED = {"version": "1", "tools": {"read_file": {"mode": "shadow"}, "list_files": {}}}
MISSPELT = {"version": "1", "tools": {"reed_file": {}}}
TOOLS = {"tools": [{"name": "read_file", "inputSchema": {"type": "object"}}]}


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def put(name: str, tree: object) -> str:
    Path(name).write_text(tree if isinstance(tree, str) else json.dumps(tree), encoding="utf-8")
    return name


def checked(capsys, *argv: str, status: int = 0) -> tuple[str, str]:
    assert main(["check", *argv]) == status
    return tuple(capsys.readouterr())


def data(capsys, *argv: str, status: int = 0) -> dict:
    return json.loads(checked(capsys, *argv, "--format", "json", status=status)[0])


def codes(capsys, *argv: str, status: int = 0) -> list[list[str]]:
    return [[one["code"] for one in file["findings"]] for file in data(capsys, *argv, status=status)["files"]]


def suppress(**keys: str) -> dict:
    return {"version": "1", "suppress": [keys]}


# -- how it ends


def test_a_policy_without_findings(capsys):
    assert checked(capsys, put("policy.json", FINE)) == ("no findings in 1 file\n", "")


def test_what_is_found_stands_with_its_place_its_code_and_what_would_be_right(capsys):
    text = '{\n  "version": "1",\n  "default": "allow",\n  "tools": {"read_file": {}}\n}\n'
    out, err = checked(capsys, put("policy.json", text), status=4)
    assert err == ""
    assert out.splitlines() == [
        "policy.json",
        "  3:14  warning  a tool that nothing lists is allowed, also one that the server adds tomorrow  (default_allow)",
        "        at /default",
        '        fix: list what may run and leave `default` at `"deny"`',
        "",
        "1 warning in 1 file",
    ]


def test_notes_do_not_fail_a_check(capsys):
    assert codes(capsys, put("policy.json", NOTED)) == [["shadow_rule"]]


def test_a_policy_that_is_not_valid(capsys):
    (file,) = data(capsys, put("policy.json", '{"version": "1",\n "tols": {}, "default": 1}'), status=3)["files"]
    assert [(one["code"], one["severity"], one["pointer"]) for one in file["findings"]] == [
        ("unknown_key", "error", "/tols"),
        ("wrong_type", "error", "/default"),
    ]
    assert [(one["line"], one["column"]) for one in file["findings"]] == [(2, 2), (2, 25)]


@pytest.mark.parametrize("text", ["", "[]", "\x00\x01", "{" * 100, '{"version": "1", "version": "1"}'])
def test_a_file_that_is_no_policy(capsys, text):
    assert checked(capsys, put("policy.json", text), status=3)[0].startswith("policy.json\n")


def test_a_file_that_is_not_there(capsys):
    out, err = checked(capsys, "missing.json", status=2)
    assert out == ""
    assert err == "mcp-policy check: `missing.json` cannot be read: no such file or directory\n"


@pytest.mark.parametrize(
    ("trees", "status"),
    [
        ((FINE, FINE), 0),
        ((FINE, FOUND), 4),
        ((FOUND, FINE), 4),
        (({"version": "2"}, FINE), 3),
    ],
)
def test_of_several_policies_the_worst_decides(capsys, trees, status):
    names = [put(f"{place}.json", tree) for place, tree in enumerate(trees)]
    files = data(capsys, *names, status=status)["files"]
    assert [file["path"] for file in files] == names


def test_an_invalid_policy_is_told_from_one_with_findings(capsys):
    names = [put("found.json", FOUND), put("invalid.json", {"version": "2"})]
    assert main(["check", *names]) == main(["check", *reversed(names)]) == 3
    capsys.readouterr()


def test_standard_input(capsys, monkeypatch):
    put("-.check.json", suppress(code="default_allow", reason="of another file"))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(json.dumps(FOUND).encode())))
    (file,) = data(capsys, "-", status=4)["files"]
    assert (file["path"], file["findings"][0]["line"]) == ("-", 1)


def test_other_formats_of_policies(capsys):
    yaml = 'version: "1"\ndefault: allow\ntools:\n  read_file: {}\n'
    toml = 'version = "1"\ndefault = "allow"\n\n[tools.read_file]\n'
    for name in (put("policy.yaml", yaml), put("policy.toml", toml)):
        (file,) = data(capsys, name, status=4)["files"]
        (one,) = file["findings"]
        assert (one["code"], one["pointer"]) == ("default_allow", "/default")
    (file,) = data(capsys, "policy.yaml", status=4)["files"]
    assert (file["findings"][0]["line"], file["findings"][0]["column"]) == (2, 10)


# -- formats


def test_json(capsys):
    found = data(capsys, put("policy.json", FOUND), put("other.json", FINE), status=4)
    assert found["summary"] == {"error": 0, "warning": 1, "note": 0, "suppressed": 0}
    first, second = found["files"]
    assert second == {"path": "other.json", "findings": [], "suppressed": []}
    (one,) = first["findings"]
    assert list(one) == ["code", "severity", "pointer", "message", "fix", "line", "column"]
    assert (one["line"], one["column"]) == (1, 29)


def test_sarif(capsys):
    out, _ = checked(capsys, put("policy.json", FOUND), "--format", "sarif", status=4)
    (run,) = json.loads(out)["runs"]
    (result,) = run["results"]
    assert (result["ruleId"], result["level"]) == ("default_allow", "warning")
    (rule,) = [rule for rule in run["tool"]["driver"]["rules"] if rule["id"] == "default_allow"]
    assert "tools that nothing lists" in json.dumps(rule)
    region = result["locations"][0]["physicalLocation"]
    assert region["artifactLocation"]["uri"] == "policy.json"
    assert region["region"]["startLine"] == 1


def test_sarif_knows_what_is_wrong_with_an_invalid_policy(capsys):
    out, _ = checked(capsys, put("policy.json", {"version": "2"}), "--format", "sarif", status=3)
    (run,) = json.loads(out)["runs"]
    assert {result["ruleId"] for result in run["results"]} <= {rule["id"] for rule in run["tool"]["driver"]["rules"]}


def test_github(capsys):
    out, _ = checked(capsys, put("policy.json", FOUND), "--format", "github", status=4)
    assert out.startswith("::warning file=policy.json,line=1,")
    assert "title=default_allow::a tool that nothing lists" in out


def test_junit(capsys):
    out, _ = checked(capsys, put("policy.json", FOUND), put("other.json", FINE), "--format", "junit", status=4)
    tree = ET.fromstring(out)
    assert len(tree.findall(".//failure")) == 1
    assert "default_allow" in out


# -- beside tools


def test_beside_a_list_of_tools(capsys):
    put("tools.json", TOOLS)
    (file,) = data(capsys, put("policy.json", MISSPELT), "--tools", "tools.json", status=4)["files"]
    (one,) = file["findings"]
    assert (one["code"], one["pointer"]) == ("unknown_tool", "/tools/reed_file")
    assert one["fix"] == "did you mean `read_file`?"
    assert codes(capsys, put("policy.json", FINE), "--tools", "tools.json") == [[]]


def test_beside_a_server_of_the_catalogue(capsys):
    tree = {"version": "1", "tools": {"get_current_tim": {}}}
    (file,) = data(capsys, put("policy.json", tree), "--server", "time", status=4)["files"]
    assert [one["code"] for one in file["findings"]] == ["unknown_tool"]
    assert file["findings"][0]["fix"] == "did you mean `get_current_time`?"


def test_a_server_that_the_catalogue_does_not_know(capsys):
    _, err = checked(capsys, put("policy.json", FINE), "--server", "githb", status=2)
    assert err == "mcp-policy check: there is no server `githb` in the catalogue; did you mean `github`?\n"
    _, err = checked(capsys, "policy.json", "--server", "qqqqqqqqq", status=2)
    assert "`mcp-policy catalog list` shows all" in err


def test_beside_what_a_server_says(capsys):
    command = [sys.executable, str(INTEGRATION / "odd_server.py"), "fine"]
    put("policy.json", MISSPELT)
    assert codes_from(capsys, ["policy.json", "--format", "json", "--tools-from", "--", *command], 4) == [
        ["unknown_tool"]
    ]
    put("policy.json", FINE)
    assert codes_from(capsys, ["--format", "json", "policy.json", "--tools-from", "--", *command], 0) == [[]]


def test_beside_a_server_made_with_the_sdk(capsys):
    server = [sys.executable, str(INTEGRATION / "stdio_server.py"), "mcp"]
    put("policy.json", {"version": "1", "tools": {"ls": {"require": [{"path": "args.pth", "op": "eq", "value": "/"}]}}})
    assert codes_from(capsys, ["policy.json", "--format", "json", "--tools-from", "--", *server], 4) == [
        ["unknown_argument"]
    ]


def codes_from(capsys, argv: list[str], status: int) -> list[list[str]]:
    out, _ = checked(capsys, *argv, status=status)
    return [[one["code"] for one in file["findings"]] for file in json.loads(out)["files"]]


def test_a_server_that_gives_no_list(capsys):
    command = [sys.executable, "-c", "raise SystemExit(3)"]
    out, err = checked(capsys, put("policy.json", FINE), "--tools-from", "--", *command, status=2)
    assert out == ""
    assert "mcp-policy check: the server gave no list of tools: " in err


def test_options_behind_the_dashes_are_the_command_s_own(capsys):
    script = "import sys; sys.exit(0 if sys.argv[1:] == ['--', '--format', 'x'] else 5)"
    command = [sys.executable, "-c", script, "--", "--format", "x"]
    _, err = checked(capsys, put("policy.json", FINE), "--tools-from", "--", *command, status=2)
    assert "status 5" not in err


@pytest.mark.parametrize("argv", [["policy.json", "--tools-from"], ["policy.json", "--tools-from", "--"]])
def test_no_command(capsys, argv):
    put("policy.json", FINE)
    _, err = checked(capsys, *argv, status=2)
    assert "--tools-from needs a command: `mcp-policy check POLICY --tools-from -- COMMAND...`" in err


def test_only_one_source_of_tools(capsys):
    put("policy.json", FINE)
    for more in (["--tools", "tools.json", "--server", "time"], ["--server", "time", "--tools-from", "--", "x"]):
        _, err = checked(capsys, "policy.json", *more, status=2)
        assert "only one of --tools, --server and --tools-from" in err


@pytest.mark.parametrize(
    "text", ["", "[1]", '{"tools": 1}', '{"tools": [{}]}', '{"tools": [], "nextCursor": "2"}', "\x00"]
)
def test_a_list_that_cannot_be_read(capsys, text):
    put("policy.json", FINE)
    out, err = checked(capsys, "policy.json", "--tools", put("tools.json", text), status=2)
    assert out == ""
    assert "tools.json" in err


# -- suppression


def test_what_is_suppressed_is_listed_with_its_reason(capsys):
    put("policy.json", FOUND)
    put("policy.check.json", suppress(code="default_allow", reason="a gateway lists the tools"))
    out, _ = checked(capsys, "policy.json")
    assert "suppressed  a tool that nothing lists is allowed" in out
    assert "reason: a gateway lists the tools" in out
    assert out.endswith("1 suppressed in 1 file\n")
    (file,) = data(capsys, "policy.json")["files"]
    assert (file["findings"], file["suppressed"][0]["reason"]) == ([], "a gateway lists the tools")
    (run,) = json.loads(checked(capsys, "policy.json", "--format", "sarif")[0])["runs"]
    (result,) = run["results"]
    assert result["suppressions"][0]["justification"] == "a gateway lists the tools"


def test_what_suppresses_nothing_is_found_in_its_own_file(capsys):
    put("policy.json", FINE)
    put("policy.check.json", suppress(code="default_allow", reason="a gateway lists the tools"))
    policy, beside = data(capsys, "policy.json", status=4)["files"]
    assert policy["findings"] == []
    (one,) = beside["findings"]
    assert beside["path"] == "policy.check.json"
    assert (one["code"], one["pointer"], one["line"]) == ("unused_suppression", "/suppress/0", 1)


def test_suppressions_stand_beside_their_policy(capsys):
    Path("policies").mkdir()
    put("policies/a.policy.yaml", 'version: "1"\ndefault: allow\ntools: {read_file: {}}\n')
    put("a.policy.check.json", suppress(code="default_allow", reason="of another folder"))
    assert codes(capsys, "policies/a.policy.yaml", status=4) == [["default_allow"]]
    put("policies/a.policy.check.json", suppress(code="default_allow", reason="meant so"))
    assert codes(capsys, "policies/a.policy.yaml") == [[]]


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        (suppress(code="default_allow"), "/suppress/0: missing_key: `reason` is missing: say why this is right here"),
        (suppress(code="default_alow", reason="x"), "no such code; did you mean `default_allow`?"),
        ({"version": "1", "supress": []}, "/supress: unknown_key: no such key; did you mean `suppress`?"),
        ("{", "invalid_json"),
        ("[]", "expected an object"),
    ],
)
def test_suppressions_that_cannot_be_read(capsys, tree, said):
    put("policy.json", FOUND)
    put("policy.check.json", tree)
    out, err = checked(capsys, "policy.json", status=2)
    assert out == ""
    assert "mcp-policy check: `policy.check.json`: " in err
    assert said in err


# -- large policies


def test_a_large_policy_is_checked(capsys):
    texts = [{"path": "args.path", "op": "not_regex", "value": f"^(?:a{n}|b+{n})*c$"} for n in range(60)]
    numbers = [{"path": f"args.n{n}", "op": "lte", "value": n} for n in range(60)]
    clause = {"conditions": [*numbers, {"path": "args.more", "op": "eq", "value": True}]}
    rule = {"require": [*texts, *numbers], "deny_if": [clause], "approve_if": numbers}
    tools = {"read_all": rule} | {f"read_{n}": {"require": [numbers[1]]} for n in range(1000)}
    assert codes(capsys, put("policy.json", {"version": "1", "tools": tools})) == [[]]
