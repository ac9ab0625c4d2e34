"""The schemas that event types declare: values that fit, and the time that a check takes.  Spec: specs/signal.md."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tenure.json_schema import read_json, validate_schema, violation


@pytest.mark.parametrize(
    ("schema", "fits", "others"),
    [
        ({"enum": [1, "a", None, [1], {"a": [True]}]}, [1, 1.0, "a", None, [1], {"a": [True]}], [True, "1", [], [True], {"a": [1]}, {}]),
        ({"const": True}, [True], [1, "true"]),
        ({"const": {"a": 1, "b": 2}}, [{"b": 2, "a": 1.0}], [{"a": 1}, {"a": 1, "b": True}]),
        ({"type": ["string", "null"], "maxLength": 2}, ["ab", None], ["abc", 1]),
        ({"items": {"enum": [1]}}, [[], [1, 1], "no list"], [[1, 2]]),
        ({"required": ["a"], "properties": {"a": False}}, [], [{}, {"a": 1}]),
        ({"additionalProperties": {"type": "integer"}}, [{"x": 1}], [{"x": "1"}]),
    ],
)  # fmt: skip
def test_a_value_fits_or_not(schema: Any, fits: list[Any], others: list[Any]) -> None:  # EMIT-6
    assert validate_schema(schema) is None
    assert [violation(schema, value) for value in fits] == [None] * len(fits)
    assert all(violation(schema, value) for value in others)


def test_a_violation_names_its_place() -> None:  # EMIT-6
    schema = {"properties": {"a": {"items": {"enum": [1, 2]}}}}
    assert violation(schema, {"a": [1, 3]}) == "/a/1 is 3: expected one of [1, 2]"
    assert violation({"const": 1}, 2) == "the value is 2: expected 1"
    found = violation({"additionalProperties": {"type": "null"}}, {"x" * 10_000: 1})
    assert found is not None and len(found) < 200


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"items": {"enum": [f"a{i}" for i in range(7_000)]}}, ["a6999"] * 100_000),
        ({"items": {"required": ["a"] * 15_000}}, [{"a": 1}] * 100_000),
        ({"items": {"type": ["null"] * 9_000 + ["integer"]}}, [1] * 400_000),
        ({"additionalProperties": {"items": {}}}, {"x" * 500_000: [1] * 200_000}),
    ],
    ids=("enum", "required", "type", "path"),
)
def test_a_check_takes_time_for_the_schema_and_the_value_and_not_for_their_product(
    schema: Any, value: Any
) -> None:  # EMIT-6: it takes minutes otherwise, behind the lock of the job
    assert len(json.dumps(schema)) < 140_000
    assert violation(schema, value) is None


@pytest.mark.parametrize("levels", [400, 700, 850, 900, 2_000])
def test_no_number_of_levels_is_an_error_of_the_check(levels: int) -> None:  # EMIT-2, EMIT-6
    text = "[" * levels + "]" * levels
    for schema in (f'{{"const": {text}}}', f'{{"type": {text}}}', f'{{"minimum": {text}}}'):
        try:
            found, value = read_json(schema), read_json(text)
        except ValueError:
            continue
        if validate_schema(found) is None:
            violation(found, value)
