"""The runner: exactly one row is enabled in every case, and scenarios of its clauses.  Spec: specs/runner.md."""

from __future__ import annotations

import itertools
import textwrap
from collections import deque
from typing import Any

import pytest
from clauses import ClauseLog, defined, named

from tenure.check.machine_domains import RUNNER
from tenure.check.runner_domain import (
    BEGUN,
    CANCEL,
    CONFIG,
    END,
    FAR,
    HERE,
    LOADED,
    NEAR,
    RELEASE,
    REPORT,
    START,
    TAKE,
)
from tenure.commands import (
    Admit,
    Begin,
    Begun,
    BegunBefore,
    Checkpoint,
    Checkpointed,
    Committed,
    Ended,
    Fail,
    GoOn,
    NewEntry,
    NewInput,
    NothingDue,
    Park,
    Parked,
    Reclaim,
    Reclaimed,
    Release,
    Renew,
    Renewed,
    Sweep,
    Swept,
    Then,
)
from tenure.failure import ErrorKind, Failure
from tenure.machines.lease import Evidence, Fence, Held
from tenure.machines.run import Termination, WaitReason
from tenure.outcome import Refusal, Refused, Stepped
from tenure.policy import POLICIES, Boundary
from tenure.questions.core import LoadInputs, LoadRun
from tenure.records import Cancel, EntryKind, Input, Node
from tenure.replace import replace
from tenure.runner import machine, protocol
from tenure.runner.answers import classify
from tenure.runner.machine import RULES, CurrentLease, Outcome, RunnerConfig, start, step
from tenure.runner.protocol import (
    Abandoned,
    Answered,
    Ask,
    CancelSeen,
    CheckProcess,
    Drain,
    Effect,
    EndTurn,
    Event,
    Execute,
    Failed,
    Finished,
    InterruptTurn,
    Left,
    MayStart,
    NotifyTurn,
    OutcomeUnknown,
    ProcessChecked,
    Reply,
    RunFinished,
    RunnerStopReason,
    SetTimer,
    StartTurn,
    SteeringSeen,
    Stop,
    StoreBroken,
    StoreUnavailable,
    Taken,
    TimerFired,
    TurnEnded,
    TurnReply,
    TurnRequested,
)
from tenure.runner.states import (
    CALLING,
    HOLDING,
    SUPERVISING,
    Acquiring,
    LeaseLost,
    Loading,
    PendingCall,
    RenewalTimer,
    State,
    Stopped,
    TurnRunning,
    final_call_pending,
)
from tenure.transcript import NewNode, Role, UsageDelta
from tenure.turn_end import Record, TurnEnd, TurnWait
from tenure.world import EMPTY, ask, evolve

NEXT = replace(BEGUN, run_id="run-2")
LOG = ClauseLog({row.clause for row in RULES.rows} | {"RUNNER-1", "RUNNER-90"})
shows = LOG.shows


def begun(run_id: str = "run", cancel: Cancel | None = None) -> Begun:
    return replace(BEGUN, run_id=run_id, cancel=cancel)


def no(reason: Refusal, detail: Any = None) -> Refused:
    return Refused(reason, "X-1", detail)


# -- every row: exactly one is enabled in every case of the domain


def test_exactly_one_row_is_enabled_in_every_case() -> None:
    cases, clauses = 0, set()
    for state in RUNNER.states:
        for event in RUNNER.received(state):
            cases += 1
            classified = classify(state, event)
            if classified is None:
                assert step(state, event) == Stepped(state, "RUNNER-90")
                continue
            rows = RULES.enabled(state, classified)
            assert len(rows) == 1, ([row.clause for row in rows], state, classified)
            outcome = rows[0].then(state, classified, rows[0].clause)
            check(state, event, outcome)
            clauses.add(rows[0].clause)

    assert cases > 100_000
    assert {row.clause for row in RULES.rows} == clauses


def check(state: State, event: Event, outcome: Outcome) -> None:
    """Check what must be true after every step."""
    effects = outcome.effects
    ended = [e for e in effects if isinstance(e, Stop)]
    assert (outcome.state == Stopped()) == bool(ended) or state == Stopped()
    if isinstance(state, LeaseLost | Stopped):
        assert not [e for e in effects if isinstance(e, Execute | Ask | StartTurn)]
    fenced = isinstance(event, Answered) and (
        isinstance(event.answer, Refused) and event.answer.reason is Refusal.FENCED
    )
    own = event.id in ids_of(state) if isinstance(event, Answered) else False
    if fenced and own and not (final_call_pending(state) or isinstance(state, Acquiring)):
        assert not [e for e in effects if isinstance(e, Execute)], "fenced, and wrote"
    if isinstance(event, TurnRequested):
        replied = [e for e in effects if isinstance(e, Reply) and e.id == event.id]
        waits = isinstance(outcome.state, TurnRunning) and event.id in unanswered(outcome.state)
        assert bool(replied) != waits
        if replied and replied[0].answer is TurnReply.PROCEED:
            assert isinstance(state, HOLDING) and event.now_ms <= state.held_run.deadline_ms


