"""Many worker processes on one PostgreSQL, killed and stopped at random; a primary that dies under them."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import pytest
from pg_server import Server, drop, needed, pair, shared
from psycopg.conninfo import conninfo_to_dict

from tenure.check.invariants import Rows, violations
from tenure.commands import Admit
from tenure.commands.fence import FenceOff
from tenure.outcome import Refused
from tenure.questions.history import AllSessions
from tenure.records import Session
from tenure_drivers.demo.driver import _new, read_ledger
from tenure_drivers.demo.plan import Plan, draw
from tenure_drivers.demo.report import Evidence, read_all, report_on
from tenure_drivers.demo.worker import LEDGER, SERVER
from tenure_drivers.stores.base import OutcomeUnknown, Store, Unavailable
from tenure_drivers.stores.registry import open_store

T = TypeVar("T")

pytestmark = [pytest.mark.postgres, pytest.mark.slow]
WORKER = "tenure_drivers.demo.worker"
WORKERS = 8
PATIENCE_S = 30


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="pgf", dir="/tmp") as name:
        yield Path(name)


async def insist(attempt: Callable[[], Awaitable[T]]) -> T:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return await attempt()
        except (Unavailable, OutcomeUnknown):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


class Fleet:
    """Processes in a folder; whoever dies is started again, unless it is over."""

    def __init__(self, folder: Path, url: str, seed: int) -> None:
        self.folder, self.seed = folder, seed
        (folder / SERVER).write_text(url)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.kills = self.pauses = 0
        self.dice = random.Random(seed)

    def start(self, name: str) -> None:
        before = self.processes.get(name)
        if before is not None and before.stdin is not None:
            before.stdin.close()
        self.processes[name] = subprocess.Popen(
            [sys.executable, "-m", WORKER, str(self.folder), name, str(self.seed), "ledger"],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def restart_the_dead(self) -> None:
        for name, process in self.processes.items():
            if process.poll() is not None:
                self.start(name)

    async def disturb(self) -> None:
        """Kill somebody, or stop somebody for longer than a lease."""
        name = self.dice.choice(list(self.processes))
        process = self.processes[name]
        if self.dice.random() < 0.5:
            self.kills += 1
            process.kill()
            await asyncio.to_thread(process.wait)
            self.start(name)
        else:
            self.pauses += 1
            process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(self.dice.uniform(0.2, 3.0))
            process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()
            assert process.stdin is not None
            process.stdin.close()


async def hand_over(store: Store, plan: Plan) -> None:
    for prompt in plan.prompts:
        answer = await insist(lambda: store.execute(Admit(prompt.session_id, (_new(prompt),))))  # noqa: B023
        assert not isinstance(answer, Refused), answer
        await asyncio.sleep(0.01)


async def until(store: Store, fleet: Fleet, plan: Plan, answered: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        fleet.restart_the_dead()
        sessions = await insist(lambda: store.ask(AllSessions()))
        done = sum(session.revision for session in sessions)
        idle = all(session.due_at_ms is None for session in sessions)
        if done >= answered and (answered < len(plan.prompts) or idle):
            return
        if time.monotonic() > deadline:
            left = [s for s in sessions if s.due_at_ms is not None]
            alive = {name: p.poll() for name, p in fleet.processes.items()}
            raise AssertionError(f"{done} of {answered} answered by {alive}: {left}")
        await asyncio.sleep(0.05)


async def all_is_well(store: Store, fleet: Fleet, plan: Plan) -> None:
    histories = await read_all(store)
    ledger = read_ledger(fleet.folder / LEDGER)
    prompts = len(plan.prompts)
    report = report_on(Evidence(prompts, histories, ledger, (), fleet.kills, fleet.pauses))
    doubled = report.repeated
    assert report.answered == prompts, report
    # A process that is stopped between its last look at the clock and its write to a file that checks no fence
    # writes it late: then, and only then, a line may stand there twice.
    assert doubled <= fleet.pauses, report
    assert (report.lost, report.missing, report.foreign, report.answered_twice) == (0, 0, 0, 0)
    assert (report.steps_twice, report.open_turns, report.out_of_order) == (0, 0, 0), report
    for session in await store.ask(AllSessions()):
        assert list(violations(await store.ask(Rows(session.session_id)))) == []


def url_of(dsn: str, schema: str) -> str:
    known: dict[str, Any] = conninfo_to_dict(dsn)
    host = str(known["host"]).replace("/", "%2F")
    return f"postgresql://{known['user']}@/{known['dbname']}?host={host}&tenure_schema={schema}"


def test_nothing_is_lost_when_workers_are_killed_and_stopped(folder: Path) -> None:
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    schema = f"fleet_{os.getpid()}"

    async def run() -> None:
        url, plan = url_of(shared(), schema), draw(seed, 160, 20, WORKERS)
        store, fleet = open_store(url), Fleet(folder, url, seed)
        try:
            for name in plan.workers:
                fleet.start(name)
            handing = asyncio.ensure_future(hand_over(store, plan))
            for _ in range(10):
                await fleet.disturb()
                await asyncio.sleep(fleet.dice.uniform(0, 0.5))
            await handing
            await until(store, fleet, plan, len(plan.prompts))
        finally:
            fleet.end()
        await all_is_well(store, fleet, plan)
        await store.aclose()

    try:
        asyncio.run(run())
    finally:
        drop(shared(), schema)


def children(parent: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(stat.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def fail_over(primary: Server, standby: Server) -> None:
    """As when a machine goes: nothing is said to anybody."""
    postmaster = primary.process
    assert postmaster is not None
    postmaster.send_signal(
        signal.SIGSTOP
    )  # it makes no more backends, which would serve on for a moment
    for pid in children(postmaster.pid):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    postmaster.kill()
    postmaster.wait()
    primary.process = None
    with psycopg.connect(standby.dsn, autocommit=True) as asking:
        asking.execute("SELECT pg_promote(true, 30)")


def test_nothing_is_lost_when_the_primary_dies_and_its_standby_is_promoted(folder: Path) -> None:
    needed()
    if os.environ.get("TENURE_TEST_POSTGRES"):
        pytest.skip("a server that is given is not ours to kill")
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")

    async def run(primary: Server, standby: Server) -> None:
        hosts = f"{primary.data},{standby.data}".replace("/", "%2F")
        url = (
            f"postgresql://tenure@/postgres?host={hosts}&target_session_attrs=read-write"
            "&connect_timeout=5"
        )
        plan = draw(seed, 100, 12, 4)
        store, fleet = open_store(url), Fleet(folder, url, seed)
        try:
            for name in plan.workers:
                fleet.start(name)
            handing = asyncio.ensure_future(hand_over(store, plan))
            await until(store, fleet, plan, 20)
            await asyncio.to_thread(fail_over, primary, standby)
            await handing
            await until(store, fleet, plan, len(plan.prompts))
        finally:
            fleet.end()
        await all_is_well(store, fleet, plan)

        before = {s.session_id: s.lease.generation for s in await store.ask(AllSessions())}
        for name in before:
            await store.execute(FenceOff(name, "after", 1_000))
        after = [r for r in await store.dump() if isinstance(r, Session)]
        assert {s.session_id: s.lease.generation - 1_000 for s in after} == before
        await store.aclose()

    with pair() as (primary, standby):
        asyncio.run(run(primary, standby))
