"""The runtime: a client that also runs turns, drains and stops.  The kernel makes all decisions."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import platform
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from tenure.commands import Admission, Amend, Forget, HowAdmitted, NewInput, Occur, Resend, Withdraw
from tenure.commands.validation import validate_id
from tenure.job_runner.machine import JobRunnerConfig
from tenure.job_runner.protocol import JobLeft
from tenure.job_runner.protocol import Stop as JobStop
from tenure.kind import Kind
from tenure.machines.lease import Owner
from tenure.outcome import Hint, Refusal, Refused
from tenure.policy import Policy
from tenure.queries import Command
from tenure.retention import Retention
from tenure.runner.machine import RunnerConfig
from tenure.runner.protocol import Drain, Left, RunFinished, RunnerStopReason

from ..blobs.base import BlobStore
from ..stores.base import Store, Unavailable
from .attachments import ScrapCollector
from .client import Client
from .clock import boot_clock_ms, new_id
from .drained import Drained
from .errors import NothingDue, StillRunning, describe
from .jobs.code import DefinedWork
from .jobs.definition import JobDefinition, definitions_by_name
from .jobs.host import JobHost
from .limits import Limit
from .process import local_process
from .pruning import PrunerHost
from .publisher_host import PublisherHost, Sink
from .relay_host import RelayHost, named_stores
from .retry import retry
from .runner_host import RunnerHost, TurnCode
from .strategies import admit_by_strategy
from .streaming.broadcast import Broadcast, Channel, Observer
from .triggers.host import TriggerHost
from .turn import Turn
from .turn_code import AgentTurn, InlineTurn
from .user_code import guard
from .versions import Agent, AgentRegistry
from .worker_host import WorkerHost

__all__ = ["Runtime", "legal_name"]


OWNER_CHARACTERS_MAX = 100
RUNS_MAX = 16  # under one lease

O = TypeVar("O")
V = TypeVar("V")

log = logging.getLogger("tenure")


def legal_name(text: str) -> str:
    """Turn any text, such as a host name, into a legal owner id."""
    fit = [c if c.isascii() and c.isprintable() and c != " " else "-" for c in text]
    return "".join(fit)[:OWNER_CHARACTERS_MAX]


def check_positive(**numbers: int) -> None:
    """Raise ValueError for the first of these that is below 1."""
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name} {number}: at least 1")


def check_names(owner_id: str | None, peers: Iterable[str]) -> None:
    """Raise ValueError for an owner with which every Begin would be refused without a message, and for a peer."""
    if owner_id is not None and (problem := validate_id("owner_id", owner_id)):
        raise ValueError(problem)
    for name in peers:
        if problem := validate_id("peer", name):
            raise ValueError(problem)


def check_agents(agent: Agent | None, agents: AgentRegistry | None) -> None:
    """Raise ValueError if both are given."""
    if agent is not None and agents is not None:
        raise ValueError("agent and agents: expected one of them")


class Runtime(Client):
    """A client that also runs turns: of an agent, or of loops of your own with `turn`.

    `async with Runtime(store, agent)` starts it, and at the end stops it: turns in progress have `grace_ms` to end, and
    nothing runs afterwards.  The store stays open.  Without an agent it takes no sessions automatically.

    `limits` put sessions aside whose key has too many in progress, or too many that have begun within a minute; other
    sessions are not held up.
    """

    def __init__(
        self,
        store: Store,
        agent: Agent | None = None,
        *,
        owner_id: str | None = None,
        sessions_at_once: int = 64,
        ttl_ms: int = 30_000,
        turn_deadline_ms: int = 3_600_000,
        limit: int = 8,
        grace_ms: int = 5_000,
        clock: Callable[[], int] = boot_clock_ms,
        channel: Channel | None = None,
        live: Broadcast | None = None,
        policies: Mapping[str, Policy] | None = None,
        sink: Sink | None = None,
        retention: Retention | None = None,
        agents: AgentRegistry | None = None,
        limits: Sequence[Limit] = (),
        blobs: BlobStore | None = None,
        jobs: Sequence[JobDefinition] = (),
        jobs_at_once: int = 16,
        triggers: bool | None = None,
        peers: Mapping[str, Store] | None = None,
    ) -> None:
        """`agents`, instead of `agent`: the versions of it.  A run is worked on by the one that it began with.

        `sink`: is given the events of all sessions, at least once each (see `PublishedEvent`).  `retention`: what it does
        not keep is removed from all sessions (specs/retention.md).  `blobs`: the store of the
        bytes of attachments; with it, the runtime also deletes those that no session holds any more.  `peers`: stores of
        other systems by name, to which sessions of this one may send (specs/relay.md).  `jobs`: the definitions of the
        jobs that it executes, at most `jobs_at_once` at a time.  `triggers`: fire the triggers that are due; None: if
        it has an agent or jobs."""
        check_positive(
            sessions_at_once=sessions_at_once, jobs_at_once=jobs_at_once, ttl_ms=ttl_ms,
            turn_deadline_ms=turn_deadline_ms, limit=limit,
        )  # fmt: skip
        check_names(owner_id, peers or {})
        check_agents(agent, agents)
        if retention is not None and (problem := retention.problem()):
            raise ValueError(f"retention: {problem}")
        super().__init__(store, policies=policies, blobs=blobs)
        self.store: Store = store
        self.agent, self.agents = agent, agents
        self.owner_id = owner_id or legal_name(f"worker-{platform.node()}")
        self.sessions_at_once, self.ttl_ms, self.limit = sessions_at_once, ttl_ms, limit
        self.turn_deadline_ms, self.grace_ms, self.clock = turn_deadline_ms, grace_ms, clock
        self.limits = tuple(limits)
        self.definitions, self.jobs_at_once = definitions_by_name(jobs), jobs_at_once
        self.fires = triggers
        self.live = live or Broadcast(store, channel, changes=self.session_changes)
        self._process = local_process()
        self.sink, self.peers = sink, named_stores(peers or {})
        self._pruner = None if retention is None else PrunerHost(store, retention)
        self._set_up()

    def _set_up(self) -> None:
        """Make what the start, the turns and the drain use."""
        self._worker: WorkerHost | None = None
        self._publisher: PublisherHost | None = None
        self._relay: RelayHost | None = None
        self._collector: ScrapCollector | None = None
        self._ready: asyncio.Task[None] | None = None
        self._failure: asyncio.Future[None] | None = None
        self._unanswered: Exception | None = None  # the first failure of a store that is away
        self._own: set[RunnerHost] = set()  # of turns in the caller's own loops
        self._turns: set[asyncio.Task[None]] = set()
        self._ended = False
        self._left: Counter[Left] = Counter()  # turns that have ended since the drain began
        self._jobs_left: dict[str, JobLeft] = {}
        self._unfired: dict[str, str] = {}  # why triggers cannot be fired

    # -- starting and stopping

    async def __aenter__(self) -> Runtime:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop(self.grace_ms)

    async def start(self, within_s: float | None = None) -> None:
        """Start the worker; return when the store has answered once.  Calling it twice has no further effect.

        Raises Unavailable if the store has not answered in `within_s` seconds.  The start goes on: call this again to
        wait longer, or `stop`.
        """
        if self._ended:
            raise RuntimeError("this runtime was stopped; make another one")
        if self._ready is None:
            self._ready = asyncio.create_task(self._start())
        try:
            async with asyncio.timeout(within_s) as bound:
                await asyncio.shield(self._ready)
        except TimeoutError:
            if not bound.expired():
                raise
            why = "" if self._unanswered is None else f": {self._unanswered}"
            raise Unavailable(f"the store has not answered in {within_s:g} s{why}") from None

    async def until_failed(self) -> NoReturn:
        """Wait until the worker has stopped by itself, and raise why: SchemaTooNew or SchemaTooOld.

        A worker stops only if another release is active in the store.  Any other failure of a store it outlives.
        """
        if self._failure is None:
            self._failure = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._failure)
        raise AssertionError("a failure without an error")

    def _fail(self, error: Exception) -> None:
        if self._failure is None:
            self._failure = asyncio.get_running_loop().create_future()
        if not self._failure.done():
            self._failure.set_exception(error)
            self._failure.exception()  # nobody need wait for it

    def _note_failure(self, error: Exception) -> None:
        self._unanswered = error

    async def _start(self) -> None:
        await retry(
            lambda: self.store.due(1), patience_ms=None, on_first_failure=self._note_failure
        )
        serves = self._serves()
        if serves and not self._ended:
            self._worker = WorkerHost(
                self.store,
                self._make,
                slots=self.sessions_at_once,
                process=self._process,
                clock=self.clock,
                on_hint=self._hinted,
                limits=self.limits,
                serves=serves,
                jobs_at_once=self.jobs_at_once if self.definitions else None,
                on_failure=self._fail,
            )
            self._worker.start()
        if self.sink is not None and not self._ended:
            self._publisher = PublisherHost(self.store, self.sink, clock=self.clock)
            self._publisher.start()
        if not self._ended:
            self._relay = RelayHost(self.store, self.peers, clock=self.clock)
            self._relay.start()
        if self._pruner is not None and not self._ended:
            self._pruner.start()
        if self.blobs is not None and not self._ended:
            self._collector = ScrapCollector(self, self.blobs)
            self._collector.start()
        if self.live.channel is not None and not self._ended:
            self._retain(asyncio.create_task(self._carry()))

    def _serves(self) -> frozenset[Kind]:
        """Return what its worker takes; nothing: it needs none."""
        has_agent = self.agent is not None or self.agents is not None
        kinds = [Kind.SESSION, Kind.JOB] if has_agent else [Kind.JOB] if self.definitions else []
        if self.fires or (self.fires is None and kinds):
            kinds.append(Kind.TRIGGER)
        return frozenset(kinds)

    async def _carry(self) -> None:
        """Receive deltas of other processes, until the channel ends or fails."""
        try:
            await guard(self.live.carry())
        except Exception as error:
            log.error(
                "the channel failed, so no deltas of other processes arrive: %s", describe(error)
            )

    async def drain(self, grace_ms: int | None = None) -> Drained:
        """Take no new work.  Turns in progress have `grace_ms` to end; then they are released for other workers.

        Returns what has become of the turns.  Calling it again counts the same turns.
        """
        grace_ms = self.grace_ms if grace_ms is None else grace_ms
        self._ended = True
        if self._ready is not None and not self._ready.done():
            self._ready.cancel()
            await asyncio.wait([self._ready])
        if self._pruner is not None:
            await self._pruner.stop()
        own = [host.drain(grace_ms) for host in list(self._own)]
        if self._worker is not None:
            self._worker.drain(grace_ms)
            await self._worker.finished.wait()
        if own:
            await asyncio.wait(own)
        if self._relay is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._relay.flush(), grace_ms / 1000)
            self._relay.drain()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._relay.finished.wait(), grace_ms / 1000)
        if self._publisher is not None:
            self._publisher.drain()
            with contextlib.suppress(TimeoutError):  # it may take until `stop`
                await asyncio.wait_for(self._publisher.finished.wait(), grace_ms / 1000)
        return Drained.of(self._left, self._jobs_left)

    def _note_left(self, left: Left) -> None:
        if self._ended:
            self._left[left] += 1

    async def stop(self, grace_ms: int = 0, *, patience_s: float = 10.0) -> Drained:
        """Drain, then cancel what is left, and return what has become of the turns.

        If the store does not answer in `patience_s`, leases stay until they expire.
        """
        try:
            async with asyncio.timeout(grace_ms / 1000 + patience_s):
                await self.drain(grace_ms)
        except TimeoutError:
            pass
        finally:
            if self._worker is not None:
                await self._worker.stop()
            if self._relay is not None:
                await self._relay.stop()
            if self._publisher is not None:
                await self._publisher.stop()
            if self._collector is not None:
                await self._collector.stop()
            await self._waiter.stop()
            await self.session_changes.stop()
            self.live.close()
            left = [*self._turns, *self._tasks]
            for task in left:
                task.cancel()
            if left:
                await asyncio.wait(left, timeout=1.0)
        return Drained.of(self._left, self._jobs_left)

    async def _execute(self, command: Command[V, O]) -> O | Refused:
        answer = await super()._execute(command)
        if self._collector is not None and isinstance(command, Forget | Amend):
            self._collector.notice()
        if self._publisher is not None:
            self._publisher.notice()
        sends = isinstance(command, Occur | Resend) or (
            isinstance(command, Amend) and command.outbound
        )
        if sends:
            self._note_sent()
        return answer

    # -- runners

    def plan(
        self,
        session_id: str,
        runs_max: int = RUNS_MAX,
        others: int = 0,
        exactly: tuple[str, ...] | None = None,
    ) -> RunnerConfig:
        """Return the configuration of a runner for a session, beside at most so many others."""
        owner = Owner(self.owner_id, new_id(), self._process)
        return RunnerConfig(
            session_id,
            new_id(),
            new_id(),
            owner,
            ttl_ms=self.ttl_ms,
            limit=self.limit,
            turn_deadline_ms=self.turn_deadline_ms,
            grace_ms=self.grace_ms,
            others=others,
            runs_max=runs_max,
            exactly=exactly,
            resolution=None if self.agents is None else self.agents.newest,
        )

    def _make(self, session_id: str, kind: Kind, others: int) -> RunnerHost | JobHost | TriggerHost:
        if kind is Kind.TRIGGER:
            return TriggerHost(self.store, session_id, self._unfired)
        if kind is Kind.JOB:
            return self._job_host(session_id)
        counted = any(limit.per_minute is not None for limit in self.limits)
        plan = self.plan(session_id, 1 if counted else RUNS_MAX, others)
        return self._host(plan, AgentTurn(self._agent_of, self._turns))

    def _job_host(self, job_id: str) -> JobHost:
        owner = Owner(self.owner_id, new_id(), self._process)
        names = frozenset(self.definitions)
        plan = JobRunnerConfig(job_id, new_id(), owner, names, ttl_ms=self.ttl_ms)
        code = DefinedWork(self.definitions, self._turns)
        return JobHost(self.store, plan, code, clock=self.clock, on_stop=self._note_job)

    def _note_job(self, job_id: str, stop: JobStop) -> None:
        if self._ended and stop.left is not None:
            self._jobs_left[job_id] = stop.left

    def _agent_of(self, turn: Turn) -> Agent:
        if self.agents is not None:
            return self.agents.resolve(turn.resolution or self.agents.newest)
        assert self.agent is not None
        return self.agent

    def _host(self, plan: RunnerConfig, code: TurnCode) -> RunnerHost:
        return RunnerHost(
            self.store,
            plan,
            code,
            clock=self.clock,
            on_run_finished=self._on_run_finished,
            on_left=self._note_left,
            show=self.live.publish,
            blobs=self.blobs,
            on_sent=self._note_sent,
        )

    def _note_sent(self) -> None:
        """Send at once what this process has written.  A worker learns it by a hint."""
        if self._relay is not None and self._worker is None:
            self._relay.notice()

    def _on_run_finished(self, session_id: str, over: RunFinished) -> None:
        self._waiter.ended(session_id, over.input_ids)
        self.live.hint(session_id)
        if self._publisher is not None:
            self._publisher.notice()

    def _hinted(self, hint: Hint) -> None:
        if hint.outbound and self._relay is not None:
            self._relay.notice()
        self.live.hint(hint.session_id)

    # -- streaming

    def observe(self, session_id: str, after: str | None = None) -> Observer:
        """Observe a session: deltas of replies, runs that have ended, and a `Gap` if items were missed.

        `after` is the cursor of an earlier observer.
        """
        return self.live.observe(session_id, after)

    async def _admit_own(self, session_id: str, submit: NewInput | str) -> Admission:
        """Admit an input for a turn in the caller's own loop."""
        new = NewInput(new_id(), "prompt", submit) if isinstance(submit, str) else submit
        new = self.with_policy(new)
        return await admit_by_strategy(self, session_id, new, "reject", None)

    async def _take_back(self, session_id: str, input_id: str) -> None:
        """Withdraw an input that could not be begun.  Raises StillRunning if a worker has it."""
        answer = await self.execute(Withdraw(session_id, new_id(), input_id))
        if isinstance(answer, Refused) and answer.reason is Refusal.BOUND:
            raise StillRunning(session_id, input_id, answer.detail)

    @contextlib.asynccontextmanager
    async def turn(
        self, session_id: str, submit: NewInput | str | None = None
    ) -> AsyncIterator[Turn]:
        """Run one turn in the body of `async with`.  Its lease is renewed, and released at the end.

        Raises NothingDue if there is nothing to begin, and Unavailable if the store does not answer.  If the body raises,
        the turn fails with that exception.  If it ends without a commit, or is cancelled, the turn is due again at once.

        `submit`: admit this input if the session is idle, and begin exactly this one.  Raises Busy if the session is
        not idle.  If something else comes first meanwhile, the input is withdrawn and NothingDue raised, or StillRunning
        if a worker works on it.  The same input again takes up its turn.
        """
        if self._ended:
            raise RuntimeError("this runtime was stopped; make another one")
        mine = None if submit is None else await self._admit_own(session_id, submit)
        code = InlineTurn()
        code.task = asyncio.current_task()
        exactly = None if mine is None else (mine.input_id,)
        host = self._host(self.plan(session_id, runs_max=1, exactly=exactly), code)
        running = asyncio.create_task(host.run())
        self._own.add(host)
        self._retain(running)
        running.add_done_callback(lambda _: self._own.discard(host))
        try:
            either: set[asyncio.Future[Any]] = {running, code.begun}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            code.begun.cancel()
            if not running.done():
                host.feed(Drain(self.clock(), 0))
            raise
        if not code.begun.done():
            stop = running.result()
            if stop.reason is RunnerStopReason.UNAVAILABLE:
                why = "; ".join(dict.fromkeys(host.unanswered.values()))
                raise Unavailable(f"session {session_id}: {why or 'the store does not answer'}")
            if mine is not None and mine.how is not HowAdmitted.KNOWN:
                await self._take_back(session_id, mine.input_id)
            raise NothingDue(session_id, stop.reason.value, stop.detail)
        turn = code.begun.result()
        try:
            yield turn
        except BaseException as error:
            instead = code.end(host, turn, error)
            await asyncio.shield(running)
            if instead is not None:
                raise instead from None
            raise
        code.end(host, turn, None)
        await asyncio.shield(running)