def ids_of(state: State) -> set[int]:
    """Return the ids of the calls in progress."""
    ids = set()
    if isinstance(state, CALLING) and state.pending is not None and not state.pending.waiting:
        ids.add(state.pending.id)
    if isinstance(state, HOLDING) and isinstance(state.held_run.renewal, PendingCall):
        ids.add(state.held_run.renewal.id)
    return ids


def unanswered(state: TurnRunning) -> set[int]:
    """Return the ids of the requests that wait for a reply."""
    return {r.id for r in state.asked + state.queue} | set(state.parked)


# -- scenarios


class Script:
    """A runner, step by step.  `last` are the effects of the last step."""

    def __init__(self, config: RunnerConfig = CONFIG, now_ms: int = 0) -> None:
        self.now = now_ms
        self.clauses: list[str] = []
        self.last: tuple[Effect, ...] = ()
        self._took(start(config, now_ms))

    def _took(self, outcome: Outcome) -> Script:
        self.state, self.last = outcome.state, outcome.effects
        self.clauses.append(outcome.clause)
        LOG.applied.append(outcome.clause)
        return self

    def event(self, event: Event) -> Script:
        return self._took(step(self.state, event))

    def one(self, kind: type[Any]) -> Any:
        found = [e for e in self.last if isinstance(e, kind)]
        assert len(found) == 1, (kind, self.last)
        return found[0]

    def none(self, *kinds: type[Any]) -> Script:
        assert [e for e in self.last if isinstance(e, kinds)] == []
        return self

    def sent(self) -> Any:
        return self.one(Execute).command

    def answer(self, answer: Any, id: int | None = None) -> Script:
        if id is None:
            id = self.id
        return self.event(Answered(self.now, id, answer))

    @property
    def id(self) -> int:
        sent = [e for e in self.last if isinstance(e, Execute | Ask)]
        assert len(sent) == 1, self.last
        return sent[0].id

    def at(self, now_ms: int) -> Script:
        self.now = now_ms
        return self

    def timer(self, id: int) -> Script:
        return self.event(TimerFired(self.now, id))

    def asks(self, request: Any, id: int = 1) -> Script:
        return self.event(TurnRequested(self.now, self.turn_id, id, request))

    def ends(self, turn_exit: Any) -> Script:
        return self.event(TurnEnded(self.now, self.turn_id, turn_exit))

    @property
    def turn_id(self) -> int:
        return self.state.supervision.turn_id if isinstance(self.state, SUPERVISING) else 0

    @property
    def renew_timer(self) -> int:
        assert isinstance(self.state, Loading | TurnRunning)
        renewal = self.state.held_run.renewal
        assert isinstance(renewal, RenewalTimer)
        return renewal.id

    def stopped(self) -> Stop:
        assert self.state == Stopped()
        stop = self.one(Stop)
        assert isinstance(stop, Stop)
        return stop


def id_of_write(script: Script) -> int:
    """Return the id of the write in progress."""
    assert isinstance(script.state, TurnRunning) and script.state.pending is not None
    return script.state.pending.id


def at_work(config: RunnerConfig = CONFIG, now_ms: int = 0) -> Script:
    script = Script(config, now_ms).answer(BEGUN).answer(LOADED)
    script.one(StartTurn)
    return script


@shows("RUNNER-1", "RUNNER-2", "RUNNER-30", "RUNNER-62", "RUNNER-20", "RUNNER-36", "RUNNER-37")
def test_a_turn_is_loaded_started_and_committed_with_the_next_run() -> None:
    script = Script()
    assert isinstance(script.sent(), Begin)
    script.answer(BEGUN)
    assert script.one(Ask).question == LoadRun("s", "run")
    script.answer(LOADED)
    assert script.one(StartTurn).begun == BEGUN

    script.ends(Finished(END))
    assert (script.sent().then, script.sent().next_run_id) == (Then.NEXT, "run-2")

    script.answer(Committed(1, NEXT, True))
    assert script.one(RunFinished) == RunFinished("run", ("i",))
    assert script.one(Ask).question == LoadRun("s", "run-2")

    script.answer(LOADED)
    script.ends(Finished(END)).answer(Committed(2))
    assert script.stopped().reason is RunnerStopReason.DONE


