"""Executes commands on the rows of the session model and checks every property; once for the same rows."""

from __future__ import annotations

from typing import Any, Final

from attrs import define, field, frozen

from ... import commands as c
from ...machines import input as input_
from ...machines import lease as lease_
from ...outcome import Decided, Refusal, Refused
from ...release import RELEASE, decide_at
from ...replace import replace
from ...world import EMPTY, World, evolve
from .canonical import Retained, canonicalize
from .decision_properties import DECISION_PROPERTIES
from .negative_probes import illegal_commands, is_withdrawable
from .snapshot import NOW, TTL, S, Snapshot, snapshot_of
from .state_properties import DETAIL_PROPERTIES, STATE_PROPERTIES, due_now
from .steering_properties import TAKES_ALL, takes_all
from .step import Step

__all__ = [
    "NEVER_REPLAYED",
    "TRANSITION_PROPERTIES",
    "Transition",
    "TransitionCache",
    "refused_for_a_reason",
    "same_answer",
]


NO_ASSERTION_ERROR: Final = "no command raises an AssertionError"
REPLAYED: Final = (
    "a command that is executed twice is a replay: it writes nothing and has the same answer"
)
WORK_IS_DUE: Final = "a session in which a run can begin is due"
NO_HOT_LOOP: Final = "in a due session a run can begin or a sweep has work, so that no worker loops"
ILLEGAL_CHANGES_NOTHING: Final = "an illegal command changes nothing"
CAN_WITHDRAW: Final = (
    "an input can be withdrawn unless its run has begun to work on it or a mark has taken it back"
)
BEGINS_EXACTLY: Final = "Begin begins exactly the inputs that it was told, or nothing"
ONLY_LIVE_LEASES: Final = "a command is refused for a lease only if the lease is live"
TRANSITION_PROPERTIES: Final = (
    *(NO_ASSERTION_ERROR, REPLAYED, WORK_IS_DUE, NO_HOT_LOOP, ILLEGAL_CHANGES_NOTHING),
    *(CAN_WITHDRAW, ONLY_LIVE_LEASES, BEGINS_EXACTLY, TAKES_ALL),
)
NEVER_REPLAYED: Final = (c.Renew, c.Sweep, c.ClaimScraps, c.Prune, c.Reseal, c.LineUp)
OTHER: Final = lease_.Owner("other", "other")
PROBE_EVERY: Final = 4  # in each state every fourth illegal command is tried; its number says which


@frozen(eq=False)
class Transition:
    """A command and its decision.  After an AssertionError `answer` is None and `clause_text` has the message."""

    answer: Decided[Any] | Refused | None
    after: Snapshot
    changed: bool
    broken: tuple[str, ...] = ()
    clause_text: str = ""


