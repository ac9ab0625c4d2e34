"""Writing to standard output (results) and standard error (messages and progress)."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from .exit import CliExit, Exit

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = [
    "Bar",
    "answers_apart",
    "log",
    "open_standard_streams",
    "printable",
    "write_bytes",
    "write_lines",
    "write_text",
]


# What a terminal may obey, or use to show text in another order: controls, separators, bidirectional marks.
CONTROLS: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
CLAUSE: Final = re.compile(r"\((?!UTF-|SHA-)([A-Z]{3,}-\d+)\)")


_answers = 1  # the file descriptor of standard output; another one in `answers_apart`


def printable(text: str) -> str:
    """Escape control characters except tab and newline, so that no text can send commands to a terminal."""
    return CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


def log(message: str) -> None:
    """Print one line on standard error, and name the command that explains a clause in it.

    Never fails: escapes control characters and what cannot be encoded, ignores a closed stream.
    """
    message = CLAUSE.sub(r"(tenure explain \1)", printable(message))
    try:
        sys.stderr.write(message.encode("utf-8", "backslashreplace").decode() + "\n")
        sys.stderr.flush()
    except (OSError, UnicodeEncodeError, ValueError):
        pass


def write_lines(values: Sequence[Any]) -> None:
    """Write one JSON line per value to standard output, in one write.  Raises CliExit as `write_bytes`.

    Half of a surrogate pair, which strict readers of JSON refuse, is written as `?` (CHAT-24).
    """
    lines = [_escaped_json(json.dumps(value, ensure_ascii=False)) for value in values]
    write_bytes("".join(f"{line}\n" for line in lines).encode("utf-8", "replace"))


def write_text(lines: Iterable[str]) -> None:
    """Write lines for people to standard output, with control characters escaped.  Raises CliExit as `write_bytes`."""
    text = "".join(f"{printable(line)}\n" for line in lines)
    write_bytes(text.encode("utf-8", "backslashreplace"))


def _escaped_json(text: str) -> str:
    """Escape what JSON leaves as it is but a terminal may obey; such characters occur in strings only."""
    return CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def write_bytes(content: bytes) -> None:
    """Write to standard output without a buffer.  Raises CliExit if it is closed, full or broken."""
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(_answers, view) :]
    except OSError as error:
        raise _output_lost(error) from error


def _output_lost(error: OSError) -> CliExit:
    silence_output()
    if isinstance(error, BrokenPipeError):
        return CliExit(Exit.BROKEN_PIPE)
    why = "closed" if error.errno == errno.EBADF else error.strerror or error
    return CliExit(Exit.UNFINISHED, f"standard output: {why}")


class _Output(io.TextIOWrapper):
    """Standard output for libraries that print, such as click.  Raises CliExit if it is closed, full or broken."""

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError as error:
            raise _output_lost(error) from error

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            raise _output_lost(error) from error


def open_standard_streams() -> None:
    """Prepare file descriptors 0 to 2; call this before any file is opened.

    A stream that was closed by the parent process would otherwise be the number of the next file that is opened, and
    output would be written into a database.  Its place is taken by the null device: messages are dropped, reading
    and writing fail as on a closed stream.
    """
    for number, mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, mode)
            assert null == number, "the lower descriptors are open"
            os.set_inheritable(null, True)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)
    encoding = "utf-8" if sys.stdout is None else sys.stdout.encoding
    raw = io.BufferedWriter(io.FileIO(1, "w", closefd=False))
    sys.stdout = _Output(
        raw, encoding=encoding, errors="backslashreplace", line_buffering=os.isatty(1)
    )


def silence_output() -> None:
    """Redirect standard output to the null device, so that the flush at exit cannot fail again."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, _answers)
    os.close(null)


@contextlib.contextmanager
def answers_apart() -> Iterator[None]:
    """Keep standard output for answers: what else in this process prints, and its child processes, go to standard error."""
    global _answers
    sys.stdout.flush()
    _answers = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(_answers, 1)
        os.close(_answers)
        _answers = 1


class Bar:
    """A progress bar on standard error.  Does nothing if standard error is not a terminal."""

    def __init__(self, what: str, total: int | None) -> None:
        self._both = os.isatty(_answers)
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