@shows("RUNNER-80", "RUNNER-82")
def test_an_unavailable_call_is_sent_again_under_its_id() -> None:
    script = Script()
    first = script.one(Execute)
    script.event(StoreUnavailable(1, first.id))
    again = script.one(SetTimer)
    assert again.id == first.id
    script.at(again.at_ms).timer(again.id)
    assert script.one(Execute) == first


@shows("RUNNER-2", "RUNNER-81")
def test_the_deadline_counts_from_the_first_attempt_that_may_have_granted() -> None:
    script = Script()
    id = script.id
    script.event(OutcomeUnknown(5, id)).at(10).timer(id)
    script.at(100).answer(BEGUN, id)
    assert isinstance(script.state, Loading)
    assert script.state.held_run.deadline_ms == 300


@shows("RUNNER-2", "RUNNER-80")
def test_an_attempt_that_was_certainly_not_executed_grants_nothing() -> None:
    script = Script()
    id = script.id
    script.event(StoreUnavailable(5, id)).at(10).timer(id)
    script.at(100).answer(BEGUN, id)
    assert isinstance(script.state, Loading)
    assert script.state.held_run.deadline_ms == 310


@shows("RUNNER-83")
def test_a_begin_is_given_up_after_the_ttl() -> None:
    script = Script()
    id = script.id
    for now in range(0, 2_000, 50):
        script.at(now).event(StoreUnavailable(now, id))
        if script.state == Stopped():
            break
        script.timer(id)
        if script.state == Stopped():
            break
    assert script.now > 300
    assert script.stopped().reason is RunnerStopReason.UNAVAILABLE


@shows("RUNNER-6", "RUNNER-8", "RUNNER-9", "RUNNER-11")
def test_a_dead_holder_is_reclaimed_at_once() -> None:
    script = Script().answer(no(Refusal.HELD))
    assert script.one(Ask).question == CurrentLease("s")
    script.answer(NEAR)
    examine = script.one(CheckProcess)
    assert examine.process == HERE
    script.event(ProcessChecked(0, examine.id, Evidence.DEAD, "c"))
    assert script.sent() == Reclaim("s", "c", Fence("s", 3, "other"), Evidence.DEAD)
    script.answer(Reclaimed(3, "run"))
    assert isinstance(script.sent(), Begin)


@shows("RUNNER-10")
@pytest.mark.parametrize("held", [NEAR, FAR])
def test_a_holder_that_may_be_alive_keeps_its_session(held: Held) -> None:
    script = Script().answer(no(Refusal.HELD)).answer(held)
    if held is NEAR:
        script.event(ProcessChecked(0, script.one(CheckProcess).id, Evidence.UNKNOWN, "c"))
    assert script.stopped().reason is RunnerStopReason.HELD


@shows("RUNNER-3", "RUNNER-4", "RUNNER-8")
def test_sweeps_before_a_begin_are_limited() -> None:
    script, sweeps = Script(), 0
    while script.state != Stopped():
        sweeps += isinstance(script.sent(), Sweep)
        script.answer(
            Swept(0, 0, True) if isinstance(script.sent(), Sweep) else NothingDue(0, True)
        )
    assert sweeps == 64
    assert script.stopped().reason is RunnerStopReason.NOTHING_DUE


@shows("RUNNER-12")
def test_a_runner_stops_if_its_run_needs_more_room() -> None:
    script = Script().answer(NothingDue(0, others_max=7))
    assert script.stopped() == Stop(RunnerStopReason.NEEDS_ROOM, 7)


@shows("RUNNER-21", "RUNNER-37")
def test_a_cancelled_run_is_only_closed() -> None:
    script = Script().answer(begun(cancel=CANCEL)).none(StartTurn, Ask)
    assert script.sent().termination is Termination.CANCELLED
    assert script.answer(Committed(1)).stopped().reason is RunnerStopReason.DONE


@shows("RUNNER-52", "RUNNER-53", "RUNNER-71", "RUNNER-73")
def test_a_late_runner_begins_no_effect_before_the_renewal() -> None:
    script = at_work().at(301).asks(MayStart()).none(Reply)
    assert isinstance(script.sent(), Renew)
    script.at(400).answer(Renewed(300, None, 0))
    assert script.one(Reply).answer is TurnReply.PROCEED
    script.at(601).asks(MayStart(), 2).one(Reply)  # from the sending of the renewal
    assert script.last == (Reply(2, TurnReply.PROCEED),)


