"""Failures of turns: which are retried, when, and when a run is given up.  Spec: specs/run.md."""

from __future__ import annotations

import enum
import hashlib
from typing import ClassVar, Final

from attrs import frozen

from .replace import replace

__all__ = [
    "ATTEMPT_MAX_MS",
    "BACKOFF_BASE_MS",
    "BACKOFF_CAP_MS",
    "DEFAULT_LIMITS",
    "FAILURES_MAX",
    "GIVE_UP_AFTER_MS",
    "LOSSES_BEFORE_SPLIT",
    "LOSSES_MAX",
    "MOST_LIMITS",
    "NATURES",
    "NO_FAILURES",
    "ErrorKind",
    "Failure",
    "GiveUp",
    "LastFailure",
    "Nature",
    "Retry",
    "RetryLimits",
    "RetryState",
    "backoff_from_ms",
    "backoff_is_over",
    "backoff_ms",
    "decide_after_loss",
    "decide_retry",
    "jitter_ms",
    "others_max",
]


class ErrorKind(enum.StrEnum):
    """What went wrong in a turn."""

    # outside: retried for a limited time, independent of the input
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    UNAVAILABLE = "unavailable"
    TIMEOUT = "timeout"
    ALL_MODELS_UNAVAILABLE = "all_models_unavailable"  # also those to fall back on
    STREAM_INTERRUPTED = "stream_interrupted"  # a reply that had begun was not finished
    VERSION_MISSING = "version_missing"  # this worker lacks the version; another one may have it
    # permanent: a retry cannot help
    UNAUTHORISED = "unauthorised"
    CONTEXT_OVERFLOW = "context_overflow"
    INVALID_REQUEST = "invalid_request"
    MODEL_NOT_FOUND = "model_not_found"
    CONTENT_FILTERED = "content_filtered"
    REFUSED_BY_PROVIDER = "refused_by_provider"  # the model will not answer
    LIMIT_REACHED = "limit_reached"  # the session has as many frames as it may have
    UNKNOWN_AGENT = "unknown_agent"
    NOT_RECONSTRUCTED = "not_reconstructed"
    REPLAY_MISMATCH = "replay_mismatch"
    # transient: retried a limited number of times
    TRANSIENT = "transient"
    LOST = "lost"  # set by the kernel: its leases ended again and again
    added = enum.nonmember(
        {
            "ALL_MODELS_UNAVAILABLE": 2,
            "STREAM_INTERRUPTED": 2,
            "VERSION_MISSING": 2,
            "REFUSED_BY_PROVIDER": 2,
            "LIMIT_REACHED": 2,
        }
    )
    instead = enum.nonmember(  # FAIL-18: what is stored while release 1 is active
        {
            "ALL_MODELS_UNAVAILABLE": "UNAVAILABLE",
            "STREAM_INTERRUPTED": "UNAVAILABLE",
            "VERSION_MISSING": "UNAVAILABLE",
            "REFUSED_BY_PROVIDER": "CONTENT_FILTERED",
            "LIMIT_REACHED": "INVALID_REQUEST",
        }
    )


class Nature(enum.StrEnum):
    """FAIL-17: how a kind of error is retried."""

    PROVIDER = "provider"  # or something else outside of the session
    PERMANENT = "permanent"
    TRANSIENT = "transient"


NATURES: Final[dict[ErrorKind, Nature]] = {
    ErrorKind.RATE_LIMITED: Nature.PROVIDER,
    ErrorKind.OVERLOADED: Nature.PROVIDER,
    ErrorKind.UNAVAILABLE: Nature.PROVIDER,
    ErrorKind.TIMEOUT: Nature.PROVIDER,
    ErrorKind.ALL_MODELS_UNAVAILABLE: Nature.PROVIDER,
    ErrorKind.STREAM_INTERRUPTED: Nature.PROVIDER,
    ErrorKind.VERSION_MISSING: Nature.PROVIDER,
    ErrorKind.TRANSIENT: Nature.TRANSIENT,
    ErrorKind.LOST: Nature.TRANSIENT,
} | {
    kind: Nature.PERMANENT
    for kind in (
        ErrorKind.UNAUTHORISED,
        ErrorKind.CONTEXT_OVERFLOW,
        ErrorKind.INVALID_REQUEST,
        ErrorKind.MODEL_NOT_FOUND,
        ErrorKind.CONTENT_FILTERED,
        ErrorKind.REFUSED_BY_PROVIDER,
        ErrorKind.LIMIT_REACHED,
        ErrorKind.UNKNOWN_AGENT,
        ErrorKind.NOT_RECONSTRUCTED,
        ErrorKind.REPLAY_MISMATCH,
    )
}

