"""A conversation as people see it: what was said, what ended without an answer, the open turn, the inbox.  Spec: specs/reading.md."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Any, Final, TypeAlias

from attrs import frozen

from ..event import EventKind
from ..indexes import EVENT_BATCHES, OPEN_TICKETS
from ..limits import OPEN_TICKETS_MAX
from ..machines.input import Ended, How
from ..machines.run import Done, Termination
from ..queries import First, Get, Query, Question
from ..records import EventBatch, Input, Node, QueueEntry, Run, Session, Ticket
from ..transcript import Form, Role
from .core import LoadOverview, Overview
from .inspect import Waiting, load_waiting
from .open_turn import OpenTurn, load_open_turn
from .path import TranscriptLine, leaf_of, path_to

__all__ = [
    "Conversation",
    "ConversationItem",
    "EndedInput",
    "EnteredInput",
    "InboxInput",
    "LoadConversation",
    "OpenCall",
    "RunEnd",
    "Said",
]


PAGE: Final = 256
PAGES_MAX: Final = 64  # pages of events searched for inputs that ended without an answer
NODES_MAX: Final = 10_000
UNENDED: Final = ("delayed", "ready", "bound")
ENDS: Final = (EventKind.INPUT_ENDED, EventKind.RUN_FINISHED)
Steps: TypeAlias = Generator[Query[Any], Any, Any]
Position: TypeAlias = tuple[int, str]


@frozen
class EnteredInput:
    """An input where it entered the transcript.  `provisional`: its turn has not ended."""

    input: Input
    at_ms: int
    provisional: bool = False


@frozen
class OpenCall:
    """A call of the open turn without a result.  `started`: something of it is recorded."""

    call_id: str
    started: bool


@frozen
class Said:
    """A node.  `provisional`: its turn has not ended; `open_calls` are those of its calls that have no result."""

    node: Node
    provisional: bool = False
    open_calls: tuple[OpenCall, ...] = ()

    @property
    def at_ms(self) -> int:
        """When it was written."""
        return self.node.at_ms


@frozen
class RunEnd:
    """The end of a run that did not finish, after its last node."""

    run_id: str
    termination: Termination
    reason: str
    at_ms: int


@frozen
class EndedInput:
    """An input that ended and is in no transcript.  `how`: as in `InputStatus.status`; `reason`: why."""

    input: Input
    at_ms: int
    how: str
    reason: str


@frozen
class InboxInput:
    """An input that no run has yet, with its status and its place in the queue."""

    waiting: Waiting

    @property
    def at_ms(self) -> int:
        """When it was admitted."""
        return self.waiting.input.admitted_at_ms


ConversationItem: TypeAlias = EnteredInput | Said | RunEnd | EndedInput | InboxInput


@frozen
class Conversation:
    """A page of a conversation, in the order in which people see it (READ-10).

    `open_turn`: the run whose nodes and inputs are provisional; `tickets`: its open ones.
    `before`: where the page before this one ends; None: nothing was before.
    """

    session: Session
    items: tuple[ConversationItem, ...]
    open_turn: Run | None
    tickets: tuple[Ticket, ...]
    before: Position | None


@frozen
class LoadConversation(Question[Conversation | None]):
    """READ-10: a page of the conversation; None if there is no such session.

    `before`: where an earlier answer says that the page before it ends; None: the end, with the open turn and the inbox.
    A page before an unknown node is empty.  `limit`: how many nodes of the transcript are looked at.
    """

    session_id: str
    before: Position | None = None
    limit: int = 200

    def steps(self) -> Steps:
        s = self.session_id
        if self.before is not None:
            session = yield Get(Session, (s,))
            if session is None:
                return None
            node_id = self.before[1]
            if node_id and (yield Get(Node, (s, node_id))) is None:
                return Conversation(session, (), None, (), None)
            return (yield from self._page(session, self.before))
        overview = yield from LoadOverview(s, PAGE).steps()
        return None if overview is None else (yield from self._last_page(overview))

    def _last_page(self, overview: Overview) -> Steps:
        """Load the end of the conversation, with what has not ended."""
        s, session = self.session_id, overview.session
        open_turn: OpenTurn | None = yield from load_open_turn(session)
        tickets: tuple[Ticket, ...] = ()
        if open_turn is not None and open_turn.run.open_tickets:
            tickets = yield First(OPEN_TICKETS, (s, open_turn.run.run_id), OPEN_TICKETS_MAX)
        bound = {i.input_id for i in open_turn.inputs} if open_turn is not None else set()
        unlisted = [status for status in overview.waiting if status.input_id not in bound]
        inbox: tuple[Waiting, ...] = yield from load_waiting(s, unlisted)
        superseded = [  # by a mark; Sweep has not written it yet
            EndedInput(one.input, one.input.admitted_at_ms, one.status.status, one.status.status)
            for one in sorted(inbox, key=lambda one: one.queue_entry.seq)
            if one.status.status not in UNENDED
        ]
        page = yield from self._page(session, None, superseded, open_turn, tickets)
        waiting = [InboxInput(one) for one in inbox if one.status.status in UNENDED]
        return Conversation(session, (*page.items, *waiting), page.open_turn, tickets, page.before)

    def _page(
        self,
        session: Session,
        before: Position | None,
        superseded: Sequence[EndedInput] = (),
        open_turn: OpenTurn | None = None,
        tickets: tuple[Ticket, ...] = (),
    ) -> Steps:
        s, limit = self.session_id, max(1, min(self.limit, NODES_MAX))
        last = leaf_of(session) if before is None else before[1] or None
        lines, earlier = yield from path_to(s, last, limit)
        runs = yield from self._runs(lines)
        listed = [*_lines(lines, runs)]
        since_ms = 0 if earlier is None else earlier.at_ms
        event = session.next_event if before is None else before[0]
        shown = {entered.input_id for line in lines for entered in line.inputs}
        ended, event = yield from self._ended(event, since_ms, shown)
        for one in (*ended, *superseded):
            place = next(
                (n for n, item in enumerate(listed) if item.at_ms > one.at_ms), len(listed)
            )
            listed.insert(place, one)
        if open_turn is not None:
            listed += _provisional(open_turn, shown)
        position = None
        if earlier is not None or event > 1:
            position = (event, "" if earlier is None else earlier.parent or "")
        run = None if open_turn is None else open_turn.run
        return Conversation(session, tuple(listed), run, tickets, position)

    def _runs(self, lines: Sequence[TranscriptLine]) -> Steps:
        """Load the runs of these lines."""
        runs: dict[str, Run | None] = {}
        for line in lines:
            run_id = line.node.run_id
            if run_id is not None and run_id not in runs:
                runs[run_id] = yield Get(Run, (self.session_id, run_id))
        return runs

    def _ended(self, event: int, since_ms: int, shown: set[str]) -> Steps:
        """READ-12: load the inputs that ended without an answer before an event, and where a page before goes on.

        `shown`: those of the page, which need not be looked up.
        """
        found: list[EndedInput] = []
        for _ in range(PAGES_MAX):
            page: tuple[EventBatch, ...] = yield First(
                EVENT_BATCHES, (self.session_id,), PAGE, (event,), backwards=True
            )
            for batch in page:
                if batch.at_ms < since_ms:
                    return reversed(found), event
                event = batch.seq
                for told in reversed(batch.events):
                    for input_id in reversed(told.input_ids if told.kind in ENDS else ()):
                        if input_id in shown:
                            continue
                        one = yield from self._unanswered(input_id, batch.at_ms, told.detail)
                        found += [] if one is None else [one]
            if len(page) < PAGE:
                return reversed(found), 1
        return reversed(found), event

    def _unanswered(self, input_id: str, at_ms: int, detail: str) -> Steps:
        """Load an input that has ended; None if its run has put it into the transcript."""
        key = (self.session_id, input_id)
        entry: QueueEntry | None = yield Get(QueueEntry, key)
        entered: Input | None = yield Get(Input, key)
        state = None if entry is None else entry.state
        if entered is None or not isinstance(state, Ended):
            return None
        if state.how is How.CONSUMED and state.run_id is not None:
            run: Run | None = yield Get(Run, (self.session_id, state.run_id))
            if run is None or run.tip is not None:
                return None
        # the event of a dead letter says only that the run ended
        reason = state.by if state.how is How.DEAD_LETTERED else detail
        return EndedInput(entered, at_ms, state.how.value, reason)


def _lines(
    lines: Sequence[TranscriptLine], runs: dict[str, Run | None]
) -> Iterator[ConversationItem]:
    """Yield the inputs and nodes of a path, and the ends of runs that did not finish."""
    for at, line in enumerate(lines):
        node = line.node
        for entered in line.inputs:
            yield EnteredInput(entered, node.at_ms)
        if node.form is not Form.INPUTS:  # its inputs stand in its place
            yield Said(node)
        following = lines[at + 1].node.run_id if at + 1 < len(lines) else None
        run = None if node.run_id is None else runs[node.run_id]
        if run is not None and following != run.run_id and isinstance(run.state, Done):
            if run.state.termination is not Termination.FINISHED:
                yield RunEnd(run.run_id, run.state.termination, run.state.reason, node.at_ms)


def _provisional(turn: OpenTurn, shown: set[str]) -> Iterator[ConversationItem]:
    """READ-11: yield the inputs and nodes of the open turn; what it has taken stands where it entered."""
    began_ms = turn.nodes[0].at_ms if turn.nodes else 0
    for entered in turn.bound:
        if entered.input_id not in shown:
            yield EnteredInput(entered, max(began_ms, entered.admitted_at_ms), provisional=True)
    last = next((n for n in reversed(turn.nodes) if n.role is Role.ASSISTANT and n.call_ids), None)
    recorded = {entry.effect_id for entry in turn.entries}
    iteration = 0
    for node in turn.nodes:
        iteration += node.role is Role.ASSISTANT and bool(node.call_ids)
        if node.form is Form.INPUTS:
            for entered in turn.taken:
                if entered.input_id in node.inputs:
                    yield EnteredInput(entered, node.at_ms, provisional=True)
        elif not node.hidden:
            calls = [
                OpenCall(call_id, f"{iteration}:tool:{index}" in recorded)
                for index, call_id in enumerate(node.call_ids if node is last else ())
                if call_id in turn.run.open_calls
            ]
            yield Said(node, True, tuple(calls))
