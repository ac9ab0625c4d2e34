"""The attachments that a Commit, a Checkpoint or an Amend attaches.  Spec: specs/attachment.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..outcome import Refusal, Refused, Update
from ..queries import Each, Get
from ..records import Attached, Attachment, Intent
from ..replace import replace
from .validation import validate_id

__all__ = ["attach", "attachment_queries", "refuse_unknown", "validate_ids"]


def attachment_queries(session_id: str, ids: Iterable[str]) -> Each[Attachment | None]:
    """Return the queries of attachments."""
    return Each(tuple([Get(Attachment, (session_id, each)) for each in ids]))


def validate_ids(ids: Sequence[str], most: int) -> str | None:
    """Return what is wrong with ids of attachments, or None."""
    if len(ids) > most:
        return f"{len(ids)} attachments; at most {most}"
    if len(set(ids)) < len(ids):
        twice = next(each for each in ids if ids.count(each) > 1)
        return f"attachment {twice}: named twice"
    return next((p for p in (validate_id("attachment_id", each) for each in ids) if p), None)


def refuse_unknown(ids: Sequence[str], known: Sequence[Attachment | None]) -> Refused | None:
    """ATTACH-10: refuse ids of attachments that the session does not hold."""
    for attachment_id, row in zip(ids, known, strict=True):
        if row is None or not row.held:
            return Refused(Refusal.UNKNOWN_ATTACHMENT, "ATTACH-10", attachment_id)
    return None


def attach(known: Sequence[Attachment | None], now_ms: int) -> list[Update]:
    """ATTACH-12: return the writes that attach what is an intent."""
    found = [row for row in known if row is not None and isinstance(row.state, Intent)]
    return [Update(replace(row, state=Attached(), at_ms=now_ms)) for row in found]
