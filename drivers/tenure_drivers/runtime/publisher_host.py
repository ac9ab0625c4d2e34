"""The asyncio host of a publisher: looks, timers, calls of the sink, and Publish.  It decides nothing.

Spec: specs/publisher.md.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from tenure.commands import Publish
from tenure.outcome import Refused, Stepped
from tenure.publisher import protocol
from tenure.publisher.machine import step
from tenure.publisher.protocol import PublishedEvent
from tenure.replace import replace

from ..stores.base import Clock, Store, wall_clock_ms
from .effect_loop import EffectLoop
from .errors import describe
from .user_code import guard

__all__ = ["PublisherHost", "Sink"]


log = logging.getLogger("tenure")
SINK_TIMEOUT_S = 60.0  # a sink that takes longer has failed
Sink: TypeAlias = Callable[[Sequence[PublishedEvent]], Awaitable[None] | None]


class PublisherHost:
    """One publisher.  It gives the events of up to `at_once` sessions at the same time."""

    def __init__(
        self,
        store: Store,
        sink: Sink,
        *,
        clock: Clock,
        wall_clock: Clock = wall_clock_ms,
        at_once: int = 4,
    ) -> None:
        self.store, self.sink, self.clock, self.wall_clock = store, sink, clock, wall_clock
        self.finished = asyncio.Event()
        self._machine: EffectLoop[protocol.State, protocol.Event, protocol.Effect] = EffectLoop(
            step, self._perform, protocol.TimerFired, clock=clock
        )
        self._machine.start(Stepped(protocol.Publishing(at_once), ""))
        self._failures: dict[str, str] = {}  # the last one of each kind, so that it is logged once

    def start(self) -> None:
        """Look for sessions."""
        self._machine.feed(protocol.Started(self.clock()))

    def notice(self) -> None:
        """Note that this process may have appended events."""
        self._machine.feed(protocol.Noticed(self.clock()))

    def drain(self) -> None:
        """Give no more events.  `finished` is set when those that the sink has are published."""
        self._machine.feed(protocol.Drain(self.clock()))

    async def stop(self) -> None:
        """Cancel everything that is left.  Nothing of it runs after this, but a plain function in its thread."""
        tasks = list(self._machine.tasks)
        self._machine.close()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _perform(self, effect: protocol.Effect) -> None:
        match effect:
            case protocol.Look():
                self._machine.spawn(self._look(effect))
            case protocol.Adopt():
                self._machine.spawn(self._adopt(effect))
            case protocol.Give(session_id):
                self._machine.spawn(self._give(session_id))
            case protocol.Record():
                self._machine.spawn(self._record(effect))
            case protocol.SetTimer(id, at_ms):
                self._machine.set_only_timer(id, at_ms)
            case protocol.Finish():
                self.finished.set()

    def _fed(
        self, event: protocol.Event, kind: str, failure: str = "", session_id: str = ""
    ) -> None:
        if failure and failure != self._failures.get(kind):
            log.warning("%s: %s%s", kind, session_id and f"session {session_id}: ", failure)
        self._failures[kind] = failure
        self._machine.feed(event)

    async def _look(self, look: protocol.Look) -> None:
        kind = "cannot look for events to publish"
        try:
            found = await self.store.ask(replace(look, wall_ms=self.wall_clock()))
        except Exception as error:
            failed = protocol.LookFailed(self.clock(), look.id)
            self._fed(failed, kind, describe(error))
            return
        mixed = tuple(random.sample(found.unpublished, len(found.unpublished)))
        looked = protocol.Looked(self.clock(), look.id, replace(found, unpublished=mixed))
        self._fed(looked, kind)

    async def _adopt(self, adopt: protocol.Adopt) -> None:
        kind = "cannot publish sessions"
        commands = [self.store.execute(Publish(s, 0)) for s in adopt.session_ids]
        answers = await asyncio.gather(*commands, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, Refused | BaseException):
                failure = str(answer) if isinstance(answer, Refused) else describe(answer)
                self._fed(protocol.AdoptFailed(self.clock(), adopt.id), kind, failure)
                return
        ids = adopt.session_ids
        self._fed(protocol.Adopted(self.clock(), adopt.id, ids, adopt.feed), kind)

    async def _give(self, session_id: str) -> None:
        kind = "cannot read events to publish"
        try:
            page = await self.store.ask(protocol.UnpublishedEvents(session_id))
        except Exception as error:
            failed = protocol.ReadFailed(self.clock(), session_id)
            self._fed(failed, kind, describe(error), session_id)
            return
        if not page.events:
            self._fed(protocol.Given(self.clock(), session_id, None), kind)
            return
        try:
            async with asyncio.timeout(SINK_TIMEOUT_S):
                await guard(self._call(page.events))
        except Exception as error:
            refused = protocol.GiveFailed(self.clock(), session_id)
            self._fed(refused, "the sink failed", describe(error), session_id)
            return
        through = page.events[-1].seq
        given = protocol.Given(self.clock(), session_id, through, page.more)
        self._fed(given, "the sink failed")

    async def _call(self, events: Sequence[PublishedEvent]) -> None:
        answer: Any
        if _is_async(self.sink):
            answer = self.sink(events)
        else:
            answer = await asyncio.to_thread(self.sink, events)
        if inspect.isawaitable(answer):
            await answer

    async def _record(self, record: protocol.Record) -> None:
        kind, session_id = "cannot note what is published", record.session_id
        failure = ""
        try:
            answer = await self.store.execute(Publish(session_id, record.through))
            if isinstance(answer, Refused):
                failure = str(answer)
        except Exception as error:
            failure = describe(error)
        if failure:
            failed = protocol.ReadFailed(self.clock(), session_id)
            self._fed(failed, kind, failure, session_id)
        else:
            self._fed(protocol.Recorded(self.clock(), session_id, record.more), kind)


def _is_async(sink: Sink) -> bool:
    """Return True if a call of the sink returns at once, with something to be awaited."""
    return inspect.iscoroutinefunction(sink) or inspect.iscoroutinefunction(sink.__class__.__call__)
