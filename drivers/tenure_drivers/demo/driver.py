"""One run of the demo: submits prompts, injects faults, collects the evidence."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from attrs import define, field, frozen

from tenure.commands import Admit, NewInput
from tenure.outcome import Refused
from tenure.questions.history import AllSessions
from tenure.records import Session
from tenure.replace import replace

from ..cli.exit import CliExit, Exit
from ..cli.run.validation import prompt_policy
from ..console.timeline.page import Holder, Life, Pause
from ..stores.base import Store
from .chat import FAULTS, chatting, triggered
from .fleet import LOOK_S, Fleet
from .plan import Kind, Plan, Prompt
from .report import Evidence, Refusal, read_all
from .transcript_report import TranscriptReport, report_transcripts
from .worker import AGENTS, LEDGER, SERVER, store_in

__all__ = ["DemoRun", "read_ledger", "run_demo"]


STALLED_S: Final = (
    60.0  # only ends a run that hangs; on a busy machine the workers take half of it to start
)
FAULT_DELAY_MAX: Final = 12  # answers after which a fault is overdue


@frozen
class DemoRun:
    """The results of one run.  `holders` maps a lease id to the process that asked for it."""

    evidence: Evidence
    holders: dict[str, Holder]
    lives: tuple[Life, ...]
    pauses: tuple[Pause, ...]
    transcripts: TranscriptReport | None = None  # of a chat agent


@define(eq=False)
class DemoDriver:
    """Submits prompts and injects faults as answers arrive.  It reads all progress from the store."""

    plan: Plan
    store: Store
    fleet: Fleet
    show: Callable[[int, str], None]
    answered: int = 0
    waiting: deque[Prompt] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.waiting = deque(self.plan.prompts)

    async def run(self) -> None:
        """Run the plan to its end.  Raises CliExit if a worker ended unexpectedly."""
        for name in self.plan.workers:
            self.fleet.start(name)
        async with asyncio.TaskGroup() as group:
            for kind in Kind:
                group.create_task(self._inject_faults(kind))
            await self._feed()
            self.fleet.finished = True
        if died := self.fleet.unexpected_end():
            raise CliExit(Exit.UNFINISHED, died)
        await self.fleet.drain()

    async def _feed(self) -> None:
        """Submit prompts until all are submitted and no session has work left."""
        moved = time.monotonic()
        while True:
            self.fleet.restart_crashed()
            sessions = await self.store.ask(AllSessions())
            answered = sum(s.revision for s in sessions)
            idle = all(s.due_at_ms is None for s in sessions)
            if answered > self.answered:
                moved = time.monotonic()
            self.answered = answered
            self._show(sessions)
            if idle and not self.waiting:
                return
            await self._hand_over(idle)
            if self.fleet.unexpected_end() is not None:
                return
            if time.monotonic() - moved > STALLED_S:
                return  # the report counts what is lost
            await asyncio.sleep(LOOK_S)

    async def _hand_over(self, idle: bool) -> None:
        by_session: dict[str, list[NewInput]] = {}
        lull = len(self.plan.workers) if idle else 0
        while self.waiting and (self._is_time(self.waiting[0]) or lull > 0):
            prompt = self.waiting.popleft()
            by_session.setdefault(prompt.session_id, []).append(_new(prompt))
            lull -= 1
        for session_id, inputs in by_session.items():
            admitted = await self.store.execute(Admit(session_id, tuple(inputs)))
            if isinstance(admitted, Refused):
                raise AssertionError(admitted)

    def _is_time(self, prompt: Prompt) -> bool:
        """Return True if a prompt is due.  Submit nothing while a fault is overdue: it needs a running turn to hit."""
        if prompt.after is None:
            return self.fleet.injected == len(self.plan.faults)
        return prompt.after <= self.answered and not self._overdue()

    def _overdue(self) -> bool:
        return (
            sum(f.after < self.answered - FAULT_DELAY_MAX for f in self.plan.faults)
            > self.fleet.injected
        )

    async def _inject_faults(self, kind: Kind) -> None:
        for fault in (f for f in self.plan.faults if f.kind is kind):
            while self.answered < fault.after and not self.fleet.finished:
                await asyncio.sleep(LOOK_S)
            await self.fleet.inject(fault)

    def _show(self, sessions: tuple[Session, ...]) -> None:
        asleep = [w.name for w in self.fleet.workers.values() if w.stopped]
        note = f"{self.fleet.kills} kills, {len(self.fleet.pauses)} pauses"
        self.show(self.answered, note + (f", {asleep[0]} is stopped" if asleep else ""))


def _new(prompt: Prompt) -> NewInput:
    return NewInput(
        prompt.input_id, "prompt", prompt.text, source="demo", key=prompt.input_id,
        priority=prompt.priority, policy=prompt_policy(ordered=True),
    )  # fmt: skip


async def run_demo(
    plan: Plan,
    agent: str,
    folder: Path,
    show: Callable[[int, str], None],
    server: str | None = None,
) -> DemoRun:
    """Run a plan in an empty folder or on a server.  All its processes have ended afterwards."""
    chats = agent not in AGENTS
    if chats:
        plan = chatting(plan, agent)
        (folder / FAULTS).mkdir()
    if server is not None:
        (folder / SERVER).touch(mode=0o600)
        (folder / SERVER).write_text(server, encoding="utf-8")
    store = store_in(folder)
    try:
        fleet = Fleet(folder, store, (str(plan.seed), agent), chats)
        try:
            await DemoDriver(plan, store, fleet, show).run()
        finally:
            fleet.kill_all()
        seen = await collect(plan, store, fleet, folder)
        if not chats:
            return seen
        transcripts = await report_transcripts(
            store, seen.evidence.histories, seen.evidence.ledger,
            died=triggered(folder), exact=agent == "script",
        )  # fmt: skip
        return replace(seen, transcripts=transcripts)
    finally:
        await store.aclose()


async def collect(plan: Plan, store: Store, fleet: Fleet, folder: Path) -> DemoRun:
    """Read the evidence from the store, the ledger and the worker logs."""
    logs = {name: list(read_log(folder / f"{name}.log")) for name in plan.workers}
    holders = {
        line["lease_id"]: Holder(name, line["pid"])
        for name, lines in logs.items()
        for line in lines
        if line["what"] == "asks"
    }
    refusals = [
        Refusal(line["at_ms"], name, line["session_id"], line["name"], line["generation"])
        for name, lines in logs.items()
        for line in lines
        if line["what"] == "fenced"
    ]
    evidence = Evidence(
        len(plan.prompts), await read_all(store), read_ledger(folder / LEDGER), tuple(refusals),
        fleet.kills, len(fleet.pauses),
    )  # fmt: skip
    return DemoRun(evidence, holders, tuple(fleet.lives), tuple(fleet.pauses))


def read_ledger(path: Path) -> tuple[str, ...]:
    """Return the lines of the ledger with their line ends; the last line may be torn."""
    content = path.read_bytes().decode("utf-8", "replace") if path.exists() else ""
    return tuple(content.splitlines(keepends=True))


def read_log(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the entries of a worker's log."""
    if path.exists():
        for line in path.read_text().splitlines():
            if line.endswith("}"):  # otherwise torn: its writer was killed
                yield json.loads(line)
