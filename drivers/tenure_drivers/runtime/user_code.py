"""Await code of users, and log what it raises.

Whatever it raises is an Exception afterwards, unless it ends the task or the process.

Spec: specs/run.md, FAIL-15.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Awaitable, Iterator
from typing import Any, Final, TypeVar

from ..redaction import without_secrets
from ..stores.errors import TenureError
from .errors import BaseExceptionRaised, describe

__all__ = [
    "as_exception",
    "ending_forks",
    "guard",
    "log",
    "log_failure",
    "must_propagate",
    "traceback_of",
]


T = TypeVar("T")

log = logging.getLogger("tenure.turn")
FORKED: Final = 70  # exit code of a fork that returned


@contextlib.contextmanager
def ending_forks() -> Iterator[None]:
    """End a process that code of users has forked and that returns from that code, or raises.

    Otherwise it would go on as a second worker, with the connections, locks and signals of the first one.
    """
    began_in = os.getpid()
    try:
        yield
    finally:
        if os.getpid() != began_in:
            sys.stderr.write(f"a fork of process {began_in} returned from its function: ended\n")
            os._exit(FORKED)


def must_propagate(error: BaseException, task: asyncio.Task[Any] | None) -> bool:
    """Return True if this is no failure of the code that raised it in `task`.

    It is a cancellation of the task, Ctrl-C, or the end of a coroutine that is closed unfinished.  A KeyboardInterrupt
    that the code itself raises looks like Ctrl-C, unless the process ignores SIGINT as the workers of `tenure run` do.
    """
    kind = type(error)  # an `isinstance` reads `__class__`, which may raise
    if issubclass(kind, asyncio.CancelledError):
        return task is not None and task.cancelling() > 0
    if issubclass(kind, KeyboardInterrupt):
        return _can_be_interrupted()
    if issubclass(kind, GeneratorExit):
        return task is None or _current_task() is not task
    return False


def _can_be_interrupted() -> bool:
    """Return True if Ctrl-C may raise KeyboardInterrupt here: in the main thread, unless SIGINT is ignored."""
    if threading.current_thread() is not threading.main_thread():
        return False
    return signal.getsignal(signal.SIGINT) not in (signal.SIG_IGN, signal.SIG_DFL)


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # the garbage collector closes the coroutine, and no event loop is running
        return None


def as_exception(error: BaseException) -> Exception:
    """Return an exception that harms no other turn: the error itself, or a BaseExceptionRaised."""
    if issubclass(type(error), Exception) and _has_class(error):
        assert isinstance(error, Exception)
        return error
    raised = BaseExceptionRaised(error)
    raised.__cause__ = error
    return raised


def _has_class(error: BaseException) -> bool:
    """Return True if the class of an exception can be read, as every handler of exceptions does."""
    try:
        return isinstance(error.__class__, type)
    except BaseException:
        return False


async def guard(work: Awaitable[T]) -> T:
    """Await `work`.  Raises BaseExceptionRaised for anything else than an Exception, unless it must propagate."""
    task = asyncio.current_task()
    try:
        return await work
    except BaseException as error:
        if must_propagate(error, task):
            raise
        harmless = as_exception(error)
        if harmless is error:
            raise
        raise harmless from error


# -- the log


def log_failure(session_id: str, run_id: str, what: str, error: BaseException) -> None:
    """Log an error of user code as one record of the logger `tenure.turn`, with its traceback and without secrets.

    Control characters are escaped, so that a text cannot send commands to the terminal.

    An exception of tenure without a cause needs no traceback: its message says what was refused or reported.  The record
    has the attributes `session_id` and `run_id`.
    """
    names = {"session_id": session_id, "run_id": run_id}
    shown = traceback_of(error)
    log.warning("session %s, run %s: %s%s", session_id, run_id, what, shown, extra=names)


def traceback_of(error: BaseException) -> str:
    """Return the traceback of an error of user code for the log, after a line break; empty: its message says all."""
    if isinstance(error, TenureError) and not isinstance(error, BaseExceptionRaised):
        if error.__cause__ is None:
            return ""
        error = error.__cause__
    if isinstance(error, BaseExceptionRaised):
        error = error.error
    try:
        lines = traceback.format_exception(error)
    except BaseException:  # the text of an exception may raise whatever it likes
        where = BaseException.__dict__["__traceback__"].__get__(error)
        lines = [*traceback.format_tb(where), describe(error)]
    shown = "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in "".join(lines))
    return "\n" + without_secrets(shown).rstrip()
