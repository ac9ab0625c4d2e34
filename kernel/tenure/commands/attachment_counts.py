"""The columns of a session that count its attachments.  Spec: specs/attachment.md."""

from __future__ import annotations

from ..records import Session
from ..replace import replace

__all__ = ["count_attachments"]


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
