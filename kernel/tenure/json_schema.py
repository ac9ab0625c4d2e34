"""A subset of JSON Schema: what an event type of a job may declare, and the check of a value.  Spec: specs/signal.md.

A schema with a keyword that is not checked is refused when it is declared, so that no declared rule is ignored.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Final, TypeAlias

__all__ = ["read_json", "validate_schema", "violation"]


ANNOTATIONS: Final = frozenset(
    ("$schema", "$id", "$comment", "title", "description", "default", "examples", "deprecated")
)
DEPTH_MAX: Final = 16
PART_MAX: Final = 100  # characters of a name in a path
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


_Path: TypeAlias = (
    "tuple[_Path, str | int] | None"  # the path of the object or array, and the place in it
)


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


def violation(schema: Any, value: Any) -> str | None:
    """EMIT-6: return how a value violates a schema that was validated, with the path of the part; None: it fits.

    The time grows with the length of both, and not with their product.
    """
    try:
        return _violation(_prepared(schema), value, None)
    except RecursionError:
        return "the value has too many levels"


def _prepared(schema: Any) -> Any:
    """Return a schema whose lists are sets, so that each value is looked up in them, and not compared with each."""
    if isinstance(schema, bool):
        return schema
    found = dict(schema)
    if "type" in found:
        types = found["type"]
        found["type"] = tuple(dict.fromkeys(types if isinstance(types, list) else [types]))
    if "enum" in found:
        found["enum"] = frozenset([_key(each) for each in found["enum"]])
        found["shown"] = _short(schema["enum"])
    if "const" in found:
        found["const"], found["only"] = _key(found["const"]), _short(found["const"])
    found["required"] = tuple(dict.fromkeys(found.get("required", ())))
    properties = found.get("properties", {})
    found["properties"] = {name: _prepared(each) for name, each in properties.items()}
    for name in ("items", "additionalProperties"):
        if name in found:
            found[name] = _prepared(found[name])
    return found


def _violation(schema: Any, value: Any, path: _Path) -> str | None:
    if isinstance(schema, bool):
        return None if schema else f"{_where(path)} is not allowed"
    wanted = schema.get("type")
    if wanted is not None and not any(TYPES[name](value) for name in wanted):
        return f"{_where(path)} is {_short(value)}: expected {' or '.join(wanted)}"
    if "enum" in schema and _key(value) not in schema["enum"]:
        return f"{_where(path)} is {_short(value)}: expected one of {schema['shown']}"
    if "const" in schema and _key(value) != schema["const"]:
        return f"{_where(path)} is {_short(value)}: expected {schema['only']}"
    for name, (kind, holds) in SIZES.items():
        sized = isinstance(value, kind) and not isinstance(value, bool)
        if name in schema and sized and not holds(value, schema[name]):
            return f"{_where(path)} violates {name} {schema[name]}"
    if isinstance(value, dict):
        return _violation_of_object(schema, value, path)
    if isinstance(value, list) and "items" in schema:
        found = (_violation(schema["items"], each, (path, at)) for at, each in enumerate(value))
        return next(filter(None, found), None)
    return None


def _violation_of_object(schema: Any, value: dict[str, Any], path: _Path) -> str | None:
    missing = next((name for name in schema["required"] if name not in value), None)
    if missing is not None:
        return f"{_where(path)} has no {missing}"
    properties, others = schema["properties"], schema.get("additionalProperties", True)
    for name, each in value.items():
        if problem := _violation(properties.get(name, others), each, (path, name)):
            return problem
    return None


def _where(path: _Path) -> str:
    """Return the path of a part, as text."""
    parts: list[str] = []
    while path is not None:
        path, part = path
        parts.append(f"/{part}"[:PART_MAX])
    return "".join(reversed(parts)) or "the value"


def _key(value: Any) -> Hashable:
    """Return what equal JSON values have in common: true is not 1, but 1.0 is."""
    if isinstance(value, bool):
        return ("boolean", value)
    if isinstance(value, list):
        return ("array", tuple([_key(each) for each in value]))
    if isinstance(value, dict):
        return ("object", frozenset([(name, _key(each)) for name, each in value.items()]))
    found: Hashable = value
    return found


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 40 else text[:40] + "..."
