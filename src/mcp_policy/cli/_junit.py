"""JUnit XML, as CI systems read it: a suite for each file, a case for each test, or for each finding.

XML 1.0 has no place for most control characters, and what shows text may obey the others: they are written visibly.
The XML is ASCII, so that no encoding of standard output changes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as ET

from ._render import visible, visible_lines

if TYPE_CHECKING:
    from mcp_policy.checks.finding import Finding

    from ._report import CaseResult, FileFindings

_NONE: Final = "no findings"


def suite_xml(results: Sequence[CaseResult]) -> str:
    """Return test cases as XML, in the order in which they ran."""
    root = ET.Element("testsuites", name="mcp-policy test")
    for file, group in groupby(results, key=lambda result: result.file):
        suite = ET.SubElement(root, "testsuite", name=visible(file))
        for result in group:
            case = _case(suite, result.name, result.line)
            case.set("time", f"{result.seconds:.6f}")
            if result.failure is not None:
                first = visible(result.failure.partition("\n")[0])
                ET.SubElement(case, "failure", message=first).text = visible_lines(result.failure)
    return _finished(root)


def findings_xml(found: Sequence[FileFindings]) -> str:
    """Return findings as XML: errors and warnings fail, notes pass, what is suppressed was skipped."""
    root = ET.Element("testsuites", name="mcp-policy check")
    for file in found:
        suite = ET.SubElement(root, "testsuite", name=visible(file.path))
        for finding in file.findings:
            case = _case(suite, _name(finding), finding.line)
            said = "\n".join(_lines(finding))
            if finding.severity == "note":
                ET.SubElement(case, "system-out").text = said
            else:
                message = visible(finding.message)
                ET.SubElement(case, "failure", type=finding.severity, message=message).text = said
        for finding, reason in file.suppressed:
            case = _case(suite, _name(finding), finding.line)
            ET.SubElement(case, "skipped", message=visible(f"suppressed: {reason}"))
        if not len(suite):
            _case(suite, _NONE, None)
    return _finished(root)


def _case(suite: ET.Element, name: str, line: int | None) -> ET.Element:
    file = suite.get("name", "")
    case = ET.SubElement(suite, "testcase", classname=file, name=visible(name), file=file)
    if line is not None:
        case.set("line", str(line))
    return case


def _name(finding: Finding) -> str:
    return f"{finding.code} {finding.pointer or 'document'}"


def _lines(finding: Finding) -> Iterator[str]:
    yield visible(finding.message)
    if finding.pointer:
        yield f"at {visible(finding.pointer)}"
    if finding.fix:
        yield f"fix: {visible(finding.fix)}"


def _finished(root: ET.Element) -> str:
    """Count what each suite holds, and return the XML as text that ends with a line feed."""
    for suite in (*root, root):
        suite.set("tests", str(len(list(suite.iter("testcase")))))
        suite.set("failures", str(len(list(suite.iter("failure")))))
        suite.set("errors", "0")
        suite.set("skipped", str(len(list(suite.iter("skipped")))))
        suite.set("time", f"{sum(float(case.get('time', 0)) for case in suite.iter('testcase')):.6f}")
    ET.indent(root)
    text: bytes = ET.tostring(root, encoding="us-ascii", xml_declaration=True)
    return text.decode("ascii") + "\n"
