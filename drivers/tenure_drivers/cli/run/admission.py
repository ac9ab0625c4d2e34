"""Admit the lines of a file: in order within a session, in batches, many sessions at a time."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

from attrs import define

from tenure.commands import Conflict
from tenure.policy import Policy

from ...runtime.client import Client
from ...runtime.errors import SubmissionRefused
from ...runtime.input_waiter import TrackedInput
from ..exit import UnreadableSession
from ..output import log
from .input_watcher import FileInput
from .prompt_file import PromptLine
from .validation import batches, new_input, why

__all__ = ["Admission", "Count", "by_session", "each_session"]


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
    """Call `work` for every session, `at_once` at a time.  The first failure cancels the others."""
    left = iter(list(sessions))

    async def take() -> None:
        for session in left:
            await work(session)

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(take())


class Admission:
    """Admits all lines, and passes each on to `follow` when the store has an input for it."""

    def __init__(
        self,
        client: Client,
        policy: Policy,
        rows: Sequence[FileInput],
        follow: Callable[[Sequence[FileInput]], None],
    ) -> None:
        self._client = client
        self._policy = policy
        self._follow = follow
        self._rows = {row.line.number: row for row in rows}
        self._sessions = by_session(row.line for row in rows)
        self.count = Count()

    async def run(self) -> None:
        """Admit every session's lines in their order, several sessions at once."""
        await each_session(self._sessions, self._admit_session)

    async def _admit_session(self, session: str) -> None:
        try:
            for batch in batches(self._sessions[session]):
                rows = [self._rows[line.number] for line in batch]
                await self._admit(session, rows)
                self._follow([row for row in rows if row.tracked is not None])
        except UnreadableSession as error:
            log(f"session {session} quarantined: {error}")

    async def _admit(self, session: str, rows: list[FileInput]) -> None:
        """Admit a batch.  A line that is refused is left out, and the others are submitted again."""
        inputs = [new_input(row.line, uuid.uuid4().hex, self._policy) for row in rows]
        while inputs:
            try:
                receipts = await self._client.submit_many(session, inputs)
                break
            except SubmissionRefused as error:
                detail = error.refused.detail
                at = detail.index if isinstance(detail, Conflict) else 0
                rows[at].refused = why(error.refused)
                rows, inputs = [*rows[:at], *rows[at + 1 :]], [*inputs[:at], *inputs[at + 1 :]]
        else:
            return
        for row, new, receipt in zip(rows, inputs, receipts, strict=True):
            row.tracked = TrackedInput(session, receipt.input_id)
            # The id is made here, so this is right even if the first answer was lost and the command was replayed.
            if receipt.input_id == new.input_id:
                self.count.admitted += 1
            else:
                self.count.known += 1
