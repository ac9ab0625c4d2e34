"""Print one line for each input of a file, in the order of the file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...runtime.wait_text import waits_for
from ..exit import Exit
from ..moments import moment
from ..output import Bar, log
from .admission import Count
from .input_watcher import FileInput

__all__ = ["Report", "answer"]


def answer(row: FileInput) -> dict[str, Any]:
    status = row.status
    return {
        "line": row.line.number,
        "session": row.line.session,
        "key": row.line.key,
        "input_id": row.input_id,
        "run_id": status.run_id if status else None,
        "ended": "refused" if row.refused else (status.status if status else None),
        "termination": status.termination if status else None,
        "text": status.answer if status else None,
        "failures": status.failures if status else 0,
    }


class Report:
    """Prints a line as soon as it and all lines before it have ended."""

    def __init__(self, rows: Sequence[FileInput], count: Count, bar: Bar) -> None:
        self._rows = rows
        self._count = count
        self._bar = bar
        self._printed = 0

    async def show(self) -> None:
        start = self._printed
        while self._printed < len(self._rows) and self._rows[self._printed].ended:
            self._printed += 1
        ready = self._rows[start : self._printed]
        if ready:
            await self._bar.print([answer(row) for row in ready])
            for row in ready:
                self._explain(row)
        ended = sum(row.ended for row in self._rows)
        self._bar.show(ended, str(self._count))

    def _explain(self, row: FileInput) -> None:
        """Log why an input did not succeed; standard output holds only the status."""
        if row.refused:
            log(f"line {row.line.number}: refused: {row.refused}")
        elif row.status is not None and not row.status.succeeded:
            facts = [row.status.status, row.status.termination, row.status.reason, row.status.by]
            words = list(dict.fromkeys(word for word in facts if word))
            log(f"line {row.line.number}: {': '.join(words)}")

    def code(self) -> int:
        """1 before 3."""
        if any(row.ended and not _succeeded(row) for row in self._rows):
            return Exit.UNFINISHED
        return Exit.OK if all(row.ended for row in self._rows) else Exit.DELAYED

    def name_the_others(self) -> None:
        """Log the earliest of the inputs that are delayed or wait."""
        rest = [row for row in self._rows if not row.ended]
        if not rest:
            return
        first = min(rest, key=_due)
        status = first.status
        state = status.status if status else "not admitted"
        if status is not None and status.wait is not None:
            state = waits_for(status.wait.reason, status.wait.tickets, status.wait.awaits)
        until = f" until {moment(status.due_at_ms)}" if status and status.due_at_ms else ""
        others = f", and {len(rest) - 1} more" if len(rest) > 1 else ""
        log(f"line {first.line.number} of session {first.line.session} is {state}{until}{others}")
        behind = sum(row.ended for row in self._rows[self._printed :])
        if behind:
            log(f"{behind} inputs after line {self._rows[self._printed].line.number} have ended; "
                "their lines are printed when all before them have")  # fmt: skip


def _succeeded(row: FileInput) -> bool:
    return row.status is not None and row.status.succeeded


def _due(row: FileInput) -> tuple[float, int]:
    due = row.status.due_at_ms if row.status else None
    return (float("inf") if due is None else due, row.line.number)
