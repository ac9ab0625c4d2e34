"""A worker of the session model: a small client that sends the commands of a runner.

It begins a run, marks its once step, runs the step, reports and commits.  It may also fail, release and renew.  If a
once step was started without a report, the worker records its outcome as unknown and does not run it.  An answer that
it is fenced makes it idle.
"""

from __future__ import annotations

from typing import Any, Final

from attrs import frozen

from ... import commands as c
from ...failure import ErrorKind, Failure
from ...machines import lease as lease_
from ...machines.run import Termination, WaitReason
from ...machines.ticket import Action, Rest, TicketKind
from ...outcome import Decided, Refusal, Refused
from ...policy import Boundary, WhileWaiting
from ...records import EntryKind, JournalEntry, Work
from ...replace import replace
from ...steps import StepAction, latest_entries, once_action, report, start_mark, unknown
from ...transcript import NewNode, Role
from .snapshot import TTL, S, Snapshot

__all__ = [
    "FAILURES",
    "IDLE_WORKER",
    "IDLE",
    "MARKED",
    "RAN",
    "Worker",
    "command",
    "owner",
    "stale_commands",
    "worker_after",
]


IDLE: Final = "idle"
BEGUN: Final = "begun"  # nothing is recorded yet
MARKED: Final = "marked"  # it may run the once step
RAN: Final = "ran"  # it has run the once step
STARTED: Final = "started"  # an earlier holder has started the once step and has not reported
REPORTED: Final = "reported"
CLOSING: Final = "closing"  # its run is cancelled
CALLED: Final = "called"  # a call of its run has no result
ASKED: Final = "asked"  # it has opened tickets
ANSWERED: Final = "answered"  # enough of them are settled
JOINED: Final = "joined"  # likewise, and the others are superseded
EDITING: Final = "editing"  # it holds the session without a run
AMENDED: Final = "amended"

EDITED: Final = NewNode(Role.IMPORTED, "edited")
STEP: Final = "x"  # the once step of every run
WAIT: Final = "wait#1"  # the wait of every run; Begin records what enters it
STEPS: Final = {
    StepAction.MARK: BEGUN,
    StepAction.PROBE: STARTED,
    StepAction.UNKNOWN: REPORTED,
    StepAction.REPLAY: REPORTED,
}
ENVIRONMENT: Final = "environment a"
AFTER: Final = {
    "mark": MARKED,
    "report": REPORTED,
    "record unknown": REPORTED,
    "call": CALLED,
    "answer": REPORTED,
    "ask": ASKED,
    "ask all three": ASKED,
    "ask about the call": ASKED,
    ENVIRONMENT: REPORTED,
}
JOIN: Final = "park for two of three"
PARKS: Final = {
    "park for all": (WaitReason.APPROVAL, None, None),
    "park for any": (WaitReason.APPROVAL, 1, None),
    "park, the prompt ends it": (WaitReason.APPROVAL, 1, WhileWaiting.SUPERSEDE),
    "park for input": (WaitReason.USER_INPUT, 1, None),
    "park for background": (WaitReason.BACKGROUND, 1, None),
    JOIN: (WaitReason.WORK, 2, None),
}
A_TWICE: Final = (c.NewState("state", "a"), c.NewState("plan", "a"))
B: Final = (c.NewState("state", "b"), c.NewState("plan", None))
NOTHING: Final = (c.NewState("state", None), c.NewState("plan", None))
REMEMBERED: Final[dict[str, tuple[tuple[c.NewState, ...], c.Switch | None]]] = {
    "a twice": (A_TWICE, None),
    "state b": (B, None),
    "no states": (NOTHING, None),
    "open f": (A_TWICE, c.Switch("f", agent="other")),
    "open g empty": ((), c.Switch("g", inherit=False, own_path=True)),
    "first": ((), c.Switch("", own_path=True)),
}
NEW_RUN: Final = "r.new"  # the run id of a Begin that may resume another run
FAILURES: Final = {
    "fail": Failure(ErrorKind.TRANSIENT),
    "fail for good": Failure(ErrorKind.INVALID_REQUEST),
    "fail at the provider": Failure(ErrorKind.RATE_LIMITED),
}


