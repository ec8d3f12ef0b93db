"""The explorer's pages as files: they link one another relatively and need no server, also straight from a disk.

Rules kept here:

- Nothing is written or removed outside of the folder, and what somebody else has put there is left alone: a folder
  that is there is written into only where it is empty, or holds an earlier export and nothing beside it, which is then
  replaced as a whole.
- Every page is made before the first file is written or removed.
- The same stack and policy give the same files, byte by byte.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Final

from mcp_policy.engine import PolicyEngine
from mcp_policy.errors import readable
from mcp_policy.policy import Policy

from .rendering import attacks_view, page, stack_view, tool_view
from .stack import Stack

MARKER: Final = ".mcp-policy-export"
"""The file that tells an earlier export from somebody's folder."""

_SAYS: Final = "Written by `mcp-policy explore --export`, which replaces this folder as a whole.\n"
_OURS: Final = files("mcp_policy.explorer") / "static"
_STATIC: Final = ("explore.css", "explore.js", "icon.svg")
_NAMES: Final = frozenset({MARKER, "index.html", "attacks.html", "tools", "static"})
_SLUG: Final = re.compile(r"[a-z0-9_-]+/[a-z0-9_-]+")


class ExportError(Exception):
    """The pages cannot be written there, and why."""


def export(stack: Stack, folder: str | os.PathLike[str], policy: Policy | None = None) -> int:
    """Write the pages of a stack into a folder, which is made where there is none, and return how many they are.

    With a `policy` they say what it does with each tool. Raises `ExportError` where the folder is not ours to write.
    """
    root = Path(folder)
    try:
        _check(root)
        pages = dict(_pages(stack, None if policy is None else PolicyEngine(policy)))
        _clear(root)
        for name, text in pages.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode())
        (root / "static").mkdir()
        for name in _STATIC:
            (root / "static" / name).write_bytes((_OURS / name).read_bytes())
    except OSError as error:
        raise ExportError(f"{root}: {error.strerror or error}") from error
    return len(pages)


def _check(root: Path) -> None:
    if not root.exists():
        return
    if not root.is_dir():
        raise ExportError(f"{root} is a file; give a folder")
    marker = root / MARKER
    ours = marker.is_file() and not marker.is_symlink() and marker.read_bytes() == _SAYS.encode()
    foreign = sorted(path.name for path in root.iterdir() if not ours or path.name not in _NAMES)
    if foreign:
        raise ExportError(f"{root} holds `{readable(foreign[0])}`, which is of no earlier export; give an empty folder")


def _clear(root: Path) -> None:
    """Leave nothing but the marker, which comes first and goes last: what is broken off is still known for ours."""
    root.mkdir(parents=True, exist_ok=True)
    (root / MARKER).write_bytes(_SAYS.encode())
    for path in root.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != MARKER:
            path.unlink()


def _pages(stack: Stack, engine: PolicyEngine | None) -> Iterator[tuple[str, str]]:
    always = {"live": False, "source": stack.source, "version": version("mcp-policy")}
    yield "index.html", page("stack.html", root="", **always, **stack_view(stack, engine))
    yield "attacks.html", page("attacks.html", root="", **always, **attacks_view(stack))
    for slug in stack.tools:
        if not _SLUG.fullmatch(slug):
            raise ExportError(f"`{slug}` is no name for a file")
        yield f"tools/{slug}.html", page("tool.html", root="../../", **always, **tool_view(stack, slug, engine))
