"""The turn: what an agent, or a loop of one's own, gets in its hands.  Spec: specs/journal.md."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from tenure.commands import Begun, Committed, NewEntry, NewInput
from tenure.machines.run import Termination
from tenure.messages.types import Delta
from tenure.outcome import Refusal, Refused
from tenure.queries import Question
from tenure.questions.core import LoadedRun
from tenure.records import Input
from tenure.runner.protocol import EndTurn, MayStart, TurnReply, TurnRequest
from tenure.steps import (
    StepAction,
    effect_id_of,
    idempotency_key,
    latest_entries,
    once_action,
    report,
    start_mark,
    step_action,
    unknown,
    validate_name,
)
from tenure.transcript import NewNode, Role, UsageDelta
from tenure.turn_end import Record, TurnEnd

from ..stores.base import Store
from .clock import new_id
from .errors import (
    AlreadyCommitted,
    Cancelled,
    CommandRefused,
    IllegalResult,
    IllegalWrite,
    LeaseLost,
    StepFailed,
    StepOutcomeUnknown,
)
from .steps import Report, call, pack, pack_error, result_type, takes_key, unpack

A = TypeVar("A")
Probe = Callable[[str], Any]


class TurnHost(Protocol):
    """To the runner that carries this turn."""

    @property
    def store(self) -> Store: ...

    def request(self, turn_id: int, request: TurnRequest, /) -> Awaitable[Any]: ...

    def publish(
        self, session_id: str, run_id: str, attempt: int, delta: Delta, generation: int, /
    ) -> None: ...


class Turn:
    """One stretch of a run.

    Steps are named by `name` and the how-manieth use of that name in the turn (`search#2`), so an agent has to ask
    for them in the same order when it is carried out again; steps of one name that run at once are numbered in the
    order in which they were called.
    """

    def __init__(self, link: TurnHost, turn_id: int, begun: Begun, carried: LoadedRun) -> None:
        self._link, self._id = link, turn_id
        self.session_id: str = begun.fence.session_id
        self.run_id: str = begun.run_id
        self.turn: int = begun.turn
        self.revision: int = begun.revision
        self.inputs: tuple[Input, ...] = carried.inputs
        self.state: str | None = carried.state
        self.failures: int = carried.run.retry.failures  # of this run so far
        self.generation: int = begun.fence.generation
        self.cancelled = False  # somebody asked the run to stop, or its time is over
        self.stop_reply: TurnReply | None = None  # why
        self.committed: Committed | None = None
        self._notified = asyncio.Event()
        self._uses: Counter[str] = Counter()
        self._journal = latest_entries(carried.entries, begun.turn)

    @property
    def text(self) -> str:
        """What was said: the payloads, with a blank line between them."""
        return "\n\n".join([i.payload for i in self.inputs])

    @property
    def input_ids(self) -> tuple[str, ...]:
        return tuple([i.input_id for i in self.inputs])

    # -- steps

    async def step(self, name: str, f: Callable[..., Any], *args: Any, **kw: Any) -> Any:
        """Call `f` and keep its result; if that is kept already, return it without a call.

        It may run again when it or its process was interrupted.  A sync `f` runs in a thread.
        """
        effect_id, type_ = self._next(name), result_type(f)
        entry = self._journal.get(effect_id)
        if entry is not None and step_action(entry) is StepAction.REPLAY:
            return unpack(effect_id, entry.body, type_)
        await self._ask(MayStart())
        body, value = pack(effect_id, await call(f, args, kw), type_)
        await self._write(report(effect_id, body))
        return value

    async def once(
        self, name: str, f: Callable[..., Any], *args: Any, probe: Probe | None = None
    ) -> Any:
        """Call `f` at most once, whatever crashes; if it is a parameter, `key` gets an idempotency key.

        If it was started before a crash and left no report, `probe(key)` is asked for a `Report(value)` or None;
        None, or no probe: StepOutcomeUnknown, now and at every replay.  What `f` raises is its report: StepFailed.
        """
        effect_id, type_ = self._next(name), result_type(f)
        key = idempotency_key(self.run_id, self.turn, effect_id)
        entry = self._journal.get(effect_id)
        match once_action(entry):
            case StepAction.MARK:
                return await self._call_once(effect_id, key, f, args, type_)
            case StepAction.PROBE:
                return await self._probe(effect_id, key, probe, type_)
            case StepAction.UNKNOWN:
                raise StepOutcomeUnknown(effect_id)
        assert entry is not None
        return unpack(effect_id, entry.body, type_)

    async def _call_once(
        self, effect_id: str, key: str, f: Callable[..., Any], args: tuple[Any, ...], type_: Any
    ) -> Any:
        await self._write(start_mark(effect_id))
        await self._ask(MayStart())  # the mark may have taken longer than the lease lasts
        kw = {"key": key} if takes_key(f) else {}
        try:
            value = await call(f, args, kw)
            body, value = pack(effect_id, value, type_)
        except Exception as error:
            body, raised = pack_error(error), error
        else:
            await self._write(report(effect_id, body))
            return value
        await self._write(report(effect_id, body))
        try:
            unpack(effect_id, body, type_)
        except StepFailed as failed:
            failed.replayed = False
            raise failed from raised

    async def _probe(self, effect_id: str, key: str, probe: Probe | None, type_: Any) -> Any:
        await self._ask(MayStart())
        found = None if probe is None else await call(probe, (key,), {})
        if found is None:
            await self._write(unknown(effect_id))
            raise StepOutcomeUnknown(effect_id)
        if not isinstance(found, Report):
            message = f"the probe of step {effect_id} returned {type(found).__name__}"
            raise IllegalResult(f"{message}, not a Report or None")
        body, value = pack(effect_id, found.value, type_)
        await self._write(report(effect_id, body))
        return value

    def _next(self, name: str) -> str:
        problem = validate_name(name)
        if problem is not None:
            raise ValueError(problem)
        self._uses[name] += 1
        return effect_id_of(name, self._uses[name])

    async def _write(self, entry: NewEntry) -> None:
        await self._ask(Record((entry,)), f"step {entry.effect_id}")

    # -- for loops that keep a journal of their own

    def notify(self, reply: TurnReply) -> None:
        """The runner says that the turn is to end."""
        self.cancelled, self.stop_reply = True, reply
        self._notified.set()

    async def notified(self) -> TurnReply:
        """Wait until the turn is to end; say why."""
        await self._notified.wait()
        assert self.stop_reply is not None
        return self.stop_reply

    async def ask(self, question: Question[A]) -> A:
        """While the session is ours nobody else changes what is ours to change."""
        return await self._link.store.ask(question)

    async def record(self, record: Record) -> None:
        """Write a record in one checkpoint.  Raises what `step` raises."""
        await self._ask(record, "a record")

    def emit(self, delta: Delta) -> None:
        """Show a piece of a reply to who observes the session.  It is not stored; whoever resumes this turn begins
        another attempt, which stands in its place.
        """
        self._link.publish(self.session_id, self.run_id, self.generation, delta, self.generation)

    # -- the rest

    async def checkpoint(self) -> tuple[Input, ...]:
        """Raise Cancelled if the turn is to end; answers what was said meanwhile (nothing yet)."""
        await self._ask(MayStart())
        return ()

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
        frame: str | None = None,
    ) -> Committed:
        """End the turn: its inputs, the transcript, the events, the state and the lease, in one transaction.

        `text` is what the assistant says last, behind `nodes`.
        """
        self._must_be_open()
        nodes = with_text(nodes, text)
        return await self.end(
            TurnEnd(termination, reason, nodes, tuple(usage), state, hand_off, frame)
        )

    async def end(self, end: TurnEnd) -> Committed:
        """Commit the turn as `end` says.  Raises AlreadyCommitted after an earlier commit."""
        self._must_be_open()
        request = EndTurn(new_id(), end)
        answer: Committed = await self._ask(request, f"the commit of run {self.run_id}")
        self.committed = answer
        return answer

    def _must_be_open(self) -> None:
        if self.committed is not None:
            raise AlreadyCommitted(self.run_id)

    async def _ask(self, request: TurnRequest, what: str = "the turn") -> Any:
        answer = await self._link.request(self._id, request)
        if answer is TurnReply.PROCEED:
            return None
        if isinstance(answer, Committed):
            return answer
        if isinstance(answer, Refused):
            illegal = answer.reason is Refusal.ILLEGAL
            raise (IllegalWrite if illegal else CommandRefused)(what, answer)
        match answer:
            case TurnReply.COMMITTED:
                raise AlreadyCommitted(self.run_id)
            case TurnReply.LEASE_LOST:
                raise LeaseLost(f"session {self.session_id} is another owner's: run {self.run_id}")
            case TurnReply.TIMED_OUT:
                self.notify(answer)
                raise Cancelled(f"the time of the turn of run {self.run_id} is over")
            case _:
                self.notify(TurnReply.CANCELLED)
                raise Cancelled(f"run {self.run_id} was asked to stop")


def with_text(nodes: tuple[NewNode, ...], text: str | None) -> tuple[NewNode, ...]:
    """Return the nodes, followed by the assistant's text if there is one."""
    if text is None:
        return tuple(nodes)
    if not isinstance(text, str):
        raise IllegalResult(f"a turn commits text, not {type(text).__name__}")
    return (*nodes, NewNode(Role.ASSISTANT, text))
