"""The runner of a job: scenarios of its clauses.  Spec: specs/job-runner.md."""

from __future__ import annotations

from typing import Any

from clauses import ClauseLog, defined, named

from tenure.check.job_runner_domain import (
    CONFIG,
    ENDED,
    ENTRY,
    FENCE,
    HELD,
    JOB,
    LOADED,
    OTHER,
    OWNER,
    RELEASED,
    TAKEN,
)
from tenure.commands import (
    Complete,
    Deferred,
    Drain,
    FailJob,
    JobCheckpoint,
    JobCheckpointed,
    JobStarted,
    LetGo,
    NotDue,
    NotSignalled,
    Renew,
    Renewed,
    Signalled,
    Start,
    Take,
    Wait,
)
from tenure.failure import ErrorKind, Failure
from tenure.job_runner.machine import RULES, JobRunnerConfig, Outcome, start, step
from tenure.job_runner.protocol import (
    Abandoned,
    AwaitSignal,
    BeginWork,
    Effect,
    EmitEvent,
    Event,
    InterruptWork,
    JobHinted,
    JobLeft,
    MayGoOn,
    NotifyWork,
    ObserveOwners,
    OwnersObserved,
    Raised,
    RecordEntries,
    Returned,
    StartWork,
    Stop,
    WorkEnded,
    WorkReply,
    WorkRequested,
)
from tenure.job_runner.states import HOLDING, Losing, Stopped, Working
from tenure.machines.job import Disposition
from tenure.machines.lease import Evidence
from tenure.outcome import Refusal, Refused
from tenure.questions.job_work import LoadWork
from tenure.questions.jobs import JobItem, JobStatus
from tenure.records import Cancel, Session
from tenure.replace import replace
from tenure.runner import protocol
from tenure.runner.protocol import (
    Answered,
    Ask,
    Execute,
    OutcomeUnknown,
    Reply,
    RunnerStopReason,
    SetTimer,
    StoreBroken,
    StoreUnavailable,
    TimerFired,
)
from tenure.runner.states import RenewalTimer
from tenure.verdict import Observed

LOG = ClauseLog({row.clause for row in RULES.rows} | {"JOBRUN-1", "JOBRUN-65"})
shows = LOG.shows

FREE = JobItem(Session("j"), JOB)
OWNED = JobItem(Session("j", lease=HELD), replace(JOB, starter=OTHER))
RERUNNABLE = replace(TAKEN, disposition=Disposition.RERUNNABLE)
FAILURE = Failure(ErrorKind.TRANSIENT, "no")


def no(reason: Refusal) -> Refused:
    return Refused(reason, "X-1")


class Script:
    """A runner of a job, step by step.  `last` are the effects of the last step."""

    def __init__(self, config: JobRunnerConfig = CONFIG) -> None:
        self.now = 0
        self.last: tuple[Effect, ...] = ()
        self.state: Any = None
        self._took(start(config, 0))

    def _took(self, outcome: Outcome) -> Script:
        self.state, self.last = outcome.state, outcome.effects
        LOG.applied.append(outcome.clause)
        return self

    def event(self, event: Event) -> Script:
        return self._took(step(self.state, event))

    def at(self, now_ms: int) -> Script:
        self.now = now_ms
        return self

    def one(self, kind: type[Any]) -> Any:
        found = [e for e in self.last if isinstance(e, kind)]
        assert len(found) == 1, (kind, self.last)
        return found[0]

    def none(self, *kinds: type[Any]) -> Script:
        assert [e for e in self.last if isinstance(e, kinds)] == []
        return self

    def answer(self, answer: Any, id: int | None = None) -> Script:
        id = self.state.pending.id if id is None else id
        return self.event(Answered(self.now, id, answer))

    def asks(self, request: Any, id: int = 1) -> Script:
        return self.event(WorkRequested(self.now, self.work_id, id, request))

    def ends(self, work_exit: Any) -> Script:
        return self.event(WorkEnded(self.now, self.work_id, work_exit))

    def timer(self, id: int) -> Script:
        return self.event(TimerFired(self.now, id))

    def drains(self) -> Script:
        return self.event(protocol.Drain(self.now, 20))

    def renewed(self, **fields: Any) -> Script:
        """Let the renewal become due, and answer it."""
        assert isinstance(self.state, HOLDING) and isinstance(self.state.held.renewal, RenewalTimer)
        self.timer(self.state.held.renewal.id)
        assert isinstance(self.sent(), Renew)
        return self.answer(Renewed(300, None, 0, **fields), self.one(Execute).id)

    @property
    def work_id(self) -> int:
        return int(self.state.supervision.work_id)

    def sent(self) -> Any:
        return self.one(Execute).command

    def replied(self, id: int = 1) -> Any:
        (reply,) = [e for e in self.last if isinstance(e, Reply) and e.id == id]
        return reply.answer

    def stopped(self) -> Stop:
        assert self.state == Stopped()
        found = self.one(Stop)
        assert isinstance(found, Stop)
        return found


