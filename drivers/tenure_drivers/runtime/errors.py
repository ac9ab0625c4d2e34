"""What the runtime raises, and what a failed turn is reported as."""

from __future__ import annotations

import re
from typing import Any

from tenure.failure import ErrorKind, Failure
from tenure.outcome import Refused
from tenure.transcript import UsageDelta

from ..stores.errors import TenureError

MESSAGE_MAX = 300
SECRETS = re.compile(
    r"(?i)\b(bearer\s+|sk-|api[_-]?key\W{0,3}|password\W{0,3}|token\W{0,3})\S+|://[^/\s@]+@"
)


class SubmissionRefused(TenureError):
    """The session does not take this input; `refused` says why, `refused.detail` because of what."""

    def __init__(self, refused: Refused) -> None:
        super().__init__(str(refused))
        self.refused = refused


class CommandRefused(TenureError):
    """A command was refused."""

    def __init__(self, what: str, refused: Refused) -> None:
        super().__init__(f"{what}: {refused}")
        self.refused = refused


class IllegalWrite(CommandRefused):
    """What the turn wants to write can never be written: it is too large, or no text."""

    kind = ErrorKind.INVALID_REQUEST


class NothingDue(TenureError):
    """There is nothing to begin in the session now; `reason` and `detail` say why, as the runner said it."""

    def __init__(self, session_id: str, reason: str, detail: Any) -> None:
        message = "" if detail is None else f": {detail}"
        super().__init__(f"nothing to begin in session {session_id!r}, {reason}{message}")
        self.reason, self.detail = reason, detail


class Cancelled(TenureError):
    """The turn is to end: somebody asked its run to stop, or its time is over.  Clean up and let it pass."""


class LeaseLost(TenureError):
    """The session is another owner's by now: nothing that this turn does is written any more."""


class AlreadyCommitted(TenureError):
    def __init__(self, run_id: str) -> None:
        super().__init__(f"the turn of run {run_id} has committed already; it can do nothing more")


class TurnFailed(TenureError):
    """Raise it to say as what a turn fails, how long to wait before it is tried again, and what models have used."""

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
    """A once step raised: that is its report, the same at every replay, for it never runs again."""

    kind = ErrorKind.INVALID_REQUEST

    def __init__(self, effect_id: str, error: str, message: str) -> None:
        super().__init__(f"step {effect_id}: {error}: {message}")
        self.effect_id, self.error, self.message = effect_id, error, message
        self.replayed = True  # it is read in the journal; False: it has just happened


class StepOutcomeUnknown(TenureError):
    """A once step was started, its process died, and nobody knows what became of it; it never runs again."""

    kind = ErrorKind.NOT_RECONSTRUCTED

    def __init__(self, effect_id: str) -> None:
        super().__init__(
            f"step {effect_id} was started before a crash; its outcome is unknown, no probe told it"
        )
        self.effect_id = effect_id


class IllegalResult(TenureError):
    """What a step or an agent returned cannot be kept."""

    kind = ErrorKind.INVALID_REQUEST


def describe(error: BaseException) -> str:
    """Type and message in one short line, without what looks like a secret."""
    first = str(error).strip().partition("\n")[0]
    clean = SECRETS.sub("[removed]", "".join(c for c in first if c.isprintable()))
    return f"{type(error).__name__}: {clean}"[:MESSAGE_MAX].rstrip(": ")


def failure_of(error: BaseException, jitter_ms: int) -> Failure:
    if isinstance(error, TurnFailed):
        after = max(0, int(error.retry_after_ms))
        clean = SECRETS.sub("[removed]", error.message)[:MESSAGE_MAX]
        return Failure(error.error_kind, clean, after, jitter_ms)
    if isinstance(error, TimeoutError):
        return Failure(ErrorKind.TIMEOUT, describe(error), 0, jitter_ms)
    kind = error.kind if isinstance(error, TenureError) else ErrorKind.TRANSIENT
    return Failure(kind, describe(error), 0, jitter_ms)
