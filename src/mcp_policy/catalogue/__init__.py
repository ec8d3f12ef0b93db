"""The tool risk catalogue: what every tool can do, before an agent does it.

Classifying needs no network and no model, and the bundled catalogue is read server by server, when it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .attacks import ATTACKS, Attack, attacks_on
    from .classifier import classify
    from .definition import Fingerprint, fingerprint
    from .drift import Change, drifted, locked
    from .files import CatalogueError
    from .lookup import ServerEntry, ToolCatalogue, ToolEntry
    from .merging import merge
    from .profile import CATEGORIES, LEVELS, UNSURE, Category, Evidence, Level, RiskProfile
    from .recommendation import recommend, rule_for, snippet
    from .suspicion import Suspicion, suspicions

_PLACES = {
    "attacks": ("ATTACKS", "Attack", "attacks_on"),
    "classifier": ("classify",),
    "definition": ("Fingerprint", "fingerprint"),
    "drift": ("Change", "drifted", "locked"),
    "files": ("CatalogueError",),
    "lookup": ("ServerEntry", "ToolCatalogue", "ToolEntry"),
    "merging": ("merge",),
    "profile": ("CATEGORIES", "LEVELS", "UNSURE", "Category", "Evidence", "Level", "RiskProfile"),
    "recommendation": ("recommend", "rule_for", "snippet"),
    "suspicion": ("Suspicion", "suspicions"),
}
_PLACE_OF = {name: place for place, names in _PLACES.items() for name in names}

__all__ = [
    "ATTACKS",
    "CATEGORIES",
    "LEVELS",
    "UNSURE",
    "Attack",
    "CatalogueError",
    "Category",
    "Change",
    "Evidence",
    "Fingerprint",
    "Level",
    "RiskProfile",
    "ServerEntry",
    "Suspicion",
    "ToolCatalogue",
    "ToolEntry",
    "attacks_on",
    "classify",
    "drifted",
    "fingerprint",
    "locked",
    "merge",
    "recommend",
    "rule_for",
    "snippet",
    "suspicions",
]


def __getattr__(name: str) -> Any:
    # a decision by category needs the look-up alone, not the word lists and the merging of policies
    if name not in _PLACE_OF:
        raise AttributeError(f"module `{__name__}` has no `{name}`")
    from importlib import import_module

    found = getattr(import_module(f".{_PLACE_OF[name]}", __name__), name)
    globals()[name] = found
    return found
