"""The machine of a job's runner: one job, from its Take to the end of the lease.  Spec: specs/job-runner.md.

Theory of operation

A *worker* decides which due jobs this process works on, and starts a runner for each.  The runner takes the job, with
evidence about its holder and its starter, starts its *work*, writes what the work asks for, renews the lease, and ends
the holding.  The work is code of any kind: a function, a child process, a session that is waited for.

The machine is pure, as that of a session's runner is, and it shares calls, timers and retries with it.  A host performs
the effects in their order and reports events; it decides nothing.

*Life of a runner.*  Reading -> Observing -> Taking -> Loading -> Working -> Ending -> Stopped.  Losing waits for work
that goes on after the lease has ended.  Closing ends what was started under a lease that somebody else has ended.

*Three timers* may be set: the retry of a pending call, the next renewal, and a grace period of the work.

*Events before the table.*  A report that nothing awaits changes nothing (JOBRUN-65).  Every other report is replaced by
an event that states its meaning (`classify` in answers.py).

*The table.*  Exactly one row is enabled in every case; tests enumerate them.  The comment of a row names the states
that may follow ("same": the state of the row).
"""

from __future__ import annotations

from typing import Any

from ..outcome import Stepped
from ..rules import Row, Table, always
from ..runner.protocol import (
    Drain,
    OutcomeUnknown,
    StoreBroken,
    StoreUnavailable,
)
from .acquire import (
    drains,
    goes_on,
    has_no_owners,
    has_owners,
    hold,
    observe,
    release_loaded,
    release_taken,
    start,
    start_work,
    stop_missing,
    stop_not_taken,
    take_observed,
    take_unowned,
)
from .answers import (
    CallRefused,
    Fenced,
    Granted,
    JobClosed,
    JobFound,
    JobLoaded,
    JobMissing,
    JobOver,
    JobParked,
    LeaseRenewed,
    NotTaken,
    RenewalDue,
    RenewalRefused,
    RenewalUnanswered,
    RetryDue,
    SignalAwaited,
    SignalCame,
    StageOver,
    Written,
    classify,
)
from .ending import (
    abandon_lost,
    close_lost,
    closed_by_drain,
    end_bound,
    fail,
    fail_instead,
    interrupt,
    is_bound,
    is_not_bound,
    leave,
    let_go_of,
    lose,
    lose_over,
    lose_parked,
    output_refused,
    refused_finally,
    stop_closed,
    stop_lost,
    stop_over,
    stop_refused,
)
from .keeping import (
    ask_again,
    extend,
    extend_work,
    give_up,
    ignore_late_refusal,
    park_and_renew,
    postpone,
    renew_later,
    retry,
    send_renewal,
    should_give_up,
    should_retry,
    wait_unavailable,
    wait_unsure,
)
from .protocol import Event, JobHinted, OwnersObserved, WorkEnded, WorkRequested
from .states import (
    CALLING,
    HOLDING,
    Closing,
    Ending,
    JobRunnerConfig,
    Loading,
    Losing,
    Observing,
    Outcome,
    Reading,
    State,
    Stopped,
    Taking,
    Working,
)
from .work import (
    abandon,
    await_signal,
    drain_work,
    end_work,
    ends_already,
    enqueue,
    goes_on_late,
    goes_on_on_time,
    grace_over,
    interrupted,
    may_work_on,
    nothing_pending,
    out_of_order,
    own_request,
    proceed,
    refuse_order,
    refuse_stopped,
    remember_drain,
    reply_lost,
    reply_why,
    return_refusal,
    signal,
    stopped,
    strange,
    strange_request,
    write,
    write_pending,
    writes,
    writes_later,
    written,
)

__all__ = ["RULES", "JobRunnerConfig", "Outcome", "State", "Stopped", "start", "step"]


def no_change(s: Any, e: object, clause: str) -> Outcome:
    """Keep the state."""
    return Stepped(s, clause)