@shows("RUNNER-35", "RUNNER-41", "RUNNER-44", "RUNNER-53", "RUNNER-74")
def test_a_fenced_runner_stops_without_another_write() -> None:
    script = at_work().at(301).asks(MayStart())
    script.answer(no(Refusal.FENCED)).none(Execute)
    assert script.one(Reply).answer is TurnReply.LEASE_LOST
    assert script.one(NotifyTurn).reply is TurnReply.LEASE_LOST
    script.ends(Failed(Failure(ErrorKind.TRANSIENT))).none(Execute)
    assert script.stopped().reason is RunnerStopReason.FENCED


@shows("RUNNER-54", "RUNNER-56")
def test_a_late_runner_still_writes() -> None:
    script = at_work().at(5_000).asks(REPORT)
    assert isinstance(script.sent(), Checkpoint)
    script.answer(Checkpointed(1, None))
    assert script.one(Reply).answer is TurnReply.PROCEED


@shows("RUNNER-31", "RUNNER-73")
def test_a_late_turn_is_started_after_the_renewal() -> None:
    script = Script().answer(BEGUN).at(301).answer(LOADED).none(StartTurn)
    script.answer(Renewed(300, None, 0))
    script.one(StartTurn)


@shows("RUNNER-44", "RUNNER-57")
def test_a_replay_without_the_lease_counts_as_fenced() -> None:
    script = at_work().asks(START)
    script.answer(Checkpointed(1, None, None, False)).none(Execute)
    assert script.one(Reply).answer is TurnReply.LEASE_LOST


@shows("RUNNER-23", "RUNNER-41", "RUNNER-43", "RUNNER-51", "RUNNER-70", "RUNNER-73")
def test_a_cancel_flag_in_a_renewal_notifies_the_turn_and_closes_the_run() -> None:
    script = at_work()
    script.at(100).timer(script.renew_timer)
    script.answer(Renewed(300, CANCEL, 0))
    assert script.one(NotifyTurn).reply is TurnReply.CANCELLED
    assert script.asks(MayStart()).one(Reply).answer is TurnReply.CANCELLED
    assert script.asks(START).one(Reply).answer is TurnReply.CANCELLED
    assert isinstance(script.asks(REPORT).sent(), Checkpoint)
    script.answer(Checkpointed(1, None, CANCEL))
    script.ends(Finished(END))
    assert (script.sent().termination, script.sent().n) == (Termination.CANCELLED, 1)


@shows("RUNNER-41", "RUNNER-42", "RUNNER-43", "RUNNER-86", "RUNNER-87")
def test_a_turn_that_ignores_a_cancel_is_interrupted_then_abandoned() -> None:
    script = at_work()
    script.at(100).timer(script.renew_timer)
    script.answer(Renewed(300, CANCEL, 0))
    grace = [e for e in script.last if isinstance(e, SetTimer) and e.at_ms == 150][0]
    script.at(150).timer(grace.id)
    script.one(InterruptTurn)
    script.at(200).timer(script.one(SetTimer).id)
    assert script.sent().termination is Termination.CANCELLED


@shows("RUNNER-77", "RUNNER-78")
def test_a_hint_of_a_cancel_sends_a_renewal() -> None:
    script = at_work()
    script.event(CancelSeen(1, "another")).none(Execute)
    script.event(CancelSeen(1, "run"))
    assert isinstance(script.sent(), Renew)


@shows("RUNNER-38")
def test_a_commit_refused_as_cancelled_is_replaced_by_a_cancelled_one() -> None:
    script = at_work().ends(Finished(END)).answer(no(Refusal.CANCELLED, CANCEL))
    assert script.sent().termination is Termination.CANCELLED


@shows("RUNNER-39")
def test_an_illegal_commit_fails_the_run_permanently() -> None:
    script = at_work().ends(Finished(END)).answer(no(Refusal.ILLEGAL, "too large"))
    assert script.sent().failure.kind is ErrorKind.INVALID_REQUEST


@shows("RUNNER-39")
def test_a_commit_to_a_pruned_frame_fails_the_run_permanently() -> None:
    script = at_work().ends(Finished(END)).answer(no(Refusal.PRUNED, "aside"))
    assert script.sent().failure.kind is ErrorKind.INVALID_REQUEST


@shows("RUNNER-39")
def test_a_commit_that_opens_a_frame_too_many_fails_the_run_permanently() -> None:
    script = at_work().ends(Finished(END)).answer(no(Refusal.FULL, 256))
    assert script.sent().failure.kind is ErrorKind.LIMIT_REACHED


