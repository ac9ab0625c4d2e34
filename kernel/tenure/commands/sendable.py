"""What a command needs to be sent from one session to another.  Spec: specs/outbound.md.

A command joins by inheriting `Sendable`, by its place in `sent_commands.SENDABLE`, and by the refusals that `moot` names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, ClassVar, Self, TypeAlias

from ..outcome import Refusal
from ..replace import replace

__all__ = ["MakeId", "Sendable", "id_of_row", "nth_id", "uuid_of"]


MakeId: TypeAlias = Callable[[int], str]


class Sendable:
    """A command that may be sent.  Its repetition must be a replay, known by an id in it.

    `id_field`: the field of that id.  `moot`: refusals after which what it wants no longer matters.  They end it as if it
    had been executed (OUTBOUND-32).
    """

    __slots__ = ()
    id_field: ClassVar[str] = "command_id"
    moot: ClassVar[tuple[Refusal, ...]] = ()
    session_id: str

    def identified(self, make: MakeId) -> Self:
        """OUTBOUND-4: return the command with ids in the place of empty ones.  `make` returns the n-th."""
        if getattr(self, self.id_field):
            return self
        changed: Any = replace(self, **{self.id_field: make(0)})
        return changed  # type: ignore[no-any-return]


def id_of_row(session_id: str, number: int, causation_id: str, now_ms: int) -> str:
    """OUTBOUND-4: return the id of a row: a UUID of version 7 that follows from what has written the row.

    It begins with the time of the row, so whoever prunes knows its age (RETENTION-4).
    """
    return uuid_of(f"{session_id} {number} {causation_id} {now_ms}", now_ms)


def uuid_of(words: str, now_ms: int) -> str:
    """Return a UUID of version 7 with this time.  Its other digits follow from a text."""
    return _uuid(f"{now_ms & (2**48 - 1):012x}", words)


def nth_id(outbound_id: str, n: int) -> str:
    """Return the n-th of the ids that one row needs; the first is its own."""
    if n == 0:
        return outbound_id
    time = outbound_id.replace("-", "")[:12]
    return _uuid(time, f"{outbound_id} {n}")


def _uuid(time: str, words: str) -> str:
    digest = hashlib.sha256(words.encode()).hexdigest()
    variant = "89ab"[int(digest[3], 16) % 4]
    return f"{time[:8]}-{time[8:]}-7{digest[:3]}-{variant}{digest[4:7]}-{digest[7:19]}"