@frozen
class Worker:
    """What a worker knows.  `sent`: the command whose answer was lost; the worker will send it again."""

    step: str = IDLE
    generation: int = -1
    run_id: str = ""
    n: int = 0
    revision: int = 0
    sent: str = ""
    turn: int = 1


IDLE_WORKER: Final = Worker()


def owner(slot: int) -> lease_.Owner:
    return lease_.Owner(f"w{slot}", f"w{slot}")


def fence(worker: Worker) -> lease_.Fence:
    return lease_.Fence(S, worker.generation, f"l{worker.generation}")


def command(kind: str, worker: Worker, slot: int) -> Any:
    """Return the command that a worker sends.  It depends only on what the worker knows, so it can be sent again."""
    own, run_id, n, turn = fence(worker), worker.run_id, worker.n, worker.turn
    match kind:
        case "begin" | "begin again":
            new = run_id if kind == "begin" else NEW_RUN
            return c.Begin(S, own.lease_id, new, owner(slot), TTL)
        case "acquire":
            return c.Acquire(S, own.lease_id, owner(slot), TTL)
        case "mark":
            return c.Checkpoint(S, own, run_id, turn, n, (start_mark(STEP),))
        case "report":
            node = NewNode(Role.ASSISTANT, "done")
            entry = report(STEP, "done")
            return c.Checkpoint(S, own, run_id, turn, n, (entry,), (node,))
        case "record unknown":
            return c.Checkpoint(S, own, run_id, turn, n, (unknown(STEP),))
        case "commit":
            return c.Commit(S, own, run_id, turn, n, worker.revision)
        case "commit, next":
            new = f"r.next.{run_id}"
            return c.Commit(
                S, own, run_id, turn, n, worker.revision, then=c.Then.NEXT, next_run_id=new
            )
        case "commit as cancelled":
            return c.Commit(S, own, run_id, turn, n, worker.revision, Termination.CANCELLED)
        case "take":
            return c.Checkpoint(
                S, own, run_id, turn, n, take=Boundary.AFTER_WORK, take_max=1, take_id=kind
            )
        case "take at the end":
            return c.Checkpoint(
                S, own, run_id, turn, n, take=Boundary.BEFORE_COMPLETION, take_id=kind
            )
        case "call":
            node = NewNode(Role.ASSISTANT, "calling", ("x",))
            return c.Checkpoint(
                S, own, run_id, turn, n, (), (node,), take=Boundary.AFTER_WORK, take_id=kind
            )
        case "answer":
            node = NewNode(Role.TOOL, "found", ("x",))
            return c.Checkpoint(
                S, own, run_id, turn, n, (), (node,), take=Boundary.AFTER_WORK, take_id=kind
            )
        case "commit, yields":
            return c.Commit(S, own, run_id, turn, n, worker.revision, yields=True)
        case _ if kind.startswith(("ask", "park")):
            return _asking(kind, worker)
        case _ if kind.startswith((ENVIRONMENT, "commit, ", "amend, ")):
            return _remembering(kind, worker)
        case "release":
            return c.Release(S, own, run_id)
        case "renew":
            return c.Renew(S, own)
        case "amend":
            return c.Amend(S, f"amend.{own.lease_id}", own, worker.revision, (EDITED,))
        case "release session":
            return c.ReleaseSession(S, own)
        case _:
            return c.Fail(S, own, run_id, turn, FAILURES[kind])


def _remembering(kind: str, worker: Worker) -> Any:
    """Return the command that sets states or switches the frame, in a turn or at rest."""
    own, run_id, turn, n = fence(worker), worker.run_id, worker.turn, worker.n
    if kind == ENVIRONMENT:
        noted = (c.NewEntry(EntryKind.NOTE, STEP),)
        return c.Checkpoint(S, own, run_id, turn, n, noted, environment="a")
    how, _, what = kind.partition(", ")
    states, switch = REMEMBERED[what]
    if how == "amend":
        command_id = f"amend.{own.lease_id}"
        return c.Amend(S, command_id, own, worker.revision, switch=switch, states=states)
    opens = switch is not None and run_id == "r.p"
    handed = c.NewInput("h", "hand_off", "h") if opens else None
    return c.Commit(
        *(S, own, run_id, turn, n, worker.revision),
        hand_off=handed, switch=switch, states=states,
    )  # fmt: skip


