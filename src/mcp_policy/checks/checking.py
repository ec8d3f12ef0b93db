"""All checks, one after the other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ..catalogue.definition import Tool
from ..policy import Policy
from . import bounds, conditions, inputs, listing
from .finding import Finding
from .reading import Subject

_FAMILIES = (listing.check, conditions.check, inputs.check, bounds.check)


def check(policy: Policy, tools: Iterable[Tool] | None = None, *, server: str | None = None) -> tuple[Finding, ...]:
    """Return what is likely a mistake in a policy, in the order of the checks.

    `tools` are entries of `tools/list` of the server that the policy is for; `server` is the name under which the
    policy and the catalogue know it. Findings have no lines: `placed` adds them. Raises `ValueError` for a definition
    that cannot be read.
    """
    subject = Subject(policy, tools, server)
    found = dict.fromkeys(one for family in _FAMILIES for one in family(subject))
    said = [one.pointer for one in found if one.code in _STOPPING]
    return tuple(one for one in found if one.code != "never_runs" or not _explained(one.pointer, said))


_STOPPING: Final = (
    "cannot_hold",
    "contradiction",
    "limit_blocks",
    "unknown_time_field",
    "unknown_argument",
    "wrong_argument_type",
)
"""Findings that may say why no call can run."""


def _explained(pointer: str, said: list[str]) -> bool:
    """Tell whether it is said already why no call that a rule is for can run."""
    return any(other.startswith(f"{pointer}/") for other in said)


def placed(findings: Iterable[Finding], data: bytes, name: str) -> tuple[Finding, ...]:
    """Return findings with their lines in a policy file, in the order of the text. `name` says which format it has."""
    from ..document import scan
    from ..policy import format_of

    found = list(findings)
    places = scan(data, format_of(name)).places({one.pointer for one in found})
    lines = [
        one._replace(line=place.value[0], column=place.value[1]) if (place := places.get(one.pointer)) else one
        for one in found
    ]
    return tuple(sorted(lines, key=lambda one: (one.line or 0, one.column or 0)))
