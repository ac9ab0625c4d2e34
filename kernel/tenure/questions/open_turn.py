"""The question for what the current turn has not committed yet.  Spec: specs/journal.md."""

from __future__ import annotations

from attrs import field, frozen

from ..queries import Each, Get, Question
from ..records import EntryKind, Input, JournalEntry, Node, Run, Session
from .core import Journal, Steps

__all__ = ["LoadOpenTurn", "OpenTurn", "load_open_turn", "load_turn_of"]


@frozen
class OpenTurn:
    """A turn in progress or interrupted, with what it has written.

    All of it is provisional: it is in no transcript before the turn commits or its run ends.  `entries` and `nodes` are
    those of the current turn, in the order in which they were written.
    """

    run: Run
    inputs: tuple[Input, ...] = field(repr=False)
    entries: tuple[JournalEntry, ...] = field(repr=False)
    nodes: tuple[Node, ...] = field(repr=False)


@frozen
class LoadOpenTurn(Question[OpenTurn | None]):
    """The turn that a session works on now or resumes next; None if no run has begun, or all have ended."""

    session_id: str

    def steps(self) -> Steps:
        session = yield Get(Session, (self.session_id,))
        return (yield from load_open_turn(session))


def load_open_turn(session: Session | None) -> Steps:
    """Load the open turn of a session; None if there is none."""
    run_id = None if session is None else session.lease_run or session.open_run
    if session is None or run_id is None:
        return None
    run = yield Get(Run, (session.session_id, run_id))
    return (yield from load_turn_of(run))


def load_turn_of(run: Run) -> Steps:
    """Load what the current turn of a run has written."""
    s = run.session_id
    inputs = yield Each(tuple([Get(Input, (s, c.input_id)) for c in run.contributors]))
    entries = (yield from Journal(s, run.run_id).steps()) if run.next_checkpoint else ()
    entries = tuple([entry for entry in entries if entry.turn == run.turn])
    written = [entry for entry in entries if entry.kind is EntryKind.NODE]
    nodes = yield Each(tuple([Get(Node, (s, entry.effect_id)) for entry in written]))
    return OpenTurn(run, inputs, entries, nodes)
