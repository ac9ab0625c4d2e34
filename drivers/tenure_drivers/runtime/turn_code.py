"""The code of turns, as a runner's host starts, tells and interrupts it: an agent's, or somebody's own loop."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

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
from .errors import Cancelled, IllegalResult, LeaseLost, TurnFailed, describe, failure_of
from .runner_host import RunnerHost
from .turn import Turn, with_text

Agent = Callable[[Turn], Awaitable[object]]

JITTER_MS = 100

log = logging.getLogger("tenure")


def failed(error: BaseException) -> Failed:
    usage = error.usage if isinstance(error, TurnFailed) else ()
    return Failed(failure_of(error, random.randrange(JITTER_MS)), usage)


class AgentTurn:
    """Each turn is a task of its own, which calls the agent."""

    def __init__(self, agent: Agent, tasks: set[asyncio.Task[None]]) -> None:
        self.agent, self.tasks = agent, tasks
        self.turn: Turn | None = None
        self.task: asyncio.Task[None] | None = None
        self.turn_id = 0
        self.interrupted = False

    def begin(self, host: RunnerHost, effect: StartTurn) -> None:
        self.turn_id, self.interrupted = effect.id, False
        self.turn = Turn(host, effect.id, effect.begun, effect.loaded)
        self.task = asyncio.create_task(self._work(host, effect.id, self.turn))
        self.tasks.add(self.task)
        self.task.add_done_callback(self.tasks.discard)

    def notify(self, effect: NotifyTurn) -> None:
        if self.turn is not None and effect.turn_id == self.turn_id:
            self.turn.notify(effect.reply)

    def cancel(self, turn_id: int) -> None:
        if self.task is not None and turn_id == self.turn_id:
            self.interrupted = True
            self.task.cancel()

    async def _work(self, host: RunnerHost, turn_id: int, turn: Turn) -> None:
        how: TurnExit = Abandoned()
        try:
            how = returned(turn, await self.agent(turn))
        except asyncio.CancelledError as error:
            if not self.interrupted:
                how = failed(
                    error
                )  # by something of its own; let go it would be begun again, for ever
        except (Exception, SystemExit) as error:  # what ends a process may not end everybody's
            how = failed(error)
            if turn.committed is not None:
                message = "session %s: the agent raised after its run %s was committed: %s"
                log.warning(message, turn.session_id, turn.run_id, describe(error))
        finally:
            host.feed(TurnEnded(host.clock(), turn_id, how))


def returned(turn: Turn, value: object) -> TurnExit:
    if turn.committed is not None:
        return Abandoned()  # its commit has been answered: there is nothing more to say
    if value is None or isinstance(value, str):
        return Finished(EndTurn(new_id(), TurnEnd(nodes=with_text((), value))))
    message = f"the agent returned {type(value).__name__}, not text or None"
    return failed(IllegalResult(message))


class InlineTurn:
    """`async with`: the body is the turn's code; it is one turn, and the lease ends with it."""

    def __init__(self) -> None:
        self.begun: asyncio.Future[Turn] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[object] | None = None
        self.turn_id = 0
        self.reply: TurnReply | None = None
        self.interrupted = False

    def begin(self, host: RunnerHost, effect: StartTurn) -> None:
        self.turn_id = effect.id
        turn = Turn(host, effect.id, effect.begun, effect.loaded)
        if not self.begun.done():
            self.begun.set_result(turn)
        else:  # whoever asked for it has gone
            host.feed(TurnEnded(host.clock(), effect.id, Abandoned()))

    def notify(self, effect: NotifyTurn) -> None:
        self.reply = effect.reply
        if self.begun.done() and not self.begun.cancelled():
            self.begun.result().notify(effect.reply)

    def cancel(self, turn_id: int) -> None:
        if self.task is not None:
            self.interrupted = True
            self.task.cancel()

    def end(
        self, host: RunnerHost, turn: Turn, error: BaseException | None
    ) -> BaseException | None:
        """Report how the body ended; return what is to be raised in place of our own interruption."""
        how: TurnExit = Abandoned()
        if isinstance(error, Exception):
            how = failed(error)
        host.feed(TurnEnded(host.clock(), self.turn_id, how))
        if not (self.interrupted and isinstance(error, asyncio.CancelledError)):
            return None
        if self.task is None or self.task.uncancel() > 0:
            return None
        if self.reply is TurnReply.LEASE_LOST:
            return LeaseLost(f"session {turn.session_id} is another owner's: run {turn.run_id}")
        return Cancelled(f"the turn of run {turn.run_id} was interrupted")
