"""Jobs as a client sees them: starting one, a page of them, and the handle of one.  Spec: specs/job.md."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Protocol, TypeVar

import msgspec
from attrs import frozen

from tenure.commands import CancelJob, JobAsked, Register, RequestAbandon, Signal
from tenure.machines.job import How
from tenure.outcome import Refused
from tenure.queries import Command, Question
from tenure.questions.jobs import Emissions, JobItem, Jobs, JobsPage, JobStatus, LoadJob

from ...stores.base import Unavailable
from ...stores.errors import TenureError
from ..changes import SessionChanges, SessionListener
from ..clock import new_id
from ..errors import CommandRefused
from .definition import JobRequest, NewJob
from .work import json_of

__all__ = [
    "JobEvent",
    "JobHandle",
    "JobMethods",
    "JobNotCompleted",
    "JobNotEnded",
    "JobResult",
    "register",
]


A = TypeVar("A")
O = TypeVar("O")
V = TypeVar("V")

EVENTS_POLL_S = 0.2  # an event of a job is no change of its session
POLL_S = 3.0  # changes are reported; this is for clocks that are set back
CLIENT = "client"


class JobNotEnded(TimeoutError, TenureError):
    """A job has not ended in time.  `status`: as it was read last; None: the store has not answered yet."""

    def __init__(self, job_id: str, status: str | None, why: str = "") -> None:
        shown = "not known yet: the store has not answered" if status is None else f"is {status}"
        super().__init__(f"job {job_id}: {shown}{why and f' ({why})'}")
        self.job_id, self.status = job_id, status


class JobNotCompleted(TenureError):
    """A job has ended without an output.  `how` says how it ended, and `reason` why."""

    def __init__(self, job_id: str, how: How, reason: str) -> None:
        super().__init__(f"job {job_id}: {how.value}{reason and f' ({reason})'}")
        self.job_id, self.how, self.reason = job_id, how, reason


@frozen
class JobResult:
    """How a job ended, why, and what it returned; `output` is JSON as text, None unless it has completed."""

    job_id: str
    how: How
    reason: str
    output: str | None

    @property
    def value(self) -> Any:
        """What the job returned.  Raises JobNotCompleted."""
        if self.output is None:
            raise JobNotCompleted(self.job_id, self.how, self.reason)
        return msgspec.json.decode(self.output)


@frozen
class JobEvent:
    """An event that a job has emitted.  `body` is JSON as text."""

    seq: int
    type: str
    at_ms: int
    body: str

    @property
    def value(self) -> Any:
        """What the job has emitted."""
        return msgspec.json.decode(self.body)


class JobSource(Protocol):
    """The part of a client that a handle needs."""

    session_changes: SessionChanges

    async def execute(self, command: Command[V, O], /) -> O | Refused:
        """As Client.execute."""
        ...

    async def ask(self, question: Question[A], /) -> A:
        """As Client.ask."""
        ...


class JobHandle:
    """A job: reads its status, waits for its end, and asks it to end."""

    def __init__(self, source: JobSource, job_id: str) -> None:
        self._source, self.id = source, job_id

    def __repr__(self) -> str:
        return f"JobHandle({self.id!r})"

    async def status(self) -> JobItem | None:
        """Read the job; None if the store has none with this id."""
        return await self._source.ask(JobStatus(self.id))

    async def ended(self, timeout: float | None = None) -> JobResult:
        """Wait until the job has ended, however that is, and return how.

        After `timeout` seconds raises JobNotEnded, a TimeoutError.  Raises LookupError if the store has no such job.
        """
        changes, listener = self._source.session_changes, SessionListener()
        last: JobItem | None = None
        changes.subscribe(self.id, listener)
        try:
            async with asyncio.timeout(timeout) as bound:
                while True:
                    listener.woken.clear()
                    try:
                        last = await self.status()
                    except Unavailable:
                        await listener.wait(POLL_S)
                        continue
                    if last is None:
                        raise LookupError(f"no job {self.id}")
                    if last.job.open_since_ms is None:
                        return await self._result()
                    await listener.wait(POLL_S)
        except TimeoutError:
            if not bound.expired():
                raise
            status = None if last is None else last.status
            raise JobNotEnded(self.id, status, "" if last is None else last.why) from None
        finally:
            changes.unsubscribe(self.id, listener)

    async def _result(self) -> JobResult:
        loaded = await self._source.ask(LoadJob(self.id, limit=1))
        assert loaded is not None
        how = How(loaded.item.status)
        return JobResult(self.id, how, loaded.item.why, loaded.output)

    async def result(self, timeout: float | None = None) -> Any:
        """Wait until the job has ended, and return what it returned.  Raises JobNotCompleted, and what `ended` raises."""
        return (await self.ended(timeout)).value

    async def events(self, after: int = 0) -> AsyncIterator[JobEvent]:
        """Yield the events that the job emits, after number `after`, until the job has ended.

        `JobEvent.seq` of the last one is where another reader goes on.  Raises LookupError if the store has no such job.
        """
        changes, listener = self._source.session_changes, SessionListener()
        changes.subscribe(self.id, listener)
        try:
            while True:
                listener.woken.clear()
                item = await self.status()  # before the events: after its end there are no more
                if item is None:
                    raise LookupError(f"no job {self.id}")
                while page := await self._source.ask(Emissions(self.id, after)):
                    for row in page:
                        after = row.seq
                        yield JobEvent(row.seq, row.type, row.at_ms, row.body)
                if item.job.open_since_ms is None:
                    return
                await listener.wait(EVENTS_POLL_S)
        finally:
            changes.unsubscribe(self.id, listener)

    async def signal(self, name: str, value: Any = None, *, signal_id: str | None = None) -> int:
        """Tell the job something, and return the number of the signal among those of its name.  Raises CommandRefused.

        With a `signal_id` the call may be repeated.
        """
        body = json_of(f"signal {name}", value)
        answer = await self._source.execute(Signal(self.id, signal_id or new_id(), name, body))
        if isinstance(answer, Refused):
            raise CommandRefused(f"signal {name} of job {self.id}", answer)
        return answer.number

    async def cancel(self, by: str = CLIENT, *, command_id: str | None = None) -> JobAsked:
        """Ask the job to end.  One that is at work ends when its worker has ended it.  Raises CommandRefused."""
        return await self._ask("cancel", CancelJob(self.id, command_id or new_id(), by))

    async def abandon(
        self, by: str = CLIENT, reason: str = "", *, command_id: str | None = None
    ) -> JobAsked:
        """Give up a job whose owner is lost: nobody learns what it did.  Raises CommandRefused."""
        command = RequestAbandon(self.id, command_id or new_id(), by, reason)
        return await self._ask("abandon", command)

    async def _ask(self, what: str, command: Command[Any, JobAsked]) -> JobAsked:
        answer = await self._source.execute(command)
        if isinstance(answer, Refused):
            raise CommandRefused(f"{what} of job {self.id}", answer)
        return answer


def new_job(what: JobRequest, input: Any) -> NewJob:
    """Return the job to register.  Raises TypeError for what is none."""
    if not isinstance(what, JobRequest):
        raise TypeError(
            f"{what!r} is no job: decorate the function with @job, or use Process or ChildSession"
        )
    return what.new(input)


def register(
    job_id: str,
    new: NewJob,
    *,
    origin: str | None = None,
    wake_target: str | None = None,
    available_at_ms: int | None = None,
) -> Register:
    """Return the command that registers a job."""
    return Register(
        job_id, new.runner, new.input, new.disposition, origin=origin, wake_target=wake_target,
        retry=new.retry, available_at_ms=available_at_ms, event_types=new.event_types,
    )  # fmt: skip


class JobMethods:
    """Methods of a client about jobs."""

    session_changes: SessionChanges

    async def execute(self, command: Command[V, O], /) -> O | Refused:
        """As Client.execute."""
        raise NotImplementedError

    async def ask(self, question: Question[A], /) -> A:
        """As Client.ask."""
        raise NotImplementedError

    async def start_job(
        self,
        what: JobRequest,
        input: Any = None,
        *,
        job_id: str | None = None,
        origin: str | None = None,
        wake_target: str | None = None,
        available_at_ms: int | None = None,
    ) -> JobHandle:
        """Register a job, and return its handle.  A worker that has its runner takes it.

        With a `job_id` the call may be repeated: the same job is registered once.  `origin`: the session that it belongs to.
        `wake_target`: the session that its wakes go to.  Raises CommandRefused.
        """
        job_id = new_id() if job_id is None else job_id
        command = register(
            job_id, new_job(what, input), origin=origin, wake_target=wake_target,
            available_at_ms=available_at_ms,
        )  # fmt: skip
        answer = await self.execute(command)
        if isinstance(answer, Refused):
            raise CommandRefused(f"job {job_id}", answer)
        return JobHandle(self, job_id)

    def job(self, job_id: str) -> JobHandle:
        """Return the handle of a job."""
        return JobHandle(self, job_id)

    async def jobs(
        self,
        *,
        origin: str | None = None,
        left: bool = False,
        changed: bool = False,
        backwards: bool = False,
        after: str = "",
        limit: int = 256,
    ) -> JobsPage:
        """Return a page of jobs: those that have not ended, in the order of registration, unless another is asked for.

        `origin`: all of a session.  `left`: those that nobody knows to be at work.  `changed`: all, by their last change.
        `after`: `after` of the last page; its None says that it is the last one.
        """
        return await self.ask(Jobs(origin, left, changed, backwards, after, limit))
