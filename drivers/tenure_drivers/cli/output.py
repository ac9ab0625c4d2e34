"""Writing to standard output (results) and standard error (messages and progress)."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from .exit import CliExit, Exit

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["Bar", "log", "write_bytes", "write_lines"]


CLAUSE: Final = re.compile(r"\((?!UTF-|SHA-)([A-Z]{3,}-\d+)\)")


def log(message: str) -> None:
    """Print one line on standard error, and name the command that explains a clause in it.

    Never fails: escapes what cannot be encoded, ignores a closed stream.
    """
    message = CLAUSE.sub(r"(tenure explain \1)", message)
    try:
        sys.stderr.write(message.encode("utf-8", "backslashreplace").decode() + "\n")
        sys.stderr.flush()
    except (OSError, UnicodeEncodeError, ValueError):
        pass


def write_lines(values: Sequence[Any]) -> None:
    """Write one JSON line per value to standard output, in one write.  Raises CliExit as `write_bytes`."""
    text = "".join([json.dumps(value, ensure_ascii=False) + "\n" for value in values])
    write_bytes(text.encode("utf-8", "backslashreplace"))


def write_bytes(content: bytes) -> None:
    """Write to standard output without a buffer.  Raises CliExit if it is closed, full or broken."""
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(1, view) :]
    except BrokenPipeError as error:
        silence_output()
        raise CliExit(Exit.BROKEN_PIPE) from error
    except OSError as error:
        silence_output()
        why = f"standard output: {error.strerror or error}"
        raise CliExit(Exit.UNFINISHED, why) from error


def silence_output() -> None:
    """Redirect standard output to the null device, so that the flush at exit cannot fail again."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


class Bar:
    """A progress bar on standard error.  Does nothing if standard error is not a terminal."""

    def __init__(self, what: str, total: int | None) -> None:
        self._both = sys.stdout.isatty()
        self._shown: Progress | None = None
        if sys.stderr.isatty():
            self._shown = _progress()
            self._task = self._shown.add_task(what, total=total, note="")
            self._shown.start()

    def show(self, completed: int, note: str = "") -> None:
        """Update the bar."""
        if self._shown is not None:
            self._shown.update(self._task, completed=completed, note=note)

    async def print(self, values: Sequence[Any]) -> None:
        """Write results; on a terminal that shows both, remove the bar first and draw it again below them."""
        together = self._shown is not None and self._both
        if self._shown is not None and together:
            self._shown.stop()
        await asyncio.to_thread(write_lines, values)
        if self._shown is not None and together:
            self._shown.start()

    def close(self) -> None:
        """Remove the bar."""
        if self._shown is not None:
            self._shown.stop()
            self._shown = None


def _progress() -> Progress:
    from rich import progress  # imported here: rich takes a third of the start-up time
    from rich.console import Console

    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
    )
