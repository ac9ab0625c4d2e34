"""Shapes that may enter a store: ids and times.  Spec: specs/inbox.md, INBOX-4."""

from __future__ import annotations

from ..limits import ID_CHARACTERS_MAX, TIME_MS_MAX


def validate_id(name: str, value: str) -> str | None:
    """1 to 200 printable ASCII characters without blanks; the answer says what is wrong, or None."""
    if 0 < len(value) <= ID_CHARACTERS_MAX and value.isascii() and value.isprintable():
        if " " not in value:
            return None
    shown = value if len(value) <= 40 else value[:40] + "..."
    return f"{name} {shown!r}: 1 to {ID_CHARACTERS_MAX} printable ASCII characters without blanks"


def validate_time(name: str, value: int | None) -> str | None:
    if value is None or 0 <= value <= TIME_MS_MAX:
        return None
    return f"{name} {value}: milliseconds since 1970, 0 to {TIME_MS_MAX}"


def validate_limits(limit: int, limit_bytes: int) -> str | None:
    if limit < 1 or limit_bytes < 1:
        return f"limit {limit}, limit_bytes {limit_bytes}: at least 1 each"
    return None


def size_of(text: str) -> int:
    """Bytes of UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def validate_text(name: str, text: str, characters_max: int = 2_000) -> str | None:
    """Words for people: no NUL, no lone surrogate, not without end."""
    if len(text) > characters_max:
        return f"{name} of {len(text)} characters; at most {characters_max}"
    if "\x00" in text:
        return f"{name} with a NUL character"
    if not text.isascii() and text != sanitize(text):
        return f"{name} with a lone surrogate"
    return None


def sanitize(text: str) -> str:
    """What every store can keep of a text that somebody else wrote, an error's for instance."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")
