"""Methods of a client that read what a session remembers.  Spec: specs/reading.md."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, Final, TypeVar

from tenure.queries import Question
from tenure.questions import (
    ChangeCursor,
    ChangesPage,
    Conversation,
    Graph,
    LoadChanges,
    LoadConversation,
    LoadedSession,
    LoadPage,
    LoadSession,
    LoadTranscript,
    NodeOf,
    TranscriptLine,
    TranscriptPage,
)
from tenure.questions.graph import FROM_THE_FIRST
from tenure.records import Node

from ..stores.base import Unavailable
from .changes import SessionChanges, SessionListener

__all__ = ["POLL_S", "SessionReading"]


A = TypeVar("A")
POLL_S: Final = 3.0  # a change may be missed if a clock is set back
FROM_THE_BEGINNING: Final = ChangeCursor()


class SessionReading:
    """Methods of a client that answer one question each, from one snapshot of the store."""

    session_changes: SessionChanges

    async def ask(self, question: Question[A]) -> A:
        """As Client.ask."""
        raise NotImplementedError

    async def conversation(
        self, session_id: str, before: tuple[int, str] | None = None, limit: int = 200
    ) -> Conversation | None:
        """Return a page of a conversation as people see it; None if there is no such session.

        `before`: that of the page after it; None is the last page, with the open turn and the inbox.
        """
        return await self.ask(LoadConversation(session_id, before, limit))

    async def transcript(
        self, session_id: str, leaf: str | None = None, limit: int = 10_000
    ) -> tuple[TranscriptLine, ...]:
        """Return the path to a node, or to the leaf of the session: at most its last `limit` nodes."""
        return await self.ask(LoadTranscript(session_id, limit, leaf=leaf))

    async def transcript_page(
        self,
        session_id: str,
        *,
        before: str | None = None,
        after: str | None = None,
        limit: int = 256,
    ) -> TranscriptPage | None:
        """Return the nodes before or after a node, or the end of the path; None if the node is not there."""
        return await self.ask(LoadPage(session_id, before, after, limit))

    async def nodes(self, session_id: str, *, hidden: bool = False) -> AsyncIterator[Node]:
        """Yield all nodes of a session in the order of writing, also those on no path; each page from its own snapshot."""
        after: tuple[int, str] | None = FROM_THE_FIRST
        while after is not None:
            page = await self.ask(Graph(session_id, after, hidden=hidden))
            for node in page.nodes:
                yield node
            after = page.after

    async def node(self, session_id: str, node_id: str, *, hidden: bool = False) -> Node | None:
        """Return a node; None if there is none, or if it is hidden and `hidden` is not asked for."""
        return await self.ask(NodeOf(session_id, node_id, hidden))

    async def session(self, session_id: str) -> LoadedSession | None:
        """Return the row of a session, its profile, its frames, the states of the current one, and its usage."""
        return await self.ask(LoadSession(session_id))

    async def settled_changes(
        self, session_id: str, after: ChangeCursor = FROM_THE_BEGINNING
    ) -> AsyncGenerator[ChangesPage, None]:
        """Yield what has changed for readers of a session, then new changes as they happen.  Never ends.

        Begin again with the `after` of the last page that was handled.
        """
        listener = SessionListener()
        self.session_changes.subscribe(session_id, listener)
        try:
            while True:
                listener.woken.clear()
                page: Any = None
                try:
                    page = await self.ask(LoadChanges(session_id, after))
                except Unavailable:
                    pass
                if page is not None and (page.changes or not page.complete):
                    yield page
                if page is not None:
                    after = page.after
                if page is None or not page.more:
                    await listener.wait(POLL_S)
        finally:
            self.session_changes.unsubscribe(session_id, listener)
