"""Receipts: read or await the status of an input, from any process that has opened the store."""

from __future__ import annotations

import asyncio
from typing import Protocol, TypeVar

from tenure.queries import Question
from tenure.questions.core import InputStatus, Status

from .errors import NotAnswered, NotEnded
from .input_waiter import TrackedInput

__all__ = ["Receipt"]


A = TypeVar("A")


class ReceiptSource(Protocol):
    """The part of a client that a receipt needs."""

    async def ask(self, question: Question[A], /) -> A:
        """As in Store."""
        ...

    def follow(self, session_id: str, input_id: str, /, *, delivery: bool = False) -> TrackedInput:
        """Track an input until it has ended, or with `delivery` until a run has it."""
        ...


class Receipt:
    """A submitted input: reads its status, or waits for its end.

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

        After `timeout` seconds, or if the runtime is stopped, raises NotEnded, a TimeoutError with the last status that
        was read.  Raises LookupError if the store has no such input.
        """
        return await self._follow(timeout, delivery=False)

    async def delivered(self, timeout: float | None = None) -> InputStatus:
        """Wait until a run has the input, or it has ended, and return its status.

        `status.checkpoint` is the number of the checkpoint that has taken it into a running turn.  An input that is
        addressed to a run is not delivered before that.  Raises as `ended`.
        """
        return await self._follow(timeout, delivery=True)

    async def _follow(self, timeout: float | None, *, delivery: bool) -> InputStatus:
        tracked = self._source.follow(self.session_id, self.input_id, delivery=delivery)
        assert tracked.future is not None
        try:
            async with asyncio.timeout(timeout) as bound:
                return await tracked.future
        except TimeoutError:
            if not bound.expired():
                raise
            raise NotEnded(self.session_id, self.input_id, tracked.status) from None

    async def result(self, timeout: float | None = None) -> str | None:
        """Wait until the input has ended, and return the answer; None if the agent has returned none.

        Raises NotAnswered, which says why, if its run did not finish.  Also raises as `ended`.
        """
        status = await self.ended(timeout)
        if not status.succeeded:
            raise NotAnswered(self.session_id, status)
        return status.answer
