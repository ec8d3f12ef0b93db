"""Whatever is done to a record shows, and where."""

from __future__ import annotations

import random
import re
from bisect import bisect_right

import pytest

from mcp_policy.audit.chain import PLACE, Head, keys, sealed
from mcp_policy.audit.jsonl import set_aside

from .recording import KEY, check, files, head_of, verified, written

OTHER = b"another key of at least 32 characters"


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> tuple[bytes, bytes]:
    """A record of six decisions, and its head."""
    path = written(tmp_path_factory.mktemp("small") / "audit.jsonl", 6)
    return path.read_bytes(), head_of(path)


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> tuple[bytes, bytes]:
    path = written(tmp_path_factory.mktemp("large") / "audit.jsonl", 10_000, flush_every=100)
    return path.read_bytes(), head_of(path)


@pytest.fixture
def rotated(tmp_path) -> tuple[dict[str, bytes], bytes]:
    path = written(tmp_path / "audit.jsonl", 12, rotate=1_000)
    return {file.name: file.read_bytes() for file in files(path)}, head_of(path)


def found(content: bytes, head: bytes, key: bytes = KEY):
    return check({"audit.jsonl": content}, head, key).finding


def test_what_nobody_has_touched_is_sound(small, large, rotated):
    assert check({"audit.jsonl": small[0]}, small[1])[:3] == (6, 1, 6)
    assert found(*small) is None
    assert check({"audit.jsonl": large[0]}, large[1])[:3] == (10_000, 1, 10_000)
    assert found(*large) is None
    assert check(*rotated).finding is None


def test_every_single_byte_that_is_changed_is_found_where_it_is(small):
    content, head = small
    for place, byte in enumerate(content):
        line = content.count(b"\n", 0, place) + 1
        for other in {0, 10, 32, 48, 127, 255, byte ^ 1, byte ^ 32, byte ^ 128} - {byte}:
            finding = found(content[:place] + bytes([other]) + content[place + 1 :], head)
            assert finding is not None, (place, other)
            assert (finding.line, finding.seq) == (line, line), (place, other)


def test_every_single_byte_that_is_left_out_or_added_is_found(small):
    content, head = small
    for place in range(len(content)):
        line = content.count(b"\n", 0, place) + 1
        shorter = found(content[:place] + content[place + 1 :], head)
        assert shorter is not None, place
        assert shorter.seq == line, place
        longer = found(content[:place] + b"x" + content[place:], head)
        assert longer is not None, place
        assert longer.seq == line, place


def test_a_byte_anywhere_in_ten_thousand_records_is_found(large):
    content, head = large
    chance = random.Random(6)
    for place in [0, len(content) - 1, *(chance.randrange(len(content)) for _ in range(20))]:
        line = content.count(b"\n", 0, place) + 1
        spoilt = bytearray(content)
        spoilt[place] ^= 1 << chance.randrange(8)
        finding = found(bytes(spoilt), head)
        assert finding is not None, place
        assert (finding.line, finding.seq) == (line, line), place


def test_each_of_two_thousand_changes_in_ten_thousand_records_is_found(large):
    """Each verified from some records before it, so that it takes no time."""
    content, head = large
    starts = [0, *(at.end() for at in re.finditer(b"\n", content))]
    chance = random.Random(7)
    for place in (chance.randrange(len(content)) for _ in range(2_000)):
        line = bisect_right(starts, place)
        since = max(1, line - chance.randrange(1, 20))
        start = starts[since - 1]
        spoilt = bytearray(content[start : start + 20_000])
        at = place - start
        spoilt[at] = chance.choice([byte for byte in (0, 10, 34, 48, 49, 97, 125, 255) if byte != spoilt[at]])
        finding = check({"audit.jsonl": bytes(spoilt)}, head, since=since).finding
        assert (finding.line, finding.seq) == (line - since + 1, line), place


def test_a_line_that_is_left_out_is_found(small):
    content, head = small
    lines = content.splitlines(keepends=True)
    for place in range(len(lines)):
        finding = found(b"".join(lines[:place] + lines[place + 1 :]), head)
        assert finding is not None
        assert finding.seq == place + 1
        assert "missing" in finding.what


def test_lines_that_change_places_are_found(small):
    content, head = small
    lines = content.splitlines(keepends=True)
    for one in range(len(lines)):
        for other in range(one + 1, len(lines)):
            swapped = list(lines)
            swapped[one], swapped[other] = lines[other], lines[one]
            finding = found(b"".join(swapped), head)
            assert finding is not None
            assert finding.seq == one + 1


def test_a_line_that_stands_there_twice_or_elsewhere_is_found(small):
    content, head = small
    lines = content.splitlines(keepends=True)
    for one in range(len(lines)):
        for place in range(len(lines) + 1):
            finding = found(b"".join([*lines[:place], lines[one], *lines[place:]]), head)
            assert finding is not None
            assert finding.seq == place + 1 + (one == place)


@pytest.mark.parametrize("line", [b"\n", b"{}\n", b'{"seq":3}\n', b"[" * 100_000 + b"\n", b"\xff\n"], ids=range(5))
def test_a_line_of_somebody_else_is_found(small, line):
    lines = small[0].splitlines(keepends=True)
    finding = found(b"".join([*lines[:2], line, *lines[2:]]), small[1])
    assert (finding.line, finding.seq, finding.what) == (3, 3, "is no whole line: it was changed, or cut short")


def test_every_end_that_is_missing_is_found(small):
    content, head = small
    for size in range(len(content)):
        finding = found(content[:size], head)
        assert finding is not None, size
        assert finding.seq == content.count(b"\n", 0, size) + 1, size


