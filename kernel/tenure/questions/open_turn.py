"""The question for what the current turn has not committed yet.  Spec: specs/journal.md."""

from __future__ import annotations

from attrs import field, frozen

from ..indexes import JOURNAL_ENTRIES
from ..queries import Each, First, Get, Question, all_existing, existing
from ..records import EntryKind, Input, JournalEntry, Node, Run, Session
from .core import Journal, Steps, with_inputs

__all__ = ["LoadOpenTurn", "OpenTurn", "inputs_of", "load_open_turn", "load_turn_of"]


@frozen
class OpenTurn:
    """A turn in progress or interrupted, with what it has written.

    All of it is provisional: it is in no transcript before the turn commits or its run ends.  `entries` are those of the
    current turn, or the last ones, in the order in which they were written; `nodes` are those that they name.
    """

    run: Run
    inputs: tuple[Input, ...] = field(repr=False)
    entries: tuple[JournalEntry, ...] = field(repr=False)
    nodes: tuple[Node, ...] = field(repr=False)

    @property
    def bound(self) -> tuple[Input, ...]:
        """The inputs with which the run began."""
        return inputs_of(self.run, self.inputs, taken=False)

    @property
    def taken(self) -> tuple[Input, ...]:
        """The inputs that checkpoints of the run have taken."""
        return inputs_of(self.run, self.inputs, taken=True)


def inputs_of(run: Run, inputs: tuple[Input, ...], *, taken: bool) -> tuple[Input, ...]:
    """Return the inputs of a run with which it began, or those that checkpoints have taken.  `inputs`: all, in order."""
    pairs = zip(run.contributors, inputs, strict=True)
    return tuple([each for c, each in pairs if (c.checkpoint is not None) is taken])


@frozen
class LoadOpenTurn(Question[OpenTurn | None]):
    """The turn that a session works on now or resumes next; None if no run has begun, or all have ended.

    `limit`: only the last entries of its journal.
    """

    session_id: str
    limit: int | None = None

    def steps(self) -> Steps:
        session = yield Get(Session, (self.session_id,))
        return (yield from load_open_turn(session, self.limit))


def load_open_turn(session: Session | None, limit: int | None = None) -> Steps:
    """Load the open turn of a session; None if there is none."""
    run_id = None if session is None else session.lease_run or session.open_run
    if session is None or run_id is None:
        return None
    run = yield Get(Run, (session.session_id, run_id))
    return (yield from load_turn_of(existing(run, f"run {run_id}"), limit))


def load_turn_of(run: Run, limit: int | None = None) -> Steps:
    """Load what the current turn of a run has written."""
    s = run.session_id
    rows = yield Each(tuple([Get(Input, (s, c.input_id)) for c in run.contributors]))
    run, inputs = with_inputs(run, rows)
    entries = (yield from _entries(run, limit)) if run.next_checkpoint else ()
    written = [entry for entry in entries if entry.kind is EntryKind.NODE]
    nodes = yield Each(tuple([Get(Node, (s, entry.effect_id)) for entry in written]))
    return OpenTurn(
        run,
        inputs,
        entries,
        all_existing(nodes, f"node of run {run.run_id}"),
    )


def _entries(run: Run, limit: int | None) -> Steps:
    if limit is not None:
        turn = (run.session_id, run.run_id, run.turn)
        last: tuple[JournalEntry, ...] = yield First(JOURNAL_ENTRIES, turn, limit, backwards=True)
        return tuple(reversed(last))
    entries = yield from Journal(run.session_id, run.run_id).steps()
    return tuple([entry for entry in entries if entry.turn == run.turn])
