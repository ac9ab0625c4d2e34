"""Register: create a job.  Spec: specs/job.md."""

from __future__ import annotations

from typing import ClassVar

import attrs
from attrs import field, frozen

from ...event import EventKind
from ...failure import RetryLimits
from ...json_schema import read_json, validate_schema
from ...kind import Kind
from ...limits import EVENT_TYPES_MAX, JOB_INPUT_BYTES_MAX, SCHEMA_BYTES_MAX
from ...machines.job import Disposition, Waiting
from ...outcome import Decided, Insert, Refusal, Refused
from ...queries import Command, Reads, read
from ...records import Job, JobEventType, JobPart, JobText, Session
from ...run_values import TicketName
from ...transcript import hash_parts, hash_text
from ..sendable import Sendable
from ..validation import (
    size_of,
    validate_id,
    validate_retry,
    validate_text,
    validate_ticket_name,
    validate_time,
)
from .job_transaction import JobTransaction, JobView, job_queries

__all__ = ["EventType", "Register", "Registered"]


@frozen
class EventType:
    """A type of events that a job may emit.  `schema`: a JSON schema as text (EMIT-2); None: any text."""

    since: ClassVar = 2
    name: str
    schema: str | None = None


@frozen
class Registered:
    """The job exists."""

    since: ClassVar = 2
    session_id: str


@frozen
class Register(Sendable, Command[JobView, Registered]):
    """Create a job, unless it exists.  Writes four rows, and one for each type of events.

    `runner` names the code that executes it, `input` is opaque text.  `disposition` is required: who may execute it,
    and how often.  `origin` names the session for which it is registered.  `registered_by` is required for EXTERNAL:
    who may end it.  `available_at_ms`: nobody takes it before.  `settles`: the ticket of a session that its end settles.
    Refusals: KEY_CONFLICT if the job was registered with other content, ILLEGAL.
    """

    since: ClassVar = 2
    serves: ClassVar = Kind.JOB
    id_field: ClassVar = "session_id"
    session_id: str
    runner: str
    input: str = field(repr=lambda i: repr(i) if len(i) < 80 else f"<{len(i)} characters>")
    disposition: Disposition
    origin: str | None = None
    registered_by: str | None = None
    wake_target: str | None = None
    retry: RetryLimits | None = None
    available_at_ms: int | None = None
    event_types: tuple[EventType, ...] = ()
    settles: TicketName | None = None

    def reads(self) -> Reads[JobView]:
        return read(JobView, *job_queries(self.session_id))

    def decide(self, view: JobView, now_ms: int) -> Decided[Registered] | Refused:
        digest = self._digest()
        if view.session is not None:
            job = view.job
            if job is None or job.digest != digest:
                found = None if job is None else job.runner
                return Refused(Refusal.KEY_CONFLICT, "JOB-32", found)
            return Decided(Registered(self.session_id), "JOB-31", replayed=True)
        if problem := self.problem(now_ms):
            return Refused(Refusal.ILLEGAL, "JOB-33", problem)
        session = Session(self.session_id, kind=Kind.JOB)
        state = Waiting(self.available_at_ms)
        job = Job(
            self.session_id, self.runner, self.disposition, digest, now_ms, now_ms, state, self.origin,
            self.registered_by, self.wake_target, self.retry, settles=self.settles,
        )  # fmt: skip
        tx = JobTransaction(None, session, now_ms, self.session_id, job_before=None, job=job)
        tx.write(Insert(JobText(self.session_id, JobPart.INPUT, self.input)))
        for each in self.event_types:
            tx.write(Insert(JobEventType(self.session_id, each.name, each.schema)))
        tx.append_event(EventKind.JOB_REGISTERED, self.runner)
        return tx.decided(Registered(self.session_id), "JOB-30")

    def _digest(self) -> str:
        """JOB-31: return the digest by which a repetition is recognised; the time is not in it."""
        retry = self.retry
        limits = None if retry is None else [
            retry.failures, retry.losses, retry.give_up_after_ms, retry.base_ms, retry.cap_ms,
        ]  # fmt: skip
        return hash_parts(
            self.runner, self.disposition.value, hash_text(self.input), self.origin,
            self.registered_by, self.wake_target, limits,
            [[each.name, each.schema] for each in self.event_types],
            *(() if self.settles is None else (list(attrs.astuple(self.settles)),)),
        )  # fmt: skip

    def problem(self, now_ms: int) -> str | None:
        """JOB-33: return what is wrong with it, or None."""
        if (size := size_of(self.input)) > JOB_INPUT_BYTES_MAX:
            return f"input of {size} bytes; at most {JOB_INPUT_BYTES_MAX}"
        external = self.disposition is Disposition.EXTERNAL
        if external and self.registered_by is None:
            return "registered_by: expected who may end an external job"
        if external and self.available_at_ms is not None:
            return "available_at_ms of an external job: nobody takes it"
        ids = {
            "session_id": self.session_id, "runner": self.runner, "origin": self.origin,
            "registered_by": self.registered_by, "wake_target": self.wake_target,
        }  # fmt: skip
        found = [validate_id(name, value) for name, value in ids.items() if value is not None]
        return (
            next(filter(None, found), None)
            or validate_text("input", self.input, JOB_INPUT_BYTES_MAX)
            or validate_retry(self.retry)
            or validate_time("available_at_ms", self.available_at_ms, now_ms)
            or self._validate_event_types()
            or (None if self.settles is None else validate_ticket_name(self.settles))
        )

    def _validate_event_types(self) -> str | None:
        """EMIT-2: return what is wrong with the types of events, or None."""
        names = [each.name for each in self.event_types]
        if len(names) > EVENT_TYPES_MAX:
            return f"{len(names)} event types; at most {EVENT_TYPES_MAX}"
        for each in self.event_types:
            if problem := validate_id("event type", each.name):
                return problem
            if names.count(each.name) > 1:
                return f"event type {each.name}: it is declared twice"
            if each.schema is not None and (problem := _validate_schema(each.schema)):
                return f"event type {each.name}: {problem}"
        return None


def _validate_schema(schema: str) -> str | None:
    if (size := size_of(schema)) > SCHEMA_BYTES_MAX:
        return f"schema of {size} bytes; at most {SCHEMA_BYTES_MAX}"
    try:
        found = read_json(schema)
    except ValueError as error:
        return f"schema is no JSON: {error}"
    return validate_text("schema", schema, SCHEMA_BYTES_MAX) or validate_schema(found)
