"""A job that is a child session: it submits an input, and ends with the run of it.  Spec: specs/job-runner.md."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from tenure.commands import Admit, NewInput, RequestCancel, Withdraw
from tenure.failure import ErrorKind
from tenure.job_runner.protocol import WorkReply
from tenure.machines.job import Disposition
from tenure.outcome import Refusal, Refused
from tenure.questions.core import Status
from tenure.questions.input_status import InputStatus

from ..attachments import Patient
from ..changes import SessionChanges, SessionListener
from ..clock import new_id
from ..errors import Cancelled, CommandRefused, TurnFailed
from .definition import JobDefinition, JobRequest, NewJob
from .work import Work, json_of

__all__ = ["SESSION", "ChildSession", "ChildSessions"]


SESSION: Final = "session"
POLL_S: Final = 3.0  # changes are reported; this is for clocks that are set back


class SessionInput(msgspec.Struct, frozen=True):
    """The input of a job that is a child session."""

    text: str
    session_id: str | None = None


class ChildSession(JobRequest):
    """A job that submits a text to a session, a new one unless `session_id` names one, and returns the answer.

    Give it to `start_job`; a worker needs `ChildSessions()` among its jobs.
    """

    def __init__(self, text: str, session_id: str | None = None) -> None:
        self.text, self.session_id = text, session_id

    def new(self, input: Any = None) -> NewJob:
        """Return the job to register."""
        if input is not None:
            raise TypeError("a child session takes its input from its arguments")
        text = json_of("the child session", SessionInput(self.text, self.session_id))
        return NewJob(SESSION, text, Disposition.RERUNNABLE)


class ChildSessions(JobDefinition):
    """The runner of `ChildSession`: it submits the text once, and ends as the run of it ends.

    The job returns the answer.  A run that has not finished fails it.  A cancel of the job withdraws the input, or asks its
    run to stop.  While it waits it is one of the worker's jobs, and its session one of any worker's sessions.
    """

    name = SESSION
    description = 'Ask another agent: {"text": "...", "session_id": "..."}.'

    def new(self, input: Any = None) -> NewJob:
        """Return the job to register for `input`, the fields of a `ChildSession`."""
        return ChildSession(**input).new()

    async def execute(self, work: Work) -> str:
        """Submit the input, and wait for its end."""
        given: SessionInput = work.input_as(SessionInput)
        session_id = given.session_id or f"{work.id}.session"
        await work.begin()
        store = Patient(work.store)
        new = NewInput(work.id, "prompt", given.text, source="job", correlation_id=work.id)
        answer = await store.execute(Admit(session_id, (new,)))
        if isinstance(answer, Refused):
            raise CommandRefused(f"the input of job {work.id}", answer)
        status = await _ended(work, store, session_id)
        if not status.succeeded:
            why = f"{status.status} {status.termination or ''} {status.reason or ''}".strip()
            raise TurnFailed(ErrorKind.INVALID_REQUEST, f"session {session_id}: {why}")
        return json_of("the answer", status.answer)


async def _ended(work: Work, store: Patient, session_id: str) -> InputStatus:
    """Wait for the end of the input; when the job has to end because of a cancel, stop the input first."""
    changes, listener = SessionChanges(work.store), SessionListener()
    work.on_notice(listener.woken.set)
    changes.subscribe(session_id, listener)
    stopped = False
    try:
        while True:
            listener.woken.clear()
            status = await store.ask(Status(session_id, work.id))
            if status is not None and status.ended:
                return status
            if work.cancelled and work.stop_reply is not WorkReply.CANCELLED:
                raise Cancelled(f"job {work.id} has to end")  # another worker goes on
            if work.cancelled and not stopped:
                await _stop(store, session_id, work.id)
                stopped = True
                continue
            await listener.wait(POLL_S)
    finally:
        await changes.stop()


async def _stop(store: Patient, session_id: str, input_id: str) -> None:
    """Withdraw an input, or ask the run that works on it to stop."""
    taken = await store.execute(Withdraw(session_id, new_id(), input_id))
    if isinstance(taken, Refused) and taken.reason is Refusal.BOUND:
        await store.execute(RequestCancel(session_id, new_id(), taken.detail))
