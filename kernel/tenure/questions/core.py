"""Questions of lease holders, clients and operators, each answered from one snapshot.  Spec: specs/store.md."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, TypeAlias

from attrs import frozen

from .. import scheduling
from ..indexes import (
    AGED,
    DEAD,
    EVENT_BATCHES,
    JOURNAL_ENTRIES,
    OPEN_RUNS,
    USAGES,
)
from ..limits import UNFINISHED_RUNS_MAX
from ..machines import input as input_
from ..machines import run as run_
from ..messages.codec import text_of
from ..outcome import Refused
from ..policy import LANES, WhileWaiting
from ..queries import Command, Each, First, Get, Query, Question, all_existing, existing
from ..records import (
    Blob,
    Cancel,
    EntryKind,
    EventBatch,
    Input,
    JournalEntry,
    MarkRaise,
    Node,
    QueueEntry,
    Run,
    Session,
    Ticket,
    Usage,
)
from ..release import RELEASE, decide_at
from ..replace import replace
from ..transcript import Form, Role
from .frames import StateText, state_steps
from .input_status import InputStatus, Result, WaitInfo
from .path import LoadTranscript, TranscriptLine

__all__ = [
    "PAGE",
    "AllDeadLetters",
    "DeadLetter",
    "DeadLetters",
    "EventsAfter",
    "InputStatus",
    "Journal",
    "LoadInputs",
    "LoadOverview",
    "LoadRun",
    "LoadTranscript",
    "LoadedRun",
    "Overview",
    "Result",
    "Status",
    "Statuses",
    "TranscriptLine",
    "WaitInfo",
    "WouldRefuse",
    "journal_steps",
]


PAGE = 256
Steps: TypeAlias = Generator[Query[Any], Any, Any]


# -- for lease holders


@frozen
class LoadedRun:
    """What the execution of a run needs: its inputs in order, its journal, the session's state.

    `cancel`: the run was asked to stop.  `tickets`: those of the current turn, in the order
    of its journal (WAIT-17).  `states`: all states of the current frame but
    `state`, by name (STATE-8).  `frame_id` and `agent`: where the run works, and for whom.
    """

    run: Run
    inputs: tuple[Input, ...]
    entries: tuple[JournalEntry, ...]
    state: str | None
    cancel: Cancel | None = None
    tickets: tuple[Ticket, ...] = ()
    states: tuple[StateText, ...] = ()
    frame_id: str = ""
    agent: str = ""


@frozen
class LoadRun(Question[LoadedRun | None]):
    """The data of a run; None if it does not exist.  Raises RowsContradict if a part of it is missing."""

    session_id: str
    run_id: str

    def steps(self) -> Steps:
        session = yield Get(Session, (self.session_id,))
        run = yield Get(Run, (self.session_id, self.run_id))
        if session is None or run is None:
            return None
        rows = []
        for contributor in run.contributors:
            rows.append((yield Get(Input, (self.session_id, contributor.input_id))))
        run, inputs = with_inputs(run, rows)
        entries = (
            yield from journal_steps(self.session_id, self.run_id)
            if run.next_checkpoint
            else _nothing()
        )
        state = None
        if session.state_digest is not None:
            blob = yield Get(Blob, (self.session_id, session.state_digest))
            state = existing(blob, f"blob {session.state_digest} of the state").body
        current = session.current_frame
        states = yield from state_steps(self.session_id, () if current is None else current.states)
        cancel = session.cancel
        if cancel is not None and cancel.run_id != self.run_id:
            cancel = None
        opened = [e for e in entries if e.kind is EntryKind.TICKET and e.turn == run.turn]
        tickets: tuple[Ticket, ...] = ()
        if opened:
            found = yield Each(tuple([Get(Ticket, (self.session_id, e.body)) for e in opened]))
            if isinstance(
                run.state, run_.Done
            ):  # RETENTION-5: they may be removed before its journal
                found = [ticket for ticket in found if ticket is not None]
            tickets = all_existing(found, "ticket")
        return LoadedRun(
            run, inputs, entries, state, cancel, tickets, states,
            session.frame_id, session.agent,
        )  # fmt: skip


def with_inputs(run: Run, rows: Sequence[Input | None]) -> tuple[Run, tuple[Input, ...]]:
    """Return a run with its inputs; of one that has ended, with those that were not removed (RETENTION-6)."""
    pairs = list(zip(run.contributors, rows, strict=True))
    if isinstance(run.state, run_.Done) and None in rows:
        pairs = [(c, row) for c, row in pairs if row is not None]
        run = replace(run, contributors=tuple([c for c, _ in pairs]))
    inputs = [existing(row, f"input {c.input_id} of run {run.run_id}") for c, row in pairs]
    return run, tuple(inputs)


@frozen
class LoadInputs(Question[tuple[Input, ...]]):
    """The inputs with these ids, which exist."""

    session_id: str
    input_ids: tuple[str, ...]

    def steps(self) -> Steps:
        found = yield Each(tuple([Get(Input, (self.session_id, i)) for i in self.input_ids]))
        return all_existing(found, "input")


def _nothing() -> Steps:
    return ()
    yield


def journal_steps(session_id: str, run_id: str) -> Steps:
    """The journal of a run, or of a job whose id is both."""
    entries: list[JournalEntry] = []
    after: tuple[int, ...] = ()
    while True:
        page = yield First(JOURNAL_ENTRIES, (session_id, run_id), PAGE, after)
        entries += page
        if len(page) < PAGE:
            return tuple(entries)
        after = (page[-1].turn, page[-1].n, page[-1].i)


@frozen
class Journal(Question[tuple[JournalEntry, ...]]):
    """The journal of a run, in order."""

    session_id: str
    run_id: str

    def steps(self) -> Steps:
        return (yield from journal_steps(self.session_id, self.run_id))


# -- for clients


@frozen
class Statuses(Question[tuple[InputStatus | None, ...]]):
    """The status of several inputs; None for an id that does not exist."""

    session_id: str
    input_ids: tuple[str, ...]

    def steps(self) -> Steps:
        session = yield Get(Session, (self.session_id,))
        found: list[InputStatus | None] = []
        for input_id in self.input_ids:
            queue_entry = yield Get(QueueEntry, (self.session_id, input_id))
            found.append(
                None if queue_entry is None else (yield from status_steps(session, queue_entry))
            )
        return tuple(found)


@frozen
class Status(Question[InputStatus | None]):
    """The status of one input; None if it does not exist."""

    session_id: str
    input_id: str

    def steps(self) -> Steps:
        return (yield from Statuses(self.session_id, (self.input_id,)).steps())[0]


def status_steps(session: Session, queue_entry: QueueEntry) -> Steps:
    state = queue_entry.state
    run_id = getattr(state, "run_id", None)
    run: Run | None = None
    if run_id is not None:
        run = yield Get(Run, (queue_entry.session_id, run_id))
    target_run = getattr(state, "target_run", None)
    target: Run | None = None
    if target_run is not None and isinstance(state, input_.Ready):
        target = yield Get(Run, (queue_entry.session_id, target_run))
    unfinished = () if target is None or isinstance(target.state, run_.Done) else (target.run_id,)
    status = scheduling.visible_status(session, queue_entry, run, unfinished)
    by = state.by if isinstance(state, input_.Ended) else None
    if status == "superseded" and not isinstance(state, input_.Ended):
        raised = yield Get(MarkRaise, (queue_entry.session_id, queue_entry.lane, state.mark + 1))
        if raised is not None:  # as Sweep will write it
            status, by = raised.how.value, raised.by
    if status == "abandoned" and by is None:
        by = target_run  # as Begin or Sweep will write it
    due = state.until_ms if isinstance(state, input_.Delayed) else None
    wait = (
        yield from _wait(session, queue_entry, run) if status in ("ready", "bound") else _nowhere()
    )
    if run is None:
        return InputStatus(
            queue_entry.input_id, status, by, due_at_ms=due, target_run=target_run, wait=wait
        )
    termination, reason, answer = None, "", None
    if isinstance(run.state, run_.Done):
        termination, reason = run.state.termination.value, run.state.reason
        if run.tip is not None:
            node = yield Get(Node, (queue_entry.session_id, run.tip.node_id))
            last = existing(node, f"node {run.tip.node_id} of run {run_id}")
            answer = _answer(last, run.state.termination)
    elif isinstance(run.state, run_.Rescheduled):
        due = run.state.due_at_ms
    counted = run.retry.failure_count()
    return InputStatus(
        queue_entry.input_id, status, by, run_id, termination, reason, counted, due, answer,
        run.retry.last, checkpoint=_checkpoint_of(run, queue_entry.input_id),
        readmitted_as=getattr(state, "readmitted_as", None), wait=wait,
    )  # fmt: skip


def _nowhere() -> Steps:
    return None
    yield


def _wait(session: Session, queue_entry: QueueEntry, run: Run | None) -> Steps:
    """WAIT-31: return what an input waits for with its run, or because of the open turn."""
    if run is None and session.open_run is not None:
        run = yield Get(Run, (session.session_id, session.open_run))
        entry = queue_entry.state
        if run is None or not isinstance(run.state, run_.Waiting):
            return None
        if scheduling.meeting(run, queue_entry) is not WhileWaiting.HOLD or not isinstance(
            entry, input_.Ready
        ):
            return None
    if run is None or not isinstance(run.state, run_.Waiting):
        return None
    awaits = tuple([each.awaits for each in run.waits_for() if each.awaits is not None])
    return WaitInfo(run.run_id, run.state.cause.value, run.state.tickets, awaits)


def _checkpoint_of(run: Run, input_id: str) -> int | None:
    return next((c.checkpoint for c in run.contributors if c.input_id == input_id), None)


def _answer(node: Node, termination: run_.Termination) -> str | None:
    """Return the text of the last node of a run, unless it is hidden, only closes a tool call, or has no text."""
    if node.hidden:  # TRANSCRIPT-40
        return None
    if node.role is Role.TOOL and termination is not run_.Termination.FINISHED:
        return None
    if node.form is Form.INPUTS:
        return None
    return text_of(node.form, node.body)


@frozen
class WouldRefuse(Question[Refused | None]):
    """Why the store would refuse a command now; None if it would obey.  The command is not executed."""

    command: Command[Any, Any]
    now_ms: int  # of the store's clock

    def steps(self) -> Steps:
        reads = self.command.reads()
        answers = []
        for query in reads.queries:
            answers.append((yield query))
        decided = decide_at(RELEASE, self.command, reads.view(*answers), self.now_ms)
        return decided if isinstance(decided, Refused) else None


# -- for operators


@frozen
class Overview:
    """A session: its row, its unfinished runs, the first inputs that have not ended, and its usage."""

    session: Session
    runs: tuple[Run, ...]
    waiting: tuple[InputStatus, ...]
    usage: tuple[Usage, ...]


@frozen
class LoadOverview(Question[Overview | None]):
    """The overview of a session, with at most `limit` inputs; None if it does not exist."""

    session_id: str
    limit: int = PAGE

    def steps(self) -> Steps:
        session = yield Get(Session, (self.session_id,))
        if session is None:
            return None
        runs = yield First(OPEN_RUNS, (self.session_id,), UNFINISHED_RUNS_MAX)
        queue_entries: list[QueueEntry] = []
        for lane in LANES:
            queue_entries += yield First(AGED, (self.session_id, lane), self.limit)
        queue_entries.sort(key=lambda p: p.seq)
        waiting = []
        for queue_entry in queue_entries[: self.limit]:
            waiting.append((yield from status_steps(session, queue_entry)))
        usage = yield First(USAGES, (self.session_id,), PAGE)
        return Overview(session, runs, tuple(waiting), usage)


@frozen
class DeadLetters(Question[tuple[InputStatus, ...]]):
    """The first dead letters of a session that were not readmitted, in the order of admission."""

    session_id: str
    limit: int = PAGE

    def steps(self) -> Steps:
        session = yield Get(Session, (self.session_id,))
        queue_entries = yield First(DEAD, (self.session_id,), self.limit)
        letters = []
        for queue_entry in queue_entries:
            letters.append((yield from status_steps(session, queue_entry)))
        return tuple(letters)


@frozen
class DeadLetter:
    """A dead letter, as it was submitted and as it ended.  `seq`: its place in the list of its session."""

    session_id: str
    seq: int
    input: Input
    status: InputStatus


@frozen
class AllDeadLetters(Question[tuple[DeadLetter, ...]]):
    """The dead letters of all sessions that were not readmitted, by session and in the order of admission.

    A next page begins after the session and the `seq` of the last one.  `only`: those of this session.
    """

    after: str = ""
    after_seq: int = 0
    limit: int = PAGE
    only: str | None = None

    def steps(self) -> Steps:
        within: tuple[str, ...] = ()
        after: tuple[str | int, ...] = (self.after, self.after_seq) if self.after else ()
        if self.only is not None:
            within, after = (self.only,), after[1:]
        found: list[DeadLetter] = []
        for entry in (yield First(DEAD, within, self.limit, after)):
            key = (entry.session_id, entry.input_id)
            session = yield Get(Session, (entry.session_id,))
            status = yield from status_steps(session, entry)
            submitted = existing((yield Get(Input, key)), f"input {entry.input_id}")
            found.append(DeadLetter(entry.session_id, entry.seq, submitted, status))
        return tuple(found)


@frozen
class EventsAfter(Question[tuple[EventBatch, ...]]):
    """The event batches after event number `after`.  The first batch may begin before it."""

    session_id: str
    after: int = 0
    limit: int = PAGE

    def steps(self) -> Steps:
        at = (self.session_id,)
        around = yield First(EVENT_BATCHES, at, 1, (self.after + 1,), backwards=True)
        page = yield First(EVENT_BATCHES, at, self.limit, (self.after,))
        inside = [row for row in around if row.seq + len(row.events) - 1 > self.after]
        return (*inside, *page)