@shows("RUNNER-92")
def test_an_illegal_fail_is_replaced_by_a_permanent_one_without_its_usage() -> None:
    usage = (UsageDelta("api", "m", -1),)
    failure = Failure(ErrorKind.RATE_LIMITED, "429")
    script = at_work().ends(Failed(failure, usage)).answer(no(Refusal.ILLEGAL, "usage below 0"))

    sent = script.sent()
    assert (sent.failure.kind, sent.usage) == (ErrorKind.INVALID_REQUEST, ())
    assert "usage below 0" in sent.failure.message
    assert script.answer(no(Refusal.ILLEGAL)).stopped().reason is RunnerStopReason.REFUSED


@shows("RUNNER-24", "RUNNER-85")
def test_a_turn_that_reaches_its_time_limit_fails_as_transient() -> None:
    script = at_work()
    assert isinstance(script.state, TurnRunning)
    script.at(10_000).timer(script.state.supervision.timer)
    script.one(InterruptTurn)
    script.ends(Abandoned())
    assert script.sent().failure.kind is ErrorKind.TRANSIENT
    assert "10000 ms" in script.sent().failure.message


@shows("RUNNER-20", "RUNNER-89")
def test_a_drained_runner_lets_the_turn_end_and_takes_no_next_run() -> None:
    script = at_work().event(Drain(0, 40))
    script.asks(MayStart())
    assert script.one(Reply).answer is TurnReply.PROCEED
    assert script.ends(Finished(END)).sent().then is Then.RELEASE


@shows("RUNNER-25", "RUNNER-42", "RUNNER-86", "RUNNER-89")
def test_a_drained_turn_is_released_after_its_grace_period() -> None:
    script = at_work().event(Drain(0, 40))
    script.at(40).timer(script.one(SetTimer).id)
    script.one(InterruptTurn)
    script.ends(Abandoned())
    assert script.sent() == RELEASE
    assert script.answer(Ended("released")).stopped().reason is RunnerStopReason.DONE


@shows("RUNNER-22", "RUNNER-88")
def test_a_run_begun_while_draining_is_released() -> None:
    script = Script()
    id = script.id
    script.event(Drain(0, 0)).answer(BEGUN, id)
    assert script.sent() == RELEASE


@shows("RUNNER-45", "RUNNER-54", "RUNNER-55", "RUNNER-56")
def test_one_write_is_in_progress_and_waiting_reports_share_a_checkpoint() -> None:
    script = at_work().asks(START, 1)
    first = script.id
    a, b = (NewEntry(EntryKind.REPORT, name) for name in "ab")
    script.asks(Record((a,)), 2).none(Execute).asks(Record((b,)), 3).none(Execute)
    script.asks(START, 4).none(Execute)
    script.answer(Checkpointed(1, None), first)
    assert (script.sent().n, script.sent().entries) == (1, (a, b))
    script.answer(Checkpointed(2, None))
    assert [e.id for e in script.last if isinstance(e, Reply)] == [2, 3]
    assert (script.sent().n, script.sent().entries) == (2, START.entries)


@shows("RUNNER-25", "RUNNER-63")
def test_a_write_in_progress_is_awaited_before_the_final_command() -> None:
    script = at_work().asks(REPORT)
    id = script.id
    script.ends(Failed(Failure(ErrorKind.TRANSIENT))).none(Execute)
    assert isinstance(script.answer(Checkpointed(1, None), id).sent(), Fail)


@shows("RUNNER-75")
def test_a_renewal_that_the_commit_overtook_loses_nothing() -> None:
    script = at_work()
    script.at(100).timer(script.renew_timer)
    renewal = script.id
    script.ends(Finished(END))
    commit = script.id
    script.answer(no(Refusal.FENCED), renewal).none(Stop)
    assert script.answer(Committed(1), commit).stopped().reason is RunnerStopReason.DONE


@shows("RUNNER-34", "RUNNER-59", "RUNNER-91")
def test_the_next_run_waits_for_code_that_continues_after_its_commit() -> None:
    script = at_work().asks(END, 1)
    script.answer(Committed(1, NEXT, True))
    assert script.one(Reply) == Reply(1, Committed(1, NEXT, True))
    assert script.asks(END, 2).one(Reply).answer is TurnReply.COMMITTED
    assert script.ends(Abandoned()).one(Ask).question == LoadRun("s", "run-2")


@shows("RUNNER-20", "RUNNER-36")
def test_a_runner_releases_the_lease_after_its_last_permitted_run() -> None:
    script, thens = at_work(replace(CONFIG, runs_max=3)), []
    for run in itertools.count(2):
        script.ends(Finished(END))
        thens.append(script.sent().then)
        if thens[-1] is Then.RELEASE:
            break
        script.answer(Committed(run, begun(f"run-{run}"), True)).answer(LOADED)
    assert thens == [Then.NEXT, Then.NEXT, Then.RELEASE]


