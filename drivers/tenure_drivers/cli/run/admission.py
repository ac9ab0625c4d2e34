"""Admit the lines of a file: each session's in their order, in batches, many sessions at once."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

from attrs import define

from tenure.commands import Conflict
from tenure.outcome import Refused
from tenure.policy import Policy

from ..exit import UnreadableSession
from ..output import log
from ..retrying_store import RetryingStore
from .input_watcher import TrackedInput
from .prompt_file import PromptLine
from .validation import admission, batches, why

SESSIONS_AT_ONCE: Final = 64


@define
class Count:
    admitted: int = 0
    known: int = 0

    def __str__(self) -> str:
        return f"{self.admitted} admitted, {self.known} known already"


def by_session(lines: Iterable[PromptLine]) -> dict[str, list[PromptLine]]:
    sessions: dict[str, list[PromptLine]] = {}
    for line in lines:
        sessions.setdefault(line.session, []).append(line)
    return sessions


async def each_session(
    sessions: Iterable[str], work: Callable[[str], Awaitable[None]], at_once: int = SESSIONS_AT_ONCE
) -> None:
    """Do this for every session, for some of them at once; the first that fails stops the rest."""
    left = iter(list(sessions))

    async def take() -> None:
        for session in left:
            await work(session)

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(take())


class Admission:
    """Hands rows on as soon as it is known which input stands for each."""

    def __init__(
        self,
        store: RetryingStore,
        policy: Policy,
        rows: Sequence[TrackedInput],
        follow: Callable[[Sequence[TrackedInput]], None],
    ) -> None:
        self._store = store
        self._policy = policy
        self._follow = follow
        self._rows = {row.line.number: row for row in rows}
        self._sessions = by_session(row.line for row in rows)
        self.count = Count()

    async def run(self) -> None:
        await each_session(self._sessions, self._admit_session)

    async def _admit_session(self, session: str) -> None:
        try:
            for batch in batches(self._sessions[session]):
                await self._admit(batch)
                rows = [self._rows[line.number] for line in batch]
                self._follow([row for row in rows if row.input_id is not None])
        except UnreadableSession as error:
            log(f"session {session} is set aside: {error}")

    async def _admit(self, batch: list[PromptLine]) -> None:
        """All of them; a line that is refused is left out, and the others are admitted."""
        ids = {line.number: uuid.uuid4().hex for line in batch}
        while batch:
            command = admission(batch, [ids[line.number] for line in batch], self._policy)
            answer = await self._store.execute(command)
            if not isinstance(answer, Refused):
                break
            at = answer.detail.index if isinstance(answer.detail, Conflict) else 0
            self._rows[batch[at].number].refused = why(answer)
            batch = [*batch[:at], *batch[at + 1 :]]
        else:
            return
        for line, receipt in zip(batch, answer.admissions, strict=True):
            self._rows[line.number].input_id = receipt.input_id
            # The id is made here, so this tells new from known even where the first answer was lost.
            if receipt.input_id == ids[line.number]:
                self.count.admitted += 1
            else:
                self.count.known += 1
