"""Catalogue files: what they may say, that everything wrong is told with its place, and that the bundled ones are right."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mcp_policy.catalogue import files
from mcp_policy.catalogue.drift import locked
from mcp_policy.catalogue.files import CatalogueError, override_problems, problems, read_all, read_servers

DIGEST = "0123456789abcdef" * 2
FULL = {
    "category": "write",
    "level": "medium",
    "confidence": 0.9,
    "evidence": [["name", "add", "write"]],
    "parameters": {"id": {"type": "string", "required": True}, "kind": {"enum": ["a", 1, None]}},
    "hints": {"readOnlyHint": False},
    "summary": "Adds one.",
    "fingerprint": {"description": DIGEST, "schema": DIGEST, "annotations": DIGEST},
}


def file_of(**servers: Any) -> dict[str, Any]:
    return {"version": "1", "servers": servers}


def with_tool(**changes: Any) -> dict[str, Any]:
    return file_of(s={"tools": {"t": {**FULL, **changes}}})


@pytest.fixture
def write(tmp_path):
    def written(content: Any, name: str = "tools.json") -> str:
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return str(path)

    return written


@pytest.mark.parametrize(
    "tree",
    [
        file_of(),
        file_of(s={"tools": {}}),
        file_of(s={"tools": {"t": {"category": "read"}}}),
        file_of(
            s={"names": ["a", "s"], "title": "S", "package": "", "release": "1", "about": "It.", "tools": {"t": FULL}}
        ),
        with_tool(confidence=0),
        locked({"s": [{"name": "get_it", "annotations": {"readOnlyHint": True}}], "empty": []}),
    ],
)
def test_what_a_file_may_say(tree, write):
    assert list(problems(tree)) == []
    assert read_servers(write(tree)) == tree["servers"]


@pytest.mark.parametrize(
    ("tree", "pointer", "code"),
    [
        ([], "", "wrong_type"),
        ({"servers": {}}, "", "missing_key"),
        ({"version": "1"}, "", "missing_key"),
        ({"version": 1, "servers": {}}, "/version", "wrong_type"),
        ({"version": "2", "servers": {}}, "/version", "invalid_value"),
        ({"version": "1", "servers": []}, "/servers", "wrong_type"),
        ({"version": "1", "servers": {}, "name": "x"}, "/name", "unknown_key"),
        (file_of(s=None), "/servers/s", "wrong_type"),
        (file_of(s={}), "/servers/s", "missing_key"),
        (file_of(**{"": {"tools": {}}}), "/servers/", "invalid_value"),
        (file_of(s={"tools": {}, "name": "x"}), "/servers/s/name", "unknown_key"),
        (file_of(s={"tools": {}, "names": "x"}), "/servers/s/names", "wrong_type"),
        (file_of(s={"tools": {}, "names": [""]}), "/servers/s/names/0", "invalid_value"),
        (file_of(s={"tools": {}, "title": 1}), "/servers/s/title", "wrong_type"),
        (file_of(s={"tools": {"t": {}}}), "/servers/s/tools/t", "missing_key"),
        (file_of(s={"tools": {"": FULL}}), "/servers/s/tools/", "invalid_value"),
        (file_of(s={"tools": {"a/b": "read"}}), "/servers/s/tools/a~1b", "wrong_type"),
        (with_tool(category="reed"), "/servers/s/tools/t/category", "invalid_value"),
        (with_tool(category="unknown"), "/servers/s/tools/t/category", "invalid_value"),
        (with_tool(category=["read"]), "/servers/s/tools/t/category", "wrong_type"),
        (with_tool(level="none"), "/servers/s/tools/t/level", "invalid_value"),
        (with_tool(confidence=True), "/servers/s/tools/t/confidence", "wrong_type"),
        (with_tool(confidence="1"), "/servers/s/tools/t/confidence", "wrong_type"),
        (with_tool(confidence=1.01), "/servers/s/tools/t/confidence", "invalid_value"),
        (with_tool(evidence=[["name", "add"]]), "/servers/s/tools/t/evidence/0", "wrong_type"),
        (with_tool(evidence=[["title", "add", "write"]]), "/servers/s/tools/t/evidence/0/0", "invalid_value"),
        (with_tool(evidence=[["name", 1, "write"]]), "/servers/s/tools/t/evidence/0/1", "wrong_type"),
        (with_tool(evidence=[["name", "add", "no"]]), "/servers/s/tools/t/evidence/0/2", "invalid_value"),
        (with_tool(parameters={"id": {"required": 1}}), "/servers/s/tools/t/parameters/id/required", "wrong_type"),
        (
            with_tool(parameters={"id": {"description": "x"}}),
            "/servers/s/tools/t/parameters/id/description",
            "unknown_key",
        ),
        (with_tool(parameters={"id": {"enum": [[]]}}), "/servers/s/tools/t/parameters/id/enum/0", "wrong_type"),
        (with_tool(hints={"readOnlyHint": "true"}), "/servers/s/tools/t/hints/readOnlyHint", "wrong_type"),
        (with_tool(summary=None), "/servers/s/tools/t/summary", "wrong_type"),
        (
            with_tool(fingerprint={"schema": DIGEST, "annotations": DIGEST}),
            "/servers/s/tools/t/fingerprint",
            "missing_key",
        ),
        (
            with_tool(fingerprint={**FULL["fingerprint"], "schema": DIGEST.upper()}),
            "/servers/s/tools/t/fingerprint/schema",
            "invalid_value",
        ),
        (with_tool(description="x"), "/servers/s/tools/t/description", "unknown_key"),
        (file_of(a={"tools": {}}, b={"tools": {}, "names": ["a"]}), "/servers/b/names/0", "conflict"),
        (file_of(a={"tools": {}, "names": ["x"]}, b={"tools": {}, "names": ["x"]}), "/servers/b/names/0", "conflict"),
        (file_of(a={"tools": {}, "names": ["b"]}, b={"tools": {}}), "/servers/b", "conflict"),
    ],
)
def test_what_a_file_may_not_say(tree, pointer, code, write):
    assert [(problem.pointer, str(problem.code)) for problem in problems(tree)] == [(pointer, code)]
    with pytest.raises(CatalogueError):
        read_servers(write(tree))


def test_every_problem_is_told_with_its_place(write):
    path = write('{"version": "1",\n "servers": {"s": {"titel": "S",\n  "tools": {"t": {"category": "raed"}}}}}')
    with pytest.raises(CatalogueError) as caught:
        read_servers(path)
    known = "`read`, `write`, `execute`, `destructive`, `financial`"
    assert str(caught.value).splitlines() == [
        f"{path}: 2:20: /servers/s/titel: unknown_key: the key `titel` is unknown here; did you mean `title`?",
        f"{path}: 3:31: /servers/s/tools/t/category: invalid_value: found the string `raed`, expected one of {known}",
    ]
    assert caught.value.path == path


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", "invalid_json"),
        ("\ufeff{}", "invalid_json"),
        ('{"version": "1", "version": "1", "servers": {}}', "duplicate_key"),
        ('{"version": "1", "servers": {"s": {"tools": {}}, "s": {"tools": {}}}}', "duplicate_key"),
        ('{"version": "1", "servers": ' + "[" * 65 + "]" * 65 + "}", "too_deep"),
    ],
)
def test_a_file_is_read_strictly(text, code, write):
    with pytest.raises(CatalogueError) as caught:
        read_servers(write(text))
    assert code in [str(problem.code) for problem in caught.value.problems]


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_servers(tmp_path / "none.json")


def test_files_are_read_together(write):
    first, second = write(file_of(a={"tools": {}}), "1.json"), write(file_of(b={"tools": {}}), "2.json")
    assert list(read_all(first, second)) == ["a", "b"]
    assert read_all() == {}


@pytest.mark.parametrize(
    ("server", "pointer"),
    [({"a": {"tools": {}}}, "/servers/a"), ({"b": {"names": ["x"], "tools": {}}}, "/servers/b/names/0")],
)
def test_two_files_may_not_name_one_server(server, pointer, write):
    first, second = write(file_of(a={"names": ["x"], "tools": {}}), "1.json"), write(file_of(**server), "2.json")
    with pytest.raises(CatalogueError) as caught:
        read_all(first, second)
    (problem,) = caught.value.problems
    assert (problem.pointer, str(problem.code)) == (pointer, "conflict")
    assert (caught.value.path, first in problem.message) == (second, True)
    with pytest.raises(CatalogueError):
        read_all(first, first)


@pytest.mark.parametrize(
    ("overrides", "pointer", "code"),
    [
        ({"s": {"t": {"category": "read"}}}, "/overrides/s/t", "missing_key"),
        ({"s": {"t": {"category": "read", "reason": ""}}}, "/overrides/s/t/reason", "invalid_value"),
        ({"s": {"t": {"category": "red", "reason": "x"}}}, "/overrides/s/t/category", "invalid_value"),
    ],
)
def test_what_overrides_may_not_say(overrides, pointer, code):
    found = override_problems({"version": "1", "overrides": overrides})
    assert [(problem.pointer, str(problem.code)) for problem in found] == [(pointer, code)]


# -- the bundled files


def bundled(name: str) -> Any:
    return json.loads((files.DATA / name).read_text(encoding="utf-8"))


def test_the_bundled_files_say_what_files_may_say():
    paths = sorted((files.DATA / "servers").glob("*.json"))
    assert paths
    wrong = {path.name: found for path in paths if (found := list(problems(bundled(f"servers/{path.name}"))))}
    assert wrong == {}


def test_the_bundled_index_is_that_of_the_bundled_files():
    servers = {}
    for path in (files.DATA / "servers").glob("*.json"):
        ((server, entry),) = bundled(f"servers/{path.name}")["servers"].items()
        assert path.stem == server
        servers[server] = {"names": entry["names"], "title": entry["title"], "tools": len(entry["tools"])}
    assert bundled("index.json") == {"version": "1", "servers": servers}
    together = file_of(**{server: {"names": facts["names"], "tools": {}} for server, facts in servers.items()})
    assert list(problems(together)) == [], "no name leads to two servers"


def test_the_bundled_overrides_are_about_bundled_tools():
    tree = bundled("overrides.json")
    assert list(override_problems(tree)) == []
    for server, tools in tree["overrides"].items():
        for tool, override in tools.items():
            entry = bundled(f"servers/{server}.json")["servers"][server]["tools"][tool]
            said, right = (
                (entry["category"], entry["level"]),
                (override["category"], override.get("level", entry["level"])),
            )
            assert said != right, f"{server}: {tool} is what the classifier says"
