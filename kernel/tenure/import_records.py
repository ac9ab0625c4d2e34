"""The rows of an import: what was promised, how far it is, and the pages that were taken.  Spec: specs/import.md."""

from __future__ import annotations

from typing import ClassVar

from attrs import frozen

from .queries import Record
from .transcript import Tip

__all__ = ["ImportProgress", "ImportedPage"]


@frozen
class ImportProgress(Record):
    """What an import has promised, and what of it has come.  The row stays when the import is whole.

    `next_page`: number of the next page; `pages` + 1: it is whole.  `so_far`: the digest of the pages that have come.
    `tip`: the last node that was written.  `open_calls`: at that node.  `node_count`: how many were written.
    """

    since: ClassVar = 2
    key: ClassVar = ("session_id",)
    session_id: str
    pages: int
    digest: str
    origin: str | None = None
    next_page: int = 1
    so_far: str | None = None
    tip: Tip | None = None
    open_calls: tuple[str, ...] = ()
    node_count: int = 0


@frozen
class ImportedPage(Record):
    """IMPORT-4: a page that was taken, known by its number and its digest."""

    since: ClassVar = 2
    key: ClassVar = ("session_id", "number")
    session_id: str
    number: int
    digest: str
