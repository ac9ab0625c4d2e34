"""What observers of one session may still read: a bounded log of what was published.  See live.py."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import AsyncIterator
from typing import Final, Protocol, TypeAlias

from attrs import define, field, frozen

from tenure.messages.types import Delta
from tenure.questions.core import TranscriptLine

OVER_MAX: Final = 32  # runs that are known to be done


@frozen
class Settled:
    """A run is done; what it said is in the transcript.  `event` is the number of the event that says so."""

    run_id: str
    how: str  # as the event has it: `finished: consumed`
    event: int


@frozen
class Gap:
    """Something was missed.  Instead: the end of the transcript, and the last event that it knows of.

    What follows goes on from there; of an answer on its way the beginning may be missing.
    """

    lines: tuple[TranscriptLine, ...] = ()
    revision: int = 0
    event: int = 0


Item: TypeAlias = Delta | Settled


@frozen
class StreamMessage:
    """A delta on its way to other processes.  `before` is the number of the session's last one from `origin`."""

    origin: str
    number: int
    before: int
    session_id: str
    run_id: str
    generation: int
    delta: Delta


class Wakeable(Protocol):
    """Waits for news of a log; `wake` may be called from any thread."""

    def wake(self) -> None: ...


class Channel(Protocol):
    """Carries deltas between processes, at most once; it may lose, double and reorder."""

    def send(self, parcel: StreamMessage, /) -> None:
        """Never waits, never raises; from any thread."""
        ...

    def parcels(self) -> AsyncIterator[StreamMessage]:
        """What others send, from now on."""
        ...


@frozen
class Entry:
    run_id: str
    item: Item | None  # None: something before this was lost on its way here
    size: int


@define(eq=False)
class DeltaLog:
    """The log of one session: numbers `first` to `last` without a hole.  Its owner holds a lock."""

    session_id: str
    first: int
    kept_max: int
    chars_max: int
    entries: deque[Entry] = field(factory=deque)
    chars: int = 0
    fresh: int = 0  # before this one everything has settled
    seen: int | None = None  # the last event that was looked at
    past: int = 0  # the last event of before anybody looked
    hinted: bool = False
    generation: int = 0  # the highest of a publisher
    sent: int = 0  # the number of the last parcel
    heard: dict[str, int] = field(factory=dict)  # the last parcel of each origin
    over: deque[str] = field(factory=lambda: deque(maxlen=OVER_MAX))
    observers: weakref.WeakSet[Wakeable] = field(factory=weakref.WeakSet)

    def __attrs_post_init__(self) -> None:
        self.fresh = self.first

    @property
    def last(self) -> int:
        return self.first + len(self.entries) - 1

    def append(self, run_id: str, item: Item | None) -> None:
        size = len(item.text) if isinstance(item, Delta) else 0
        self.entries.append(Entry(run_id, item, size))
        self.chars += size
        while len(self.entries) > self.kept_max or (
            self.chars > self.chars_max and len(self.entries) > 1
        ):
            self.chars -= self.entries.popleft().size
            self.first += 1

    def take(self, run_id: str, generation: int, delta: Delta) -> bool:
        """False: it comes from who has lost the session since, or too late."""
        if generation < self.generation or run_id in self.over:
            return False
        self.generation = generation
        self.append(run_id, delta)
        return True

    def settle(self, settled: Settled) -> bool:
        """False: it is known, or of the past and was not shown."""
        if self.seen is not None and settled.event <= self.seen:
            return False
        self.seen = settled.event
        if settled.event <= self.past and settled.run_id not in self.runs():
            return False
        self.over.append(settled.run_id)
        self.append(settled.run_id, settled)
        self.fresh = max(self.fresh, self.first)
        while self.fresh <= self.last and self.entries[self.fresh - self.first].run_id in self.over:
            self.fresh += 1
        return True

    def missed(self, parcel: StreamMessage) -> bool | None:
        """Whether something from its origin was lost before it; None: it is old itself."""
        heard = self.heard.get(parcel.origin, 0)
        if parcel.number <= heard:
            return None
        self.heard[parcel.origin] = parcel.number
        return parcel.before != heard

    def first_after(self, event: int) -> int:
        """The first number that a state which knows all events up to this one does not cover."""
        items = [entry.item for entry in self.entries]
        covered = {i.run_id for i in items if isinstance(i, Settled) and i.event <= event}
        for number, entry in enumerate(self.entries, self.first):
            if entry.run_id not in covered:
                return number
        return self.last + 1

    def runs(self) -> set[str]:
        return {entry.run_id for entry in self.entries}
