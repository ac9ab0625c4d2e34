"""All nodes of a session in the order of writing, a single node, and a session without its history.  Spec: specs/reading.md."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final, TypeAlias

from attrs import frozen

from ..indexes import NODE_IDS, NODES, USAGES
from ..queries import First, Get, Query, Question
from ..records import Frame, Node, Profile, Session, Usage
from .frames import LoadFrames, StateText, named_states, state_steps

__all__ = ["FROM_THE_FIRST", "Graph", "GraphPage", "LoadSession", "LoadedSession", "NodeOf"]


PAGE: Final = 256
Steps: TypeAlias = Generator[Query[Any], Any, Any]
Position: TypeAlias = tuple[int, str]
FROM_THE_FIRST: Final[Position] = (0, "")


@frozen
class GraphPage:
    """Nodes in the order of writing.  `after`: where the next page begins; None: this is the last one."""

    nodes: tuple[Node, ...]
    after: Position | None


@frozen
class Graph(Question[GraphPage]):
    """READ-3: a page of all nodes of a session, also those on no path, in the order of writing.

    `after`: the number of a node and, for a node of release 1, which has the number 0, its id.  `hidden`: also the nodes
    that are hidden.  `limit`: how many nodes are looked at, at most 256, so a page may have fewer and not be the last one.
    """

    session_id: str
    after: Position = FROM_THE_FIRST
    limit: int = PAGE
    hidden: bool = False

    def steps(self) -> Steps:
        s, limit = self.session_id, max(1, min(self.limit, PAGE))
        number, node_id = self.after
        found: list[Node] = []
        if not number and (yield from self._has_unnumbered()):
            after = (node_id,) if node_id else ()
            page: tuple[Node, ...] = yield First(NODE_IDS, (s,), limit, after)
            found += [node for node in page if node.seq is None]
            if len(page) == limit:
                return GraphPage(self._shown(found), (0, page[-1].node_id))
            limit -= len(page)
        numbered: tuple[Node, ...] = yield First(NODES, (s,), limit, (number,) if number else ())
        found += numbered
        last = numbered[-1].seq if len(numbered) == limit else None
        return GraphPage(self._shown(found), None if last is None else (last, ""))

    def _has_unnumbered(self) -> Steps:
        """READ-2: return whether nodes without a number may exist: no node has the number 1."""
        first = yield First(NODES, (self.session_id,), 1)
        return not first or first[0].seq != 1

    def _shown(self, found: list[Node]) -> tuple[Node, ...]:
        return tuple([node for node in found if self.hidden or not node.hidden])


@frozen
class NodeOf(Question[Node | None]):
    """READ-4: a node by its id, on whatever path; None if it does not exist, or is hidden and `hidden` is not asked for."""

    session_id: str
    node_id: str
    hidden: bool = False

    def steps(self) -> Steps:
        node = yield Get(Node, (self.session_id, self.node_id))
        return None if node is None or (node.hidden and not self.hidden) else node


@frozen
class LoadedSession:
    """What a session has besides its history.

    `frames`: as LoadFrames answers; `states`: those of the current one, by name.
    """

    session: Session
    profile: Profile | None
    frames: tuple[Frame, ...]
    states: tuple[StateText, ...]
    usage: tuple[Usage, ...]


@frozen
class LoadSession(Question[LoadedSession | None]):
    """READ-5: a session's row, its profile, its frames, the states of the current one, and its usage; None if there is no such session."""

    session_id: str

    def steps(self) -> Steps:
        session = yield Get(Session, (self.session_id,))
        if session is None:
            return None
        profile = yield Get(Profile, (self.session_id,))
        frames = yield from LoadFrames(self.session_id).steps()
        states = yield from state_steps(self.session_id, named_states(session))
        usage = yield First(USAGES, (self.session_id,), PAGE)
        return LoadedSession(session, profile, frames, states, usage)
