"""A worker of the explored session: a tiny client that behaves as a runner may, and nothing else.

It begins, marks a once step, runs it, reports, commits; it fails, releases, renews; what it finds started without a
report it records as unknown and never runs.  An answer that tells it it is fenced sends it home.
"""

from __future__ import annotations

from typing import Any, Final

from attrs import frozen

from ... import commands as c
from ...failure import ErrorKind, Failure
from ...machines import lease as lease_
from ...machines.run import Termination
from ...outcome import Decided, Refusal, Refused
from ...records import EntryKind, JournalEntry
from ...replace import replace
from ...steps import StepAction, latest_entries, once_action, report, start_mark, unknown
from ...transcript import NewNode, Role
from .snapshot import TTL, S, Snapshot

__all__ = [
    "FAILURES",
    "HOME",
    "IDLE",
    "MARKED",
    "RAN",
    "Worker",
    "command",
    "owner",
    "stale_commands",
    "understood",
]


IDLE: Final = "idle"
BEGUN: Final = "begun"  # nothing is recorded
MARKED: Final = "marked"  # may run the once step
RAN: Final = "ran"  # has run it
FOUND: Final = "found"  # somebody started it and did not report
REPORTED: Final = "reported"
CLOSING: Final = "closing"  # was told of the cancel flag
EDITING: Final = "editing"  # holds the session without a run
AMENDED: Final = "amended"

STEP: Final = "x"  # the once step of every run
STEPS: Final = {
    StepAction.MARK: BEGUN,
    StepAction.PROBE: FOUND,
    StepAction.UNKNOWN: REPORTED,
    StepAction.REPLAY: REPORTED,
}
NEW_RUN: Final = "r.new"  # the run id of a Begin that takes up another run
FAILURES: Final = {
    "fail": Failure(ErrorKind.TRANSIENT),
    "fail for good": Failure(ErrorKind.INVALID_REQUEST),
    "fail at the provider": Failure(ErrorKind.RATE_LIMITED),
}


@frozen
class Worker:
    """What it knows.  `sent`: a command that it has sent and not seen answered; it sends it again, sometime."""

    step: str = IDLE
    generation: int = -1
    run_id: str = ""
    n: int = 0
    revision: int = 0
    sent: str = ""


HOME: Final = Worker()


def owner(slot: int) -> lease_.Owner:
    return lease_.Owner(f"w{slot}", f"w{slot}")


def fence(worker: Worker) -> lease_.Fence:
    return lease_.Fence(S, worker.generation, f"l{worker.generation}")


def command(kind: str, worker: Worker, slot: int) -> Any:
    """What a worker sends, rebuilt from what it knows, so that it can be sent again."""
    own, run_id, n = fence(worker), worker.run_id, worker.n
    match kind:
        case "begin" | "begin again":
            new = run_id if kind == "begin" else NEW_RUN
            return c.Begin(S, own.lease_id, new, owner(slot), TTL)
        case "acquire":
            return c.Acquire(S, own.lease_id, owner(slot), TTL)
        case "mark":
            return c.Checkpoint(S, own, run_id, 1, n, (start_mark(STEP),))
        case "report":
            node = NewNode(Role.ASSISTANT, "done")
            entry = report(STEP, "done")
            return c.Checkpoint(S, own, run_id, 1, n, (entry,), (node,))
        case "record unknown":
            return c.Checkpoint(S, own, run_id, 1, n, (unknown(STEP),))
        case "commit":
            return c.Commit(S, own, run_id, 1, n, worker.revision)
        case "commit, next":
            new = f"r.next.{run_id}"
            return c.Commit(
                S, own, run_id, 1, n, worker.revision, then=c.Then.NEXT, next_run_id=new
            )
        case "close":
            return c.Commit(S, own, run_id, 1, n, worker.revision, Termination.CANCELLED)
        case "release":
            return c.Release(S, own, run_id)
        case "renew":
            return c.Renew(S, own)
        case "amend":
            node = NewNode(Role.IMPORTED, "edited")
            return c.Amend(S, f"amend.{own.lease_id}", own, worker.revision, (node,))
        case "leave":
            return c.ReleaseSession(S, own)
        case _:
            return c.Fail(S, own, run_id, 1, FAILURES[kind])


def understood(
    worker: Worker, kind: str, answer: Decided[Any] | Refused, after: Snapshot
) -> Worker:
    """What a worker knows once it is answered."""
    if isinstance(answer, Refused):
        if answer.reason is Refusal.CANCELLED:
            return replace(worker, step=CLOSING, sent="")
        return HOME
    outcome = answer.outcome
    match outcome:
        case c.Begun():
            return _begun(outcome, after)
        case c.Acquired():
            generation = outcome.fence.generation
            return Worker(EDITING, generation, "", 0, outcome.revision)
        case c.Checkpointed():
            if not outcome.held:
                return HOME
            step = MARKED if kind == "mark" else REPORTED
            if outcome.cancel is not None and step == REPORTED:
                step = CLOSING
            return replace(worker, step=step, n=outcome.n, sent="")
        case c.Committed() if outcome.next is not None:
            return _begun(outcome.next, after)
        case c.Renewed():
            return replace(worker, sent="")
        case c.Amended():
            return replace(worker, step=AMENDED, revision=outcome.revision, sent="")
        case _:
            return HOME


def _begun(begun: Any, after: Snapshot) -> Worker:
    """Read the journal, and continue by the rule of once steps."""
    journal = [e for e in after.world.all(JournalEntry) if e.run_id == begun.run_id]
    action = once_action(latest_entries(journal, begun.turn).get(STEP))
    step = CLOSING if begun.cancel is not None else STEPS[action]
    return Worker(step, begun.fence.generation, begun.run_id, begun.n, begun.revision)


def stale_commands(worker: Worker, after: Snapshot) -> list[str]:
    """What this worker has had carried out under its lease, as far as the journal tells: it may arrive again."""
    lease_id = f"l{worker.generation}"
    named = {
        EntryKind.START: "mark",
        EntryKind.REPORT: "report",
        EntryKind.UNKNOWN: "record unknown",
    }
    return [
        f"{named[e.kind]} {e.n}"
        for e in after.world.all(JournalEntry)
        if e.run_id == worker.run_id and e.lease_id == lease_id and e.kind in named
    ]
