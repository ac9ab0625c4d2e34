"""The runner machine: one session, from its Begin to the end of the lease.  Spec: specs/runner.md.

Theory of operation

A *worker* decides which due sessions this process works on, and starts a runner for each.  The *runner* acquires the
session, starts the *code of its turn*, writes what that code records, renews the lease, and sends the final command.
The turn machine of a chat agent is inside the turn code: the runner sees only its requests.  No machine imports
another one.  Each has a host that performs its effects and feeds it events; a host decides nothing.

The machine is pure.  `step(state, event)` returns the next state and effects.  This loop is a complete host for code
without steps of its own:

    outcome = start(config, clock())
    while not isinstance(outcome.state, Stopped):
        for effect in outcome.effects:
            match effect:
                case Execute(id, command):
                    events.append(Answered(clock(), id, execute(command)))
                case Ask(id, question):
                    events.append(Answered(clock(), id, ask(question)))
                case CheckProcess(id):
                    events.append(ProcessChecked(clock(), id, Evidence.UNKNOWN, new_id()))
                case StartTurn(id, begun, loaded):
                    end = TurnEnd(nodes=(NewNode(Role.ASSISTANT, answer(loaded)),))
                    events.append(TurnEnded(clock(), id, Finished(EndTurn(new_id(), end))))
                case SetTimer(id, at_ms):
                    timers[id] = at_ms
                case Reply() | NotifyTurn() | InterruptTurn() | RunFinished():
                    pass
        if not events:
            id = min(timers, key=timers.__getitem__)
            sleep_until(timers.pop(id))
            events.append(TimerFired(clock(), id))
        outcome = step(outcome.state, events.popleft())

A host that cannot reach the store reports StoreUnavailable or OutcomeUnknown instead of an answer; the runner sends the
same call again under the same id.  Calls are executed in order, renewals beside them (see `Execute`).

*Life of a runner.*  Acquiring -> Loading -> TurnRunning -> Ending -> Stopped.  A final command may take the next run
under the same lease, which leads back to Loading.  TurnCommitted and LeaseLost wait for turn code that goes on after
its commit, or after the end of its lease.

*Three timers* may be set: the retry of a pending call, the next renewal, and the time of the turn's stage (its time
limit, then grace periods).  Each has an id of its own, so a timer that was replaced is recognized.

*Events before the table.*  A report that nothing awaits changes nothing (RUNNER-90).  Every other report is replaced
by an event that states its meaning (`classify` in answers.py), so that its type selects the rows.

*Time.*  The deadline of the lease counts from the attempt that may have granted it.  After it the runner is late: it
begins nothing, but it still writes, because the fence in the store decides.

*The table.*  Exactly one row is enabled in every case; tests enumerate them.  The comment of a row names the states
that may follow ("same": the state of the row).  A test compares it with the states that the actions return.
"""

from __future__ import annotations

from typing import Any

