"""The work of a job: the object through which its code runs steps, emits, waits and finds out that it has to end.

Spec: specs/job-runner.md.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

import msgspec

from tenure.commands import NewEntry
from tenure.job_runner.protocol import (
    AwaitSignal,
    BeginWork,
    EmitEvent,
    MayGoOn,
    RecordEntries,
    StartWork,
    WorkReply,
    WorkRequest,
)
from tenure.machines.lease import LocalProcess
from tenure.outcome import Refusal, Refused
from tenure.records import EntryKind
from tenure.steps import effect_id_of, idempotency_key, latest_entries, noted_versions

from ...stores.base import Store
from ..errors import Cancelled, CommandRefused, IllegalResult, IllegalWrite, LeaseLost, Parked
from ..json_values import find_not_json
from ..step_calls import Probe, Steps
from ..steps import Passes
from .host import JobHost

__all__ = ["BlockingWork", "Work", "json_of"]


T = TypeVar("T")

TURN: Final = 1  # of all entries of a job


def json_of(what: str, value: Any) -> str:
    """Return a value as JSON.  Raises IllegalResult if it is none."""
    try:
        text = msgspec.json.encode(value).decode()
    except Exception as error:
        raise IllegalResult(f"{what}: {type(value).__name__} is not JSON: {error}") from error
    if (found := find_not_json(value, text)) is not None:
        raise IllegalResult(f"{what}: {found} is not JSON")
    return text


class Work(Steps):
    """The work of a job, as one attempt has it: each attempt gets an object of its own.

    `input` is what the job was registered with.  A rerunnable job runs from its beginning after a crash: so every attempt
    must ask for the steps of one name, for its events and for its signals in the same order.

    A method that asks the runner raises Cancelled if the job has to end, and LeaseLost if it belongs to another owner.
    """

    def __init__(self, host: JobHost, effect: StartWork) -> None:
        loaded = effect.loaded
        self._host, self._work_id = host, effect.id
        self.id: str = effect.fence.session_id
        self.job = loaded.job
        self.runner: str = loaded.job.runner
        self.origin: str | None = loaded.job.origin  # the session that has started it
        self.attempt: int = loaded.job.attempts + 1
        self.cancelled = False  # the work has to end
        self.stop_reply: WorkReply | None = None  # the reason for that
        self.begun = False
        self._raw = loaded.input
        self._notified = asyncio.Event()
        self._notices: list[Callable[[], None]] = []
        self._uses: Counter[str] = Counter()
        self._events = 0
        self._signals: Counter[str] = Counter()
        self._journal = latest_entries(loaded.entries, TURN)
        self._noted = noted_versions(loaded.entries, TURN)
        self._unread = {*self._journal}

    @property
    def store(self) -> Store:
        """The store of the worker."""
        return self._host.store

    @property
    def input(self) -> Any:
        """What the job was registered with, as JSON."""
        return self.input_as(Any)

    def input_as(self, type_: Any) -> Any:
        """Return the input as a value of this type.  Raises msgspec.ValidationError."""
        return msgspec.json.decode(self._raw, type=type_)

    # -- while it runs

    async def begin(self, process: LocalProcess | None = None) -> None:
        """Mark the start of the job, before its first effect."""
        await self._ask(BeginWork(process))
        self.begun = True

    async def heartbeat(self) -> None:
        """Return if the job may go on.  Raises Cancelled if it has to end.  The lease is renewed without this."""
        await self.may_begin()

    async def may_begin(self) -> None:
        """Return if an effect may begin.  Raises Cancelled if the job has to end."""
        await self._ask(MayGoOn())

    async def emit(self, type: str, value: Any = None, *, wake: bool = False) -> None:
        """Append an event to the log of the job, of a type that was declared.  `wake`: tell the session too.

        A later attempt emits the same events at the same calls: each is in the log once.
        """
        self._events += 1
        key = effect_id_of("emit", self._events)
        await self._ask(EmitEvent(type, json_of(f"event {type}", value), key, wake))

    async def wait_signal(self, name: str) -> Any:
        """Wait for the next signal of this name, and return its value: the n-th call returns the n-th signal.

        A rerunnable job does not hold a worker while it waits: it raises Parked, and runs again when the signal has come.
        """
        self._signals[name] += 1
        answer = await self._ask(AwaitSignal(name, self._signals[name]))
        return msgspec.json.decode(answer.body)

    def notify(self, reply: WorkReply) -> None:
        """Note that the work has to end; the runner calls this."""
        self.cancelled, self.stop_reply = True, reply
        self._notified.set()
        for notice in self._notices:
            notice()

    def on_notice(self, notice: Callable[[], None]) -> None:
        """Call this when the work has to end."""
        self._notices.append(notice)

    async def notified(self) -> WorkReply:
        """Wait until the work has to end, and return the reason."""
        await self._notified.wait()
        assert self.stop_reply is not None
        return self.stop_reply

    # -- requests

    async def _write(self, entry: NewEntry) -> None:
        if entry.kind is not EntryKind.NOTE:  # it is logged; the journal of a job has none
            await self._ask(RecordEntries((entry,)))

    def _key_of(self, effect_id: str) -> str:
        return idempotency_key(self.id, TURN, effect_id)

    def _named(self) -> str:
        return f"job {self.id}"

    async def _ask(self, request: WorkRequest) -> Any:
        answer = await self._host.request(self._work_id, request)
        if isinstance(answer, Refused):
            illegal = answer.reason is Refusal.ILLEGAL
            raise (IllegalWrite if illegal else CommandRefused)(f"job {self.id}", answer)
        if not isinstance(answer, WorkReply):
            return answer
        match answer:
            case WorkReply.PROCEED:
                return None
            case WorkReply.LEASE_LOST:
                raise LeaseLost(f"job {self.id} belongs to another owner now")
            case WorkReply.ENDED:
                raise LeaseLost(f"job {self.id} has ended")
            case WorkReply.PARKED:
                raise Parked(f"job {self.id} waits for a signal")
            case WorkReply.OUT_OF_ORDER:
                raise AssertionError(f"job {self.id}: {request} before or after the start")
            case _:
                self.notify(answer)
                raise Cancelled(f"job {self.id} has to end: {answer.value}")


class BlockingWork:
    """The work of a job for code that is not async and runs in a thread: the same methods, which block."""

    def __init__(self, work: Work) -> None:
        self._work, self._loop = work, asyncio.get_running_loop()
        self.id, self.input, self.attempt, self.origin = (
            work.id, work.input, work.attempt, work.origin,
        )  # fmt: skip

    @property
    def cancelled(self) -> bool:
        """True if the work has to end."""
        return self._work.cancelled

    def step(
        self, name: str, f: Callable[..., Any], *args: Any, passes: Passes = (),
        version: str | int | None = None, **kw: Any,
    ) -> Any:  # fmt: skip
        """As Work.step."""
        return self._wait(self._work.step(name, f, *args, passes=passes, version=version, **kw))

    def once(
        self, name: str, f: Callable[..., Any], *args: Any, probe: Probe | None = None,
        passes: Passes = (), version: str | int | None = None, **kw: Any,
    ) -> Any:  # fmt: skip
        """As Work.once."""
        more: dict[str, Any] = {"probe": probe, "passes": passes, "version": version, **kw}
        return self._wait(self._work.once(name, f, *args, **more))

    def emit(self, type: str, value: Any = None, *, wake: bool = False) -> None:
        """As Work.emit."""
        self._wait(self._work.emit(type, value, wake=wake))

    def wait_signal(self, name: str) -> Any:
        """As Work.wait_signal."""
        return self._wait(self._work.wait_signal(name))

    def heartbeat(self) -> None:
        """As Work.heartbeat."""
        self._wait(self._work.heartbeat())

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
