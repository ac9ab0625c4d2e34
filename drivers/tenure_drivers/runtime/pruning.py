"""Prunes sessions: a pass over one session, and the loop of a runtime.  It decides nothing.  Spec: specs/retention.md."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar

from tenure.outcome import Refused
from tenure.queries import Command, Question
from tenure.questions.feed import FROM_THE_BEGINNING
from tenure.questions.retention import LookToPrune, PrunePass
from tenure.retention import Retention

from ..stores.base import wall_clock_ms
from .errors import CommandRefused, describe

__all__ = ["PrunerHost", "prune_session"]


log = logging.getLogger("tenure")
LOOK_S: Final = 60.0  # RETENTION-13
MORE_S: Final = 1.0  # if the last look has not read to the end

A = TypeVar("A")
O = TypeVar("O")
V = TypeVar("V")


class PrunableStore(Protocol):
    """The part of a store that pruning needs."""

    async def execute(self, command: Command[V, O], /) -> O | Refused:
        """As in Store."""
        ...

    async def ask(self, question: Question[A], /) -> A:
        """As in Store."""
        ...


async def prune_session(
    store: PrunableStore,
    session_id: str,
    retention: Retention,
    wall_clock: Callable[[], int] = wall_clock_ms,
) -> PrunePass:
    """Remove everything of a session that a retention does not keep.  Returns what was removed.  Raises CommandRefused.

    It may be interrupted anywhere and repeated, and several may be at work on one session.
    """
    found = PrunePass(session_id, retention)
    while (step := await store.ask(found.question(wall_clock()))) is not None:
        command: Command[Any, Any] = step
        answer = await store.execute(command)
        if isinstance(answer, Refused):
            raise CommandRefused(f"session {session_id}: pruning", answer)
        found = found.after(answer)
    return found


class PrunerHost:
    """Looks once a minute for sessions with something to remove, and prunes them one after the other."""

    def __init__(
        self,
        store: PrunableStore,
        retention: Retention,
        wall_clock: Callable[[], int] = wall_clock_ms,
    ) -> None:
        self.store, self.retention, self.wall_clock = store, retention, wall_clock
        self._task: asyncio.Task[None] | None = None
        self._failures: dict[
            str, str
        ] = {}  # the last one of each session, so that it is logged once

    def start(self) -> None:
        """Start to look."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop, perhaps within a session; the next pass goes on there."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        position = FROM_THE_BEGINNING
        while True:
            more = False
            try:
                found = await self.store.ask(LookToPrune(self.wall_clock(), position))
                position, more = found.position, found.more
                for session_id in found.session_ids:
                    await self._prune(session_id)
            except Exception as error:
                self._tell("", describe(error))
            await asyncio.sleep(MORE_S if more else LOOK_S)

    async def _prune(self, session_id: str) -> None:
        try:
            done = await prune_session(self.store, session_id, self.retention, self.wall_clock)
        except Exception as error:
            self._tell(session_id, describe(error))
            return
        self._failures.pop(session_id, None)
        if done.count:
            log.info("pruned session %s: %s", session_id, done.told())

    def _tell(self, session_id: str, failure: str) -> None:
        if self._failures.get(session_id) != failure:
            log.warning("cannot prune%s: %s", session_id and f" session {session_id}", failure)
        self._failures[session_id] = failure
