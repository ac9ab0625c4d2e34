"""The model of one session: real commands over real records, workers that crash and restart, lost answers.

A state has four parts: the number of its rows, the number of each worker, the number of its `History`, and the
properties that the transition to it has violated.
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
from .ending_properties import ENDS_AS_MARKED
from .operators import Operator
from .publishing import ONLY_GIVEN, publishing_steps
from .snapshot import S, Snapshot, snapshot_of
from .state_properties import DETAIL_PROPERTIES, STATE_PROPERTIES
from .states import History, Numbers, State, StateEncoder, put
from .transitions import TRANSITION_PROPERTIES, Transition
from .workers import (
    FAILURES,
    IDLE,
    IDLE_WORKER,
    MARKED,
    RAN,
    Worker,
    command,
    stale_commands,
    worker_after,
)

__all__ = ["SessionModel"]


ONCE: Final = "a once step runs at most once"
NOT_IF_TAKEN_BACK: Final = "no once step runs for an input that was withdrawn or superseded"
REPLAYED_LATER: Final = "an executed command that is sent again later is a replay"
ONLY_EXPECTED_REFUSALS: Final = (
    "a correct worker is refused only because it was overtaken, fenced, cancelled or stopped"
)
NO_LATE_RETRY: Final = "a clock that is set back delays no retry by more than its backoff"
PATH_PROPERTIES: Final = (
    *(ONCE, NOT_IF_TAKEN_BACK, ENDS_AS_MARKED, REPLAYED_LATER, ONLY_EXPECTED_REFUSALS),
    ONLY_GIVEN,
    NO_LATE_RETRY,
)
EXPECTED_REFUSALS: Final = frozenset(
    ("fenced", "cancelled", "held", "run_active", "phase", "open_turn", "stamp_conflict", "steered")
)


@define(eq=False)
class SessionModel(StateEncoder):
    """The model of a session for the explorer.  `config` says what may happen."""

    always: tuple[str, ...] = (
        *DECISION_PROPERTIES,
        *STATE_PROPERTIES,
        *DETAIL_PROPERTIES,
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
        """The properties that must hold in some state: clauses that fire, and ways in which inputs end."""
        fires = [f"{clause} fires" for clause in self.config.expects]
        return (*fires, *(f"an input is {how}" for how in self.config.ends))

    # -- the protocol of the explorer

    def initial(self) -> Iterable[State]:
        """Yield the initial state: a session without inputs, open or importing."""
        idle = self.worker(IDLE_WORKER)
        snapshot = self.transitions.initial_snapshot(self.config.importing)
        yield self.state(snapshot, (idle,) * self.config.workers, History())

    def actions(self, state: State) -> Iterator[tuple[Any, State]]:
        """Yield every action that is possible in a state, with the state after it."""
        number, workers, history_number, _ = state
        snapshot, history = self.transitions.snapshots[number], self.histories[history_number]
        yield from self._operate(snapshot, workers, history)
        yield from self._tick(snapshot, workers, history)
        if self.config.publishers:
            yield from self._publish(snapshot, workers, history)
        for slot, at in enumerate(workers):
            yield from self._work(snapshot, workers, slot, self.workers[at], history)

    def broken(self, state: State) -> Collection[str]:
        """Return the properties that a state violates."""
        number, workers, history_number, broken = state
        snapshot = self.transitions.snapshots[number]
        broken += self.transitions.of_snapshot(snapshot, probes=self.config.probes)
        return broken or self._stale_commands(snapshot, workers, self.histories[history_number])

    def seen(self, state: State) -> Collection[str]:
        """Return the names in `sometimes` that hold in a state."""
        queue_entries = self.transitions.snapshots[state[0]].queue_entries.values()
        ends = [
            f"an input is {p.state.how}" for p in queue_entries if isinstance(p.state, input_.Ended)
        ]
        if self.fired == len(self.transitions.clauses):
            return ends
        self.fired = len(self.transitions.clauses)
        return [*ends, *(f"{clause} fires" for clause in self.transitions.clauses)]

    def finished(self, state: State) -> bool:
        """Return True if all inputs were admitted and have ended, and nothing is left to do."""
        snapshot = self.transitions.snapshots[state[0]]
        session = snapshot.session
        if session.phase.value == "importing":
            return False
        if session.phase.value == "stopped" and "reopen" not in self.operators:
            return True
        if self.config.publishers and not published(snapshot):
            return False
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
        """Return the line of a trace for an action."""
        who, what, transition = label
        if transition is None:
            return Line(who, what)
        text = transition if isinstance(transition, str) else description(transition)
        return Line(who, what, text, "session")

    # -- actions

    def _operate(
        self, snapshot: Snapshot, workers: Numbers, history: History
    ) -> Iterator[tuple[Any, State]]:
        """Yield what users, operators and a sweeper can do."""
        for group in self.config.admits:
            if group[0].input_id not in snapshot.queue_entries:
                transition = self.transitions.execute(snapshot, c.Admit(S, group))
                if transition.changed or transition.broken:
                    label = ("user", "Admit " + ", ".join(i.input_id for i in group), transition)
                    yield label, self.next(snapshot, transition, workers, history)
        holders = {self.workers[w].generation for w in workers}
        for operator in self.config.operators:
            if operator.name in history.done:
                continue
            command_ = operator.offer(snapshot, holders)
            if command_ is None:
                continue
            transition = self.transitions.execute(snapshot, command_)
            if transition.changed or transition.broken:
                done = history
                if not operator.repeated:
                    done = replace(history, done=tuple(sorted((*history.done, operator.name))))
                yield (
                    ("user", operator.name, transition),
                    self.next(snapshot, transition, workers, done),
                )
        transition = self.transitions.execute(snapshot, c.Sweep(S))
        if transition.changed or transition.broken:
            yield (
                ("sweeper", "Sweep", transition),
                self.next(snapshot, transition, workers, history),
            )

    def _publish(
        self, snapshot: Snapshot, workers: Numbers, history: History
    ) -> Iterator[tuple[Any, State]]:
        """Yield what publishers can do."""
        steps = publishing_steps(self.transitions, snapshot, history, self.config.publishers)
        for label, transition, done, broken in steps:
            if transition is None or not (transition.changed or transition.broken):
                if done != history or broken:
                    yield label, self.state(snapshot, workers, done, broken)
            else:
                yield label, self.next(snapshot, transition, workers, done, broken)

    def _tick(
        self, snapshot: Snapshot, workers: Numbers, history: History
    ) -> Iterator[tuple[Any, State]]:
        """Yield what the clock can do."""
        found = snapshot.known.get("ticks")
        if found is None:
            found = snapshot.known["ticks"] = [
                (text, snapshot_of(-1, evolve(snapshot.world, [Update(row) for row in rows])))
                for text, rows in ticks(snapshot, lapse=self.config.lapse, hour=self.config.hour)
            ]
            back = [Update(row) for row in set_back(snapshot)]
            snapshot.known["back"] = snapshot_of(-1, evolve(snapshot.world, back)) if back else None
        for text, after in found:
            yield ("clock", text, None), self.state(after, workers, history)
        if self.config.clock_back and not history.set_back and snapshot.known["back"] is not None:
            once = replace(history, set_back=True)
            back_ = snapshot.known["back"]
            late = any(map(back_.sleeping, back_.unfinished()))
            yield (
                ("clock", "the clock is set back", None),
                self.state(back_, workers, once, (NO_LATE_RETRY,) if late else ()),
            )

    def _work(
        self, snapshot: Snapshot, workers: Numbers, slot: int, worker: Worker, history: History
    ) -> Iterator[tuple[Any, State]]:
        """Yield what a worker can do: crash, run its once step, send or resend a command."""
        if self.config.crash and worker != IDLE_WORKER:
            crashed = put(workers, slot, self.worker(IDLE_WORKER))
            yield (f"w{slot}", "crashes", None), self.state(snapshot, crashed, history)
        if worker.sent:
            yield self._again(snapshot, workers, slot, worker, history)
            return
        if worker.step == MARKED:
            yield self._run(snapshot, workers, slot, worker, history)
        for kind in self.config.moves.get(worker.step, ()):
            if kind != "renew" or not snapshot.live():
                yield from self._send(snapshot, workers, slot, worker, kind, history)

    def _send(
        self,
        snapshot: Snapshot,
        workers: Numbers,
        slot: int,
        worker: Worker,
        kind: str,
        history: History,
    ) -> Iterator[tuple[Any, State]]:
        """Yield the state after a command of a worker: with its answer received, and with its answer lost."""
        sender = worker
        if worker.step == IDLE:
            kind, sender = self._prepare(snapshot, slot, kind)
        transition = self.transitions.execute(snapshot, command(kind, sender, slot))
        answer, label = transition.answer, (f"w{slot}", kind, transition)
        if answer is None:
            yield label, self.next(snapshot, transition, workers, history)
            return
        extra = () if _is_expected(answer) else (ONLY_EXPECTED_REFUSALS,)
        next_worker = worker_after(sender, kind, answer, transition.after)
        if next_worker == worker and not transition.changed and not transition.broken:
            return
        after = put(workers, slot, self.worker(next_worker))
        yield label, self.next(snapshot, transition, after, history, extra)
        exempt = (c.NothingDue, c.GoOn)  # their repetition is a new, monotone step (STORE-2)
        nothing = isinstance(answer, Decided) and isinstance(answer.outcome, exempt)
        if self.config.lose and transition.changed and kind != "renew" and not nothing:
            waiting = put(workers, slot, self.worker(replace(sender, sent=kind)))
            lost = (f"w{slot}", kind, description(transition) + ", the answer is lost")
            yield lost, self.next(snapshot, transition, waiting, history, extra)

    def _prepare(self, snapshot: Snapshot, slot: int, kind: str) -> tuple[str, Worker]:
        """Name a new lease after its generation and a new run after its inputs.

        So equal states on different paths have equal names.
        """
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
        self, snapshot: Snapshot, workers: Numbers, slot: int, worker: Worker, history: History
    ) -> tuple[Any, State]:
        """Send a command whose answer was lost again."""
        transition = self.transitions.execute(snapshot, command(worker.sent, worker, slot))
        answer = transition.answer
        replayed = (
            self._known(snapshot, worker.sent, worker.run_id, answer) and not transition.changed
        )
        next_worker = IDLE_WORKER
        if answer is not None:
            next_worker = worker_after(worker, worker.sent, answer, transition.after)
        after = put(workers, slot, self.worker(next_worker))
        label = (f"w{slot}", f"{worker.sent}, sent again", transition)
        return label, self.next(
            snapshot, transition, after, history, () if replayed else (REPLAYED_LATER,)
        )

    def _known(self, snapshot: Snapshot, kind: str, run_id: str, answer: Any) -> bool:
        """Return True for a replay.  A Fail or Release is refused as fenced after a later holder has ended the run."""
        if isinstance(answer, Refused) and (kind == "release" or kind in FAILURES):
            last = snapshot.runs[run_id].last_end
            return answer.reason is Refusal.FENCED and last is not None
        return isinstance(answer, Decided) and answer.replayed

    def _run(
        self, snapshot: Snapshot, workers: Numbers, slot: int, worker: Worker, history: History
    ) -> tuple[Any, State]:
        """Run the once step, whose effect must not happen twice."""
        taken_back = dict(history.taken_back)
        broken: tuple[str, ...] = (ONCE,) if worker.run_id in history.ran else ()
        for contributor in snapshot.runs[worker.run_id].contributors:
            state = snapshot.queue_entries[contributor.input_id].state
            how = state.how.value if isinstance(state, input_.Ended) else ""
            if how in ("withdrawn", "superseded") or contributor.input_id in taken_back:
                broken += (NOT_IF_TAKEN_BACK,)
        ran = tuple(sorted({*history.ran, worker.run_id}))
        after = put(workers, slot, self.worker(replace(worker, step=RAN)))
        label = (f"w{slot}", f"runs the once step of {worker.run_id}", None)
        return label, self.state(snapshot, after, replace(history, ran=ran), broken)

    def _stale_commands(
        self, snapshot: Snapshot, workers: Numbers, history: History
    ) -> tuple[str, ...]:
        """Send each executed command again.  Return the violated property if one is not a replay."""
        stale: list[Any] = [self.operators[name].offer(snapshot, set()) for name in history.done]
        stale += [
            c.Admit(S, g) for g in self.config.admits if g[0].input_id in snapshot.queue_entries
        ]
        for slot, at in enumerate(workers):
            worker = self.workers[at]
            if worker.run_id and not worker.sent:
                for name in stale_commands(worker, snapshot):
                    kind, _, n = name.rpartition(" ")
                    stale.append(command(kind, replace(worker, n=int(n)), slot))
        for each in stale:
            if each is not None:
                transition = self.transitions.execute(snapshot, each)
                answer = transition.answer
                if transition.changed or not (isinstance(answer, Decided) and answer.replayed):
                    return (REPLAYED_LATER,)
        return ()


def published(snapshot: Snapshot) -> bool:
    """Return True if all events of the session are published."""
    return snapshot.session.published == snapshot.session.next_event - 1


def _is_expected(answer: Decided[Any] | Refused) -> bool:
    return isinstance(answer, Decided) or answer.reason.value in EXPECTED_REFUSALS


def description(transition: Transition) -> str:
    """Return an answer as a short text."""
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
