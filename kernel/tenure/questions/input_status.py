"""What has become of an input.  Spec: specs/inbox.md."""

from __future__ import annotations

import enum

from attrs import frozen

from ..failure import LastFailure
from ..machines import input as input_
from ..machines import run as run_
from ..records import Work

__all__ = ["InputStatus", "Result", "WaitInfo"]


class Result(enum.StrEnum):
    """INBOX-59: what has become of an input, for who waits for it."""

    PENDING = "pending"  # it has not ended
    WAITING = (
        "waiting"  # likewise, and its run waits, or the run that holds it: `wait` says for what
    )
    RESULT = "result"  # a run has finished with an answer
    NO_RESULT = "no_result"  # a run has consumed it, and has not finished or has no answer
    WITHDRAWN = "withdrawn"
    SUPERSEDED = "superseded"
    ABANDONED = "abandoned"
    DEAD_LETTERED = "dead_lettered"


@frozen
class WaitInfo:
    """What the run of a session waits for: with the input in it, or with the input held by it."""

    run_id: str
    reason: str
    tickets: tuple[str, ...]
    awaits: tuple[Work, ...] = ()  # whose ends settle some of the tickets

    @property
    def ends_by_itself(self) -> bool:
        """Whether only time or the work of others is waited for; any other wait needs a decision or an input."""
        return self.reason in (run_.WaitReason.PAUSE, run_.WaitReason.WORK)


@frozen
class InputStatus:
    """The status of an input.

    `status`: delayed, ready, bound, or how it ended (consumed, superseded, coalesced, withdrawn, abandoned,
    dead_lettered).  `by`: the run, input or command that ended it.  `termination`: how its run ended, set when the run
    is done.  `reason`: why, as a code, as the kind and message of an error, or as the id of the command that stopped the
    run.  `answer`: the text of the last node that the run committed.  `failures` counts failures, outages and losses
    since the last checkpoint; `last_failure` is the last failure that was reported.  `target_run`: the run that it
    names, while no run has it.  `checkpoint`: the number of the checkpoint that has taken it into a running turn.
    `readmitted_as`: the new input with the content of this dead letter.
    `wait`: its run waits, or holds it while it waits.
    """

    input_id: str
    status: str
    by: str | None = None
    run_id: str | None = None
    termination: str | None = None
    reason: str = ""
    failures: int = 0
    due_at_ms: int | None = None
    answer: str | None = None
    last_failure: LastFailure | None = None
    target_run: str | None = None
    checkpoint: int | None = None
    readmitted_as: str | None = None
    wait: WaitInfo | None = None

    @property
    def delivered(self) -> bool:
        """Whether a run has the input, or it has ended.  An input that is only addressed to a run is not delivered."""
        return self.status not in ("delayed", "ready")

    @property
    def ended(self) -> bool:
        """Whether the input has ended."""
        return self.status not in ("delayed", "ready", "bound")

    @property
    def result(self) -> Result:
        """What has become of the input (INBOX-59); `reason`, `by` or `wait` says why."""
        if not self.ended:
            return Result.PENDING if self.wait is None else Result.WAITING
        if self.status == input_.How.CONSUMED:
            answered = self.succeeded and self.answer is not None
            return Result.RESULT if answered else Result.NO_RESULT
        coalesced = self.status == input_.How.COALESCED
        return Result.SUPERSEDED if coalesced else Result(self.status)

    @property
    def succeeded(self) -> bool:
        """Whether a run that finished has consumed the input; a run that failed may consume it too (RUN-13)."""
        consumed = self.status == input_.How.CONSUMED
        return consumed and self.termination == run_.Termination.FINISHED
