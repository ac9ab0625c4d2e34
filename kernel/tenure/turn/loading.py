"""What a chat turn needs to know of its session and its own past, from one snapshot.  Spec: specs/chat.md."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from attrs import field, frozen

from ..queries import Each, Get, Query, Question
from ..questions.core import Journal, LoadTranscript, TranscriptLine
from ..records import Blob, EntryKind, Input, JournalEntry, Node, Run, Session
from ..transcript import Tip


@frozen
class LoadedTurn:
    """`lines` is the transcript from the last compaction on, `nodes` are the run's own, not visible yet."""

    session_id: str
    run_id: str
    turn: int
    leaf: Tip | None
    frame: str
    lines: tuple[TranscriptLine, ...] = field(repr=False)
    inputs: tuple[Input, ...]
    entries: tuple[JournalEntry, ...] = field(repr=False)
    nodes: tuple[Node, ...] = field(repr=False)
    environment: str | None = field(repr=False)  # of the last request that was recorded


@frozen
class LoadTurn(Question[LoadedTurn | None]):
    """None: there is no such run."""

    session_id: str
    run_id: str
    limit: int = 10_000  # nodes of the transcript

    def steps(self) -> Generator[Query[Any], Any, LoadedTurn | None]:
        s = self.session_id
        session = yield Get(Session, (s,))
        run = yield Get(Run, (s, self.run_id))
        if session is None or run is None:
            return None
        lines = yield from LoadTranscript(s, self.limit, compacted=True).steps()
        inputs = yield Each(tuple([Get(Input, (s, c.input_id)) for c in run.contributors]))
        entries = (yield from Journal(s, self.run_id).steps()) if run.next_checkpoint else ()
        written = [e for e in entries if e.kind is EntryKind.NODE and e.turn == run.turn]
        nodes = yield Each(tuple([Get(Node, (s, entry.effect_id)) for entry in written]))
        environment = None
        if session.environment_digest is not None:
            blob = yield Get(Blob, (s, session.environment_digest))
            environment = None if blob is None else blob.body
        return LoadedTurn(
            s, self.run_id, run.turn, session.leaf, session.frame, lines, inputs,
            entries, nodes, environment,
        )  # fmt: skip
