"""The bundled catalogue: complete, consistent, small, and without other people's sentences."""

from __future__ import annotations

import json
import re
import zlib
from collections import Counter
from pathlib import Path

import pytest

from mcp_policy.catalogue import files
from mcp_policy.catalogue.lookup import LEVEL_OF, ToolCatalogue
from mcp_policy.catalogue.profile import CATEGORIES, LEVELS

DATA = files.DATA
SERVERS = sorted((DATA / "servers").glob("*.json"))
FIELDS = ["category", "level", "confidence", "evidence", "parameters", "hints", "summary"]
HINTS = {"readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"}
CLEARML = {
    "compare_tasks",
    "find_experiment_in_project",
    "find_project_by_pattern",
    "get_model_artifacts",
    "get_model_info",
    "get_project_stats",
    "get_task_artifacts",
    "get_task_info",
    "get_task_metrics",
    "get_task_parameters",
    "list_models",
    "list_projects",
    "list_tasks",
    "search_tasks",
}

# Servers by the names that people know them by, each with the number of tools that it had when it was first listed.
KNOWN = {
    "arxiv-mcp-server": 19,
    "awslabs-aws-documentation": 5,
    "clearml-mcp": 14,
    "context7": 2,
    "desktop-commander": 26,
    "duckduckgo-mcp-server": 3,
    "excel-mcp-server": 46,
    "kubernetes-mcp-server": 23,
    "markitdown-mcp": 1,
    "mcp-alchemy": 4,
    "mcp-atlassian": 98,
    "mcp-server-fetch": 1,
    "mcp-server-git": 12,
    "mcp-server-sqlite": 6,
    "mcp-server-time": 2,
    "mlflow-mcp": 26,
    "office-word": 54,
    "sentry": 22,
    "server-everything": 13,
    "server-filesystem": 14,
    "server-github": 26,
    "server-memory": 9,
    "server-postgres": 1,
    "server-puppeteer": 7,
    "server-sequential-thinking": 1,
    "server-slack": 8,
    "stripe-mcp-old": 22,
    "tavily": 5,
}


def read(path: Path):
    return json.loads(path.read_text("utf-8"))


def tools():
    return [
        (server, name, tool)
        for path in SERVERS
        for server, entry in read(path)["servers"].items()
        for name, tool in entry["tools"].items()
    ]


def test_there_are_many():
    assert len(SERVERS) >= 40
    assert len(tools()) >= 800


@pytest.mark.parametrize("name", KNOWN)
def test_a_known_server_is_found_by_its_name(name):
    server = ToolCatalogue.bundled().server(name)
    assert server is not None
    assert len(server.tools) >= KNOWN[name]


def test_clearml_is_complete():
    server = ToolCatalogue.bundled().server("clearml")
    assert server is not None
    assert server.tools.keys() == CLEARML
    assert {(tool.category, tool.level) for tool in server.tools.values()} == {("read", "low")}
    assert all(tool.profile.evidence for tool in server.tools.values())


@pytest.mark.parametrize("path", SERVERS, ids=lambda path: path.stem)
def test_a_file_is_a_catalogue_file_of_one_server(path):
    tree = read(path)
    assert list(files.problems(tree)) == []
    assert list(tree["servers"]) == [path.stem]
    entry = tree["servers"][path.stem]
    assert all(entry[key] for key in ("title", "package", "release", "about", "tools"))
    assert re.fullmatch(r"(pypi|npm):\S+", entry["package"])
    assert path.stem not in entry["names"]


@pytest.mark.parametrize("path", SERVERS, ids=lambda path: path.stem)
def test_a_tool_has_all_fields(path):
    for name, tool in read(path)["servers"][path.stem]["tools"].items():
        assert list(tool) in (FIELDS, [*FIELDS, "fingerprint"]), name
        assert tool["category"] in CATEGORIES
        assert tool["level"] in LEVELS
        assert tool["level"] == "critical" or LEVEL_OF[tool["category"]] != "critical", name
        assert tool["summary"].endswith("."), name
        assert tool["hints"].keys() <= HINTS
        assert all(parameter["type"] for parameter in tool["parameters"].values()), name


def test_a_quote_is_a_few_words():
    quotes = [(server, name, quote) for server, name, tool in tools() for _, quote, _ in tool["evidence"]]
    assert [(server, name, quote) for server, name, quote in quotes if not 0 < len(quote) <= 60] == []


def test_nearly_every_definition_is_recognised_again():
    without = [(server, name) for server, name, tool in tools() if "fingerprint" not in tool]
    assert len(without) <= len(tools()) // 50


def test_the_index_says_what_the_files_say():
    index = read(DATA / "index.json")
    entries = {path.stem: read(path)["servers"][path.stem] for path in SERVERS}
    assert index["servers"] == {
        server: {"names": entry["names"], "title": entry["title"], "tools": len(entry["tools"])}
        for server, entry in entries.items()
    }
    assert list(index["servers"]) == sorted(index["servers"])


def test_a_name_finds_one_server():
    names = Counter(name for server, facts in files.bundled_index().items() for name in (server, *facts))
    assert [name for name, times in names.items() if times > 1] == []


def test_an_override_says_something_else_than_the_classifier_and_why():
    tree = read(DATA / "overrides.json")
    assert list(files.override_problems(tree)) == []
    said = {(server, name): (tool["category"], tool["level"]) for server, name, tool in tools()}
    for server, reviewed in tree["overrides"].items():
        for name, override in reviewed.items():
            right = (override["category"], override.get("level", LEVEL_OF[override["category"]]))
            assert said[server, name] != right, f"{server} {name}: the classifier says so by itself"
            assert override["reason"].endswith("."), f"{server} {name}"


def test_the_data_are_small():
    sizes = [(path.stat().st_size, len(zlib.compress(path.read_bytes()))) for path in DATA.rglob("*.json")]
    plain, packed = map(sum, zip(*sizes, strict=True))
    assert plain < 1_300_000
    assert packed < 500_000
