"""A small system: the rows of a session are written again under a new key, while its work goes on and is pruned.

The kernel knows no keys.  The system notes for each row with texts whether it was written before the new key was given.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any, Final

from attrs import frozen

from ... import commands as c
from ...machines.lease import Fence, Owner
from ...machines.ticket import Action, TicketKind
from ...outcome import Decided, Drop, Key, Refused
from ...queries import Record
from ...questions.retention import PrunePass
from ...questions.sealable import SealableRows, SealedUpTo
from ...records import EntryKind
from ...replace import replace
from ...retention import Keep, Retention
from ...transcript import NewNode, Role
from ...world import EMPTY, World, ask, evolve, key_of
from ..explorer import Model
from ..trace import Line
from .snapshot import NOW, S

__all__ = ["NOTHING_OLD", "ResealModel", "ResealState"]


NOTHING_OLD: Final = "when a pass is done, no text is sealed by the former key"
CHANGES_NOTHING: Final = "Reseal changes no row, and is not refused"
WRITTEN: Final = "a row was written during a pass"
REMOVED: Final = "a row was removed before its page was written again"
FENCE: Final = Fence(S, 1, "l1")
TICKET: Final = c.NewTicket("t", "ask", TicketKind.QUESTION, "may I?", (Action.ANSWER,))
POLICY: Final = Retention(journals=Keep(0))
PRUNE: Final = "prune"
ASIDE: Final = c.Switch("aside", options="options")
SCRIPT: Final[tuple[Any, ...]] = (
    c.Open(S, c.NewProfile(data="data")),
    c.Admit(S, (c.NewInput("i", "prompt", "hello", origin="mail"),)),
    c.Begin(S, "l1", "r", Owner("w", "w.1"), 1_000_000),
    c.Checkpoint(
        *(S, FENCE, "r", 1, 0, (c.NewEntry(EntryKind.REPORT, "e", "report"),)),
        environment="environment",
        tickets=(TICKET,),
    ),
    c.Decide(S, "t", "d", Action.ANSWER, "yes"),
    c.Commit(
        *(S, FENCE, "r", 1, 1, 0),
        nodes=(NewNode(Role.ASSISTANT, "done"),),
        state="state",
        switch=ASIDE,
    ),
    PRUNE,
    PRUNE,
)
Name = tuple[type[Record], Key]


@frozen
class ResealState:
    """The rows, those with texts under the former key, the next command of the script, and the pass.

    `page`: the names that were read and are not written yet.  `at`: where the next page begins; None: it was the last.
    """

    world: World
    old: frozenset[Name]
    next: int
    page: tuple[c.RowName, ...] = ()
    at: SealedUpTo | None = SealedUpTo()
    broken: tuple[str, ...] = ()
    seen: frozenset[str] = frozenset()


class ResealModel(Model[ResealState]):
    """The new key is given at any place of the script; the pass takes its steps between any two commands."""

    name = "resealing"
    description = "texts are sealed again by a new key while a session works and is pruned"
    always = (NOTHING_OLD, CHANGES_NOTHING)
    sometimes = (WRITTEN, REMOVED)

    def initial(self) -> Iterable[ResealState]:
        state = ResealState(EMPTY, frozenset(), 0)
        for _ in SCRIPT:
            state = self._work(state)
            yield replace(state, old=frozenset(map(name_of, with_texts(state.world))))

    def actions(self, state: ResealState) -> Iterator[tuple[Any, ResealState]]:
        if state.next < len(SCRIPT):
            worked = self._work(state)
            seen = {WRITTEN} if state.at != SealedUpTo() else set()
            gone = {name_of(row)[1] for row in state.world} - {name_of(r)[1] for r in worked.world}
            named = {(S, *name.ids, *name.numbers) for name in state.page}
            seen |= {REMOVED} if gone & named else set()
            yield SCRIPT[state.next], replace(worked, seen=state.seen | seen)
        if state.page:
            yield "write", self._written(state)
        elif state.at is not None:
            found = ask(SealableRows(S, state.at), state.world.answer)
            yield "read", replace(state, page=found.rows, at=found.next)

    def _work(self, state: ResealState) -> ResealState:
        """Execute the next command of the script, by a process that has the new key."""
        command = SCRIPT[state.next]
        if command is PRUNE:
            command = ask(PrunePass(S, POLICY).question(NOW + 1), state.world.answer)
        decided: Any = command.decide(state.world.load(command.reads()), NOW)
        assert isinstance(decided, Decided), decided
        return replace(_after(state, decided.writes), next=state.next + 1)

    def _written(self, state: ResealState) -> ResealState:
        command = c.Reseal(S, state.page)
        decided = command.decide(state.world.load(command.reads()), NOW)
        if isinstance(decided, Refused):
            return replace(state, broken=(CHANGES_NOTHING,))
        after = replace(_after(state, decided.writes), page=())
        return after if after.world == state.world else replace(after, broken=(CHANGES_NOTHING,))

    def describe(self, label: Any) -> Line:
        if isinstance(label, str):
            return Line("operator", label)
        return Line("session", label.__class__.__name__)

    def broken(self, state: ResealState) -> Collection[str]:
        done = state.at is None and not state.page
        return (*state.broken, *((NOTHING_OLD,) if done and state.old else ()))

    def seen(self, state: ResealState) -> Collection[str]:
        return state.seen

    def finished(self, state: ResealState) -> bool:
        """Return True if the script and the pass have ended."""
        return state.next == len(SCRIPT) and state.at is None and not state.page


def _after(state: ResealState, writes: Iterable[Any]) -> ResealState:
    """Return the state after these writes, which seal by the new key."""
    written = {(w.record, w.key) if isinstance(w, Drop) else name_of(w.record) for w in writes}
    return replace(state, world=evolve(state.world, writes), old=state.old - written)


def name_of(row: Record) -> Name:
    """Return the record and the key of a row."""
    return row.__class__, key_of(row.__class__)(row)


def with_texts(world: World) -> Iterator[Record]:
    """Yield the rows that have a text to seal."""
    for row in world:
        if any(getattr(row, name, None) for name in row.payloads):
            yield row
