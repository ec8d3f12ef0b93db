"""What the documentation shows is run, page by page, each in an empty folder.

- A ```` ```python ```` block runs; the blocks of a page share one module.
- A ```` ```json policy ```` block loads; with `title="policy.json"` it is also written into the folder.
- A ```` ```text output ```` block is what the Python blocks since the last one printed.
- A ```` ```console run ```` block is a session: `$ mcp-policy ...` or `$ python ...`, and what that prints. A line of
  three dots stands for any lines.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
import textwrap
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

import pytest

import mcp_policy
from mcp_policy import Policy

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
# Pages for the MCP SDK 1.x are followed where that is installed, which is a session of noxfile.py; all others are not.
FOR_MCP_1 = {"guard-an-mcp-1-server.md"}
PAGES = [
    page
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    if (page.name in FOR_MCP_1) == version("mcp").startswith("1.")
]
FENCE = re.compile(r"^(?P<indent> *)```(?P<info>\w[^\n]*)\n(?P<body>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
PROGRAMS = {"mcp-policy": ["-m", "mcp_policy"], "python": []}


class Block(NamedTuple):
    place: str
    line: int
    words: list[str]
    body: str

    @property
    def title(self) -> str | None:
        return next((word.removeprefix("title=") for word in self.words if word.startswith("title=")), None)


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start("body"))
        place = f"{page.relative_to(ROOT)}:{line}"
        yield Block(place, line, shlex.split(match["info"]), textwrap.dedent(match["body"]))


class Reader:
    """A person who follows one page in an empty folder."""

    def __init__(self, page: Path) -> None:
        self.page = page
        self.module = ModuleType("docs_page")
        self.printed = io.StringIO()

    def follow(self, block: Block) -> None:
        match block.words:
            case ["python", *_]:
                self.run(block)
            case ["json", "policy", *_]:
                Policy.parse(block.body)
            case ["text", "output", *_]:
                assert self.printed.getvalue() == block.body, block.place
                self.printed = io.StringIO()
            case ["console", "run", *_]:
                session(block)
        if block.title and "/" not in block.title:
            Path(block.title).write_text(block.body, encoding="utf-8")

    def run(self, block: Block) -> None:
        code = compile("\n" * block.line + block.body, str(self.page), "exec", dont_inherit=True)
        with contextlib.redirect_stdout(self.printed):
            exec(code, self.module.__dict__)


def session(block: Block) -> None:
    for part in re.split(r"^\$ ", block.body, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        pattern = "".join(".*" if line == "...\n" else re.escape(line) for line in expected.splitlines(keepends=True))
        printed = shell(shlex.split(command))
        assert re.fullmatch(pattern, printed, re.DOTALL), f"{block.place}: `{command}` printed\n{printed}"


def shell(words: list[str]) -> str:
    source = str(Path(mcp_policy.__file__).parent.parent)
    environment = os.environ | {"PYTHONPATH": source, "COLUMNS": "100", "NO_COLOR": "1", "PYTHONUTF8": "1"}
    command = [sys.executable, *PROGRAMS[words[0]], *words[1:]]
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, check=False
    )
    return done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_a_page_shows_is_so(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    reader = Reader(page)
    monkeypatch.setitem(sys.modules, reader.module.__name__, reader.module)
    for block in blocks(page):
        reader.follow(block)


def test_readme_embeds_the_engine_in_ten_lines() -> None:
    code = [block.body for block in blocks(ROOT / "README.md") if block.words[0] == "python"]
    assert code
    assert len([line for line in code[0].splitlines() if line.strip()]) <= 10