from ..outcome import Stepped
from ..rules import Row, Table, always
from .acquire import (
    ask_for_holder,
    asks_for_holder,
    begin_again,
    check_holder,
    dead,
    elsewhere,
    finds_nothing,
    hold,
    leaves_to_holder,
    may_live,
    near,
    needs_room,
    reclaim,
    start,
    stop_alive,
    stop_elsewhere,
    stop_fenced,
    stop_for_room,
    stop_held,
    stop_idle,
    stop_refused,
    sweep,
    sweeps,
)
from .answers import (
    BeginRefused,
    BegunEarlier,
    CallRefused,
    CheckpointWritten,
    Cleared,
    CommitRefused,
    CurrentLease,
    Fenced,
    Granted,
    HolderFound,
    InputsLoaded,
    LeaseRenewed,
    NextTaken,
    NothingToBegin,
    RenewalDue,
    RenewalRefused,
    RenewalUnanswered,
    RetryDue,
    RunCancelled,
    RunEnded,
    RunLoaded,
    RunMissing,
    SessionHeld,
    StageTimeOver,
    classify,
)
from .ending import (
    begin_taken,
    cancel_instead,
    end_unstarted,
    fail_instead,
    fail_plainly,
    follow,
    loaded_in_vain,
    loaded_late,
    loaded_on_time,
    refuses_failure,
    refuses_finally,
    start_turn,
    stop,
    stop_done,
    stop_missing,
    stop_unwritten,
    wait_for_lease,
)
from .execute import (
    brings_none,
    brings_some,
    end,
    enqueue,
    finish,
    give_inputs,
    go_on,
    linger,
    lose_lease,
    nothing_pending,
    park,
    proceed,
    read_inputs,
    refuse,
    return_refusal,
    starts_late,
    starts_on_time,
    steers,
    steers_nobody,
    stop_requested,
    stopped,
    strange,
    tell_steered,
    write,
    write_pending,
    writes,
    writes_later,
)
from .protocol import (
    CancelSeen,
    Drain,
    Event,
    OutcomeUnknown,
    ProcessChecked,
    SteeringSeen,
    StoreBroken,
    StoreUnavailable,
    TurnEnded,
    TurnRequested,
)
from .renewal import (
    ends_anyway,
    extend,
    ignore_late_refusal,
    known_hint,
    lose,
    needs_lease,
    new_hint,
    postpone,
    renew_later,
    send_renewal,
)
from .retry import (
    give_up,
    retry,
    should_give_up,
    should_retry,
    stop_broken,
    wait_unavailable,
    wait_unsure,
)
from .states import (
    CALLING,
    HOLDING,
    Acquiring,
    CheckingHolder,
    Ending,
    LeaseLost,
    Loading,
    Outcome,
    RunnerConfig,
    State,
    Stopped,
    TurnCommitted,
    TurnRunning,
)
from .supervision import (
    abandon,
    drain_turn,
    ends_already,
    grace_over,
    interrupt_turn,
    interrupted,
    limit_over,
    may_work_on,
    not_interrupted,
    own_request,
    remember_drain,
    reply_committed,
    reply_ended,
    reply_lost,
    strange_request,
    time_out,
)


def no_change(s: Any, e: object, clause: str) -> Outcome:
    """Keep the state."""
    return Stepped(s, clause)


