"""Which run comes next under our lease, and the last word about one.  Spec: specs/runner.md."""

from __future__ import annotations

from typing import Any

from ..commands import Begun, Commit, Committed, Ended, Fail, Release, Then
from ..failure import ErrorKind, Failure
from ..machines.run import Termination
from ..outcome import Refusal, Refused, Stepped
from ..queries import Command
from ..questions.core import Carried, Carry
from ..replace import replace
from ..rules import Row
from ..transcript import UsageDelta
from .protocol import (
    Answered,
    Effect,
    End,
    Failed,
    How,
    Reason,
    Returned,
    RunOver,
    SetTimer,
    StartTurn,
    Stop,
    TurnEnded,
)
from .states import (
    Closing,
    Core,
    Hold,
    Loading,
    Outcome,
    Outlived,
    Pause,
    Settled,
    Stopped,
    Watch,
    Why,
    Working,
    number,
    renew,
    reports,
    send,
)

# -- commands about the run we hold


def commit(core: Core, hold: Hold, end: End) -> Commit:
    """RUNNER-20: the next run is taken under the same lease, unless others are to be let in."""
    begun, plan = hold.begun, core.plan
    go_on = core.draining_ms is None and core.runs + 1 < plan.runs_max
    return Commit(
        plan.session_id, begun.fence, begun.run_id, begun.turn, hold.n, begun.revision,
        end.termination, end.reason, end.nodes, end.usage, end.state,
        Then.NEXT if go_on else Then.RELEASE, end.next_run_id if go_on else None,
        plan.limit, plan.limit_bytes, end.hand_off, end.frame,
    )  # fmt: skip


def commit_cancelled(core: Core, hold: Hold) -> Commit:
    begun = hold.begun
    return Commit(
        core.plan.session_id, begun.fence, begun.run_id, begun.turn, hold.n, begun.revision,
        Termination.CANCELLED,
    )  # fmt: skip


def fail(hold: Hold, failure: Failure, usage: tuple[UsageDelta, ...] = ()) -> Fail:
    begun = hold.begun
    return Fail(begun.fence.session_id, begun.fence, begun.run_id, begun.turn, failure, usage)


def release(hold: Hold) -> Release:
    fence = hold.begun.fence
    return Release(fence.session_id, fence, hold.begun.run_id)


def close(
    core: Core,
    hold: Hold,
    command: Command[Any, Any],
    now_ms: int,
    clause: str,
    effects: tuple[Effect, ...] = (),
) -> Outcome:
    id, core = number(core)
    order, effect = send(command, id, now_ms)
    return Stepped(Closing(core, hold, order), clause, (*effects, effect))


# -- the next run


def asked_to_stop(hold: Hold) -> bool:
    return hold.cancel is not None and hold.cancel.run_id == hold.begun.run_id


def begin_next(
    core: Core, hold: Hold, now_ms: int, clause: str, effects: tuple[Effect, ...] = ()
) -> Outcome:
    """A run with a cancel flag is only closed (RUNNER-21), a draining runner starts nothing (RUNNER-22)."""
    if asked_to_stop(hold):
        return close(core, hold, commit_cancelled(core, hold), now_ms, clause, effects)
    if core.draining_ms is not None:
        return close(core, hold, release(hold), now_ms, clause, effects)
    id, core = number(core)
    order, effect = send(Carry(core.plan.session_id, hold.begun.run_id), id, now_ms)
    return Stepped(Loading(core, hold, order), clause, (*effects, effect))


def take_next(core: Core, hold: Hold, begun: Begun) -> tuple[Core, Hold]:
    """The lease goes on as it was."""
    hold = replace(hold, begun=begun, n=begun.n, cancel=begun.cancel)
    return replace(core, runs=core.runs + 1), hold


def launch(
    core: Core,
    hold: Hold,
    carried: Carried,
    now_ms: int,
    clause: str,
    effects: tuple[Effect, ...] = (),
) -> Outcome:
    turn_id, core = number(core)
    timer, core = number(core)
    working = Working(core, hold, Watch(turn_id, timer))
    deadline = SetTimer(timer, now_ms + core.plan.turn_deadline_ms)
    return Stepped(working, clause, (*effects, deadline, StartTurn(turn_id, hold.begun, carried)))


def read_it(s: Loading, e: Answered) -> bool:
    return reports(s, e) and e.answer is not None


def free(s: Loading) -> bool:
    return not asked_to_stop(s.hold) and s.core.draining_ms is None


def startable(s: Loading, e: Answered) -> bool:
    return read_it(s, e) and free(s) and s.hold.on_time(e.now_ms)


def late(s: Loading, e: Answered) -> bool:
    return read_it(s, e) and free(s) and not s.hold.on_time(e.now_ms)


def bound_to_end(s: Loading, e: Answered) -> bool:
    return read_it(s, e) and not free(s)


def missing(s: Loading, e: Answered) -> bool:
    return reports(s, e) and e.answer is None


def start_turn(s: Loading, e: Answered, clause: str) -> Outcome:
    return launch(s.core, s.hold, e.answer, e.now_ms, clause)


def wait_for_lease(s: Loading, e: Answered, clause: str) -> Outcome:
    core, hold, effects = hurry(s.core, s.hold, e.now_ms)
    return Stepped(Loading(core, hold, None, e.answer), clause, effects)


def hurry(core: Core, hold: Hold, now_ms: int) -> tuple[Core, Hold, tuple[Effect, ...]]:
    """Renew now, if that is not under way."""
    if not isinstance(hold.renewal, Pause):
        return core, hold, ()
    id, core = number(core)
    hold, effect = renew(hold, id, now_ms)
    return core, hold, (effect,)


