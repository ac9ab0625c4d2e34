"""An agent that chats with a model and uses tools: carries the effects of the turn machine out, and decides nothing.

Specs: specs/turn.md, specs/chat.md.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, Protocol

from attrs import define, field

from tenure.failure import ErrorKind, Failure
from tenure.messages.types import Delta, Disposition, ModelFailed, Reply, Request
from tenure.outcome import Refusal, Refused
from tenure.runner.protocol import TurnReply
from tenure.turn import machine as turn_
from tenure.turn import protocol
from tenure.turn.chat_policy import DEFAULT_CHAT_POLICY, ChatPolicy
from tenure.turn.loading import LoadTurn
from tenure.turn.states import Finished
from tenure.turn_end import TurnEnd

from ..runtime.errors import Cancelled, CommandRefused, IllegalWrite, TurnFailed, describe
from ..runtime.turn import Turn
from ..stores.base import Unavailable
from .tools import FunctionTool, collect

PATIENCE_S: Final = 1.0  # for what was aborted
System = str | Callable[[Turn], str | Awaitable[str]]


class ModelClient(Protocol):
    """Whoever asks a model.  `complete` raises nothing but CancelledError; being cancelled it ends the request."""

    @property
    def model(self) -> str: ...

    async def complete(
        self, request: Request, emit: Callable[[Delta], None], key: str, /
    ) -> Reply | ModelFailed: ...


class ChatAgent:
    """A model, a system prompt, tools.  `show` is given what comes while it comes; nothing of that is stored.

    `frames`: who goes on when a tool returns `HandOff(frame, text)`, by name.
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
        dialect: ChatPolicy = DEFAULT_CHAT_POLICY,
    ) -> None:
        if max_iterations < 0 or concurrency < 1 or deadline_s <= 0:
            raise ValueError("max_iterations at least 0, concurrency 1, deadline_s above 0")
        self.client, self.tools, self.system = client, collect(tools), system
        self.parameters, self.window = parameters, window
        self.limits = protocol.Limits(max_iterations, concurrency, int(deadline_s * 1000))
        self.strict, self.frames, self.show, self.dialect = strict, frames or {}, show, dialect

    async def __call__(self, turn: Turn) -> None:
        try:
            loaded = await turn.ask(LoadTurn(turn.session_id, turn.run_id))
        except Unavailable as error:
            raise TurnFailed(ErrorKind.UNAVAILABLE, str(error)) from error
        if loaded is None:
            raise TurnFailed(ErrorKind.NOT_RECONSTRUCTED, f"run {turn.run_id} is not there")
        preparing = turn_.prepare(loaded, self.limits, self.dialect, strict=self.strict)
        await ChatTurnHost(self, turn, preparing).lead()

    async def environment(self, turn: Turn) -> protocol.Environment:
        system = self.system
        if not isinstance(system, str):
            made = system(turn)
            system = await made if inspect.isawaitable(made) else made
        tools = tuple([made.tool for made in self.tools.values()])
        return protocol.Environment(self.client.model, system, tools, self.parameters, self.window)


def aborted() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


