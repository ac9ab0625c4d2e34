"""One worker: a runtime with a store and an agent, in its own process or in that of the command line."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any, Final

from ...agents.job_registry import UnknownJob, find_jobs
from ...agents.registry import UnknownAgent, find_agent
from ...blobs.registry import open_blobs
from ...runtime.runtime import Runtime
from ...stores.base import Store
from ..exit import CliExit, Exit, store_lost
from ..output import log
from ..retrying_store import opened
from .agent_exit import end_without_threads, report_exits
from .parent_watch import ParentWatch
from .patient_store import PatientStore
from .worker_pool import BLOBS, STORE

__all__ = ["InProcessWorker"]


SESSIONS_AT_ONCE: Final = 32
LOST_S: Final = (
    1.0  # for turns to end when the store is lost: nothing that they write would be kept
)


class InProcessWorker:
    """A worker in the process of the command line, for a store that supports one process only."""

    def __init__(
        self,
        url: str,
        store: Store,
        agent: str,
        *,
        patience_s: float,
        grace_s: float,
        blobs_url: str | None = None,
        jobs: Sequence[str] = (),
    ) -> None:
        """`jobs`: names of definitions.  `blobs_url`: the store of the bytes of attachments.  Raises ValueError if it is wrong."""
        self._url = url
        self._blobs = None if blobs_url is None else open_blobs(blobs_url, url)
        self._grace_ms = round(grace_s * 1000)
        self._store = PatientStore(store, patience_s)
        self._runtime = Runtime(
            self._store, find_agent(agent), owner_id=owner(), sessions_at_once=SESSIONS_AT_ONCE,
            blobs=self._blobs, jobs=find_jobs(jobs),
        )  # fmt: skip
        self._drained = asyncio.Event()

    async def work(self) -> None:
        """Work until drained.  Raises CliExit if the store is unavailable for longer than the patience."""
        try:
            await self._work_until_lost()
        finally:
            if self._blobs is not None:
                await self._blobs.aclose()

    async def _work_until_lost(self) -> None:
        lost = self._store.lost
        working = asyncio.create_task(self._work())
        either: set[asyncio.Future[Any]] = {working, lost}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            working.cancel()
            await asyncio.wait({working})
            await self._runtime.stop(patience_s=LOST_S)
            raise store_lost(self._url, lost.result())
        working.result()

    async def _work(self) -> None:
        await self._runtime.start()
        await self._drained.wait()
        await self._runtime.drain(self._grace_ms)
        await self._runtime.stop()

    def drain(self) -> None:
        self._drained.set()

    def kill(self) -> None:
        self._drained.set()


def owner() -> str:
    return f"{socket.gethostname().replace(' ', '-')[:100]}:{os.getpid()}"


async def work(
    store_url: str,
    blobs_url: str | None,
    agent: str,
    patience_s: float,
    grace_s: float,
    jobs: Sequence[str],
    parent_watch: ParentWatch,
) -> None:
    drained = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, drained.set)
    async with opened(store_url, patience_s=patience_s) as store:
        companion = InProcessWorker(
            store.url, store.store, agent, patience_s=patience_s, grace_s=grace_s,
            blobs_url=blobs_url, jobs=jobs,
        )  # fmt: skip
        working = asyncio.create_task(companion.work())
        parent_watch.send("ready")
        alive = asyncio.create_task(parent_watch.say_alive())
        asked = [asyncio.create_task(w) for w in (drained.wait(), parent_watch.drain_asked())]
        await asyncio.wait({working, *asked}, return_when=asyncio.FIRST_COMPLETED)
        companion.drain()
        await working
        for task in (alive, *asked):
            task.cancel()


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="tenure worker")
    parser.add_argument("parent", type=int)
    parser.add_argument("--agent", required=True)
    parser.add_argument("--patience", type=float, required=True)
    parser.add_argument("--grace", type=float, required=True)
    parser.add_argument("--jobs", action="append", default=[])
    options = parser.parse_args(arguments)
    parent_watch = ParentWatch(options.parent)
    logging.basicConfig(
        level=logging.WARNING, format=f"worker {os.getpid()}: %(message)s", stream=sys.stderr
    )
    try:
        # code of the agent must not find passwords in them
        url, blobs = os.environ.pop(STORE), os.environ.pop(BLOBS, None)
        working = work(
            url, blobs, options.agent, options.patience, options.grace, options.jobs, parent_watch
        )
        report_exits(parent_watch.send)
        asyncio.run(working)
        end_without_threads(Exit.OK, lambda what: log(f"worker {os.getpid()}: {what}"))
        return Exit.OK
    except CliExit as stop:
        parent_watch.send("; ".join(stop.lines))
        return stop.code
    except UnknownAgent as error:
        parent_watch.send(f"--agent: {error}")
        return Exit.UNUSABLE
    except UnknownJob as error:
        parent_watch.send(f"--jobs: {error}")
        return Exit.UNUSABLE
    except Exception as error:
        log(f"worker {os.getpid()}: {type(error).__name__}: {error}")
        parent_watch.send(f"{type(error).__name__}: {error}")
        return 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
