"""ImportPage: add a page of nodes to a session that is imported; the last page opens it.  Spec: specs/import.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from attrs import frozen

from ..event import EventKind
from ..imports import ImportNode, digest_of_page, extend_digest, size_of_body
from ..limits import PAGE_BYTES_MAX, PAGE_NODES_MAX
from ..outcome import Decided, Insert, Refusal, Refused, Update
from ..queries import Command, Each, Get, Reads, read
from ..records import ImportedPage, ImportProgress, Node, Phase, Session
from ..replace import replace
from ..transcript import NewNode, Tip, extend_path, hash_node
from .nodes import first_number, open_calls_after_node, validate_nodes
from .session_view import SessionView, session_queries
from .transaction import Transaction
from .validation import validate_id, validate_time

__all__ = ["ImportPage", "PageImported", "refuse_import"]


@frozen
class PageImported:
    """The page is stored.  `opened`: it was the last one, and the session is open."""

    since: ClassVar = 2
    number: int
    opened: bool


@frozen
class ImportView(SessionView):
    """The session, its import, the page of this number, and the nodes with these ids."""

    progress: ImportProgress | None
    page: ImportedPage | None
    met: tuple[Node | None, ...]


@frozen
class ImportPage(Command[ImportView, PageImported]):
    """Add 1 to 64 nodes to a session in the phase IMPORTING.  Pages are numbered from 1.

    Writes the nodes and at most four rows.
    Refusals: UNKNOWN_SESSION, PHASE, STALE, STAMP_CONFLICT, ILLEGAL.
    """

    since: ClassVar = 2
    session_id: str
    number: int
    nodes: tuple[ImportNode, ...]

    def reads(self) -> Reads[ImportView]:
        s = self.session_id
        return read(
            ImportView,
            *session_queries(s),
            Get(ImportProgress, (s,)),
            Get(ImportedPage, (s, self.number)),
            Each(tuple([Get(Node, (s, node.node_id)) for node in self.nodes[:PAGE_NODES_MAX]])),
        )

    def decide(self, view: ImportView, now_ms: int) -> Decided[PageImported] | Refused:
        session, progress = view.session, view.progress
        if session is None:
            return Refused(Refusal.UNKNOWN_SESSION, "PHASE-5", self.session_id)
        digest = digest_of_page(self.nodes)
        if view.page is not None and progress is not None:
            if view.page.digest != digest:
                return Refused(Refusal.STAMP_CONFLICT, "IMPORT-4", f"page {self.number}")
            return Decided(self._imported(progress), "IMPORT-4", replayed=True)
        if session.phase is not Phase.IMPORTING or progress is None:
            return Refused(Refusal.PHASE, "IMPORT-11", session.phase.value)
        if self.number != progress.next_page:
            return Refused(Refusal.STALE, "IMPORT-6", progress.next_page)
        if problem := self._validate(now_ms):
            return Refused(Refusal.ILLEGAL, "IMPORT-5", problem)
        new = _unmet(self.nodes, view.met)
        if isinstance(new, Refused):
            return new
        open_calls = _open_calls_after(progress.open_calls, new)
        if isinstance(open_calls, str):
            return Refused(Refusal.ILLEGAL, "IMPORT-8", open_calls)
        so_far, last = extend_digest(progress.so_far, digest), self.number == progress.pages
        if last and (refused := _refuse_opening(progress, so_far, open_calls)):
            return refused
        tx = Transaction.on(view, session, now_ms, self.session_id)
        tip = self._write_nodes(tx, progress, new)
        tx.write(Insert(ImportedPage(self.session_id, self.number, digest)))
        tx.write(
            Update(
                replace(
                    progress, next_page=self.number + 1, so_far=so_far, tip=tip,
                    open_calls=open_calls, node_count=progress.node_count + len(new),
                )
            )
        )  # fmt: skip
        if last:
            self._open(tx, tip)
        return tx.decided(self._imported(progress), "IMPORT-9" if last else "IMPORT-7")

    def _imported(self, progress: ImportProgress) -> PageImported:
        return PageImported(self.number, opened=self.number == progress.pages)

    def _validate(self, now_ms: int) -> str | None:
        """IMPORT-5: return what is wrong with the page, or None."""
        if not 0 < len(self.nodes) <= PAGE_NODES_MAX:
            return f"{len(self.nodes)} nodes; 1 to {PAGE_NODES_MAX} in a page"
        size = sum([size_of_body(node.body) for node in self.nodes])
        if len(self.nodes) > 1 and size > PAGE_BYTES_MAX:
            return f"bodies of {size} bytes; at most {PAGE_BYTES_MAX} in a page of several nodes"
        return _problem_of(self.nodes, now_ms)

    def _write_nodes(
        self, tx: Transaction, progress: ImportProgress, new: tuple[ImportNode, ...]
    ) -> Tip | None:
        """IMPORT-7: write the nodes, each the child of the one before, and return the last one."""
        tip, open_calls = progress.tip, progress.open_calls
        first = first_number(tx.session)
        tx.update(next_node=first + len(new))
        for seq, node in enumerate(new, first):
            found = open_calls_after_node(open_calls, _as_new(node))
            assert not isinstance(found, str), found
            open_calls = found
            path = extend_path(tip, (), hash_node(_as_new(node)))
            tx.write(
                Insert(
                    Node(
                        self.session_id, node.node_id, tip.node_id if tip else None, None,
                        tx.session.revision + 1, node.role, (), node.call_ids, path, False,
                        node.at_ms, node.body, node.form, open_calls, seq,
                    )
                )
            )  # fmt: skip
            tip = Tip(node.node_id, path)
        return tip

    def _open(self, tx: Transaction, tip: Tip | None) -> None:
        """IMPORT-9, EVENT-82: make the transcript visible, and open the session."""
        session: Session = tx.session
        tx.update(phase=Phase.OPEN, leaf=tip, revision=session.revision + 1)
        tx.append_event(EventKind.AMENDED, detail=str(session.revision + 1))
        tx.append_event(EventKind.PHASE_CHANGED, detail=Phase.OPEN.value)


def refuse_import(nodes: Sequence[ImportNode]) -> Refused | None:
    """Return why an import of all these nodes would be refused, before anything of it is stored; None: it would not."""
    if problem := _problem_of(nodes, 0):
        return Refused(Refusal.ILLEGAL, "IMPORT-5", problem)
    new = _unmet(nodes, ())
    if isinstance(new, Refused):
        return new
    open_calls = _open_calls_after((), new)
    if isinstance(open_calls, str):
        return Refused(Refusal.ILLEGAL, "IMPORT-8", open_calls)
    return _refuse_open_calls(open_calls)


def _problem_of(nodes: Sequence[ImportNode], now_ms: int) -> str | None:
    """IMPORT-5: return what is wrong with one of the nodes, or None."""
    for node in nodes:
        problem = (
            validate_id("node_id", node.node_id)
            or validate_time("at_ms", node.at_ms, now_ms)
            or validate_nodes((), (NewNode(node.role, node.body, form=node.form),))
        )
        if problem is None and _may_be_made(node.node_id):
            problem = "an id that a command may make: expected no numbers after / or three :"
        if problem is not None:
            return f"node {node.node_id!r}: {problem}"
    return None


def _may_be_made(node_id: str) -> bool:
    """Return whether a command could make this id: `command/i` or `run:turn:n:i` (TRANSCRIPT-3)."""
    _, divider, number = node_id.rpartition("/")
    if divider and number.isdecimal():
        return True
    parts = node_id.rsplit(":", 3)
    return len(parts) == 4 and all([part.isdecimal() for part in parts[1:]])


def _as_new(node: ImportNode) -> NewNode:
    return NewNode(node.role, node.body, node.call_ids, form=node.form)


def _unmet(
    nodes: Sequence[ImportNode], stored: Sequence[Node | None]
) -> tuple[ImportNode, ...] | Refused:
    """IMPORT-10: return the nodes that were not met before, in earlier pages or in this one."""
    met = {
        row.node_id: ImportNode(
            row.node_id, row.role, row.body, row.at_ms, row.call_ids, row.form
        )
        for row in stored
        if row is not None
    }  # fmt: skip
    new: list[ImportNode] = []
    for node in nodes:
        if node.node_id not in met:
            met[node.node_id] = node
            new.append(node)
        elif met[node.node_id] != node:
            return Refused(Refusal.STAMP_CONFLICT, "IMPORT-10", f"node {node.node_id}")
    return tuple(new)


def _open_calls_after(
    open_calls: tuple[str, ...], nodes: tuple[ImportNode, ...]
) -> tuple[str, ...] | str:
    """IMPORT-8: return the calls that are open after these nodes, or what is wrong with one of them."""
    for node in nodes:
        found = open_calls_after_node(open_calls, _as_new(node))
        if isinstance(found, str):
            return f"node {node.node_id!r}: {found}"
        open_calls = found
    return open_calls


def _refuse_opening(
    progress: ImportProgress, so_far: str, open_calls: tuple[str, ...]
) -> Refused | None:
    """IMPORT-8, IMPORT-9: return why the last page does not open the session, or None."""
    if refused := _refuse_open_calls(open_calls):
        return refused
    if so_far != progress.digest:
        problem = f"the digest of all pages is {so_far}; promised was {progress.digest}"
        return Refused(Refusal.ILLEGAL, "IMPORT-9", problem)
    return None


def _refuse_open_calls(open_calls: tuple[str, ...]) -> Refused | None:
    if not open_calls:
        return None
    problem = f"calls without a result after the last page: {open_calls}"
    return Refused(Refusal.ILLEGAL, "IMPORT-8", problem)
