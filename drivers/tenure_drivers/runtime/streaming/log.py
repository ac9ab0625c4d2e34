"""The bounded log of one session, which its observers read."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import AsyncIterator
from typing import Final, Protocol, TypeAlias

from attrs import define, field, frozen

from tenure.messages.types import Delta
from tenure.questions.core import TranscriptLine
from tenure.questions.open_turn import OpenTurn

__all__ = ["Channel", "DeltaLog", "Gap", "Item", "Settled", "StreamMessage"]


OVER_MAX: Final = 32  # runs of which the end is remembered


@frozen
class Settled:
    """A run has ended; its messages are in the transcript.  `event` is the number of the RUN_FINISHED event."""

    run_id: str
    how: str  # the detail of the event: `finished: consumed`
    event: int


@frozen
class Gap:
    """Items were missed.  Holds the stored state instead: the end of the transcript, and the number of its last
    event.

    The items after it continue from there.  `open` is the turn in progress: its prompts, and the last of the messages
    that it has not committed.  They are provisional.  The beginning of a reply in progress may be missing.
    """

    lines: tuple[TranscriptLine, ...] = ()
    revision: int = 0
    event: int = 0
    open: OpenTurn | None = None


Item: TypeAlias = Delta | Settled


@frozen
class StreamMessage:
    """A delta sent to other processes.  `before` is the number of the session's previous message from `origin`."""

    origin: str
    number: int
    before: int
    session_id: str
    run_id: str
    generation: int
    delta: Delta


class Wakeable(Protocol):
    """Waits for new items of a log; `wake` may be called from any thread."""

    def wake(self) -> None: ...


class Channel(Protocol):
    """Carries deltas between processes.  It may lose, duplicate and reorder them."""

    def send(self, parcel: StreamMessage, /) -> None:
        """Send a message; must not wait or raise.  Called from any thread."""
        ...

    def parcels(self) -> AsyncIterator[StreamMessage]:
        """Yield the messages of other processes from now on."""
        ...


@frozen
class Entry:
    run_id: str
    item: Item | None  # None: an earlier message was lost by the channel
    size: int


@define(eq=False)
class DeltaLog:
    """Items of one session with numbers `first` to `last`, without gaps.  The caller holds the lock."""

    session_id: str
    first: int
    kept_max: int
    chars_max: int
    entries: deque[Entry] = field(factory=deque)
    chars: int = 0
    fresh: int = 0  # all items before this number belong to ended runs
    seen: int | None = None  # the last event that was read
    past: int = 0  # the last event before the first observer
    hinted: bool = False
    generation: int = 0  # the highest lease generation of a publisher
    sent: int = 0  # the number of the last message
    heard: dict[str, int] = field(factory=dict)  # the last message of each origin
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
        """Append a delta.  Return False if its publisher has lost the lease or its run has ended."""
        if generation < self.generation or run_id in self.over:
            return False
        self.generation = generation
        self.append(run_id, delta)
        return True

    def settle(self, settled: Settled) -> bool:
        """Record an ended run.  Return False if it is recorded already or ended before the first observer."""
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
        """Return whether earlier messages of its origin were lost; None if this one is a duplicate or late."""
        heard = self.heard.get(parcel.origin, 0)
        if parcel.number <= heard:
            return None
        self.heard[parcel.origin] = parcel.number
        return parcel.before != heard

    def first_after(self, event: int) -> int:
        """Return the number of the first item that a state with all events up to this one does not contain."""
        items = [entry.item for entry in self.entries]
        covered = {i.run_id for i in items if isinstance(i, Settled) and i.event <= event}
        for number, entry in enumerate(self.entries, self.first):
            if entry.run_id not in covered:
                return number
        return self.last + 1

    def runs(self) -> set[str]:
        return {entry.run_id for entry in self.entries}