def end_at_once(s: Loading, e: Answered, clause: str) -> Outcome:
    return begin_next(s.core, s.hold, e.now_ms, clause)


def stop_missing(s: Loading, e: Answered, clause: str) -> Outcome:
    message = f"run {s.hold.begun.run_id} was begun and is not there"
    return Stepped(Stopped(), clause, (Stop(Reason.BROKEN, message),))


# -- the end of a turn's code


def verdict(s: Working, how: How) -> Command[Any, Any]:
    """RUNNER-23, RUNNER-24, RUNNER-25: by what was asked of the turn, and by how its code ended."""
    if s.why is Why.CANCELLED and not (isinstance(how, Returned) and how.end.closes):
        return commit_cancelled(s.core, s.hold)
    if isinstance(how, Returned):
        return commit(s.core, s.hold, how.end)
    if s.why is Why.TIMED_OUT:
        return fail(s.hold, timed_out(s.core, how))
    if isinstance(how, Failed):
        return fail(s.hold, how.failure, how.usage)
    return release(s.hold)


def timed_out(core: Core, how: How) -> Failure:
    jitter = how.failure.jitter_ms if isinstance(how, Failed) else 0
    message = f"the turn took longer than {core.plan.turn_deadline_ms} ms"
    return Failure(ErrorKind.TRANSIENT, message, 0, jitter)


def conclude(
    s: Working, how: How, now_ms: int, clause: str, effects: tuple[Effect, ...] = ()
) -> Outcome:
    return close(s.core, s.hold, verdict(s, how), now_ms, clause, effects)


def ends(s: Settled | Outlived, e: TurnEnded) -> bool:
    return s.watch.turn_id == e.turn_id


def next_run(s: Settled, e: Any, clause: str) -> Outcome:
    return begin_next(s.core, s.hold, e.now_ms, clause)


def depart(s: Outlived, e: Any, clause: str) -> Outcome:
    return Stepped(Stopped(), clause, (s.stop,))


# -- the answer to the last word


def over(hold: Hold) -> RunOver:
    return RunOver(hold.begun.run_id, hold.begun.inputs)


def handed_on(s: Closing, e: Answered) -> bool:
    return reports(s, e) and isinstance(e.answer, Committed) and e.answer.next is not None


def closed(s: Closing, e: Answered) -> bool:
    return reports(s, e) and (
        isinstance(e.answer, Ended) or (isinstance(e.answer, Committed) and e.answer.next is None)
    )


def _no(s: Closing, e: Answered) -> bool:
    return reports(s, e) and isinstance(e.answer, Refused)


def told_to_cancel(s: Closing, e: Answered) -> bool:
    return _no(s, e) and e.answer.reason is Refusal.CANCELLED


def illegal(s: Closing, e: Answered) -> bool:
    """The commit can never be carried out, but a Fail can."""
    final = (Refusal.CANCELLED, Refusal.FENCED)
    return _no(s, e) and isinstance(s.order.what, Commit) and e.answer.reason not in final


def denied(s: Closing, e: Answered) -> bool:
    return _no(s, e) and (
        e.answer.reason is Refusal.FENCED
        or (not isinstance(s.order.what, Commit) and e.answer.reason is not Refusal.CANCELLED)
    )


def hand_on(s: Closing, e: Answered, clause: str) -> Outcome:
    core, hold = take_next(s.core, s.hold, e.answer.next)
    return begin_next(core, hold, e.now_ms, clause, (over(s.hold),))


def stop_done(s: Closing, e: Answered, clause: str) -> Outcome:
    return Stepped(Stopped(), clause, (over(s.hold), Stop(Reason.DONE, e.answer)))


def cancel_instead(s: Closing, e: Answered, clause: str) -> Outcome:
    return close(s.core, s.hold, commit_cancelled(s.core, s.hold), e.now_ms, clause)


def fail_instead(s: Closing, e: Answered, clause: str) -> Outcome:
    hopeless = e.answer.reason is Refusal.ILLEGAL
    kind = ErrorKind.INVALID_REQUEST if hopeless else ErrorKind.TRANSIENT
    failure = Failure(kind, f"the commit was refused: {e.answer}"[:500])
    return close(s.core, s.hold, fail(s.hold, failure), e.now_ms, clause)


def stop_denied(s: Closing, e: Answered, clause: str) -> Outcome:
    reason = Reason.FENCED if e.answer.reason is Refusal.FENCED else Reason.REFUSED
    return Stepped(Stopped(), clause, (Stop(reason, e.answer),))


CLOSE: tuple[Row[Any, Any, Outcome], ...] = (
    Row("RUNNER-30", Loading, Answered, startable, start_turn),
    Row("RUNNER-31", Loading, Answered, late, wait_for_lease),
    Row("RUNNER-32", Loading, Answered, bound_to_end, end_at_once),
    Row("RUNNER-33", Loading, Answered, missing, stop_missing),
    Row("RUNNER-34", Settled, TurnEnded, ends, next_run),
    Row("RUNNER-35", Outlived, TurnEnded, ends, depart),
    Row("RUNNER-36", Closing, Answered, handed_on, hand_on),
    Row("RUNNER-37", Closing, Answered, closed, stop_done),
    Row("RUNNER-38", Closing, Answered, told_to_cancel, cancel_instead),
    Row("RUNNER-39", Closing, Answered, illegal, fail_instead),
    Row("RUNNER-40", Closing, Answered, denied, stop_denied),
)
