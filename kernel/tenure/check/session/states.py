"""The states of an explored session, as numbers: of its rows, of what each worker knows, of what is remembered.

Rows, workers and memories are kept once each.  States that differ in the names of workers alone are one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

from attrs import define, field, frozen

from ... import commands as c
from ...machines import input as input_
from ...machines import lease as lease_
from ...outcome import Update
from ...records import MarkRaise, Run
from ...replace import replace
from ...world import evolve
from .canonical import Retained
from .operators import Operator
from .snapshot import REVISION, Snapshot
from .transitions import Transition, TransitionCache
from .workers import HOME, Worker, owner

__all__ = ["DOOMED", "History", "ModelConfig", "Moves", "Numbers", "State", "StateEncoder", "put"]


State: TypeAlias = tuple[int, tuple[int, ...], int, tuple[str, ...]]
Numbers: TypeAlias = tuple[int, ...]
Moves: TypeAlias = Mapping[str, tuple[str, ...]]  # by step: the kinds of commands

DOOMED: Final = "what a mark has taken back ends as the mark says"


@frozen
class ModelConfig:
    """What may happen in a world.  `moves`: what a worker may send in which step."""

    name: str
    description: str  # what it is for
    admits: tuple[tuple[c.NewInput, ...], ...]
    moves: Moves
    operators: tuple[Operator, ...] = ()
    workers: int = 2
    lose: bool = True  # answers may be lost
    crash: bool = True
    lapse: bool = True  # leases run out
    count_failures: bool = (
        False  # failures and losses are counted; else nothing is ever given up for them
    )
    clock_back: bool = False
    hour: bool = False
    probes: bool = False  # in every state, everything wrong is tried
    expects: tuple[str, ...] = ()  # clauses that must fire
    ends: tuple[str, ...] = ("consumed",)  # how inputs must be seen to end


@frozen
class History:
    """`doomed`: inputs that a mark has taken back and how they must end; `ran`: runs whose once step has run."""

    done: tuple[str, ...] = ()
    ran: tuple[str, ...] = ()
    doomed: tuple[tuple[str, str], ...] = ()
    set_back: bool = False


@define(eq=False)
class StateEncoder:
    config: ModelConfig
    transitions: TransitionCache = field(factory=TransitionCache)
    workers: list[Worker] = field(factory=list)
    worker_numbers: dict[Worker, int] = field(factory=dict)
    histories: list[History] = field(factory=list)
    history_numbers: dict[History, int] = field(factory=dict)
    handed: dict[tuple[int, int], int] = field(factory=dict)

    def worker(self, worker: Worker) -> int:
        number = self.worker_numbers.setdefault(worker, len(self.workers))
        if number == len(self.workers):
            self.workers.append(worker)
        return number

    def history(self, memory: History) -> int:
        number = self.history_numbers.setdefault(memory, len(self.histories))
        if number == len(self.histories):
            self.histories.append(memory)
        return number

    def canonical(self, state: State) -> State:
        """Workers differ in name alone: the one whose knowledge has the least number comes first."""
        number, workers, memory, broken = state
        order = sorted(range(len(workers)), key=lambda slot: workers[slot])
        lease = self.transitions.snapshots[number].session.lease
        if isinstance(lease, lease_.Held):
            slot = int(lease.owner.owner_id[1:])
            new = min(n for n, old in enumerate(order) if workers[old] == workers[slot])
            if new != slot:
                number = self.handed_to(number, new)
        return (number, tuple([workers[slot] for slot in order]), memory, broken)

    def handed_to(self, number: int, slot: int) -> int:
        """The same rows with the lease in another worker's name."""
        known = self.handed.get((number, slot))
        if known is None:
            snapshot = self.transitions.snapshots[number]
            lease = replace(snapshot.session.lease, owner=owner(slot))
            turned = Update(replace(snapshot.session, lease=lease))
            known = self.transitions.snapshot(evolve(snapshot.world, [turned])).number
            self.handed[number, slot] = known
        return known

    def next(
        self,
        snapshot: Snapshot,
        transition: Transition,
        workers: Numbers,
        memory: History,
        broken: tuple[str, ...] = (),
    ) -> State:
        if transition.changed:
            memory, more = self._doom(snapshot, transition.after, memory)
            broken += more
        return self.state(transition.after, workers, memory, (*transition.broken, *broken))

    def _doom(
        self, before: Snapshot, after: Snapshot, memory: History
    ) -> tuple[History, tuple[str, ...]]:
        """A raised mark takes back what is not at work and has no progress; the first one above it says how it ends."""
        doomed = dict(memory.doomed)
        broken: tuple[str, ...] = ()
        raises = {(r.lane, r.mark): r.how.value for r in after.world.all(MarkRaise)}
        for queue_entry in before.queue_entries.values() if raises else ():
            state = queue_entry.state
            raised = before.session.mark(queue_entry.lane) < after.session.mark(queue_entry.lane)
            if not raised or isinstance(state, input_.Ended) or queue_entry.input_id in doomed:
                continue
            run = before.runs.get(getattr(state, "run_id", ""))
            how = raises.get((queue_entry.lane, state.mark + 1))
            if how is not None and not (run is not None and _goes_on(run, before, after)):
                doomed[queue_entry.input_id] = how
        for input_id in list(doomed):
            state = after.queue_entries[input_id].state
            if isinstance(state, input_.Ended) and state.how.value != doomed.pop(input_id):
                broken = (DOOMED,)
        return replace(memory, doomed=tuple(sorted(doomed.items()))), broken

    def state(
        self, snapshot: Snapshot, workers: Numbers, memory: History, broken: tuple[str, ...] = ()
    ) -> State:
        """Rows, workers and memory renamed together, without what nobody can ask for any more."""
        knowing = [self.workers[w] for w in workers]
        lease = snapshot.session.lease
        held = {w.generation for w in knowing if w != HOME}
        generations = tuple(sorted(held | {lease.generation}))
        runs = tuple(sorted({w.run_id for w in knowing if w.run_id}))
        config = self.config
        retained = Retained(
            generations, runs, config.lose, config.clock_back, config.count_failures
        )
        number = self.transitions.settled(snapshot, retained)
        revision = snapshot.session.revision
        renamed = []
        for worker, at in zip(knowing, workers, strict=True):
            if worker != HOME:
                current = REVISION if worker.revision == revision else REVISION - 1
                generation = generations.index(worker.generation)
                worker = replace(worker, generation=generation, revision=current)
                at = self.worker(worker)
            renamed.append(at)
        if memory.ran:
            kept = self.transitions.snapshots[number].runs
            memory = replace(memory, ran=tuple(r for r in memory.ran if r in kept))
        return (number, tuple(renamed), self.history(memory), broken)


def _goes_on(run: Run, before: Snapshot, after: Snapshot) -> bool:
    """What has progress, or is under the lease and stays so, ends its inputs itself."""
    return run.progress or run.run_id == before.session.lease_run == after.session.lease_run


def put(workers: Numbers, slot: int, at: int) -> Numbers:
    return (*workers[:slot], at, *workers[slot + 1 :])
