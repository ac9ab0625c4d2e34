"""Whether the work that tickets await can end without a person.  Spec: specs/ticket.md, WAIT-38."""

from __future__ import annotations

from typing import Final

from attrs import frozen

from ..outbound_records import Undeliverable
from ..queries import Get, Question, existing
from ..records import Run, Session
from ..run_values import Work
from .core import Status, Steps
from .outbound import SessionOutbound

__all__ = ["WorkCanEnd"]


LOOKED_AT_MAX: Final = 64


@frozen
class WorkCanEnd(Question[bool]):
    """WAIT-38: whether one of these works can end by itself: it is at work, or its end is on the way.

    Only inputs of this store are looked at, and what they await themselves, at most 64.  `asked_by`: the session that waits;
    if it waits for other works by now, the answer is True.
    """

    asked_by: str
    works: tuple[Work, ...]

    def steps(self) -> Steps:
        if (yield from _awaited_by(self.asked_by)) != set(self.works):
            return True
        pending = [(self.asked_by, work) for work in self.works]
        seen: set[Work] = set()
        while pending and len(seen) < LOOKED_AT_MAX:
            asked_by, work = pending.pop(0)
            if work in seen or work.peer or work.input_id is None:
                continue
            seen.add(work)
            status = yield from Status(work.done_by, work.input_id).steps()
            if status is None:
                if (yield from _is_on_the_way(asked_by, work.done_by)):
                    return True
            elif status.ended:
                if (yield from _is_on_the_way(work.done_by, asked_by)):
                    return True
            elif status.wait is None or (status.wait.ends_by_itself and not status.wait.awaits):
                return True
            else:
                pending += [(work.done_by, each) for each in status.wait.awaits]
        return False


def _awaited_by(session_id: str) -> Steps:
    """Return the works that the open turn of a session waits for."""
    session = yield Get(Session, (session_id,))
    if session is None or session.open_run is None:
        return set()
    run = yield Get(Run, (session_id, session.open_run))
    waited = existing(run, f"run {session.open_run}").waits_for()
    return {each.awaits for each in waited if each.awaits is not None}


def _is_on_the_way(sender: str, to: str) -> Steps:
    """Return whether a session still has a command to send to another one."""
    rows = yield from SessionOutbound(sender).steps()
    return any(row.to == to and not isinstance(row.state, Undeliverable) for row in rows)
