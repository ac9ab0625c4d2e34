"""What is sent in a walk: what makes sense for the rows there are, what did a while ago, and what never did."""

from __future__ import annotations

import random
from typing import Any

from walk_order import session_of

from tenure.commands import (
    Acquire,
    Acquired,
    Admit,
    Amend,
    Begin,
    Begun,
    Checkpoint,
    Commit,
    Committed,
    Destroy,
    Fail,
    Interrupt,
    NewEntry,
    NewInput,
    Open,
    Reclaim,
    Release,
    ReleaseSession,
    Renew,
    Reopen,
    RequestCancel,
    Reset,
    Retire,
    Rewind,
    Stop,
    Sweep,
    Then,
    Withdraw,
    WithdrawFrom,
)
from tenure.failure import ErrorKind, Failure
from tenure.machines.lease import Evidence, Fence, Held, Owner
from tenure.machines.run import Termination
from tenure.policy import Delivery, KeyScope, Lane, OnOtherContent, OnRetry, Policy
from tenure.queries import Command
from tenure.records import EntryKind, Node, QueueEntry, Run, Session
from tenure.transcript import NewNode, Role, UsageDelta
from tenure.world import World

OWNERS = (Owner("worker-1", "first"), Owner("worker-2", "second"))
KINDS = (*("prompt", "prompt", "prompt", "wake", "wake", "directive", "hand_off"),)
POLICIES = (
    Policy(Lane.USER, batch="b"),
    Policy(Lane.USER, on_retry=OnRetry.HOLD, key_scope=KeyScope.OPEN),
    Policy(
        Lane.USER, key_scope=KeyScope.OPEN, on_other_content=OnOtherContent.ORIGINAL, priority=7
    ),
    Policy(Lane.SYSTEM, Delivery.EARLIEST, batch="b", key_scope=KeyScope.OPEN, when_retired=True),
)
ERRORS = (
    *(ErrorKind.TRANSIENT, ErrorKind.TRANSIENT, ErrorKind.RATE_LIMITED),
    *(ErrorKind.INVALID_REQUEST, ErrorKind.TIMEOUT),
)


