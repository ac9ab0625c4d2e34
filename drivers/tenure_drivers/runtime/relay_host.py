"""The asyncio host of a relay: looks, timers, and commands for the stores of targets.  It decides nothing.

Spec: specs/relay.md.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping
from typing import Any

from tenure.commands import OutboundDelayed
from tenure.commands.validation import validate_id
from tenure.outcome import Refused, Stepped
from tenure.queries import Command
from tenure.relay import protocol
from tenure.relay.answers import report_of
from tenure.relay.machine import is_at_rest, step
from tenure.replace import replace

from ..stores.base import Clock, Store, wall_clock_ms
from .effect_loop import EffectLoop
from .errors import describe

__all__ = ["RelayHost", "named_stores"]


log = logging.getLogger("tenure")
TARGET_TIMEOUT_S = 30.0  # RELAY-21
FLUSH_S = 0.005


def named_stores(peers: Mapping[str, Store]) -> dict[str, Store]:
    """RELAY-20: return the stores of targets by their names.  Raises ValueError for a name that no command can have."""
    for name in peers:
        if problem := validate_id("peer", name):
            raise ValueError(problem)
    return dict(peers)


class RelayHost:
    """One relay.  It sends the rows of up to `at_once` routes at the same time.

    RELAY-20: `peers` are the stores of targets by their names; the own one is always among them.
    """

    def __init__(
        self,
        store: Store,
        peers: Mapping[str, Store] | None = None,
        *,
        clock: Clock,
        wall_clock: Clock = wall_clock_ms,
        at_once: int = 8,
    ) -> None:
        self.store, self.clock, self.wall_clock = store, clock, wall_clock
        self.stores = {"": store, **(peers or {})}
        self.finished = asyncio.Event()
        self._noticed = False
        self._machine: EffectLoop[protocol.State, protocol.Event, protocol.Effect] = EffectLoop(
            step, self._perform, protocol.TimerFired, clock=clock
        )
        self._machine.start(Stepped(protocol.Relaying(tuple(self.stores), at_once), ""))
        self._failures: dict[str, str] = {}  # the last one of each kind, so that it is logged once

    def start(self) -> None:
        """Look for rows."""
        self._machine.feed(protocol.Started(self.clock()))

    def notice(self) -> None:
        """Note that this process has written something to be sent."""
        self._noticed = True
        self._machine.feed(protocol.Noticed(self.clock()))

    async def flush(self) -> None:
        """Wait until everything that this process has written was tried once."""
        while self._noticed and not is_at_rest(self._machine.state):
            await asyncio.sleep(FLUSH_S)

    def drain(self) -> None:
        """Send no more.  `finished` is set when what came of the rows that are being sent is stored."""
        self._machine.feed(protocol.Drain(self.clock()))

    async def stop(self) -> None:
        """Cancel everything that is left.  A command that was given to a store is executed there nevertheless."""
        tasks = list(self._machine.tasks)
        self._machine.close()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _perform(self, effect: protocol.Effect) -> None:
        match effect:
            case protocol.Look():
                self._machine.spawn(self._look(effect))
            case protocol.Deliver(route):
                self._machine.spawn(self._deliver(route))
            case protocol.Record():
                self._machine.spawn(self._record(effect))
            case protocol.SetTimer(id, at_ms):
                self._machine.set_only_timer(id, at_ms)
            case protocol.Finish():
                self.finished.set()

    def _fed(self, event: protocol.Event, kind: str, failure: str = "") -> None:
        if failure and failure != self._failures.get(kind):
            log.warning("%s: %s", kind, failure)
        self._failures[kind] = failure
        self._machine.feed(event)

    async def _look(self, look: protocol.Look) -> None:
        kind = "cannot look for commands to be sent"
        try:
            found = await self.store.ask(replace(look, wall_ms=self.wall_clock()))
        except Exception as error:
            self._fed(protocol.LookFailed(self.clock(), look.id), kind, describe(error))
            return
        # in random order, so that two relays seldom send the same
        mixed = tuple(random.sample(found.rows, len(found.rows)))
        looked = protocol.Looked(self.clock(), look.id, replace(found, rows=mixed))
        self._fed(looked, kind)

    async def _deliver(self, route: protocol.Route) -> None:
        kind = f"cannot read what session {route.session_id} sends"
        try:
            head = await self.store.ask(protocol.LoadHead(route, self.wall_clock()))
        except Exception as error:
            self._fed(protocol.ReadFailed(self.clock(), route), kind, describe(error))
            return
        self._failures.pop(kind, None)
        if head is None:
            self._machine.feed(protocol.Nothing(self.clock(), route))
        elif head.wait_ms > 0:
            self._machine.feed(protocol.NotDue(self.clock(), route))
        else:
            self._machine.feed(await self._execute(route, head))

    async def _execute(self, route: protocol.Route, head: protocol.Head) -> protocol.Event:
        """Execute a command for its target, and return what the answer means."""
        if head.command is None:
            return self._failed(route, head, head.problem)
        command: Any = head.command
        try:
            async with asyncio.timeout(TARGET_TIMEOUT_S):
                answer = await self.stores[route.peer].decide(command)
        except Exception as error:
            return self._failed(route, head, describe(error))
        return report_of(self.clock(), route, head, answer)

    def _failed(self, route: protocol.Route, head: protocol.Head, problem: str) -> protocol.Event:
        target = f"session {route.to}" + (f" in store {route.peer}" if route.peer else "")
        log.warning(
            "session %s: cannot send no. %d to %s: %s; trying again",
            *(route.session_id, head.number, target, problem),
        )
        return protocol.Failed(self.clock(), route, head.number, head.attempts, problem)

    async def _record(self, record: protocol.Record) -> None:
        kind, route = "cannot note what was sent", record.route
        try:
            command: Command[Any, Any] = record.command
            answer = await self.store.execute(command)
        except Exception as error:
            self._fed(protocol.ReadFailed(self.clock(), route), kind, describe(error))
            return
        if isinstance(answer, Refused):
            log.warning("session %s: %s: %s", route.session_id, kind, answer)
        wait_ms = None
        if isinstance(answer, OutboundDelayed) and answer.due_at_ms is not None:
            wait_ms = max(0, answer.due_at_ms - self.wall_clock())
        self._fed(protocol.Recorded(self.clock(), route, record.more, wait_ms), kind)
