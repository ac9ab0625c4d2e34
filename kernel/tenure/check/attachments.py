"""The model of attachments: a worker and a client that store the same bytes, and two processes that delete bytes.

The bytes are outside the records, so the model has them beside the rows.  All commands are real ones.  A process that
crashes does nothing afterwards, and a claim runs out only after its process has crashed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any, Final, TypeAlias

from attrs import define, field, frozen

from .. import commands as c
from ..attachment_records import Stage
from ..failure import NO_FAILURES, ErrorKind, Failure
from ..limits import INTENT_AGE_MS, SCRAP_CLAIM_MS
from ..machines import input as input_
from ..machines import lease as lease_
from ..machines import run as run_
from ..outcome import Decided, Refused, Update
from ..records import Attachment, EntryKind, Intent, QueueEntry, Run, Scrap, Session
from ..release import RELEASE, decide_at
from ..replace import replace
from ..world import EMPTY, World, evolve, world_of
from .explorer import Model
from .session.attachment_properties import ATTACHMENT_DECISIONS, ATTACHMENT_STATES
from .session.ordering_oracle import due_of
from .session.snapshot import NOW, TTL, S, snapshot_of
from .session.step import Step
from .trace import Line

__all__ = ["ATTACH", "ATTACH_TWO_RUNS", "AttachConfig", "AttachModel"]


DIGEST: Final = "d" * 64
FENCE: Final = lease_.Fence(S, 1, "l")
OWNER: Final = lease_.Owner("w", "w")
FAILED: Final = Failure(ErrorKind.INVALID_REQUEST)
CLIENT: Final = "c.a"
DEAD: Final = "dead"  # the name of a lease or a claim whose process has crashed

HAS_BYTES: Final = "what is attached has its bytes"
FOUND_AGAIN: Final = "bytes that are stored belong to an attachment or to a scrap"
ONLY_EXPECTED: Final = "a correct process is refused only because bytes are being deleted"
DUE: Final = "due_at_ms agrees with the rows, also if intents age"


@frozen
class AttachConfig:
    """What may happen.  `claims`: who deletes bytes claims them first; without it the model is wrong."""

    name: str = "attach"
    description: str = "a worker and a client store the same bytes, somebody forgets them, two processes delete; crashes"
    inputs: tuple[str, ...] = ("p",)
    deleters: int = 2
    claims: bool = True
    sometimes: tuple[str, ...] = (
        "bytes are deleted",
        "an intent is intended again while its bytes are deleted",
        "a scrap is dropped because somebody else holds its bytes",
        "equal bytes are held twice",
    )


ATTACH: Final = AttachConfig()
ATTACH_TWO_RUNS: Final = AttachConfig(
    "attach-two-runs", "likewise, with two runs, and one process that deletes", ("p", "q"), 1
)


@frozen
class Process:
    """A worker, a client or who deletes bytes.  `names`: the run, or the scraps."""

    step: str = "idle"
    names: tuple[str, ...] = ()


IDLE: Final = Process()


@frozen
class State:
    """The rows, whether the bytes are stored, and what the processes know."""

    world: World
    stored: bool = False
    worker: Process = IDLE
    client: Process = IDLE
    deleters: tuple[Process, ...] = ()
    forgotten: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()
    seen: tuple[str, ...] = ()


Next: TypeAlias = Iterator[tuple[Any, State]]


@define(eq=False)
class AttachModel(Model[State]):
    """The model for the explorer."""

    config: AttachConfig = ATTACH
    decisions: int = 0
    clauses: dict[str, int] = field(factory=dict)
    answers: dict[tuple[World, Any], tuple[Any, World, tuple[str, ...]]] = field(factory=dict)
    states: dict[World, tuple[str, ...]] = field(factory=dict)

    @property
    def name(self) -> str:
        """The name of the model, as `tenure check --list` prints it."""
        return self.config.name

    @property
    def always(self) -> tuple[str, ...]:
        """The properties."""
        return (
            *(HAS_BYTES, FOUND_AGAIN, ONLY_EXPECTED, DUE),
            *ATTACHMENT_STATES,
            *ATTACHMENT_DECISIONS,
        )

    @property
    def sometimes(self) -> tuple[str, ...]:
        """What must happen."""
        return self.config.sometimes

    def initial(self) -> Iterable[State]:
        """Yield an open session with its inputs."""
        world = EMPTY
        new = tuple([c.NewInput(name, "prompt", name) for name in self.config.inputs])
        answer = self._decide(world, c.Admit(S, new))
        assert isinstance(answer, Decided)
        yield State(
            canonical(evolve(world, answer.writes)), deleters=(IDLE,) * self.config.deleters
        )

    def actions(self, state: State) -> Next:
        """Yield every action with the state after it."""
        yield from self._work(state)
        yield from self._upload(state)
        for slot, process in enumerate(state.deleters):
            yield from self._delete(state, slot, process)
        for row in attachments(state.world):
            known = row.stage == Stage.ATTACHED and row.attachment_id not in state.forgotten
            if known and state.worker == IDLE:
                forgotten = tuple(sorted((*state.forgotten, row.attachment_id)))
                command = c.Forget(S, (row.attachment_id,))
                yield self._send(replace(state, forgotten=forgotten), "user", command)
        swept = self._send(state, "sweeper", c.Sweep(S))
        if swept[1].world != state.world or swept[1].broken:
            yield swept
        yield from self._tick(state)

    def broken(self, state: State) -> Collection[str]:
        """Return the properties that a state violates."""
        found = list(state.broken)
        rows = attachments(state.world)
        if any(row.stage == Stage.ATTACHED for row in rows) and not state.stored:
            found.append(HAS_BYTES)
        if state.stored and not rows:
            found.append(FOUND_AGAIN)
        known = self.states.get(state.world)
        if known is None:
            b = snapshot_of(-1, state.world)
            known = tuple([name for name, holds in ATTACHMENT_STATES.items() if not holds(b)])
            self.states[state.world] = known
        return [*found, *known]

    def seen(self, state: State) -> Collection[str]:
        """Return what has happened."""
        twice = sum(row.held for row in attachments(state.world)) > 1
        return (*state.seen, *(("equal bytes are held twice",) if twice else ()))

    def finished(self, state: State) -> bool:
        """Return True if all work is done, and nothing is left to be deleted."""
        world = state.world
        ended = all(isinstance(e.state, input_.Ended) for e in world.all(QueueEntry))
        rest = state.worker == IDLE and state.client.step == "done"
        stages = {row.stage for row in attachments(world)}
        return ended and rest and set(state.deleters) == {IDLE} and stages <= {Stage.ATTACHED}

    def describe(self, label: Any) -> Line:
        """Return the line of a trace for an action."""
        return Line(*label)

    # -- processes

    def _work(self, state: State) -> Next:
        """Yield what the worker does: it announces an attachment, stores its bytes, and commits."""
        worker = state.worker
        match worker.step:
            case "idle":
                number = len(list(state.world.all(Run))) + 1
                begin = c.Begin(S, "l", f"r{number}", OWNER, TTL, limit=1)
                yield from self._if_changed(state, self._send(state, "worker", begin))
            case "begun":
                (run_id,) = worker.names
                new = c.NewAttachment(f"{run_id}.a", DIGEST, 1, "image/png")
                yield self._send(state, "worker", c.Intend(S, (new,), FENCE, run_id))
                if state.client.step == "done" and held(state.world, CLIENT) and state.stored:
                    yield self._send(state, "worker", self._commit(state, run_id, CLIENT))
            case "intended":
                after = replace(state, stored=True, worker=replace(worker, step="stored"))
                yield ("worker", "stores the bytes"), after
            case "stored":
                (run_id,) = worker.names
                yield self._send(state, "worker", self._commit(state, run_id, f"{run_id}.a"))
                yield self._send(state, "worker", self._checkpoint(state, run_id))
                yield self._send(state, "worker", c.Fail(S, FENCE, run_id, 1, FAILED))
            case "attached":
                yield self._send(state, "worker", self._commit(state, *worker.names))
        if worker != IDLE:
            session = session_of(state.world)
            if isinstance(session.lease, lease_.Held):
                lease = replace(session.lease, lease_id=DEAD, expires_at_ms=NOW - 1)
                row = Update(replace(session, lease=lease))
                yield (
                    ("worker", "crashes, and its lease lapses"),
                    replace(state, worker=IDLE, world=canonical(evolve(state.world, [row]))),
                )

    def _commit(self, state: State, run_id: str, *attach: str) -> c.Commit:
        run = next(r for r in state.world.all(Run) if r.run_id == run_id)
        revision = session_of(state.world).revision
        return c.Commit(S, FENCE, run_id, 1, run.next_checkpoint, revision, attach=attach)

    def _checkpoint(self, state: State, run_id: str) -> c.Checkpoint:
        run = next(r for r in state.world.all(Run) if r.run_id == run_id)
        entry = c.NewEntry(EntryKind.REPORT, "attach#1")
        n, attach = run.next_checkpoint, (f"{run_id}.a",)
        return c.Checkpoint(S, FENCE, run_id, 1, n, (entry,), attach=attach)

    def _upload(self, state: State) -> Next:
        """Yield what the client does: it announces an attachment, and stores its bytes."""
        match state.client.step:
            case "idle":
                new = c.NewAttachment(CLIENT, DIGEST, 1, "image/png")
                yield self._send(state, "client", c.Intend(S, (new,)))
            case "intended":
                yield (
                    ("client", "stores the bytes"),
                    replace(state, stored=True, client=Process("done")),
                )
                yield ("client", "crashes"), replace(state, client=Process("done"))

    def _delete(self, state: State, slot: int, process: Process) -> Next:
        """Yield what one of those does who delete bytes."""
        who, claim_id = f"deleter {slot}", f"d{slot}"
        scraps = [row for row in attachments(state.world) if not row.held]
        free = tuple([s.attachment_id for s in scraps if may_claim(s, claim_id)])
        match process.step:
            case "idle" if free:
                step = Process("found" if self.config.claims else "claimed", free)
                yield (who, f"finds {', '.join(free)}"), put(state, slot, step)
            case "found":
                pairs = tuple([(name, DIGEST) for name in process.names])
                yield self._send(state, who, c.ClaimScraps(S, claim_id, pairs), slot)
            case "claimed":
                seen = ("bytes are deleted",) if state.stored else ()
                after = replace(state, stored=False, seen=seen)
                yield (who, "deletes the bytes"), put(after, slot, replace(process, step="deleted"))
            case "deleted":
                claimed = c.ClaimScraps(S, claim_id, tuple([(n, DIGEST) for n in process.names]))
                if not self.config.claims:
                    yield self._send(state, who, claimed, slot)
                yield self._send(state, who, c.DropScraps(S, claim_id, process.names), slot)
        if process.step in ("claimed", "deleted"):
            rows = [
                Update(replace(s, state=Scrap(DEAD, s.state.until_ms)))
                for s in scraps
                if isinstance(s.state, Scrap) and s.state.claim_id == claim_id
            ]
            world = canonical(evolve(state.world, rows))
            yield (who, "crashes"), put(replace(state, world=world), slot, IDLE)

    def _tick(self, state: State) -> Next:
        """Yield what time does."""
        for row in attachments(state.world):
            if isinstance(row.state, Scrap) and row.state.claim_id == DEAD:
                over = Update(replace(row, state=Scrap()))  # it runs out: the same as free
                world = canonical(evolve(state.world, [over]))
                yield (
                    ("clock", f"the claim of {row.attachment_id} runs out"),
                    replace(state, world=world),
                )
            free = isinstance(row.state, Intent) and row.state.run_id is None
            if free and row.at_ms == NOW and state.client.step == "done":
                session = session_of(state.world)
                aged = replace(row, at_ms=NOW - INTENT_AGE_MS)
                due = replace(session, intents_at_ms=NOW)
                world = canonical(evolve(state.world, [Update(aged), Update(due)]))
                yield (
                    ("clock", f"a day passes after {row.attachment_id}"),
                    replace(state, world=world),
                )

    # -- commands

    def _if_changed(self, state: State, found: tuple[Any, State]) -> Next:
        if found[1].world != state.world or found[1].broken:
            yield found

    def _decide(self, world: World, command: Any) -> Decided[Any] | Refused:
        answer: Decided[Any] | Refused = decide_at(
            RELEASE, command, world.load(command.reads()), NOW
        )
        self.decisions += 1
        for clause in (answer.clause, *getattr(answer, "via", ())):
            self.clauses[clause] = self.clauses.get(clause, 0) + 1
        return answer

    def _execute(
        self, world: World, command: Any
    ) -> tuple[Decided[Any] | Refused, World, tuple[str, ...]]:
        """Return an answer, the canonical rows after it, and what it violates; computed once."""
        known = self.answers.get((world, command))
        if known is not None:
            return known
        answer, after = self._decide(world, command), world
        broken: tuple[str, ...] = ()
        if isinstance(answer, Decided) and answer.writes:
            rows = evolve(world, answer.writes)
            step = Step(snapshot_of(-1, world), snapshot_of(-1, rows), command, answer)
            broken = tuple([n for n, holds in ATTACHMENT_DECISIONS.items() if not holds(step)])
            due = due_of(step.after.session, step.after.runs.values(), rows.all(QueueEntry))
            broken += () if step.after.session.due_at_ms == due else (DUE,)
            after = canonical(rows)
        self.answers[world, command] = answer, after, broken
        return answer, after, broken

    def _send(
        self, state: State, who: str, command: Any, slot: int | None = None
    ) -> tuple[Any, State]:
        """Return the label and the state after a command whose answer arrives."""
        answer, world, broken = self._execute(state.world, command)
        label = (who, command.__class__.__name__, f"[{answer.clause}]", "session")
        if isinstance(answer, Refused):
            busy = answer.reason.value == "deleting"
            broken = () if busy else (ONLY_EXPECTED,)
            seen = ("an intent is intended again while its bytes are deleted",) if busy else ()
            return label, replace(state, broken=broken, seen=seen)
        state = replace(state, world=world, broken=broken, seen=())
        return label, self._told(state, who, command, answer, slot)

    def _told(
        self, state: State, who: str, command: Any, answer: Decided[Any], slot: int | None
    ) -> State:
        """Return the state after the process has received its answer."""
        match answer.outcome:
            case c.Begun():
                run_id = answer.outcome.run_id
                step = (
                    "attached"
                    if held(state.world, f"{run_id}.a") and answer.outcome.resumed
                    else "begun"
                )
                return replace(state, worker=Process(step, (run_id,)))
            case c.Intended() if who == "worker":
                return replace(state, worker=replace(state.worker, step="intended"))
            case c.Intended():
                return replace(state, client=Process("intended"))
            case c.Checkpointed():
                return replace(state, worker=replace(state.worker, step="attached"))
            case c.Committed() | c.Ended():
                return replace(state, worker=IDLE)
            case c.ScrapsClaimed(attachment_ids) if slot is not None and self.config.claims:
                gone = len(attachment_ids) < len(command.scraps) and bool(answer.writes)
                void = "a scrap is dropped because somebody else holds its bytes"
                state = replace(state, seen=(void,) if gone else ())
                after = Process("claimed", attachment_ids) if attachment_ids else IDLE
                return put(state, slot, after)
            case c.ScrapsDropped() if slot is not None:
                return put(state, slot, IDLE)
            case _:
                return state


def attachments(world: World) -> list[Attachment]:
    """Return the attachments in the order of their ids."""
    return sorted(world.all(Attachment), key=lambda row: row.attachment_id)


def session_of(world: World) -> Session:
    """Return the session."""
    (session,) = world.all(Session)
    return session


def held(world: World, attachment_id: str) -> bool:
    """Return whether the session holds an attachment."""
    return any(row.attachment_id == attachment_id and row.held for row in world.all(Attachment))


def may_claim(row: Attachment, claim_id: str) -> bool:
    """Return whether somebody who looks may claim a scrap."""
    return isinstance(row.state, Scrap) and row.state.claim_id in (None, claim_id)


def put(state: State, slot: int, process: Process) -> State:
    """Return the state with one of those who delete bytes replaced."""
    deleters = (*state.deleters[:slot], process, *state.deleters[slot + 1 :])
    return replace(state, deleters=deleters)


def canonical(world: World) -> World:
    """Return the rows without what no later decision reads, so that equal states are recognised."""
    rows: list[Any] = [_session(session_of(world))]
    rows += [_run(run) for run in world.all(Run)]
    rows += [_entry(entry) for entry in world.all(QueueEntry)]
    for row in world.all(Attachment):
        if isinstance(row.state, Scrap) and row.state.until_ms is not None:
            row = replace(row, state=Scrap(row.state.claim_id, NOW + SCRAP_CLAIM_MS))
        free = isinstance(row.state, Intent) and row.state.run_id is None
        rows.append(row if free else replace(row, at_ms=NOW))
    (session,) = [row for row in rows if isinstance(row, Session)]
    runs = [row for row in rows if isinstance(row, Run)]
    entries = [row for row in rows if isinstance(row, QueueEntry)]
    due = due_of(session, runs, entries)
    return world_of([replace(session, due_at_ms=due), *rows[1:]])


def _session(session: Session) -> Session:
    lease: lease_.Lease = lease_.Vacant(0)
    if isinstance(session.lease, lease_.Held):
        lease = replace(session.lease, generation=1)
    since = None if session.scraps_since_ms is None else NOW
    return replace(
        session, lease=lease, revision=1, leaf=None, next_event=1, changed_at_ms=0,
        scraps_since_ms=since,
    )  # fmt: skip


def _run(run: Run) -> Run:
    state = run.state
    if isinstance(state, run_.Running):
        state = replace(state, generation=1)
    elif isinstance(state, run_.Rescheduled):
        state = run_.Rescheduled()
    elif isinstance(state, run_.Done):
        state = run_.Done(state.termination)
    return replace(
        run, state=state, retry=NO_FAILURES, stamp=None, last_end=None, tip=None, reversible=None,
        next_checkpoint=0,
    )  # fmt: skip


def _entry(entry: QueueEntry) -> QueueEntry:
    if isinstance(entry.state, input_.Ended):
        return replace(entry, state=input_.Ended(entry.state.how, "", None))
    return entry
