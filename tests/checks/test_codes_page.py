"""docs/reference/check-codes.md lists every kind of finding, as it is."""

from __future__ import annotations

import re
from pathlib import Path

from mcp_policy.checks import CODES

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "check-codes.md"
ROW = re.compile(r"^\| `(\w+)` \| (error|warning|note) \| (.+?) \| (.+) \|$", re.MULTILINE)


def test_the_page_lists_every_kind_with_its_severity_in_the_order_of_the_code():
    listed = [(match[1], match[2]) for match in ROW.finditer(PAGE.read_text(encoding="utf-8"))]
    assert listed == [(kind.code, kind.severity) for kind in CODES.values()]


def test_the_page_says_which_need_the_tools():
    sections = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    marked = {
        match[1]
        for section in sections
        for match in ROW.finditer(section)
        if "*beside tools*" in match[3] or "found *beside tools* only" in section
    }
    assert marked == {kind.code for kind in CODES.values() if kind.tools}
