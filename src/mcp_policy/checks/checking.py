"""All checks, one after the other."""

from __future__ import annotations

from collections.abc import Iterable

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
    found = (one for family in _FAMILIES for one in family(subject))
    return tuple(dict.fromkeys(found))


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
