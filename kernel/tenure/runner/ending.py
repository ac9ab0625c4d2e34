"""The final command about a run, and the run that follows under the same lease.  Spec: specs/runner.md."""

from __future__ import annotations

from typing import Any, Final

from ..commands import Begun, Commit, Fail, Release, Then
from ..failure import ErrorKind, Failure
from ..machines.run import Termination
from ..outcome import Refusal, Stepped
from ..queries import Command
from ..questions.core import LoadedRun, LoadRun
from ..replace import replace
from ..transcript import UsageDelta
from .answers import (
    CallRefused,
    CommitRefused,
    Fenced,
    NextTaken,
    RunCancelled,
    RunEnded,
    RunLoaded,
    RunMissing,
)
from .protocol import (
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
    next_id,
    renew,
    send,
)

__all__ = [
    "begin_next",
    "begin_taken",
    "cancel_instead",
    "commit",
    "conclude",
    "end_turn",
    "end_unstarted",
    "fail_instead",
    "fail_plainly",
    "follow",
    "launch",
    "loaded_in_vain",
    "loaded_late",
    "loaded_on_time",
    "refuses_failure",
    "refuses_finally",
    "renew_now",
    "run_finished",
    "start_turn",
    "stop",
    "stop_done",
    "stop_missing",
    "stop_unwritten",
    "take_next",
    "wait_for_lease",
]


HOPELESS: Final = {  # RUNNER-39: refusals of a commit that no repetition escapes
    Refusal.ILLEGAL: ErrorKind.INVALID_REQUEST,
    Refusal.PRUNED: ErrorKind.INVALID_REQUEST,  # FRAME-12: a frame stays pruned
    Refusal.FULL: ErrorKind.LIMIT_REACHED,  # FRAME-6: the number of frames never falls
}


# -- final commands


def commit(core: Core, held_run: HeldRun, request: EndTurn, *, yields: bool = False) -> Commit:
    """Return the commit of a turn.  It takes the next run, unless other owners get their chance (RUNNER-20).

    It may yield only while there is code that can go on (RUNNER-114).
    """
    begun, config, end = held_run.begun, core.config, request.end
    take_next = not core.draining and core.runs + 1 < config.runs_max
    return Commit(
        config.session_id, begun.fence, begun.run_id, begun.turn, held_run.n, begun.revision,
        end.termination, end.reason, end.nodes, end.usage, end.state,
        Then.NEXT if take_next else Then.RELEASE, request.next_run_id if take_next else None,
        config.limit, config.limit_bytes, end.hand_off, end.frame, yields, config.resolution,
        end.switch, end.states, end.attach, end.outbound,
    )  # fmt: skip


def commit_cancelled(core: Core, held_run: HeldRun) -> Commit:
    """Return the commit that closes a run as cancelled."""
    begun = held_run.begun
    return Commit(
        core.config.session_id, begun.fence, begun.run_id, begun.turn, held_run.n, begun.revision,
        Termination.CANCELLED,
    )  # fmt: skip


def fail(held_run: HeldRun, failure: Failure, usage: tuple[UsageDelta, ...] = ()) -> Fail:
    """Return the Fail of the held run."""
    begun = held_run.begun
    return Fail(begun.fence.session_id, begun.fence, begun.run_id, begun.turn, failure, usage)


def release(held_run: HeldRun) -> Release:
    """Return the Release of the held run."""
    fence = held_run.begun.fence
    return Release(fence.session_id, fence, held_run.begun.run_id)


def send_final(
    core: Core,
    held_run: HeldRun,
    command: Command[Any, Any],
    now_ms: int,
    clause: str,
    effects: tuple[Effect, ...] = (),
) -> Outcome:
    """Send the final command, after `effects`."""
    id, core = next_id(core)
    pending, effect = send(command, id, now_ms)
    return Stepped(Ending(core, held_run, pending), clause, (*effects, effect))


# -- the next run


