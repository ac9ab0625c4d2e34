"""Several runners of one job over the kernel, with crashes, lost answers, lapses, requests, cancels and drains.

Each runner is the real machine, and the store is the real kernel.  A failing seed is replayed by its number.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from attrs import define, field

from tenure.check.jobs.properties import violated
from tenure.commands import CancelJob, Register, RequestAbandon, Signal
from tenure.failure import ErrorKind, Failure
from tenure.job_runner import protocol as p
from tenure.job_runner.machine import JobRunnerConfig, Stopped, start, step
from tenure.machines.job import Disposition, Ended, How
from tenure.machines.lease import Evidence, LocalProcess, Owner
from tenure.outcome import Decided, Refused
from tenure.queries import Get
from tenure.records import Job
from tenure.release import RELEASE, decide_at
from tenure.runner.protocol import (
    Answered,
    Ask,
    Drain,
    Execute,
    OutcomeUnknown,
    Reply,
    SetTimer,
    StoreUnavailable,
    TimerFired,
)
from tenure.verdict import Facts
from tenure.world import EMPTY, World, ask, evolve

TTL_MS = 3_000
STEPS = 250
JOB = "j"


@define
class Store:
    """The kernel, as a store that executes one command after the other."""

    now_ms: int = 1_000_000
    world: World = EMPTY

    def execute(self, command: Any) -> Any:
        answer = decide_at(RELEASE, command, self.world.load(command.reads()), self.now_ms)
        if isinstance(answer, Refused):
            return answer
        assert isinstance(answer, Decided)
        self.world = evolve(self.world, answer.writes)
        assert list(violated(self.world)) == [], command
        return answer.outcome

    @property
    def job(self) -> Job:
        found = self.world.answer(Get(Job, (JOB,)))
        assert found is not None
        return found


@define(eq=False)
class Runner:
    """One machine with its host: what it has to do, its timers, and the work that it runs."""

    owner: Owner
    state: Any = None
    calls: list[Any] = field(factory=list)
    timers: dict[int, int] = field(factory=dict)
    work: int | None = None  # in progress
    begun: bool = False  # its effect has begun
    asked: int = 0
    waits: bool = False  # for the reply to a request
    told: bool = False  # that it has to end
    interrupted: bool = False
    draining: bool = False
    alive: bool = True
    stop: p.Stop | None = None


class Fleet:
    """Runners that come and go, and one job.  `dice` decides everything that is not decided by the kernel."""

    def __init__(self, seed: int, disposition: Disposition) -> None:
        self.dice = random.Random(seed)
        self.store, self.disposition = Store(), disposition
        self.runners: list[Runner] = []
        self.effects: list[str] = []  # the incarnations whose effect has begun
        self.faults = True
        self.store.execute(Register(JOB, "build", "null", disposition))

    # -- runners

    def begin(self) -> None:
        number = len(self.runners) + 1
        process = LocalProcess("host", "boot", "ns", number, "1")
        runner = Runner(Owner("w", f"w-{number}", process))
        self.runners.append(runner)
        names = frozenset(("build",) if self.dice.random() < 0.9 or not self.faults else ())
        config = JobRunnerConfig(JOB, f"L{number}", runner.owner, names, TTL_MS, 500)
        self._take(runner, start(config, self.store.now_ms))

    def feed(self, runner: Runner, event: Any) -> None:
        if runner.alive and runner.stop is None:
            self._take(runner, step(runner.state, event))

    def _take(self, runner: Runner, outcome: Any) -> None:
        runner.state = outcome.state
        for effect in outcome.effects:
            self._perform(runner, effect)

    def _perform(self, runner: Runner, effect: Any) -> None:
        match effect:
            case Execute() | Ask():
                runner.calls.append(effect)
            case SetTimer(id, at_ms):
                runner.timers[id] = at_ms
            case p.ObserveOwners(id, processes):
                found = tuple([self._observe(each) for each in processes])
                self.feed(runner, p.OwnersObserved(self.store.now_ms, id, found))
            case p.StartWork(id):
                runner.work, runner.waits, runner.told = id, True, False
                self._ask(runner, p.BeginWork())
            case Reply(_, answer):
                runner.waits = False
                if answer is p.WorkReply.PROCEED and not runner.begun:
                    runner.begun = True
                    self.effects.append(runner.owner.incarnation_id)
                elif not runner.begun:
                    runner.told = True
            case p.NotifyWork():
                runner.told = True
            case p.InterruptWork():
                runner.told = runner.interrupted = True
            case p.Stop():
                assert runner.work is None or runner.interrupted, effect
                assert runner.state == Stopped()
                runner.stop = effect

    def _observe(self, process: LocalProcess | None) -> Evidence:
        assert process is not None
        dead = not self.runners[process.pid - 1].alive
        return (
            Evidence.DEAD
            if dead and (not self.faults or self.dice.random() < 0.7)
            else Evidence.UNKNOWN
        )

    def _ask(self, runner: Runner, request: Any) -> None:
        runner.asked, runner.waits = runner.asked + 1, True
        assert runner.work is not None
        event = p.WorkRequested(self.store.now_ms, runner.work, runner.asked, request)
        self.feed(runner, event)

    # -- what happens next

    def call(self, runner: Runner) -> None:
        """Execute a call of a runner, perhaps without an answer."""
        effect = runner.calls.pop(0)
        now_ms, luck = self.store.now_ms, self.dice.random() if self.faults else 1.0
        if luck < 0.1:
            self.feed(runner, StoreUnavailable(now_ms, effect.id))
            return
        if isinstance(effect, Ask):
            answer = ask(effect.question, self.store.world.answer)
        elif luck < 0.15:  # it was not executed, and nobody knows that
            self.feed(runner, OutcomeUnknown(now_ms, effect.id))
            return
        else:
            answer = self.store.execute(effect.command)
        if luck < 0.2:
            self.feed(runner, OutcomeUnknown(now_ms, effect.id))
            return
        self.feed(runner, Answered(now_ms, effect.id, answer))

    def ring(self, runner: Runner) -> None:
        """Let the next timer of a runner fire.  The clock of its host is that of the store."""
        id = min(runner.timers, key=runner.timers.__getitem__)
        at_ms = runner.timers.pop(id)
        self.store.now_ms = max(self.store.now_ms, at_ms)
        self.feed(runner, TimerFired(self.store.now_ms, id))

    def work(self, runner: Runner) -> None:
        """Let the work of a runner go on."""
        now_ms, work = self.store.now_ms, runner.work
        assert work is not None
        if runner.told or not runner.begun:
            exit_: Any = p.Abandoned()
        elif runner.waits:
            return
        else:
            kind = self.dice.randrange(6) if self.faults else 5
            if kind < 3:
                requests = (p.MayGoOn(), p.AwaitSignal("go", 1), p.MayGoOn())
                self._ask(runner, requests[kind])
                return
            failed = p.Raised(Failure(ErrorKind.TRANSIENT, "no"))
            exit_ = (failed, p.Abandoned(), p.Returned("1"))[kind - 3]
        runner.work = None
        self.feed(runner, p.WorkEnded(now_ms, work, exit_))

    def step(self) -> None:
        """Let one thing happen."""
        dice, now_ms = self.dice, self.store.now_ms
        going = [r for r in self.runners if r.alive and r.stop is None]
        kind = dice.random()
        if not going or (kind < 0.03 and len(going) < 3):
            self.begin()
        elif kind < 0.05:
            crashed = dice.choice(going)
            crashed.alive, crashed.work = False, None
        elif kind < 0.06:
            self.store.now_ms += dice.choice((10, 1_000, TTL_MS + 1, 40_000))
        elif kind < 0.065:
            self.store.execute(Signal(JOB, f"s{now_ms}", "go"))
        elif kind < 0.0655:
            self.store.execute(CancelJob(JOB, f"c{now_ms}", "ann"))
        elif kind < 0.066:
            self.store.execute(RequestAbandon(JOB, f"a{now_ms}", "ann", "why"))
        elif kind < 0.08:
            drained = dice.choice(going)
            drained.draining = True
            self.feed(drained, Drain(now_ms, 300))
        elif kind < 0.1:
            self.feed(dice.choice(going), p.JobHinted(now_ms))
        else:
            self.move(dice.choice(going))

    def move(self, runner: Runner) -> None:
        can = [("call", runner.calls), ("ring", runner.timers), ("work", runner.work)]
        named = [name for name, what in can if what]
        if named:
            getattr(self, self.dice.choice(named))(runner)

    def finish(self) -> None:
        """Without another fault, and with certain evidence, the job ends, unless it waits for an unknown owner."""
        self.faults = False
        for _ in range(20_000):
            if isinstance(self.store.job.state, Ended) and all(
                r.stop is not None for r in self.runners if r.alive
            ):
                return
            going = [r for r in self.runners if r.alive and r.stop is None]
            for runner in going:
                if runner.calls:
                    self.call(runner)
                elif runner.work is not None and (runner.told or not runner.waits):
                    self.work(runner)
                elif runner.timers:
                    self.ring(runner)
            if not going:
                self.store.now_ms += 3_600_000
                self.store.execute(Signal(JOB, f"s{self.store.now_ms}", "go"))
                self.begin()
        raise AssertionError("the job does not end")


@pytest.mark.parametrize("disposition", [Disposition.OWNER_BOUND, Disposition.RERUNNABLE])
def test_runners_together_start_bound_work_once_and_end_the_job(disposition: Disposition) -> None:
    hows: set[How] = set()
    left: set[p.JobLeft | None] = set()
    for seed in range(80):
        fleet = Fleet(seed, disposition)
        for _ in range(STEPS):
            fleet.step()
        fleet.finish()
        state = fleet.store.job.state
        assert isinstance(state, Ended)
        hows.add(state.how)
        left |= {r.stop.left for r in fleet.runners if r.stop is not None}
        if disposition is Disposition.OWNER_BOUND:
            assert len(fleet.effects) <= 1, (seed, fleet.effects)
        drained = [r for r in fleet.runners if r.stop and r.stop.left is p.JobLeft.DRAINED]
        assert len(drained) <= 1
        if drained:
            assert state.how is How.ABANDONED and state.reason == "drain", seed

    bound = disposition is Disposition.OWNER_BOUND
    assert {*How} - hows <= (set() if bound else {How.FAILED})
    often = {p.JobLeft.ENDED, p.JobLeft.RELEASED, None}
    assert often | {p.JobLeft.DRAINED if bound else p.JobLeft.GIVEN_UP} <= left


def test_a_kernel_that_starts_bound_work_twice_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Job, "may_start", True)
    monkeypatch.setattr(Facts, "bound", False)

    with pytest.raises(AssertionError):
        for seed in range(60):
            fleet = Fleet(seed, Disposition.OWNER_BOUND)
            for _ in range(STEPS):
                fleet.step()
            assert len(fleet.effects) <= 1
