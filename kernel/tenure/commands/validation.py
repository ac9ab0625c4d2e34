"""Validation of ids, times, limits and texts before they enter a store.  Spec: specs/inbox.md, INBOX-4.

A `validate_` function returns what is wrong, or None.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import attrs

from ..failure import MOST_LIMITS, RetryLimits
from ..limits import ID_CHARACTERS_MAX, TIME_MS_MAX
from ..run_values import TicketName

__all__ = [
    "validate_ticket_name",
    "sanitize",
    "size_of",
    "texts_of",
    "validate_id",
    "validate_limits",
    "validate_retry",
    "validate_text",
    "validate_time",
]


# As seconds these are times from 2001 to 2286, as milliseconds from early 1970.
SECONDS_OF_TODAY: Final = range(10**9, 10**10)


def validate_id(name: str, value: str) -> str | None:
    """Require 1 to 200 printable ASCII characters without blanks."""
    if 0 < len(value) <= ID_CHARACTERS_MAX and value.isascii() and value.isprintable():
        if " " not in value:
            return None
    shown = value if len(value) <= 40 else value[:40] + "..."
    return f"{name} {shown!r}: expected 1 to {ID_CHARACTERS_MAX} printable ASCII characters without blanks"


def validate_time(name: str, value: int | None, now_ms: int) -> str | None:
    """Require milliseconds since 1970, or None.  If the clock shows a real time, refuse a time in seconds."""
    if value is not None and value in SECONDS_OF_TODAY and now_ms >= SECONDS_OF_TODAY.start * 1000:
        return f"{name} {value}: seconds? expected milliseconds since 1970, such as {value * 1000}"
    if value is None or 0 <= value <= TIME_MS_MAX:
        return None
    return f"{name} {value}: expected milliseconds since 1970, 0 to {TIME_MS_MAX}"


def validate_limits(limit: int, limit_bytes: int) -> str | None:
    """Require limits of at least 1."""
    if limit < 1 or limit_bytes < 1:
        return f"limit {limit}, limit_bytes {limit_bytes}: expected at least 1 each"
    return None


def validate_retry(retry: RetryLimits | None) -> str | None:
    """FAIL-20: return which limit of retries is out of its bounds, or None."""
    if retry is None:
        return None
    for name, most in attrs.asdict(MOST_LIMITS).items():
        value, least = getattr(retry, name), 0 if name == "give_up_after_ms" else 1
        if not least <= value <= most:
            return f"retry.{name} {value}: expected {least} to {most}"
    if retry.base_ms > retry.cap_ms:
        return f"retry.base_ms {retry.base_ms}: more than cap_ms {retry.cap_ms}"
    return None


def size_of(text: str) -> int:
    """Return the number of bytes in UTF-8."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def texts_of(value: object) -> Iterator[str]:
    """Yield all texts in an attrs value whose fields have their types."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple):
        for each in value:
            yield from texts_of(each)
    elif attrs.has(value.__class__):
        for field in attrs.fields(value.__class__):
            yield from texts_of(getattr(value, field.name))


def validate_text(name: str, text: str, characters_max: int = 2_000) -> str | None:
    """Require a text that every store can hold: bounded, without NUL and lone surrogates."""
    if len(text) > characters_max:
        return f"{name} of {len(text)} characters; at most {characters_max}"
    if "\x00" in text:
        return f"{name} with a NUL character"
    if not text.isascii() and text != sanitize(text):
        return f"{name} with a lone surrogate"
    return None


def sanitize(text: str) -> str:
    """Replace what no store can hold (NUL, lone surrogates), for instance in an error message."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def validate_ticket_name(name: TicketName) -> str | None:
    """TICKET-40: require legal ids in the name of a ticket that an end settles."""
    return (
        validate_id("settles.asked_by", name.asked_by)
        or validate_id("settles.ticket_id", name.ticket_id)
        or (validate_id("settles.peer", name.peer) if name.peer else None)
    )
