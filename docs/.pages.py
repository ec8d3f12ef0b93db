"""The order of the documentation: the pages at the top, then a section for each folder, by their file names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.structure.files import Files

FIRST = ["index.md", "quickstart.md"]
SECTIONS = {"how-to": "How to", "reference": "Reference", "explanation": "Explanation"}


def on_files(files: Files, *, config: Any) -> Files:
    """Make the navigation from the files that are there."""
    paths = [file.src_uri for file in files.documentation_pages()]
    top = [path for path in paths if "/" not in path]
    folders = {path.split("/")[0] for path in paths if "/" in path}
    config.nav = [
        *sorted(top, key=lambda path: (path not in FIRST, path)),
        *({SECTIONS.get(folder, folder): inside(folder, paths)} for folder in sorted(folders, key=by_section)),
    ]
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Drop what a fence tells the tests: the renderer knows languages and titles only."""
    return re.sub(r"^( *```\w+) (?:policy|output|run)\b", r"\1", markdown, flags=re.MULTILINE)


def on_post_build(*, config: Any) -> None:
    """Put the explorer's pages of the bundled catalogue beside the documentation."""
    from mcp_policy.catalogue import ToolCatalogue
    from mcp_policy.explorer.export import export
    from mcp_policy.explorer.stack import of_catalogue

    export(of_catalogue(ToolCatalogue.bundled()), Path(config.site_dir) / "catalogue")


def by_section(folder: str) -> tuple[int, str]:
    return [*SECTIONS, folder].index(folder), folder


def inside(folder: str, paths: list[str]) -> list[str]:
    own = (path for path in paths if path.startswith(f"{folder}/"))
    return sorted(own, key=lambda path: (not path.endswith("/index.md"), path))
