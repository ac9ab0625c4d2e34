"""Imports as values: nodes with ids of their own, pages of them, and the digest of all pages.  Spec: specs/import.md."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from attrs import field, frozen

from .limits import PAGE_BYTES_MAX, PAGE_NODES_MAX
from .transcript import Form, Role, hash_parts, hash_text

__all__ = [
    "Import",
    "ImportNode",
    "PageOutline",
    "digest_of_page",
    "extend_digest",
    "outline",
    "promise",
    "size_of_body",
]


@frozen
class Import:
    """What an import promises: the number of its pages, and the digest of them all.

    `origin`: opaque text for people about where the nodes come from.
    """

    pages: int
    digest: str
    origin: str | None = None


@frozen
class ImportNode:
    """A node that is imported, with an id and a time of its own.  The other fields as in NewNode."""

    node_id: str
    role: Role
    body: str = field(repr=lambda b: repr(b) if len(b) < 80 else f"<{len(b)} characters>")
    at_ms: int
    call_ids: tuple[str, ...] = ()
    form: Form = Form.TEXT


@frozen
class PageOutline:
    """Which nodes a page has, by their positions from 0, and its digest."""

    number: int
    first: int
    end: int
    digest: str


def size_of_body(body: str) -> int:
    """Return the number of bytes of a body in UTF-8."""
    return len(body) if body.isascii() else len(body.encode("utf-8", "replace"))


def digest_of_node(node: ImportNode) -> str:
    """Return the digest of a node: of its id, time and content."""
    parts = (node.node_id, node.role.value, hash_text(node.body), node.call_ids, node.form.value)
    return hash_parts(*parts, node.at_ms)


def digest_of_page(nodes: Iterable[ImportNode]) -> str:
    """IMPORT-4: return the digest of a page."""
    return hash_parts(*map(digest_of_node, nodes))


def extend_digest(so_far: str | None, page: str) -> str:
    """IMPORT-9: return the digest of all pages up to one, from that of the pages before it; None: it is the first."""
    return hash_parts(so_far, page)


def outline(nodes: Iterable[ImportNode]) -> Iterator[PageOutline]:
    """Divide nodes into pages as large as IMPORT-5 allows.  Keeps no body, so all nodes need not be in memory at once."""
    number, first, at, size = 1, 0, 0, 0
    digests: list[str] = []
    for node in nodes:
        added = size_of_body(node.body)
        if digests and (len(digests) == PAGE_NODES_MAX or size + added > PAGE_BYTES_MAX):
            yield PageOutline(number, first, at, hash_parts(*digests))
            number, first, size, digests = number + 1, at, 0, []
        digests.append(digest_of_node(node))
        size += added
        at += 1
    if digests:
        yield PageOutline(number, first, at, hash_parts(*digests))


def promise(pages: Iterable[PageOutline], origin: str | None = None) -> Import:
    """Return what an import of these pages, at least one, promises."""
    count, digest = 0, None
    for page in pages:
        count, digest = count + 1, extend_digest(digest, page.digest)
    assert digest is not None, "no page"
    return Import(count, digest, origin)
