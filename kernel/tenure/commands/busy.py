"""What keeps a session from being idle or at rest.  Specs: specs/inbox.md, specs/cancel.md."""

from __future__ import annotations

from attrs import frozen

from ..machines import lease as lease_
from ..policy import Lane
from ..records import Phase, Session
from ..scheduling import head, outdated
from .session_view import SessionView

__all__ = ["BusyWith", "busy_with", "working"]


@frozen
class BusyWith:
    """Why a session is busy: a run that works or waits, or else an input that is ready.

    Both are None under a lease without a run, and during an import.
    """

    run_id: str | None = None
    ready: str | None = None


def working(session: Session, now_ms: int) -> BusyWith | None:
    """Return the open turn, or the run under a live lease; None: the session is at rest."""
    lease = session.lease
    live = isinstance(lease, lease_.Held) and lease_.live_at(lease, now_ms)
    if session.open_run is None and not live:
        return None
    return BusyWith(session.open_run or session.lease_run)


def busy_with(view: SessionView, session: Session, now_ms: int) -> BusyWith | None:
    """INBOX-35: return what is at work, unfinished or ready; None: the session is idle.  Delayed inputs do not count.

    IMPORT-2: an import is at work.
    """
    if session.phase is Phase.IMPORTING:
        return BusyWith()
    if found := working(session, now_ms):
        return found
    for run in view.runs:
        if not outdated(session, run):
            return BusyWith(run.run_id)
    for lane, ready in ((Lane.USER, view.users), (Lane.SYSTEM, view.systems)):
        if (first := head(session, ready, lane)) is not None:
            return BusyWith(ready=first.input_id)
    return None
