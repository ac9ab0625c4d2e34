"""The asyncio host of a worker: looks, hints, timers and runners.  It decides nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Container, Sequence
from typing import Final

from tenure.kind import Kind
from tenure.machines.lease import Evidence, Held, LocalProcess
from tenure.outcome import Hint, Stepped
from tenure.records import Session
from tenure.runner.protocol import Drain, RunnerStopReason
from tenure.worker import protocol
from tenure.worker.limits import Keys, Rule, Usage
from tenure.worker.machine import step

from ..stores.base import Corrupt, SchemaMismatch, Store, wall_clock_ms
from .effect_loop import EffectLoop
from .jobs.host import JobHost
from .limits import Limit, keys_of
from .process import ProcessWatch, evidence
from .runner_host import RunnerHost
from .triggers.host import TriggerHost

__all__ = ["WorkerHost"]


log = logging.getLogger("tenure")
RECONNECT_S = 0.25
KINDS_MAX: Final = 8_192
SESSIONS: Final = frozenset((Kind.SESSION,))


class WorkerHost:
    """One worker.  `make` makes the runner of a session, a job or a trigger, beside at most so many others.

    `on_hint` receives every hint.  `limits`: for the sessions that are taken.  `serves`: what it takes.  `jobs_at_once`:
    how many of its slots jobs may have.  `on_failure` receives the error with which the worker stops for good.
    """

    def __init__(
        self,
        store: Store,
        make: Callable[[str, Kind, int], RunnerHost | JobHost | TriggerHost],
        *,
        slots: int,
        process: LocalProcess | None,
        clock: Callable[[], int],
        on_hint: Callable[[Hint], None] = lambda hint: None,
        limits: Sequence[Limit] = (),
        serves: Container[Kind] = SESSIONS,
        jobs_at_once: int | None = None,
        on_failure: Callable[[Exception], None] = lambda error: None,
    ) -> None:
        self.store, self.make, self.process, self.clock = store, make, process, clock
        self.on_hint, self.limits, self.serves = on_hint, limits, serves
        self.runners: dict[str, RunnerHost | JobHost | TriggerHost] = {}
        self._kinds: dict[str, Kind] = {}  # of what is due and is no session
        self.on_failure = on_failure
        self.finished = asyncio.Event()
        self.grace_ms = 0
        self._loop = asyncio.get_running_loop()
        self._machine: EffectLoop[protocol.State, protocol.Event, protocol.Effect] = EffectLoop(
            step, self._perform, protocol.TimerFired, clock=clock
        )
        rules = [limit.rule for limit in limits]
        if jobs_at_once is not None:
            rules.append(Rule(jobs_at_once))
        self._has_rules, self._job_keys = bool(rules), (*([None] * len(limits)), "job")
        usage = Usage(tuple(rules)) if rules else None
        self._machine.start(Stepped(protocol.Serving(slots, usage=usage), ""))
        self._page: tuple[int, str] | None = None
        self._holders = ProcessWatch(process, self._holder_ended)
        self._last_failure = ""  # of a look

    def start(self) -> None:
        """Look for work, and listen to the store's hints."""
        self._machine.spawn(self._listen())

    def drain(self, grace_ms: int) -> None:
        """Take no more sessions; running turns have `grace_ms` to end.  `finished` is set after the last one."""
        self.grace_ms = grace_ms
        self._machine.feed(protocol.Drain(self.clock()))

    async def stop(self) -> None:
        """Cancel everything that is left.  Nothing of it runs after this."""
        tasks = list(self._machine.tasks)
        self._machine.close()
        self._holders.close()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _perform(self, effect: protocol.Effect) -> None:
        match effect:
            case protocol.Take(session_id, others):
                self._machine.spawn(self._run(session_id, others))
            case protocol.Look():
                self._machine.spawn(self._look(effect))
            case protocol.SetTimer(id, at_ms):
                self._machine.set_only_timer(id, at_ms)
            case protocol.DrainRunners():
                for runner in list(self.runners.values()):
                    runner.feed(Drain(self.clock(), self.grace_ms))
            case protocol.Finish():
                self.finished.set()

    async def _run(self, session_id: str, others: int) -> None:
        runner = self.make(session_id, self._kinds.pop(session_id, Kind.SESSION), others)
        runner.watch = self._holders.watch
        self.runners[session_id] = runner
        reason, others_max = RunnerStopReason.BROKEN, 0
        try:
            if isinstance(self._machine.state, protocol.Draining):
                # The runner drops events before its first state, so the drain comes after its start.
                self._loop.call_soon(runner.feed, Drain(self.clock(), self.grace_ms))
            stop = await runner.run()
            reason = stop.reason
            if reason is RunnerStopReason.NEEDS_ROOM:
                others_max = stop.detail
        except Exception:
            log.exception("runner of session %s", session_id)
        finally:
            del self.runners[session_id]
            stopped = protocol.RunnerStopped(self.clock(), session_id, reason, others_max)
            self._machine.feed(stopped)

    # -- looking

    async def _look(self, look: protocol.Look) -> None:
        try:
            due = await self.store.due(look.limit)
            horizon = await self.store.horizon()
        except SchemaMismatch as error:  # it never works again with this release
            log.error("this worker stops: %s", error)
            self._machine.feed(protocol.LookFailed(self.clock(), look.id))
            self.on_failure(error)
            self.drain(0)
            return
        except Exception as error:
            self._log_once(f"cannot look for work: {error}")
            self._machine.feed(protocol.LookFailed(self.clock(), look.id))
            return
        dead: list[str] = []
        try:
            if look.thorough and self.process is not None:
                dead = await self._dead()
            self._last_failure = ""
        except Exception as error:  # no reason to leave what is due
            self._log_once(f"cannot look for dead holders: {error}")
        next_in = None if horizon is None else max(0, horizon - wall_clock_ms())
        found = [d.session_id for d in due if self._learn(d.session_id, d.kind)]
        ids = tuple(found + dead)
        full = len(due) >= look.limit
        keys = await self._keys(ids) if self._has_rules else ()
        looked = protocol.Looked(self.clock(), look.id, ids, full, next_in, keys, tuple(dead))
        self._machine.feed(looked)

    async def _keys(self, ids: tuple[str, ...]) -> tuple[Keys, ...]:
        """Return the keys of sessions and jobs.  If the frames cannot be read, they count as the first one."""
        sessions = tuple([i for i in ids if i not in self._kinds]) if self.limits else ()
        frames: tuple[str, ...] = ("",) * len(sessions)
        try:
            if sessions:
                frames = await self.store.ask(protocol.Frames(sessions))
        except Exception as error:
            self._log_once(f"cannot read the frames of sessions for the limits: {error}")
        known = dict(zip(sessions, frames, strict=True))
        return tuple([self._keys_of(i, known.get(i, "")) for i in ids])

    def _keys_of(self, session_id: str, frame: str) -> Keys:
        if self._kinds.get(session_id) is Kind.JOB:
            return self._job_keys
        if session_id in self._kinds:  # a trigger, which no limit is for
            return (None,) * len(self._job_keys)
        return (*keys_of(self.limits, session_id, frame), None)[: len(self._job_keys)]

    def _learn(self, session_id: str, kind: Kind | None) -> bool:
        """Note the kind of what is due.  Return whether this worker takes it."""
        kind = kind or Kind.SESSION
        if kind is not Kind.SESSION and kind in self.serves:
            self._kinds[session_id] = kind
            while (
                len(self._kinds) > KINDS_MAX
            ):  # others have taken the oldest, or a look finds them
                del self._kinds[next(iter(self._kinds))]
        return kind in self.serves

    def _log_once(self, failure: str) -> None:
        if failure != self._last_failure:  # looks are repeated
            log.warning("%s", failure)
        self._last_failure = failure

    async def _held(self) -> tuple[Session, ...]:
        """Read a page of leases.  A session that cannot be read is then in quarantine, so the page is read again."""
        unreadable: set[tuple[object, ...]] = set()
        while True:
            try:
                return await self.store.ask(protocol.HeldLeases(self._page))
            except Corrupt as error:
                if not error.key or error.key in unreadable:
                    raise
                unreadable.add(error.key)

    async def _dead(self) -> list[str]:
        """Return sessions whose holder is certainly dead: at first all of them, later those of one page."""
        dead: list[str] = []
        first = self._page is None
        while True:
            page = await self._held()
            for session in page:
                lease = session.lease
                if isinstance(lease, Held) and session.session_id not in self.runners:
                    if evidence(self.process, lease.owner.process) is Evidence.DEAD:
                        if self._learn(session.session_id, session.kind):
                            dead.append(session.session_id)
                    else:
                        self._holders.watch(lease.owner.process)
            if len(page) < protocol.LOOK_MAX:
                self._page = None
                return dead
            last = page[-1]
            assert last.lease_from_ms is not None
            self._page = (last.lease_from_ms, last.session_id)
            if not first:
                return dead

    def _holder_ended(self) -> None:
        self._page = None  # look at all leases
        self._machine.feed(protocol.HolderEnded(self.clock()))

    # -- hints

    async def _listen(self) -> None:
        while True:
            hints = self.store.hints()
            self._machine.feed(protocol.Connected(self.clock()))
            try:
                async for hint in hints:
                    self._receive(hint)
            except Exception as error:
                log.warning("lost the connection for hints: %s", error)
            await asyncio.sleep(RECONNECT_S)

    def _receive(self, hint: Hint) -> None:
        self.on_hint(hint)
        runner = self.runners.get(hint.session_id)
        if runner is not None:
            runner.hinted(hint)
        if hint.outbound and hint.due_at_ms is None:
            return  # it is for a relay
        if hint.session_id and not self._learn(hint.session_id, hint.kind):
            return
        at_once = hint.due_at_ms == 0
        if at_once and self._has_rules and hint.session_id and runner is None:
            self._machine.spawn(self._hint_with_keys(hint.session_id))
            return
        self._machine.feed(protocol.Hinted(self.clock(), hint.session_id, at_once))

    async def _hint_with_keys(self, session_id: str) -> None:
        (keys,) = await self._keys((session_id,))
        self._machine.feed(protocol.Hinted(self.clock(), session_id, True, keys))
