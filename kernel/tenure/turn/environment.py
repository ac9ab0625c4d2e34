"""What a request is made of besides the transcript: as text, as a digest, and where two of them differ."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from ..messages.codec import InvalidMessage, from_json, non_defaults, to_json
from ..transcript import hash_text
from .protocol import Environment

PATHS_MAX: Final = 8


def describe(environment: Environment) -> str:
    """Canonical JSON, in which schemas and parameters are opened so that a difference can be named."""
    found = non_defaults(environment)
    found["parameters"] = _opened(environment.parameters)
    for tool, plain in zip(environment.tools, found.get("tools", ()), strict=True):
        plain["schema"] = _opened(tool.schema)
    found["tools"] = {plain.pop("name"): plain for plain in found.get("tools", ())}
    return to_json(found)


def digest_of(text: str) -> str:
    return hash_text(text)


def _opened(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def differences(old: str, new: str) -> tuple[str, ...]:
    """TURN-7: the first paths at which two descriptions differ."""
    try:
        ours, theirs = from_json(old), from_json(new)
    except InvalidMessage:
        return ("environment",)
    found: list[str] = []
    for path in _differing(ours, theirs, ""):
        found.append(path)
        if len(found) == PATHS_MAX:
            break
    return tuple(found)


def _differing(old: Any, new: Any, path: str) -> Iterator[str]:
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            if key not in old or key not in new:
                yield f"{path}/{key}"
            else:
                yield from _differing(old[key], new[key], f"{path}/{key}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (left, right) in enumerate(zip(old, new, strict=True)):
            yield from _differing(left, right, f"{path}/{index}")
    else:
        yield path or "/"
