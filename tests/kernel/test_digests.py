"""The digest of values is that of their canonical JSON."""

from __future__ import annotations

import hashlib
import json

from hypothesis import given
from hypothesis import strategies as st

from tenure.transcript import Role, hash_parts

PLAIN = st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(Role)
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.lists(VALUES))
def test_a_digest_is_that_of_compact_sorted_json(parts: list[object]) -> None:
    text = json.dumps(parts, separators=(",", ":"), sort_keys=True)

    assert hash_parts(*parts) == "c1:" + hashlib.sha256(text.encode()).hexdigest()
