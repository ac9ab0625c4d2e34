"""Commands that are known by their id: their repetition is answered from the row that they left.

Specs: specs/store.md, specs/retention.md.
"""

from __future__ import annotations

from typing import TypeVar

from ..outcome import Decided, Refusal, Refused
from ..records import ExecutedCommand, Session
from ..retention import is_older
from .validation import validate_id

__all__ = ["check_command_id", "check_pruned", "not_found", "replay"]


O = TypeVar("O")


def check_command_id(
    name: str,
    command_id: str,
    executed: ExecutedCommand | None,
    session: Session | None,
    digest: str | None = None,
) -> Refused | None:
    """Refuse an id that this command cannot have; `digest` is that of its content.

    STORE-18, STORE-56: one of another kind of command, or of other content.  STORE-19: one that is not valid.
    RETENTION-4: one of a row that may be removed.
    """
    if executed is not None:
        if executed.command != name:
            return Refused(Refusal.KEY_CONFLICT, "STORE-18", executed.command)
        if executed.content_digest is not None and executed.content_digest != digest:
            text = f"{name} {command_id!r} had other content; a new command needs a new id"
            return Refused(Refusal.KEY_CONFLICT, "STORE-56", text)
        return None
    if problem := validate_id("command_id", command_id):
        return Refused(Refusal.ILLEGAL, "STORE-19", problem)
    return check_pruned(session, command_id)


def check_pruned(session: Session | None, id_: str) -> Refused | None:
    """RETENTION-4: refuse an id that no row has, and that is older than rows that were removed."""
    if session is not None and is_older(id_, session.pruned_before_ms):
        return Refused(Refusal.PRUNED, "RETENTION-4", id_)
    return None


def not_found(session: Session | None, reason: Refusal, clause: str, id_: str) -> Refused:
    """Return the refusal of a command that names what does not exist, or what was removed."""
    return check_pruned(session, id_) or Refused(reason, clause, id_)


def replay(executed: ExecutedCommand, outcome: type[O], clause: str) -> Decided[O]:
    """Return the outcome that was stored when this command was executed."""
    assert isinstance(executed.outcome, outcome), executed
    return Decided(executed.outcome, clause, replayed=True)
