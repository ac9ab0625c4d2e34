"""Shapes that may enter a store: ids and times.  Spec: specs/inbox.md, INBOX-4."""

from __future__ import annotations

from typing import Final

ID_CHARACTERS_MAX: Final = 200
TIME_MS_MAX: Final = 2**53


def illegal_id(name: str, value: str) -> str | None:
    """1 to 200 printable ASCII characters without blanks; the answer says what is wrong, or None."""
    if 0 < len(value) <= ID_CHARACTERS_MAX and value.isascii() and value.isprintable():
        if " " not in value:
            return None
    shown = value if len(value) <= 40 else value[:40] + "..."
    return f"{name} {shown!r}: 1 to {ID_CHARACTERS_MAX} printable ASCII characters without blanks"


def illegal_time(name: str, value: int | None) -> str | None:
    if value is None or 0 <= value <= TIME_MS_MAX:
        return None
    return f"{name} {value}: milliseconds since 1970, 0 to {TIME_MS_MAX}"
