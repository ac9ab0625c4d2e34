"""`tenure run`: process a file of prompts with a pool of workers until every prompt has ended."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, Final, Protocol

from attrs import define, field, frozen

from ...agents.job_registry import UnknownJob, find_jobs
from ...agents.registry import UnknownAgent, find_agent
from ...blobs.registry import open_blobs
from ...redaction import without_secrets
from ...runtime.changes import SessionChanges
from ...runtime.client import Client
from ...stores.base import Capability, Unavailable, Unusable, wall_clock_ms
from ...stores.url import sqlite_path
from ..exit import CliExit, Exit, UnreadableSession, store_lost, usage_error
from ..input_file import stop_if_not_text
from ..limits import FILES_MIN, FILES_PER_WORKER, raise_limit_of_open_files
from ..output import Bar, answers_apart, log
from ..retrying_store import RetryingStore, opened, stop_if_unusable
from . import validation
from .admission import Admission, by_session, each_session
from .agent_exit import end_without_threads, exit_now, report_exits
from .input_watcher import FileInput, InputWatcher
from .progress_report import Report
from .prompt_file import BadLine, PromptLine, parse
from .worker_pool import WorkerPool

__all__ = ["Job", "Signals", "drained", "in_event_loop", "main", "stop_if_no_blobs", "worker_pool"]


VALIDATED_AT_ONCE: Final = 4
SHOWN_BAD_MAX: Final = 1000
POLL_S: Final = 0.25  # for changes without a hint
DRAIN_S: Final = 10.0


@frozen
class Job:
    store: str
    agent: str
    file: str = "-"
    workers: int = 1
    ordered: bool = True
    name: str = ""
    blobs: str | None = None
    jobs: tuple[str, ...] = ()
    wait: bool = False
    patience_s: float = 30.0
    grace_s: float = 30.0


class Workers(Protocol):
    async def work(self) -> None: ...

    def drain(self) -> None: ...

    def kill(self) -> None: ...


# -- the file


def read_file(name: str) -> bytes:
    shown = "standard input" if name == "-" else name
    try:
        content = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        why = "closed" if error.errno == errno.EBADF else error.strerror or error
        raise usage_error(f"{shown}: {why}") from error
    if not content.strip():
        raise usage_error(f"{shown} is empty: a JSON line for each prompt is expected")
    stop_if_not_text(shown, content)
    return content


async def check_shapes(content: bytes, name: str) -> tuple[list[PromptLine], list[BadLine]]:
    """Parse the file and check what needs no store; return the good lines and the bad ones."""
    lines, bad = parse(content, name)
    for session in by_session(lines).values():
        bad += await validation.illegal_lines(session)
    wrong = {b.number for b in bad}
    return [line for line in lines if line.number not in wrong], bad


async def check_against(store: RetryingStore, lines: list[PromptLine]) -> list[BadLine]:
    """Find the lines that this store would refuse."""
    sessions, bad = by_session(lines), list[BadLine]()

    async def check(session: str) -> None:
        with contextlib.suppress(UnreadableSession):  # reported when it is admitted
            bad.extend(
                await validation.refused_lines(sessions[session], store.ask, wall_clock_ms())
            )

    await each_session(sessions, check, VALIDATED_AT_ONCE)
    return bad


def stop_if_bad(bad: list[BadLine]) -> None:
    if not bad:
        return
    said = [str(b) for b in sorted(bad, key=lambda b: b.number)]
    if len(said) > SHOWN_BAD_MAX:
        said = [*said[:SHOWN_BAD_MAX], f"and {len(said) - SHOWN_BAD_MAX} more"]
    lines = "1 bad line" if len(bad) == 1 else f"{len(bad)} bad lines"
    raise usage_error(*said, f"{lines}; nothing was admitted")


async def stop_if_no_blobs(job: Job) -> None:
    """Raise a CliExit if the store of bytes has a wrong URL or cannot be opened."""
    if job.blobs is None:
        return
    try:
        await open_blobs(job.blobs, job.store).aclose()
    except ValueError as error:
        raise usage_error(f"--blobs: {error}") from error
    except (Unavailable, Unusable) as error:
        raise store_lost(without_secrets(job.blobs), error) from error


# -- the work


@define(eq=False)
class Signals:
    """Handles SIGINT and SIGTERM: the first drains the workers, the second kills them and exits."""

    workers: Workers
    grace_s: float
    asked: asyncio.Event
    number: int = 0  # of the first signal
    loop: asyncio.AbstractEventLoop = field(init=False)

    def install(self) -> None:
        """Handle signals between any two instructions: an agent in this process may block the event loop."""
        self.loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._received)

    def _received(self, number: int, frame: object) -> None:
        if self.number:
            self._stop_at_once(number)
        self.number = number
        text = (
            f"{signal.Signals(number).name}: turns in progress have {self.grace_s:g} s to finish; "
            "send it again to stop at once\n"
        )
        with contextlib.suppress(OSError):
            # Not through sys.stderr, which may be in the middle of a write.
            os.write(2, text.encode())
        self.loop.call_soon_threadsafe(self.asked.set)
        late = threading.Timer(stop_s(self.grace_s), self._stop_at_once, (number,))
        late.daemon = True
        late.start()

    def _stop_at_once(self, number: int) -> None:
        self.workers.kill()
        exit_now(128 + number)


def stop_s(grace_s: float) -> float:
    """Return how long workers may take to stop: a turn has the grace period to finish, and again to be interrupted."""
    return 2 * grace_s + DRAIN_S


def stop_if_unknown(job: Job) -> None:
    """Exit if there is no such agent, or no such job."""
    try:
        find_agent(job.agent)
    except UnknownAgent as error:
        raise usage_error(f"--agent: {error}") from error
    try:
        find_jobs(job.jobs)
    except UnknownJob as error:
        raise usage_error(f"--jobs: {error}") from error


async def run(job: Job, content: bytes) -> int:
    lines, bad = await check_shapes(content, job.name)
    stop_if_unknown(job)
    await stop_if_no_blobs(job)
    stop_if_unusable(job.store)
    path = sqlite_path(job.store)
    if path is not None and not path.exists():
        stop_if_bad(
            bad
        )  # no store exists, so there is nothing to check against, and none is created
    async with opened(job.store, patience_s=job.patience_s, log_line=log) as store:
        stop_if_bad(bad + await check_against(store, lines))
        return await _work(job, store, [FileInput(line) for line in lines])


async def _work(job: Job, store: RetryingStore, rows: list[FileInput]) -> int:
    workers = await worker_pool(job, store)
    signals = Signals(workers, job.grace_s, asyncio.Event())
    signals.install()
    bar = Bar("prompts", len(rows))
    client = Client(store, changes=SessionChanges(store.store, poll_s=POLL_S, poll_s_max=POLL_S))
    admission: Admission | None = None
    try:
        policy = validation.prompt_policy(ordered=job.ordered)
        watch = InputWatcher(store, client.session_changes, wall_clock_ms)
        admission = Admission(client, policy, rows, watch.follow)
        report = Report(rows, admission.count, bar)
        watch.report = report.show
        drained = await _until_settled(job, admission, watch, workers, signals)
        await report.show()
        bar.close()
        if not drained:
            report.name_the_others()
        return 128 + signals.number if drained else report.code()
    finally:
        bar.close()
        await client.session_changes.stop()
        if admission is not None:
            log(str(admission.count))


async def worker_pool(job: Job, store: RetryingStore) -> Workers:
    if Capability.PROCESSES in store.store.capabilities:
        arguments = ["--agent", job.agent, "--patience", str(job.patience_s)]
        arguments += ["--grace", str(job.grace_s)]
        arguments += [word for name in job.jobs for word in ("--jobs", name)]
        return WorkerPool(job.store, arguments, job.workers, log_line=log, blobs_url=job.blobs)
    if job.workers > 1:
        raise usage_error(
            f"--workers {job.workers}: the {job.store} store supports one process only"
        )
    from .worker_process import InProcessWorker

    report_exits(lambda what: log(f"tenure run: {what}; the next run resumes what is unfinished"))
    return InProcessWorker(
        store.url, store.store, job.agent, patience_s=job.patience_s, grace_s=job.grace_s,
        blobs_url=job.blobs, jobs=job.jobs,
    )  # fmt: skip


async def _until_settled(
    job: Job, admission: Admission, watch: InputWatcher, workers: Workers, signals: Signals
) -> bool:
    """Return True if a signal drained the workers.  Raises the CliExit of the first failure."""

    async def admit() -> None:
        await admission.run()
        watch.complete()

    working = asyncio.create_task(workers.work())
    try:
        async with (
            _background(admit()) as admitting,
            _background(watch.until_settled(wait=job.wait)) as watching,
            _background(signals.asked.wait()) as asked,
        ):
            await _first(working, admitting, watching, asked)
    finally:
        await drained(workers, working, job.grace_s)
    if signals.asked.is_set():
        await watch.look_at_all()
        return True
    return False


async def drained(workers: Workers, working: asyncio.Task[None], grace_s: float) -> None:
    """Drain the workers and wait for them.  Kill those that do not stop; after a failure, after DRAIN_S seconds."""
    failing = sys.exc_info()[0] is not None
    workers.drain()
    timeout_s = DRAIN_S if failing else stop_s(grace_s)
    done, _ = await asyncio.wait({working}, timeout=timeout_s)
    if not done:
        log("the workers do not stop: they are killed, and the next run resumes what is unfinished")
        workers.kill()
        done, _ = await asyncio.wait({working}, timeout=DRAIN_S)
    if not done:  # code of the agent in this process swallows its cancellation
        exit_now(Exit.UNFINISHED)
    if not failing:
        working.result()


async def _first(
    working: asyncio.Task[Any],
    admitting: asyncio.Task[Any],
    watching: asyncio.Task[Any],
    asked: asyncio.Task[Any],
) -> None:
    """Wait until all inputs are settled or a signal came.  Raises the first failure."""
    pending = {working, admitting, watching, asked}
    while not (watching.done() or asked.done()):
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()


@contextlib.asynccontextmanager
async def _background(work: Coroutine[Any, Any, Any]) -> AsyncIterator[asyncio.Task[Any]]:
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task


def in_event_loop(job: Job, body: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Run a coroutine that has imported the agent, and return its exit code; threads of the agent do not delay the end."""
    raise_limit_of_open_files(FILES_MIN + FILES_PER_WORKER * job.workers)
    code = int(Exit.UNFINISHED)
    try:
        with answers_apart():  # agents may print, and start programs that do
            code = asyncio.run(body())
        return code
    except CliExit as stop:
        code = stop.code
        raise
    finally:
        end_without_threads(code, log)


def main(job: Job) -> int:
    return in_event_loop(job, lambda: run(job, read_file(job.file)))
