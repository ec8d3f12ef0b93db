"""`mcp-policy schema`: the published schema, and how it agrees with what loads."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from conformance.runner import cases, expanded, files
from mcp_policy import Policy
from mcp_policy.cli import main
from properties.generate import Maker

PUBLISHED = Path(__file__).resolve().parent.parent / "docs" / "reference" / "policy.schema.json"
SCHEMA = Policy.model_json_schema()
VALIDATOR = Draft202012Validator(SCHEMA)
BEYOND = {"invalid_regex", "invalid_pattern", "too_deep", "duplicate_key", "invalid_json"}
"""What no schema can say, or no validator gets to see."""


def loading() -> Iterator[Any]:
    """The documents of the conformance cases about loading, as a JSON reader sees them, with the codes of the faults."""
    for file in files():
        if file.name.startswith("load-"):
            for case in cases(file):
                try:
                    tree = json.loads(expanded(case["text"]))
                except (ValueError, RecursionError):
                    continue
                codes = {problem["code"] for problem in case["problems"]}
                yield pytest.param(tree, codes, id=f"{file.stem}: {case['name']}")


def test_it_prints_the_published_schema(capsys):
    assert main(["schema"]) == 0
    told = capsys.readouterr()
    assert (told.out, told.err) == (PUBLISHED.read_text(encoding="utf-8"), "")


def test_it_is_a_schema_that_asks_nothing_of_the_network():
    Draft202012Validator.check_schema(SCHEMA)
    text = json.dumps(SCHEMA)
    assert "$id" not in text
    assert re.findall(r"https?://[^\"]*", text) == ["https://json-schema.org/draft/2020-12/schema"]


def test_every_shape_and_key_is_described():
    for shape in (SCHEMA, *SCHEMA["$defs"].values()):
        assert len(shape["description"]) > 10
        assert all(len(key["description"]) > 10 for key in shape["properties"].values())


def test_every_operator_is_explained():
    condition = SCHEMA["$defs"]["Condition"]["properties"]["op"]
    assert set(re.findall("`([a-z_]+)`", condition["description"])) == {*condition["enum"], "value"}


def test_the_patterns_are_read_alike_by_editors():
    """JavaScript's unicode mode knows no escape of a character that needs none."""
    found = re.findall(r'"pattern": ("(?:[^"\\]|\\.)*")', json.dumps(SCHEMA))
    assert found
    for pattern in {json.loads(text) for text in found}:
        assert not re.search(r"\\[^\\\[\](){}^$.*+?|/sdwbux]", pattern), pattern
        assert "(?P" not in pattern


@pytest.mark.parametrize(("tree", "codes"), list(loading()))
def test_it_takes_what_loads_and_refuses_what_a_schema_can(tree, codes):
    if not codes:
        assert VALIDATOR.is_valid(tree)
    elif not codes & BEYOND and not beyond(tree):
        assert not VALIDATOR.is_valid(tree)


def beyond(tree: Any) -> bool:
    """Whether only loading can tell what is wrong: two limits that disagree, a host that is none, 3.0 for 3."""
    text = json.dumps(tree)
    return text.count('"counter"') > 1 or '"host_in"' in text or '"value": 3.0' in text or "\\u0000" in text


def test_few_cases_are_left_to_loading():
    left = [case for case in loading() if case.values[1] and not case.values[1] & BEYOND and beyond(case.values[0])]
    assert len(left) < 30


@given(st.integers(0, 10**9))
def test_it_takes_every_policy(seed: int):
    VALIDATOR.validate(Maker(seed).policy())


@given(st.integers(0, 10**9), st.randoms(use_true_random=False))
def test_it_refuses_a_key_that_does_not_exist(seed, chance):
    tree = Maker(seed).policy()
    holders = [tree, *(rule for rule in tree.get("tools", {}).values() if isinstance(rule, dict))]
    chance.choice(holders)["defualt"] = "deny"
    assert not VALIDATOR.is_valid(tree)
