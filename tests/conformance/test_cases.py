"""Every case of this folder, played against the engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .runner import cases, decide, files, load, play

EVERY = [pytest.param(case, id=f"{path.stem}: {case['name']}") for path in files() for case in cases(path)]


@pytest.mark.parametrize("case", EVERY)
def test_case(case: dict[str, Any]) -> None:
    assert play(case) == []


@pytest.mark.parametrize("path", files(), ids=lambda path: path.stem)
def test_every_file_has_cases_with_names_of_their_own(path: Path) -> None:
    names = [case["name"] for case in cases(path)]
    assert names
    assert len(set(names)) == len(names)


def test_there_are_files() -> None:
    assert len(files()) > 20


def test_a_wrong_expectation_fails() -> None:
    policy = {"version": "1", "tools": {"a": {}}}
    wrong = {
        "effect": "deny",
        "codes": ["default_deny"],
        "rules": ["/default"],
        "retry_after": 5,
        "remaining": {"c": 1},
    }
    said = decide({"policy": policy, "steps": [{"call": {"tool": "a"}, "expect": wrong}]})
    assert len(said) == 5


def test_a_wrong_load_fails() -> None:
    assert load({"text": '{"version": "1"}', "problems": [{"pointer": "", "code": "missing_key"}]}) == ["it loads"]
    assert load({"text": "{}", "problems": []})
    assert load({"text": "{}", "problems": [{"pointer": "/x", "code": "missing_key"}]})
