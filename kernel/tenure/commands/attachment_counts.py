"""The columns of a session that count its attachments.  Spec: specs/attachment.md."""

from __future__ import annotations

from collections.abc import Iterable

from ..records import Attachment, Intent, Session
from ..replace import replace

__all__ = ["count_attachments", "without_attachments"]


def count_attachments(session: Session, intents: int, scraps: int, now_ms: int) -> Session:
    """Return the session with so many more intents and scraps (ATTACH-4, ATTACH-40).  Without any it is not copied."""
    if intents:
        session = replace(session, intent_count=((session.intent_count or 0) + intents) or None)
    if session.intent_count is None and session.intents_at_ms is not None:
        session = replace(session, intents_at_ms=None)
    if not scraps:
        return session
    count = ((session.scrap_count or 0) + scraps) or None
    since = session.scraps_since_ms
    since = None if count is None else now_ms if since is None else since
    return replace(session, scrap_count=count, scraps_since_ms=since)


def without_attachments(session: Session, rows: Iterable[Attachment], now_ms: int) -> Session:
    """ATTACH-23: return a destroyed session at rest after these attachments have become scraps."""
    held = [row for row in rows if row.held]
    intents = sum(isinstance(row.state, Intent) for row in held)
    after = count_attachments(session, -intents, len(held), now_ms)
    return replace(after, due_at_ms=after.intents_at_ms)  # at rest nothing else is due
