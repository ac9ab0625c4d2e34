"""Ledger agent: appends one line to a file for each input, so that its effects can be counted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from tenure.failure import ErrorKind

from ..runtime.errors import StepFailed, StepOutcomeUnknown, TurnFailed
from ..runtime.steps import Report
from ..runtime.turn import Turn
from .ledger_file import LedgerFile

__all__ = ["ledger"]


def ledger(path: Path) -> Callable[[Turn], Awaitable[str]]:
    """Return an agent that appends `input_id text` to the file, then replies with the text.

    The append is a once step; its probe looks for the line.  If a crash left neither line nor report, another once step
    appends it.  A paused worker may still execute the first one.  But the file accepts an id only once, like a service
    with idempotency keys.
    """
    file = LedgerFile(path)

    async def agent(turn: Turn) -> str:
        for one in turn.inputs:
            await _append(turn, file, one.input_id, one.payload)
        return turn.text

    return agent


async def _append(turn: Turn, file: LedgerFile, input_id: str, text: str) -> None:
    def append() -> bool:
        return file.append(input_id, text)

    def look(key: str) -> Report | None:
        return Report(True) if file.holds(input_id) else None

    while True:
        try:
            await turn.once("append", append, probe=look)
            return
        except StepOutcomeUnknown:
            continue
        except StepFailed as failed:
            if (
                not failed.replayed
            ):  # for example a full disk: nothing was written, a retry may succeed
                raise TurnFailed(ErrorKind.UNAVAILABLE, failed.message) from failed
