"""Chat agent: calls a model and its tools.  It carries out the effects of the turn machine and makes no decisions.

Specs: specs/turn.md, specs/chat.md.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, Literal

from attrs import define, evolve, field

from tenure.failure import ErrorKind, Failure
from tenure.limits import RUN_INPUTS_MAX
from tenure.machines.ticket import Settled
from tenure.messages.types import Delta, Disposition, Message, ModelFailed, Reply, Request
from tenure.outcome import Refused
from tenure.questions.tickets import LoadTickets
from tenure.runner.protocol import TurnReply
from tenure.turn import machine as turn_
from tenure.turn import protocol
from tenure.turn.chat_policy import DEFAULT_CHAT_POLICY, ChatPolicy
from tenure.turn.loading import LoadTurn
from tenure.turn.shortening import shorten
from tenure.turn.states import Finished
from tenure.turn_end import TurnEnd

from ..models import ModelClient
from ..runtime.clock import new_id
from ..runtime.errors import (
    Cancelled,
    CommandRefused,
    IllegalWrite,
    Steered,
    TurnFailed,
    describe,
)
from ..runtime.limits import Limit
from ..runtime.turn import Turn
from ..runtime.user_code import guard, log_failure
from ..runtime.waiting import decision_of
from ..stores.base import Unavailable
from .model_gate import ModelGate
from .references import References
from .replies import checked_reply
from .tools import FunctionTool, collect

__all__ = ["ChatAgent", "ChatTurnHost"]


ABORT_TIMEOUT_S: Final = 1.0  # how long to wait for tasks that were cancelled
Messages = tuple[Message, ...]
OnOverflow = Callable[[Messages, int], Messages | Awaitable[Messages]]
System = str | Callable[[Turn], str | Awaitable[str]]


class ChatAgent:
    """An agent made of a model, a system prompt and tools.

    `parameters` is a JSON object for the provider.  `window` is the context window of the model, in tokens.  `strict`
    fails a turn if its environment has changed since a crash.  `frames` names the agents that a tool can hand off to
    with `HandOff(name, text)`, or with a Switch in the place of the name.  `show` receives pieces of the reply as they arrive; they are not stored.  `policy`
    decides what a reply means.  `result_max` is how many characters of a tool result a request contains; a tool may have
    a limit of its own, and the transcript holds the whole.  `on_overflow(messages, budget)` shortens a request that did
    not fit the context to about `budget` characters, or summarises it; it may be async.  None: such a turn fails at once.
    `steering`: whether a turn takes all inputs that are meant for it together, or one between two model calls.
    `model_limit`: how many calls of the model are in progress, and begin in a minute, in this process.
    Raises ValueError for an invalid limit or duplicate tool names.
    """

    def __init__(
        self,
        client: ModelClient,
        tools: Sequence[Any] = (),
        *,
        system: System = "",
        parameters: str = "{}",
        window: int | None = None,
        max_iterations: int = protocol.LIMITS.iterations_max,
        concurrency: int = protocol.LIMITS.concurrency,
        deadline_s: float = protocol.LIMITS.deadline_ms / 1000,
        strict: bool = False,
        frames: Mapping[str, ChatAgent] | None = None,
        show: Callable[[Turn, Delta], object] | None = None,
        policy: ChatPolicy = DEFAULT_CHAT_POLICY,
        result_max: int = protocol.LIMITS.result_max,
        on_overflow: OnOverflow | None = shorten,
        steering: Literal["all", "one"] = "all",
        model_limit: Limit | None = None,
    ) -> None:
        if steering not in ("all", "one"):
            raise ValueError(f"steering {steering!r}: expected 'all' or 'one'")
        if max_iterations < 0 or concurrency < 1 or deadline_s <= 0 or result_max < 1:
            raise ValueError(
                f"invalid limits: max_iterations {max_iterations} (at least 0),"
                f" concurrency {concurrency} (at least 1), deadline_s {deadline_s} (above 0),"
                f" result_max {result_max} (at least 1)"
            )
        self.client, self.tools, self.system = client, collect(tools), system
        self.parameters, self.window = parameters, window
        self.limits = protocol.Limits(
            max_iterations, concurrency, int(deadline_s * 1000),
            result_max=result_max, shortens=on_overflow is not None,
            take_max=RUN_INPUTS_MAX if steering == "all" else 1,
        )  # fmt: skip
        self.on_overflow, self.gate = on_overflow, ModelGate(model_limit)
        self.strict, self.frames, self.show, self.policy = strict, frames or {}, show, policy

    async def __call__(self, turn: Turn) -> None:
        """Carry out a turn.  Raises TurnFailed."""
        try:
            loaded = await turn.read(LoadTurn(turn.session_id, turn.run_id))
        except Unavailable as error:
            raise TurnFailed(ErrorKind.UNAVAILABLE, str(error)) from error
        if loaded is None:
            raise TurnFailed(ErrorKind.NOT_RECONSTRUCTED, f"run {turn.run_id} does not exist")
        preparing = turn_.prepare(loaded, self.limits, self.policy, strict=self.strict)
        await ChatTurnHost(self, turn, preparing).run()

    async def environment(self, turn: Turn) -> protocol.Environment:
        """Return what a request contains besides the transcript; the system prompt may be a function of the turn."""
        system = self.system
        if not isinstance(system, str):
            found = system(turn)
            system = await found if inspect.isawaitable(found) else found
        tools = tuple([each.tool for each in self.tools.values()])
        return protocol.Environment(self.client.model, system, tools, self.parameters, self.window)


@define(eq=False)
class ChatTurnHost:
    """Carries out one turn.  Each effect is a task, and its result is an event; events are handled one at a time.

    `active` is the agent that the frame names.
    """

    agent: ChatAgent
    turn: Turn
    state: turn_.State
    events: asyncio.Queue[protocol.Event | Exception] = field(factory=asyncio.Queue)
    tasks: dict[str, set[asyncio.Task[None]]] = field(factory=dict)
    shown: list[str] = field(factory=list)  # pieces of text that the model call has streamed
    shown_attempt: int = 0  # of the model call that they belong to
    active: ChatAgent = field(init=False)
    references: References = field(init=False)
    raised: Exception | None = None  # what the model client or the environment raised last
    frame: str = ""

    def __attrs_post_init__(self) -> None:
        self.active, self.references = self.agent, References(self.turn)

    async def run(self) -> None:
        """Run the turn until it is committed.  Raises TurnFailed, and what a refused commit raises."""
        listening = asyncio.ensure_future(self._listen())
        try:
            last = self._step(protocol.Begin())
            while True:
                while last is None:
                    last = self._step(await self._next())
                refused = await self._end(last)
                if refused is None:
                    return
                last = self._step(refused)
                if last is None and isinstance(refused, protocol.CancelSeen):
                    raise Cancelled(f"run {self.turn.run_id} was asked to stop")
        finally:
            listening.cancel()
            await self._clear([listening, *(t for tasks in self.tasks.values() for t in tasks)])

    # -- the machine

    def _step(self, event: protocol.Event) -> TurnEnd | protocol.Fail | None:
        if isinstance(event, protocol.CancelSeen | protocol.DeadlinePassed):
            event = type(event)(shown="".join(self.shown))
        outcome = turn_.step(self.state, event)
        if isinstance(outcome, Refused):
            return None  # the effect of this report was aborted
        self.state = outcome.state
        for effect in outcome.effects:
            self._begin(effect)
        if isinstance(self.state, Finished) and outcome.effects:
            return self.state.last
        return None

    async def _next(self) -> protocol.Event:
        try:
            event = await self.events.get()
        except asyncio.CancelledError:
            return self._timed_out()
        if isinstance(event, Exception):
            raise event
        return event

    def _timed_out(self) -> protocol.Event:
        """Return the event for an interrupt by the runner at the deadline; the turn may still commit."""
        task = asyncio.current_task()
        if self.turn.stop_reply is not TurnReply.TIMED_OUT or task is None or task.uncancel() > 0:
            raise
        return protocol.DeadlinePassed()

    async def _listen(self) -> None:
        reply = await self.turn.notified()
        if reply is TurnReply.CANCELLED:
            self.events.put_nowait(protocol.CancelSeen())
        elif reply is TurnReply.TIMED_OUT:
            self.events.put_nowait(protocol.DeadlinePassed())

    # -- its effects

    def _begin(self, effect: protocol.Effect) -> None:
        match effect:
            case protocol.SetDeadline(after_ms):
                self._task("deadline", self._after(after_ms, protocol.DeadlinePassed()))
            case protocol.PrepareEnvironment(key, frame):
                self._task(key, self._prepare(key, frame))
            case protocol.CallModel():
                self._task(effect.key, self._call_model(effect))
            case protocol.CheckApproval():
                self._task(effect.key, self._check_approval(effect))
            case protocol.RunTool():
                self._task(effect.key, self._run_tool(effect))
            case protocol.Probe():
                self._task(effect.key, self._probe(effect))
            case protocol.Sleep(key, attempt, for_ms):
                self._task(key, self._after(for_ms, protocol.RetryDue(key, attempt)))
            case protocol.WriteRecord():
                self._task(effect.key, self._record(effect))
            case protocol.Park():
                self._task(effect.key, self._park(effect))
            case protocol.SettleTicket():
                self._task(effect.key, self._settle(effect))
            case protocol.Abort(keys):
                for key in keys:
                    for task in self.tasks.get(key, ()):
                        task.cancel()
            case TurnEnd() | protocol.Fail():
                pass  # the state holds it

    def _task(self, key: str, work: Coroutine[Any, Any, protocol.Event]) -> None:
        task = asyncio.ensure_future(self._report(work))
        tasks = self.tasks.setdefault(key, set())
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        task.add_done_callback(
            lambda _: work.close()
        )  # if the task was cancelled before it started

    async def _report(self, work: Coroutine[Any, Any, protocol.Event]) -> None:
        """Await an effect and queue its event or its error, unless it was aborted."""
        try:
            self.events.put_nowait(await guard(work))
        except Cancelled:
            pass  # the effect may not begin; `_listen` reports the reason
        except asyncio.CancelledError:
            pass  # the effect was aborted
        except Exception as error:
            self.events.put_nowait(error)

    async def _after(self, for_ms: int, event: protocol.Event) -> protocol.Event:
        await asyncio.sleep(for_ms / 1000)
        return event

    async def _prepare(self, key: str, frame: str) -> protocol.Event:
        active = self.agent if not frame else self.agent.frames.get(frame)
        if active is None:
            message = f"no agent for frame {frame!r}"
            return protocol.EnvironmentFailed(key, Failure(ErrorKind.UNKNOWN_AGENT, message))
        self.active, self.frame = active, frame
        try:
            return protocol.EnvironmentReady(key, await guard(active.environment(self.turn)))
        except Exception as error:
            self.raised = error
            failure = Failure(ErrorKind.TRANSIENT, f"the environment: {describe(error)}")
            return protocol.EnvironmentFailed(key, failure)

    async def _call_model(self, effect: protocol.CallModel) -> protocol.Event:
        key, request = effect.key, effect.request
        await self.turn.may_begin()
        if effect.budget is not None:
            try:
                request = await guard(self._shortened(request, effect.budget))
            except Exception as error:
                self.raised = error
                failure = Failure(ErrorKind.TRANSIENT, f"on_overflow: {describe(error)}")
                return protocol.ModelFailed(key, failure)
        self.shown.clear()
        async with self.active.gate.call(self.turn.session_id, self.frame) as waited:
            if waited:
                await self.turn.may_begin()
            try:
                answer = await guard(self._complete(request, key))
            except Exception as error:
                self.raised = error
                failure = Failure(ErrorKind.TRANSIENT, f"the model client: {describe(error)}")
                return protocol.ModelFailed(key, failure)
        self.raised = None
        if isinstance(answer, ModelFailed):
            return protocol.ModelFailed(key, answer.failure, answer.usage)
        return protocol.ModelReplied(key, answer)

    async def _complete(self, request: Request, key: str) -> Reply | ModelFailed:
        request = await self.references.resolved(request)
        return checked_reply(await self.active.client.complete(request, self._emit, key))

    async def _shortened(self, request: Request, budget: int) -> Request:
        """Return a request that the agent has shortened."""
        if self.active.on_overflow is None:
            return request
        found = self.active.on_overflow(request.messages, budget)
        messages = await found if inspect.isawaitable(found) else found
        return evolve(request, messages=tuple(messages), stable=0)

    def _emit(self, delta: Delta) -> None:
        self.turn.emit(delta)
        if delta.attempt != self.shown_attempt:
            self.shown.clear()
            self.shown_attempt = delta.attempt
        if delta.kind == "text":
            self.shown.append(delta.text)
        if self.agent.show is not None:
            self.agent.show(self.turn, delta)

    # -- tools

    async def _check_approval(self, effect: protocol.CheckApproval) -> protocol.Event:
        tool = self.active.tools[effect.tool.name]
        log = functools.partial(self._log, f"approve of {tool.name}")
        question = await tool.question(effect.call, log)
        return protocol.ApprovalChecked(effect.key, new_id(), question)

    async def _run_tool(self, effect: protocol.RunTool) -> protocol.Event:
        tool = self.active.tools[effect.tool.name]
        await self.turn.may_begin()
        result = await self._attempt(tool, effect)
        return protocol.ToolReported(effect.key, effect.attempt, result)

    async def _attempt(self, tool: FunctionTool, effect: protocol.RunTool) -> protocol.ToolResult:
        try:
            async with asyncio.timeout(effect.tool.timeout_ms / 1000) as timer:
                return await tool.run(
                    effect.call, effect.key, effect.attempt, functools.partial(self._log, tool.name),
                    None if effect.decision is None else decision_of(effect.decision),
                )  # fmt: skip
        except TimeoutError:
            if not timer.expired():
                raise
        message = f"no result within {effect.tool.timeout_ms} ms"
        if effect.tool.disposition is Disposition.ONCE:
            return protocol.ToolResult(f"{message}; its outcome is unknown", is_error=True)
        return protocol.ToolResult(message, is_error=True, retryable=True)

    def _log(self, name: str, error: Exception) -> None:
        what = f"tool {name} failed: {describe(error)}"
        log_failure(self.turn.session_id, self.turn.run_id, what, error)

    async def _probe(self, effect: protocol.Probe) -> protocol.Event:
        tool = self.active.tools[effect.tool.name]
        await self.turn.may_begin()
        try:
            async with asyncio.timeout(effect.tool.timeout_ms / 1000):
                return protocol.Probed(effect.key, await tool.look(effect.key))
        except Exception as error:
            message = f"probe of {effect.tool.name}: {describe(error)}"
            raise TurnFailed(ErrorKind.TRANSIENT, message) from error

    # -- the store

    async def _record(self, effect: protocol.WriteRecord) -> protocol.Event:
        try:
            inputs = await self.turn.record(await self.references.with_record(effect.record))
        except Cancelled as error:
            return protocol.NotRecorded.stopped(effect.key, str(error))
        except (IllegalWrite, CommandRefused) as error:
            return protocol.NotRecorded(effect.key, error.refused)
        self.references.note_inputs(inputs)
        return protocol.Recorded(effect.key, inputs)

    async def _park(self, effect: protocol.Park) -> protocol.Event:
        try:
            await self.turn.park(effect.wait)
        except Cancelled as error:
            return protocol.NotRecorded.stopped(effect.key, str(error))
        except (IllegalWrite, CommandRefused) as error:
            return protocol.NotRecorded(effect.key, error.refused)
        return await self._settled(effect.key, effect.wait.waits_for)

    async def _settle(self, effect: protocol.SettleTicket) -> protocol.Event:
        await self.turn.settle(effect.ticket_id, effect.settlement)
        found = await self._settled(effect.key, (effect.ticket_id,))
        if not found.settled:  # the session was stopped meanwhile
            raise TurnFailed(ErrorKind.TRANSIENT, f"ticket {effect.ticket_id} cannot be settled")
        return found

    async def _settled(self, key: str, ticket_ids: tuple[str, ...]) -> protocol.TicketsSettled:
        """Return how these tickets are settled."""
        try:
            found = await self.turn.read(LoadTickets(self.turn.session_id, ticket_ids))
        except Unavailable as error:
            raise TurnFailed(ErrorKind.UNAVAILABLE, str(error)) from error
        settled = [(t.ticket_id, t.state) for t in found if isinstance(t.state, Settled)]
        return protocol.TicketsSettled(key, tuple(settled))

    async def _end(self, last: TurnEnd | protocol.Fail) -> protocol.Event | None:
        """Commit, or fail the turn.  Return why it has not committed: it was cancelled or steered (TURN-53, TURN-83)."""
        if isinstance(last, protocol.Fail):
            failure = last.failure
            after_ms, cause = failure.retry_after_ms, self.raised
            raise TurnFailed(failure.kind, failure.message, after_ms, last.usage) from cause
        try:
            await self.turn.end(await self.references.with_end(last))
        except Cancelled:
            return protocol.CancelSeen()
        except Steered:
            return protocol.CommitSteered()
        return None

    async def _clear(self, tasks: list[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=ABORT_TIMEOUT_S)
