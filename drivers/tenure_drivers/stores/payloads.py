"""The payload hook: what a store does with texts of users before it writes them.  Spec: specs/state.md, STATE-20 to STATE-24."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar

from .errors import TenureError

__all__ = [
    "SEALED",
    "SEALED_SINCE",
    "NotActive",
    "PayloadHook",
    "find_hook",
    "hook_of_environment",
    "sealing",
    "unsealing",
]


R = TypeVar("R")
SEALED: Final = "\x1esealed:"  # before every sealed text; another text was written without a hook
SEALED_SINCE: Final = 2  # the release that can read them
VARIABLE: Final = "TENURE_PAYLOADS"
Row = tuple[Any, ...]


class PayloadHook(Protocol):
    """Seals texts before a store writes them, and unseals them when it reads them: encrypts, compresses, redacts.

    Both are called from several threads.  `seal` returns a text without NUL characters.  `unseal` returns what `seal` was
    given, also for keys that were used before, and raises ValueError for a text that no `seal` has returned.  Any other
    exception means that the hook does not work now.
    """

    def seal(self, text: str) -> str: ...

    def unseal(self, text: str) -> str: ...


class NotActive:
    """STATE-25: the hook of a store in which a release is active that could not read what it seals."""

    def __init__(self, hook: PayloadHook) -> None:
        self.unseal = hook.unseal

    def seal(self, text: str) -> str:
        raise RuntimeError(
            f"it needs release {SEALED_SINCE}: run `tenure store activate` when no earlier release is at work"
        )


def find_hook(name: str) -> PayloadHook:
    """Return the hook that `module:name` names: an object, or a class that is called.  Raises ValueError."""
    module, _, attribute = name.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")  # as Python does for `python -m`
    try:
        found: Any = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"payload hook {name!r}: expected module:name: {error}") from error
    hook: PayloadHook = found() if isinstance(found, type) else found
    if not callable(getattr(hook, "seal", None)) or not callable(getattr(hook, "unseal", None)):
        raise ValueError(f"payload hook {name!r}: {found!r} has no methods seal and unseal")
    return hook


def hook_of_environment() -> PayloadHook | None:
    """Return the hook that the variable TENURE_PAYLOADS names, for the command line; None if it is not set."""
    name = os.environ.get(VARIABLE)
    return find_hook(name) if name else None


def sealing(
    encode: Callable[[R], Row], at: tuple[int, ...], hook: PayloadHook, failed: type[TenureError]
) -> Callable[[R], Row]:
    """Return `encode` with the columns at these positions sealed (STATE-20).  Raises `failed` if the hook does."""

    def encode_sealed(record: R) -> Row:
        row = list(encode(record))
        for position in at:
            text = row[position]
            if text:
                try:
                    row[position] = SEALED + hook.seal(text)
                except Exception as error:
                    raise failed(f"the payload hook cannot seal: {error!r}") from error
        return tuple(row)

    return encode_sealed


def unsealing(
    decode: Callable[[Any], R], at: tuple[int, ...], hook: PayloadHook, failed: type[TenureError]
) -> Callable[[Any], R]:
    """Return `decode` for rows with sealed columns (STATE-21), or with texts from before there was a hook (STATE-22).

    STATE-23: it raises ValueError for a text that the hook does not know, and `failed` if the hook does not work.
    """

    def decode_sealed(row: Any) -> R:
        plain = list(row)
        for position in at:
            text = plain[position]
            if text and text.startswith(SEALED):
                try:
                    plain[position] = hook.unseal(text[len(SEALED) :])
                except ValueError:
                    raise
                except Exception as error:
                    raise failed(f"the payload hook cannot unseal: {error!r}") from error
        return decode(plain)

    return decode_sealed
