"""Turn code for a RunnerHost: an agent, or the body of `async with Runtime.turn(...)`."""

from __future__ import annotations

import asyncio
import functools
import inspect
import random
from collections.abc import Callable

from tenure.runner.protocol import (
    Abandoned,
    EndTurn,
    Failed,
    Finished,
    NotifyTurn,
    StartTurn,
    TurnEnded,
    TurnExit,
    TurnReply,
)
from tenure.turn_end import TurnEnd

from .clock import new_id
from .current_turn import CURRENT_TURN
from .errors import Cancelled, IllegalResult, LeaseLost, Parked, describe, failure_of, usage_of
from .runner_host import RunnerHost
from .steps import call, in_thread, is_async
from .turn import Turn, lease_lost, with_text
from .turn_in_thread import TurnInThread
from .user_code import as_exception, guard, log_failure, must_propagate
from .versions import Agent

__all__ = ["AgentTurn", "InlineTurn"]


JITTER_MS = 100


def failed(error: BaseException) -> Failed:
    """Return how a turn ends whose code raised this."""
    return Failed(failure_of(error, random.randrange(JITTER_MS)), usage_of(error))


class AgentTurn:
    """Runs the agent of each turn in a task of its own.  `agent_of` may raise, as the agent may."""

    def __init__(self, agent_of: Callable[[Turn], Agent], tasks: set[asyncio.Task[None]]) -> None:
        self.agent_of, self.tasks = agent_of, tasks
        self.turn: Turn | None = None
        self.task: asyncio.Task[None] | None = None
        self.turn_id = 0
        self.interrupted = False

    def begin(self, host: RunnerHost, effect: StartTurn) -> None:
        """Start the agent."""
        self.turn_id, self.interrupted = effect.id, False
        self.turn = Turn(host, effect.id, effect.begun, effect.loaded)
        self.task = asyncio.create_task(self._work(host, effect.id, self.turn))
        self.tasks.add(self.task)
        self.task.add_done_callback(self.tasks.discard)

    def notify(self, effect: NotifyTurn) -> None:
        """Notify the current turn that it has to end, or that it may take inputs."""
        if self.turn is not None and effect.turn_id == self.turn_id:
            self.turn.notify(effect.reply)

    def cancel(self, turn_id: int) -> None:
        """Interrupt the agent of the current turn."""
        if self.task is not None and turn_id == self.turn_id:
            self.interrupted = True
            self.task.cancel()

    async def _work(self, host: RunnerHost, turn_id: int, turn: Turn) -> None:
        turn_exit: TurnExit = Abandoned()
        CURRENT_TURN.set(turn)
        try:
            turn_exit = exit_of(turn, await self._call(turn))
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and self.interrupted:
                log_stopped(turn, error)
            elif must_propagate(error, self.task) and not isinstance(error, asyncio.CancelledError):
                raise
            else:
                # Also if the agent's own code was cancelled: an abandoned turn would begin again without a limit.
                turn_exit = failed(error)
                if not host.closed:
                    log_raised(turn, error)
        finally:
            host.feed(TurnEnded(host.clock(), turn_id, turn_exit))

    async def _call(self, turn: Turn) -> object:
        agent = self.agent_of(turn)
        if is_async(agent):
            return await call(agent, (turn,), {})
        given = TurnInThread(turn)
        try:
            value = await in_thread(functools.partial(agent, given))
        except Exception:
            given.check_awaited()  # often the cause of what it raised
            raise
        given.check_awaited(value)
        return await guard(value) if inspect.isawaitable(value) else value


def log_raised(turn: Turn, error: BaseException) -> None:
    """Log what the agent raised, unless it let pass that it has to end, or that it has parked."""
    what = f"attempt {turn.attempt} failed"
    if turn.committed is not None:
        what = "the agent raised after its commit"
    elif isinstance(error, Cancelled):
        log_stopped(turn, error)
        return
    elif only(error, LeaseLost, Parked) and (turn.parked or not only(error, Parked)):
        return
    elif turn.parked:
        what = "the agent raised after it had parked, which does not count as a failure"
    log_failure(turn.session_id, turn.run_id, f"{what}: {describe(error)}", error)


def only(error: BaseException, *kinds: type[BaseException]) -> bool:
    """Return whether an exception is of these kinds; a group: whether all of its exceptions are."""
    if isinstance(error, BaseExceptionGroup):
        return all([only(each, *kinds) for each in error.exceptions])
    return isinstance(error, kinds)


def log_stopped(turn: Turn, error: BaseException) -> None:
    """Log where a turn was that has reached its time limit; any other end was asked for."""
    if turn.stop_reply is TurnReply.TIMED_OUT and turn.committed is None:
        what = f"attempt {turn.attempt} failed: the turn took longer than its time limit"
        log_failure(turn.session_id, turn.run_id, what, error)


def exit_of(turn: Turn, value: object) -> TurnExit:
    """Return how a turn ends whose agent returned this."""
    if turn.committed is not None:
        return Abandoned()  # the commit is answered already, so nothing is left to write
    if value is None or isinstance(value, str):
        end = turn.with_sent(TurnEnd(nodes=with_text((), value)))
        return Finished(EndTurn(new_id(), end))
    message = f"the agent returned {type(value).__name__}, expected str or None"
    error = IllegalResult(message)
    log_raised(turn, error)
    return failed(error)


class InlineTurn:
    """The body of an `async with` is the turn code.  It is one turn, and the lease ends with it."""

    def __init__(self) -> None:
        self.begun: asyncio.Future[Turn] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[object] | None = None
        self.turn_id = 0
        self.reply: TurnReply | None = None
        self.interrupted = False

    def begin(self, host: RunnerHost, effect: StartTurn) -> None:
        """Hand the turn to the body."""
        self.turn_id = effect.id
        turn = Turn(host, effect.id, effect.begun, effect.loaded)
        if not self.begun.done():
            self.begun.set_result(turn)
        else:  # the caller was cancelled while it waited for the turn
            host.feed(TurnEnded(host.clock(), effect.id, Abandoned()))

    def notify(self, effect: NotifyTurn) -> None:
        """Notify the body that the turn has to end, or that it may take inputs."""
        if effect.reply is not TurnReply.STEERED:
            self.reply = effect.reply
        if self.begun.done() and not self.begun.cancelled():
            self.begun.result().notify(effect.reply)

    def cancel(self, turn_id: int) -> None:
        """Interrupt the body."""
        if self.task is not None:
            self.interrupted = True
            self.task.cancel()

    def end(
        self, host: RunnerHost, turn: Turn, error: BaseException | None
    ) -> BaseException | None:
        """Report how the body ended.  Return the exception that replaces an interruption by the runner, or None."""
        turn_exit: TurnExit = Abandoned()
        left = issubclass(type(error), GeneratorExit)  # the generator around the body is closed
        if error is not None and not left and not must_propagate(error, self.task):
            turn_exit = failed(as_exception(error))
        host.feed(TurnEnded(host.clock(), self.turn_id, turn_exit))
        if not (self.interrupted and issubclass(type(error), asyncio.CancelledError)):
            return None
        if self.task is None or self.task.uncancel() > 0:
            return None
        if self.reply is TurnReply.LEASE_LOST:
            return LeaseLost(lease_lost(turn.session_id, turn.run_id))
        return Cancelled(f"run {turn.run_id}: the turn was interrupted")