def begin_next(
    core: Core, held_run: HeldRun, now_ms: int, clause: str, effects: tuple[Effect, ...] = ()
) -> Outcome:
    """Load the held run.  Close it if it was cancelled (RUNNER-21); release it while draining (RUNNER-22)."""
    if held_run.cancelled:
        command = commit_cancelled(core, held_run)
        return send_final(core, held_run, command, now_ms, clause, effects)
    if core.draining:
        return send_final(core, held_run, release(held_run), now_ms, clause, effects)
    id, core = next_id(core)
    pending, effect = send(LoadRun(core.config.session_id, held_run.begun.run_id), id, now_ms)
    return Stepped(Loading(core, held_run, pending), clause, (*effects, effect))


def take_next(core: Core, held_run: HeldRun, begun: Begun) -> tuple[Core, HeldRun]:
    """Return the core and the next run, under the same lease."""
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
    """Start the turn code, with a time limit."""
    turn_id, core = next_id(core)
    timer, core = next_id(core)
    running = TurnRunning(core, held_run, TurnSupervision(turn_id, timer))
    limit = SetTimer(timer, now_ms + core.config.turn_deadline_ms)
    start = StartTurn(turn_id, held_run.begun, loaded)
    return Stepped(running, clause, (*effects, limit, start))


def renew_now(
    core: Core, held_run: HeldRun, now_ms: int
) -> tuple[Core, HeldRun, tuple[Effect, ...]]:
    """Send a renewal, unless one is in progress."""
    if not isinstance(held_run.renewal, RenewalTimer):
        return core, held_run, ()
    id, core = next_id(core)
    held_run, effect = renew(held_run, id, now_ms)
    return core, held_run, (effect,)


# -- guards on a loaded run


def may_run(s: Loading, e: RunLoaded) -> bool:
    """True if the run has to be neither closed nor released."""
    return not s.held_run.cancelled and e.loaded.cancel is None and not s.core.draining


def loaded_on_time(s: Loading, e: RunLoaded) -> bool:
    """True if the turn may start now."""
    return may_run(s, e) and s.held_run.on_time(e.now_ms)


def loaded_late(s: Loading, e: RunLoaded) -> bool:
    """True if the lease has to be renewed first."""
    return may_run(s, e) and not s.held_run.on_time(e.now_ms)


def loaded_in_vain(s: Loading, e: RunLoaded) -> bool:
    """True if the run has to be closed or released by now."""
    return not may_run(s, e)


# -- actions


def start_turn(s: Loading, e: RunLoaded, clause: str) -> Outcome:
    """Start the turn of the loaded run."""
    return launch(s.core, s.held_run, e.loaded, e.now_ms, clause)


def wait_for_lease(s: Loading, e: RunLoaded, clause: str) -> Outcome:
    """Keep what was loaded until the lease is renewed."""
    core, held_run, effects = renew_now(s.core, s.held_run, e.now_ms)
    return Stepped(Loading(core, held_run, None, e.loaded), clause, effects)


def end_unstarted(s: Loading, e: RunLoaded, clause: str) -> Outcome:
    """Close or release the run."""
    cancel = s.held_run.cancel if e.loaded.cancel is None else e.loaded.cancel
    return begin_next(s.core, replace(s.held_run, cancel=cancel), e.now_ms, clause)


def stop_missing(s: Loading, e: RunMissing, clause: str) -> Outcome:
    """Stop: the records of the session contradict each other."""
    message = f"run {s.held_run.begun.run_id} was begun, but it has no record"
    return Stepped(Stopped(), clause, (Stop(RunnerStopReason.BROKEN, message, True),))


def final_command(s: TurnRunning, turn_exit: TurnExit) -> Command[Any, Any]:
    """Return the final command for a turn whose code has ended (RUNNER-23, RUNNER-24, RUNNER-25)."""
    closes = isinstance(turn_exit, Finished) and turn_exit.end.end.closes
    if s.stop_reason is TurnStopReason.CANCELLED and not closes:
        return commit_cancelled(s.core, s.held_run)
    if isinstance(turn_exit, Finished):
        return commit(s.core, s.held_run, turn_exit.end)
    if s.stop_reason is TurnStopReason.TIMED_OUT:
        return fail(s.held_run, timed_out(s.core, turn_exit))
    if isinstance(turn_exit, Failed):
        return fail(s.held_run, turn_exit.failure, turn_exit.usage)
    return release(s.held_run)