@shows("RUNNER-90")
def test_a_report_of_an_unknown_call_changes_nothing() -> None:
    script = at_work()
    before = script.state
    script.answer(BEGUN, 99)
    assert (script.state, script.last, script.clauses[-1]) == (before, (), "RUNNER-90")


@shows("RUNNER-81", "RUNNER-82", "RUNNER-88")
def test_a_commit_with_an_unknown_outcome_is_sent_again_unchanged() -> None:
    script = at_work().ends(Finished(END))
    commit = script.one(Execute)
    script.event(OutcomeUnknown(1, commit.id)).event(Drain(2, 0))
    script.at(10).timer(commit.id)
    assert script.one(Execute) == commit


@shows("RUNNER-5")
def test_a_begin_that_was_executed_before_stops_the_runner_as_fenced() -> None:
    answer = BegunBefore("run", None)
    assert Script().answer(answer).stopped() == Stop(RunnerStopReason.FENCED, answer)


@shows("RUNNER-7")
def test_a_refused_begin_stops_the_runner_with_the_reason() -> None:
    refused = no(Refusal.PHASE, "retired")
    assert Script().answer(refused).stopped() == Stop(RunnerStopReason.REFUSED, refused)


@shows("RUNNER-32")
def test_a_run_cancelled_while_it_is_loaded_is_closed() -> None:
    script = Script(replace(CONFIG, ttl_ms=30))
    script.answer(BEGUN)
    load, timer = script.id, script.renew_timer
    script.at(100).timer(timer)
    script.answer(Renewed(300, CANCEL, 0)).none(StartTurn)
    assert script.answer(LOADED, load).sent().termination is Termination.CANCELLED


@shows("RUNNER-32")
def test_a_run_that_was_asked_to_stop_before_it_was_read_is_closed() -> None:
    script = Script().answer(BEGUN).answer(replace(LOADED, cancel=CANCEL)).none(StartTurn)
    assert script.sent().termination is Termination.CANCELLED


# -- steering


ENTERED = Input("s", "j", "steering", "api", None, None, "", POLICIES["steering"], 0, "shorter")


@shows("RUNNER-112", "RUNNER-113")
def test_inputs_that_a_checkpoint_took_are_read_before_the_code_gets_them() -> None:
    script = at_work().asks(TAKE, 1)
    sent = script.sent()
    assert (sent.take, sent.take_id) == (Boundary.AFTER_WORK, "checkpoint#1")
    script.asks(REPORT, 2).none(Execute)
    script.at(10)
    script.answer(Checkpointed(1, None, None, True, ("j",)), id_of_write(script)).none(Reply)
    assert script.one(Ask).question == LoadInputs("s", ("j",))
    script.answer((ENTERED,))
    assert script.one(Reply) == Reply(1, Taken((ENTERED,)))
    assert script.sent().n == 1  # the write that waited
    script.answer(Checkpointed(2, None)).ends(Finished(END)).answer(Committed(1))
    assert script.one(RunFinished).input_ids == ("i", "j")


WAIT = TurnWait("ask#1", WaitReason.APPROVAL, ("t",))


@shows("RUNNER-131")
def test_a_turn_that_waits_is_parked_and_its_runner_stops() -> None:
    script = at_work().asks(WAIT, 1)
    sent = script.sent()
    assert isinstance(sent, Park) and (sent.effect_id, sent.waits_for) == ("ask#1", ("t",))
    script.answer(Parked(1))
    assert script.one(Reply).answer == Parked(1)
    assert script.asks(REPORT, 2).one(Reply).answer is TurnReply.PARKED


@shows("RUNNER-130")
def test_code_goes_on_if_what_it_would_wait_for_is_settled() -> None:
    script = at_work().asks(WAIT, 1).answer(GoOn())
    assert script.one(Reply).answer == GoOn()
    assert isinstance(script.asks(REPORT, 2).sent(), Checkpoint)


@shows("RUNNER-56")
def test_a_checkpoint_that_took_nothing_is_answered_at_once() -> None:
    script = at_work().asks(TAKE).answer(Checkpointed(0, None)).none(Ask)
    assert script.one(Reply).answer is TurnReply.PROCEED


@shows("RUNNER-113")
def test_code_that_has_ended_meanwhile_gets_no_inputs() -> None:
    script = at_work().asks(TAKE).answer(Checkpointed(1, None, None, True, ("j",)))
    load = script.id
    script.ends(Abandoned()).none(Execute)
    assert isinstance(script.answer((ENTERED,), load).sent(), Release)


