"""The values that a timeline shows: sessions with their events, and the workers that processed them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from attrs import field, frozen

from tenure.questions.history import SessionHistory

__all__ = ["Figure", "Holder", "Life", "Pause", "Timeline", "TooLate"]


WORKERS_MAX: Final = 8  # number of colours; the ninth worker has the colour of the first


@frozen
class Life:
    """One process of a worker.  `until_ms` is None while it runs."""

    worker: str
    pid: int
    from_ms: int
    until_ms: int | None = None
    killed: bool = False


@frozen
class Holder:
    """The holder of a lease: one process of a worker."""

    worker: str
    pid: int


@frozen
class Pause:
    """A time in which a worker's process was stopped."""

    worker: str
    from_ms: int
    until_ms: int


@frozen
class TooLate:
    """A write that was refused with FENCED: another worker had taken the session over."""

    at_ms: int
    worker: str
    session_id: str
    command: str
    generation: int


@frozen
class Figure:
    """A number above the drawing, under the name of its `group`.  `good` is None for a number that is not checked."""

    name: str
    value: int
    meaning: str
    good: bool | None = None
    group: str = ""


@frozen
class Timeline:
    """All that a page shows.  `holders` maps a lease id to its holder; a lease without a known holder is grey."""

    title: str
    sentence: str
    figures: tuple[Figure, ...]
    histories: tuple[SessionHistory, ...]
    holders: Mapping[str, Holder] = field(factory=dict)
    lives: tuple[Life, ...] = ()
    pauses: tuple[Pause, ...] = ()
    refused: tuple[TooLate, ...] = ()

    @property
    def workers(self) -> tuple[str, ...]:
        """Return the names of all workers, in order."""
        return tuple(
            sorted(
                {life.worker for life in self.lives}
                | {holder.worker for holder in self.holders.values()}
            )
        )

    @property
    def good(self) -> bool:
        """Return False if a checked figure is wrong."""
        return not any(f.good is False for f in self.figures)

    @property
    def moments(self) -> tuple[int, int]:
        """Return the first and the last time on the axis."""
        found = [event.at_ms for c in self.histories for event in c.events]
        found += [r.at_ms for r in self.refused] + [p.until_ms for p in self.pauses]
        found += [life.from_ms for life in self.lives]
        found += [life.until_ms for life in self.lives if life.until_ms is not None]
        return min(found, default=0), max(found, default=1)

    def hue(self, worker: str) -> int:
        """Return the colour of a worker: 1 to WORKERS_MAX, or 0 for an unknown worker."""
        workers = self.workers
        return workers.index(worker) % WORKERS_MAX + 1 if worker in workers else 0
