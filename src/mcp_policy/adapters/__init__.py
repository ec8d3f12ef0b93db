"""Enforcement points for the stacks that serve tools; each needs the extra of its name.

An adapter translates and never decides: calls and listings go to the one engine, and a refusal comes back in the
stack's own form. What all of them share is here, for adapters of your own: `Judge` asks the engine, `Caller` says who
calls.
"""

from __future__ import annotations

from ._common import Caller, IdentityHook, Judge, caller, definition_text, definition_texts, principal_of
from ._mediation import Access, UnguardedTools

__all__ = [
    "Access",
    "Caller",
    "IdentityHook",
    "Judge",
    "UnguardedTools",
    "caller",
    "definition_text",
    "definition_texts",
    "principal_of",
]
