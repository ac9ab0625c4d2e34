"""Client: submit inputs to a store, await their ends, cancel, interrupt and read.  Needs no runtime."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from tenure.commands import (
    Admission,
    Admit,
    Admitted,
    CancelRequested,
    Decide,
    DecisionTaken,
    IfIdle,
    ImportNode,
    Interrupt,
    Interrupted,
    NewInput,
    NewProfile,
    Parent,
    RequestCancel,
    Resend,
    Target,
    Withdraw,
    Withdrawn,
)
from tenure.limits import COMMIT_ATTACHED_MAX
from tenure.machines.ticket import ACTIONS, Action
from tenure.messages.types import Attachment as MessageAttachment
from tenure.outcome import Refusal, Refused
from tenure.policy import IfOver, Policy
from tenure.queries import Command, Question
from tenure.questions.events import EventsPage, LoadEvents
from tenure.questions.outbound import SessionOutbound, UndeliverableOutbound
from tenure.questions.retention import PrunePass
from tenure.questions.tickets import AllOpenTickets, OpenTickets
from tenure.records import EventBatch, Outbound, Phase, PhaseChanged, Ticket
from tenure.replace import replace
from tenure.retention import Retention
from tenure.turn.chat_policy import write_prompt

from ..blobs.base import BlobStore
from ..stores.base import Unavailable
from .changes import ReadableStore, SessionChanges, SessionListener
from .clock import boot_clock_ms, new_id
from .errors import CommandRefused, EventsPruned, StillRunning, SubmissionRefused
from .feed import Change, follow_changes
from .importing import Imported, fork_session, import_nodes
from .input_waiter import InputWaiter, TrackedInput
from .jobs.handle import JobMethods
from .pruning import prune_session
from .receipts import Receipt
from .retry import retry
from .session_attachments import AttachmentMethods
from .session_commands import SessionCommands
from .session_reading import POLL_S, SessionReading
from .strategies import BusyStrategy, admit_by_strategy, check_strategy
from .triggers.handle import TriggerMethods

__all__ = ["Client"]


A = TypeVar("A")
O = TypeVar("O")
V = TypeVar("V")

PATIENCE_MS = 30_000  # how long a command is retried whose outcome is unknown


class ClientStore(ReadableStore, Protocol):
    """The part of a store that a client needs."""

    async def execute(self, command: Command[V, O], /) -> O | Refused:
        """As in Store."""
        ...


class Client(SessionReading, SessionCommands, AttachmentMethods, JobMethods, TriggerMethods):
    """Submits commands to one store and asks it questions.  Use it in one event loop."""

    clock: Callable[[], int] = staticmethod(boot_clock_ms)

    def __init__(
        self,
        store: ClientStore,
        *,
        changes: SessionChanges | None = None,
        policies: Mapping[str, Policy] | None = None,
        blobs: BlobStore | None = None,
    ) -> None:
        """`policies`: for kinds of your own, or instead of those that tenure has for a kind.

        `blobs`: the store of the bytes of attachments.
        """
        self.store, self.blobs = store, blobs
        self.policies = dict(policies or {})
        self.session_changes = SessionChanges(store) if changes is None else changes
        self._waiter = InputWaiter(store, self.session_changes)
        self._tasks: set[asyncio.Task[Any]] = set()

    def _retain(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def execute(self, command: Command[V, O]) -> O | Refused:
        """Execute a command.  If its outcome is unknown it is executed again, which is a replay if it was done.

        Cancelling the caller does not cancel the command.  Raises Unavailable if it certainly was not executed, and
        OutcomeUnknown if that is still unknown after 30 s.
        """
        task = asyncio.create_task(self._execute(command))
        self._retain(task)
        return await asyncio.shield(task)

    async def _execute(self, command: Command[V, O]) -> O | Refused:
        return await retry(
            lambda: self.store.execute(command),
            patience_ms=PATIENCE_MS,
            unavailable=False,
            clock=self.clock,
        )

    async def submit(
        self,
        session_id: str | None,
        text: str,
        *,
        key: str | None = None,
        priority: int | None = None,
        available_at_ms: int | None = None,
        kind: str = "prompt",
        input_id: str | None = None,
        policy: Policy | None = None,
        supersession_key: str | None = None,
        correlation_id: str | None = None,
        source: str = "api",
        target: str | Target | None = None,
        if_idle: IfIdle = IfIdle.QUEUE,
        if_over: IfOver = IfOver.QUEUE,
        origin: str | None = None,
        parent: Parent | None = None,
        resolution: str | None = None,
        busy: BusyStrategy = "enqueue",
        within_s: float | None = None,
        profile: NewProfile | None = None,
        attachments: Sequence[MessageAttachment] = (),
    ) -> Receipt:
        """Admit one input to a session, which is created if it does not exist; None makes an id (`Receipt.session_id`).

        `profile`: what people know the session by, if it is created.  `attachments`: what `attach` has returned, at most 8,
        for an agent that reads messages, such as ChatAgent.

        A second submission with the same `key` and text is the same input.  Raises SubmissionRefused.

        `busy` says what happens if a turn of the session is running:

        - `enqueue`: the input waits in the queue.
        - `reject`: raise Busy, also if another input is ready or waits for a retry.
        - `interrupt`: supersede the inputs of the user that wait, and ask the running turn to stop.
        - `rollback`: likewise, and the turn leaves nothing in the transcript, unless it has started a once step.
        - `replace`: ask the running turn to stop, and each that begins meanwhile.  When none is running, supersede the
          inputs of the user that wait, and admit the input.  If that takes longer than `within_s` seconds, raise Busy;
          then nothing of the input is stored.  `within_s` is for this strategy only.
        """
        check_strategy(busy, within_s)
        if len(attachments) > COMMIT_ATTACHED_MAX:
            raise ValueError(f"{len(attachments)} attachments; at most {COMMIT_ATTACHED_MAX}")
        if attachments:
            text = write_prompt(text, tuple(attachments))
        session_id = new_id() if session_id is None else session_id
        new = NewInput(
            input_id or new_id(), kind, text, source, key, priority, available_at_ms,
            supersession_key, correlation_id, policy, target, if_idle, if_over, origin, parent,
            resolution,
        )  # fmt: skip
        new = self.with_policy(new)
        admission = await admit_by_strategy(self, session_id, new, busy, within_s, profile)
        return self._receipt_of(session_id, admission)

    def with_policy(self, new: NewInput) -> NewInput:
        """Return an input with the policy that this client has for its kind, unless it brings one."""
        policy = self.policies.get(new.kind) if new.policy is None else None
        return new if policy is None else replace(new, policy=policy)

    async def submit_many(self, session_id: str, inputs: Sequence[NewInput]) -> tuple[Receipt, ...]:
        """Admit all of these inputs or none, at most 256.  Raises SubmissionRefused."""
        given = tuple([self.with_policy(new) for new in inputs])
        answer = await self.execute(Admit(session_id, given))
        if isinstance(answer, Refused):
            raise SubmissionRefused(answer)
        assert isinstance(answer, Admitted)
        return tuple([self._receipt_of(session_id, admission) for admission in answer.admissions])

    def _receipt_of(self, session_id: str, admission: Admission) -> Receipt:
        how = admission.how.value
        return Receipt(self, session_id, admission.input_id, how, admission.run_id)

    async def steer(self, session_id: str, text: str, **more: Any) -> Receipt:
        """Submit an input for the running turn: it enters before the next call of the model.

        `kind="follow_up"`: where the turn would end.  Without a turn it is an ordinary input.  `more` as in `submit`.
        """
        return await self.submit(session_id, text, **{"kind": "steering", **more})

    def receipt(self, session_id: str, input_id: str, how: str = "known") -> Receipt:
        """Return a receipt for an input that is in the store already."""
        return Receipt(self, session_id, input_id, how)

    def follow(self, session_id: str, input_id: str, *, delivery: bool = False) -> TrackedInput:
        """Track an input until it has ended, or with `delivery` until a run has it."""
        return self._waiter.follow(session_id, input_id, delivery=delivery)

    async def cancel(
        self, session_id: str, run_id: str, *, command_id: str | None = None
    ) -> CancelRequested:
        """Ask exactly this run to stop, in whichever process it runs.  Raises CommandRefused if it is unknown or done."""
        answer = await self.execute(RequestCancel(session_id, command_id or new_id(), run_id))
        if isinstance(answer, Refused):
            raise CommandRefused("cancel", answer)
        return answer

    async def tickets(self, session_id: str | None = None) -> tuple[Ticket, ...]:
        """Return the open tickets of a session, or of all sessions that wait for people, the longest wait first.

        At most 256.
        """
        if session_id is None:
            return await self.ask(AllOpenTickets())
        return await self.ask(OpenTickets(session_id))

    async def decide(
        self,
        session_id: str,
        ticket_id: str,
        action: Action | str,
        body: str = "",
        *,
        by: str = "",
        decision_id: str | None = None,
    ) -> DecisionTaken:
        """Decide on a ticket.  `decision_id`: a second call with the same id has no further effect.

        Raises CommandRefused if it is unknown, decided already, or does not offer this action, ValueError for another
        action than those of `Action`.
        """
        if action not in set(Action):
            offered = ", ".join([each.value for each in ACTIONS])
            raise ValueError(f"action {action!r}: expected one of {offered}")
        decide = Decide(session_id, ticket_id, decision_id or new_id(), Action(action), body, by)
        answer = await self.execute(decide)
        if isinstance(answer, Refused):
            raise CommandRefused("decide", answer)
        return answer

    async def outbox(self, session_id: str | None = None) -> tuple[Outbound, ...]:
        """Return what a session has sent and what has not arrived yet, or the undeliverable commands of all sessions.

        At most 256, the oldest first.
        """
        if session_id is None:
            return (await self.ask(UndeliverableOutbound())).items
        return await self.ask(SessionOutbound(session_id))

    async def resend(self, session_id: str, number: int, *, command_id: str | None = None) -> int:
        """Send an undeliverable command again, and return its new number.  One that waits is sent at once.

        Raises CommandRefused if there is no such command.
        """
        answer = await self.execute(Resend(session_id, command_id or new_id(), number))
        if isinstance(answer, Refused):
            raise CommandRefused("resend", answer)
        return answer.number

    async def run(
        self,
        session_id: str,
        text: str,
        within_s: float | None = None,
        *,
        busy: BusyStrategy = "enqueue",
        **options: Any,
    ) -> str | None:
        """Submit an input, wait for its end, and return the answer.  `options` are those of `submit`.

        When `within_s` seconds are over, an input that no run works on is withdrawn, and TimeoutError is raised.
        Otherwise raises StillRunning.  Also raises as `submit` and `Receipt.result`.
        """
        loop = asyncio.get_running_loop()
        since_s = loop.time()
        replacing_s = within_s if busy == "replace" else None
        receipt = await self.submit(session_id, text, busy=busy, within_s=replacing_s, **options)
        left_s = None if within_s is None else max(0.0, since_s + within_s - loop.time())
        try:
            return await receipt.result(left_s)
        except TimeoutError:
            answer = await self.execute(Withdraw(session_id, new_id(), receipt.input_id))
        if isinstance(answer, Withdrawn):
            what = f"input {receipt.input_id} of session {session_id}"
            raise TimeoutError(f"{what} was withdrawn: no run worked on it after {within_s} s")
        if answer.reason is Refusal.BOUND:
            raise StillRunning(session_id, receipt.input_id, answer.detail)
        return await receipt.result()  # it has ended meanwhile

    async def abort(self, session_id: str, input_id: str) -> Withdrawn | CancelRequested:
        """Withdraw an input, or ask the run that works on it to stop.  Raises CommandRefused if it has ended."""
        while True:
            taken = await self.execute(Withdraw(session_id, new_id(), input_id))
            if isinstance(taken, Withdrawn):
                return taken
            if taken.reason is not Refusal.BOUND:
                raise CommandRefused("abort", taken)
            asked = await self.execute(RequestCancel(session_id, new_id(), taken.detail))
            if isinstance(asked, CancelRequested):
                return asked
            if asked.reason is not Refusal.ENDED:
                raise CommandRefused("abort", asked)

    async def interrupt(
        self,
        session_id: str,
        replacement: NewInput | str | None = None,
        *,
        command_id: str | None = None,
        rollback: bool = False,
    ) -> Interrupted:
        """Supersede the inputs of the user that wait, ask their running turn to stop, and admit `replacement` if there is one.

        `rollback`: the turn leaves nothing in the transcript; the answer says in `rolled_back` whether that is so.
        """
        if isinstance(replacement, str):
            replacement = NewInput(new_id(), "prompt", replacement)
        new = None if replacement is None else self.with_policy(replacement)
        command = Interrupt(session_id, command_id or new_id(), new, rollback=rollback)
        answer = await self.execute(command)
        if isinstance(answer, Refused):
            raise CommandRefused("interrupt", answer)
        return answer

    async def fork(
        self,
        session_id: str,
        new_session_id: str | None = None,
        *,
        at: str | None = None,
        whole: bool = False,
        profile: NewProfile | None = None,
    ) -> Imported:
        """Copy what was said in a session into a new one, up to the node `at`, or to the leaf; from the last compaction on.

        `whole`: also what a compaction stands for.  `profile`: of the new session; it gets the relation `Fork`.
        If the process ends meanwhile, the same call with the same `new_session_id` goes on.  Raises CommandRefused.
        """
        new = new_id() if new_session_id is None else new_session_id
        return await fork_session(self, session_id, new, at, whole, profile)

    async def import_session(
        self,
        session_id: str,
        nodes: Sequence[ImportNode],
        *,
        profile: NewProfile | None = None,
        origin: str | None = None,
    ) -> Imported:
        """Open a session with these nodes as its transcript.

        If the process ends meanwhile, the same call goes on.  Raises CommandRefused.
        """
        return await import_nodes(self, session_id, nodes, profile, origin)

    async def events(self, session_id: str, after: int = 0) -> AsyncIterator[EventBatch]:
        """Yield the events of a session after number `after`, then new ones as they happen.  Never ends.

        Raises EventsPruned if retention has removed events after that number.
        """
        listener = SessionListener()
        self.session_changes.subscribe(session_id, listener)
        try:
            while True:
                listener.woken.clear()
                try:
                    page = await self.ask(LoadEvents(session_id, after))
                except Unavailable:
                    page = EventsPage(())
                if page.pruned_to is not None:
                    raise EventsPruned(session_id, after, page.pruned_to)
                for event in page.batches:
                    yield event
                    after = event.seq + len(event.events) - 1
                if not page.batches:
                    await listener.wait(POLL_S)
        finally:
            self.session_changes.unsubscribe(session_id, listener)

    def changes(self, cursor: str | None = None) -> AsyncIterator[Change]:
        """Yield the sessions that have changed since `cursor`, or all of them, then those that change.  Never ends.

        No change is missed, and some are told more than once.  Begin again with the cursor of the last Change that was
        handled.  Raises ValueError for another text.  Spec: specs/feed.md.
        """
        return follow_changes(self.store, cursor, clock=self.clock)

    async def prune(self, session_id: str, retention: Retention) -> PrunePass:
        """Remove what a retention does not keep of a session, now.  Returns how many rows of each kind."""
        return await prune_session(self, session_id, retention)

    async def erase(self, session_id: str, *, command_id: str | None = None) -> PhaseChanged:
        """Destroy a session for good and erase its texts, and with `blobs` its attachments.

        It may be repeated until it returns.
        """
        try:
            changed = await self.destroy(session_id, erase_payloads=True, command_id=command_id)
        except CommandRefused as error:
            if error.refused.reason is not Refusal.PHASE:
                raise
            changed = PhaseChanged(Phase.DESTROYED)  # it was asked before, perhaps not to the end
        await self.prune(session_id, Retention())
        await self.erase_attachments(session_id)
        return changed

    async def ask(self, question: Question[A]) -> A:
        """Answer a question from one snapshot of the store."""
        return await self.store.ask(question)
