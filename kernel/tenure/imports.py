"""Imports as values: nodes with ids of their own, pages of them, and the digest of all pages.  Spec: specs/import.md."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from attrs import field, frozen

from .limits import PAGE_BYTES_MAX, PAGE_NODES_MAX
from .transcript import Form, Role, hash_parts, hash_text

__all__ = [
    "Import",
    "ImportNode",
    "NodeOutline",
    "PageOutline",
    "digest_of_page",
    "extend_digest",
    "outline_of",
    "pages_of",
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
class NodeOutline:
    """What of a node decides about its page: the bytes of its body, and its digest."""

    size: int
    digest: str


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


def outline_of(node: ImportNode) -> NodeOutline:
    """Return the outline of a node.  Its digest is of its id, time and content."""
    parts = (node.node_id, node.role.value, hash_text(node.body), node.call_ids, node.form.value)
    return NodeOutline(size_of_body(node.body), hash_parts(*parts, node.at_ms))


def digest_of_page(nodes: Iterable[ImportNode]) -> str:
    """IMPORT-4: return the digest of a page."""
    return hash_parts(*[outline_of(node).digest for node in nodes])


def extend_digest(so_far: str | None, page: str) -> str:
    """IMPORT-9: return the digest of all pages up to one, from that of the pages before it; None: it is the first."""
    return hash_parts(so_far, page)


def pages_of(nodes: Iterable[NodeOutline]) -> Iterator[PageOutline]:
    """Divide nodes into pages that are as large as IMPORT-5 allows.  Needs no body, so no text is kept in memory."""
    number, first, at, size = 1, 0, 0, 0
    digests: list[str] = []
    for node in nodes:
        if digests and (len(digests) == PAGE_NODES_MAX or size + node.size > PAGE_BYTES_MAX):
            yield PageOutline(number, first, at, hash_parts(*digests))
            number, first, size, digests = number + 1, at, 0, []
        digests.append(node.digest)
        size += node.size
        at += 1
    if digests:
        yield PageOutline(number, first, at, hash_parts(*digests))


def promise(pages: Iterable[str], origin: str | None = None) -> Import:
    """Return what an import promises whose pages, at least one, have these digests."""
    count, digest = 0, None
    for page in pages:
        count, digest = count + 1, extend_digest(digest, page)
    assert digest is not None, "no page"
    return Import(count, digest, origin)
