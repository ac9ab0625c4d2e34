"""Jobs in real processes: workers that are killed, stopped and drained, and the children of their jobs."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from paths import SUPPORT
from pg_server import drop, needed, shared
from psycopg.conninfo import conninfo_to_dict

from tenure.commands import Start, Take, Taken
from tenure.machines.job import AbandonEvidence, Ended, How, Writer
from tenure.machines.lease import Evidence, LocalProcess, Owner
from tenure.replace import replace
from tenure_drivers.runtime.client import Client
from tenure_drivers.runtime.jobs.handle import JobHandle
from tenure_drivers.runtime.jobs.process_job import Process, Processes
from tenure_drivers.runtime.process import evidence, local_process
from tenure_drivers.runtime.runtime import Runtime
from tenure_drivers.stores.base import Store
from tenure_drivers.stores.registry import open_store

sys.path.append(str(SUPPORT))
from job_child import twice  # noqa: E402

SCRIPT = SUPPORT / "job_child.py"
WAIT_S = 60

pytestmark = pytest.mark.skipif(local_process() is None, reason="needs /proc")


@contextmanager
def worker(url: str, *more: str) -> Iterator[subprocess.Popen[str]]:
    """A worker process, ready to work; killed at the end, if it is not dead by then."""
    command = [sys.executable, str(SCRIPT), url, *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def over(url: str, body: Callable[[Store], Awaitable[None]]) -> None:
    async def run() -> None:
        store = open_store(url)
        try:
            await asyncio.wait_for(body(store), WAIT_S)
        finally:
            await store.aclose()

    asyncio.run(run())


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0.01)


async def until_status(handle: JobHandle, *wanted: str) -> None:
    while (item := await handle.status()) is None or item.status not in wanted:
        await asyncio.sleep(0.01)


def sleeper(folder: Path, *, rerunnable: bool = False) -> Process:
    """A process that writes its pid and sleeps."""
    program = f'echo $$ >> "{folder}/pids"; exec sleep 1000'
    return Process(["sh", "-c", program], rerunnable=rerunnable)


def pids(folder: Path) -> list[int]:
    path = folder / "pids"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def dead(process: LocalProcess) -> bool:
    return evidence(local_process(), process) is Evidence.DEAD


async def child_of(handle: JobHandle) -> LocalProcess:
    item = await handle.status()
    assert item is not None and item.job.process is not None
    return item.job.process


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:{tmp_path / 'store.db'}"


@pytest.fixture
def postgres_url() -> Iterator[str]:
    needed()
    schema = f"jobs_{os.getpid()}"
    found = conninfo_to_dict(shared())
    host = str(found["host"]).replace("/", "%2F")
    yield f"postgresql://{found['user']}@/{found['dbname']}?host={host}&tenure_schema={schema}"
    drop(shared(), schema)


def test_a_killed_worker_is_found_by_another_one_and_its_child_is_dead(
    url: str, tmp_path: Path
) -> None:
    async def body(store: Store) -> None:
        handle = await Client(store).start_job(sleeper(tmp_path), job_id="j")
        with worker(url) as first:
            await until(lambda: len(pids(tmp_path)) == 1)
            child = await child_of(handle)
            assert child.pid == pids(tmp_path)[0]
            first.send_signal(signal.SIGKILL)
            first.wait()
        async with Runtime(store, jobs=[Processes()]):
            result = await handle.ended()
        await until(lambda: dead(child))

        assert (result.how, result.reason) == (How.ABANDONED, "sweep")
        item = await handle.status()
        assert item is not None and isinstance(item.job.state, Ended)
        assert item.job.starter is not None and item.job.starter.process is not None
        assert item.job.starter.process.pid == first.pid
        assert item.job.state.evidence == AbandonEvidence(Writer.SWEEP, (item.job.starter,))
        assert len(pids(tmp_path)) == 1

    over(url, body)


@pytest.mark.postgres
def test_a_killed_worker_is_found_by_another_one_on_postgresql(
    postgres_url: str, tmp_path: Path
) -> None:
    test_a_killed_worker_is_found_by_another_one_and_its_child_is_dead(postgres_url, tmp_path)


def test_work_of_a_container_is_left_until_somebody_asks(url: str, tmp_path: Path) -> None:
    async def body(store: Store) -> None:
        handle = await Client(store).start_job(sleeper(tmp_path), job_id="j")
        with worker(url, "300", "pid:[elsewhere]") as first:
            await until(lambda: len(pids(tmp_path)) == 1)
            first.kill()
        async with Runtime(store, jobs=[Processes()]) as runtime:
            await until_status(handle, "left")
            page = await runtime.jobs(left=True)
            assert [(i.job.session_id, i.why) for i in page.items] == [("j", "left: silent_owner")]
            await handle.abandon("ann", "the container is gone")
            result = await handle.ended()

        assert (result.how, result.reason) == (How.ABANDONED, "ann the container is gone")
        assert len(pids(tmp_path)) == 1

    over(url, body)


def test_a_stopped_worker_that_wakes_is_fenced_and_ends_its_child(url: str, tmp_path: Path) -> None:
    async def body(store: Store) -> None:
        handle = await Client(store).start_job(sleeper(tmp_path, rerunnable=True), job_id="j")
        with worker(url, "300") as first:
            await until(lambda: len(pids(tmp_path)) == 1)
            old = await child_of(handle)
            first.send_signal(signal.SIGSTOP)
            async with Runtime(store, jobs=[Processes()]):
                await until(lambda: len(pids(tmp_path)) == 2)
                new = await child_of(handle)
                assert not dead(old)  # a stopped worker ends nothing
                first.send_signal(signal.SIGCONT)
                await until(lambda: dead(old))
                assert not dead(new)
                await handle.cancel()
                result = await handle.ended()
            await until(lambda: dead(new))

        assert result.how is How.CANCELLED

    over(url, body)


def test_a_stopped_worker_whose_work_was_abandoned_ends_its_child(url: str, tmp_path: Path) -> None:
    async def body(store: Store) -> None:
        handle = await Client(store).start_job(sleeper(tmp_path), job_id="j")
        with worker(url, "300") as first:
            await until(lambda: len(pids(tmp_path)) == 1)
            child = await child_of(handle)
            first.send_signal(signal.SIGSTOP)
            async with Runtime(store, jobs=[Processes()]):
                await until_status(handle, "left")
                await handle.abandon("ann")
                assert (await handle.ended()).how is How.ABANDONED
            first.send_signal(signal.SIGCONT)
            await until(lambda: dead(child))

    over(url, body)


def test_a_drained_worker_names_exactly_what_it_has_ended(url: str, tmp_path: Path) -> None:
    async def body(store: Store) -> None:
        client = Client(store)
        bound = [await client.start_job(sleeper(tmp_path), job_id=f"b{i}") for i in range(3)]
        again = await client.start_job(sleeper(tmp_path, rerunnable=True), job_id="r")
        done = await client.start_job(Process(["true"]), job_id="d")
        with worker(url) as first:
            await done.ended()
            await until(lambda: len(pids(tmp_path)) == 4)
            first.terminate()
            assert first.stdout is not None
            said = {line.split()[0]: set(line.split()[1:]) for line in first.stdout}

        assert said == {"drained": {"b0", "b1", "b2"}, "released": {"r"}}
        for handle in bound:
            result = await handle.ended()
            assert (result.how, result.reason) == (How.ABANDONED, "drain")
        item = await again.status()
        assert item is not None and item.status == "waiting"

    over(url, body)


def test_a_child_that_ignores_a_signal_is_killed_after_its_time(url: str, tmp_path: Path) -> None:
    program = f'trap "" TERM; echo $$ >> "{tmp_path}/pids"; while :; do sleep 0.05; done'

    async def body(store: Store) -> None:
        handle = await Client(store).start_job(Process(["sh", "-c", program]), job_id="j")
        with worker(url) as first:
            await until(lambda: len(pids(tmp_path)) == 1)
            child = await child_of(handle)
            first.terminate()
            assert first.stdout is not None
            assert first.stdout.readline() == "drained j\n"
            assert dead(child)

    over(url, body)


def test_a_pid_that_was_used_anew_is_a_dead_owner(url: str) -> None:
    async def body(store: Store) -> None:
        mine = local_process()
        assert mine is not None
        client = Client(store)
        handle = await client.start_job(Process(["true"]), job_id="j")
        owner = Owner("worker", "w-1", replace(mine, start="1"))
        taken = await client.execute(Take("j", "L1", owner, 3_600_000))
        assert isinstance(taken, Taken)
        await client.execute(Start("j", taken.fence))
        async with Runtime(store, jobs=[Processes()]):
            result = await handle.ended()

        assert (result.how, result.reason) == (How.ABANDONED, "sweep")

    over(url, body)


def test_a_rerunnable_job_of_a_killed_worker_goes_on_after_its_last_step(
    url: str, tmp_path: Path
) -> None:
    async def body(store: Store) -> None:
        handle = await Client(store).start_job(twice, str(tmp_path), job_id="j")
        with worker(url) as first:
            await until((tmp_path / "waits").exists)
            first.kill()
        with worker(url):
            assert await handle.result() == ["first", "second"]

        assert (tmp_path / "lines").read_text().split() == ["first", "second"]

    over(url, body)


def test_the_process_of_a_job_reports_its_status_and_its_output(url: str) -> None:
    async def body(store: Store) -> None:
        async with Runtime(store, jobs=[Processes()]) as runtime:
            good = await runtime.start_job(
                Process(["sh", "-c", "echo $GREETING"], {"GREETING": "hi"})
            )
            bad = await runtime.start_job(Process(["sh", "-c", "exit 3"]))
            none = await runtime.start_job(Process(["no-such-program"]))

            assert await good.result() == {"status": 0}
            assert (await bad.ended()).reason.endswith("exit status 3")
            assert "no such program" in (await none.ended()).reason

    over(url, body)


def test_an_agent_starts_a_build_once_and_is_woken_by_its_end_over_a_kill(
    url: str, tmp_path: Path
) -> None:
    more = ("3600000", "", str(tmp_path))

    async def body(store: Store) -> None:
        client = Client(store)
        receipt = await client.submit("ann", "build it")
        with worker(url, *more) as first:
            await until((tmp_path / "waits").exists)
            await until((tmp_path / "starts").exists)
            first.kill()
        (tmp_path / "release").touch()
        with worker(url, *more):
            job_id = await receipt.result(WAIT_S)
            assert job_id is not None
            assert await client.job(job_id).result() == {"status": 0}
            await until(lambda: "has ended" in (tmp_path / "said").read_text())
        assert [i.job.session_id for i in (await client.jobs(origin="ann")).items] == [job_id]

        woken = f"job {job_id} (process) has ended: completed"
        assert (tmp_path / "said").read_text().splitlines() == ["build it", "build it", woken]
        assert (tmp_path / "starts").read_text().split() == ["started", "started"]
        assert (tmp_path / "builds").read_text().split()[-1] == "built"

    over(url, body)
