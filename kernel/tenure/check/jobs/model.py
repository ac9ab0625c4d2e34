"""The model of a job: two workers that take, start, finish, lose and drain it, and people who ask to abandon or cancel it.

All commands are real ones.  A worker may crash, its answers may be lost, its lease may lapse while it lives, and it may go on
with a lease that is over.  What is observed of a crashed owner may reach the other worker or not.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any, Final, TypeAlias

from attrs import define, field

from ... import commands as c
from ...failure import ErrorKind, Failure, RetryLimits
from ...machines import job as job_
from ...machines import lease as lease_
from ...outcome import Decided, Refused, Update
from ...records import Job, Session
from ...release import RELEASE, decide_at
from ...replace import replace
from ...verdict import Observed, facts_of
from ...world import EMPTY, World, evolve
from ..explorer import Model
from ..trace import Line
from .canonical import canonical, unused
from .system import JOB_OWNER, NOW, TTL, J, JobSystem, State, Worker, owner_of, put, rows_of

__all__ = ["JobModel"]


LIMITS: Final = RetryLimits(failures=2, losses=2)
FAILED: Final = Failure(ErrorKind.TRANSIENT)
REGISTRAR: Final = "registrar"

STARTS_ONCE: Final = "owner-bound work starts at most once"
NOT_BEHIND: Final = "nothing starts behind a request or a cancel"
ONE_END: Final = "a job that has ended never changes"
EVIDENCE: Final = "abandoned work has evidence of a dead owner, its owner's own drain, or a request"
FENCED: Final = "whatever a holder sends has exactly the fence of the lease"
ONLY_STARTER: Final = "nobody but its starter holds owner-bound work that was started"
DUE: Final = "a job that has not ended is due, external, or left until a time"
NOT_FOR_EVER: Final = "a look that changes nothing is not repeated at once"
NOBODY_WAITS: Final = "owner-bound work beside a dead owner waits for nobody"
ONLY_EXPECTED: Final = "a correct process is refused only what others have ended or taken over"
NTH_TO_NTH: Final = "the n-th signal of a name satisfies the n-th wait"
NOT_LOST: Final = "no job waits for a signal that has come"
NO_LATE_RETRY: Final = "a clock that is set back delays no retry by more than its backoff"
KEPT: Final = "a request, a cancel and the first start are never forgotten"


Next: TypeAlias = Iterator[tuple[Any, State]]
HOLDERS: Final = (c.Start, c.JobCheckpoint, c.Complete, c.FailJob, c.LetGo, c.Renew)


@define(eq=False)
class JobModel(Model[State]):
    """The model for the explorer."""

    system: JobSystem = JOB_OWNER
    decisions: int = 0
    clauses: dict[str, int] = field(factory=dict)
    answers: dict[tuple[World, Any], Any] = field(factory=dict)

    @property
    def name(self) -> str:
        """The name of the model, as `tenure check --list` prints it."""
        return self.system.name

    @property
    def always(self) -> tuple[str, ...]:
        """The properties."""
        return (
            *(STARTS_ONCE, NOT_BEHIND, ONE_END, EVIDENCE, FENCED, ONLY_STARTER),
            *(DUE, NOT_FOR_EVER, NOBODY_WAITS, ONLY_EXPECTED, KEPT, NTH_TO_NTH, NOT_LOST),
            NO_LATE_RETRY,
        )

    @property
    def sometimes(self) -> tuple[str, ...]:
        """What must happen."""
        return self.system.sometimes

    def initial(self) -> Iterable[State]:
        """Yield a registered job."""
        external = self.system.disposition is job_.Disposition.EXTERNAL
        by = REGISTRAR if external else None
        command = c.Register(
            J, "run", "in", self.system.disposition, registered_by=by, retry=LIMITS
        )
        answer = decide_at(RELEASE, command, EMPTY.load(command.reads()), NOW)
        assert isinstance(answer, Decided), answer
        world, workers = evolve(EMPTY, answer.writes), (Worker(), Worker())
        yield canonical(State(world, workers))

    def actions(self, state: State) -> Next:
        """Yield every action with the state after it."""
        for label, after in self._actions(state):
            yield label, canonical(after)

    def _actions(self, state: State) -> Next:
        for slot, worker in enumerate(state.workers):
            yield from self._work(state, slot, worker)
        yield from self._people(state)
        yield from self._clock(state)

    def broken(self, state: State) -> Collection[str]:
        """Return the properties that a state violates."""
        found = list(state.broken)
        session, job = rows_of(state.world)
        bound = job.disposition is job_.Disposition.OWNER_BOUND
        if bound and state.starts > 1:
            found.append(STARTS_ONCE)
        lease = session.lease
        if bound and job.starter is not None and isinstance(lease, lease_.Held):
            if lease.owner != job.starter:
                found.append(ONLY_STARTER)
        if not _due_or_reason(session, job):
            found.append(DUE)
        if job.waits is not None and job.waits.number <= len(state.order):
            found.append(NOT_LOST)
        ended = job.state
        if isinstance(ended, job_.Ended) and ended.how is job_.How.ABANDONED:
            if not _evident(state, job, ended.evidence):
                found.append(EVIDENCE)
        return found

    def seen(self, state: State) -> Collection[str]:
        """Return what has happened."""
        session, job = rows_of(state.world)
        found = list(state.seen)
        if isinstance(job.state, job_.Ended):
            found.append(job.state.how.value)
            if job.state.evidence is not None:
                found.append(job.state.evidence.writer.value)
        if session.left_since_ms is not None:
            found.append("left")
        if state.starts > 1:
            found.append("started twice")
        if (session.retry_from_ms or 0) > NOW:
            found.append("set back")
        if job.waits is not None:
            found.append("waits")
        return found

    def finished(self, state: State) -> bool:
        """Return True if the job has ended and every worker knows that it has nothing to do."""
        _, job = rows_of(state.world)
        return isinstance(job.state, job_.Ended) and all(w.step == "idle" for w in state.workers)

    def describe(self, label: Any) -> Line:
        """Return the line of a trace for an action."""
        return Line(*label)

    # -- workers

    def _work(self, state: State, slot: int, worker: Worker) -> Next:
        """Yield what a worker does."""
        who = f"worker {slot}"
        match worker.step:
            case "idle" if self.system.older is not None and worker.facts is None:
                facts = facts_of(*rows_of(state.world), self._observed(state), NOW)
                yield (who, "reads the rows"), put(state, slot, replace(worker, facts=facts))
            case "idle":
                for observed in dict.fromkeys(((), self._observed(state))):
                    yield from self._take(state, slot, worker, observed)
            case "taken" | "started" | "fenced" if worker.sent:  # its answer was lost: again
                yield from self._send(state, slot, self._commands(slot, worker)[worker.sent])
            case "taken":
                yield from self._send_any(state, slot, "Start", "LetGo")
            case "started":
                _, job = rows_of(state.world)
                if worker.waited < len(self.system.signals):
                    yield from self._send_any(state, slot, "Wait")
                else:
                    yield from self._send_any(state, slot, "Complete")
                if not self.system.signals:
                    yield from self._send_any(state, slot, "FailJob")
                bound = self.system.disposition is job_.Disposition.OWNER_BOUND
                if not bound or job.cancel is not None:
                    yield from self._send_any(state, slot, "LetGo")
                if bound:
                    yield from self._send_any(state, slot, "Drain")
            case "fenced":  # its lease was ended: it ends what it has started itself
                yield from self._send_any(state, slot, "Drain")
        if worker.step in ("taken", "started") and not worker.sent:
            yield from self._send_any(state, slot, "Renew")
        if worker != Worker(life=worker.life) and state.crashes < self.system.crashes:
            dead = state.dead | {owner_of(slot, worker)}
            after = replace(state, dead=dead, crashes=state.crashes + 1)
            yield (who, "crashes"), put(after, slot, Worker(life=worker.life + 1))

    def _take(
        self, state: State, slot: int, worker: Worker, observed: tuple[Observed, ...]
    ) -> Next:
        lease_id = worker.lease_id or unused(state)
        command = c.Take(J, lease_id, owner_of(slot, worker), TTL, observed)
        if self.system.older is not None and worker.facts is not None:
            command = self.system.older(command, worker.facts)
        sent = put(state, slot, replace(worker, lease_id=lease_id))
        for label, after in self._send(sent, slot, command):
            if after.world != state.world or after.broken or after.workers[slot].step != "idle":
                yield label, after

    def _commands(self, slot: int, worker: Worker) -> dict[str, Any]:
        """Return what a worker with a fence may send, by name."""
        fence = worker.fence
        assert fence is not None
        commands = (
            c.Start(J, fence),
            c.Complete(J, "out", fence),
            c.FailJob(J, FAILED, fence),
            c.LetGo(J, fence),
            c.Drain(J, owner_of(slot, worker), fence.lease_id),
            c.Renew(J, fence),
            c.Wait(J, fence, "go", worker.waited + 1),
        )
        return {command.__class__.__name__: command for command in commands}

    def _send_any(self, state: State, slot: int, *names: str) -> Next:
        commands = self._commands(slot, state.workers[slot])
        for name in names:
            yield from self._send(state, slot, commands[name])

    def _observed(self, state: State) -> tuple[Observed, ...]:
        """Return what can be observed of the owners that the rows name: the evidence of those that are dead."""
        session, job = rows_of(state.world)
        holder = session.lease.owner if isinstance(session.lease, lease_.Held) else None
        owners = dict.fromkeys(each for each in (holder, job.starter) if each in state.dead)
        dead = lease_.Evidence.DEAD
        return tuple([Observed(each, dead) for each in owners if each is not None])

    # -- people and time

    def _people(self, state: State) -> Next:
        _, job = rows_of(state.world)
        for name in self.system.signals:  # also again, and too late
            command = c.Signal(J, name, "go", name)
            for label, after in self._send(state, None, command):
                if after.world != state.world or after.broken:
                    yield label, after
        if isinstance(job.state, job_.Ended) or self.system.signals:
            return
        if job.request is None:
            yield from self._send(state, None, c.RequestAbandon(J, "q", "ann", "lost"))
        if job.cancel is None:
            yield from self._send(state, None, c.CancelJob(J, "x", "bob"))
        if self.system.fenced_off:
            yield from self._send(state, None, c.FenceOff(J, "f"))
        if job.disposition is job_.Disposition.EXTERNAL:
            yield from self._send(state, None, c.Complete(J, "out", authority=REGISTRAR))
            yield from self._send(state, None, c.FailJob(J, FAILED, authority=REGISTRAR))

    def _clock(self, state: State) -> Next:
        """Yield what time does: a lease lapses, a pause is over."""
        session, job = rows_of(state.world)
        lease = session.lease
        if isinstance(lease, lease_.Held) and lease_.live_at(lease, NOW):
            over = replace(lease, expires_at_ms=NOW - 1)
            due = session.due_at_ms if session.left_since_ms is not None else NOW
            rows = [Update(replace(session, lease=over, due_at_ms=due))]
            yield ("clock", "the lease lapses"), replace(state, world=evolve(state.world, rows))
        if session.work_at_ms is not None and session.work_at_ms > NOW:
            state_ = job.state
            if isinstance(state_, job_.Waiting):
                state_ = job_.Waiting()
            look = None if job.look_at_ms is None else NOW
            after = replace(job, state=state_, look_at_ms=look)
            held = isinstance(lease, lease_.Held) and session.left_since_ms is None
            due = session.due_at_ms if held else NOW
            ahead = session.retry_from_ms if isinstance(job.state, job_.Started) else None
            head = replace(session, work_at_ms=NOW, due_at_ms=due, retry_from_ms=ahead)
            world = evolve(state.world, [Update(head), Update(after)])
            yield ("clock", "the pause is over"), replace(state, world=world)
        waits = isinstance(job.state, job_.Waiting) and job.state.due_at_ms is not None
        ahead_ms = session.lease_from_ms
        if self.system.clock_back and waits and (ahead_ms is None or ahead_ms <= NOW):
            yield ("clock", "it is set back by an hour"), self._set_back(state)

    def _set_back(self, state: State) -> State:
        """Return the state in which the retry of the job was scheduled an hour from now."""
        session, job = rows_of(state.world)
        assert isinstance(job.state, job_.Waiting), job
        ahead_ms, due_ms, since_ms = 3_600_000, job.state.due_at_ms, job.state.since_ms
        assert due_ms is not None
        from_ms = session.retry_from_ms
        waiting = job_.Waiting(due_ms + ahead_ms, None if since_ms is None else since_ms + ahead_ms)
        head = replace(
            session, work_at_ms=due_ms + ahead_ms, due_at_ms=due_ms + ahead_ms,
            retry_from_ms=None if from_ms is None else from_ms + ahead_ms,
        )  # fmt: skip
        rows = [Update(head), Update(replace(job, state=waiting))]
        found = head.lease_from_ms is not None and head.lease_from_ms > NOW
        return replace(
            state,
            world=evolve(state.world, rows),
            broken=() if found else (NO_LATE_RETRY,),
        )

    # -- commands

    def _execute(self, world: World, command: Any) -> tuple[Decided[Any] | Refused, World]:
        """Return an answer, and the rows after it; computed once."""
        known: tuple[Decided[Any] | Refused, World] | None = self.answers.get((world, command))
        if known is not None:
            return known
        answer = decide_at(RELEASE, command, world.load(command.reads()), NOW)
        self.decisions += 1
        for clause in (answer.clause, *getattr(answer, "via", ())):
            self.clauses[clause] = self.clauses.get(clause, 0) + 1
        after = evolve(world, answer.writes) if isinstance(answer, Decided) else world
        self.answers[world, command] = answer, after
        return answer, after

    def _send(self, state: State, slot: int | None, command: Any) -> Next:
        """Yield the states after a command whose answer arrives, or is lost."""
        answer, world = self._execute(state.world, command)
        who = "person" if slot is None else f"worker {slot}"
        label = (who, command.__class__.__name__, f"[{answer.clause}]", "job")
        broken = tuple(self._violated(state, command, answer, world))
        after = replace(state, world=world, broken=broken, seen=())
        if slot is None:
            if isinstance(answer, Decided) and isinstance(answer.outcome, c.SignalStored):
                new = () if answer.replayed else (command.signal_id,)
                after = replace(after, order=(*state.order, *new))
            yield label, after
            return
        yield label, self._told(after, slot, command, answer)
        written = isinstance(answer, Decided) and answer.writes
        if state.lost < self.system.lost and written and not isinstance(command, c.Renew):
            sent = "" if isinstance(command, c.Take) else command.__class__.__name__
            worker = replace(state.workers[slot], sent=sent)
            yield (
                (*label[:2], f"{label[2]}, the answer is lost", "job"),
                put(replace(after, lost=state.lost + 1), slot, worker),
            )

    def _told(self, state: State, slot: int, command: Any, answer: Decided[Any] | Refused) -> State:
        """Return the state after a worker has received its answer."""
        worker = replace(state.workers[slot], facts=None, sent="")
        idle = Worker(life=worker.life)
        if isinstance(answer, Refused):
            seen = ("a revenant is refused",) if answer.reason.value in ("fenced", "ended") else ()
            state = replace(state, seen=seen)
            if answer.reason.value == "fenced" and worker.step == "started":
                bound = self.system.disposition is job_.Disposition.OWNER_BOUND
                return put(state, slot, replace(worker, step="fenced") if bound else idle)
            return put(state, slot, idle)
        match answer.outcome:
            case c.Taken(fence):
                return put(state, slot, replace(worker, step="taken", fence=fence))
            case c.JobStarted():
                if worker.started:
                    return put(state, slot, replace(worker, step="started"))
                state = replace(state, starts=min(state.starts + 1, 2))
                return put(state, slot, replace(worker, step="started", started=True))
            case c.Signalled():
                return put(state, slot, replace(worker, waited=worker.waited + 1))
            case c.NotSignalled(held=True):
                return put(state, slot, worker)
            case c.Renewed():
                return put(state, slot, state.workers[slot])
            case _:
                drained = isinstance(command, c.Drain)
                return put(replace(state, drained=state.drained or drained), slot, idle)

    def _violated(
        self, state: State, command: Any, answer: Decided[Any] | Refused, world: World
    ) -> Iterator[str]:
        """Yield the properties that a decision violates."""
        session, job = rows_of(state.world)
        after_session, after = rows_of(world)
        if isinstance(answer, Refused):
            if answer.reason.value not in ("fenced", "ended"):
                yield ONLY_EXPECTED
            return
        if isinstance(job.state, job_.Ended) and after != job:
            yield ONE_END
        if isinstance(answer.outcome, c.JobStarted) and not answer.replayed:
            if job.request is not None or job.cancel is not None:
                yield NOT_BEHIND
        fence = getattr(command, "fence", None)
        if isinstance(command, HOLDERS) and fence is not None and not answer.replayed:
            lease = session.lease
            fits = isinstance(lease, lease_.Held) and (lease.generation, lease.lease_id) == (
                fence.generation,
                fence.lease_id,
            )
            if not fits:
                yield FENCED
        if isinstance(command, c.Wait) and isinstance(answer.outcome, c.Signalled):
            if state.order[command.number - 1] != answer.outcome.body:
                yield NTH_TO_NTH
        if isinstance(command, c.Take):
            looked = isinstance(answer.outcome, c.Left | c.NotDue | c.Deferred)
            due = after_session.due_at_ms
            if looked and due is not None and due <= NOW:
                yield NOT_FOR_EVER
            ahead_ms = after_session.lease_from_ms
            if isinstance(answer.outcome, c.NotDue) and ahead_ms is not None and ahead_ms > NOW:
                yield NO_LATE_RETRY
            if isinstance(answer.outcome, c.Left) and command.evidence:
                yield NOBODY_WAITS
        for name in ("request", "cancel", "starter"):
            before = getattr(job, name)
            if before is not None and getattr(after, name) != before:
                yield KEPT


def _due_or_reason(session: Session, job: Job) -> bool:
    """Return whether `due_at_ms` is what the rows say, computed in another way."""
    if isinstance(job.state, job_.Ended) or job.disposition is job_.Disposition.EXTERNAL:
        return session.due_at_ms is None
    if session.left_since_ms is not None:
        return job.hold is not None and session.due_at_ms == job.look_at_ms
    if isinstance(session.lease, lease_.Held):
        live = lease_.live_at(session.lease, NOW)
        return session.due_at_ms is not None and (session.due_at_ms > NOW) is live
    if isinstance(job.state, job_.Waiting) and job.waits is not None:
        return session.due_at_ms is None
    if isinstance(job.state, job_.Waiting) and job.state.due_at_ms is not None:
        return session.due_at_ms == job.state.due_at_ms
    return session.due_at_ms is not None and session.due_at_ms <= NOW


def _evident(state: State, job: Job, evidence: job_.AbandonEvidence | None) -> bool:
    """Return whether the evidence of an abandoned job is true."""
    match evidence:
        case job_.AbandonEvidence(job_.Writer.SWEEP, owners):
            return any(owner in state.dead for owner in owners)
        case job_.AbandonEvidence(job_.Writer.DRAIN):
            return job.starter is not None  # workers drain their own work alone
        case job_.AbandonEvidence(job_.Writer.REQUEST):
            return job.request is not None
    return False
