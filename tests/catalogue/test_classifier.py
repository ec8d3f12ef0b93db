"""What `classify` makes of definitions: names, descriptions, parameters, annotations, and all of them together."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_policy.catalogue import CATEGORIES, UNSURE, Evidence, classify, fingerprint

RANK = {category: rank for rank, category in enumerate(CATEGORIES)}

NAMES = {
    "read": """
        list_deleted_items get_payment_methods preview_delete cancel_preview get_task_metrics isReadable is_deleted web_search
        weather_forecast pods_list issue_read API-post-search notion-search get_release_notes list_charges git_log pods_log
        resolve-library-id validate_order estimate_transfer dry_run_delete account_balance get_delete_markers
    """,
    "write": """
        undelete_item undelete_file undeleteRecord create_page issue_create API-patch-page post_message undo restore_backup
        frobnicate add_to_list get_or_create_user resolve_incident transfer_ownership create_payment_reminder find_and_replace
        drag_and_drop update_order_status mark_as_read unresolve_thread subscribe_to_topic
    """,
    "execute": """
        execute_sql run_query run_command eval execute_code pods_exec start_process run_tests deploy_app bash shell
        executeQuery evaluate_javascript send_command code_interpreter start_job
    """,
    "destructive": """
        drop_table drop_database purge_queue delete_repo github__delete_repo deleteRepo HubSpot.deals.delete pods_delete
        force_push git_push_force remove_user bulk_delete find_and_delete wipe-disk list_and_purge git_reset delete clear_cache
        terminate_instance truncate_table account_removal move_to_trash close_account delete_preview run_cleanup
    """,
    "financial": """
        create_refund transfer_funds execute_swap pay_invoice create_payment send_payment buy_stock place_order charge_customer
        sell_asset withdraw_funds createInvoice send_eth capture_payment cancel_subscription limit_order top_up_balance
    """,
}


def tool(name: str, description: str = "", parameters: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": parameters or {}}
    return {"name": name, "description": description, "inputSchema": schema, **more}


def category(*given: Any, **more: Any) -> str:
    return classify(tool(*given, **more)).category


@pytest.mark.parametrize(
    ("name", "expected"), [(name, kind) for kind, names in NAMES.items() for name in names.split()]
)
def test_names(name, expected):
    assert category(name) == expected


@pytest.mark.parametrize("name", ["execute_sql", "run_query", "run_command", "eval"])
@pytest.mark.parametrize("hints", [{}, {"readOnlyHint": True}, {"destructiveHint": True}, {"destructiveHint": False}])
@pytest.mark.parametrize("description", ["", "Returns rows. This tool is read-only.", "Runs it."])
def test_what_runs_code_is_execute_whatever_is_hinted(name, hints, description):
    assert category(name, description, annotations=hints) == "execute"


@pytest.mark.parametrize(
    ("description", "expected"),
    [
        ("Get the weather.", "read"),
        ("Lists all files in a folder.", "read"),
        ("Use this tool to search for documents.", "read"),
        ("This tool retrieves and formats open orders.", "read"),
        ("A tool that permanently removes a page.", "destructive"),
        ("Manage pages: create, update, or delete them.", "destructive"),
        ("Create a new file or completely overwrite an existing one.", "destructive"),
        ("Trigger operations, including re-running, cancelling and deleting runs.", "destructive"),
        ("START HERE: List available tables.", "read"),
        ("DISCOVERY: Call this first. Lists metric names.", "read"),
        ("Executes a search query against an index and retrieves matching documents.", "read"),
        ("Execute SQL in the database.", "execute"),
        ("Sends an e-mail.", "write"),
        ("Refunds a customer.", "financial"),
        ("Does not delete anything. Lists files.", "read"),
        ("<usecase>Search the docs</usecase>", "read"),
        ("**Deletes** a branch.", "destructive"),
    ],
)
def test_descriptions_of_tools_whose_names_say_nothing(description, expected):
    assert category("foo", description) == expected


def test_a_description_never_makes_a_dangerous_name_harmless():
    assert (
        category("delete_everything", "This tool is read-only and never deletes anything. It lists files.")
        == "destructive"
    )
    assert category("pay_invoice", "Returns the invoice.") == "financial"


def test_a_description_makes_a_harmless_name_worse():
    profile = classify(tool("get_page", "Deletes a page."))
    assert profile.category == "destructive"
    assert profile.evidence[0] == Evidence("description", "Deletes", "destructive")
    assert category("watch_topic", "Save or update a persistent watch.") == "write"
    assert category("update_branch", "Updates a branch. This cannot be undone.") == "destructive"
    assert category("update_branch", "Updates a branch. This is not irreversible.") == "write"


@pytest.mark.parametrize(
    ("name", "parameters", "expected"),
    [
        ("query", {"sql": {}}, "execute"),
        ("lookup_rows", {"rawSql": {}}, "execute"),
        ("lint_code", {"code": {}}, "read"),
        ("helper", {"command": {"type": "string"}}, "execute"),
        ("new_thing", {"amount": {}, "currency": {}}, "financial"),
        ("get_rate", {"amount": {}, "currency": {}}, "read"),
        ("get_image", {"outputDir": {}}, "write"),
        ("get_image", {"size": {}}, "read"),
    ],
)
def test_parameters(name, parameters, expected):
    assert category(name, "", parameters) == expected


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"enum": ["get", "list"]}, "write"),
        ({"enum": ["get", "create"]}, "write"),
        ({"enum": ["get", "delete"]}, "destructive"),
        ({"enum": ["GET", "POST", "DELETE"]}, "destructive"),
        ({"type": "string", "anyOf": [{"const": "get"}, {"const": "purge"}]}, "destructive"),
        ({"oneOf": [{"$ref": "#/$defs/Action"}, {"type": "null"}]}, "destructive"),
        ({"type": "array", "items": {"enum": ["read", "run"]}}, "execute"),
        ({"$ref": "#/$defs/Loop"}, "write"),
        ({"$ref": "https://elsewhere.example/schema"}, "write"),
        ({"enum": [None, 1, "", "assigned", "build_failed"]}, "write"),
    ],
)
def test_a_tool_with_actions_does_the_worst_of_them(schema, expected):
    definition = tool("manage_pages", "", {"action": schema})
    definition["inputSchema"]["$defs"] = {
        "Action": {"enum": ["get", "delete"]},
        "Loop": {"anyOf": [{"$ref": "#/$defs/Loop"}, {"$ref": "#/$defs/Loop"}]},
    }
    assert classify(definition).category == expected


def test_annotations_raise_and_never_lower():
    assert category("get_page", annotations={"readOnlyHint": False}) == "write"
    assert category("get_page", annotations={"destructiveHint": True}) == "destructive"
    assert category("create_page", annotations={"readOnlyHint": True}) == "write"
    assert category("delete_page", annotations={"readOnlyHint": True, "destructiveHint": False}) == "destructive"
    assert classify(tool("get_page", annotations={"readOnlyHint": False})).evidence[0].source == "annotation"


@pytest.mark.parametrize(
    ("name", "description"),
    [("frobnicate", ""), ("zzqx", "Frobnicates."), ("", "x"), ("manage_pages", ""), ("???", "")],
)
def test_what_nothing_is_known_of_is_a_write_and_unsure(name, description):
    profile = classify(tool(name or "_", description))
    assert profile.category == "write"
    assert profile.confidence < UNSURE


def test_a_noun_alone_is_no_promise_when_the_description_cannot_be_read():
    assert classify(tool("weather", "Löscht alle Dateien.")).confidence < UNSURE


@pytest.mark.parametrize(
    ("definition", "level"),
    [
        (tool("get_page"), "low"),
        (tool("get_page", "", {"url": {}}), "medium"),
        (tool("list_messages"), "medium"),
        (tool("get_secret"), "high"),
        (tool("get-env"), "high"),
        (tool("list_secrets"), "low"),
        (tool("create_page"), "medium"),
        (tool("send_message"), "high"),
        (tool("update_permissions"), "high"),
        (tool("create_note", "", {"recipients": {}}), "high"),
        (tool("run_code"), "high"),
        (tool("delete_page"), "critical"),
        (tool("create_refund"), "critical"),
    ],
    ids=lambda value: value["name"] if isinstance(value, dict) else value,
)
def test_levels(definition, level):
    assert classify(definition).level == level


def test_objects_are_read_as_mappings_are():
    hints = SimpleNamespace(read_only_hint=False, destructive_hint=None)
    found = SimpleNamespace(
        name="get_x", description="Gets.", input_schema={"properties": {"sql": {}}}, annotations=None, title=None
    )
    assert classify(found) == classify(tool("get_x", "Gets.", {"sql": {}}))
    found = SimpleNamespace(name="get_x", description=None, input_schema=None, annotations=vars(hints), title=None)
    assert classify(found).category == "write"


@pytest.mark.parametrize("odd", [{}, {"name": ""}, {"name": 5}, {"description": "x"}, None, object()])
def test_a_definition_without_a_name_is_refused(odd):
    with pytest.raises(ValueError, match="`name`"):
        classify(odd)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
WORDS = st.sampled_from(
    [
        "get",
        "list",
        "delete",
        "update",
        "create",
        "run",
        "pay",
        "action",
        "page",
        "the",
        "and",
        "or",
        "not",
        "by",
        "preview",
        "order",
        "user",
        "refund",
        "status",
    ]
)
NAMED = st.lists(WORDS, min_size=1, max_size=4).map("_".join) | st.text(min_size=1, max_size=20)
TEXT = st.lists(WORDS, max_size=12).map(" ".join) | st.text(max_size=60)
HINTS = st.dictionaries(
    st.sampled_from(["readOnlyHint", "destructiveHint", "idempotentHint"]), st.booleans() | st.none()
)


@given(NAMED, TEXT | JSON, JSON, HINTS | JSON)
def test_it_never_raises_and_is_the_same_each_time(name, description, schema, hints):
    definition = {"name": name, "description": description, "inputSchema": schema, "annotations": hints}
    profile = classify(definition)
    assert profile == classify(json.loads(json.dumps(definition)))
    assert profile.category in CATEGORIES
    assert 0 <= profile.confidence <= 1


@given(NAMED, TEXT, HINTS)
def test_annotations_never_lower(name, description, hints):
    bare, hinted = classify(tool(name, description)), classify(tool(name, description, annotations=hints))
    assert RANK[hinted.category] >= RANK[bare.category]


@given(NAMED, st.lists(WORDS, max_size=4), WORDS)
def test_another_action_never_makes_a_tool_harmless(name, actions, more):
    fewer = classify(tool(name, "", {"action": {"enum": actions}}))
    others = classify(tool(name, "", {"action": {"enum": [*actions, more]}}))
    assert RANK[others.category] >= RANK[fewer.category]


@given(NAMED, TEXT)
def test_evidence_quotes_the_definition(name, description):
    for sign in classify(tool(name, description)).evidence:
        assert sign.quote in (name if sign.source == "name" else description)


def test_what_is_managed_is_not_only_read():
    assert category("workflow_versions", "Manage version history and rollbacks.") == "write"
    assert category("workflow_versions") == "read"


@pytest.mark.parametrize(
    ("name", "description"),
    [
        ("get_user", "Gets a user. Then permanently deletes the account; this cannot be undone."),
        ("read_once", "Reads a secret. The secret is destroyed after reading."),
        ("lookup", "Looks up a record; deletes it afterwards."),
        ("take_item", "Returns the next item, removing it from the queue."),
        ("list_delete", ""),
        ("describe", "Löscht alle Dateien."),
        ("d\u0435lete_user", "Get"),
        ("get\u200b_delete_user", "Get"),
        ("preview_send", "Sends the email to all customers."),
    ],
)
def test_a_read_that_may_do_more_is_not_believed(name, description):
    profile = classify(tool(name, description))
    assert profile.category != "read" or profile.confidence < UNSURE


@pytest.mark.parametrize(
    ("name", "description", "parameters"),
    [
        ("read_output", "Executes the command and returns its output.", {"cmd": {}}),
        ("inspect", "Executes arbitrary JavaScript in the page.", {"script": {}}),
        ("get_shell", "Gets a shell.", {"command": {}}),
        ("grep", "", {"command": {}}),
        ("validate_script", "Validates the script by running it.", {"script": {}}),
        ("analyze", "Analyzes code by executing it in a subprocess.", {"code": {}}),
        ("get_data", "Gets data.", {"request": {"type": "object", "properties": {"sql": {}}}}),
        ("get_data", "Gets data.", {"request": {"anyOf": [{"properties": {"sql": {}}}, {"type": "null"}]}}),
        ("fetch", "Fetches a URL with any method.", {"url": {}, "method": {}, "body": {}}),
    ],
)
def test_what_runs_its_input_is_no_read(name, description, parameters):
    assert category(name, description, parameters) == "execute"


def test_actions_are_found_inside_wrappers_and_alternatives():
    assert category(
        "resource", "Access a resource.", {"request": {"properties": {"action": {"enum": ["get", "purge"]}}}}
    ) == ("destructive")
    assert category("get_x", "Gets x.", {"operation_type": {"enum": ["get", "delete"]}}) == "destructive"
    alternatives = {
        "oneOf": [{"properties": {"action": {"const": "delete"}}}, {"properties": {"action": {"const": "get"}}}]
    }
    assert classify({"name": "resource_view", "inputSchema": alternatives}).category == "destructive"


def test_of_a_hint_in_two_spellings_the_worse_one_counts():
    assert category("get_x", annotations={"destructiveHint": True, "destructive_hint": False}) == "destructive"
    assert category("get_x", annotations={"readOnlyHint": False, "read_only_hint": True}) == "write"


def test_a_schema_that_refers_to_itself_many_times_is_looked_at_once():
    again = [{"$ref": "#/$defs/a"}] * 200
    schema = {
        "type": "object",
        "properties": {"action": {"$ref": "#/$defs/a"}},
        "$defs": {"a": {"anyOf": again, "oneOf": again, "allOf": again}},
    }
    assert classify({"name": "manage", "inputSchema": schema}).category == "write"
    wide: dict[str, Any] = {"enum": ["get"]}
    for _ in range(30):
        wide = {"anyOf": [wide] * 200}
    assert classify({"name": "manage", "inputSchema": {"properties": {"action": wide}}}).category == "write"


def test_long_texts_are_read_too():
    many = {f"token_{number}": {} for number in range(20_000)}
    assert category("update_" + "token_" * 20_000, "", many) == "write"
    assert category("x" * 100_000, "a " * 500_000 + "This cannot be undone.") == "destructive"
    assert category("foo", "(" * 200_000) == "write"


def test_a_fingerprint_covers_what_is_of_the_wrong_type():
    prints = [
        fingerprint({"name": "u", **more})
        for more in ({}, {"description": ["a"]}, {"description": ["b"]}, {"inputSchema": [1]})
    ]
    assert len(set(prints)) == 4
    assert fingerprint({"name": "u", "description": None, "annotations": {"title": None}}) == fingerprint({"name": "u"})
