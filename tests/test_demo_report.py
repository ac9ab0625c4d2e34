"""A fleet in virtual time: the real commands on a memory store, with workers that are killed and paused.

It gives reports and timelines something to read without any process; what it says must be as good as a real one's.
"""

from __future__ import annotations

import asyncio
import random

from attrs import define, field

from tenure.commands import Admit, Begin, Begun, Checkpoint, Commit, NewEntry, NewInput
from tenure.lease import Owner
from tenure.outcome import Refused
from tenure.policy import POLICIES, OnRetry
from tenure.records import EntryKind
from tenure.replace import replace
from tenure.transcript import NewNode, Role
from tenure_drivers.commandline.chronicle import Chronicle, read_all
from tenure_drivers.commandline.timeline import Holder, Life, Pause, TooLate
from tenure_drivers.memory import MemoryStore

TTL_MS = 900
START_MS = 1_700_000_000_000


@define
class Turn:
    begun: Begun
    stage: int = 0


@define
class ToyWorker:
    name: str
    born_ms: int
    awake_at_ms: int = 0
    paused_at_ms: int | None = None
    turns: dict[str, Turn] = field(factory=dict)
    lives: int = 1


@define
class ToyFleet:
    """Everything that happened, as a report and a timeline want it."""

    seed: int = 1
    sessions: int = 4
    inputs: int = 24
    workers: int = 2
    now_ms: int = START_MS
    ledger: list[str] = field(factory=list)
    holders: dict[str, Holder] = field(factory=dict)
    lives: list[Life] = field(factory=list)
    pauses: list[Pause] = field(factory=list)
    refused: list[TooLate] = field(factory=list)
    chronicles: tuple[Chronicle, ...] = ()

    def run(self) -> ToyFleet:
        asyncio.run(self._run())
        return self

    async def _run(self) -> None:
        dice = random.Random(self.seed)
        store = MemoryStore(clock=lambda: self.now_ms)
        waiting = [(f"chat-{i % self.sessions + 1:02}", i) for i in range(self.inputs)]
        crew = [ToyWorker(f"worker-{i + 1}", self.now_ms) for i in range(self.workers)]
        while waiting or await self._busy(store):
            self.now_ms += dice.randrange(1, 9)
            assert self.now_ms < START_MS + 120_000, "the toy fleet does not come to an end"
            if waiting and (dice.random() < 0.12 or len(waiting) > self.inputs // 2):
                await self._submit(store, *waiting.pop(0))
            for worker in crew:
                if worker.awake_at_ms <= self.now_ms:
                    await self._act(store, worker, dice)
        for worker in crew:
            self.lives.append(Life(worker.name, worker.lives, worker.born_ms, self.now_ms))
        self.chronicles = await read_all(store)

    async def _busy(self, store: MemoryStore) -> bool:
        return bool(await store.due(1)) or await store.horizon() is not None

    async def _submit(self, store: MemoryStore, session_id: str, number: int) -> None:
        policy = replace(POLICIES["prompt"], on_retry=OnRetry.HOLD)
        new = NewInput(f"input-{number + 1:03}", "prompt", f"what is {number}?", policy=policy)
        assert not isinstance(await store.execute(Admit(session_id, (new,))), Refused)

    async def _act(self, store: MemoryStore, worker: ToyWorker, dice: random.Random) -> None:
        if worker.paused_at_ms is not None:
            self.pauses.append(Pause(worker.name, worker.paused_at_ms, self.now_ms))
            worker.paused_at_ms = None
        elif worker.turns and dice.random() < 0.02:
            self.lives.append(Life(worker.name, worker.lives, worker.born_ms, self.now_ms, True))
            worker.turns.clear()
            worker.lives += 1
            worker.born_ms = worker.awake_at_ms = self.now_ms + 300
            return
        elif worker.turns and dice.random() < 0.015:
            worker.paused_at_ms = self.now_ms
            worker.awake_at_ms = self.now_ms + TTL_MS * 2
            return
        worker.awake_at_ms = self.now_ms + dice.randrange(20, 70)
        if len(worker.turns) < 2:
            for due in await store.due(1):
                await self._begin(store, worker, due.session_id)
        for session_id in list(worker.turns):
            await self._go_on(store, worker, session_id)

    async def _begin(self, store: MemoryStore, worker: ToyWorker, session_id: str) -> None:
        name = f"{worker.name}.{worker.lives}-{len(self.holders) + 1}"
        self.holders[f"lease-{name}"] = Holder(worker.name, worker.lives)
        owner = Owner(worker.name, f"{worker.name}.{worker.lives}.{len(self.holders)}")
        begun = await store.execute(
            Begin(session_id, f"lease-{name}", f"run-{name}", owner, TTL_MS)
        )
        if isinstance(begun, Begun):
            worker.turns[session_id] = Turn(begun)

    async def _go_on(self, store: MemoryStore, worker: ToyWorker, session_id: str) -> None:
        turn = worker.turns[session_id]
        begun, n = turn.begun, turn.begun.n
        at = (session_id, begun.fence, begun.run_id, begun.turn)
        command: Checkpoint | Commit
        if n == 0:
            command = Checkpoint(*at, n, (NewEntry(EntryKind.START, "append"),))
        elif n == 1:
            line = f"{begun.inputs[0]} text\n"
            if turn.stage == 0 and line not in self.ledger:
                self.ledger.append(line)
            command = Checkpoint(*at, n, (NewEntry(EntryKind.REPORT, "append", "done"),))
        else:
            answer = NewNode(Role.ASSISTANT, f"answer to {begun.inputs[0]}")
            command = Commit(*at, n, begun.revision, nodes=(answer,))
        answered: object = await (
            store.execute(command) if isinstance(command, Checkpoint) else store.execute(command)
        )
        if isinstance(answered, Refused):
            assert answered.reason.value == "fenced", answered
            self.refused.append(
                TooLate(self.now_ms, worker.name, session_id, type(command).__name__, begun.fence.generation)
            )  # fmt: skip
        elif isinstance(command, Checkpoint):
            turn.begun = replace(begun, n=n + 1)
            return
        del worker.turns[session_id]