def working(taken: Any = TAKEN) -> Script:
    script = Script().answer(FREE).answer(taken).answer(LOADED)
    script.one(StartWork)
    return script


def started(taken: Any = TAKEN) -> Script:
    script = working(taken).asks(BeginWork())
    assert isinstance(script.sent(), Start)
    script.answer(JobStarted(1))
    assert script.replied() is WorkReply.PROCEED
    return script


@shows(
    "JOBRUN-1",
    "JOBRUN-3",
    "JOBRUN-5",
    "JOBRUN-8",
    "JOBRUN-25",
    "JOBRUN-27",
    "JOBRUN-30",
    "JOBRUN-33",
)
def test_a_job_is_read_taken_started_and_completed() -> None:
    script = Script()
    assert script.one(Ask).question == JobStatus("j")
    script.answer(FREE)
    assert script.sent() == Take("j", "lease", OWNER, 300, (), True)
    script.answer(TAKEN)
    assert script.one(Ask).question == LoadWork("j")
    script.answer(LOADED)
    assert script.one(StartWork).fence == FENCE
    script.asks(BeginWork())
    assert script.sent() == Start("j", FENCE)
    script.none(Reply).answer(JobStarted(1))
    assert script.replied() is WorkReply.PROCEED
    script.ends(Returned("1"))
    assert script.sent() == Complete("j", "1", FENCE)
    script.answer(ENDED)
    assert script.stopped() == Stop(RunnerStopReason.DONE, ENDED, JobLeft.ENDED)


@shows("JOBRUN-2", "JOBRUN-3", "JOBRUN-7")
def test_a_take_brings_what_was_observed_of_holder_and_starter() -> None:
    script = Script().answer(OWNED)
    effect = script.one(ObserveOwners)
    assert effect.processes == (OTHER.process,)
    script.event(OwnersObserved(0, effect.id, (Evidence.DEAD,)))
    assert script.sent().evidence == (Observed(OTHER, Evidence.DEAD),)
    script.answer(Deferred("other", 900))
    assert script.stopped().reason is RunnerStopReason.HELD


@shows("JOBRUN-3", "JOBRUN-7")
def test_a_worker_without_the_runner_says_so() -> None:
    script = Script(replace(CONFIG, runners=frozenset())).answer(FREE)
    assert script.sent().able is False
    script.answer(NotDue("no_runner", None))
    assert script.stopped() == Stop(RunnerStopReason.NO_RUNNER, NotDue("no_runner", None))


@shows("JOBRUN-4")
def test_an_unknown_job_stops_the_runner() -> None:
    assert Script().answer(None).stopped().reason is RunnerStopReason.NOTHING_DUE


@shows("JOBRUN-6", "JOBRUN-60")
def test_a_job_that_is_taken_in_a_drain_is_let_go() -> None:
    script = Script().answer(FREE).drains().answer(TAKEN)
    assert script.sent() == LetGo("j", FENCE)
    assert script.answer(RELEASED).stopped().left is JobLeft.RELEASED

    script = Script().answer(FREE).answer(TAKEN).drains().answer(LOADED)
    assert script.sent() == LetGo("j", FENCE)


@shows("JOBRUN-9")
def test_a_taken_job_without_a_record_stops_the_runner() -> None:
    stop = Script().answer(FREE).answer(TAKEN).answer(None).stopped()
    assert (stop.reason, stop.left) == (RunnerStopReason.BROKEN, JobLeft.GIVEN_UP)


@shows("JOBRUN-20", "JOBRUN-21")
def test_nothing_is_written_before_the_start_and_the_start_is_written_once() -> None:
    script = working()
    for request in (MayGoOn(), RecordEntries((ENTRY,)), EmitEvent("progress", "1")):
        assert script.asks(request).none(Execute).replied() is WorkReply.OUT_OF_ORDER
    script = started()
    assert script.asks(BeginWork()).none(Execute).replied() is WorkReply.OUT_OF_ORDER
    script.event(WorkRequested(0, 99, 1, MayGoOn()))
    assert script.replied() is WorkReply.LEASE_LOST


@shows("JOBRUN-23", "JOBRUN-24", "JOBRUN-46", "JOBRUN-42")
def test_an_effect_begins_late_only_after_a_renewal() -> None:
    script = started()
    assert script.asks(MayGoOn()).replied() is WorkReply.PROCEED
    script.at(301).asks(MayGoOn(), 2).none(Reply)
    assert isinstance(script.sent(), Renew)
    script.answer(Renewed(300, None, 0), script.one(Execute).id)
    assert script.replied(2) is WorkReply.PROCEED

    script = Script().answer(FREE).answer(TAKEN).at(100).renewed()
    assert script.state.held.deadline_ms == 400


