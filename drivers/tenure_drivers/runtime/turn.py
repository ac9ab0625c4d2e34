"""The turn: the object through which agent code reads its inputs, runs steps and commits.  Spec: specs/journal.md."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tenure.commands import (
    Admit,
    Begun,
    Committed,
    Decide,
    GoOn,
    NewEntry,
    NewInput,
    NewOutbound,
    NewTicket,
    Parent,
)
from tenure.commands import Parked as ParkedAnswer
from tenure.commands.send import validate_outbound
from tenure.frame import Switch
from tenure.limits import RUN_INPUTS_MAX
from tenure.machines.run import Termination, WaitReason
from tenure.machines.ticket import Action, Rest, Settled, TicketKind
from tenure.messages.types import Attachment as MessageAttachment
from tenure.messages.types import Delta
from tenure.outcome import Refusal, Refused
from tenure.policy import Audience, Boundary, WhileWaiting
from tenure.queries import Question
from tenure.questions.core import LoadedRun
from tenure.questions.open_turn import inputs_of
from tenure.records import EntryKind, Input
from tenure.replace import replace
from tenure.runner.protocol import EndTurn, MayStart, Taken, TurnReply, TurnRequest
from tenure.steps import (
    StepAction,
    effect_id_of,
    idempotency_key,
    latest_entries,
    noted_versions,
    report,
    step_action,
)
from tenure.transcript import NewNode, Role, UsageDelta
from tenure.turn_end import Record, Take, TurnEnd, TurnWait
from tenure.waits import given_id

from ..blobs.base import BlobStore
from ..stores.base import Store
from .attachments import (
    AttachmentFiles,
    NoBlobStore,
    Patient,
    attachment_id_of,
    id_in_turn,
    ids_of,
)
from .clock import new_id
from .errors import (
    AlreadyCommitted,
    Cancelled,
    CommandRefused,
    IllegalResult,
    IllegalWrite,
    LeaseLost,
    Parked,
    Steered,
)
from .jobs.definition import JobRequest
from .jobs.handle import JobHandle, new_job, register
from .jobs.turn_jobs import TurnJobs, job_id_of
from .named_states import new_states, states_of
from .step_calls import Probe, Steps
from .steps import pack, unpack
from .waiting import ANSWER, Decision, Waited, Waits, word_of

__all__ = ["Probe", "Turn", "lease_lost", "with_text"]


A = TypeVar("A")


class TurnHost(Protocol):
    """The host of the runner of this turn."""

    @property
    def store(self) -> Store: ...

    @property
    def blobs(self) -> BlobStore | None: ...

    def request(self, turn_id: int, request: TurnRequest, /) -> Awaitable[Any]: ...

    def publish(
        self, session_id: str, run_id: str, attempt: int, delta: Delta, generation: int, /
    ) -> None: ...


class Turn(Steps):
    """The turn of a run, as one attempt has it: each attempt gets an object of its own.

    A step has a name and the number of its use in the turn (`search#2`).  So every attempt must ask for the steps of one
    name in the same order.  Steps with one name that run at the same time are numbered in the order of their calls.

    A method that asks the runner raises Cancelled if the turn has to end, and LeaseLost if the session belongs to
    another owner.
    """

    def __init__(self, host: TurnHost, turn_id: int, begun: Begun, loaded: LoadedRun) -> None:
        self._host, self._id = host, turn_id
        self.session_id: str = begun.fence.session_id
        self.run_id: str = begun.run_id
        self.turn: int = begun.turn
        self.revision: int = begun.revision
        self.resolution: str | None = begun.resolution  # the version of the agent (RUN-70)
        self.inputs: tuple[Input, ...] = inputs_of(loaded.run, loaded.inputs, taken=False)
        self.state: str | None = loaded.state
        self.states: Mapping[str, str] = states_of(loaded)  # with the one named `state`
        self.frame: str = loaded.frame_id  # the id of the current frame; "" is the first one
        self.agent: str = loaded.agent  # the name of the agent of the frame; "" is the first one
        self.failures: int = loaded.run.retry.failures  # since something was last recorded
        self.attempt: int = loaded.run.retry.failure_count() + 1  # since the last checkpoint
        self._fence = begun.fence
        self.generation: int = begun.fence.generation
        self.cancelled = False  # the turn has to end
        self.stop_reply: TurnReply | None = None  # the reason for that
        self.parked = False  # the attempt has ended with a wait that is stored
        self.committed: Committed | None = None
        self.steered = asyncio.Event()  # inputs may be addressed to the run; `checkpoint` clears it
        self._notified = asyncio.Event()
        self._outbound: tuple[NewOutbound, ...] = ()  # sent by the commit
        self._uses: Counter[str] = Counter()
        self._checkpoints = 0
        self._waited = 0
        self._journal = latest_entries(loaded.entries, begun.turn)
        self._noted = noted_versions(loaded.entries, begun.turn)
        self._taken = taken_inputs(loaded, begun.turn)
        self._waits = Waits(self, loaded)
        self._unread = {*self._journal, *self._taken, *self._waits.ids, *self._waits.parked}

    @property
    def text(self) -> str:
        """The payloads of the inputs, with a blank line between them, without those that nobody reads."""
        read = [i for i in self.inputs if i.policy.audience is not Audience.NOBODY]
        return "\n\n".join([i.payload for i in read])

    @property
    def input_ids(self) -> tuple[str, ...]:
        """The ids of the inputs."""
        return tuple([i.input_id for i in self.inputs])

    # -- steps

    async def _write(self, entry: NewEntry) -> None:
        await self._ask(Record((entry,)), f"step {entry.effect_id}")

    def _key_of(self, effect_id: str) -> str:
        return idempotency_key(self.run_id, self.turn, effect_id)

    def _named(self) -> str:
        return f"session {self.session_id}, run {self.run_id}"

    # -- for agents with a journal format of their own

    def notify(self, reply: TurnReply) -> None:
        """Note that the turn has to end, or that it may take inputs; the runner calls this."""
        if reply is TurnReply.STEERED:
            self.steered.set()
            return
        self.cancelled, self.stop_reply = True, reply
        self._notified.set()

    async def notified(self) -> TurnReply:
        """Wait until the turn has to end, and return the reason."""
        await self._notified.wait()
        assert self.stop_reply is not None
        return self.stop_reply

    async def read(self, question: Question[A]) -> A:
        """Ask the store a question.  During the turn no other owner changes the session's run, transcript or state."""
        return await self._host.store.ask(question)

    async def record(self, record: Record) -> tuple[Input, ...]:
        """Write a record in one checkpoint, and return what it has taken.  Raises what `step` raises."""
        if not isinstance(record, Record):
            raise IllegalResult(f"a record is {type(record).__name__}, expected Record")
        answer = await self._ask(record, "a record")
        return answer.inputs if isinstance(answer, Taken) else ()

    async def may_begin(self) -> None:
        """Return if the turn may continue.  Raises Cancelled if it has to end."""
        await self._ask(MayStart())

    def emit(self, delta: Delta) -> None:
        """Show a piece of a reply to the observers of the session.  It is not stored.

        After a crash a new attempt continues the turn, and its pieces replace those of this one.
        """
        self._host.publish(self.session_id, self.run_id, self.generation, delta, self.generation)

    # -- attachments

    @property
    def _files(self) -> AttachmentFiles:
        if self._host.blobs is None:
            raise NoBlobStore
        return AttachmentFiles(Patient(self._host.store), self._host.blobs)

    async def attach(
        self, data: bytes | Path, media_type: str, name: str = ""
    ) -> MessageAttachment:
        """Store bytes, or those of a file, as an attachment of the session, and return how messages refer to it.

        This is a step: when the turn is entered again, the bytes are not stored again.  Raises NoBlobStore,
        CommandRefused, OSError, and what the store of bytes raises.
        """
        effect_id = self._next("attach")
        entry = self._read(effect_id)
        if entry is not None and step_action(entry) is StepAction.REPLAY:
            return unpack(effect_id, entry.body, MessageAttachment)  # type: ignore[no-any-return]
        await self.may_begin()
        try:
            made = await self._files.store(
                self.session_id, data, media_type, name, fence=self._fence, run_id=self.run_id,
                make_id=lambda digest: id_in_turn(self.run_id, self.turn, effect_id, digest),
            )  # fmt: skip
        except CommandRefused as error:
            if error.refused.reason is Refusal.FENCED:
                raise LeaseLost(lease_lost(self.session_id, self.run_id)) from error
            raise
        named = {"uri": made.uri, "media_type": made.media_type, "name": made.name}
        body, _ = pack(effect_id, named, Any)
        attached = (attachment_id_of(made.uri) or "",)
        await self._ask(Record((report(effect_id, body),), attach=attached), f"step {effect_id}")
        return made

    async def attachment(self, named: str) -> bytes | None:
        """Return the bytes of an attachment of the session, named by its URI or id; None: it holds no such one."""
        return await self._files.read(self.session_id, named)

    # -- jobs

    @property
    def jobs(self) -> TurnJobs:
        """The jobs of the session."""
        return TurnJobs(self._host.store, self.session_id)

    async def start(
        self,
        what: JobRequest,
        input: Any = None,
        *,
        name: str = "start",
        wake: bool = True,
    ) -> JobHandle:
        """Start a job and return its handle.  This is a step: it is started once, also if the turn is entered again.

        With `wake` a message of the kind `wake` comes into the session when the job has ended.  Raises CommandRefused.
        """
        effect_id = self._next(name)
        key = self._key_of(effect_id)
        entry = self._read(effect_id)
        if entry is not None and step_action(entry) is StepAction.REPLAY:
            return self.jobs.job(job_id_of(self.session_id, key))
        await self.may_begin()
        handle = await self.jobs.start(key, what, input, wake=wake)
        body, _ = pack(effect_id, handle.id, str)
        await self._write(report(effect_id, body))
        return handle

    async def start_job(
        self, what: JobRequest, input: Any = None, *, within_s: float | None = None
    ) -> str:
        """Start a job for `join`, and return the id of a ticket that its end settles; it is the id of the job too.

        Job and ticket are recorded in one step: the job is started exactly once.  The decision has the action `completed`,
        `failed`, `cancelled` or `abandoned`, and the output as JSON, or the reason, as its text; after `within_s` the action
        is `timeout`.
        """
        self._must_be_open()
        effect_id = self._next("start_job")
        self._unread.discard(effect_id)
        new = new_job(what, input)
        return await self._waits.start_job(
            effect_id, lambda job_id: register(job_id, new, origin=self.session_id), within_s
        )

    # -- waiting

    async def ask(
        self,
        name: str,
        prompt: str,
        *,
        offers: Sequence[Action | str] = ANSWER,
        within_s: float | None = None,
        on_input: WhileWaiting | str | None = None,
    ) -> Decision:
        """Ask a person, and return the decision.  Raises Parked while there is none: do not catch it.

        The code runs again from its beginning when the decision has come, and this call returns it.  `offers`: some of
        approve, edit, reject and answer.  After `within_s` the action is `timeout`.  `on_input`: what an input of the
        user does meanwhile: `hold`, the default, waits until the run has ended; `supersede` ends the run; `fold` enters
        the turn, and this call returns a decision without an action.  Another `prompt` than before is another question.
        """
        effect_id = self._next(name)
        ticket_id, new = self._ticket(effect_id, prompt, offers, within_s)
        reason = WaitReason.APPROVAL if Action.APPROVE in offers else WaitReason.TOOL
        waited = await self._wait((ticket_id,), reason, on_input, new)
        (decision,) = waited.decisions
        return decision or Decision(None, inputs=waited.inputs)

    def _ticket(
        self, effect_id: str, prompt: str, offers: Sequence[Action | str], within_s: float | None
    ) -> tuple[str, NewTicket | None]:
        self._unread.discard(effect_id)
        kind = TicketKind.APPROVAL if Action.APPROVE in offers else TicketKind.QUESTION
        return self._waits.new(effect_id, kind, prompt, offers, within_s)

    async def ticket(
        self,
        name: str,
        prompt: str,
        *,
        offers: Sequence[Action | str] = ANSWER,
        within_s: float | None = None,
    ) -> str:
        """Open a ticket and return its id, without waiting.  Send the id to a person; `wait` waits for the decision."""
        ticket_id, new = self._ticket(self._next(name), prompt, offers, within_s)
        await self._waits.open(new)
        return ticket_id

    async def wait(
        self,
        *ticket_ids: str,
        any: bool = False,
        reason: WaitReason | str = WaitReason.TOOL,
        on_input: WhileWaiting | str | None = None,
    ) -> Waited:
        """Wait for all of these tickets, or any; without one, for an input.  Raises Parked, as `ask` does.

        `reason`: with `user_input` or `background`, what comes in next enters the turn.
        """
        needs = 1 if any and ticket_ids else None
        return await self._wait(ticket_ids, WaitReason(reason), on_input, needs=needs)

    async def start_run(
        self, to: str, submit: NewInput | str, *, within_s: float | None = None
    ) -> str:
        """Submit an input to another session, and return the id of a ticket that its end settles.  `join` waits for it.

        Input and ticket are recorded in one step: the input arrives exactly once, whatever becomes of this turn.  Its
        decision has the action `completed`, `failed`, `cancelled` or `abandoned`, and the answer or the reason as its text;
        after `within_s` the action is `timeout`.  `submit`: a text is a prompt.  An input without an id gets one.
        """
        self._must_be_open()
        effect_id = self._next("start_run")
        self._unread.discard(effect_id)
        new = NewInput("", "prompt", submit, "session") if isinstance(submit, str) else submit
        if new.parent is None:
            new = replace(new, parent=Parent(self.session_id, self.run_id))
        return await self._waits.start(effect_id, to, new, within_s)

    async def join(
        self,
        *ticket_ids: str,
        n: int | None = None,
        cancel_rest: bool = False,
        on_input: WhileWaiting | str | None = None,
    ) -> Waited:
        """Wait until `n` of these tickets are settled (None: all), whoever settles them.  Raises Parked, as `ask` does.

        The others are then superseded: what comes of them later changes nothing.  With `cancel_rest`, the work that they
        await is cancelled.  The result has the decision on each ticket, in order, and those that came `in_time`.
        """
        if not ticket_ids or (n is not None and not 1 <= n <= len(ticket_ids)):
            raise IllegalResult(f"n {n} of {len(ticket_ids)} tickets: expected 1 to all of them")
        needs = None if n is None or n == len(ticket_ids) else n
        rest = Rest.KEEP if needs is None else Rest.CANCEL if cancel_rest else Rest.SUPERSEDE
        reason = self._waits.reason(ticket_ids)
        waited = await self._wait(ticket_ids, reason, on_input, needs=needs, rest=rest)
        return await self._waits.with_answers(ticket_ids, waited)

    async def pause(self, seconds: float) -> None:
        """Wait for a time, without a process.  Raises Parked, as `ask` does."""
        effect_id = self._next("pause")
        self._unread.discard(effect_id)
        ticket_id, new = self._waits.new(effect_id, TicketKind.TIMER, "", (), seconds)
        await self._wait((ticket_id,), WaitReason.PAUSE, None, new)

    async def _wait(
        self,
        ticket_ids: Sequence[str],
        reason: WaitReason,
        on_input: WhileWaiting | str | None,
        new: NewTicket | None = None,
        needs: int | None = None,
        rest: Rest = Rest.KEEP,
    ) -> Waited:
        self._waited += 1
        effect_id = effect_id_of("wait", self._waited)
        self._unread -= {effect_id, given_id(effect_id)}
        word = word_of(on_input)
        return await self._waits.wait(effect_id, ticket_ids, reason, word, new, needs, rest)

    def entered(self, effect_id: str) -> tuple[Input, ...]:
        """Return the inputs that entered the turn while it waited under this effect id."""
        return self._taken.get(effect_id, ())

    async def park(self, wait: TurnWait) -> None:
        """Park the turn: raises Parked.  Returns if what it would wait for has come already."""
        await self._ask(wait, f"the wait {wait.effect_id} of run {self.run_id}")

    async def settle(self, ticket_id: str, settlement: Settled) -> None:
        """Settle an open ticket of this turn in the same way as an earlier one.  A decision that is there already stays."""
        await self._host.store.execute(
            Decide(
                self.session_id, ticket_id, f"{ticket_id}:alike", settlement.how, settlement.body,
                settlement.by,
            )
        )  # fmt: skip

    # -- other sessions

    async def send(
        self, to: str, submit: NewInput | str, *, peer: str = "", now: bool = False
    ) -> None:
        """Submit an input to another session, exactly once, when this turn is committed.

        At most 8 in a turn.  If the turn fails or is cancelled, nothing is sent.  With `now`, it is sent at once and
        recorded as a step: it arrives whatever becomes of the turn, and is not sent again by a later attempt.

        `submit`: a text is an input of kind `peer_message`.  An input without an id gets one.  `peer`: the name of the
        store of the other session, if it is not this one (`Runtime(peers=)`).  Inputs for one session arrive in order.
        """
        self._must_be_open()
        new = NewInput("", "peer_message", submit, "session") if isinstance(submit, str) else submit
        if new.parent is None:
            new = replace(new, parent=Parent(self.session_id, self.run_id))
        sent = NewOutbound(Admit(to, (new,)), peer)
        if problem := validate_outbound((*self._outbound, sent)):
            raise ValueError(problem)
        if not now:
            self._outbound = (*self._outbound, sent)
            return
        effect_id = self._next("send")
        if self._read(effect_id) is None:
            await self.record(Record((report(effect_id, ""),), outbound=(sent,)))

    # -- checkpoint and end

    async def checkpoint(
        self, *, at_end: bool = False, most: int = RUN_INPUTS_MAX
    ) -> tuple[Input, ...]:
        """Take inputs that are meant for this turn, at most `most`, and return them.  Raises Cancelled if it has to end.

        They belong to the turn from then on: a later attempt gets the same ones at the same call, so every attempt must
        make its calls in the same order between its steps.  `at_end`: the turn would end here, so follow-ups enter too.
        """
        self._checkpoints += 1
        effect_id = effect_id_of("checkpoint", self._checkpoints)
        self._unread.discard(effect_id)
        if effect_id in self._taken:
            return self._taken[effect_id]
        if self._unread:  # an earlier attempt has come further, and has taken nothing here
            self._raise_if_stopped()
            return ()
        self.steered.clear()
        boundary = Boundary.BEFORE_COMPLETION if at_end else Boundary.AFTER_WORK
        taken = await self.record(Record(take=Take(boundary, effect_id, most)))
        self._raise_if_stopped()
        return taken

    def _raise_if_stopped(self) -> None:
        if self.cancelled:
            raise Cancelled(f"run {self.run_id} was asked to stop")

    async def commit(
        self,
        text: str | None = None,
        *,
        nodes: tuple[NewNode, ...] = (),
        state: str | None = None,
        usage: tuple[UsageDelta, ...] = (),
        termination: Termination = Termination.FINISHED,
        reason: str = "",
        hand_off: NewInput | None = None,
        frame: str | Switch | None = None,
        yields: bool = False,
        states: Mapping[str, str | None] | None = None,
        attach: Sequence[str] = (),
    ) -> Committed:
        """End the turn: its inputs, the transcript, the events, the states and the lease, in one transaction.

        `text` is the last message of the assistant, after `nodes`.  `frame` names the agent that goes on, or is a Switch
        to another frame.  `states` are set by name, and None ends one; `state` is the one of that name.  `yields`: raise
        Steered instead if `checkpoint(at_end=True)` would return inputs.  `attach`: at most 8 attachments, by URI or id, that
        a client has stored; those of `turn.attach` are attached already.
        """
        self._must_be_open()
        switch = frame if isinstance(frame, Switch) else None
        agent = None if isinstance(frame, Switch) else frame
        return await self.end(
            TurnEnd(
                termination, reason, with_text(nodes, text), tuple(usage), state, hand_off,
                agent, yields, switch, new_states(states), ids_of(attach),
            )
        )  # fmt: skip

    async def end(self, end: TurnEnd) -> Committed:
        """Commit the turn as `end` says.  Raises AlreadyCommitted after an earlier commit."""
        self._must_be_open()
        if not isinstance(end, TurnEnd):
            raise IllegalResult(f"the end of a turn is {type(end).__name__}, expected TurnEnd")
        request = EndTurn(new_id(), self.with_sent(end))
        answer: Committed = await self._ask(request, f"the commit of run {self.run_id}")
        self.committed = answer
        return answer

    def with_sent(self, end: TurnEnd) -> TurnEnd:
        """Return the end of the turn with what it has sent; a turn that was cancelled sends nothing."""
        if not self._outbound or end.closes:
            return end
        return replace(end, outbound=(*self._outbound, *end.outbound))

    def _must_be_open(self) -> None:
        if self.committed is not None:
            raise AlreadyCommitted(self.run_id)

    async def _ask(self, request: TurnRequest, what: str = "the turn") -> Any:
        answer = await self._host.request(self._id, request)
        if answer is TurnReply.PROCEED:
            return None
        if isinstance(answer, Committed | Taken | GoOn):
            return answer
        if isinstance(answer, ParkedAnswer) or answer is TurnReply.PARKED:
            self.parked = True
            raise Parked(f"run {self.run_id} waits")
        if isinstance(answer, Refused) and answer.reason is Refusal.STEERED:
            raise Steered(self.run_id)
        if isinstance(answer, Refused):
            illegal = answer.reason in (Refusal.ILLEGAL, Refusal.PRUNED)
            raise (IllegalWrite if illegal else CommandRefused)(what, answer)
        match answer:
            case TurnReply.COMMITTED:
                raise AlreadyCommitted(self.run_id)
            case TurnReply.LEASE_LOST:
                raise LeaseLost(lease_lost(self.session_id, self.run_id))
            case TurnReply.TIMED_OUT:
                self.notify(answer)
                raise Cancelled(f"run {self.run_id}: the turn has reached its time limit")
            case _:
                self.notify(TurnReply.CANCELLED)
                raise Cancelled(f"run {self.run_id} was asked to stop")


def taken_inputs(loaded: LoadedRun, turn: int) -> dict[str, tuple[Input, ...]]:
    """Return the inputs that the checkpoints of a turn have taken, by effect id."""
    known = {entered.input_id: entered for entered in loaded.inputs}
    return {
        e.effect_id: tuple([known[i] for i in e.body.split()])
        for e in loaded.entries
        if e.kind is EntryKind.TAKEN and e.turn == turn
    }


def lease_lost(session_id: str, run_id: str) -> str:
    """Return the message of LeaseLost."""
    return f"run {run_id}: session {session_id} belongs to another owner now"


def with_text(nodes: tuple[NewNode, ...], text: str | None) -> tuple[NewNode, ...]:
    """Return the nodes, followed by the assistant's text if there is one."""
    if text is None:
        return tuple(nodes)
    if not isinstance(text, str):
        raise IllegalResult(f"commit of a turn: text is {type(text).__name__}, expected str")
    exact = str.__str__(text)  # of a subclass, as templates have
    return (*nodes, NewNode(Role.ASSISTANT, exact))
