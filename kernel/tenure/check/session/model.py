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
from .decision_properties import OF_DECISIONS
from .operators import Operator
from .snapshot import Board, S, board_of
from .state_properties import OF_STATES
from .states import DOOMED, Memory, Numbering, Numbers, State, put
from .transitions import OF_DEEDS, Deed
from .workers import FAILURES, HOME, IDLE, MARKED, RAN, Worker, command, past, understood

ONCE: Final = "a once step runs at most once"
TAKEN_BACK: Final = "no once step runs for an input that was withdrawn or superseded"
LATER_AGAIN: Final = "a command that was carried out is a replay at any later point"
HONEST: Final = "a worker that keeps to the rules is refused only as fenced or cancelled"
OF_PATHS: Final = (ONCE, TAKEN_BACK, DOOMED, LATER_AGAIN, HONEST)
FAIR: Final = frozenset(
    ("fenced", "cancelled", "held", "run_active", "phase", "open_turn", "stamp_conflict")
)


@define(eq=False)
class SessionWorld(Numbering):
    """A model for the explorer: what can happen to a session within a setting."""

    always: tuple[str, ...] = (*OF_DECISIONS, *OF_STATES, *OF_DEEDS, *OF_PATHS)
    operators: dict[str, Operator] = field(factory=dict)
    fired: int = 0

    def __attrs_post_init__(self) -> None:
        self.operators = {o.name: o for o in self.setting.operators}

    @property
    def name(self) -> str:
        return self.setting.name

    @property
    def sometimes(self) -> tuple[str, ...]:
        fires = [f"{clause} fires" for clause in self.setting.expects]
        return (*fires, *(f"an input is {how}" for how in self.setting.ends))

    # -- the model

    def initial(self) -> Iterable[State]:
        home = self.worker(HOME)
        opened = self.docket.opened()
        yield self.state(opened, (home,) * self.setting.workers, Memory())

    def actions(self, state: State) -> Iterator[tuple[Any, State]]:
        number, workers, memory, _ = state
        board, memory_ = self.docket.boards[number], self.memories[memory]
        yield from self._operate(board, workers, memory_)
        yield from self._tick(board, workers, memory_)
        for slot, at in enumerate(workers):
            yield from self._work(board, workers, slot, self.workers[at], memory_)

    def broken(self, state: State) -> Collection[str]:
        number, workers, memory, broken = state
        board = self.docket.boards[number]
        broken += self.docket.of_board(board, probes=self.setting.probes)
        return broken or self._of_the_past(board, workers, self.memories[memory])

    def seen(self, state: State) -> Collection[str]:
        places = self.docket.boards[state[0]].places.values()
        ends = [f"an input is {p.state.how}" for p in places if isinstance(p.state, input_.Ended)]
        if self.fired == len(self.docket.clauses):
            return ends
        self.fired = len(self.docket.clauses)
        return [*ends, *(f"{clause} fires" for clause in self.docket.clauses)]

    def finished(self, state: State) -> bool:
        board = self.docket.boards[state[0]]
        session = board.session
        if session.phase.value == "stopped" and "reopen" not in self.operators:
            return True
        return (
            (session.phase.value != "open" or len(board.places) >= self._inputs())
            and all(isinstance(p.state, input_.Ended) for p in board.places.values())
            and not session.sweep
            and not board.unfinished()
            and isinstance(session.lease, lease_.Vacant)
        )

    def _inputs(self) -> int:
        return sum(map(len, self.setting.admits))

    def describe(self, label: Any) -> Line:
        who, what, deed = label
        if deed is None:
            return Line(who, what)
        said = deed if isinstance(deed, str) else told(deed)
        return Line(who, what, said, "session")

    # -- what happens

    def _operate(
        self, board: Board, workers: Numbers, memory: Memory
    ) -> Iterator[tuple[Any, State]]:
        for group in self.setting.admits:
            if group[0].input_id not in board.places:
                deed = self.docket.execute(board, c.Admit(S, group))
                if deed.changed or deed.broken:
                    label = ("user", "Admit " + ", ".join(i.input_id for i in group), deed)
                    yield label, self.next(board, deed, workers, memory)
        holders = {self.workers[w].generation for w in workers}
        for operator in self.setting.operators:
            if operator.name in memory.done:
                continue
            asked = operator.offer(board, holders)
            if asked is None:
                continue
            deed = self.docket.execute(board, asked)
            if deed.changed or deed.broken:
                done = memory
                if not operator.repeated:
                    done = replace(memory, done=tuple(sorted((*memory.done, operator.name))))
                yield ("user", operator.name, deed), self.next(board, deed, workers, done)
        deed = self.docket.execute(board, c.Sweep(S))
        if deed.changed or deed.broken:
            yield ("sweeper", "Sweep", deed), self.next(board, deed, workers, memory)

    def _tick(self, board: Board, workers: Numbers, memory: Memory) -> Iterator[tuple[Any, State]]:
        found = board.known.get("ticks")
        if found is None:
            found = board.known["ticks"] = [
                (said, board_of(-1, evolve(board.world, [Update(row)])))
                for said, row in ticks(board, lapse=self.setting.lapse, hour=self.setting.hour)
            ]
            back = [Update(row) for row in set_back(board)]
            board.known["back"] = board_of(-1, evolve(board.world, back)) if back else None
        for said, after in found:
            yield ("clock", said, None), self.state(after, workers, memory)
        if self.setting.clock_back and not memory.set_back and board.known["back"] is not None:
            once = replace(memory, set_back=True)
            yield ("clock", "is set back", None), self.state(board.known["back"], workers, once)

    def _work(
        self, board: Board, workers: Numbers, slot: int, worker: Worker, memory: Memory
    ) -> Iterator[tuple[Any, State]]:
        if self.setting.crash and worker != HOME:
            home = put(workers, slot, self.worker(HOME))
            yield (f"w{slot}", "crashes", None), self.state(board, home, memory)
        if worker.sent:
            yield self._again(board, workers, slot, worker, memory)
            return
        if worker.step == MARKED:
            yield self._run(board, workers, slot, worker, memory)
        for kind in self.setting.moves.get(worker.step, ()):
            if kind != "renew" or not board.live():
                yield from self._send(board, workers, slot, worker, kind, memory)

    def _send(
        self,
        board: Board,
        workers: Numbers,
        slot: int,
        worker: Worker,
        kind: str,
        memory: Memory,
    ) -> Iterator[tuple[Any, State]]:
        sender = worker
        if worker.step == IDLE:
            kind, sender = self._prepare(board, slot, kind)
        deed = self.docket.execute(board, command(kind, sender, slot))
        answer, label = deed.answer, (f"w{slot}", kind, deed)
        if answer is None:
            yield label, self.next(board, deed, workers, memory)
            return
        extra = () if _fair(answer) else (HONEST,)
        knows = understood(sender, kind, answer, deed.after)
        if knows == worker and not deed.changed:
            return
        after = put(workers, slot, self.worker(knows))
        yield label, self.next(board, deed, after, memory, extra)
        nothing = isinstance(answer, Decided) and isinstance(answer.outcome, c.NothingDue)
        if self.setting.lose and deed.changed and kind != "renew" and not nothing:
            waits = put(workers, slot, self.worker(replace(sender, sent=kind)))
            lost = (f"w{slot}", kind, told(deed) + ", answer lost")
            yield lost, self.next(board, deed, waits, memory, extra)

    def _prepare(self, board: Board, slot: int, kind: str) -> tuple[str, Worker]:
        """A new lease id, named after its generation, and a run id, named after its inputs: the same on every way here."""
        sender = Worker(IDLE, board.session.lease.generation + 1)
        if kind != "begin":
            return kind, sender
        trial = self.docket.execute(board, command("begin again", sender, slot)).answer
        if isinstance(trial, Decided) and isinstance(trial.outcome, c.Begun):
            if trial.outcome.run_id == "r.new":
                run_id = "r." + ".".join(trial.outcome.inputs)
                return "begin", replace(sender, run_id=run_id)
            return "begin again", replace(sender, run_id=trial.outcome.run_id)
        return "begin again", sender

    def _again(
        self, board: Board, workers: Numbers, slot: int, worker: Worker, memory: Memory
    ) -> tuple[Any, State]:
        """The answer was lost: the same command once more, whenever that is."""
        deed = self.docket.execute(board, command(worker.sent, worker, slot))
        answer = deed.answer
        replayed = self._known(board, worker.sent, worker.run_id, answer) and not deed.changed
        knows = HOME if answer is None else understood(worker, worker.sent, answer, deed.after)
        after = put(workers, slot, self.worker(knows))
        label = (f"w{slot}", f"{worker.sent}, sent again", deed)
        return label, self.next(board, deed, after, memory, () if replayed else (LATER_AGAIN,))

    def _known(self, board: Board, kind: str, run_id: str, answer: Any) -> bool:
        """A Fail or Release is known until another holder of the run says the same; then it is told that it is fenced."""
        if isinstance(answer, Refused) and (kind == "release" or kind in FAILURES):
            last = board.runs[run_id].last_end
            return answer.reason is Refusal.FENCED and last is not None
        return isinstance(answer, Decided) and answer.replayed

    def _run(
        self, board: Board, workers: Numbers, slot: int, worker: Worker, memory: Memory
    ) -> tuple[Any, State]:
        """The once step itself: the effect that must not happen twice."""
        doomed = dict(memory.doomed)
        broken: tuple[str, ...] = (ONCE,) if worker.run_id in memory.ran else ()
        for contributor in board.runs[worker.run_id].contributors:
            state = board.places[contributor.input_id].state
            how = state.how.value if isinstance(state, input_.Ended) else ""
            if how in ("withdrawn", "superseded") or contributor.input_id in doomed:
                broken += (TAKEN_BACK,)
        ran = tuple(sorted({*memory.ran, worker.run_id}))
        after = put(workers, slot, self.worker(replace(worker, step=RAN)))
        label = (f"w{slot}", f"runs the once step of {worker.run_id}", None)
        return label, self.state(board, after, replace(memory, ran=ran), broken)

    def _of_the_past(self, board: Board, workers: Numbers, memory: Memory) -> tuple[str, ...]:
        """Whatever was carried out may arrive once more: it must find that it has been here."""
        asked: list[Any] = [self.operators[name].offer(board, set()) for name in memory.done]
        asked += [c.Admit(S, g) for g in self.setting.admits if g[0].input_id in board.places]
        for slot, at in enumerate(workers):
            worker = self.workers[at]
            if worker.run_id and not worker.sent:
                for name in past(worker, board):
                    kind, _, n = name.rpartition(" ")
                    asked.append(command(kind, replace(worker, n=int(n)), slot))
        for late in asked:
            if late is not None:
                deed = self.docket.execute(board, late)
                answer = deed.answer
                if deed.changed or not (isinstance(answer, Decided) and answer.replayed):
                    return (LATER_AGAIN,)
        return ()


def _fair(answer: Decided[Any] | Refused) -> bool:
    return isinstance(answer, Decided) or answer.reason.value in FAIR


def told(deed: Deed) -> str:
    """An answer in a few words."""
    answer = deed.answer
    if answer is None:
        return f"AssertionError: {deed.said}"
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
