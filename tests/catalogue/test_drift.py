"""What a lock file keeps, and what counts as drift."""

from __future__ import annotations

import json
from copy import deepcopy

import pytest

from mcp_policy.catalogue.drift import Change, drifted, locked, read_lock
from mcp_policy.catalogue.lookup import ToolCatalogue
from mcp_policy.catalogue.profile import RiskProfile

SCHEMA = {
    "type": "object",
    "properties": {"path": {"type": "string", "description": "Secret words."}},
    "required": ["path"],
}
READ = {
    "name": "read_file",
    "description": "Read a file.",
    "inputSchema": SCHEMA,
    "annotations": {"readOnlyHint": True},
}
WRITE = {"name": "write_file", "description": "Write a file.", "inputSchema": SCHEMA}
LOCK = locked({"files": [READ, WRITE], "time": [{"name": "now", "description": "Get the time."}]})
THERE = {"files": [READ, WRITE], "time": [{"name": "now", "description": "Get the time."}]}


def changes(found, lock=LOCK) -> list[tuple[str, str, str]]:
    return [change[:3] for change in drifted(lock, found)]


def test_a_lock_is_a_catalogue_file_of_facts():
    assert json.loads(json.dumps(LOCK)) == LOCK
    assert LOCK["version"] == "1"
    facts = LOCK["servers"]["files"]["tools"]["read_file"]
    assert facts["category"] == "read"
    assert facts["level"] == "medium"
    assert facts["hints"] == {"readOnlyHint": True}
    assert facts["parameters"] == {"path": {"type": "string", "required": True}}
    assert {len(part) for part in facts["fingerprint"].values()} == {32}
    assert "Secret words" not in json.dumps(LOCK)
    assert "Read a file" not in json.dumps(LOCK)


def test_the_order_of_a_list_does_not_count():
    assert json.dumps(locked({"time": THERE["time"], "files": [WRITE, READ]})) == json.dumps(LOCK)


def test_nothing_changed():
    assert drifted(LOCK, THERE) == ()
    assert drifted(json.loads(json.dumps(LOCK)), deepcopy(THERE)) == ()


def edited(tool: dict, **more) -> dict:
    return deepcopy(tool) | more


LESS = {"type": "object", "properties": {"path": {"type": "string"}, "mode": {"type": "string"}}}
DIFFERENCES = [
    ([READ], [("files", "write_file", "gone")]),
    ([READ, WRITE, edited(READ, name="read_all")], [("files", "read_all", "new")]),
    ([edited(READ, description="Read a file!"), WRITE], [("files", "read_file", "description")]),
    ([edited(READ, title="Reader"), WRITE], [("files", "read_file", "description")]),
    ([edited(READ, inputSchema=LESS), WRITE], [("files", "read_file", "schema")]),
    ([edited(READ, outputSchema={"type": "object"}), WRITE], [("files", "read_file", "schema")]),
    ([edited(READ, annotations={}), WRITE], [("files", "read_file", "annotations")]),
    ([edited(READ, annotations={"readOnlyHint": True, "title": "x"}), WRITE], [("files", "read_file", "annotations")]),
    (
        [READ, WRITE, edited(WRITE, description="Other.")],
        [("files", "write_file", part) for part in ("description", "schema", "annotations")],
    ),
    (
        [READ, edited(WRITE, description="Delete files for good.", annotations={"destructiveHint": True})],
        [("files", "write_file", part) for part in ("description", "annotations", "risk_raised")],
    ),
]


@pytest.mark.parametrize(("tools", "expected"), DIFFERENCES)
def test_every_difference_is_told(tools, expected):
    assert changes({**THERE, "files": tools}) == expected


def test_a_hidden_change_is_a_change():
    assert changes({**THERE, "files": [edited(READ, description="Read a file.\u200b"), WRITE]})


def test_a_change_is_told_in_words():
    (schema,) = drifted(LOCK, {**THERE, "files": [edited(READ, inputSchema=LESS), WRITE]})
    assert schema.message == "the schema changed: `mode` is new, `path` changed"
    (hints,) = drifted(LOCK, {**THERE, "files": [edited(READ, annotations={}), WRITE]})
    assert hints.message == "the annotations changed: `readOnlyHint` true -> unsaid"
    risky = edited(WRITE, annotations={"destructiveHint": True}, description="Delete a file.")
    assert drifted(LOCK, {**THERE, "files": [READ, risky]})[-1].message == "write -> destructive"