RULES: Table[Outcome] = Table(
    (
        # -- taking the job
        Row("JOBRUN-2", Reading, JobFound, has_owners, observe),  # Observing
        Row("JOBRUN-3", Reading, JobFound, has_no_owners, take_unowned),  # Taking
        Row("JOBRUN-4", Reading, JobMissing, always, stop_missing),  # Stopped
        Row("JOBRUN-3", Observing, OwnersObserved, always, take_observed),  # Taking
        Row("JOBRUN-5", Taking, Granted, goes_on, hold),  # Loading
        Row("JOBRUN-6", Taking, Granted, drains, release_taken),  # Ending
        Row("JOBRUN-7", Taking, NotTaken, always, stop_not_taken),  # Stopped
        Row("JOBRUN-8", Loading, JobLoaded, goes_on, start_work),  # Working
        Row("JOBRUN-6", Loading, JobLoaded, drains, release_loaded),  # Ending
        Row("JOBRUN-9", Loading, JobMissing, always, let_go_of),  # Stopped
        # -- the requests of the work
        Row("JOBRUN-20", Working, WorkRequested, strange, reply_lost),  # same
        Row("JOBRUN-21", Working, WorkRequested, out_of_order, refuse_order),  # same
        Row("JOBRUN-22", Working, WorkRequested, stopped, refuse_stopped),  # same
        Row("JOBRUN-23", Working, WorkRequested, goes_on_on_time, proceed),  # same
        Row("JOBRUN-24", Working, WorkRequested, goes_on_late, park_and_renew),  # same
        Row("JOBRUN-25", Working, WorkRequested, writes, write),  # same
        Row("JOBRUN-26", Working, WorkRequested, writes_later, enqueue),  # same
        # -- the answers to its writes
        Row("JOBRUN-27", Working, Written, always, written),  # same, Ending
        Row("JOBRUN-28", Working, SignalCame, always, signal),  # same, Ending
        Row("JOBRUN-29", Working, SignalAwaited, always, await_signal),  # same, Ending
        Row("JOBRUN-35", Working, JobParked, always, lose_parked),  # Losing, Stopped
        Row("JOBRUN-36", Working, JobOver, always, lose_over),  # Losing, Stopped
        Row("JOBRUN-37", Working, Fenced, always, lose),  # Losing, Closing, Stopped
        Row("JOBRUN-38", Working, CallRefused, always, return_refusal),  # same, Ending
        # -- its end, a drain, and its time
        Row("JOBRUN-30", Working, WorkEnded, nothing_pending, end_work),  # Ending
        Row("JOBRUN-39", Working, WorkEnded, write_pending, end_work),  # same
        Row("JOBRUN-50", Working, Drain, may_work_on, drain_work),  # same
        Row("JOBRUN-60", Working, Drain, ends_already, remember_drain),  # same
        Row("JOBRUN-51", Working, StageOver, grace_over, interrupt),  # same
        Row("JOBRUN-52", Working, StageOver, interrupted, abandon),  # same, Ending
        # -- the lease has ended, and the work is still running
        Row("JOBRUN-53", Losing, WorkEnded, is_bound, close_lost),  # Closing
        Row("JOBRUN-54", Losing, WorkEnded, is_not_bound, leave),  # Stopped
        Row("JOBRUN-20", Losing, WorkRequested, strange_request, reply_lost),  # same
        Row("JOBRUN-55", Losing, WorkRequested, own_request, reply_why),  # same
        Row("JOBRUN-51", Losing, StageOver, grace_over, interrupt),  # same
        Row("JOBRUN-52", Losing, StageOver, interrupted, abandon_lost),  # Closing, Stopped
        # -- the final command, and the Drain after a lost lease
        Row("JOBRUN-33", Ending, JobClosed, always, stop_closed),  # Stopped
        Row("JOBRUN-34", Ending, CallRefused, output_refused, fail_instead),  # same
        Row("JOBRUN-40", Ending, CallRefused, refused_finally, stop_refused),  # Stopped
        Row("JOBRUN-36", Ending, JobOver, always, stop_over),  # Stopped
        Row("JOBRUN-53", Ending, Fenced, is_bound, end_bound),  # Closing
        Row("JOBRUN-54", Ending, Fenced, is_not_bound, stop_lost),  # Stopped
        Row("JOBRUN-56", Closing, JobClosed, always, closed_by_drain),  # Stopped
        Row("JOBRUN-36", Closing, JobOver, always, stop_over),  # Stopped
        Row("JOBRUN-57", Closing, CallRefused, always, leave),  # Stopped
        Row("JOBRUN-57", Closing, Fenced, always, leave),  # Stopped
        # -- the renewal
        *[
            row
            for state in (Loading, Ending)
            for row in (
                Row("JOBRUN-42", state, LeaseRenewed, always, extend),  # same
                Row("JOBRUN-45", state, JobHinted, always, no_change),  # same
            )
        ],
        Row("JOBRUN-46", Working, LeaseRenewed, always, extend_work),  # same
        Row("JOBRUN-47", Working, JobHinted, always, ask_again),  # same
        *[
            Row("JOBRUN-43", state, RenewalUnanswered, always, renew_later)  # same
            for state in HOLDING
        ],
        *[
            row
            for state in (Loading, Working)
            for row in (
                Row("JOBRUN-41", state, RenewalDue, always, send_renewal),  # same
                Row("JOBRUN-37", state, RenewalRefused, always, lose),  # Losing, Closing, Stopped
            )
        ],
        Row("JOBRUN-44", Ending, RenewalDue, always, postpone),  # same
        Row("JOBRUN-44", Ending, RenewalRefused, always, ignore_late_refusal),  # same
        # -- a call is pending
        *[
            row
            for state in CALLING
            for row in (
                Row("JOBRUN-61", state, StoreUnavailable, always, wait_unavailable),  # same
                Row("JOBRUN-61", state, OutcomeUnknown, always, wait_unsure),  # same
                Row("JOBRUN-62", state, RetryDue, should_retry, retry),  # same
                Row("JOBRUN-64", state, StoreBroken, always, fail),  # Losing, Closing, Stopped
            )
        ],
        *[
            Row("JOBRUN-63", state, RetryDue, should_give_up, give_up)  # Stopped
            for state in (Reading, Taking, Ending)
        ],
        # -- no work is running
        *[
            Row("JOBRUN-60", state, Drain, always, remember_drain)  # same
            for state in (Reading, Observing, Taking, Loading, Losing, Ending, Closing)
        ],
        *[
            Row("JOBRUN-20", state, WorkRequested, always, reply_lost)  # same
            for state in (Reading, Observing, Taking, Loading, Ending, Closing, Stopped)
        ],
        *[
            Row("JOBRUN-45", state, JobHinted, always, no_change)  # same
            for state in (Reading, Observing, Taking, Losing, Closing, Stopped)
        ],
        Row("JOBRUN-65", Stopped, Drain, always, no_change),  # same
    )
)


def step(state: State, event: Event) -> Outcome:
    """Return the next state and effects.  A report that nothing awaits changes nothing."""
    classified = classify(state, event)
    if classified is None:
        return Stepped(state, "JOBRUN-65")
    return RULES.step(state, classified)
