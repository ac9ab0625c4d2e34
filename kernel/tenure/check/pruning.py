"""Small systems of one session that is pruned while it is used: days pass, and commands are sent again at any time.

States are worlds, without the canonical form of the session model, which drops events and ended runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from typing import Any, Final

from attrs import define, field, frozen

from .. import commands as c
from ..commands import NewEntry, NewInput
from ..commands.validation import texts_of
from ..failure import ErrorKind, Failure
from ..limits import COMMANDS_FOR_MS_MIN
from ..machines import lease as lease_
from ..outcome import Decided, Refusal, Refused
from ..questions.retention import PrunePass
from ..records import EntryKind, Session
from ..replace import replace
from ..retention import KEYS_FOR_MS, Keep, PruneKind, Retention
from ..transcript import NewNode, Role
from ..world import EMPTY, World, ask, evolve
from .invariants import PROPERTIES
from .session.pieces import clauses
from .session.pruning_properties import PRUNING_PROPERTIES
from .session.snapshot import S, snapshot_of
from .session.step import Step
from .trace import Line

__all__ = [
    "NOT_AGAIN",
    "STILL_KNOWN",
    "SYSTEMS",
    "TEXTS_GONE",
    "PruneModel",
    "PruneState",
    "PruneSystem",
]


NOT_AGAIN: Final = "a pruned command is not carried out again"
STILL_KNOWN: Final = "a command of the last two days is still known"
TEXTS_GONE: Final = "no text of an erased session is left"
PASSES: Final = "a pass of Prune ends"
REFUSES: Final = "a repetition is refused as pruned"
OBEYED: Final = "no step of a pass is refused"

BEGINS_MS: Final = 1_000_000_000_000
LEAPS_MS: Final = (0, COMMANDS_FOR_MS_MIN + 1_000, KEYS_FOR_MS + 1_000)  # after the beginning
EACH: Final = Keep(COMMANDS_FOR_MS_MIN)
POLICY: Final = Retention(
    Keep(0), EACH, COMMANDS_FOR_MS_MIN, EACH, COMMANDS_FOR_MS_MIN, frames=EACH,
    hidden_for_ms=COMMANDS_FOR_MS_MIN,
)  # fmt: skip
SECRET: Final = "secret"


def _id(number: int) -> str:
    """Return an id that was made at the beginning."""
    digits = f"{BEGINS_MS:012x}"
    return f"{digits[:8]}-{digits[8:]}-7000-8000-{number:012x}"


RUN: Final = _id(1)
LEASE: Final = _id(2)
FENCE: Final = lease_.Fence(S, 1, LEASE)
ADMIT: Final = c.Admit(S, (NewInput(_id(3), "prompt", SECRET, origin=SECRET),))
MINE: Final = c.Admit(S, (NewInput("mine", "prompt", SECRET),))
KEYED: Final = c.Admit(S, (NewInput("by-hand", "wake", SECRET, key="order", origin=SECRET),))
BEGIN: Final = c.Begin(S, LEASE, RUN, lease_.Owner("w", "w.1"), ttl_ms=60_000)
RECORD: Final = c.Checkpoint(S, FENCE, RUN, 1, 0, (NewEntry(EntryKind.REPORT, "e", SECRET),))
COMMIT: Final = c.Commit(S, FENCE, RUN, 1, 1, 0, nodes=(NewNode(Role.ASSISTANT, SECRET),))
COMMIT_AT_ONCE: Final = replace(COMMIT, n=0)
FAIL: Final = c.Fail(S, FENCE, RUN, 1, Failure(ErrorKind.INVALID_REQUEST, SECRET))
INTERRUPT: Final = c.Interrupt(S, _id(4))
WITHDRAW: Final = c.WithdrawFrom(S, _id(5), _id(3))
WITHDRAW_KEYED: Final = c.Withdraw(S, "by-hand-too", "by-hand")
ACQUIRE: Final = c.Acquire(S, _id(6), lease_.Owner("w", "w.1"), ttl_ms=86_400_000)
DESTROY: Final = c.Destroy(S, "destroy", erase_payloads=True)
EDITOR: Final = c.Acquire(S, LEASE, lease_.Owner("w", "w.1"), ttl_ms=86_400_000)
PLAN: Final = c.NewState("plan", "a")


def _amend(number: int, frame_id: str, *states: c.NewState) -> c.Amend:
    switch = c.Switch(frame_id)
    return c.Amend(S, f"amend-{number}", FENCE, number, switch=switch, states=states)


ASIDE: Final = (
    _amend(0, "f", PLAN),
    _amend(1, "g", c.NewState("tasks", "b"), c.NewState("same", "a")),
    _amend(2, "", c.NewState("plan", "c")),
)
SAID: Final = (NewNode(Role.ASSISTANT, "one"), NewNode(Role.ASSISTANT, "two"))
SAY: Final = c.Amend(S, "say", FENCE, 0, SAID)
HIDE: Final = c.Amend(S, "hide", FENCE, 1, hide=("say/0",))
SHOW: Final = c.Amend(S, "show", FENCE, 2, show=("say/0",), hide=("say/1",))
BACK_IN_F: Final = _amend(3, "f")


@frozen
class PruneSystem:
    """What may happen.  `commands` are executed in this order at any time, and then sent again at any time.

    `any_time`: the last one may be executed before the others.  `rests`: time passes only after all of them.  `leaps`: how often days pass.  `refuses`: some
    repetition is refused with `pruned`.  `expects`: clauses that must fire.  `late`: a step of Prune is sent after others of it, or never.
    """

    name: str
    description: str
    commands: tuple[Any, ...]
    published: bool = False  # somebody publishes the events
    sweeps: bool = False
    leaps: int = 1
    late: bool = False
    any_time: bool = False
    rests: bool = False
    refuses: bool = True
    expects: tuple[str, ...] = ()


SYSTEMS: Final = (
    PruneSystem(
        "prune",
        "a run is pruned: journal, stamp, command rows, events behind a publisher; every command is sent again",
        (ADMIT, BEGIN, RECORD, COMMIT, INTERRUPT),
        published=True,
        expects=clauses("RETENTION-3,4,10,12"),
    ),
    PruneSystem(
        "prune-late",
        "a run is pruned in steps that are out of date, or never sent",
        (ADMIT, BEGIN, COMMIT_AT_ONCE),
        late=True,
    ),
    PruneSystem(
        "prune-inputs",
        "inputs that were withdrawn are pruned, one with a key and an id without a time; a lease is held meanwhile",
        (ADMIT, MINE, WITHDRAW, KEYED, WITHDRAW_KEYED, ACQUIRE),
        leaps=2,
        rests=True,
        expects=clauses("RETENTION-6"),
    ),
    PruneSystem(
        "destroyed",
        "a session is destroyed at any time, and its rows are removed",
        (ADMIT, BEGIN, replace(DESTROY, erase_payloads=False)),
        sweeps=True,
        any_time=True,
        refuses=False,
    ),
    PruneSystem(
        "erase",
        "a session is destroyed at any time, its texts are erased, and then its rows are removed",
        (ADMIT, BEGIN, RECORD, FAIL, DESTROY),
        sweeps=True,
        expects=clauses("RETENTION-11"),
    ),
    PruneSystem(
        "prune-frames",
        "frames that were left are pruned, while the session goes on in others and back; they share states",
        (EDITOR, *ASIDE, BACK_IN_F, _amend(4, "g", PLAN)),
        refuses=False,
        expects=clauses("FRAME-12 RETENTION-14"),
    ),
    PruneSystem(
        "prune-hidden",
        "nodes are hidden and shown again, and the bodies of those that stay hidden are pruned",
        (EDITOR, SAY, HIDE, SHOW),
        leaps=2,
        refuses=False,
        expects=clauses("RETENTION-15 TRANSCRIPT-46"),
    ),
)


@frozen
class PruneState:
    """The rows, how much time has passed, the executed commands with their times, and the pass of who prunes.

    `step`: a step of Prune that was made and not sent.  `ended`: the last pass has ended and nothing was done since.
    """

    world: World
    leap: int = 0
    done: tuple[tuple[int, int], ...] = ()
    without: tuple[PruneKind, ...] | None = None
    step: Any = None
    ended: bool = False
    broken: tuple[str, ...] = ()

    @property
    def now_ms(self) -> int:
        """The time of the store."""
        return BEGINS_MS + LEAPS_MS[self.leap]


@define(eq=False)
class PruneModel:
    """The model of a pruned session for the explorer.  `clauses` counts how often each was the answer."""

    system: PruneSystem
    clauses: Counter[str] = field(factory=Counter)
    always: tuple[str, ...] = (
        *(NOT_AGAIN, STILL_KNOWN, TEXTS_GONE, OBEYED),
        *PRUNING_PROPERTIES,
        *PROPERTIES,
    )

    @property
    def name(self) -> str:
        """The name of the system."""
        return self.system.name

    @property
    def sometimes(self) -> tuple[str, ...]:
        """The properties that must hold in some state."""
        fires = [f"{clause} fires" for clause in self.system.expects]
        return (PASSES, *((REFUSES,) * self.system.refuses), *fires)

    def initial(self) -> Iterable[PruneState]:
        """Yield an open session."""
        state = PruneState(EMPTY)
        for command in (c.Open(S), *((c.Publish(S, 0),) * self.system.published)):
            answer = self._decide(state, command)
            assert isinstance(answer, Decided)
            state = replace(state, world=evolve(state.world, answer.writes))
        yield state

    def canonical(self, state: PruneState) -> PruneState:
        """Return the state: names do not differ."""
        return state

    def describe(self, label: Any) -> Line:
        """Return the line of a trace for an action."""
        return Line(*label)

    def actions(self, state: PruneState) -> Iterator[tuple[Any, PruneState]]:
        """Yield every action that is possible in a state."""
        known, commands = {at for at, _ in state.done}, self.system.commands
        left = [at for at in range(len(commands)) if at not in known]
        for at in dict.fromkeys((*left[:1], *(left[-1:] if self.system.any_time else ()))):
            yield from self._execute(state, commands[at], at)
        if self.system.published and not left:
            last = _session(state).next_event - 1
            yield from self._execute(state, c.Publish(S, last))
        if self.system.sweeps:
            yield from self._execute(state, c.Sweep(S))
        if state.leap < self.system.leaps and not (left and self.system.rests):
            yield ("clock", "days pass"), replace(state, leap=state.leap + 1, ended=False)
        yield from self._prune(state)

    def _execute(
        self, state: PruneState, command: Any, at: int | None = None
    ) -> Iterator[tuple[Any, PruneState]]:
        answer = self._decide(state, command)
        if not isinstance(answer, Decided) or not answer.writes:
            return
        done = state.done if at is None else tuple(sorted((*state.done, (at, state.leap))))
        world = evolve(state.world, answer.writes)
        broken = _violated(state, world, command, answer)
        after = replace(state, world=world, done=done, ended=False, broken=broken)
        yield (("user", command.__class__.__name__, answer.clause, "session"), after)

    def _prune(self, state: PruneState) -> Iterator[tuple[Any, PruneState]]:
        """Make the next step of a pass and send it, at once or later; or crash in between."""
        if state.step is not None:
            yield ("pruner", "crashes"), replace(state, step=None, without=None)
            yield self._send(state, state.step)
            return
        if state.ended:
            return
        found = PrunePass(S, POLICY, state.without or ())
        step = ask(found.question(state.now_ms), state.world.answer)
        if step is None:
            yield ("pruner", "ends its pass"), replace(state, without=None, ended=True)
        elif self.system.late:
            made = replace(state, step=step, without=state.without or ())
            yield ("pruner", f"makes {_named(step)}"), made
        else:
            yield self._send(state, step)

    def _send(self, state: PruneState, step: Any) -> tuple[Any, PruneState]:
        answer = self._decide(state, step)
        if isinstance(answer, Refused):
            return ("pruner", "is refused"), replace(state, step=None, broken=(OBEYED,))
        after = evolve(state.world, answer.writes)
        broken = _violated(state, after, step, answer)
        following = PrunePass(S, POLICY, state.without or ()).after(answer.outcome)
        return (
            ("pruner", f"sends {_named(step)}", str(answer.outcome), "session"),
            replace(state, world=after, step=None, without=following.without, broken=broken),
        )

    def _decide(self, state: PruneState, command: Any) -> Decided[Any] | Refused:
        view = state.world.load(command.reads())
        found: Decided[Any] | Refused = command.decide(view, state.now_ms)
        self.clauses[found.clause] += 1
        return found

    def broken(self, state: PruneState) -> Collection[str]:
        """Return the properties that a state violates."""
        found = [*state.broken]
        for at, leap in state.done:
            command = self.system.commands[at]
            answer = self._decide(state, command)
            if isinstance(answer, Decided) and answer.writes:
                found.append(NOT_AGAIN)
            recent = LEAPS_MS[state.leap] - LEAPS_MS[leap] < COMMANDS_FOR_MS_MIN
            if recent and _is_pruned(answer) and command is not RECORD:  # journals go at once
                found.append(STILL_KNOWN)
        if _session(state).erased and SECRET in " ".join(map(_texts, state.world)):
            found.append(TEXTS_GONE)
        snapshot = snapshot_of(-1, state.world, state.now_ms)
        return [*found, *(name for name, holds in PROPERTIES.items() if not holds(snapshot))]

    def seen(self, state: PruneState) -> Collection[str]:
        """Return the names in `sometimes` that hold in a state."""
        answers = [self._decide(state, self.system.commands[at]) for at, _ in state.done]
        refused = [REFUSES] if any(map(_is_pruned, answers)) else []
        fires = [f"{clause} fires" for clause in self.system.expects if self.clauses[clause]]
        return [*refused, *fires, *([PASSES] if state.ended and state.leap else [])]

    def finished(self, state: PruneState) -> bool:
        """Return True if the last pass has ended, and no more time passes."""
        return state.ended and state.leap == self.system.leaps


def _violated(
    state: PruneState, after: World, command: Any, answer: Decided[Any]
) -> tuple[str, ...]:
    if not answer.writes:
        return ()
    before = snapshot_of(-1, state.world, state.now_ms)
    step = Step(before, snapshot_of(-1, after, state.now_ms), command, answer)
    return tuple(name for name, holds in PRUNING_PROPERTIES.items() if not holds(step))


def _session(state: PruneState) -> Session:
    (session,) = state.world.all(Session)
    return session


def _is_pruned(answer: object) -> bool:
    return isinstance(answer, Refused) and answer.reason is Refusal.PRUNED


def _named(step: Any) -> str:
    kind, name = getattr(step, "kind", None), str(step.__class__.__name__)
    return name if kind is None else f"{name} {kind.value}"


def _texts(record: object) -> str:
    return " ".join(texts_of(record))
