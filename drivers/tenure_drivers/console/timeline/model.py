"""What a timeline shows, as values: sessions with their events, and the workers that carried them out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from attrs import field, frozen

from tenure.questions.history import SessionHistory

WORKERS_MAX: Final = 8  # colours; the ninth worker has the first one's


@frozen
class Life:
    """One process of a worker.  `how` it ended; `mark` it with a cross if it was killed."""

    worker: str
    pid: int
    from_ms: int
    until_ms: int | None = None
    killed: bool = False


@frozen
class Holder:
    """Whose a lease is: one process of a worker."""

    worker: str
    pid: int


@frozen
class Pause:
    worker: str
    from_ms: int
    until_ms: int


@frozen
class TooLate:
    """A write refused because its fence was not the session's any more."""

    at_ms: int
    worker: str
    session_id: str
    command: str
    generation: int


@frozen
class Figure:
    """`good`: None for a number that is only told.  Figures of one `group` stand together, under its name."""

    name: str
    value: int
    meaning: str
    good: bool | None = None
    group: str = ""


@frozen
class Timeline:
    """What a page shows.  `holders`: who sent a lease id; a lease nobody is known for is grey."""

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
        return tuple(
            sorted(
                {life.worker for life in self.lives}
                | {holder.worker for holder in self.holders.values()}
            )
        )

    @property
    def good(self) -> bool:
        return not any(f.good is False for f in self.figures)

    @property
    def moments(self) -> tuple[int, int]:
        """The first and the last one that has something to show."""
        found = [event.at_ms for c in self.histories for event in c.events]
        found += [r.at_ms for r in self.refused] + [p.until_ms for p in self.pauses]
        found += [life.from_ms for life in self.lives]
        found += [life.until_ms for life in self.lives if life.until_ms is not None]
        return min(found, default=0), max(found, default=1)

    def hue(self, worker: str) -> int:
        """Which colour is its: 1 to WORKERS_MAX; 0 is nobody's."""
        workers = self.workers
        return workers.index(worker) % WORKERS_MAX + 1 if worker in workers else 0
