"""Reads the sessions of a whole store page by page, and steps over those that cannot be read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, TypeVar

from tenure.queries import Question
from tenure.questions.core import PAGE
from tenure.questions.sessions import SessionRows

from .exit import UnreadableSession
from .open_store import Reader

__all__ = ["session_ids", "session_pages"]


S = TypeVar("S")


async def session_pages(
    store: Reader,
    question: Callable[[str, int], Question[tuple[S, ...]]],
    session_id: Callable[[S], str],
    unreadable: list[UnreadableSession],
) -> AsyncIterator[tuple[S, ...]]:
    """Yield pages of readable sessions, and add the error of each other one to `unreadable`.

    `question(after, most)` asks for a page.  If a page cannot be read, its sessions are loaded one by one.
    """
    after, most = "", PAGE
    while True:
        try:
            page = await store.ask(question(after, most))
        except UnreadableSession as error:
            if most == 1:
                if error.session_id <= after:  # its row does not name it, so it cannot be skipped
                    raise
                unreadable.append(error)
                after = error.session_id
            most = 1 if most > 1 else PAGE
            continue
        if not page:
            return
        yield page
        after = session_id(page[-1])


async def session_ids(
    store: Reader, names: Sequence[str], unreadable: list[UnreadableSession]
) -> AsyncIterator[str]:
    """Yield these session ids, or all ids of the store if there are none."""
    for name in names:
        yield name
    if not names:
        async for page in session_pages(store, SessionRows, _id_of, unreadable):
            for session in page:
                yield session.session_id


def _id_of(session: Any) -> str:
    return str(session.session_id)
