"""The recipes in `servers.json`: which servers the bundled catalogue describes, and how each is made to list its tools.

Rules kept here:

- A recipe pins its package to one release, so that the same listing can be made again.
- Its settings are dummies. A server that needs an account to list its tools is not in the catalogue.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, NamedTuple

RECIPES: Final = Path(__file__).with_name("servers.json")
_NEEDED: Final = ("id", "title", "package", "release")
_KEYS: Final = {*_NEEDED, "names", "command", "environment", "python", "with", "varies"}


class Recipe(NamedTuple):
    """How one server is installed and started.

    `package` is `pypi:NAME` or `npm:NAME`. `command` is the program in the package and its arguments, in which
    `{folder}` is a fresh folder; empty is the package's own program. `pins` are further requirements beside the
    package, `names` what else the server is known by, `varies` the tools whose definitions name what they run on.
    """

    id: str
    title: str
    names: tuple[str, ...]
    package: str
    release: str
    command: tuple[str, ...]
    environment: dict[str, str]
    python: str
    pins: tuple[str, ...]
    varies: tuple[str, ...]

    @property
    def kind(self) -> str:
        """`pypi` or `npm`."""
        return self.package.partition(":")[0]

    @property
    def project(self) -> str:
        """The package's name in its registry."""
        return self.package.partition(":")[2]


def read_recipes(path: Path = RECIPES) -> tuple[Recipe, ...]:
    """Return the recipes in order of their ids. Raises `ValueError` where one is not as stated above."""
    entries = json.loads(path.read_text("utf-8"))["servers"]
    recipes = sorted(map(_recipe, entries), key=lambda recipe: recipe.id)
    twice = {recipe.id for recipe in recipes if sum(other.id == recipe.id for other in recipes) > 1}
    if twice:
        raise ValueError(f"`{path.name}` has two recipes for {', '.join(f'`{name}`' for name in sorted(twice))}")
    return tuple(recipes)


def _recipe(entry: dict[str, Any]) -> Recipe:
    faults = [f"`{key}` is unknown" for key in sorted(entry.keys() - _KEYS)]
    faults += [f"`{key}` is missing" for key in _NEEDED if not entry.get(key)]
    if faults:
        raise ValueError(f"recipe `{entry.get('id')}`: {', '.join(faults)}")
    recipe = Recipe(
        entry["id"],
        entry["title"],
        tuple(entry.get("names", ())),
        entry["package"],
        entry["release"],
        tuple(entry.get("command", ())),
        entry.get("environment", {}),
        entry.get("python", "3.12"),
        tuple(entry.get("with", ())),
        tuple(entry.get("varies", ())),
    )
    if recipe.kind not in {"pypi", "npm"} or not recipe.project:
        raise ValueError(f"recipe `{recipe.id}`: `package` is `{recipe.package}`; `pypi:NAME` or `npm:NAME` is right")
    return recipe
