"""The bounded world of one session: real commands over real records, workers that crash and come back, lost answers.

A state is the number of its rows, of what each worker knows and of what must be remembered to judge it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any, Final

from attrs import define, field

from ... import commands as c
from ...machines import input as input_
from ...machines import lease as lease_
from ...outcome import Decided, Refusal, Refused, Update
from ...replace import replace
from ...world import evolve
from ..trace import Line
from .clock import set_back, ticks
from .decision_properties import DECISION_PROPERTIES
from .operators import Operator
from .snapshot import S, Snapshot, snapshot_of
from .state_properties import STATE_PROPERTIES
from .states import DOOMED, History, Numbers, State, StateEncoder, put
from .transitions import TRANSITION_PROPERTIES, Transition
from .workers import FAILURES, HOME, IDLE, MARKED, RAN, Worker, command, stale_commands, understood

__all__ = ["SessionModel"]


ONCE: Final = "a once step runs at most once"
TAKEN_BACK: Final = "no once step runs for an input that was withdrawn or superseded"
LATER_AGAIN: Final = "a command that was carried out is a replay at any later point"
HONEST: Final = "a worker that keeps to the rules is refused only as fenced or cancelled"
PATH_PROPERTIES: Final = (ONCE, TAKEN_BACK, DOOMED, LATER_AGAIN, HONEST)
FAIR: Final = frozenset(
    ("fenced", "cancelled", "held", "run_active", "phase", "open_turn", "stamp_conflict")
)


@define(eq=False)
class SessionModel(StateEncoder):
    """A model for the explorer: what can happen to a session within a setting."""

    always: tuple[str, ...] = (
        *DECISION_PROPERTIES,
        *STATE_PROPERTIES,
        *TRANSITION_PROPERTIES,
        *PATH_PROPERTIES,
    )
    operators: dict[str, Operator] = field(factory=dict)
    fired: int = 0

    def __attrs_post_init__(self) -> None:
        self.operators = {o.name: o for o in self.config.operators}

    @property
    def name(self) -> str:
        """The name of the model, as `tenure check --list` prints it."""
        return self.config.name

    @property
    def sometimes(self) -> tuple[str, ...]:
        """What must happen in some state of this model."""
        fires = [f"{clause} fires" for clause in self.config.expects]
        return (*fires, *(f"an input is {how}" for how in self.config.ends))

    # -- the model

    def initial(self) -> Iterable[State]:
        """The states that the search starts from."""
        home = self.worker(HOME)
        opened = self.transitions.opened()
        yield self.state(opened, (home,) * self.config.workers, History())

    def actions(self, state: State) -> Iterator[tuple[Any, State]]:
        """Every action that is possible in a state, with the state after it."""
        number, workers, memory, _ = state
        snapshot, memory_ = self.transitions.snapshots[number], self.histories[memory]
        yield from self._operate(snapshot, workers, memory_)
        yield from self._tick(snapshot, workers, memory_)
        for slot, at in enumerate(workers):
            yield from self._work(snapshot, workers, slot, self.workers[at], memory_)

    def broken(self, state: State) -> Collection[str]:
        """The properties that a state violates."""
        number, workers, memory, broken = state
        snapshot = self.transitions.snapshots[number]
        broken += self.transitions.of_snapshot(snapshot, probes=self.config.probes)
        return broken or self._stale_commands(snapshot, workers, self.histories[memory])

    def seen(self, state: State) -> Collection[str]:
        """The names in `sometimes` that a state shows."""
        queue_entries = self.transitions.snapshots[state[0]].queue_entries.values()
        ends = [
            f"an input is {p.state.how}" for p in queue_entries if isinstance(p.state, input_.Ended)
        ]
        if self.fired == len(self.transitions.clauses):
            return ends
        self.fired = len(self.transitions.clauses)
        return [*ends, *(f"{clause} fires" for clause in self.transitions.clauses)]

    def finished(self, state: State) -> bool:
        """True if nothing may remain to be done in a state."""
        snapshot = self.transitions.snapshots[state[0]]
        session = snapshot.session
        if session.phase.value == "stopped" and "reopen" not in self.operators:
            return True
        return (
            (session.phase.value != "open" or len(snapshot.queue_entries) >= self._inputs())
            and all(isinstance(p.state, input_.Ended) for p in snapshot.queue_entries.values())
            and not session.sweep
            and not snapshot.unfinished()
            and isinstance(session.lease, lease_.Vacant)
        )

    def _inputs(self) -> int:
        return sum(map(len, self.config.admits))

    def describe(self, label: Any) -> Line:
        """The text of an action for a trace."""
        who, what, transition = label
        if transition is None:
            return Line(who, what)
        text = transition if isinstance(transition, str) else description(transition)
        return Line(who, what, text, "session")

    # -- what happens

    def _operate(
        self, snapshot: Snapshot, workers: Numbers, memory: History
    ) -> Iterator[tuple[Any, State]]:
        for group in self.config.admits:
            if group[0].input_id not in snapshot.queue_entries:
                transition = self.transitions.execute(snapshot, c.Admit(S, group))
                if transition.changed or transition.broken:
                    label = ("user", "Admit " + ", ".join(i.input_id for i in group), transition)
                    yield label, self.next(snapshot, transition, workers, memory)
        holders = {self.workers[w].generation for w in workers}
        for operator in self.config.operators:
            if operator.name in memory.done:
                continue
            asked = operator.offer(snapshot, holders)
            if asked is None:
                continue
            transition = self.transitions.execute(snapshot, asked)
            if transition.changed or transition.broken:
                done = memory
                if not operator.repeated:
                    done = replace(memory, done=tuple(sorted((*memory.done, operator.name))))
                yield (
                    ("user", operator.name, transition),
                    self.next(snapshot, transition, workers, done),
                )
        transition = self.transitions.execute(snapshot, c.Sweep(S))
        if transition.changed or transition.broken:
            yield ("sweeper", "Sweep", transition), self.next(snapshot, transition, workers, memory)

    def _tick(
        self, snapshot: Snapshot, workers: Numbers, memory: History
    ) -> Iterator[tuple[Any, State]]:
        found = snapshot.known.get("ticks")
        if found is None:
            found = snapshot.known["ticks"] = [
                (text, snapshot_of(-1, evolve(snapshot.world, [Update(row)])))
                for text, row in ticks(snapshot, lapse=self.config.lapse, hour=self.config.hour)
            ]
            back = [Update(row) for row in set_back(snapshot)]
            snapshot.known["back"] = snapshot_of(-1, evolve(snapshot.world, back)) if back else None
        for text, after in found:
            yield ("clock", text, None), self.state(after, workers, memory)
        if self.config.clock_back and not memory.set_back and snapshot.known["back"] is not None:
            once = replace(memory, set_back=True)
            yield ("clock", "is set back", None), self.state(snapshot.known["back"], workers, once)

    def _work(
        self, snapshot: Snapshot, workers: Numbers, slot: int, worker: Worker, memory: History
    ) -> Iterator[tuple[Any, State]]:
        if self.config.crash and worker != HOME:
            home = put(workers, slot, self.worker(HOME))
            yield (f"w{slot}", "crashes", None), self.state(snapshot, home, memory)
        if worker.sent:
            yield self._again(snapshot, workers, slot, worker, memory)
            return
        if worker.step == MARKED:
            yield self._run(snapshot, workers, slot, worker, memory)
        for kind in self.config.moves.get(worker.step, ()):
            if kind != "renew" or not snapshot.live():
                yield from self._send(snapshot, workers, slot, worker, kind, memory)

    def _send(
        self,
        snapshot: Snapshot,
        workers: Numbers,
        slot: int,
        worker: Worker,
        kind: str,
        memory: History,
    ) -> Iterator[tuple[Any, State]]:
        sender = worker
        if worker.step == IDLE:
            kind, sender = self._prepare(snapshot, slot, kind)
        transition = self.transitions.execute(snapshot, command(kind, sender, slot))
        answer, label = transition.answer, (f"w{slot}", kind, transition)
        if answer is None:
            yield label, self.next(snapshot, transition, workers, memory)
            return
        extra = () if _fair(answer) else (HONEST,)
        knows = understood(sender, kind, answer, transition.after)
        if knows == worker and not transition.changed:
            return
        after = put(workers, slot, self.worker(knows))
        yield label, self.next(snapshot, transition, after, memory, extra)
        nothing = isinstance(answer, Decided) and isinstance(answer.outcome, c.NothingDue)
        if self.config.lose and transition.changed and kind != "renew" and not nothing:
            waits = put(workers, slot, self.worker(replace(sender, sent=kind)))
            lost = (f"w{slot}", kind, description(transition) + ", answer lost")
            yield lost, self.next(snapshot, transition, waits, memory, extra)

    def _prepare(self, snapshot: Snapshot, slot: int, kind: str) -> tuple[str, Worker]:
        """A new lease id, named after its generation, and a run id, named after its inputs: the same on every way here."""
        sender = Worker(IDLE, snapshot.session.lease.generation + 1)
        if kind != "begin":
            return kind, sender
        attempt = self.transitions.execute(snapshot, command("begin again", sender, slot)).answer
        if isinstance(attempt, Decided) and isinstance(attempt.outcome, c.Begun):
            if attempt.outcome.run_id == "r.new":
                run_id = "r." + ".".join(attempt.outcome.inputs)
                return "begin", replace(sender, run_id=run_id)
            return "begin again", replace(sender, run_id=attempt.outcome.run_id)
        return "begin again", sender

    def _again(
        self, snapshot: Snapshot, workers: Numbers, slot: int, worker: Worker, memory: History
    ) -> tuple[Any, State]:
        """The answer was lost: the same command once more, whenever that is."""
        transition = self.transitions.execute(snapshot, command(worker.sent, worker, slot))
        answer = transition.answer
        replayed = (
            self._known(snapshot, worker.sent, worker.run_id, answer) and not transition.changed
        )
        knows = (
            HOME if answer is None else understood(worker, worker.sent, answer, transition.after)
        )
        after = put(workers, slot, self.worker(knows))
        label = (f"w{slot}", f"{worker.sent}, sent again", transition)
        return label, self.next(
            snapshot, transition, after, memory, () if replayed else (LATER_AGAIN,)
        )

    def _known(self, snapshot: Snapshot, kind: str, run_id: str, answer: Any) -> bool:
        """A Fail or Release is known until another holder of the run says the same; then it is told that it is fenced."""
        if isinstance(answer, Refused) and (kind == "release" or kind in FAILURES):
            last = snapshot.runs[run_id].last_end
            return answer.reason is Refusal.FENCED and last is not None
        return isinstance(answer, Decided) and answer.replayed

    def _run(
        self, snapshot: Snapshot, workers: Numbers, slot: int, worker: Worker, memory: History
    ) -> tuple[Any, State]:
        """The once step itself: the effect that must not happen twice."""
        doomed = dict(memory.doomed)
        broken: tuple[str, ...] = (ONCE,) if worker.run_id in memory.ran else ()
        for contributor in snapshot.runs[worker.run_id].contributors:
            state = snapshot.queue_entries[contributor.input_id].state
            how = state.how.value if isinstance(state, input_.Ended) else ""
            if how in ("withdrawn", "superseded") or contributor.input_id in doomed:
                broken += (TAKEN_BACK,)
        ran = tuple(sorted({*memory.ran, worker.run_id}))
        after = put(workers, slot, self.worker(replace(worker, step=RAN)))
        label = (f"w{slot}", f"runs the once step of {worker.run_id}", None)
        return label, self.state(snapshot, after, replace(memory, ran=ran), broken)

    def _stale_commands(
        self, snapshot: Snapshot, workers: Numbers, memory: History
    ) -> tuple[str, ...]:
        """Whatever was carried out may arrive once more: it must find that it has been here."""
        asked: list[Any] = [self.operators[name].offer(snapshot, set()) for name in memory.done]
        asked += [
            c.Admit(S, g) for g in self.config.admits if g[0].input_id in snapshot.queue_entries
        ]
        for slot, at in enumerate(workers):
            worker = self.workers[at]
            if worker.run_id and not worker.sent:
                for name in stale_commands(worker, snapshot):
                    kind, _, n = name.rpartition(" ")
                    asked.append(command(kind, replace(worker, n=int(n)), slot))
        for late in asked:
            if late is not None:
                transition = self.transitions.execute(snapshot, late)
                answer = transition.answer
                if transition.changed or not (isinstance(answer, Decided) and answer.replayed):
                    return (LATER_AGAIN,)
        return ()


def _fair(answer: Decided[Any] | Refused) -> bool:
    return isinstance(answer, Decided) or answer.reason.value in FAIR


def description(transition: Transition) -> str:
    """An answer in a few words."""
    answer = transition.answer
    if answer is None:
        return f"AssertionError: {transition.clause_text}"
    if isinstance(answer, Refused):
        return f"{answer.reason.value} [{answer.clause}]"
    outcome = answer.outcome
    words = [type(outcome).__name__]
    for name in ("run_id", "n", "verdict", "termination", "phase", "ended", "next"):
        value = getattr(outcome, name, None)
        if value not in (None, ""):
            words.append(f"{name}={getattr(value, 'run_id', value)}")
    if answer.replayed:
        words.append("replayed" if getattr(outcome, "held", True) else "replayed, not held")
    return f"{' '.join(words)} [{answer.clause}]"
