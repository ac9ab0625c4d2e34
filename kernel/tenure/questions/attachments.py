"""Questions about attachments, and about scraps whose bytes are to be deleted.  Spec: specs/attachment.md."""

from __future__ import annotations

from attrs import frozen

from ..attachment_records import Stage
from ..indexes import ATTACHMENT_STAGES, ATTACHMENTS, SCRAPS
from ..limits import ATTACHMENTS_MAX
from ..queries import Each, First, Get, Question
from ..records import Attachment, Scrap, Session
from .core import PAGE, Steps

__all__ = [
    "HeldAttachments",
    "ScrapSessions",
    "Scraps",
    "SessionAttachments",
]


@frozen
class HeldAttachments(Question[tuple[Attachment, ...]]):
    """ATTACH-52: those of these attachments that the session holds, as an intent or attached."""

    session_id: str
    attachment_ids: tuple[str, ...]

    def steps(self) -> Steps:
        s = self.session_id
        found = yield Each(tuple([Get(Attachment, (s, each)) for each in self.attachment_ids]))
        return tuple([row for row in found if row is not None and row.held])


@frozen
class SessionAttachments(Question[tuple[Attachment, ...]]):
    """A page of the attachments of a session, with its scraps, in the order of their ids after `after`."""

    session_id: str
    after: str = ""
    limit: int = PAGE

    def steps(self) -> Steps:
        after = (self.after,) if self.after else ()
        return (yield First(ATTACHMENTS, (self.session_id,), self.limit, after))


@frozen
class Scraps(Question[tuple[Attachment, ...]]):
    """At most 64 scraps of a session that may be claimed at a time of the store's clock, the oldest first."""

    session_id: str
    now_ms: int

    def steps(self) -> Steps:
        free = yield First(ATTACHMENT_STAGES, (self.session_id, Stage.SCRAP.value), ATTACHMENTS_MAX)
        claimed = yield First(
            ATTACHMENT_STAGES, (self.session_id, Stage.CLAIMED.value), ATTACHMENTS_MAX
        )
        over = [row for row in claimed if _until(row) < self.now_ms]
        return (*free, *over)[:ATTACHMENTS_MAX]


def _until(row: Attachment) -> int:
    assert isinstance(row.state, Scrap), row
    return row.state.until_ms or 0


@frozen
class ScrapSessions(Question[tuple[Session, ...]]):
    """ATTACH-40: a page of the sessions with scraps, in the order of the time since when they have some."""

    after: tuple[int, str] | tuple[()] = ()
    limit: int = PAGE

    def steps(self) -> Steps:
        return (yield First(SCRAPS, (), self.limit, self.after))
