"""The agent whose effect can be counted: one line in a file for each input."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from tenure.failure import ErrorKind

from ..runtime.errors import StepFailed, StepOutcomeUnknown, TurnFailed
from ..runtime.steps import Report
from ..runtime.turn import Turn
from .ledger_file import LedgerFile


def ledger(path: Path) -> Callable[[Turn], Awaitable[str]]:
    """Append `input_id text` to the file, then answer the text.

    The appending is a once step, and its probe looks for the line.  Where a crash left neither line nor report, it is
    appended in a once step of its own: a holder that was paused before its write may still wake up, but the file, like
    any service that knows idempotency keys, takes an id only once.
    """
    file = LedgerFile(path)

    async def agent(turn: Turn) -> str:
        for one in turn.inputs:
            await _noted(turn, file, one.input_id, one.payload)
        return turn.text

    return agent


async def _noted(turn: Turn, file: LedgerFile, input_id: str, text: str) -> None:
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
            if not failed.replayed:  # a full disk, perhaps: nothing was written, and it may pass
                raise TurnFailed(ErrorKind.UNAVAILABLE, failed.message) from failed
