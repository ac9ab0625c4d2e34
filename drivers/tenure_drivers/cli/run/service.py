"""`tenure work`: a pool of workers that works on whatever is submitted, until a signal."""

from __future__ import annotations

import asyncio
from typing import Any

import click

from ...stores.base import Capability
from ...stores.url import redact
from ..exit import Exit, usage_error
from ..invoke import invoke
from ..options import FOR_WORKERS
from ..output import log
from ..retrying_store import opened, stop_if_unusable
from .command import (
    Job,
    Signals,
    drained,
    in_event_loop,
    stop_if_no_blobs,
    stop_if_unknown,
    worker_pool,
)

__all__ = ["work"]


@click.command()
@FOR_WORKERS
def work(**options: Any) -> None:
    """Work on what is submitted to a store, until Ctrl-C or SIGTERM.

    Other processes submit with tenure submit, tenure ask or Client.  Any number of these commands may work on one store,
    on any number of hosts.  A worker that dies is started again, and another worker resumes its turns.
    Agents are as for tenure run.

    \b
    Example:
      tenure work --store sqlite:agent.db --agent echo --workers 3

    \b
    Exit codes:
      0  Ctrl-C or SIGTERM: turns in progress had --grace seconds to end, and the next worker resumes those
         that did not; a second signal stops at once, with code 130 or 143
      2  invalid arguments
      4  store unavailable, unreadable, or of a newer release; or no worker could be started
    """
    job = Job(**options)
    invoke(lambda: in_event_loop(job, lambda: _work(job)))


async def _work(job: Job) -> int:
    stop_if_unknown(job)
    await stop_if_no_blobs(job)
    stop_if_unusable(job.store)
    async with opened(job.store, patience_s=job.patience_s, log_line=log) as store:
        if Capability.PROCESSES not in store.store.capabilities:
            raise usage_error(
                f"--store {redact(job.store)}: one process only may open this store, so nothing could be "
                "submitted meanwhile; use sqlite: or postgresql:, or tenure run"
            )
        workers = await worker_pool(job, store)
        signals = Signals(workers, job.grace_s, asyncio.Event())
        signals.install()
        many = "1 worker" if job.workers == 1 else f"{job.workers} workers"
        log(f"{many} on {redact(store.url)}, agent {job.agent}; Ctrl-C stops them")
        working = asyncio.create_task(workers.work())
        asked = asyncio.create_task(signals.asked.wait())
        try:
            await asyncio.wait({working, asked}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
        finally:
            asked.cancel()
            await drained(workers, working, job.grace_s)
    return Exit.OK
