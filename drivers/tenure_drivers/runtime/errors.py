"""The exceptions of the runtime, and the failure that a turn reports for an exception."""

from __future__ import annotations

from typing import Any

from tenure.commands.usage import validate_usage
from tenure.failure import GIVE_UP_AFTER_MS, ErrorKind, Failure
from tenure.machines.lease import Held, Holder
from tenure.outcome import Refused
from tenure.questions.core import InputStatus
from tenure.transcript import UsageDelta

from ..redaction import without_secrets
from ..stores.errors import TenureError
from .wait_text import waits_for

__all__ = [
    "AlreadyCommitted",
    "BaseExceptionRaised",
    "Busy",
    "Cancelled",
    "CommandRefused",
    "EventsPruned",
    "IllegalResult",
    "IllegalWrite",
    "LeaseLost",
    "Parked",
    "NotAnswered",
    "NotAwaited",
    "NotEnded",
    "NothingDue",
    "Steered",
    "StepFailed",
    "StepOutcomeUnknown",
    "StillRunning",
    "SubmissionRefused",
    "TurnFailed",
    "describe",
    "failure_of",
    "text_of",
    "usage_of",
]


MESSAGE_MAX = 300
READ_MAX = 10_000


class SubmissionRefused(TenureError):
    """An input was refused.  `refused` has the reason, and `refused.detail` the value that caused it."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(str(refused))
        self.refused = refused


class Busy(SubmissionRefused):
    """A turn of the session is running, and the submission does not wait.  Nothing of it is stored, not even its key.

    `run_id`: the running run, or one that waits for its retry; None if an input is only ready, or under a lease without
    a run.
    """

    def __init__(self, session_id: str, refused: Refused) -> None:
        super().__init__(refused)
        self.session_id, self.run_id = session_id, getattr(refused.detail, "run_id", None)


class StillRunning(TenureError):
    """A run works on the input and continues.  Wait for it, or stop it with `Client.abort`."""

    def __init__(self, session_id: str, input_id: str, run_id: str) -> None:
        super().__init__(f"input {input_id} of session {session_id}: run {run_id} works on it")
        self.session_id, self.input_id, self.run_id = session_id, input_id, run_id


class NotAnswered(TenureError):
    """An input has ended, but its run has not finished, so there is no answer.  `status` says how it ended."""

    def __init__(self, session_id: str, status: InputStatus) -> None:
        facts = [status.termination if status.status == "consumed" else None, status.reason]
        known = [fact for fact in (*facts, None if any(facts) else status.by) if fact]
        why = f" ({': '.join(known)})" if known else ""
        super().__init__(f"input {status.input_id} of session {session_id}: {status.status}{why}")
        self.session_id, self.status = session_id, status


class NotEnded(TimeoutError, TenureError):
    """An input has not ended in time, or before the runtime was stopped.

    `status`: as it was read last; None: the store has not answered yet.
    """

    def __init__(
        self, session_id: str, input_id: str, status: InputStatus | None, because: str = ""
    ) -> None:
        if status is None:
            known = "not known yet: the store has not answered"
        else:
            facts = [f"is {status.status}", status.run_id and f"run {status.run_id}"]
            wait = status.wait
            waits = wait and f"run {wait.run_id} is {waits_for(wait.reason, wait.tickets)}"
            failed = status.last_failure and f"the last failure was {status.last_failure}"
            known = ", ".join([fact for fact in (*facts, waits, failed) if fact])
        because = because and f"; {because}"
        super().__init__(f"input {input_id} of session {session_id}: {known}{because}")
        self.session_id, self.input_id, self.status = session_id, input_id, status


class EventsPruned(TenureError):
    """Retention has removed events that a reader asks for, up to number `pruned_to`.

    What they have changed is in the session: read it anew, and go on with `events(session_id, after=pruned_to)`.
    """

    def __init__(self, session_id: str, after: int, pruned_to: int) -> None:
        super().__init__(
            f"events {after + 1} to {pruned_to} of session {session_id} were removed by retention: "
            f"read the session, and go on after {pruned_to}"
        )
        self.session_id, self.after, self.pruned_to = session_id, after, pruned_to


class CommandRefused(TenureError):
    """A command was refused.  `refused` has the reason."""

    def __init__(self, what: str, refused: Refused) -> None:
        super().__init__(f"{what}: {refused}")
        self.refused = refused


class IllegalWrite(CommandRefused):
    """A write of the turn can never succeed: it is too large, contains invalid text, or switches to a pruned frame."""

    kind = ErrorKind.INVALID_REQUEST


class NothingDue(TenureError):
    """The session has no work to begin now.  `reason` and `detail` are those of the runner's Stop."""

    def __init__(self, session_id: str, reason: str, detail: Any) -> None:
        super().__init__(f"session {session_id!r} has no work: {_why(reason, detail)}")
        self.reason, self.detail = reason, detail