@define(eq=False)
class TransitionCache:
    """All rows found so far by number, with the decisions on them."""

    snapshots: list[Snapshot] = field(factory=list)
    numbers: dict[World, int] = field(factory=dict)
    clauses: dict[str, int] = field(factory=dict)
    decisions: int = 0

    def snapshot(self, world: World) -> Snapshot:
        """Return the snapshot of a world; give it the next number if it is new."""
        number = self.numbers.get(world)
        if number is None:
            number = self.numbers[world] = len(self.snapshots)
            self.snapshots.append(snapshot_of(number, world))
        return self.snapshots[number]

    def canonical_number(self, snapshot: Snapshot, retained: Retained) -> int:
        """Return the number of the canonical form of a snapshot."""
        number = snapshot.canonical.get(retained)
        if number is None:
            number = self.snapshot(canonicalize(snapshot.world, retained)).number
            snapshot.canonical[retained] = number
        return number

    def initial_snapshot(self, importing: c.Import | None = None) -> Snapshot:
        """Return a session without inputs, open or importing."""
        answer = self._decide(EMPTY, c.Open(S, importing=importing))
        assert isinstance(answer, Decided)
        return snapshot_of(-1, evolve(EMPTY, answer.writes))

    # -- decisions

    def execute(self, snapshot: Snapshot, command: Any) -> Transition:
        """Return the transition by a command.  The same command on the same rows is executed once."""
        transition: Transition | None = snapshot.transitions.get(command)
        if transition is None:
            transition = snapshot.transitions[command] = self._execute(snapshot, command)
        return transition

    def _execute(self, snapshot: Snapshot, command: Any) -> Transition:
        try:
            answer = self._decide(snapshot.world, command)
            if isinstance(answer, Refused):
                fair = refused_for_a_reason(snapshot, answer)
                return Transition(
                    answer,
                    snapshot,
                    False,
                    (
                        *(() if fair else (ONLY_LIVE_LEASES,)),
                        *self._takes_all(snapshot, snapshot, command, answer),
                    ),
                )
            if not answer.writes:
                broken = self._takes_all(snapshot, snapshot, command, answer)
                return Transition(answer, snapshot, False, broken)
            after = snapshot_of(-1, evolve(snapshot.world, answer.writes))
            broken = self._check(snapshot, after, command, answer)
            broken += self._takes_all(snapshot, after, command, answer)
        except AssertionError as error:
            return Transition(None, snapshot, False, (NO_ASSERTION_ERROR,), str(error)[:300])
        return Transition(answer, after, True, broken)

    def _takes_all(
        self, before: Snapshot, after: Snapshot, command: Any, answer: Any
    ) -> tuple[str, ...]:
        return () if takes_all(before, after, command, answer) else (TAKES_ALL,)

    def _decide(self, world: World, command: Any) -> Decided[Any] | Refused:
        answer: Decided[Any] | Refused = decide_at(
            RELEASE, command, world.load(command.reads()), NOW
        )
        self.decisions += 1
        self.clauses[answer.clause] = self.clauses.get(answer.clause, 0) + 1
        for clause in getattr(answer, "via", ()):
            self.clauses[clause] = self.clauses.get(clause, 0) + 1
        return answer

    def _check(
        self, before: Snapshot, after: Snapshot, command: Any, answer: Decided[Any]
    ) -> tuple[str, ...]:
        step = Step(before, after, command, answer)
        broken = [name for name, holds in DECISION_PROPERTIES.items() if not holds(step)]
        if not isinstance(command, NEVER_REPLAYED):
            again = self._decide(after.world, command)
            if not same_answer(answer, again):
                broken.append(REPLAYED)
        return tuple(broken)

    # -- states

    def of_snapshot(self, snapshot: Snapshot, *, probes: bool = False) -> tuple[str, ...]:
        """Return the properties that the rows violate, with or without the probes; computed once."""
        found: tuple[str, ...] | None = snapshot.known.get("broken")
        if found is None:
            broken = [
                sentence
                for properties in (STATE_PROPERTIES, DETAIL_PROPERTIES)
                for sentence, holds in properties.items()
                if not holds(snapshot)
            ]
            broken += self._liveness(snapshot)
            if probes:
                broken += self._probe(snapshot)
            found = snapshot.known["broken"] = tuple(broken)
        return found

    def _probe(self, snapshot: Snapshot) -> list[str]:
        """Try some of the commands that must be refused, and withdrawals that must succeed."""
        illegal = illegal_commands(snapshot)[snapshot.number % PROBE_EVERY :: PROBE_EVERY]
        changed = any(self.execute(snapshot, command).changed for command in illegal)
        broken = [ILLEGAL_CHANGES_NOTHING] if changed else []
        broken += self._exactly(snapshot)
        for queue_entry in snapshot.queue_entries.values():
            if not isinstance(queue_entry.state, input_.Ended):
                taken = self.execute(snapshot, c.Withdraw(S, "c.probe", queue_entry.input_id))
                if taken.broken or taken.changed is not is_withdrawable(snapshot, queue_entry):
                    broken.append(CAN_WITHDRAW)
        return broken

    def _exactly(self, snapshot: Snapshot) -> list[str]:
        """Check that Begin, told what it would begin, begins that, and told anything else, nothing."""
        plain = c.Begin(S, f"l{snapshot.session.lease.generation + 1}", "r.new", OTHER, TTL)
        begun = self.execute(snapshot, plain).answer
        if not isinstance(begun, Decided) or not isinstance(begun.outcome, c.Begun):
            return []
        same = self.execute(snapshot, replace(plain, exactly=begun.outcome.inputs)).answer
        other = self.execute(snapshot, replace(plain, exactly=(*begun.outcome.inputs, "z"))).answer
        agree = isinstance(same, Decided) and same.outcome == begun.outcome
        return [] if agree and isinstance(other, Refused) else [BEGINS_EXACTLY]

    def _liveness(self, snapshot: Snapshot) -> list[str]:
        """Check that a session is due if and only if a worker finds something to do."""
        generation = snapshot.session.lease.generation + 1
        begin = self.execute(snapshot, c.Begin(S, f"l{generation}", "r.new", OTHER, TTL))
        sweep = self.execute(snapshot, c.Sweep(S))
        begun = begin.changed or begin.answer is None
        broken = [] if begin.changed else list(begin.broken)
        if begun and not due_now(snapshot):
            broken.append(WORK_IS_DUE)
        if due_now(snapshot) and not begun and not (_asks_for_sweep(begin) and sweep.changed):
            broken.append(NO_HOT_LOOP)
        return broken


def refused_for_a_reason(snapshot: Snapshot, refused: Refused) -> bool:
    """Return False if a lease that is not live kept a command out."""
    return refused.reason not in (Refusal.HELD, Refusal.RUN_ACTIVE) or snapshot.live()


def _asks_for_sweep(begin: Transition) -> bool:
    """Return True if the answer of Begin says that the worker must sweep."""
    answer = begin.answer
    if isinstance(answer, Refused):
        return getattr(answer.detail, "sweep", False) or answer.reason.value == "phase"
    outcome = None if answer is None else answer.outcome
    return isinstance(outcome, c.NothingDue) and outcome.sweep


def same_answer(first: Decided[Any], again: Decided[Any] | Refused) -> bool:
    """Return True if the second execution of a command, right after the first, is a replay with the same answer."""
    if isinstance(
        again, Refused
    ):  # nothing was due, and so the first Begin has stopped the session
        nothing = isinstance(first.outcome, c.NothingDue)
        return nothing and again.reason is Refusal.PHASE
    if again.writes:
        return False
    if isinstance(first.outcome, (c.NothingDue, c.GoOn)) or _was_settled(first.outcome):
        return bool(again.outcome == first.outcome)
    if not again.replayed:
        return False
    if isinstance(first.outcome, c.Admitted):
        ids = [r.input_id for r in first.outcome.admissions]
        return ids == [r.input_id for r in again.outcome.admissions]
    return bool(again.outcome == first.outcome)


def _was_settled(outcome: Any) -> bool:
    """Return True if the end of work came after its ticket was settled: that changes nothing, and is not remembered."""
    return isinstance(outcome, c.EndNoted) and outcome.earlier is not None
