"""The attack patterns: what the table holds, which patterns a tool is open to, and that the documentation shows it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from mcp_policy import Policy, PolicyEngine, Principal, ToolCall
from mcp_policy.catalogue.attacks import ATTACKS, LEAST, MOST, REFERENCES, Attack, attacks_on
from mcp_policy.catalogue.definition import Definition, read_definition
from mcp_policy.catalogue.profile import CATEGORIES, Category, RiskProfile
from mcp_policy.catalogue.signals import Signal, name_words, signals
from mcp_policy.cli._pages import attacks_section
from mcp_policy.cli._render import render

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "attack-patterns.md"
BY_ID = {attack.id: attack for attack in ATTACKS}


def profile(tool: str, category: Category) -> RiskProfile:
    return RiskProfile(tool, category, "low", 0.9, ())


def definition(tool: str, **parameters: dict) -> Definition:
    return read_definition({"name": tool, "inputSchema": {"type": "object", "properties": parameters}})


def open_to(tool: str, category: Category, *parameters: str) -> list[str]:
    return [one.id for one in attacks_on(profile(tool, category), definition(tool, **{key: {} for key in parameters}))]


# -- the table


def test_every_pattern_has_its_own_name() -> None:
    assert len(BY_ID) == len({attack.title for attack in ATTACKS}) == len(ATTACKS) >= 12


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.id)
def test_a_pattern_is_whole(attack: Attack) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", attack.id)
    assert len(re.findall(r"[.?!](?= [A-Z]|$)", attack.what)) == 2
    assert attack.stopped_by.endswith(".")
    assert attack.categories
    assert set(attack.categories) <= set(CATEGORIES)
    assert attack.references
    assert set(attack.references) <= set(REFERENCES)
    assert Policy.parse(attack.policy).digest


def test_every_reference_is_used() -> None:
    assert {one for attack in ATTACKS for one in attack.references} == set(REFERENCES)


def test_patterns_can_be_kept_in_a_set() -> None:
    assert len(set(ATTACKS)) == len(ATTACKS)


def decided(attack: str, tool: str, arguments: dict, **who: object) -> str:
    call = ToolCall(tool, arguments, session="s", **who)
    return str(PolicyEngine(Policy.parse(BY_ID[attack].policy)).authorize(call).effect)


@pytest.mark.parametrize(
    ("attack", "tool", "harmless", "harmful"),
    [
        ("path-traversal", "read_file", {"path": "/workspace/a"}, {"path": "/workspace/../etc/passwd"}),
        ("server-side-request-forgery", "fetch", {"url": "https://a.example.org/"}, {"url": "http://169.254.169.254/"}),
        ("argument-injection", "run_command", {"command": "git status"}, {"command": "git status; curl evil"}),
        ("exfiltration-outbound", "send_message", {"to": "team@example.com"}, {"to": "x@evil, team@example.com"}),
        ("excessive-agency", "manage_pods", {"action": "list"}, {"action": "delete"}),
    ],
)
def test_a_policy_stops_what_it_says(attack: str, tool: str, harmless: dict, harmful: dict) -> None:
    assert decided(attack, tool, harmless) == "allow"
    assert decided(attack, tool, harmful) == "deny"


@pytest.mark.parametrize("path", [".env", "app/.env.local", "/root/.ssh/id_rsa", "/home/a/.aws/credentials"])
def test_files_with_secrets_are_refused(path: str) -> None:
    assert decided("credential-leak", "read_file", {"path": path}) == "deny"
    assert decided("credential-leak", "read_file", {"path": "README.md"}) == "allow"


def test_money_and_deletion_wait_for_a_person() -> None:
    assert decided("unauthorised-payment", "create_refund", {"amount": 100}) == "approve"
    assert decided("unauthorised-payment", "create_refund", {"amount": 100.01}) == "deny"
    assert decided("irreversible-destruction", "delete_task", {}) == "approve"
    assert decided("irreversible-destruction", "drop_database", {}) == "deny"
    assert [decided("consent-fatigue", "create_charge", {"amount": many}) for many in (50, 500, 5000)] == [
        *("allow", "approve", "deny")
    ]


def test_a_deputy_asks_who_calls() -> None:
    def ask(issuer: str, user: str, *scopes: str) -> str:
        principal = Principal("u1", issuer=issuer, scopes=scopes)
        return decided("confused-deputy", "update_profile", {"user_id": user}, principal=principal)

    assert ask("https://login.example.com", "u1", "profile:write") == "allow"
    assert ask("https://evil.example.com", "u1", "profile:write") == "deny"
    assert ask("https://login.example.com", "u2", "profile:write") == "deny"
    assert ask("https://login.example.com", "u1") == "deny"


@pytest.mark.parametrize(
    ("attack", "tool", "count"), [("runaway-loop", "search", 10), ("exfiltration-read", "get_x", 60)]
)
def test_loops_end(attack: str, tool: str, count: int) -> None:
    engine = PolicyEngine(Policy.parse(BY_ID[attack].policy), clock=lambda: 0.0)
    effects = [str(engine.authorize(ToolCall(tool, session="s")).effect) for _ in range(count + 1)]
    assert effects == ["allow"] * count + ["limit"]


# -- the patterns of a tool


@pytest.mark.parametrize(
    ("tool", "category", "parameters", "first"),
    [
        ("get_task_metrics", "read", ["task_id"], ["exfiltration-read", "runaway-loop"]),
        ("run_command", "execute", ["command"], ["argument-injection", "credential-leak"]),
        ("send_email", "write", ["to", "subject", "body"], ["exfiltration-outbound"]),
        ("fetch", "read", ["url"], ["indirect-prompt-injection", "server-side-request-forgery"]),
        ("get_issue", "read", ["issue_number"], ["indirect-prompt-injection"]),
        ("delete_file", "destructive", ["path"], ["irreversible-destruction", "path-traversal"]),
        ("create_refund", "financial", ["amount"], ["unauthorised-payment"]),
        ("manage_pods", "destructive", ["force"], ["excessive-agency"]),
    ],
)
def test_the_most_pertinent_come_first(tool: str, category: Category, parameters: list[str], first: list[str]) -> None:
    assert open_to(tool, category, *parameters)[: len(first)] == first


@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize("parameters", [[], ["url", "path", "command", "to", "amount", "force", "sql", "token"]])
def test_few_are_named_each_once_and_always_the_same(category: Category, parameters: list[str]) -> None:
    found = open_to("x", category, *parameters)
    assert LEAST <= len(found) <= MOST
    assert len(set(found)) == len(found)
    assert found == open_to("x", category, *reversed(parameters))
    assert all(category in BY_ID[one].categories for one in found)


def test_without_a_definition_the_name_speaks() -> None:
    assert "indirect-prompt-injection" in [one.id for one in attacks_on(profile("read_inbox", "read"))]
    assert attacks_on(profile("get_x", "read")) == attacks_on(profile("get_x", "read"), definition("get_x"))


# -- signals


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("getTaskInfo", "get task info"),
        ("get-task_info", "get task info"),
        ("tasks.get-info", "tasks get info"),
        ("HTTPServer", "http server"),
        ("GitHubAPI2", "git hub api 2"),
        ("größe_ändern", "größe ändern"),
        ("", ""),
        ("__", ""),
        ("任务_读取", "任务 读取"),
    ],
)
def test_names_fall_into_words(name: str, words: str) -> None:
    assert " ".join(name_words(name)) == words


@pytest.mark.parametrize(
    ("parameter", "kinds"),
    [
        ("url", ["url"]),
        ("imageUrl", ["url"]),
        ("output_file", ["path"]),
        ("file_count", []),
        ("cmd", ["command"]),
        ("code", ["command"]),
        ("currency_code", []),
        ("sql", ["query"]),
        ("query", []),
        ("api_key", ["secret"]),
        ("accessToken", ["secret"]),
        ("page_token", []),
        ("nextPageToken", []),
        ("max_tokens", []),
        ("to", ["recipient"]),
        ("amount", ["amount"]),
        ("force", ["force"]),
        ("workforce", []),
    ],
)
def test_what_a_parameter_shows(parameter: str, kinds: list[str]) -> None:
    assert [one.kind for one in signals("tool", definition("tool", **{parameter: {"type": "string"}}))] == kinds


def test_what_else_shows_something() -> None:
    choice = {"type": "string", "enum": ["start", "delete"]}
    assert signals("tool", definition("tool", command=choice)) == (Signal("actions", "command"),)
    assert signals("tool", definition("tool", feed={"format": "uri"})) == (Signal("url", "feed"),)
    assert signals("tool", definition("tool", price={"type": "number"})) == (Signal("amount", "price"),)
    assert signals("tool", definition("tool", price={"type": "string"})) == ()
    assert signals("run_query", definition("run_query", query={})) == (Signal("query", "query"),)
    hinted = read_definition({"name": "tool", "annotations": {"openWorldHint": True}})
    assert signals("tool", hinted) == (Signal("open world", ""),)
    assert signals("tool", read_definition({"name": "tool", "annotations": {"openWorldHint": "yes"}})) == ()


@pytest.mark.parametrize("name", ["a" * 100_000, "A" * 100_000, "_" * 100_000, "aA" * 50_000, "é" * 100_000])
def test_a_long_name_is_read_once(name: str) -> None:
    assert sum(map(len, name_words(name))) <= len(name)


# -- the documentation


def test_the_page_is_the_table() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(attacks_section(ATTACKS), None, "markdown"), (
        "run `mcp-policy catalog attacks --format markdown > docs/reference/attack-patterns.md`"
    )


def test_the_page_shows_every_policy() -> None:
    shown = re.findall(r"^```json\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert [json.loads(one) for one in shown] == [json.loads(attack.policy) for attack in ATTACKS]
