"""A subset of JSON Schema: what an event type of a job may declare, and the check of a value.  Spec: specs/signal.md.

A schema with a keyword that is not checked is refused when it is declared, so that no declared rule is ignored.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, Final

__all__ = ["read_json", "validate_schema", "violation"]


ANNOTATIONS: Final = frozenset(
    ("$schema", "$id", "$comment", "title", "description", "default", "examples", "deprecated")
)
DEPTH_MAX: Final = 16
TYPES: Final[dict[str, Callable[[Any], bool]]] = {
    "null": lambda v: v is None,
    "boolean": lambda v: isinstance(v, bool),
    "integer": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "number": lambda v: isinstance(v, int | float) and not isinstance(v, bool),
    "string": lambda v: isinstance(v, str),
    "array": lambda v: isinstance(v, list),
    "object": lambda v: isinstance(v, dict),
}
SIZES: Final[dict[str, tuple[type | tuple[type, ...], Callable[[Any, Any], bool]]]] = {
    "minimum": ((int, float), lambda v, least: v >= least),
    "maximum": ((int, float), lambda v, most: v <= most),
    "minLength": (str, lambda v, least: len(v) >= least),
    "maxLength": (str, lambda v, most: len(v) <= most),
    "minItems": (list, lambda v, least: len(v) >= least),
    "maxItems": (list, lambda v, most: len(v) <= most),
}
OTHERS: Final = ("type", "enum", "const", "properties", "required", "additionalProperties", "items")
KNOWN: Final = frozenset((*OTHERS, *SIZES)) | ANNOTATIONS


def read_json(text: str) -> Any:
    """Return the value of a JSON text.  Raises ValueError, also for what is no JSON: NaN and infinities."""

    def refuse(word: str) -> Any:
        raise ValueError(f"{word} is no JSON value")

    try:
        return json.loads(text, parse_constant=refuse)
    except RecursionError as error:
        raise ValueError("too many levels") from error


def validate_schema(schema: Any, depth: int = 0) -> str | None:
    """EMIT-2: return what is wrong with a schema, or None."""
    if isinstance(schema, bool):
        return None
    if not isinstance(schema, dict):
        return f"schema {_short(schema)}: expected an object, true or false"
    if depth > DEPTH_MAX:
        return f"schema of more than {DEPTH_MAX} levels"
    unknown = sorted(schema.keys() - KNOWN)
    if unknown:
        return f"keyword {unknown[0]}: expected one of {', '.join((*OTHERS, *SIZES))}"
    return next(filter(None, _problems(schema)), None) or next(
        filter(None, [validate_schema(part, depth + 1) for part in _parts(schema)]), None
    )


def _problems(schema: dict[str, Any]) -> Iterator[str | None]:
    types = schema.get("type", "object")
    for name in types if isinstance(types, list) else [types]:
        if not isinstance(name, str) or name not in TYPES:
            yield f"type {_short(name)}: expected one of {', '.join(TYPES)}"
    for name in SIZES:
        size = schema.get(name, 0)
        if isinstance(size, bool) or not isinstance(size, int | float):
            yield f"{name} {_short(size)}: expected a number"
    required = schema.get("required", [])
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        yield f"required {_short(required)}: expected a list of names"
    if not isinstance(schema.get("enum", []), list):
        yield f"enum {_short(schema['enum'])}: expected a list"
    if not isinstance(schema.get("properties", {}), dict):
        yield f"properties {_short(schema['properties'])}: expected an object"


def _parts(schema: dict[str, Any]) -> Iterator[Any]:
    properties = schema.get("properties", {})
    yield from properties.values() if isinstance(properties, dict) else ()
    for name in ("items", "additionalProperties"):
        if name in schema:
            yield schema[name]


def violation(schema: Any, value: Any, path: str = "") -> str | None:
    """EMIT-6: return how a value violates a schema that was validated, with the path of the part; None: it fits."""
    where = path or "the value"
    if isinstance(schema, bool):
        return None if schema else f"{where} is not allowed"
    if (types := schema.get("type")) is not None:
        wanted = types if isinstance(types, list) else [types]
        if not any(TYPES[name](value) for name in wanted):
            return f"{where} is {_short(value)}: expected {' or '.join(wanted)}"
    if "enum" in schema and not any(_equal(value, each) for each in schema["enum"]):
        return f"{where} is {_short(value)}: expected one of {_short(schema['enum'])}"
    if "const" in schema and not _equal(value, schema["const"]):
        return f"{where} is {_short(value)}: expected {_short(schema['const'])}"
    for name, (kind, holds) in SIZES.items():
        sized = isinstance(value, kind) and not isinstance(value, bool)
        if name in schema and sized and not holds(value, schema[name]):
            return f"{where} violates {name} {schema[name]}"
    if isinstance(value, dict):
        return _violation_of_object(schema, value, path)
    if isinstance(value, list) and "items" in schema:
        found = (violation(schema["items"], each, f"{path}/{at}") for at, each in enumerate(value))
        return next(filter(None, found), None)
    return None


def _violation_of_object(schema: Any, value: dict[str, Any], path: str) -> str | None:
    missing = [name for name in schema.get("required", ()) if name not in value]
    if missing:
        return f"{path or 'the value'} has no {missing[0]}"
    properties, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    for name, each in value.items():
        if problem := violation(properties.get(name, others), each, f"{path}/{name}"):
            return problem
    return None


def _equal(one: Any, other: Any) -> bool:
    """JSON equality: true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[name], other[name]) for name in one)
    return bool(one == other)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 40 else text[:40] + "..."
