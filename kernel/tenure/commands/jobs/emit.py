"""Emit: append an event to the log of a job, and perhaps wake a session.  Spec: specs/signal.md."""

from __future__ import annotations

from typing import ClassVar

from attrs import field, frozen

from ...indexes import EMISSION_KEY
from ...json_schema import read_json, violation
from ...kind import Kind
from ...limits import EMISSION_BYTES_MAX
from ...machines import job as job_
from ...machines import lease as lease_
from ...outcome import Decided, Insert, Refusal, Refused
from ...queries import Command, Each, First, Get, Query, Reads, read
from ...records import Emission, JobEventType
from ...replace import replace
from ...transcript import hash_parts, hash_text
from ..send import send
from ..validation import size_of, validate_id, validate_text
from .job_transaction import JobTransaction, JobView, job_queries, refuse_fence, unknown
from .wakes import wake

__all__ = ["Emit", "Emitted"]


@frozen
class Emitted:
    """The number of the event in the log of the job."""

    since: ClassVar = 2
    seq: int


@frozen
class EmitView(JobView):
    """The job, its type of events, and the event with this key if there is one."""

    event_type: JobEventType | None
    known: tuple[tuple[Emission, ...], ...]


@frozen
class Emit(Command[EmitView, Emitted]):
    """Append an event of a declared type to the log of a job.  Writes a few rows.

    `key`: by which a repetition is recognised; without one, each repetition appends another event.
    `wake`: also wake the session that the job was registered with, in the same transaction.
    Refusals: UNKNOWN_JOB, FENCED, ENDED, KEY_CONFLICT, ILLEGAL.
    """

    since: ClassVar = 2
    serves: ClassVar = Kind.JOB
    session_id: str
    fence: lease_.Fence
    type: str
    body: str = field(repr=lambda b: repr(b) if len(b) < 80 else f"<{len(b)} characters>")
    key: str | None = None
    wake: bool = False

    def reads(self) -> Reads[EmitView]:
        s = self.session_id
        known: tuple[Query[tuple[Emission, ...]], ...] = ()
        if self.key is not None:
            known = (First(EMISSION_KEY, (s, self.key), 1),)
        return read(EmitView, *job_queries(s), Get(JobEventType, (s, self.type)), Each(known))

    def decide(self, view: EmitView, now_ms: int) -> Decided[Emitted] | Refused:
        session, job = view.session, view.job
        if session is None or job is None:
            return unknown(session, self.session_id)
        digest = hash_parts(self.type, hash_text(self.body), self.wake)
        for row in (row for rows in view.known for row in rows):
            if row.digest != digest:
                return Refused(Refusal.KEY_CONFLICT, "EMIT-4", row.seq)
            return Decided(Emitted(row.seq), "EMIT-3", replayed=True)
        if isinstance(job.state, job_.Ended):
            return Refused(Refusal.ENDED, "JOB-21", job.state.how.value)
        if refused := refuse_fence(session, self.fence):
            return refused
        if not isinstance(job.state, job_.Started):
            return Refused(Refusal.ILLEGAL, "EMIT-5", "the job was not started")
        if problem := self._validate(view.event_type):
            return Refused(Refusal.ILLEGAL, "EMIT-6", problem)
        tx = JobTransaction.on(view, now_ms, self.fence.lease_id)
        seq = job.emitted + 1
        tx.job = replace(job, emitted=seq)
        row = Emission(self.session_id, seq, self.type, self.key, digest, now_ms, self.body)
        tx.write(Insert(row))
        if self.wake and job.wake_target is not None:
            key = f"event {seq}" if self.key is None else f"key {self.key}"
            send(tx, wake(job, key, self.body))  # EMIT-8
        return tx.decided(Emitted(seq), "EMIT-1")

    def _validate(self, event_type: JobEventType | None) -> str | None:
        if (size := size_of(self.body)) > EMISSION_BYTES_MAX:
            return f"body of {size} bytes; at most {EMISSION_BYTES_MAX}"
        problem = validate_text("body", self.body, EMISSION_BYTES_MAX) or (
            None if self.key is None else validate_id("key", self.key)
        )
        if problem is not None:
            return problem
        if event_type is None:
            return f"type {self.type!r}: the job was not registered with it"
        if event_type.schema is None:
            return None
        try:
            value = read_json(self.body)
        except ValueError as error:
            return f"body is no JSON: {error}"
        return violation(read_json(event_type.schema), value)
