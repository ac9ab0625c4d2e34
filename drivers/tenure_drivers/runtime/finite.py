"""Find numbers that JSON does not have: NaN and the infinite ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import msgspec

__all__ = ["find_nonfinite"]


def find_nonfinite(value: Any, enc_hook: Callable[[Any], Any] | None = None) -> str | None:
    """Return the first NaN or infinite number in a value with its place, such as `nan at $.rows[2]`; None: there is none."""
    stack = [("$", msgspec.to_builtins(value, enc_hook=enc_hook))]
    while stack:
        place, found = stack.pop()
        match found:
            case float() if not math.isfinite(found):
                return f"{found} at {place}"
            case dict():
                stack += [(f"{place}.{name}", found[name]) for name in reversed(found)]
            case list() | tuple() | set() | frozenset():
                parts = [(f"{place}[{at}]", each) for at, each in enumerate(found)]
                stack += reversed(parts)
    return None
