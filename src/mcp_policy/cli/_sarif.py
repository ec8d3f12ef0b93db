"""SARIF 2.1.0 (OASIS standard), which code scanning reads. References are to sections of the standard.

A path below the working directory is a relative URI, so that the report means the same on every machine.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from ._render import visible

if TYPE_CHECKING:
    from mcp_policy.checks.finding import Finding

    from ._report import FileFindings

_SCHEMA: Final = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"


def sarif(found: Sequence[FileFindings], rules: Mapping[str, str]) -> dict[str, Any]:
    """Return findings as a log of one run, with what each rule means."""
    used = {finding.code: finding.code for file in found for finding in _all(file)}
    known = {**used, **rules}
    index = {code: place for place, code in enumerate(sorted(known))}
    driver = {
        "name": "mcp-policy",
        "version": version("mcp-policy"),
        "rules": [{"id": code, "shortDescription": {"text": _text(known[code])}} for code in index],
    }
    results = []
    for file in found:
        results += [_result(file.path, finding, index, []) for finding in file.findings]
        for finding, reason in file.suppressed:
            external = {"kind": "external", "status": "accepted", "justification": visible(reason)}
            results.append(_result(file.path, finding, index, [external]))
    # Section 3.14.17: a column counts characters, where the standard would assume UTF-16 code units.
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def _all(file: FileFindings) -> list[Finding]:
    return [*file.findings, *(finding for finding, _ in file.suppressed)]


def _result(
    path: str, finding: Finding, index: Mapping[str, int], suppressions: list[dict[str, str]]
) -> dict[str, Any]:
    said = [finding.message, f"fix: {finding.fix}"] if finding.fix else [finding.message]
    return {
        "ruleId": finding.code,
        "ruleIndex": index[finding.code],
        "level": finding.severity,
        "message": {"text": "\n".join(map(_text, said))},
        "locations": [_location(path, finding)],
        # Section 3.27.23: where one result says whether it is suppressed, all do.
        "suppressions": suppressions,
    }


def _location(path: str, finding: Finding) -> dict[str, Any]:
    physical: dict[str, Any] = {"artifactLocation": {"uri": uri(path)}}
    if finding.line is not None:
        physical["region"] = {"startLine": finding.line}
        if finding.column is not None:
            physical["region"]["startColumn"] = finding.column
    location: dict[str, Any] = {"physicalLocation": physical}
    if finding.pointer:
        location["logicalLocations"] = [{"fullyQualifiedName": visible(finding.pointer)}]
    return location


def uri(path: str) -> str:
    """Return the URI of a file: relative to the working directory if the file is below it, else absolute."""
    if path == "-":
        return "stdin"
    whole = Path(os.path.abspath(path))  # noqa: PTH100  # `Path` would follow links, or keep `..`
    if not whole.is_relative_to(Path.cwd()):
        return whole.as_uri()
    return quote(os.fsencode(whole.relative_to(Path.cwd()).as_posix()))


def _text(text: str) -> str:
    """Return a message in which nothing is an embedded link (section 3.11.6)."""
    shown = visible(text)
    return shown.replace("[", "\\[").replace("]", "\\]") if "](" in shown else shown
