"""Await code of users, and log what it raises.

Whatever it raises is an Exception afterwards, unless it ends the task or the process.

Spec: specs/run.md, FAIL-15.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import traceback
from collections.abc import Awaitable
from typing import Any, TypeVar

from ..stores.errors import TenureError
from .errors import BaseExceptionRaised, describe, without_secrets

__all__ = ["as_exception", "guard", "log", "log_failure", "must_propagate"]


T = TypeVar("T")

log = logging.getLogger("tenure.turn")


def must_propagate(error: BaseException, task: asyncio.Task[Any] | None) -> bool:
    """Return True if this is no failure of the code that raised it in `task`.

    It is a cancellation of the task, Ctrl-C in the main thread, or the end of a coroutine that is closed unfinished.
    """
    match error:
        case asyncio.CancelledError():
            return task is not None and task.cancelling() > 0
        case KeyboardInterrupt():
            return threading.current_thread() is threading.main_thread()
        case GeneratorExit():
            return task is None or _current_task() is not task
        case _:
            return False


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # the garbage collector closes the coroutine, and no event loop is running
        return None


def as_exception(error: BaseException) -> Exception:
    """Return an exception that harms no other turn: the error itself, or a BaseExceptionRaised."""
    if isinstance(error, Exception):
        return error
    raised = BaseExceptionRaised(error)
    raised.__cause__ = error
    return raised


async def guard(work: Awaitable[T]) -> T:
    """Await `work`.  Raises BaseExceptionRaised for anything else than an Exception, unless it must propagate."""
    task = asyncio.current_task()
    try:
        return await work
    except Exception:
        raise
    except BaseException as error:
        if must_propagate(error, task):
            raise
        raise as_exception(error) from error


# -- the log


def log_failure(session_id: str, run_id: str, what: str, error: BaseException) -> None:
    """Log an error of user code as one record of the logger `tenure.turn`, with its traceback and without secrets.

    An exception of tenure without a cause needs no traceback: its message says what was refused or reported.  The record
    has the attributes `session_id` and `run_id`.
    """
    names = {"session_id": session_id, "run_id": run_id}
    shown = _traceback(error)
    log.warning("session %s, run %s: %s%s", session_id, run_id, what, shown, extra=names)


def _traceback(error: BaseException) -> str:
    if isinstance(error, TenureError) and not isinstance(error, BaseExceptionRaised):
        if error.__cause__ is None:
            return ""
        error = error.__cause__
    if isinstance(error, BaseExceptionRaised):
        error = error.error
    try:
        lines = traceback.format_exception(error)
    except BaseException:  # the text of an exception may raise whatever it likes
        lines = [*traceback.format_tb(error.__traceback__), describe(error)]
    return "\n" + without_secrets("".join(lines)).rstrip()
