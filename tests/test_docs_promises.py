"""What the documentation names is there: the tests that prove its promises, the Python names, the codes."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import mcp_policy
import mcp_policy.catalogue
from conformance.runner import cases
from mcp_policy import Decision, Guard, Policy, PolicyEngine, Reason, ReasonCode
from mcp_policy.approvals import Approval, MemoryApprovalStore
from mcp_policy.catalogue import Attack, Change, Evidence, RiskProfile, ServerEntry, Suspicion, ToolCatalogue, ToolEntry
from mcp_policy.checks import Finding
from mcp_policy.comparison import Comparison, ToolDifference, Witness
from mcp_policy.decision import LimitStatus
from mcp_policy.errors import Problem, ProblemCode
from mcp_policy.limits import MemoryLimitStore

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted((ROOT / "docs").rglob("*.md"))
PROMISES = ROOT / "docs" / "explanation" / "fail-closed.md"
API = ROOT / "docs" / "reference" / "python-api.md"

TEST = re.compile(r"`(tests/[\w/]+\.py(?:::\w+)+)`")
CASE = re.compile(r"`tests/conformance/([\w-]+\.json): ([^`…]+)`")
SIGNATURE = re.compile(r"(?P<name>[\w.]+)\((?P<parameters>.*)\)(?: -> \w+)?")
SPOKEN_OF: dict[str, Any] = {
    "approval": Approval,
    "attack": Attack,
    "catalogue": ToolCatalogue,
    "change": Change,
    "comparison": Comparison,
    "decision": Decision,
    "engine": PolicyEngine,
    "evidence": Evidence,
    "finding": Finding,
    "guard": Guard,
    "limit_status": LimitStatus,
    "memory_approval_store": MemoryApprovalStore,
    "policy": Policy,
    "policy_denied": mcp_policy.PolicyDenied(Decision(mcp_policy.Effect.DENY, ())),
    "problem": Problem,
    "profile": RiskProfile,
    "reason": Reason,
    "server_entry": ServerEntry,
    "suspicion": Suspicion,
    "tool_difference": ToolDifference,
    "tool_entry": ToolEntry,
    "witness": Witness,
    "MemoryApprovalStore": MemoryApprovalStore,
    "MemoryLimitStore": MemoryLimitStore,
    "ToolCatalogue": ToolCatalogue,
}


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


# -- the tests behind the promises


def named() -> Iterator[tuple[str, str]]:
    """Each test that a page names, with the page."""
    for page in PAGES:
        for test in TEST.findall(read(page)):
            yield test, page.relative_to(ROOT).as_posix()


@cache
def collected(path: str) -> frozenset[str]:
    """The tests of a file, as pytest would name them."""
    file = ROOT / path
    tree = ast.parse(read(file)) if file.is_file() else ast.Module([], [])
    found = set(functions(tree))
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{name}" for name in functions(node)}
    return frozenset(found)


def functions(node: ast.Module | ast.ClassDef) -> Iterator[str]:
    for child in node.body:
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) and child.name.startswith("test_"):
            yield child.name


@cache
def contracts_that_run() -> frozenset[str]:
    """The classes that some collected test class derives from."""
    trees = [ast.parse(read(file)) for file in sorted((ROOT / "tests").rglob("test_*.py"))]
    classes = [node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)]
    return frozenset(ast.unparse(base) for node in classes if node.name.startswith("Test") for base in node.bases)


@pytest.mark.parametrize(("test", "page"), sorted(set(named())))
def test_every_test_that_a_page_names_exists_and_runs(test: str, page: str) -> None:
    path, _, name = test.partition("::")
    assert name in collected(path), f"{page} names {test}"
    if not Path(path).name.startswith("test_"):
        assert name.partition("::")[0] in contracts_that_run(), f"{test} is not collected"


@pytest.mark.parametrize(("file", "case"), sorted({found for page in PAGES for found in CASE.findall(read(page))}))
def test_every_case_that_a_page_names_exists(file: str, case: str) -> None:
    assert case in {known["name"] for known in cases(ROOT / "tests" / "conformance" / file)}


def test_every_promise_names_a_test() -> None:
    rows = [line for line in read(PROMISES).splitlines() if line.startswith("| ") and not line.startswith("| what |")]
    assert len(rows) > 50
    assert [row for row in rows if not TEST.search(row) and not CASE.search(row)] == []


def test_a_test_that_is_not_there_is_found_out() -> None:
    assert "test_the_module_is_read" not in collected("tests/test_docs_promises.py")
    assert "test_every_promise_names_a_test" in collected("tests/test_docs_promises.py")
    assert collected("tests/no_such_file.py") == frozenset()


# -- the Python names


def signatures() -> list[str]:
    blocks = re.findall(r"^```py\n(.*?)^```$", read(API), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def resolve(name: str) -> Any:
    first, *rest = name.split(".")
    if first == "mcp_policy":
        return getattr(importlib.import_module(".".join([first, *rest[:-1]])), rest[-1])
    found = SPOKEN_OF.get(first) or getattr(mcp_policy, first)
    for step in rest:
        found = getattr(found, step)
    return found


def parameters(function: Any) -> list[tuple[str, bool, bool]]:
    """Name, keyword-only and required, for each parameter but a method's own object."""
    return [
        (found.name, found.kind is found.KEYWORD_ONLY, found.default is found.empty)
        for found in inspect.signature(function).parameters.values()
        if found.name != "self"
    ]


@pytest.mark.parametrize("line", signatures())
def test_signatures_are_those_of_the_code(line: str) -> None:
    match = SIGNATURE.fullmatch(line)
    assert match is not None
    namespace: dict[str, Any] = {name: importlib.import_module(name) for name in ("asyncio", "time")}
    namespace["_logged"] = None
    exec(f"def stated({match['parameters']}): ...", namespace)
    assert parameters(namespace["stated"]) == parameters(resolve(match["name"]))


def test_every_public_name_has_a_section() -> None:
    sections = re.findall(r"^## (\w+)$", read(API), re.MULTILINE)
    assert [name for name in mcp_policy.__all__ if name not in sections] == []


def test_every_public_name_of_the_catalogue_is_spoken_of() -> None:
    part = re.split(r"^## ", read(API), flags=re.MULTILINE)
    (section,) = [text for text in part if text.startswith("Catalogue\n")]
    words = set(re.findall(r"\w+", section))
    assert [name for name in mcp_policy.catalogue.__all__ if name not in words] == []


def attributes() -> list[str]:
    firsts = [line.split("|")[1] for line in read(API).splitlines() if line.startswith("| `")]
    return [attribute for first in firsts for attribute in re.findall(r"`(\w+\.\w+)`", first)]


@pytest.mark.parametrize("attribute", attributes())
def test_attributes_are_there(attribute: str) -> None:
    holder, _, name = attribute.partition(".")
    assert hasattr(SPOKEN_OF[holder], name)


# -- the codes


def headings(page: str) -> list[str]:
    return re.findall(r"^#+ (.+)$", read(ROOT / "docs" / "reference" / page), re.MULTILINE)


@pytest.mark.parametrize("code", ProblemCode)
def test_every_problem_code_has_a_section(code: ProblemCode) -> None:
    assert code.value in headings("problem-codes.md")


@pytest.mark.parametrize("code", ReasonCode)
def test_every_reason_code_has_a_section(code: ReasonCode) -> None:
    assert code.value in {name for heading in headings("reason-codes.md") for name in heading.split(", ")}
