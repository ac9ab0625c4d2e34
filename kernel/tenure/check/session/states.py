"""States of the session model, as numbers.

Rows, workers and histories are stored once each, and a state refers to them by number.  States that differ only in the
names of workers are one state.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from attrs import define, field, frozen

from ... import commands as c
from ...machines import lease as lease_
from ...outcome import Update
from ...replace import replace
from ...world import evolve
from .canonical import Retained, cursors_of, renamed_cursor
from .ending_properties import ENDS_AS_MARKED, taken_back_after
from .operators import Operator
from .snapshot import REVISION, Snapshot
from .transitions import Transition, TransitionCache
from .workers import IDLE_WORKER, Worker, owner

__all__ = ["History", "ModelConfig", "Moves", "Numbers", "State", "StateEncoder", "put"]


State: TypeAlias = tuple[int, tuple[int, ...], int, tuple[str, ...]]
Numbers: TypeAlias = tuple[int, ...]
Moves: TypeAlias = Mapping[
    str, tuple[str, ...]
]  # for each step of a worker: the commands that it may send


@frozen
class ModelConfig:
    """What may happen in a model of a session."""

    name: str
    description: str
    admits: tuple[tuple[c.NewInput, ...], ...]  # groups of inputs, each admitted by one command
    moves: Moves
    operators: tuple[Operator, ...] = ()
    workers: int = 2
    lose: bool = True  # the answer of a command may be lost
    crash: bool = True  # a worker may crash
    lapse: bool = True  # a lease may lapse
    count_failures: bool = False  # without it, no run is given up after too many failures
    clock_back: bool = False  # the clock is set back once
    hour: bool = False  # a run may have failed for an hour
    importing: c.Import | None = None  # the session begins with this promise
    publishers: int = 0  # that may have given events to the sink at the same time
    probes: bool = False  # illegal commands are tried, each in every fourth state
    expects: tuple[str, ...] = ()  # clauses that must fire
    ends: tuple[str, ...] = ("consumed",)  # ways in which some input must end


@frozen
class History:
    """What the properties need of the past, and no row has.

    `done`: operators that were used.  `ran`: runs whose once step has run.  `taken_back`: inputs that a mark has taken
    back, and how each must end.  `set_back`: the clock was set back.  `given`: for each publisher with a Publish to send,
    the last event that it has given to the sink.  `told`: the last event that the sink was given.
    """

    done: tuple[str, ...] = ()
    ran: tuple[str, ...] = ()
    taken_back: tuple[tuple[str, str], ...] = ()
    set_back: bool = False
    given: tuple[int, ...] = ()
    told: int = 0


@define(eq=False)
class StateEncoder:
    """Converts rows, workers and histories to numbers and back."""

    config: ModelConfig
    transitions: TransitionCache = field(factory=TransitionCache)
    workers: list[Worker] = field(factory=list)
    worker_numbers: dict[Worker, int] = field(factory=dict)
    histories: list[History] = field(factory=list)
    history_numbers: dict[History, int] = field(factory=dict)
    owner_changes: dict[tuple[int, int], int] = field(factory=dict)

    def worker(self, worker: Worker) -> int:
        """Return the number of a worker."""
        number = self.worker_numbers.setdefault(worker, len(self.workers))
        if number == len(self.workers):
            self.workers.append(worker)
        return number

    def history(self, history: History) -> int:
        """Return the number of a history."""
        number = self.history_numbers.setdefault(history, len(self.histories))
        if number == len(self.histories):
            self.histories.append(history)
        return number

    def canonical(self, state: State) -> State:
        """Sort the workers, which differ only in name, by their numbers."""
        number, workers, history, broken = state
        order = sorted(range(len(workers)), key=lambda slot: workers[slot])
        lease = self.transitions.snapshots[number].session.lease
        if isinstance(lease, lease_.Held):
            slot = int(lease.owner.owner_id[1:])
            new = min(n for n, old in enumerate(order) if workers[old] == workers[slot])
            if new != slot:
                number = self.with_owner(number, new)
        return (number, tuple([workers[slot] for slot in order]), history, broken)

    def with_owner(self, number: int, slot: int) -> int:
        """Return the number of the same rows with another owner of the lease."""
        known = self.owner_changes.get((number, slot))
        if known is None:
            snapshot = self.transitions.snapshots[number]
            lease = replace(snapshot.session.lease, owner=owner(slot))
            turned = Update(replace(snapshot.session, lease=lease))
            known = self.transitions.snapshot(evolve(snapshot.world, [turned])).number
            self.owner_changes[number, slot] = known
        return known

    def next(
        self,
        snapshot: Snapshot,
        transition: Transition,
        workers: Numbers,
        history: History,
        broken: tuple[str, ...] = (),
    ) -> State:
        """Return the state after a transition."""
        if transition.changed:
            taken_back, kept = taken_back_after(snapshot, transition.after, history.taken_back)
            history = replace(history, taken_back=taken_back)
            broken += () if kept else (ENDS_AS_MARKED,)
        return self.state(transition.after, workers, history, (*transition.broken, *broken))

    def state(
        self, snapshot: Snapshot, workers: Numbers, history: History, broken: tuple[str, ...] = ()
    ) -> State:
        """Return the canonical state: names are replaced, and what no later decision reads is left out."""
        worker_values = [self.workers[w] for w in workers]
        lease = snapshot.session.lease
        held = {w.generation for w in worker_values if w != IDLE_WORKER}
        generations = tuple(sorted(held | {lease.generation}))
        runs = tuple(sorted({w.run_id for w in worker_values if w.run_id}))
        config = self.config
        cursors = cursors_of(snapshot.session, history.given, history.told)
        retained = Retained(
            *(generations, runs, config.lose, config.clock_back, config.count_failures),
            cursors if config.publishers else (),
        )
        if config.publishers:
            given = tuple(sorted([renamed_cursor(cursors, each) for each in history.given]))
            told = renamed_cursor(cursors, history.told)
            history = replace(history, given=given, told=told)
        number = self.transitions.canonical_number(snapshot, retained)
        revision = snapshot.session.revision
        renamed = []
        for worker, at in zip(worker_values, workers, strict=True):
            if worker != IDLE_WORKER:
                current = REVISION if worker.revision == revision else REVISION - 1
                generation = generations.index(worker.generation)
                worker = replace(worker, generation=generation, revision=current)
                at = self.worker(worker)
            renamed.append(at)
        if history.ran:
            kept = self.transitions.snapshots[number].runs
            history = replace(history, ran=tuple(r for r in history.ran if r in kept))
        return (number, tuple(renamed), self.history(history), broken)


def put(workers: Numbers, slot: int, at: int) -> Numbers:
    """Return the workers with one of them replaced."""
    return (*workers[:slot], at, *workers[slot + 1 :])