FAILURES_MAX: Final = 5
LOSSES_MAX: Final = 16
LOSSES_BEFORE_SPLIT: Final = 2
OTHERS_MAX: Final = ((4, 0), (3, 1), (2, 7))  # losses, and how many others may run beside the run
GIVE_UP_AFTER_MS: Final = 3_600_000
ATTEMPT_MAX_MS: Final = 600_000  # of an outage, counted for one attempt
BACKOFF_BASE_MS: Final = 250
BACKOFF_CAP_MS: Final = 30_000


@frozen
class RetryLimits:
    """FAIL-19: how often, how long, and with which backoff a run is retried.  Stored with its input."""

    since: ClassVar = 2
    failures: int = FAILURES_MAX  # transient ones; the last gives the run up
    losses: int = LOSSES_MAX  # likewise
    give_up_after_ms: int = GIVE_UP_AFTER_MS  # since the first failure of an outage
    base_ms: int = BACKOFF_BASE_MS  # the first pause; it doubles
    cap_ms: int = BACKOFF_CAP_MS  # the longest pause


DEFAULT_LIMITS: Final = RetryLimits()
MOST_LIMITS: Final = RetryLimits(1_000, 1_000, 30 * 24 * 3_600_000, 3_600_000, 3_600_000)


@frozen
class Failure:
    """A failure as the holder reports it.  The caller chooses `jitter_ms`, since the kernel has no randomness."""

    kind: ErrorKind
    message: str = ""
    retry_after_ms: int = 0
    jitter_ms: int = 0


@frozen
class LastFailure:
    """FAIL-16: the last reported failure of a run.  It is for people: no decision reads it.

    `attempt` is its number among the failures, outages and losses since the last checkpoint.
    """

    kind: ErrorKind
    message: str
    attempt: int

    @property
    def text(self) -> str:
        """The kind and the message."""
        return f"{self.kind.value}: {self.message}".rstrip(": ")

    def __str__(self) -> str:
        return f"{self.text} (attempt {self.attempt})"


@frozen
class RetryState:
    """The failures of a run since its last checkpoint, and the last one of all."""

    added: ClassVar = {"retry_due_ms": 2}
    ignorable: ClassVar = ("retry_due_ms",)
    failures: int = 0  # transient, reported by holders
    outages: int = 0  # provider failures since `first_failure_ms`
    losses: int = 0  # leases that ended with nothing recorded under them
    first_failure_ms: int | None = None  # later by the time that is not counted (FAIL-22)
    last: LastFailure | None = None
    retry_due_ms: int | None = None  # when the attempt after the last provider failure was due

    def failure_count(self) -> int:
        """Return the sum of failures, outages and losses."""
        return self.failures + self.outages + self.losses

    def reset(self) -> RetryState:
        """Return the state after something was recorded: the counts are 0."""
        return NO_FAILURES if self.last is None else RetryState(last=self.last)


@frozen
class Retry:
    """The run is due again at `due_at_ms`."""

    due_at_ms: int
    state: RetryState
    hold: bool  # everything after it in the session waits, whatever the policy
    clause: str


@frozen
class GiveUp:
    """The run ends.  `permanent`: a retry could not have helped."""

    state: RetryState
    permanent: bool
    clause: str


NO_FAILURES: Final = RetryState()


def backoff_ms(state: RetryState, limits: RetryLimits = DEFAULT_LIMITS) -> int:
    """RUN-20: return base * 2^(n-1), capped; n counts failures, outages and losses."""
    exponent = min(max(state.failure_count() - 1, 0), 20)
    return int(min(limits.base_ms * 2**exponent, limits.cap_ms))