@shows("RUNNER-51")
def test_a_turn_that_was_asked_to_stop_takes_nothing() -> None:
    script = at_work().asks(START).answer(no(Refusal.CANCELLED, CANCEL))
    assert script.asks(TAKE, 2).one(Reply).answer is TurnReply.CANCELLED


@shows("RUNNER-117")
def test_a_turn_that_has_reached_its_time_limit_takes_nothing() -> None:
    script = at_work()
    assert isinstance(script.state, TurnRunning)
    script.at(10_000).timer(script.state.supervision.timer)
    assert script.asks(TAKE, 1).one(Reply).answer is TurnReply.TIMED_OUT
    script.asks(replace(REPORT, take=TAKE.take), 2)
    assert script.sent().take is None


@shows("RUNNER-114")
def test_a_commit_refused_as_steered_is_returned_to_the_code_and_never_fails_the_run() -> None:
    script = at_work().asks(EndTurn("run-2", TurnEnd(yields=True)), 1)
    assert script.sent().yields
    refused = no(Refusal.STEERED, ("j",))
    assert script.answer(refused).last == (Reply(1, refused),)
    script.ends(Finished(EndTurn("run-2", TurnEnd(yields=True))))
    assert not script.sent().yields  # no code is left that could go on


@shows("RUNNER-114")
def test_a_commit_that_yields_and_outlives_its_code_is_sent_again_without() -> None:
    script = at_work().asks(EndTurn("run-2", TurnEnd(yields=True)), 1)
    commit = script.id
    script.ends(Finished(EndTurn("run-3", TurnEnd(yields=True))))
    script.answer(no(Refusal.STEERED, ("j",)), commit)
    assert (script.sent().next_run_id, script.sent().yields) == ("run-3", False)


@shows("RUNNER-115", "RUNNER-116")
def test_a_hint_or_a_renewal_tells_the_code_that_it_is_steered() -> None:
    script = at_work()
    script.event(SteeringSeen(1, "another")).none(NotifyTurn)
    script.event(SteeringSeen(1, "run"))
    assert script.last == (NotifyTurn(script.turn_id, TurnReply.STEERED),)
    script.at(100).timer(script.renew_timer)
    script.answer(Renewed(300, None, 0, True))
    assert script.one(NotifyTurn).reply is TurnReply.STEERED


@shows("RUNNER-33")
def test_a_run_that_cannot_be_read_stops_the_runner() -> None:
    stop = Script().answer(BEGUN).answer(None).stopped()
    assert stop.reason is RunnerStopReason.BROKEN
    assert "run was begun, but it has no record" in stop.detail


@shows("RUNNER-40")
@pytest.mark.parametrize(
    ("turn_exit", "refusal", "reason"),
    [
        (Finished(END), Refusal.FENCED, RunnerStopReason.FENCED),
        (Abandoned(), Refusal.ILLEGAL, RunnerStopReason.REFUSED),
    ],
)
def test_a_refused_final_command_stops_the_runner_without_another_write(
    turn_exit: Any, refusal: Refusal, reason: RunnerStopReason
) -> None:
    script = at_work().ends(turn_exit).answer(no(refusal)).none(Execute, RunFinished)
    assert script.stopped() == Stop(reason, no(refusal), True)


@shows("RUNNER-24")
def test_code_that_ends_after_its_time_limit_is_committed() -> None:
    script = at_work()
    assert isinstance(script.state, TurnRunning)
    script.at(10_000).timer(script.state.supervision.timer).ends(Finished(END))
    assert script.sent().termination is Termination.FINISHED


@shows("RUNNER-50")
def test_code_of_an_earlier_turn_is_answered_that_its_lease_is_lost() -> None:
    script = at_work()
    script.event(TurnRequested(0, script.turn_id + 99, 1, MayStart()))
    assert script.last == (Reply(1, TurnReply.LEASE_LOST),)


@shows("RUNNER-58")
def test_a_runner_waits_for_code_that_continues_after_a_commit_that_released() -> None:
    script = at_work().asks(END, 1).answer(Committed(1))
    assert script.one(Reply) == Reply(1, Committed(1))
    assert script.asks(MayStart(), 2).one(Reply).answer is TurnReply.COMMITTED
    assert script.ends(Abandoned()).stopped().reason is RunnerStopReason.DONE


@shows("RUNNER-60", "RUNNER-43")
def test_a_write_refused_as_cancelled_notifies_the_turn() -> None:
    script = at_work().asks(START).answer(no(Refusal.CANCELLED, CANCEL))
    assert script.one(Reply).answer is TurnReply.CANCELLED
    assert script.one(NotifyTurn).reply is TurnReply.CANCELLED


