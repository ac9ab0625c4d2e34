"""Which run comes next under our lease, and the last word about one.  Spec: specs/runner.md."""

from __future__ import annotations

from typing import Any

from ..commands import Begun, Commit, Committed, Ended, Fail, Release, Then
from ..failure import ErrorKind, Failure
from ..machines.run import Termination
from ..outcome import Refusal, Refused, Stepped
from ..queries import Command
from ..questions.core import LoadedRun, LoadRun
from ..replace import replace
from ..rules import Row
from ..transcript import UsageDelta
from .protocol import (
    Answered,
    Effect,
    EndTurn,
    Failed,
    Finished,
    RunFinished,
    RunnerStopReason,
    SetTimer,
    StartTurn,
    Stop,
    TurnEnded,
    TurnExit,
)
from .states import (
    Core,
    Ending,
    HeldRun,
    LeaseLost,
    Loading,
    Outcome,
    RenewalTimer,
    Stopped,
    TurnCommitted,
    TurnRunning,
    TurnStopReason,
    TurnSupervision,
    number,
    renew,
    reports,
    send,
)

# -- commands about the run we hold


def commit(core: Core, held_run: HeldRun, end: EndTurn) -> Commit:
    """RUNNER-20: the next run is taken under the same lease, unless others are to be let in."""
    begun, config = held_run.begun, core.config
    go_on = core.draining_ms is None and core.runs + 1 < config.runs_max
    return Commit(
        config.session_id, begun.fence, begun.run_id, begun.turn, held_run.n, begun.revision,
        end.termination, end.reason, end.nodes, end.usage, end.state,
        Then.NEXT if go_on else Then.RELEASE, end.next_run_id if go_on else None,
        config.limit, config.limit_bytes, end.hand_off, end.frame,
    )  # fmt: skip


def commit_cancelled(core: Core, held_run: HeldRun) -> Commit:
    begun = held_run.begun
    return Commit(
        core.config.session_id, begun.fence, begun.run_id, begun.turn, held_run.n, begun.revision,
        Termination.CANCELLED,
    )  # fmt: skip


def fail(held_run: HeldRun, failure: Failure, usage: tuple[UsageDelta, ...] = ()) -> Fail:
    begun = held_run.begun
    return Fail(begun.fence.session_id, begun.fence, begun.run_id, begun.turn, failure, usage)


def release(held_run: HeldRun) -> Release:
    fence = held_run.begun.fence
    return Release(fence.session_id, fence, held_run.begun.run_id)


def close(
    core: Core,
    held_run: HeldRun,
    command: Command[Any, Any],
    now_ms: int,
    clause: str,
    effects: tuple[Effect, ...] = (),
) -> Outcome:
    id, core = number(core)
    pending, effect = send(command, id, now_ms)
    return Stepped(Ending(core, held_run, pending), clause, (*effects, effect))


# -- the next run


def asked_to_stop(held_run: HeldRun) -> bool:
    return held_run.cancel is not None and held_run.cancel.run_id == held_run.begun.run_id


def begin_next(
    core: Core, held_run: HeldRun, now_ms: int, clause: str, effects: tuple[Effect, ...] = ()
) -> Outcome:
    """A run with a cancel flag is only closed (RUNNER-21), a draining runner starts nothing (RUNNER-22)."""
    if asked_to_stop(held_run):
        return close(core, held_run, commit_cancelled(core, held_run), now_ms, clause, effects)
    if core.draining_ms is not None:
        return close(core, held_run, release(held_run), now_ms, clause, effects)
    id, core = number(core)
    pending, effect = send(LoadRun(core.config.session_id, held_run.begun.run_id), id, now_ms)
    return Stepped(Loading(core, held_run, pending), clause, (*effects, effect))


def take_next(core: Core, held_run: HeldRun, begun: Begun) -> tuple[Core, HeldRun]:
    """The lease goes on as it was."""
    held_run = replace(held_run, begun=begun, n=begun.n, cancel=begun.cancel)
    return replace(core, runs=core.runs + 1), held_run


