"""The values of profiles as text: labels, and the session that one comes from.  Spec: specs/profile.md."""

from __future__ import annotations

from ...records import Child, Fork, Relation, Root

__all__ = ["read_pair", "read_relation", "write_relation"]


NOTHING = "-"


def read_pair(text: str) -> tuple[str, str]:
    """Read `name=value`."""
    name, _, value = text.partition("=")
    return name, value


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
