"""Sending: a command for another session, written in the transaction of the one that sends it.  Spec: specs/outbound.md.

`send` is for every unit of work.  It reads nothing, so a command that sends names no query for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

from attrs import frozen

from ..limits import BODY_BYTES_MAX, OUTBOUND_MAX
from ..outbound_records import Outbound
from ..outcome import Insert
from ..records import Session
from ..replace import replace
from ..transcript import hash_text
from .encoding import encode
from .sendable import Sendable, id_of_row
from .validation import size_of, validate_id

__all__ = ["NewOutbound", "Sending", "hash_outbound", "outbound_rows", "send", "validate_outbound"]


@frozen
class NewOutbound:
    """A command to be sent.  An empty id in it is replaced by that of the row (OUTBOUND-4).

    `peer`: the name of the store of its session; "" is the store of the sender.
    """

    since: ClassVar = 2
    command: Sendable
    peer: str = ""


class Sending(Protocol):
    """A unit of work that can send: it has a session, and writes rows."""

    session: Session
    now_ms: int
    causation_id: str

    def update(self, *, next_outbound: int | None) -> None:
        """Change the counter of the session."""

    def write(self, *writes: Any) -> None:
        """Add writes."""


def send(tx: Sending, command: Sendable, peer: str = "") -> Outbound:
    """OUTBOUND-1, OUTBOUND-2: write a command that is to be sent, and return its row.  At most 8 in one transaction."""
    after, row = _row(tx.session, NewOutbound(command, peer), tx.causation_id, tx.now_ms)
    tx.update(next_outbound=after.next_outbound)
    tx.write(Insert(row))
    return row


def outbound_rows(
    session: Session, sent: Sequence[NewOutbound], causation_id: str, now_ms: int
) -> tuple[Session, list[Insert]]:
    """Return the session and the new rows, for a command without a unit of work."""
    rows = []
    for new in sent:
        session, row = _row(session, new, causation_id, now_ms)
        rows.append(Insert(row))
    return session, rows


def _row(
    session: Session, new: NewOutbound, causation_id: str, now_ms: int
) -> tuple[Session, Outbound]:
    number, command = session.next_outbound or 1, new.command
    outbound_id = id_of_row(session.session_id, number, causation_id, now_ms)
    row = Outbound(
        session.session_id, number, new.peer, command.session_id, outbound_id, now_ms,
        encode(command),
    )  # fmt: skip
    return replace(session, next_outbound=number + 1), row


def validate_outbound(sent: Sequence[NewOutbound]) -> str | None:
    """OUTBOUND-3: return what is wrong with the commands to be sent, or None."""
    if len(sent) > OUTBOUND_MAX:
        return f"{len(sent)} commands to be sent; at most {OUTBOUND_MAX}"
    for new in sent:
        problem = validate_id("to", new.command.session_id)
        if problem is None and new.peer:
            problem = validate_id("peer", new.peer)
        if problem is None and (size := size_of(encode(new.command))) > BODY_BYTES_MAX:
            problem = f"a command to be sent of {size} bytes; at most {BODY_BYTES_MAX}"
        if problem is not None:
            return problem
    return None


def hash_outbound(sent: Sequence[NewOutbound]) -> list[list[str]]:
    """OUTBOUND-6: return what a repetition of the sending command must have in common with it."""
    return [[new.peer, hash_text(encode(new.command))] for new in sent]