def launch(
    core: Core,
    held_run: HeldRun,
    loaded: LoadedRun,
    now_ms: int,
    clause: str,
    effects: tuple[Effect, ...] = (),
) -> Outcome:
    turn_id, core = number(core)
    timer, core = number(core)
    working = TurnRunning(core, held_run, TurnSupervision(turn_id, timer))
    deadline = SetTimer(timer, now_ms + core.config.turn_deadline_ms)
    return Stepped(
        working, clause, (*effects, deadline, StartTurn(turn_id, held_run.begun, loaded))
    )


def loaded_run(s: Loading, e: Answered) -> bool:
    return reports(s, e) and e.answer is not None


def free(s: Loading) -> bool:
    return not asked_to_stop(s.held_run) and s.core.draining_ms is None


def startable(s: Loading, e: Answered) -> bool:
    return loaded_run(s, e) and free(s) and s.held_run.on_time(e.now_ms)


def late(s: Loading, e: Answered) -> bool:
    return loaded_run(s, e) and free(s) and not s.held_run.on_time(e.now_ms)


def bound_to_end(s: Loading, e: Answered) -> bool:
    return loaded_run(s, e) and not free(s)


def missing(s: Loading, e: Answered) -> bool:
    return reports(s, e) and e.answer is None


def start_turn(s: Loading, e: Answered, clause: str) -> Outcome:
    return launch(s.core, s.held_run, e.answer, e.now_ms, clause)


def wait_for_lease(s: Loading, e: Answered, clause: str) -> Outcome:
    core, held_run, effects = renew_now(s.core, s.held_run, e.now_ms)
    return Stepped(Loading(core, held_run, None, e.answer), clause, effects)


def renew_now(
    core: Core, held_run: HeldRun, now_ms: int
) -> tuple[Core, HeldRun, tuple[Effect, ...]]:
    """Renew now, if that is not under way."""
    if not isinstance(held_run.renewal, RenewalTimer):
        return core, held_run, ()
    id, core = number(core)
    held_run, effect = renew(held_run, id, now_ms)
    return core, held_run, (effect,)


def end_at_once(s: Loading, e: Answered, clause: str) -> Outcome:
    return begin_next(s.core, s.held_run, e.now_ms, clause)


def stop_missing(s: Loading, e: Answered, clause: str) -> Outcome:
    message = f"run {s.held_run.begun.run_id} was begun and is not there"
    return Stepped(Stopped(), clause, (Stop(RunnerStopReason.BROKEN, message),))


# -- the end of a turn's code


def verdict(s: TurnRunning, turn_exit: TurnExit) -> Command[Any, Any]:
    """RUNNER-23, RUNNER-24, RUNNER-25: by what was asked of the turn, and by how its code ended."""
    if s.stop_reason is TurnStopReason.CANCELLED and not (
        isinstance(turn_exit, Finished) and turn_exit.end.closes
    ):
        return commit_cancelled(s.core, s.held_run)
    if isinstance(turn_exit, Finished):
        return commit(s.core, s.held_run, turn_exit.end)
    if s.stop_reason is TurnStopReason.TIMED_OUT:
        return fail(s.held_run, timed_out(s.core, turn_exit))
    if isinstance(turn_exit, Failed):
        return fail(s.held_run, turn_exit.failure, turn_exit.usage)
    return release(s.held_run)


def timed_out(core: Core, turn_exit: TurnExit) -> Failure:
    jitter = turn_exit.failure.jitter_ms if isinstance(turn_exit, Failed) else 0
    message = f"the turn took longer than {core.config.turn_deadline_ms} ms"
    return Failure(ErrorKind.TRANSIENT, message, 0, jitter)


def conclude(
    s: TurnRunning, turn_exit: TurnExit, now_ms: int, clause: str, effects: tuple[Effect, ...] = ()
) -> Outcome:
    return close(s.core, s.held_run, verdict(s, turn_exit), now_ms, clause, effects)


def ends(s: TurnCommitted | LeaseLost, e: TurnEnded) -> bool:
    return s.supervision.turn_id == e.turn_id


