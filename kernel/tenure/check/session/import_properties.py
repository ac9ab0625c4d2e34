"""Properties of imports: a session is open only with all that was promised.  Spec: specs/import.md."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from ...machines import lease as lease_
from ...records import ImportedPage, ImportProgress, Node, Phase
from ...transcript import hash_parts
from .snapshot import Snapshot, rows_of
from .step import Step

__all__ = ["IMPORT_PROPERTIES", "IMPORT_STATES"]


def progress_of(b: Snapshot) -> ImportProgress | None:
    return next(iter(rows_of(b.world, ImportProgress).values()), None)


def whole(b: Snapshot) -> bool:
    """Return whether a session is importing exactly while pages of its import are missing, or it is destroyed."""
    progress, phase = progress_of(b), b.session.phase
    if progress is None:
        return phase is not Phase.IMPORTING
    missing = progress.next_page <= progress.pages
    if missing:
        return phase in (Phase.IMPORTING, Phase.DESTROYED)
    promised = progress.so_far == progress.digest and not progress.open_calls
    return phase is not Phase.IMPORTING and promised


def at_rest(b: Snapshot) -> bool:
    """Return whether nothing is at work in a session that is importing."""
    if b.session.phase is not Phase.IMPORTING:
        return True
    return not b.runs and isinstance(b.session.lease, lease_.Vacant)


def pages_counted(b: Snapshot) -> bool:
    """Return whether each page up to the next one is stored, and the digest so far is that of their digests."""
    progress = progress_of(b)
    rows = rows_of(b.world, ImportedPage)
    if b.session.phase is Phase.DESTROYED:
        return True  # a Prune may have removed some of them
    if progress is None:
        return not rows
    digest: str | None = None
    for _, row in sorted(rows.items()):
        digest = hash_parts(digest, row.digest)
    numbers = sorted(row.number for row in rows.values())
    return numbers == list(range(1, progress.next_page)) and digest == progress.so_far


def opened_whole(t: Step) -> bool:
    """A session that becomes open by a page has all nodes of its import on its path; before, it has none there."""
    before, after = t.before.session, t.after.session
    if before.phase is not Phase.IMPORTING:
        return True
    if after.phase is not Phase.OPEN:
        return after.leaf == before.leaf and after.revision == before.revision
    nodes = {node.node_id: node for node in rows_of(t.after.world, Node).values()}
    on_path, name = set(), None if after.leaf is None else after.leaf.node_id
    while name is not None:
        on_path.add(name)
        name = nodes[name].parent
    return on_path == nodes.keys() and whole(t.after)


IMPORT_STATES: Final[dict[str, Callable[[Snapshot], bool]]] = {
    "an import is whole or not open": whole,
    "nothing is at work during an import": at_rest,
    "the pages of an import are stored in order, and its digest is theirs": pages_counted,
}
IMPORT_PROPERTIES: Final[dict[str, Callable[[Step], bool]]] = {
    "a session that is imported shows all of its nodes at once": opened_whole,
}
