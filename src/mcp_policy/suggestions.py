"""What somebody may have meant by a key or operator that does not exist."""

from __future__ import annotations

from functools import lru_cache
from typing import Final


def _joined(name: str) -> str:
    """Return `startsWith`, `Starts-With` and `starts_with` as one."""
    return name.lower().replace("_", "").replace("-", "").replace(" ", "")


_LONGEST: Final = 40  # nobody misspells anything here at such length, and comparing takes quadratic time

OPERATOR_NAMES_ELSEWHERE: Final = {
    "eq": ("=", "==", "===", "equals", "equal", "is"),
    "neq": ("!=", "!==", "<>", "ne", "notequals", "notequal", "noteq", "isnot"),
    "lt": ("<", "lessthan", "below"),
    "lte": ("<=", "=<", "le", "atmost", "max", "lessthanorequal"),
    "gt": (">", "greaterthan", "above"),
    "gte": (">=", "=>", "ge", "atleast", "min", "greaterthanorequal"),
    "in": ("oneof", "anyof", "isin"),
    "not_in": ("nin", "noneof"),
    "intersects": ("overlaps", "containsany", "intersect"),
    "contains": ("includes", "has", "contain"),
    "not_contains": ("notincludes", "excludes", "doesnotcontain"),
    "starts_with": ("prefix", "beginswith"),
    "ends_with": ("suffix",),
    "regex": ("match", "matches", "~", "=~", "re", "pattern", "regexp"),
    "not_regex": ("notmatch", "notmatches", "!~"),
    "glob": ("like", "fnmatch", "wildcard"),
    "exists": ("present", "isset", "defined"),
    "length_lte": ("maxlength", "lengthmax"),
    "length_gte": ("minlength", "lengthmin"),
    "keys_in": ("onlykeys", "allowedkeys"),
    "within": ("under", "pathin"),
    "host_in": ("host", "hostin", "domain", "domainin"),
}
"""What other policy languages call our operators; in lower case, without what joins words."""

_MEANT: Final = {name: ours for ours, names in OPERATOR_NAMES_ELSEWHERE.items() for name in (*names, _joined(ours))}


def operator_hint(found: str, known: tuple[str, ...]) -> str:
    """Return a sentence that leads from an unknown operator to a known one."""
    meant = _MEANT.get(_joined(found[:_LONGEST]))
    return f"did you mean `{meant}`?" if meant else hint(found, known)


@lru_cache(maxsize=1024)
def hint(found: str, known: tuple[str, ...]) -> str:
    """Return `did you mean ...?` for a near miss, else what is known."""
    from difflib import get_close_matches

    near = get_close_matches(found.lower(), known, 1) if len(found) <= _LONGEST else []
    if near:
        return f"did you mean `{near[0]}`?"
    if len(known) == 1:
        return f"expected `{known[0]}`"
    return "known here: " + ", ".join(f"`{name}`" for name in known)
