"""A worker process for jobs that tests kill, stop and drain: `job_child.py STORE [TTL_MS] [NAMESPACE] [FOLDER]`.

It prints `ready`, and at the end what its drain has ended.  NAMESPACE, unless empty, replaces its pid namespace, as in a container.  With FOLDER it has an agent that starts a build there.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from tenure.replace import replace
from tenure_drivers.runtime import runtime as runtime_module
from tenure_drivers.runtime.jobs.definition import job
from tenure_drivers.runtime.jobs.process_job import Process, Processes
from tenure_drivers.runtime.jobs.work import Work
from tenure_drivers.runtime.process import local_process
from tenure_drivers.runtime.runtime import Runtime
from tenure_drivers.runtime.turn import Turn
from tenure_drivers.stores.registry import open_store


@job(disposition="rerunnable")
async def twice(work: Work, folder: str) -> list[str]:
    """Append a line in one step, then, in the first attempt, wait to be killed in the next one."""
    path = Path(folder)

    def write(name: str) -> str:
        with (path / "lines").open("a") as file:
            file.write(f"{name}\n")
        return name

    first = await work.step("first", write, "first")
    if work.attempt == 1:
        (path / "waits").touch()
        await asyncio.Event().wait()
    return [first, await work.step("second", write, "second")]


class Builder:
    """An agent that starts a build, and is woken by its end.  Its first attempt waits to be killed after the start."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def __call__(self, turn: Turn) -> str:
        with (self.folder / "said").open("a") as file:
            file.write(f"{turn.text}\n")
        if not turn.text.startswith("build"):
            return "noted"
        wait = 'while [ ! -e "$0/release" ]; do sleep 0.02; done'
        program = f'echo started >> "$0/starts"; {wait}; echo built >> "$0/builds"'
        build = Process(["sh", "-c", program, str(self.folder)], rerunnable=True)
        handle = await turn.start(build)
        if not (self.folder / "release").exists():
            (self.folder / "waits").touch()
            await asyncio.Event().wait()
        return handle.id


async def main() -> None:
    ttl_ms = int(sys.argv[2]) if sys.argv[2:] else 3_600_000
    if sys.argv[3:] and sys.argv[3]:
        mine = local_process()
        assert mine is not None
        there = replace(mine, pid_namespace=sys.argv[3])
        vars(runtime_module)["local_process"] = lambda: there
    store = open_store(sys.argv[1])
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.set)
    agent = Builder(Path(sys.argv[4])) if sys.argv[4:] else None
    runtime = Runtime(store, agent, jobs=[twice, Processes()], ttl_ms=ttl_ms)
    await runtime.start()
    print("ready", flush=True)
    await asked.wait()
    drained = await runtime.stop(100)
    print("drained", *drained.jobs_drained, flush=True)
    print("released", *drained.jobs_released, flush=True)
    await store.aclose()


if __name__ == "__main__":
    asyncio.run(main())
