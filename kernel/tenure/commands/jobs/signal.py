"""Signal: something that somebody tells a job.  Wait: a job waits for the n-th of a name.  Spec: specs/signal.md."""

from __future__ import annotations

from typing import ClassVar

from attrs import field, frozen

from ...event import EventKind
from ...indexes import SIGNAL_ID
from ...kind import Kind
from ...limits import EMISSION_BYTES_MAX, SIGNAL_NAMES_MAX
from ...machines import job as job_
from ...machines import lease as lease_
from ...outcome import Decided, Insert, Refusal, Refused
from ...queries import Command, First, Get, Reads, read
from ...records import Job, JobSignal, SignalWait
from ...replace import replace
from ...run_values import LastEnd
from ...transcript import hash_parts, hash_text
from ..sendable import Sendable
from ..validation import size_of, validate_id, validate_text
from .job_transaction import JobTransaction, JobView, job_queries, refuse_fence, unknown
from .replay_end import ended_of, released_before
from .take import JobEnded

__all__ = ["NotSignalled", "Signal", "SignalStored", "Signalled", "Wait"]


@frozen
class SignalStored:
    """The signal is the one of its name with this number."""

    since: ClassVar = 2
    number: int


@frozen
class SignalView(JobView):
    """The job, and the signal with this id if there is one."""

    known: tuple[JobSignal, ...]


@frozen
class Signal(Sendable, Command[SignalView, SignalStored]):
    """Tell a job something, under a name.  The n-th signal of a name satisfies the n-th wait, whenever each came.

    A repetition is known by `signal_id`.  Refusals: UNKNOWN_JOB, ENDED, KEY_CONFLICT, ILLEGAL, PRUNED.
    """

    since: ClassVar = 2
    serves: ClassVar = Kind.JOB
    id_field: ClassVar = "signal_id"
    moot: ClassVar = (Refusal.ENDED,)
    session_id: str
    signal_id: str
    name: str
    body: str = field(default="", repr=lambda b: repr(b) if len(b) < 80 else f"<{len(b)}>")

    def reads(self) -> Reads[SignalView]:
        s = self.session_id
        return read(SignalView, *job_queries(s), First(SIGNAL_ID, (s, self.signal_id), 1))

    def decide(self, view: SignalView, now_ms: int) -> Decided[SignalStored] | Refused:
        session, job = view.session, view.job
        if session is None or job is None:
            return unknown(session, self.session_id)
        digest = hash_parts(self.name, hash_text(self.body))
        for row in view.known:
            if row.digest != digest:
                return Refused(Refusal.KEY_CONFLICT, "SIGNAL-3", row.name)
            return Decided(SignalStored(row.number), "SIGNAL-2", replayed=True)
        if isinstance(job.state, job_.Ended):
            return Refused(Refusal.ENDED, "JOB-21", job.state.how.value)
        if problem := self._validate(job):
            return Refused(Refusal.ILLEGAL, "SIGNAL-5", problem)
        tx = JobTransaction.on(view, now_ms, self.signal_id)
        number = tx.count_signal(self.name)
        row = JobSignal(
            self.session_id, self.name, number, self.signal_id, digest, now_ms, self.body
        )
        tx.write(Insert(row))
        tx.append_event(EventKind.JOB_SIGNALLED, f"{self.name} {number}")
        if job.waits == SignalWait(self.name, number):
            tx.job = replace(tx.job, waits=None)
            tx.signalled = job.session_id
        return tx.decided(SignalStored(number), "SIGNAL-1")

    def _validate(self, job: Job) -> str | None:
        if (size := size_of(self.body)) > EMISSION_BYTES_MAX:
            return f"body of {size} bytes; at most {EMISSION_BYTES_MAX}"
        names = {each.name for each in job.signals} | {self.name}
        if len(names) > SIGNAL_NAMES_MAX:
            return f"name {self.name}: a job knows at most {SIGNAL_NAMES_MAX} names"
        return (
            validate_id("signal_id", self.signal_id)
            or validate_id("name", self.name)
            or validate_text("body", self.body, EMISSION_BYTES_MAX)
        )


@frozen
class Signalled:
    """The signal that was waited for."""

    since: ClassVar = 2
    signal_id: str
    body: str


@frozen
class NotSignalled:
    """The signal has not come.  `held`: the lease stays; else the job is due when the signal comes."""

    since: ClassVar = 2
    held: bool


@frozen
class WaitView(JobView):
    """The job, and the signal that it waits for if that has come."""

    signal: JobSignal | None


@frozen
class Wait(Command[WaitView, Signalled | NotSignalled | JobEnded]):
    """Wait for the signal of a name with this number, from 1.

    If it has not come, rerunnable work is let go and due when it comes; owner-bound work keeps its lease, and gets a hint.
    Refusals: UNKNOWN_JOB, FENCED, ENDED, ILLEGAL.
    """

    since: ClassVar = 2
    serves: ClassVar = Kind.JOB
    session_id: str
    fence: lease_.Fence
    name: str
    number: int

    def reads(self) -> Reads[WaitView]:
        s = self.session_id
        return read(WaitView, *job_queries(s), Get(JobSignal, (s, self.name, self.number)))

    def decide(
        self, view: WaitView, now_ms: int
    ) -> Decided[Signalled | NotSignalled | JobEnded] | Refused:
        session, job = view.session, view.job
        if session is None or job is None:
            return unknown(session, self.session_id)
        match released_before(job, self.fence):
            case "waiting":
                return Decided(NotSignalled(False), "SIGNAL-14", replayed=True)
            case "ended":
                return Decided(ended_of(job), "SIGNAL-14", replayed=True)
        if isinstance(job.state, job_.Ended):
            return Refused(Refusal.ENDED, "JOB-21", job.state.how.value)
        if refused := refuse_fence(session, self.fence):
            return refused
        if problem := self._validate(job):
            return Refused(Refusal.ILLEGAL, "SIGNAL-13", problem)
        if view.signal is not None:
            answer = Signalled(view.signal.signal_id, view.signal.body)
            return Decided(answer, "SIGNAL-10")
        tx = JobTransaction.on(view, now_ms, self.fence.lease_id)
        waits = SignalWait(self.name, self.number)
        if not job.may_start:
            tx.job = replace(job, waits=waits)
            return tx.decided(NotSignalled(True), "SIGNAL-12")
        tx.end_lease(self.fence)
        if tx.honour():
            tx.job = replace(tx.job, last_end=LastEnd(self.fence.lease_id, "ended"))
            return tx.decided(ended_of(tx.job), "JOB-47")
        tx.reschedule(None, f"waits for signal {self.name} {self.number}")
        tx.job = replace(tx.job, waits=waits, last_end=LastEnd(self.fence.lease_id, "waiting"))
        return tx.decided(NotSignalled(False), "SIGNAL-11")

    def _validate(self, job: Job) -> str | None:
        if not isinstance(job.state, job_.Started):
            return "the job was not started"
        if self.number < 1:
            return f"number {self.number}: expected at least 1"
        return validate_id("name", self.name)