def backoff_from_ms(since_ms: int | None, due_at_ms: int | None) -> int | None:
    """RUN-25: return before which time a retry is due at once, since the clock was set back by more than its backoff.

    `since_ms`: when it was scheduled; None: it is not a retry, or release 1 has stored it.  `due_at_ms`: its time.
    """
    if since_ms is None or due_at_ms is None:
        return None
    return 2 * since_ms - due_at_ms


def backoff_is_over(since_ms: int | None, due_at_ms: int | None, now_ms: int) -> bool:
    """Return whether the time of a retry has come, or the clock was set back by more than its backoff (RUN-25)."""
    if due_at_ms is None or due_at_ms <= now_ms:
        return True
    from_ms = backoff_from_ms(since_ms, due_at_ms)
    return from_ms is not None and from_ms > now_ms


def decide_retry(
    state: RetryState, failure: Failure, now_ms: int, limits: RetryLimits = DEFAULT_LIMITS
) -> Retry | GiveUp:
    """Decide what becomes of a run whose holder reported this failure."""
    nature = NATURES[failure.kind]
    if nature is Nature.PERMANENT:
        return GiveUp(state, True, "FAIL-1")
    if nature is Nature.PROVIDER:
        first = _outage_from(state, now_ms)
        after = RetryState(state.failures, state.outages + 1, state.losses, first, state.last)
        if now_ms - first >= limits.give_up_after_ms:
            return GiveUp(after, False, "FAIL-2")
        due_at_ms = _due(after, failure, now_ms, limits)
        return Retry(due_at_ms, replace(after, retry_due_ms=due_at_ms), True, "FAIL-3")
    after = RetryState(state.failures + 1, 0, state.losses, None, state.last)
    if after.failures >= limits.failures:
        return GiveUp(after, False, "FAIL-4")
    return Retry(_due(after, failure, now_ms, limits), after, False, "FAIL-5")


def _outage_from(state: RetryState, now_ms: int) -> int:
    """FAIL-22: return from when an outage counts: an attempt counts for ATTEMPT_MAX_MS at most after it was due."""
    if state.first_failure_ms is None:
        return now_ms
    late = 0 if state.retry_due_ms is None else now_ms - state.retry_due_ms - ATTEMPT_MAX_MS
    return min(state.first_failure_ms + max(late, 0), now_ms)


def jitter_ms(run_id: str, state: RetryState, limits: RetryLimits = DEFAULT_LIMITS) -> int:
    """RUN-22: return less than the backoff.  It follows from the run and its losses, so it differs between runs."""
    digest = hashlib.sha256(f"{run_id} {state.losses}".encode()).digest()
    return int.from_bytes(digest[:8]) % backoff_ms(state, limits)


def others_max(state: RetryState) -> int | None:
    """RUN-23: return how many other sessions an owner may run beside this run; None: any number."""
    return next((most for losses, most in OTHERS_MAX if state.losses >= losses), None)


def decide_after_loss(
    run_id: str,
    state: RetryState,
    recorded: bool,
    now_ms: int,
    limits: RetryLimits = DEFAULT_LIMITS,
) -> Retry | GiveUp:
    """Decide what becomes of a run whose lease ended without a command of its holder."""
    if recorded:
        return Retry(now_ms, state, False, "FAIL-6")
    after = replace(state, losses=state.losses + 1)
    if after.losses >= limits.losses:
        return GiveUp(after, False, "FAIL-7")
    due_at_ms = now_ms + backoff_ms(after, limits) + jitter_ms(run_id, after, limits)
    return Retry(due_at_ms, after, False, "FAIL-8")


def _due(state: RetryState, failure: Failure, now_ms: int, limits: RetryLimits) -> int:
    """RUN-21: return when a failed run is due, bounded by how long an outage may last."""
    asked_ms = min(failure.retry_after_ms, GIVE_UP_AFTER_MS, limits.give_up_after_ms)
    after_ms = max(backoff_ms(state, limits), asked_ms)
    return now_ms + after_ms + min(max(failure.jitter_ms, 0), BACKOFF_CAP_MS)
