"""The demo's worker processes: started, stopped, continued and killed as the plan says.

A fault waits until the store shows that its worker has a turn in progress.  Afterwards the store shows whether it hit:
a dead or stopped process that still holds a lease with a run was in the middle of a turn.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from attrs import define, field

from tenure.machines.lease import Held, Lease
from tenure.questions.core import LoadRun
from tenure.questions.history import AllSessions
from tenure.records import EntryKind, Session

from ..console.timeline.page import Life, Pause
from ..stores.base import Store, wall_clock_ms
from ..stores.sqlite.notify import lock_holder
from .plan import Fault, Kind, Stage
from .worker import DATABASE, LEDGER, NO_ROOM, TTL_MS, owner_id

__all__ = ["LOOK_S", "Fleet"]


LOOK_S: Final = 0.004
AIM_S: Final = 0.3  # wait for a turn in the planned stage; then accept any turn
FIND_S: Final = 8.0
DRAIN_S: Final = 5.0
PAUSE_S_MAX: Final = 4 * TTL_MS / 1000
MODULE: Final = "tenure_drivers.demo.worker"


@define(eq=False)
class Worker:
    """A named worker: one process after another."""

    name: str
    process: subprocess.Popen[bytes]
    born_ms: int
    stopped: bool = False
    targeted: bool = False
    death_recorded: bool = False

    @property
    def owner_id(self) -> str:
        return owner_id(self.name, self.process.pid)


@define(eq=False)
class Fleet:
    """All workers of a demo, and the faults done to them."""

    folder: Path
    store: Store
    arguments: Sequence[str]
    self_killing: bool = False  # workers also kill themselves
    workers: dict[str, Worker] = field(factory=dict)
    lives: list[Life] = field(factory=list)
    pauses: list[Pause] = field(factory=list)
    kills: int = 0
    injected: int = 0  # faults that were injected, or that found no turn
    finished: bool = False  # no work is left, so no fault can hit

    # -- processes

    def start(self, name: str) -> None:
        """Start a process for a worker."""
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", MODULE, str(self.folder), name, *self.arguments],
            stdin=subprocess.PIPE,  # end-of-file ends the worker when this process ends
            stdout=sys.stderr.fileno(),
            process_group=0,  # so that Ctrl-C reaches this process alone
        )
        self.workers[name] = Worker(name, process, wall_clock_ms())

    async def drain(self) -> None:
        """Ask all processes to end; kill those that do not end in time."""
        for worker in self.workers.values():
            _signal(worker, signal.SIGTERM)
            _signal(worker, signal.SIGCONT)
        deadline = time.monotonic() + DRAIN_S
        for worker in self.workers.values():
            while worker.process.poll() is None and time.monotonic() < deadline:
                await asyncio.sleep(LOOK_S)
            self._record_death(worker, killed=False)

    def kill_all(self) -> None:
        """Kill all processes."""
        for worker in self.workers.values():
            self._record_death(worker, killed=False)

    def _record_death(self, worker: Worker, *, killed: bool) -> None:
        if worker.death_recorded:
            return
        worker.death_recorded = True
        if worker.process.poll() is None:
            _signal(worker, signal.SIGKILL)
            worker.process.wait()
        assert worker.process.stdin is not None
        worker.process.stdin.close()
        life = Life(worker.name, worker.process.pid, worker.born_ms, wall_clock_ms(), killed)
        self.lives.append(life)

    def restart_crashed(self) -> None:
        """Restart workers that killed themselves at a fault point."""
        for name, worker in list(self.workers.items()):
            if (
                self.self_killing
                and not worker.targeted
                and worker.process.poll() == -signal.SIGKILL
            ):
                self._record_death(worker, killed=True)
                self.kills += 1
                self.start(name)

    def unexpected_end(self) -> str | None:
        """Return how a worker ended that was not killed, or None.  Raises OSError if it found the disk full."""
        for worker in self.workers.values():
            code = worker.process.poll()
            if self.self_killing and code == -signal.SIGKILL:
                continue
            if code == NO_ROOM:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.folder))
            if code is not None and not worker.targeted:
                return f"{worker.name} ended unexpectedly with exit code {code}"
        return None

    # -- faults

    async def inject(self, fault: Fault) -> None:
        """Carry out a fault.  Give up if no turn is in progress for FIND_S seconds."""
        deadline = time.monotonic() + FIND_S
        while not self.finished and time.monotonic() < deadline:
            worker = await self._aim(fault, deadline - FIND_S + AIM_S)
            if worker is None:
                continue
            worker.targeted = True
            try:
                if await (self._kill if fault.kind is Kind.KILL else self._pause)(worker, fault):
                    return
            finally:
                worker.targeted = False
        self.injected += 1

    async def _aim(self, fault: Fault, until: float) -> Worker | None:
        """Return a worker to hit, or None: the planned one in the planned stage; after `until`, any in any stage."""
        sessions = await self.store.ask(AllSessions())
        any_turn = time.monotonic() > until
        for name in [*self.workers] if any_turn else [fault.worker]:
            worker = self.workers[name]
            if worker.stopped or worker.targeted or worker.process.poll() is not None:
                continue
            if any(any_turn or _stage(s) is fault.stage for s in _held_by(worker, sessions)):
                return worker
        await asyncio.sleep(LOOK_S)
        return None

    async def _kill(self, worker: Worker, fault: Fault) -> bool:
        _signal(worker, signal.SIGKILL)
        worker.process.wait()
        self._record_death(worker, killed=True)
        hit = bool(_held_by(worker, await self.store.ask(AllSessions())))
        self.kills += hit
        self.injected += hit
        await asyncio.sleep(fault.restart_ms / 1000)
        self.start(worker.name)
        return hit

    async def _pause(self, worker: Worker, fault: Fault) -> bool:
        from_ms = wall_clock_ms()
        _signal(worker, signal.SIGSTOP)
        worker.stopped = True
        try:
            while not _stopped(worker.process):
                await asyncio.sleep(LOOK_S)
            held = _held_by(worker, await self.store.ask(AllSessions()))
            if not held or not await self._may_pause(worker, held):
                return False
            self.injected += 1
            await self._until_taken_over(held)
            self.pauses.append(Pause(worker.name, from_ms, wall_clock_ms()))
            return True
        finally:
            worker.stopped = False
            _signal(worker, signal.SIGCONT)

    async def _may_pause(self, worker: Worker, held: Sequence[Session]) -> bool:
        """Return False in two situations in which a pause proves nothing.  The worker then continues at once.

        In a transaction the worker holds the lock of the SQLite file, and all other workers wait.  After its last check of
        the deadline, nothing can stop its write to the ledger: a plain file checks no fence.
        """
        if lock_holder(self.folder / DATABASE) == worker.process.pid:
            return False
        written = set(_written(self.folder / LEDGER))
        for session in held:
            carried = await self.store.ask(LoadRun(session.session_id, session.lease_run or ""))
            if carried is None:
                continue
            inputs = {i.input_id for i in carried.inputs}
            started = any(entry.kind is EntryKind.START for entry in carried.entries)
            if started and not inputs <= written:
                return False
        return True

    async def _until_taken_over(self, held: Sequence[Session]) -> None:
        """Wait until each lease it held is lost and another worker works in one of the sessions."""
        before = {s.session_id: s.lease for s in held}
        deadline = time.monotonic() + PAUSE_S_MAX
        while time.monotonic() < deadline:
            now = {s.session_id: s.lease for s in await self.store.ask(AllSessions())}
            lost = all(_lease_id(now[at]) != _lease_id(lease) for at, lease in before.items())
            if lost and any(now[at].generation > lease.generation for at, lease in before.items()):
                return
            await asyncio.sleep(LOOK_S)


def _signal(worker: Worker, number: signal.Signals) -> None:
    if worker.process.returncode is None:  # otherwise its pid may belong to another process
        os.kill(worker.process.pid, number)


def _stopped(process: subprocess.Popen[bytes]) -> bool:
    """Return True if every thread of it has stopped, or it has ended."""
    if process.returncode is not None:
        return True
    pid, status = os.waitpid(process.pid, os.WUNTRACED | os.WNOHANG)
    if pid and not os.WIFSTOPPED(status):
        process.returncode = os.waitstatus_to_exitcode(status)
    return pid != 0


def _held_by(worker: Worker, sessions: Sequence[Session]) -> list[Session]:
    """Return the sessions in which this process has a turn in progress."""
    return [
        s
        for s in sessions
        if s.lease_run is not None
        and isinstance(s.lease, Held)
        and s.lease.owner.owner_id == worker.owner_id
    ]


def _lease_id(lease: Lease) -> str | None:
    return lease.lease_id if isinstance(lease, Held) else None


def _stage(session: Session) -> Stage:
    return Stage.THINKING if session.open_run is None else Stage.WRITING


def _written(ledger: Path) -> Iterator[str]:
    if ledger.exists():
        for line in ledger.read_text().splitlines():
            yield line.partition(" ")[0]
