"""What stores share."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mcp_policy.limits import render

KEYS = st.recursive(st.none() | st.text(max_size=4), lambda keys: st.lists(keys, max_size=3).map(tuple), max_leaves=5)
NAMES = st.text(max_size=4)


def test_a_counter_and_its_key_as_text():
    assert render("counter:é", ("s", None, ("\ud800",))) == '["counter:\\u00e9",["s",null,["\\ud800"]]]'


@given(NAMES, KEYS, NAMES, KEYS)
def test_no_two_counters_or_keys_share_a_text(counter, key, other_counter, other_key):
    same = (counter, key) == (other_counter, other_key)
    assert (render(counter, key) == render(other_counter, other_key)) == same
    assert render(counter, key).isascii()
