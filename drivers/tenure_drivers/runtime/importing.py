"""Imports: open a session with nodes of another one, page by page.  After a crash the same call goes on.  Spec: specs/import.md."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from attrs import frozen

from tenure.commands import ImportNode, ImportPage, NewProfile, Open
from tenure.commands.import_page import refuse_import
from tenure.fork import CopyOf, LoadCopies, LoadForkPart, LoadForkStart
from tenure.imports import NodeOutline, outline_of, pages_of, promise
from tenure.outcome import Refused
from tenure.queries import Command, Question
from tenure.questions import LoadImport
from tenure.records import Fork
from tenure.replace import replace

from .errors import CommandRefused

__all__ = ["Imported", "fork_session", "import_nodes"]


A = TypeVar("A")
O = TypeVar("O")
V = TypeVar("V")


class Executor(Protocol):
    """The part of a client that an import needs."""

    async def execute(self, command: Command[V, O], /) -> O | Refused:
        """As Client.execute."""
        ...

    async def ask(self, question: Question[A], /) -> A:
        """As Client.ask."""
        ...


@frozen
class Imported:
    """A session that was imported: it is open, with so many nodes.  `node`: of a fork, the node up to which it is a copy."""

    session_id: str
    nodes: int
    pages: int
    node: str | None = None


async def import_nodes(
    client: Executor,
    session_id: str,
    nodes: Sequence[ImportNode],
    profile: NewProfile | None = None,
    origin: str | None = None,
) -> Imported:
    """Import nodes that are in memory.  Raises CommandRefused; what is wrong with them is found before anything is stored."""
    if refused := refuse_import(nodes):
        raise CommandRefused("import", refused)
    outlines = [outline_of(node) for node in nodes]

    async def load(first: int, end: int) -> tuple[ImportNode, ...]:
        return tuple(nodes[first:end])

    return await _import(client, session_id, outlines, load, profile, origin)


async def fork_session(
    client: Executor,
    origin_id: str,
    session_id: str,
    at: str | None,
    whole: bool,
    profile: NewProfile | None,
) -> Imported:
    """Copy the path of a session into a new one.  Raises CommandRefused."""
    start = await client.ask(LoadForkStart(origin_id, session_id, at))
    if isinstance(start, Refused):
        raise CommandRefused("fork", start)
    if start.done is not None:
        return Imported(session_id, *start.done, start.node_id)
    copies: list[CopyOf] = []
    outlines: list[NodeOutline] = []
    before = start.node_id
    while before is not None:
        part = await client.ask(LoadForkPart(origin_id, before, whole))
        copies += part.copies
        outlines += part.outlines
        before = part.before
    copies.reverse()
    outlines.reverse()

    async def load(first: int, end: int) -> tuple[ImportNode, ...]:
        return await client.ask(LoadCopies(origin_id, tuple(copies[first:end])))

    new = replace(profile or NewProfile(), relation=Fork(origin_id, start.node_id))
    done = await _import(client, session_id, outlines, load, new, None)
    return replace(done, node=start.node_id)


async def _import(
    client: Executor,
    session_id: str,
    outlines: Sequence[NodeOutline],
    load: Callable[[int, int], Awaitable[tuple[ImportNode, ...]]],
    profile: NewProfile | None,
    origin: str | None,
) -> Imported:
    """Open the session, unless that was done, and send the pages that are missing."""
    pages = tuple(pages_of(outlines))
    promised = promise([page.digest for page in pages], origin) if pages else None
    await _obeyed(client, Open(session_id, profile, promised))
    progress = await client.ask(LoadImport(session_id)) if pages else None
    next_page = 1 if progress is None else progress.next_page
    for page in pages[next_page - 1 :]:
        nodes = await load(page.first, page.end)
        await _obeyed(client, ImportPage(session_id, page.number, nodes))
    return Imported(session_id, len(outlines), len(pages))


async def _obeyed(client: Executor, command: Command[V, O]) -> None:
    answer = await client.execute(command)
    if isinstance(answer, Refused):
        raise CommandRefused("import", answer)
