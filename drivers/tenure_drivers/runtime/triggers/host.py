"""The asyncio host of one due trigger: it computes the times that have come, and fires them.  It decides nothing.

Spec: specs/trigger.md.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from tenure.commands import Fire, Fired
from tenure.machines.lease import LocalProcess
from tenure.outcome import Hint, Refusal, Refused
from tenure.questions.triggers import LoadTrigger
from tenure.runner.protocol import RunnerStopReason, Stop

from ...stores.base import Clock, Store, wall_clock_ms
from ..errors import describe
from .schedules import times_due

__all__ = ["TriggerHost"]


log = logging.getLogger("tenure")
FIRED_MAX = 64  # times of one trigger before others have their turn
TIMEOUT_S = 30.0


class TriggerHost:
    """Fires one trigger that is due.  It needs no lease: whoever is first fires a time, for the others that is a replay.

    `failures`: the last message about each trigger that cannot be fired, so that it is logged once.
    """

    def __init__(
        self,
        store: Store,
        trigger_id: str,
        failures: dict[str, str],
        *,
        wall_clock: Clock = wall_clock_ms,
    ) -> None:
        self.store, self.trigger_id, self.failures = store, trigger_id, failures
        self.wall_clock = wall_clock
        self.watch: Callable[[LocalProcess], None] = lambda process: None  # as other runners have

    def feed(self, event: object) -> None:
        """Ignore a drain: what is left to do is one command."""

    def hinted(self, hint: Hint) -> None:
        """Ignore a hint: the row is read again until it is not due."""

    async def run(self) -> Stop:
        """Fire the times that have come.  TRIGGER-53: a schedule that cannot be computed is logged, and left."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                stop = await self._fire_all()
        except ValueError as error:
            return self._failed(RunnerStopReason.BROKEN, str(error))
        except Exception as error:
            return self._failed(RunnerStopReason.UNAVAILABLE, describe(error))
        self.failures.pop(self.trigger_id, None)
        return stop

    def _failed(self, reason: RunnerStopReason, why: str) -> Stop:
        if self.failures.get(self.trigger_id) != why:
            log.error("trigger %s cannot be fired: %s", self.trigger_id, why)
        self.failures[self.trigger_id] = why
        return Stop(reason, why)

    async def _fire_all(self) -> Stop:
        for _ in range(FIRED_MAX):
            answer = await self._fire()
            if answer is None or (isinstance(answer, Fired) and answer.next_at_ms is None):
                return Stop(RunnerStopReason.DONE)
            if isinstance(answer, Fired):
                if answer.next_at_ms is not None and answer.next_at_ms > self.wall_clock():
                    return Stop(RunnerStopReason.DONE)
            elif answer.reason is not Refusal.REVISION:  # its schedule was changed meanwhile
                return Stop(RunnerStopReason.REFUSED, answer)
        return Stop(RunnerStopReason.DONE)

    async def _fire(self) -> Fired | Refused | None:
        """Compute times and send them.  None: the trigger has no next time."""
        item = await self.store.ask(LoadTrigger(self.trigger_id))
        if item is None or item.trigger.next_at_ms is None or item.trigger.schedule is None:
            return None
        trigger = item.trigger
        times, following = times_due(
            item.trigger.schedule, item.trigger.next_at_ms, self.wall_clock()
        )
        return await self.store.execute(Fire(self.trigger_id, trigger.revision, times, following))
