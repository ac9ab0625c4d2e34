"""Receipts: read or await the status of an input, from any process that has opened the store."""

from __future__ import annotations

import asyncio
from typing import Protocol, TypeVar

from tenure.queries import Question
from tenure.questions.core import InputStatus, Status

from .errors import NotAnswered

__all__ = ["Receipt"]


A = TypeVar("A")


class ReceiptSource(Protocol):
    """The part of a client that a receipt needs."""

    async def ask(self, question: Question[A], /) -> A:
        """As in Store."""
        ...

    def watch(self, session_id: str, input_id: str, /) -> asyncio.Future[InputStatus]:
        """Return a future of the status with which an input ends."""
        ...

    def watch_delivery(self, session_id: str, input_id: str, /) -> asyncio.Future[InputStatus]:
        """Return a future of the status of an input when a run has it, or when it has ended."""
        ...


class Receipt:
    """Names one input that is in a store.

    `how` tells how the input was admitted: `queued`, `delayed`, `addressed` to the run `run_id`, or `known` if it was in
    the store already.
    """

    def __init__(
        self,
        source: ReceiptSource,
        session_id: str,
        input_id: str,
        how: str = "known",
        run_id: str | None = None,
    ) -> None:
        self._source = source
        self.session_id, self.input_id, self.how = session_id, input_id, how
        self.run_id = run_id

    def __repr__(self) -> str:
        return f"Receipt({self.session_id!r}, {self.input_id!r}, {self.how!r})"

    async def status(self) -> InputStatus | None:
        """Read the status of the input; None if the store has no such input."""
        return await self._source.ask(Status(self.session_id, self.input_id))

    async def ended(self, timeout: float | None = None) -> InputStatus:
        """Wait until the input has ended, and return its status.

        Raises TimeoutError after `timeout` seconds, and LookupError if the store has no such input.
        """
        async with asyncio.timeout(timeout):
            return await self._source.watch(self.session_id, self.input_id)

    async def delivered(self, timeout: float | None = None) -> InputStatus:
        """Wait until a run has the input, or it has ended, and return its status.

        `status.checkpoint` is the number of the checkpoint that has taken it into a running turn.  An input that is
        addressed to a run is not delivered before that.  Raises as `ended`.
        """
        async with asyncio.timeout(timeout):
            return await self._source.watch_delivery(self.session_id, self.input_id)

    async def result(self, timeout: float | None = None) -> str | None:
        """Wait until the input has ended, and return the answer; None if the agent has returned none.

        Raises NotAnswered, which says why, if its run did not finish.  Also raises as `ended`.
        """
        status = await self.ended(timeout)
        if not status.succeeded:
            raise NotAnswered(self.session_id, status)
        return status.answer