class Sender:
    """Sends what makes sense for the rows there are, what made sense a while ago, and what never did."""

    def __init__(self, dice: random.Random, session: str = "s") -> None:
        self.dice = dice
        self.session = session
        self.fences: list[tuple[Fence, str]] = []
        self.ids = dice.choice((4, 40, 4_000))
        self.bulk = dice.choice((1, 1, 2, 9, 80))
        self.calm = dice.choice(
            (2, 6, 30)
        )  # the higher, the less is interrupted, stopped, withdrawn
        self.next = 0

    def name(self, kind: str) -> str:
        """Mostly one that was used before, if there are few of them."""
        self.next += 1
        return f"{kind}{self.dice.randrange(self.ids) if self.dice.random() < 0.7 else -self.next}"

    def send(self, world: World, now_ms: int) -> Command[Any, Any]:
        pick = self.dice.choice
        row = session_of(world)
        if row is None or pick(range(4)) == 0:
            return self.admit(now_ms)
        if pick(range(self.calm)) == 0:
            return self.disturb(world, now_ms)
        if isinstance(row.lease, Held) and pick(range(4)) > 0:
            fence = Fence(self.session, row.lease.generation, row.lease.lease_id)
            return self.hold(world, row, fence, row.lease_run or "", now_ms)
        if self.fences and pick(range(6)) == 0:
            return self.hold(world, row, *pick(self.fences[-6:]), now_ms)
        return pick((self.begin, self.begin, self.begin, self.sweep, self.acquire))()

    def input(self, now_ms: int) -> NewInput:
        pick, policy = self.dice.choice, None
        if pick(range(3)) == 0:
            policy = pick(POLICIES)
        return NewInput(
            self.name("i"),
            "custom" if policy else pick(KINDS),
            pick(("hello", "hello", "else")),
            key=self.name("k") if pick(range(3)) == 0 else None,
            priority=pick((None, None, None, None, 0, 1, 200)),
            available_at_ms=now_ms + pick((-5, 1, 40, 40, 9_000)) if pick(range(4)) == 0 else None,
            supersession_key=pick(("x", "y")) if pick(range(6)) == 0 else None,
            policy=policy,
        )

    def admit(self, now_ms: int) -> Command[Any, Any]:
        count = self.dice.randint(1, self.bulk)
        inputs = {new.input_id: new for new in [self.input(now_ms) for _ in range(count)]}
        return Admit(
            self.session, tuple(inputs.values()), open=self.dice.choice((True, True, False))
        )

    def begin(self) -> Command[Any, Any]:
        pick = self.dice.choice
        return Begin(
            *(self.session, self.name("l"), self.name("r"), pick(OWNERS)),
            ttl_ms=pick((60, 60, 60, 1_000, 0)),
            limit=pick((1, 8, 64, 500)),
            limit_bytes=pick((8, 1_000_000)),
        )

    def sweep(self) -> Command[Any, Any]:
        return Sweep(self.session)

    def acquire(self) -> Command[Any, Any]:
        return Acquire(self.session, self.name("l"), self.dice.choice(OWNERS), 60)

    def nodes(self, run: Run | None) -> tuple[NewNode, ...]:
        pick = self.dice.choice
        if run is not None and run.open_calls and pick(range(3)):
            return (NewNode(Role.TOOL, "result", run.open_calls[:1]),)
        calling = NewNode(Role.ASSISTANT, "calls", ("c1", "c2"))
        answer = NewNode(Role.ASSISTANT, pick(("answer", "another")))
        return pick(((), (answer,), (answer,), (answer, calling)))

    def hold(
        self, world: World, row: Session, fence: Fence, run_id: str, now_ms: int
    ) -> Command[Any, Any]:
        """What the holder of this fence may send, or one that has lost it."""
        pick, s = self.dice.choice, self.session
        run = next((r for r in world.all(Run) if r.run_id == run_id), None)
        if pick(range(30)) == 0:
            fence = Fence(pick((s, "other")), fence.generation - pick((0, 1)), pick(("l?", "l1")))
        if run is None:
            return self.at_rest(world, row, fence)
        commit, checkpoint = self.commit(row, fence, run), self.checkpoint(fence, run)
        error = Failure(pick(ERRORS), "no", pick((0, 0, 900)), pick((0, 7)))
        fail = Fail(s, fence, run_id, self.turn_of(run), error)
        found: Command[Any, Any] = pick(
            (
                *(commit, commit, commit, checkpoint, checkpoint, fail, fail),
                *(Renew(s, fence), Release(s, fence, run_id)),
                Reclaim(s, self.name("c"), fence, pick(tuple(Evidence))),
            )
        )
        return found

    def turn_of(self, run: Run) -> int:
        return run.turn + self.dice.choice((0,) * 19 + (1,))

    def n_of(self, run: Run) -> int:
        return run.next_checkpoint - self.dice.choice((0,) * 9 + (1,))

    def commit(self, row: Session, fence: Fence, run: Run) -> Commit:
        pick = self.dice.choice
        cancelled = row.cancel is not None and pick(range(4)) > 0
        return Commit(
            *(self.session, fence, run.run_id, self.turn_of(run), self.n_of(run)),
            row.revision + pick((0,) * 19 + (1,)),
            Termination.CANCELLED if cancelled else pick(tuple(Termination)[:4]),
            nodes=self.nodes(run),
            usage=pick(((), (UsageDelta("model", "m", 1, 2, 3),))),
            state=pick((None, None, "state", "other state")),
            then=pick((Then.NEXT, Then.RELEASE)),
            next_run_id=self.name("r"),
            limit=pick((1, 8, 64)),
            hand_off=NewInput(self.name("i"), "hand_off", "go") if pick(range(8)) == 0 else None,
            frame=pick((None, None, "planner")),
        )

    def checkpoint(self, fence: Fence, run: Run) -> Checkpoint:
        pick = self.dice.choice
        kinds = (EntryKind.START, EntryKind.REPORT, EntryKind.UNKNOWN, EntryKind.NOTE)
        return Checkpoint(
            *(self.session, fence, run.run_id, self.turn_of(run), self.n_of(run)),
            (NewEntry(pick(kinds), self.name("e"), "{}"),)[: pick((0, 1, 1))],
            self.nodes(run),
            environment=pick((None, None, "state", "prompts")),
        )

    def at_rest(self, world: World, row: Session, fence: Fence) -> Command[Any, Any]:
        s = self.session
        amend = self.amend(world, row, fence)
        found: Command[Any, Any] = self.dice.choice(
            (ReleaseSession(s, fence), amend, amend, Renew(s, fence))
        )
        return found

    def amend(self, world: World, row: Session, fence: Fence) -> Command[Any, Any]:
        pick = self.dice.choice
        nodes = [node.node_id for node in world.all(Node)]
        rewind = Rewind(pick((None, "none", *nodes))) if pick(range(3)) == 0 else None
        return Amend(self.session, self.name("c"), fence, row.revision, self.nodes(None), rewind)

    def disturb(self, world: World, now_ms: int) -> Command[Any, Any]:
        pick, s, c = self.dice.choice, self.session, self.name("c")
        places = [p.input_id for p in world.all(QueueEntry)] or ["i?"]
        runs = [r.run_id for r in world.all(Run)] or ["r?"]
        phases = (
            *(Retire(s, c, pick((True, False))), Stop(s, c, pick((True, False)))),
            *(Reset(s, c), Reopen(s, c), Reopen(s, c)),
        )
        found: Command[Any, Any] = pick(
            (
                Interrupt(s, c, pick((None, self.input(now_ms)))),
                Interrupt(s, c, pick((None, self.input(now_ms)))),
                RequestCancel(s, c, pick(runs)),
                RequestCancel(s, c, pick(runs[-2:])),
                *(Withdraw(s, c, pick(places)), Withdraw(s, c, pick(places[-3:]))),
                WithdrawFrom(s, c, pick(places), pick(tuple(Lane))),
                *(Sweep(s), Open(s), pick(phases), pick(phases)),
                Destroy(s, c) if pick(range(12)) == 0 else Sweep(s),
            )
        )
        return found

    def heard(self, outcome: object) -> None:
        found = outcome.next if isinstance(outcome, Committed) else outcome
        if isinstance(found, Begun):
            self.fences.append((found.fence, found.run_id))
        elif isinstance(found, Acquired):
            self.fences.append((found.fence, ""))
