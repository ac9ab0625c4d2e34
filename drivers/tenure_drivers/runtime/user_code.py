"""Await code of users.  Whatever it raises is an Exception afterwards, unless it ends the task or the process.

Spec: specs/run.md, FAIL-15.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable
from typing import Any, TypeVar

from .errors import BaseExceptionRaised

__all__ = ["as_exception", "guard", "must_propagate"]


T = TypeVar("T")


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