class Cancelled(TenureError):
    """The turn has to end: its run was asked to stop, or it has reached its time limit.  Clean up and re-raise."""


class Steered(TenureError):
    """A commit with `yields=True` was refused because inputs wait for the turn.

    `turn.checkpoint(at_end=True)` returns them.
    """

    def __init__(self, run_id: str) -> None:
        super().__init__(
            f"run {run_id}: inputs wait that the turn can take; call checkpoint(at_end=True)"
        )


class LeaseLost(TenureError):
    """The session belongs to another owner now.  Nothing more of this turn is written."""


class Parked(TenureError):
    """The turn waits, so this attempt ends.

    Clean up and re-raise.  The agent runs again when the decision, the time or the input has come.
    """


class AlreadyCommitted(TenureError):
    """A turn was used after its commit."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"run {run_id}: the turn has already committed")


class TurnFailed(TenureError):
    """Raise this to fail a turn with an error kind, a delay before the retry, and the usage of models."""

    def __init__(
        self,
        kind: ErrorKind | str,
        message: str = "",
        retry_after_ms: int = 0,
        usage: tuple[UsageDelta, ...] = (),
    ) -> None:
        self.error_kind = ErrorKind(kind)
        super().__init__(f"{self.error_kind.value}: {message}")
        self.message, self.retry_after_ms, self.usage = message, retry_after_ms, usage


class BaseExceptionRaised(TenureError):
    """Your code raised `error`, which is not a subclass of Exception: SystemExit, a panic of an extension module.

    If the original were raised, it would end the task or the process that runs other turns too.  This also stands for an exception whose
    class cannot be read, so that every handler of exceptions would fail.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__(describe(error))
        self.error = error


class StepFailed(TenureError):
    """A once step raised an error.  The error is recorded and raised again at every replay."""

    kind = ErrorKind.INVALID_REQUEST

    def __init__(self, effect_id: str, error: str, message: str) -> None:
        super().__init__(f"step {effect_id}: {error}: {message}")
        self.effect_id, self.error, self.message = effect_id, error, message
        self.replayed = True  # False: the step has raised just now


class StepOutcomeUnknown(TenureError):
    """A once step was started by an earlier attempt, and its outcome is unknown.  It never runs again."""

    kind = ErrorKind.NOT_RECONSTRUCTED

    def __init__(self, effect_id: str) -> None:
        super().__init__(
            f"step {effect_id}: outcome unknown: an earlier attempt started it and ended without recording a "
            "result (a crash, a time limit, a pause or a clock step); no probe resolved it"
        )
        self.effect_id = effect_id


class NotAwaited(TenureError):
    """A function that is not async has called a method of its turn that must be awaited."""

    kind = ErrorKind.INVALID_REQUEST

    def __init__(self, name: str) -> None:
        super().__init__(
            f"turn.{name} must be awaited: make the agent an async function, "
            "or run turns in blocking code with SyncRuntime.turn"
        )


