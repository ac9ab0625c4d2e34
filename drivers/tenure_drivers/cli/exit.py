"""What ends a command early: each is one line for a person, and an exit code."""

from __future__ import annotations

import enum


class Exit(enum.IntEnum):
    OK = 0
    UNFINISHED = 1  # something was not consumed, or a check found a violation
    UNUSABLE = 2
    DELAYED = 3
    LOST = 4  # the store, or what is asked for cannot be read
    BROKEN_PIPE = 128 + 13
    INTERRUPTED = 128 + 2
    TERMINATED = 128 + 15


class CliExit(Exception):
    """Say this on standard error and leave with this code."""

    def __init__(self, code: int, *lines: str) -> None:
        super().__init__(code, *lines)
        self.code = code
        self.lines = lines


class UnreadableSession(Exception):
    """A record of one session cannot be read; the store as a whole is well.  `session_id`: whose, where that is known."""

    def __init__(self, why: str, session_id: str = "") -> None:
        super().__init__(why)
        self.session_id = session_id


def usage_error(*lines: str) -> CliExit:
    return CliExit(Exit.UNUSABLE, *lines)


def store_lost(url: str, error: object) -> CliExit:
    return CliExit(Exit.LOST, f"store {url}: {error}")
