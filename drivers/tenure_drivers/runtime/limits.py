"""Limits of a runtime: how many sessions of one key it runs at once, and how many it begins in a minute."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from attrs import field, frozen

from tenure.worker.limits import Keys, Rule

from .errors import describe

__all__ = ["Limit", "keys_of"]


log = logging.getLogger("tenure")


@frozen
class Limit:
    """A limit for each key, within one process (WORKER-21).

    `key(session_id, frame)` returns the key, such as the tenant of the session or the agent that `frame` names; None: the
    limit does not apply.  Of one key at most `at_once` are in progress, and `per_minute` begin in 60 s.  Raises ValueError
    without a number, or for one below 1.
    """

    key: Callable[[str, str], str | None]
    at_once: int | None = field(default=None, kw_only=True)
    per_minute: int | None = field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        given = [number for number in (self.at_once, self.per_minute) if number is not None]
        if not given or min(given) < 1:
            raise ValueError(
                f"Limit(at_once={self.at_once}, per_minute={self.per_minute}):"
                " expected at_once, per_minute or both, at least 1"
            )

    @property
    def rule(self) -> Rule:
        """The limit as the kernel knows it."""
        return Rule(self.at_once, self.per_minute)


def keys_of(limits: Sequence[Limit], session_id: str, frame: str) -> Keys:
    """Return the key of a session for each limit.  A limit whose function fails does not apply, which is logged."""
    return tuple([_key_of(limit, session_id, frame) for limit in limits])


def _key_of(limit: Limit, session_id: str, frame: str) -> str | None:
    try:
        found = limit.key(session_id, frame)
    except Exception as error:
        log.error("the key of a limit failed for session %s: %s", session_id, describe(error))
        return None
    return None if found is None else str(found)