class IllegalResult(TenureError):
    """The result of a step or an agent cannot be stored."""

    kind = ErrorKind.INVALID_REQUEST


def _why(reason: str, detail: Any) -> str:
    holder = detail.detail if isinstance(detail, Refused) else detail
    if isinstance(holder, Holder):
        return f"lease held by {holder.owner_id!r} until {holder.expires_at_ms} (Unix ms)"
    if isinstance(holder, Held):
        return f"lease held by {holder.owner.owner_id!r} until {holder.expires_at_ms} (Unix ms)"
    if isinstance(detail, int):
        return f"nothing is due before {detail} (Unix ms)"
    return reason if detail is None else f"{reason}: {detail}"


def text_of(error: BaseException) -> str:
    """Return the text of an exception of user code.  If its own `__str__` fails, the text says so."""
    try:
        return str.__str__(str(error))
    except BaseException as failed:  # it may raise whatever the exception may have been
        return f"(its text raised {type(failed).__name__})"


def describe(error: BaseException, *, secrets: bool = False) -> str:
    """Return type and message of an error in one line of at most 300 characters.

    It is without secrets, unless `secrets` says that a model reads it.  A group is followed by the first error in it.
    """
    found: Any = error
    if issubclass(type(found), BaseExceptionRaised):
        found = found.error
    parts: list[str] = []
    while True:
        kind = type(found)
        first = text_of(found).strip()[:READ_MAX].partition("\n")[0]
        clean = "".join(c for c in first if c.isprintable())
        clean = clean if secrets else without_secrets(clean)
        parts.append(f"{_name_of(kind)}: {clean}".rstrip(": "))
        if not issubclass(kind, BaseExceptionGroup) or sum(map(len, parts)) > MESSAGE_MAX:
            return ": ".join(parts)[:MESSAGE_MAX].rstrip(": ")
        found = found.exceptions[0]


def _name_of(kind: type) -> str:
    """Return the name of a class of user code, which may have a metaclass that raises."""
    return str(type.__dict__["__name__"].__get__(kind))


def failure_of(error: BaseException, jitter_ms: int) -> Failure:
    """Return the failure that a turn reports for this error.

    A subclass of a user may have set any field to anything; what cannot be used counts as not set.
    """
    if isinstance(error, TurnFailed):
        kind = _kind(_field(error, "error_kind"))
        message, after = _field(error, "message"), _field(error, "retry_after_ms")
        if not isinstance(message, str):
            message = describe(error)
        return Failure(
            kind, without_secrets(message[:READ_MAX])[:MESSAGE_MAX], _whole(after), jitter_ms
        )
    if isinstance(error, TimeoutError):
        return Failure(ErrorKind.TIMEOUT, describe(error), 0, jitter_ms)
    kind = _kind(_field(error, "kind")) if isinstance(error, TenureError) else ErrorKind.TRANSIENT
    return Failure(kind, describe(error), 0, jitter_ms)


def usage_of(error: BaseException) -> tuple[UsageDelta, ...]:
    """Return the usage that a TurnFailed carries; nothing if a store would refuse it."""
    if not isinstance(error, TurnFailed):
        return ()
    try:
        found = tuple(error.usage)
        return () if validate_usage(found) is not None else found
    except Exception:  # it does not consist of UsageDelta
        return ()


def _field(error: BaseException, name: str) -> Any:
    """Return a field of an exception; None if it is missing or raises."""
    try:
        return getattr(error, name)
    except Exception:
        return None


def _kind(value: Any) -> ErrorKind:
    try:
        return ErrorKind(value)
    except ValueError:
        return ErrorKind.TRANSIENT


def _whole(value: Any) -> int:
    try:
        return min(max(0, int(value)), GIVE_UP_AFTER_MS)
    except (TypeError, ValueError, OverflowError):
        return 0