@shows("JOBRUN-26", "JOBRUN-27", "JOBRUN-38", "JOBRUN-39")
def test_writes_follow_each_other() -> None:
    script = started().asks(RecordEntries((ENTRY,)), 1).asks(RecordEntries((ENTRY,)), 2)
    script.none(Execute)
    assert script.answer(JobCheckpointed(1)).sent() == JobCheckpoint("j", FENCE, 1, (ENTRY,))
    script.ends(Returned("1")).none(Execute)
    assert isinstance(script.answer(JobCheckpointed(2)).sent(), Complete)

    script = started().asks(EmitEvent("progress", "1")).answer(no(Refusal.ILLEGAL))
    assert script.replied() == no(Refusal.ILLEGAL)


@shows("JOBRUN-28", "JOBRUN-29", "JOBRUN-47")
def test_a_signal_that_has_not_come_is_asked_for_again_after_a_hint() -> None:
    script = started().asks(AwaitSignal("go", 1)).answer(NotSignalled(True)).none(Reply)
    script.event(JobHinted(0))
    assert [e.command.__class__ for e in script.last if isinstance(e, Execute)] == [Renew, Wait]
    assert script.answer(Signalled("x", "5")).replied() == Signalled("x", "5")


@shows("JOBRUN-35", "JOBRUN-55", "JOBRUN-54")
def test_a_job_that_lets_go_for_a_signal_ends_its_attempt() -> None:
    script = started(RERUNNABLE).asks(AwaitSignal("go", 1)).answer(NotSignalled(False))
    assert script.replied() is WorkReply.PARKED
    assert script.asks(MayGoOn(), 2).replied(2) is WorkReply.PARKED
    stop = script.ends(Abandoned()).none(Execute).stopped()
    assert (stop.reason, stop.left) == (RunnerStopReason.DONE, JobLeft.RELEASED)


@shows("JOBRUN-36")
def test_a_job_that_ends_at_its_start_is_not_started() -> None:
    script = working().asks(BeginWork()).answer(ENDED)
    assert script.replied() is WorkReply.ENDED
    assert script.ends(Abandoned()).none(Execute).stopped().left is JobLeft.ENDED


@shows("JOBRUN-37", "JOBRUN-53", "JOBRUN-56")
def test_bound_work_that_is_fenced_is_ended_first_and_then_drained() -> None:
    script = started()
    script.timer(script.state.held.renewal.id).answer(no(Refusal.FENCED), script.one(Execute).id)
    assert script.one(NotifyWork).reply is WorkReply.LEASE_LOST
    script.none(Execute)
    script.ends(Abandoned())
    assert script.sent() == Drain("j", OWNER, "lease")
    stop = script.answer(ENDED).stopped()
    assert (stop.reason, stop.left) == (RunnerStopReason.FENCED, JobLeft.DRAINED)


@shows("JOBRUN-37", "JOBRUN-54")
def test_other_work_that_is_fenced_writes_nothing_more() -> None:
    script = started(RERUNNABLE).asks(RecordEntries((ENTRY,))).answer(no(Refusal.FENCED))
    assert script.replied() is WorkReply.LEASE_LOST
    stop = script.ends(Abandoned()).none(Execute).stopped()
    assert (stop.reason, stop.left) == (RunnerStopReason.FENCED, JobLeft.GIVEN_UP)


@shows("JOBRUN-53", "JOBRUN-57", "JOBRUN-36")
def test_a_known_outcome_that_is_fenced_is_replaced_by_a_drain() -> None:
    script = started().ends(Returned("1")).answer(no(Refusal.FENCED))
    assert isinstance(script.sent(), Drain)
    assert script.answer(no(Refusal.HELD)).stopped().left is JobLeft.GIVEN_UP

    script = started().ends(Returned("1")).answer(no(Refusal.FENCED)).answer(no(Refusal.ENDED))
    assert script.stopped().left is JobLeft.ENDED


@shows("JOBRUN-31", "JOBRUN-33")
def test_work_that_failed_fails_the_job() -> None:
    script = started().ends(Raised(FAILURE))
    assert script.sent() == FailJob("j", FAILURE, FENCE)
    assert script.answer(RELEASED).stopped().left is JobLeft.RELEASED


