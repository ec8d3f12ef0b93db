"""Checks of policies that load: what is likely a mistake, found before a call finds it."""

from .checking import check, placed
from .codes import CODES, Kind
from .finding import Finding, Severity
from .suppression import Suppression, read_suppressions, suppressed

__all__ = [
    "CODES",
    "Finding",
    "Kind",
    "Severity",
    "Suppression",
    "check",
    "placed",
    "read_suppressions",
    "suppressed",
]