@define(eq=False)
class ChatTurnHost:
    """One carrying out of a turn: effects become tasks, their ends become events, one at a time."""

    agent: ChatAgent
    turn: Turn
    state: turn_.State
    events: asyncio.Queue[protocol.Event | BaseException] = field(factory=asyncio.Queue)
    tasks: dict[str, set[asyncio.Task[None]]] = field(factory=dict)
    active: ChatAgent = field(init=False)  # whom the frame names

    def __attrs_post_init__(self) -> None:
        self.active = self.agent

    async def lead(self) -> None:
        listening = asyncio.ensure_future(self._listen())
        try:
            last = self._step(protocol.Begin())
            while True:
                while last is None:
                    last = self._step(await self._next())
                last = await self._end(last)
                if last is None:
                    return
        finally:
            listening.cancel()
            await self._clear([listening, *(t for tasks in self.tasks.values() for t in tasks)])

    # -- the machine

    def _step(self, event: protocol.Event) -> TurnEnd | protocol.Fail | None:
        outcome = turn_.step(self.state, event)
        if isinstance(outcome, Refused):
            return None  # it came too late, and says so
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
            return self._out_of_time()
        if isinstance(event, asyncio.CancelledError):
            raise TurnFailed(ErrorKind.TRANSIENT, "an effect was cancelled by itself") from event
        if isinstance(event, Exception):
            raise event
        assert not isinstance(event, BaseException)
        return event

    def _out_of_time(self) -> protocol.Event:
        """The runner interrupts a turn whose time is over; it may still say how it ends."""
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
            case protocol.CallModel(key, request):
                self._task(key, self._call_model(key, request))
            case protocol.RunTool():
                self._task(effect.key, self._run_tool(effect))
            case protocol.Probe():
                self._task(effect.key, self._probe(effect))
            case protocol.Sleep(key, attempt, for_ms):
                self._task(key, self._after(for_ms, protocol.RetryDue(key, attempt)))
            case protocol.WriteRecord():
                self._task(effect.key, self._record(effect))
            case protocol.Abort(keys):
                for key in keys:
                    for task in self.tasks.get(key, ()):
                        task.cancel()
            case TurnEnd() | protocol.Fail():
                pass  # the state has it

    def _task(self, key: str, work: Coroutine[Any, Any, protocol.Event]) -> None:
        task = asyncio.ensure_future(self._report(work))
        tasks = self.tasks.setdefault(key, set())
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        task.add_done_callback(lambda _: work.close())  # if it was aborted before it began

    async def _report(self, work: Coroutine[Any, Any, protocol.Event]) -> None:
        """Every task ends in an event or an error, unless it was aborted."""
        try:
            self.events.put_nowait(await work)
        except Cancelled:
            pass  # it may not begin any more; why is heard by `_listen`
        except asyncio.CancelledError as error:
            if not aborted():
                self.events.put_nowait(error)
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
        self.active = active
        try:
            return protocol.EnvironmentReady(key, await active.environment(self.turn))
        except Exception as error:
            failure = Failure(ErrorKind.TRANSIENT, f"the environment: {describe(error)}")
            return protocol.EnvironmentFailed(key, failure)

    async def _call_model(self, key: str, request: Request) -> protocol.Event:
        await self.turn.checkpoint()
        try:
            answer = await self.active.client.complete(request, self._emit, key)
        except Exception as error:
            failure = Failure(ErrorKind.TRANSIENT, f"the model client: {describe(error)}")
            return protocol.ModelFailed(key, failure)
        if isinstance(answer, ModelFailed):
            return protocol.ModelFailed(key, answer.failure, answer.usage)
        return protocol.ModelReplied(key, answer)

    def _emit(self, delta: Delta) -> None:
        self.turn.emit(delta)
        if self.agent.show is not None:
            self.agent.show(self.turn, delta)

    # -- tools

    async def _run_tool(self, effect: protocol.RunTool) -> protocol.Event:
        made = self.active.tools[effect.tool.name]
        await self.turn.checkpoint()  # is our time over by now?
        result = await self._attempt(made, effect)
        return protocol.ToolReported(effect.key, effect.attempt, result)

    async def _attempt(self, made: FunctionTool, effect: protocol.RunTool) -> protocol.ToolResult:
        try:
            async with asyncio.timeout(effect.tool.timeout_ms / 1000) as timer:
                return await made.run(effect.call, effect.key, effect.attempt)
        except TimeoutError:
            if not timer.expired():
                raise
        message = f"no result within {effect.tool.timeout_ms} ms"
        if effect.tool.disposition is Disposition.ONCE:
            return protocol.ToolResult(f"{message}; its outcome is unknown", is_error=True)
        return protocol.ToolResult(message, is_error=True, retryable=True)

    async def _probe(self, effect: protocol.Probe) -> protocol.Event:
        made = self.active.tools[effect.tool.name]
        await self.turn.checkpoint()
        try:
            async with asyncio.timeout(effect.tool.timeout_ms / 1000):
                return protocol.Probed(effect.key, await made.look(effect.key))
        except Exception as error:
            message = f"probe of {effect.tool.name}: {describe(error)}"
            raise TurnFailed(ErrorKind.TRANSIENT, message) from error

    # -- the store

    async def _record(self, effect: protocol.WriteRecord) -> protocol.Event:
        try:
            await self.turn.record(effect.record)
        except Cancelled as error:
            refused = Refused(Refusal.CANCELLED, "RUNNER-51", str(error))
            return protocol.NotRecorded(effect.key, refused)
        except (IllegalWrite, CommandRefused) as error:
            return protocol.NotRecorded(effect.key, error.refused)
        return protocol.Recorded(effect.key)

    async def _end(self, last: TurnEnd | protocol.Fail) -> TurnEnd | protocol.Fail | None:
        """Commit or give back; a commit that a cancel overtakes is made again as cancelled."""
        if isinstance(last, protocol.Fail):
            failure = last.failure
            raise TurnFailed(failure.kind, failure.message, failure.retry_after_ms, last.usage)
        try:
            await self.turn.end(last)
        except Cancelled:
            again = self._step(protocol.CancelSeen())
            if again is None:
                raise
            return again
        return None

    async def _clear(self, tasks: list[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=PATIENCE_S)
