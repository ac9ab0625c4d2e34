"""Questions that find sessions: by label, by the session that they come from, by creation, by phase.  Spec: specs/profile.md."""

from __future__ import annotations

from typing import Any

from attrs import frozen

from ..indexes import CREATED, FROM_SESSION, LABELLED, SESSIONS
from ..queries import Each, First, Get, Index, Question
from ..records import Phase, Profile, Session
from .core import PAGE, Steps

__all__ = ["SessionItem", "SessionRows", "Sessions", "SessionsPage", "position_of"]


@frozen
class SessionRows(Question[tuple[Session, ...]]):
    """Session rows in the order of their ids, after the id `after`."""

    after: str = ""
    limit: int = PAGE

    def steps(self) -> Steps:
        return (yield First(SESSIONS, (), self.limit, (self.after,) if self.after else ()))


@frozen
class SessionItem:
    """A session, and its profile if it has one."""

    session: Session
    profile: Profile | None


@frozen
class SessionsPage:
    """Sessions in order.  `after`: where the next page begins; None: this is the last one."""

    items: tuple[SessionItem, ...]
    after: str | None


@frozen
class Sessions(Question[SessionsPage]):
    """PROFILE-6: a page of the sessions that have what is asked for.

    `label`: with this name and value.  `parent`: that come from this session, as a child or as a fork.  `phase`: in this one.
    `newest`: those with a profile, the newest first.  Without label, parent and `newest` the order is that of the ids, with
    the sessions that have no profile; else that of the creation of the profiles.
    `after`: of the last page.  `limit`: how many sessions are looked at, at most 256, so a page may have fewer and not be the
    last one.  `without`: sessions that are left out.
    """

    label: tuple[str, str] | None = None
    parent: str | None = None
    phase: Phase | None = None
    newest: bool = False
    after: str = ""
    limit: int = PAGE
    without: frozenset[str] = frozenset()

    @property
    def by_id(self) -> bool:
        """Return True if the order is that of the ids."""
        return self.label is None and self.parent is None and not self.newest

    def steps(self) -> Steps:
        limit = min(self.limit, PAGE)
        if self.by_id:
            found = yield First(SESSIONS, (), limit, (self.after,) if self.after else ())
            last = found[-1].session_id if found else ""
        else:
            index, within = self._index()
            at = position_of(self.after)
            found = yield First(index, within, limit, at, backwards=self.newest)
            last = f"{found[-1].created_at_ms}/{found[-1].session_id}" if found else ""
        wanted = [row.session_id for row in found if row.session_id not in self.without]
        sessions = yield Each(tuple([Get(Session, (name,)) for name in wanted]))
        profiles = yield Each(tuple([Get(Profile, (name,)) for name in wanted]))
        items = [
            SessionItem(session, profile)
            for session, profile in zip(sessions, profiles, strict=True)
            if session is not None and self._has(session, profile)
        ]
        return SessionsPage(tuple(items), last if found and len(found) == limit else None)

    def _index(self) -> tuple[Index[Any], tuple[str, ...]]:
        """Return the index that is read, and the leading columns: of a parent rather than of a label."""
        if self.parent is not None:
            return FROM_SESSION, (self.parent,)
        return (CREATED, ()) if self.label is None else (LABELLED, self.label)

    def _has(self, session: Session, profile: Profile | None) -> bool:
        if session.kind is not None:  # JOB-83
            return False
        if self.phase is not None and session.phase is not self.phase:
            return False
        if self.label is None:
            return True
        return profile is not None and self.label in profile.labels


def position_of(after: str) -> tuple[()] | tuple[int, str]:
    """Return the place after which a page in the order of creation begins.  Raises ValueError if no page has ended there."""
    if not after:
        return ()
    at_ms, divider, session_id = after.partition("/")
    if not divider or not at_ms.isdecimal():
        raise ValueError(f"after {after!r}: expected what the page before has answered")
    return int(at_ms), session_id
