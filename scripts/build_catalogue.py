"""Rebuilds the catalogue that the package carries.

    python scripts/build_catalogue.py list --listings DIR [--cache DIR] [ID ...]
    python scripts/build_catalogue.py check --listings DIR [ID ...]
    python scripts/build_catalogue.py build --listings DIR [--strict]

`list` installs servers of `servers.json` from PyPI or npm (`uv` and `npm` are needed), asks them for their tools, and
writes DIR/ID.json. It is the only step that runs other people's programs: do it in a throw-away machine. `check` tells
which tools have no sentence of ours in `sentences/`, or one that repeats the server's words. `build` makes
`src/mcp_policy/catalogue/data/` from the listings and the sentences; with `--strict` only where `check` finds nothing.
Listings hold third-party text and stay out of the repository.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recipes import Recipe, read_recipes
from sentences import faults

HERE = Path(__file__).parent
DATA = HERE.parent / "src" / "mcp_policy" / "catalogue" / "data"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one of the steps; the result is the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("list", "check", "build"))
    parser.add_argument("ids", nargs="*", metavar="ID", help="servers to list or check; all where none is named")
    parser.add_argument("--listings", type=Path, required=True, metavar="DIR", help="where listings are kept")
    parser.add_argument(
        "--cache", type=Path, default=Path(".listed"), metavar="DIR", help="where servers are installed"
    )
    parser.add_argument("--strict", action="store_true", help="build only where `check` finds nothing")
    options = parser.parse_intermixed_args(arguments)
    recipes = read_recipes()
    unknown = set(options.ids) - {recipe.id for recipe in recipes}
    if unknown:
        parser.error(f"no recipe for {', '.join(sorted(unknown))}")
    asked = [recipe for recipe in recipes if recipe.id in options.ids or not options.ids]
    if options.step == "list":
        return take_down(asked, options)
    fine = check(asked, options.listings)
    if options.step == "check" or (options.strict and not fine):
        return 0 if fine else 1
    build(recipes, options.listings)
    return 0


def take_down(recipes: Sequence[Recipe], options: argparse.Namespace) -> int:
    """List the tools of these servers; one that fails is reported, and the rest goes on."""
    import listing

    failed = 0
    for recipe in recipes:
        try:
            found = listing.take_down(recipe, options.cache.absolute())
        except (Exception, subprocess.SubprocessError) as error:  # noqa: BLE001 - other people's programs fail in any way
            failed += 1
            print(f"{recipe.id}: {_told(error)}", file=sys.stderr)
            continue
        _write(options.listings / f"{recipe.id}.json", json.dumps(found, indent=1, ensure_ascii=False) + "\n")
        print(f"{recipe.id}: {len(found['tools'])} tools")
    return 1 if failed else 0


def check(recipes: Sequence[Recipe], listings: Path) -> bool:
    """Tell what is wrong with the sentences about these servers; the result is whether nothing is."""
    found = [
        fault
        for recipe in recipes
        for fault in faults(recipe.id, _read(listings / f"{recipe.id}.json"), _sentences(recipe))
    ]
    for fault in found:
        print(fault, file=sys.stderr)
    return not found


def build(recipes: Sequence[Recipe], listings: Path) -> None:
    """Write the data folder."""
    from entries import as_text, index_text, server_entry, told_apart

    entries = told_apart(
        {
            recipe.id: server_entry(recipe, _read(listings / f"{recipe.id}.json"), _sentences(recipe))
            for recipe in recipes
        }
    )
    for old in (DATA / "servers").glob("*.json"):
        old.unlink()
    for server, entry in entries.items():
        _write(DATA / "servers" / f"{server}.json", as_text(server, entry))
    _write(DATA / "index.json", index_text(entries))
    print(f"{len(entries)} servers, {sum(len(entry['tools']) for entry in entries.values())} tools")


def _sentences(recipe: Recipe) -> Any:
    path = HERE / "sentences" / f"{recipe.id}.json"
    return _read(path) if path.exists() else {}


def _told(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    written = getattr(error, "stderr", None) or ""
    return "\n  ".join([f"{type(error).__name__}: {error}", *str(written).splitlines()[-5:]])


def _read(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
