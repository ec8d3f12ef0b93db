"""The accessibility checker axe-core, from npm, run in a page that is open."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from npm.packages import home

if TYPE_CHECKING:
    from playwright.sync_api import Page

_RUN = "async () => (await axe.run(document, {resultTypes: ['violations']})).violations"


@lru_cache(maxsize=1)
def _source() -> str:
    return (home() / "node_modules" / "axe-core" / "axe.min.js").read_text("utf-8")


def violations(page: Page) -> list[str]:
    """Return what is wrong with a page, of any weight: the rule, how serious it is, and where."""
    page.evaluate(f"() => {{ {_source()}\n }}")  # as the browser's own tools would: the page's policy does not apply
    found: list[dict[str, Any]] = page.evaluate(_RUN)
    return [
        f"{one['impact']} {one['id']}: {one['help']}: {', '.join(str(node['target']) for node in one['nodes'][:5])}"
        for one in found
    ]