@shows("JOBRUN-50", "JOBRUN-32", "JOBRUN-70", "JOBRUN-51")
def test_a_drain_gives_the_work_its_time_and_then_gives_the_job_back() -> None:
    script = started().drains()
    assert script.one(NotifyWork).reply is WorkReply.DRAINING
    assert script.one(SetTimer).at_ms == 20
    script.at(20).timer(script.state.supervision.timer)
    script.one(InterruptWork)
    script.ends(Abandoned())
    assert isinstance(script.sent(), Drain)
    assert script.answer(ENDED).stopped().left is JobLeft.DRAINED

    script = started(RERUNNABLE).drains().ends(Abandoned())
    assert script.sent() == LetGo("j", FENCE)
    script = started().drains().ends(Returned("1"))
    assert isinstance(script.sent(), Complete)


@shows("JOBRUN-22", "JOBRUN-46", "JOBRUN-60")
def test_a_cancel_notifies_the_work_which_may_record_and_not_begin() -> None:
    script = started()
    script.timer(script.state.held.renewal.id)
    script.answer(Renewed(300, Cancel("j", "ann"), 0), script.one(Execute).id)
    assert script.one(NotifyWork).reply is WorkReply.CANCELLED
    assert script.asks(MayGoOn()).replied() is WorkReply.CANCELLED
    assert isinstance(script.asks(RecordEntries((ENTRY,)), 2).sent(), JobCheckpoint)
    script.answer(JobCheckpointed(1, True)).none(NotifyWork)
    script.drains()
    assert isinstance(script.ends(Abandoned()).sent(), FailJob)


@shows("JOBRUN-51", "JOBRUN-52")
def test_work_that_does_not_end_is_abandoned() -> None:
    script = started().drains().at(20)
    script.timer(script.state.supervision.timer)
    script.at(70).timer(script.state.supervision.timer)
    assert isinstance(script.sent(), Drain)

    script = started(RERUNNABLE).asks(MayGoOn())
    script.timer(script.state.held.renewal.id).answer(no(Refusal.FENCED), script.one(Execute).id)
    assert isinstance(script.state, Losing)
    script.timer(script.state.supervision.timer).timer(script.state.supervision.timer)
    script.stopped()


@shows("JOBRUN-34", "JOBRUN-40")
def test_an_output_that_cannot_be_stored_fails_the_job() -> None:
    script = started().ends(Returned("1")).answer(no(Refusal.ILLEGAL))
    assert script.sent().failure.kind is ErrorKind.INVALID_REQUEST
    assert script.answer(no(Refusal.ILLEGAL)).stopped().reason is RunnerStopReason.REFUSED


@shows("JOBRUN-61", "JOBRUN-62", "JOBRUN-63", "JOBRUN-65")
def test_a_known_outcome_is_written_again_until_it_is_answered() -> None:
    script = started().ends(Returned("1"))
    first = script.one(Execute)
    for now in (10, 1_000, 100_000):
        script.at(now).event(StoreUnavailable(now, first.id)).timer(first.id)
        assert script.one(Execute) == first
    script.event(OutcomeUnknown(script.now, first.id)).timer(first.id)
    assert script.answer(ENDED).stopped().left is JobLeft.ENDED
    script.answer(ENDED, first.id).none(Execute)

    script = started(RERUNNABLE).drains().ends(Abandoned())
    id = script.one(Execute).id
    script.event(StoreUnavailable(0, id)).at(301).timer(id)
    assert script.stopped().left is JobLeft.GIVEN_UP


@shows("JOBRUN-41", "JOBRUN-43")
def test_an_unanswered_renewal_is_no_lost_lease() -> None:
    script = started().at(100)
    script.timer(script.state.held.renewal.id)
    script.event(OutcomeUnknown(100, script.one(Execute).id))
    assert isinstance(script.state, Working)
    assert script.one(SetTimer).at_ms == 105
    script.at(105).timer(script.one(SetTimer).id)
    assert isinstance(script.sent(), Renew)


@shows("JOBRUN-44", "JOBRUN-45")
def test_no_renewal_is_sent_beside_the_final_command() -> None:
    script = started()
    script.timer(script.state.held.renewal.id)
    renewal = script.one(Execute).id
    script.ends(Returned("1")).answer(no(Refusal.FENCED), renewal)
    script.timer(script.state.held.renewal.id).none(Execute)
    script.event(JobHinted(0)).none(Execute)
    assert script.answer(ENDED).stopped().left is JobLeft.ENDED


@shows("JOBRUN-64")
def test_a_call_that_can_never_be_executed_ends_the_holding() -> None:
    script = Script()
    assert script.event(StoreBroken(0, script.one(Ask).id, "x")).stopped().left is None
    script = started(RERUNNABLE).asks(RecordEntries((ENTRY,)))
    script.event(StoreBroken(0, script.one(Execute).id, "x"))
    assert script.ends(Abandoned()).stopped().reason is RunnerStopReason.BROKEN


def test_every_clause_is_shown() -> None:
    assert defined("job-runner.md") - named(globals()) == set()
