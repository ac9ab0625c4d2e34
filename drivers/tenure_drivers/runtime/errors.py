"""The exceptions of the runtime, and the failure that a turn reports for an exception."""

from __future__ import annotations

from typing import Any

from tenure.failure import ErrorKind, Failure
from tenure.machines.lease import Held, Holder
from tenure.outcome import Refused
from tenure.transcript import UsageDelta

from ..redaction import without_secrets
from ..stores.errors import TenureError

__all__ = [
    "AlreadyCommitted",
    "Cancelled",
    "CommandRefused",
    "IllegalResult",
    "IllegalWrite",
    "LeaseLost",
    "NothingDue",
    "StepFailed",
    "StepOutcomeUnknown",
    "SubmissionRefused",
    "TurnFailed",
    "describe",
    "failure_of",
]


MESSAGE_MAX = 300
READ_MAX = 10_000


class SubmissionRefused(TenureError):
    """An input was refused.  `refused` has the reason, and `refused.detail` the value that caused it."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(str(refused))
        self.refused = refused


class CommandRefused(TenureError):
    """A command was refused.  `refused` has the reason."""

    def __init__(self, what: str, refused: Refused) -> None:
        super().__init__(f"{what}: {refused}")
        self.refused = refused


class IllegalWrite(CommandRefused):
    """A write of the turn can never succeed: it is too large, or contains invalid text."""

    kind = ErrorKind.INVALID_REQUEST


class NothingDue(TenureError):
    """The session has no work to begin now.  `reason` and `detail` are those of the runner's Stop."""

    def __init__(self, session_id: str, reason: str, detail: Any) -> None:
        super().__init__(f"session {session_id!r} has no work: {_why(reason, detail)}")
        self.reason, self.detail = reason, detail


class Cancelled(TenureError):
    """The turn has to end: its run was asked to stop, or it has reached its time limit.  Clean up and re-raise."""


class LeaseLost(TenureError):
    """The session belongs to another owner now.  Nothing more of this turn is written."""


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


class StepFailed(TenureError):
    """A once step raised an error.  The error is recorded and raised again at every replay."""

    kind = ErrorKind.INVALID_REQUEST

    def __init__(self, effect_id: str, error: str, message: str) -> None:
        super().__init__(f"step {effect_id}: {error}: {message}")
        self.effect_id, self.error, self.message = effect_id, error, message
        self.replayed = True  # False: the step has raised just now


class StepOutcomeUnknown(TenureError):
    """A once step was started before a crash, and its outcome is unknown.  It never runs again."""

    kind = ErrorKind.NOT_RECONSTRUCTED

    def __init__(self, effect_id: str) -> None:
        super().__init__(
            f"step {effect_id}: outcome unknown (started before a crash; no probe resolved it)"
        )
        self.effect_id = effect_id


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


def describe(error: BaseException, *, secrets: bool = False) -> str:
    """Return type and message of an error in one line of at most 300 characters.

    It is without secrets, unless `secrets` says that a model reads it.
    """
    first = str(error).strip()[:READ_MAX].partition("\n")[0]
    clean = "".join(c for c in first if c.isprintable())
    clean = clean if secrets else without_secrets(clean)
    return f"{type(error).__name__}: {clean}"[:MESSAGE_MAX].rstrip(": ")


def failure_of(error: BaseException, jitter_ms: int) -> Failure:
    """Return the failure that a turn reports for this error."""
    if isinstance(error, TurnFailed):
        after = max(0, int(error.retry_after_ms))
        clean = without_secrets(error.message[:READ_MAX])[:MESSAGE_MAX]
        return Failure(error.error_kind, clean, after, jitter_ms)
    if isinstance(error, TimeoutError):
        return Failure(ErrorKind.TIMEOUT, describe(error), 0, jitter_ms)
    kind = error.kind if isinstance(error, TenureError) else ErrorKind.TRANSIENT
    return Failure(kind, describe(error), 0, jitter_ms)
