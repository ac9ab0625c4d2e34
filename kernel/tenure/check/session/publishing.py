"""The publishers of the session model: they adopt a session, give its events to a sink, and move the cursor.

A publisher may crash between giving and Publish, an answer may be lost, and several may be at work on one session.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ... import commands as c
from ...replace import replace
from .snapshot import S, Snapshot
from .states import History
from .transitions import Transition, TransitionCache

__all__ = ["ONLY_GIVEN", "publishing_steps"]


ONLY_GIVEN: Final = "what is published was given to the sink before"

Published = tuple[tuple[str, str, Transition | None], Transition | None, History, tuple[str, ...]]


def publishing_steps(
    transitions: TransitionCache, snapshot: Snapshot, history: History, publishers: int
) -> Iterator[Published]:
    """Yield what publishers can do: the label, the transition if there is one, the history after it, and what it violates."""
    session = snapshot.session
    if session.published is None:
        adopted = transitions.execute(snapshot, c.Publish(S, 0))
        yield ("publisher", "adopts", adopted), adopted, history, ()
    for given in sorted(set(history.given)):
        left = list(history.given)
        left.remove(given)
        after = replace(history, given=tuple(left))
        published = transitions.execute(snapshot, c.Publish(S, given))
        told = published.after.session.published or 0
        broken = () if told <= history.told else (ONLY_GIVEN,)
        yield ("publisher", "Publish", published), published, after, broken
        if published.changed:
            lost = ("publisher", "Publish, the answer is lost", published)
            yield lost, published, history, broken
        yield ("publisher", "crashes", None), None, after, ()
    if session.unpublished_since_ms is None or len(history.given) >= publishers:
        return
    assert session.published is not None
    for through in sorted({session.published + 1, session.next_event - 1}):
        text = "gives its events" if through == session.next_event - 1 else "gives one event"
        given_too = tuple(sorted((*history.given, through)))
        after = replace(history, given=given_too, told=max(history.told, through))
        yield ("publisher", text, None), None, after, ()
