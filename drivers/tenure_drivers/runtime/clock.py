"""Clock and ids, which are injected into the kernel."""

from __future__ import annotations

import secrets
import time
from uuid import UUID

__all__ = ["boot_clock_ms", "new_id", "uuid7"]


def boot_clock_ms() -> int:
    """Return milliseconds since boot, including sleep.  Comparable only within this boot."""
    try:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
    except (AttributeError, OSError):  # not Linux
        return time.monotonic_ns() // 1_000_000


def uuid7(unix_ms: int, rand_a: int, rand_b: int) -> UUID:
    """Return a UUID version 7 (RFC 9562, 5.7): 48 bits of time, 12 and 62 random bits."""
    value = (unix_ms & (1 << 48) - 1) << 80 | 0x7 << 76 | (rand_a & 0xFFF) << 64
    return UUID(int=value | 0b10 << 62 | rand_b & (1 << 62) - 1)


def new_id() -> str:
    """Return a new id.  Ids of one process are in the order of time, to the millisecond."""
    return str(uuid7(time.time_ns() // 1_000_000, secrets.randbits(12), secrets.randbits(62)))
