"""Properties of the attachments of a session."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from ...attachment_records import Stage
from ...limits import INTENT_AGE_MS
from ...records import Attached, Attachment, Intent
from .snapshot import Snapshot, rows_of
from .step import Step

__all__ = ["ATTACHMENT_DECISIONS", "ATTACHMENT_STATES"]


FORGETTING: Final = ("Prune", "Forget", "Amend")


def _rows(b: Snapshot) -> Iterable[Attachment]:
    found: Iterable[Attachment] = rows_of(b.world, Attachment).values()
    return found


def counted(b: Snapshot) -> bool:
    """Return True if the counts on the session's row are those of its intents and scraps."""
    stages = [row.stage for row in _rows(b)]
    intents, scraps = stages.count(Stage.INTENT), len([s for s in stages if s >= Stage.SCRAP])
    session = b.session
    known = (session.intent_count or 0, session.scrap_count or 0)
    return known == (intents, scraps) and (session.scraps_since_ms is None) is (scraps == 0)


def deleted_of_nobody(b: Snapshot) -> bool:
    """Return True if bytes that may be deleted at this moment are held by no attachment."""
    rows = list(_rows(b))
    claimed = {row.digest for row in rows if row.stage == Stage.CLAIMED}
    return not any(row.held and row.digest in claimed for row in rows)


def aged_in_time(b: Snapshot) -> bool:
    """Return True if the session is due, or will be, for each intent that ages."""
    unfinished = {run.run_id for run in b.unfinished()}
    for row in _rows(b):
        if not isinstance(row.state, Intent):
            continue
        at = b.session.intents_at_ms
        if row.state.run_id is None and (at is None or at > row.at_ms + INTENT_AGE_MS):
            return False
        if row.state.run_id not in (None, *unfinished) and not b.session.sweep:
            return False
    return True


def attached_in_order(t: Step) -> bool:
    """Return True if only intents are attached, and only Forget and Amend let go of what is attached."""
    before = {row.attachment_id: row for row in _rows(t.before)}
    after = {row.attachment_id: row for row in _rows(t.after)}
    if before == after:
        return True
    forgets = t.command.__class__.__name__ in FORGETTING
    for name, row in before.items():
        left = name not in after or not after[name].held
        if isinstance(row.state, Attached) and left and not forgets:
            return False
    attached = [name for name, row in after.items() if isinstance(row.state, Attached)]
    return all(name in before and before[name].held for name in attached)


ATTACHMENT_STATES: Final[dict[str, Callable[[Snapshot], bool]]] = {
    "the counts of intents and scraps are those of the rows": counted,
    "bytes that are being deleted are held by nobody": deleted_of_nobody,
    "an intent has an unfinished run, or the session is or becomes due to drop it": aged_in_time,
}
ATTACHMENT_DECISIONS: Final[dict[str, Callable[[Step], bool]]] = {
    "only intents are attached, and what is attached stays until it is forgotten": attached_in_order,
}