def timed_out(core: Core, turn_exit: TurnExit) -> Failure:
    """Return the failure of a turn that has reached its time limit."""
    jitter = turn_exit.failure.jitter_ms if isinstance(turn_exit, Failed) else 0
    message = f"the turn took longer than {core.config.turn_deadline_ms} ms"
    return Failure(ErrorKind.TRANSIENT, message, 0, jitter)


def conclude(
    s: TurnRunning, turn_exit: TurnExit, now_ms: int, clause: str, effects: tuple[Effect, ...] = ()
) -> Outcome:
    """Send the final command of a turn whose code has ended."""
    command = final_command(s, turn_exit)
    return send_final(s.core, s.held_run, command, now_ms, clause, effects)


def end_turn(s: TurnRunning, turn_exit: TurnExit, now_ms: int, clause: str) -> Outcome:
    """End the turn after the write in progress.  Requests of its code are not answered any more."""
    if s.pending is None:
        return conclude(s, turn_exit, now_ms, clause)
    return Stepped(replace(s, exit=turn_exit, queue=(), parked=(), asked=()), clause)


def follow(s: TurnCommitted, e: TurnEnded, clause: str) -> Outcome:
    """Begin the run that waited for the end of the turn code."""
    return begin_next(s.core, s.held_run, e.now_ms, clause)


def stop(s: LeaseLost, e: Any, clause: str) -> Outcome:
    """Stop for the reason for which the lease ended."""
    return Stepped(Stopped(), clause, (s.stop,))


# -- the answer to the final command


def run_finished(held_run: HeldRun) -> RunFinished:
    """Return the notice about the inputs of the held run."""
    return RunFinished(held_run.begun.run_id, held_run.begun.inputs)


def begin_taken(s: Ending, e: NextTaken, clause: str) -> Outcome:
    """Begin the run that the commit has taken."""
    core, held_run = take_next(s.core, s.held_run, e.next)
    return begin_next(core, held_run, e.now_ms, clause, (run_finished(s.held_run),))


def stop_done(s: Ending, e: RunEnded, clause: str) -> Outcome:
    """Stop: the lease is released."""
    stop = Stop(RunnerStopReason.DONE, e.answer)
    return Stepped(Stopped(), clause, (run_finished(s.held_run), stop))


def cancel_instead(s: Ending, e: RunCancelled, clause: str) -> Outcome:
    """Close the run as cancelled."""
    return send_final(s.core, s.held_run, commit_cancelled(s.core, s.held_run), e.now_ms, clause)


def fail_instead(s: Ending, e: CommitRefused, clause: str) -> Outcome:
    """Fail the run: its commit can never be executed, but a Fail can."""
    kind = HOPELESS.get(e.answer.reason, ErrorKind.TRANSIENT)
    failure = Failure(kind, f"the commit was refused: {e.answer}"[:500])
    return send_final(s.core, s.held_run, fail(s.held_run, failure), e.now_ms, clause)


def refuses_failure(s: Ending, e: CallRefused) -> bool:
    """True if a Fail is illegal because of what the turn code gave, and another Fail can be executed."""
    what = s.pending.what
    if not isinstance(what, Fail) or e.answer.reason is not Refusal.ILLEGAL:
        return False
    return bool(what.usage) or what.failure.kind is not ErrorKind.INVALID_REQUEST


def refuses_finally(s: Ending, e: CallRefused) -> bool:
    """True if no other command can end the run."""
    return not refuses_failure(s, e)


def fail_plainly(s: Ending, e: CallRefused, clause: str) -> Outcome:
    """Fail the run with nothing from the turn code: a Fail with its usage can never be executed."""
    failure = Failure(ErrorKind.INVALID_REQUEST, f"the failure was refused: {e.answer}"[:500])
    return send_final(s.core, s.held_run, fail(s.held_run, failure), e.now_ms, clause)


def stop_unwritten(s: Ending, e: Fenced | CallRefused, clause: str) -> Outcome:
    """Stop without another write."""
    reason = RunnerStopReason.FENCED if isinstance(e, Fenced) else RunnerStopReason.REFUSED
    return Stepped(Stopped(), clause, (Stop(reason, e.answer, True),))
