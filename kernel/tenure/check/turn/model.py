"""The explored model of one turn: the turn machine over real commands and records, with a crash at every point.

The language model is a pure function of its request.  Tools: once tools, and a rerunnable one that fails at first.
Signals: a cancel, a deadline, a changed system prompt.  After every crash a worker resumes under a new lease.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any, Final, TypeAlias

from attrs import define, field

from ... import commands as c
from ...failure import ErrorKind, Failure
from ...machines import lease as lease_
from ...machines import run as run_
from ...machines import ticket as ticket_
from ...messages.types import Disposition, Finish, Message, Reply, ToolCall
from ...outcome import Decided, Refusal, Refused
from ...policy import IfOver
from ...questions.core import LoadInputs
from ...questions.tickets import LoadTickets
from ...records import Input, Ticket
from ...release import RELEASE, decide_at
from ...replace import replace
from ...transcript import Role, UsageDelta
from ...turn import machine as turn_
from ...turn import protocol
from ...turn.loading import LoadedTurn, LoadTurn
from ...turn_end import TurnEnd
from ...world import EMPTY, ask, evolve
from ..trace import Line
from .properties import ALWAYS, SOMETIMES, broken, seen
from .settings import CONFIGS, ModelConfig
from .state import S, State

__all__ = ["CONFIGS", "ModelConfig", "State", "TurnModel"]

TTL_MS: Final = 30_000
WAIT_MS: Final = 60_000
ONE: Final = UsageDelta("turn", "m", 1, 10, 1)
CALLS: Final[dict[str, ToolCall]] = {
    "pay": ToolCall("c-pay", "pay", "{}"),
    "send": ToolCall("c-send", "send", "{}"),
    "look": ToolCall("c-look", "look", "{}"),
    "find": ToolCall("c-find", "find", "{}"),
    "sing": ToolCall("c-sing", "sing", "{}"),
}


Step: TypeAlias = tuple[Line, State]


@define(eq=False)
class TurnModel:
    """A model for the explorer.  `fired` collects the clauses that occurred."""

    config: ModelConfig
    always: tuple[str, ...] = ALWAYS
    fired: set[str] = field(factory=set)

    @property
    def name(self) -> str:
        """The name of the model, as `tenure check --list` prints it."""
        return f"turn-{self.config.name}"

    @property
    def sometimes(self) -> tuple[str, ...]:
        """The properties that must hold in some state of this configuration."""
        return tuple(name for name, (when, _) in SOMETIMES.items() if when(self.config))

    # -- the model of the explorer

    def initial(self) -> Iterable[State]:
        """Yield the initial state: one prompt is admitted."""
        admit = c.Admit(S, (c.NewInput("i", "prompt", "go"),))
        answer = decide_at(RELEASE, admit, EMPTY.load(admit.reads()), 0)
        assert isinstance(answer, Decided)
        yield State(evolve(EMPTY, answer.writes))

    def canonical(self, state: State) -> State:
        """Return the state: no two different ones are treated as equal."""
        return state

    def describe(self, label: Line) -> Line:
        """Return the line of a trace."""
        return label

    def finished(self, state: State) -> bool:
        """Return True if nothing more can happen."""
        return state.done

    def broken(self, state: State) -> Collection[str]:
        """Return the broken properties."""
        return broken(self.config, state)

    def seen(self, state: State) -> Collection[str]:
        """Return the `sometimes` properties that hold."""
        return seen(state)

    def actions(self, state: State) -> Iterator[Step]:
        """Yield every transition from a state."""
        if state.done:
            return
        if state.begun is None:
            yield from self.take(state)
        else:
            yield from self.work(state)
        yield from self.decide(state)
        if self.config.cancel and not state.cancelled and (state.begun is not None or state.waits):
            after, answer = self.execute(state, c.RequestCancel(S, "cancel", "r"))
            assert isinstance(answer, Decided), answer
            yield Line("user", "cancel", to="store"), replace(after, cancelled=True)
        known = state.world.tables[Input].by_key
        for kind in self.config.steers if state.begun is not None else ():
            if (S, kind) not in known:
                new = c.NewInput(kind, kind, f"steer: {kind}", if_over=IfOver.ABANDON)
                after, answer = self.execute(state, c.Admit(S, (new,)))
                assert isinstance(answer, Decided), answer
                yield Line("user", f"admit {kind}", to="store"), after
        if self.config.change and state.version == 1:
            yield Line("operator", "change the prompt"), replace(state, version=2)

    def decide(self, state: State) -> Iterator[Step]:
        """A person settles an open ticket, or the user says something else."""
        for ticket in state.world.tables[Ticket].by_key.values() if state.asked else ():
            assert isinstance(ticket, Ticket)
            for action in self.config.decides if isinstance(ticket.state, ticket_.Open) else ():
                command = c.Decide(S, ticket.ticket_id, f"d-{ticket.ticket_id}", action, "{}")
                after, answer = self.execute(state, command)
                assert isinstance(answer, Decided), answer
                yield Line("person", f"{action.value} {ticket.ticket_id}", to="store"), after
        if (
            self.config.prompts
            and state.waits
            and (S, "i2") not in state.world.tables[Input].by_key
        ):
            after, answer = self.execute(state, c.Admit(S, (c.NewInput("i2", "prompt", "no"),)))
            assert isinstance(answer, Decided), answer
            yield Line("user", "admit i2", to="store"), after

    # -- the store

    def execute(
        self, state: State, command: Any, sooner_ms: int = 0
    ) -> tuple[State, Decided[Any] | Refused]:
        """Execute a command at the time of the current life, or `sooner_ms` (negative: before it)."""
        now_ms = state.lives * 1_000_000 + sooner_ms
        answer = decide_at(RELEASE, command, state.world.load(command.reads()), now_ms)
        self.fired.add(answer.clause)
        if isinstance(answer, Refused):
            return state, answer
        self.fired.update(answer.via)
        return replace(state, world=evolve(state.world, answer.writes)), answer

    # -- a life: from Begin to a crash or the end

    def take(self, state: State) -> Iterator[Step]:
        """A worker begins or resumes the run, unless it waits."""
        if state.waits and (S, "i2") not in state.world.tables[Input].by_key:
            return
        alive = replace(state, lives=state.lives + 1)
        owner = lease_.Owner("w", f"w{alive.lives}")
        # a Sweep ends the lapsed lease; the run waits for its retry
        alive, _ = self.execute(alive, c.Sweep(S), -WAIT_MS)
        if alive.done:  # the run was cancelled before it had progress
            yield Line("worker", "sweep", to="store"), alive
            return
        fresh = "r" if alive.lives == 1 else f"r{alive.lives}"
        after, answer = self.execute(alive, c.Begin(S, f"L{alive.lives}", fresh, owner, TTL_MS))
        assert isinstance(answer, Decided) and isinstance(answer.outcome, c.Begun), answer
        if after.done:  # the prompt has ended the wait, and is answered by another run (WAIT-16)
            yield Line("worker", "begin i2", to="store"), after
            return
        begun = answer.outcome
        after = replace(after, begun=begun, n=begun.n)
        if begun.cancel is not None:  # the runner closes the run without a turn (RUNNER-21)
            line = Line("worker", "begin, close", to="store")
            yield line, self.commit(after, TurnEnd(run_.Termination.CANCELLED))[0]
            return
        loaded = ask(LoadTurn(S, "r"), after.world.answer)
        assert isinstance(loaded, LoadedTurn)
        preparing = turn_.prepare(loaded, self.config.limits)
        yield Line("worker", "begin", to="store"), self.feed(after, preparing, protocol.Begin())

    def feed(self, state: State, machine: turn_.State, event: protocol.Event) -> State:
        """Return the state after the machine has handled an event."""
        outcome = turn_.step(machine, event)
        self.fired.add(outcome.clause)
        if isinstance(outcome, Refused):
            late = getattr(event, "key", "") in state.aborted
            return state if late else replace(state, fault=f"{outcome} for {event}")
        in_progress = list(state.in_progress)
        for effect in outcome.effects:
            if isinstance(effect, protocol.Abort):  # aborted effects may still report
                state = replace(state, aborted=tuple(sorted({*state.aborted, *effect.keys})))
            elif not isinstance(effect, protocol.SetDeadline):
                in_progress.append(effect)
        order = sorted(in_progress, key=repr)
        return replace(state, machine=outcome.state, in_progress=tuple(order))

    def crash(self, state: State) -> State:
        """Return the state after the worker has crashed: everything in memory is lost."""
        return replace(
            state, machine=None, in_progress=(), begun=None, n=0, notified=False,
            crashes=state.crashes + 1, late=False, aborted=(),
        )  # fmt: skip

    # -- carrying effects out

    def work(self, state: State) -> Iterator[Step]:
        """A worker carries out one effect, crashes, or receives a signal."""
        machine = state.machine
        assert machine is not None
        crashing = state.crashes < self.config.crashes
        for effect in state.in_progress:
            rest = replace(state, in_progress=tuple(e for e in state.in_progress if e != effect))
            for text, after, events in self.carry_out(rest, effect):
                name = f"{effect.__class__.__name__}: {text}"
                if after.done or after.begun is None:
                    yield Line("worker", name, to="store"), after
                    continue
                for event in events:
                    yield Line("worker", name), self.feed(after, machine, event)
        if crashing:
            yield Line("worker", "crash"), self.crash(state)
        if state.cancelled and not state.notified:
            notified = replace(state, notified=True)
            yield (
                Line("worker", "receives the cancel"),
                self.feed(notified, machine, protocol.CancelSeen()),
            )
        if self.config.deadline and not state.late:
            late = replace(state, late=True)
            yield (
                Line("worker", "passes the deadline"),
                self.feed(late, machine, protocol.DeadlinePassed()),
            )

    def carry_out(
        self, state: State, effect: protocol.Effect
    ) -> Iterator[tuple[str, State, tuple[protocol.Event, ...]]]:
        """Yield each possible result of an effect: a text, the state, and the events that it reports."""
        match effect:
            case protocol.PrepareEnvironment(key):
                prompt = f"version {state.version}"
                environment = protocol.Environment("m", prompt, self.config.tools)
                yield prompt, state, (protocol.EnvironmentReady(key, environment),)
            case protocol.CallModel(key, _, budget) if self.config.overflow and budget is None:
                failure = Failure(ErrorKind.CONTEXT_OVERFLOW)
                yield "overflowed", state, (protocol.ModelFailed(key, failure),)
            case protocol.CallModel(key, request):
                reply = self.reply(request.messages, bool(request.tools))
                yield "replied", state, (protocol.ModelReplied(key, reply),)
                if self.config.outage and not state.down:
                    failure = Failure(ErrorKind.RATE_LIMITED)
                    down = replace(state, down=True)
                    yield "failed", down, (protocol.ModelFailed(key, failure, (ONE,)),)
                if self.config.overflow and not state.down:
                    failure = Failure(ErrorKind.CONTEXT_OVERFLOW)
                    down = replace(state, down=True)
                    yield "overflowed", down, (protocol.ModelFailed(key, failure, (ONE,)),)
            case protocol.CheckApproval() | protocol.Park() | protocol.SettleTicket():
                yield from self.approve(state, effect)
            case protocol.RunTool():
                yield from self.use(state, effect)
            case protocol.Probe(key):
                known = key in state.took
                result = protocol.ToolResult("paid") if known else None
                yield "known" if known else "unknown", state, (protocol.Probed(key, result),)
            case protocol.Sleep(key, attempt):
                yield "ended", state, (protocol.RetryDue(key, attempt),)
            case protocol.WriteRecord():
                yield from self.record(state, effect)
            case TurnEnd():
                after, answer = self.commit(state, effect)
                cancelled = _is(answer, Refusal.CANCELLED)
                events: tuple[protocol.Event, ...] = (protocol.CancelSeen(),) if cancelled else ()
                if _is(answer, Refusal.STEERED):
                    events = (protocol.CommitSteered(),)
                yield "answered", replace(after, notified=after.notified or cancelled), events
            case protocol.Fail(failure, usage):
                begun = state.begun
                assert begun is not None
                command = c.Fail(S, begun.fence, "r", begun.turn, failure, usage)
                after, answer = self.execute(state, command)
                assert isinstance(answer, Decided), answer
                yield "answered", replace(self.crash(after), crashes=state.crashes), ()

    def reply(self, messages: tuple[Message, ...], tools: bool) -> Reply:
        """Return the reply of the language model, a pure function of the messages."""
        replies = sum(m.role is Role.ASSISTANT for m in messages)
        if replies < len(self.config.batches) and tools:
            batch = self.config.batches[replies]
            calls = tuple(
                replace(CALLS[name], call_id=f"{name}{replies}" + "+" * batch[:at].count(name))
                for at, name in enumerate(batch)
            )
            return Reply("", calls, finish=Finish.TOOL_CALLS, usage=(ONE,))
        return Reply(f"answer after {len(messages)}", usage=(ONE,))

    def use(
        self, state: State, effect: protocol.RunTool
    ) -> Iterator[tuple[str, State, tuple[protocol.Event, ...]]]:
        """Run an attempt of a call; a once call takes effect."""
        name, key = effect.tool.name, effect.key
        if effect.tool.disposition is Disposition.ONCE:
            took = replace(state, took=tuple(sorted((*state.took, key))))
            paid = protocol.ToolReported(key, effect.attempt, protocol.ToolResult("paid"))
            yield "paid", took, (paid,)
            return
        failed = protocol.ToolResult("busy", is_error=True, retryable=True)
        result = failed if name == "look" and effect.attempt == 1 else protocol.ToolResult("seen")
        yield result.text, state, (protocol.ToolReported(key, effect.attempt, result),)

    def record(
        self, state: State, effect: protocol.WriteRecord
    ) -> Iterator[tuple[str, State, tuple[protocol.Event, ...]]]:
        """Write a checkpoint; only a cancel may be the reason of a refusal."""
        begun, record = state.begun, effect.record
        assert begun is not None
        command = c.Checkpoint(
            S, begun.fence, "r", begun.turn, state.n, record.entries, record.nodes,
            record.usage, record.environment,
        )  # fmt: skip
        if (take := record.take) is not None:
            command = replace(
                command, take=take.boundary, take_max=take.most, take_id=take.effect_id
            )
        after, answer = self.execute(state, command)
        if isinstance(answer, Refused):
            cancelled = answer.reason is Refusal.CANCELLED
            after = (
                replace(state, notified=True) if cancelled else replace(state, fault=str(answer))
            )
            yield "refused", after, (protocol.NotRecorded(effect.key, answer),)
            return
        written = replace(after, n=answer.outcome.n)
        taken = ask(LoadInputs(S, answer.outcome.inputs), after.world.answer)
        yield "written", written, (protocol.Recorded(effect.key, taken),)

    def approve(
        self, state: State, effect: protocol.CheckApproval | protocol.Park | protocol.SettleTicket
    ) -> Iterator[tuple[str, State, tuple[protocol.Event, ...]]]:
        """Carry out an effect of approvals."""
        match effect:
            case protocol.CheckApproval(key, call):
                ticket_id = "t" + key.split(":", 2)[2].replace(":", "-")
                question = None if call.name == "find" else f"{call.name}?"
                checked = protocol.ApprovalChecked(key, ticket_id, question)
                yield question or "asks nobody", state, (checked,)
            case protocol.Park():
                yield from self.park(state, effect)
            case protocol.SettleTicket(key, ticket_id, settled):
                decide = c.Decide(S, ticket_id, f"d-{ticket_id}", settled.how, settled.body)
                after, _ = self.execute(state, decide)
                yield (
                    "settled",
                    after,
                    (protocol.TicketsSettled(key, self.settled(after, (ticket_id,))),),
                )

    def park(
        self, state: State, effect: protocol.Park
    ) -> Iterator[tuple[str, State, tuple[protocol.Event, ...]]]:
        """Park the run; only a cancel may be the reason of a refusal."""
        begun, wait = state.begun, effect.wait
        assert begun is not None
        record = wait.record
        command = c.Park(
            S, begun.fence, "r", begun.turn, state.n, wait.effect_id, wait.reason, wait.waits_for,
            wait.needs, wait.on_input, record.entries, record.nodes, wait.tickets, record.usage,
            rest=wait.rest,
        )  # fmt: skip
        after, answer = self.execute(state, command)
        if isinstance(answer, Refused):
            cancelled = answer.reason is Refusal.CANCELLED
            after = (
                replace(state, notified=True) if cancelled else replace(state, fault=str(answer))
            )
            yield "refused", after, (protocol.NotRecorded(effect.key, answer),)
        elif isinstance(answer.outcome, c.GoOn):
            found = self.settled(after, wait.waits_for)
            yield (
                "goes on",
                replace(after, went_on=True),
                (protocol.TicketsSettled(effect.key, found),),
            )
        else:
            yield "waits", replace(self.crash(after), crashes=state.crashes), ()

    def settled(
        self, state: State, ticket_ids: tuple[str, ...]
    ) -> tuple[tuple[str, ticket_.Settled], ...]:
        """Return the settlements of these tickets."""
        found = ask(LoadTickets(S, ticket_ids), state.world.answer)
        return tuple(
            [(t.ticket_id, t.state) for t in found if isinstance(t.state, ticket_.Settled)]
        )

    def commit(self, state: State, effect: TurnEnd) -> tuple[State, Decided[Any] | Refused]:
        """Commit the turn; only a cancel or steering may be the reason of a refusal."""
        begun = state.begun
        assert begun is not None
        command = c.Commit(
            S, begun.fence, "r", begun.turn, state.n, begun.revision, effect.termination,
            effect.reason, effect.nodes, effect.usage, yields=effect.yields,
        )  # fmt: skip
        after, answer = self.execute(state, command)
        expected = (Refusal.CANCELLED, Refusal.STEERED)
        if isinstance(answer, Refused) and answer.reason not in expected:
            return replace(state, fault=str(answer)), answer
        return after, answer


def _is(answer: Decided[Any] | Refused, reason: Refusal) -> bool:
    return isinstance(answer, Refused) and answer.reason is reason
