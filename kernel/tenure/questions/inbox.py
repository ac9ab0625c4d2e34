"""The inputs of a session with their texts and states, also those that have ended.  Spec: specs/inbox.md."""

from __future__ import annotations

from attrs import frozen

from ..indexes import QUEUE_ENTRIES
from ..queries import First, Get, Question, existing
from ..records import Input, QueueEntry, Session
from .core import PAGE, InputStatus, Steps, status_steps

__all__ = ["Inbox", "InboxItem", "InboxPage"]


@frozen
class InboxItem:
    """An input as it was submitted, its place in the queue, and its status."""

    input: Input
    queue_entry: QueueEntry
    status: InputStatus


@frozen
class InboxPage:
    """Inputs in the order of their ids.  `after`: where the next page begins; None: this is the last one."""

    items: tuple[InboxItem, ...]
    after: str | None


@frozen
class Inbox(Question[InboxPage]):
    """A page of a session's inputs, also of those that have ended.

    `kinds`, `states`: only these, `states` as in `InputStatus.status`; () is all.  `limit`: how many inputs are looked
    at, at most 256, so a page may have fewer and not be the last one.
    """

    session_id: str
    kinds: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    after: str = ""
    limit: int = PAGE

    def steps(self) -> Steps:
        s, limit = self.session_id, min(self.limit, PAGE)
        session = yield Get(Session, (s,))
        after = (self.after,) if self.after else ()
        entries = yield First(QUEUE_ENTRIES, (s,), limit, after)
        items = []
        for entry in entries:
            submitted = existing((yield Get(Input, (s, entry.input_id))), f"input {entry.input_id}")
            if self.kinds and submitted.kind not in self.kinds:
                continue
            status = yield from status_steps(session, entry)
            if not self.states or status.status in self.states:
                items.append(InboxItem(submitted, entry, status))
        last = entries[-1].input_id if len(entries) == limit and entries else None
        return InboxPage(tuple(items), last)