@shows("RUNNER-61")
@pytest.mark.parametrize("request_", [REPORT, END])
def test_any_other_refusal_is_returned_to_the_turn_code(request_: Any) -> None:
    refused = no(Refusal.ILLEGAL, "too large")
    script = at_work().asks(request_).answer(refused)
    assert script.last == (Reply(1, refused),)


@shows("RUNNER-72")
def test_no_renewal_is_sent_while_the_final_command_is_in_progress() -> None:
    script = at_work()
    timer = script.renew_timer
    script.ends(Finished(END)).at(100).timer(timer)
    assert script.last == (SetTimer(timer, 200),)


@shows("RUNNER-76")
@pytest.mark.parametrize("report", [StoreUnavailable, OutcomeUnknown])
def test_an_unanswered_renewal_is_retried_with_a_growing_delay(report: Any) -> None:
    script, delays = at_work(), []
    timer = script.renew_timer
    for now in range(100, 110):
        script.at(now).timer(timer)
        script.event(report(now, script.id))
        delays.append(script.one(SetTimer).at_ms - now)
        timer = script.one(SetTimer).id
    assert delays == [5, 10, 20, 40, 80, 160, 320, 640, 1_000, 1_000]


@shows("RUNNER-84", "RUNNER-44")
def test_a_call_that_can_never_be_executed_ends_the_holding() -> None:
    script = at_work().asks(REPORT)
    script.event(StoreBroken(1, script.id, "row 7 is unreadable")).none(Execute)
    assert script.one(Reply).answer is TurnReply.LEASE_LOST
    assert script.ends(Abandoned()).stopped() == Stop(
        RunnerStopReason.BROKEN, "row 7 is unreadable", True
    )


@shows("RUNNER-140")
def test_a_runner_says_how_it_has_left_its_turn() -> None:
    ended = at_work().ends(Finished(END)).answer(Committed(1)).stopped()
    failed = (
        at_work()
        .ends(Failed(Failure(ErrorKind.TRANSIENT)))
        .answer(Ended("rescheduled", 7))
        .stopped()
    )
    released = at_work().ends(Abandoned()).answer(Ended("released")).stopped()
    fenced = at_work().ends(Finished(END)).answer(no(Refusal.FENCED)).stopped()
    idle = Script().answer(NothingDue(None)).stopped()
    unknown = Script().answer(no(Refusal.UNKNOWN_SESSION)).stopped()

    assert (ended.left, failed.left) == (Left.ENDED, Left.ENDED)
    assert (released.left, fenced.left) == (Left.RELEASED, Left.GIVEN_UP)
    assert (idle.left, unknown.left) == (None, None)


def test_every_clause_is_shown_by_a_test_and_no_other_clause_is_named() -> None:
    assert named(globals()) == defined("runner.md")


# -- the theory of operation


class KernelStore:
    """A store without a driver: the model of all records."""

    def __init__(self, clock: Any) -> None:
        self.world, self.clock = EMPTY, clock

    def execute(self, command: Any) -> Any:
        decision = command.decide(self.world.load(command.reads()), self.clock())
        if isinstance(decision, Refused):
            return decision
        self.world = evolve(self.world, decision.writes)
        return decision.outcome

    def ask(self, question: Any) -> Any:
        return ask(question, self.world.answer)


def test_the_loop_in_the_docstring_runs_a_session() -> None:
    store = KernelStore(lambda: 1_000)
    parts = (machine.__doc__ or "").partition("steps of its own:\n\n")[2].partition("\n\nA host")
    assert len(parts[0].splitlines()) >= 20
    store.execute(Admit("s", (NewInput("i1", "prompt", "hello"),)))

    names = {
        **vars(protocol),
        "Evidence": Evidence,
        "NewNode": NewNode,
        "Role": Role,
        "Stopped": Stopped,
        "TurnEnd": TurnEnd,
        "start": start,
        "step": step,
        "config": replace(CONFIG, lease_id="l1", run_id="r1"),
        "clock": store.clock,
        "events": deque(),
        "timers": {},
        "execute": store.execute,
        "ask": store.ask,
        "answer": lambda loaded: loaded.inputs[0].payload.upper(),
        "new_id": lambda: "r2",
        "sleep_until": lambda at_ms: pytest.fail("this session awaits no timer"),
    }
    exec(textwrap.dedent(parts[0]), names)

    assert names["outcome"].effects[-1].reason is RunnerStopReason.DONE
    bodies = [node.body for node in store.world.all(Node)]
    assert bodies == ["HELLO"]
