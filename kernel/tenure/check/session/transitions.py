"""Commands carried out over the rows of an explored session, each judged by every law; once for the same rows."""

from __future__ import annotations

from typing import Any, Final

from attrs import define, field, frozen

from ... import commands as c
from ...machines import input as input_
from ...machines import lease as lease_
from ...outcome import Decided, Refusal, Refused
from ...world import EMPTY, World, evolve
from .canonical import Retained, canonicalize
from .decision_properties import DECISION_PROPERTIES
from .negative_probes import free, wrong
from .snapshot import NOW, TTL, S, Snapshot, snapshot_of
from .state_properties import STATE_PROPERTIES, due_now
from .step import Step

__all__ = ["TRANSITION_PROPERTIES", "Transition", "TransitionCache"]


FAILED: Final = "no decision meets an AssertionError"
TWICE: Final = "a command carried out twice in a row changes nothing and answers the same"
LOST_WORK: Final = "a session in which something can be begun is due"
HOT: Final = "a due session can be begun or swept: no hot loops"
WRONG: Final = "a command that names what is not there, or is not legal, changes nothing"
FREE: Final = (
    "an input can be withdrawn unless its run works or has worked on it, or a mark took it"
)
TRANSITION_PROPERTIES: Final = (FAILED, TWICE, LOST_WORK, HOT, WRONG, FREE)
AGAIN_IS_NEW: Final = (c.Renew, c.Sweep)


@frozen(eq=False)
class Transition:
    """A command decided over some rows.  `answer` None: it met an AssertionError, which `clause_text` tells."""

    answer: Decided[Any] | Refused | None
    after: Snapshot
    changed: bool
    broken: tuple[str, ...] = ()
    clause_text: str = ""


@define(eq=False)
class TransitionCache:
    """All rows met so far by number, and what was decided over them."""

    snapshots: list[Snapshot] = field(factory=list)
    numbers: dict[World, int] = field(factory=dict)
    clauses: dict[str, int] = field(factory=dict)
    decisions: int = 0

    def snapshot(self, world: World) -> Snapshot:
        number = self.numbers.get(world)
        if number is None:
            number = self.numbers[world] = len(self.snapshots)
            self.snapshots.append(snapshot_of(number, world))
        return self.snapshots[number]

    def settled(self, snapshot: Snapshot, retained: Retained) -> int:
        number = snapshot.settled.get(retained)
        if number is None:
            number = self.snapshot(canonicalize(snapshot.world, retained)).number
            snapshot.settled[retained] = number
        return number

    def opened(self) -> Snapshot:
        """A session that was opened and nothing else."""
        answer = self._decide(EMPTY, c.Open(S))
        assert isinstance(answer, Decided)
        return snapshot_of(-1, evolve(EMPTY, answer.writes))

    # -- decisions

    def execute(self, snapshot: Snapshot, command: Any) -> Transition:
        transition: Transition | None = snapshot.transitions.get(command)
        if transition is None:
            transition = snapshot.transitions[command] = self._execute(snapshot, command)
        return transition

    def _execute(self, snapshot: Snapshot, command: Any) -> Transition:
        try:
            answer = self._decide(snapshot.world, command)
            if isinstance(answer, Refused) or not answer.writes:
                return Transition(answer, snapshot, False)
            after = snapshot_of(-1, evolve(snapshot.world, answer.writes))
            broken = self._judge(snapshot, after, command, answer)
        except AssertionError as error:
            return Transition(None, snapshot, False, (FAILED,), str(error)[:300])
        return Transition(answer, after, True, broken)

    def _decide(self, world: World, command: Any) -> Decided[Any] | Refused:
        answer: Decided[Any] | Refused = command.decide(world.load(command.reads()), NOW)
        self.decisions += 1
        self.clauses[answer.clause] = self.clauses.get(answer.clause, 0) + 1
        for clause in getattr(answer, "via", ()):
            self.clauses[clause] = self.clauses.get(clause, 0) + 1
        return answer

    def _judge(
        self, before: Snapshot, after: Snapshot, command: Any, answer: Decided[Any]
    ) -> tuple[str, ...]:
        step = Step(before, after, command, answer)
        broken = [sentence for sentence, holds in DECISION_PROPERTIES.items() if not holds(step)]
        if not isinstance(command, AGAIN_IS_NEW):
            again = self._decide(after.world, command)
            if not _same(answer, again):
                broken.append(TWICE)
        return tuple(broken)

    # -- states

    def of_snapshot(self, snapshot: Snapshot, *, probes: bool = False) -> tuple[str, ...]:
        """What the rows break by themselves, worked out once."""
        found: tuple[str, ...] | None = snapshot.known.get("broken")
        if found is None:
            broken = [
                sentence for sentence, holds in STATE_PROPERTIES.items() if not holds(snapshot)
            ]
            broken += self._liveness(snapshot)
            if probes:
                broken += self._probe(snapshot)
            found = snapshot.known["broken"] = tuple(broken)
        return found

    def _probe(self, snapshot: Snapshot) -> list[str]:
        """Ask for what must be refused, and for what must not."""
        broken = [WRONG] if any(self.execute(snapshot, p).changed for p in wrong(snapshot)) else []
        for queue_entry in snapshot.queue_entries.values():
            if not isinstance(queue_entry.state, input_.Ended):
                taken = self.execute(snapshot, c.Withdraw(S, "c.probe", queue_entry.input_id))
                if taken.broken or taken.changed is not free(snapshot, queue_entry):
                    broken.append(FREE)
        return broken

    def _liveness(self, snapshot: Snapshot) -> list[str]:
        """Whoever looks at a due session finds something to do, and whatever can be done is due."""
        generation = snapshot.session.lease.generation + 1
        stranger = lease_.Owner("stranger", "stranger")
        begin = self.execute(snapshot, c.Begin(S, f"l{generation}", "r.new", stranger, TTL))
        sweep = self.execute(snapshot, c.Sweep(S))
        begun = begin.changed or begin.answer is None
        broken = []
        if begun and not due_now(snapshot):
            broken.append(LOST_WORK)
        if due_now(snapshot) and not begun and not (_asks_for_sweep(begin) and sweep.changed):
            broken.append(HOT)
        return broken


def _asks_for_sweep(begin: Transition) -> bool:
    """A worker that cannot begin learns from the answer that it is to sweep."""
    answer = begin.answer
    if isinstance(answer, Refused):
        return getattr(answer.detail, "sweep", False) or answer.reason.value == "phase"
    outcome = None if answer is None else answer.outcome
    return isinstance(outcome, c.NothingDue) and outcome.sweep


def _same(first: Decided[Any], again: Decided[Any] | Refused) -> bool:
    if isinstance(again, Refused):  # nothing was due, and that has stopped the session
        nothing = isinstance(first.outcome, c.NothingDue)
        return nothing and again.reason is Refusal.PHASE
    if again.writes:
        return False
    if isinstance(first.outcome, c.NothingDue):
        return bool(again.outcome == first.outcome)
    if not again.replayed:
        return False
    if isinstance(first.outcome, c.Admitted):
        ids = [r.input_id for r in first.outcome.admissions]
        return ids == [r.input_id for r in again.outcome.admissions]
    return bool(again.outcome == first.outcome)
