"""The question that loads what a chat turn needs, from one snapshot: transcript, inputs, journal.  Spec: specs/chat.md."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from attrs import field, frozen

from ..queries import Get, Query, Question
from ..questions.core import LoadTranscript, TranscriptLine
from ..questions.open_turn import load_turn_of
from ..questions.tickets import LoadTickets
from ..records import Blob, EntryKind, Input, JournalEntry, Node, Run, Session, Ticket
from ..transcript import Tip

__all__ = ["LoadTurn", "LoadedTurn"]


@frozen
class LoadedTurn:
    """The data of one turn.

    `lines` is the transcript since the last compaction.  `nodes` are those that this turn has written; they are not
    visible yet.  `environment` describes the last recorded request.  `inputs` are those with which the run began, `taken`
    those that checkpoints have taken.  `tickets` are those of this turn.
    """

    session_id: str
    run_id: str
    turn: int
    leaf: Tip | None
    frame: str
    lines: tuple[TranscriptLine, ...] = field(repr=False)
    inputs: tuple[Input, ...]
    entries: tuple[JournalEntry, ...] = field(repr=False)
    nodes: tuple[Node, ...] = field(repr=False)
    environment: str | None = field(repr=False)
    taken: tuple[Input, ...] = ()
    tickets: tuple[Ticket, ...] = ()


@frozen
class LoadTurn(Question[LoadedTurn | None]):
    """Load a turn; None if the run does not exist.  `limit` is the maximum number of transcript nodes."""

    session_id: str
    run_id: str
    limit: int = 10_000

    def steps(self) -> Generator[Query[Any], Any, LoadedTurn | None]:
        """Read session, run, transcript, inputs, journal, nodes, the stored environment and tickets."""
        s = self.session_id
        session = yield Get(Session, (s,))
        run = yield Get(Run, (s, self.run_id))
        if session is None or run is None:
            return None
        lines = yield from LoadTranscript(s, self.limit, compacted=True).steps()
        open_turn = yield from load_turn_of(run)
        environment = None
        if session.environment_digest is not None:
            blob = yield Get(Blob, (s, session.environment_digest))
            environment = None if blob is None else blob.body
        opened = [e.body for e in open_turn.entries if e.kind is EntryKind.TICKET]
        tickets = (yield from LoadTickets(s, tuple(opened)).steps()) if opened else ()
        return LoadedTurn(
            s, self.run_id, run.turn, session.leaf, session.agent, lines, open_turn.bound,
            open_turn.entries, open_turn.nodes, environment, open_turn.taken, tickets,
        )  # fmt: skip