def _asking(kind: str, worker: Worker) -> Any:
    """Return the command that opens the tickets of a run, or parks it."""
    own, run_id, n, turn = fence(worker), worker.run_id, worker.n, worker.turn
    if kind in PARKS:
        cause, needs, on_input = PARKS[kind]
        joins = kind == JOIN
        named = (f"t1.{run_id}", f"t2.{run_id}", *((f"t3.{run_id}",) if joins else ()))
        rest = Rest.CANCEL if joins else Rest.KEEP
        return c.Park(S, own, run_id, turn, n, WAIT, cause, named, needs, on_input, rest=rest)
    calls = kind == "ask about the call"
    nodes = (NewNode(Role.ASSISTANT, "calling", ("x",)),) if calls else ()
    offers = (Action.APPROVE, Action.REJECT)
    tickets: tuple[c.NewTicket, ...] = (
        c.NewTicket(
            f"t1.{run_id}", "a#1", TicketKind.APPROVAL, "?", offers, None, "x" if calls else None
        ),
        c.NewTicket(f"t2.{run_id}", "b#1", TicketKind.TIMER, within_ms=1),
    )
    if kind == "ask all three":
        tickets = (
            *tickets,
            c.NewTicket(f"t3.{run_id}", "c#1", TicketKind.WORK, awaits=Work("child", "j")),
        )
    return c.Checkpoint(S, own, run_id, turn, n, (), nodes, tickets=tickets)


def worker_after(
    worker: Worker, kind: str, answer: Decided[Any] | Refused, after: Snapshot
) -> Worker:
    """Return the worker after an answer."""
    if isinstance(answer, Refused):
        if answer.reason is Refusal.CANCELLED:
            return replace(worker, step=CLOSING, sent="")
        if answer.reason is Refusal.STEERED:
            return replace(worker, sent="")
        return IDLE_WORKER
    outcome = answer.outcome
    match outcome:
        case c.Begun():
            return _begun(outcome, after)
        case c.Acquired():
            generation = outcome.fence.generation
            return Worker(EDITING, generation, "", 0, outcome.revision)
        case c.Checkpointed():
            if not outcome.held:
                return IDLE_WORKER
            step = AFTER.get(kind, worker.step)
            if outcome.cancel is not None and step != MARKED:
                step = CLOSING
            return replace(worker, step=step, n=outcome.n, sent="")
        case c.GoOn():
            return replace(worker, step=JOINED if kind == JOIN else ANSWERED, sent="")
        case c.Committed() if outcome.next is not None:
            return _begun(outcome.next, after)
        case c.Renewed():
            return replace(worker, sent="")
        case c.Amended():
            return replace(worker, step=AMENDED, revision=outcome.revision, sent="")
        case _:
            return IDLE_WORKER


def _begun(begun: Any, after: Snapshot) -> Worker:
    """Read the journal, and continue by the rule of once steps."""
    journal = [e for e in after.world.all(JournalEntry) if e.run_id == begun.run_id]
    action = once_action(latest_entries(journal, begun.turn).get(STEP))
    step = CLOSING if begun.cancel is not None else STEPS[action]
    if step != CLOSING and after.runs[begun.run_id].open_calls:
        step = CALLED
    if step != CLOSING and any(e.kind is EntryKind.TICKET for e in journal):
        waited = any(e.kind is EntryKind.WAIT for e in journal)
        step = ANSWERED if waited else ASKED  # entered again: the code looks at its tickets
    return Worker(
        step, begun.fence.generation, begun.run_id, begun.n, begun.revision, "", begun.turn
    )


def stale_commands(worker: Worker, after: Snapshot) -> list[str]:
    """Return the commands of this worker that the journal shows as executed under its lease."""
    lease_id = f"l{worker.generation}"
    named = {
        EntryKind.START: "mark",
        EntryKind.REPORT: "report",
        EntryKind.UNKNOWN: "record unknown",
    }
    own = [
        e
        for e in after.world.all(JournalEntry)
        if e.run_id == worker.run_id and e.lease_id == lease_id
    ]
    taken = [
        f"{e.effect_id} {e.n}" for e in own if e.kind is EntryKind.TAKEN and e.effect_id != WAIT
    ]
    return [*(f"{named[e.kind]} {e.n}" for e in own if e.kind in named), *taken]
