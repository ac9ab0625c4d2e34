"""Names of sessions in values as text: labels, the session that one comes from, work that is awaited.

Specs: specs/profile.md, specs/ticket.md.
"""

from __future__ import annotations

from ...machines.ticket import Work
from ...records import Child, Fork, Relation, Root

__all__ = ["read_pair", "read_relation", "read_work", "split_last", "write_relation"]


NOTHING = "-"


def read_pair(text: str) -> tuple[str, str]:
    """Read `name=value`."""
    name, _, value = text.partition("=")
    return name, value


def split_last(text: str) -> tuple[str, str]:
    """Read `session/name`."""
    before, _, after = text.rpartition("/")
    return before, after


def read_work(text: str) -> Work:
    """Read `session/input`, or `job/-`."""
    done_by, input_id = split_last(text)
    return Work(done_by, None if input_id == NOTHING else input_id)


def read_relation(text: str) -> Relation:
    """Read `root`, `child:parent:cause`, or `fork:origin:node`, with `-` for no node."""
    kind, _, rest = text.partition(":")
    session_id, _, more = rest.partition(":")
    if kind == "child":
        return Child(session_id, more)
    return Root() if kind == "root" else Fork(session_id, None if more == NOTHING else more)


def write_relation(relation: Relation) -> str:
    """Return the text that `read_relation` converts to this relation."""
    match relation:
        case Child(parent, cause):
            return f"child:{parent}:{cause}"
        case Fork(origin, node):
            return f"fork:{origin}:{NOTHING if node is None else node}"
        case _:
            return "root"