def next_run(s: TurnCommitted, e: Any, clause: str) -> Outcome:
    return begin_next(s.core, s.held_run, e.now_ms, clause)


def stop(s: LeaseLost, e: Any, clause: str) -> Outcome:
    return Stepped(Stopped(), clause, (s.stop,))


# -- the answer to the last word


def run_finished(held_run: HeldRun) -> RunFinished:
    return RunFinished(held_run.begun.run_id, held_run.begun.inputs)


def handed_on(s: Ending, e: Answered) -> bool:
    return reports(s, e) and isinstance(e.answer, Committed) and e.answer.next is not None


def closed(s: Ending, e: Answered) -> bool:
    return reports(s, e) and (
        isinstance(e.answer, Ended) or (isinstance(e.answer, Committed) and e.answer.next is None)
    )


def _no(s: Ending, e: Answered) -> bool:
    return reports(s, e) and isinstance(e.answer, Refused)


def cancel_requested(s: Ending, e: Answered) -> bool:
    return _no(s, e) and e.answer.reason is Refusal.CANCELLED


def illegal(s: Ending, e: Answered) -> bool:
    """The commit can never be carried out, but a Fail can."""
    final = (Refusal.CANCELLED, Refusal.FENCED)
    return _no(s, e) and isinstance(s.pending.what, Commit) and e.answer.reason not in final


def denied(s: Ending, e: Answered) -> bool:
    return _no(s, e) and (
        e.answer.reason is Refusal.FENCED
        or (not isinstance(s.pending.what, Commit) and e.answer.reason is not Refusal.CANCELLED)
    )


def hand_on(s: Ending, e: Answered, clause: str) -> Outcome:
    core, held_run = take_next(s.core, s.held_run, e.answer.next)
    return begin_next(core, held_run, e.now_ms, clause, (run_finished(s.held_run),))


def stop_done(s: Ending, e: Answered, clause: str) -> Outcome:
    return Stepped(
        Stopped(), clause, (run_finished(s.held_run), Stop(RunnerStopReason.DONE, e.answer))
    )


def cancel_instead(s: Ending, e: Answered, clause: str) -> Outcome:
    return close(s.core, s.held_run, commit_cancelled(s.core, s.held_run), e.now_ms, clause)


def fail_instead(s: Ending, e: Answered, clause: str) -> Outcome:
    hopeless = e.answer.reason is Refusal.ILLEGAL
    kind = ErrorKind.INVALID_REQUEST if hopeless else ErrorKind.TRANSIENT
    failure = Failure(kind, f"the commit was refused: {e.answer}"[:500])
    return close(s.core, s.held_run, fail(s.held_run, failure), e.now_ms, clause)


def stop_denied(s: Ending, e: Answered, clause: str) -> Outcome:
    reason = (
        RunnerStopReason.FENCED if e.answer.reason is Refusal.FENCED else RunnerStopReason.REFUSED
    )
    return Stepped(Stopped(), clause, (Stop(reason, e.answer),))


ENDING_ROWS: tuple[Row[Any, Any, Outcome], ...] = (
    Row("RUNNER-30", Loading, Answered, startable, start_turn),
    Row("RUNNER-31", Loading, Answered, late, wait_for_lease),
    Row("RUNNER-32", Loading, Answered, bound_to_end, end_at_once),
    Row("RUNNER-33", Loading, Answered, missing, stop_missing),
    Row("RUNNER-34", TurnCommitted, TurnEnded, ends, next_run),
    Row("RUNNER-35", LeaseLost, TurnEnded, ends, stop),
    Row("RUNNER-36", Ending, Answered, handed_on, hand_on),
    Row("RUNNER-37", Ending, Answered, closed, stop_done),
    Row("RUNNER-38", Ending, Answered, cancel_requested, cancel_instead),
    Row("RUNNER-39", Ending, Answered, illegal, fail_instead),
    Row("RUNNER-40", Ending, Answered, denied, stop_denied),
)