def test_a_head_that_is_missing_or_changed_is_found(small):
    content, head = small
    for changed in [b"", b"#" * 302, head[:150], head[152:], b"\n" + head]:
        assert "no authentic head" in found(content, changed).what
    for changed in [*(head[:size] for size in range(len(head))), head[151:], head + b"\n", head + head]:
        assert found(content, changed) is not None
    for place, byte in enumerate(head):
        for other in (byte ^ 1, byte ^ 32, byte ^ 128):
            assert found(content, head[:place] + bytes([other]) + head[place + 1 :]) is not None, place


def test_the_older_head_is_of_no_use_in_the_place_of_the_newer(small):
    """It would hide that the last record is missing."""
    content, head = small
    one, other = head[:PLACE], head[PLACE:]
    cut = content[: content.rindex(b"\n", 0, -1) + 1]
    for changed in (one + one, other + other, other + one, one, other):
        assert found(cut, changed) is not None
        assert found(content, changed) is not None


def test_an_end_cannot_be_hidden_by_spoiling_the_head(tmp_path):
    path = written(tmp_path / "audit.jsonl", 6)
    head = head_of(path)
    lines = path.read_bytes().splitlines(keepends=True)
    for kept in range(6):
        for size in range(len(head)):
            assert found(b"".join(lines[:kept]), head[:size]) is not None


def test_the_head_of_another_record_is_found(tmp_path, small):
    longer = written(tmp_path / "longer.jsonl", 7, clock=lambda: 0.0)
    same = written(tmp_path / "same.jsonl", 6, clock=lambda: 0.0)
    shorter = written(tmp_path / "shorter.jsonl", 3, clock=lambda: 0.0)
    assert "the end is missing" in found(small[0], head_of(longer)).what
    assert "of another record" in found(small[0], head_of(same)).what
    assert "of another record" in found(small[0], head_of(shorter)).what
    assert found(small[0], head_of(shorter)).seq == 3


def test_a_head_of_an_earlier_moment_is_none_of_another_record(tmp_path):
    path = tmp_path / "audit.jsonl"
    head = head_of(written(path, 3))
    written(path, 3)
    assert check({"audit.jsonl": path.read_bytes()}, head).finding is None


def test_another_key_is_found(small):
    assert found(*small, OTHER)[1:3] == (1, 1)
    assert "this is not the key" in found(*small, OTHER).what
    assert "another key" in found(b"", small[1], OTHER).what
    later = check({"a": small[0].split(b"\n", 2)[2]}, small[1], OTHER, since=3).finding
    assert (later.seq, "this is not the key" in later.what) == (4, True)


def test_an_empty_record_is_sound_and_a_lost_one_is_not(tmp_path, small):
    path = written(tmp_path / "audit.jsonl", 0)
    assert verified(path) == (0, None, None, None, None)
    assert "the end is missing" in found(b"", small[1]).what
    assert "no authentic head" in found(b"", b"").what


def test_a_file_that_is_missing_among_several_is_found(rotated):
    contents, head = rotated
    names = list(contents)
    assert len(names) > 3
    for place, name in enumerate(names):
        rest = {one: content for one, content in contents.items() if one != name}
        report = check(rest, head)
        first = sum(contents[one].count(b"\n") for one in names[:place]) + 1
        assert report.finding is not None
        assert report.finding.seq == first
        assert report.records == first - 1
        if place < len(names) - 1:
            assert report.finding.file == names[place + 1]


def test_a_record_can_be_verified_from_where_it_still_is(rotated):
    contents, head = rotated
    names = list(contents)
    gone = contents.pop(names[0]).count(b"\n")
    assert check(contents, head).finding is not None
    report = check(contents, head, since=gone + 1)
    assert (report.finding, report.first, report.last) == (None, gone + 1, 12)
    for wrong in (gone, gone + 2):
        assert check(contents, head, since=wrong).finding.line == 1
    changed = {**contents, names[2]: contents[names[2]].replace(b"read", b"rEad", 1)}
    assert check(changed, head, since=gone + 1).finding.file == names[2]


def test_from_the_first_record_on_is_all_of_it(small):
    content, head = small
    assert check({"a": content}, head, since=1).finding is None
    assert check({"a": content.replace(b"read", b"rEad", 1)}, head, since=1).finding.seq == 1


def test_a_head_is_from_before_where_the_record_begins(small, rotated):
    contents, _ = rotated
    names = list(contents)
    gone = contents.pop(names[0]).count(b"\n")
    older = Head(gone - 1, b"0" * 64)
    old = sealed(keys(KEY).head, older, 0) + sealed(keys(KEY).head, older, 1)
    assert "of another record" in check(contents, old, since=gone + 1).finding.what


def test_a_key_is_long_enough():
    with pytest.raises(ValueError, match="at least 16 bytes"):
        keys(b"short")


def test_the_files_of_a_record_are_of_it_alone(tmp_path):
    path = tmp_path / "a[1].jsonl"
    for name in (
        *("a[1].jsonl.000002", "a[1].jsonl.000010", "a[1].jsonl.1000000", "a[1].jsonl.000001"),
        *("a[1].jsonl.head", "a[1].jsonl.000001.gz", "a[1].jsonl.1", "a1.jsonl.000003", "a[1].jsonl.00000٣"),
    ):
        (tmp_path / name).touch()
    assert [one.name for one in set_aside(path)] == [
        *("a[1].jsonl.000001", "a[1].jsonl.000002", "a[1].jsonl.000010", "a[1].jsonl.1000000")
    ]