RULES: Table[Outcome] = Table(
    (
        # -- acquiring the session
        Row("RUNNER-2", Acquiring, Granted, always, hold),  # Loading, Ending
        Row("RUNNER-3", Acquiring, NothingToBegin, sweeps, sweep),  # same
        Row("RUNNER-4", Acquiring, NothingToBegin, finds_nothing, stop_idle),  # Stopped
        Row("RUNNER-12", Acquiring, NothingToBegin, needs_room, stop_for_room),  # Stopped
        Row("RUNNER-5", Acquiring, BegunEarlier, always, stop_fenced),  # Stopped
        Row("RUNNER-3", Acquiring, SessionHeld, sweeps, sweep),  # same
        Row("RUNNER-6", Acquiring, SessionHeld, asks_for_holder, ask_for_holder),  # same
        Row("RUNNER-7", Acquiring, SessionHeld, leaves_to_holder, stop_held),  # Stopped
        Row("RUNNER-7", Acquiring, BeginRefused, always, stop_refused),  # Stopped
        Row("RUNNER-8", Acquiring, Cleared, always, begin_again),  # same
        Row("RUNNER-9", Acquiring, HolderFound, near, check_holder),  # CheckingHolder
        Row("RUNNER-10", Acquiring, HolderFound, elsewhere, stop_elsewhere),  # Stopped
        Row("RUNNER-11", CheckingHolder, ProcessChecked, dead, reclaim),  # Acquiring
        Row("RUNNER-10", CheckingHolder, ProcessChecked, may_live, stop_alive),  # Stopped
        # -- loading the run
        Row("RUNNER-30", Loading, RunLoaded, loaded_on_time, start_turn),  # TurnRunning
        Row("RUNNER-31", Loading, RunLoaded, loaded_late, wait_for_lease),  # same
        Row("RUNNER-32", Loading, RunLoaded, loaded_in_vain, end_unstarted),  # Ending
        Row("RUNNER-33", Loading, RunMissing, always, stop_missing),  # Stopped
        # -- the turn code is running: its requests
        Row("RUNNER-50", TurnRunning, TurnRequested, strange, reply_lost),  # same
        Row("RUNNER-51", TurnRunning, TurnRequested, stopped, refuse),  # same
        Row("RUNNER-52", TurnRunning, TurnRequested, starts_on_time, proceed),  # same
        Row("RUNNER-53", TurnRunning, TurnRequested, starts_late, park),  # same
        Row("RUNNER-54", TurnRunning, TurnRequested, writes, write),  # same
        Row("RUNNER-55", TurnRunning, TurnRequested, writes_later, enqueue),  # same
        # -- the answers to its writes
        Row("RUNNER-56", TurnRunning, CheckpointWritten, brings_none, go_on),  # same, Ending
        Row("RUNNER-112", TurnRunning, CheckpointWritten, brings_some, read_inputs),  # same
        Row("RUNNER-113", TurnRunning, InputsLoaded, always, give_inputs),  # same, Ending
        Row("RUNNER-57", TurnRunning, Fenced, always, lose_lease),  # LeaseLost, Stopped
        Row("RUNNER-58", TurnRunning, RunEnded, always, finish),  # LeaseLost, Stopped
        Row("RUNNER-59", TurnRunning, NextTaken, always, linger),  # TurnCommitted, Loading, Ending
        Row("RUNNER-60", TurnRunning, RunCancelled, always, stop_requested),  # same, Ending
        Row("RUNNER-61", TurnRunning, CommitRefused, always, return_refusal),  # same, Ending
        Row("RUNNER-61", TurnRunning, CallRefused, always, return_refusal),  # same, Ending
        # -- its time, a drain, and its end
        Row("RUNNER-85", TurnRunning, StageTimeOver, limit_over, time_out),  # same
        Row("RUNNER-86", TurnRunning, StageTimeOver, grace_over, interrupt_turn),  # same
        Row("RUNNER-87", TurnRunning, StageTimeOver, interrupted, abandon),  # same, Ending
        Row("RUNNER-88", TurnRunning, Drain, ends_already, remember_drain),  # same
        Row("RUNNER-89", TurnRunning, Drain, may_work_on, drain_turn),  # same
        Row("RUNNER-62", TurnRunning, TurnEnded, nothing_pending, end),  # Ending
        Row("RUNNER-63", TurnRunning, TurnEnded, write_pending, end),  # same
        # -- the turn has committed, and its code is still running
        Row("RUNNER-34", TurnCommitted, TurnEnded, always, follow),  # Loading, Ending
        Row("RUNNER-50", TurnCommitted, TurnRequested, strange_request, reply_lost),  # same
        Row("RUNNER-91", TurnCommitted, TurnRequested, own_request, reply_committed),  # same
        Row("RUNNER-84", TurnCommitted, StoreBroken, always, stop_broken),  # LeaseLost
        Row("RUNNER-86", TurnCommitted, StageTimeOver, not_interrupted, interrupt_turn),  # same
        Row("RUNNER-87", TurnCommitted, StageTimeOver, interrupted, abandon),  # Loading, Ending
        Row("RUNNER-89", TurnCommitted, Drain, always, drain_turn),  # same
        # -- the lease has ended, and the turn code is still running
        Row("RUNNER-35", LeaseLost, TurnEnded, always, stop),  # Stopped
        Row("RUNNER-50", LeaseLost, TurnRequested, strange_request, reply_lost),  # same
        Row("RUNNER-91", LeaseLost, TurnRequested, own_request, reply_ended),  # same
        Row("RUNNER-86", LeaseLost, StageTimeOver, not_interrupted, interrupt_turn),  # same
        Row("RUNNER-87", LeaseLost, StageTimeOver, interrupted, abandon),  # Stopped
        Row("RUNNER-89", LeaseLost, Drain, always, drain_turn),  # same
        # -- the final command is in progress
        Row("RUNNER-36", Ending, NextTaken, always, begin_taken),  # Loading, same
        Row("RUNNER-37", Ending, RunEnded, always, stop_done),  # Stopped
        Row("RUNNER-38", Ending, RunCancelled, always, cancel_instead),  # same
        Row("RUNNER-39", Ending, CommitRefused, always, fail_instead),  # same
        Row("RUNNER-40", Ending, Fenced, always, stop_unwritten),  # Stopped
        Row("RUNNER-92", Ending, CallRefused, refuses_failure, fail_plainly),  # same
        Row("RUNNER-40", Ending, CallRefused, refuses_finally, stop_unwritten),  # Stopped
        # -- the lease is held: renewal, and hints of a cancel
        *[
            row
            for state in HOLDING
            for row in (
                Row("RUNNER-73", state, LeaseRenewed, always, extend),  # same, TurnRunning, Ending
                Row("RUNNER-76", state, RenewalUnanswered, always, renew_later),  # same
                Row("RUNNER-78", state, CancelSeen, known_hint, no_change),  # same
            )
        ],
        *[
            row
            for state in (Loading, TurnRunning, TurnCommitted)
            for row in (
                Row("RUNNER-70", state, RenewalDue, needs_lease, send_renewal),  # same
                Row("RUNNER-74", state, RenewalRefused, needs_lease, lose),  # LeaseLost, Stopped
                Row("RUNNER-77", state, CancelSeen, new_hint, send_renewal),  # same
            )
        ],
        *[
            row
            for state in (TurnRunning, Ending)
            for row in (
                Row("RUNNER-72", state, RenewalDue, ends_anyway, postpone),  # same
                Row("RUNNER-75", state, RenewalRefused, ends_anyway, ignore_late_refusal),  # same
            )
        ],
        # -- a call is pending
        *[
            row
            for state in CALLING
            for row in (
                Row("RUNNER-80", state, StoreUnavailable, always, wait_unavailable),  # same
                Row("RUNNER-81", state, OutcomeUnknown, always, wait_unsure),  # same
                Row("RUNNER-82", state, RetryDue, should_retry, retry),  # same
                Row("RUNNER-83", state, RetryDue, should_give_up, give_up),  # Stopped
                Row("RUNNER-84", state, StoreBroken, always, stop_broken),  # LeaseLost, Stopped
            )
        ],
        # -- no turn code is running, or no run is held
        *[
            Row("RUNNER-88", state, Drain, always, remember_drain)  # same
            for state in (Acquiring, CheckingHolder, Loading, Ending)
        ],
        *[
            Row("RUNNER-50", state, TurnRequested, always, reply_lost)  # same
            for state in (Acquiring, CheckingHolder, Loading, Ending, Stopped)
        ],
        *[
            Row("RUNNER-78", state, CancelSeen, always, no_change)  # same
            for state in (Acquiring, CheckingHolder, LeaseLost, Stopped)
        ],
        *[
            Row("RUNNER-116", state, SteeringSeen, always, no_change)  # same
            for state in (
                *(Acquiring, CheckingHolder, Loading, TurnCommitted, LeaseLost, Ending, Stopped),
            )
        ],
        Row("RUNNER-115", TurnRunning, SteeringSeen, steers, tell_steered),  # same
        Row("RUNNER-116", TurnRunning, SteeringSeen, steers_nobody, no_change),  # same
        Row("RUNNER-90", Stopped, Drain, always, no_change),  # same
    )
)


def step(state: State, event: Event) -> Outcome:
    """Return the next state and effects.  A report that nothing awaits changes nothing."""
    classified = classify(state, event)
    if classified is None:
        return Stepped(state, "RUNNER-90")
    return RULES.step(state, classified)


__all__ = ["RULES", "CurrentLease", "Outcome", "RunnerConfig", "State", "Stopped", "start", "step"]