def test_silence_is_never_the_absence_of_drift():
    assert drifted(LOCK, {**THERE, "files": None}) == (Change("files", "", "server_gone", "did not answer"),)
    assert changes({"time": THERE["time"]}) == [("files", "", "server_gone")]
    assert changes({}) == [("files", "", "server_gone"), ("time", "", "server_gone")]
    assert changes({**THERE, "files": []}) == [("files", "read_file", "gone"), ("files", "write_file", "gone")]
    assert changes({**THERE, "unknown": None}) == [("unknown", "", "server_gone")]


def test_a_new_server_is_told():
    assert changes({**THERE, "other": [READ]}) == [("other", "", "server_new")]


def test_a_tool_that_did_not_change_is_not_judged_again():
    accepted = deepcopy(LOCK)
    accepted["servers"]["files"]["tools"]["write_file"]["category"] = "read"
    assert drifted(accepted, THERE) == ()
    assert changes({**THERE, "files": [READ, edited(WRITE, title="x")]}, accepted)[-1] == (
        "files",
        "write_file",
        "risk_raised",
    )


def test_definitions_that_share_a_name_are_locked_together():
    other = edited(READ, description="Delete a file for good.", annotations={})
    lock = locked({"s": [READ, other]})
    assert lock["servers"]["s"]["tools"]["read_file"]["category"] != "read"
    assert drifted(lock, {"s": [other, READ]}) == ()
    assert drifted(lock, {"s": [READ]}) != ()
    assert drifted(lock, {"s": [READ, edited(other, title="x")]}) != ()


DIGESTS = dict.fromkeys(("description", "schema", "annotations"), "0" * 32)


def of_tool(facts: object) -> dict:
    return {"version": "1", "servers": {"a": {"tools": {"t": facts}}}}


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ([], "expected an object"),
        ({"version": "2", "servers": {}}, "/version"),
        ({"version": "1"}, "servers"),
        ({"version": "1", "servers": {"a": []}}, "/servers/a"),
        (of_tool({"category": "read"}), "tool `t` of server `a` has no `fingerprint`"),
        (of_tool({"category": "read", "fingerprint": {"schema": "0" * 32}}), "fingerprint"),
        (
            of_tool({"category": "read", "fingerprint": {**DIGESTS, "schema": ""}}),
            "/servers/a/tools/t/fingerprint/schema",
        ),
        (of_tool({"fingerprint": DIGESTS}), "category"),
        (of_tool({"category": "harmless", "fingerprint": DIGESTS}), "/servers/a/tools/t/category"),
        (of_tool({"category": "read", "fingerprint": DIGESTS, "hints": []}), "/servers/a/tools/t/hints"),
    ],
)
def test_what_is_no_lock_file_is_refused(tree, message):
    with pytest.raises(ValueError, match=message):
        read_lock(tree)
    with pytest.raises(ValueError, match=message):
        drifted(tree, THERE)


def test_a_lock_is_read_as_a_catalogue_file(tmp_path):
    path = tmp_path / "tools.lock.json"
    path.write_text(json.dumps(LOCK))
    assert ToolCatalogue.load(path).category("files", "write_file") == "write"


def test_somebody_else_may_judge():
    def judge(server, definition) -> RiskProfile:
        return RiskProfile(definition.name, "financial" if server == "time" else "read", "low", 1.0, ())

    lock = locked(THERE, judge)
    assert lock["servers"]["time"]["tools"]["now"]["category"] == "financial"
    assert drifted(lock, THERE, judge) == ()


@pytest.mark.parametrize("tool", [{}, {"name": "t", "inputSchema": {"a": float("inf")}}])
def test_what_is_no_definition_is_refused(tool):
    with pytest.raises(ValueError, match="definition"):
        locked({"s": [tool]})
    with pytest.raises(ValueError, match="definition"):
        drifted(LOCK, {**THERE, "files": [tool]})
