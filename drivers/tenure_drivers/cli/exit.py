"""Exit codes, and the errors that end a command: messages for standard error and an exit code."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Iterator

from tenure.kind import Kind

from ..stores.errors import TenureError
from ..stores.url import redact

__all__ = [
    "CliExit",
    "Exit",
    "UnreadableSession",
    "no_session",
    "stop_if_no_session",
    "session_of",
    "store_lost",
    "unreadable_if_it_fails",
    "usage_error",
]


class Exit(enum.IntEnum):
    """Exit codes of all commands; `tenure X --help` lists the meanings for one command."""

    OK = 0
    UNFINISHED = 1  # a prompt failed, a check found a violation, or output could not be written
    UNUSABLE = 2  # invalid arguments or input
    DELAYED = 3  # some prompts are delayed or waiting
    LOST = 4  # the store is unavailable, or a session cannot be read
    BROKEN_PIPE = 128 + 13
    INTERRUPTED = 128 + 2
    TERMINATED = 128 + 15


class CliExit(Exception):
    """End the command: print `lines` on standard error and exit with `code`."""

    def __init__(self, code: int, *lines: str) -> None:
        super().__init__(code, *lines)
        self.code = code
        self.lines = lines


class UnreadableSession(Exception):
    """A record of one session cannot be read; other sessions can.  `session_id` is empty if it is unknown."""

    def __init__(self, why: str, session_id: str = "") -> None:
        super().__init__(why)
        self.session_id = session_id


@contextlib.contextmanager
def unreadable_if_it_fails(session_id: str) -> Iterator[None]:
    """Raise UnreadableSession for any unexpected error while the rows of a session are read or shown (STORE-47)."""
    try:
        yield
    except (CliExit, UnreadableSession, TenureError, OSError):
        raise
    except Exception as error:
        why = f"the rows of session {session_id!r} do not fit together: {error!r}"
        raise UnreadableSession(why, session_id) from error


def session_of(question: object) -> str:
    """Return the session of a question; empty for a question about the whole store."""
    return str(getattr(question, "session_id", ""))


def usage_error(*lines: str) -> CliExit:
    """Return the error for invalid arguments or input."""
    return CliExit(Exit.UNUSABLE, *lines)


def no_session(session_id: str, url: str) -> str:
    """Return the message for a session that a store does not hold."""
    return f"no session {session_id!r} in {redact(url)}"


def stop_if_no_session(session_id: str, kind: Kind | None) -> None:
    """Raise CliExit for the id of a job or a trigger, where only sessions are shown."""
    if kind is not None and kind is not Kind.SESSION:
        command = "tenure job" if kind is Kind.JOB else "tenure triggers list"
        raise usage_error(f"{session_id!r} is a {kind.value}: `{command} {session_id}` shows it")


def store_lost(url: str, error: object) -> CliExit:
    """Return the error for a store that is unavailable or unreadable."""
    return CliExit(Exit.LOST, f"store {redact(url)}: {error}")
