"""The policy's file: what was seen is what is written over, or nothing is."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mcp_policy.explorer.current import Current
from mcp_policy.explorer.saving import Conflict, PolicyOnDisk, SaveError

ONE = '{"version": "1"}\n'
TWO = '{"version": "1", "default": "allow"}\n'


@pytest.fixture
def path(tmp_path) -> Path:
    path = tmp_path / "policy.json"
    path.write_text(ONE)
    return path


def test_a_file_is_read_and_written(path):
    disk = PolicyOnDisk(path)
    text, digest = disk.load()
    assert text == ONE
    again = disk.save(TWO, digest)
    assert disk.load() == (TWO, again)
    assert disk.save(ONE, again) == digest
    assert [one.name for one in path.parent.iterdir()] == ["policy.json"]


def test_a_file_that_is_not_there_is_made_by_saving(tmp_path):
    disk = PolicyOnDisk(tmp_path / "policy.json")
    assert disk.load() == ("", "")
    disk.save(ONE, "")
    assert (tmp_path / "policy.json").read_text() == ONE


def test_what_has_changed_meanwhile_is_not_overwritten(path):
    disk = PolicyOnDisk(path)
    digest = disk.load().digest
    path.write_text(TWO)
    with pytest.raises(Conflict) as refused:
        disk.save(ONE, digest)
    assert (refused.value.text, path.read_text()) == (TWO, TWO)
    disk.save(ONE, refused.value.digest)
    assert path.read_text() == ONE


def test_a_file_that_has_appeared_or_gone_meanwhile_is_a_conflict(path):
    disk = PolicyOnDisk(path)
    with pytest.raises(Conflict):
        disk.save(TWO, "")
    digest = disk.load().digest
    path.unlink()
    with pytest.raises(Conflict) as refused:
        disk.save(TWO, digest)
    assert refused.value.text == ""
    assert not path.exists()


@pytest.mark.parametrize("text", ["", "{", '{"version": "2"}', '{"version": "1", "tols": {}}', "\ufeff" + ONE])
def test_a_policy_that_does_not_load_is_not_saved(path, text):
    disk = PolicyOnDisk(path)
    with pytest.raises(SaveError, match="does not load"):
        disk.save(text, disk.load().digest)
    assert path.read_text() == ONE


def test_the_mode_of_the_file_is_kept(path):
    path.chmod(0o600)
    disk = PolicyOnDisk(path)
    disk.save(TWO, disk.load().digest)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_link_is_followed_once(path, tmp_path):
    link, other = tmp_path / "link.json", tmp_path / "other.json"
    other.write_text(ONE)
    link.symlink_to(path)
    disk = PolicyOnDisk(link)
    digest = disk.load().digest
    link.unlink()
    link.symlink_to(other)
    disk.save(TWO, digest)
    assert (path.read_text(), other.read_text(), link.is_symlink()) == (TWO, ONE, True)


def test_a_link_that_is_planted_later_is_not_written_through(path, tmp_path):
    disk, other = PolicyOnDisk(path), tmp_path / "other.json"
    other.write_text(ONE)
    digest = disk.load().digest
    path.unlink()
    path.symlink_to(other)
    disk.save(TWO, digest)
    assert (other.read_text(), path.is_symlink(), path.read_text()) == (ONE, False, TWO)


@pytest.mark.parametrize("same", [True, False], ids=["the same in it", "nothing in it"])
def test_a_folder_that_becomes_a_link_leads_nowhere_else(tmp_path, same):
    folder, other = tmp_path / "folder", tmp_path / "other"
    for one in (folder, other):
        one.mkdir()
        if same:
            (one / "policy.json").write_text(ONE)
    disk = PolicyOnDisk(folder / "policy.json")
    digest = disk.load().digest
    folder.rename(tmp_path / "gone")
    folder.symlink_to(other)
    for ask in (disk.load, lambda: disk.save(TWO, digest)):
        with pytest.raises(SaveError, match="has become a link"):
            ask()
    assert [path.read_text() for path in other.iterdir()] == [ONE] * same


@pytest.mark.parametrize("name", ["policy.yaml", "policy.YML", "policy.toml"])
def test_another_format_is_refused(tmp_path, name):
    with pytest.raises(SaveError, match="JSON"):
        PolicyOnDisk(tmp_path / name)


def test_a_link_to_another_format_is_refused(tmp_path):
    (tmp_path / "policy.json").symlink_to(tmp_path / "policy.yaml")
    with pytest.raises(SaveError, match="JSON"):
        PolicyOnDisk(tmp_path / "policy.json")


def test_links_in_a_circle_are_said(tmp_path):
    (tmp_path / "a.json").symlink_to(tmp_path / "b.json")
    (tmp_path / "b.json").symlink_to(tmp_path / "a.json")
    with pytest.raises(SaveError, match=r"a\.json"):
        PolicyOnDisk(tmp_path / "a.json").load()


def test_a_link_to_what_is_not_there_yet_makes_that(tmp_path):
    (tmp_path / "link.json").symlink_to(tmp_path / "policy.json")
    PolicyOnDisk(tmp_path / "link.json").save(ONE, "")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "policy.json").read_text() == ONE


def test_a_name_without_room_for_a_file_beside_it_is_said(tmp_path):
    disk = PolicyOnDisk(tmp_path / f"{'a' * 250}.json")
    with pytest.raises(SaveError, match="cannot be written: file name too long"):
        disk.save(ONE, "")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_has_gone_is_said(path):
    disk = PolicyOnDisk(path)
    digest = disk.load().digest
    path.unlink()
    path.parent.rmdir()
    with pytest.raises(SaveError, match="no folder"):
        disk.save(TWO, digest)


def test_what_cannot_be_read_is_said(tmp_path):
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe")
    (tmp_path / "large.json").write_bytes(b" " * (4 * 2**20 + 1))
    for name, why in [
        ("bytes.json", "UTF-8"),
        ("large.json", "bytes"),
        ("", "ordinary"),
        ("no/policy.json", "no folder"),
    ]:
        with pytest.raises(SaveError, match=why):
            PolicyOnDisk(tmp_path / name).load()


def test_what_cannot_be_written_is_said_and_leaves_nothing(path, monkeypatch):
    disk = PolicyOnDisk(path)
    digest = disk.load().digest

    def full(number: int) -> None:
        raise OSError(28, "no space")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SaveError, match="no space left"):
        disk.save(TWO, digest)
    assert path.read_text() == ONE
    assert [one.name for one in path.parent.iterdir()] == ["policy.json"]


def test_of_many_who_have_seen_the_same_one_saves(path):
    disk = PolicyOnDisk(path)
    digest = disk.load().digest

    def save(number: int) -> bool:
        try:
            disk.save(f'{{"version": "1", "name": "{number}"}}', digest)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(save, range(40))) == 1


# -- what is in force


def test_what_is_in_force_is_what_the_file_says(path):
    current = Current(PolicyOnDisk(path))
    first = current.now()
    assert first.engine is not None
    assert current.now().engine is first.engine
    path.write_text(TWO)
    second = current.now()
    assert second.engine is not None
    assert second.engine.policy is not None
    assert second.engine.policy.document["default"] == "allow"
    path.write_text("{")
    broken = current.now()
    assert broken.engine is not None
    assert broken.engine.policy is None
    assert "does not load" in broken.problem
    path.write_bytes(b"\xff")
    assert "UTF-8" in current.now().problem
    path.unlink()
    assert current.now() == (None, "")
    path.write_text(ONE)
    assert current.now().problem == ""


def test_without_a_file_nothing_is_in_force():
    assert Current(None).now() == (None, "")
