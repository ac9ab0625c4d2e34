"""Flaky agent: fails a number of times, then replies with its input."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tenure.failure import ErrorKind

from ..runtime.errors import TurnFailed
from ..runtime.turn import Turn

__all__ = ["flaky"]


def flaky(times: int) -> Callable[[Turn], Awaitable[str]]:
    """Return an agent that fails the first `times` turns of each run, in any process, and then replies."""

    async def agent(turn: Turn) -> str:
        if turn.failures < times:
            raise TurnFailed(ErrorKind.TRANSIENT, f"failure {turn.failures + 1} of {times}")
        return turn.text

    return agent
