"""Names of sessions in values as text: labels, the session that one comes from, work that is awaited.

Specs: specs/profile.md, specs/ticket.md.
"""

from __future__ import annotations

from ...records import Child, Fork, Relation, Root, TicketName, Work

__all__ = [
    "read_pair",
    "read_relation",
    "read_ticket",
    "read_work",
    "split_last",
    "write_relation",
    "write_ticket",
    "write_work",
]


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
    """Read `session/input`, or `job/-`, each with `@store` behind it if it is in another one."""
    text, _, peer = text.partition("@")
    done_by, input_id = split_last(text)
    return Work(done_by, None if input_id == NOTHING else input_id, peer)


def write_work(work: Work) -> str:
    """Return the text that `read_work` converts to this work."""
    return f"{work.done_by}/{work.input_id or NOTHING}" + (f"@{work.peer}" if work.peer else "")


def read_ticket(text: str) -> TicketName:
    """Read `session/ticket`, or `session/ticket@store`."""
    text, _, peer = text.partition("@")
    return TicketName(*split_last(text), peer)


def write_ticket(name: TicketName) -> str:
    """Return the text that `read_ticket` converts to this name."""
    return f"{name.asked_by}/{name.ticket_id}" + (f"@{name.peer}" if name.peer else "")


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
