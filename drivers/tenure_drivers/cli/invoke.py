"""Run the body of a command: print its errors on standard error and end the process with its exit code."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

import click

from ..stores.base import Corrupt, OutcomeUnknown, SchemaMismatch, Unavailable
from .exit import CliExit, Exit, UnreadableSession
from .output import log

__all__ = ["code_of", "first_error", "invoke", "invoke_async"]


def invoke(body: Callable[[], int | None]) -> NoReturn:
    """Call `body` and exit with the code that it returns; None is `Exit.OK`.

    The one place where a command line error becomes a message and an exit code.  Each message starts with the name of
    the command, such as `tenure store check`.
    """
    raise SystemExit(code_of(body, click.get_current_context().command_path))


def invoke_async(body: Coroutine[Any, Any, int | None]) -> NoReturn:
    """Run a coroutine in an event loop of its own, then exit as `invoke` does."""
    try:
        invoke(lambda: asyncio.run(body))
    finally:
        body.close()  # if no event loop could be made


def code_of(body: Callable[[], int | None], command: str) -> int:
    """Call `body`, print the messages of its error, and return the exit code."""
    try:
        return int(body() or Exit.OK)
    except (CliExit, UnreadableSession, BaseExceptionGroup) as raised:
        error = first_error(raised)
        if isinstance(error, CliExit):
            for line in error.lines:
                log(f"{command}: {line}")
            return int(error.code)
        if isinstance(error, UnreadableSession):
            log(f"{command}: {error}")
            return int(Exit.LOST)
        raise
    except (Corrupt, OutcomeUnknown, SchemaMismatch, Unavailable) as error:
        log(f"{command}: {error}")  # from a command that had opened the store before
        return int(Exit.LOST)
    except FileNotFoundError:
        if _has_folder():
            raise
        log(f"{command}: the current folder was removed.  Change to another folder")
        return int(Exit.UNUSABLE)
    except KeyboardInterrupt:
        return int(Exit.INTERRUPTED)


def _has_folder() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def first_error(error: BaseException) -> BaseException:
    """Return the first exception that is not a group: task groups wrap what their tasks raise."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
