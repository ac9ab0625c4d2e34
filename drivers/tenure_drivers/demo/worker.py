"""A worker process of the demo: a Runtime with an agent, and a log of its leases and refused writes.

python -m tenure_drivers.demo.worker FOLDER NAME SEED AGENT
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

from tenure.commands import Acquire, Begin
from tenure.machines.lease import Fence
from tenure.outcome import Decided, Refusal, Refused
from tenure.queries import Command

from ..runtime.errors import StepOutcomeUnknown
from ..runtime.runtime import Runtime
from ..runtime.steps import Report
from ..runtime.turn import Turn
from ..runtime.versions import Agent
from ..stores.base import Store, Unavailable, wall_clock_ms
from ..stores.registry import open_store

__all__ = ["AGENTS", "DATABASE", "LEDGER", "NO_ROOM", "SERVER", "TTL_MS", "owner_id", "store_in"]


A = TypeVar("A")
O = TypeVar("O")
V = TypeVar("V")

DATABASE: Final = "demo.db"
SERVER: Final = (
    "store.url"  # a file and not an argument: all users can read the arguments of a process
)
LEDGER: Final = "ledger.txt"
TTL_MS: Final = 1_000
SESSIONS_AT_ONCE: Final = 8
NO_ROOM: Final = 28  # exit code of a worker that found the disk full
ROOM_MIN: Final = 64 * 1024  # bytes; with less, the disk is full
ANSWER_DELAY_MS: Final = (30, 220)
REPORT_DELAY_MS: Final = (20, 120)


class RecordingStore:
    """A store that logs which leases its process asks for, and which of its writes were refused as FENCED.

    The line is written before the command is sent.  So the logs name the owner of each lease in the database, even if
    the process is killed.
    """

    def __init__(
        self,
        store: Store,
        log: Path,
        before: Callable[[Command[Any, Any]], None] = lambda command: None,
    ) -> None:
        self._store = store
        self.durability, self.capabilities = store.durability, store.capabilities
        self.ask, self.due, self.horizon, self.hints = (
            store.ask, store.due, store.horizon, store.hints,
        )  # fmt: skip
        self.quarantined, self.readmit = store.quarantined, store.readmit
        self.dump, self.aclose = store.dump, store.aclose
        self._before, self._path = before, log
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def record(self, what: str, command: Command[Any, Any], **more: Any) -> None:
        """Append a line to the log."""
        line = {"at_ms": wall_clock_ms(), "pid": os.getpid(), "what": what}
        line |= {"session_id": command.session_id, **more}
        with ending_if_full(self._path):
            os.write(self._log, (json.dumps(line) + "\n").encode())

    async def execute(self, command: Command[V, O]) -> O | Refused:
        """Execute a command as the store does, and log it."""
        with ending_if_full(self._path):
            self._before_sending(command)
            answer = await self._store.execute(command)
        return self._after_answer(command, answer)

    async def decide(self, command: Command[V, O]) -> Decided[O] | Refused:
        """Execute a command as the store does, and log it."""
        with ending_if_full(self._path):
            self._before_sending(command)
            answer = await self._store.decide(command)
        return self._after_answer(command, answer)

    def _before_sending(self, command: Command[Any, Any]) -> None:
        self._before(command)
        if isinstance(command, Begin | Acquire):
            self.record("asks", command, lease_id=command.lease_id)

    def _after_answer(self, command: Command[Any, Any], answer: A) -> A:
        if isinstance(answer, Refused) and answer.reason is Refusal.FENCED:
            fence: Fence = command.fence  # type: ignore[attr-defined]
            name = type(command).__name__
            self.record("fenced", command, name=name, generation=fence.generation)
        return answer


class Ledger:
    """A file outside the store: appends one fsynced line per call, without checking whether the line exists.

    So a step that runs twice leaves two lines, which the report counts.
    """

    def __init__(self, path: Path, seed: str) -> None:
        self.path = path
        self.seed = seed

    async def append(self, input_id: str, text: str) -> str:
        """Append a line, then wait a moment before the step reports it."""
        self.write(input_id, text)
        await self.delay_report(input_id)
        return "written"

    def write(self, input_id: str, text: str) -> None:
        """Append a line and fsync it."""
        with ending_if_full(self.path):
            fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                os.write(fd, f"{input_id} {text}\n".encode())
                os.fsync(fd)
            finally:
                os.close(fd)

    async def delay_report(self, input_id: str) -> None:
        """Wait for a random time between an effect and its report."""
        await self.pause(input_id, REPORT_DELAY_MS)

    async def pause(self, input_id: str, between_ms: tuple[int, int]) -> None:
        """Wait for a random time, which the seed and the input determine."""
        dice = random.Random(f"{self.seed} {input_id} {between_ms}")
        await asyncio.sleep(dice.uniform(*between_ms) / 1000)

    def look(self, input_id: str) -> Report | None:
        """Probe: return a report if the line was written before a crash, otherwise None."""
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        found = any(line.partition(" ")[0] == input_id for line in lines)
        return Report("found") if found else None


def with_once_step(ledger: Ledger) -> Agent:
    """Return an agent that writes to the ledger in a once step."""

    async def agent(turn: Turn) -> str:
        (said,) = turn.inputs
        await ledger.pause(said.input_id, ANSWER_DELAY_MS)
        write = (ledger.append, said.input_id, said.payload)
        while True:
            try:
                await turn.once("append", *write, probe=lambda key: ledger.look(said.input_id))
                return f"{said.input_id}: {said.payload} I wrote it down."
            except StepOutcomeUnknown:
                # The step was started but not done, and its lease is lost, so it will not be done.  The next use of
                # the name is a new step.
                continue

    return agent


def without_once_step(ledger: Ledger) -> Agent:
    """Return an agent without a once step: after a crash it writes its line again."""

    async def agent(turn: Turn) -> str:
        (said,) = turn.inputs
        await ledger.append(said.input_id, said.payload)
        await ledger.pause(said.input_id, ANSWER_DELAY_MS)
        return f"{said.input_id}: {said.payload} I wrote it down."

    return agent


AGENTS: Final[dict[str, Callable[[Ledger], Agent]]] = {
    "ledger": with_once_step,
    "without-once": without_once_step,
}


def made_of(
    agent: str, folder: Path, seed: str
) -> tuple[Agent, Callable[[Command[Any, Any]], None]]:
    """Return the agent, and a function that is called before a command is sent."""
    ledger = Ledger(folder / LEDGER, seed)
    if agent in AGENTS:
        return AGENTS[agent](ledger), lambda command: None
    from .chat import FAULTS, FaultPoints, chat

    fault_points = FaultPoints(folder / FAULTS, seed)
    return chat(agent, ledger, fault_points, seed), fault_points.before


# -- the store


def store_in(folder: Path) -> Store:
    """Open the store of the demo: an SQLite file in its folder, or the server that a file there names."""
    try:
        url = (folder / SERVER).read_text(encoding="utf-8")
    except FileNotFoundError:
        return open_store(f"sqlite:{folder / DATABASE}")
    return open_store(url, idle_ms=TTL_MS)


# -- the process


@contextlib.contextmanager
def ending_if_full(path: Path) -> Iterator[None]:
    """End this process with NO_ROOM if something fails while the disk is full: a retry would fail until the demo ends."""
    try:
        yield
    except (OSError, Unavailable):
        if shutil.disk_usage(path.parent).free < ROOM_MIN:
            os._exit(NO_ROOM)
        raise


def owner_id(name: str, pid: int) -> str:
    """Return the owner id of one process of a worker."""
    return f"{name}.{pid}"


async def work(folder: Path, name: str, seed: str, agent: str) -> None:
    """Work until SIGTERM; exit at once when the parent process ends, which closes standard input."""
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, asked.set)
    loop.add_reader(
        sys.stdin.fileno(), os._exit, 1
    )  # readable means end-of-file: the parent never writes
    made, before = made_of(agent, folder, seed)
    log = folder / f"{name}.log"
    with ending_if_full(log):
        store = RecordingStore(store_in(folder), log, before)
    try:
        runtime = Runtime(
            store,
            made,
            owner_id=owner_id(name, os.getpid()),
            sessions_at_once=SESSIONS_AT_ONCE,
            ttl_ms=TTL_MS,
        )
        async with runtime:
            await asked.wait()
            await runtime.drain()
    finally:
        await store.aclose()


if __name__ == "__main__":
    folder, name, seed, agent = sys.argv[1:]
    logging.getLogger("tenure.turn").setLevel(logging.ERROR)  # the demo stops processes on purpose
    asyncio.run(work(Path(folder), name, seed, agent))
