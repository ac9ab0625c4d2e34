"""Session view: the reads that most commands share.  Spec: specs/store.md."""

from __future__ import annotations

from attrs import frozen

from ..indexes import DELAYED, OPEN_RUNS, READY
from ..limits import UNFINISHED_RUNS_MAX
from ..queries import First, Get, Query
from ..records import ExecutedCommand, QueueEntry, Run, Session

__all__ = ["CommandView", "SessionView", "session_queries"]


@frozen
class SessionView:
    """The reads that most commands share: enough to decide what comes next."""

    session: Session | None
    runs: tuple[Run, ...]
    users: tuple[QueueEntry, ...]
    systems: tuple[QueueEntry, ...]
    delayed: tuple[QueueEntry, ...]


@frozen
class CommandView(SessionView):
    """The session, and what the command left when it was executed before."""

    executed: ExecutedCommand | None


def session_queries(
    session_id: str, ready: int = 1, delayed: int = 1
) -> tuple[
    Query[Session | None],
    Query[tuple[Run, ...]],
    Query[tuple[QueueEntry, ...]],
    Query[tuple[QueueEntry, ...]],
    Query[tuple[QueueEntry, ...]],
]:
    """The five queries of a `SessionView`.  `ready`: how many heads a lane; one more than the command may take away."""
    at = (session_id,)
    return (
        Get(Session, at),
        First(OPEN_RUNS, at, UNFINISHED_RUNS_MAX, counted="unfinished_run_count"),
        First(READY, (session_id, "user"), ready, counted="ready_user_count"),
        First(READY, (session_id, "system"), ready, counted="ready_system_count"),
        First(DELAYED, at, delayed, counted="delayed_count"),
    )
