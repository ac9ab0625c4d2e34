"""Worker processes in one simulation: the kernel, the worker machine and a virtual clock; nothing is asynchronous.

A turn takes its time and commits.  A poison input ends its process instead.  A process that has ended is started again.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from attrs import define, field

from tenure.commands import Admit, Begin, Begun, Commit, NewInput, NothingDue, Reclaim, Sweep
from tenure.indexes import DUE
from tenure.machines.input import Ended
from tenure.machines.lease import Evidence, Fence, Held, Owner
from tenure.outcome import Decided, Refusal, Refused
from tenure.queries import Command, First, Get
from tenure.records import Input, QueueEntry, Run, Session
from tenure.runner.protocol import RunnerStopReason
from tenure.transcript import NewNode, Role
from tenure.worker import protocol
from tenure.worker.limits import Keys, Rule, Usage
from tenure.worker.machine import step
from tenure.world import EMPTY, World, evolve

__all__ = ["POISON", "Fleet"]


POISON = "poison"
ENDS_AFTER_MS = 500  # a poison input ends its process
RESTART_MS = 50


@define
class Process:
    """One worker process.  `alive` is False once it has ended; its successor is another one."""

    name: str
    state: protocol.State
    alive: bool = True


@define
class Fleet:
    """`turn_ms` returns how long a turn takes: less than its lease, which is never renewed.

    `rules` are limits of each process; `key_of` returns the key of a session, the same for all.
    """

    seed: int
    slots: int
    turn_ms: Callable[[random.Random], int]
    ttl_ms: int = 30_000
    rules: tuple[Rule, ...] = ()
    key_of: Callable[[str], str] = lambda session_id: session_id
    begun: list[tuple[int, str, str]] = field(factory=list)  # time, process, session
    in_vain: int = 0  # how often nothing was begun
    most_at_once: dict[str, int] = field(factory=dict)  # by key, within one process
    world: World = EMPTY
    now_ms: int = 1_000
    crashes: int = 0
    most_beside: dict[int, int] = field(factory=dict)  # losses: most sessions running beside
    _later: list[tuple[int, int, Callable[[], None]]] = field(factory=list)
    _ids: Any = field(factory=lambda: itertools.count(1))
    _chance: random.Random = field(init=False)
    _processes: list[Process] = field(factory=list)
    _working: dict[str, dict[str, int]] = field(factory=dict)  # process: session: losses

    def __attrs_post_init__(self) -> None:
        self._chance = random.Random(self.seed)

    # -- the simulation

    def at(self, after_ms: int, then: Callable[[], None]) -> None:
        heapq.heappush(self._later, (self.now_ms + after_ms, next(self._ids), then))

    def run(self, processes: int, until: Callable[[], bool], limit_ms: int) -> None:
        """Run until it is true; AssertionError if it is not within the limit."""
        for _ in range(processes):
            self.start()
        end_ms = self.now_ms + limit_ms
        while not until():
            self.now_ms, _, then = heapq.heappop(self._later)
            assert self.now_ms < end_ms, "not within the time limit"
            then()

    def decide(self, command: Command[Any, Any]) -> Decided[Any] | Refused:
        answer = command.decide(self.world.load(command.reads()), self.now_ms)
        if isinstance(answer, Decided):
            self.world = evolve(self.world, answer.writes)
            for hint in answer.hints:
                for process in self._processes:
                    at_once, keys = hint.due_at_ms == 0, self.keys(hint.session_id)
                    hinted = protocol.Hinted(self.now_ms, hint.session_id, at_once, keys)
                    self.at(1, lambda p=process, e=hinted: self.feed(p, e))  # type: ignore[misc]
        return answer

    def keys(self, session_id: str) -> Keys:
        return (self.key_of(session_id),) * len(self.rules)

    def submit(self, payloads: Iterable[str]) -> None:
        """Submit each input to a session of its own."""
        for n, payload in enumerate(payloads):
            self.decide(Admit(f"s{n}", (NewInput(f"i{n}", "prompt", payload),)))

    def submit_to(self, session_id: str, new: NewInput) -> None:
        assert isinstance(self.decide(Admit(session_id, (new,))), Decided)

    def ends(self) -> list[tuple[str, str]]:
        """Return the payload of each input and how it has ended; "" if it has not."""
        return [
            (self.payload_of(q.session_id, q.input_id), getattr(q.state, "how", ""))
            for q in self.world.all(QueueEntry)
        ]

    def all_ended(self) -> bool:
        return all(isinstance(q.state, Ended) for q in self.world.all(QueueEntry))

    def payload_of(self, session_id: str, input_id: str) -> str:
        found = self.world.answer(Get(Input, (session_id, input_id)))
        assert found is not None
        return found.payload

    # -- processes

    def start(self) -> None:
        usage = Usage(self.rules) if self.rules else None
        state = protocol.Serving(self.slots, usage=usage)
        process = Process(f"p{next(self._ids)}", state)
        self._processes.append(process)
        self._working[process.name] = {}
        self.feed(process, protocol.Connected(self.now_ms))

    def crash(self, process: Process) -> None:
        if process.alive:
            process.alive = False
            self.crashes += 1
            self._processes.remove(process)
            self.at(RESTART_MS, self.start)

    def feed(self, process: Process, event: protocol.Event) -> None:
        if not process.alive:
            return
        outcome = step(process.state, event)
        process.state = outcome.state
        for effect in outcome.effects:
            match effect:
                case protocol.Take(session_id, others):
                    begin = self.begin_of(process, session_id, others)
                    self.at(
                        self._chance.randint(1, 5),
                        lambda b=begin: self.begin(process, b),  # type: ignore[misc]
                    )
                case protocol.Look(id, limit, _):
                    self.at(1, lambda i=id, n=limit: self.look(process, i, n))  # type: ignore[misc]
                case protocol.SetTimer(id, at_ms):
                    fired = protocol.TimerFired(at_ms, id)
                    self.at(at_ms - self.now_ms, lambda e=fired: self.feed(process, e))  # type: ignore[misc]
                case _:
                    raise AssertionError(effect)

    def look(self, process: Process, id: int, limit: int) -> None:
        rows: tuple[Session, ...] = self.world.answer(First(DUE, (), 10_000))
        ids = [s.session_id for s in rows if s.due_at_ms is not None and s.due_at_ms <= self.now_ms]
        dead = [s.session_id for s in self.world.all(Session) if self.holder_is_dead(s)]
        self._chance.shuffle(ids)
        later = [
            s.due_at_ms - self.now_ms for s in rows if s.due_at_ms and s.due_at_ms > self.now_ms
        ]
        full = len(ids) >= limit
        found = tuple(dict.fromkeys([*ids[:limit], *dead]))
        keys = tuple(map(self.keys, found)) if self.rules else ()
        looked = protocol.Looked(self.now_ms, id, found, full, min(later, default=None), keys)
        self.feed(process, looked)

    def holder_is_dead(self, session: Session) -> bool:
        names = {process.name for process in self._processes}
        lease = session.lease
        return isinstance(lease, Held) and lease.owner.owner_id not in names

    # -- runners

    def begin_of(self, process: Process, session_id: str, others: int) -> Begin:
        n = next(self._ids)
        owner = Owner(process.name, f"{process.name}.{n}")
        return Begin(session_id, f"L{n}", f"r{n}", owner, self.ttl_ms, 1, others=others)

    def begin(self, process: Process, begin: Begin) -> None:
        if not process.alive:
            return
        s = begin.session_id
        answer = self.decide(begin)
        if isinstance(answer, Refused):
            assert answer.reason is Refusal.HELD, answer
            session = self.world.answer(Get(Session, (s,)))
            assert session is not None
            lease = session.lease
            if not self.holder_is_dead(session):
                self.stop(process, s, RunnerStopReason.HELD)
                return
            assert isinstance(lease, Held)
            seen = Fence(s, lease.generation, lease.lease_id)
            self.decide(Reclaim(s, f"c{next(self._ids)}", seen, Evidence.DEAD))
            self.at(1, lambda: self.begin(process, begin))
            return
        match answer.outcome:
            case NothingDue(sweep=True):
                self.decide(Sweep(s))
                self.at(1, lambda: self.begin(process, begin))
            case NothingDue(others_max=int() as most):
                self.stop(process, s, RunnerStopReason.NEEDS_ROOM, most)
            case NothingDue():
                self.stop(process, s, RunnerStopReason.NOTHING_DUE)
            case Begun() as begun:
                self.begun.append((self.now_ms, process.name, s))
                self.work(process, begun)

    def work(self, process: Process, begun: Begun) -> None:
        s = begun.fence.session_id
        working = self._working[process.name]
        working[s] = self.run_of(s, begun.run_id).retry.losses
        for key, count in Counter(map(self.key_of, working)).items():
            self.most_at_once[key] = max(self.most_at_once.get(key, 0), count)
        for losses in working.values():
            self.most_beside[losses] = max(self.most_beside.get(losses, 0), len(working) - 1)
        if self.payload_of(s, begun.inputs[0]) == POISON:
            self.at(ENDS_AFTER_MS, lambda: self.crash(process))
        else:
            self.at(self.turn_ms(self._chance), lambda: self.commit(process, begun))

    def commit(self, process: Process, begun: Begun) -> None:
        if not process.alive:
            return
        answer = NewNode(Role.ASSISTANT, "ok")
        self.decide(
            Commit(
                begun.fence.session_id, begun.fence, begun.run_id,
                begun.turn, begun.n, begun.revision, nodes=(answer,),
            )
        )  # fmt: skip
        self.stop(process, begun.fence.session_id, RunnerStopReason.DONE)

    def stop(
        self, process: Process, session_id: str, reason: RunnerStopReason, others: int = 0
    ) -> None:
        self._working[process.name].pop(session_id, None)
        self.in_vain += reason is not RunnerStopReason.DONE
        self.feed(process, protocol.RunnerStopped(self.now_ms, session_id, reason, others))

    def run_of(self, session_id: str, run_id: str) -> Run:
        run = self.world.answer(Get(Run, (session_id, run_id)))
        assert run is not None
        return run
