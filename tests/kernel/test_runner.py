"""The runner: its rows are total and exclusive, and its stories end as the spec says."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from tenure.commands import (
    Begin,
    Begun,
    BegunBefore,
    Checkpoint,
    Checkpointed,
    Commit,
    Committed,
    Ended,
    Fail,
    NewEntry,
    NothingDue,
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
from tenure.machines.lease import Evidence, Fence, Held, LocalProcess, Owner
from tenure.machines.run import Running, Termination
from tenure.outcome import Refusal, Refused, Stepped
from tenure.policy import Lane
from tenure.questions.core import LoadedRun, LoadRun
from tenure.records import Cancel, EntryKind, Run
from tenure.replace import replace
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
    MayStart,
    NotifyTurn,
    OutcomeUnknown,
    ProcessChecked,
    Reply,
    RunFinished,
    RunnerStopReason,
    SetTimer,
    StartTurn,
    Stop,
    StoreBroken,
    StoreUnavailable,
    TimerFired,
    TurnEnded,
    TurnReply,
    TurnRequested,
)
from tenure.runner.states import (
    Acquiring,
    CheckingHolder,
    Core,
    Ending,
    HeldRun,
    LeaseLost,
    Loading,
    PendingCall,
    RenewalTimer,
    Request,
    State,
    Stopped,
    SupervisionStage,
    TurnCommitted,
    TurnRunning,
    TurnStopReason,
    TurnSupervision,
)
from tenure.turn_end import Record

HERE = LocalProcess("host", "boot", "ns", 1, "10")
THERE = LocalProcess("other", "boot", "ns", 1, "10")
MINE = Owner("me", "me-1", HERE)
PLAN = RunnerConfig("s", "lease", "run", MINE, ttl_ms=300, turn_deadline_ms=10_000, grace_ms=50)
FENCE = Fence("s", 1, "lease")
CANCEL = Cancel("run", "somebody")


def begun(run_id: str = "run", cancel: Cancel | None = None) -> Begun:
    return Begun(FENCE, 300, run_id, 1, 0, 0, None, ("i",), False, cancel)


BEGUN = begun()
NEXT = begun("run-2")
CARRIED = LoadedRun(Run("s", "run", Lane.USER, 0, False, (), Running(1)), (), (), None)
START = NewEntry(EntryKind.START, "pay#1")
REPORT = NewEntry(EntryKind.REPORT, "pay#1", "{}")
END = EndTurn("run-2")
HELD = Held(3, "theirs", Owner("it", "it-1", HERE), 300, 900)
FAR = Held(3, "theirs", Owner("it", "it-1", THERE), 300, 900)


def no(reason: Refusal, detail: Any = None) -> Refused:
    return Refused(reason, "X-1", detail)


# -- every row: exactly one is enabled in every case of a small domain

CORES = [
    Core(PLAN, 100),
    replace(Core(PLAN, 100, rounds=64), draining_ms=0),
    Core(PLAN, 100, rounds=64),
]
SENT: list[dict[str, Any]] = [
    {"tries": 0},
    {"tries": 3, "unsure": True},
    {"tries": 3, "waiting": True},
    {"tries": 3, "waiting": True, "unsure": True},
]
RENEWALS: list[PendingCall | RenewalTimer] = [
    RenewalTimer(8),
    PendingCall(9, Renew("s", FENCE), 0, 0),
]
HOLDS = [
    HeldRun(BEGUN, 300, renewal, 0, cancel)
    for renewal in RENEWALS
    for cancel in (None, CANCEL, Cancel("another", "x"))
]


def orders(what: Any) -> list[PendingCall]:
    return [PendingCall(7, what, 0, 0, **sent) for sent in SENT]


COMMIT = Commit("s", FENCE, "run", 1, 0, 0)
FAIL = Fail("s", FENCE, "run", 1, Failure(ErrorKind.TRANSIENT))
RELEASE = Release("s", FENCE, "run")
CHECKPOINT = Checkpoint("s", FENCE, "run", 1, 0, (START,))
BEGIN = Begin("s", "lease", "run", MINE)
WATCHES = [TurnSupervision(5, 6, stage) for stage in SupervisionStage]
STOP = Stop(RunnerStopReason.FENCED)


def all_states() -> list[State]:
    states: list[State] = [Stopped()]
    for core in CORES:
        states.append(CheckingHolder(core, 7, HELD))
        for what in (BEGIN, Sweep("s"), Reclaim("s", "c", FENCE, Evidence.DEAD), CurrentLease("s")):
            states += [Acquiring(core, order) for order in orders(what)]
        states += [LeaseLost(core, watch, TurnReply.LEASE_LOST, STOP) for watch in WATCHES]
        for hold in HOLDS:
            states.append(Loading(core, hold, None, CARRIED))
            states += [Loading(core, hold, order) for order in orders(LoadRun("s", "run"))]
            states += [Ending(core, hold, o) for w in (COMMIT, FAIL, RELEASE) for o in orders(w)]
            states += [TurnCommitted(core, hold, watch) for watch in WATCHES]
            for watch, why in itertools.product(WATCHES, (None, *TurnStopReason)):
                for order in (None, *orders(CHECKPOINT), *orders(COMMIT)):
                    asked = (Request(1, Record((START,))),) if order else ()
                    base = TurnRunning(
                        core, hold, watch, order, asked, parked=(4,), stop_reason=why
                    )
                    states.append(base)
                    if order is not None:
                        queue = (Request(2, Record((REPORT,))), Request(3, END))
                        states.append(replace(base, queue=queue))
                        states.append(replace(base, asked=(), parked=(), exit=Abandoned()))
    return states


def fitting(what: Any) -> list[Any]:
    """What a store can answer to this."""
    refusals = [no(Refusal.FENCED), no(Refusal.ILLEGAL)]
    match what:
        case Begin():
            held = [no(r) for r in (Refusal.HELD, Refusal.RUN_ACTIVE, Refusal.PHASE)]
            nothing = [NothingDue(5), NothingDue(None, True)]
            return [BEGUN, begun(cancel=CANCEL), BegunBefore("run", None), *nothing, *held]
        case Sweep():
            return [Swept(1, 1, False), no(Refusal.UNKNOWN_SESSION)]
        case Reclaim():
            return [Reclaimed(1, "run"), no(Refusal.NOT_OBSERVED)]
        case CurrentLease():
            return [None, HELD, FAR]
        case LoadRun():
            return [None, CARRIED]
        case Renew():
            return [Renewed(300, None, 0), Renewed(300, CANCEL, 0), no(Refusal.FENCED)]
        case Checkpoint():
            wrote = [Checkpointed(1, None), Checkpointed(1, None, CANCEL)]
            gone = Checkpointed(1, None, None, False)
            return [*wrote, gone, no(Refusal.CANCELLED, CANCEL), *refusals]
        case Commit():
            done = [Committed(1), Committed(1, NEXT, True)]
            return [*done, no(Refusal.CANCELLED, CANCEL), *refusals]
        case _:
            return [Ended("released"), *refusals]


def all_events(state: State) -> list[Event]:
    events: list[Event] = []
    for now in (10, 5_000):
        events += [Drain(now, 0), CancelSeen(now, "run"), CancelSeen(now, "another")]
        for id in (6, 7, 8, 9, 77):
            events += [StoreUnavailable(now, id), OutcomeUnknown(now, id)]
            events += [StoreBroken(now, id, "x"), TimerFired(now, id)]
            events += [ProcessChecked(now, id, e, "c") for e in Evidence]
        events.append(Answered(now, 77, BEGUN))
        wants = (MayStart(), Record((START,)), Record((REPORT,)), END)
        events += [TurnRequested(now, turn, 11, want) for turn in (5, 55) for want in wants]
        hows = (Abandoned(), Finished(END), Failed(Failure(ErrorKind.TRANSIENT)))
        events += [TurnEnded(now, turn, how) for turn in (5, 55) for how in hows]
        order = getattr(state, "pending", None)
        if order is not None:
            events += [Answered(now, 7, answer) for answer in fitting(order.what)]
        hold = getattr(state, "held_run", None)
        if hold is not None and isinstance(hold.renewal, PendingCall):
            events += [Answered(now, 9, answer) for answer in fitting(hold.renewal.what)]
    return events


def test_exactly_one_row_is_enabled_in_every_case() -> None:
    cases, clauses = 0, set()
    for state in all_states():
        for event in all_events(state):
            cases += 1
            meant = classify(state, event)
            if meant is None:
                assert step(state, event) == Stepped(state, "RUNNER-90")
                continue
            rows = RULES.enabled(state, meant)
            assert len(rows) == 1, ([row.clause for row in rows], state, meant)
            outcome = rows[0].then(state, meant, rows[0].clause)
            check(state, event, outcome)
            clauses.add(rows[0].clause)

    assert cases > 100_000
    assert {row.clause for row in RULES.rows} == clauses


def check(state: State, event: Event, outcome: Outcome) -> None:
    """What holds after every step, whatever the case."""
    effects = outcome.effects
    ended = [e for e in effects if isinstance(e, Stop)]
    assert (outcome.state == Stopped()) == bool(ended) or state == Stopped()
    if isinstance(state, LeaseLost | Stopped):
        assert not [e for e in effects if isinstance(e, Execute | Ask | StartTurn)]
    fenced = isinstance(event, Answered) and (
        isinstance(event.answer, Refused) and event.answer.reason is Refusal.FENCED
    )
    own = event.id in ids_of(state) if isinstance(event, Answered) else False
    last_words = isinstance(state, TurnRunning) and (
        state.exit is not None or (state.pending and isinstance(state.pending.what, Commit))
    )
    if fenced and own and not (last_words or isinstance(state, Ending | Acquiring)):
        assert not [e for e in effects if isinstance(e, Execute)], "fenced, and wrote"
    if isinstance(event, TurnRequested):
        replied = [e for e in effects if isinstance(e, Reply) and e.id == event.id]
        waits = isinstance(outcome.state, TurnRunning) and event.id in pending(outcome.state)
        assert bool(replied) != waits
        hold = getattr(state, "held_run", None)
        if replied and replied[0].answer is TurnReply.PROCEED:
            assert hold is not None and event.now_ms <= hold.deadline_ms


def ids_of(state: State) -> set[int]:
    order, hold = getattr(state, "pending", None), getattr(state, "held_run", None)
    ids = {order.id} if order is not None and not order.waiting else set()
    if hold is not None and isinstance(hold.renewal, PendingCall):
        ids.add(hold.renewal.id)
    return ids


def pending(state: TurnRunning) -> set[int]:
    return {r.id for r in state.asked + state.queue} | set(state.parked)


# -- stories


class Script:
    """A runner, step by step; `last` are the effects of the last one."""

    def __init__(self, plan: RunnerConfig = PLAN, now_ms: int = 0) -> None:
        self.now = now_ms
        self.clauses: list[str] = []
        self.last: tuple[Effect, ...] = ()
        self._took(start(plan, now_ms))

    def _took(self, outcome: Outcome) -> Script:
        self.state, self.last = outcome.state, outcome.effects
        self.clauses.append(outcome.clause)
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

    def asks(self, want: Any, id: int = 1) -> Script:
        return self.event(TurnRequested(self.now, self.turn_id, id, want))

    def ends(self, how: Any) -> Script:
        return self.event(TurnEnded(self.now, self.turn_id, how))

    @property
    def turn_id(self) -> int:
        watch = getattr(self.state, "supervision", None)
        return 0 if watch is None else int(watch.turn_id)

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


def at_work(plan: RunnerConfig = PLAN, now_ms: int = 0) -> Script:
    script = Script(plan, now_ms).answer(BEGUN).answer(CARRIED)
    script.one(StartTurn)
    return script


def test_a_turn_is_begun_read_started_and_committed_with_the_next_one() -> None:
    script = Script()
    assert isinstance(script.sent(), Begin)
    script.answer(BEGUN)
    assert script.one(Ask).question == LoadRun("s", "run")
    script.answer(CARRIED)
    assert script.one(StartTurn).begun == BEGUN

    script.ends(Finished(END))
    assert (script.sent().then, script.sent().next_run_id) == (Then.NEXT, "run-2")

    script.answer(Committed(1, NEXT, True))
    assert script.one(RunFinished) == RunFinished("run", ("i",))
    assert script.one(Ask).question == LoadRun("s", "run-2")

    script.answer(CARRIED)
    script.ends(Finished(END)).answer(Committed(2))
    assert script.stopped().reason is RunnerStopReason.DONE


def test_a_sleeping_order_is_sent_again_under_its_id() -> None:
    script = Script()
    first = script.one(Execute)
    script.event(StoreUnavailable(1, first.id))
    again = script.one(SetTimer)
    assert again.id == first.id
    script.at(again.at_ms).timer(again.id)
    assert script.one(Execute) == first


def test_time_counts_from_the_first_sending_that_may_have_granted() -> None:
    script = Script()
    id = script.id
    script.event(OutcomeUnknown(5, id)).at(10).timer(id)
    script.at(100).answer(BEGUN, id)
    assert isinstance(script.state, Loading)
    assert script.state.held_run.deadline_ms == 300


def test_what_was_certainly_not_done_grants_nothing() -> None:
    script = Script()
    id = script.id
    script.event(StoreUnavailable(5, id)).at(10).timer(id)
    script.at(100).answer(BEGUN, id)
    assert isinstance(script.state, Loading)
    assert script.state.held_run.deadline_ms == 310


def test_a_store_that_stays_away_ends_a_begin_after_a_lease() -> None:
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


def test_a_dead_holder_is_reclaimed_at_once() -> None:
    script = Script().answer(no(Refusal.HELD))
    assert script.one(Ask).question == CurrentLease("s")
    script.answer(HELD)
    examine = script.one(CheckProcess)
    assert examine.process == HERE
    script.event(ProcessChecked(0, examine.id, Evidence.DEAD, "c"))
    assert script.sent() == Reclaim("s", "c", Fence("s", 3, "theirs"), Evidence.DEAD)
    script.answer(Reclaimed(3, "run"))
    assert isinstance(script.sent(), Begin)


@pytest.mark.parametrize("held", [HELD, FAR])
def test_a_holder_that_may_be_alive_is_left_alone(held: Held) -> None:
    script = Script().answer(no(Refusal.HELD)).answer(held)
    if held is HELD:
        script.event(ProcessChecked(0, script.one(CheckProcess).id, Evidence.UNKNOWN, "c"))
    assert script.stopped().reason is RunnerStopReason.HELD


def test_sweeping_before_a_begin_is_bounded() -> None:
    script, sweeps = Script(), 0
    while script.state != Stopped():
        sweeps += isinstance(script.sent(), Sweep)
        script.answer(
            Swept(0, 0, True) if isinstance(script.sent(), Sweep) else NothingDue(0, True)
        )
    assert sweeps == 64
    assert script.stopped().reason is RunnerStopReason.NOTHING_DUE


def test_a_run_that_was_asked_to_stop_is_only_closed() -> None:
    script = Script().answer(begun(cancel=CANCEL)).none(StartTurn, Ask)
    assert script.sent().termination is Termination.CANCELLED
    assert script.answer(Committed(1)).stopped().reason is RunnerStopReason.DONE


def test_past_its_time_no_effect_begins_until_the_lease_is_renewed() -> None:
    script = at_work().at(301).asks(MayStart()).none(Reply)
    assert isinstance(script.sent(), Renew)
    script.at(400).answer(Renewed(300, None, 0))
    assert script.one(Reply).answer is TurnReply.PROCEED
    script.at(601).asks(MayStart(), 2).one(Reply)  # from the sending of the renewal
    assert script.last == (Reply(2, TurnReply.PROCEED),)


def test_past_its_time_a_fenced_runner_stops_without_writing() -> None:
    script = at_work().at(301).asks(MayStart())
    script.answer(no(Refusal.FENCED)).none(Execute)
    assert script.one(Reply).answer is TurnReply.LEASE_LOST
    assert script.one(NotifyTurn).reply is TurnReply.LEASE_LOST
    script.ends(Failed(Failure(ErrorKind.TRANSIENT))).none(Execute)
    assert script.stopped().reason is RunnerStopReason.FENCED


def test_a_checkpoint_that_was_about_to_be_sent_is_sent_past_the_deadline() -> None:
    script = at_work().at(5_000).asks(Record((REPORT,)))
    assert isinstance(script.sent(), Checkpoint)
    script.answer(Checkpointed(1, None))
    assert script.one(Reply).answer is TurnReply.PROCEED


def test_a_late_turn_is_not_started_before_its_lease_is_renewed() -> None:
    script = Script().answer(BEGUN).at(301).answer(CARRIED).none(StartTurn)
    script.answer(Renewed(300, None, 0))
    script.one(StartTurn)


def test_a_replayed_checkpoint_that_is_not_held_stops_as_if_fenced() -> None:
    script = at_work().asks(Record((START,)))
    script.answer(Checkpointed(1, None, None, False)).none(Execute)
    assert script.one(Reply).answer is TurnReply.LEASE_LOST


def test_a_cancel_flag_in_a_renewal_is_told_and_closes_the_run() -> None:
    script = at_work()
    script.at(100).timer(script.renew_timer)
    script.answer(Renewed(300, CANCEL, 0))
    assert script.one(NotifyTurn).reply is TurnReply.CANCELLED
    assert script.asks(MayStart()).one(Reply).answer is TurnReply.CANCELLED
    assert script.asks(Record((START,))).one(Reply).answer is TurnReply.CANCELLED
    assert isinstance(script.asks(Record((REPORT,))).sent(), Checkpoint)
    script.answer(Checkpointed(1, None, CANCEL))
    script.ends(Finished(END))
    assert (script.sent().termination, script.sent().n) == (Termination.CANCELLED, 1)


def test_a_turn_that_does_not_react_to_a_cancel_is_interrupted_then_given_up() -> None:
    script = at_work()
    script.at(100).timer(script.renew_timer)
    script.answer(Renewed(300, CANCEL, 0))
    grace = [e for e in script.last if isinstance(e, SetTimer) and e.at_ms == 150][0]
    script.at(150).timer(grace.id)
    script.one(InterruptTurn)
    script.at(200).timer(script.one(SetTimer).id)
    assert script.sent().termination is Termination.CANCELLED


def test_a_hint_of_a_cancel_is_asked_about() -> None:
    script = at_work()
    script.event(CancelSeen(1, "another")).none(Execute)
    script.event(CancelSeen(1, "run"))
    assert isinstance(script.sent(), Renew)


def test_a_commit_refused_as_cancelled_is_followed_by_one_that_cancels() -> None:
    script = at_work().ends(Finished(END)).answer(no(Refusal.CANCELLED, CANCEL))
    assert script.sent().termination is Termination.CANCELLED


def test_an_illegal_commit_fails_the_run_for_good() -> None:
    script = at_work().ends(Finished(END)).answer(no(Refusal.ILLEGAL, "too large"))
    assert script.sent().failure.kind is ErrorKind.INVALID_REQUEST


def test_a_turn_past_its_deadline_fails_as_transient() -> None:
    script = at_work()
    assert isinstance(script.state, TurnRunning)
    script.at(10_000).timer(script.state.supervision.timer)
    script.one(InterruptTurn)
    script.ends(Abandoned())
    assert script.sent().failure.kind is ErrorKind.TRANSIENT
    assert "10000 ms" in script.sent().failure.message


def test_a_drain_lets_the_turn_end_and_takes_no_next_run() -> None:
    script = at_work().event(Drain(0, 40))
    script.asks(MayStart())
    assert script.one(Reply).answer is TurnReply.PROCEED
    assert script.ends(Finished(END)).sent().then is Then.RELEASE


def test_a_drain_whose_grace_is_over_releases() -> None:
    script = at_work().event(Drain(0, 40))
    script.at(40).timer(script.one(SetTimer).id)
    script.one(InterruptTurn)
    script.ends(Abandoned())
    assert script.sent() == RELEASE
    assert script.answer(Ended("released")).stopped().reason is RunnerStopReason.DONE


def test_what_was_begun_while_draining_is_released() -> None:
    script = Script()
    id = script.id
    script.event(Drain(0, 0)).answer(BEGUN, id)
    assert script.sent() == RELEASE


def test_writes_go_one_by_one_and_reports_that_wait_together() -> None:
    script = at_work().asks(Record((START,)), 1)
    first = script.id
    a, b = (NewEntry(EntryKind.REPORT, name) for name in "ab")
    script.asks(Record((a,)), 2).none(Execute).asks(Record((b,)), 3).none(Execute)
    script.asks(Record((START,)), 4).none(Execute)
    script.answer(Checkpointed(1, None), first)
    assert (script.sent().n, script.sent().entries) == (1, (a, b))
    script.answer(Checkpointed(2, None))
    assert [e.id for e in script.last if isinstance(e, Reply)] == [2, 3]
    assert (script.sent().n, script.sent().entries) == (2, (START,))


def test_a_write_under_way_is_awaited_before_the_last_word() -> None:
    script = at_work().asks(Record((REPORT,)))
    id = script.id
    script.ends(Failed(Failure(ErrorKind.TRANSIENT))).none(Execute)
    assert isinstance(script.answer(Checkpointed(1, None), id).sent(), Fail)


def test_a_renewal_that_its_own_commit_overtook_is_no_loss() -> None:
    script = at_work()
    script.at(100).timer(script.renew_timer)
    renewal = script.id
    script.ends(Finished(END))
    commit = script.id
    script.answer(no(Refusal.FENCED), renewal).none(Stop)
    assert script.answer(Committed(1), commit).stopped().reason is RunnerStopReason.DONE


def test_code_that_goes_on_after_its_commit_is_told_so_and_the_next_run_waits_for_it() -> None:
    script = at_work().asks(END, 1)
    script.answer(Committed(1, NEXT, True))
    assert script.one(Reply) == Reply(1, Committed(1, NEXT, True))
    assert script.asks(END, 2).one(Reply).answer is TurnReply.COMMITTED
    assert script.ends(Abandoned()).one(Ask).question == LoadRun("s", "run-2")


def test_after_as_many_runs_as_it_may_it_lets_others_in() -> None:
    script, thens = at_work(replace(PLAN, runs_max=3)), []
    for run in itertools.count(2):
        script.ends(Finished(END))
        thens.append(script.sent().then)
        if thens[-1] is Then.RELEASE:
            break
        script.answer(Committed(run, begun(f"run-{run}"), True)).answer(CARRIED)
    assert thens == [Then.NEXT, Then.NEXT, Then.RELEASE]


def test_a_report_of_an_order_that_nobody_knows_changes_nothing() -> None:
    script = at_work()
    before = script.state
    script.answer(BEGUN, 99)
    assert (script.state, script.last, script.clauses[-1]) == (before, (), "RUNNER-90")


def test_an_outcome_unknown_sends_the_very_same_commit() -> None:
    script = at_work().ends(Finished(END))
    commit = script.one(Execute)
    script.event(OutcomeUnknown(1, commit.id)).event(Drain(2, 0))
    script.at(10).timer(commit.id)
    assert script.one(Execute) == commit
