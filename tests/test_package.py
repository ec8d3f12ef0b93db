"""The package as others meet it: what it exports, what it imports, what its wheel holds and what a type checker sees."""

from __future__ import annotations

import inspect
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import mcp_policy

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

PROMISED = {
    *("Policy", "PolicyEngine", "PolicyError", "ToolCall", "Principal", "Decision", "Effect", "Reason", "ReasonCode"),
    *("Guard", "PolicyDenied"),
}
CORE = {
    *("annotated_types", "cachetools", "mcp_policy", "pydantic", "pydantic_core", "typing_extensions"),
    "typing_inspection",
}
HEAVY = {"asyncio", "concurrent.futures", "email", "http", "logging.config", "multiprocessing", "socket", "sqlite3"}
HEAVY |= {"ssl", "subprocess", "tomllib", "unittest", "urllib.request", "xml"}

A_MODEL = "import pydantic\nclass Model(pydantic.BaseModel):\n    number: int\nModel(number=1)\n"
NEW = "import sys\nbefore = set(sys.modules)\nimport {module}\nprint(*(set(sys.modules) - before), sep='\\n')"


def imported_by(module: str, after: str = "") -> set[str]:
    """The modules that importing `module` brings in, in a process that ran `after` first."""
    source = str(Path(mcp_policy.__file__).parent.parent)
    program = f"import sys\nsys.path.insert(0, {source!r})\n{after}{NEW.format(module=module)}"
    return set(subprocess.check_output([sys.executable, "-c", program], text=True).split())


def top_level(modules: set[str]) -> set[str]:
    """The packages among `modules` that do not come with Python."""
    names = {module.partition(".")[0] for module in modules}
    return {name for name in names if name not in sys.stdlib_module_names and not name.startswith("_")}


def test_the_promised_names_are_there() -> None:
    assert set(mcp_policy.__all__) >= PROMISED
    assert all(getattr(mcp_policy, name) is not None for name in mcp_policy.__all__)
    assert len(set(mcp_policy.__all__)) == len(mcp_policy.__all__)


@pytest.mark.parametrize("name", sorted(PROMISED))
def test_public_names_say_what_they_are(name: str) -> None:
    public = getattr(mcp_policy, name)
    silent = [
        f"{name}.{member}"
        for member, value in vars(public).items()
        if not member.startswith("_")
        and (inspect.isroutine(value) or isinstance(value, property))
        and not value.__doc__
    ]
    assert public.__doc__
    assert silent == []


def test_the_core_imports_its_three_dependencies_and_nothing_else() -> None:
    assert top_level(imported_by("mcp_policy")) <= CORE


def test_the_core_adds_nothing_heavy_to_a_process_that_has_a_model() -> None:
    assert imported_by("mcp_policy", after=A_MODEL) & HEAVY == set()


def test_the_commands_start_without_any_extra() -> None:
    assert top_level(imported_by("mcp_policy.cli")) <= CORE


def test_the_adapter_of_the_sdk_does_not_need_fastmcp() -> None:
    assert "fastmcp" not in top_level(imported_by("mcp_policy.adapters.mcp"))


def test_dependencies_are_the_three() -> None:
    names = {requirement.split(">")[0] for requirement in PROJECT["dependencies"]}
    assert names == {"cachetools", "pydantic", "typing-extensions"}


def test_the_wheel_holds_the_package_and_nothing_else(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    held = zipfile.ZipFile(wheel).namelist()
    package = ROOT / "src" / "mcp_policy"
    files = [*package.rglob("*.py"), *(package / "catalogue" / "data").rglob("*.json"), package / "py.typed"]
    files += [path for path in package.rglob("*") if path.suffix in {".css", ".html", ".js", ".lua", ".svg"}]
    sources = {path.relative_to(ROOT / "src").as_posix() for path in files}
    assert {name for name in held if ".dist-info/" not in name} == sources
    assert wheel.stat().st_size < 1_500_000
    info = f"mcp_policy-{PROJECT['version']}.dist-info"
    assert {f"{info}/licenses/LICENSE", f"{info}/entry_points.txt"} <= set(held)


def test_a_type_checker_sees_the_public_names_as_they_are() -> None:
    command = [sys.executable, "-m", "mypy", "--no-error-summary", "--follow-imports=silent", "tests/typing"]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.stdout + checked.stderr == ""
