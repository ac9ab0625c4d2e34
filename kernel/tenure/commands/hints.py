"""Hints of a decision: which workers and holders should look at a session.  Spec: specs/due.md."""

from __future__ import annotations

from ..machines import lease as lease_
from ..outcome import Hint
from ..records import Session

__all__ = ["hints_of"]


def hints_of(
    before: Session | None,
    after: Session,
    cancelled: str | None = None,
    steered: str | None = None,
) -> tuple[Hint, ...]:
    """DUE-9: return a hint if workers may believe that a session is due later than it is.

    Also if a run was cancelled, if an input is addressed to one (`steered`), or if something is to be sent (OUTBOUND-21).
    """
    due = after.due_at_ms
    sends = after.next_outbound != (None if before is None else before.next_outbound)
    earlier = due is not None and (
        before is None
        or before.due_at_ms is None
        or due < before.due_at_ms
        or (before.lease.__class__ is lease_.Held and after.lease.__class__ is lease_.Vacant)
    )
    if earlier or cancelled is not None or steered is not None or sends:
        return (Hint(after.session_id, due, cancelled, steered, sends, after.kind),)
    return ()
