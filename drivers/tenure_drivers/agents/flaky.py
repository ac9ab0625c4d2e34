"""The agent that fails at first."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tenure.failure import ErrorKind

from ..runtime.errors import TurnFailed
from ..runtime.turn import Turn


def flaky(times: int) -> Callable[[Turn], Awaitable[str]]:
    """Fail the first `times` times of each run, whichever process carries it out; then answer."""

    async def agent(turn: Turn) -> str:
        if turn.failures < times:
            raise TurnFailed(ErrorKind.TRANSIENT, f"failure {turn.failures + 1} of {times}")
        return turn.text

    return agent
