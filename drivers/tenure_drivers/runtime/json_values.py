"""Find what JSON cannot hold: NaN and infinite numbers, and keys of a mapping that are one key in JSON."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import msgspec

__all__ = ["find_not_json"]


def find_not_json(
    value: Any, text: str, enc_hook: Callable[[Any], Any] | None = None
) -> str | None:
    """Return what the JSON `text` of a value does not say of it, with its place, such as `nan at $.rows[2]`; None: nothing.

    The value is searched only if the text may hide something: NaN becomes null, and of two equal keys one is lost.
    """
    again = msgspec.json.encode(msgspec.json.decode(text))
    if "null" not in text and len(again) == len(text.encode()):
        return None
    stack = [("$", msgspec.to_builtins(value, enc_hook=enc_hook))]
    while stack:
        place, found = stack.pop()
        match found:
            case float() if not math.isfinite(found):
                return f"{found} at {place}"
            case dict():
                names: dict[str, Any] = {}
                for name in found:
                    other = names.setdefault(_name_of(name), name)
                    if other is not name:
                        return f"the equal keys {other!r:.40} and {name!r:.40} at {place}"
                stack += [(f"{place}.{name}", found[name]) for name in reversed(found)]
            case list() | tuple() | set() | frozenset():
                parts = [(f"{place}[{at}]", each) for at, each in enumerate(found)]
                stack += reversed(parts)
    return None


def _name_of(key: Any) -> str:
    """Return a key of a mapping as JSON has it."""
    if isinstance(key, str):
        return key
    (name,) = msgspec.json.decode(msgspec.json.encode({key: None}))
    return str(name)
